"""Evaluation of any controllers on common seeds, and what their episodes say about each other."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ..policies.interface import Controller, Information
from .executors import Executor, Heuristic, Result, Task, Trained
from .files import UserError, write_atomic
from .progress import Report, silent
from .rows import Row
from .statistics import (
    Interval,
    Values,
    bootstrap,
    iqm,
    mean,
    paired_difference,
    probability_of_improvement,
)

Kind = Literal["policy", "heuristic"]

IDENTITY = ("controller", "kind", "information", "seed", "return")
"""Columns of an evaluation's frame that every evaluation has; the others are its figures."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """One controller that takes part in an evaluation, under the name that tables show."""

    name: str
    controller: Trained | Heuristic | Controller
    kind: Kind
    information: Information = "same"

    @classmethod
    def rule(cls, controller: Controller) -> Entrant:
        """One of the scenario's own heuristics, which workers look up by its name."""
        return cls(controller.name, Heuristic(controller.name), "heuristic", controller.information)

    @classmethod
    def policy(cls, trained: Trained) -> Entrant:
        """A trained policy."""
        return cls(trained.name, trained, "policy")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one controller did over all seeds; intervals are percentile bootstrap.

    ``difference`` and ``improvement`` compare with the best same-information heuristic on common
    seeds: the mean paired difference of returns (positive is better), and the share of seeds on
    which the return is higher. Both are ``None`` for that heuristic itself, and where there is
    none.
    """

    name: str
    kind: Kind
    information: Information
    mean: Interval
    iqm: Interval
    difference: Interval | None
    improvement: Interval | None


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """One row per controller and seed, in a frame with the columns of :data:`IDENTITY` first.

    The other columns are figures of the episode: ``component.<name>`` sums of reward components,
    and the simulator's own metrics by name (``metric.<name>`` where that name is taken).
    """

    frame: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """Controllers in the order of evaluation."""
        return self.frame["controller"].unique(maintain_order=True).to_list()

    @property
    def seeds(self) -> list[int]:
        return self.frame["seed"].unique(maintain_order=True).to_list()

    @property
    def figures(self) -> list[str]:
        """Names of the columns that hold figures of the episode."""
        return [name for name in self.frame.columns if name not in IDENTITY]

    def values(self, controller: str, figure: str = "return") -> Values:
        """One figure of one controller over all seeds, ``[seeds]``.

        Raises:
            KeyError: no such controller or figure; names the known ones.
        """
        for wanted, known in ((controller, self.names), (figure, ["return", *self.figures])):
            if wanted not in known:
                raise KeyError(f"no {wanted!r} in this evaluation; known: {', '.join(known)}")
        column = self.frame.filter(pl.col("controller") == controller)[figure]
        return column.to_numpy().astype(np.float64)

    def about(self, controller: str) -> tuple[Kind, Information]:
        """Whether it is a policy or a heuristic, and what it may see."""
        row = self.frame.filter(pl.col("controller") == controller).row(0, named=True)
        return row["kind"], row["information"]

    def bar(self) -> str | None:
        """The heuristic with the same information that has the highest mean return."""
        rivals = [name for name in self.names if self.about(name) == ("heuristic", "same")]
        return max(rivals, key=lambda name: float(self.values(name).mean()), default=None)

    def standings(self, *, resamples: int = 2000, level: float = 0.95) -> list[Standing]:
        """All controllers, the highest mean return first."""
        bar = self.bar()
        found = [self._standing(name, bar, resamples, level) for name in self.names]
        return sorted(found, key=lambda standing: -standing.mean.point)

    def _standing(self, name: str, bar: str | None, resamples: int, level: float) -> Standing:
        returns = self.values(name)
        kind, information = self.about(name)
        difference = improvement = None
        if bar is not None and bar != name:
            theirs = self.values(bar)
            difference = paired_difference(returns, theirs, resamples=resamples, level=level)
            improvement = probability_of_improvement(
                returns, theirs, paired=True, resamples=resamples, level=level
            )
        return Standing(
            name=name,
            kind=kind,
            information=information,
            mean=bootstrap(returns, mean, resamples=resamples, level=level),
            iqm=bootstrap(returns, iqm, resamples=resamples, level=level),
            difference=difference,
            improvement=improvement,
        )

    def to_rows(self, units: Mapping[str, str]) -> list[Row]:
        """Figures for ``rows.report``: standings first, then the mean of every figure.

        ``units`` as in :class:`.domains.Domain`.
        """
        rows: list[Row] = []
        for standing in self.standings():
            rows += _interval(f"{standing.name}: return mean", standing.mean, "return")
            rows += _interval(f"{standing.name}: return IQM", standing.iqm, "return")
            if standing.difference is not None and standing.improvement is not None:
                rows += _interval(
                    f"{standing.name}: return above {self.bar()}", standing.difference, "return"
                )
                rows += _interval(
                    f"{standing.name}: probability of improvement on {self.bar()}",
                    standing.improvement,
                    "1",
                )
            for figure in self.figures:
                values = self.values(standing.name, figure)
                if not np.isnan(values).all():
                    row = Row.info(
                        f"{standing.name}: {figure}",
                        float(np.nanmean(values)),
                        unit_of(figure, units),
                    )
                    rows.append(row)
        return rows

    def to_json(self) -> dict[str, object]:
        """Every episode: a list of plain records under ``episodes``, best rule under ``bar``."""
        return {"bar": self.bar(), "episodes": self.frame.to_dicts()}

    def write(self, path: Path) -> None:
        """Write the frame as Parquet, atomically."""
        buffer = io.BytesIO()
        self.frame.write_parquet(buffer)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> EvaluationTable:
        """Read what :meth:`write` wrote.

        Raises:
            UserError: the file is missing, damaged, or not an evaluation.
        """
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"cannot read evaluation {path}: {error}") from error
        lacking = [name for name in IDENTITY if name not in frame.columns]
        if lacking:
            raise UserError(f"{path} is not an evaluation: it lacks {', '.join(lacking)}")
        return cls(frame)


def evaluate(
    executor: Executor,
    entrants: Sequence[Entrant],
    seeds: Sequence[int],
    *,
    bound: float | None = None,
    progress: Report = silent,
) -> EvaluationTable:
    """Play every entrant on every seed.

    Args:
        executor: plays the episodes; the result does not depend on which one.
        entrants: controllers with different names.
        seeds: of the episodes, without repetition.
        bound: lower bound on minus the return that no policy can beat; if above 0, adds the figure
            ``regret`` = minus the return, over the bound, minus one.
        progress: told after every episode.

    Raises:
        ValueError: no entrants or seeds, or one of them twice.
    """
    names = [entrant.name for entrant in entrants]
    for what, given in (("controllers", names), ("seeds", [str(seed) for seed in seeds])):
        twice = {item for item in given if given.count(item) > 1}
        if not given or twice:
            problem = f"{', '.join(sorted(twice))} twice" if twice else "none"
            raise ValueError(f"{what} to evaluate: got {problem}; give each once")
    tasks = [Task(int(seed), entrant.controller) for entrant in entrants for seed in seeds]
    done = 0

    def count(index: int, _: Result) -> None:
        nonlocal done
        done += 1
        progress(done, len(tasks), names[index // len(seeds)])

    results = executor.map(tasks, on_result=count)
    return _table(entrants, results, len(seeds), bound)


def _table(
    entrants: Sequence[Entrant], results: Sequence[Result], seeds: int, bound: float | None
) -> EvaluationTable:
    records: list[dict[str, object]] = []
    for index, result in enumerate(results):
        entrant = entrants[index // seeds]
        record: dict[str, object] = {
            "controller": entrant.name,
            "kind": entrant.kind,
            "information": entrant.information,
            "seed": result.seed,
            "return": result.total,
        }
        if bound is not None and bound > 0.0:
            record["regret"] = -result.total / bound - 1.0
        record |= {f"component.{name}": value for name, value in result.components.items()}
        for name, value in result.metrics.items():
            record[f"metric.{name}" if name in record else name] = float(value)
        records.append(record)
    return EvaluationTable(pl.DataFrame(records, infer_schema_length=None))


def unit_of(figure: str, units: Mapping[str, str]) -> str:
    """Unit of an episode's figure by the last or else the first word of its name.

    ``"1"`` for pure numbers. ``units`` are a domain's; components of the reward have the unit of
    the return.
    """
    words = figure.replace(".", "_").replace(":", "_").split("_")
    if words[0] == "component":
        return "return"
    return units.get(words[-1]) or units.get(words[0], "1")


def _interval(name: str, interval: Interval, unit: str) -> list[Row]:
    percent = f"{100 * interval.level:g} %"
    return [
        Row.info(name, interval.point, unit),
        Row.info(f"{name}, {percent} low", interval.low, unit),
        Row.info(f"{name}, {percent} high", interval.high, unit),
    ]
