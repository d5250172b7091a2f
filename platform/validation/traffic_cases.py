"""Small streets whose behaviour is known in closed form, and how to let them run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...simulators.calendar import Calendar
from ...simulators.interface import Doubles, Ints
from ...simulators.traffic.demand import Demand, Kind
from ...simulators.traffic.driving import Driving
from ...simulators.traffic.kinematics import FASTEST
from ...simulators.traffic.layout import Layout
from ...simulators.traffic.network import Network
from ...simulators.traffic.programme import Signal
from ...simulators.traffic.streets import Streets


def ideal(headway: float, speed: float = FASTEST) -> Kind:
    """Cars that lose nothing by braking and accelerating, ``headway`` s apart at ``speed`` m/s."""
    kind = Kind(name="ideal", accel=1e9, decel=1e9, top=1e6, spread=0.0, sigma=0.0)
    return replace(kind, tau=headway - kind.space / min(speed, FASTEST))


IDEAL = ideal(2.0)
"""2 s apart at 14 m/s or more."""
PLAIN = Driving(lost=0.0, yellow_used=0.0, wave=0.0, insertion=0.0, entry=1e6)
"""No lost time, no yellow, freed space usable at once, cars enter at full speed."""
SPACE = IDEAL.space
"""m of lane that one of them takes."""

Link = tuple[str, float, float, int]
"""Id, m, m/s, lanes."""
Move = tuple[str, str, int | None]
"""From, to, place in the state strings of the one signal (``None``: no signal)."""
Shown = tuple[float, str]
"""s, and the state that is shown from then on."""


def small_network(
    links: Sequence[Link],
    moves: Sequence[Move] = (),
    *,
    yields: Mapping[int, Sequence[int]] | None = None,
    greens: Sequence[str] = (),
    programme: Sequence[tuple[str, float]] = (),
    inside: Sequence[int] = (),
) -> Network:
    """Streets without coordinates: every lane of a link takes every movement that starts on it.

    Args:
        links: of the network.
        moves: between them; crossing the junction takes no time.
        yields: place of a move to the places of those that it gives way to.
        greens: of the one signal, if there is one.
        programme: of it.
        inside: per connection, vehicles that may wait inside the junction.
    """
    names = [link[0] for link in links]
    lanes = [link[3] for link in links]
    start = np.concatenate([[0], np.cumsum(lanes)]).tolist()
    ends = [(names.index(one), names.index(two)) for one, two, _ in moves]
    rows = [
        (start[one] + k, at, start[two] + min(k, lanes[two] - 1), moves[at][2])
        for at, (one, two) in enumerate(ends)
        for k in range(lanes[one])
    ]
    foes = [
        [c for c, row in enumerate(rows) if row[1] in (yields or {}).get(at, ())]
        for _, at, _, _ in rows
    ]
    count, nodes = len(links), np.zeros(len(links), dtype=np.int64)
    network = Network(
        name="small",
        nodes=("a", "b"),
        xy=np.zeros((2, 2)),
        links=tuple(names),
        tail=nodes,
        head=nodes + 1,
        length=np.array([float(link[1]) for link in links]),
        speed=np.array([float(link[2]) for link in links]),
        lane_link=np.repeat(np.arange(count), lanes),
        move_from=_ints(one for one, _ in ends),
        move_to=_ints(two for _, two in ends),
        turn_length=np.full(len(moves), 1e-6),
        turn_speed=np.full(len(moves), 20.0),
        turn=("s",) * len(moves),
        connection_lane=_ints(row[0] for row in rows),
        connection_move=_ints(row[1] for row in rows),
        connection_into=_ints(row[2] for row in rows),
        connection_signal=_ints(-1 if row[3] is None else 0 for row in rows),
        connection_index=_ints(-1 if row[3] is None else row[3] for row in rows),
        yield_start=_ints(np.cumsum([0] + [len(row) for row in foes]).tolist()),
        yield_to=_ints(foe for row in foes for foe in row),
        waits_inside=_ints(inside or [0] * len(rows)),
        stops=np.zeros(len(rows), dtype=np.int64),
        signals=(
            (Signal(name="signal", greens=tuple(greens), programme=tuple(programme)),)
            if greens
            else ()
        ),
    )
    network.check()
    return network


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def small_demand(
    network: Network, trips: Iterable[tuple[float, Sequence[str]]], kind: Kind = IDEAL
) -> Demand:
    """Vehicles by time of departure and links of their route."""
    ordered = sorted(trips, key=lambda trip: trip[0])
    routes = list(dict.fromkeys(tuple(route) for _, route in ordered))
    number = {route: at for at, route in enumerate(routes)}
    demand = Demand(
        names=tuple(f"v{at}" for at in range(len(ordered))),
        depart=np.array([float(time) for time, _ in ordered]),
        kind=np.zeros(len(ordered), dtype=np.int64),
        route=_ints(number[tuple(route)] for _, route in ordered),
        routes=tuple(_ints(network.link_index[name] for name in route) for route in routes),
        kinds=(kind,),
    )
    demand.check(network)
    return demand


def played(
    network: Network,
    demand: Demand,
    *,
    until: float,
    driving: Driving = PLAIN,
    plan: Sequence[Shown] = (),
    factor: Doubles | None = None,
) -> Streets:
    """The streets after ``until`` s under a plan of the one signal, in order of time."""
    calendar = Calendar()
    layout = Layout(network, demand.kinds, driving)
    factor = np.ones(demand.vehicles) if factor is None else factor
    streets = Streets(layout, demand, factor, calendar)
    for time, state in plan:
        if time > until:
            break
        calendar.run_until(time)
        streets.show(0, state)
    calendar.run_until(until)
    return streets


def cycle(states: Sequence[tuple[str, float]], until: float) -> list[Shown]:
    """A plan of ``(state, s)`` repeated until that time."""
    time = 0.0
    found: list[Shown] = []
    while time < until:
        for state, seconds in states:
            found.append((time, state))
            time += seconds
    return found


def evenly(
    every: float, count: int, route: Sequence[str], first: float = 0.0
) -> list[tuple[float, Sequence[str]]]:
    """Trips ``every`` so many s."""
    return [(first + every * at, route) for at in range(count)]


def delays_at_signal(
    arrivals: Doubles,
    kind: Kind,
    *,
    plan: Sequence[tuple[str, float]],
    until: float,
    driving: Driving = PLAIN,
    lanes: int = 1,
) -> tuple[Doubles, Streets]:
    """Delay at one signal of vehicles that would reach it at ``arrivals``, and its street.

    The link before it holds 2,600 vehicles a lane and takes 20 s.

    Returns:
        ``[V]`` s, NaN for who has not crossed at ``until``; the street.
    """
    seconds, speed = 20.0, 1000.0
    network = small_network(
        [("in", seconds * speed, speed, lanes), ("out", 1e7, speed, lanes)],
        [("in", "out", 0)],
        greens=("G", "r"),
    )
    trips = [(time - seconds, ("in", "out")) for time in arrivals.tolist()]
    streets = played(
        network,
        small_demand(network, trips, kind),
        until=until,
        driving=driving,
        plan=cycle(plan, until),
    )
    crossed = np.array(streets.ready) - 1e7 / speed
    return np.where(np.array(streets.leg) == 1, crossed - arrivals, np.nan), streets
