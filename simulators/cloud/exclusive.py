"""Nodes whose jobs hold a vector of resources exclusively, in integer milli-units."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calendar import Wake
from ..interface import Bools, Doubles, Ints
from .kernel import Job, Seat
from .resources import Resources

WHOLE = 1000
"""Milli of one GPU."""


class Ledger:
    """Free resources of all nodes, as arrays that stations keep up to date.

    Attributes:
        cpu, memory: ``[M]`` free milli-cores and MiB.
        gpu: ``[M, devices]`` free milli per device; absent devices hold 0.
    """

    __slots__ = ("cpu", "gpu", "memory", "resources")

    def __init__(self, resources: Resources):
        self.resources = resources
        self.cpu = resources.cpu.copy()
        self.memory = resources.memory.copy()
        devices = np.arange(max(int(resources.gpus.max(initial=0)), 1))
        self.gpu = np.where(devices < resources.gpus[:, None], WHOLE, 0).astype(np.int64)


class Exclusive(Wake):
    """A node that starts a job at once if its demand fits and refuses it otherwise.

    A share of a GPU goes to the smallest sufficient device, whole GPUs to untouched devices.
    """

    __slots__ = (
        "_armed",
        "_busy",
        "_calendar",
        "_callbacks",
        "_capacity",
        "_counts",
        "_cpu",
        "_demands",
        "_finished",
        "_gpu",
        "_index",
        "_ledger",
        "_memory",
        "_running",
        "_next_serial",
        "_since",
    )

    def __init__(self, seat: Seat, *, ledger: Ledger, demands: list[tuple[int, int, int, int]]):
        index = seat.index
        self._index = index
        self._calendar = seat.calendar
        self._counts = seat.counts
        self._finished = seat.finished
        self._next_serial = seat.serial.__next__
        self._ledger = ledger
        self._demands = demands
        self._callbacks: list[Callable[[Any], None]] = [self._fire]
        super().__init__(self._callbacks)
        self._running: list[tuple[float, int, Job]] = []
        self._cpu = int(ledger.cpu[index])
        self._memory = int(ledger.memory[index])
        devices = int(ledger.resources.gpus[index])
        self._gpu = [WHOLE] * devices
        # Utilisation is the allocated share of what the node is bought for: GPUs, else CPU.
        self._capacity = devices * WHOLE if devices else self._cpu
        self._armed = inf
        self._busy = 0.0
        self._since = 0.0

    def fits(self, job: Job) -> bool:
        """Whether the job's demand fits into what is free now (the model is not looked at)."""
        cpu, memory, gpus, milli = self._demands[job.demand]
        if cpu > self._cpu or memory > self._memory:
            return False
        return gpus == 0 or sum(1 for free in self._gpu if free >= milli) >= gpus

    def admit(self, job: Job, service: float) -> None:
        """Allocate the job's demand and run it for ``service`` seconds.

        Raises:
            ValueError: the demand does not fit; names node and job.
        """
        cpu, memory, gpus, milli = self._demands[job.demand]
        if not self.fits(job):
            raise ValueError(
                f"node {self._index} cannot host demand {self._demands[job.demand]} (milli-cores, "
                f"MiB, GPUs, milli per GPU): {self._cpu}, {self._memory} and {self._gpu} are free"
            )
        self._settle()
        self._cpu -= cpu
        self._memory -= memory
        if gpus:
            free = self._gpu
            able = [(left, device) for device, left in enumerate(free) if left >= milli]
            # Devices that can take a whole GPU are all equal: the lowest indices are used.
            chosen = [min(able)] if gpus == 1 else able[:gpus]
            job.gpus = tuple(device for _, device in chosen)
            for device in job.gpus:
                free[device] -= milli
        self._publish()
        due = self._calendar.now + service
        heappush(self._running, (due, self._next_serial(), job))
        self._counts[self._index] += 1
        if due < self._armed:
            self._armed = due
            self._calendar.at(due, self)

    def _fire(self, _event: Any) -> None:
        self.callbacks = self._callbacks
        now = self._calendar.now
        if now != self._armed:
            return
        self._settle()
        _, _, job = heappop(self._running)
        self._release(job)
        self._publish()
        self._counts[self._index] -= 1
        if self._running:
            self._armed = self._running[0][0]
            self._calendar.at(self._armed, self)
        else:
            self._armed = inf
        job.finish = now
        self._finished.append(job)

    def _release(self, job: Job) -> None:
        cpu, memory, _, milli = self._demands[job.demand]
        self._cpu += cpu
        self._memory += memory
        for device in job.gpus:
            self._gpu[device] += milli
        job.gpus = ()

    def _publish(self) -> None:
        ledger, index = self._ledger, self._index
        ledger.cpu[index] = self._cpu
        ledger.memory[index] = self._memory
        if self._gpu:
            ledger.gpu[index, : len(self._gpu)] = self._gpu

    def _share(self) -> float:
        free = sum(self._gpu) if self._gpu else self._cpu
        return 1.0 - free / self._capacity

    def _settle(self) -> None:
        now = self._calendar.now
        self._busy += self._share() * (now - self._since)
        self._since = now

    def present(self) -> list[Any]:
        """Jobs on the node (no particular order)."""
        return [entry[2] for entry in self._running]

    def marks(self) -> tuple[list[float], float]:
        """As ``ProcessorSharing.marks``; the clock is real time."""
        return [entry[0] for entry in self._running], self._calendar.now

    def remaining(self) -> list[float]:
        """Remaining service time of every job present, s (no particular order)."""
        now = self._calendar.now
        return [max(entry[0] - now, 0.0) for entry in self._running]

    def busy_time(self) -> float:
        """Integral of the allocated share over time, s."""
        return self._busy + self._share() * (self._calendar.now - self._since)

    def evict(self) -> list[tuple[Job, float]]:
        """Empty the node (failure): its jobs and their remaining service times."""
        self._settle()
        now = self._calendar.now
        gone = [(job, max(due - now, 0.0)) for due, _, job in self._running]
        for job, _ in gone:
            self._release(job)
        self._running.clear()
        self._publish()
        self._counts[self._index] = 0
        self._armed = inf
        return gone


