"""What dispatchers and the critic see: names, units and the arrays behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..interface import Bools, Doubles, Feature, Floats, Ints
from .exclusive import place_rows, shares
from .fleet import Fleet
from .kernel import Job
from .snapshot import Snapshot

MIB_PER_GIB = 1024.0


class NodeView(Protocol):
    """The columns of a snapshot that candidate features are computed from."""

    @property
    def jobs(self) -> Ints: ...
    @property
    def work(self) -> Doubles: ...
    @property
    def utilisation(self) -> Doubles: ...
    @property
    def up(self) -> Bools: ...
    @property
    def cpu(self) -> Ints: ...
    @property
    def memory(self) -> Ints: ...
    @property
    def gpu(self) -> Ints: ...
    @property
    def fragmentation(self) -> Doubles: ...

    def overlap(self, node: Ints, service: Doubles) -> Doubles: ...


@dataclass(frozen=True, slots=True)
class Heads:
    """First waiting job of every dispatcher; rows of idle dispatchers hold zeros.

    Attributes:
        active: ``[A]`` dispatchers with a waiting job.
        waiting: ``[A]`` jobs that wait.
        kind, demand: ``[A]`` class and demand row of the head job.
        arrival: ``[A]`` s.
        size: ``[A]`` true size, work units.
        estimate: ``[A]`` estimated over true size.
        services: ``[A, T]`` true full-speed service time on every node type, s.
    """

    active: Bools
    waiting: Ints
    kind: Ints
    demand: Ints
    arrival: Doubles
    size: Doubles
    estimate: Doubles
    services: Doubles

    @classmethod
    def collect(cls, queues: Sequence[Sequence[Job]], types: int) -> Heads:
        """Read the heads of the dispatchers' queues."""
        agents = len(queues)
        waiting = np.array([len(queue) for queue in queues], dtype=np.int64)
        at = np.flatnonzero(waiting)
        jobs = [queue[0] for queue in queues if queue]
        kind, demand = np.zeros(agents, np.int64), np.zeros(agents, np.int64)
        arrival, size, estimate = np.zeros(agents), np.zeros(agents), np.ones(agents)
        services = np.zeros((agents, types))
        if jobs:
            kind[at] = [job.kind for job in jobs]
            demand[at] = [job.demand for job in jobs]
            arrival[at] = [job.arrival for job in jobs]
            size[at] = [job.size for job in jobs]
            estimate[at] = [job.estimate for job in jobs]
            services[at] = [job.services for job in jobs]
        return cls(waiting > 0, waiting, kind, demand, arrival, size, estimate, services)

    def only(self, agent: int) -> Heads:
        """The row of one dispatcher."""
        row = slice(agent, agent + 1)
        return Heads(
            self.active[row],
            self.waiting[row],
            self.kind[row],
            self.demand[row],
            self.arrival[row],
            self.size[row],
            self.estimate[row],
            self.services[row],
        )


@dataclass(frozen=True, slots=True)
class _Placed:
    """Nodes after a placement, per row: fits, free CPU, free GPU, growth of F, dominant share."""

    fits: Bools
    cpu: Ints
    gpu: Ints
    growth: Doubles
    share: Doubles


