"""Placement policies of GPU pods and the machines they score.

As in the public simulator of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): a policy
gives every node that can host a pod a whole score of 0 to 100, the highest wins, and it chooses the
devices on the winner. What happens among equal scores is not the policy's business; see
:mod:`.packing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Ints
from .fragmentation import Fragmentation, typical_pods
from .openb import GPU_MILLI, OpenbNodes, OpenbPods

_CPU_SCALE, _GPU_SCALE = 128_000, 8_000
"""Milli-cores and milli-GPUs of the largest node; the published scores are scaled by them."""


@dataclass(frozen=True, slots=True)
class Pod:
    """Demand of one pod kind; ``gpu_milli`` on each of ``gpus`` devices, ``accepts`` per model."""

    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    accepts: Bools

    @property
    def shares(self) -> bool:
        """Whether it takes only a part of one GPU."""
        return self.gpus == 1 and self.gpu_milli < GPU_MILLI

    @property
    def affinity(self) -> int:
        """Size class of a GPU pod: 0 for a share, else the number of GPUs."""
        return 0 if self.shares else self.gpus


class Machines:
    """What is free on every node, and which size classes of GPU pods run there."""

    def __init__(self, nodes: OpenbNodes):
        devices = int(nodes.gpus.max(initial=1))
        self.model = nodes.model
        self.gpus = nodes.gpus
        self.cpu = nodes.cpu_milli.copy()
        self.memory = nodes.memory_mib.copy()
        self.gpu = np.where(np.arange(devices) < nodes.gpus[:, None], GPU_MILLI, 0)
        self.pods_of_class = np.zeros((nodes.nodes, devices + 1), dtype=np.int64)

    def hosts(self, pod: Pod, rows: Ints) -> Bools:
        """``[rows]``: which of these nodes can take the pod now."""
        fits = (self.cpu[rows] >= pod.cpu_milli) & (self.memory[rows] >= pod.memory_mib)
        if pod.gpus:
            fits &= np.count_nonzero(self.gpu[rows] >= pod.gpu_milli, axis=1) >= pod.gpus
            model = self.model[rows]
            fits &= (model >= 0) & pod.accepts[model]
        return fits

    def take(self, pod: Pod, node: int, devices: Ints) -> None:
        """Place the pod on ``devices`` of ``node``."""
        self.cpu[node] -= pod.cpu_milli
        self.memory[node] -= pod.memory_mib
        if pod.gpus:
            self.gpu[node, devices] -= pod.gpu_milli
            self.pods_of_class[node, pod.affinity] += 1

    def tightest(self, pod: Pod, node: int) -> Ints:
        """Devices for the pod: the smallest sufficient one for a share, else the first whole."""
        free = self.gpu[node]
        fits = np.flatnonzero(free >= pod.gpu_milli)
        return fits[free[fits].argmin()][None] if pod.shares else fits[: pod.gpus]


class Policy:
    """Scores nodes for a pod; stateless between runs. ``name`` is as in the published tables."""

    name = ""

    def prepare(self, pods: OpenbPods, nodes: OpenbNodes) -> None:
        """Look at the workload before a run."""

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        """Whole scores ``[rows]`` of nodes that can host the pod; the highest wins."""
        raise NotImplementedError

    def devices(self, machines: Machines, pod: Pod, node: int, rng: np.random.Generator) -> Ints:
        """The devices the pod gets on its node."""
        del rng
        return machines.tightest(pod, node)


class Random(Policy):
    """Any feasible node, any sufficient GPU. Needs ``ties="random"``."""

    name = "Random"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        del machines, pod
        return np.zeros(rows.shape[0], dtype=np.int64)

    def devices(self, machines: Machines, pod: Pod, node: int, rng: np.random.Generator) -> Ints:
        if not pod.shares:
            return machines.tightest(pod, node)
        return rng.choice(np.flatnonzero(machines.gpu[node] >= pod.gpu_milli), size=1)


class BestFit(Policy):
    """The node with the least CPU and GPU left over."""

    name = "BestFit"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        cpu = (machines.cpu[rows] - pod.cpu_milli) / _CPU_SCALE * 0.5
        free = machines.gpu[rows].sum(axis=1) - pod.gpus * pod.gpu_milli
        return ((1.0 - (cpu + free / _GPU_SCALE * 0.5)) * 100).astype(np.int64)


class DotProduct(Policy):
    """The node whose free resources align least with the demand (smallest inner product)."""

    name = "DotProd"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        cpu = machines.cpu[rows] / _CPU_SCALE * (pod.cpu_milli / _CPU_SCALE)
        free = machines.gpu[rows].sum(axis=1) / _GPU_SCALE
        product = cpu + free * (pod.gpus * pod.gpu_milli / _GPU_SCALE)
        return ((1.0 - product / 2) * 100).astype(np.int64)


class GpuPacking(Policy):
    """Shared GPUs before idle GPUs of used nodes before idle nodes."""

    name = "GpuPacking"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        if pod.gpus == 0:
            return np.zeros(rows.shape[0], dtype=np.int64)
        free = machines.gpu[rows]
        whole = np.count_nonzero(free == GPU_MILLI, axis=1)
        # The tightest sufficient devices of each node, as many as the pod wants.
        chosen = np.sort(np.where(free >= pod.gpu_milli, free, 2 * GPU_MILLI), axis=1)[
            :, : pod.gpus
        ]
        untouched = np.count_nonzero(chosen == GPU_MILLI, axis=1)
        shared = np.maximum(100 - (chosen * 100 // GPU_MILLI).sum(axis=1) // 10, 50)
        used_node = np.maximum(50 - untouched, 33)
        idle_node = np.maximum(33 - whole, whole)
        scores = np.where(untouched > 0, used_node, shared)
        return np.where(whole == machines.gpus[rows], idle_node, scores)


class GpuClustering(Policy):
    """Pods of the same size class together."""

    name = "GpuClustering"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        if pod.gpus == 0:
            return np.zeros(rows.shape[0], dtype=np.int64)
        there = machines.pods_of_class[rows] > 0
        same, classes = there[:, pod.affinity], np.count_nonzero(there, axis=1)
        base = np.where(same, np.where(classes == 1, 75, 50), np.where(classes == 0, 25, 0))
        used = _GPU_SCALE - machines.gpu[rows].sum(axis=1)
        return base + 25 * used // _GPU_SCALE


class FragmentationGradientDescent(Policy):
    """The node, and for a share the GPU, whose fragmentation grows least."""

    name = "FGD"

    def __init__(self, *, popularity: float = 0.95):
        self._popularity = popularity

    def prepare(self, pods: OpenbPods, nodes: OpenbNodes) -> None:
        typical = typical_pods(pods, nodes.models, popularity=self._popularity)
        self._fragmentation = Fragmentation(typical)

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        row, _, score = self._choices(machines, pod, rows)
        best = np.zeros(rows.shape[0], dtype=np.int64)
        np.maximum.at(best, row, score)
        return best

    def devices(self, machines: Machines, pod: Pod, node: int, rng: np.random.Generator) -> Ints:
        del rng
        if not pod.shares:
            return machines.tightest(pod, node)
        _, device, score = self._choices(machines, pod, np.array([node]))
        return device[score.argmax()][None]

    def _choices(self, machines: Machines, pod: Pod, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Row, device and score of every way to place the pod (device -1: only one way)."""
        fragmentation, model = self._fragmentation, machines.model[rows]
        cpu, gpu = machines.cpu[rows], machines.gpu[rows]
        before = fragmentation.weighted(cpu, gpu, model)
        cpu = cpu - pod.cpu_milli
        if pod.shares:
            row, device, after = fragmentation.weighted_after_share(cpu, gpu, model, pod.gpu_milli)
        else:
            if pod.gpus:
                fits = gpu >= pod.gpu_milli
                gpu = gpu - pod.gpu_milli * (fits & (np.cumsum(fits, axis=1) <= pod.gpus))
            row = np.arange(rows.shape[0])
            device = np.full(rows.shape[0], -1)
            after = fragmentation.weighted(cpu, gpu, model)
        growth = (after - before[row]) / (fragmentation.total * 1000.0)
        return row, device, (100.0 / (1.0 + np.exp(growth))).astype(np.int64)


POLICIES: dict[str, Callable[[], Policy]] = {
    policy.name: policy
    for policy in (
        Random,
        DotProduct,
        GpuClustering,
        GpuPacking,
        BestFit,
        FragmentationGradientDescent,
    )
}
"""Constructors by published name."""
