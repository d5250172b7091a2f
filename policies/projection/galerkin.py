"""Closed-form projection of a sampled field onto gradients of quadratic potentials.

HPML (after arXiv 2605.18809, whose body was not available; what follows is derived) replaces a
joint update field by the closest gradient of a potential, under a metric ``G`` and a sampling
measure. With the field as covectors ``f(y)`` the potential minimises the mean of
``(f - grad phi)' G^-1 (f - grad phi)``, that is ``mean (f - grad phi)' G^-1 grad psi = 0`` for
every test function ``psi``. Here ``phi`` and ``psi`` are linear plus quadratic, so the answer is
exact, unique up to a constant, linear in ``f`` and free of iterations.

What is left over is not all rotation: the gradient of a cubic potential has a residual as well.
:meth:`Galerkin.rotation` therefore also gives the part of the residual that is linear in ``y``.
Under a Gaussian whose covariance is ``G^-1`` up to a factor that part is exactly 0 for every
gradient field (Stein: ``E[f z'] = E[grad f]``, which is symmetric for a gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from .metric import Metric

SINGULAR = 1e-12
"""Eigenvalues of the normal equations below this share of the largest count as 0."""


@dataclass(frozen=True, slots=True)
class Potential:
    """``phi(y) = linear' x + x' quadratic x / 2`` with ``x = y - centre``.

    ``centre`` and ``linear`` are ``[r]``, ``quadratic`` is symmetric ``[r, r]``.
    """

    centre: Doubles
    linear: Doubles
    quadratic: Doubles

    def value(self, y: Doubles) -> Doubles:
        """``[..., r]`` to ``[...]``."""
        x = y - self.centre
        return x @ self.linear + 0.5 * np.sum((x @ self.quadratic) * x, axis=-1)

    def gradient(self, y: Doubles) -> Doubles:
        """Covectors, ``[..., r]`` to ``[..., r]``."""
        return self.linear + (y - self.centre) @ self.quadratic


@dataclass(frozen=True, slots=True)
class Energies:
    """Mean squared lengths over the samples of a field and of its two parts."""

    field: float
    potential: float
    residual: float

    @property
    def kappa(self) -> float:
        """Non-potentiality ``|F_perp|^2 / |F|^2`` in [0, 1]; 0 for a field that vanishes."""
        return float(np.clip(self.residual / self.field, 0.0, 1.0)) if self.field > 0.0 else 0.0

    @property
    def pythagoras(self) -> float:
        """``(|PF|^2 + |F_perp|^2) / |F|^2 - 1``, 0 where the projection is orthogonal."""
        both = self.potential + self.residual
        return both / self.field - 1.0 if self.field > 0.0 else 0.0

    @staticmethod
    def of(metric: Metric, field: Doubles, gradient: Doubles) -> Energies:
        """Of a field ``[K, r]`` and the gradient that was found for it ``[K, r]``."""
        return Energies(
            metric.energy(field), metric.energy(gradient), metric.energy(field - gradient)
        )


@dataclass(frozen=True, slots=True)
class Projection:
    """A potential and the energies of the field that it was fitted to."""

    potential: Potential
    energies: Energies


class Galerkin:
    """The projection for one set of samples; fields come later and may be many.

    Args:
        y: samples of the measure ``[K, r]``.
        metric: ``[r, r]`` or ``[K, r, r]``, symmetric positive definite.
        ridge: pull of the quadratic part towards 0, relative to the mean squared distance of the
            samples; 0 gives the exact orthogonal projection. Directions that the samples do not
            span receive no slope in either case.

    Raises:
        ValueError: shapes that do not fit, or a metric that is none.
    """

    def __init__(self, y: Doubles, metric: Doubles, *, ridge: float = 1e-10) -> None:
        if ridge < 0.0:
            raise ValueError(f"ridge: expected a number >= 0, got {ridge}")
        self.metric = Metric(metric)
        self.y = np.asarray(y, np.float64)
        self.metric.check(self.y)
        self.centre: Doubles = self.y.mean(axis=0)
        self.x: Doubles = self.y - self.centre
        self._solver = (
            _Lyapunov(self.x, self.metric, ridge)
            if self.metric.constant
            else _Normal(self.x, self.metric, ridge)
        )

    def project(self, field: Doubles) -> Projection:
        """Closest potential to the covectors ``field`` ``[K, r]``."""
        field = np.asarray(field, np.float64)
        if field.shape != self.y.shape:
            raise ValueError(f"field: expected shape {self.y.shape}, got {field.shape}")
        linear, quadratic = self._solver.solve(field)
        potential = Potential(self.centre, linear, quadratic)
        return Projection(potential, Energies.of(self.metric, field, potential.gradient(self.y)))

    def rotation(self, fields: Doubles) -> Doubles:
        """Linear part of the residual of fields ``[..., K, r]``: matrices ``R`` ``[..., r, r]``.

        The least-squares linear field minus its own projection; the residual at ``y`` has the part
        ``R (y - centre)``.

        Raises:
            TypeError: the metric differs from sample to sample.
        """
        if not isinstance(self._solver, _Lyapunov):
            raise TypeError("the rotation is defined here for a constant metric only")
        return self._solver.rotation(np.asarray(fields, np.float64))


class _Lyapunov:
    """A constant metric.

    In ``z = L' x`` the gradient is ``b + Q z`` with symmetric ``Q``; the normal equations are
    ``b = mean f`` and ``Q S + S Q = C + C'`` with ``S = mean z z'``, ``C = mean f z'``. In the
    eigenvectors of ``S`` that is one division per entry: no system of ``r (r + 3) / 2`` unknowns.
    """

    def __init__(self, x: Doubles, metric: Metric, ridge: float) -> None:
        self._metric, self._factor = metric, metric.factor
        z = x @ self._factor
        spread, self._vectors = np.linalg.eigh(z.T @ z / z.shape[0])
        self._spread: Doubles = np.maximum(spread, 0.0)
        self._z: Doubles = z @ self._vectors
        sums = self._spread[:, None] + self._spread
        largest = float(self._spread.max(initial=0.0))
        self._known = sums > SINGULAR * largest
        pull = 2.0 * ridge * float(self._spread.mean())
        self._divisor: Doubles = np.where(self._known, sums + pull, 1.0)

    def _moments(self, fields: Doubles) -> Doubles:
        """``C = mean f z'`` in whitened eigen-coordinates, ``[..., r, r]``."""
        white = self._metric.whiten(fields) @ self._vectors
        return np.swapaxes(white, -1, -2) @ self._z / self._z.shape[0]

    def _symmetric(self, moments: Doubles) -> Doubles:
        both = moments + np.swapaxes(moments, -1, -2)
        return np.where(self._known, both / self._divisor, 0.0)

    def _back(self, matrix: Doubles) -> Doubles:
        turn = self._factor @ self._vectors
        return turn @ matrix @ turn.T

    def solve(self, field: Doubles) -> tuple[Doubles, Doubles]:
        quadratic = self._back(self._symmetric(self._moments(field)))
        return field.mean(axis=0), 0.5 * (quadratic + quadratic.T)

    def rotation(self, fields: Doubles) -> Doubles:
        moments = self._moments(fields)
        seen = self._spread > SINGULAR * float(self._spread.max(initial=0.0))
        slope = np.where(seen, moments / np.where(seen, self._spread, 1.0), 0.0)
        # Projected through its own moments, so that a ridge does not count as rotation.
        both = slope * self._spread
        both = both + np.swapaxes(both, -1, -2)
        sums = self._spread[:, None] + self._spread
        symmetric = np.where(self._known, both / np.where(self._known, sums, 1.0), 0.0)
        return self._back(slope - symmetric)


