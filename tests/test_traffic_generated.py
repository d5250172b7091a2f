from dataclasses import replace

import numpy as np
import pytest

from fairlead.simulators.traffic.demand import Demand
from fairlead.simulators.traffic.generated import arterial_network, grid_network
from fairlead.simulators.traffic.generated_demand import grid_demand, movement_flows
from fairlead.simulators.traffic.generated_layout import Place, Road, build_network
from fairlead.simulators.traffic.junction import (
    Arm,
    Path,
    conflicts,
    find_paths,
    lane_turns,
    setback,
    turn_length,
    turn_speed,
)
from fairlead.simulators.traffic.webster import webster

CROSS = (0, 90, 180, 270)


def arms(lanes=1, crossing=None):
    return tuple(Arm(b, lanes if b % 180 == 0 else crossing or lanes) for b in CROSS)


# --- junctions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lanes", "turns", "protected", "expected"),
    [
        (1, "rsl", False, ("rsl",)),
        (1, "rsl", True, ("rsl",)),
        (2, "rsl", False, ("rs", "sl")),
        (2, "rsl", True, ("rs", "l")),
        (3, "rsl", False, ("rs", "s", "l")),
        (3, "rs", True, ("rs", "s", "s")),
        (3, "sl", True, ("s", "s", "l")),
        (2, "rl", True, ("r", "l")),
        (3, "rl", False, ("r", "l", "l")),
        (2, "s", False, ("s", "s")),
    ],
)
def test_lanes_take_the_turns_that_their_number_allows(lanes, turns, protected, expected):
    assert lane_turns(lanes, turns, protected=protected) == expected


def test_paths_count_clockwise_from_the_north_and_from_right_to_left():
    found = find_paths(arms(2), protected=True)
    assert len(found) == 12
    assert found[:3] == (Path(0, 0, "r", 3, 0), Path(0, 0, "s", 2, 0), Path(0, 1, "l", 1, 1))
    assert [path.arm for path in found] == sorted(path.arm for path in found)


def test_conflicts_are_those_that_netconvert_finds_for_one_lane():
    # Its foes of the north arm: right, straight, left; without the facing left that only brushes.
    found = conflicts(arms(), find_paths(arms(), protected=False))
    assert np.flatnonzero(found[0]).tolist() == [4, 8]
    assert np.flatnonzero(found[1]).tolist() == [4, 5, 8, 9, 10, 11]
    assert np.flatnonzero(found[2]).tolist() == [4, 5, 6, 7, 10, 11]
    assert (found == found.T).all()


@pytest.mark.parametrize(
    ("own", "crossing", "turn", "length", "speed"),
    [
        # Measured in nets that netconvert 1.28 builds (limit 13.89 m/s).
        (1, 1, "r", 9.03, 6.51),
        (3, 3, "r", 9.03, 6.51),
        (1, 1, "l", 14.20, 8.00),
        (2, 2, "l", 19.35, 9.26),
        (3, 3, "l", 24.51, 10.36),
        (3, 1, "l", 19.63, 9.32),
        (1, 3, "l", 19.63, 9.32),
    ],
)
def test_turns_are_as_long_and_fast_as_netconvert_makes_them(own, crossing, turn, length, speed):
    meeting = arms(own, crossing)
    path = next(p for p in find_paths(meeting, protected=True) if p.turn == turn)
    assert turn_length(meeting, path) == pytest.approx(length, abs=0.01)
    assert turn_speed(turn_length(meeting, path)) == pytest.approx(speed, abs=0.01)


def test_stop_lines_stand_back_by_half_the_crossing_road_and_the_corner():
    assert [setback(arms(1, 3), at) for at in range(4)] == pytest.approx([13.6, 7.2, 13.6, 7.2])
    network = grid_network(2, 2, spacing=150.0, lanes=3)
    inner = network.link_index["J0_0-J0_1"]
    entry = network.link_index["west0-J0_0"]
    assert network.length[[inner, entry]] == pytest.approx([150.0 - 27.2, 150.0 - 13.6])


# --- networks -------------------------------------------------------------------------------------

NETWORKS = {
    f"grid-{lanes}-{phases}": (grid_network, (3, 4), {"lanes": lanes, "phases": phases})
    for lanes in (1, 2, 3)
    for phases in ("2", "4", "mixed")
} | {
    f"arterial-{main}-{side}": (arterial_network, (5,), {"lanes": main, "side_lanes": side})
    for main, side in ((3, 1), (3, 2), (2, 2), (2, 1), (1, 1))
}


