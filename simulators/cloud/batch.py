"""Batch scheduling of one space-shared cluster: the stepping rules of RLScheduler, exactly.

Zhang, Dai, He, Bao, Xie, "RLScheduler: An Automated HPC Batch Job Scheduler Using Reinforcement
Learning" (SC 2020, arXiv 1910.08925) and its public code. The rules that its published figures
depend on:

- sort the queue by score (stable), take the head and *stay committed* to it until it starts, even
  when better jobs arrive;
- advance one event at a time: the next arrival if its submit time is not after the next completion,
  else the completion; jobs of the same instant are seen one after the other;
- a committed job starts as soon as enough processors are free; the run ends when the last job
  starts, and utilisation is taken up to that instant, not over the makespan.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import DataError
from ..interface import Doubles, Ints
from .backfill import (
    BACKFILLS,
    Backfill,
    Gap,
    Reservation,
    backfill_easy,
    backfill_greedy,
    reserve,
)
from .swf import SwfLog

SLOWDOWN_FLOOR = 10.0
"""Seconds: shorter run times count as this in the bounded slowdown."""

_Rule = Callable[[list[int], Gap, list[int], list[float]], list[int]]


@dataclass(frozen=True, slots=True)
class BatchJobs:
    """Jobs in order of their number; times in seconds since the start of the log.

    Attributes:
        number: ``[jobs]`` job number of the log.
        submit, run, request: ``[jobs]`` submit time, run time, requested time.
        processors: ``[jobs]`` processors each job occupies.
    """

    number: Ints
    submit: Doubles
    run: Doubles
    request: Doubles
    processors: Ints

    def __len__(self) -> int:
        return int(self.number.shape[0])

    def take(self, index: Ints | slice) -> BatchJobs:
        """The jobs at ``index``."""
        return BatchJobs(
            number=self.number[index],
            submit=self.submit[index],
            run=self.run[index],
            request=self.request[index],
            processors=self.processors[index],
        )

    def sequence(self, start: int, count: int) -> BatchJobs:
        """``count`` consecutive jobs from position ``start``.

        Raises:
            ValueError: the log has not that many jobs.
        """
        if start < 0 or count < 1 or start + count > len(self):
            raise ValueError(
                f"jobs {start} to {start + count} asked for, the log has {len(self)} usable jobs"
            )
        return self.take(slice(start, start + count))


class Score(Protocol):
    """Priority of waiting jobs: the lowest runs first, equal ones in the order they stand in."""

    @property
    def fixed(self) -> bool:
        """Whether scores do not change with time (then computed once per job)."""
        ...

    def __call__(self, jobs: BatchJobs, index: Ints, now: float) -> Doubles:
        """Scores ``[index]`` of ``jobs`` at ``index``, at time ``now`` (NaN if ``fixed``)."""
        ...


def batch_jobs(log: SwfLog, *, processors: int | None = None) -> BatchJobs:
    """The jobs of a log that can be scheduled, as RLScheduler reads them.

    Processors are the larger of allocated and requested; an unknown requested time is the run time;
    jobs of run time 0 are dropped, an unknown run time counts as 10 seconds; jobs are ordered by
    number.

    Raises:
        DataError: a job without processors, one that needs more than ``processors``, one submitted
            before its predecessor, or no usable job at all.
    """
    run = np.where(log.run_time < 0, 10.0, log.run_time)
    request = np.where(log.requested_time > 0, log.requested_time, run)
    needs = np.maximum(log.allocated_processors, log.requested_processors)
    order = np.argsort(log.job_number, kind="stable")
    order = order[run[order] > 0]
    if order.size == 0:
        raise DataError(log.file, accepted="no job with a run time; at least one is expected")
    submit = log.submit_time[order]
    backwards = np.zeros(log.jobs, dtype=bool)
    backwards[order[1:]] = np.diff(submit) < 0
    largest = np.inf if processors is None else processors
    for field, values, wrong, accepted in (
        ("processors", needs, needs < 1, "at least 1 processor is expected"),
        ("processors", needs, needs > largest, f"at most the cluster's {processors} are expected"),
        ("submit_time", log.submit_time, backwards, "times that rise with the job number"),
    ):
        found = order[wrong[order]]
        if found.size:
            row = int(found[0])
            line, value = int(log.line[row]), float(values[row])
            raise DataError(log.file, line=line, field=field, value=value, accepted=accepted)
    return BatchJobs(
        number=log.job_number[order],
        submit=submit,
        run=run[order],
        request=request[order],
        processors=needs[order],
    )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A schedule: when every job started.

    Attributes:
        jobs: the jobs, in the order they were given.
        start: ``[jobs]`` seconds.
        processors: size of the cluster.
    """

    jobs: BatchJobs
    start: Doubles
    processors: int

    @property
    def wait(self) -> Doubles:
        """``[jobs]`` seconds from submission to start."""
        return self.start - self.jobs.submit

    @property
    def response(self) -> Doubles:
        """``[jobs]`` seconds from submission to end."""
        return self.wait + self.jobs.run

    @property
    def bounded_slowdown(self) -> Doubles:
        """``[jobs]`` response over run time, with run times below ten seconds counted as ten."""
        return np.maximum(1.0, self.response / np.maximum(self.jobs.run, SLOWDOWN_FLOOR))

    @property
    def makespan(self) -> float:
        """Seconds from the first submission to the last end."""
        return float((self.start + self.jobs.run).max() - self.jobs.submit[0])

    @property
    def utilization(self) -> float:
        """Work over capacity from the first submission to the last end."""
        return self._work / (self.makespan * self.processors)

    @property
    def utilization_to_last_start(self) -> float:
        """All work over the capacity up to the last *start*: the published definition.

        Can exceed 1; NaN if all jobs start at once.
        """
        span = float(self.start.max() - self.jobs.submit[0])
        return self._work / (span * self.processors) if span > 0 else float("nan")

    @property
    def _work(self) -> float:
        return float(self.jobs.run @ self.jobs.processors)


