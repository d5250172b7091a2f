"""RTS-GMLC's series of 2020: load, wind, sun, water and spinning reserve, day by day.

Day-ahead series are hourly. Real-time series are of 5 minutes: load and wind from the data for all
days; sun and water from the data where a 5-minute file has the day (2020-01-01 in the shared data,
all days in a clone of GridMod/RTS-GMLC with its large files). On other days sun and water are
**synthetic**: straight lines between the middles of the day-ahead hours, without noise.

The shared data leave 15 to 18 July out, so series are asked for by day; a missing day is an error,
never a silent gap. Parsed files are kept in memory for the life of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles
from ..grid import Grid
from ..series import Series, load_split
from .csv_series import Columns, read_columns
from .rts_gmlc import source_folder

_KEYS = ("Year", "Month", "Day", "Period")
_FILES = {"hydro": "hydro", "wind": "wind", "pv": "pv", "rtpv": "rtpv", "csp": "Natural_Inflow"}
_LOADS = ("REAL_TIME_regional_Load_rebuilt", "REAL_TIME_regional_Load")
_RESERVES = ("Spin_Up_R1", "Spin_Up_R2", "Spin_Up_R3")
_HOURS = 24
_SLOTS = 288
_Reader = Callable[[str, tuple[str, ...]], Doubles]


@dataclass(frozen=True, slots=True)
class _Days:
    """A file of whole days: its columns, the intervals of a day, and the first row of each day."""

    columns: Columns
    periods: int
    first: dict[date, int]

    def rows(self, day: date) -> slice:
        """Where a day is.

        Raises:
            DataError: the file does not have it.
        """
        start = self.first.get(day)
        if start is None:
            begin, end = min(self.first), max(self.first)
            accepted = f"the file has {len(self.first)} days from {begin} to {end}, not this one"
            raise DataError(self.columns.file, field="day", value=str(day), accepted=accepted)
        return slice(start, start + self.periods)


def available_days(folder: str | Path) -> list[date]:
    """Days for which both day-ahead and real-time series can be had, in order.

    Raises:
        DataError: a file that is missing or cannot be used.
    """
    hourly = _days(_needed(folder, ("DAY_AHEAD_regional_Load",)), _HOURS).first
    slots = _days(_needed(folder, _LOADS), _SLOTS).first
    wind = _days(_needed(folder, ("REAL_TIME_wind",)), _SLOTS).first
    return sorted(hourly.keys() & slots.keys() & wind.keys())


def day_ahead(
    folder: str | Path, grid: Grid, day: date, days: int = 1, *, solar_thermal: bool = False
) -> Series:
    """Hourly day-ahead series of ``days`` days from ``day`` on.

    Args:
        folder: of RTS-GMLC, as for ``rts_gmlc.read_grid``.
        grid: of ``rts_gmlc.read_grid``; its areas and renewable units choose the columns.
        day: the first day.
        days: how many, without a gap.
        solar_thermal: let the CSP unit follow its inflow (it has no store here) instead of standing
            idle as in the PLEXOS solutions.

    Raises:
        DataError: a missing file, column or day, a cell that is no number, an area with load none
            of whose buses takes a share.
    """
    spans = _span(day, days)
    load_file = _needed(folder, ("DAY_AHEAD_regional_Load",))
    load = _chosen(load_file, _HOURS, spans, grid.buses.areas)
    available = _available(
        grid,
        solar_thermal,
        _HOURS * days,
        lambda kind, names: _chosen(_hourly_file(folder, kind), _HOURS, spans, names),
    )
    _check_split(load_file, grid, load)
    return Series(np.datetime64(day, "s"), 3600.0, load, available, _reserve(folder, spans))


def real_time(
    folder: str | Path, grid: Grid, day: date, days: int = 1, *, solar_thermal: bool = False
) -> Series:
    """5-minute series of ``days`` days from ``day`` on; see the module about what is synthetic.

    Reserve is the day-ahead requirement, held over each hour. Arguments and errors as for
    ``day_ahead``.
    """
    spans = _span(day, days)
    load_file = _needed(folder, _LOADS)
    load = _chosen(load_file, _SLOTS, spans, grid.buses.areas)
    available = _available(
        grid,
        solar_thermal,
        _SLOTS * days,
        lambda kind, names: np.concatenate(
            [_slots_of_day(folder, kind, names, span) for span in spans]
        ),
    )
    _check_split(load_file, grid, load)
    reserve = np.repeat(_reserve(folder, spans), _SLOTS // _HOURS)
    return Series(np.datetime64(day, "s"), 300.0, load, available, reserve)


def _span(day: date, days: int) -> list[date]:
    if days < 1:
        raise ValueError(f"days = {days}: at least one is needed")
    return [day + timedelta(days=after) for after in range(days)]


def _available(grid: Grid, solar_thermal: bool, length: int, read: _Reader) -> Doubles:
    """``[T, V]`` in the order of the grid's renewable units, at most their capacity."""
    columns = np.flatnonzero(grid.units.renewable)
    kinds = [grid.units.kind[unit] for unit in columns]
    result = np.zeros((length, len(columns)))
    for kind in sorted(set(kinds)):
        if kind == "csp" and not solar_thermal:
            continue
        chosen = [at for at, other in enumerate(kinds) if other == kind]
        result[:, chosen] = read(kind, tuple(grid.units.name[columns[at]] for at in chosen))
    return np.minimum(result, grid.units.high[columns])