@pytest.fixture(params=NETWORKS)
def network(request):
    make, places, options = NETWORKS[request.param]
    return make(*places, **options)


def test_a_grid_has_the_parts_that_its_size_says():
    network = grid_network(3, 4)
    assert len(network.signals) == 12
    assert len(network.nodes) == 12 + 2 * (3 + 4)
    assert len(network.links) == 2 * (3 * 5 + 4 * 4)
    assert network.move_from.size == 12 * 4 * 3
    assert [signal.name for signal in network.signals[:5]] == [
        "J0_0",
        "J0_1",
        "J0_2",
        "J0_3",
        "J1_0",
    ]
    at = network.nodes.index("J2_1")
    assert network.xy[at].tolist() == [200.0, 400.0]


def test_movements_turn_where_their_letter_says(network):
    before = network.xy[network.head] - network.xy[network.tail]
    one, two = before[network.move_from], before[network.move_to]
    cross = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]
    turns = np.where(np.abs(cross) < 1e-9, "s", np.where(cross > 0, "l", "r"))
    assert turns.tolist() == list(network.turn)
    assert ((one * two).sum(axis=1) > -1e-9).all(), "nobody turns back"
    assert (network.head[network.move_from] == network.tail[network.move_to]).all()


def test_every_lane_leads_on_and_every_connection_gets_green(network):
    ends = np.isin(network.lane_link, np.setdiff1d(network.move_to, network.move_from))
    assert set(network.connection_lane.tolist()) == set(np.flatnonzero(~ends).tolist())
    for at, signal in enumerate(network.signals):
        own = np.flatnonzero(network.connection_signal == at)
        assert sorted(network.connection_index[own].tolist()) == list(range(own.size))
        for place in range(own.size):
            assert any(green[place] in "Gg" for green in signal.greens)


def test_greens_keep_conflicts_apart_or_let_one_side_give_way(network):
    """Independent of the generator: chords through the real lane positions must not cross."""
    permissive = 0
    for at, signal in enumerate(network.signals):
        own = np.flatnonzero(network.connection_signal == at)
        for green in signal.greens:
            going = [c for c in own if green[network.connection_index[c]] in "Gg"]
            for c in going:
                for other in going:
                    if other <= c or not _chords_meet(network, c, other):
                        continue
                    letters = {k: green[network.connection_index[k]] for k in (c, other)}
                    assert "g" in letters.values(), (signal.name, green)
                    permissive += 1
                    assert other in _gives(network, c) or c in _gives(network, other)
            for c in going:
                waits = green[network.connection_index[c]] == "g"
                assert waits == bool(set(_gives(network, c)) & set(going))
    several = any(len(signal.greens) == 2 for signal in network.signals)
    assert bool(permissive) == several


def _gives(network, c):
    return network.yield_to[network.yield_start[c] : network.yield_start[c + 1]].tolist()


def _lane_point(network, lane, node, sign):
    link = network.lane_link[lane]
    along = network.xy[network.head[link]] - network.xy[network.tail[link]]
    along = along / np.hypot(*along)
    right = np.array([along[1], -along[0]])
    aside = (network.lanes[link] - (lane - network.lane_start[link]) - 0.5) * 3.2
    return network.xy[node] + sign * 15.0 * along + aside * right


