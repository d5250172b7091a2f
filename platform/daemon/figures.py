"""What an entry means for the metrics; the cheap part at once, the dear part in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ops.contract import LAYERS
from ..decision.arrays import apart
from ..decision.types import CONSTRAINTS, Cause, Live, Source
from .interface import Entry, Meter

_LOG = logging.getLogger(__name__)

_SOURCES = tuple((source, source.name.lower()) for source in Source)
_LAYERS = tuple((cause, LAYERS[cause.name.lower()]) for cause in Cause if cause is not Cause.NONE)


class Figures:
    """Reports the entries of one slot.

    Args:
        domain: label of everything.
        meter: where to.
    """

    def __init__(self, *, domain: str, meter: Meter) -> None:
        self._domain, self._meter = domain, meter
        self._mode = ""
        self._phase = ""
        self._trips: int | None = None

    def report(self, entry: Entry, seconds: float) -> None:
        """Count one real decision that took ``seconds`` in all."""
        meter, domain, decision = self._meter, self._domain, entry.decision
        counts = np.bincount(decision.source, minlength=len(Source)).tolist()
        for source, name in _SOURCES:
            if counts[source]:
                meter.count("decisions_total", counts[source], domain=domain, source=name)
        meter.count("decision_ticks_total", domain=domain, outcome=decision.outcome)
        meter.observe("decision_duration_seconds", seconds, entry.id, domain=domain)
        for stage, took in decision.seconds.items():
            meter.observe("decision_stage_duration_seconds", took, domain=domain, stage=stage)
        if any(asked is not None and asked.status == "timeout" for asked in decision.asked):
            meter.count("decision_deadline_misses_total", domain=domain, stage="policy")
        for reason, count in decision.invalid.items():
            meter.count("observations_invalid_total", count, domain=domain, reason=reason)
        if decision.cause.any():
            self._interventions(entry)
        if not decision.invalid:
            seen = entry.request.observed
            stamp = entry.clock.wall if seen is None else seen
            meter.set("observation_timestamp_seconds", stamp, domain=domain)
        meter.observe_many("guidance_deviation", decision.deviation, domain=domain)

    def _interventions(self, entry: Entry) -> None:
        decision = entry.decision
        counts = np.bincount(decision.cause, minlength=len(Cause)).tolist()
        for cause, layer in _LAYERS:
            if counts[cause]:
                self._meter.count(
                    "safety_interventions_total", counts[cause], domain=self._domain, layer=layer
                )
        for cause, constraint in CONSTRAINTS.items():
            if counts[cause]:
                moved = decision.distance[decision.cause == cause]
                labels = {"domain": self._domain, "constraint": constraint}
                self._meter.count("actions_projected_total", counts[cause], **labels)
                self._meter.observe_many("action_projection_distance", moved, **labels)

    def status(self, mode: str, phase: str, trips: int) -> None:
        """Mode and breaker as they are now; cheap where nothing changed."""
        if mode != self._mode:
            self._mode = mode
            self._meter.one_hot("controller_mode", "mode", mode, domain=self._domain)
        if phase != self._phase:
            self._phase = phase
            self._meter.one_hot("breaker_state", "state", phase, domain=self._domain)
        if self._trips is not None and trips > self._trips:
            self._meter.count("breaker_trips_total", trips - self._trips, domain=self._domain)
        self._trips = trips


@dataclass(frozen=True, slots=True)
class Gauges:
    """Figures of one entry that are too dear for the decision path.

    Attributes:
        entropy: mean over agents with a choice, nats (NaN where nobody has one).
        switched: share of agents whose action is not their last one (NaN before the first);
            set-points: moved by more than a fiftieth of their box.
        objective, bound: predicted cost and the least possible one (NaN where unknown).
        outside: share of agents outside the range of training.
    """

    entropy: float
    switched: float
    objective: float
    bound: float
    outside: float


def gauges(entry: Entry, live: Live) -> Gauges:
    """Compute the dear figures of an entry."""
    decision, seen = entry.decision, entry.request.observation
    objective, bound = live.objective(seen, decision.actions)
    switched = float("nan")
    last = entry.before.last
    if last is not None:
        rows = last if entry.request.agents is None else last[entry.request.agents]
        active = seen.active
        if active.any():
            switched = float(apart(rows, decision.actions, seen)[active].mean())
    outside = float((decision.cause == Cause.DRIFT).mean()) if decision.cause.size else 0.0
    return Gauges(_entropy(entry), switched, float(objective), float(bound), outside)


def _entropy(entry: Entry) -> float:
    scores, seen = entry.decision.preference, entry.request.observation
    if scores is None or scores.size == 0:
        return float("nan")
    choosing = seen.active & (seen.mask.sum(axis=1) > 1)
    if not choosing.any():
        return float("nan")
    masked = np.where(seen.mask[choosing], scores[choosing].astype(np.float64), -np.inf)
    raised = np.exp(masked - masked.max(axis=1, keepdims=True))
    share = raised / raised.sum(axis=1, keepdims=True)
    logs = np.log(np.where(share > 0.0, share, 1.0))
    return float(-(share * logs).sum(axis=1).mean())


class Background:
    """One thread that works on the newest entry only; never keeps the decision path waiting.

    Args:
        work: what to do with an entry; its exceptions are logged and counted as ``failures``.
        pause: least seconds between two pieces of work.
    """

    def __init__(self, work: Callable[[Entry], None], *, pause: float = 0.1) -> None:
        self.failures = 0
        self._work, self._pause = work, pause
        self._newest: Entry | None = None
        self._awake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)
        self._thread.start()

    def offer(self, entry: Entry) -> None:
        """Make ``entry`` the next to be looked at, instead of any older one."""
        self._newest = entry
        if not self._awake.is_set():
            self._awake.set()

    def close(self) -> None:
        """Stop the thread; waits for the piece of work it is at."""
        self._stopped.set()
        self._awake.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._awake.wait()
            self._awake.clear()
            entry = self._newest
            if entry is None or self._stopped.is_set():
                continue
            try:
                self._work(entry)
            except Exception:  # noqa: BLE001 - figures must never end the controller
                self.failures += 1
                _LOG.exception("figures of %s", entry.id)
            self._stopped.wait(self._pause)
