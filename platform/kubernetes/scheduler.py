"""A scheduler that replays pods: arrive, be placed, run, leave; who places them is an argument.

One pod at a time as in kube-scheduler. A pod that fits nowhere waits; whenever something leaves,
the pods that have waited longest are tried again.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ...policies.interface import Controller
from .cluster import Cluster
from .objects import Pod, read_pod
from .view import Viewer
from .workload import Trace, pod_object

RETRIES = 8
"""Waiting pods that are tried again when one leaves."""


class Placer(Protocol):
    """Chooses a node for a pod and books it in the books; ``None``: nowhere."""

    def place(self, value: dict[str, Any], pod: Pod, now: float) -> str | None: ...

    def found(self, value: dict[str, Any], pod: Pod) -> None:
        """The pod runs when the replay begins; the books know already."""
        ...

    def leave(self, pod: Pod, now: float) -> None:
        """The pod has ended; the books know already."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the pods.

    Attributes:
        placed: node of each pod by its position in the arrivals, empty if it never ran.
        waited: ``[P]`` s until it was placed; NaN if it never was.
        allocation: mean share of the GPUs that are allocated, over the time of arrivals.
        fragmentation: mean share of the free GPUs that typical pods cannot use.
    """

    placed: tuple[str, ...]
    waited: np.ndarray[tuple[int], np.dtype[np.float64]]
    allocation: float
    fragmentation: float

    @property
    def unplaced(self) -> int:
        """Pods that never ran."""
        return sum(not name for name in self.placed)


class Books:
    """Time averages over the scheduler's own record of the cluster."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self._capacity = float(cluster.resources.gpus.sum()) * 1000.0
        self._time = 0.0
        self._elapsed = 0.0
        self._allocated = 0.0
        self._fragments = 0.0

    def advance(self, now: float) -> None:
        """Account for the time since the last change, before the next one."""
        spent = now - self._time
        if spent <= 0.0:
            return
        view = self.cluster.view(now)
        free = float(view.gpu.sum())
        self._allocated += spent * (1.0 - free / self._capacity)
        self._fragments += spent * (float(view.fragmentation.sum()) / free if free else 0.0)
        self._elapsed += spent
        self._time = now

    @property
    def means(self) -> tuple[float, float]:
        """Allocated share of the GPUs, and unusable share of the free ones."""
        elapsed = max(self._elapsed, 1e-9)
        return self._allocated / elapsed, self._fragments / elapsed


class RulePlacer:
    """Places by a rule in process, on the books themselves."""

    def __init__(self, rule: Controller, viewer: Viewer, cluster: Cluster):
        self._rule, self._viewer, self._cluster = rule, viewer, cluster
        self._names = tuple(node.name for node in cluster.nodes)
        self._rng = np.random.default_rng(0)

    def place(self, value: dict[str, Any], pod: Pod, now: float) -> str | None:
        del value
        seen = self._viewer.see(pod, self._names, now, run_time=1.0)
        if not seen.legal.any():
            return None
        action = int(self._rule.act(seen.observation, self._rng)[0])
        name = self._names[action - 1]
        self._cluster.book(pod, name, now)
        return name

    def found(self, value: dict[str, Any], pod: Pod) -> None:
        del value, pod

    def leave(self, pod: Pod, now: float) -> None:
        del pod, now


def replay(trace: Trace, placer: Placer, cluster: Cluster) -> Replayed:
    """Let the pods arrive, run and leave until the last one has arrived; see the module."""
    run = _Run(trace, placer, cluster)
    for index in range(trace.coming.time.shape[0]):
        run.arrive(index)
    allocation, fragmentation = run.books.means
    return Replayed(tuple(run.placed), run.waited, allocation, fragmentation)


class _Run:
    def __init__(self, trace: Trace, placer: Placer, cluster: Cluster):
        self._trace, self._placer, self._cluster = trace, placer, cluster
        count = trace.coming.time.shape[0]
        self.books = Books(cluster)
        self.placed = [""] * count
        self.waited = np.full(count, np.nan)
        self._leaving: list[tuple[float, int, Pod]] = []
        self._waiting: deque[int] = deque()
        before = trace.before
        for at in range(before.pod.shape[0]):
            left = float(before.left[at])
            value = pod_object(
                trace.pods,
                int(before.pod[at]),
                uid=f"before-{at}",
                created=0.0,
                run_time=left,
                now=0.0,
            )
            value["spec"]["nodeName"] = trace.nodes.name[int(before.node[at])]
            pod = read_pod(value)
            cluster.observe(pod, 0.0)
            placer.found(value, pod)
            heapq.heappush(self._leaving, (left, -1 - at, pod))

    def arrive(self, index: int) -> None:
        """The next pod comes; first everything that ends until then leaves."""
        now = float(self._trace.coming.time[index])
        while self._leaving and self._leaving[0][0] <= now:
            end, _, pod = heapq.heappop(self._leaving)
            self.books.advance(end)
            self._cluster.release(pod.uid, end)
            self._placer.leave(pod, end)
            self._retry(end)
        self.books.advance(now)
        if not self._attempt(index, now):
            self._waiting.append(index)

    def _attempt(self, index: int, now: float) -> bool:
        coming = self._trace.coming
        run_time = float(coming.run_time[index])
        value = pod_object(
            self._trace.pods,
            int(coming.pod[index]),
            uid=f"openb-{index}",
            created=float(coming.time[index]),
            run_time=run_time,
            now=now,
        )
        pod = read_pod(value)
        name = self._placer.place(value, pod, now)
        if name is None:
            return False
        self.placed[index], self.waited[index] = name, now - coming.time[index]
        heapq.heappush(self._leaving, (now + run_time, index, pod))
        return True

    def _retry(self, now: float) -> None:
        tried = [self._waiting.popleft() for _ in range(min(RETRIES, len(self._waiting)))]
        failed = [index for index in tried if not self._attempt(index, now)]
        # Those that failed again keep their places: oldest first.
        self._waiting.extendleft(reversed(failed))
