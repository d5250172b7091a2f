"""What is found out about other policies while the champion decides, in a thread of its own.

The decision path only puts an entry into a short queue; if the thread is behind, the entry is
dropped and counted. So a shadow that hangs costs its own answers and nothing else.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

import numpy as np

from ..daemon.interface import Entry
from ..decision.arrays import apart
from ..decision.asking import ask
from ..decision.supervised import Supervised
from ..decision.types import Actions, Live, Policy

WINDOW = 256
"""Comparisons that a figure is taken over."""

_QUEUE = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """What another policy would have done on an entry's observation.

    Attributes:
        status: of asking it.
        disagreement: share of active agents for which it acts otherwise (set-points: by more than
            a fiftieth of the box); NaN without an answer.
        cost, executed: predicted cost of its actions, and of those that were executed.
    """

    status: str
    disagreement: float = float("nan")
    cost: float = float("nan")
    executed: float = float("nan")


def compare(policy: Policy, live: Live, entry: Entry, *, limit: float) -> Comparison:
    """Ask ``policy`` what it would have done, with the same seed, and make that feasible."""
    request = entry.request
    observation, agents = request.observation, request.agents
    outcome = ask(
        policy,
        observation,
        agents,
        seed=entry.decision.seed,
        greedy=request.greedy,
        limit=limit,
    )
    if outcome.inference is None:
        return Comparison(outcome.status)
    executed = entry.decision.actions
    wanted = live.project(observation, outcome.inference.actions, entry.before.last, agents).actions
    active = observation.active
    return Comparison(
        "ok",
        float(apart(wanted, executed, observation)[active].mean())
        if active.any()
        else float("nan"),
        live.objective(observation, wanted)[0],
        live.objective(observation, executed)[0],
    )


@dataclass(slots=True)
class Shadow:
    """A policy that only watches, and its figures over the latest decisions.

    Attributes:
        policy: asked in a thread of its own.
        live: makes its actions feasible and knows their cost.
        limit: time for one answer, s.
        timeouts, failures, samples: answers that did not come, were of no use, and came.
    """

    policy: Supervised
    live: Live
    limit: float
    samples: int = 0
    timeouts: int = 0
    failures: int = 0
    _disagreement: deque[float] = field(default_factory=lambda: deque[float](maxlen=WINDOW))
    _costs: deque[tuple[float, float]] = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=WINDOW)
    )

    def watch(self, entry: Entry) -> Comparison:
        """Compare with one entry."""
        found = compare(self.policy, self.live, entry, limit=self.limit)
        self.timeouts += found.status == "timeout"
        self.failures += found.status not in ("ok", "timeout")
        if found.status == "ok":
            self.samples += 1
            self._disagreement.append(found.disagreement)
            self._costs.append((found.cost, found.executed))
        return found

    @property
    def disagreement(self) -> float:
        """Share of agents for which it acts otherwise; NaN before the first comparison."""
        return _mean(np.array(self._disagreement))

    @property
    def above(self) -> float:
        """Its predicted cost above that of what was executed, as a share; NaN where unknown."""
        costs = np.array(self._costs, np.float64).reshape(-1, 2)
        costs = costs[np.isfinite(costs).all(axis=1)]
        mine, executed = costs.sum(axis=0)
        return float((mine - executed) / abs(executed)) if executed else float("nan")


def _mean(values: Actions) -> float:
    known = values[np.isfinite(values)] if values.size else values
    return float(known.mean()) if known.size else float("nan")


class Judge:
    """The thread: takes entries from a short queue and hands them to ``study``.

    Args:
        study: called in the thread; what it raises is counted and kept, and spoils nothing else.
        name: of the thread.

    Attributes:
        dropped: entries that were not studied because the thread was behind.
        failed: entries whose study raised.
        error: the latest of those errors; empty if there was none.
    """

    def __init__(self, study: Callable[[Entry], None], *, name: str):
        self._queue: Queue[Entry] = Queue(_QUEUE)
        self._study = study
        self._stop = threading.Event()
        self._busy = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.dropped, self.failed, self.error = 0, 0, ""
        self._thread.start()

    def offer(self, entry: Entry) -> None:
        """Take the entry, or drop it at once if the thread is behind."""
        try:
            self._queue.put_nowait(entry)
        except Full:
            self.dropped += 1

    def settle(self, timeout: float) -> bool:
        """Wait until all offered entries are studied; whether they were in time."""
        with self._queue.all_tasks_done:
            return self._queue.all_tasks_done.wait_for(
                lambda: not self._queue.unfinished_tasks, timeout
            )

    def close(self) -> None:
        """End the thread after what it is at."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                entry = self._queue.get(timeout=0.2)
            except Empty:
                continue
            try:
                self._study(entry)
            except Exception as error:  # noqa: BLE001 - a domain's part may raise anything
                self.failed, self.error = self.failed + 1, repr(error)
            finally:
                self._queue.task_done()
            # The observation may be large, and the next entry far away.
            del entry
