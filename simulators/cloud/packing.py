"""GPU packing without departures: fill the nodes of a cluster and see how much gets allocated.

The inflation experiment of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023) and its public
simulator: pods arrive in a random order until the GPU demand reaches 130 % of capacity, each is
placed at once or dropped for good.

Policies give every feasible node a whole score of 0 to 100; the highest wins. **Ties decide the
outcome**: many nodes score equally, and FGD with a fresh random choice among them loses five points
against one fixed order of the nodes per run, which is what the published figures used. So the rule
for ties is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..interface import Doubles, Ints
from .openb import GPU_MILLI, OpenbNodes, OpenbPods
from .packing_policies import POLICIES, Machines, Pod, Policy

__all__ = ["POLICIES", "TIES", "Arrivals", "PackingResult", "Ties", "pack", "random_order"]

Ties = Literal["rank", "random", "index"]
"""Among equal scores: lowest of a fixed rank, a fresh random draw, or lowest index."""

TIES: tuple[Ties, ...] = get_args(Ties)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """In which order pods arrive, and which node wins among equal scores.

    Attributes:
        order: ``[arrivals]`` positions in the pod list; a pod may occur more than once.
        ties: rule among equal scores.
        rank: ``[nodes]`` distinct ranks for ``ties="rank"``, lowest wins; drawn if missing.
    """

    order: Ints
    ties: Ties = "rank"
    rank: Ints | None = None

    def ranks(self, nodes: int, rng: np.random.Generator) -> Ints:
        """Rank of each node ``[nodes]``.

        Raises:
            ValueError: an unknown rule for ties, or not one rank for each node.
        """
        if self.ties not in TIES:
            raise ValueError(f"ties must be one of {', '.join(TIES)}, got {self.ties!r}")
        if self.ties != "rank":
            return np.arange(nodes)
        if self.rank is None:
            return rng.permutation(nodes)
        if self.rank.shape != (nodes,) or np.unique(self.rank).size != nodes:
            raise ValueError(
                f"rank must hold a different number for each of {nodes} nodes, "
                f"got {np.unique(self.rank).size} in shape {self.rank.shape}"
            )
        return self.rank


@dataclass(frozen=True, slots=True)
class PackingResult:
    """Allocation along one run.

    Attributes:
        arrived, allocated: ``[pods]`` GPU-milli that had arrived and that were allocated after
            each pod.
        capacity: GPU-milli of the cluster.
        placed: ``[pods]`` node of each pod, -1 if it was dropped.
    """

    arrived: Ints
    allocated: Ints
    capacity: int
    placed: Ints = field(repr=False)

    def curve(self, last: int = 130) -> Doubles:
        """GPU allocation in % at arrived demand of 0, 1, ... ``last`` % of capacity.

        As in the published tables: the mean over all events whose arrived demand rounds to that
        percentage; where there is none, over those within one percentage point; NaN failing that.
        """
        percent = np.round(self.arrived / self.capacity * 100)
        allocation = np.round(self.allocated / self.capacity * 100, 2)
        values = np.full(last + 1, np.nan)
        for column in range(last + 1):
            for reach in (0, 1):
                near = np.abs(percent - column) <= reach
                if near.any():
                    values[column] = round(float(allocation[near].mean()), 2)
                    break
        return values


def random_order(
    pods: OpenbPods, capacity: int, rng: np.random.Generator, *, demand: float = 1.3
) -> Ints:
    """All pods in random order, then pods drawn with replacement, up to ``demand`` x ``capacity``.

    If all pods together already ask for more, random ones are left out until they do not.
    """
    order: list[int] = rng.permutation(pods.pods).tolist()
    needs = pods.total_gpu_milli
    total, limit = int(needs.sum()), demand * capacity
    while total > limit:
        total -= int(needs[order.pop(int(rng.integers(len(order))))])
    if total == 0:
        return np.array(order, dtype=np.int64)
    while True:
        pod = int(rng.integers(pods.pods))
        # The published rule looks at one device's share only.
        if total + int(pods.gpu_milli[pod]) > limit:
            return np.array(order, dtype=np.int64)
        total += int(needs[pod])
        order.append(pod)


def pack(
    nodes: OpenbNodes,
    pods: OpenbPods,
    policy: Policy,
    arrivals: Arrivals,
    rng: np.random.Generator,
) -> PackingResult:
    """Place arriving ``pods`` on empty ``nodes``; ``rng`` is for random ties, ranks and devices.

    Raises:
        ValueError: unusable ranks or an unknown rule for ties.
    """
    run = _Run(nodes, pods, policy, arrivals, rng)
    order = arrivals.order
    placed = np.array([run.place(int(pod)) for pod in order], dtype=np.int64)
    needs = pods.total_gpu_milli[order]
    return PackingResult(
        arrived=np.cumsum(needs),
        allocated=np.cumsum(np.where(placed >= 0, needs, 0)),
        capacity=int(nodes.gpus.sum()) * GPU_MILLI,
        placed=placed,
    )


class _Run:
    """Scores are kept per pod kind and renewed only for nodes that changed since."""

    def __init__(
        self,
        nodes: OpenbNodes,
        pods: OpenbPods,
        policy: Policy,
        arrivals: Arrivals,
        rng: np.random.Generator,
    ):
        self.machines, self.policy, self.rng = Machines(nodes), policy, rng
        rank = arrivals.ranks(nodes.nodes, rng)
        self.random = arrivals.ties == "random"
        policy.prepare(pods, nodes)
        self.kinds, self.kind_of = _kinds(pods, nodes.models)
        self.nodes = nodes.nodes
        # One key per node: score x nodes + a number that is higher for better rank; -1 if the
        # node cannot host the kind.
        self.better = self.nodes - 1 - np.argsort(np.argsort(rank))
        self.keys = np.full((len(self.kinds), self.nodes), -1, dtype=np.int64)
        self.seen = np.full(len(self.kinds), -1, dtype=np.int64)
        self.changed = np.zeros(self.nodes, dtype=np.int64)
        self.clock = 0

    def place(self, pod: int) -> int:
        """Node of the pod, -1 if none can host it."""
        kind = int(self.kind_of[pod])
        demand = self.kinds[kind]
        self._renew(kind, demand)
        keys = self.keys[kind]
        node = int(keys.argmax())
        if keys[node] < 0:
            return -1
        if self.random:
            node = int(
                self.rng.choice(np.flatnonzero(keys // self.nodes == keys[node] // self.nodes))
            )
        devices: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        if demand.gpus:
            devices = self.policy.devices(self.machines, demand, node, self.rng)
        self.machines.take(demand, node, devices)
        self.clock += 1
        self.changed[node] = self.clock
        return node

    def _renew(self, kind: int, demand: Pod) -> None:
        rows = np.flatnonzero(self.changed > self.seen[kind])
        if not rows.size:
            return
        self.seen[kind] = self.clock
        hosts = self.machines.hosts(demand, rows)
        self.keys[kind, rows[~hosts]] = -1
        rows = rows[hosts]
        if rows.size:
            scores = self.policy.scores(self.machines, demand, rows)
            self.keys[kind, rows] = scores * self.nodes + self.better[rows]


def _kinds(pods: OpenbPods, models: tuple[str, ...]) -> tuple[list[Pod], Ints]:
    """Distinct demands, and which one each pod has ``[pods]``."""
    accepts = pods.accepts(models)
    spec = np.array(pods.gpu_spec)
    _, spec_of = np.unique(spec, return_inverse=True)
    columns = (pods.cpu_milli, pods.memory_mib, pods.gpus, pods.gpu_milli, spec_of)
    table = np.stack(columns, axis=1)
    _, first, kind_of = np.unique(table, axis=0, return_index=True, return_inverse=True)
    kinds = [
        Pod(
            cpu_milli=int(pods.cpu_milli[i]),
            memory_mib=int(pods.memory_mib[i]),
            gpus=int(pods.gpus[i]),
            gpu_milli=int(pods.gpu_milli[i]),
            accepts=accepts[i],
        )
        for i in first
    ]
    return kinds, kind_of.reshape(-1)
