"""Streams of jobs of one episode, drawn in windows so that memory does not grow with its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..interface import Doubles, Ints
from ..streams import Streams
from .arrivals import ArrivalPattern, RateShape
from .fleet import Fleet
from .kernel import Job
from .sizes import SizeLaw


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrivals of a window in order of time; n jobs.

    Attributes:
        time: ``[n]`` s.
        owner: ``[n]`` dispatcher.
        kind: ``[n]`` class.
        size: ``[n]`` work units.
        services: ``[n, T]`` full-speed service time on each node type, s.
        best: ``[n]`` shortest service time among capable types, s.
        demand: ``[n]`` row of the demand table (0 where nodes are not exclusive).
        estimate: ``[n]`` estimated over true size.
    """

    time: Doubles
    owner: Ints
    kind: Ints
    size: Doubles
    services: Doubles
    best: Doubles
    demand: Ints
    estimate: Doubles

    def jobs(self) -> list[Job]:
        """The arrivals as jobs."""
        columns = (
            self.owner.tolist(),
            self.kind.tolist(),
            self.size.tolist(),
            self.time.tolist(),
            self.services.tolist(),
            self.best.tolist(),
            self.demand.tolist(),
            self.estimate.tolist(),
        )
        return list(map(Job, *columns))


class Workload(Protocol):
    """One episode's arrivals and their forecast."""

    def draw(self, start: float, end: float) -> Batch:
        """Arrivals in ``(start, end]``; windows must be asked for in order."""
        ...

    def factors(self, time: float) -> Doubles:
        """``[G]`` forecast rate of each group relative to its mean; exogenous."""
        ...

    def day(self, time: float) -> tuple[float, float]:
        """``(sin, cos)`` of the time of day."""
        ...


class JobLaw(Protocol):
    """Attributes of jobs given their classes and tenant groups."""

    def attributes(self, kind: Ints, group: Ints) -> tuple[Doubles, Doubles, Doubles, Ints]:
        """``(size, services, best, demand)`` of jobs of these classes and groups."""
        ...


class Estimates:
    """Log-normal errors of size estimates, with median 1."""

    def __init__(self, *, spread: float, streams: Streams):
        self._spread = spread
        self._rng = streams.generator("estimates")

    def draw(self, count: int) -> Doubles:
        """``[count]`` estimated over true size."""
        if self._spread == 0.0:
            return np.ones(count)
        return np.exp(self._rng.normal(0.0, self._spread, count))


class SpeedLaw:
    """Sizes from one law, service times from the speed of each node type for the job's class.

    Args:
        size: law of sizes, work units.
        seconds: ``[T, C]`` seconds per work unit.
        rng: stream of sizes.
    """

    def __init__(self, *, size: SizeLaw, seconds: Doubles, rng: np.random.Generator):
        self._size = size
        self._seconds = np.ascontiguousarray(seconds.T)
        self._fastest = seconds.min(axis=0)
        self._rng = rng

    def attributes(self, kind: Ints, group: Ints) -> tuple[Doubles, Doubles, Doubles, Ints]:
        del group
        size = self._size.sample(self._rng, kind.shape[0])
        services = size[:, None] * self._seconds[kind]
        return size, services, size * self._fastest[kind], np.zeros_like(kind)


class PatternWorkload:
    """Poisson arrivals with a group-wise rate pattern (thinning), attributes from a law."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        pattern: ArrivalPattern,
        law: JobLaw,
        estimates: Estimates,
        streams: Streams,
    ):
        self._shape = RateShape(
            pattern=pattern,
            groups=len(fleet.groups),
            length=fleet.dt * fleet.horizon,
            dt=fleet.dt,
            rng=streams.generator("pattern"),
        )
        self._rng = streams.generator("arrivals")
        self._law = law
        self._estimates = estimates
        self._members = [np.flatnonzero(fleet.group_of == g) for g in range(len(fleet.groups))]
        self._group_of = fleet.group_of
        self._rates = fleet.group_rates
        self._mix = np.cumsum(fleet.mix, axis=1)

    def draw(self, start: float, end: float) -> Batch:
        rng, bound = self._rng, self._shape.bound
        times: list[Doubles] = []
        owners: list[Ints] = []
        kinds: list[Ints] = []
        for g, members in enumerate(self._members):
            count = int(rng.poisson(bound * self._rates[g] * (end - start)))
            draws = rng.random((4, count))
            # 1 - u lies in (0, 1], so windows (start, end] share no instant.
            time = start + (end - start) * (1.0 - draws[0])
            keep = draws[1] * bound < self._shape.factor(g, time)
            times.append(time[keep])
            owners.append(members[(draws[2, keep] * members.size).astype(np.int64)])
            kinds.append(np.searchsorted(self._mix[g][:-1], draws[3, keep], side="right"))
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        kind = np.concatenate(kinds)[order]
        owner = np.concatenate(owners)[order]
        group = self._group_of[owner]
        size, services, best, demand = self._law.attributes(kind, group)
        return Batch(
            time=time[order],
            owner=owner,
            kind=kind,
            size=size,
            services=services,
            best=best,
            demand=demand,
            estimate=self._estimates.draw(kind.shape[0]),
        )

    def factors(self, time: float) -> Doubles:
        return self._shape.factors(time)

    def day(self, time: float) -> tuple[float, float]:
        return self._shape.day(time)
