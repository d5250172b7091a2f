import gzip
import importlib.util
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from traffic_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.demand import Kind
from fairlead.simulators.traffic.files.netconvert import build_net, sumo_program
from fairlead.simulators.traffic.files.sumo_export import export_sumo
from fairlead.simulators.traffic.generated import arterial_network, grid_network
from fairlead.simulators.traffic.generated_demand import grid_demand, movement_flows
from fairlead.simulators.traffic.webster import webster

with_sumo = pytest.mark.skipif(
    importlib.util.find_spec("sumo") is None, reason="needs eclipse-sumo (extra 'sumo')"
)


def parsed(path):
    return ET.parse(path).getroot()  # noqa: S314 - written by this test


def built(network, folder, **demand):
    options = {"rate": 100.0, "seconds": 60.0, "seed": 1} | demand
    path = export_sumo(network, grid_demand(network, **options), folder, name="case")
    return path, parsed(path.with_name("case.net.xml"))


class Net:
    """What netconvert made of it, by our keys."""

    def __init__(self, root):
        self.lanes = {
            lane.get("id"): (float(lane.get("length")), float(lane.get("speed")))
            for lane in root.iter("lane")
        }
        outer = [c for c in root.iter("connection") if not c.get("from").startswith(":")]
        inner = [c for c in root.iter("connection") if c.get("from").startswith(":")]
        follows = {f"{c.get('from')}_{c.get('fromLane')}": c.get("via") for c in inner}
        self.connections = {}
        for c in outer:
            key = (c.get("from"), int(c.get("fromLane")), c.get("to"), int(c.get("toLane")))
            parts = [c.get("via")]
            while follows.get(parts[-1]):
                parts.append(follows[parts[-1]])
            self.connections[key] = (c, sum(self.lanes[part][0] for part in parts))
        self.requests = {
            (junction.get("id"), int(request.get("index"))): request
            for junction in root.iter("junction")
            for request in junction.iter("request")
        }
        self.programmes = {
            logic.get("id"): tuple(
                (phase.get("state"), float(phase.get("duration"))) for phase in logic.iter("phase")
            )
            for logic in root.iter("tlLogic")
        }


def keys(network):
    for c in range(network.connection_lane.size):
        move = network.connection_move[c]
        enter, leave = network.move_from[move], network.move_to[move]
        yield (
            network.links[enter],
            int(network.connection_lane[c] - network.lane_start[enter]),
            network.links[leave],
            int(network.connection_into[c] - network.lane_start[leave]),
        )


NETWORKS = [
    pytest.param(lambda: grid_network(3, 2, lanes=1, phases="2"), id="one-lane"),
    pytest.param(lambda: grid_network(2, 2, lanes=1), id="one-lane-split"),
    pytest.param(lambda: grid_network(3, 3, phases="mixed", spacing=150.0), id="mixed"),
    pytest.param(lambda: grid_network(2, 3, lanes=3, phases="2", speed=11.0), id="three-lanes"),
    pytest.param(lambda: arterial_network(4), id="arterial"),
    pytest.param(lambda: arterial_network(3, lanes=2, side_lanes=2), id="arterial-two"),
]


@with_sumo
@pytest.mark.parametrize("make", NETWORKS)
def test_the_built_net_is_ours(make, tmp_path):
    network = make()
    _, root = built(network, tmp_path)
    net = Net(root)
    edges = {e.get("id") for e in root.iter("edge") if e.get("function") != "internal"}
    assert edges == set(network.links)
    for at, link in enumerate(network.links):
        for lane in range(network.lanes[at]):
            length, speed = net.lanes[f"{link}_{lane}"]
            assert length == pytest.approx(network.length[at], abs=0.01)
            assert speed == network.speed[at]
    assert net.programmes == {signal.name: signal.programme for signal in network.signals}
    ours = list(keys(network))
    assert set(ours) == set(net.connections) and len(ours) == len(net.connections)
    for c, key in enumerate(ours):
        found, length = net.connections[key]
        move = network.connection_move[c]
        assert found.get("tl") == network.signals[network.connection_signal[c]].name
        assert int(found.get("linkIndex")) == network.connection_index[c]
        assert found.get("dir") == network.turn[move]
        assert length == pytest.approx(network.turn_length[move], abs=0.05)
        assert net.lanes[found.get("via")][1] == pytest.approx(network.turn_speed[move], abs=0.01)


@with_sumo
@pytest.mark.parametrize("make", NETWORKS)
def test_who_gives_way_is_who_gives_way_in_sumo(make, tmp_path):
    network = make()
    net = Net(built(network, tmp_path)[1])
    one_lane = network.lanes.max() == 1
    own = network.move_from[network.connection_move]
    heading = (network.xy[network.head] - network.xy[network.tail])[own]
    turn = np.array(network.turn)[network.connection_move]
    seen = 0
    for c in range(network.connection_lane.size):
        signal = network.connection_signal[c]
        index = int(network.connection_index[c])
        if not any(green[index] == "g" for green in network.signals[signal].greens):
            continue
        seen += 1
        facing = (network.connection_signal == signal) & ((heading @ heading[c]) < 0)
        if one_lane:
            # Facing lefts that brush: one of the two waits, and SUMO picks it by the edges' names.
            facing &= turn != "l"
        facing = set(np.flatnonzero(facing).tolist())
        given = network.yield_to[network.yield_start[c] : network.yield_start[c + 1]]
        request = net.requests[network.signals[signal].name, index]
        response = request.get("response")[::-1]
        theirs = {k for k in facing if response[network.connection_index[k]] == "1"}
        assert theirs == set(given.tolist()) & facing
        assert int(request.get("cont")) == network.waits_inside[c]
    assert seen or all("g" not in green for signal in network.signals for green in signal.greens)


