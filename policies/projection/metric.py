"""Lengths of covectors under a metric, constant or different at every sample."""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles


class Metric:
    """A symmetric positive definite metric ``G``: ``[r, r]``, or ``[K, r, r]`` for ``K`` samples.

    Vectors have the squared length ``v' G v``, covectors (gradients) ``f' G^-1 f``. With
    ``G = L L'`` the whitened covector ``L^-1 f`` has that length as its Euclidean one.

    Raises:
        ValueError: another shape, not symmetric, or not positive definite.
    """

    def __init__(self, metric: Doubles) -> None:
        metric = np.asarray(metric, np.float64)
        if metric.ndim not in (2, 3) or metric.shape[-1] != metric.shape[-2]:
            raise ValueError(f"metric: expected [r, r] or [K, r, r], got shape {metric.shape}")
        transposed = np.swapaxes(metric, -1, -2)
        if not np.allclose(metric, transposed, rtol=1e-8, atol=1e-12 * np.abs(metric).max()):
            raise ValueError("metric: not symmetric")
        try:
            self.factor: Doubles = np.asarray(np.linalg.cholesky(metric), np.float64)
        except np.linalg.LinAlgError as error:
            raise ValueError("metric: not positive definite") from error
        self.matrix: Doubles = metric

    @property
    def constant(self) -> bool:
        """Whether one matrix serves all samples."""
        return self.matrix.ndim == 2

    @property
    def dimensions(self) -> int:
        """Number of coordinates, r."""
        return self.matrix.shape[-1]

    def check(self, y: Doubles) -> None:
        """Raise ``ValueError`` unless samples ``[K, r]`` fit."""
        fits = y.ndim == 2 and y.shape[1] == self.dimensions
        if not fits or not (self.constant or self.matrix.shape[0] == y.shape[0]):
            raise ValueError(f"samples of shape {y.shape} do not fit metric {self.matrix.shape}")

    def whiten(self, covectors: Doubles) -> Doubles:
        """``L^-1 f`` of covectors ``[..., K, r]``."""
        return _solve(self.factor, covectors)

    def raise_index(self, covectors: Doubles) -> Doubles:
        """Vectors ``G^-1 f`` of covectors ``[..., K, r]``: the direction of steepest ascent."""
        return _solve(self.matrix, covectors)

    def energy(self, covectors: Doubles) -> float:
        """Mean of ``f' G^-1 f`` over the samples ``[K, r]``."""
        white = self.whiten(covectors)
        return float(np.mean(np.sum(white * white, axis=-1)))

    def inner(self, one: Doubles, other: Doubles) -> float:
        """Mean of ``f' G^-1 h`` over the samples ``[K, r]``."""
        return float(np.mean(np.sum(self.whiten(one) * self.whiten(other), axis=-1)))


def _solve(matrix: Doubles, covectors: Doubles) -> Doubles:
    if matrix.ndim == 2:
        rows = covectors.reshape(-1, covectors.shape[-1])
        solved = np.linalg.solve(matrix, rows.T).T.reshape(covectors.shape)
    else:
        solved = np.linalg.solve(matrix, covectors[..., None])[..., 0]
    return np.asarray(solved, np.float64)
