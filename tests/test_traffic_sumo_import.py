"""SUMO networks: a hand-written one by hand-made arrays, bad files, and the Cologne maps."""

import gzip

import numpy as np
import pytest
from traffic_data import needed
from traffic_sumo_small import NET, write_net

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.files.sumo_net import read_sumo_net
from fairlead.simulators.traffic.files.sumo_net_parts import read_parts
from fairlead.simulators.traffic.files.sumo_net_rights import passages


@pytest.fixture
def small(tmp_path):
    return read_sumo_net(write_net(tmp_path))


def yields(network, connection):
    start, end = network.yield_start[connection : connection + 2]
    return network.yield_to[start:end].tolist()


def test_links_are_the_edges_for_cars_with_the_lanes_for_cars(small):
    assert small.name == "small"
    assert small.links == (
        "west", "east_in", "east_out", "west_out", "north", "side", "last", "back",
    )  # fmt: skip
    assert small.lanes.tolist() == [1] * 8  # the bus lane of west is gone
    assert (small.length[0], small.speed[0]) == (100.0, 10.0)  # of west_1, not of the bus lane
    assert small.nodes == ("A", "J", "B", "C", "D", "E")
    assert [small.nodes[node] for node in (small.tail[0], small.head[0])] == ["A", "J"]
    assert small.xy[1].tolist() == [4.0, 8.0]


def test_connections_lead_from_lane_to_lane_along_movements(small):
    pairs = [(small.links[a], small.links[b]) for a, b in small.move_index]
    assert pairs == [
        ("west", "east_out"), ("west", "north"), ("east_in", "west_out"), ("north", "last"),
        ("side", "last"), ("last", "back"),
    ]  # fmt: skip
    assert small.connection_move.tolist() == [0, 1, 2, 3, 4, 5]
    assert small.connection_lane.tolist() == [0, 0, 1, 4, 5, 6]
    assert small.connection_into.tolist() == [2, 4, 3, 6, 6, 7]
    assert "".join(small.turn) == "slssrt"
    assert small.connection_signal.tolist() == [0, 0, 0, -1, -1, -1]
    assert small.connection_index.tolist() == [0, 1, 2, -1, -1, -1]


def test_a_turn_of_two_lanes_is_as_long_as_both_and_as_slow_as_their_time(small):
    # 16 m at 8 m/s and 4 m at 4 m/s: 20 m in 3 s.
    assert (small.turn_length[1], small.turn_speed[1]) == (20.0, pytest.approx(20.0 / 3.0))
    assert (small.turn_length[0], small.turn_speed[0]) == (12.0, 10.0)
    # C has no lanes inside: short, at the slower of 5 and 10 m/s.
    assert (small.turn_length[4], small.turn_speed[4]) == (0.1, 5.0)


def test_right_of_way_follows_the_requests(small):
    # J: the left turn gives way to its oncoming traffic; its request names the second lane.
    # C: without lanes inside requests are in the order of incLanes, side before north.
    assert [yields(small, at) for at in range(6)] == [[], [2], [], [4], [], []]
    assert small.waits_inside.tolist() == [0, 2, 0, 0, 0, 0]  # 16 m, 7.5 m each
    assert small.stops.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("length", "room"), [("2.3", 1), ("7.6", 1), ("15.0", 2), ("22.4", 2), ("23", 3)]
)
def test_there_is_room_for_one_vehicle_to_wait_at_least(tmp_path, length, room):
    path = write_net(tmp_path, ('speed="8" length="16"', f'speed="8" length="{length}"'))
    assert read_sumo_net(path).waits_inside[1] == room


def test_response_digits_are_read_from_the_right(tmp_path):
    path = write_net(tmp_path, ('index="1" response="100"', 'index="1" response="001"'))
    assert yields(read_sumo_net(path), 1) == [0]


def test_signals_keep_greens_programme_offset_and_place(small):
    (signal,) = small.signals
    assert signal.name == "TL" and signal.offset == 7.0 and signal.cycle == 56.0
    assert signal.greens == ("Ggr", "rrG")
    assert signal.programme == (("Ggr", 30.0), ("yyr", 3.0), ("rrG", 20.0), ("rry", 3.0))
    assert (signal.x, signal.y) == (4.0, 8.0)


def test_a_signal_of_several_junctions_lies_in_their_middle(tmp_path):
    merge = 'from="north" to="last" fromLane="0" toLane="0" '
    path = write_net(
        tmp_path,
        (merge, f'{merge}tl="TL" linkIndex="3" '),
        ("Ggr", "GgrG"), ("yyr", "yyrG"), ("rrG", "rrGr"), ("rry", "rryr"),
    )  # fmt: skip
    network = read_sumo_net(path)
    (signal,) = network.signals
    assert (signal.x, signal.y) == (2.0, 29.0)  # of J at 4, 8 and C at 0, 50
    assert network.connection_index.tolist() == [0, 1, 2, 3, -1, -1]


