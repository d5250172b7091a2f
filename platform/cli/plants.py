"""``fairlead compare traffic --in``: the same controllers in our streets, in SUMO, or in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..evaluation import Entrant, EvaluationTable
    from ..plant import Placed
    from ..rows import Row
    from ..tasks import DomainFactory


class Where(StrEnum):
    """What moves the vehicles."""

    STREETS = "streets"
    SUMO = "sumo"
    BOTH = "both"


In = Annotated[
    Where | None,
    typer.Option(
        "--in", help="Traffic: what moves the vehicles (default: what the scenario says)."
    ),
]
Binary = Annotated[
    Path | None,
    typer.Option(help="With --in sumo or both: another sumo program, for example of 1.9.1."),
]


def plants_of(factory: DomainFactory, where: Where | None, binary: Path | None) -> list[Placed]:
    """The scenario in every plant that is wanted; as it is where nothing was said.

    Raises:
        UserError: another domain, or what SUMO or the scenario lacks.
    """
    from ...simulators.errors import DataError
    from ..files import UserError
    from ..plant import Placed, Plant, placed

    if where is None:
        if binary is not None:
            raise UserError("--sumo-binary says with what to run; say --in sumo or --in both, too")
        return [Placed(factory, "")]
    wanted: list[Plant] = ["streets", "sumo"] if where is Where.BOTH else [where.value]
    try:
        return [
            placed(factory, plant, None if where is Where.BOTH and plant == "streets" else binary)
            for plant in wanted
        ]
    except (DataError, ModuleNotFoundError) as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True, slots=True)
class PlantReport:
    """What a comparison in one plant or two has found.

    Attributes:
        title: names the scenario, the plants and the number of episodes.
        tables: by the label of the plant.
    """

    title: str
    tables: Mapping[str, EvaluationTable]

    def present(self, *, as_json: bool, out: Path | None, plot: Path | None) -> int:
        """Print it, and write what is wanted; returns the exit status."""
        from rich.console import Console
        from rich.text import Text

        from ..plant_table import gap_table, records, spread_table
        from ..rows import report

        if out is not None:
            _together(self.tables).write(out)
        if plot is not None:
            from ..plant_picture import plant_picture

            plant_picture(self.tables, plot, title=self.title)
        if as_json:
            extra = {"plants": list(self.tables), "episodes": records(self.tables)}
            return report(self.title, self._rows(), as_json=True, extra=extra)
        console = Console()
        console.print(Text(self.title, "bold"))
        tables = list(self.tables.values())
        if len(tables) == 2:
            console.print(gap_table(tables[0], tables[1]))
        for label, table in self.tables.items():
            console.print(Text(f"in {label}"))
            console.print(spread_table(table))
        return 0

    def _rows(self) -> list[Row]:
        from ..plant_table import gap_rows, spread_rows

        rows = [row for label, table in self.tables.items() for row in spread_rows(table, label)]
        if len(self.tables) == 2:
            (_, ours), (label, sumo) = self.tables.items()
            rows += gap_rows(ours, sumo, label)
        return rows


def compare_in(
    plants: Sequence[Placed], entrants: Sequence[Entrant], workers: int, *, seeds: int, first: int
) -> PlantReport:
    """Play everybody in every plant on the same seeds."""
    from ..contest import Arena
    from ..plant_table import FEW

    tables = {
        plant.label: Arena(plant.factory, workers).play(entrants, seeds=seeds, first=first)
        for plant in plants
    }
    arena = Arena(plants[0].factory)
    title = f"compare {arena.title} in {' and '.join(tables)}, {seeds} seeds"
    if seeds < FEW:
        title += f" (fewer than {FEW}: a rare gridlock may not show)"
    return PlantReport(title, tables)


def _together(tables: Mapping[str, EvaluationTable]) -> EvaluationTable:
    """One frame with a column for the plant."""
    import polars as pl

    from ..evaluation import EvaluationTable

    frames = [
        table.frame.with_columns(pl.lit(label).alias("plant")) for label, table in tables.items()
    ]
    return EvaluationTable(pl.concat(frames, how="diagonal_relaxed"))
