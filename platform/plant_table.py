"""How controllers did in a plant, or in two: spread over seeds, gridlock, and the gap between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from .evaluation import EvaluationTable
from .plant import OURS
from .rows import Row
from .statistics import kendall

DELAY = "delay_mean_s"
FEW = 10
"""Seeds below which a rare gridlock may well not show."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Delay of one controller over all seeds, and how many of them ended in gridlock.

    Attributes:
        controller: its name.
        mean, median, std: of the mean delay of an episode, s; std with n - 1, nan for one seed.
        gridlock: share of episodes with more than 5 % unfinished trips, or a deadlock.
        trip_time: s, mean over finished trips and seeds.
    """

    controller: str
    mean: float
    median: float
    std: float
    gridlock: float
    trip_time: float


def spreads(table: EvaluationTable) -> list[Spread]:
    """All controllers, the least mean delay first."""
    found = [_spread(table, name) for name in table.names]
    return sorted(found, key=lambda spread: spread.mean)


def _spread(table: EvaluationTable, name: str) -> Spread:
    delay = table.values(name, DELAY)
    return Spread(
        controller=name,
        mean=float(delay.mean()),
        median=float(np.median(delay)),
        std=float(delay.std(ddof=1)) if delay.size > 1 else float("nan"),
        gridlock=float(table.values(name, "gridlock").mean()),
        trip_time=float(np.nanmean(table.values(name, "trip_time_mean_s"))),
    )


def spread_rows(table: EvaluationTable, label: str) -> list[Row]:
    """Figures for a report; ``label`` of the plant is in every name."""
    rows: list[Row] = []
    for spread in spreads(table):
        name = f"{spread.controller}, {label}"
        rows += [
            Row.info(f"{name}: delay, mean", spread.mean, "s"),
            Row.info(f"{name}: delay, median", spread.median, "s"),
            Row.info(f"{name}: delay, standard deviation", spread.std, "s"),
            Row.info(f"{name}: share of gridlocked episodes", spread.gridlock, "1"),
            Row.info(f"{name}: trip time, mean", spread.trip_time, "s"),
        ]
    return rows


def spread_table(table: EvaluationTable) -> Table:
    """One line per controller, for a terminal."""
    grid = _grid()
    for name in ("delay, s\nmean", "\nmedian", "\nstd", "gridlock\nshare", "trip time, s\nmean"):
        grid.add_column(name, justify="right", no_wrap=True)
    for spread in spreads(table):
        grid.add_row(
            spread.controller,
            f"{spread.mean:.2f}",
            f"{spread.median:.2f}",
            "" if np.isnan(spread.std) else f"{spread.std:.2f}",
            f"{spread.gridlock:.2f}",
            f"{spread.trip_time:.1f}",
            style=_style(table, spread.controller),
        )
    return grid


@dataclass(frozen=True, slots=True)
class Gap:
    """Delay of one controller in our streets and in SUMO, means over seeds, s."""

    controller: str
    ours: float
    sumo: float

    @property
    def difference(self) -> float:
        """SUMO less ours, s."""
        return self.sumo - self.ours


def gaps(ours: EvaluationTable, sumo: EvaluationTable) -> list[Gap]:
    """All controllers, the least delay in SUMO first."""
    found = [
        Gap(name, float(ours.values(name, DELAY).mean()), float(sumo.values(name, DELAY).mean()))
        for name in sumo.names
    ]
    return sorted(found, key=lambda gap: gap.sumo)


def gap_rows(ours: EvaluationTable, sumo: EvaluationTable, label: str) -> list[Row]:
    """Figures for a report; SUMO's ``label`` is in every name."""
    found = gaps(ours, sumo)
    rows: list[Row] = []
    for gap in found:
        name = f"{gap.controller}, {OURS} and {label}"
        rows += [
            Row.info(f"{name}: delay in {OURS}", gap.ours, "s"),
            Row.info(f"{name}: delay in SUMO", gap.sumo, "s"),
            Row.info(f"{name}: difference of delay", gap.difference, "s"),
        ]
    name = f"{OURS} and {label}: Kendall's tau of the orders by delay"
    tau = kendall([gap.ours for gap in found], [gap.sumo for gap in found])
    return [*rows, Row.info(name, tau, "1")]


def gap_table(ours: EvaluationTable, sumo: EvaluationTable) -> Table:
    """One line per controller, for a terminal."""
    grid = _grid()
    for name in ("delay, s\nour streets", "\nSUMO", "difference\ns", "\n%"):
        grid.add_column(name, justify="right", no_wrap=True)
    for gap in gaps(ours, sumo):
        grid.add_row(
            gap.controller,
            f"{gap.ours:.2f}",
            f"{gap.sumo:.2f}",
            f"{gap.difference:+.2f}",
            f"{100.0 * gap.difference / gap.ours:+.0f}",
            style=_style(sumo, gap.controller),
        )
    return grid


def records(tables: Mapping[str, EvaluationTable]) -> list[dict[str, object]]:
    """Every episode of every plant, with the plant's label."""
    return [
        {"plant": label, **record}
        for label, table in tables.items()
        for record in table.frame.to_dicts()
    ]


def _grid() -> Table:
    grid = Table(box=SIMPLE_HEAD)
    grid.padding = (0, 1, 0, 0)
    grid.add_column("", no_wrap=True)
    return grid


def _style(table: EvaluationTable, controller: str) -> str:
    return "bold green" if table.about(controller)[0] == "policy" else ""