class Features:
    """Builds the observation arrays of a fleet.

    Args:
        fleet: constants of the scenario.
        node_limit: most jobs that a node accepts (none: no limit).
    """

    def __init__(self, fleet: Fleet, node_limit: int | None = None):
        self._fleet = fleet
        self._limit = node_limit
        types = fleet.types
        self._swing = np.array([node.peak - node.idle for node in types])[fleet.type_of]
        self._price = np.array([node.price for node in types])[fleet.type_of]
        self._counts = np.maximum(fleet.type_counts, 1).astype(np.float64)
        self._members = np.bincount(fleet.group_of, minlength=len(fleet.groups))
        self.agent_features = _agent_features(fleet)
        self.candidate_features = _candidate_features(fleet)
        self.critic_features = _critic_features(fleet)

    def agents(
        self, heads: Heads, group: Ints, load: Doubles, day: tuple[float, float], now: float
    ) -> Floats:
        """``[A, F]``; ``group [A]`` and ``load [G]`` give each dispatcher's forecast load."""
        fleet = self._fleet
        active = heads.active
        one_hot = (heads.kind[:, None] == np.arange(len(fleet.classes))) & active[:, None]
        columns: list[NDArray[np.generic]] = [
            heads.waiting,
            heads.size * heads.estimate,
            np.where(active, now - heads.arrival, 0.0),
            *one_hot.T,
            load[group],
            np.full(active.shape, day[0]),
            np.full(active.shape, day[1]),
        ]
        if fleet.resources is not None:
            d, row = fleet.resources.demands, heads.demand
            columns += [
                np.where(active, d.cpu[row], 0),
                np.where(active, d.memory[row] / MIB_PER_GIB, 0.0),
                np.where(active, d.gpu_milli[row], 0),
                np.where(active, d.gpus[row], 0),
            ]
        return np.stack(columns, axis=1).astype(np.float32)

    def candidates(
        self, view: NodeView, heads: Heads, target: Ints
    ) -> tuple[Floats, Bools, Doubles]:
        """Candidate features, legality and true service times.

        Args:
            view: the nodes as the dispatchers see them.
            heads: head jobs.
            target: ``[A, K]`` nodes, -1 for hold and padding.

        Returns:
            ``[A, K, C]`` features (zeros for idle dispatchers and padding, except ``hold``),
            ``[A, K]`` mask and ``[A, K]`` service times in s (0 for hold, padding and nodes that
            cannot serve the class).
        """
        fleet = self._fleet
        agents, width = target.shape
        features = np.zeros((agents, width, len(self.candidate_features)), dtype=np.float32)
        features[:, 0, 0] = 1.0
        mask = np.zeros((agents, width), dtype=bool)
        service_all = np.zeros((agents, width))
        row, column = np.nonzero((target >= 0) & heads.active[:, None])
        if row.size:
            node = target[row, column]
            service = heads.services[row, fleet.type_of[node]]
            able = np.isfinite(service)
            service = np.where(able, service, 0.0)
            estimated = service * heads.estimate[row]
            jobs = view.jobs[node]
            work = view.work[node]
            swing = self._swing[node]
            speed = np.divide(heads.size[row], service, out=np.zeros(row.size), where=service > 0)
            legal = able & view.up[node]
            if self._limit is not None:
                legal &= jobs < self._limit
            columns: list[NDArray[np.generic]] = [
                speed,
                estimated,
                jobs,
                work,
                view.overlap(node, estimated),
                view.utilisation[node],
                swing * (jobs == 0),
                self._price[node],
            ]
            if fleet.resources is not None:
                extra, fits, share = self._vectors(view, heads.demand[row], node)
                legal &= fits
                columns[6] = swing * share
                columns += extra
            features[row, column, 1:] = np.stack(columns, axis=1)
            service_all[row, column] = service
            mask[row, column] = legal
        mask[:, 0] = True
        return features, mask, service_all

    def _placed(self, view: NodeView, demand: Ints, node: Ints) -> _Placed:
        """What the nodes would look like after each (demand, node) row."""
        resources = self._fleet.vectors
        d = resources.demands
        gpu = view.gpu[node]
        after, enough = place_rows(gpu, d.gpus[demand], d.gpu_milli[demand])
        cpu = view.cpu[node] - d.cpu[demand]
        memory = view.memory[node] - d.memory[demand]
        free = gpu.sum(axis=1) - d.gpus[demand] * d.gpu_milli[demand]
        fits = enough & (cpu >= 0) & (memory >= 0)
        growth = np.zeros(node.shape[0])
        rows = np.flatnonzero(fits)
        if rows.size:
            model = resources.model[node[rows]]
            grown = resources.fragmentation(cpu[rows], after[rows], model)
            growth[rows] = grown - view.fragmentation[node[rows]]
        share = shares(resources, node, cpu, memory, free)
        return _Placed(fits, cpu, free, growth, np.clip(share, 0.0, 1.0))

    def _vectors(
        self, view: NodeView, demand: Ints, node: Ints
    ) -> tuple[list[NDArray[np.generic]], Bools, Doubles]:
        """Resource columns of (demand, node) rows, whether they fit, and the job's power share."""
        resources = self._fleet.vectors
        d = resources.demands
        placed = self._placed(view, demand, node)
        cpu, memory, free = view.cpu[node], view.memory[node], view.gpu[node].sum(axis=1)
        total_cpu, total_memory = resources.cpu[node], resources.memory[node]
        total_gpu = resources.gpus[node] * 1000
        wanted = d.gpus[demand] * d.gpu_milli[demand]
        gpu_share = wanted / np.maximum(total_gpu, 1)
        cpu_share = d.cpu[demand] / total_cpu
        alignment = (
            cpu / total_cpu * cpu_share
            + memory / total_memory * (d.memory[demand] / total_memory)
            + free / np.maximum(total_gpu, 1) * gpu_share
        )
        columns: list[NDArray[np.generic]] = [
            cpu,
            memory / MIB_PER_GIB,
            free,
            np.maximum(placed.cpu, 0),
            np.maximum(placed.gpu, 0),
            view.fragmentation[node],
            placed.growth,
            placed.share,
            np.where(placed.fits, alignment, 0.0),
        ]
        return columns, placed.fits, np.where(total_gpu > 0, gpu_share, cpu_share)

    def delta(self, view: NodeView, heads: Heads, target: Ints) -> Doubles:
        """``[A, K, 2]`` effect of each candidate on (F in GPUs, dominant share) of its node.

        Placements that do not fit have no effect.
        """
        resources = self._fleet.vectors
        result = np.zeros((*target.shape, 2))
        row, column = np.nonzero((target >= 0) & heads.active[:, None])
        if row.size:
            node = target[row, column]
            placed = self._placed(view, heads.demand[row], node)
            gpu = view.gpu[node].sum(axis=1)
            now = shares(resources, node, view.cpu[node], view.memory[node], gpu)
            fits = placed.fits & view.up[node]
            result[row, column, 0] = np.where(fits, placed.growth, 0.0) / 1000.0
            result[row, column, 1] = np.where(fits, placed.share - now, 0.0)
        return result

    def critic(
        self, snapshot: Snapshot, heads: Heads, load: Doubles, day: tuple[float, float]
    ) -> Floats:
        """``[S]``: averages per node type and per tenant group, so S does not grow with A."""
        fleet = self._fleet
        types, groups = len(fleet.types), len(fleet.groups)

        def by_type(values: NDArray[np.generic]) -> Doubles:
            return np.bincount(fleet.type_of, weights=values, minlength=types) / self._counts

        columns = [by_type(snapshot.jobs), by_type(snapshot.work), by_type(snapshot.utilisation)]
        columns.append(by_type(snapshot.up))
        waiting = np.bincount(fleet.group_of, weights=heads.waiting, minlength=groups)
        columns += [waiting / self._members, load, np.array(day)]
        if fleet.resources is not None:
            columns += [by_type(snapshot.gpu.sum(axis=1)), by_type(snapshot.fragmentation)]
        return np.concatenate(columns).astype(np.float32)