@with_sumo
@pytest.mark.parametrize(
    ("make", "rate"),
    [
        (lambda: grid_network(4, 4), 400.0),
        (lambda: grid_network(4, 4, phases="2"), 400.0),
        (lambda: arterial_network(6), 300.0),
    ],
)
def test_sumo_runs_the_export_and_everybody_arrives(make, rate, tmp_path):
    network = make()
    demand = grid_demand(network, rate=rate, seconds=600.0, seed=1)
    network = replace(network, signals=webster(network, movement_flows(network, demand)))
    path = export_sumo(network, demand, tmp_path, name="case")
    trips = tmp_path / "trips.xml"
    command = [sumo_program("sumo"), "-c", path, "--no-step-log", "--tripinfo-output", trips]
    during = subprocess.run(command, capture_output=True, text=True, check=True)
    assert complaints(during.stderr) == []
    finished = [trip.get("id") for trip in parsed(trips)]
    assert 0 < len(finished) < demand.vehicles
    after = subprocess.run([*command, "--end", "1500"], capture_output=True, text=True, check=True)
    assert complaints(after.stderr) == []
    finished = [trip.get("id") for trip in parsed(trips)]
    assert set(finished) == set(demand.names)


def complaints(text):
    """Errors and warnings, other than on the installation and on hard braking before a junction."""
    known = ("SUMO_HOME", "proj.db", "emergency braking", "emergency stop")
    return [
        line for line in text.splitlines() if line.strip() and not any(k in line for k in known)
    ]


@with_sumo
@pytest.mark.slow
def test_retiming_lowers_delay_in_sumo(tmp_path):
    network = grid_network(4, 4, phases="2")
    demand = grid_demand(network, rate=600.0, seconds=900.0, seed=3)
    timed = replace(network, signals=webster(network, movement_flows(network, demand)))
    delay = {}
    for name, built_up in (("first", network), ("timed", timed)):
        path = export_sumo(built_up, demand, tmp_path, name=name)
        trips = tmp_path / f"{name}.trips.xml"
        command = [sumo_program("sumo"), "-c", path, "--end", "2500", "--no-step-log"]
        subprocess.run([*command, "--tripinfo-output", trips], capture_output=True, check=True)
        rows = parsed(trips).findall("tripinfo")
        assert len(rows) == demand.vehicles
        delay[name] = np.mean(
            [float(r.get("timeLoss")) + float(r.get("departDelay")) for r in rows]
        )
    assert delay["timed"] < 0.9 * delay["first"]


@with_sumo
def test_vehicles_keep_kind_route_and_departure(tmp_path):
    network = grid_network(2, 2)
    demand = grid_demand(network, rate=200.0, seconds=300.0, seed=4)
    lorry = Kind(
        name="lorry",
        length=12.0,
        gap=3.0,
        tau=1.4,
        accel=1.1,
        decel=3.5,
        factor=0.9,
        spread=0.0,
        top=25.0,
        sigma=0.2,
    )
    kind = np.arange(demand.vehicles) % 2
    demand = replace(demand, kinds=(Kind(), lorry), kind=kind)
    path = export_sumo(network, demand, tmp_path / "new" / "folder", name="two")
    root = parsed(path.with_name("two.rou.xml"))
    car, heavy = (element.attrib for element in root.findall("vType"))
    assert car == {
        "id": "passenger",
        "length": "5.0",
        "minGap": "2.5",
        "tau": "1.0",
        "accel": "2.6",
        "decel": "4.5",
        "speedFactor": "normc(1.0,0.1,0.2,2)",
        "speedDev": "0.1",
        "maxSpeed": "55.56",
        "sigma": "0.5",
    }
    assert heavy["length"] == "12.0" and heavy["minGap"] == "3.0" and heavy["tau"] == "1.4"
    assert heavy["accel"] == "1.1" and heavy["decel"] == "3.5" and heavy["sigma"] == "0.2"
    assert heavy["speedFactor"] == "0.9" and heavy["maxSpeed"] == "25.0"
    # Without this SUMO lets the speeds of a kind deviate by a tenth.
    assert heavy["speedDev"] == "0.0"
    routes = {route.get("id"): route.get("edges").split() for route in root.findall("route")}
    vehicles = root.findall("vehicle")
    assert [vehicle.get("id") for vehicle in vehicles] == list(demand.names)
    for at, vehicle in enumerate(vehicles):
        links = [network.links[link] for link in demand.routes[demand.route[at]]]
        assert routes[vehicle.get("route")] == links
        assert float(vehicle.get("depart")) == demand.depart[at]
        assert vehicle.get("type") == ("passenger", "lorry")[at % 2]
    time = parsed(path).find("time")
    assert float(time.find("end").get("value")) == 300.0
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(
        [f"two.{part}.xml" for part in ("nod", "edg", "con", "tll", "rou", "net")] + ["two.sumocfg"]
    )


