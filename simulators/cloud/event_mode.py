"""The stations without epochs: every arrival is routed at once with fresh information.

This is the queueing system of the textbooks (M/M/c, M/G/1-PS, power-of-d, loss systems), run on the
same stations as the dispatching simulator, so that its closed forms validate those stations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any, Literal

import numpy as np

from ..calendar import Calendar, Wake
from ..interface import Doubles
from ..streams import Streams
from .kernel import Seat
from .quantiles import LogHistogram
from .sizes import SizeLaw
from .stations import FirstComeFirstServed, ProcessorSharing

BLOCK = 4096
"""Random numbers are drawn and completions are booked in blocks of this many."""

Sampler = Callable[[np.random.Generator, int], Doubles]
"""Draws ``n`` positive numbers from a stream, ``[n]``."""

Chooser = Callable[[float], int]
"""Maps a job's size to the node that it goes to; called once per arrival, in order."""

Route = Callable[[list[int], np.random.Generator], Chooser]
"""Makes the chooser of a run from the live numbers of jobs at the nodes and a random stream."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A station of the event mode.

    Attributes:
        discipline: ``"ps"`` (one server shared equally) or ``"fcfs"``.
        speed: work units per second (per server).
        servers: parallel servers of an FCFS station.
        limit: most jobs that it holds; arrivals beyond are rejected (none: unlimited).
    """

    discipline: Literal["ps", "fcfs"] = "ps"
    speed: float = 1.0
    servers: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.speed <= 0 or self.servers < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"speed, servers and limit must be positive, got {self}")
        if self.discipline == "ps" and self.servers != 1:
            raise ValueError(f"a PS station has one server, got {self.servers}")


class Visit:
    """A job of the event mode: arrival number, time, size, full-speed service time, node."""

    __slots__ = ("arrival", "finish", "node", "number", "service", "size")

    finish: float

    def __init__(self, number: int, arrival: float, size: float, service: float, node: int):
        self.number = number
        self.arrival = arrival
        self.size = size
        self.service = service
        self.node = node


@dataclass(frozen=True, slots=True)
class EventResult:
    """Statistics of a run; job statistics skip the first ``warmup`` arrivals.

    Attributes:
        arrivals, completed, rejected: all jobs of the run (rejected ones count as arrivals).
        duration: time of the last event, s.
        observed: completed jobs in the job statistics.
        mean_response, mean_wait, mean_slowdown: response time, response minus full-speed service
            time, and response over full-speed service time.
        delayed: share of jobs that had to wait (beyond rounding).
        response: quantile sketch of response times.
        in_system: time average of jobs in system over ``[0, duration]`` (accepted jobs; exact).
        response_sum: sum of all completed responses, s, warm-up included.
        busy: ``[nodes]`` share of time that each node's servers worked.
        left: jobs in system at the end (0 after draining).
        size_edges: ``[11]`` deciles of size by which conditional means are kept.
        size_response: ``[10]`` mean response by size decile, s.
        size_slowdown: ``[10]`` mean slowdown by size decile.
        trace: ``(time, node, +1 or -1)`` of every arrival and departure, if asked for.
    """

    arrivals: int
    completed: int
    rejected: int
    duration: float
    observed: int
    mean_response: float
    mean_wait: float
    mean_slowdown: float
    delayed: float
    response: LogHistogram
    in_system: float
    response_sum: float
    busy: Doubles
    left: int
    size_edges: Doubles
    size_response: Doubles
    size_slowdown: Doubles
    trace: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])


def to_only(node: int = 0) -> Route:
    """Everything goes to one node."""
    return lambda _counts, _rng: lambda _size: node


def random_split(weights: Sequence[float] | Doubles) -> Route:
    """Node j with probability ``weights[j] / sum(weights)``, whatever the state."""
    cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
    inner = cumulative[:-1] / cumulative[-1]

    def bind(_counts: list[int], rng: np.random.Generator) -> Chooser:
        def draws() -> Any:
            while True:
                yield from np.searchsorted(inner, rng.random(BLOCK), side="right").tolist()

        follow = draws().__next__
        return lambda _size: follow()

    return bind


def round_robin() -> Route:
    """Nodes in cyclic order."""

    def bind(counts: list[int], _rng: np.random.Generator) -> Chooser:
        nodes, follow = len(counts), count().__next__
        return lambda _size: follow() % nodes

    return bind


