"""Projections of joint set-points: onto the power balance, and onto the limits of branches.

The nearest point in the norm ``sum (p_i - u_i)^2 / w_i``: every unit moves by the same multiple of
its participation ``w_i`` until it meets its own limit. That is how dispatch centres share out a
mismatch, and it has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles


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
    first = int(moved.searchsorted(need))
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
    rounds: int = 30,
) -> Doubles:
    """Nearest set-points with the same sum that take ``excess`` off the given flows.

    Solves ``min sum (p - u)^2 / w`` with ``sum p = sum u``, ``sensitivity (p - u) <= -excess`` and
    the box, by semi-smooth Newton steps on the multipliers of balance and rows. Where the rows
    cannot all be met, it goes as far as the multipliers' limit lets it; the balance always holds.

    Args:
        wanted: ``[A]`` balanced set-points inside their box.
        low: ``[A]`` lower ends of the box, MW.
        high: ``[A]`` upper ends.
        participation: ``[A]`` w, as in :func:`balance`.
        sensitivity: ``[M, A]`` MW of flow (in the direction of the overload) per MW of a unit.
        excess: ``[M]`` MW above the limit; rows with a negative excess must not be exceeded.
        rounds: most Newton steps.
    """
    rows = np.vstack([np.ones_like(wanted), sensitivity])
    aim = np.concatenate([[0.0], excess])
    multiplier = np.zeros(rows.shape[0])
    total = float(wanted.sum())
    for _ in range(rounds):
        raw = wanted - participation * (multiplier @ rows)
        power = np.clip(raw, low, high)
        # What is still to be taken off every row, positive where it is violated.
        residual = rows @ (power - wanted) + aim
        active = (residual > 1e-9) | (multiplier > 0.0)
        active[0] = True
        if np.abs(residual[0]) < 1e-9 and (residual[1:] < 1e-7).all():
            complementary = np.abs(multiplier[1:] * residual[1:]) < 1e-6
            if complementary.all():
                break
        moving = participation * ((raw > low) & (raw < high))
        some = rows[active]
        curvature = (some * moving) @ some.T
        curvature[np.diag_indices_from(curvature)] += 1e-9 + 1e-9 * np.trace(curvature)
        multiplier[active] += np.linalg.solve(curvature, residual[active])
        multiplier[1:] = np.clip(multiplier[1:], 0.0, 1e4)
    power = np.clip(wanted - participation * (multiplier @ rows), low, high)
    return balance(power, low, high, participation, total).power
