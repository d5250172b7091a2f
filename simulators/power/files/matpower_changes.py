"""Change tables of MATPOWER that give the load of every area over a year (``scenarios_ACTIVSg*``).

Only rows that replace an area's active load are read: ``CT_TAREALOAD``, ``CT_LOAD_ALL_P``,
``CT_REP``; the label is the hour of the year.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles, Ints
from ...tables import finite, open_text, whole
from ..grid import Grid
from ..series import Series
from .matlab import Block, read_blocks

_YEAR = re.compile(r"^%.*for the year (\d{4})")
_FIXED = {2: "CT_TAREALOAD", 4: "CT_LOAD_ALL_P", 5: "CT_REP"}
_FIELDS = ("label", "prob", "table", "row", "col", "chgtype", "newval")


def read_area_loads(path: str | Path, grid: Grid, *, year: int | None = None) -> Series:
    """Hourly area loads for the areas of ``grid``.

    ``scenarios_ACTIVSg200`` counts by zone (read the case with ``area="zone"``),
    ``scenarios_ACTIVSg2000`` by area. An area that the file leaves out keeps its nominal load.
    Wind, sun and water have no series in these files: their limit is their capacity throughout.

    Args:
        path: ``scenarios_*.m``, plain or gzip.
        grid: its areas are named by number, as ``matpower.read_case`` does.
        year: of the first hour; taken from the file's header ("for the year ...") by default.

    Raises:
        DataError: rows of another kind, an area the grid does not have, hours that are missing or
            repeated, a header that does not name the year.
    """
    path = Path(path)
    blocks = read_blocks(path)
    if "chgtab" not in blocks:
        raise DataError(path, field="chgtab", accepted="missing; a change table is expected")
    block = blocks["chgtab"]
    hour, area, value = _rows(block, grid)
    hours = int(hour.max())
    load = np.full((hours, len(grid.buses.areas)), np.nan)
    load[hour - 1, area] = value
    if len(hour) != len(np.unique(hour * load.shape[1] + area)):
        raise DataError(path, field="label", accepted="an hour sets the load of an area twice")
    nominal = np.bincount(grid.buses.area, weights=grid.buses.load, minlength=load.shape[1])
    named = np.isin(np.arange(load.shape[1]), area)
    load[:, ~named] = nominal[~named]
    if np.isnan(load).any():
        at, column = (int(index) for index in np.argwhere(np.isnan(load))[0])
        accepted = f"area {grid.buses.areas[column]} has no load in hour {at + 1} of {hours}"
        raise DataError(path, field="label", accepted=accepted)
    start = np.datetime64(f"{year if year is not None else _year(path)}-01-01", "s")
    limit = grid.units.high[grid.units.renewable]
    return Series(start, 3600.0, load, np.tile(limit, (hours, 1)), np.zeros(hours))


def _rows(block: Block, grid: Grid) -> tuple[Ints, Ints, Doubles]:
    """Hour (1-based), column of the area, and MW of every row."""
    areas = {name: column for column, name in enumerate(grid.buses.areas)}
    if not block.rows:
        raise DataError(block.file, line=block.line, field="chgtab", accepted="rows are expected")
    hour: list[int] = []
    area: list[int] = []
    value: list[float] = []
    for row, words in enumerate(block.rows):
        if len(words) != len(_FIELDS):
            raise _bad_row(block, row, areas)
        try:
            hour.append(whole(words[0]))
            area.append(areas[words[3]])
            value.append(finite(words[6]))
        except (ValueError, KeyError) as error:
            raise _bad_row(block, row, areas) from error
        if hour[-1] < 1 or any(words[column] != name for column, name in _FIXED.items()):
            raise _bad_row(block, row, areas)
    return np.array(hour, dtype=np.int64), np.array(area, dtype=np.int64), np.array(value)


def _bad_row(block: Block, row: int, areas: dict[str, int]) -> DataError:
    """What is wrong with a row."""
    words, line = block.rows[row], block.lines[row]
    if len(words) != len(_FIELDS):
        accepted = f"{len(_FIELDS)} fields are expected"
        return DataError(block.file, line=line, value=" ".join(words), accepted=accepted)
    for column, name in _FIXED.items():
        if words[column] != name:
            return DataError(
                block.file,
                line=line,
                field=_FIELDS[column],
                value=words[column],
                accepted=f"only {name} is read (hourly loads of whole areas)",
            )
    if words[3] not in areas:
        accepted = (
            f"the grid has areas {', '.join(areas)}; read the case with area='zone' if the file "
            "counts by zone"
        )
        return DataError(block.file, line=line, field="row", value=words[3], accepted=accepted)
    column = 0 if not words[0].isdigit() or int(words[0]) < 1 else 6
    accepted = "an hour from 1 on is expected" if column == 0 else "a finite number is expected"
    field = _FIELDS[column]
    return DataError(block.file, line=line, field=field, value=words[column], accepted=accepted)


def _year(path: Path) -> int:
    with open_text(path) as stream:
        for line in stream:
            found = _YEAR.match(line)
            if found:
                return int(found[1])
            if line.startswith("chgtab"):
                break
    accepted = "the header does not say 'for the year ...'; pass year="
    raise DataError(path, field="year", accepted=accepted)
