"""Who plays the episodes: this process, or a pool of workers. The results are the same.

An episode is a function of its :class:`Task`, so it matters neither which worker plays it nor how
many there are, and a lost one can be played again. Another engine joins by offering ``map``.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from ..policies.interface import Controller
from ..simulators.interface import Spec
from .episodes import Stage
from .files import UserError
from .tasks import (
    DomainFactory,
    Episode,
    Factory,
    Form,
    Guidance,
    Heuristic,
    Result,
    Task,
    Trained,
)
from .workers import Worker

__all__ = [
    "DomainFactory",
    "Episode",
    "Executor",
    "Factory",
    "Faults",
    "Form",
    "Guidance",
    "Heuristic",
    "InlineExecutor",
    "ProcessExecutor",
    "Result",
    "Task",
    "Trained",
    "WorkerError",
    "make_executor",
    "usable_cores",
]

ATTEMPTS = 3
"""How often an episode is tried before its failure is reported."""

STARTUP_SECONDS = 120.0
"""Allowance on top of the episode's time limit for a worker that still has to import."""

OnResult = Callable[[int, Result], None]
"""Called in order of completion with the task's index; may raise to stop the map."""


class WorkerError(UserError):
    """An episode that failed in every attempt; carries the worker's last traceback or exit code."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Workers lost so far: ``crashed``, ``hung`` beyond the time limit, or ``raised`` an error."""

    crashed: int = 0
    hung: int = 0
    raised: int = 0

    @property
    def total(self) -> int:
        return self.crashed + self.hung + self.raised


class Executor(Protocol):
    """Plays tasks and returns their results in the order of the tasks."""

    @property
    def spec(self) -> Spec:
        """What the simulator looks like."""
        ...

    @property
    def faults(self) -> Faults: ...

    def map(self, tasks: Sequence[Task], *, on_result: OnResult | None = None) -> list[Result]:
        """Play all tasks.

        Raises:
            WorkerError: an episode failed :data:`ATTEMPTS` times.
            UserError: files or settings that an episode cannot use.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Closing:
    """``with`` for executors."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class InlineExecutor(_Closing):
    """Plays episodes one after another in this process; errors come out as they are.

    Set ``OMP_NUM_THREADS=1`` before numpy is imported (the command line does): matrices are small,
    and on a busy machine a second thread made an episode eight times slower.
    """

    def __init__(self, factory: Factory):
        self._stage = Stage(factory)

    @property
    def spec(self) -> Spec:
        return self._stage.spec

    def close(self) -> None:
        self._stage.close()

    @property
    def faults(self) -> Faults:
        return Faults()

    def map(self, tasks: Sequence[Task], *, on_result: OnResult | None = None) -> list[Result]:
        results: list[Result] = []
        for index, task in enumerate(tasks):
            results.append(self._stage.play(task))
            if on_result is not None:
                on_result(index, results[-1])
        return results


