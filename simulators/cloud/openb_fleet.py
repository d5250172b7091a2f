"""The scenario `openb`: the real GPU node list, its pods as jobs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints
from ..tables import locate
from .catalogue import NodeType, apportion
from .fleet import Fleet
from .fragmentation import Fragmentation, typical_pods
from .openb import OpenbNodes, OpenbPods, read_openb_nodes, read_openb_pods
from .resources import Demands, Resources
from .scenario import OpenbScenario

NODES = "openb_node_list_all_node.csv"
PODS = "openb_pod_list_default.csv"
CLASSES = ("cpu", "share", "whole", "multi")
"""Pods without GPU, with a share of one, with one whole GPU, with several."""
SMALLEST_GROUP = 0.05
"""Quality-of-service classes with a smaller share of the pods join the most frequent one."""

_WATTS = {
    "A10": (20.0, 150.0),
    "G2": (25.0, 150.0),
    "G3": (45.0, 400.0),
    "P100": (27.0, 250.0),
    "T4": (10.0, 70.0),
    "V100M16": (40.0, 300.0),
    "V100M32": (40.0, 300.0),
}
"""Idle and peak power of one GPU by model; nominal board power, assumed for the models that the
trace keeps anonymous."""
_OTHER_WATTS = (30.0, 250.0)
_CORE_WATTS = (1.2, 3.5)
_GPU_PRICE, _CORE_PRICE = 0.6, 0.04


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenbFleet(Fleet):
    """A fleet whose jobs are drawn from a pod list.

    Attributes:
        run_time: ``[P]`` run time of every usable pod, s, cut at the scenario's cap.
        kind: ``[P]`` its class.
        demand: ``[P]`` its row of the demand table.
        pods_of: usable pods of each tenant group.
    """

    run_time: Doubles
    kind: Ints
    demand: Ints
    pods_of: tuple[Ints, ...]


def openb_fleet(scenario: OpenbScenario) -> OpenbFleet:
    """Read the trace and build the fleet.

    The fleet's ``mean_service`` is in node-seconds: run time times the share of the node (of its
    GPUs, else of its CPU) that a job of the class holds, averaged over pods.

    Raises:
        DataError: a file is missing or malformed.
    """
    pods = read_openb_pods(locate(PODS, scenario.data))
    nodes = read_openb_nodes(locate(NODES, scenario.data))
    chosen = _sample(nodes, scenario.nodes)
    demands, demand_all = _demands(pods, nodes.models)
    resources = Resources(
        cpu=nodes.cpu_milli[chosen],
        memory=nodes.memory_mib[chosen],
        gpus=nodes.gpus[chosen],
        model=nodes.model[chosen],
        demands=demands,
        fragmentation=Fragmentation(typical_pods(pods, nodes.models)),
    )
    hosted = np.asarray(resources.capable().any(axis=1), dtype=bool)
    # Pods that never ran have no run time; after sub-sampling a rare pod may fit nowhere.
    usable = np.flatnonzero(np.isfinite(pods.run_time) & hosted[demand_all])
    run_time = np.minimum(pods.run_time[usable], scenario.duration_cap)
    gpu = pods.gpus[usable]
    whole = pods.gpu_milli[usable] == 1000
    kind = np.select([gpu == 0, (gpu == 1) & ~whole, gpu == 1], [0, 1, 2], 3).astype(np.int64)
    demand = demand_all[usable]
    groups, group_of_pod = _groups(pods, usable, scenario.agents)
    pods_of = tuple(np.flatnonzero(group_of_pod == g) for g in range(len(groups)))
    members = _members(np.array([p.size for p in pods_of]), scenario.agents)
    mix = np.array([np.bincount(kind[p], minlength=len(CLASSES)) / p.size for p in pods_of])
    types, type_of = node_types(nodes, chosen)
    gpu_seconds = run_time * pods.total_gpu_milli[usable]
    per_group = np.array([gpu_seconds[p].mean() for p in pods_of])
    mean_gpu = float(members @ per_group) / scenario.agents
    rate = scenario.load * float(resources.gpus.sum()) * 1000.0 / mean_gpu
    return OpenbFleet(
        discipline="exclusive",
        types=types,
        type_of=type_of,
        classes=CLASSES,
        groups=groups,
        group_of=np.repeat(np.arange(len(groups)), members),
        mix=mix,
        mean_service=_node_seconds(resources, type_of, kind, demand, run_time),
        rate=rate,
        load=scenario.load,
        dt=scenario.arrivals_per_epoch * scenario.agents / rate,
        horizon=scenario.horizon,
        resources=resources,
        run_time=run_time,
        kind=kind,
        demand=demand,
        pods_of=pods_of,
    )


def _sample(nodes: OpenbNodes, wanted: int | None) -> Ints:
    """Nodes to keep, in file order: the same mix of configurations, the first ones of each."""
    if wanted is None or wanted >= nodes.nodes:
        return np.arange(nodes.nodes)
    columns = (nodes.model, nodes.gpus, nodes.cpu_milli, nodes.memory_mib)
    _, label, count = np.unique(
        np.stack(columns, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    label = label.reshape(-1)
    keep = apportion(count.astype(np.float64).tolist(), wanted)
    parts = [np.flatnonzero(label == c)[: keep[c]] for c in range(count.shape[0])]
    return np.sort(np.concatenate(parts))


def _demands(pods: OpenbPods, models: tuple[str, ...]) -> tuple[Demands, Ints]:
    """Distinct demands, and the row of each pod."""
    columns = (pods.cpu_milli, pods.memory_mib, pods.gpus, pods.gpu_milli)
    accepts = pods.accepts(models)
    table = np.concatenate([np.stack(columns, axis=1), accepts.astype(np.int64)], axis=1)
    rows, label = np.unique(table, axis=0, return_inverse=True)
    demands = Demands(
        cpu=rows[:, 0],
        memory=rows[:, 1],
        gpus=rows[:, 2],
        gpu_milli=rows[:, 3],
        accepts=rows[:, 4:].astype(bool),
    )
    return demands, label.reshape(-1).astype(np.int64)


def _groups(pods: OpenbPods, usable: Ints, agents: int) -> tuple[tuple[str, ...], Ints]:
    """Tenant groups by quality of service, most frequent first, and the group of each pod."""
    labels = np.array([pods.qos[row] or "none" for row in usable.tolist()])
    names, count = np.unique(labels, return_counts=True)
    order = np.argsort(-count, kind="stable")
    large = [str(names[i]) for i in order if count[i] >= SMALLEST_GROUP * labels.shape[0]]
    kept = tuple(large[:agents]) or (str(names[order[0]]),)
    position = {name: index for index, name in enumerate(kept)}
    return kept, np.array([position.get(label, 0) for label in labels.tolist()], dtype=np.int64)


def _members(pods: Ints, agents: int) -> Ints:
    """Dispatchers per group: in proportion to its pods, at least one."""
    return 1 + apportion(pods.astype(np.float64).tolist(), agents - pods.shape[0])


def node_types(nodes: OpenbNodes, chosen: Ints) -> tuple[tuple[NodeType, ...], Ints]:
    """Node types by GPU model and count; CPU and memory are those of the type's first node."""
    labels = [
        (nodes.models[m] if m >= 0 else "", int(g))
        for m, g in zip(nodes.model[chosen].tolist(), nodes.gpus[chosen].tolist(), strict=True)
    ]
    distinct = sorted(set(labels))
    position = {label: index for index, label in enumerate(distinct)}
    types: list[NodeType] = []
    for model, gpus in distinct:
        first = int(chosen[labels.index((model, gpus))])
        cores = int(nodes.cpu_milli[first]) // 1000
        idle, peak = _WATTS.get(model, _OTHER_WATTS)
        types.append(
            NodeType(
                name=f"{model}x{gpus}" if gpus else "cpu",
                vcpu=cores,
                memory=int(nodes.memory_mib[first]) // 1024,
                gpus=gpus,
                gpu_model=model,
                speed=(1.0,) * len(CLASSES),
                idle=cores * _CORE_WATTS[0] + gpus * idle,
                peak=cores * _CORE_WATTS[1] + gpus * peak,
                price=cores * _CORE_PRICE + gpus * _GPU_PRICE,
            )
        )
    return tuple(types), np.array([position[label] for label in labels], dtype=np.int64)


