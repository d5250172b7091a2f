"""The openb trace as Kubernetes objects, and as pods that arrive, run and leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...simulators.cloud.openb import OpenbNodes, OpenbPods
from ...simulators.interface import Doubles, Ints
from .objects import COUNT, MILLI, MODEL, RUN_TIME, TENANT, TIME


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


def chosen_nodes(nodes: OpenbNodes, count: int | None) -> Ints:
    """Rows of ``count`` nodes evenly spread over the list (``None``: all)."""
    if count is None or count >= nodes.nodes:
        return np.arange(nodes.nodes)
    return np.unique(np.linspace(0, nodes.nodes - 1, count).astype(np.int64))


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
