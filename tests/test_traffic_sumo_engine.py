"""SUMO as an engine: both ways to run it agree, timing, readings, crashes, and RESCO's figures."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pytest
from traffic_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.files.sumo_net import read_sumo_net
from fairlead.simulators.traffic.files.sumo_net_parts import read_parts
from fairlead.simulators.traffic.programme import green_phases, yellow_state
from fairlead.simulators.traffic.sumo.install import available, find_sumo
from fairlead.simulators.traffic.sumo.lanes import lane_ids
from fairlead.simulators.traffic.sumo.process import SumoEngine
from fairlead.simulators.traffic.sumo.protocol import receive, send
from fairlead.simulators.traffic.sumo.street import FIELDS, summarise

OLD = "FAIRLEAD_SUMO191"
"""Names a sumo program of version 1.9.1, with which RESCO's published figures were made."""

NODES = """<nodes>
  <node id="W" x="0" y="0"/><node id="E" x="600" y="0"/>
  <node id="N" x="300" y="300"/><node id="S" x="300" y="-300"/>
  <node id="C" x="300" y="0" type="traffic_light"/>
</nodes>"""
EDGES = """<edges>
  <edge id="in" from="W" to="C" speed="10"/><edge id="out" from="C" to="E" speed="10"/>
  <edge id="down" from="N" to="C" speed="10"/><edge id="away" from="C" to="S" speed="10"/>
</edges>"""
ROUTES = """<routes>
  <vType id="car" sigma="{sigma}" speedDev="0" length="5" minGap="2.5"/>
  <route id="east" edges="in out"/><route id="south" edges="down away"/>
  {vehicles}
</routes>"""
LANES = ("in_0", "down_0", "out_0", "away_0")


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """One signal between two one-way streets of 300 m; state letters: south, then east."""
    if not (available("libsumo") and available("traci")):
        pytest.skip("needs pip install 'fairlead[sumo]'")
    folder = tmp_path_factory.mktemp("crossing")
    (folder / "x.nod.xml").write_text(NODES, encoding="utf-8")
    (folder / "x.edg.xml").write_text(EDGES, encoding="utf-8")
    program = find_sumo("traci").binary.with_name("netconvert")
    words = ["-n", folder / "x.nod.xml", "-e", folder / "x.edg.xml", "-o", folder / "x.net.xml"]
    subprocess.run([program, *words, "--no-turnarounds"], check=True, capture_output=True)
    for sigma, name in ((0, "calm"), (0.5, "lively")):
        vehicles = "\n".join(
            f'<vehicle id="{route}{at}" type="car" route="{route}" depart="{10 * at}"/>'
            for at in range(20)
            for route in ("east", "south")
        )
        text = ROUTES.format(sigma=sigma, vehicles=vehicles)
        (folder / f"{name}.rou.xml").write_text(text, encoding="utf-8")
    return folder


def engine(folder, routes="calm", **more):
    run = SumoEngine(
        net=folder / "x.net.xml", routes=[folder / f"{routes}.rou.xml"], begin=0, end=600, **more
    )
    run.lanes(() if more.get("mesoscopic") else LANES)
    return run


def table(readings):
    return np.stack([getattr(readings, name) for name in FIELDS])


def letters(run, folder):
    """The state that is green for the lane ``in_0`` only."""
    joins = [join.tag.values for join in read_parts(folder / "x.net.xml").joins]
    found = {
        int(join["linkIndex"]): "G" if join["from"] == "in" else "r"
        for join in joins
        if join.get("tl") == "C"
    }
    assert run.signals == {"C": len(found)}
    return "".join(found[at] for at in sorted(found))


def drive(run, green, seed):
    """Two minutes of alternating greens with yellow; every reading and the report."""
    other = green.translate(str.maketrans("Gr", "rG"))
    run.reset(seed)
    seen, counts = [], []
    before = green
    for at in range(12):
        after = green if at % 4 < 2 else other
        change = [(0, "C", yellow_state(before, after)), (3, "C", after)]
        seen.append(table(run.advance(10, change)))
        counts.append(run.counters)
        before = after
    return np.stack(seen), counts, run.finish()


