"""A policy that cannot take the controller down: late, hung and raising backends become outcomes.

The backend runs in a thread of its own. Python cannot stop a thread, so one that has not come back
when it is needed again is abandoned: nobody waits for it, its answer is thrown away, and it ends
with its call. Only so many may be abandoned at once; a policy that keeps hanging is then not asked
any more until one of them ends.

The hand-over is a queue and a lock. The thread follows its caller to whatever processor that runs
on: the caller only waits meanwhile, and waking a sleeping processor takes longer than deciding
(measured on two virtual cores: 110 us there and back between cores, 8 us on one). A backend that
holds the interpreter's lock for long (a Python loop) delays the caller's time limit by up to the
switch interval: a daemon sets ``sys.setswitchinterval(0.0005)``.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import cast

from ...simulators.interface import Ints, Observation
from .asking import Backend, examined
from .types import Inference, Outcome


class Supervised:
    """Implements ``Policy`` around a backend, with a time limit; never raises.

    Args:
        digest: of the bundle.
        backend: what runs its network.
        name: of the threads, as debuggers show them.
        abandoned: how many hung threads there may be before the policy is no longer asked.

    Callers of several threads are served one after another, each within its own limit.
    """

    def __init__(
        self, *, digest: str, backend: Backend, name: str = "policy", abandoned: int = 4
    ) -> None:
        self._digest = digest
        self._crew = _Crew(backend=backend, name=name, most=abandoned)
        self._turn = threading.Lock()
        # Without it, the thread of every bundle that was ever loaded would wait for ever.
        self._finalizer = weakref.finalize(self, _Crew.dismiss, self._crew)
        self._finalizer.atexit = False

    @property
    def digest(self) -> str:
        """Digest of the bundle."""
        return self._digest

    @property
    def abandoned(self) -> int:
        """Threads that were given up and have not come back yet."""
        return self._crew.missing()

    def close(self) -> None:
        """End the waiting thread; later askings report an error."""
        self._finalizer()

    def ask(
        self,
        observation: Observation,
        agents: Ints | None,
        *,
        seed: int,
        greedy: bool | None,
        limit: float,
    ) -> Outcome:
        began = time.perf_counter()
        if not (limit > 0 and self._turn.acquire(timeout=min(limit, threading.TIMEOUT_MAX))):
            waited = time.perf_counter() - began
            return Outcome(
                "timeout", None, waited, "the time limit passed before the policy's turn"
            )
        try:
            worker, problem = self._crew.at_hand()
            if worker is None:
                return Outcome("error", None, time.perf_counter() - began, problem)
            job = _Job(observation, agents, seed, greedy)
            worker.begin(job)
            left = limit - (time.perf_counter() - began)
            done = job.done.acquire(timeout=min(max(left, 0.0), threading.TIMEOUT_MAX))
        finally:
            self._turn.release()
        seconds = time.perf_counter() - began
        if not done:
            # It works on beside its caller, who must not share a processor with it.
            worker.run_on(None)
            return Outcome("timeout", None, seconds, f"no answer within {limit:.3g} s")
        if job.inference is None:
            return Outcome("error", None, seconds, repr(job.error))
        return examined(job.inference, observation, seconds)


def _current_processor() -> Callable[[], int | None]:
    """The C library's sched_getcpu (Python 3.11 has none), or a function that does not know."""
    try:
        # PyDLL keeps the interpreter's lock: the call takes 50 ns.
        found = ctypes.PyDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return lambda: None
    found.argtypes, found.restype = [], ctypes.c_int
    return cast("Callable[[], int]", found)


_processor = _current_processor()


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class _Job:
    """One question and what became of it; its own ``done``, so that late answers reach nobody."""

    observation: Observation
    agents: Ints | None
    seed: int
    greedy: bool | None
    inference: Inference | None = None
    error: BaseException | None = None
    done: threading.Lock = field(default_factory=_held)


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread that answers one job after another, until it is dismissed by ``None``."""

    backend: Backend
    jobs: SimpleQueue[_Job | None] = field(default_factory=SimpleQueue["_Job | None"])
    busy: bool = False
    gone: bool = False
    thread: int = 0
    processor: int | None = None

    def begin(self, job: _Job) -> None:
        processor = _processor()
        if processor != self.processor:
            self.run_on(processor)
        self.busy = True
        self.jobs.put(job)

    def run_on(self, processor: int | None) -> None:
        """Move the thread to a processor; ``None``: wherever its caller may run."""
        if not (self.thread and hasattr(os, "sched_setaffinity")):
            return
        allowed = os.sched_getaffinity(0) if processor is None else {processor}
        try:
            os.sched_setaffinity(self.thread, allowed)
        except OSError:
            # The caller was moved out of this processor's set meanwhile; where it runs is a matter
            # of speed only, and the next asking tries again.
            processor = None
        self.processor = processor

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            try:
                job.inference = self.backend(job.observation, job.agents, job.seed, job.greedy)
            except BaseException as error:  # noqa: BLE001 - even SystemExit is only its answer
                job.error = error.with_traceback(None)
            # Idle before the answer is out: the next question may come at once.
            self.busy = False
            job.done.release()
            # The answer may be large, and the next question far away.
            del job
        self.gone = True


@dataclass(slots=True, eq=False)
class _Crew:
    """The worker at hand, and those that were given up."""

    backend: Backend
    name: str
    most: int
    current: _Worker | None = None
    given_up: list[_Worker] = field(default_factory=list[_Worker])
    closed: bool = False

    def missing(self) -> int:
        self.given_up = [worker for worker in self.given_up if not worker.gone]
        return len(self.given_up)

    def at_hand(self) -> tuple[_Worker | None, str]:
        """An idle worker, or why there is none. A late one that came back meanwhile is kept."""
        worker = self.current
        if self.closed:
            return None, "the policy was closed"
        if worker is not None and not worker.busy:
            return worker, ""
        missing = self.missing()
        if worker is not None:
            if missing >= self.most:
                return None, f"{missing + 1} askings hang; the policy is not asked until one ends"
            # Dismissed while it works: it ends when its call does, should it ever.
            worker.jobs.put(None)
            self.given_up.append(worker)
            self.current = None
        fresh = _Worker(self.backend)
        thread = threading.Thread(target=fresh.run, name=self.name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            return None, f"no thread for the policy: {error}"
        fresh.thread = thread.native_id or 0
        self.current = fresh
        return fresh, ""

    def dismiss(self) -> None:
        self.closed = True
        worker, self.current = self.current, None
        if worker is not None:
            worker.jobs.put(None)
