"""The audit's writer: batches, flushes, full queues, failing disks."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from audit_doubles import CountingMeter, make_entry, make_writer, same

from fairlead.platform.audit import stream as stream_module
from fairlead.platform.audit.codec import Event, Recorded
from fairlead.platform.audit.reader import Log
from fairlead.platform.audit.writer import Context
from fairlead.platform.daemon.interface import AuditStopped
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.files import UserError

SECONDS = 10.0


def read(folder, domain="toy"):
    log = Log(folder, domain)
    lines = list(log.lines())
    assert log.faults == []
    return lines


def ids(folder):
    return [line.record.entry.id for line in read(folder) if isinstance(line.record, Recorded)]


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_is_recorded_is_on_disk_after_a_flush(tmp_path):
    meter = CountingMeter()
    writer = make_writer(tmp_path, meter)
    entries = [make_entry(index) for index in range(20)]
    for entry in entries:
        writer.record(entry)
    writer.event("promote", "toy", {"to": "abc"})
    writer.event("start", "", {})
    assert writer.flush(SECONDS)
    lines = read(tmp_path)
    assert all(same(a.record.entry, b) for a, b in zip(lines, entries, strict=False))
    assert lines[-1].record.kind == "promote" and len(lines) == 21
    assert [line.record.kind for line in read(tmp_path, "daemon")] == ["start"]
    assert meter.counts["audit_records_total"] == 22
    assert abs(meter.gauges["audit_last_fsync_timestamp_seconds"] - time.time()) < SECONDS
    head = writer.head("toy")
    assert (head.segment, head.records) == (1, 22)
    assert writer.healthy and writer.close(SECONDS)


def test_it_is_flushed_in_time_without_being_asked(tmp_path):
    meter = CountingMeter()
    writer = make_writer(tmp_path, meter, fsync=0.1)
    began = time.monotonic()
    writer.record(make_entry(0))
    until(lambda: meter.counts["audit_records_total"] == 1)
    assert time.monotonic() - began < 2.0
    writer.close(SECONDS)


def test_the_flush_gauge_moves_on_while_nothing_happens(tmp_path):
    """Its age is an alarm: an idle, healthy audit must not look like a stuck one."""
    meter = CountingMeter()
    writer = make_writer(tmp_path, meter, fsync=0.1)
    gauge = "audit_last_fsync_timestamp_seconds"
    until(lambda: gauge in meter.gauges)
    first = meter.gauges[gauge]
    until(lambda: meter.gauges[gauge] > first)
    writer.close(SECONDS)


def test_self_tests_are_not_recorded(tmp_path):
    writer = make_writer(tmp_path)
    writer.record(replace(make_entry(0), probe=True))
    writer.record(make_entry(1))
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-1"]


def test_samples_are_full_and_so_are_all_interventions(tmp_path):
    writer = make_writer(tmp_path, sample=0.25)
    for index in range(400):
        writer.record(make_entry(index, rows=2, outcome="fallback" if index % 40 == 0 else "ok"))
    assert writer.close(SECONDS)
    lines = read(tmp_path)
    assert len(lines) == 400
    full = {line.record.entry.id for line in lines if line.record.full}
    assert {f"toy-0123abcd-{index}" for index in range(0, 400, 40)} <= full
    assert 60 < len(full) < 150
    projected = make_entry(900)
    cause = projected.decision.cause.copy()
    cause[0] = 11
    writer = make_writer(tmp_path / "p", sample=0.0)
    writer.record(replace(projected, decision=replace(projected.decision, cause=cause)))
    writer.close(SECONDS)
    assert [line.record.full for line in read(tmp_path / "p")] == [True]


def test_a_flood_is_recorded_in_full_only_at_its_rate_and_interventions_always(tmp_path):
    """Ten seconds' worth at once, then so many per second of the decisions' own clock."""
    writer = make_writer(tmp_path, full_rate=2.0)
    first = make_entry(0, rows=2)

    def at(index, seconds, outcome="ok"):
        made = make_entry(index, rows=2, outcome=outcome)
        return replace(made, clock=replace(first.clock, mono=first.clock.mono + seconds))

    for index in range(50):
        writer.record(at(index, 0.0, "fallback" if index == 40 else "ok"))
    for index in range(50, 60):
        writer.record(at(index, 1.5))  # three more since
    writer.record(at(60, 0.5))  # a clock that stands or goes back allows nothing
    assert writer.close(SECONDS)
    records = [line.record for line in read(tmp_path)]
    full = [n for n, record in enumerate(records) if record.full]
    assert full == [*range(20), 40, 50, 51, 52] and len(records) == 61
    assert {record.brief for record in records if not record.full} == {"rate"}
    assert {record.brief for record in records if record.full} == {""}


def test_segments_rotate_at_their_size_and_old_ones_go(tmp_path):
    writer = make_writer(tmp_path, segment=1, keep=2)
    for index in range(40):
        writer.record(make_entry(index, rows=200, choices=9, extra=10))  # about 0.1 MB
    assert writer.close(SECONDS)
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.log"))]
    assert 2 <= len(sizes) <= 3 and all(size < 1.3 * 2**20 for size in sizes)
    assert ids(tmp_path)[-1] == "toy-0123abcd-39"


def test_changed_knobs_begin_a_new_segment_and_the_same_ones_do_not(tmp_path):
    writer = make_writer(tmp_path)
    slow = SlotSettings(deadline=0.5)
    for index, slot in enumerate((SlotSettings(), SlotSettings(), slow, slow)):
        writer.describe("toy", Context(slot=slot, config="f00"))
        writer.record(make_entry(index))
    assert writer.close(SECONDS)
    lines = read(tmp_path)
    assert [line.segment for line in lines] == [1, 1, 2, 2]
    deadlines = [line.header.context["slot"]["deadline"] for line in lines]
    assert deadlines == [0.05, 0.05, 0.5, 0.5]


def test_a_domain_that_was_not_described_is_a_programming_error(tmp_path):
    writer = make_writer(tmp_path)
    with pytest.raises(KeyError, match="describe"):
        writer.record(make_entry(0, domain="other"))
    with pytest.raises(KeyError, match="describe"):
        writer.event("load", "other", {})
    writer.close(SECONDS)


def test_a_record_that_cannot_be_encoded_is_counted_and_the_others_are_kept(tmp_path, caplog):
    meter = CountingMeter()
    writer = make_writer(tmp_path, meter)
    bad = make_entry(1)
    bad = replace(bad, decision=replace(bad.decision, actions=bad.decision.actions.astype(complex)))
    for entry in (make_entry(0), bad, make_entry(2)):
        writer.record(entry)
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-0", "toy-0123abcd-2"]
    assert meter.counts["audit_write_errors_total"] == meter.counts["audit_dropped_total"] == 1
    assert "toy-0123abcd-1 cannot be recorded" in caplog.text


class Stalled:
    """Makes fsync wait until it is told to go on."""

    def __init__(self, monkeypatch):
        self.go, self.reached = threading.Event(), threading.Event()
        real = os.fsync

        def fsync(file):
            self.reached.set()
            assert self.go.wait(SECONDS)
            real(file)

        monkeypatch.setattr(stream_module.os, "fsync", fsync)


def test_a_full_queue_drops_counts_and_leaves_a_gap_record(tmp_path, monkeypatch, caplog):
    meter = CountingMeter()
    stalled = Stalled(monkeypatch)
    writer = make_writer(tmp_path, meter, queue=16)
    writer.record(make_entry(0))
    assert stalled.reached.wait(SECONDS)
    began = time.monotonic()
    for index in range(1, 31):
        writer.record(make_entry(index))
    assert time.monotonic() - began < 0.5  # deciding never waits for the disk
    assert meter.counts["audit_dropped_total"] == 14
    assert not writer.flush(0.05)
    stalled.go.set()
    assert writer.close(SECONDS)
    assert ids(tmp_path) == [f"toy-0123abcd-{index}" for index in range(17)]
    gaps = [line.record for line in read(tmp_path) if isinstance(line.record, Event)]
    assert [(gap.kind, gap.detail) for gap in gaps] == [("audit-gap", {"dropped": 14})]
    assert "records of toy are lost" in caplog.text


def test_with_on_error_stop_a_full_queue_refuses_decisions(tmp_path, monkeypatch):
    stalled = Stalled(monkeypatch)
    writer = make_writer(tmp_path, queue=16, on_error="stop")
    writer.record(make_entry(0))
    assert stalled.reached.wait(SECONDS)
    for index in range(1, 17):
        writer.record(make_entry(index))
    with pytest.raises(AuditStopped, match="keep up"):
        writer.record(make_entry(17))
    stalled.go.set()
    assert writer.close(SECONDS)


class Broken:
    """Makes one system call fail while ``on``."""

    def __init__(self, monkeypatch, call, code):
        self.on = False
        real = getattr(os, call)

        def replacement(*arguments):
            if self.on:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        monkeypatch.setattr(stream_module.os, call, replacement)


@pytest.mark.parametrize(
    ("call", "code"),
    [("fsync", errno.EIO), ("writev", errno.ENOSPC), ("writev", errno.EIO), ("open", errno.EMFILE)],
)
def test_a_failing_disk_is_told_at_once_and_its_records_are_written_again(
    tmp_path, monkeypatch, call, code, caplog
):
    meter = CountingMeter()
    broken = Broken(monkeypatch, call, code)
    writer = make_writer(tmp_path, meter, fsync=0.05, segment=1)
    for index in range(3):
        writer.record(make_entry(index))
    assert writer.flush(SECONDS)
    durable = meter.counts["audit_records_total"]
    assert durable == 3
    broken.on = True
    if call == "open":  # reached when the next segment begins
        writer.describe("toy", Context(slot=SlotSettings(deadline=0.7)))
    writer.record(make_entry(3))
    until(lambda: not writer.healthy)
    assert not writer.flush(1.0)
    assert meter.counts["audit_records_total"] == durable  # nothing is claimed to be on disk
    assert meter.counts["audit_write_errors_total"] >= 1
    assert writer.head("toy").records == 4
    writer.record(make_entry(4))
    broken.on = False
    until(lambda: writer.healthy)
    assert writer.close(SECONDS)
    assert ids(tmp_path) == [f"toy-0123abcd-{index}" for index in range(5)]
    assert "cannot be written" in caplog.text and "written again" in caplog.text
    assert meter.counts["audit_dropped_total"] == 0
    # The segment of the failure was left for good: its name never appears again.
    assert max(line.segment for line in read(tmp_path)) > 1


def test_with_on_error_stop_decisions_are_refused_while_the_disk_fails(tmp_path, monkeypatch):
    broken = Broken(monkeypatch, "fsync", errno.EIO)
    writer = make_writer(tmp_path, on_error="stop", fsync=0.05)
    broken.on = True
    writer.record(make_entry(0))
    until(lambda: not writer.healthy)
    with pytest.raises(AuditStopped, match="Input/output error"):
        writer.record(make_entry(1))
    broken.on = False
    until(lambda: writer.healthy)
    writer.record(make_entry(2))
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-0", "toy-0123abcd-2"]


def test_a_failing_start_of_the_very_first_segment_is_survived(tmp_path, monkeypatch):
    broken = Broken(monkeypatch, "fsync", errno.EIO)
    broken.on = True
    writer = make_writer(tmp_path, fsync=0.05)
    writer.record(make_entry(0))
    until(lambda: not writer.healthy)
    broken.on = False
    assert not writer.flush(0.0)
    until(lambda: writer.healthy)
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-0"]


def test_the_device_that_is_always_full(tmp_path, monkeypatch):
    """ENOSPC from the kernel itself: every segment opened is /dev/full."""
    real = os.open

    def opened(path, flags, mode=0o777):
        full = str(path).endswith(".log")
        return real("/dev/full", os.O_WRONLY) if full else real(path, flags, mode)

    meter = CountingMeter()
    writer = make_writer(tmp_path, meter, queue=16, fsync=0.05)
    monkeypatch.setattr(stream_module.os, "open", opened)
    writer.record(make_entry(0))
    until(lambda: not writer.healthy)
    for index in range(1, 60):
        writer.record(make_entry(index))
    assert meter.counts["audit_records_total"] == 0
    assert meter.counts["audit_dropped_total"] > 0
    assert not writer.flush(1.0)
    writer.close(1.0)


def test_hundreds_of_entries_a_second_cost_the_caller_microseconds(tmp_path):
    writer = make_writer(tmp_path, queue=4096)
    entries = [make_entry(index, rows=200, choices=9, extra=5) for index in range(100)]
    spent = []
    for entry in entries:
        began = time.perf_counter()
        writer.record(entry)
        spent.append(time.perf_counter() - began)
        time.sleep(0.001)
    assert sorted(spent)[50] < 50e-6  # measured: about 1 microsecond
    assert writer.close(SECONDS)
    assert len(ids(tmp_path)) == 100


def test_two_writers_never_share_a_folder(tmp_path):
    writer = make_writer(tmp_path)
    with pytest.raises(UserError, match="in use by another daemon"):
        make_writer(tmp_path)
    assert writer.close(SECONDS)
    assert make_writer(tmp_path).close(SECONDS)


def test_what_comes_after_the_last_flush_is_still_written_at_the_end(tmp_path, monkeypatch):
    writer = make_writer(tmp_path, fsync=30.0)
    flush = writer.flush

    def late(timeout):
        done = flush(timeout)
        writer.record(make_entry(1))
        return done

    monkeypatch.setattr(writer, "flush", late)
    writer.record(make_entry(0))
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-0", "toy-0123abcd-1"]


def test_a_segment_that_cannot_be_read_at_the_start_is_an_alarm_not_a_crash(tmp_path, caplog):
    (tmp_path / "toy-000003.log").mkdir()  # whoever did this
    writer = make_writer(tmp_path, fsync=0.05)
    writer.record(make_entry(0))
    until(lambda: not writer.healthy)
    (tmp_path / "toy-000003.log").rmdir()
    until(lambda: writer.healthy)
    assert writer.close(SECONDS)
    assert ids(tmp_path) == ["toy-0123abcd-0"]
    assert "cannot be written" in caplog.text


def test_old_segments_that_cannot_be_deleted_do_not_stop_the_audit(tmp_path, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(errno.EPERM, "not now", str(path))

    writer = make_writer(tmp_path, segment=1, keep=1)
    monkeypatch.setattr(stream_module.Path, "unlink", refuse)
    for index in range(40):
        writer.record(make_entry(index, rows=200, choices=9, extra=10))
    assert writer.close(SECONDS)
    assert len(ids(tmp_path)) == 40
    assert "cannot be deleted" in caplog.text


def test_a_new_segment_that_fails_leaves_the_old_one_whole(tmp_path, monkeypatch):
    """And it does not cover up what was found damaged there."""
    writer = make_writer(tmp_path)
    writer.record(make_entry(0))
    writer.close(SECONDS)
    path = next(tmp_path.glob("*.log"))
    path.write_bytes(path.read_bytes() + b"rubbish that is long enough to be a whole frame head")
    broken = Broken(monkeypatch, "fsync", errno.EIO)
    broken.on = True
    writer = make_writer(tmp_path, fsync=0.05)
    writer.record(make_entry(1))
    until(lambda: not writer.healthy)
    broken.on = False
    until(lambda: writer.healthy)
    assert writer.close(SECONDS)
    log = Log(tmp_path, "toy")
    assert len(list(log.lines())) == 2
    assert len(log.faults) == 1 and "was damaged" in log.faults[0]


def test_a_system_that_writes_little_at_a_time_loses_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)

    def writev(file, parts):
        whole = b"".join(parts)
        return os.write(file, whole[: int(rng.integers(1, len(whole) + 1))])

    monkeypatch.setattr(stream_module.os, "writev", writev)
    writer = make_writer(tmp_path, segment=1)
    for index in range(30):
        writer.record(make_entry(index, rows=60, choices=9, extra=10))
    assert writer.close(SECONDS)
    assert ids(tmp_path) == [f"toy-0123abcd-{index}" for index in range(30)]