class _Normal:
    """A metric of its own at every sample: dense normal equations of the whole basis."""

    def __init__(self, x: Doubles, metric: Metric, ridge: float) -> None:
        count, r = x.shape
        self._metric, self._upper = metric, np.triu_indices(r)
        row, column = self._upper
        quadratic = np.zeros((count, r, row.size))
        term = np.arange(row.size)
        quadratic[:, row, term] += x[:, column]
        quadratic[:, column, term] += x[:, row]
        quadratic[:, row[row == column], term[row == column]] *= 0.5
        basis = np.concatenate([np.tile(np.eye(r), (count, 1, 1)), quadratic], axis=2)
        design = np.linalg.solve(metric.factor, basis).reshape(count * r, -1)
        # Columns of one length: the quadratic ones shrink with the radius of the samples.
        length = np.sqrt(np.mean(design * design, axis=0))
        self._scale: Doubles = np.where(length > 0.0, length, 1.0)
        self._design: Doubles = design / self._scale
        matrix = self._design.T @ self._design / count
        pull = np.zeros(matrix.shape[0])
        pull[r:] = ridge * r
        value, vectors = np.linalg.eigh(matrix + np.diag(pull))
        keep = value > SINGULAR * value.max()
        self._inverse: Doubles = (vectors[:, keep] / value[keep]) @ vectors[:, keep].T

    def solve(self, field: Doubles) -> tuple[Doubles, Doubles]:
        count, r = field.shape
        weights = self._inverse @ (self._design.T @ self._metric.whiten(field).ravel() / count)
        weights = weights / self._scale
        quadratic = np.zeros((r, r))
        quadratic[self._upper] = weights[r:]
        return weights[:r], quadratic + np.triu(quadratic, 1).T
