"""Admission: a bounded line before each slot, and a budget for each principal.

Decisions are made one after another in the event loop's thread. Between two of them the loop looks
at the network again, so that what cannot be served in time is refused at once instead of waiting in
a socket's buffer where nobody sees it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from .interface import Meter

PRINCIPALS = 1024
"""Budgets remembered; the one that asked least recently is dropped (and starts full again)."""


class Overloaded(Exception):  # noqa: N818
    """Refused before a decision.

    Attributes:
        reason: ``overload`` (the line is full or too slow) or ``quota`` (this principal's budget).
        after: seconds after which trying again makes sense.
    """

    def __init__(self, reason: str, message: str, after: float) -> None:
        super().__init__(message)
        self.reason, self.after = reason, after


class Line:
    """First come, first served; bounded in number and by what can be served in time.

    Args:
        domain: label of the metrics.
        meter: gets ``queue_length``, ``inflight_requests`` and ``queue_wait_seconds``.
        limit: requests that may wait.
        patience: seconds after receipt at which an answer would be too late.
    """

    def __init__(self, *, domain: str, meter: Meter, limit: int, patience: float) -> None:
        self.limit, self.patience = limit, patience
        self._domain, self._meter = domain, meter
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._busy = False
        self._inflight = 0
        self._service = 0.0  # moving mean of a turn's time
        self._shown = (0, 0)

    @property
    def waiting(self) -> int:
        """Requests in the line now."""
        return len(self._waiting)

    def turn(self, received: float, *, always: bool = False) -> _Turn:
        """Wait for one's turn and have it: ``async with line.turn(received): ...``.

        ``always`` is for self-tests: they wait like others but are never refused, or an overloaded
        daemon would look like a dead one and be restarted.

        Raises (on entering):
            Overloaded: the line is full, or waiting would take longer than an answer is of use.
        """
        return _Turn(self, received, always=always)

    async def take(self, received: float, *, always: bool) -> float:
        """Begin a turn; when it began. Every one that begins must be given to :meth:`end`."""
        if not always:
            self._admit(received)
        self._inflight += 1
        try:
            if self._busy or self._waiting:
                await self._wait()
        except BaseException:
            self._inflight -= 1
            self._show()
            raise
        self._busy = True
        began = time.monotonic()
        self._meter.observe("queue_wait_seconds", began - received, domain=self._domain)
        if began - received > self.patience and not always:
            self._leave()
            raise Overloaded("overload", "the deadline passed while waiting", self._service)
        return began

    def end(self, began: float) -> None:
        """Let the next one have its turn."""
        self._service += 0.1 * (time.monotonic() - began - self._service)
        self._leave()

    def _leave(self) -> None:
        self._pass_on()
        self._inflight -= 1
        self._show()

    def _admit(self, received: float) -> None:
        ahead = len(self._waiting) + self._busy
        expected = ahead * self._service
        if len(self._waiting) >= self.limit:
            raise Overloaded("overload", f"{self.limit} requests are waiting", expected)
        if time.monotonic() - received + expected > self.patience:
            raise Overloaded("overload", "an answer would come after its deadline", expected)

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._show()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()  # our turn had come; the next one must not be lost with us
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def _pass_on(self) -> None:
        # One round of the loop later: what arrived meanwhile is read, and judged by _admit, first.
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._busy = False

    def _show(self) -> None:
        now = (len(self._waiting), self._inflight)
        if now != self._shown:
            self._shown = now
            self._meter.set("queue_length", now[0], domain=self._domain)
            self._meter.set("inflight_requests", now[1], domain=self._domain)


class _Turn:
    """What ``async with`` needs; a generator would cost as much again as the turn itself."""

    __slots__ = ("_always", "_began", "_line", "_received")

    def __init__(self, line: Line, received: float, *, always: bool) -> None:
        self._line, self._received, self._always = line, received, always
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = await self._line.take(self._received, always=self._always)

    async def __aexit__(self, *error: object) -> None:
        self._line.end(self._began)


class Budgets:
    """A token bucket for each principal.

    Args:
        rate: decisions per second; 0: no limit.
        burst: decisions that may be saved up.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate, self.burst = rate, burst
        self._clock = clock
        self._level: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, principal: str) -> None:
        """Take one decision from the budget of ``principal``.

        Raises:
            Overloaded: nothing is left.
        """
        if self.rate <= 0.0:
            return
        now = self._clock()
        level, seen = self._level.pop(principal, (float(self.burst), now))
        level = min(float(self.burst), level + (now - seen) * self.rate)
        if level < 1.0:
            self._level[principal] = (level, now)
            raise Overloaded(
                "quota", f"more than {self.rate:g} decisions per second", (1.0 - level) / self.rate
            )
        self._level[principal] = (level - 1.0, now)
        while len(self._level) > PRINCIPALS:
            self._level.popitem(last=False)
