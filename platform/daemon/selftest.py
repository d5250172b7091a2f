"""Self-tests through the real decision path, and how late the event loop is.

A health check that only says "the process runs" stays green while decisions hang (Ray Serve's issue
61263). Here a golden observation of the champion's bundle goes the way that requests go: the line,
the decoder, the slot, the core, the encoder. Readiness and the supervisor's watchdog hang on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from ..decision.ladder import feasible
from ..golden import parts_of
from ..wire import frames
from .desk import EXPECTED, Answer, Desk
from .interface import Meter

_LOG = logging.getLogger(__name__)

BEAT = 0.1
"""Seconds between two looks at the event loop's lag."""

Golden = Callable[[], Mapping[str, NDArray[Any]]]


class SelfTest:
    """Tests one slot.

    Args:
        desk: the way into it.
        golden: arrays of the champion's golden observations; its answer changes with the champion.
        meter: gets ``selftest_timestamp_seconds``.
    """

    def __init__(self, *, desk: Desk, golden: Golden, meter: Meter) -> None:
        self.passed = float("-inf")
        self.problem = "no self-test has been made yet"
        self._desk, self._golden, self._meter = desk, golden, meter
        self._turn = 0

    @property
    def age(self) -> float:
        """Seconds since the last good one."""
        return time.monotonic() - self.passed

    async def run(self) -> bool:
        """Make one decision that nobody executes, and look at it."""
        try:
            seen, seed = self._next()
            body = frames.pack({"seed": seed}, seen)
            found = await self._desk.serve(
                lambda spec, limits, at: frames.decode(body, spec, limits, received=at),
                lambda entry, wanted, left: frames.encode(entry, wanted, deadline_left=left),
                principal="self-test",
                received=time.monotonic(),
                probe=True,
            )
        except EXPECTED as error:
            self._failed(f"refused: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the test has failed
            _LOG.exception("self-test of %s", self._desk.slot.domain)
            self._failed(f"failed: {error!r}")
            return False
        return self._judge(found)

    def _next(self) -> tuple[dict[str, NDArray[Any]], int]:
        golden = self._golden()
        epoch = self._turn % golden["seed"].shape[0]
        self._turn += 1
        seen = {name: golden[name][epoch] for name in parts_of(golden)}
        return seen, int(golden["seed"][epoch])

    def _judge(self, found: Answer) -> bool:
        entry = found.entry
        if not feasible(entry.request.observation, entry.decision.actions):
            self._failed("the decision is not feasible")
            return False
        self.passed, self.problem = time.monotonic(), ""
        self._meter.set("selftest_timestamp_seconds", time.time(), domain=self._desk.slot.domain)
        return True

    def _failed(self, problem: str) -> None:
        self.problem = problem
        _LOG.warning("self-test of %s %s", self._desk.slot.domain, problem)


async def watch_lag(meter: Meter) -> None:
    """Observe how late the loop wakes this task up; runs until cancelled."""
    while True:
        due = time.monotonic() + BEAT
        await asyncio.sleep(BEAT)
        meter.observe("event_loop_lag_seconds", max(time.monotonic() - due, 0.0))
