"""One signal of the street simulator against queueing theory.

Deterministic arrivals have the uniform delay of a D/D/1 queue with vacations; random ones follow
Lindley's recursion, computed here from the arrivals alone, and Webster's formula on average.
"""

from __future__ import annotations

from functools import partial
from math import floor

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.driving import Driving
from ..rows import Row
from .suites import Check
from .traffic_cases import PLAIN, delays_at_signal, ideal

CYCLE, GREEN = 60.0, 27.0
RED = CYCLE - GREEN
_PLAN = (("r", RED), ("G", GREEN))
_HEADWAY = 1.8
"""s; the green holds 15 of them."""
_LOST = 1e-3
"""s; so that a green of whole headways serves as many vehicles as it holds, not one more."""
_WEBSTER = {400: 12.593, 720: 19.297, 810: 28.856}
"""s by veh/h, for a green of 27 s in 60 s and 2,000 veh/h of green."""


def queue_checks(*, quick: bool) -> list[Check]:
    """All comparisons at one signal."""
    count = 10_000 if quick else 80_000
    return [
        Check("signal: D/D/1", uniform_rows, 0.1),
        Check("signal: capacity", capacity_rows, 0.1),
        Check("signal: overload", overload_rows, 0.2),
        *(
            Check(f"signal: {flow} veh/h at random", partial(random_rows, flow, count), count / 3e4)
            for flow in _WEBSTER
        ),
    ]


def lindley(
    arrivals: Doubles, *, headway: float, red: float, cycle: float, lost: float = 0.0
) -> Doubles:
    """Delays at a signal that is red for the first ``red`` s of every cycle.

    Who arrives at red, or behind one who waits, crosses ``headway`` s after the one before, at the
    earliest ``lost`` s after green begins if it leads the queue then.

    Args:
        arrivals: ``[V]`` s, ascending.
        headway: s between two crossings.
        red: s of red.
        cycle: s of red and green.
        lost: s from green to the first crossing of a queue.

    Returns:
        ``[V]`` s.
    """
    delays = np.empty(arrivals.size)
    free = -np.inf
    for at, arrival in enumerate(arrivals.tolist()):
        start = max(arrival, free)
        turn, phase = divmod(start, cycle)
        begin = turn * cycle + red
        if phase < red or (start > arrival and start < begin + lost and arrival < begin):
            start = max(free, begin + lost)
        delays[at] = start - arrival
        free = start + headway
    return delays


def webster_delay(flow: float, *, green: float, cycle: float, saturation: float) -> float:
    """Mean delay after Webster (1958), s: uniform, random and correction term.

    Args:
        flow: veh/s.
        green: s per cycle.
        cycle: s.
        saturation: veh/s of green.
    """
    share = green / cycle
    load = flow / (saturation * share)
    uniform = cycle * (1 - share) ** 2 / (2 * (1 - share * load))
    random = load**2 / (2 * flow * (1 - load))
    return uniform + random - 0.65 * (cycle / flow**2) ** (1 / 3) * load ** (2 + 5 * share)


def uniform_rows() -> list[Row]:
    """Arrivals every 5 s, crossings every 2 s: 11 of 12 wait, 181.5 s in all."""
    exact = RED**2 * 0.2 / (2 * (1 - 0.2 / 0.5))
    late = _every_five_seconds(1.5)
    apart = max(
        abs(_every_five_seconds(1.5 + shift).mean() - exact / 12) - abs(shift) * 11 / 12
        for shift in (-1.5, -0.5, 1.0, 2.5, 3.4)
    )
    return [
        Row.near("D/D/1, aligned: delay of a cycle", late.sum() / 10, "s", exact, 1e-4),
        Row.near("D/D/1, aligned: vehicles that wait", (late[:12] > 1e-3).sum(), "1", 11, 0),
        Row.at_most("D/D/1, shifted: change of the mean beyond the shift", apart, "s", 0.2),
    ]


def _every_five_seconds(first: float) -> Doubles:
    arrivals = np.arange(first, first + 600.0, 5.0)
    return delays_at_signal(arrivals, ideal(2.0), plan=_PLAN, until=900)[0]


def capacity_rows() -> list[Row]:
    """A cycle of a queue without end serves ``floor((green + used - lost) / headway) + 1``."""
    rows: list[Row] = []
    for green, lost, used in ((27.0, 0.0, 0.0), (27.0, 0.6, 2.0), (30.5, 3.0, 3.0)):
        driving = PLAIN.model_copy(update={"lost": lost, "yellow_used": used})
        plan = (("r", RED), ("G", green), ("y", 3.0))
        until = 10 * (RED + green + 3.0)
        _, street = delays_at_signal(
            np.zeros(400), ideal(2.3), plan=plan, until=until, driving=driving
        )
        expected = floor((green + used - lost) / 2.3) + 1
        name = f"capacity, green {green:g} s, lost {lost:g} s, yellow used {used:g} s"
        rows.append(Row.near(f"{name}: crossings per cycle", street.moves / 10, "1", expected, 0))
    return rows


def overload_rows() -> list[Row]:
    """1.2 times capacity for an hour: what is left, and the mean delay."""
    time, load = 3600.0, 1.2
    capacity = GREEN / _HEADWAY / CYCLE
    count = round(load * capacity * time)
    arrivals = np.arange(0.5, count) / (load * capacity)
    late, _ = delays_at_signal(
        arrivals, ideal(_HEADWAY), plan=_PLAN, until=3 * time, driving=_driving()
    )
    left = count - int((arrivals + late <= time).sum())
    mean = RED / 2 + time / 2 * (load - 1)
    name = "overload 1.2 for an hour"
    return [
        Row.near(f"{name}: vehicles left", left, "1", (load - 1) * capacity * time, 1),
        Row.near(f"{name}: mean delay", late.mean() + _HEADWAY / 2, "s", mean, 0.01 * mean),
    ]


def random_rows(flow: int, count: int) -> list[Row]:
    """Poisson arrivals: each delay by Lindley, their mean by Webster and by other arrivals."""
    draw = np.random.default_rng([flow, count])
    gaps = draw.exponential(3600 / flow, (11, count))
    arrivals = 100.0 + np.cumsum(gaps, axis=1)
    late, _ = delays_at_signal(
        arrivals[0],
        ideal(_HEADWAY),
        plan=_PLAN,
        until=float(arrivals[0, -1]) + 3600,
        driving=_driving(),
    )
    same, *others = (
        lindley(row, headway=_HEADWAY, red=RED, cycle=CYCLE, lost=_LOST) for row in arrivals
    )
    means = np.array([row.mean() for row in others])
    error = 3 * float(means.std(ddof=1)) * (1 + 1 / means.size) ** 0.5
    webster = webster_delay(flow / 3600, green=GREEN, cycle=CYCLE, saturation=1 / _HEADWAY)
    mean = means.mean() + _HEADWAY / 2
    name = f"{flow} veh/h at random"
    return [
        Row.near(
            f"{name}: largest difference from Lindley's recursion",
            np.abs(late - same).max(),
            "s",
            0.0,
            1e-4,
        ),
        Row.near(f"{name}: mean delay by other arrivals", late.mean(), "s", means.mean(), error),
        Row.near(f"{name}: Webster's formula as published", webster, "s", _WEBSTER[flow], 5e-4),
        Row.near(
            f"{name}: mean delay and half a headway, Webster", mean, "s", webster, 0.06 * webster
        ),
    ]


def _driving() -> Driving:
    return PLAIN.model_copy(update={"lost": _LOST})