def has_measured_sun(folder: str | Path, day: date, days: int = 1) -> bool:
    """Whether the 5-minute output of PV on all these days is from the data, not interpolated."""
    stem = f"REAL_TIME_{_FILES['pv']}"
    root = source_folder(folder).parent

    def has(one: date) -> bool:
        found = (_find(root, stem), _find(root / f"realtime_5min_{one}", stem))
        return any(path is not None and one in _days(path, _SLOTS).first for path in found)

    return all(has(one) for one in _span(day, days))


def _slots_of_day(folder: str | Path, kind: str, names: tuple[str, ...], day: date) -> Doubles:
    """``[288, names]`` of one day: from the data if it has the day, else interpolated."""
    stem = f"REAL_TIME_{_FILES[kind]}"
    root = source_folder(folder).parent
    for path in (_find(root, stem), _find(root / f"realtime_5min_{day}", stem)):
        if path is not None and day in _days(path, _SLOTS).first:
            return _chosen(path, _SLOTS, [day], names)
    path = _hourly_file(folder, kind)
    hourly = _chosen(path, _HOURS, [day], names)
    known = _days(path, _HOURS).first
    before, after = day - timedelta(days=1), day + timedelta(days=1)
    first = _chosen(path, _HOURS, [before], names)[-1:] if before in known else hourly[:1]
    last = _chosen(path, _HOURS, [after], names)[:1] if after in known else hourly[-1:]
    padded = np.concatenate([first, hourly, last])
    # Middles of the hours -1 .. 24 lie at 0, 1 .. 25 here.
    place = (np.arange(_SLOTS) + 0.5) * _HOURS / _SLOTS + 0.5
    left = place.astype(np.int64)
    share = (place - left)[:, None]
    return padded[left] * (1.0 - share) + padded[left + 1] * share


def _reserve(folder: str | Path, spans: list[date]) -> Doubles:
    """``[T]`` hourly spin-up requirement of all regions."""
    total = np.zeros(_HOURS * len(spans))
    for name in _RESERVES:
        path = _needed(folder, (f"DAY_AHEAD_regional_{name}",))
        total += _chosen(path, _HOURS, spans, (name,))[:, 0]
    return total


def _check_split(path: Path, grid: Grid, load: Doubles) -> None:
    split = np.bincount(grid.buses.area, weights=load_split(grid), minlength=len(grid.buses.areas))
    bare = (split == 0.0) & (load != 0.0).any(axis=0)
    if bare.any():
        area = grid.buses.areas[int(np.argmax(bare))]
        accepted = "the area has load, but no bus of it a share (MW Load in bus.csv) to take it"
        raise DataError(path, field=area, accepted=accepted)


def _hourly_file(folder: str | Path, kind: str) -> Path:
    if kind not in _FILES:
        accepted = f"there are no series for units of this kind; known: {', '.join(_FILES)}"
        raise DataError(folder, field="kind", value=kind, accepted=accepted)
    return _needed(folder, (f"DAY_AHEAD_{_FILES[kind]}",))


def _needed(folder: str | Path, stems: tuple[str, ...]) -> Path:
    root = source_folder(folder).parent
    for stem in stems:
        path = _find(root, stem)
        if path is not None:
            return path
    accepted = "missing in timeseries/ (or RTS_Data/timeseries_data_files/)"
    raise DataError(root, field=f"{stems[0]}.csv", accepted=accepted)


def _find(root: Path, stem: str) -> Path | None:
    folders = (root, root / "timeseries", *sorted((root / "timeseries_data_files").glob("*")))
    # Folders whose time has not changed hold the files that they held; a file may be added.
    stamps = tuple(folder.stat().st_mtime_ns if folder.is_dir() else 0 for folder in folders)
    files = _listed(folders, stamps)
    return files.get(f"{stem}.csv".lower()) or files.get(f"{stem}.csv.gz".lower())


@lru_cache(maxsize=32)
def _listed(folders: tuple[Path, ...], stamps: tuple[int, ...]) -> dict[str, Path]:
    """Files of the folders by their lower-case name; earlier folders win."""
    found: dict[str, Path] = {}
    for folder, stamp in zip(folders, stamps, strict=True):
        for path in sorted(folder.iterdir()) if stamp else ():
            found.setdefault(path.name.lower(), path)
    return found


@lru_cache(maxsize=32)
def _days(path: Path, periods: int) -> _Days:
    table = read_columns(path, _KEYS)
    try:
        year, month, day, period = (np.array(table.keys[key], dtype=np.int64) for key in _KEYS)
    except ValueError as error:
        accepted = f"whole numbers are expected in {', '.join(_KEYS)} ({error})"
        raise DataError(path, accepted=accepted) from error
    expected = np.arange(table.rows) % periods + 1
    if (period != expected).any() or table.rows % periods:
        row = int(np.argmax(period != expected)) if (period != expected).any() else table.rows - 1
        accepted = f"whole days of periods 1 to {periods} are expected"
        value = int(period[row])
        raise DataError(path, line=row + 2, field="Period", value=value, accepted=accepted)
    first: dict[date, int] = {}
    for row in range(0, table.rows, periods):
        try:
            name = date(int(year[row]), int(month[row]), int(day[row]))
        except ValueError as error:
            raise DataError(path, line=row + 2, field="Day", accepted=str(error)) from error
        first[name] = row
    return _Days(table, periods, first)


@lru_cache(maxsize=64)
def _matrix(path: Path, periods: int, names: tuple[str, ...]) -> Doubles:
    values = _days(path, periods).columns.select(names)
    values.flags.writeable = False
    return values


def _chosen(path: Path, periods: int, days: list[date], names: tuple[str, ...]) -> Doubles:
    """``[periods x days, names]``."""
    values, table = _matrix(path, periods, names), _days(path, periods)
    return np.concatenate([values[table.rows(day)] for day in days])
