"""Projections of joint set-points: onto the power balance, and onto the limits of branches.

The nearest point in the norm ``sum (p_i - u_i)^2 / w_i``: every unit moves by the same multiple of
its participation ``w_i`` until it meets its own limit. That is how dispatch centres share out a
mismatch, and it has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles

GIVE = 1e-3
"""MW by which a row gives way per unit of its multiplier (which moves everybody through its box).

It keeps parallel branches apart and the multipliers finite where limits cannot all be met.
"""


LOADED = 0.95
"""Share of its limit from which a branch is watched when others are relieved."""

JOIN = 4
"""How often overloads that a relief has caused may join it."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """Set-points that meet a demand.

    Attributes:
        power: ``[A]`` MW.
        missing: MW of demand above what all upper limits give (negative: below the lower limits).
        step: common multiple of the participations by which units moved.
    """

    power: Doubles
    missing: float
    step: float


def balance(
    wanted: Doubles, low: Doubles, high: Doubles, participation: Doubles, demand: float
) -> Balanced:
    """Nearest set-points with ``sum(power) = demand`` inside the box; exact.

    Args:
        wanted: ``[A]`` inside ``low .. high``.
        low: ``[A]`` lower ends of the box, MW.
        high: ``[A]`` upper ends.
        participation: ``[A]`` w, positive; boxes without width do not move.
        demand: MW.

    Where the demand lies beyond the box everybody is at the limit, and ``missing`` says by how
    much. Cost: one sort.
    """
    short = demand - float(wanted.sum())
    if short == 0.0:
        return Balanced(wanted.copy(), 0.0, 0.0)
    limit = high if short > 0.0 else low
    room = np.abs(limit - wanted)
    need = abs(short)
    if need >= room.sum():
        return Balanced(limit.copy(), demand - float(limit.sum()), np.copysign(np.inf, short))
    # Units meet their limit in the order of room over participation.
    reach = room / participation
    order = reach.argsort()
    sorted_reach, sorted_weight = reach[order], participation[order]
    full = room[order].cumsum()
    left = sorted_weight.sum() - sorted_weight.cumsum()
    # Moved in all, once the multiple has risen to each unit's own limit.
    moved = full + left * sorted_reach
    # Sums in another order may miss the need by their rounding.
    first = min(int(moved.searchsorted(need)), moved.size - 1)
    before = full[first - 1] if first else 0.0
    weight = left[first] + sorted_weight[first]
    step = (need - before) / weight
    power = wanted + np.copysign(np.minimum(step * participation, room), short)
    return Balanced(power, 0.0, float(np.copysign(step, short)))


def relieve(
    wanted: Doubles,
    low: Doubles,
    high: Doubles,
    participation: Doubles,
    sensitivity: Doubles,
    excess: Doubles,
    *,
    rounds: int = 40,
) -> Doubles:
    """Nearest set-points with the same sum that take ``excess`` off the given flows.

    Solves ``min sum (p - u)^2 / w`` with ``sum p = sum u``, ``sensitivity (p - u) <= -excess`` and
    the box, by Newton steps on the multipliers of balance and rows. Rows give way a little
    (:data:`GIVE`). Where they cannot all be met, their violations are traded against each other,
    and it goes as far as the steps converge; the balance always holds.

    Args:
        wanted: ``[A]`` balanced set-points inside their box.
        low: ``[A]`` lower ends of the box, MW.
        high: ``[A]`` upper ends.
        participation: ``[A]`` w, as in :func:`balance`.
        sensitivity: ``[M, A]`` MW of flow (in the direction of the overload) per MW of a unit.
        excess: ``[M]`` MW above the limit; rows with a negative excess must not be exceeded.
        rounds: most Newton steps at each of six stiffnesses.
    """
    dual = _Dual(wanted, low, high, participation, sensitivity, excess)
    multiplier = np.zeros(dual.rows.shape[0])
    found = dual.at(multiplier)
    best = found.power
    # From soft rows to stiff ones: the first are easy, and each leads near the next.
    for give in GIVE * 10.0 ** np.arange(5, -1, -1):
        dual.soften(float(give))
        found = dual.at(multiplier)
        for _ in range(rounds):
            if dual.settled(multiplier, found.residual):
                break
            better = dual.ascend(multiplier, found)
            if better is None:
                break
            multiplier, found = better
        if not dual.settled(multiplier, found.residual):
            break
        best = found.power
    return balance(best, low, high, participation, float(wanted.sum())).power


def within_limits(
    wanted: Doubles,
    low: Doubles,
    high: Doubles,
    participation: Doubles,
    lines: tuple[Doubles, Doubles, Doubles],
) -> Doubles:
    """Set-points with the same sum that keep flows within limits, as far as that is possible.

    Branches join :func:`relieve` when they are loaded, or when relieving others has overloaded
    them.

    Args:
        wanted: ``[A]`` balanced set-points inside their box.
        low: ``[A]`` lower ends of the box, MW.
        high: ``[A]`` upper ends.
        participation: ``[A]`` w, as in :func:`balance`.
        lines: flows ``[L]`` that agents do not make, effect of the agents ``[L, A]``, limits
            ``[L]``.
    """
    base, effect, limit = lines
    flow = base + effect @ wanted
    if not (np.abs(flow) > limit).any():
        return wanted
    watched, sign = np.abs(flow) > LOADED * limit, np.sign(flow)
    found = wanted
    for _ in range(JOIN):
        rows = sign[watched, None] * effect[watched]
        excess = (sign * flow - limit)[watched]
        found = relieve(wanted, low, high, participation, rows, excess)
        after = base + effect @ found
        joins = (np.abs(after) > limit) & ~watched
        if not joins.any():
            return found
        sign[joins] = np.sign(after[joins])
        watched |= joins
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """Set-points at multipliers, also before they meet limits; the dual's slope and value."""

    power: Doubles
    raw: Doubles
    residual: Doubles
    value: float


