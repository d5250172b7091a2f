"""CityFlow networks and flows: what is read, who gives way, and how bad files are refused."""

import copy
import gzip
import json

import numpy as np
import pytest
from traffic_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.files.cityflow import read_cityflow_flow, read_cityflow_roadnet
from fairlead.simulators.traffic.programme import green_phases

ARMS = {"w": (-200, 0), "e": (200, 0), "n": (0, 100), "s": (0, -100)}
OPPOSITE = {"w": "e", "e": "w", "n": "s", "s": "n"}
LEFT = {"w": "n", "e": "s", "n": "e", "s": "w"}
RIGHT = {arm: OPPOSITE[LEFT[arm]] for arm in ARMS}


def road(name, start, end, points, lanes=3):
    lane = {"width": 4, "maxSpeed": 12.5}
    return {
        "id": name,
        "points": [{"x": x, "y": y} for x, y in points],
        "lanes": [dict(lane) for _ in range(lanes)],
        "startIntersection": start,
        "endIntersection": end,
    }


def road_link(kind, start, end, lane):
    lanes = [
        {"startLaneIndex": lane, "endLaneIndex": to, "points": [{"x": 0, "y": 0}, {"x": 3, "y": 4}]}
        for to in range(3)
    ]
    return {"type": kind, "startRoad": f"{start}_in", "endRoad": f"{end}_out", "laneLinks": lanes}


def crossing():
    """One intersection with four arms; road links arm by arm: straight, left, right."""
    links = [
        link
        for arm in ARMS
        for link in (
            road_link("go_straight", arm, OPPOSITE[arm], 1),
            road_link("turn_left", arm, LEFT[arm], 0),
            road_link("turn_right", arm, RIGHT[arm], 2),
        )
    ]
    rights = [2, 5, 8, 11]
    phases = [(5, rights), (30, [0, 3, *rights]), (20, [6, 9, *rights]), (15, [1, 4, *rights])]
    middle = {
        "id": "middle",
        "point": {"x": 0, "y": 0},
        "width": 15,
        "virtual": False,
        "roads": [],
        "roadLinks": links,
        "trafficLight": {
            "lightphases": [{"time": time, "availableRoadLinks": on} for time, on in phases]
        },
    }
    ends = [
        {
            "id": arm,
            "point": {"x": x, "y": y},
            "width": 0,
            "virtual": True,
            "roads": [],
            "roadLinks": [],
            "trafficLight": {"lightphases": []},
        }
        for arm, (x, y) in ARMS.items()
    ]
    roads = [
        item
        for arm, (x, y) in ARMS.items()
        for item in (
            road(f"{arm}_in", arm, "middle", [(x, y), (0, 0)]),
            road(f"{arm}_out", "middle", arm, [(0, 0), (x, y)]),
        )
    ]
    return {"intersections": [middle, *ends], "roads": roads}


def vehicle(**changes):
    return {
        "length": 5.0,
        "width": 2.0,
        "maxPosAcc": 2.0,
        "maxNegAcc": 4.5,
        "usualPosAcc": 1.9,
        "usualNegAcc": 4.4,
        "minGap": 2.5,
        "maxSpeed": 11.0,
        "headwayTime": 1.5,
    } | changes


def flow(route=("w_in", "e_out"), **changes):
    base = {"vehicle": vehicle(), "route": list(route), "interval": 1.0}
    return base | {"startTime": 0, "endTime": 0} | changes


@pytest.fixture
def read(tmp_path):
    def write(document, **options):
        path = tmp_path / "roadnet_tiny.json"
        path.write_text(json.dumps(document))
        return read_cityflow_roadnet(path, **options)

    return write


@pytest.fixture
def drive(tmp_path, read):
    network = read(crossing())

    def write(flows, **options):
        path = tmp_path / "flow.json"
        path.write_text(json.dumps(flows))
        return read_cityflow_flow(path, network, **options)

    return write


