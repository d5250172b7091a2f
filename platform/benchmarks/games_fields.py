"""Games whose update field is known exactly: quadratic games, bimatrix games, Cournot markets.

Player i owns the coordinate ``y_i`` in an interval and climbs its own payoff, so that the joint
field is ``f_i(y) = d u_i / d y_i``. In all games here ``f(y) = J y + c``: the field has a potential
exactly if J is symmetric, and everything that one wants to compare with is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles

FREE = 1e6
"""Bound of a coordinate that has none."""


@dataclass(frozen=True, slots=True)
class AffineGame:
    """``f(y) = jacobian y + constant`` on a box.

    Attributes:
        jacobian: ``[r, r]``; its diagonal is 0 (payoffs linear in one's own coordinate) or below.
        constant: ``[r]``.
        low: lower ends of the intervals, ``[r]``.
        high: upper ends.
        unit: payoff that counts as 1, for figures that do not depend on the currency.
    """

    jacobian: Doubles
    constant: Doubles
    low: Doubles
    high: Doubles
    unit: float = 1.0

    @property
    def rest(self) -> Doubles:
        """Where the field vanishes, ``[r]``: the Nash equilibrium if it lies in the box."""
        return np.linalg.solve(self.jacobian, -self.constant).astype(np.float64)

    def field(self, y: Doubles) -> Doubles:
        """``[..., r]`` to ``[..., r]``."""
        return y @ self.jacobian.T + self.constant

    def inside(self, y: Doubles) -> Doubles:
        """The nearest point of the box."""
        return np.clip(y, self.low, self.high)

    def gap(self, y: Doubles) -> Doubles:
        """What the most tempted player gains by its best answer; ``[..., r]`` to ``[...]`` units.

        Own payoffs are ``f_i d + J_ii d^2 / 2`` in a player's deviation d: exact, not a bound.
        """
        slope, bend = self.field(y), np.diag(self.jacobian)
        down, up = self.low - y, self.high - y
        ahead = np.where(slope > 0.0, up, down)
        answer = np.where(bend < 0.0, -slope / np.where(bend < 0.0, bend, -1.0), ahead)
        answer = np.clip(answer, down, up)
        gain = slope * answer + 0.5 * bend * answer**2
        return np.asarray(gain.max(axis=-1) / self.unit)

    def kappa(self) -> float:
        """Exact non-potentiality under an isotropic measure centred where the field vanishes."""
        symmetric = 0.5 * (self.jacobian + self.jacobian.T)
        skew = self.jacobian - symmetric
        return float((skew**2).sum() / (self.jacobian**2).sum())


def quadratic(rng: np.random.Generator, players: int, twist: float) -> AffineGame:
    """``f(y) = (A + twist S) (y - rest)`` with a random rest point.

    A is symmetric with eigenvalues in [-1.5, -0.5], S skew with the Frobenius norm of A.
    """
    basis = np.linalg.qr(rng.standard_normal((players, players)))[0]
    symmetric = -(basis * rng.uniform(0.5, 1.5, players)) @ basis.T
    raw = rng.standard_normal((players, players))
    skew = raw - raw.T
    skew *= np.linalg.norm(symmetric) / np.linalg.norm(skew)
    jacobian = symmetric + twist * skew
    rest = rng.standard_normal(players)
    bound = np.full(players, FREE)
    return AffineGame(jacobian, -jacobian @ rest, -bound, bound)


def bimatrix(first: Doubles, second: Doubles) -> AffineGame:
    """Two players with two actions; ``y`` holds each one's probability of its action 0.

    ``first`` and ``second`` are payoffs ``[2, 2]``, indexed by both players' actions.
    """
    (a, b), (c, d) = first
    (e, f), (g, h) = second
    cross = np.array([[0.0, a - b - c + d], [e - f - g + h, 0.0]])
    constant = np.array([b - d, g - h])
    unit = 0.5 * max(np.ptp(first), np.ptp(second))
    return AffineGame(cross, constant, np.zeros(2), np.ones(2), float(unit))


def pennies_mixed_with_coordination(share: float) -> AffineGame:
    """``share`` of a coordination game, the rest matching pennies; payoffs in [-1, 1].

    Player 1 wants to match in both. The Jacobian's symmetric part is ``share`` times that of the
    coordination game. Below one half player 2 wants to differ: the only equilibrium is mixed.
    """
    match = np.array([[1.0, -1.0], [-1.0, 1.0]])
    return bimatrix(match, (2.0 * share - 1.0) * match)


def stag_hunt() -> AffineGame:
    """Stag together 4, hare always 3, stag alone 0; action 0 is stag."""
    payoff = np.array([[4.0, 0.0], [3.0, 3.0]])
    return bimatrix(payoff, payoff.T)


def cournot(rng: np.random.Generator, firms: int, twist: float) -> AffineGame:
    """Firms choose quantities; profit ``y_i (a_i - b_i y_i - sum_j d_ij y_j)`` after unit costs.

    Cross terms ``d = 0.3 + twist * skew``: with a twist one firm's product displaces another's
    while that one's helps it. Concave in a firm's own quantity; the equilibrium solves a linear
    system and is interior by construction (a follows from it).
    """
    own = rng.uniform(0.5, 1.0, firms)
    raw = rng.standard_normal((firms, firms))
    skew = raw - raw.T
    skew *= np.sqrt(firms) / np.linalg.norm(skew)
    cross = 0.3 * (1.0 - np.eye(firms)) + twist * skew
    jacobian = -np.diag(2.0 * own) - cross
    equilibrium = rng.uniform(1.0, 2.0, firms)
    margin = -jacobian @ equilibrium
    bound = np.full(firms, FREE)
    return AffineGame(jacobian, margin, -bound, bound)
