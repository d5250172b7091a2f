"""Event calendar: SimPy used as an event list with callbacks, no process per item, no polling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


class Timer(Wake):
    """The one event of a numbered actor, scheduled again and again.

    Its callback restores ``callbacks`` from ``again``.
    """

    __slots__ = ("actor", "again")

    def __init__(self, actor: int, again: list[Callable[[Any], None]]):
        super().__init__(again)
        self.actor, self.again = actor, again


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
