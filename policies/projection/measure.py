"""The sampling measure: a Gaussian about the calmest joint policy within reach.

Which rotation a projection removes depends on where its measure is centred, and two obvious centres
are wrong. *At the current policies*: to first order a field is constant there, a constant field
has a potential, and the residual of a linear field at the centre of a Gaussian is 0, so nothing is
ever projected. *At a running mean of the policies*: what remains of a rotation ``R (y - y*)`` is
``R (mean - y*)``, the rotation as it was some updates ago, and following a delayed rotation spirals
outwards. In linear games that did worse than no projection in every case tried (the tests hold one
of them).

The centre that makes the projected flow the potential flow of the game is the rest point ``y*``
itself: of ``f(y) = M (y - y*)`` with rotating part ``R`` the field at ``y`` keeps
``(M - R) (y - y*)``. So a first measure about the current policies gives ``f(y) = b + M y``, and
the centre is the point ``c`` within reach that makes ``|b + M c|`` smallest. Far from rest, drift
dominates: ``c`` lies at the end of the reach and little is removed. All this is ours; the body of
arXiv 2605.18809 was not available.

The covariance is a multiple of ``G^-1`` such that the joint KL of a typical perturbation is a given
number; the reach is :data:`REACH` such perturbations, as importance ratios and linearised logits
carry no farther.
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Bools, Doubles

REACH = 2.0
"""Typical perturbations between the current policies and the centre, at most."""

DAMPING = 0.01
"""Added to the metric's diagonal, as a share of it: bounds how nearly dependent directions act."""

ALIKE = 0.02
"""Coordinates that change the policies in a new way by less than this share are left out."""

HALVINGS = 100


def distinct(fisher: Doubles) -> Bools:
    """Coordinates ``[r]`` whose effect on the policies is not that of earlier ones.

    Judged by the Fisher information ``[r, r]`` left after regression on the earlier ones that are
    kept, as a share of a coordinate's own. Weights can move in many ways that move the policy in
    one.
    """
    own = np.diagonal(fisher)
    largest = float(own.max(initial=0.0))
    kept = np.zeros(own.size, bool)
    rows = np.zeros((0, own.size))  # of the Cholesky factor of the kept ones
    for j in np.flatnonzero(own > 1e-10 * largest):
        left = fisher[j] - rows[:, j] @ rows
        if left[j] > ALIKE * own[j]:
            kept[j] = True
            rows = np.concatenate([rows, left[None] / np.sqrt(left[j])])
    return kept


class Spread:
    """Perturbations of the current policies, isotropic in a metric.

    Samples come in antithetic pairs and have exactly the mean 0 and a covariance that is a multiple
    of ``metric^-1``. So the rotation of a linear field is exact at any number of samples, and cubic
    potentials add nothing to it. At least four samples per coordinate are drawn.

    Args:
        fisher: Fisher information ``[r, r]`` with a positive diagonal.
        kl: joint KL of a typical perturbation, nats.
        samples: wanted number K.
        rng: for the samples.

    Attributes:
        metric: ``[r, r]``, the Fisher information damped.
        steps: ``[K, r]``.
    """

    def __init__(
        self, fisher: Doubles, *, kl: float, samples: int, rng: np.random.Generator
    ) -> None:
        r = fisher.shape[0]
        self.metric: Doubles = fisher + DAMPING * np.diag(np.diagonal(fisher))
        self._factor = np.linalg.cholesky(self.metric)
        self._typical = float(np.sqrt(2.0 * kl))
        half = rng.standard_normal((max(-(-samples // 2), 2 * r), r))
        shape = np.linalg.cholesky(half.T @ half / half.shape[0])
        white = np.linalg.solve(shape, half.T)
        steps = self._typical / np.sqrt(r) * np.linalg.solve(self._factor.T, white).T
        self.steps: Doubles = np.concatenate([steps, -steps])

    def calmest(self, constant: Doubles, slope: Doubles) -> Doubles:
        """``c`` ``[r]`` within reach with the least ``|constant + slope c|``, in the metric.

        Least squares in a ball: ``c = -(M'M + rho)^-1 M' b`` with the least ``rho >= 0`` that keeps
        it inside. Directions along which the field does not change are left at 0.
        """
        matrix = np.linalg.solve(self._factor, slope) @ np.linalg.inv(self._factor.T)
        left, size, right = np.linalg.svd(matrix)
        pull = left.T @ np.linalg.solve(self._factor, constant)
        seen = size > 1e-6 * size.max(initial=0.0)
        reach = REACH * self._typical

        def point(rho: float) -> Doubles:
            return -np.where(seen, size * pull / np.where(seen, size**2 + rho, 1.0), 0.0)

        inside = 0.0
        if np.linalg.norm(point(0.0)) > reach:
            outside, inside = 0.0, float(np.linalg.norm(size * pull)) / reach
            for _ in range(HALVINGS):
                middle = 0.5 * (outside + inside)
                if np.linalg.norm(point(middle)) > reach:
                    outside = middle
                else:
                    inside = middle
        white = right.T @ point(inside)
        return np.asarray(np.linalg.solve(self._factor.T, white), np.float64)

    def distance(self, y: Doubles) -> float:
        """Length of ``y`` ``[r]`` in typical perturbations."""
        return float(np.linalg.norm(y @ self._factor)) / self._typical
