"""Metrics of a training job: a port of its own, or a text file for short jobs.

A job is no service: it comes and goes, and Prometheus may never scrape a short one. A text file is
read by node_exporter's textfile collector and keeps the last values after the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from prometheus_client import start_http_server

from ..files import UserError, write_atomic
from ..loop import DivergedError
from ..moments import Record, Recorded, unrecorded
from .exposition import Exposition
from .meter import ContractMeter

_FIGURES: Mapping[str, str] = {
    "train_return": "return",
    "train_evaluation_return": "evaluation/return",
    "train_kl_used": "trust/joint_kl",
    "train_kl_budget": "trust/total",
    "train_clip_ratio": "policy/clip_fraction",
    "train_guidance_weight": "guidance/alpha",
}
"""Gauges and the learner's statistics behind them; a learner without one leaves NaN."""

_STAGES = ("collect", "update", "evaluate", "write")


class TrainingMetrics:
    """The contract's training metrics of one run.

    Args:
        run: label; name of the run's folder.
        domain: label.
        iterations: planned.
    """

    def __init__(self, *, run: str, domain: str, iterations: int):
        self.meter = ContractMeter(scope="train")
        self._labels = {"run": run, "domain": domain}
        self._seen: dict[str, float] = {}
        self.meter.set("train_running", 1.0, **self._labels)
        self.meter.set("train_iterations_planned", iterations, **self._labels)
        for name in ("train_nan_skips_total", "train_worker_restarts_total"):
            self.meter.count(name, 0.0, **self._labels)

    def record(self, done: Recorded) -> None:
        """Take over what an iteration measured; its checkpoint has just been kept."""
        figures, meter, labels = done.figures, self.meter, self._labels
        self._rise("train_iterations_total", done.iteration)
        self._rise("train_env_steps_total", figures.get("decisions_per_agent", 0.0))
        self._rise("train_worker_restarts_total", done.workers_lost)
        for metric, name in _FIGURES.items():
            if name in figures or name != "evaluation/return":
                meter.set(metric, figures.get(name, math.nan), **labels)
        for stage in _STAGES:
            if stage in done.seconds:
                seconds = done.seconds[stage]
                meter.set("train_iteration_duration_seconds", seconds, **labels, stage=stage)
        if "kl" in done.groups:
            meter.observe_many("train_kl", np.asarray(done.groups["kl"]), **labels)
        elif "policy/kl" in figures:
            meter.observe("train_kl", figures["policy/kl"], **labels)
        if "projection/kappa" in figures:
            # Energies are shares of the field's; norms are their roots (Hodge: orthogonal parts).
            curl = math.sqrt(max(figures["projection/kappa"], 0.0))
            gradient = math.sqrt(max(1.0 - figures["projection/residual"], 0.0))
            meter.set("train_hodge_norm", curl, **labels, component="curl")
            meter.set("train_hodge_norm", gradient, **labels, component="gradient")
        meter.set("train_checkpoint_timestamp_seconds", time.time(), **labels)

    def diverged(self) -> None:
        """An update was given up for a number that is not finite."""
        self.meter.count("train_nan_skips_total", **self._labels)

    def ended(self) -> None:
        """The job works no more, for whatever reason."""
        self.meter.set("train_running", 0.0, **self._labels)

    def _rise(self, metric: str, total: float) -> None:
        """Bring a counter to a total; a total that falls (resumed earlier) changes nothing."""
        rise = total - self._seen.get(metric, 0.0)
        if rise >= 0.0:
            self.meter.count(metric, rise, **self._labels)
            self._seen[metric] = total


@contextmanager
def exporting(
    metrics: TrainingMetrics, *, port: int | None = None, textfile: Path | None = None
) -> Generator[Record]:
    """Export while the body runs; yields what the job is to call after each iteration.

    Args:
        metrics: of the run.
        port: on loopback, 0 for any free one; ``None``: none.
        textfile: rewritten whole after each iteration and at the end; ``None``: none.

    Raises:
        UserError: the port is taken, or the file cannot be written.
    """
    if port is None and textfile is None:
        yield unrecorded
        return
    with ExitStack() as stack:
        if port is not None:
            stack.enter_context(_served(metrics, port))
        # Without figures of the process: node_exporter has such of its own in the same exposition.
        text = Exposition(metrics.meter, process=False, hold=0.0)

        def write() -> None:
            if textfile is not None:
                write_atomic(textfile, text())

        def record(done: Recorded) -> None:
            metrics.record(done)
            write()

        write()
        try:
            yield record
        except DivergedError:
            metrics.diverged()
            raise
        finally:
            metrics.ended()
            write()


@contextmanager
def _served(metrics: TrainingMetrics, port: int) -> Generator[None]:
    registry = Exposition(metrics.meter).registry
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise UserError(
            f"--metrics-port {port}: {error.strerror}; choose another port (0: any free one)"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