@with_sumo
def test_a_refused_network_leaves_nothing_behind(tmp_path):
    network = grid_network(2, 2)
    demand = grid_demand(network, rate=100.0, seconds=60.0, seed=1)
    short = replace(network.signals[0], programme=(("GG", 30.0),))
    broken = replace(network, signals=(short, *network.signals[1:]))
    with pytest.raises(DataError, match="netconvert refuses these files"):
        export_sumo(broken, demand, tmp_path, name="broken")
    assert list(tmp_path.iterdir()) == []


@with_sumo
def test_ids_and_routes_that_sumo_cannot_hold_are_refused(tmp_path):
    network = grid_network(2, 2)
    demand = grid_demand(network, rate=100.0, seconds=60.0, seed=1)
    for name in ("a b", ":a", "", "a<b"):
        named = replace(network, links=(name, *network.links[1:]))
        with pytest.raises(ValueError, match="SUMO cannot hold the id"):
            export_sumo(named, demand, tmp_path, name="case")
    torn = replace(demand, routes=(np.array([0, 0]), *demand.routes[1:]))
    with pytest.raises(ValueError, match="no movement from link"):
        export_sumo(network, torn, tmp_path, name="case")
    assert list(tmp_path.iterdir()) == []


def test_without_sumo_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    network = grid_network(1, 1)
    demand = grid_demand(network, rate=100.0, seconds=60.0, seed=1)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fairlead\[sumo\]'") as caught:
        export_sumo(network, demand, tmp_path / "out", name="case")
    assert caught.value.name == "eclipse_sumo"
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModuleNotFoundError, match="fairlead"):
        build_net(tmp_path, tmp_path)


# --- folders of plain XML -------------------------------------------------------------------------

PARTS = ("nod", "edg", "con", "tll")


@pytest.fixture
def plain(tmp_path):
    """A folder of plain XML, its signals gzipped, without the files that export adds to it."""
    network = grid_network(2, 3)
    demand = grid_demand(network, rate=100.0, seconds=60.0, seed=1)
    export_sumo(network, demand, tmp_path / "all", name="town")
    folder = tmp_path / "plain"
    folder.mkdir()
    for part in PARTS:
        shutil.copy(tmp_path / "all" / f"town.{part}.xml", folder)
    signals = folder / "town.tll.xml"
    (folder / "town.tll.xml.gz").write_bytes(gzip.compress(signals.read_bytes()))
    signals.unlink()
    return folder


@with_sumo
def test_a_folder_of_plain_xml_becomes_a_net(plain, tmp_path):
    before = sorted(plain.iterdir())
    path = build_net(plain, tmp_path / "cache")
    assert path == tmp_path / "cache" / "town.net.xml"
    root = parsed(path)
    assert len(root.findall("tlLogic")) == 6
    network = grid_network(2, 3)
    assert Net(root).programmes == {signal.name: signal.programme for signal in network.signals}
    assert build_net(plain, tmp_path / "cache") == path, "an older one is replaced"
    assert [file.name for file in path.parent.iterdir()] == ["town.net.xml"]
    assert sorted(plain.iterdir()) == before, "the folder itself is only read"


@with_sumo
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "town.edg.xml").unlink(), r"no \*\.edg\.xml"),
        (lambda f: shutil.copy(f / "town.nod.xml", f / "b.nod.xml"), r"found 'b\.nod\.xml, town"),
        (lambda f: (f / "town.tll.xml.gz").write_bytes(b"<tlLogics/>"), "not a gzip stream"),
        (
            lambda f: (f / "town.tll.xml.gz").write_bytes(
                (f / "town.tll.xml.gz").read_bytes()[:200]
            ),
            "damaged or truncated gzip",
        ),
        (
            lambda f: (f / "town.edg.xml").write_text("<edges><edge id='a' from='J0_0'"),
            "netconvert refuses these files",
        ),
        (
            lambda f: (f / "town.edg.xml").write_text(
                "<edges><edge id='a' from='nowhere' to='J0_0'/></edges>"
            ),
            "netconvert refuses these files .*nowhere",
        ),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_folders_that_cannot_be_built_are_refused(plain, tmp_path, spoil, message):
    spoil(plain)
    with pytest.raises(DataError, match=message) as caught:
        build_net(plain, tmp_path / "cache")
    assert str(plain) in caught.value.file
    assert not (tmp_path / "cache").exists()


@with_sumo
def test_manhattan_has_its_196_signals(tmp_path):
    path = build_net(needed("manhattan_28x7"), tmp_path)
    root = parsed(path)
    assert len(root.findall("tlLogic")) == 196
    assert path.name == "manhattan_28x7.net.xml"
