"""How much of a measured field is rotation, and how much of that is noise.

The rotation of a field under a measure with exactly isotropic samples (in the metric) is the skew
part ``R`` of its least-squares slope. For the gradient of *any* potential it vanishes as the
samples grow (see :mod:`.galerkin`), so it is a lower bound on the non-potential part that a basis
too poor for the potential does not inflate.

``R`` is linear in the field and the field is a sum over time units of the roll-out, so the spread
of the units' own ``R`` says what estimator noise alone would leave. Both the mean of that energy
(the noise floor) and its 98 % point are read: with few dimensions the energy of pure noise exceeds
twice its mean in more than one case of ten, so a multiple of the mean alone would not do. Few and
correlated units understate the spread a little; the 98 % point keeps false alarms near 3 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from .field import Field
from .galerkin import Galerkin

LEAST_UNITS = 4
"""Time units below which noise cannot be told from rotation."""

DRAWS = 1000
POINT = 0.98


@dataclass(frozen=True, slots=True)
class Rotation:
    """Of a field measured at the samples of a :class:`Galerkin`.

    Attributes:
        matrix: ``R`` ``[r, r]``; the rotating part of the field at ``y`` is ``R (y - centre)``.
        kappa: its share of the field's energy under the measure, in [0, 1].
        noise_floor: the share that estimator noise alone has on average.
        noise_point: the share that noise alone stays below in 98 of 100 draws.
    """

    matrix: Doubles
    kappa: float
    noise_floor: float
    noise_point: float

    def significant(self, *, least: float, confidence: float) -> bool:
        """Whether it exceeds ``least``, ``confidence`` noise floors and noise's 98 % point."""
        return self.kappa > max(least, confidence * self.noise_floor, self.noise_point)

    @staticmethod
    def of(galerkin: Galerkin, field: Field, rng: np.random.Generator) -> Rotation:
        """Measured over all epochs; noise by random signs of the units' deviations.

        Without at least ``LEAST_UNITS`` time units all of it counts as noise.
        """
        total = field.epochs.sum()
        parts = galerkin.rotation(field.sums) / total  # [u, r, r]
        matrix = parts.sum(axis=0)
        energy = galerkin.metric.energy(field.mean)
        units = field.epochs.size
        if energy <= 0.0:
            return Rotation(matrix, 0.0, 0.0, 0.0)
        # In whitened samples the energy of R x is a plain sum of squares.
        spread = np.linalg.cholesky(galerkin.x.T @ galerkin.x / galerkin.x.shape[0])
        factor = galerkin.metric.factor

        def whitened(matrices: Doubles) -> Doubles:
            white = np.linalg.solve(factor, matrices @ spread)
            return white.reshape(*matrices.shape[:-2], -1)

        kappa = float(np.sum(whitened(matrix) ** 2)) / energy
        if units < LEAST_UNITS:
            return Rotation(matrix, min(kappa, 1.0), 1.0, 1.0)
        deviation = whitened(parts - (field.epochs / total)[:, None, None] * matrix)
        gram = deviation @ deviation.T * units / (units - 1) / energy
        signs = rng.choice(np.array([-1.0, 1.0]), size=(DRAWS, units))
        noise = np.sum((signs @ gram) * signs, axis=1)
        return Rotation(
            matrix,
            min(kappa, 1.0),
            float(np.trace(gram)),
            float(np.quantile(noise, POINT)),
        )