class _Dual:
    """The dual of :func:`relieve`, climbed by projected Newton steps with a backtracking search.

    (D. P. Bertsekas, Projected Newton methods, SIAM J. Control 20(2), 1982.) Its first row is the
    balance, whose multiplier is free; the others are not negative.
    """

    def __init__(
        self,
        wanted: Doubles,
        low: Doubles,
        high: Doubles,
        participation: Doubles,
        sensitivity: Doubles,
        excess: Doubles,
    ) -> None:
        self._wanted, self._low, self._high, self._weight = wanted, low, high, participation
        self.rows = np.vstack([np.ones_like(wanted), sensitivity])
        self._aim = np.concatenate([[0.0], excess])
        self._give = np.zeros(self._aim.size)

    def soften(self, give: float) -> None:
        """Let rows give way by ``give`` MW per unit of their multipliers."""
        self._give[1:] = give

    def at(self, multiplier: Doubles) -> _Found:
        raw = self._wanted - self._weight * (multiplier @ self.rows)
        power = np.clip(raw, self._low, self._high)
        move = power - self._wanted
        violated = self.rows @ move + self._aim
        value = 0.5 * float((move * move / self._weight).sum()) + float(multiplier @ violated)
        given = self._give * multiplier
        return _Found(power, raw, violated - given, value - 0.5 * float(given @ multiplier))

    def settled(self, multiplier: Doubles, residual: Doubles) -> bool:
        """Whether balance, rows and complementarity hold."""
        active = np.where(multiplier[1:] > 0.0, np.abs(residual[1:]), residual[1:])
        return bool(abs(residual[0]) < 1e-6 and (active < 1e-6).all())

    def ascend(self, multiplier: Doubles, found: _Found) -> tuple[Doubles, _Found] | None:
        """Multipliers with a higher dual value, or ``None`` where none is found."""
        inside = (found.raw > self._low) & (found.raw < self._high)
        free = (found.residual > 0.0) | (multiplier > 0.0)
        free[0] = True
        some, slope = self.rows[free], found.residual[free]
        # A little of everybody's weight where hardly anybody moves; all of it never overshoots.
        for rest in (1e-9, 1e-3, 1.0):
            curvature = (some * (self._weight * np.maximum(inside, rest))) @ some.T
            curvature[np.diag_indices_from(curvature)] += 1e-9 + self._give[free]
            step = np.linalg.solve(curvature, slope)
            for halving in range(8):
                moved = multiplier.copy()
                moved[free] += step * 0.5**halving
                moved[1:] = np.maximum(moved[1:], 0.0)
                after = self.at(moved)
                gain = 1e-4 * float(found.residual @ (moved - multiplier))
                if after.value >= found.value + gain > found.value:
                    return moved, after
        return None
