"""Which units are on in which hour: a priority list on the day-ahead forecast.

The oldest method of unit commitment, and a transparent one (Wood, Wollenberg, Sheble, 3rd ed.,
section 4.3.1): units are ranked by their average cost at full output, and every hour takes as many
as cover the forecast net load with a margin. Runs and pauses shorter than a unit's minimum are
filled. Nothing here depends on set points, so every controller meets the same units on the same
seed; a better plan (from the commitment model, or a reference solution) is given as an array.
"""

from __future__ import annotations

import numpy as np

from ..interface import Bools, Doubles, Ints
from .fleet import Fleet

ALWAYS = frozenset({"nuclear"})
"""Technologies that stay on."""

PAUSE = 3.0
"""Hours: a unit is not stopped for less, even where it might be."""


def ranking(fleet: Fleet) -> Ints:
    """Committed agents from the lowest to the highest average cost at full output."""
    thermal = np.flatnonzero(fleet.thermal)
    full = fleet.curve.cost[thermal, -1] / np.maximum(fleet.high[thermal], 1e-9)
    first = np.array([fleet.groups[g] in ALWAYS for g in fleet.group_of[thermal].tolist()], bool)
    return thermal[np.lexsort((full, ~first))]


def needed(
    net_load: Doubles, renewable: Doubles, reserve: Doubles, *, margins: tuple[float, float]
) -> Doubles:
    """Capacity ``[H]`` MW that has to be on.

    Args:
        net_load: ``[H]`` forecast demand less everything renewable, MW.
        renewable: ``[H]`` forecast of wind, sun and water, MW.
        reserve: ``[H]`` spinning requirement, MW.
        margins: added shares of the net load and of the renewables, which are never certain.
    """
    return np.maximum(net_load, 0.0) * (1.0 + margins[0]) + reserve + margins[1] * renewable


def priority_list(fleet: Fleet, *, need: Doubles, min_hours: Doubles, failed: Bools) -> Bools:
    """On or off for every hour and agent, ``[H, A]``.

    Args:
        fleet: the agents.
        need: ``[H]`` MW of capacity that has to be on (:func:`needed`).
        min_hours: ``[A, 2]`` minimum up and down time, h.
        failed: ``[A]`` units that are known to be out; nobody counts on them.

    Agents that are not committed (wind, storages) are on throughout.
    """
    order = ranking(fleet)
    capacity = np.where(failed, 0.0, fleet.high)[order].cumsum()
    count = np.minimum(capacity.searchsorted(need) + 1, order.size)
    wanted = np.ones((need.size, fleet.size), bool)
    must = sum(fleet.groups[g] in ALWAYS for g in fleet.group_of[order].tolist())
    rank = np.empty(fleet.size, np.int64)
    rank[order] = np.arange(order.size)
    taken = rank[None, order] < np.maximum(count, must)[:, None]
    wanted[:, order] = taken
    return without_short_runs(wanted, fleet.thermal, min_hours)


def without_short_runs(wanted: Bools, thermal: Bools, min_hours: Doubles) -> Bools:
    """``wanted`` ``[H, A]`` with pauses and runs below the minimum filled by staying on."""
    hours, agents = wanted.shape
    # Hours until a unit is wanted next, seen from every hour.
    until = np.full((hours + 1, agents), np.inf)
    for hour in range(hours - 1, -1, -1):
        until[hour] = np.where(wanted[hour], 0.0, until[hour + 1] + 1.0)
    on = wanted.copy()
    run = np.full(agents, np.inf)
    pause = np.maximum(min_hours[:, 1], PAUSE)
    for hour in range(1, hours):
        stays = on[hour - 1] & ((until[hour] < pause) | (run + 1.0 < min_hours[:, 0]))
        on[hour] = wanted[hour] | stays
        run = np.where(on[hour], np.where(on[hour - 1], run + 1.0, 0.0), 0.0)
    on[:, ~thermal] = True
    return on