def power_of_two() -> Route:
    """The shorter of two distinct random queues; the first drawn wins ties (JSQ(2))."""

    def bind(counts: list[int], rng: np.random.Generator) -> Chooser:
        nodes = len(counts)
        if nodes < 2:
            raise ValueError(f"power of two needs at least 2 nodes, got {nodes}")

        def draws() -> Any:
            while True:
                first = rng.integers(0, nodes, BLOCK)
                shift = rng.integers(1, nodes, BLOCK)
                yield from zip(first.tolist(), ((first + shift) % nodes).tolist(), strict=True)

        follow = draws().__next__

        def choose(_size: float) -> int:
            first, second = follow()
            return first if counts[first] <= counts[second] else second

        return choose

    return bind


def shortest_queue() -> Route:
    """The shortest of all queues, the lowest index among equal ones (JSQ); O(nodes) per job."""

    def bind(counts: list[int], _rng: np.random.Generator) -> Chooser:
        return lambda _size: counts.index(min(counts))

    return bind


def run_event_mode(  # noqa: PLR0913 - an experiment is described by all of these
    *,
    nodes: Sequence[NodeSpec],
    arrivals: float | Sampler,
    sizes: SizeLaw | Sampler,
    route: Route,
    seed: int,
    jobs: int | None = None,
    horizon: float | None = None,
    warmup: int = 0,
    drain: bool = True,
    trace: bool = False,
) -> EventResult:
    """Run an open queueing system.

    Args:
        nodes: the stations.
        arrivals: Poisson rate in jobs/s, or a sampler of inter-arrival times.
        sizes: law of job sizes, or a sampler; a job's service time is size / speed of its node.
        route: where a job goes; see ``to_only``, ``random_split``, ``round_robin``,
            ``power_of_two``, ``shortest_queue`` or pass your own.
        seed: derives the streams ``arrivals``, ``sizes`` and ``route``.
        jobs: stop arrivals after this many ...
        horizon: ... or after this many seconds (one of the two is required).
        warmup: first arrivals that job statistics leave out.
        drain: run on until the system is empty (``horizon`` then only stops arrivals).
        trace: keep every arrival and departure (memory grows with jobs).

    Raises:
        ValueError: neither ``jobs`` nor ``horizon``, no nodes, or ``warmup`` not below ``jobs``.
    """
    if jobs is None and horizon is None:
        raise ValueError("run_event_mode needs jobs or horizon")
    if not nodes:
        raise ValueError("run_event_mode needs at least one node")
    if jobs is not None and not 0 <= warmup < jobs:
        raise ValueError(f"warmup must lie in 0 ... jobs - 1 = {jobs - 1}, got {warmup}")
    run = _Run(
        nodes=nodes,
        arrivals=_exponential(arrivals) if isinstance(arrivals, int | float) else arrivals,
        sizes=sizes.sample if isinstance(sizes, SizeLaw) else sizes,
        route=route,
        seed=seed,
    )
    run.warmup = warmup
    run.log = [] if trace else None
    run.start(inf if jobs is None else jobs, inf if horizon is None else horizon)
    return run.finish(inf if drain or horizon is None else horizon)


def _exponential(rate: float) -> Sampler:
    if rate <= 0:
        raise ValueError(f"the arrival rate must be positive, got {rate}")
    return lambda rng, number: rng.exponential(1.0 / rate, number)