def test_vehicles_before_a_red_light_are_read(crossing):
    with engine(crossing) as run:
        run.reset(0)
        run.set_states({"C": "r" * run.signals["C"]})
        first = run.advance(20)
        # Two entered; they drive at 10 m/s and are at most 200 m away after 20 s.
        assert first.count[0] == 2 and first.queue[0] == 0
        later = run.advance(60)
        # Due at 0, 10, ..., 70: eight entered, the first needed about 30 s for the street.
        stand = later.queue[0]
        # The sixth finds the tail 38 m before the line just then.
        assert later.count[0] == 8 and 5 <= stand <= 6
        assert later.near[0] >= stand and later.seen[0] >= later.near[0]
        assert 40 <= later.longest[0] <= 50
        assert later.longest[0] < later.wait[0] < stand * later.longest[0]
        assert later.count[2] == 0 and later.queue[1] == stand
        assert run.counters.running == 16 and run.counters.arrived == 0


def test_readings_by_hand():
    lane = np.array([0, 0, 0, 0, 2])
    ahead = np.array([1.0, 50.0, 120.0, 250.0, 10.0])
    speed = np.array([0.0, 0.05, 5.0, 0.0, 0.1])
    wait = np.array([30.0, 4.0, 0.0, 99.0, 0.0])
    values = dict(
        zip(FIELDS, summarise(lane, ahead, speed, wait, np.array([130.0, 1, 9])), strict=True)
    )
    assert values["queue"].tolist() == [2, 0, 0]  # the one at 250 m is out of range
    assert values["near"].tolist() == [2, 0, 1]
    assert values["seen"].tolist() == [3, 0, 1]
    assert values["soon"].tolist() == [1, 0, 0]
    assert values["count"].tolist() == [4, 0, 1]
    assert values["wait"].tolist() == [34, 0, 0]
    assert values["longest"].tolist() == [30, 0, 0]


def test_both_backends_give_the_same_run(crossing):
    runs = []
    for backend in ("libsumo", "traci"):
        with engine(crossing, "lively", backend=backend) as run:
            run.reset(3)
            seen, counts, report = drive(run, letters(run, crossing), 3)
            assert report.version == run.version and backend in run.version
            runs.append((seen, counts, report.resco_delay, report.trip_time))
    assert np.array_equal(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]


def test_a_seed_decides_the_run_whatever_ran_before(crossing):
    with engine(crossing, "lively") as one, engine(crossing, "lively") as two:
        one.reset(1)
        green = letters(one, crossing)
        first = drive(one, green, 1)
        other = drive(one, green, 2)
        again = drive(one, green, 1)
        beside = drive(two, green, 1)
    for repeat in (again, beside):
        assert np.array_equal(first[0], repeat[0]) and first[1:] == repeat[1:]
    assert other[2].resco_delay != first[2].resco_delay


def test_reading_does_not_change_the_run(crossing):
    reports = []
    for seconds in (1, 120):
        with engine(crossing, "lively") as run:
            run.reset(5)
            for _ in range(0, 120, seconds):
                run.advance(seconds)
            reports.append(run.finish())
    assert reports[0] == reports[1]


def test_a_schedule_is_the_same_as_setting_states_in_time(crossing):
    with engine(crossing) as run:
        run.reset(0)
        green = letters(run, crossing)
        run.set_states({"C": green})
        run.advance(30)
        at_once = run.advance(10, [(3, "C", "r" * len(green)), (0, "C", green.replace("G", "y"))])
        run.reset(0)
        run.set_states({"C": green})
        run.advance(30)
        run.set_states({"C": green.replace("G", "y")})
        run.advance(3)
        run.set_states({"C": "r" * len(green)})
        by_steps = run.advance(7)
    # 'soon' looks as far ahead as the interval is long.
    differs = [name for name in FIELDS if name != "soon"]
    for name in differs:
        assert np.array_equal(getattr(at_once, name), getattr(by_steps, name)), name