class ProcessExecutor(_Closing):
    """Plays episodes in ``workers`` processes, one thread each; restarts those that fail.

    Args:
        factory: picklable; every worker builds its own simulator and models from it.
        workers: number of processes, started with the first ``map``.
        timeout: seconds that one episode may take before its worker counts as hung.

    Raises:
        ValueError: no worker, or no time.
    """

    def __init__(self, factory: Factory, *, workers: int, timeout: float = 600.0):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        self._factory, self._count, self._timeout = factory, workers, timeout
        self._spec = factory.simulator().spec
        self._workers: list[Worker] = []
        self._names = itertools.count()
        self._faults = Faults()

    @property
    def spec(self) -> Spec:
        return self._spec

    @property
    def faults(self) -> Faults:
        return self._faults

    @property
    def processes(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def map(self, tasks: Sequence[Task], *, on_result: OnResult | None = None) -> list[Result]:
        while len(self._workers) < min(self._count, len(tasks)):
            self._workers.append(self._start())
        for worker in self._workers:
            worker.forget()
        job = _Job(tasks)
        try:
            while job.unfinished:
                self._assign(job)
                self._collect(job, on_result)
        except BaseException:
            # Busy workers would report to the next map; lose them with their episodes.
            self.close()
            raise
        return job.results()

    def close(self) -> None:
        """End all workers and free their memory; a later ``map`` starts new ones."""
        workers, self._workers = self._workers, []
        for worker in workers:
            if worker.task is None:
                worker.stop()
            else:
                worker.kill()

    def _start(self) -> Worker:
        return Worker(self._factory, name=f"fairlead worker {next(self._names)}")

    def _assign(self, job: _Job) -> None:
        for worker in self._workers:
            if worker.task is None and job.waiting:
                index = job.waiting.popleft()
                limit = self._timeout if worker.warm else self._timeout + STARTUP_SECONDS
                worker.assign(
                    index, job.tasks[index], job.keys[index], deadline=monotonic() + limit
                )

    def _collect(self, job: _Job, on_result: OnResult | None) -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        patience = max(0.0, min(worker.deadline for worker in busy.values()) - monotonic())
        ready = wait(list(busy), timeout=patience)
        for connection in ready:
            worker = busy[connection]  # pyright: ignore[reportArgumentType]
            match worker.receive():
                case ("segment", dict() as layout):
                    worker.make_room(layout)
                case ("attached",):
                    worker.attached()
                case ("need", int() as key):
                    worker.supply(job.controller(key))
                case ("done", int() as index, Result() as result):
                    done = worker.finish(result, recorded=job.tasks[index].record)
                    job.finish(index, done)
                    if on_result is not None:
                        on_result(index, done)
                case ("refused", str() as message):
                    raise UserError(message)
                case ("failed", int() as index, str() as trace):
                    self._count_fault("raised")
                    self._replace(worker, job, f"the worker's traceback was:\n{trace}")
                case _:
                    worker.process.join(timeout=5.0)
                    self._count_fault("crashed")
                    self._replace(worker, job, _explain(worker.process.exitcode))
        now = monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            self._count_fault("hung")
            self._replace(
                worker, job, f"it ran for more than {self._timeout:g} s (episode_timeout)"
            )

    def _replace(self, worker: Worker, job: _Job, reason: str) -> None:
        worker.kill()
        self._workers.remove(worker)
        if worker.task is not None:
            job.repeat(worker.task, reason)
        self._workers.append(self._start())

    def _count_fault(self, kind: str) -> None:
        counted = {"crashed": self._faults.crashed, "hung": self._faults.hung}
        counted["raised"] = self._faults.raised
        counted[kind] += 1
        self._faults = Faults(**counted)


class _Job:
    """Progress of one ``map``: what waits, what is done, how often each was tried."""

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = list(tasks)
        self.waiting = deque(range(len(self.tasks)))
        identities: dict[int, int] = {}
        self.keys = [
            identities.setdefault(id(task.controller), len(identities)) for task in self.tasks
        ]
        self._results: dict[int, Result] = {}
        self._attempts = [0] * len(self.tasks)

    def controller(self, key: int) -> Trained | Heuristic | Controller:
        return self.tasks[self.keys.index(key)].controller

    @property
    def unfinished(self) -> bool:
        return len(self._results) < len(self.tasks)

    def finish(self, index: int, result: Result) -> None:
        self._results[index] = result

    def repeat(self, index: int, reason: str) -> None:
        self._attempts[index] += 1
        if self._attempts[index] >= ATTEMPTS:
            raise WorkerError(
                f"the episode with seed {self.tasks[index].seed} failed {ATTEMPTS} times in a "
                f"worker process; the last time {reason}"
            )
        self.waiting.appendleft(index)

    def results(self) -> list[Result]:
        return [self._results[index] for index in range(len(self.tasks))]


def _explain(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return (
            f"the process was killed by signal {-exitcode} (9: often the system out of memory, "
            "7: shared memory full)"
        )
    return f"the process ended with exit status {exitcode}"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_executor(
    kind: str, factory: Factory, *, workers: int = 1, timeout: float = 600.0
) -> Executor:
    """The executor named ``kind``: ``inline`` or ``processes``.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "inline":
        return InlineExecutor(factory)
    if kind == "processes":
        return ProcessExecutor(factory, workers=workers, timeout=timeout)
    raise ValueError(f"executor must be 'inline' or 'processes', got {kind!r}")