def _chords_meet(network, one, two):
    """Whether two connections of different links cross or end in one lane."""
    links = network.move_from[network.connection_move[[one, two]]]
    if links[0] == links[1]:
        return False
    if network.connection_into[one] == network.connection_into[two]:
        return True
    node = network.head[links[0]]
    ends = [
        (
            _lane_point(network, network.connection_lane[c], node, -1.0),
            _lane_point(network, network.connection_into[c], node, 1.0),
        )
        for c in (one, two)
    ]
    (a, b), (c, d) = ends

    def side(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def test_programmes_show_yellow_to_whoever_loses_green(network):
    for signal in network.signals:
        states = [state for state, _ in signal.programme]
        assert [state for state in states if "y" not in state] == list(signal.greens)
        for (one, _), (two, _) in zip(
            signal.programme, signal.programme[1:] + signal.programme[:1], strict=True
        ):
            for old, new in zip(one, two, strict=True):
                assert not (old in "Gg" and new == "r")
                assert not (old == "r" and new == "y")
        assert all(seconds == 3.0 for state, seconds in signal.programme if "y" in state)


def test_phases_differ_between_signals_where_asked():
    def greens(network):
        return [len(signal.greens) for signal in network.signals]

    assert greens(arterial_network(7)) == [4, 2, 3, 4, 2, 3, 4]
    assert greens(grid_network(2, 3)) == [4] * 6
    assert greens(grid_network(2, 3, phases="2")) == [2] * 6
    assert greens(grid_network(2, 3, lanes=1)) == [4] * 6, "each approach in turn"
    mixed = greens(grid_network(8, 8, phases="mixed", seed=3))
    assert 20 <= mixed.count(2) <= 44 and set(mixed) == {2, 4}
    assert mixed == greens(grid_network(8, 8, phases="mixed", seed=3))
    assert mixed != greens(grid_network(8, 8, phases="mixed", seed=4))
    assert greens(grid_network(3, 3, phases="mixed", share=0.0)) == [4] * 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid_network(0, 3), "rows must be at least 1, got 0"),
        (lambda: grid_network(2, 2, lanes=0), "lanes must be at least 1"),
        (lambda: grid_network(2, 2, phases="3"), "phases must be"),
        (lambda: grid_network(2, 2, phases="mixed", share=1.5), "share must be from 0 to 1"),
        (lambda: grid_network(2, 2, spacing=20.0), "too short"),
        (lambda: grid_network(2, 2, speed=-1.0), "expected a positive number"),
        (lambda: arterial_network(0), "signals must be at least 1"),
        (lambda: arterial_network(3, lanes=1, side_lanes=2), "side_lanes must be at most"),
        (lambda: arterial_network(3, side=10.0), "too short"),
        (
            lambda: build_network(
                "slanted",
                [Place(name="a", x=0, y=0), Place(name="b", x=100, y=30)],
                [Road(one=0, two=1, lanes=1, speed=10.0)],
            ),
            "must run north-south or east-west",
        ),
        (
            lambda: build_network(
                "open",
                [Place(name=name, x=x, y=0) for name, x in (("a", 0), ("b", 100), ("c", 200))],
                [Road(one=at, two=at + 1, lanes=1, speed=10.0) for at in range(2)],
            ),
            "'b' joins 2 roads without a signal",
        ),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- demand ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy():
    network = grid_network(6, 6)
    return network, grid_demand(network, rate=900.0, seconds=3600.0, seed=5)


def test_routes_lead_from_entries_to_exits_without_a_node_twice(network):
    demand = grid_demand(network, rate=300.0, seconds=900.0, seed=1)
    demand.check(network)
    assert demand.vehicles > 100
    for route in demand.routes:
        assert not np.isin(network.tail[route[0]], network.head[network.move_from])
        assert not np.isin(network.head[route[-1]], network.tail[network.move_to])
        nodes = network.head[route].tolist()
        assert len(set(nodes)) == len(nodes)
    assert len({tuple(route) for route in demand.routes}) == len(demand.routes)


def test_arrivals_are_poisson_with_the_rate_asked_for(busy):
    _, demand = busy
    entries = np.array([route[0] for route in demand.routes])[demand.route]
    mean, vehicles = 900.0, 24 * 900.0
    assert abs(demand.vehicles - vehicles) < 4 * np.sqrt(vehicles)
    assert np.unique(entries).size == 24
    for entry in np.unique(entries)[:4]:
        per_minute = np.histogram(demand.depart[entries == entry], 60, (0, 3600))[0]
        # Index of dispersion of a Poisson count is 1, with standard deviation sqrt(2 / 59).
        assert abs(per_minute.mean() - mean / 60) < 4 * np.sqrt(mean) / 60
        assert abs(per_minute.var(ddof=1) / per_minute.mean() - 1) < 4 * np.sqrt(2 / 59)


def test_turns_have_the_shares_asked_for(busy):
    network, demand = busy
    flows = movement_flows(network, demand)
    turn = np.array(network.turn)
    share = {letter: flows[turn == letter].sum() / flows.sum() for letter in "slr"}
    crossings = flows.sum()
    assert abs(share["s"] - 0.7) < 4 * np.sqrt(0.21 / crossings)
    assert abs(share["l"] - share["r"]) < 0.01
    straight = grid_demand(network, rate=60.0, seconds=600.0, seed=5, straight=1.0)
    assert {route.size for route in straight.routes} == {7}


