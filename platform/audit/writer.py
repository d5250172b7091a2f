"""The audit's writer: takes decisions from the hot path and puts them on disk from a thread.

``record`` only queues. The thread wakes up about twenty times per second, encodes and writes what
has come, and flushes it to disk at least every ``audit.fsync`` seconds. A process that is killed
loses what came in the last :data:`PAUSE`; a machine that loses power what came since the last
flush. The entries' arrays must not be changed after they were given.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..daemon.interface import AuditStopped, Entry, Meter
from ..daemon.settings import AuditSettings
from ..decision.settings import SlotSettings
from ..files import UserError, make_folder
from .codec import Event, Link, encode_entry, encode_event
from .segments import DAEMON, AuditError, segment_name
from .stream import Stream

PAUSE = 0.05
"""Longest rest of the thread between two batches, seconds."""

LOCK = ".lock"
_BATCH = 8 * 2**20
_CALM = 8
"""Waiting records below which large arrays are packed: packing takes ten times as long as the rest
of a record, so it is for streams of some dozens of decisions per second, not for bursts."""
_AHEAD = 10.0
"""Seconds' worth of ``audit.full_rate`` that may be used at once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """What replays must know besides the records; stands in the header of each segment.

    Attributes:
        slot: the knobs in force.
        config: hash of the daemon's whole configuration.
        bundles: digests by role when the segment was begun.
    """

    slot: SlotSettings = field(default_factory=SlotSettings)
    config: str = ""
    bundles: Mapping[str, str] = field(default_factory=dict[str, str])

    def header(self) -> Mapping[str, Any]:
        """JSON-able, with what numbers may depend on: numpy's version and the machine."""
        return {
            "slot": self.slot.model_dump(mode="json"),
            "config": self.config,
            "bundles": dict(self.bundles),
            "numpy": np.__version__,
            "machine": f"{platform.machine()} {platform.python_version()}",
        }


@dataclass(slots=True, eq=False)
class _Flush:
    """Asks the thread to flush all that came before it."""

    done: threading.Event = field(default_factory=threading.Event)
    good: bool = False


@dataclass(slots=True, eq=False)
class _Item:
    domain: str
    what: Entry | bytes | Context | _Flush


