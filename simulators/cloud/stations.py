"""Service stations: processor sharing in virtual time, and first come first served.

Processor sharing runs in *virtual time*: ``dV/dt = 1 / n`` while ``n`` jobs share the station, and
a job that arrives at virtual time V with full-speed service time tau leaves when the clock V
reaches ``V + tau``; the order of departures never changes, whoever arrives in between. An arrival
delays all departures, so the pending event is left alone and re-armed only when it fires too early
(lazy timer). The timer's due time is recomputed whenever n changes and compared exactly: no
tolerance, no drift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any

from ..calendar import Wake
from .kernel import Seat


class ProcessorSharing(Wake):
    """One server shared equally by all jobs present (egalitarian PS)."""

    __slots__ = (
        "_armed",
        "_busy",
        "_calendar",
        "_callbacks",
        "_counts",
        "_due",
        "_finished",
        "_index",
        "_jobs",
        "_next_serial",
        "_schedule",
        "_since",
        "_updated",
        "_virtual",
    )

    def __init__(self, seat: Seat):
        self._index = seat.index
        self._calendar = seat.calendar
        self._schedule = seat.calendar.at
        self._counts = seat.counts
        self._finished = seat.finished
        self._next_serial = seat.serial.__next__
        self._callbacks: list[Callable[[Any], None]] = [self._fire]
        super().__init__(self._callbacks)
        self._jobs: list[tuple[float, int, Any]] = []
        self._virtual = 0.0
        self._updated = 0.0
        self._due = inf
        self._armed = inf
        self._busy = 0.0
        self._since = 0.0

    def admit(self, job: Any, service: float) -> None:
        """Take ``job`` now; it needs ``service`` seconds at full speed."""
        calendar = self._calendar
        now = calendar._now  # pyright: ignore[reportPrivateUsage]
        jobs = self._jobs
        count = len(jobs)
        if count:
            virtual = self._virtual + (now - self._updated) / count
        else:
            # Restarting V in every busy period keeps its rounding error bounded.
            virtual = 0.0
            self._since = now
        self._virtual = virtual
        self._updated = now
        heappush(jobs, (virtual + service, self._next_serial(), job))
        count += 1
        self._counts[self._index] = count
        due = now + (jobs[0][0] - virtual) * count
        self._due = due
        if due < self._armed:
            self._armed = due
            self._schedule(due, self)

    def _fire(self, _event: Any) -> None:
        self.callbacks = self._callbacks
        calendar = self._calendar
        now = calendar._now  # pyright: ignore[reportPrivateUsage]
        if now != self._armed:
            return  # overtaken by an earlier departure, or the station was emptied
        due = self._due
        if due > now:
            # Jobs that came in between delayed the departure.
            self._armed = due
            self._schedule(due, self)
            return
        jobs = self._jobs
        virtual, _, job = heappop(jobs)
        self._virtual = virtual
        self._updated = now
        count = len(jobs)
        self._counts[self._index] = count
        if count:
            due = now + (jobs[0][0] - virtual) * count
            self._due = due
            self._armed = due
            self._schedule(due, self)
        else:
            self._due = inf
            self._armed = inf
            self._busy += now - self._since
        job.finish = now
        self._finished.append(job)

    def present(self) -> list[Any]:
        """Jobs on the station (no particular order)."""
        return [entry[2] for entry in self._jobs]

    def marks(self) -> tuple[list[float], float]:
        """Clock readings at which the jobs present would leave, and the clock now.

        Their differences are the remaining full-speed service times; the clock is virtual time.
        """
        jobs = self._jobs
        if not jobs:
            return [], 0.0
        virtual = self._virtual + (self._calendar.now - self._updated) / len(jobs)
        return [entry[0] for entry in jobs], virtual

    def remaining(self) -> list[float]:
        """Remaining full-speed service time of every job present, s (no particular order)."""
        marks, clock = self.marks()
        return [max(mark - clock, 0.0) for mark in marks]

    def busy_time(self) -> float:
        """Seconds during which the station has served at least one job."""
        return self._busy + (self._calendar.now - self._since if self._jobs else 0.0)

    def evict(self) -> list[tuple[Any, float]]:
        """Empty the station (failure): its jobs and their remaining full-speed service times."""
        left = self.remaining()
        self._busy = self.busy_time()
        gone = [(entry[2], rest) for entry, rest in zip(self._jobs, left, strict=True)]
        self._jobs.clear()
        self._counts[self._index] = 0
        self._due = self._armed = inf
        return gone


class FirstComeFirstServed(Wake):
    """``servers`` identical servers in front of one queue, first come first served."""

    __slots__ = (
        "_armed",
        "_busy",
        "_calendar",
        "_callbacks",
        "_counts",
        "_finished",
        "_index",
        "_running",
        "_next_serial",
        "_servers",
        "_since",
        "_waiting",
    )

    def __init__(self, seat: Seat, *, servers: int = 1):
        self._index = seat.index
        self._calendar = seat.calendar
        self._counts = seat.counts
        self._finished = seat.finished
        self._next_serial = seat.serial.__next__
        self._servers = servers
        self._callbacks: list[Callable[[Any], None]] = [self._fire]
        super().__init__(self._callbacks)
        self._running: list[tuple[float, int, Any]] = []
        self._waiting: deque[tuple[Any, float]] = deque()
        self._armed = inf
        self._busy = 0.0
        self._since = 0.0

    def admit(self, job: Any, service: float) -> None:
        """Take ``job`` now; it needs ``service`` seconds of one server."""
        calendar = self._calendar
        now = calendar._now  # pyright: ignore[reportPrivateUsage]
        running = self._running
        count = len(running)
        self._counts[self._index] += 1
        if count == self._servers:
            self._waiting.append((job, service))
            return
        self._busy += count * (now - self._since)
        self._since = now
        due = now + service
        heappush(running, (due, self._next_serial(), job))
        if due < self._armed:
            self._armed = due
            calendar.at(due, self)

    def _fire(self, _event: Any) -> None:
        self.callbacks = self._callbacks
        calendar = self._calendar
        now = calendar._now  # pyright: ignore[reportPrivateUsage]
        if now != self._armed:
            return
        running = self._running
        self._busy += len(running) * (now - self._since)
        self._since = now
        _, _, job = heappop(running)
        self._counts[self._index] -= 1
        if self._waiting:
            waiting, service = self._waiting.popleft()
            heappush(running, (now + service, self._next_serial(), waiting))
        if running:
            due = running[0][0]
            self._armed = due
            calendar.at(due, self)
        else:
            self._armed = inf
        job.finish = now
        self._finished.append(job)

    def present(self) -> list[Any]:
        """Jobs on the station, running ones first."""
        return [entry[2] for entry in self._running] + [job for job, _ in self._waiting]

    def marks(self) -> tuple[list[float], float]:
        """As ``ProcessorSharing.marks``; the clock is real time."""
        now = self._calendar.now
        marks = [entry[0] for entry in self._running]
        marks.extend(now + service for _, service in self._waiting)
        return marks, now

    def remaining(self) -> list[float]:
        """Remaining full-speed service time of every job present, s (running ones first)."""
        now = self._calendar.now
        left = [max(entry[0] - now, 0.0) for entry in self._running]
        left.extend(service for _, service in self._waiting)
        return left

    def busy_time(self) -> float:
        """Mean seconds of service that a server of the station has given."""
        busy = self._busy + len(self._running) * (self._calendar.now - self._since)
        return busy / self._servers

    def evict(self) -> list[tuple[Any, float]]:
        """Empty the station (failure): its jobs and their remaining full-speed service times."""
        now = self._calendar.now
        self._busy = self.busy_time() * self._servers
        self._since = now
        gone = [(job, max(due - now, 0.0)) for due, _, job in self._running]
        gone.extend(self._waiting)
        self._running.clear()
        self._waiting.clear()
        self._counts[self._index] = 0
        self._armed = inf
        return gone
