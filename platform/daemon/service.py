"""The daemon as a value: slots, who may ask them, how they are. No sockets, no signals."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from ..metrics.exposition import Exposition
from ..metrics.meter import ContractMeter
from .access import Doorkeeper
from .admission import Budgets, Line
from .desk import Desk
from .events import Hub
from .interface import Recorder
from .outcomes import Outcomes
from .selftest import Golden, SelfTest
from .settings import ServeConfig
from .slot import LiveSlot

_LOG = logging.getLogger(__name__)


class Service:
    """Implements ``Daemon``.

    Args:
        settings: in force.
        slots: by domain.
        golden: by domain, see :class:`SelfTest`.
        meter, hub, recorder: shared by all.
        doorkeeper: of the data plane.
    """

    def __init__(
        self,
        *,
        settings: ServeConfig,
        slots: Mapping[str, LiveSlot],
        golden: Mapping[str, Golden],
        meter: ContractMeter,
        hub: Hub,
        recorder: Recorder,
        doorkeeper: Doorkeeper,
    ) -> None:
        self.settings = settings
        self.slots = slots
        self.meter, self.hub, self.recorder = meter, hub, recorder
        self.doorkeeper = doorkeeper
        self.started = time.time()
        self.draining = False
        self.budgets = Budgets(rate=settings.admission.rate, burst=settings.admission.burst)
        self.desks = {domain: self._desk(slot) for domain, slot in slots.items()}
        self.tests = {
            domain: SelfTest(desk=desk, golden=golden[domain], meter=meter)
            for domain, desk in self.desks.items()
        }
        self.outcomes = Outcomes(
            slots=slots, meter=meter, hub=hub, recorder=recorder, budgets=self.budgets
        )
        self._exposition = Exposition(meter)

    def _desk(self, slot: LiveSlot) -> Desk:
        admission = self.settings.admission
        line = Line(
            domain=slot.domain,
            meter=self.meter,
            limit=admission.queue,
            patience=slot.settings.deadline,
        )
        return Desk(
            slot=slot,
            line=line,
            budgets=self.budgets,
            meter=self.meter,
            slack=admission.body_slack,
        )

    def ready(self, domain: str | None = None) -> tuple[bool, str]:
        if self.draining:
            return False, "the daemon is draining"
        for name in self.slots if domain is None else [domain]:
            slot, test = self.slots[name], self.tests[name]
            if slot.draining:
                return False, f"{name}: {slot.draining}"
            if slot.runtime.policy is None:
                return False, f"{name}: no champion is loaded"
            if test.age > self.settings.server.selftest_age:
                why = test.problem or "the event loop was stalled"
                return False, f"{name}: no good self-test lately ({why})"
        return True, ""

    def exposition(self, openmetrics: bool) -> bytes:
        return self._exposition(openmetrics)

    async def test(self) -> bool:
        """One self-test of every slot; whether all were good."""
        return all([await test.run() for test in self.tests.values()])

    def view(self) -> dict[str, Any]:
        """What ``GET /v1/state`` tells."""
        good, why = self.ready()
        return {
            "ready": good,
            "reason": why,
            "draining": self.draining,
            "started": self.started,
            "now": time.time(),
            "audit": {"healthy": self.recorder.healthy},
            "domains": {name: slot.view() for name, slot in self.slots.items()},
            "selftests": {
                name: {"age": test.age if test.age < 1e12 else None, "problem": test.problem}
                for name, test in self.tests.items()
            },
        }

    def drain(self) -> None:
        """Ready no more; decisions that arrive on open connections are still made."""
        self.draining = True
        for slot in self.slots.values():
            slot.leave()
        self.hub.publish("drain", "", time.time(), {})
        self.recorder.event("drain", "", {})

    async def close(self) -> None:
        """Refuse decisions and stop the background threads."""
        for slot in self.slots.values():
            slot.drain()
        self.hub.close()
        for slot in self.slots.values():
            await asyncio.to_thread(slot.close)
            await asyncio.to_thread(slot.rollout.close)