def test_of_several_programmes_the_one_numbered_0_counts(tmp_path):
    start = '    <tlLogic id="TL"'
    other = (
        f'{start} programID="night"><phase duration="9" state="GGG"/></tlLogic>\n'
        '    <tlLogic id="idle" programID="x"><phase duration="9" state="G"/></tlLogic>\n'
    )
    signals = read_sumo_net(write_net(tmp_path, (start, other + start))).signals
    assert [signal.name for signal in signals] == ["TL", "idle"]
    assert signals[0].cycle == 56.0 and (signals[1].x, signals[1].y) == (0.0, 0.0)
    only = ('programID="0"', 'programID="1"')
    assert read_sumo_net(write_net(tmp_path, (start, other + start), only)).signals[0].cycle == 9.0


def test_connections_that_are_not_for_cars_keep_their_place_among_the_requests(tmp_path):
    straight = 'state="O"/>\n    <connection from="west" to="north"'
    path = write_net(tmp_path, (straight, straight.replace("/>", ' allow="bus"/>')))
    network = read_sumo_net(path)
    assert network.connection_index.tolist()[:2] == [1, 2]
    assert yields(network, 0) == [1] and network.waits_inside[0] == 2
    # Without its connection the straight movement is gone too.
    assert (network.link_index["west"], network.link_index["east_out"]) not in network.move_index


def test_of_several_ways_of_a_movement_the_quickest_counts(tmp_path):
    first = '<connection from="west" to="east_out" '
    slower = f'{first}fromLane="0" toLane="0" via=":J_2_0" dir="s" state="M"/>\n'
    path = write_net(
        tmp_path,
        ('allow="bus"', 'allow="bus passenger"'),
        (first, slower + first),
        ('id=":J_2_0" index="0" speed="10"', 'id=":J_2_0" index="0" speed="6"'),
    )  # fmt: skip
    network = read_sumo_net(path)
    assert network.lanes[0] == 2 and (network.connection_move == 0).sum() == 2
    assert (network.turn_length[0], network.turn_speed[0]) == (12.0, 10.0)


def test_gzip_gives_the_same_network(tmp_path, small):
    path = tmp_path / "small.net.xml.gz"
    path.write_bytes(gzip.compress(NET.encode()))
    again = read_sumo_net(path)
    assert again.name == small.name and again.links == small.links
    assert again.yield_to.tolist() == small.yield_to.tolist()


