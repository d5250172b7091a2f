"""Economic dispatch on the copper plate: who gives how much when the network does not matter.

Two exact methods: equal incremental cost for quadratic costs (Wood, Wollenberg, Sheble, Power
Generation, Operation and Control, 3rd ed., section 3.1), found by a binary search over the prices
at which a unit meets a limit; and the merit order for piecewise-linear costs. Both answer any
demand: what no unit can give, or no unit can stop giving, is ``missing`` and sets the price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.costs import CostTable
from ...simulators.power.grid import Curves

VOLL = 5000.0
"""Value of lost load, $/MWh: the price of energy that is not served (or cannot be got rid of)."""


@dataclass(frozen=True, slots=True)
class EconomicDispatch:
    """The cheapest dispatch of one demand.

    Attributes:
        power: ``[U]`` MW.
        price: $/MWh, cost of the last MW in use; next_price: of one MW more. They differ only
            where units stand exactly between two segments.
        cost: $/h of production.
        response: ``[U]`` MW per MW of demand; sums to 1 (all 0 where demand is out of reach).
        missing: MW of demand above what all units give; negative: surplus below their minima.
    """

    power: Doubles
    price: float
    next_price: float
    cost: float
    response: Doubles
    missing: float


def quadratic_dispatch(
    quadratic: Doubles, low: Doubles, high: Doubles, demand: float, *, voll: float = VOLL
) -> EconomicDispatch:
    """Exact dispatch of units with cost ``c2 p^2 + c1 p + c0``.

    Args:
        quadratic: ``[U, 3]`` c2 (at least 0), c1, c0.
        low: ``[U]`` MW.
        high: ``[U]`` MW.
        demand: MW.
        voll: price of demand out of reach, $/MWh.

    Raises:
        ValueError: a concave cost or a lower limit above the upper one; names the unit's index.
    """
    bend, slope, fixed = quadratic.T
    _check_box(low, high)
    for unit in np.flatnonzero(~(bend >= 0.0)).tolist():
        raise ValueError(f"unit {unit}: cost coefficient c2 is {bend[unit]}, expected at least 0")
    missing = _missing(low, high, demand)
    if missing is not None:
        power = high if missing > 0.0 else low
        total = float(((bend * power + slope) * power + fixed).sum())
        price = voll if missing > 0.0 else -voll
        return EconomicDispatch(power.copy(), price, price, total, np.zeros_like(low), missing)
    curved = bend > 0.0
    double = np.where(curved, 2.0 * bend, 1.0)

    def offered(price: float, *, at_most: bool) -> Doubles:
        """Output at a price; units with straight cost are at either limit at their own price."""
        straight = np.where(slope <= price if at_most else slope < price, high, low)
        return np.where(curved, np.clip((price - slope) / double, low, high), straight)

    bounds = np.where(curved, slope + double * low, slope)
    tops = np.where(curved, slope + double * high, slope)
    steps = np.unique(np.concatenate([bounds, tops]))
    first, last = 0, steps.shape[0] - 1
    while first < last:  # the cheapest step at which all offers together reach the demand
        middle = (first + last) // 2
        if offered(float(steps[middle]), at_most=True).sum() >= demand:
            last = middle
        else:
            first = middle + 1
    step = float(steps[first])
    below = offered(step, at_most=False)
    room = offered(step, at_most=True) - below
    if first == 0 or (room.any() and below.sum() <= demand):
        # Units with straight cost share what is left at this very price.
        weight = room
        if not room.any():
            weight = np.where(curved & (below < high) & (bounds <= step), 1.0 / double, 0.0)
        share = weight / weight.sum() if weight.any() else weight
        power, price = below + share * (demand - below.sum()), step
    else:
        under = float(steps[first - 1])
        moving = curved & (bounds <= under) & (tops > under)
        fixed_at = np.where(tops <= under, high, low)
        weight = np.where(moving, 1.0 / double, 0.0)
        rest = demand - fixed_at[~moving].sum()
        price = float((rest + (weight * slope).sum()) / weight.sum())
        power = np.where(moving, np.clip((price - slope) / double, low, high), fixed_at)
        share = weight / weight.sum()
    total = float(((bend * power + slope) * power + fixed).sum())
    return EconomicDispatch(power, price, price, total, share, 0.0)


def merit_order(
    curves: Curves,
    demand: float,
    *,
    low: Doubles | None = None,
    high: Doubles | None = None,
    on: Bools | None = None,
    voll: float = VOLL,
) -> EconomicDispatch:
    """Exact dispatch of units with piecewise-linear cost, by one sort of all segments.

    Args:
        curves: ``[U, K + 1]``; beyond its ends a curve continues with its last slope.
        demand: MW.
        low: ``[U]`` MW; default: the begin of the curves.
        high: ``[U]`` MW; default: the end of the curves.
        on: ``[U]`` units that run; the others give 0 MW for 0 $/h.
        voll: price of demand out of reach, $/MWh.

    Equally cheap segments are used in the order of the units.

    Raises:
        ValueError: a lower limit above the upper one; names the unit's index.
    """
    low = curves.power[:, 0] if low is None else low
    high = curves.power[:, -1] if high is None else high
    _check_box(low, high)
    running = np.ones(low.shape, dtype=bool) if on is None else on
    low, high = np.where(running, low, 0.0), np.where(running, high, 0.0)
    table = CostTable(curves)
    missing = _missing(low, high, demand)
    if missing is not None:
        power = high if missing > 0.0 else low
        price = voll if missing > 0.0 else -voll
        total = float(table.cost(power, running).sum())
        return EconomicDispatch(power.copy(), price, price, total, np.zeros_like(low), missing)
    width = segment_room(curves, low, high).ravel()
    order = np.argsort(table.slope, axis=None, kind="stable")
    order = order[width[order] > 0.0]
    before = np.concatenate([[0.0], np.cumsum(width[order])])
    wanted = demand - float(low.sum())
    taken = np.clip(wanted - before[:-1], 0.0, width[order])
    unit = order // table.slope.shape[1]
    power = low + np.bincount(unit, weights=taken, minlength=low.shape[0])
    response = np.zeros_like(low)
    total = float(table.cost(power, running).sum())
    if order.size == 0:
        return EconomicDispatch(power, 0.0, voll, total, response, 0.0)
    slopes = table.slope.ravel()[order]
    last = max(int(np.searchsorted(before, wanted, side="left")) - 1, 0)
    following = min(int(np.searchsorted(before, wanted, side="right")) - 1, order.size)
    beyond = following == order.size
    response[unit[min(following, order.size - 1)]] = 1.0
    next_price = voll if beyond else float(slopes[following])
    return EconomicDispatch(power, float(slopes[last]), next_price, total, response, 0.0)


def segment_room(curves: Curves, low: Doubles, high: Doubles) -> Doubles:
    """MW of every segment ``[U, K]`` that lies in the box ``low .. high`` ``[U]``."""
    return np.diff(np.clip(segment_ends(curves), low[:, None], high[:, None]), axis=1)


def segment_ends(curves: Curves) -> Doubles:
    """Ends of the segments ``[U, K + 1]`` MW, the outer ones at infinity.

    So the first segment reaches down and the last one up as far as a unit's box does.
    """
    ends = curves.power.copy()
    # The last segment with width is the one that goes on; empty ones after it must not.
    real = np.diff(curves.power, axis=1) > 0.0
    last = np.where(real.any(axis=1), real.shape[1] - 1 - np.argmax(real[:, ::-1], axis=1), 0)
    ends[:, 1:][np.arange(real.shape[1]) >= last[:, None]] = np.inf
    ends[:, 0] = -np.inf
    return ends


def _check_box(low: Doubles, high: Doubles) -> None:
    for unit in np.flatnonzero(~(low <= high)).tolist():
        raise ValueError(f"unit {unit}: low is {low[unit]}, expected at most high {high[unit]}")


def _missing(low: Doubles, high: Doubles, demand: float) -> float | None:
    """MW out of reach of the box, or None where it is in reach."""
    if demand > high.sum():
        return float(demand - high.sum())
    return float(demand - low.sum()) if demand < low.sum() else None
