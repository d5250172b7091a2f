"""What is in a raw data file: counts, ranges and load, read by the domains' own importers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..simulators.cloud.azure import read_azure_llm
from ..simulators.cloud.openb import read_openb_nodes, read_openb_pods
from ..simulators.cloud.swf import read_swf
from ..simulators.tables import open_text
from . import grids, streets
from .files import UserError
from .rows import Row

HOUR = 3600.0


def summary(kind: str, file: Path) -> list[Row]:
    """Read ``file`` as data of that kind and describe it.

    Raises:
        UserError: no such kind; names the known ones.
        DataError: the file is malformed; names file, line, field and value.
    """
    if kind not in READERS:
        raise UserError(f"no importer named {kind!r}; known: {', '.join(READERS)}")
    return READERS[kind](file)


def _swf(file: Path) -> list[Row]:
    log = read_swf(file)
    processors = np.where(
        log.allocated_processors > 0, log.allocated_processors, log.requested_processors
    )
    span = float(np.ptp(log.submit_time))
    rows = [
        Row.info("jobs", log.jobs, "jobs"),
        Row.info("span of submissions", span / HOUR, "h"),
        *_range("run time", log.run_time, "s"),
        *_range("processors of a job", processors, "processors"),
        Row.info("jobs with an estimate", int((log.requested_time >= 0).sum()), "jobs"),
        Row.info("partitions", int(np.unique(log.partition).size), "partitions"),
    ]
    if log.processors is None:
        return [*rows, Row.info("machine", "no MaxProcs or MaxNodes in the header", "")]
    rows.append(Row.info("machine", log.processors, "processors"))
    work = float((np.maximum(log.run_time, 0.0) * np.maximum(processors, 0)).sum())
    return [*rows, *_ratio("offered load", work, span * log.processors, "1")]


def _openb(file: Path) -> list[Row]:
    with open_text(file) as stream:
        header = {name.strip() for name in stream.readline().split(",")}
    # Only pod lists have this column; a file that is neither fails in the importer, with its name.
    return _openb_pods(file) if "num_gpu" in header else _openb_nodes(file)


def _openb_nodes(file: Path) -> list[Row]:
    nodes = read_openb_nodes(file)
    by_model = [
        Row.info(f"GPUs of model {model}", int(nodes.gpus[nodes.model == index].sum()), "GPUs")
        for index, model in enumerate(nodes.models)
    ]
    return [
        Row.info("nodes", nodes.nodes, "nodes"),
        Row.info("nodes with GPUs", int((nodes.gpus > 0).sum()), "nodes"),
        Row.info("CPUs", float(nodes.cpu_milli.sum()) / 1000, "vCPU"),
        Row.info("memory", float(nodes.memory_mib.sum()) / 1024, "GiB"),
        Row.info("GPUs", int(nodes.gpus.sum()), "GPUs"),
        *by_model,
    ]


def _openb_pods(file: Path) -> list[Row]:
    pods = read_openb_pods(file)
    run = pods.run_time
    span = float(np.ptp(pods.created))
    ran = np.isfinite(run)
    busy = float((run[ran] * pods.total_gpu_milli[ran]).sum()) / 1000
    return [
        Row.info("pods", pods.pods, "pods"),
        Row.info("pods that want GPUs", int((pods.gpus > 0).sum()), "pods"),
        Row.info(
            "pods that share a GPU", int(((pods.gpus == 1) & (pods.gpu_milli < 1000)).sum()), "pods"
        ),
        Row.info("pods bound to GPU models", sum(spec != "" for spec in pods.gpu_spec), "pods"),
        Row.info("GPUs wanted in total", float(pods.total_gpu_milli.sum()) / 1000, "GPUs"),
        Row.info("pods never scheduled", int((~ran).sum()), "pods"),
        Row.info("span of creations", span / HOUR, "h"),
        *_range("run time", run[ran], "s"),
        *_ratio("mean GPUs in use", busy, span, "GPUs"),
    ]


def _azure(file: Path) -> list[Row]:
    trace = read_azure_llm(file)
    span = float(trace.arrival[-1])
    return [
        Row.info("requests", trace.requests, "requests"),
        Row.info("span", span / HOUR, "h"),
        *_range("context", trace.context_tokens, "tokens"),
        *_range("answer", trace.generated_tokens, "tokens"),
        *_ratio("request rate", trace.requests - 1, span, "1/s"),
        *_ratio("generated tokens", float(trace.generated_tokens.sum()), span, "tokens/s"),
    ]


READERS: Mapping[str, Callable[[Path], list[Row]]] = {
    "swf": _swf,
    "openb": _openb,
    "azure": _azure,
    "matpower": grids.matpower,
    "activsg": grids.activsg,
    "rts-gmlc": grids.rts_gmlc,
    "pglib-uc": grids.pglib_uc,
    "sumo": streets.sumo,
    "cityflow": streets.cityflow,
    "tntp": streets.tntp,
}
"""Importers by the name that the command line takes."""


def _range(name: str, values: NDArray[np.generic], unit: str) -> Sequence[Row]:
    if not values.size:
        return [Row.info(name, "no values", "")]
    numbers = values.astype(np.float64)
    figures = {"min": numbers.min(), "median": np.median(numbers), "max": numbers.max()}
    figures["mean"] = numbers.mean()
    return [Row.info(f"{name}, {which}", float(figure), unit) for which, figure in figures.items()]


def _ratio(name: str, above: float, below: float, unit: str) -> Sequence[Row]:
    if below <= 0:
        return [Row.info(name, "undefined: the trace spans no time", "")]
    return [Row.info(name, above / below, unit)]
