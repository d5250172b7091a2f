"""The nodes of an episode: placement, failures, repairs and the running totals of each node."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from ..calendar import Calendar, Wake
from ..interface import Bools, Doubles
from .exclusive import Exclusive, Ledger
from .fleet import Fleet
from .kernel import Job, Seat
from .scenario import Failures
from .stations import FirstComeFirstServed, ProcessorSharing

Station = ProcessorSharing | FirstComeFirstServed | Exclusive
Returned = Callable[[Job], None]
"""Takes back a job whose node failed."""


class Cluster:
    """M nodes on one calendar.

    Args:
        fleet: node types, discipline and resources.
        node_limit: most jobs that a node accepts (none: no limit).
        failures: failure and repair law.
        rng: stream of failures.
        returned: called with every job that a failed node gives back.

    Attributes:
        calendar: the event list; its clock is the simulation's.
        counts: jobs on each node, always up to date (a plain list: routing reads it per event).
        finished: completed jobs since the last ``take_finished``.
        up: ``[M]`` nodes in service.
        ledger: free vector resources (exclusive nodes).
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        node_limit: int | None,
        failures: Failures,
        rng: np.random.Generator,
        returned: Returned,
    ):
        self.calendar = Calendar()
        self.counts: list[int] = [0] * fleet.nodes
        self.finished: list[Job] = []
        self.up: Bools = np.ones(fleet.nodes, dtype=bool)
        self.ledger = Ledger(fleet.resources) if fleet.resources is not None else None
        self._capable = (
            fleet.resources.capable() if fleet.resources is not None else np.ones((1, 1), bool)
        )
        self._type_of: list[int] = fleet.type_of.tolist()
        self._limit = node_limit
        self._failures = failures
        self._rng = rng
        self._returned = returned
        self._down_time = np.zeros(fleet.nodes)
        self._down_since = np.zeros(fleet.nodes)
        self.stations = self._build(fleet)
        if failures.mttf is not None:
            for node in range(fleet.nodes):
                self._switch_after(failures.mttf, self._fail, node)

    def _build(self, fleet: Fleet) -> list[Station]:
        serial = count()
        stations: list[Station] = []
        demands: list[tuple[int, int, int, int]] = []
        if fleet.resources is not None:
            d = fleet.resources.demands
            columns = (d.cpu.tolist(), d.memory.tolist(), d.gpus.tolist(), d.gpu_milli.tolist())
            demands = list(zip(*columns, strict=True))
        kind = ProcessorSharing if fleet.discipline == "ps" else FirstComeFirstServed
        for index in range(fleet.nodes):
            seat = Seat(index, self.calendar, self.counts, self.finished, serial)
            if self.ledger is not None:
                stations.append(Exclusive(seat, ledger=self.ledger, demands=demands))
            else:
                stations.append(kind(seat))
        return stations

    def accepts(self, job: Job, node: int) -> bool:
        """Whether ``node`` would take ``job`` now."""
        if not self.up[node]:
            return False
        station = self.stations[node]
        if isinstance(station, Exclusive):
            return bool(self._capable[job.demand, node]) and station.fits(job)
        return self._limit is None or self.counts[node] < self._limit

    def place(self, job: Job, node: int) -> None:
        """Start ``job`` on ``node``, which must accept it."""
        service = job.services[self._type_of[node]]
        job.node = node
        job.service = service
        job.placed = self.calendar.now
        self.stations[node].admit(job, service)

    def take_finished(self) -> list[Job]:
        """Jobs completed since the last call, in order of completion; forgets them."""
        done = self.finished[:]
        self.finished.clear()
        return done

    def busy_times(self) -> Doubles:
        """``[M]`` seconds of full utilisation that each node has given since the start."""
        return np.array([station.busy_time() for station in self.stations])

    def down_times(self) -> Doubles:
        """``[M]`` seconds that each node has been out of service."""
        return self._down_time + np.where(self.up, 0.0, self.calendar.now - self._down_since)

    def _fail(self, node: int) -> None:
        now = self.calendar.now
        self.up[node] = False
        self._down_since[node] = now
        for job, left in self.stations[node].evict():
            if not self._failures.lose_work and job.service > 0.0:
                share = left / job.service
                job.size *= share
                job.services = [service * share for service in job.services]
            job.node = -1
            self._returned(job)
        self._switch_after(self._failures.mttr, self._repair, node)

    def _repair(self, node: int) -> None:
        now = self.calendar.now
        self.up[node] = True
        self._down_time[node] += now - self._down_since[node]
        if self._failures.mttf is not None:
            self._switch_after(self._failures.mttf, self._fail, node)

    def _switch_after(self, mean: float, action: Callable[[int], None], node: int) -> None:
        delay = float(self._rng.exponential(mean))
        self.calendar.at(self.calendar.now + delay, Wake([_Switch(action, node)]))


class _Switch:
    """Callback that turns one node off or on."""

    __slots__ = ("_action", "_node")

    def __init__(self, action: Callable[[int], None], node: int):
        self._action = action
        self._node = node

    def __call__(self, _event: Any) -> None:
        self._action(self._node)