def place_rows(
    gpu_left: NDArray[np.int64], gpus: Ints, gpu_milli: Ints
) -> tuple[NDArray[np.int64], Bools]:
    """What ``Exclusive.admit`` leaves of the devices, for many (node, demand) rows at once.

    Args:
        gpu_left: ``[R, devices]`` free milli.
        gpus: ``[R]`` devices wanted.
        gpu_milli: ``[R]`` milli wanted on each of them.

    Returns:
        ``[R, devices]`` free milli afterwards and ``[R]`` whether the GPU demand fits (rows that
        do not fit are left as they were).
    """
    fits = gpu_left >= np.maximum(gpu_milli, 1)[:, None]
    enough = fits.sum(axis=1) >= gpus
    taken = fits & (np.cumsum(fits, axis=1) <= gpus[:, None])
    single = np.flatnonzero((gpus == 1) & enough)
    key = np.where(fits[single], gpu_left[single], np.iinfo(np.int64).max)
    taken[single] = False
    taken[single, key.argmin(axis=1)] = True
    taken &= enough[:, None]
    return gpu_left - taken * gpu_milli[:, None], enough


def shares(resources: Resources, node: Ints, cpu: Ints, memory: Ints, gpu_total: Ints) -> Doubles:
    """Dominant allocated share of nodes ``[R]`` of which ``cpu, memory, gpu_total`` are free."""
    share = 1.0 - np.minimum(cpu / resources.cpu[node], memory / resources.memory[node])
    capacity = resources.gpus[node] * WHOLE
    gpu = 1.0 - gpu_total / np.maximum(capacity, 1)
    return np.where(capacity > 0, np.maximum(share, gpu), share)
