"""One street in both plants: free driving, how a queue discharges, delay at a fixed signal."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.demand import Kind
from ...simulators.traffic.driving import Driving
from ...simulators.traffic.generated import LIMIT
from ...simulators.traffic.kinematics import headway
from ...simulators.traffic.signals import TrafficSimulator
from ..rows import Row
from .suites import Check
from .traffic_sumo_plants import apart, in_sumo, mean_of, played
from .traffic_sumo_street import RED, YELLOW, poisson, street, town

SPEEDS = (8.33, 13.89, 19.44, 27.78)
"""m/s."""
GREENS = (7, 12, 17, 27, 37, 47)
"""s; with red and yellow, whole multiples of the interval after some cycles."""
PLANS = (24, 27, 30)
"""s of green of the signals whose delay is compared; with one, much hangs on whether a car more
fits."""
SATURATIONS = (0.3, 0.6, 0.8, 0.9)
CYCLES = 40


def link_checks(*, seeds: int, quick: bool) -> list[Check]:
    """What needs no data."""
    saturations = SATURATIONS[::3] if quick else SATURATIONS
    return [
        Check("free flow", partial(free_rows, SPEEDS[1::2] if quick else SPEEDS, seeds), 4.0),
        Check("queue discharge", partial(discharge_rows, GREENS[::2] if quick else GREENS), 8.0),
        Check("one signal", partial(delay_rows, saturations, seeds), 20.0 * seeds),
    ]


def free_rows(speeds: tuple[float, ...], seeds: int) -> list[Row]:
    """Mean time over 1000 m without anybody in the way: within 2 %."""
    found: list[Row] = []
    for speed in speeds:
        depart = np.arange(0.0, 1800.0, 15.0)
        link = town(street(1000.0, speed=speed), depart, through=False, seconds=2400.0)
        ours = mean_of(played(TrafficSimulator(link), range(seeds)), "trip_time_mean_s")
        with in_sumo(link) as simulator:
            theirs = mean_of(played(simulator, range(seeds)), "trip_time_mean_s")
            version = simulator.version
        name = f"free flow, 1000 m at {speed:g} m/s, {version}"
        found += [
            Row.info(f"{name}: trip time in SUMO", theirs, "s"),
            Row.near(f"{name}: our trip time", ours, "s", theirs, 0.02 * theirs),
        ]
    return found


def discharge_rows(greens: tuple[int, ...]) -> list[Row]:
    """How many cars leave a standing queue in a green, and what follows from it.

    Over long greens their number is ``(green - lost) / headway``: a line fitted to it gives the
    saturation headway and the time that a green loses, less what of the yellow is used.
    """
    counts = [served(green) for green in greens]
    ours, theirs = (np.array([count[at] for count in counts]) for at in (0, 1))
    version = str(counts[0][2])
    name = f"queue discharge, {version}"
    found: list[Row] = []
    for green, mine, other in zip(greens, ours.tolist(), theirs.tolist(), strict=True):
        found.append(
            Row.near(
                f"{name}: our cars in {green} s of green", mine, "vehicles", other, 0.1 * other
            )
        )
    (h, lost), (h_sumo, lost_sumo) = _line(greens, ours), _line(greens, theirs)
    return [
        *found,
        Row.info(f"{name}: saturation headway in SUMO", h_sumo, "s"),
        Row.near(f"{name}: our saturation headway", h, "s", h_sumo, 0.05 * h_sumo),
        Row.info(f"{name}: our kinematics.headway of a passenger car", headway(Kind(), LIMIT), "s"),
        Row.info(f"{name}: lost time per green in SUMO, less used yellow", lost_sumo, "s"),
        Row.near(f"{name}: our lost time per green", lost, "s", lost_sumo, 0.5),
        Row.info(f"{name}: our knob driving.lost, of the first car", Driving().lost, "s"),
    ]


def served(green: int) -> tuple[float, float, str]:
    """Cars that cross per green from a queue without end: ours, SUMO's, and its version."""
    cycle = RED + green + YELLOW
    # The last red lets those who have crossed leave the exit road.
    seconds = CYCLES * cycle + RED
    queue = town(
        street(200.0, green=float(green)),
        np.arange(0.0, seconds, 1.5),
        through=True,
        seconds=seconds,
    )
    ours = played(TrafficSimulator(queue), [1])[0]["finished_trips"]
    with in_sumo(queue) as simulator:
        theirs = played(simulator, [1])[0]["finished_trips"]
        return ours / CYCLES, theirs / CYCLES, simulator.version


def delay_rows(saturations: tuple[float, ...], seeds: int) -> list[Row]:
    """Mean delay at a fixed signal under Poisson arrivals, the same in both: within 10 %.

    The degree of saturation counts what SUMO's queue discharges in runs of their own.
    """
    discharged = {green: served(green) for green in PLANS}
    version = discharged[PLANS[0]][2]
    found: list[Row] = []
    for x in saturations:
        pairs = [
            _delays(green, x * capacity / (RED + green + YELLOW), seed)
            for green, (_, capacity, _) in discharged.items()
            for seed in range(seeds)
        ]
        mine, other = np.mean(pairs, axis=0).tolist()
        name = f"one signal, degree of saturation {x:g}, {version}"
        found += [
            Row.info(f"{name}: delay in SUMO", other, "s"),
            Row.near(f"{name}: our delay", mine, "s", other, 0.1 * other),
            Row.info(f"{name}: difference of delay", apart(mine, other), "%"),
        ]
    return found


def _delays(green: int, rate: float, seed: int) -> tuple[float, float]:
    """Mean delay, ours and SUMO's, s."""
    seconds = 7200.0
    depart = poisson(rate, seconds - 600.0, seed)
    signal = town(street(400.0, green=float(green)), depart, through=True, seconds=seconds)
    ours = played(TrafficSimulator(signal), [seed])[0]["delay_mean_s"]
    with in_sumo(signal) as simulator:
        return ours, played(simulator, [seed])[0]["delay_mean_s"]


def _line(greens: tuple[int, ...], counts: Doubles) -> tuple[float, float]:
    """Headway and lost time, s."""
    slope, level = np.polyfit(np.array(greens, dtype=np.float64), counts, 1)
    return 1.0 / float(slope), -float(level) / float(slope)