class _Run:
    """One run: the arrival event re-schedules itself, stations schedule their departures."""

    def __init__(
        self,
        *,
        nodes: Sequence[NodeSpec],
        arrivals: Sampler,
        sizes: Sampler,
        route: Route,
        seed: int,
    ):
        streams = Streams(seed)
        self.calendar = Calendar()
        self.counts: list[int] = [0] * len(nodes)
        self.done: list[Visit] = []
        serial = count()
        self.stations: list[ProcessorSharing | FirstComeFirstServed] = []
        for index, node in enumerate(nodes):
            seat = Seat(index, self.calendar, self.counts, self.done, serial)
            self.stations.append(
                ProcessorSharing(seat)
                if node.discipline == "ps"
                else FirstComeFirstServed(seat, servers=node.servers)
            )
        self.speeds = [node.speed for node in nodes]
        limits = [inf if node.limit is None else node.limit for node in nodes]
        self.limits = limits if min(limits) < inf else None
        self.choose = route(self.counts, streams.generator("route"))
        self._arrivals, self._sizes = arrivals, sizes
        self._gap_rng, self._size_rng = streams.generator("arrivals"), streams.generator("sizes")
        self.size_edges = np.quantile(
            sizes(streams.generator("deciles"), 100_000), np.linspace(0.0, 1.0, 11)
        )
        self.warmup = 0
        self.log: list[tuple[float, int, int]] | None = None
        self._statistics()

    def _statistics(self) -> None:
        self.arrived = self.rejected = self.completed = self.observed = 0
        self.response = LogHistogram()
        self.response_sum = 0.0
        self.sums = np.zeros(4)
        self.by_size = np.zeros((3, 10))

    def _stream(self) -> Any:
        """Endless ``(time, size)`` of arrivals."""
        time = 0.0
        while True:
            gaps = self._arrivals(self._gap_rng, BLOCK)
            sizes = self._sizes(self._size_rng, BLOCK)
            times = time + np.cumsum(gaps)
            time = float(times[-1])
            yield from zip(times.tolist(), sizes.tolist(), strict=True)

    def start(self, jobs: float, horizon: float) -> None:
        """Run all arrivals."""
        follow = self._stream().__next__
        calendar, choose, stations = self.calendar, self.choose, self.stations
        speeds, limits, counts, done = self.speeds, self.limits, self.counts, self.done
        at, log = calendar.at, self.log
        arrived = rejected = 0
        time, size = follow()

        def arrive(_event: Any) -> None:
            nonlocal arrived, rejected, time, size
            node = choose(size)
            if limits is not None and counts[node] >= limits[node]:
                rejected += 1
            else:
                service = size / speeds[node]
                stations[node].admit(Visit(arrived, time, size, service, node), service)
                if log is not None:
                    log.append((time, node, 1))
            arrived += 1
            if len(done) >= BLOCK:
                self._book()
            if arrived < jobs:
                time, size = follow()
                if time <= horizon:
                    event.callbacks = callbacks
                    at(time, event)

        callbacks: list[Callable[[Any], None]] = [arrive]
        event = Wake(callbacks)
        if time <= horizon:
            at(time, event)
        calendar.run_until(horizon)
        self.arrived, self.rejected = arrived, rejected

    def finish(self, until: float) -> EventResult:
        """Run the rest of the departures and collect the result."""
        self.calendar.run_until(until)
        self._book()
        now = self.calendar.now
        left = sum(self.counts)
        # Time average of jobs in system: completed responses plus the ages of the jobs left over.
        ages = sum(now - job.arrival for station in self.stations for job in station.present())
        seen = max(self.observed, 1)
        mean = self.sums / seen if self.observed else np.full(4, np.nan)
        per_size = np.maximum(self.by_size[0], 1.0)
        if self.log is not None:
            self.log.sort(key=_by_time)
        return EventResult(
            arrivals=self.arrived,
            completed=self.completed,
            rejected=self.rejected,
            duration=now,
            observed=self.observed,
            mean_response=float(mean[0]),
            mean_wait=float(mean[1]),
            mean_slowdown=float(mean[2]),
            delayed=float(mean[3]),
            response=self.response,
            in_system=(self.response_sum + ages) / now if now > 0 else 0.0,
            response_sum=self.response_sum,
            busy=np.array([station.busy_time() for station in self.stations]) / max(now, 1e-300),
            left=left,
            size_edges=self.size_edges,
            size_response=self.by_size[1] / per_size,
            size_slowdown=self.by_size[2] / per_size,
            trace=self.log if self.log is not None else [],
        )

    def _book(self) -> None:
        """Move completions into the statistics; memory does not grow with finished jobs."""
        done = self.done
        if not done:
            return
        facts = np.array(
            [(job.number, job.arrival, job.finish, job.service, job.size) for job in done]
        )
        if self.log is not None:
            self.log.extend((job.finish, job.node, -1) for job in done)
        done.clear()
        number, arrival, finish, service, size = facts.T
        response = finish - arrival
        self.completed += response.shape[0]
        self.response_sum += float(response.sum())
        keep = number >= self.warmup
        response, service, size = response[keep], service[keep], size[keep]
        self.observed += response.shape[0]
        wait = response - service
        slowdown = response / service
        self.sums += (
            response.sum(),
            wait.sum(),
            slowdown.sum(),
            (wait > 1e-9 * response + 1e-14 * finish[keep]).sum(),
        )
        self.response.add(response)
        decile = np.clip(np.searchsorted(self.size_edges, size, side="right") - 1, 0, 9)
        for row, values in enumerate((np.ones_like(response), response, slowdown)):
            self.by_size[row] += np.bincount(decile, weights=values, minlength=10)


def _by_time(entry: tuple[float, int, int]) -> float:
    return entry[0]
