"""One partition of a batch system: queue, running jobs, committed job and cost, event by event.

The rules are those of :mod:`.batch`; here the choice of the next job comes from outside and the
clock belongs to somebody else. Every change costs O(queue) at most, the cost account O(log n).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np

from ..interface import Doubles
from .backfill import Backfill, Gap, Reservation, backfill_easy, backfill_greedy, reserve
from .batch import SLOWDOWN_FLOOR, BatchJobs
from .batch_scenario import Objective

NOBODY = -1
"""``committed`` when the partition is free to choose."""


class CostAccount:
    """The cost of a partition's jobs, accrued while they wait.

    A job costs ``fixed`` when it arrives (what no schedule can avoid) and then ``weight`` per
    second of waiting beyond its ``grace``. With ``bounded_slowdown``: 1, 1 / max(run, 10) and the
    seconds that a run shorter than ten lacks; with ``response``: the run time, 1 and none. The sum
    over all jobs is the objective's sum, exactly.

    The cost of jobs that accrue is kept as two running sums, W and S = sum of weight x the time at
    which a job began to accrue, so that at time t they have cost W t - S.
    """

    def __init__(self, jobs: BatchJobs, objective: Objective):
        if objective == "bounded_slowdown":
            floor = np.maximum(jobs.run, SLOWDOWN_FLOOR)
            weight, grace, fixed = 1.0 / floor, floor - jobs.run, np.ones(len(jobs))
        else:
            weight, grace, fixed = np.ones(len(jobs)), np.zeros(len(jobs)), jobs.run
        self.weight: list[float] = weight.tolist()
        self._fixed: list[float] = fixed.tolist()
        self._onset: list[float] = (jobs.submit + grace).tolist()
        self._grace: list[tuple[float, int]] = []
        self._accruing: set[int] = set()
        self._rate = 0.0
        self._offset = 0.0
        self._done = 0.0

    def arrive(self, job: int) -> None:
        """A job joined the queue; it accrues from its onset on."""
        self._done += self._fixed[job]
        heappush(self._grace, (self._onset[job], job))

    def begin(self, job: int, now: float) -> None:
        """A waiting job started to run: what it cost is settled."""
        self._settle(now)
        weight, onset = self.weight[job], self._onset[job]
        if job in self._accruing:
            self._accruing.remove(job)
            self._done += weight * (now - onset)
            self._rate -= weight
            self._offset -= weight * onset
            if not self._accruing:
                # Nothing accrues, so the sums are zero: rounding cannot pile up over an episode.
                self._rate = self._offset = 0.0
        else:
            self._grace.remove((onset, job))
            self._grace.sort()

    def total(self, now: float) -> float:
        """Cost up to ``now``."""
        self._settle(now)
        return self._done + self._rate * now - self._offset

    def _settle(self, now: float) -> None:
        while self._grace and self._grace[0][0] <= now:
            onset, job = heappop(self._grace)
            self._accruing.add(job)
            self._rate += self.weight[job]
            self._offset += self.weight[job] * onset


class Partition:
    """Processors with a queue in front.

    Args:
        jobs: what will arrive here; times in seconds since the start of the episode.
        processors: size of the partition.
        backfill: which jobs may run ahead of a committed one.
        objective: what the cost account counts.
        launch: told (job, time of its end) whenever a job starts.
    """

    def __init__(
        self,
        jobs: BatchJobs,
        *,
        processors: int,
        backfill: Backfill,
        objective: Objective,
        launch: Callable[[int, float], None],
    ):
        self.jobs, self.processors, self.backfill = jobs, processors, backfill
        self.cost = CostAccount(jobs, objective)
        self._launch = launch
        self._length: list[float] = jobs.run.tolist()
        self._request: list[float] = jobs.request.tolist()
        self.needs: list[int] = jobs.processors.tolist()
        self.queue: list[int] = []
        self.committed = NOBODY
        self.held = False
        self.free = processors
        self.arrived = 0
        self.backfilled = 0
        self.start: Doubles = np.full(len(jobs), np.nan)
        # Running jobs by rising expected end.
        self._expected: list[float] = []
        self._running: list[int] = []
        self._reservation: Reservation | None = None

    @property
    def wants_decision(self) -> bool:
        """Whether jobs wait, none is committed, and the agent did not just hold."""
        return bool(self.queue) and self.committed == NOBODY and not self.held

    @property
    def finished(self) -> bool:
        """Whether every job has started."""
        return self.arrived == len(self.needs) and not self.queue

    @property
    def idle(self) -> bool:
        """Whether nothing more happens here by itself: no job runs and none is to come."""
        return not self._running and self.arrived == len(self.needs)

    def running_work(self, now: float) -> float:
        """Processor-seconds that the running jobs may still take by their requested times."""
        ends = zip(self._expected, self._running, strict=True)
        return sum((end - now) * self.needs[job] for end, job in ends if end > now)

    def arrive(self, now: float) -> None:
        """The next job joins the queue."""
        job = self.arrived
        self.arrived += 1
        self.queue.append(job)
        self.cost.arrive(job)
        self._react(now, [job])

    def complete(self, job: int, now: float) -> None:
        """A running job ends."""
        position = self._running.index(job)
        del self._running[position], self._expected[position]
        self.free += self.needs[job]
        self._react(now, self.queue)

    def commit(self, job: int, now: float) -> None:
        """The agent commits to a waiting job, which starts as soon as it fits."""
        self.committed = job
        self._reservation = None
        self._react(now, self.queue)

    def _react(self, now: float, news: list[int]) -> None:
        """After an event: start the committed job if it fits, else backfill.

        ``news`` are the jobs that may newly qualify for greedy backfilling: after an arrival only
        the new one, because the others were refused with at least as many free processors and at an
        earlier time.
        """
        self.held = False
        job = self.committed
        if job == NOBODY:
            return
        if self.needs[job] <= self.free:
            self.committed = NOBODY
            self._start(job, now)
        elif self.backfill == "greedy":
            if self._reservation is None:
                self._reservation = self._reserve(job, now)
            self._fill(backfill_greedy(news, *self._gap(now, self._reservation)), now)
        elif self.backfill == "easy":
            others = [other for other in self.queue if other != job]
            self._fill(backfill_easy(others, *self._gap(now, self._reserve(job, now))), now)

    def _gap(self, now: float, reservation: Reservation) -> tuple[Gap, list[int], list[float]]:
        return Gap(now, self.free, reservation), self.needs, self._request

    def _reserve(self, job: int, now: float) -> Reservation:
        late = now if self.backfill == "easy" else -np.inf
        ends = zip(self._expected, self._running, strict=True)
        releases = [(max(end, late), self.needs[other]) for end, other in ends]
        return reserve(self.needs[job], self.free, releases)

    def _fill(self, chosen: list[int], now: float) -> None:
        self.backfilled += len(chosen)
        for job in chosen:
            self._start(job, now)

    def _start(self, job: int, now: float) -> None:
        self.queue.remove(job)
        self.cost.begin(job, now)
        self.start[job] = now
        self.free -= self.needs[job]
        expected = now + self._request[job]
        position = bisect_right(self._expected, expected)
        self._expected.insert(position, expected)
        self._running.insert(position, job)
        self._launch(job, now + self._length[job])
