"""Published PLEXOS solutions of RTS-GMLC: an independent solver's answer, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...interface import Doubles
from ..grid import Grid
from .csv_series import Columns, read_columns

_DC_LINE = "{}_{}_1"


@dataclass(frozen=True, slots=True)
class PlexosSolution:
    """Hourly results in the order of a grid's tables; units without a column were idle.

    Attributes:
        times: ``[T]`` beginning of each hour.
        generation: ``[T, U]`` MW.
        commitment: ``[T, U]`` 1 while on, 0 while off.
        cost: ``[T, U]`` $ of the hour, start cost included.
        price: ``[T, B]`` $/MWh.
        flow: ``[T, L]`` MW on AC branches, positive from start to end.
        dc_flow: ``[T, H]`` MW on DC lines, positive from start to end.
    """

    times: NDArray[np.datetime64]
    generation: Doubles
    commitment: Doubles
    cost: Doubles
    price: Doubles
    flow: Doubles
    dc_flow: Doubles


def read_solution(folder: str | Path, grid: Grid) -> PlexosSolution:
    """Read ``generation``, ``commitment``, ``cost``, ``price`` and ``flow`` of one variant.

    Args:
        folder: ``plexos_reference/noTX`` or ``allTX``; files are ``.csv`` or ``.csv.gz``.
        grid: of ``rts_gmlc.read_grid``.

    Raises:
        DataError: a missing file, a branch or bus without a column, a cell that is no number, files
            of different hours.
    """
    folder = Path(folder)
    tables = {
        name: read_columns(_file(folder, name), ("time",))
        for name in ("generation", "commitment", "cost", "price", "flow")
    }
    times = tables["generation"].keys["time"]
    for table in tables.values():
        if table.keys["time"] != times:
            raise DataError(table.file, field="time", accepted="other hours than generation")
    units, lines = grid.units.name, grid.dc_lines
    known = tables["generation"].values
    idle = {name for name in units if name not in known}
    dc_names = [
        _DC_LINE.format(grid.buses.name[start], grid.buses.name[end])
        for start, end in zip(lines.start, lines.end, strict=True)
    ]
    return PlexosSolution(
        times=np.array(times, dtype="datetime64[s]"),
        generation=_by_unit(tables["generation"], units, idle),
        commitment=_by_unit(tables["commitment"], units, idle),
        cost=_by_unit(tables["cost"], units, idle),
        price=tables["price"].select(grid.buses.name),
        flow=tables["flow"].select(grid.branches.name),
        dc_flow=tables["flow"].select(dc_names),
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
        if path.is_file():
            return path
    raise DataError(folder, field=f"{name}.csv", accepted="missing in a PLEXOS solution")


def _by_unit(table: Columns, units: tuple[str, ...], idle: set[str]) -> Doubles:
    """``[T, U]``, 0 where PLEXOS reports nothing because a unit was left out."""
    present = [unit for unit in units if unit not in idle]
    values = np.zeros((table.rows, len(units)))
    values[:, [unit not in idle for unit in units]] = table.select(present)
    return values
