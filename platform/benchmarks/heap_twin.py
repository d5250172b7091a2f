"""The benchmark's model on a bare ``heapq`` loop without an engine: the ceiling of plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

import numpy as np

from ...simulators.cloud.event_mode import BLOCK
from ...simulators.cloud.sizes import SizeLaw
from ...simulators.streams import Streams


@dataclass(frozen=True, slots=True)
class TwinResult:
    """Completed jobs and the sum of their response times."""

    completed: int
    response_sum: float


class _Node:
    """A processor-sharing node of the twin."""

    __slots__ = ("armed", "due", "jobs", "updated", "virtual")

    def __init__(self) -> None:
        self.jobs: list[tuple[float, int, float]] = []
        self.virtual = self.updated = 0.0
        self.due = self.armed = inf


def heap_twin(  # noqa: C901, PLR0915 - one loop without calls is what plain Python does best
    *, speeds: list[float], rate: float, sizes: SizeLaw, jobs: int, seed: int
) -> TwinResult:
    """Processor-sharing nodes under power-of-two routing until ``jobs`` jobs have left.

    It draws the same random numbers in the same blocks and books completions in the same order, so
    its mean response must be equal to the last bit.
    """
    streams = Streams(seed)
    gap_rng, size_rng = streams.generator("arrivals"), streams.generator("sizes")
    route_rng = streams.generator("route")
    nodes, mean_gap = len(speeds), 1.0 / rate

    def arrivals() -> Any:
        clock = 0.0
        while True:
            times = clock + np.cumsum(gap_rng.exponential(mean_gap, BLOCK))
            clock = float(times[-1])
            drawn = sizes.sample(size_rng, BLOCK)
            yield from zip(times.tolist(), drawn.tolist(), strict=True)

    def pairs() -> Any:
        while True:
            first = route_rng.integers(0, nodes, BLOCK)
            other = (first + route_rng.integers(1, nodes, BLOCK)) % nodes
            yield from zip(first.tolist(), other.tolist(), strict=True)

    stations = [_Node() for _ in range(nodes)]
    counts = [0] * nodes
    heap: list[tuple[float, int, int]] = []
    next_job, next_pair = arrivals().__next__, pairs().__next__
    done: list[float] = []
    total, completed, serial = 0.0, 0, 0
    at, size = next_job()
    while True:
        if heap and heap[0][0] <= at:
            now, _, index = heappop(heap)
            node = stations[index]
            if now != node.armed:
                continue
            if node.due > now:
                node.armed = node.due
                serial += 1
                heappush(heap, (node.due, serial, index))
                continue
            virtual, _, arrived = heappop(node.jobs)
            node.virtual, node.updated = virtual, now
            count = counts[index] = len(node.jobs)
            if count:
                node.due = node.armed = due = now + (node.jobs[0][0] - virtual) * count
                serial += 1
                heappush(heap, (due, serial, index))
            else:
                node.due = node.armed = inf
            done.append(now - arrived)
            continue
        if at == inf:
            break
        now = at
        first, second = next_pair()
        index = first if counts[first] <= counts[second] else second
        node = stations[index]
        count = len(node.jobs)
        virtual = node.virtual + (now - node.updated) / count if count else 0.0
        node.virtual, node.updated = virtual, now
        serial += 1
        heappush(node.jobs, (virtual + size / speeds[index], serial, now))
        count += 1
        counts[index] = count
        node.due = due = now + (node.jobs[0][0] - virtual) * count
        if due < node.armed:
            node.armed = due
            serial += 1
            heappush(heap, (due, serial, index))
        if len(done) >= BLOCK:
            total, completed = total + float(np.array(done).sum()), completed + len(done)
            done.clear()
        jobs -= 1
        at, size = next_job() if jobs else (inf, 0.0)
    total, completed = total + float(np.array(done).sum()), completed + len(done)
    return TwinResult(completed, total)
