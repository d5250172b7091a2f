"""A real daemon that serves set-points: both encodings, a kill and a restart, replay, client."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from box_domain import NAME, Proportional, make_box_bundle, observations
from daemon_process import MAIN, running

from fairlead.platform.audit.reader import Log
from fairlead.platform.client import Client
from fairlead.platform.client.asking import infeasible
from fairlead.platform.decision.seeds import generator
from fairlead.platform.decision.types import Source

PRELUDE = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    "import box_domain; box_domain.register()"
)
SEEN = observations()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_box_bundle(tmp_path_factory.mktemp("served") / "bundle")


@contextmanager
def serving(bundle, folder, *knobs):
    with running(bundle, folder, ["slot.deadline=5", *knobs], prelude=PRELUDE) as daemon:
        yield daemon


def as_json(seen, **parameters):
    """The Open Inference Protocol's request as text."""
    kinds = {"f": "FP32", "b": "BOOL"}
    inputs = [
        {
            "name": name,
            "datatype": kinds[getattr(seen, name).dtype.kind],
            "shape": list(getattr(seen, name).shape),
            "data": getattr(seen, name).tolist(),
        }
        for name in ("agent", "low", "high", "active")
    ]
    return json.dumps({"inputs": inputs, "parameters": parameters})


def command(*words):
    """A command of ours in a process that knows the toy; status, parsed answer, errors."""
    code = f"{PRELUDE}\n{MAIN}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """What three encodings were answered, over a kill and a restart; and the state folder."""
    folder = tmp_path_factory.mktemp("daemon")
    found = {}
    with serving(bundle.folder, folder, "audit.fsync=0.1") as daemon:
        found["model"] = daemon.get(f"/v2/models/{NAME}")
        for name, where in (("http", daemon.url), ("unix", f"unix:{daemon.frames}")):
            with Client(where, NAME, timeout=5.0, name=name) as client:
                found[name] = [client.decide(s, seq=q, seed=q) for q, s in enumerate(SEEN)]
        path = f"/v2/models/{NAME}/infer"
        headers = {"Content-Type": "application/json"}
        found["json"] = [
            daemon.call("POST", path, as_json(seen, seed=seq, seq=seq, client="text"), headers)
            for seq, seen in enumerate(SEEN)
        ]
        low = [row[::-1] for row in (SEEN[0].low.tolist(), SEEN[0].high.tolist())]
        wrong = json.loads(as_json(SEEN[0]))
        wrong["inputs"][1]["data"], wrong["inputs"][2]["data"] = low[1], low[0]
        found["refused"] = daemon.call("POST", path, json.dumps(wrong), headers)
        found["page"] = daemon.call("GET", f"/page/{NAME}/agent/2")
        found["selftest"] = daemon.metric("selftest_timestamp_seconds", domain=NAME)
        found["text"] = daemon.text
        time.sleep(1.5)  # audit.fsync and state.save_every
        daemon.stop(number=signal.SIGKILL)
    with serving(None, folder) as daemon:
        with Client(daemon.url, NAME, timeout=5.0, name="after") as client:
            found["after"] = [client.decide(s, seq=q) for q, s in enumerate(SEEN)]
        found["status"] = daemon.stop()
    return found, folder / "state"


def test_every_encoding_gets_the_set_points_of_the_policy_in_process(served, bundle):
    found, _ = served
    for seq, seen in enumerate(SEEN):
        expected = bundle.actor().act(seen, generator(seq))
        for name in ("http", "unix"):
            answer = found[name][seq]
            assert not answer.local and answer.outcome == "ok"
            assert answer.actions.dtype == np.float32 and infeasible(seen, answer.actions) == ""
            np.testing.assert_array_equal(answer.actions, expected)
        status, _, body = found["json"][seq]
        assert status == 200, body
        said = {one["name"]: one for one in json.loads(body)["outputs"]}
        assert (said["action"]["datatype"], said["action"]["shape"]) == ("FP32", [6, 2])
        data = np.array(said["action"]["data"], np.float32).reshape(6, 2)
        np.testing.assert_array_equal(data, expected)


def test_metadata_refusal_self_test_and_page(served):
    found, _ = served
    inputs = {one["name"]: one["shape"] for one in found["model"]["inputs"]}
    assert inputs["low"] == [-1, 2] and "candidates" not in inputs
    assert found["refused"][0] == 422 and json.loads(found["refused"][2])["code"] == "box"
    assert found["selftest"] > time.time() - 60
    status, _, page = found["page"]
    assert status == 200 and b"Set-points" in page and b"Candidates" not in page
    assert "Traceback" not in found["text"]


def test_a_killed_daemon_goes_on_and_its_audit_is_replayed_identically(served, bundle):
    found, state = served
    assert found["status"] == 0
    status, document, errors = command("replay", state, "--json")
    assert (status, document["identical"]) == (0, True), (document, errors)
    rows = {row["name"]: row["measured"] for row in document["rows"]}
    assert rows["decisions identical"] == 4 * len(SEEN)
    entries = [
        e.record.entry for e in Log(state / "audit", NAME).lines() if hasattr(e.record, "entry")
    ]
    assert [entry.before.ticks for entry in entries] == list(range(4 * len(SEEN)))
    before = entries[3 * len(SEEN)].before.last
    np.testing.assert_array_equal(before, entries[3 * len(SEEN) - 1].decision.actions)
    assert before.dtype == np.float32


def test_the_client_decides_by_the_rule_where_nobody_answers():
    with Client("http://127.0.0.1:9", NAME, fallback=Proportional(), timeout=0.1) as client:
        answer = client.decide(SEEN[1], seq=1)
    assert answer.local and (answer.source == Source.BASELINE).all()
    np.testing.assert_array_equal(answer.actions, Proportional().act(SEEN[1], None))


class Wild(Proportional):
    def act(self, observation, rng):
        return super().act(observation, rng) + np.float32(1e3)


def test_a_rule_that_leaves_the_box_is_not_believed():
    with Client("http://127.0.0.1:9", NAME, fallback=Wild(), timeout=0.1) as client:
        answer = client.decide(SEEN[1], seq=1)
    assert (answer.source == Source.HOLD).all() and "the fallback rule failed" in answer.problem
    assert infeasible(SEEN[1], answer.actions) == "" and answer.actions.dtype == np.float32


def test_commands_about_a_bundle_of_set_points(bundle, tmp_path):
    status, document, errors = command("bundle", "check", bundle.folder, "--json")
    assert status == 0, (document, errors)
    row = next(row for row in document["rows"] if row["name"].startswith("ONNX"))
    assert row["name"] == "ONNX shapes and set-points: largest difference" and row["passed"]
    status, document, _ = command("bundle", "show", bundle.folder, "--json")
    assert {"name": "dimensions", "measured": 2} in [
        {"name": r["name"], "measured": r["measured"]} for r in document["rows"]
    ]
    status, _, errors = command("diagnose", bundle.folder)
    assert status == 2 and "diagnose examines choices among candidates" in errors
    status, document, errors = command(
        "scenario", "check", f"{NAME}/track", "--conformance", "--json"
    )
    assert status == 0, (document, errors)


def test_a_drive_through_faults_executes_feasible_set_points_only(bundle, tmp_path):
    words = ["--seeds", 1, "--epochs", 60, "--settle", 5, "--speed", 0, "--draws", 2, "--json"]
    words += ["--faults", "nan@20-25,stale@25-30,shape@30-35,drift@35-40"]
    with serving(bundle.folder, tmp_path) as daemon:
        _, document, errors = command("drive", NAME, bundle.folder, *words, "--url", daemon.url)
    assert document is not None, errors
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["infeasible executed actions"]["measured"] == 0
    assert rows["before: actions equal to those in process"]["measured"] == 1.0
    assert rows["before: cost, driven"]["unit"] == "1"
    assert 0.0 < rows["outage: share decided by baseline"]["measured"] < 1.0