def test_vehicles_are_conserved(crossing):
    with engine(crossing) as run:
        run.reset(0)
        _, counts, report = drive(run, letters(run, crossing), 0)
    departed = np.cumsum([one.departed for one in counts])
    arrived = np.cumsum([one.arrived for one in counts])
    assert (departed - arrived == [one.running for one in counts]).all()
    assert (report.departed, report.finished) == (departed[-1], arrived[-1])
    assert report.finished > 0 and report.undeparted == sum(one.pending for one in counts[-1:])


def test_what_cannot_be_done_is_refused_and_the_run_goes_on(crossing):
    with engine(crossing) as run:
        with pytest.raises(RuntimeError, match="reset"):
            run.advance(1)
        run.reset(0)
        size = run.signals["C"]
        for states in ([(0, "X", "r")], [(0, "C", "r" * (size + 1))], [(0, "C", "z" * size)]):
            with pytest.raises(ValueError, match=r"signal '[XC]'"):
                run.advance(5, states)
        for offset in (-1, 5):
            with pytest.raises(ValueError, match="offset"):
                run.advance(5, [(offset, "C", "r" * size)])
        for seconds in (0, 601):
            with pytest.raises(ValueError, match="expected at least 1"):
                run.advance(seconds)
        for names in (["in_1"], ["in_0", "in_0"]):
            with pytest.raises(ValueError, match="in_"):
                run.lanes(names)
        with pytest.raises(ValueError, match="'X'"):
            run.set_states({"C": "r" * size, "X": "r"})
        assert run.time == 0.0
        assert run.advance(600).count.size == len(LANES) and run.time == 600.0
        with pytest.raises(ValueError, match="seed"):
            run.reset(-1)


def test_options_replace_ours_but_not_what_the_engine_relies_on(crossing):
    red = [(np.int64(0), "C", "rrrr")]
    moved = {}
    for limit in ("-1", "20"):
        with engine(crossing, options=("--time-to-teleport", limit)) as run:
            run.reset(0)
            run.advance(np.int64(100), red)
            moved[limit] = run.counters.teleports
    assert moved["-1"] == 0 and moved["20"] > 0
    with pytest.raises(ValueError, match="--step-length"):
        engine(crossing, options=("--step-length", "0.5"))
    with (
        engine(crossing, options=("--nonsense", "1")) as run,
        pytest.raises(RuntimeError, match="--nonsense"),
    ):
        run.reset(0)


@pytest.mark.parametrize("backend", ["libsumo", "traci"])
def test_sumos_own_words_are_in_the_error(crossing, tmp_path, backend):
    routes = tmp_path / "bad.rou.xml"
    routes.write_text('<routes><trip id="t" depart="0" from="in" to="nowhere"/></routes>')
    with SumoEngine(
        net=crossing / "x.net.xml", routes=[routes], begin=0, end=10, backend=backend
    ) as run:
        with pytest.raises(RuntimeError, match="nowhere"):
            run.reset(0)
        with pytest.raises(RuntimeError, match="reset"):
            run.finish()


def test_a_killed_child_is_an_error_and_a_reset_recovers(crossing):
    with engine(crossing) as run:
        run.reset(0)
        os.kill(run._child.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"ended during 'advance' \(exit status -9\)"):
            run.advance(5)
        run.reset(0)
        assert run.advance(5).count.sum() == 2