def test_flows_are_counts_per_hour():
    network = grid_network(1, 2)
    west, middle, east = (
        network.link_index[name] for name in ("west0-J0_0", "J0_0-J0_1", "J0_1-east0")
    )
    north = network.link_index["J0_1-north1"]
    demand = Demand(
        names=("a", "b", "c"),
        depart=np.array([0.0, 1.0, 2.0]),
        kind=np.zeros(3, dtype=np.int64),
        route=np.array([0, 1, 0]),
        routes=(np.array([west, middle, east]), np.array([west, middle, north])),
        end=1800.0,
    )
    flows = movement_flows(network, demand)
    assert flows[network.move_index[west, middle]] == 6.0
    assert flows[network.move_index[middle, east]] == 4.0
    assert flows[network.move_index[middle, north]] == 2.0
    assert flows.sum() == 12.0
    torn = replace(demand, routes=(np.array([west, east]), demand.routes[1]))
    with pytest.raises(ValueError, match="no movement from link 'west0-J0_0' to 'J0_1-east0'"):
        movement_flows(network, torn)
    with pytest.raises(ValueError, match="give the demand an end"):
        movement_flows(network, replace(demand, depart=np.zeros(3), end=0.0))


def test_profiles_have_the_same_mean_and_their_own_shape():
    network = grid_network(4, 4)

    def of(profile):
        return grid_demand(network, rate=900.0, seconds=3600.0, seed=2, profile=profile)

    uniform, peaked, tidal = (of(profile) for profile in ("uniform", "peaked", "tidal"))
    assert uniform.vehicles == peaked.vehicles == tidal.vehicles
    quarters = np.histogram(peaked.depart, 4, (0, 3600))[0] / peaked.vehicles
    # The density .5 + 2 t holds .1875 in the first quarter and .3125 in the second.
    assert quarters == pytest.approx([0.1875, 0.3125, 0.3125, 0.1875], abs=0.015)
    first = np.array([network.links[route[0]][:4] for route in tidal.routes])[tidal.route]
    early = tidal.depart < 1800.0
    for side, share in (("west", 0.75), ("east", 0.25), ("sout", 0.5), ("nort", 0.5)):
        assert early[first == side].mean() == pytest.approx(share, abs=0.04)


def test_demand_repeats_with_its_seed_and_is_ordered():
    network = arterial_network(4)
    one, same, other = (
        grid_demand(network, rate=400.0, seconds=600.0, seed=seed) for seed in (1, 1, 2)
    )
    assert (one.depart == same.depart).all() and (one.route == same.route).all()
    assert one.depart[:20].tolist() != other.depart[:20].tolist()
    assert (np.diff(one.depart) >= 0).all() and one.depart[-1] <= 600.0
    assert (one.depart == np.round(one.depart, 3)).all()
    assert one.charged.all() and one.charged.size == one.vehicles and one.end == 600.0


def test_no_rate_means_no_vehicles():
    network = grid_network(2, 2)
    empty = grid_demand(network, rate=0.0, seconds=600.0, seed=1)
    assert empty.vehicles == 0 and empty.routes == ()
    assert not movement_flows(network, empty).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": -1.0}, "rate of at least 0"),
        ({"rate": float("nan")}, "rate of at least 0"),
        ({"seconds": 0.0}, "more than 0 s"),
        ({"profile": "flat"}, "profile must be one of uniform, peaked, tidal"),
        ({"straight": 1.1}, "straight must be from 0 to 1"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_impossible_demand_is_refused(change, message):
    options = {"rate": 100.0, "seconds": 60.0, "seed": 1} | change
    with pytest.raises(ValueError, match=message):
        grid_demand(grid_network(2, 2), **options)


@pytest.mark.slow
def test_the_largest_grid_carries_a_hundred_thousand_vehicles():
    network = grid_network(32, 32, phases="mixed")
    assert len(network.signals) == 1024
    demand = grid_demand(network, rate=800.0, seconds=3600.0, seed=1)
    assert demand.vehicles > 100_000
    assert max(route.size for route in demand.routes) <= 32 + 32 + 1
    retimed = webster(network, movement_flows(network, demand))
    assert len(retimed) == 1024 and max(signal.cycle for signal in retimed) <= 120.0
