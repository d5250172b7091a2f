"""The openb trace as Kubernetes objects, and as pods that arrive, run and leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...simulators.cloud.openb import (
    OpenbNodes,
    OpenbPods,
    read_openb_nodes,
    read_openb_pods,
)
from ...simulators.cloud.openb_fleet import NODES, PODS
from ...simulators.cloud.packing_policies import Machines, Pod
from ...simulators.interface import Doubles, Ints
from ...simulators.tables import locate
from .objects import COUNT, MILLI, MODEL, RUN_TIME, TENANT, TIME

PATIENCE = 50
"""Pods in a row that fit nowhere, after which a cluster counts as full."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Pods by time of arrival.

    Attributes:
        time: ``[P]`` s, ascending, whole seconds (Kubernetes' time stamps are).
        pod: ``[P]`` position in the pod list.
        run_time: ``[P]`` s.
    """

    time: Doubles
    pod: Ints
    run_time: Doubles


def arrivals(
    pods: OpenbPods, *, count: int, capacity: int, load: float, cap: float, seed: int
) -> Arrivals:
    """``count`` pods that ran, in the trace's order, at a rate that offers ``load``.

    Gaps are exponential, so that the offered GPU time over the GPU capacity is ``load`` in the
    mean; run times are the trace's, cut at ``cap`` seconds.

    Args:
        pods: the trace.
        count: pods to replay; beyond the trace's end it begins anew.
        capacity: GPU-milli of the cluster.
        load: offered over available GPU time.
        cap: longest run time, s.
        seed: of the gaps.
    """
    usable = np.flatnonzero(np.isfinite(pods.run_time) & (pods.run_time > 0))
    pod = usable[np.arange(count) % usable.shape[0]]
    run_time = np.maximum(np.minimum(pods.run_time[pod], cap), 1.0)
    demand = float((run_time * pods.total_gpu_milli[pod]).mean())
    rate = load * capacity / max(demand, 1.0)
    gaps = np.random.default_rng(seed).exponential(1.0 / rate, count)
    return Arrivals(np.floor(np.cumsum(gaps)), pod, run_time)


@dataclass(frozen=True, slots=True)
class Background:
    """Pods that run when the replay begins.

    Attributes:
        pod: ``[B]`` position in the pod list.
        node: ``[B]`` row in the node list.
        left: ``[B]`` remaining run time, s.
    """

    pod: Ints
    node: Ints
    left: Doubles


def background(
    nodes: OpenbNodes, rows: Ints, pods: OpenbPods, *, share: float, cap: float, seed: int
) -> Background:
    """Pods found running at a random instant, until they hold ``share`` of the GPUs.

    As in the scenario ``openb``: a pod is found with odds proportional to its run time, at a
    uniform point of it, on a random node that can take it. Stops early where nothing fits any more.
    """
    rng = np.random.default_rng([seed, 1])
    usable = np.flatnonzero(np.isfinite(pods.run_time) & (pods.run_time > 0))
    run_time = np.minimum(pods.run_time[usable], cap)
    odds = run_time / run_time.sum()
    machines, accepts = Machines(nodes), pods.accepts(nodes.models)
    wanted, held, refused = share * float(nodes.gpus[rows].sum()) * 1000.0, 0, 0
    found: list[tuple[int, int, float]] = []
    while held < wanted and refused < PATIENCE:
        at = int(rng.choice(usable.shape[0], p=odds))
        row = int(usable[at])
        demand = Pod(
            cpu_milli=int(pods.cpu_milli[row]),
            memory_mib=int(pods.memory_mib[row]),
            gpus=int(pods.gpus[row]),
            gpu_milli=int(pods.gpu_milli[row]),
            accepts=accepts[row],
        )
        hosts = rows[machines.hosts(demand, rows)]
        if not hosts.size:
            refused += 1
            continue
        node = int(rng.choice(hosts))
        devices = machines.tightest(demand, node) if demand.gpus else np.zeros(0, np.int64)
        machines.take(demand, node, devices)
        held += demand.gpus * demand.gpu_milli
        found.append((row, node, float(run_time[at]) * (1.0 - float(rng.random()))))
    pod, node, left = zip(*found, strict=True) if found else ((), (), ())
    return Background(
        np.array(pod, np.int64), np.array(node, np.int64), np.maximum(np.array(left, float), 1.0)
    )


def chosen_nodes(nodes: OpenbNodes, count: int | None) -> Ints:
    """Rows of ``count`` nodes evenly spread over the list (``None``: all)."""
    if count is None or count >= nodes.nodes:
        return np.arange(nodes.nodes)
    return np.unique(np.linspace(0, nodes.nodes - 1, count).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Trace:
    """What is replayed: the lists, which nodes of them, who runs before, and who arrives."""

    nodes: OpenbNodes
    pods: OpenbPods
    rows: Ints
    before: Background
    coming: Arrivals

    @property
    def listed(self) -> dict[str, Any]:
        """``v1.NodeList``."""
        return {"items": [node_object(self.nodes, row) for row in self.rows.tolist()]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of the trace is replayed.

    Attributes:
        pods: that arrive.
        nodes: evenly from the list (``None``: all).
        load: offered over available GPU time.
        cap: longest run time, s.
        prefill: share of the GPUs that pods hold at the start.
        seed: of arrivals and the start.
    """

    pods: int = 2000
    nodes: int | None = 200
    load: float = 0.95
    cap: float = 1800.0
    prefill: float = 0.9
    seed: int = 1


def load_trace(data: Path | None, size: Size) -> Trace:
    """Read the lists and draw who runs and who arrives.

    Raises:
        DataError: a list is missing or malformed.
    """
    folder = None if data is None else str(data)
    pods, nodes = read_openb_pods(locate(PODS, folder)), read_openb_nodes(locate(NODES, folder))
    rows = chosen_nodes(nodes, size.nodes)
    capacity = int(nodes.gpus[rows].sum()) * 1000
    return Trace(
        nodes,
        pods,
        rows,
        background(nodes, rows, pods, share=size.prefill, cap=size.cap, seed=size.seed),
        arrivals(
            pods,
            count=size.pods,
            capacity=capacity,
            load=size.load,
            cap=size.cap,
            seed=size.seed,
        ),
    )


def node_object(nodes: OpenbNodes, row: int) -> dict[str, Any]:
    """A ``v1.Node`` with the resources of one node of the list."""
    there = {
        "cpu": f"{int(nodes.cpu_milli[row])}m",
        "memory": f"{int(nodes.memory_mib[row])}Mi",
    }
    labels: dict[str, str] = {}
    if nodes.gpus[row]:
        there[COUNT] = str(int(nodes.gpus[row]))
        labels[MODEL] = nodes.models[int(nodes.model[row])]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": nodes.name[row], "labels": labels},
        "spec": {},
        "status": {"allocatable": there, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod_object(
    pods: OpenbPods, row: int, *, uid: str, created: float, run_time: float, now: float
) -> dict[str, Any]:
    """A ``v1.Pod`` that waits, with the demand of one pod of the list.

    Its times are seconds since 1970; ``now`` is the replay's clock.
    """
    notes = {TENANT: pods.qos[row] or "none", RUN_TIME: repr(run_time), TIME: repr(now)}
    if pods.gpus[row]:
        notes[COUNT], notes[MILLI] = str(int(pods.gpus[row])), str(int(pods.gpu_milli[row]))
    if pods.gpu_spec[row]:
        notes[MODEL] = pods.gpu_spec[row]
    requests = {
        "cpu": f"{int(pods.cpu_milli[row])}m",
        "memory": f"{int(pods.memory_mib[row])}Mi",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pods.name[row],
            "namespace": "openb",
            "uid": uid,
            "creationTimestamp": _stamp(created),
            "annotations": notes,
        },
        "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]},
    }


def _stamp(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s")) + "Z"
