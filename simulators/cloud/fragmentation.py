"""How much of a node's free GPU capacity the usual pods cannot use.

Fragmentation of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
Fragmentation Gradient Descent" (USENIX ATC 2023), section 4: for a pod kind m the fragment of node
n is the free GPU capacity that m cannot use there; the fragmentation F(n) is its expectation over
the *typical* pods of a workload. FGD sends a pod to the node whose F grows least.

All capacities are integers (milli), so F is computed exactly: sums of integers below 2**53 and one
division at the end. Results do not depend on the order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..interface import Bools, Doubles, Ints
from .openb import OpenbPods

_CHUNK = 8192
"""Rows handled at once; bounds the memory of intermediate arrays."""


@dataclass(frozen=True, slots=True)
class TypicalPods:
    """The most frequent pod kinds of a workload, most frequent first.

    Attributes:
        cpu_milli, gpus, gpu_milli: ``[kinds]`` demand (``gpu_milli`` on each of ``gpus`` devices;
            both 0 for CPU-only kinds).
        accepts: ``[kinds, models]`` bool, GPU models that a kind may run on.
        count: ``[kinds]`` how many pods of the workload are of that kind.
    """

    cpu_milli: Ints
    gpus: Ints
    gpu_milli: Ints
    accepts: Bools
    count: Ints

    @property
    def kinds(self) -> int:
        return int(self.count.shape[0])


def typical_pods(
    pods: OpenbPods, models: tuple[str, ...], *, popularity: float = 0.95
) -> TypicalPods:
    """The most frequent kinds that together make up at least ``popularity`` of all pods.

    A kind is (CPU, GPU share, GPUs, accepted models). Equally frequent kinds are ordered by larger
    demand first, so the cut is well defined.

    Raises:
        ValueError: ``popularity`` outside (0, 1].
    """
    if not 0.0 < popularity <= 1.0:
        raise ValueError(f"popularity must be in (0, 1], got {popularity}")
    counts: dict[tuple[int, int, int, str], int] = {}
    first: dict[tuple[int, int, int, str], int] = {}
    rows = zip(pods.cpu_milli, pods.gpu_milli, pods.gpus, pods.gpu_spec, strict=True)
    for row, (cpu, milli, gpus, spec) in enumerate(rows):
        kind = (int(cpu), int(milli), int(gpus), spec)
        counts[kind] = counts.get(kind, 0) + 1
        first.setdefault(kind, row)
    order = sorted(counts, key=lambda kind: (counts[kind], kind), reverse=True)
    reached = np.cumsum([counts[kind] for kind in order])
    wanted = popularity * pods.pods
    order = order[: int(np.searchsorted(reached, wanted - 1e-9)) + 1]
    chosen = np.array([first[kind] for kind in order], dtype=np.int64)
    return TypicalPods(
        cpu_milli=pods.cpu_milli[chosen],
        gpus=pods.gpus[chosen],
        gpu_milli=pods.gpu_milli[chosen],
        accepts=pods.accepts(models)[chosen],
        count=np.array([counts[kind] for kind in order], dtype=np.int64),
    )


class Fragmentation:
    """F of many node states at once, for one set of typical pods.

    The states may be real nodes or hypothetical ones (a node after a placement), in any number.
    """

    def __init__(self, typical: TypicalPods) -> None:
        needs_gpu = typical.gpus > 0
        # CPU-only kinds never use a GPU: they count the whole remainder and need no test.
        self._cpu = typical.cpu_milli[needs_gpu]
        self._gpus = typical.gpus[needs_gpu]
        self._accepts = typical.accepts[needs_gpu].T
        self._open = bool(self._accepts.all())
        self._weight = typical.count[needs_gpu].astype(np.float64)
        self._share, self._share_of = np.unique(typical.gpu_milli[needs_gpu], return_inverse=True)
        self.total = int(typical.count.sum())
        self.typical = typical

    def __call__(
        self, cpu_left: NDArray[np.integer], gpu_left: NDArray[np.integer], model: Ints
    ) -> Doubles:
        """Fragmentation in GPU-milli ``[rows]``.

        Args:
            cpu_left: ``[rows]`` free CPU in milli-cores.
            gpu_left: ``[rows, devices]`` free milli of each device; absent devices hold 0.
            model: ``[rows]`` index of the GPU model (-1: none).
        """
        return self.weighted(cpu_left, gpu_left, model) / self.total

    def weighted(
        self, cpu_left: NDArray[np.integer], gpu_left: NDArray[np.integer], model: Ints
    ) -> Doubles:
        """``total`` times the fragmentation: a whole number, exact. Arguments as ``__call__``."""
        rows = gpu_left.shape[0]
        if rows > _CHUNK:
            cuts = range(0, rows, _CHUNK)
            parts = [slice(start, start + _CHUNK) for start in cuts]
            results = [self.weighted(cpu_left[p], gpu_left[p], model[p]) for p in parts]
            return np.concatenate(results)
        fits = gpu_left[:, None, :] >= self._share[:, None]
        devices = np.count_nonzero(fits, axis=2)
        usable = (fits * gpu_left[:, None, :]).sum(axis=2)
        roomy = self._roomy(cpu_left, model)
        return self._expected(gpu_left.sum(axis=1), devices, usable, roomy)

    def weighted_after_share(
        self,
        cpu_left: NDArray[np.integer],
        gpu_left: NDArray[np.integer],
        model: Ints,
        share: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Doubles]:
        """Weighted fragmentation after taking ``share`` milli from one device, for each choice.

        Devices of a row with equal remainders lead to the same state; only the first of them is
        returned, and none that has less than ``share`` left.

        Args:
            cpu_left: ``[rows]`` free CPU *after* the placement.
            gpu_left: ``[rows, devices]`` free milli before it.
            model: ``[rows]`` GPU models.
            share: milli to take.

        Returns:
            ``row``, ``device`` and ``weighted`` fragmentation, ``[choices]`` each, by rising row
            and device.
        """
        row, device = np.nonzero((gpu_left >= share) & first_of_equals(gpu_left))
        before = gpu_left[row, device][:, None]
        after = before - share
        fits = gpu_left[:, None, :] >= self._share[:, None]
        devices = np.count_nonzero(fits, axis=2)[row]
        usable = (fits * gpu_left[:, None, :]).sum(axis=2)[row]
        fitted, fit = before >= self._share, after >= self._share
        devices = devices - fitted + fit
        usable = usable - before * fitted + after * fit
        free = gpu_left.sum(axis=1)[row] - share
        roomy = self._roomy(cpu_left, model)[row]
        return row, device, self._expected(free, devices, usable, roomy)

    def _roomy(self, cpu_left: NDArray[np.integer], model: Ints) -> Bools:
        """``[rows, kinds]``: CPU and GPU model suffice."""
        roomy = cpu_left[:, None] >= self._cpu
        if not self._open:
            roomy &= self._accepts[model] & (model >= 0)[:, None]
        return roomy

    def _expected(
        self,
        free: NDArray[np.integer],
        devices: NDArray[np.integer],
        usable: NDArray[np.integer],
        roomy: Bools,
    ) -> Doubles:
        hosts = roomy & (devices[:, self._share_of] >= self._gpus)
        used = hosts * usable[:, self._share_of]
        return free.astype(np.float64) * self.total - used.astype(np.float64) @ self._weight


def first_of_equals(values: NDArray[np.integer]) -> Bools:
    """``[rows, columns]``: whether no earlier column of the row holds the same value."""
    first = np.ones(values.shape, dtype=np.bool_)
    for column in range(1, values.shape[1]):
        same = values[:, :column] == values[:, column, None]
        first[:, column] = ~same.any(axis=1)
    return first