def test_roads_become_links_without_the_widths_of_junctions(read):
    network = read(crossing())
    assert network.name == "roadnet_tiny"
    assert network.nodes == ("middle", "w", "e", "n", "s")
    index = network.link_index
    assert network.length[index["w_in"]] == pytest.approx(185.0)
    assert network.length[index["n_out"]] == pytest.approx(85.0)
    assert set(network.speed.tolist()) == {12.5}
    assert network.lanes.tolist() == [3] * 8
    assert network.nodes[network.tail[index["w_in"]]] == "w"
    assert network.nodes[network.head[index["w_in"]]] == "middle"


def test_lanes_are_turned_round_so_that_the_rightmost_is_first(read):
    network = read(crossing())
    turn = np.array(network.turn)[network.connection_move]
    place = network.connection_lane - network.lane_start[network.lane_link[network.connection_lane]]
    assert set(place[turn == "r"].tolist()) == {0}
    assert set(place[turn == "s"].tolist()) == {1}
    assert set(place[turn == "l"].tolist()) == {2}
    # The first connection of a movement leads to CityFlow's lane 0, the leftmost.
    into = network.connection_into - network.lane_start[network.lane_link[network.connection_into]]
    assert into[:3].tolist() == [2, 1, 0]


def test_movements_have_length_and_speed(read):
    network = read(crossing())
    assert network.turn == ("s", "l", "r") * 4
    np.testing.assert_allclose(network.turn_length, 5.0)
    np.testing.assert_allclose(network.turn_speed.reshape(4, 3), [[12.5, 8.3333, 8.3333]] * 4)
    document = crossing()
    for link in document["intersections"][0]["roadLinks"][0]["laneLinks"]:
        del link["points"]
    assert read(document).turn_length[0] == pytest.approx(30.0)  # across twice the width


def test_phases_become_states_with_right_turns_that_give_way(read):
    signal = read(crossing()).signals[0]
    assert signal.name == "middle"
    assert signal.greens == ("GrgGrgrrgrrg", "rrgrrgGrgGrg", "rGgrGgrrgrrg")
    assert signal.programme == (
        ("GrgGrgrrgrrg", 30.0),
        ("yrgyrgrrgrrg", 5.0),
        ("rrgrrgGrgGrg", 20.0),
        ("rrgrrgyrgyrg", 5.0),
        ("rGgrGgrrgrrg", 15.0),
        ("rygrygrrgrrg", 5.0),
    )
    assert signal.cycle == 80.0
    assert green_phases(tuple(state for state, _ in signal.programme)) == signal.greens


def test_only_the_first_phases_are_kept_on_demand(read):
    signal = read(crossing(), phases=2).signals[0]
    assert signal.greens == ("GrgGrgrrgrrg", "rrgrrgGrgGrg")
    assert signal.cycle == 60.0
    with pytest.raises(ValueError, match="phases is 0"):
        read(crossing(), phases=0)


def test_a_left_turn_against_green_gives_way(read):
    document = crossing()
    phases = document["intersections"][0]["trafficLight"]["lightphases"]
    phases[1]["availableRoadLinks"] = [0, 1, 3]
    # Left from the west meets straight from the east; right turns have no green here.
    assert read(document).signals[0].greens[0] == "GgrGrrrrrrrr"


def test_who_gives_way_to_whom(read):
    network = read(crossing())

    def given(move):
        at = int(np.flatnonzero(network.connection_move == move)[0])
        to = network.yield_to[network.yield_start[at] : network.yield_start[at + 1]]
        return sorted(set(network.connection_move[to].tolist()))

    straight, left, right = 0, 1, 2  # from the west
    assert given(straight) == []
    # Left from the west to the north: straight from the east, straight from the south into it.
    assert given(left) == [3, 9]
    # Right from the west to the south: straight from the north, left from the east.
    assert given(right) == [4, 6]
    assert network.yield_start.size == network.connection_lane.size + 1
    # Three connections each, so that every conflicting lane is named.
    assert network.yield_start[1] - network.yield_start[0] == 0
    assert network.yield_start[4] - network.yield_start[3] == 6


