"""From a network and its routes to the control problem: capacities, service, turning, errors."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from traffic_graphs import crossing, grid_graph

from fairlead.models.traffic.network_movements import LEAST_SHARE, Service, movement_graph
from fairlead.models.traffic.turning import turning_ratios
from fairlead.simulators.traffic.demand import Demand
from fairlead.simulators.traffic.network import Network
from fairlead.simulators.traffic.programme import Signal

HEADWAY = 1.85
PLAN = (("GGGrrg", 26.0), ("yyyrry", 4.0), ("rrrGGG", 26.0), ("rrryyy", 4.0))


def junction(**signal):
    """Link a (two lanes) and b (one) meet at a signal; right, straight, and left beyond it.

    a: lane 0 right into c (place 0) and straight into d (1), lane 1 straight (2).
    b: its lane straight into e (3), right into d (4), and left into c (5), which gives way to 2.
    c leads on into f by a movement without signal that gives way to nobody, and one into g that
    gives way to it.
    """
    values = {"name": "x", "greens": ("GGGrrg", "rrrGGG"), "programme": PLAN} | signal
    return Network(
        name="junction",
        nodes=("o", "p", "n", "q", "r", "s", "t", "u"),
        xy=np.zeros((8, 2)),
        links=("a", "b", "c", "d", "e", "f", "g"),
        tail=np.array([0, 1, 2, 2, 2, 3, 3]),
        head=np.array([2, 2, 3, 4, 5, 6, 7]),
        length=np.array([150.0, 75.0, 300.0, 75.0, 75.0, 75.0, 75.0]),
        speed=np.full(7, 15.0),
        lane_link=np.array([0, 0, 1, 2, 3, 4, 5, 6]),
        move_from=np.array([0, 0, 1, 1, 1, 2, 2]),
        move_to=np.array([2, 3, 4, 3, 2, 5, 6]),
        turn_length=np.full(7, 10.0),
        turn_speed=np.full(7, 8.0),
        turn=("r", "s", "s", "r", "l", "s", "l"),
        connection_lane=np.array([0, 0, 1, 2, 2, 2, 3, 3]),
        connection_move=np.array([0, 1, 1, 2, 3, 4, 5, 6]),
        connection_into=np.array([3, 4, 4, 5, 4, 3, 6, 7]),
        connection_signal=np.array([0, 0, 0, 0, 0, 0, -1, -1]),
        connection_index=np.array([0, 1, 2, 3, 4, 5, -1, -1]),
        yield_start=np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]),
        yield_to=np.array([2, 6]),
        waits_inside=np.zeros(8),
        stops=np.zeros(8, dtype=bool),
        signals=(Signal(**values),),
    )


def demand(routes, counts, **values):
    vehicles = np.repeat(np.arange(len(routes)), counts)
    return Demand(
        names=tuple(f"v{i}" for i in range(vehicles.size)),
        depart=np.arange(vehicles.size, dtype=float),
        kind=np.zeros(vehicles.size, dtype=np.int64),
        route=vehicles,
        routes=tuple(np.array(route) for route in routes),
        **values,
    )


ROUTES = [[0, 2, 5], [0, 3], [1, 4], [1, 2, 6], [3], [0, 2]]
COUNTS = [6, 20, 9, 1, 4, 3]


def built(network=None, **service):
    network = junction() if network is None else network
    network.check()
    counted = turning_ratios(network, demand(ROUTES, COUNTS, end=1800.0))
    return movement_graph(network, counted.flow, counted.ratio, service=Service(**service))


def test_turning_by_hand():
    network = junction()
    made = demand(ROUTES, COUNTS, end=1800.0)
    made.check(network)
    counted = turning_ratios(network, made)
    assert counted.flow.tolist() == [18, 40, 18, 0, 2, 12, 2]
    table = counted.ratio.toarray()
    # Of nine that turn right into c six go on into f and three end there; the left turner goes on.
    assert table[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 6 / 9, 0])
    assert table[4].tolist() == [0, 0, 0, 0, 0, 0, 1]
    # Movement 3 is on no route: it goes on as the link that it enters does, where all end.
    assert table[3].sum() == table[1].sum() == 0.0
    assert counted.first.tolist() == [0, 1, 2, 4, -1, 0]
    # A movement without vehicles into c would split as c's do: 6 of 10 and 1 of 10.
    fewer = turning_ratios(network, demand(ROUTES[:1] + ROUTES[5:], [6, 3], end=1800.0))
    assert fewer.ratio.toarray()[4].tolist() == pytest.approx([0, 0, 0, 0, 0, 6 / 9, 0])


def test_arrivals_are_counted_where_and_when_vehicles_start():
    network = junction()
    made = demand(ROUTES, COUNTS, end=1800.0)
    counted = turning_ratios(network, made)
    # Vehicles depart one a second: 0-5 first route, 6-25 second, 26-34 third, 35, 36-39, 40-42.
    arrivals = counted.arrivals(made, start=2.0, interval=10.0, horizon=4)
    assert arrivals.sum(axis=1).tolist() == [10, 10, 10, 6]
    assert arrivals[:, :5].tolist() == [
        [4, 6, 0, 0, 0],
        [0, 10, 0, 0, 0],
        [0, 4, 6, 0, 0],
        [2, 0, 3, 0, 1],
    ]


def test_flows_need_a_time():
    network = junction()
    counted = turning_ratios(network, demand(ROUTES, COUNTS))
    assert counted.flow[1] == pytest.approx(20 * 3600 / 42)
    with pytest.raises(ValueError, match="positive time"):
        turning_ratios(network, demand(ROUTES, COUNTS), seconds=-1.0)
    with pytest.raises(ValueError, match="positive time"):
        turning_ratios(network, demand(ROUTES, [0] * 6))


def test_shared_lanes_split_by_flow():
    made = built()
    # Lane 0: right 18 and half of straight's 40; each keeps LEAST_SHARE of it, whatever its flow.
    right = LEAST_SHARE + (1 - 2 * LEAST_SHARE) * 18 / 38
    assert made.saturation[0] == pytest.approx(right / HEADWAY)
    assert made.saturation[0] + made.saturation[1] == pytest.approx(2 / HEADWAY)
    assert made.saturation[2:5].sum() == pytest.approx(1 / HEADWAY)
    assert made.saturation[3] == pytest.approx(LEAST_SHARE / HEADWAY)
    assert made.storage[:3].tolist() == pytest.approx([40, 10, 40])
    assert made.travel[:2].tolist() == [10.0, 5.0]
    # However short a lane is, one vehicle fits.
    stub = replace(junction(), length=np.full(7, 2.0))
    assert built(stub).storage[:3].tolist() == [2.0, 1.0, 1.0]
    # Nobody anywhere: lanes are shared evenly.
    empty = movement_graph(junction(), np.zeros(7), csr_array((7, 7)))
    assert empty.saturation.tolist() == pytest.approx(
        np.array([0.5, 1.5, 1 / 3, 1 / 3, 1 / 3, 0.5, 0.5]) / HEADWAY
    )


def test_what_phases_serve():
    made = built(permissive=0.3)
    assert made.serve.toarray().tolist() == pytest.approx(
        np.array([[1, 1, 0, 0, 0.3, 0, 0], [0, 0, 1, 1, 1, 0, 0]])
    )
    # Without a signal: all of it, or the permissive share where it gives way.
    assert made.always.tolist() == pytest.approx([0, 0, 0, 0, 0, 1, 0.3])
    assert made.signals == ("x",) and made.phase_signal.tolist() == [0, 0]
    # One of the straight movement's two lanes only.
    half = built(junction(greens=("GrGrrr", "rrrGGG")))
    assert half.serve.toarray()[0, 1] == pytest.approx(1 / HEADWAY / half.saturation[1])
    # A turn on red is permissive, a stop sign likewise.
    arrow = built(junction(greens=("GGGrrg", "srrGGG")))
    assert arrow.serve.toarray()[1, 0] == 0.4
    stop = replace(junction(), stops=np.arange(8) == 6)
    assert built(stop).always.tolist() == pytest.approx([0, 0, 0, 0, 0, 0.4, 0.4])


def test_times_of_the_cycle():
    made = built(lost=3.0, least=6.0)
    assert made.lost == pytest.approx([0.1]) and made.low == pytest.approx([0.1, 0.1])
    assert made.high == pytest.approx([0.8, 0.8])
    # A signal with one green phase does what its plan says.
    single = built(junction(greens=("GGGGGG",), programme=(("GGGGGG", 45.0), ("yyyyyy", 15.0))))
    assert single.lost == pytest.approx([0.25]) and single.even_greens() == pytest.approx([0.75])
    with pytest.raises(ValueError, match=r"signal 'x'.*60 s.*2 phases.*30 s"):
        built(least=30.0)


def test_a_slip_lane_is_served_by_and_without_its_signal():
    network = junction()
    free = network.connection_signal.copy()
    free[0] = -1
    made = built(replace(network, connection_signal=free))
    assert made.always[0] == 1.0 and made.serve.toarray()[:, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"permissive": 1.5}, "permissive"),
        ({"headway": 0.0}, "headway"),
        ({"spacing": -1.0}, "spacing"),
        ({"cycle": np.inf}, "cycle"),
        ({"lost": -1.0}, "lost"),
        ({"least": np.nan}, "least"),
    ],
)
def test_bad_service_is_named(values, match):
    with pytest.raises(ValueError, match=match):
        Service(**values)


def test_bad_flows_and_movements_without_a_connection_are_named():
    with pytest.raises(ValueError, match="flow must be 7"):
        movement_graph(junction(), np.full(7, -1.0), csr_array((7, 7)))
    with pytest.raises(ValueError, match="flow must be 7"):
        movement_graph(junction(), np.zeros(6), csr_array((7, 7)))
    network = junction()
    bare = replace(network, connection_move=np.array([0, 1, 1, 2, 2, 4, 5, 6]))
    with pytest.raises(ValueError, match="from link 'b' to 'd' has no connection"):
        movement_graph(bare, np.ones(7), csr_array((7, 7)))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"low": np.zeros(3)}, "low has 3 entries, expected 2"),
        ({"travel": np.ones(3)}, "travel has 3 entries, expected 4"),
        ({"source": np.array([0, 4])}, "source must name links 0..3"),
        ({"saturation": np.array([0.5, 0.0])}, "saturation must be positive"),
        ({"storage": np.array([1.0, np.nan, 1.0, 1.0])}, "storage must be positive"),
        ({"lost": np.array([1.5])}, "lost must lie in 0..1"),
        ({"serve": csr_array(np.eye(2) * 2)}, "serve must lie in 0..1"),
        ({"serve": csr_array(np.eye(3))}, "serve"),
        ({"ratio": csr_array(([0.5], ([0], [1])), shape=(2, 2))}, r"ratio\[0, 1\]"),
        ({"phase_signal": np.array([0, 2])}, "phase_signal must name every signal"),
        ({"high": np.array([0.4, 0.4])}, "cannot fill the 0.900"),
        ({"low": np.array([0.6, 0.4])}, "signal 's0'.*1.000 to 2.000"),
    ],
)
def test_bad_graphs_are_named(values, match):
    with pytest.raises(ValueError, match=match):
        replace(crossing(), **values)


def test_rows_of_ratio_must_not_make_vehicles():
    made = grid_graph(1, 2)
    with pytest.raises(ValueError, match="row sum of ratio"):
        replace(made, ratio=csr_array(made.ratio * 1.1))
