"""The audit and the state file of a running daemon: killed, restarted, replayed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
from daemon_process import running
from serving import make_bundle, observations

from fairlead.platform.audit.codec import Event, Recorded
from fairlead.platform.audit.reader import Log
from fairlead.platform.client import Client

CODE = "import sys; from fairlead.platform.cli.main import main; main(sys.argv[1:])"


def replay(state):
    command = [sys.executable, "-c", CODE, "replay", str(state), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    rows = {row["name"]: row["measured"] for row in document["rows"]}
    return done.returncode, document, rows


def ask(daemon, seqs, *, episode="e"):
    with Client(daemon.url, "cloud", timeout=5.0) as client:
        return [client.decide(observations()[seq % 12], seq=seq, episode=episode) for seq in seqs]


def test_what_a_daemon_decided_is_replayed_identically_over_a_kill_and_a_restart(tmp_path):
    make_bundle(tmp_path / "bundle")
    make_bundle(tmp_path / "next", seed=2)
    with running(tmp_path / "bundle", tmp_path, ["audit.fsync=0.1"]) as daemon:
        ask(daemon, range(20))
        assert daemon.act("cloud", "fallback")[0] == 200
        ask(daemon, range(20, 30))
        assert daemon.act("cloud", "resume")[0] == 200
        last = ask(daemon, range(30, 40))[-1]
        time.sleep(1.5)  # audit.fsync and state.save_every
        daemon.stop(number=signal.SIGKILL)
    with running(None, tmp_path) as daemon:
        ask(daemon, range(40, 60))
        assert daemon.stop() == 0
    code, document, rows = replay(tmp_path / "state")
    assert (code, document["identical"]) == (0, True), document
    assert rows["decisions identical"] == 60
    lines = list(Log(tmp_path / "state" / "audit", "cloud").lines())
    entries = [line.record.entry for line in lines if isinstance(line.record, Recorded)]
    kinds = [line.record.kind for line in lines if isinstance(line.record, Event)]
    assert {"fallback", "resume"} <= set(kinds)
    forced = [9 in entry.decision.cause for entry in entries]
    assert forced == [20 <= index < 30 for index in range(60)]
    # The restarted daemon went on where the killed one stopped.
    assert len({line.header.boot for line in lines}) == 2
    assert np.array_equal(entries[40].before.last, last.actions)
    assert [entry.before.ticks for entry in entries] == list(range(60))
