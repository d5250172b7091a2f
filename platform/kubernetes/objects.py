"""Pods and nodes as the extender needs them, read from Kubernetes' JSON.

GPUs are described in the way of Alibaba's open GPU sharing (the cluster of the openb trace):

==========================================  =====================================================
``alibabacloud.com/gpu-count``              pod annotation: devices wanted; node allocatable:
                                            devices there
``alibabacloud.com/gpu-milli``              pod annotation: thousandths of each device, 1..1000
                                            (1000 if missing; several devices only whole)
``alibabacloud.com/gpu-card-model``         pod annotation: models that will do, separated by
                                            ``|``; node label: the model there
``alibabacloud.com/gpu-index``              pod annotation: devices held, separated by ``-``
``nvidia.com/gpu``                          container request and node allocatable: whole GPUs
``nvidia.com/gpu.product``                  node label: the model there
==========================================  =====================================================

What only a scheduler that thinks ahead asks for (all optional):

==========================================  =====================================================
``fairlead.dev/run-time``                   pod annotation: expected run time, s
``fairlead.dev/tenant``                     pod annotation or label: tenant group
``fairlead.dev/time``                       pod annotation: now, s since 1970, instead of the wall
                                            clock (replays)
==========================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, cast

from .quantities import ObjectError, count, mebibytes, milli

WHOLE = 1000
_ALIBABA = "alibabacloud.com/"
COUNT, MILLI = f"{_ALIBABA}gpu-count", f"{_ALIBABA}gpu-milli"
MODEL, INDEX = f"{_ALIBABA}gpu-card-model", f"{_ALIBABA}gpu-index"
NVIDIA, PRODUCT = "nvidia.com/gpu", "nvidia.com/gpu.product"
RUN_TIME, TENANT, TIME = "fairlead.dev/run-time", "fairlead.dev/tenant", "fairlead.dev/time"
MAX_DEVICES = 64
NO_MODEL = "unknown"
"""GPU model of nodes with GPUs that do not name one."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node's capacity: milli-cores, MiB, devices of 1,000 milli, model (empty without GPUs).

    ``ready`` is false for nodes that are not Ready or are cordoned.
    """

    name: str
    cpu: int
    memory: int
    gpus: int
    model: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod's demand and identity.

    Attributes:
        uid, name, namespace: identity; the uid counts.
        cpu, memory: milli-cores, MiB, over all containers.
        gpus, gpu_milli: devices, and thousandths of each (both 0 without GPUs).
        models: GPU models that will do; empty: any.
        tenant: group, empty if it names none.
        run_time: expected, s; ``None`` if it names none.
        created, started: s since 1970, ``None`` if unknown.
        node: where it runs, empty if it waits.
        finished: Succeeded, Failed or being deleted: it holds nothing (any more).
        devices: of its GPUs where the pod names them.
        now: its own clock (replays), ``None``: the wall clock.
    """

    uid: str
    name: str
    namespace: str
    cpu: int
    memory: int
    gpus: int = 0
    gpu_milli: int = 0
    models: tuple[str, ...] = ()
    tenant: str = ""
    run_time: float | None = None
    created: float | None = None
    started: float | None = None
    node: str = ""
    finished: bool = False
    devices: tuple[int, ...] = ()
    now: float | None = None


Json = Mapping[str, Any]


def read_node(value: object) -> Node:
    """A ``v1.Node``.

    Raises:
        ObjectError: a field is missing or wrong; names it.
    """
    node = _mapping(value, "node")
    metadata = _mapping(node.get("metadata"), "node.metadata")
    name = _text(metadata, "name", "node.metadata")
    where = f"node {name!r}"
    status = _mapping(node.get("status"), f"{where}.status")
    there = _mapping(status.get("allocatable", status.get("capacity")), f"{where}.allocatable")
    if "cpu" not in there or "memory" not in there:
        raise ObjectError(f"{where}: status.allocatable needs cpu and memory")
    labels = _mapping(metadata.get("labels") or {}, f"{where}.labels")
    key = COUNT if COUNT in there else NVIDIA
    gpus = count(there.get(key, 0), f"{where}.allocatable[{key}]")
    if gpus > MAX_DEVICES:
        raise ObjectError(f"{where} has {gpus} GPUs; at most {MAX_DEVICES} are accepted")
    model = str(labels.get(MODEL) or labels.get(PRODUCT) or NO_MODEL) if gpus else ""
    spec = _mapping(node.get("spec") or {}, f"{where}.spec")
    cpu = milli(there["cpu"], f"{where}.cpu", up=False)
    memory = mebibytes(there["memory"], f"{where}.memory", up=False)
    if cpu < 1 or memory < 1:
        raise ObjectError(f"{where} offers {cpu} milli-cores and {memory} MiB; both must be 1 up")
    return Node(name, cpu, memory, gpus, model, _ready(status) and not spec.get("unschedulable"))