def _agent_features(fleet: Fleet) -> tuple[Feature, ...]:
    found = [
        Feature("waiting", "jobs", transform="log1p"),
        Feature("size", "work", transform="log1p"),
        Feature("age", "s", transform="log1p"),
        *(Feature(f"class:{name}", "1", 0.0, 1.0) for name in fleet.classes),
        Feature("load", "1"),
        Feature("day_sin", "1", -1.0, 1.0),
        Feature("day_cos", "1", -1.0, 1.0),
    ]
    if fleet.resources is not None:
        d = fleet.resources.demands
        found += [
            Feature("cpu", "milli-cores", 0.0, float(d.cpu.max()), "log1p"),
            Feature("mem", "GiB", 0.0, float(d.memory.max()) / MIB_PER_GIB, "log1p"),
            Feature("gpu_milli", "milli-GPU", 0.0, 1000.0),
            Feature("gpu_count", "GPUs", 0.0, float(d.gpus.max())),
        ]
    return tuple(found)


def _candidate_features(fleet: Fleet) -> tuple[Feature, ...]:
    found = [
        Feature("hold", "1", 0.0, 1.0),
        Feature("speed", "work/s", transform="log1p"),
        Feature("service", "s", transform="log1p"),
        Feature("jobs", "jobs", transform="log1p"),
        Feature("work", "s", transform="log1p"),
        Feature("overlap", "s", transform="log1p"),
        Feature("utilisation", "1", 0.0, 1.0),
        Feature("power", "W", transform="log1p"),
        Feature("price", "1/h"),
    ]
    if fleet.resources is not None:
        r = fleet.resources
        cpu, memory = float(r.cpu.max()), float(r.memory.max()) / MIB_PER_GIB
        gpu = float(r.gpus.max()) * 1000.0
        found += [
            Feature("cpu_free", "milli-cores", 0.0, cpu, "log1p"),
            Feature("mem_free", "GiB", 0.0, memory, "log1p"),
            Feature("gpu_free", "milli-GPU", 0.0, gpu, "log1p"),
            Feature("cpu_left", "milli-cores", 0.0, cpu, "log1p"),
            Feature("gpu_left", "milli-GPU", 0.0, gpu, "log1p"),
            Feature("fragmentation", "milli-GPU", 0.0, gpu, "log1p"),
            Feature("fragmentation_delta", "milli-GPU", -gpu, gpu),
            Feature("dominant_share", "1", 0.0, 1.0),
            Feature("alignment", "1", 0.0, 3.0),
        ]
    return tuple(found)


def _critic_features(fleet: Fleet) -> tuple[Feature, ...]:
    names = [node.name for node in fleet.types]
    found = [Feature(f"jobs:{name}", "jobs", transform="log1p") for name in names]
    found += [Feature(f"work:{name}", "s", transform="log1p") for name in names]
    found += [Feature(f"utilisation:{name}", "1", 0.0, 1.0) for name in names]
    found += [Feature(f"up:{name}", "1", 0.0, 1.0) for name in names]
    found += [Feature(f"waiting:{name}", "jobs", transform="log1p") for name in fleet.groups]
    found += [Feature(f"load:{name}", "1") for name in fleet.groups]
    found += [Feature("day_sin", "1", -1.0, 1.0), Feature("day_cos", "1", -1.0, 1.0)]
    if fleet.resources is not None:
        found += [Feature(f"gpu_free:{name}", "milli-GPU", transform="log1p") for name in names]
        found += [
            Feature(f"fragmentation:{name}", "milli-GPU", transform="log1p") for name in names
        ]
    return tuple(found)
