"""One domain inside the daemon: the decision core with a clock, a memory and witnesses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..decision.core import decide
from ..decision.drift import Drift
from ..decision.settings import SlotSettings
from ..decision.types import Actions, Clock, Request, Runtime, State
from ..decision.watch import Watch
from ..files import UserError
from .events import Hub
from .figures import Background, Figures, gauges
from .interface import Entry, Meter, Recorder, Rollout
from .memory import Memory

OBJECTIVE = "predicted-cost"
"""Label of what ``Live.objective`` computes."""

SHOWN = 0.25
"""Least seconds between two decisions that the event stream shows."""

OWN_ACTS = ("fallback", "resume", "drain")
"""Acts on the slot itself; all others are the roll-out's."""


class NotReady(Exception):  # noqa: N818
    """This slot takes no decisions now; the message says why."""


def both_clocks() -> Clock:
    """Monotonic and wall clock, now."""
    return Clock(time.monotonic(), time.time())


def _at_once(work: Callable[..., None], *arguments: object) -> None:
    work(*arguments)


class LiveSlot:
    """Implements ``Slot``. Used from one thread; only :meth:`operate` may come from another.

    Args:
        domain: its name.
        boot: eight hexadecimal digits of this run of the daemon.
        settings: knobs; replaced as a whole on reload.
        rollout: who decides.
        recorder: the audit.
        meter: the metrics.
        hub: event stream.
        state: what an earlier run left.
        watch: reads the domain's own metrics off decisions; ``None``: it has none.
        history: bytes of entries kept.
        clock: both clocks.

    Attributes:
        defer: called with work and its arguments that need not hold up the answer; does it at once
            unless the process puts its loop's ``call_soon`` here.
    """

    def __init__(  # noqa: PLR0913 - each part is one line where it is put together
        self,
        *,
        domain: str,
        boot: str,
        settings: SlotSettings,
        rollout: Rollout,
        recorder: Recorder,
        meter: Meter,
        hub: Hub,
        state: State,
        history: int,
        watch: Watch | None = None,
        clock: Callable[[], Clock] = both_clocks,
    ) -> None:
        self.settings = settings
        self.rollout = rollout
        self.defer: Callable[..., object] = _at_once
        self.memory = Memory(limit=history)
        self._domain, self._boot = domain, boot
        self._recorder, self._meter, self._hub, self._clock = recorder, meter, hub, clock
        self._state, self._watch = state, watch
        self._count = 0
        self._draining = ""
        self._leaving = False
        self._since = clock()
        self._shown = float("-inf")
        self._figures = Figures(domain=domain, meter=meter)
        self._drift: tuple[str, Drift | None] = ("", None)
        self._lock = threading.Lock()
        self._background = Background(self._study)
        self._report_status()

    @property
    def domain(self) -> str:
        return self._domain

    @property
    def runtime(self) -> Runtime:
        return self.rollout.champion

    @property
    def state(self) -> State:
        return self._state

    @property
    def draining(self) -> str:
        """Why no decision is taken; empty if they are."""
        return self._draining

    def decide(self, request: Request, *, principal: str = "local", probe: bool = False) -> Entry:
        if self._draining:
            raise NotReady(self._draining)
        if not probe:
            known = self.memory.repeated(request)
            if known is not None:
                return known
        before, clock = self._state, self._clock()
        runtime, role = self.rollout.choose(request, before.ticks)
        began = time.perf_counter()
        after, decision = decide(runtime, self.settings, before, request, clock)
        entry = Entry(
            id=f"{self._domain}-{self._boot}-{self._count}",
            domain=self._domain,
            clock=clock,
            request=request,
            decision=decision,
            before=before,
            role=role,
            principal=principal,
            probe=probe,
            previous="" if runtime.previous is None else runtime.previous.digest,
            valid_until=clock.wall + (self.settings.expiry or float("inf")),
        )
        if probe:
            return entry
        self._record(entry)
        self._count += 1
        self._accept(entry, after, time.perf_counter() - began)
        return entry

    def _record(self, entry: Entry) -> None:
        began = time.perf_counter()
        self._recorder.record(entry)  # may refuse: then nothing was decided
        self._meter.observe(
            "decision_stage_duration_seconds",
            time.perf_counter() - began,
            domain=self._domain,
            stage="audit",
        )

    def _accept(self, entry: Entry, after: State, seconds: float) -> None:
        if after.mode != self._state.mode:
            self._since = entry.clock
            self._publish("mode", {"mode": after.mode, "before": self._state.mode})
        if after.breaker.phase != self._state.breaker.phase:
            self._publish("breaker", {"phase": after.breaker.phase, "trips": after.breaker.trips})
        with self._lock:
            # An operator may have acted meanwhile from another thread.
            self._state = replace(after, forced=self._state.forced)
        self.memory.add(entry, seconds)
        self.rollout.after(entry)
        self.defer(self._tell, entry, seconds)

    def _tell(self, entry: Entry, seconds: float) -> None:
        """Metrics and events of a decision: after its answer where there is a loop to wait in."""
        self._figures.report(entry, seconds)
        self._report_status()
        self._background.offer(entry)
        if entry.clock.mono - self._shown >= SHOWN:
            self._shown = entry.clock.mono
            self._publish("decision", brief(entry, seconds))

    def history(self, count: int = 100) -> Sequence[Entry]:
        return self.memory.latest(min(count, 512))

    def find(self, entry: str) -> Entry | None:
        """A remembered entry by its id."""
        return self.memory.find(entry)

    def view(self) -> Mapping[str, Any]:
        state, now = self._state, self._clock()
        half, most = self.memory.durations()
        newest = self.memory.latest(1)
        decision = newest[0].decision if newest else None
        return {
            "domain": self._domain,
            "scenario": self.runtime.spec.scenario,
            "agents": self.runtime.spec.agents,
            "mode": self._mode,
            "since": self._since.wall,
            "ticks": state.ticks,
            "rate": self.memory.rate(now.mono),
            "p50": _number(half),
            "p99": _number(most),
            "newest": newest[0].clock.wall if newest else None,
            "bundle": self.runtime.digest,
            "breaker": {
                "phase": state.breaker.phase,
                "trips": state.breaker.trips,
                "failed": sum(state.breaker.window),
                "window": len(state.breaker.window),
                "since": now.wall - (now.mono - state.breaker.since),
            },
            "safety": {
                "forced": state.forced,
                "latched": state.latched,
                "clean": state.clean,
                "margin": None if decision is None else _number(decision.margin),
                "outcome": None if decision is None else decision.outcome,
            },
            "audit": {"healthy": self._recorder.healthy},
            "rollout": dict(self.rollout.view()),
        }

    def operate(
        self, act: str, arguments: Mapping[str, Any], *, principal: str
    ) -> Mapping[str, Any]:
        dry = bool(arguments.get("dry_run", False))
        if act in OWN_ACTS:
            unknown = sorted(set(arguments) - {"dry_run"})
            if unknown:
                raise UserError(f"act {act!r} takes no argument {unknown[0]!r}")
            result = self._own_act(act, dry=dry)
        else:
            result = dict(self.rollout.operate(act, arguments))
        if not dry:
            detail = {"principal": principal, **result}
            self._recorder.event(act, self._domain, detail)
            self._publish("operate", {"act": act, **detail})
            self._report_status()
        return {"act": act, "dry_run": dry, **result}

    def _own_act(self, act: str, *, dry: bool) -> dict[str, Any]:
        forced, draining = self._state.forced, self._draining
        if act == "fallback":
            forced = True
        elif act == "resume":
            forced, draining = False, ""
        else:
            draining = "an operator drains this domain"
        if not dry:
            with self._lock:
                self._state = replace(self._state, forced=forced)
            self._draining = draining
        return {"forced": forced, "draining": bool(draining)}

    def leave(self) -> None:
        """Show mode ``drain``, and go on deciding what was accepted."""
        self._leaving = True
        self._report_status()

    def drain(self) -> None:
        """Take no more decisions: the daemon ends."""
        self._leaving = True
        self._draining = "the daemon is shutting down"
        self._report_status()

    def close(self) -> None:
        """Stop the background figures."""
        self._background.close()

    @property
    def last(self) -> Actions | None:
        """Last executed actions of all agents."""
        return self._state.last

    @property
    def _mode(self) -> str:
        return "drain" if self._draining or self._leaving else self._state.mode

    def _report_status(self) -> None:
        state = self._state
        self._figures.status(self._mode, state.breaker.phase, state.breaker.trips)

    def _publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        self._hub.publish(kind, self._domain, self._clock().wall, detail)

    def _study(self, entry: Entry) -> None:
        """In the background: figures that are too dear for the decision path."""
        meter, domain, runtime = self._meter, self._domain, self.runtime
        found = gauges(entry, runtime.live)
        meter.set("policy_entropy", found.entropy, domain=domain)
        meter.set("action_switch_ratio", found.switched, domain=domain)
        meter.set("observation_ood_agents_ratio", found.outside, domain=domain)
        meter.set("objective_value", found.objective, domain=domain, objective=OBJECTIVE)
        gap = (found.objective - found.bound) / found.bound if found.bound > 0 else float("nan")
        meter.set("objective_gap_ratio", gap, domain=domain, objective=OBJECTIVE)
        if self._watch is not None:
            for figure in self._watch.figures(entry.request, entry.decision):
                meter.set(figure.metric, figure.value, domain=domain, **figure.labels)
        drift = self._drift_of(runtime)
        if drift is not None:
            drift.update(entry.request.observation)
            figures = drift.figures()
            meter.set("observation_drift_psi", figures.highest, domain=domain, stat="max")
            meter.set("observation_drift_psi", figures.mean, domain=domain, stat="mean")

    def _drift_of(self, runtime: Runtime) -> Drift | None:
        digest, drift = self._drift
        if digest != runtime.digest:
            knobs, known = self.settings.drift, runtime.observed
            wanted = knobs.enabled and bool(known)
            drift = Drift(spec=runtime.spec, observed=known, settings=knobs) if wanted else None
            self._drift = (runtime.digest, drift)
        return drift


def brief(entry: Entry, seconds: float) -> dict[str, Any]:
    """An entry in one line of the event stream or of ``/v1/decisions``; JSON-able."""
    decision = entry.decision
    return {
        "decision": entry.id,
        "wall": entry.clock.wall,
        "client": entry.request.client,
        "episode": entry.request.episode,
        "seq": entry.request.seq,
        "principal": entry.principal,
        "role": entry.role,
        "mode": decision.mode,
        "outcome": decision.outcome,
        "bundle": decision.bundle[:12],
        "agents": int(decision.actions.shape[0]),
        "sources": np.bincount(decision.source, minlength=6).tolist(),
        "causes": {
            str(cause): int(count)
            for cause, count in enumerate(np.bincount(decision.cause).tolist())
            if cause and count
        },
        "margin": _number(decision.margin),
        "seconds": seconds,
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
