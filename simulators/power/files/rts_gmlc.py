"""RTS-GMLC source tables: 73 buses, 157 units, one storage, with outage data and start heats.

Reads the folder of the shared data (``source/``, ``timeseries/``, ``NOTICE.md``) or a clone of
GridMod/RTS-GMLC (``RTS_Data/SourceData``). The conventions are those under which the published
PLEXOS solutions are reproduced:

- production cost: average heat rate up to the minimum output, then incremental blocks, times the
  fuel price. A block whose heat rate is 0 (the nuclear unit's last 4 MW) costs the average;
- start cost: heat of a hot, warm, cold start times the fuel price. "Start Time" is the time since
  shutdown at which a state is reached (README of the tables), so it fills ``start_after``;
- how long a start takes is not in the tables. ``start_hours`` is a stand-in: the time of the hot
  state, at most the minimum down time, whatever the state;
- hydro, wind, sun are ``renewable``. Rooftop PV cannot be curtailed. PLEXOS takes hydro as given
  too, here it may be lowered;
- the CSP unit has no minimum output here, because its series may be 0 (see ``rts_series``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Bools, Doubles, Ints
from ...tables import Table, open_text, read_table
from ..curves import stack
from ..grid import Branches, Buses, Curves, DcLines, Grid, GridError, Storages, Units, check_grid

_KINDS = {
    "Coal": "coal",
    "Gas CC": "gas-cc",
    "Gas CT": "gas-ct",
    "Oil CT": "oil-ct",
    "Oil ST": "oil-st",
    "Nuclear": "nuclear",
    "Hydro": "hydro",
    "Wind": "wind",
    "Solar PV": "pv",
    "Solar RTPV": "rtpv",
    "CSP": "csp",
    "Sync_Cond": "condenser",
    "Storage": "storage",
}
RENEWABLE = ("hydro", "wind", "pv", "rtpv", "csp")
"""Kinds whose upper limit follows a series."""

_FIXED = ("rtpv",)
_POINTS = 5
_BUS = ("Bus ID", "Bus Type", "MW Load", "MW Shunt G", "Area")
_BRANCH = (
    *("UID", "From Bus", "To Bus", "R", "X", "Cont Rating", "Perm OutRate", "Duration"),
    "Tr Ratio",
)
_GEN = (
    *("GEN UID", "Bus ID", "Category", "PMax MW", "PMin MW", "Min Down Time Hr"),
    *("Min Up Time Hr", "Ramp Rate MW/Min", "Start Time Cold Hr", "Start Time Warm Hr"),
    *("Start Time Hot Hr", "Start Heat Cold MBTU", "Start Heat Warm MBTU", "Start Heat Hot MBTU"),
    *("Non Fuel Start Cost $", "MTTF Hr", "MTTR Hr", "Fuel Price $/MMBTU", "HR_avg_0", "VOM"),
    *(f"Output_pct_{point}" for point in range(_POINTS)),
    *(f"HR_incr_{point}" for point in range(1, _POINTS)),
    *("Inertia MJ/MW", "Base MVA", "Pump Load MW", "Storage Roundtrip Efficiency"),
)


def read_grid(folder: str | Path) -> Grid:
    """Read the grid of RTS-GMLC, or of a modified copy of its tables.

    Units keep the order of ``gen.csv`` (without the storage), ``areas`` are the load regions.

    Raises:
        DataError: a missing table or column, or file, line, field and value of what cannot be used.
    """
    source = source_folder(folder)
    buses = read_table(source / "bus.csv", _BUS)
    names = buses.text("Bus ID", required=True)
    index = {name: row for row, name in enumerate(names)}
    twice = np.array([index[name] != row for row, name in enumerate(names)])
    _refuse(buses, "Bus ID", twice, "this bus is listed twice")
    area_names = buses.text("Area", required=True)
    areas = tuple(sorted(set(area_names)))
    reference = [row for row, kind in enumerate(buses.text("Bus Type")) if kind == "Ref"]
    if len(reference) != 1:
        accepted = f"one row of type 'Ref' is expected, found {len(reference)}"
        raise DataError(buses.file, field="Bus Type", accepted=accepted)
    gen = read_table(source / "gen.csv", _GEN)
    kinds = _kinds(gen)
    stores = np.array([kind == "storage" for kind in kinds])
    grid = Grid(
        name="RTS-GMLC",
        base=100.0,
        buses=Buses(
            name=names,
            load=buses.numbers("MW Load"),
            shunt=buses.numbers("MW Shunt G"),
            area=np.array([areas.index(name) for name in area_names], dtype=np.int64),
            areas=areas,
        ),
        branches=_branches(read_table(source / "branch.csv", _BRANCH), index),
        dc_lines=_dc_lines(source / "dc_branch.csv", index),
        units=_units(gen, kinds, ~stores, index),
        storages=_storages(gen, source / "storage.csv", stores, index),
        reference=reference[0],
        flexible=np.zeros(len(names)),
    )
    try:
        return check_grid(grid)
    except GridError as error:
        raise DataError(source, accepted=str(error)) from error


def source_folder(folder: str | Path) -> Path:
    """The folder with the source tables, in ``folder`` or ``folder`` itself.

    Raises:
        DataError: there is none.
    """
    folder = Path(folder)
    for inner in ("source", "RTS_Data/SourceData", "SourceData", "."):
        if (folder / inner / "gen.csv").is_file():
            return folder / inner
    accepted = "no gen.csv in source/ or RTS_Data/SourceData/; name the folder of RTS-GMLC"
    raise DataError(folder, accepted=accepted)


def notice(folder: str | Path) -> str:
    """The data's notice, which must stay with every copy; a warning in its place if it is missing.

    Raises:
        DataError: the notice cannot be read.
    """
    folder = Path(folder)
    for place in (folder, *source_folder(folder).parents):
        if (place / "NOTICE.md").is_file():
            with open_text(place / "NOTICE.md") as stream:
                return stream.read()
    return (
        f"Warning: no NOTICE.md with the RTS-GMLC data in {folder}. The data are provided by NREL; "
        "their Data Use Disclaimer Agreement asks that the whole notice stays with every copy and "
        "that DOE/NREL/ALLIANCE are credited. It is in the README of GridMod/RTS-GMLC."
    )


def _buses_of(table: Table, column: str, index: dict[str, int]) -> Ints:
    found = [index.get(name, -1) for name in table.text(column)]
    if -1 in found:
        table.fail(found.index(-1), column, "a bus of bus.csv is expected")
    return np.array(found, dtype=np.int64)


def _refuse(table: Table, column: str, wrong: Bools, accepted: str) -> None:
    if wrong.any():
        table.fail(int(np.argmax(wrong)), column, accepted)


def _branches(table: Table, index: dict[str, int]) -> Branches:
    reactance = table.numbers("X", low=-np.inf)
    _refuse(table, "X", reactance == 0.0, "a reactance other than 0 is expected")
    ratio = table.numbers("Tr Ratio")
    rows = table.rows
    return Branches(
        name=table.text("UID", required=True),
        start=_buses_of(table, "From Bus", index),
        end=_buses_of(table, "To Bus", index),
        r=table.numbers("R"),
        x=reactance,
        tap=np.where(ratio == 0.0, 1.0, ratio),
        shift=np.zeros(rows),
        rate=table.numbers("Cont Rating"),
        angle_low=np.full(rows, -np.inf),
        angle_high=np.full(rows, np.inf),
        outage_rate=table.numbers("Perm OutRate"),
        outage_hours=table.numbers("Duration"),
    )


def _dc_lines(path: Path, index: dict[str, int]) -> DcLines:
    table = read_table(path, ("UID", "From Bus", "To Bus", "MW Load"))
    return DcLines(
        name=table.text("UID", required=True),
        start=_buses_of(table, "From Bus", index),
        end=_buses_of(table, "To Bus", index),
        limit=table.numbers("MW Load"),
    )


def _kinds(gen: Table) -> list[str]:
    categories = gen.text("Category")
    for row, category in enumerate(categories):
        if category not in _KINDS:
            gen.fail(row, "Category", f"one of {', '.join(_KINDS)} is expected")
    return [_KINDS[category] for category in categories]


def _states(gen: Table, pattern: str) -> Doubles:
    """``[rows, 3]`` of a column that there is for hot, warm and cold."""
    columns = [gen.numbers(pattern.format(state)) for state in ("Hot", "Warm", "Cold")]
    return np.stack(columns, axis=1)


def _units(gen: Table, kinds: list[str], chosen: Bools, index: dict[str, int]) -> Units:
    low, high = gen.numbers("PMin MW"), gen.numbers("PMax MW")
    _refuse(gen, "PMin MW", low > high, "at most PMax MW is expected")
    low = np.where([kind == "csp" for kind in kinds], 0.0, low)
    after = _states(gen, "Start Time {} Hr")
    min_down = gen.numbers("Min Down Time Hr")
    duration = np.minimum(after[:, 0], min_down)
    after[:, 0] = 0.0
    fixed = gen.numbers("Non Fuel Start Cost $")
    start = _states(gen, "Start Heat {} MBTU") * gen.numbers("Fuel Price $/MMBTU")[:, None]
    mttf = gen.numbers("MTTF Hr")
    curve = _curves(gen, low, high)
    kind = tuple(kind for kind, wanted in zip(kinds, chosen, strict=True) if wanted)
    names = gen.text("GEN UID", required=True)
    return Units(
        name=tuple(name for name, wanted in zip(names, chosen, strict=True) if wanted),
        bus=_buses_of(gen, "Bus ID", index)[chosen],
        kind=kind,
        low=low[chosen],
        high=high[chosen],
        curve=Curves(curve.power[chosen], curve.cost[chosen]),
        quadratic=np.full((len(kind), 3), np.nan),
        ramp=gen.numbers("Ramp Rate MW/Min")[chosen],
        min_up=gen.numbers("Min Up Time Hr")[chosen],
        min_down=min_down[chosen],
        start_hours=np.repeat(duration[:, None], 3, axis=1)[chosen],
        start_after=after[chosen],
        start_cost=(start + fixed[:, None])[chosen],
        mttf=np.where(mttf > 0.0, mttf, np.inf)[chosen],
        mttr=np.where(mttf > 0.0, gen.numbers("MTTR Hr"), 0.0)[chosen],
        inertia=(gen.numbers("Inertia MJ/MW") * gen.numbers("Base MVA"))[chosen],
        renewable=np.isin(kind, RENEWABLE),
        curtailable=np.isin(kind, RENEWABLE) & ~np.isin(kind, _FIXED),
    )


def _curves(gen: Table, low: Doubles, high: Doubles) -> Curves:
    """Heat rates times the fuel price, plus variable operation and maintenance."""
    price, vom = gen.numbers("Fuel Price $/MMBTU"), gen.numbers("VOM")
    average = _numbers_or_absent(gen, "HR_avg_0")
    share = [_numbers_or_absent(gen, f"Output_pct_{point}") for point in range(_POINTS)]
    block = [_numbers_or_absent(gen, f"HR_incr_{point}") for point in range(1, _POINTS)]
    curves: list[tuple[Doubles, Doubles]] = []
    for row in range(gen.rows):
        if price[row] == 0.0 or np.isnan(average[row]):
            power = np.array([low[row], high[row]])
            curves.append((power, vom[row] * power))
            continue
        points = np.array([column[row] for column in share])
        points = points[~np.isnan(points)]
        power = high[row] * points
        power[0], power[-1] = low[row], high[row]
        rates = np.array([column[row] for column in block[: len(points) - 1]])
        rates = np.where(rates == 0.0, average[row], rates)
        if np.isnan(rates).any() or (np.diff(power) < 0.0).any():
            accepted = "an ascending output and a heat rate for every block are expected"
            gen.fail(row, "Output_pct_1", accepted)
        heat = average[row] * power[0] + np.concatenate([[0.0], np.cumsum(rates * np.diff(power))])
        curves.append((power, heat / 1000.0 * price[row] + vom[row] * power))
    return stack(curves)


def _numbers_or_absent(table: Table, column: str) -> Doubles:
    """Numbers, NaN where the cell says ``NA``."""
    cells = table.columns[column]
    absent = np.array([cell.strip() in {"NA", ""} for cell in cells])
    clear = ["0" if gone else cell for gone, cell in zip(absent, cells, strict=True)]
    checked = Table(table.file, {column: clear}, table.lines).numbers(column)
    return np.where(absent, np.nan, checked)


def _storages(gen: Table, path: Path, chosen: Bools, index: dict[str, int]) -> Storages:
    stored = read_table(path, ("GEN UID", "Max Volume GWh", "Initial Volume GWh", "position"))
    rows: dict[str, int] = {}
    for row, (name, position) in enumerate(
        zip(stored.text("GEN UID"), stored.text("position"), strict=True)
    ):
        if position == "head":
            rows.setdefault(name, row)
    names = gen.text("GEN UID")
    wanted = np.flatnonzero(chosen)
    for row in wanted:
        if names[row] not in rows:
            gen.fail(int(row), "GEN UID", f"a row of position 'head' in {path.name} is expected")
    head = [rows[names[row]] for row in wanted]
    share = gen.numbers("Storage Roundtrip Efficiency", high=100.0) / 100.0
    return Storages(
        name=tuple(names[row] for row in wanted),
        bus=_buses_of(gen, "Bus ID", index)[wanted],
        power=np.minimum(gen.numbers("PMax MW"), gen.numbers("Pump Load MW"))[wanted],
        energy=stored.numbers("Max Volume GWh")[head] * 1000.0,
        efficiency=share[wanted],
        initial=stored.numbers("Initial Volume GWh")[head] * 1000.0,
    )