def schedule(
    jobs: BatchJobs, *, processors: int, score: Score, backfill: Backfill = "none"
) -> BatchResult:
    """Schedule all ``jobs`` on an empty cluster of ``processors``.

    Raises:
        ValueError: unknown backfilling rule, no job, or a job larger than the cluster.
    """
    if backfill not in BACKFILLS:
        raise ValueError(f"backfill must be one of {', '.join(BACKFILLS)}, got {backfill!r}")
    if len(jobs) == 0:
        raise ValueError("no jobs to schedule")
    if int(jobs.processors.max()) > processors:
        worst = int(jobs.processors.argmax())
        raise ValueError(
            f"job {jobs.number[worst]} needs {jobs.processors[worst]} processors, the cluster has "
            f"{processors}"
        )
    return _Cluster(jobs, processors, score, backfill).run()


class _Cluster:
    """One run. Lists instead of arrays: every step touches single elements."""

    def __init__(self, jobs: BatchJobs, processors: int, score: Score, backfill: Backfill) -> None:
        self.jobs, self.size, self.score, self.backfill = jobs, processors, score, backfill
        self.submit: list[float] = jobs.submit.tolist()
        self.length: list[float] = jobs.run.tolist()
        self.request: list[float] = jobs.request.tolist()
        self.needs: list[int] = jobs.processors.tolist()
        self.exact = bool((jobs.run == jobs.request).all())
        everything = np.arange(len(jobs), dtype=np.int64)
        self.scores = score(jobs, everything, float("nan")).tolist() if score.fixed else None
        self.start = [0.0] * len(jobs)
        self.free = processors
        self.now = self.submit[0]
        self.queue = [0]
        self.arrived = 1
        # Running jobs by rising end; equal ends in the order of starting.
        self.ends: list[float] = []
        self.running: list[int] = []

    def run(self) -> BatchResult:
        count = len(self.submit)
        while True:
            while not self.queue:
                if self.arrived == count:
                    start = np.array(self.start)
                    return BatchResult(self.jobs, start, self.size)
                self._advance()
            job = self._head()
            if self.needs[job] > self.free:
                if self.backfill == "greedy":
                    self._wait_greedy(job)
                elif self.backfill == "easy":
                    self._wait_easy(job)
                else:
                    while self.needs[job] > self.free:
                        self._advance()
            self._launch(job)

    def _head(self) -> int:
        queue = self.queue
        if self.scores is not None:
            queue.sort(key=self.scores.__getitem__)
        elif len(queue) > 1:
            index = np.array(queue)
            order = np.argsort(self.score(self.jobs, index, self.now), kind="stable")
            self.queue = queue = index[order].tolist()
        return queue[0]

    def _advance(self) -> bool:
        """One event. True if processors were released, False if a job arrived."""
        arrived = self.arrived
        if arrived < len(self.submit) and (not self.ends or self.submit[arrived] <= self.ends[0]):
            self.now = max(self.now, self.submit[arrived])
            self.queue.append(arrived)
            self.arrived += 1
            return False
        self.now = max(self.now, self.ends.pop(0))
        self.free += self.needs[self.running.pop(0)]
        return True

    def _launch(self, job: int) -> None:
        self.queue.remove(job)
        self.start[job] = self.now
        self.free -= self.needs[job]
        end = self.now + self.length[job]
        position = bisect_right(self.ends, end)
        self.ends.insert(position, end)
        self.running.insert(position, job)

    def _expected(self, job: int) -> float:
        return self.start[job] + self.request[job]

    def _wait_greedy(self, job: int) -> None:
        if not self.exact:
            # The published code leaves its list of running jobs sorted by expected end, which then
            # decides among equal ends.
            by_end = sorted(self.running, key=self._expected)
            releases = [(self._expected(other), self.needs[other]) for other in by_end]
            by_end.sort(key=lambda other: self.start[other] + self.length[other])
            self.running = by_end
        else:
            running = self.running
            releases = list(zip(self.ends, map(self.needs.__getitem__, running), strict=True))
        reservation = reserve(self.needs[job], self.free, releases)
        # Stable on top of the score order, which decides among equal submit times.
        self.queue.sort(key=self.submit.__getitem__)
        fresh = self.queue
        while self.needs[job] > self.free:
            self._start_all(backfill_greedy, fresh, reservation)
            # After an arrival only the new job can be new among those that qualify: the rest was
            # refused with at least as many free processors and at an earlier time.
            fresh = self.queue if self._advance() else self.queue[-1:]

    def _wait_easy(self, job: int) -> None:
        while self.needs[job] > self.free:
            ends = [max(self._expected(other), self.now) for other in self.running]
            releases = sorted(zip(ends, map(self.needs.__getitem__, self.running), strict=True))
            reservation = reserve(self.needs[job], self.free, releases)
            others = sorted(other for other in self.queue if other != job)
            self._start_all(backfill_easy, others, reservation)
            self._advance()

    def _start_all(self, rule: _Rule, waiting: list[int], reservation: Reservation) -> None:
        gap = Gap(self.now, self.free, reservation)
        for job in rule(waiting, gap, self.needs, self.request):
            self._launch(job)
