"""Small hand-made streets."""

import numpy as np

from fairlead.simulators.calendar import Calendar
from fairlead.simulators.traffic.demand import Demand, Kind
from fairlead.simulators.traffic.driving import Driving
from fairlead.simulators.traffic.layout import Layout
from fairlead.simulators.traffic.network import Network
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.streets import Streets

# Cars whose headway is 2 s and that lose nothing by accelerating, for closed forms.
IDEAL = Kind(
    name="ideal", length=5.0, gap=2.5, tau=1.625, accel=1e6, decel=1e6, spread=0.0, sigma=0.0
)
PLAIN = Driving(lost=0.0, yellow_used=0.0, wave=0.0, insertion=0.0)


def streets(links, moves=(), *, yields=None, greens=(), programme=(), inside=None):
    """A network of ``links`` (id, length, speed, lanes) and ``moves`` (from, to, letter or None).

    One connection per lane of the link that a movement starts on; letters are places in the state
    strings of the one signal. ``yields`` maps a move's place to those that it gives way to.
    """
    names = [link[0] for link in links]
    lanes = [link[3] if len(link) > 3 else 1 for link in links]
    start = np.concatenate([[0], np.cumsum(lanes)])
    pairs = [(names.index(move[0]), names.index(move[1])) for move in moves]
    lane, move, into, signal, place, first = [], [], [], [], [], []
    for at, ((one, two), spec) in enumerate(zip(pairs, moves, strict=True)):
        first.append(len(lane))
        for k in range(lanes[one]):
            lane.append(start[one] + k)
            move.append(at)
            into.append(start[two] + min(k, lanes[two] - 1))
            letter = spec[2] if len(spec) > 2 else None
            signal.append(-1 if letter is None else 0)
            place.append(-1 if letter is None else letter)
    bounds, foes = [0], []
    for at in range(len(lane)):
        for foe in (yields or {}).get(move[at], ()):
            foes += [c for c in range(len(lane)) if move[c] == foe]
        bounds.append(len(foes))
    count, connections = len(links), len(lane)
    ints = lambda values: np.array(values, dtype=np.int64)  # noqa: E731
    signals = (
        (Signal(name="signal", greens=tuple(greens), programme=tuple(programme)),) if greens else ()
    )
    network = Network(
        name="small",
        nodes=("a", "b"),
        xy=np.zeros((2, 2)),
        links=tuple(names),
        tail=np.zeros(count, dtype=np.int64),
        head=np.ones(count, dtype=np.int64),
        length=np.array([float(link[1]) for link in links]),
        speed=np.array([float(link[2]) for link in links]),
        lane_link=np.repeat(np.arange(count), lanes),
        move_from=ints([pair[0] for pair in pairs]),
        move_to=ints([pair[1] for pair in pairs]),
        turn_length=np.full(len(moves), 1e-6),
        turn_speed=np.full(len(moves), 20.0),
        turn=("s",) * len(moves),
        connection_lane=ints(lane),
        connection_move=ints(move),
        connection_into=ints(into),
        connection_signal=ints(signal),
        connection_index=ints(place),
        yield_start=ints(bounds),
        yield_to=ints(foes),
        waits_inside=ints(inside if inside is not None else [0] * connections),
        stops=np.zeros(connections, dtype=np.int64),
        signals=signals,
    )
    network.check()
    return network


def traffic(network, trips, kind=IDEAL):
    """Demand of ``trips``: (time, links)."""
    trips = sorted(trips, key=lambda trip: trip[0])
    routes = list(dict.fromkeys(tuple(route) for _, route in trips))
    demand = Demand(
        names=tuple(f"v{at}" for at in range(len(trips))),
        depart=np.array([float(time) for time, _ in trips]),
        kind=np.zeros(len(trips), dtype=np.int64),
        route=np.array([routes.index(tuple(route)) for _, route in trips], dtype=np.int64),
        routes=tuple(
            np.array([network.link_index[name] for name in route], dtype=np.int64)
            for route in routes
        ),
        kinds=(kind,),
    )
    demand.check(network)
    return demand


def run(network, demand, *, until, driving=PLAIN, plan=(), factor=None):
    """Streets after ``until`` s under ``plan``: (time, state) of the one signal, in order."""
    calendar = Calendar()
    layout = Layout(network, demand.kinds, driving)
    found = Streets(
        layout, demand, np.ones(demand.vehicles) if factor is None else factor, calendar
    )
    for time, state in plan:
        if time > until:
            break
        calendar.run_until(time - 1e-9)
        calendar.run_until(time)
        found.show(0, state)
    calendar.run_until(until)
    return found


def cycle(states, until):
    """``(time, state)`` for states ``(state, seconds)`` repeated until that time."""
    time, found = 0.0, []
    while time < until:
        for state, seconds in states:
            found.append((time, state))
            time += seconds
    return found
