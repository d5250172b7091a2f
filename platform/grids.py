"""What is in a power data file: buses, units by technology, capacity, load, islands."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..simulators.power.files.matpower import read_case
from ..simulators.power.files.matpower_changes import read_area_loads
from ..simulators.power.files.pglib_uc import read_instance, to_grid
from ..simulators.power.files.rts_gmlc import notice, read_grid
from ..simulators.power.files.rts_series import available_days, day_ahead
from ..simulators.power.grid import Grid
from ..simulators.power.network import islands
from ..simulators.power.series import Series, check_series
from .files import UserError
from .rows import Row


def matpower(file: Path) -> list[Row]:
    """A MATPOWER case."""
    return _grid(read_case(file))


def activsg(file: Path) -> list[Row]:
    """An ACTIVSg case and the year of hourly loads beside it."""
    for ending in (".m.gz", ".m"):
        changes = file.with_name(file.name.replace("case_", "scenarios_").split(".")[0] + ending)
        if changes != file and changes.is_file():
            break
    else:
        raise UserError(
            f"{file}: give case_ACTIVSg*.m (or .gz) with its scenarios_ACTIVSg*.m beside it"
        )
    # Of these cases only the 200-bus one counts its loads by zone.
    by_zone = file.name.startswith("case_ACTIVSg200.")
    grid = read_case(file, area="zone" if by_zone else "area")
    return [*_grid(grid), *_series(grid, read_area_loads(changes, grid))]


def rts_gmlc(folder: Path) -> list[Row]:
    """The folder of RTS-GMLC: tables, days, and the notice that goes with them."""
    grid = read_grid(folder)
    days = available_days(folder)
    rows = [
        *_grid(grid),
        Row.info("days with series", len(days), "days"),
        *_series(grid, day_ahead(folder, grid, days[0])),
    ]
    text = notice(folder)
    first = next(line for line in text.splitlines() if line.strip())
    return [*rows, Row.info("to go with every copy", first.strip("# "), "")]


def pglib_uc(file: Path) -> list[Row]:
    """A PGLib-UC instance."""
    instance = read_instance(file)
    grid, series = to_grid(instance)
    on = instance.thermals.on
    return [
        *_grid(grid),
        Row.info("units that must run", int(instance.thermals.must_run.sum()), "units"),
        Row.info("units on at the start", int(on.sum()), "units"),
        *_series(grid, series),
    ]


def _grid(grid: Grid) -> list[Row]:
    units, buses = grid.units, grid.buses
    parts = islands(len(buses.name), grid.branches.start, grid.branches.end)
    kinds = Counter(units.kind)
    by_kind = [
        Row.info(f"capacity of {kind} ({count} units)", _capacity(grid, kind), "MW")
        for kind, count in sorted(kinds.items())
    ]
    return [
        Row.info("buses", len(buses.name), "buses"),
        Row.info("areas", len(buses.areas), "areas"),
        Row.info("branches in service", len(grid.branches.name), "branches"),
        Row.info("DC lines", len(grid.dc_lines.name), "lines"),
        Row.info("islands", int(parts.max()) + 1, "islands"),
        Row.info("units in service", len(units.name), "units"),
        *by_kind,
        Row.info("capacity", float(units.high.sum()), "MW"),
        Row.info("storages", len(grid.storages.name), "storages"),
        Row.info("nominal load", float(buses.load.sum()), "MW"),
    ]


def _capacity(grid: Grid, kind: str) -> float:
    of_kind = np.array([other == kind for other in grid.units.kind])
    return float(grid.units.high[of_kind].sum())


def _series(grid: Grid, series: Series) -> list[Row]:
    check_series(grid, series)
    load = series.load.sum(axis=1)
    return [
        Row.info("series begin", str(series.start), ""),
        Row.info("length of the series", series.length * series.step / 3600.0, "h"),
        Row.info("largest load", float(load.max()), "MW"),
        Row.info("smallest load", float(load.min()), "MW"),
    ]
