"""Event calendar and jobs: SimPy used as an event list with callbacks.

No process per job and no polling. A station has at most one *valid* event in the calendar, its
next departure, so an arrival or departure costs O(log n) in the jobs of that station and in the
stations of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

import simpy


class Wake:
    """The lightest event that a SimPy environment accepts: callbacks, no value, never fails.

    A subclass may be scheduled again and again, also while an older entry of it is still in the
    calendar, if its callback restores ``callbacks`` (the environment clears the attribute when it
    takes the event). This spares an allocation per event.
    """

    __slots__ = ("callbacks",)
    _ok = True

    def __init__(self, callbacks: list[Callable[[Any], None]]):
        self.callbacks: list[Callable[[Any], None]] | None = callbacks


def _absolute(queue: list[Any], serial: Iterator[int]) -> Callable[[float, Wake], None]:
    """``at(time, event)``: schedule at an absolute time, without rounding through a delay."""
    following = serial.__next__

    def at(time: float, event: Wake) -> None:
        heappush(queue, (time, 1, following(), event))

    return at


class Calendar(simpy.Environment):
    """A SimPy environment that also schedules at absolute times and runs to a time quickly.

    SimPy processes and events work in it as usual.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at = _absolute(self._queue, self._eid)

    def run_until(self, time: float) -> None:
        """Process every event up to and including ``time`` and set the clock to ``time``.

        Raises:
            Exception: whatever an event failed with, as ``simpy.Environment.step`` does.
        """
        queue: list[Any] = self._queue
        pop = heappop
        while queue and queue[0][0] <= time:
            self._now, _, _, event = pop(queue)
            callbacks = event.callbacks
            event.callbacks = None
            for callback in callbacks:
                callback(event)
            if not event._ok and not hasattr(event, "_defused"):
                raise event._value
        if time > self._now and time != inf:
            self._now = time


class Job:
    """A job in the system; lives from its arrival until its completion record is taken.

    Attributes:
        owner: dispatcher that it belongs to.
        kind: index of its class.
        size: work units.
        arrival: time of arrival at its dispatcher, s.
        services: full-speed service time on every node type, s.
        best: shortest entry of ``services`` among capable types, s.
        demand: row of the workload's demand table (0 where nodes are not exclusive).
        estimate: estimated over true size, all that its dispatcher knows of it.
        node, service: where it runs and its full-speed service time there.
        placed: time at which it was committed to its node.
        finish: time of completion.
        gpus: indices of the GPUs that it occupies (exclusive nodes).
    """

    __slots__ = (
        "arrival",
        "best",
        "demand",
        "estimate",
        "finish",
        "gpus",
        "kind",
        "node",
        "owner",
        "placed",
        "service",
        "services",
        "size",
    )

    def __init__(
        self,
        owner: int,
        kind: int,
        size: float,
        arrival: float,
        services: list[float],
        best: float,
        demand: int = 0,
        estimate: float = 1.0,
    ):
        self.owner = owner
        self.kind = kind
        self.size = size
        self.arrival = arrival
        self.services = services
        self.best = best
        self.demand = demand
        self.estimate = estimate
        self.node = -1
        self.service = 0.0
        self.placed = arrival
        self.finish = inf
        self.gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """What a station shares with its system.

    Attributes:
        index: the station's place in ``counts``.
        calendar: event list.
        counts: jobs present at every station; each keeps its own entry up to date.
        finished: where completed jobs are appended; a job is anything with a writable ``finish``.
        serial: numbers that break ties between equal times.
    """

    index: int
    calendar: Calendar
    counts: list[int]
    finished: list[Any]
    serial: Iterator[int]
