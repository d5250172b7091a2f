"""The cluster as the extender remembers it: nodes, what is free on them, who runs and who waits.

Fed like a watch, level-triggered: every message states what is, in any order, any number of times.
A list of nodes replaces the former one and keeps the pods; a pod that runs somewhere else than
remembered is moved. Bookkeeping is in integer milli-units, in the simulator's own ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...simulators.cloud.exclusive import WHOLE, Ledger, place_rows
from ...simulators.cloud.fragmentation import Fragmentation
from ...simulators.cloud.openb import OpenbNodes
from ...simulators.cloud.openb_fleet import node_types
from ...simulators.cloud.resources import Demands, Resources
from ...simulators.interface import Bools, Doubles, Ints
from .objects import Node, Pod

MeasureOf = Callable[[tuple[str, ...]], Fragmentation]
"""Builds the fragmentation measure for a list of GPU models."""


@dataclass(slots=True)
class Booking:
    """What a pod holds: a node, milli-cores, MiB, and ``milli`` of each of ``devices``."""

    pod: Pod
    node: int
    devices: Ints
    milli: Ints
    slot: int


class Cluster:
    """Nodes M and pods; row numbers are positions in the list of nodes.

    Args:
        measure: builds the fragmentation measure once the GPU models are known.
        smoothing: time constant of the utilisation average, s.
        run_time: expected run time of pods that name none, s.

    Attributes:
        nodes: as fed.
        row: name to row.
        models: GPU models, sorted; a node's is an index (-1 without GPUs).
        up: ``[M]`` nodes that are ready.
        resources: capacities; its ``demands`` are empty (a pod brings its own).
        pods: bookings by uid.
        waiting: pods that are known to wait, by uid.
        overbooked: bookings that the ledger could not host in full (other schedulers place, too).
        version: changes when the list of nodes does.
    """

    def __init__(self, *, measure: MeasureOf, smoothing: float, run_time: float):
        self._measure = measure
        self._smoothing = smoothing
        self._run_time = run_time
        self.pods: dict[str, Booking] = {}
        self.waiting: dict[str, Pod] = {}
        self.overbooked = 0
        self.version = 0
        self._away: dict[str, Pod] = {}
        self._install((), 0.0)

    def set_nodes(self, nodes: Iterable[Node], now: float) -> None:
        """Replace the list of nodes; pods on nodes that stay keep what they hold."""
        kept = [booking.pod for booking in self.pods.values()]
        held = {uid: tuple(b.devices.tolist()) for uid, b in self.pods.items()}
        ends = {uid: float(self._due[b.slot]) for uid, b in self.pods.items()}
        names = {uid: self.nodes[b.node].name for uid, b in self.pods.items()}
        average = dict(zip(self.row, self._averages(now).tolist(), strict=True))
        overbooked = self.overbooked
        self._install(tuple(nodes), now)
        self._average = np.array([average.get(node.name, 0.0) for node in self.nodes])
        for pod in [*kept, *self._away.values()]:
            name = names.get(pod.uid, pod.node)
            self._away.pop(pod.uid, None)
            self.book(pod, name, now, devices=held.get(pod.uid, pod.devices))
            if pod.uid in ends and pod.uid in self.pods:
                self._due[self.pods[pod.uid].slot] = ends[pod.uid]
        self.overbooked = overbooked

    def update_nodes(self, nodes: Iterable[Node], now: float) -> None:
        """Add nodes, or change what they are; the others stay."""
        known = {node.name: node for node in self.nodes}
        changed = {node.name: node for node in nodes if known.get(node.name) != node}
        if changed:
            self.set_nodes({**known, **changed}.values(), now)

    def observe(self, pod: Pod, now: float) -> None:
        """Take note of a pod in whatever state it is."""
        booking = self.pods.get(pod.uid)
        if pod.finished:
            self.release(pod.uid, now)
        elif not pod.node:
            # A pod that was bound here stays booked until the feed says that it is gone: the
            # message may be older than the binding.
            if booking is None:
                self.waiting[pod.uid] = pod
        elif booking is None or self.nodes[booking.node].name != pod.node:
            self.release(pod.uid, now)
            self.book(pod, pod.node, now, devices=pod.devices)

    def book(
        self, pod: Pod, name: str, now: float, *, devices: Sequence[int] = ()
    ) -> Booking | None:
        """Let the pod hold its demand on a node; ``None`` if the node is not known (yet).

        The pod runs there whether it fits or not, so that a demand beyond what is free is booked as
        far as it goes and counted in ``overbooked``.
        """
        self.waiting.pop(pod.uid, None)
        row = self.row.get(name)
        if row is None:
            self._away[pod.uid] = replace(pod, node=name)
            return None
        self._touch(row, now)
        chosen, milli, fits = self._devices(pod, row, devices)
        ledger = self._ledger
        ledger.cpu[row] -= pod.cpu
        ledger.memory[row] -= pod.memory
        ledger.gpu[row, chosen] -= milli
        if not fits or ledger.cpu[row] < 0 or ledger.memory[row] < 0:
            self.overbooked += 1
        run_time = self._run_time if pod.run_time is None else pod.run_time
        slot = self._free_slot()
        self._job_node[slot] = row
        self._due[slot] = (now if pod.started is None else pod.started) + run_time
        self._jobs[row] += 1
        booking = self.pods[pod.uid] = Booking(pod, row, chosen, milli, slot)
        return booking

    def release(self, uid: str, now: float) -> bool:
        """Forget a pod and free what it held; whether it was known."""
        known = self.waiting.pop(uid, None) is not None or self._away.pop(uid, None) is not None
        booking = self.pods.pop(uid, None)
        if booking is None:
            return known
        row = booking.node
        self._touch(row, now)
        ledger = self._ledger
        ledger.cpu[row] += booking.pod.cpu
        ledger.memory[row] += booking.pod.memory
        ledger.gpu[row, booking.devices] += booking.milli
        self._jobs[row] -= 1
        self._job_node[booking.slot] = -1
        self._slots.append(booking.slot)
        return True

    def forget_pods(self, now: float) -> None:
        """Free everything; nobody runs and nobody waits."""
        for uid in [*self.pods, *self._away, *self.waiting]:
            self.release(uid, now)

    def ends(self, uid: str) -> float:
        """When a running pod is expected to end, s since 1970.

        Raises:
            KeyError: it is not booked.
        """
        return float(self._due[self.pods[uid].slot])

    def accepts(self, pod: Pod) -> Bools:
        """``[models]`` GPU models that will do."""
        if not pod.models:
            return np.ones(len(self.models), dtype=bool)
        return np.array([model in pod.models for model in self.models], dtype=bool)

    def free(self, row: Ints) -> tuple[Ints, Ints, Ints]:
        """Free milli-cores, MiB and milli of each device of some nodes; never negative."""
        ledger = self._ledger
        cpu, memory = np.maximum(ledger.cpu[row], 0), np.maximum(ledger.memory[row], 0)
        return cpu, memory, np.maximum(ledger.gpu[row], 0)

    def view(self, now: float) -> ClusterView:
        """The present, as the simulator's features read nodes."""
        dirty = np.flatnonzero(self._dirty)
        if dirty.size:
            free = np.maximum(self._ledger.gpu[dirty], 0)
            cpu = np.maximum(self._ledger.cpu[dirty], 0)
            model = self.resources.model[dirty]
            self._fragmentation[dirty] = self.resources.fragmentation(cpu, free, model)
            self._dirty[:] = False
        running = np.flatnonzero(self._job_node >= 0)
        return ClusterView(
            jobs=self._jobs,
            utilisation=self._averages(now),
            up=self.up,
            cpu=np.maximum(self._ledger.cpu, 0),
            memory=np.maximum(self._ledger.memory, 0),
            gpu=np.maximum(self._ledger.gpu, 0),
            fragmentation=self._fragmentation,
            node=self._job_node[running],
            remaining=np.maximum(self._due[running] - now, 0.0),
        )

    def _install(self, nodes: tuple[Node, ...], now: float) -> None:
        self.version += 1
        self.nodes = nodes
        self.row = {node.name: row for row, node in enumerate(nodes)}
        # One name at least, so that arrays over models are never empty.
        self.models = tuple(sorted({node.model for node in nodes if node.gpus})) or ("",)
        position = {model: index for index, model in enumerate(self.models)}
        count = len(nodes)
        none = np.zeros(0, np.int64)
        listed = OpenbNodes(
            name=tuple(node.name for node in nodes),
            cpu_milli=np.array([node.cpu for node in nodes], np.int64),
            memory_mib=np.array([node.memory for node in nodes], np.int64),
            gpus=np.array([node.gpus for node in nodes], np.int64),
            models=self.models,
            model=np.array([position[n.model] if n.gpus else -1 for n in nodes], np.int64),
        )
        self.resources = Resources(
            cpu=listed.cpu_milli,
            memory=listed.memory_mib,
            gpus=listed.gpus,
            model=listed.model,
            demands=Demands(none, none, none, none, np.zeros((0, len(self.models)), bool)),
            fragmentation=self._measure(self.models),
        )
        self.types, self.type_of = node_types(listed, np.arange(count)) if count else ((), none)
        self._ledger = Ledger(self.resources)
        self.up = np.array([node.ready for node in nodes], bool)
        self._jobs = np.zeros(count, np.int64)
        self._capacity = np.where(listed.gpus > 0, listed.gpus * WHOLE, listed.cpu_milli)
        self._average, self._since = np.zeros(count), np.full(count, now)
        self._fragmentation, self._dirty = np.zeros(count), np.ones(count, bool)
        self.pods.clear()
        self._job_node, self._due = np.full(64, -1, np.int64), np.zeros(64)
        self._slots = list(range(63, -1, -1))

    def _devices(self, pod: Pod, row: int, named: Sequence[int]) -> tuple[Ints, Ints, bool]:
        """Devices that the pod gets, milli of each, and whether they have room for it."""
        none = np.zeros(0, np.int64)
        if not pod.gpus:
            return none, none, True
        there = int(self.resources.gpus[row])
        free = self._ledger.gpu[row]
        chosen = np.array(sorted(set(named)), np.int64)
        if chosen.size == pod.gpus and chosen[-1] < there:
            milli = np.full(chosen.size, pod.gpu_milli)
            return chosen, milli, bool((free[chosen] >= pod.gpu_milli).all())
        after, enough = place_rows(free[None], np.array([pod.gpus]), np.array([pod.gpu_milli]))
        if enough[0]:
            taken = free - after[0]
            chosen = np.flatnonzero(taken)
            return chosen, taken[chosen], True
        chosen = np.argsort(-free[:there], kind="stable")[: pod.gpus]
        return chosen, np.full(chosen.size, pod.gpu_milli), False

    def _free_slot(self) -> int:
        if not self._slots:
            size = self._job_node.shape[0]
            self._job_node = np.concatenate([self._job_node, np.full(size, -1, np.int64)])
            self._due = np.concatenate([self._due, np.zeros(size)])
            self._slots = list(range(2 * size - 1, size - 1, -1))
        return self._slots.pop()

    def _share(self, row: Ints | int | slice) -> Doubles:
        """Allocated share of what nodes are bought for: GPUs, else CPU."""
        gpu = np.maximum(self._ledger.gpu[row], 0).sum(axis=-1)
        free = np.where(self.resources.gpus[row] > 0, gpu, self._ledger.cpu[row])
        return np.clip(1.0 - free / self._capacity[row], 0.0, 1.0)

    def _averages(self, now: float) -> Doubles:
        """``[M]`` exponential average of the allocated share, exact between changes."""
        fade = np.exp(-np.maximum(now - self._since, 0.0) / self._smoothing)
        share = self._share(slice(None))
        return share + (self._average - share) * fade

    def _touch(self, row: int, now: float) -> None:
        """Carry the average of a node to now, before what it holds changes."""
        fade = float(np.exp(-max(now - float(self._since[row]), 0.0) / self._smoothing))
        share = float(self._share(row))
        self._average[row] = share + (self._average[row] - share) * fade
        self._since[row] = max(now, float(self._since[row]))
        self._dirty[row] = True


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Implements the simulator's ``NodeView``; arrays ``[M]`` as in its snapshots.

    ``node`` and ``remaining`` ``[R]`` are the running pods.
    """

    jobs: Ints
    utilisation: Doubles
    up: Bools
    cpu: Ints
    memory: Ints
    gpu: Ints
    fragmentation: Doubles
    node: Ints
    remaining: Doubles

    @property
    def work(self) -> Doubles:
        """``[M]`` remaining run time, s."""
        count = self.jobs.shape[0]
        return np.bincount(self.node, weights=self.remaining, minlength=count).astype(np.float64)

    def overlap(self, node: Ints, service: Doubles) -> Doubles:
        """Sum over the pods on ``node`` of ``min(service, remaining)``, s; ``node`` is distinct."""
        wanted = np.zeros(self.jobs.shape[0])
        wanted[node] = service
        meeting = np.minimum(wanted[self.node], self.remaining)
        total = np.bincount(self.node, weights=meeting, minlength=wanted.shape[0])
        return total[node].astype(np.float64)
