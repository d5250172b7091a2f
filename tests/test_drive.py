"""Driving a simulator over the wire: schedule, disturbances, marks, and the whole thing once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import factory, make_bundle, observations, random_policy, recorded

from fairlead.platform.cli.main import main
from fairlead.platform.client.asking import infeasible
from fairlead.platform.decision.types import Rejected, Source
from fairlead.platform.drive.faults import DEFAULT, KINDS, Plan, disturb
from fairlead.platform.drive.loop import Run, _executable, in_process, seeds_of
from fairlead.platform.drive.session import Driven, Order
from fairlead.platform.drive.verdict import counts_of, excess, rows_of
from fairlead.platform.files import UserError
from fairlead.platform.wire import frames
from fairlead.platform.wire.tensors import Limits
from fairlead.policies.acting import PolicyActor

SPEC = recorded()[0]
EPOCHS, ROOM = 200, 400


def plan(text="nan@40-60,kill@60-80", settle=20):
    return Plan.of(text, epochs=EPOCHS, settle=settle)


def test_faults_without_epochs_share_the_middle():
    found = plan("nan, stale,kill", settle=10)
    assert [(f.kind, f.first, f.last) for f in found.faults] == [
        ("nan", 40, 56), ("stale", 56, 73), ("kill", 73, 90),
    ]  # fmt: skip
    assert found.phases() == {
        "before": slice(0, 40), "outage": slice(40, 90), "after": slice(100, 200),
    }  # fmt: skip
    # A restarted daemon that is late prolongs outage and episode; it never shortens them.
    assert found.phases(back=120)["outage"] == slice(40, 120)
    assert found.phases(back=120)["after"] == slice(130, 230) and found.end(120) == 230
    assert found.phases(back=60) == found.phases()
    assert found.end(399) == found.room == 400
    assert found.phases(back=400) == {
        "before": slice(0, 40), "outage": slice(40, 400), "after": slice(400, 400),
    }  # fmt: skip
    assert plan("nan").room == EPOCHS


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8), st.integers(60, 500))
def test_every_list_of_faults_makes_a_plan(kinds, epochs):
    found = Plan.of(",".join(kinds), epochs=epochs, settle=5)
    assert sorted(f.kind for f in found.faults) == sorted(kinds)
    parts = list(found.phases().values())
    assert all(part.start < part.stop for part in parts)
    for fault in found.faults:
        assert parts[1].start <= fault.first < fault.last <= parts[1].stop


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nam", "no fault 'nam'"),
        ("nan@5", "no fault"),
        ("nan@60-40", "epochs 60 to 40"),
        ("nan@60-400", "epochs 60 to 400"),
        ("nan@0-20", "some before and after"),
        ("nan@150-190", "some before and after"),
    ],
)
def test_plans_that_make_no_sense(text, what):
    with pytest.raises(UserError, match=what):
        plan(text)


def test_no_faults_are_one_phase():
    assert plan("none").phases() == {"before": slice(0, EPOCHS)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_a_fault_does_to_a_message(kind):
    past = list(observations())
    true = past[-1]
    shot = disturb([kind], past, 11, np.random.default_rng(0))
    seen = shot.observation
    for name in ("mask", "target", "active"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(true, name))
    clean = disturb([], past, 11, np.random.default_rng(0))
    assert clean.observation is true and clean.seq == 12 and clean.age == 0.0
    changed = {
        "nan": lambda: np.isnan(seen.agent).any(axis=1).sum() == 1,
        "blackout": lambda: np.isnan(seen.agent).all() and np.isnan(seen.candidates).all(),
        "drift": lambda: np.allclose(seen.agent, 1000 * true.agent),
        "frozen": lambda: np.array_equal(seen.agent, past[0].agent) and shot.age == 0.0,
        "stale": lambda: shot.age == 60.0,
        "future": lambda: shot.age == -3600.0,
        "order": lambda: shot.seq in {0, 1},
        "slow": lambda: shot.deadline == 1e-5,
        "shape": lambda: shot.damage == "shape",
        "garbage": lambda: shot.damage == "garbage",
    }
    if kind in changed:
        assert changed[kind]()
    else:
        assert shot == clean
    if kind != "frozen":
        assert not np.isnan(true.agent).any()  # the true one is left alone


@pytest.mark.parametrize(("kind", "code"), [("shape", "shape"), ("garbage", "json")])
def test_damaged_messages_are_damaged(kind, code):
    shot = disturb([kind], observations(), 11, np.random.default_rng(0))
    with pytest.raises(Rejected) as caught:
        frames.decode(shot.frame(1.0), SPEC, Limits.of(SPEC))
    assert caught.value.code == code
    assert shot.observation is observations()[-1]


def test_what_the_simulator_would_refuse_is_counted_and_not_executed():
    true = observations()[5]
    actions = np.zeros(SPEC.agents, np.int64)
    assert _executable(true, actions, 3) == (actions, [])
    wrong = actions.copy()
    wrong[np.flatnonzero(~true.active)[:1]] = 1
    wrong[0] = 99
    executed, found = _executable(true, wrong, 3)
    assert infeasible(true, executed) == "" and found == ["epoch 3: row 0 has action 99"]


def test_in_process_episodes_depend_on_seed_and_draw_only():
    simulator = factory().simulator()
    actor = PolicyActor(SPEC, random_policy(SPEC, seed=1), name="p")
    first = in_process(simulator, actor, 3, 40)
    np.testing.assert_array_equal(first, in_process(simulator, actor, 3, 40))
    assert (first > 0).all()
    assert not np.array_equal(first, in_process(simulator, actor, 3, 40, draw=1))
    assert not np.array_equal(first, in_process(simulator, actor, 4, 40))
    assert len(set(seeds_of(1, 1000))) == 1000


def test_excess_by_hand():
    """Draws 1 and 3 (variance 2), driven 4: difference 2, variance 2 (1 + 1/2) / 1 = 3."""
    assert excess(np.array([4.0]), np.array([[1.0, 3.0]])) == pytest.approx(2 / 3**0.5)
    two = excess(np.array([4.0, 4.0]), np.array([[1.0, 3.0], [1.0, 3.0]]))
    assert two == pytest.approx(2 / 1.5**0.5)
    assert excess(np.array([1.0]), np.array([[1.0, 1.0]])) == 0.0
    assert excess(np.array([1.1]), np.array([[1.0, 1.0]])) == float("inf")


@cache
def bundle(tmp):
    return make_bundle(tmp / "bundle")


def driven(tmp, *, outage=1.0, after=1.0, **changes):
    """A drive whose costs are made up: policy and baseline cost about 1 an epoch."""
    rng = np.random.default_rng(0)
    base = 1.0 + 0.01 * rng.standard_normal((3, 4, ROOM))
    cost = 1.0 + 0.001 * rng.standard_normal((3, ROOM))
    cost[:, 40:80] *= outage
    cost[:, 100:] *= after
    source = np.zeros((ROOM, len(Source)), np.int64)
    source[:EPOCHS, Source.POLICY] = 5
    run = Run(
        seed=0,
        cost=cost[0],
        source=source,
        local=np.zeros(ROOM, np.bool_),
        seconds=np.full(ROOM, 0.001),
        agreed=np.ones(ROOM),
        late=0,
        infeasible=(),
        recovery=1.0,
        back=70,
        memory=70.0,
    )
    run = replace(run, **changes)
    runs = tuple(replace(run, seed=k, cost=cost[k]) for k in range(3))
    order = Order(bundle(tmp), plan(), (0, 1, 2))
    return Driven(order, runs, base, base, rule="r", starts=4, status=0)


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("drive")


def failed(found):
    return [row.name for row in rows_of(found) if row.passed is False]


def test_a_good_drive_passes(tmp):
    assert failed(driven(tmp, outage=1.09)) == []


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"outage": 1.12}, "outage: cost over the baseline's"),
        ({"after": 1.01}, "after: cost above the policy's"),
        ({"infeasible": ("epoch 3: row 0",)}, "infeasible executed actions"),
        ({"local": np.arange(ROOM) > 150}, "after: share decided by the policy"),
        ({"back": 395}, "episodes that came back in time"),
    ],
)
def test_each_mark_can_fail(tmp, changes, mark):
    found = failed(driven(tmp, **changes))
    assert mark in found
    # Who never came back has not handed over to the policy either.
    assert len(found) == (2 if "back" in changes else 1)


def test_a_daemon_that_does_not_end_well(tmp):
    assert failed(replace(driven(tmp), status=-9)) == ["exit status of the daemon after SIGTERM"]


def test_decisions_of_the_client_have_their_own_column(tmp):
    counts = counts_of(driven(tmp, local=np.arange(ROOM) > 150))
    assert counts.shape == (3, ROOM, len(Source) + 1)
    assert (counts[:, :151, Source.POLICY] == 5).all() and (counts[:, 151:EPOCHS, -1] == 5).all()
    assert counts.sum() == 3 * EPOCHS * 5


def test_the_picture(tmp):
    from fairlead.platform.drive.chart import write_chart

    write_chart(tmp / "drive.png", driven(tmp, local=np.arange(ROOM) > 150))
    assert (tmp / "drive.png").read_bytes()[:4] == b"\x89PNG"


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    return caught.value.code


def test_mistakes_in_the_command(tmp, capsys):
    folder = str(bundle(tmp).folder)
    assert run("drive", "power", folder) == 2
    assert "not 'power'" in capsys.readouterr().err
    assert run("drive", "cloud", folder, "--url", "http://127.0.0.1:9") == 2
    assert "kill need a daemon" in capsys.readouterr().err
    assert run("drive", "cloud", folder, "--faults", "nan", "server.prot=3") == 2
    assert "did you mean 'server.port'" in capsys.readouterr().err


def test_every_default_fault_is_known():
    assert set(DEFAULT) <= set(KINDS)


def test_a_drive_through_all_faults(tmp, capsys):
    """A real daemon, killed and started again; short, so that costs are not judged."""
    off = "slot.simplex.enabled=false"  # an untrained policy is worse than it allows
    kinds = "nan,blackout,drift,stale,future,frozen,order,shape,garbage,slow,stall,kill"
    status = run(
        "drive", "cloud", str(bundle(tmp).folder), off, "--speed", "10", "--epochs", "120",
        "--seeds", "1", "--faults", kinds, "--settle", "8", "--draws", "2", "--json",
        "--folder", str(tmp / "all"), "--plot", str(tmp / "all.svg"),
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row["measured"] for row in found["rows"]}
    assert status in {0, 1}
    assert rows["infeasible executed actions"] == 0 and found["infeasible"] == []
    assert rows["exit status of the daemon after SIGTERM"] == 0
    assert rows["starts of the daemon"] == 2
    assert rows["before: actions equal to those in process"] > 0.8
    assert rows["before: share decided by policy"] > 0.5
    assert rows["outage: share decided by local"] > 0.1
    assert rows["outage: share decided by baseline"] > 0.1
    assert {"order", "shape", "json"} <= found["local"].keys()
    assert (tmp / "all.svg").read_text().startswith("<?xml")


def test_ended_from_outside_it_leaves_no_daemon(tmp):
    command = "from fairlead.platform.cli.main import main; main()"
    folder = tmp / "ended"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "drive", "cloud", str(bundle(tmp).folder), "--folder",
         str(folder)],
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end and b"ready" not in _log(folder):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 143
    port = int(_log(folder).split(b"http://127.0.0.1:")[1].split()[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def _log(folder):
    file = folder / "daemon.log"
    return file.read_bytes() if file.exists() else b""


@pytest.mark.slow
def test_a_drive_at_ten_times_real_time_meets_its_marks(tmp, capsys):
    """The acceptance run, with an untrained policy: what it costs is compared with itself."""
    off = ("slot.simplex.enabled=false", "slot.drift.enabled=false")
    status = run("drive", "cloud", str(bundle(tmp).folder), *off, "--seeds", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["infeasible executed actions"]["measured"] == 0
    assert rows["after: share decided by the policy"]["passed"], found
    assert status == int(any(row.get("passed") is False for row in found["rows"]))
