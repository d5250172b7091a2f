"""Links, merges and rings of the street simulator against closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...simulators.traffic.gridlock import deadlocked
from ...simulators.traffic.network import Network
from ..rows import Row
from .suites import Check
from .traffic_cases import IDEAL, PLAIN, SPACE, evenly, ideal, played, small_demand, small_network

SPEED = 13.89
"""m/s."""
SATURATION = 1949 / 3600
"""veh/s that a lane discharges."""
FLOW = 400 / 3600
"""veh/s that arrive."""
WAVE = SATURATION / (1 / SPACE - SATURATION / SPEED)
"""m/s of the start wave in the triangular diagram: 5.738."""
TAIL = FLOW / (1 / SPACE - FLOW / SPEED)
"""m/s at which the tail of the queue grows: 0.8865."""
_RED = 33.0


def link_checks(*, quick: bool) -> list[Check]:
    """All comparisons; they are quick anyway."""
    del quick
    return [
        Check("link: free flow and bottleneck", flow_rows, 0.2),
        Check("link: shock waves", shock_rows, 0.2),
        Check("link: storage", storage_rows, 0.2),
        Check("link: merge and diverge", junction_rows, 0.5),
        Check("link: gridlock", ring_rows, 0.1),
    ]


def flow_rows() -> list[Row]:
    """1 km at 20 m/s; 0.8 veh/s for 300 s into 0.4 veh/s (Vickrey)."""
    network = small_network([("a", 1000, 20, 1)])
    free = played(network, small_demand(network, evenly(2.0, 250, ["a"])), until=600)
    network = small_network([("a", 5000, 20, 1), ("b", 1e5, 20, 1)], [("a", "b", None)])
    demand = small_demand(network, evenly(1.25, 240, ["a", "b"]), ideal(2.5))
    done = played(network, demand, until=1000)
    late = np.array(done.ready) - np.array(done.entered) - 5250.0
    at_end = played(network, demand, until=250 + 300)
    trips = np.array(free.finished) - np.array(free.entered)
    return [
        Row.near("free flow, 1 km at 20 m/s: vehicles", free.completed, "1", 250, 0),
        Row.near("free flow, 1 km at 20 m/s: longest trip", trips.max(), "s", 50.0, 1e-4),
        Row.near("Vickrey's bottleneck: longest wait", late.max(), "s", 300.0, 2.5),
        Row.near(
            "Vickrey's bottleneck: distance from k-th waits",
            np.abs(late - 1.25 * np.arange(240)).max(),
            "s",
            0.0,
            1e-3,
        ),
        Row.near("Vickrey's bottleneck: longest queue", 240 - at_end.motion.gone[0], "1", 120, 1),
    ]


def shock_rows() -> list[Row]:
    """A red of 33 s: how far the queue reaches, and when a full link takes vehicles again."""
    meeting = _RED * WAVE / (WAVE - TAIL)
    rows = [
        Row.near("triangular diagram: start wave", WAVE, "m/s", 5.738, 5e-4),
        Row.near("triangular diagram: tail of the queue", TAIL, "m/s", 0.8865, 5e-5),
        Row.near("triangular diagram: tail meets start wave", meeting, "s", 39.031, 1e-3),
        Row.near("triangular diagram: furthest queue", TAIL * meeting, "m", 34.601, 1e-3),
    ]
    # The shortest link that such a red does not fill tells how far the queue reaches.
    filled = [places for places in range(1, 12) if _entered_late(places, wave=5.738)[0]]
    reach = (max(filled) + 0.5) * SPACE
    rows.append(Row.near("red of 33 s: furthest queue", reach, "m", 34.601, SPACE))
    for wave in (5.738, 0.0):
        spilled, entered = _entered_late(4, wave=wave)
        expected = max(36.0 - 4 * SPACE / SPEED, _RED + (4 * SPACE / wave if wave else 0.0))
        name = f"red of 33 s, link of 30 m, wave {wave:g} m/s"
        rows += [
            Row.near(f"{name}: spills back", float(spilled), "1", float(wave > 0), 0),
            Row.near(f"{name}: the fifth enters after", entered, "s", expected, 1e-3),
        ]
    return rows


def _entered_late(places: int, *, wave: float) -> tuple[bool, float]:
    """Whether a link of so many places spills back in a red, and when the next one enters it.

    Times are s after the first vehicle found red.
    """
    length = places * SPACE
    network = small_network(
        [("in", 900, SPEED, 1), ("mid", length, SPEED, 1), ("out", 1e5, SPEED, 1)],
        [("in", "mid", None), ("mid", "out", 0)],
        greens=("G", "r"),
    )
    demand = small_demand(
        network, evenly(1 / FLOW, places + 4, ["in", "mid", "out"]), ideal(1 / SATURATION, SPEED)
    )
    red = (900 + length) / SPEED
    streets = played(
        network,
        demand,
        until=0.0,
        driving=PLAIN.model_copy(update={"wave": wave}),
        plan=[(0.0, "r")],
    )
    shown = False
    while streets.lane_of[places] != 1:
        following = streets.calendar.peek()
        if following > red + _RED and not shown:
            streets.calendar.run_until(red + _RED)
            streets.show(0, "G")
            shown = True
        else:
            streets.calendar.run_until(following)
    return streets.spills > 0, streets.calendar.now - red


def storage_rows() -> list[Row]:
    """Without a wave a link fills in its storage over the difference of flows."""
    rows: list[Row] = []
    for inflow, outflow, places in ((0.5, 0.25, 40), (0.8, 0.4, 100)):
        network = small_network(
            [("in", 9e4, 1e6, 1), ("mid", SPACE * places, 1e6, 1), ("out", 9e4, 1e6, 1)],
            [("in", "mid", None), ("mid", "out", None)],
        )
        slow = SPACE / (1 / outflow - 0.1)
        network = replace(network, turn_speed=np.array([1e6, slow]))
        demand = small_demand(
            network, evenly(1 / inflow, 400, ["in", "mid", "out"]), replace(IDEAL, tau=0.1)
        )
        streets = played(network, demand, until=0.0)
        while not streets.spills:
            streets.calendar.run_until(streets.calendar.peek())
        expected = places / (inflow - outflow)
        name = f"storage of {places} vehicles, {inflow:g} in, {outflow:g} veh/s out"
        rows.append(
            Row.near(
                f"{name}: spills back after", streets.calendar.now, "s", expected, 1.5 / inflow
            )
        )
    return rows


def junction_rows() -> list[Row]:
    """0.5 veh/s to share among feeders; a diverge whose slow branch holds up the other."""
    rows: list[Row] = []
    for rates, lanes, expected in (
        ((0.4, 0.4), (1, 1), (0.25, 0.25)),
        ((0.8, 0.4), (1, 1), (0.25, 0.25)),
        ((0.8, 0.4), (2, 1), (1 / 3, 1 / 6)),
        ((0.1, 0.8), (1, 1), (0.1, 0.4)),
    ):
        name = f"merge of {rates[0]:g} on {lanes[0]} and {rates[1]:g} veh/s on {lanes[1]} lanes"
        for which, share, exact in zip("ab", _merged(rates, lanes), expected, strict=True):
            rows.append(Row.near(f"{name}: {which}", share, "1/s", exact, 0.003))
    network = small_network(
        [("in", 5000, 20, 1), ("fast", 9e4, 20, 1), ("slow", 75, 20, 1), ("end", 9e4, 20, 1)],
        [("in", "fast", None), ("in", "slow", None), ("slow", "end", None)],
    )
    slow = SPACE / (10.0 - IDEAL.tau)
    network = replace(network, turn_speed=np.array([20.0, 20.0, slow]))
    ways = (("in", "fast"), ("in", "fast"), ("in", "slow", "end"))
    trips = [(2.5 * at, ways[at % 3]) for at in range(700)]
    through = _discharged(network, trips, lanes=[0])
    rows.append(
        Row.near("diverge, a third to a branch of 0.1 veh/s: in all", through, "1/s", 0.3, 0.003)
    )
    return rows


def _merged(rates: tuple[float, float], lanes: tuple[int, int]) -> tuple[float, float]:
    network = small_network(
        [("a", 3000, 20, lanes[0]), ("b", 3000, 20, lanes[1]), ("c", 75, 20, 1), ("d", 9e4, 20, 1)],
        [("a", "c", None), ("b", "c", None), ("c", "d", None)],
    )
    trips = [
        trip
        for name, rate in zip("ab", rates, strict=True)
        for trip in evenly(1 / rate, int(2000 * rate), [name, "c", "d"])
    ]
    own = list(range(sum(lanes)))
    return (
        _discharged(network, trips, lanes=own[: lanes[0]]),
        _discharged(network, trips, lanes=own[lanes[0] :]),
    )


def _discharged(
    network: Network, trips: Sequence[tuple[float, Sequence[str]]], *, lanes: list[int]
) -> float:
    """veh/s that leave some lanes from 800 s to 1800 s."""
    streets = played(network, small_demand(network, trips), until=800.0)
    before = sum(streets.motion.gone[lane] for lane in lanes)
    streets.calendar.run_until(1800.0)
    return (sum(streets.motion.gone[lane] for lane in lanes) - before) / 1000.0


def ring_rows() -> list[Row]:
    """Four links of four vehicles in a circle: full, they stand; with one place, they move."""
    names = ("a", "b", "c", "d")
    network = small_network(
        [(name, 4 * SPACE, 20, 1) for name in names],
        [(one, names[(at + 1) % 4], None) for at, one in enumerate(names)],
    )
    rows: list[Row] = []
    for vehicles, moves, stuck in ((16, 0, 4), (15, 15 * 39, 0)):
        trips = [(0.0, [names[(at + step) % 4] for step in range(40)]) for at in range(4)]
        demand = small_demand(network, [trips[at % 4] for at in range(vehicles)])
        streets = played(network, demand, until=5000.0)
        name = f"ring of 16 places, {vehicles} vehicles"
        rows += [
            Row.near(f"{name}: crossings", streets.moves, "1", moves, 0),
            Row.near(f"{name}: lanes in a deadlock", len(deadlocked(streets)), "1", stuck, 0),
        ]
    return rows