class _Allowance:
    """Token bucket of one domain's full records; time is that of the decisions."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = self._left = max(rate * _AHEAD, 1.0)
        self._seen = -np.inf

    def take(self, now: float) -> bool:
        """Whether one more record may be full at monotonic time ``now``."""
        if now > self._seen:
            self._left = min(self._most, self._left + self._rate * (now - self._seen))
            self._seen = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class AuditWriter:
    """Implements ``Recorder``.

    Args:
        folder: for the segments; is created.
        settings: see there.
        boot: id of this run of the daemon (8 hexadecimal digits).
        meter: counts records, bytes, errors and what was dropped.
        wall: seconds since 1970, for headers and events.

    Call :meth:`describe` for every domain before its first record, and :meth:`close` at the end.
    Records and bytes are counted when they are known to be on disk.

    Raises:
        UserError: nothing can be written into the folder, or another writer is at it.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        settings: AuditSettings,
        boot: str,
        meter: Meter,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = make_folder(folder)
        self._lock = _locked(self._folder)
        self._settings, self._boot, self._meter, self._wall = settings, boot, meter, wall
        self._queue: deque[_Item] = deque()
        self._wake = threading.Event()
        self._streams: dict[str, Stream] = {}
        self._described: dict[str, Context] = {DAEMON: Context()}
        self._failing = ""
        self._allowances: dict[str, _Allowance] = {}
        self._dropped: Counter[str] = Counter()  # by domain, since the last gap was recorded
        self._stop = False
        self._unsynced = 0
        self._noted = -np.inf
        self._oldest = 0.0  # monotonic time of the oldest batch that was not flushed
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether all that was written so far is on disk or on its way there."""
        return not self._failing and self._thread.is_alive()

    def describe(self, domain: str, context: Context) -> None:
        """Say what decisions of ``domain`` are made with; changed knobs begin a new segment."""
        segment_name(domain, 0)  # refuses what is no name
        self._described[domain] = context
        self._queue.append(_Item(domain, context))

    def record(self, entry: Entry) -> None:
        """Queue the entry; self-tests are not recorded.

        Raises:
            AuditStopped: ``on_error = stop`` and records cannot be written, or not fast enough.
            KeyError: :meth:`describe` was not called for the entry's domain.
        """
        if entry.probe:
            return
        if entry.domain not in self._described:
            raise KeyError(f"describe({entry.domain!r}, ...) must come before its first record")
        waiting = len(self._queue)
        full = waiting >= self._settings.queue
        if self._settings.on_error == "stop" and (full or not self.healthy):
            why = self._failing or "the disk does not keep up"
            raise AuditStopped(f"decisions are refused, because the audit cannot be written: {why}")
        if full:
            self._drop(entry.domain)
            return
        self._queue.append(_Item(entry.domain, entry))
        if waiting * 2 > self._settings.queue:
            self._wake.set()

    def event(self, kind: str, domain: str, detail: Mapping[str, Any]) -> None:
        """Queue an act; ``TypeError`` where ``detail`` is not JSON-able, ``KeyError`` as above."""
        if domain and domain not in self._described:
            raise KeyError(f"describe({domain!r}, ...) must come before its first event")
        payload = encode_event(Event(kind, domain, self._wall(), detail))
        self._queue.append(_Item(domain or DAEMON, payload))

    def flush(self, timeout: float) -> bool:
        """Write and flush what is queued; whether that worked in ``timeout`` seconds."""
        wanted = _Flush()
        self._queue.append(_Item("", wanted))
        self._wake.set()
        return wanted.done.wait(timeout) and wanted.good

    def close(self, timeout: float = 5.0) -> bool:
        """Flush and end the thread; whether all is on disk."""
        good = self.flush(timeout)
        self._stop = True
        self._wake.set()
        self._thread.join(timeout)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        return good

    def head(self, domain: str) -> Link:
        """The newest record of ``domain`` known to be on disk; keep it elsewhere as evidence."""
        return self._streams[domain].head if domain in self._streams else Link()

    def _run(self) -> None:
        pause = min(PAUSE, self._settings.fsync / 4)
        while True:
            self._wake.wait(min(self._settings.fsync, 1.0) if self._failing else pause)
            self._wake.clear()
            try:
                self._turn()
            except Exception:  # noqa: BLE001 (the audit must outlive a defect in one batch)
                _log.exception("a batch of the audit failed")
                self._failing = "a defect, see the log"
                self._meter.count("audit_write_errors_total")
            if self._stop:
                break
        self._write(sync=True)
        for stream in self._streams.values():
            stream.close()

    def _turn(self) -> None:
        """Take what is queued, write it, flush it if it is time."""
        if self._failing and not self._write(sync=True):
            self._refuse_flushes()
            return
        flush: _Flush | None = None
        while self._queue and flush is None:
            flush = self._take()
            if not self._write(sync=flush is not None):
                break
        self._write(sync=False)
        if flush is not None:
            flush.good = not self._failing
            flush.done.set()

    def _take(self) -> _Flush | None:
        """Move items from the queue to their streams, until enough for one write or a flush."""
        size = 0
        while self._queue and size < _BATCH:
            item = self._queue.popleft()
            if isinstance(item.what, _Flush):
                return item.what
            if isinstance(item.what, Context):
                if not self._change(item.domain, item.what):
                    self._queue.appendleft(item)
                    break
            else:
                size += self._accept(item.domain, item.what)
        return None

    def _change(self, domain: str, context: Context) -> bool:
        """Put a context into force; whether that worked."""
        stream, header = self._stream(domain), context.header()
        if stream.context.get("slot", header["slot"]) != header["slot"]:
            # What came before belongs under the old header.
            if not self._write(sync=True):
                return False
            stream.renew()
        stream.context = header
        return True

    def _accept(self, domain: str, what: Entry | bytes) -> int:
        """Encode; returns the number of bytes."""
        if isinstance(what, Entry):
            try:
                # In a burst the processor is needed elsewhere; the disk takes more then.
                pack = len(self._queue) < _CALM
                brief = self._brief(what)
                payload = encode_entry(what, full=not brief, pack=pack, brief=brief)
            except (ValueError, TypeError, AttributeError):
                _log.exception("entry %s cannot be recorded", what.id)
                self._meter.count("audit_write_errors_total")
                self._drop(domain)
                return 0
        else:
            payload = what
        self._stream(domain).pending.append(payload)
        if not self._unsynced:
            self._oldest = time.monotonic()
        self._unsynced += len(payload)
        return len(payload)

    def _write(self, *, sync: bool) -> bool:
        """Write what is pending and flush it if asked or due; whether that worked."""
        now = time.monotonic()
        aged = self._unsynced and now - self._oldest >= self._settings.fsync - 2 * PAUSE
        sync = sync or bool(aged) or self._unsynced >= _BATCH
        for domain, stream in self._streams.items():
            before = stream.records, stream.bytes
            try:
                stream.write(self._wall())
                if sync:
                    stream.sync()
            except (OSError, AuditError) as error:
                self._fail(domain, error)
                return False
            finally:
                self._meter.count("audit_records_total", stream.records - before[0])
                self._meter.count("audit_bytes_total", stream.bytes - before[1])
        if sync:
            self._unsynced = 0
        if not self._unsynced and (sync or now - self._noted >= self._settings.fsync):
            self._noted = now
            self._meter.set("audit_last_fsync_timestamp_seconds", self._wall())
        if sync and self._failing:
            _log.warning("the audit is written again; before, it could not be: %s", self._failing)
            self._failing = ""
        if not self._failing:
            self._note_gaps()
        return True

    def _fail(self, domain: str, error: OSError | AuditError) -> None:
        self._meter.count("audit_write_errors_total")
        if not self._failing:
            _log.error("the audit of %s cannot be written to %s: %s", domain, self._folder, error)
        why = error.strerror if isinstance(error, OSError) else None
        self._failing = f"{why or error} in {self._folder}"

    def _refuse_flushes(self) -> None:
        """Whoever waits for a flush learns at once that there is none."""
        for item in list(self._queue):
            if isinstance(item.what, _Flush):
                item.what.done.set()

    def _drop(self, domain: str) -> None:
        if not self._dropped[domain]:
            _log.error("records of %s are lost: the audit's queue is full or refused them", domain)
        self._dropped[domain] += 1
        self._meter.count("audit_dropped_total")

    def _note_gaps(self) -> None:
        """The log itself says where records are missing."""
        for domain in list(self._dropped):
            self.event("audit-gap", domain, {"dropped": self._dropped.pop(domain)})

    def _brief(self, entry: Entry) -> str:
        """Why the entry is recorded without its observation; empty: it is recorded in full.

        All interventions are, and of the others the share that is asked for, as far as the rate
        allows.
        """
        if entry.decision.outcome != "ok" or entry.decision.cause.any():
            return ""
        sample = self._settings.sample
        if sample < 1.0 and zlib.crc32(entry.id.encode()) >= sample * 2**32:
            return "sample"
        rate = self._settings.full_rate
        if not rate:
            return ""
        allowance = self._allowances.setdefault(entry.domain, _Allowance(rate))
        return "" if allowance.take(entry.clock.mono) else "rate"

    def _stream(self, domain: str) -> Stream:
        if domain not in self._streams:
            limit = self._settings.segment * 2**20
            keep = self._settings.keep
            stream = Stream(self._folder, domain, boot=self._boot, limit=limit, keep=keep)
            stream.context = self._described[DAEMON].header() if domain == DAEMON else {}
            self._streams[domain] = stream
        return self._streams[domain]


def _locked(folder: Path) -> int | None:
    """Descriptor of a lock that ends with the process: two writers would fork the chain."""
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise UserError(
            f"audit folder {folder} is in use by another daemon; give each its own state.folder"
        ) from error
    return file
