"""What the commands that evaluate have in common: where to play, and who takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ..policies.acting import actor
from .bundle import MANIFEST, Bundle, load_bundle
from .evaluation import Entrant, EvaluationTable, Standing, evaluate
from .executors import InlineExecutor, ProcessExecutor
from .files import UserError
from .progress import progress_bar
from .registry import find_domain
from .rollouts import evaluation_seeds
from .statistics import Interval
from .tasks import DomainFactory

Wanted = Literal["none", "same", "all"] | Sequence[str]
"""Which heuristics: none, those with the policy's information, all, or a list of names."""


@dataclass(frozen=True, slots=True)
class Arena:
    """Where episodes are played: a scenario, and how many worker processes play it."""

    factory: DomainFactory
    workers: int = 1

    @property
    def title(self) -> str:
        return f"{self.factory.domain}/{self.factory.scenario}"

    def rules(self, wanted: Wanted) -> list[Entrant]:
        """The scenario's heuristics to take part.

        Raises:
            UserError: it has no heuristic of that name; names the known ones.
        """
        offered = {rule.name: Entrant.rule(rule) for rule in self.factory.heuristics()}
        if wanted == "all":
            return list(offered.values())
        if isinstance(wanted, str):
            return [e for e in offered.values() if wanted == "same" == e.information]
        for name in wanted:
            if name not in offered:
                raise UserError(
                    f"{self.title} has no heuristic {name!r}; known: {', '.join(offered)}"
                )
        return [offered[name] for name in wanted]

    def policies(self, bundles: Sequence[Bundle]) -> list[Entrant]:
        """Trained policies to take part, under names that differ.

        Raises:
            UserError: a bundle was trained for a system of another shape; says what differs.
        """
        spec = self.factory.simulator().spec
        found: list[Entrant] = []
        for bundle in bundles:
            try:
                actor(spec, bundle.arrays, name=bundle.name, stochastic=bundle.stochastic)
            except ValueError as error:
                raise UserError(f"{bundle.folder} does not fit {self.title}: {error}") from error
            found.append(Entrant.policy(bundle.trained()))
        if len({entrant.name for entrant in found}) < len(found):
            found = [
                Entrant(f"{entrant.name} ({bundle.folder})", entrant.controller, "policy")
                for entrant, bundle in zip(found, bundles, strict=True)
            ]
        return found

    def play(self, entrants: Sequence[Entrant], *, seeds: int, first: int = 0) -> EvaluationTable:
        """Play all entrants on ``seeds`` common evaluation seeds, with a bar on the terminal."""
        bound = find_domain(self.factory.domain).bound(self.factory.values())
        many = self.workers > 1
        with (
            closing(
                ProcessExecutor(self.factory, workers=self.workers)
                if many
                else InlineExecutor(self.factory)
            ) as executor,
            progress_bar("evaluate") as progress,
        ):
            return evaluate(
                executor, entrants, evaluation_seeds(seeds, first), bound=bound, progress=progress
            )


def find_bundle(path: Path) -> Bundle:
    """The bundle in a folder, or in the folder of a run.

    Raises:
        UserError: there is none, or it must not be used; names the file and what is wrong.
    """
    inner = path / "bundle"
    return load_bundle(inner if (inner / MANIFEST).is_file() else path)


def settings_of(bundle: Bundle) -> Mapping[str, Any]:
    """The scenario that a bundle was trained on, as the base of a configuration."""
    scenario = bundle.factory()
    return {"scenario": {**scenario.settings, "name": scenario.scenario}}


def standings_table(
    table: EvaluationTable, title: str, *, shown: Sequence[str] = (), width: int = 80
) -> Table:
    """Standings for a terminal ``width`` columns wide: rivals first, then the bounds.

    The regret and the figures ``shown`` have columns of their own, where the evaluation has them
    and there is room. A number behind ``±`` is half the width of the bootstrap interval.
    """
    bar, standings = table.bar(), table.standings()
    room = max(0, (width - 67) // 13)
    shown = [name for name in ("regret", *shown) if name in table.figures][:room]
    percent = f"{100 * standings[0].mean.level:g} %"
    grid = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    grid.padding = (0, 1, 0, 0)
    grid.add_column("", no_wrap=True)
    grid.add_column(f"mean return\n± {percent}", justify="right", no_wrap=True)
    grid.add_column("\nIQM", justify="right", no_wrap=True)
    if bar is not None:
        grid.add_column("above\nthe bar", justify="right", no_wrap=True)
        grid.add_column("seeds\nwon", justify="right", no_wrap=True)
    for name in shown:
        first, _, second = name.replace("_", " ").partition(" ")
        grid.add_column(
            f"{first}\n{second}" if second else f"\n{first}", justify="right", no_wrap=True
        )
    for information, caption in (("same", "same information"), ("fresh", "fresh, a bound")):
        chosen = [standing for standing in standings if standing.information == information]
        if not chosen:
            continue
        grid.add_section()
        grid.add_row(Text(caption, "italic dim"))
        for standing in chosen:
            cells = _cells(standing, with_bar=bar is not None)
            means = (np.nanmean(table.values(standing.name, name)) for name in shown)
            style = "bold green" if standing.kind == "policy" else ""
            grid.add_row(*cells, *(_short(float(mean)) for mean in means), style=style)
    return grid


def _short(value: float) -> str:
    """Three digits, and all those before the point: costs of a day differ in the fourth."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:.3g}"


def _cells(standing: Standing, *, with_bar: bool) -> list[str]:
    cells = [
        standing.name.removesuffix(" (fresh)"),
        _with_interval(standing.mean),
        f"{standing.iqm.point:.3f}",
    ]
    if with_bar:
        gain, won = standing.difference, standing.improvement
        cells.append("the bar" if gain is None else _with_interval(gain, sign="+"))
        cells.append("" if won is None else f"{100 * won.point:.0f} %")
    return cells


def _with_interval(value: Interval, sign: str = "") -> str:
    return f"{value.point:{sign}.3f} ±{(value.high - value.low) / 2.0:.3f}"
