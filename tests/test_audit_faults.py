"""The audit and the state file under real faults: SIGKILL, a full file system, failing flushes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from audit_doubles import CountingMeter, make_entry, make_writer

from fairlead.platform.audit.codec import Recorded
from fairlead.platform.audit.reader import Log

TESTS = Path(__file__).parent

KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from audit_doubles import make_entry, make_writer
from fairlead.platform.audit.codec import Recorded
from fairlead.platform.audit.reader import Log
from fairlead.platform.audit.state_file import StateFile
from fairlead.platform.decision.types import Clock, State

def child(folder, trial, acknowledge):
    writer = make_writer(folder / "audit", fsync=0.02, segment=1, keep=3)
    state, index = StateFile(folder / "state.json"), 0
    while True:
        for _ in range(5):
            size = 1 + 40 * (index % 7)
            writer.record(make_entry(index, rows=size, boot=f"{trial:08x}"))
            index += 1
        if index % 3 == 0:
            state.save({"toy": State(ticks=trial * 10**6 + index)}, Clock(0.0, 0.0))
        if writer.flush(5.0):
            os.write(acknowledge, index.to_bytes(4, "little"))

folder, trials = Path(sys.argv[1]), int(sys.argv[2])
rng = random.Random(4)
failures, acknowledged, torn, states = [], 0, 0, 0
for trial in range(trials):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(folder, trial, writing)
        finally:
            os._exit(1)
    os.close(writing)
    # Every other one in the middle of its first steps, the others in full swing.
    marks = os.read(reading, 4) if trial % 2 else b""
    time.sleep(rng.uniform(0.01, 0.1))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    with os.fdopen(reading, "rb") as stream:
        marks += stream.read()
    kept = int.from_bytes(marks[-4:], "little") if marks else 0
    acknowledged += kept
    if not (folder / "audit").exists():
        continue
    log = Log(folder / "audit", "toy")
    mine = f"toy-{trial:08x}-"
    found = [l.record.entry.id for l in log.lines() if isinstance(l.record, Recorded)]
    found = [int(name.rpartition("-")[2]) for name in found if name.startswith(mine)]
    if log.faults or found != list(range(len(found))) or len(found) < kept:
        failures.append([trial, kept, len(found), log.faults])
    torn = max(torn, sum("torn" in note for note in log.notes))
    loaded = StateFile(folder / "state.json").load(Clock(0.0, 0.0))
    states += bool(loaded.states)
    if loaded.warning or any(folder.glob(".state.json.*")):
        failures.append([trial, loaded.warning])
print(json.dumps([failures, acknowledged, torn, states]))
"""


def python(script, *arguments, prefix=()):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [*prefix, sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.mark.parametrize("trials", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_writing(tmp_path, trials):
    """What was acknowledged is there, the chain holds over all runs, the state file loads."""
    done = python(KILLED, tmp_path, trials)
    assert done.returncode == 0, done.stderr
    failures, acknowledged, _, states = json.loads(done.stdout)
    assert failures == []
    # The trials did reach what they are about.
    assert acknowledged >= 2.5 * trials and states >= trials / 3


FLUSHING = """
import json, sys
from audit_doubles import CountingMeter, make_entry, make_writer
meter = CountingMeter()
writer = make_writer(sys.argv[1], meter, fsync=30.0)
good = []
for index in range(5):
    writer.record(make_entry(index))
    first = writer.flush(5.0)
    good.append([first, first or writer.flush(5.0)])
healthy = writer.healthy
closed = writer.close(5.0)
print(json.dumps([good, closed, healthy, meter.counts]))
"""


def traced(tmp_path, when):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    inject = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=fsync", "-e"]
    prefix = [*inject, f"inject=fsync:error=EIO:when={when}"]
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    done = python(FLUSHING, tmp_path / "audit", prefix=prefix)
    assert done.returncode == 0, done.stderr
    assert "INJECTED" in (tmp_path / "trace").read_text()
    return json.loads(done.stdout)


# The first segment is flushed, then its folder (1, 2), then each of five flushes (3..7).
@pytest.mark.parametrize(("when", "refused"), [(1, 0), (2, 0), (3, 0), (5, 2)])
def test_one_failed_flush_is_told_and_the_records_go_to_a_new_segment(tmp_path, when, refused):
    good, closed, healthy, counts = traced(tmp_path, when)
    assert [pair[0] for pair in good] == [index != refused for index in range(5)]
    assert all(pair[1] for pair in good) and closed and healthy
    assert counts["audit_write_errors_total"] == 1
    assert counts["audit_records_total"] == 5
    log = Log(tmp_path / "audit", "toy")
    found = [line.record.entry.id for line in log.lines()]
    assert found == [f"toy-0123abcd-{index}" for index in range(5)]
    assert log.faults == [] and log.segments == (2 if when == 5 else 1) + (when == 3)


def test_a_disk_that_never_flushes_is_never_called_durable(tmp_path):
    good, closed, healthy, counts = traced(tmp_path, "1+")
    assert good == [[False, False]] * 5
    assert not closed and not healthy
    assert counts.get("audit_records_total", 0) == 0


def test_a_full_file_system_is_told_and_once_there_is_room_nothing_is_missing(tmp_path):
    room = tmp_path / "small"
    room.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(room)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights")
    try:
        _fill_and_free(room)
    finally:
        subprocess.run(["umount", "-l", str(room)], check=True)


def _fill_and_free(room):
    filler = room / "filler"
    filler.write_bytes(b"x" * 600_000)
    meter = CountingMeter()
    writer = make_writer(room / "audit", meter, queue=64, fsync=0.05)
    index, deadline = 0, time.monotonic() + 20
    while writer.healthy:
        assert time.monotonic() < deadline
        writer.record(make_entry(index, rows=50, choices=9))
        index += 1
        time.sleep(0.002)
    errors, written = meter.counts["audit_write_errors_total"], meter.counts["audit_records_total"]
    assert errors >= 1 and 0 < written < index
    assert not writer.flush(1.0)
    log = Log(room / "audit", "toy")
    on_disk = sum(isinstance(line.record, Recorded) for line in log.lines())
    assert on_disk >= written and log.faults == []  # what was claimed is there
    filler.unlink()
    deadline = time.monotonic() + 20
    while not writer.healthy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert writer.close(10.0)
    log = Log(room / "audit", "toy")
    found = [line.record.entry.id for line in log.lines() if isinstance(line.record, Recorded)]
    assert found == [f"toy-0123abcd-{number}" for number in range(index)]
    assert log.faults == [] and meter.counts["audit_dropped_total"] == 0
