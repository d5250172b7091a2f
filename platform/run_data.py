"""What a finished or running training job has written so far, ready for plots and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from .evaluation import EvaluationTable
from .files import UserError
from .run_folder import RunFolder, read_json
from .statistics import Interval, Values, bootstrap


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure over the episodes of training; ``low`` and ``high`` bound it where known."""

    episodes: Values
    value: Values
    low: Values
    high: Values


@dataclass(frozen=True, slots=True)
class RunData:
    """Tables and facts of one run folder.

    Attributes:
        folder: of the run.
        config: effective configuration.
        facts: versions, machine, revision.
        summary: how it ended; empty while it runs.
        metrics: one row per iteration.
        timing: one row per iteration, seconds per stage.
        evaluation: one row per evaluation and seed; ``None`` before the first.
        baselines: heuristics on the evaluation seeds, if measured.
        comparison: best policy and heuristics on unseen seeds, once done.
    """

    folder: Path
    config: dict[str, Any]
    facts: dict[str, Any]
    summary: dict[str, Any]
    metrics: pl.DataFrame
    timing: pl.DataFrame
    evaluation: pl.DataFrame | None
    baselines: EvaluationTable | None
    comparison: EvaluationTable | None

    @property
    def title(self) -> str:
        """What was trained on what, in one line."""
        scenario = self.config.get("scenario", {})
        learner = self.config.get("learner", {})
        algorithm = str(learner.get("algorithm", "policy")).upper()
        agents = f", {scenario['agents']} agents" if "agents" in scenario else ""
        return f"{algorithm} on {self.config.get('domain')}/{scenario.get('name')}{agents}"

    def curve(self, column: str) -> Curve | None:
        """A metric over training, without iterations that lack it; ``None`` if all do."""
        if column not in self.metrics.columns:
            return None
        value = self.metrics[column].cast(pl.Float64).to_numpy()
        known = np.isfinite(value)
        if not known.any():
            return None
        value = value[known]
        return Curve(self._episodes(self.metrics["iteration"])[known], value, value, value)

    def with_error(self, curve: Curve, column: str) -> Curve:
        """The curve with bounds one standard error away, where ``column`` tells it."""
        error = self.curve(column) if column else None
        if error is None:
            return curve
        at = dict(zip(error.episodes.tolist(), error.value.tolist(), strict=True))
        half = np.array([at.get(episode, 0.0) for episode in curve.episodes.tolist()])
        return replace(curve, low=curve.value - half, high=curve.value + half)

    def learning(self) -> Curve | None:
        """Mean return of the evaluations with 95 % bootstrap intervals over their seeds."""
        if self.evaluation is None or self.evaluation.height == 0:
            return None
        groups = self.evaluation.group_by("iteration").agg(pl.col("return")).sort("iteration")
        found = [bootstrap(np.array(runs), resamples=1000) for runs in groups["return"]]
        episodes = self._episodes(groups["iteration"])
        return Curve(episodes, *_columns(found))

    def stages(self, names: Sequence[str]) -> dict[str, Values]:
        """Seconds of the named stages per iteration, without those that are absent."""
        rows = self.timing.filter(pl.col("iteration") > 0)
        return {
            name: rows[name].cast(pl.Float64).fill_null(0.0).to_numpy()
            for name in names
            if name in rows.columns
        }

    def _episodes(self, iterations: pl.Series) -> Values:
        return iterations.to_numpy().astype(np.float64) * float(self.config.get("episodes", 1))


def read_run(folder: Path) -> RunData:
    """Read a run folder.

    Raises:
        UserError: it holds no run, or a file is damaged; names the file.
    """
    run = RunFolder(folder)
    if not run.config.exists():
        raise UserError(f"{folder} holds no run (no {run.config.name}); give a run folder")
    return RunData(
        folder=folder,
        config=read_json(run.config),
        facts=read_json(run.run),
        summary=read_json(run.summary) if run.summary.exists() else {},
        metrics=_frame(run.metrics),
        timing=_frame(run.timing),
        evaluation=_frame(run.evaluation) if run.evaluation.exists() else None,
        baselines=_if_there(run.baselines, EvaluationTable.read),
        comparison=_if_there(run.comparison, EvaluationTable.read),
    )


def _frame(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _if_there(path: Path, read: Callable[[Path], EvaluationTable]) -> EvaluationTable | None:
    return read(path) if path.exists() else None


def _columns(intervals: Sequence[Interval]) -> tuple[Values, Values, Values]:
    points = np.array([interval.point for interval in intervals])
    low = np.array([interval.low for interval in intervals])
    return points, low, np.array([interval.high for interval in intervals])
