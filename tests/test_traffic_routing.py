"""Quickest routes: against SciPy, with penalties at junctions, and refusals."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from traffic_sumo_small import write_net

from fairlead.simulators.traffic import routing
from fairlead.simulators.traffic.files.sumo_net import read_sumo_net
from fairlead.simulators.traffic.routing import Router, movement_seconds, resolve_movements


def bare(links, moves):
    """What routing with given costs needs of a network."""
    start, end = np.array(moves, dtype=np.int64).reshape(-1, 2).T
    index = {(int(a), int(b)): at for at, (a, b) in enumerate(zip(start, end, strict=True))}
    names = tuple(f"link{at}" for at in range(links))
    return SimpleNamespace(links=names, move_from=start, move_to=end, move_index=index)


@pytest.mark.parametrize("seed", range(5))
def test_costs_agree_with_scipy_and_routes_have_them(seed):
    generator = np.random.default_rng(seed)
    links = 60
    keys = generator.choice(links * links, size=150, replace=False)
    moves = np.stack([keys // links, keys % links], axis=1)
    cost = generator.uniform(0.5, 20.0, size=len(moves))
    network = bare(links, moves)
    expected = dijkstra(csr_array((cost, moves.T), shape=(links, links)))
    router = Router(network, cost)
    reachable = 0
    for origin in range(links):
        for target in range(links):
            assert router.seconds(origin, target) == pytest.approx(expected[origin, target])
            route = router.route(origin, target)
            if route is None:
                assert expected[origin, target] == np.inf
                continue
            reachable += 1
            assert (route[0], route[-1]) == (origin, target)
            total = cost[resolve_movements(network, route)].sum()
            assert total == pytest.approx(expected[origin, target])
    assert reachable > 500


def test_kept_searches_are_few_and_give_the_same_again(monkeypatch):
    monkeypatch.setattr(routing, "_KEPT", 2)
    router = Router(bare(4, [(0, 1), (1, 2), (2, 3), (0, 3)]), np.array([1.0, 1.0, 1.0, 9.0]))
    first = [router.route(origin, 3).tolist() for origin in range(4)]
    assert first == [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert [router.route(origin, 3).tolist() for origin in range(4)] == first
    assert len(router._trees) == 2


def test_without_a_way_there_is_no_route():
    router = Router(bare(3, [(0, 1)]), np.array([1.0]))
    assert router.route(1, 0) is None and router.route(0, 2) is None
    assert router.seconds(0, 2) == np.inf and router.route(2, 2).tolist() == [2]


def test_of_equally_quick_routes_the_lower_numbers_win():
    router = Router(bare(4, [(0, 2), (0, 1), (2, 3), (1, 3)]), np.ones(4))
    assert router.route(0, 3).tolist() == [0, 1, 3]


@pytest.mark.parametrize("cost", [[1.0], [1.0, -1.0], [1.0, np.nan]])
def test_costs_that_fit_no_movement_or_are_negative_are_refused(cost):
    with pytest.raises(ValueError, match="2 costs of at least 0"):
        Router(bare(3, [(0, 1), (1, 2)]), np.array(cost))


def test_giving_way_costs_what_sumo_says(tmp_path):
    network = read_sumo_net(write_net(tmp_path))
    # Link, turn, and: 1.5 s inside the junction for the left turn at the signal; 1.5 s for the
    # merge; 5 s for turning round at the stop.
    assert movement_seconds(network).tolist() == pytest.approx(
        [10.0 + 1.2, 10.0 + 3.0 + 1.5, 10.0 + 1.2, 5.0 + 0.01 + 1.5, 6.0 + 0.02, 4.0 + 0.01 + 5.0]
    )


def test_a_penalty_decides_between_ways():
    # Two ways of two movements; the one through link 1 is quicker on the road but gives way.
    network = SimpleNamespace(
        links=("a", "b", "c", "d"),
        length=np.array([10.0, 100.0, 110.0, 10.0]),
        speed=np.full(4, 10.0),
        move_from=np.array([0, 0, 1, 2]),
        move_to=np.array([1, 2, 3, 3]),
        turn_length=np.full(4, 1.0),
        turn_speed=np.full(4, 10.0),
        turn=("s", "s", "s", "s"),
        connection_move=np.array([0, 1, 2, 3]),
        connection_signal=np.full(4, -1),
        yield_start=np.array([0, 0, 0, 1, 1]),
        yield_to=np.array([3]),
        waits_inside=np.zeros(4, dtype=np.int64),
        stops=np.zeros(4, dtype=np.int64),
    )
    assert Router(network).route(0, 3).tolist() == [0, 2, 3]
    assert Router(network).seconds(0, 3) == pytest.approx(1.1 + 11.1)
    network.connection_signal[2] = 0  # at a signal nothing is added
    assert Router(network).route(0, 3).tolist() == [0, 1, 3]
    network.connection_signal[2], network.yield_start[3:] = -1, 0
    network.stops[2] = 1  # a stop sign costs as much
    assert Router(network).route(0, 3).tolist() == [0, 2, 3]


def test_of_several_connections_the_free_one_counts():
    network = SimpleNamespace(
        length=np.array([10.0, 10.0]),
        speed=np.array([10.0, 10.0]),
        move_from=np.array([0]),
        move_to=np.array([1]),
        turn_length=np.array([5.0]),
        turn_speed=np.array([5.0]),
        turn=("l",),
        connection_move=np.array([0, 0]),
        connection_signal=np.array([-1, -1]),
        yield_start=np.array([0, 1, 1]),
        waits_inside=np.array([1, 0]),
        stops=np.array([0, 0]),
    )
    assert movement_seconds(network).tolist() == [2.0]
    network.yield_start = np.array([0, 1, 2])
    assert movement_seconds(network).tolist() == [3.5]


def test_movements_of_a_route_are_named_or_refused():
    network = bare(3, [(0, 1), (1, 2)])
    assert resolve_movements(network, np.array([0, 1, 2])).tolist() == [0, 1]
    assert resolve_movements(network, np.array([2])).shape == (0,)
    with pytest.raises(ValueError, match="no movement from link 'link0' to 'link2'"):
        resolve_movements(network, np.array([0, 2]))