def _node_seconds(
    resources: Resources, type_of: Ints, kind: Ints, demand: Ints, run_time: Doubles
) -> Doubles:
    """``[T, C]`` mean run time times share of the node held; ``inf`` where no pod fits."""
    d, capable = resources.demands, resources.capable()
    types, classes = int(type_of.max()) + 1, len(CLASSES)
    result = np.full((types, classes), np.inf)
    for t in range(types):
        node = int(np.argmax(type_of == t))
        total = int(resources.gpus[node]) * 1000
        held = d.gpus * d.gpu_milli / total if total else d.cpu / resources.cpu[node]
        for c in range(classes):
            rows = np.flatnonzero((kind == c) & capable[demand, node])
            if rows.size:
                result[t, c] = float(np.mean(run_time[rows] * held[demand[rows]]))
    # A CPU-only pod on a GPU node holds no GPU: its cost there is a small positive number.
    return np.maximum(result, 1e-3)


class PodLaw:
    """Draws pods of each class uniformly from the list; implements ``JobLaw``."""

    def __init__(self, fleet: OpenbFleet, rng: np.random.Generator):
        self._fleet = fleet
        self._rng = rng
        self._types = len(fleet.types)
        self._pods = {
            (g, c): pods[fleet.kind[pods] == c]
            for g, pods in enumerate(fleet.pods_of)
            for c in range(len(CLASSES))
        }

    def attributes(self, kind: Ints, group: Ints) -> tuple[Doubles, Doubles, Doubles, Ints]:
        pod = np.zeros(kind.shape[0], dtype=np.int64)
        draw = self._rng.random(kind.shape[0])
        for (g, c), pods in self._pods.items():
            rows = (group == g) & (kind == c)
            pod[rows] = pods[(draw[rows] * pods.shape[0]).astype(np.int64)]
        size = self._fleet.run_time[pod]
        services = np.repeat(size[:, None], self._types, axis=1)
        return size, services, size, self._fleet.demand[pod]

    def background(self, count: int) -> tuple[Ints, Doubles]:
        """Pods found running at a random instant: ``(demand, remaining run time)``, ``[count]``.

        A pod is found with odds proportional to its run time, at a uniform point of it.
        """
        fleet = self._fleet
        cumulative = np.cumsum(fleet.run_time)
        draw = self._rng.random(count) * cumulative[-1]
        pod = np.minimum(np.searchsorted(cumulative, draw), cumulative.shape[0] - 1)
        return fleet.demand[pod], fleet.run_time[pod] * (1.0 - self._rng.random(count))