def read_pod(value: object) -> Pod:
    """A ``v1.Pod``.

    Raises:
        ObjectError: a field is missing or wrong; names it.
    """
    pod = _mapping(value, "pod")
    metadata = _mapping(pod.get("metadata"), "pod.metadata")
    name = _text(metadata, "name", "pod.metadata")
    namespace = str(metadata.get("namespace") or "default")
    where = f"pod {namespace}/{name}"
    notes = _mapping(metadata.get("annotations") or {}, f"{where}.annotations")
    labels = _mapping(metadata.get("labels") or {}, f"{where}.labels")
    spec = _mapping(pod.get("spec"), f"{where}.spec")
    status = _mapping(pod.get("status") or {}, f"{where}.status")
    cpu, memory, whole = _requests(spec, where)
    gpus, share = _gpus(notes, whole, where)
    models = tuple(word.strip() for word in str(notes.get(MODEL) or "").split("|") if word.strip())
    return Pod(
        uid=str(metadata.get("uid") or f"{namespace}/{name}"),
        name=name,
        namespace=namespace,
        cpu=cpu,
        memory=memory,
        gpus=gpus,
        gpu_milli=share,
        models=models,
        tenant=str(notes.get(TENANT) or labels.get(TENANT) or ""),
        run_time=_seconds(notes, RUN_TIME, where),
        created=_instant(metadata.get("creationTimestamp"), f"{where}.creationTimestamp"),
        started=_instant(status.get("startTime"), f"{where}.startTime"),
        node=str(spec.get("nodeName") or ""),
        finished=status.get("phase") in ("Succeeded", "Failed")
        or bool(metadata.get("deletionTimestamp")),
        devices=_devices(notes, where),
        now=_seconds(notes, TIME, where),
    )


def _requests(spec: Json, where: str) -> tuple[int, int, int]:
    """Milli-cores, MiB and whole GPUs: all containers together, or the largest init container."""
    running = [_request(c, where) for c in _items(spec.get("containers"), f"{where}.containers")]
    first = [_request(c, where) for c in _items(spec.get("initContainers"), f"{where}.init")]
    overhead = _mapping(spec.get("overhead") or {}, f"{where}.overhead")
    extra = _request({"resources": {"requests": overhead}}, where)
    total = [sum(column) for column in zip((0, 0, 0), *running, strict=True)]
    largest = [max(column) for column in zip((0, 0, 0), *first, strict=True)]
    cpu, memory, gpus = (max(t, i) + o for t, i, o in zip(total, largest, extra, strict=True))
    return cpu, memory, gpus


def _request(container: object, where: str) -> tuple[int, int, int]:
    resources = _mapping(_mapping(container, f"{where}.container").get("resources") or {}, where)
    limits = _mapping(resources.get("limits") or {}, f"{where}.limits")
    # What is limited but not requested is requested up to the limit.
    wanted = {**limits, **_mapping(resources.get("requests") or {}, f"{where}.requests")}
    return (
        milli(wanted.get("cpu", 0), f"{where}.requests.cpu", up=True),
        mebibytes(wanted.get("memory", 0), f"{where}.requests.memory", up=True),
        count(wanted.get(NVIDIA, 0), f"{where}.requests[{NVIDIA}]"),
    )


def _gpus(notes: Json, whole: int, where: str) -> tuple[int, int]:
    gpus = count(notes.get(COUNT, 0), f"{where}.annotations[{COUNT}]") or whole
    if gpus == 0:
        return 0, 0
    share = count(notes.get(MILLI, WHOLE), f"{where}.annotations[{MILLI}]")
    if gpus > MAX_DEVICES or not 1 <= share <= WHOLE or (gpus > 1 and share != WHOLE):
        raise ObjectError(
            f"{where} asks for {gpus} GPUs of {share} milli; accepted: one of 1..{WHOLE}, or up "
            f"to {MAX_DEVICES} whole ones"
        )
    return gpus, share


def _devices(notes: Json, where: str) -> tuple[int, ...]:
    text = str(notes.get(INDEX) or "")
    parts = text.split("-") if text else []
    if not all(part.isdecimal() and int(part) < MAX_DEVICES for part in parts):
        raise ObjectError(f"{where}.annotations[{INDEX}] = {text!r}; accepted: 0 or 0-1-3")
    return tuple(int(part) for part in parts)


def _seconds(notes: Json, key: str, where: str) -> float | None:
    if key not in notes:
        return None
    try:
        found = float(str(notes[key]))
    except ValueError:
        found = float("nan")
    if not isfinite(found) or found < 0:
        raise ObjectError(f"{where}.annotations[{key}] = {notes[key]!r}; accepted: seconds, 0 up")
    return found


def _instant(value: object, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ObjectError(f"{where} = {value!r} is no RFC 3339 time") from error
    if found.tzinfo is None:
        raise ObjectError(f"{where} = {value!r} names no time zone")
    return found.timestamp()


def _ready(status: Json) -> bool:
    conditions = _items(status.get("conditions"), "node.status.conditions")
    states = [c.get("status") for c in map(_as_mapping, conditions) if c.get("type") == "Ready"]
    return all(state == "True" for state in states)


def _as_mapping(value: object) -> Json:
    return _mapping(value, "condition")


def _items(value: object, where: str) -> Sequence[object]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ObjectError(f"{where} is no list")
    return cast("list[object]", value)


def _mapping(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise ObjectError(f"{where} is {'missing' if value is None else 'no object'}")
    return cast("dict[str, Any]", value)


def _text(values: Json, key: str, where: str) -> str:
    found = values.get(key)
    if not isinstance(found, str) or not found:
        raise ObjectError(f"{where}.{key} is missing")
    return found
