"""Snapshots of all nodes at once, and the remaining-service profile that is the system state x.

The cost of draining a processor-sharing node, its jobs' total response time, is the integral over
u of ``n(>u)^2``, where ``n(>u)`` counts jobs whose remaining full-speed service time exceeds u:
two jobs delay each other by twice the shorter remainder. Averages of ``n(>u)`` over bins are
therefore a state in which the cost is diagonal and quadratic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles, Ints
from .cluster import Cluster
from .scenario import CloudScenario


def profile_edges(scenario: CloudScenario) -> Doubles:
    """Edges of the profile's bins ``[B + 1]``, s: 0, then geometric from ``first`` to ``cap``."""
    shape = scenario.profile
    if shape.bins == 1:
        return np.array([0.0, shape.cap])
    if shape.cap <= shape.first:
        raise ValueError(f"profile.cap {shape.cap} must exceed profile.first {shape.first}")
    return np.concatenate([[0.0], np.geomspace(shape.first, shape.cap, shape.bins)])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The nodes at one instant; immutable, so that it can grow old.

    Attributes:
        time: s.
        jobs: ``[M]`` jobs on each node.
        work: ``[M]`` full-speed remaining service, s.
        utilisation: ``[M]`` moving average, 0..1.
        up: ``[M]`` nodes in service.
        node: ``[R]`` node of every job on a node, ascending.
        remaining: ``[R]`` its remaining full-speed service time, ascending within a node, s.
        start: ``[M + 1]`` rows of a node in ``remaining``.
        cpu, memory, gpu, fragmentation: free resources ``[M]``, ``[M]``, ``[M, devices]`` and F
            ``[M]`` in GPU-milli (exclusive nodes, else empty).
    """

    time: float
    jobs: Ints
    work: Doubles
    utilisation: Doubles
    up: Bools
    node: Ints
    remaining: Doubles
    start: Ints
    cpu: Ints
    memory: Ints
    gpu: Ints
    fragmentation: Doubles

    def overlap(self, node: Ints, service: Doubles) -> Doubles:
        """Sum over the jobs on ``node`` of ``min(service, remaining)``, s; any common shape."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.remaining)])
        keys = self.node + 1j * self.remaining  # complex numbers sort by node, then by remaining
        first, last = self.start[node], self.start[node + 1]
        split = np.searchsorted(keys, node + 1j * service, side="right")
        return cumulative[split] - cumulative[first] + service * (last - split)

    def profile(self, edges: Doubles) -> Doubles:
        """``[M, B]`` mean over u in each bin of the number of jobs with remaining time above u."""
        share = influence(self.remaining, edges)
        total = np.zeros((self.jobs.shape[0], edges.shape[0] - 1))
        occupied = np.flatnonzero(self.jobs)
        if occupied.size:
            total[occupied] = np.add.reduceat(share, self.start[occupied], axis=0)
        return total


def influence(service: Doubles, edges: Doubles) -> Doubles:
    """What jobs of ``service`` seconds add to a node's profile: ``[..., B]``, entries in 0..1."""
    return np.clip((service[..., None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)


class Observer:
    """Takes snapshots of a cluster and keeps what they carry over from one to the next.

    Args:
        cluster: what to look at.
        smoothing: weight of the newest epoch in the utilisation average.
    """

    def __init__(self, *, cluster: Cluster, smoothing: float):
        self._cluster = cluster
        self._smoothing = smoothing
        nodes = len(cluster.stations)
        self._utilisation = np.zeros(nodes)
        self._busy = np.zeros(nodes)
        self._time = 0.0
        self._fragmentation = np.zeros(0)
        self._seen: tuple[Ints, Ints] | None = None

    def take(self) -> Snapshot:
        """The present."""
        cluster = self._cluster
        now = cluster.calendar.now
        self._average(now)
        jobs = np.array(cluster.counts, dtype=np.int64)
        flat: list[float] = []
        clocks: list[float] = []
        for count, station in zip(cluster.counts, cluster.stations, strict=True):
            if count:
                marks, clock = station.marks()
                flat += marks
                clocks.append(clock)
        node = np.repeat(np.arange(jobs.shape[0]), jobs)
        remaining = np.maximum(np.array(flat) - np.repeat(clocks, jobs[jobs > 0]), 0.0)
        order = np.lexsort((remaining, node))
        remaining = remaining[order]
        ledger = cluster.ledger
        none = np.zeros(0, dtype=np.int64)
        return Snapshot(
            time=now,
            jobs=jobs,
            work=np.bincount(node, weights=remaining, minlength=jobs.shape[0]).astype(np.float64),
            utilisation=self._utilisation.copy(),
            up=cluster.up.copy(),
            node=node,
            remaining=remaining,
            start=np.concatenate([[0], np.cumsum(jobs)]),
            cpu=none if ledger is None else ledger.cpu.copy(),
            memory=none if ledger is None else ledger.memory.copy(),
            gpu=none if ledger is None else ledger.gpu.copy(),
            fragmentation=self._fragments(),
        )

    def _average(self, now: float) -> None:
        if now > self._time:
            busy = self._cluster.busy_times()
            share = (busy - self._busy) / (now - self._time)
            self._utilisation += self._smoothing * (np.clip(share, 0.0, 1.0) - self._utilisation)
            self._busy, self._time = busy, now

    @property
    def busy(self) -> Doubles:
        """``[M]`` busy seconds of every node at the last snapshot."""
        return self._busy

    def _fragments(self) -> Doubles:
        """F of every node, recomputed only where free CPU or GPUs changed."""
        ledger = self._cluster.ledger
        if ledger is None:
            return np.zeros(0)
        resources = ledger.resources
        if self._seen is None:
            changed = np.arange(ledger.cpu.shape[0])
            self._fragmentation = np.zeros(ledger.cpu.shape[0])
        else:
            cpu, gpu = self._seen
            changed = np.flatnonzero((cpu != ledger.cpu) | (gpu != ledger.gpu).any(axis=1))
        if changed.size:
            self._fragmentation[changed] = resources.fragmentation(
                ledger.cpu[changed], ledger.gpu[changed], resources.model[changed]
            )
        self._seen = (ledger.cpu.copy(), ledger.gpu.copy())
        return self._fragmentation.copy()