@pytest.mark.parametrize(
    ("change", "field", "accepted"),
    [
        (('from="west" to="north"', 'from="nowhere" to="north"'), "connection.from", "an edge"),
        (('to="north" fromLane="1"', 'to="norht" fromLane="1"'), "connection.to", "an edge"),
        (('to="north" fromLane="1"', 'to="north" fromLane="2"'), "connection.fromLane", "below 2"),
        (('fromLane="0" toLane="0" dir="r"', 'fromLane="0" toLane="4" dir="r"'),
         "connection.toLane", "below 1"),
        (('fromLane="0" toLane="0" dir="r"', 'fromLane="-1" toLane="0" dir="r"'),
         "connection.fromLane", "whole number"),
        (('tl="TL" linkIndex="1"', 'tl="LT" linkIndex="1"'), "connection.tl", "tlLogic"),
        (('tl="TL" linkIndex="1"', 'tl="TL" linkIndex="3"'), "connection.linkIndex", "3 letters"),
        (('tl="TL" linkIndex="1"', 'tl="TL"'), "connection.linkIndex", "missing"),
        (('via=":J_1_0"', 'via=":J_9_0"'), "connection.via", ":J_9_0"),
        (('via=":J_3_0" dir="l"', 'via=":J_1_0" dir="l"'), "connection.via", ":J_1_0"),
        (('dir="L"', 'dir="up"'), "connection.dir", "one of s, r"),
        (('from="A" to="J" priority', 'from="Z" to="J" priority'), "edge.from", "junction"),
        (('to="D"', 'to="Z"'), "edge.to", "junction"),
        (('id="side" from', 'id="north" from'), "edge.id", "another id"),
        (('speed="20" length="200"', 'speed="0" length="200"'), "lane.speed", "greater than 0"),
        (('speed="20" length="200"', 'speed="20" length="nan"'), "lane.length", "greater than 0"),
        (('id="west_1" index="1"', 'id="west_1" index="2"'), "lane.index", "1 is expected"),
        (('state="yyr"', 'state="yy"'), "phase.state", "3 letters"),
        (('state="yyr"', 'state="yzr"'), "phase.state", "letters out of"),
        (('duration="30"', 'duration="-1"'), "phase.duration", "of at least 0"),
        (('index="1" response="100"', 'index="1" response="10"'), "request.response", "3 digits"),
        (('index="1" response="100"', 'index="1" response="1x0"'), "request.response", "3 digits"),
        (('index="1" response="100"', 'index="7" response="100"'), "request.index", "1 is"),
        ((':J_0_0 :J_3_0 :J_2_0', ':J_0_0 :J_2_0'), "connection.via", "intLanes of junction 'J'"),
        (('x="4" y="8"', 'x="4" y="?"'), "junction.y", "a number"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_its_line(tmp_path, change, field, accepted):
    path = write_net(tmp_path, change)
    with pytest.raises(DataError) as caught:
        read_sumo_net(path)
    error = caught.value
    assert error.field == field and accepted in error.accepted and error.file == str(path)
    lines = path.read_text().splitlines()
    assert error.line is not None and f"<{field.split('.')[0]} " in lines[error.line - 1]


def test_signals_without_a_phase_for_anybody_are_refused(tmp_path):
    greens = (('state="Ggr"', 'state="rrr"'), ('state="rrG"', 'state="rrr"'))
    with pytest.raises(DataError, match="a phase with a green light"):
        read_sumo_net(write_net(tmp_path, *greens))
    empty = NET[: NET.index("<phase")] + NET[NET.index("</tlLogic>") :]
    (tmp_path / "empty.net.xml").write_text(empty)
    with pytest.raises(DataError, match="at least one phase"):
        read_sumo_net(tmp_path / "empty.net.xml")


@pytest.mark.parametrize(
    ("text", "line", "match"),
    [
        ("", 1, "not well-formed XML"),
        (NET[: len(NET) // 2], None, "not well-formed XML .*complete"),
        (NET.replace("</net>", ""), None, "not well-formed XML"),
        ("<net>\n<edge>\n</net>\n", 3, "mismatched tag"),
        ("<routes/>", 1, "<net> is expected"),
        ("<net/>", None, "a lane for passenger cars"),
        ('<!DOCTYPE net [<!ENTITY a "b">]>\n<net/>', 1, "without document type"),
        ("from,to\n1,2\n", 1, "not well-formed XML"),
    ],
)
def test_files_that_are_no_network_are_refused(tmp_path, text, line, match):
    path = tmp_path / "bad.net.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=match) as caught:
        read_sumo_net(path)
    assert line is None or caught.value.line == line


def test_a_truncated_gzip_file_and_a_missing_one_are_refused(tmp_path):
    path = tmp_path / "cut.net.xml.gz"
    path.write_bytes(gzip.compress(NET.encode())[:-200])
    with pytest.raises(DataError, match="truncated gzip"):
        read_sumo_net(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_sumo_net(tmp_path / "absent.net.xml")


COLOGNE = [
    (1, (10, 19, 20, 25), [4]),
    (3, (48, 76, 116, 140), [3, 4, 4]),
    (8, (149, 157, 346, 352), [4, 2, 3, 4, 3, 2, 3, 4]),
]


@pytest.mark.parametrize(("number", "sizes", "phases"), COLOGNE)
def test_cologne_has_its_links_movements_and_phases(number, sizes, phases):
    name = f"cologne{number}"
    network = read_sumo_net(needed("resco", name, f"{name}.net.xml"))
    network.check()
    found = network.links, network.lane_link, network.move_from, network.connection_lane
    assert tuple(map(len, found)) == sizes
    assert [len(signal.greens) for signal in network.signals] == phases
    assert np.bincount(network.connection_move, minlength=sizes[2]).min() == 1
    assert (network.xy.max(axis=0) - network.xy.min(axis=0) < 2000.0).all()


@pytest.mark.parametrize("number", [1, 3, 8])
def test_requests_of_cologne_are_one_for_each_connection(number):
    name = f"cologne{number}"
    parts = read_parts(needed("resco", name, f"{name}.net.xml"))
    owners = [parts.edges[parts.joins[place].origin].head for place in passages(parts)]
    for junction in parts.junctions.values():
        assert len(junction.requests) == owners.count(junction.name)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_nobody_with_a_protected_green_gives_way_to_another_one(number):
    # 'G' promises right of way: if requests were in another order, some pair would contradict it.
    name = f"cologne{number}"
    network = read_sumo_net(needed("resco", name, f"{name}.net.xml"))
    pairs = 0
    for place, signal in enumerate(network.signals):
        own = np.flatnonzero(network.connection_signal == place).tolist()
        for state in signal.greens:
            go = {at for at in own if state[network.connection_index[at]] == "G"}
            assert not [(at, foe) for at in go for foe in yields(network, at) if foe in go]
            pairs += len(go)
    assert pairs > 10
