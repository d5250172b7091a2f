"""A run of the street: asked every interval, safe every second, whoever answers or does not."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from ...simulators.interface import Bools, Doubles, Observation
from ...simulators.traffic.observer import Observer
from ...simulators.traffic.readings import Readings
from ...simulators.traffic.sumo.process import Counters
from ...simulators.traffic.sumo.tripinfo import TripReport
from ...simulators.traffic.timing import Change
from ..client.asking import Answer, Client, Refused, Unavailable
from ..decision.types import Source
from ..files import write_atomic
from ..lamps import LampMonitor
from ..signal_safety import PhaseRequest, SafetyFilter
from .local_plans import LocalPlan
from .status import StatusBoard
from .street import STEP, Street

JAM = 0.8
"""Share of the vehicles on the streets that stand, above which they are jammed."""
CROWD = 10
"""Vehicles below which nobody speaks of a jam."""
LOCAL = "local"
"""Source of what no daemon decided."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """What became of a run.

    Attributes:
        trips: SUMO's own figures.
        unsafe: lamp changes that a second monitor, apart from the filter, found unsafe.
        stopped: signals that were taken out of service.
        sources: decisions of single signals by who made them; ``local``: the plan of the signals.
        refused: requests by the reason for which the filter refused them; of the daemon's only.
        forced, switched: phases that came by themselves; that changed in all.
        expired: answers that came too late or had expired; silent: askings without an answer.
        seconds: ``[T]`` of asking, wall clock.
        factor: seconds of the street per second of the wall clock.
        late: seconds of the street that began after their time.
    """

    trips: TripReport
    unsafe: int
    stopped: tuple[str, ...]
    sources: dict[str, int]
    refused: dict[str, int]
    forced: int
    switched: int
    expired: int
    silent: int
    seconds: Doubles
    factor: float
    late: int


@dataclass(slots=True)
class _Log:
    """What is collected along the way."""

    unsafe: int = 0
    expired: int = 0
    silent: int = 0
    late: int = 0
    sources: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    seconds: list[float] = field(default_factory=list[float])
    measured: defaultdict[str, float] = field(
        default_factory=lambda: defaultdict[str, float](float)
    )


class Session:
    """Drives one street.

    Args:
        street: SUMO.
        plan: what the signals do when nobody tells them.
        client: of the daemon, without a fallback rule of its own; ``None``: the plan alone.
        deadline: s of the wall clock in which the daemon must have answered.
        speed: seconds of the street per second; 0: as fast as it goes.
        status: file that says what signals show; ``None``: none.
        watch: told the second that begins; may kill the daemon.
    """

    def __init__(
        self,
        street: Street,
        plan: LocalPlan,
        *,
        client: Client | None = None,
        deadline: float = 0.2,
        speed: float = 10.0,
        status: Path | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._street, self._plan, self._client = street, plan, client
        self._deadline, self._speed, self._status = deadline, speed, status
        self._watch = watch
        self._observer = Observer(street.town)
        self._agents = street.town.approaches.agents
        self._interval = int(street.town.scenario.interval)

    def play(self, seed: int, *, name: str = "") -> Driven:
        """One run.

        Args:
            seed: of SUMO.
            name: of the run, for the daemon's order of requests; one that it has not seen.
        """
        town = self._street.town
        signals, timing = town.network.signals, town.scenario.timing
        interval = town.scenario.interval
        self._filter = SafetyFilter(signals, timing, interval=interval)
        self._judge = LampMonitor(signals, timing)
        self._board = StatusBoard(signals, timing, interval=interval)
        self._log, self._answer = _Log(), None
        self._sources = [LOCAL] * len(signals)
        self._street.begin(seed)
        readings = self._street.read()
        waiting = self._waiting(readings)
        begun = time.monotonic()
        for second in range(self._street.seconds):
            self._keep_time(begun, second)
            if self._watch is not None:
                self._watch(second)
            seen = None
            if second % self._interval == 0:
                self._report()
                readings = self._street.read()
                seen = self._look(readings, second)
                self._answer = self._ask(seen, second, name)
                self._count(seen)
            if seen is not None or self._answer is None:
                waiting = self._waiting(readings)
                self._step(float(second), readings, waiting, seen)
            readings = self._pass(second, waiting)
        elapsed = time.monotonic() - begun
        self._report()
        tally, log = self._filter.tally, self._log
        return Driven(
            trips=self._street.finish(),
            unsafe=log.unsafe,
            stopped=self._filter.stopped,
            sources=dict(log.sources),
            refused=dict(log.refused),
            forced=tally.forced,
            switched=tally.switched,
            expired=log.expired,
            silent=log.silent,
            seconds=np.array(log.seconds),
            factor=self._street.seconds / max(elapsed, 1e-9),
            late=log.late,
        )

    def _keep_time(self, begun: float, second: int) -> None:
        if self._speed <= 0:
            return
        left = begun + second * STEP / self._speed - time.monotonic()
        if left > 0:
            time.sleep(left)
        # A twentieth of a second late is the operating system's, more is ours.
        self._log.late += left < -0.05

    def _look(self, readings: Readings, second: int) -> Observation:
        counters = self._street.counters
        observation, _ = self._observer.observe(
            readings,
            self._filter.timing,
            driving=counters.running,
            outside=counters.pending,
            epoch=second // self._interval,
        )
        return observation

    def _waiting(self, readings: Readings) -> Bools:
        """``[N, J]`` whether somebody waits at a letter of a signal's states."""
        found = self._street.town.approaches
        count = len(self._street.town.network.signals) * found.letters
        sums: Doubles = found.waiting.sums(readings.queue, count)
        return sums.reshape(-1, found.letters) > 0.0

    def _ask(self, seen: Observation, second: int, name: str) -> Answer | None:
        """The daemon's answer, if it is there in time and may still be carried out."""
        if self._client is None:
            return None
        begun = time.monotonic()
        answer = None
        try:
            answer = self._client.decide(seen, seq=second // self._interval, episode=name)
        except Refused as refusal:
            _LOG.warning("the daemon refuses: %s", refusal)
        except Unavailable as silence:
            _LOG.info("no answer at %d s: %s", second, silence)
        waited = time.monotonic() - begun
        self._log.seconds.append(waited)
        if answer is not None and time.time() <= answer.valid_until:
            return answer
        self._log.silent += 1
        if answer is not None or waited >= self._deadline:
            self._log.expired += 1
            self._log.measured["requests_expired"] += 1
        return None

    def _count(self, seen: Observation) -> None:
        """Who decides until the next decision."""
        signals = self._street.town.network.signals
        self._sources = [LOCAL] * len(signals)
        if self._answer is None:
            self._log.sources[LOCAL] += int(seen.active.sum())
            return
        names = [Source(int(source)).name.lower() for source in self._answer.source]
        for agent, signal in enumerate(self._agents.tolist()):
            self._sources[signal] = names[agent]
        self._log.sources.update(np.array(names)[seen.active].tolist())

    def _step(
        self, now: float, readings: Readings, waiting: Bools, seen: Observation | None
    ) -> None:
        """Ask the filter for what whoever is in charge wants."""
        answer = self._answer
        if answer is not None and seen is not None:
            requests = self._requests(seen, answer, now)
        else:
            wanted = self._plan.wanted(now, readings, self._filter.timing, seen)
            signals = self._street.town.network.signals
            requests = [
                PhaseRequest(signals[at].name, phase)
                for at, phase in enumerate(wanted.tolist())
                if phase != self._filter.timing.phase[at]
            ]
        verdict = self._filter.step(now, requests, waiting)
        self._board.plan(verdict.changes)
        log = self._log
        log.measured["phase_changes"] += len(verdict.switched)
        log.measured["forced_phases"] += len(verdict.forced)
        if answer is not None:
            log.refused.update(refusal.reason for refusal in verdict.refused)
            log.measured["requests_refused"] += len(verdict.refused)
        for refusal in verdict.refused:
            if refusal.reason == "monitor":
                log.measured["unsafe_changes"] += 1
                _LOG.error("%s taken out of service: %s", refusal.request.signal, refusal.detail)

    def _requests(self, seen: Observation, answer: Answer, now: float) -> list[PhaseRequest]:
        """What the daemon wants of those signals that have a choice."""
        signals = self._street.town.network.signals
        wanted = self._observer.wanted(seen, answer.actions, self._filter.timing)
        return [
            PhaseRequest(
                signals[signal].name,
                int(wanted[signal]),
                valid_until=now + self._interval,
                sequence=round(now / self._interval),
            )
            for agent, signal in enumerate(self._agents.tolist())
            if seen.active[agent]
        ]

    def _pass(self, second: int, waiting: Bools) -> Readings:
        """Show what is due, let the second pass, take its figures."""
        due = self._board.show(float(second))
        self._judged(due)
        if self._status is not None and (due or second % self._interval == 0):
            document = self._board.document(float(second), waiting, self._sources)
            write_atomic(self._status, orjson.dumps(document))
        readings, counters = self._street.pass_second(due)
        self._measure(readings, counters)
        return readings

    def _judged(self, changes: Sequence[Change]) -> None:
        for change in changes:
            fault = self._judge.fault(change)
            self._judge.show(change)
            if fault:
                self._log.unsafe += 1
                self._log.measured["unsafe_changes"] += 1
                _LOG.error("unsafe change %s of signal %d: %s", change.state, change.signal, fault)

    def _measure(self, readings: Readings, counters: Counters) -> None:
        """Delay is the time for which vehicles stand, or wait to enter."""
        standing = float(readings.queue.sum())
        measured = self._log.measured
        measured["delay_seconds"] += STEP * (standing + counters.pending)
        measured["trips"] += counters.arrived
        jammed = counters.running >= CROWD and standing >= JAM * counters.running
        measured["jam_seconds"] += STEP * jammed
        measured["local_seconds"] += STEP * (self._answer is None)

    def _report(self) -> None:
        """Tell the daemon what came of its last decision; kept for the next one if it cannot be."""
        answer, log = self._answer, self._log
        if self._client is None or answer is None:
            return
        told = {name: value for name, value in log.measured.items() if value > 0.0}
        try:
            self._client.report(answer.decision, measured=told)
        except Unavailable as failure:
            _LOG.info("what came of decision %s stays untold: %s", answer.decision, failure)
            return
        log.measured.clear()
