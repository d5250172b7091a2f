"""Puts raw features, in their own units, on the scale of a network.

A column is read as ``x`` or as ``sign(x) log(1 + |x|)`` (what its :class:`Feature` asks for), then
shifted, scaled and clipped to +-10. Shift and scale come from the feature's bounds, and are
calibrated once on the first roll-out; after that they never change, so that a stored policy means
the same for ever. This module is the numpy form; :func:`..networks.normalise` is the torch form of
the same three operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Feature, Floats

LIMIT = 10.0
"""Normalised features are clipped to +- this."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Columns ``[F]`` of a feature array: ``logarithmic`` bool, ``shift`` and ``scale`` float32."""

    logarithmic: NDArray[np.bool_]
    shift: Floats
    scale: Floats

    @staticmethod
    def from_features(features: tuple[Feature, ...]) -> Normaliser:
        """Map finite bounds to [-1, 1]; leave unbounded columns as transformed."""
        logarithmic = np.array([f.transform == "log1p" for f in features], bool)
        bounds = np.array([[f.low, f.high] for f in features], np.float64).reshape(-1, 2)
        finite: NDArray[np.bool_] = np.isfinite(bounds[:, 0]) & np.isfinite(bounds[:, 1])
        ends = np.where(finite[:, None], bounds, np.array([-1.0, 1.0]))
        ends = np.where(logarithmic[:, None] & finite[:, None], _signed_log(ends), ends)
        half = (ends[:, 1] - ends[:, 0]) / 2.0
        scale = np.where(half > 0.0, half, 1.0)
        return Normaliser(
            logarithmic, ends.mean(axis=1).astype(np.float32), scale.astype(np.float32)
        )

    def calibrated(self, rows: Floats) -> Normaliser:
        """Shift and scale from the mean and deviation of raw ``rows`` ``[n, F]``.

        Columns without spread keep scale 1, so that a rare event later on is not blown up.
        """
        if rows.shape[0] == 0:
            return self
        values = np.where(self.logarithmic, _signed_log(rows), rows).astype(np.float64)
        spread = values.std(axis=0)
        return Normaliser(
            self.logarithmic,
            values.mean(axis=0).astype(np.float32),
            np.where(spread > 1e-6, spread, 1.0).astype(np.float32),
        )

    def __call__(self, rows: Floats) -> Floats:
        """Normalise ``[..., F]`` raw float32 rows."""
        return normalise(rows, self.logarithmic, self.shift, self.scale)


def normalise(rows: Floats, logarithmic: NDArray[np.bool_], shift: Floats, scale: Floats) -> Floats:
    """``clip((transform(rows) - shift) / scale, -10, 10)``, float32, a new array."""
    out = np.array(rows, dtype=np.float32)
    if logarithmic.any():
        columns = np.flatnonzero(logarithmic)
        out[..., columns] = _signed_log(out[..., columns])
    out -= shift
    out /= scale
    return np.clip(out, -LIMIT, LIMIT, out=out)


def _signed_log(values: NDArray[Any]) -> NDArray[Any]:
    return np.copysign(np.log1p(np.abs(values)), values)