def test_a_light_that_never_changes_controls_nothing(read):
    document = crossing()
    light = document["intersections"][0]["trafficLight"]
    light["lightphases"] = light["lightphases"][:1]
    network = read(document)
    assert network.signals == ()
    assert set(network.connection_signal.tolist()) == {-1} == set(network.connection_index.tolist())


def test_the_way_back_is_a_u_turn(read):
    document = crossing()
    document["intersections"][0]["roadLinks"][1]["endRoad"] = "w_out"
    assert read(document).turn[1] == "t"


@pytest.mark.parametrize(
    ("path", "value", "field", "accepted"),
    [
        (("roads", 0, "lanes"), [], "roads[0].lanes", "at least one lane"),
        (("roads", 0, "endIntersection"), "nowhere", "roads[0].endIntersection", "intersection"),
        (("roads", 0, "lanes", 1, "maxSpeed"), 0, "roads[0].lanes[1].maxSpeed", "more than 0"),
        (("roads", 1, "id"), "w_in", "roads[1].id", "no other"),
        (("roads", 1, "points"), [{"x": 0, "y": 0}], "roads[1].points", "two points"),
        (("roads", 1, "points", 1, "x"), "far", "roads[1].points[1].x", "finite number"),
        (("roads", 1, "points", 1, "x"), -10, "roads[1].points", "width 15"),
        (("roads", 1, "points", 1, "x"), 0, "roads[1].points", "differ"),
        (("intersections", 0, "width"), -1, "intersections[0].width", "at least 0"),
        (("intersections", 0, "virtual"), 0, "intersections[0].virtual", "true or false"),
        (("intersections", 0, "roadLinks"), {}, "intersections[0].roadLinks", "array"),
        (
            ("intersections", 0, "roadLinks", 2, "type"),
            "fly",
            "intersections[0].roadLinks[2].type",
            "go_straight",
        ),
        (
            ("intersections", 0, "roadLinks", 2, "startRoad"),
            "e_out",
            "intersections[0].roadLinks[2].startRoad",
            "ends at this intersection",
        ),
        (
            ("intersections", 0, "roadLinks", 2, "endRoad"),
            "e_out",
            "intersections[0].roadLinks[2]",
            "one road link",
        ),
        (
            ("intersections", 0, "roadLinks", 2, "laneLinks", 0, "startLaneIndex"),
            3,
            "intersections[0].roadLinks[2].laneLinks[0].startLaneIndex",
            "from 0 to 2",
        ),
        (
            ("intersections", 0, "trafficLight", "lightphases", 1, "availableRoadLinks", 0),
            12,
            "intersections[0].trafficLight.lightphases[1].availableRoadLinks[0]",
            "from 0 to 11",
        ),
        (
            ("intersections", 0, "trafficLight", "lightphases", 1, "time"),
            0,
            "intersections[0].trafficLight.lightphases[1].time",
            "more than 0",
        ),
    ],
)
def test_a_bad_network_is_refused_with_the_path_to_it(read, path, value, field, accepted):
    document = copy.deepcopy(crossing())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DataError) as caught:
        read(document)
    assert caught.value.field == field
    assert accepted in str(caught.value)


def test_missing_members_and_broken_json_are_refused(read, tmp_path):
    document = crossing()
    del document["roads"][3]["points"]
    with pytest.raises(DataError, match=r"'roads\[3\].points': missing"):
        read(document)
    path = tmp_path / "broken.json"
    path.write_text('{\n"roads": [}')
    with pytest.raises(DataError, match="line 2") as caught:
        read_cityflow_roadnet(path)
    assert caught.value.line == 2