def gone(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("backend", ["libsumo", "traci"])
def test_nothing_outlives_a_parent_that_was_killed(crossing, backend):
    code = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_traffic_sumo_engine import engine
run = engine(Path({str(crossing)!r}), backend={backend!r})
run.reset(0)
print(run._child.pid, run._folder.name, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        words = parent.stdout.readline().decode().split()
        pid, folder = int(words[0]), Path(words[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        assert len(children) == (1 if backend == "traci" else 0)
        parent.kill()
    patience = time.monotonic() + 20.0
    while not all(gone(one) for one in (pid, *children)):
        assert time.monotonic() < patience
        time.sleep(0.05)
    assert not folder.exists()


def test_closing_removes_files_and_process(crossing):
    with engine(crossing) as run:
        run.reset(0)
        folder, pid = Path(run._folder.name), run._child.pid
        assert folder.is_dir()
    assert not folder.exists() and gone(pid)
    run.close()
    with pytest.raises(RuntimeError, match="closed"):
        run.reset(0)


def test_a_mesoscopic_run_obeys_signals_but_has_no_lanes(crossing):
    with engine(crossing, mesoscopic=True) as run:
        run.reset(0)
        green = letters(run, crossing)
        run.set_states({"C": "r" * len(green)})
        assert run.advance(100).count.size == 0
        assert run.counters.arrived == 0 and run.counters.running == 20
        run.set_states({"C": green})
        run.advance(100)
        assert 5 <= run.counters.arrived <= 20
        with pytest.raises(ValueError, match="mesoscopic"):
            run.lanes(LANES)


def test_lanes_that_cars_may_not_use_are_left_out(tmp_path):
    net = tmp_path / "x.net.xml"
    net.write_text(
        """<net>
        <junction id="j" type="priority" x="0" y="0"/><junction id="k" type="priority" x="9" y="0"/>
        <edge id="a" from="j" to="k">
            <lane id="a_0" index="0" speed="9" length="9" allow="pedestrian"/>
            <lane id="a_1" index="1" speed="9" length="9" disallow="pedestrian tram"/></edge>
        <edge id="b" from="k" to="j"><lane id="b_0" index="0" speed="9" length="9"/>
            <lane id="b_1" index="1" speed="9" length="9" allow="bus passenger"/>
            <lane id="b_2" index="2" speed="9" length="9" disallow="all"/></edge>
        </net>""",
        encoding="utf-8",
    )
    streets = SimpleNamespace(links=("b", "a"), lanes=np.array([2, 1]))
    assert lane_ids(net, streets) == ("b_0", "b_1", "a_1")
    streets.lanes = np.array([3, 1])
    with pytest.raises(ValueError, match=r"'b' has 3 lanes, but 2"):
        lane_ids(net, streets)
    streets.links = ("c", "a")
    with pytest.raises(ValueError, match=r"'c' has 3 lanes, but 0"):
        lane_ids(net, streets)


def test_a_network_says_which_lanes_are_read(crossing):
    network = read_sumo_net(crossing / "x.net.xml")
    with SumoEngine(
        net=crossing / "x.net.xml",
        routes=[crossing / "calm.rou.xml"],
        begin=0,
        end=600,
        network=network,
    ) as run:
        run.reset(0)
        count = run.advance(25).count
    order = [network.links.index(lane.removesuffix("_0")) for lane in LANES]
    assert count[order].tolist() == [3, 3, 0, 0]


def test_messages_survive_the_pipe_and_bad_ones_do_not(crossing):
    pipe = io.BytesIO()
    values = np.arange(6.0).reshape(2, 3)
    send(pipe, {"do": "x", "n": [1, "é"]}, {"v": values, "b": np.array([True])})
    sent = pipe.getvalue()
    got = receive(io.BytesIO(sent))
    assert got.header == {"do": "x", "n": [1, "é"]} and got.arrays["b"].tolist() == [True]
    assert np.array_equal(got.arrays["v"], values)
    for cut in (0, 2, 10, len(sent) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(sent[:cut]))
    with pytest.raises(ValueError, match="type"):
        send(pipe, {}, {"v": np.array(["text"])})
    for header in (b"[]", b'{"arrays": [["v", "|O", [1]]]}', b'{"arrays": [["v", "<f8", [-1]]]}'):
        with pytest.raises(ValueError, match=r"header|array"):
            receive(io.BytesIO(len(header).to_bytes(4, "little") + header + bytes(64)))
    with pytest.raises(ValueError, match="announced"):
        receive(io.BytesIO(b"\xff" * 8))


def test_a_missing_package_and_a_program_that_is_no_sumo_are_named(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="libsumo, traci"):
        find_sumo("cityflow")
    script = tmp_path / "sumo"
    script.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    script.chmod(0o755)
    if available("traci"):
        with pytest.raises(DataError, match="--version"):
            find_sumo("traci", script)
        with pytest.raises(DataError, match="runnable"):
            find_sumo("traci", tmp_path / "absent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"fairlead\[sumo\]") as caught:
        find_sumo()
    assert caught.value.name == "libsumo" and not available()


def test_files_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        SumoEngine(net=tmp_path / "x.net.xml", routes=[], begin=0, end=1)


# RESCO's settings: a decision every 10 s, 3 s of yellow in it where the phase changes.


def greedy_phases(net):
    """Per signal: green phases, and per phase the lanes that are let go."""
    parts, controlled = read_parts(net), defaultdict(list)
    for join in parts.joins:
        signal, index = join.tag.values.get("tl"), join.tag.values.get("linkIndex")
        if signal is not None:
            controlled[signal].append((int(index), f"{join.origin}_{join.lane}"))
    states = {
        logic.text("id"): [child.text("state") for child in logic.children]
        for logic in parts.logics
    }
    phases = {name: green_phases(tuple(shown)) for name, shown in states.items()}
    return {
        name: [(s, {lane for at, lane in controlled[name] if s[at] in "Gg"}) for s in greens]
        for name, greens in phases.items()
    }


def greedy(run, phases, seed):
    """Show the phase with most vehicles within 50 m; the earlier one where two have as many."""
    lanes = sorted({lane for choices in phases.values() for _, own in choices for lane in own})
    place = {lane: at for at, lane in enumerate(lanes)}
    run.lanes(lanes)
    run.reset(seed)
    shown = {name: choices[0][0] for name, choices in phases.items()}
    run.set_states(shown)
    readings = run.read(10.0)
    while run.time < run.end:
        changes = []
        for name, choices in phases.items():
            weight = [sum(readings.near[place[lane]] for lane in own) for _, own in choices]
            state = choices[int(np.argmax(weight))][0]
            if state != shown[name]:
                changes += [(0, name, yellow_state(shown[name], state)), (3, name, state)]
                shown[name] = state
        readings = run.advance(10, changes)
    return run.finish()


def cologne8(**more):
    net = needed("resco", "cologne8", "cologne8.net.xml")
    return SumoEngine(
        net=net, routes=[net.with_name("cologne8.rou.xml")], begin=25200, end=28800, **more
    ), greedy_phases(net)


@pytest.mark.slow
def test_rescos_figures_with_this_sumo():
    if not available() or not find_sumo().version.startswith("1.28."):
        pytest.skip("needs SUMO 1.28, which the figures are of")
    run, phases = cologne8()
    with run:
        fixed = []
        for seed in range(3):
            run.reset(seed)
            run.advance(3600)
            fixed.append(run.finish())
        adaptive = [greedy(run, phases, seed) for seed in range(3)]
    assert mean(one.resco_delay for one in fixed) == pytest.approx(48.23, abs=1.5)
    assert mean(one.trip_time for one in fixed) == pytest.approx(113.2, abs=2.0)
    assert mean(one.resco_delay for one in adaptive) == pytest.approx(17.97, abs=1.0)
    assert all(one.departed == 2046 and not one.gridlock for one in (*fixed, *adaptive))


@pytest.mark.slow
def test_rescos_published_figures_with_its_sumo():
    binary = os.environ.get(OLD)
    if binary is None or not available("traci"):
        pytest.skip(f"needs {OLD}, the path of a sumo program of version 1.9.1")
    run, phases = cologne8(backend="traci", binary=Path(binary))
    with run:
        assert run.version == "SUMO 1.9.1 (traci)"
        fixed = []
        for seed in range(5):
            run.reset(seed)
            run.advance(3600)
            fixed.append(run.finish().resco_delay)
        adaptive = [greedy(run, phases, seed).resco_delay for seed in range(5)]
    assert mean(fixed) == pytest.approx(63.77, abs=3.0)
    assert mean(adaptive) == pytest.approx(21.87, abs=1.5)
