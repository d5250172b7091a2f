"""Node and pod lists in the layout of Alibaba's openb trace (cluster-trace-gpu-v2023).

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent" (USENIX ATC 2023). CPU and GPU are counted in thousandths ("milli") of a core or a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..interface import Bools, Doubles, Ints
from ..tables import Table, read_table

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
POD_OPTIONAL = (
    "gpu_spec",
    "qos",
    "pod_phase",
    "creation_time",
    "deletion_time",
    "scheduled_time",
)
"""Columns that some of the published pod lists lack."""

GPU_MILLI = 1000
"""Thousandths of one whole GPU."""


@dataclass(frozen=True, slots=True)
class OpenbNodes:
    """Nodes in file order.

    Attributes:
        name: node names.
        cpu_milli, memory_mib: ``[nodes]`` capacity, in milli-cores and MiB.
        gpus: ``[nodes]`` number of GPUs of 1,000 milli each.
        models: the GPU models that occur, sorted.
        model: ``[nodes]`` index into ``models``, -1 for nodes without GPUs.
    """

    name: tuple[str, ...]
    cpu_milli: Ints
    memory_mib: Ints
    gpus: Ints
    models: tuple[str, ...]
    model: Ints

    @property
    def nodes(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True)
class OpenbPods:
    """Pods in file order.

    Attributes:
        name: pod names.
        cpu_milli, memory_mib: ``[pods]`` demand, in milli-cores and MiB.
        gpus: ``[pods]`` GPUs wanted (0 for CPU-only pods).
        gpu_milli: ``[pods]`` wanted on each of them, 1..1000 (0 for CPU-only pods).
        gpu_spec: accepted GPU models, separated by ``|``; empty if any will do.
        qos, phase: quality of service and last phase; empty if the file has no such column.
        created, deleted: ``[pods]`` seconds; NaN if the file has no such column.
        scheduled: ``[pods]`` seconds, NaN if the pod never was, or the file has no such column.
    """

    name: tuple[str, ...]
    cpu_milli: Ints
    memory_mib: Ints
    gpus: Ints
    gpu_milli: Ints
    gpu_spec: tuple[str, ...]
    qos: tuple[str, ...]
    phase: tuple[str, ...]
    created: Doubles
    deleted: Doubles
    scheduled: Doubles

    @property
    def pods(self) -> int:
        return len(self.name)

    @property
    def total_gpu_milli(self) -> Ints:
        """``[pods]`` GPU demand over all devices, in milli-GPU."""
        return self.gpus * self.gpu_milli

    @property
    def run_time(self) -> Doubles:
        """``[pods]`` seconds from scheduling to deletion, NaN for pods never scheduled."""
        return self.deleted - self.scheduled

    def accepts(self, models: tuple[str, ...]) -> Bools:
        """``[pods, models]``: whether a pod may run on a GPU of that model."""
        rows = {"": np.ones(len(models), dtype=bool)}
        for spec in set(self.gpu_spec) - {""}:
            wanted = {word.strip() for word in spec.split("|")}
            rows[spec] = np.array([model in wanted for model in models], dtype=bool)
        return np.array([rows[spec] for spec in self.gpu_spec], dtype=bool)


def read_openb_nodes(path: str | Path) -> OpenbNodes:
    """Read a node list (plain or gzip).

    Raises:
        DataError: missing column or value, no number, GPUs without a model, or a name twice.
    """
    table = read_table(path, NODE_COLUMNS)
    name = table.text("sn", required=True)
    _unique(table, "sn", name)
    gpus = table.integers("gpu")
    labels = table.text("model")
    for row in np.flatnonzero(gpus > 0):
        if not labels[row]:
            table.fail(int(row), "model", "a GPU model is expected on a node with GPUs")
    models = tuple(sorted({labels[row] for row in np.flatnonzero(gpus > 0)}))
    position = {label: index for index, label in enumerate(models)}
    model = [position[label] if count else -1 for label, count in zip(labels, gpus, strict=True)]
    return OpenbNodes(
        name=name,
        cpu_milli=table.integers("cpu_milli", low=1),
        memory_mib=table.integers("memory_mib", low=1),
        gpus=gpus,
        models=models,
        model=np.array(model, dtype=np.int64),
    )


def read_openb_pods(path: str | Path) -> OpenbPods:
    """Read a pod list (plain or gzip).

    Raises:
        DataError: missing column or value, no number, a GPU share outside 1..1000, a share of
            several GPUs, deletion before creation, or a name twice.
    """
    table = read_table(path, POD_COLUMNS, POD_OPTIONAL)
    name = table.text("name", required=True)
    _unique(table, "name", name)
    gpus = table.integers("num_gpu")
    milli = table.integers("gpu_milli", high=GPU_MILLI)
    _first(table, "gpu_milli", (gpus > 0) & (milli == 0), "1 to 1000 is expected with GPUs")
    _first(table, "gpu_milli", (gpus > 1) & (milli < GPU_MILLI), "1000 with several GPUs")
    created = _times(table, "creation_time")
    deleted = _times(table, "deletion_time")
    scheduled = _times(table, "scheduled_time", empty=np.nan)
    _first(table, "deletion_time", deleted < created, "not before creation_time")
    _first(table, "scheduled_time", scheduled < created, "not before creation_time")
    return OpenbPods(
        name=name,
        cpu_milli=table.integers("cpu_milli"),
        memory_mib=table.integers("memory_mib"),
        gpus=gpus,
        gpu_milli=np.where(gpus > 0, milli, 0),
        gpu_spec=_words(table, "gpu_spec"),
        qos=_words(table, "qos"),
        phase=_words(table, "pod_phase"),
        created=created,
        deleted=deleted,
        scheduled=scheduled,
    )


def _times(table: Table, column: str, *, empty: float | None = None) -> Doubles:
    if column not in table.columns:
        return np.full(table.rows, np.nan)
    return table.numbers(column, empty=empty)


def _words(table: Table, column: str) -> tuple[str, ...]:
    return table.text(column) if column in table.columns else ("",) * table.rows


def _first(table: Table, column: str, wrong: Bools, accepted: str) -> None:
    if wrong.any():
        table.fail(int(np.argmax(wrong)), column, accepted)


def _unique(table: Table, column: str, names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for row, name in enumerate(names):
        if name in seen:
            table.fail(row, column, "a name that occurs only once is expected")
        seen.add(name)