def test_flows_become_vehicles_in_order(drive, read):
    demand = drive(
        [
            flow(startTime=7, endTime=11, interval=2.0),
            flow(("n_in", "s_out"), startTime=3, endTime=3, vehicle=vehicle(length=12.0)),
            flow(startTime=8, endTime=8),
        ]
    )
    assert demand.names == ("flow_1_0", "flow_0_0", "flow_2_0", "flow_0_1", "flow_0_2")
    assert demand.depart.tolist() == [3, 7, 8, 9, 11]
    assert demand.kind.tolist() == [1, 0, 0, 0, 0]
    assert demand.route.tolist() == [1, 0, 0, 0, 0]
    assert [route.tolist() for route in demand.routes] == [[0, 3], [4, 7]]
    kind = demand.kinds[0]
    assert (kind.length, kind.gap, kind.tau, kind.top) == (5.0, 2.5, 1.5, 11.0)
    assert (kind.accel, kind.decel, kind.spread, kind.sigma) == (2.0, 4.4, 0.0, 0.0)
    assert demand.kinds[1].length == 12.0
    assert demand.charged.all() and (demand.begin, demand.end) == (0.0, 3600.0)
    demand.check(read(crossing()))


def test_a_flow_without_end_lasts_until_the_end_of_the_episode(drive):
    demand = drive([flow(startTime=1, endTime=-1, interval=2.0)], end=9.0)
    assert demand.depart.tolist() == [1, 3, 5, 7]
    assert demand.end == 9.0
    assert drive([flow(startTime=20, endTime=30)], end=9.0).vehicles == 0


@pytest.mark.parametrize(
    ("item", "field", "accepted"),
    [
        (flow(("w_in", "mars")), "[0].route[1]", "a road of the network"),
        (flow(("w_in", "w_in")), "[0].route[1]", "joins to the one before it (w_in)"),
        (flow(()), "[0].route", "at least one road"),
        (flow(interval=0), "[0].interval", "more than 0"),
        (flow(startTime=5, endTime=4), "[0].endTime", "at least the startTime 5"),
        (flow(vehicle=vehicle(length=-1)), "[0].vehicle.length", "more than 0"),
        (flow(vehicle=vehicle(headwayTime=None)), "[0].vehicle.headwayTime", "finite"),
    ],
)
def test_a_bad_flow_is_refused_with_the_path_to_it(drive, item, field, accepted):
    with pytest.raises(DataError) as caught:
        drive([item])
    assert caught.value.field == field
    assert accepted in str(caught.value)


def test_gzip_is_read(tmp_path):
    path = tmp_path / "roadnet.json.gz"
    path.write_bytes(gzip.compress(json.dumps(crossing()).encode()))
    network = read_cityflow_roadnet(path)
    assert (network.name, len(network.signals)) == ("roadnet", 1)


@pytest.mark.parametrize(
    ("roadnet", "flows", "signals", "links", "vehicles"),
    [
        ("roadnet_3_4", "anon_3_4_jinan_real", 12, 62, 6295),
        ("roadnet_3_4", "anon_3_4_jinan_real_2000", 12, 62, 4365),
        ("roadnet_3_4", "anon_3_4_jinan_real_2500", 12, 62, 5494),
        ("roadnet_4_4", "anon_4_4_hangzhou_real", 16, 80, 2983),
        ("roadnet_4_4", "anon_4_4_hangzhou_real_5816", 16, 80, 6984),
    ],
)
def test_jinan_and_hangzhou_are_read(roadnet, flows, signals, links, vehicles):
    network = read_cityflow_roadnet(needed("cityflow", f"{roadnet}.json.gz"))
    demand = read_cityflow_flow(needed("cityflow", f"{flows}.json.gz"), network)
    assert (len(network.signals), len(network.links)) == (signals, links)
    assert demand.vehicles == vehicles
    demand.check(network)
    # Eight phases of which the first four serve every movement, and right turns always may go.
    for signal in network.signals:
        assert len(signal.greens) == 8
        assert all(any(s[at] in "Gg" for s in signal.greens[:4]) for at in range(12))
        assert all(state.count("g") == 4 and state.count("G") == 2 for state in signal.greens)
    assert set(network.length.tolist()) <= {370.0, 385.0, 570.0, 585.0, 770.0, 785.0}
