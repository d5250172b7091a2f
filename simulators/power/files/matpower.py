"""MATPOWER case files (version 2), plain or gzip: PGLib-OPF, ACTIVSg, and cases of one's own.

Reference: MATPOWER User's Manual, appendix B (case format). What is out of service is left out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import DataError
from ...interface import Bools, Doubles, Ints
from ..curves import chords, cut, stack
from ..grid import (
    Branches,
    Buses,
    Curves,
    DcLines,
    Grid,
    GridError,
    Units,
    check_grid,
    no_dc_lines,
    no_storages,
)
from .matlab import Block, Matrix, read_blocks

_BUS = ("bus", "type", "Pd", "Qd", "Gs", "Bs", "area", "Vm", "Va", "baseKV", "zone", "Vmax", "Vmin")
_GEN = ("bus", "Pg", "Qg", "Qmax", "Qmin", "Vg", "mBase", "status", "Pmax", "Pmin")
_BRANCH = (
    *("fbus", "tbus", "r", "x", "b", "rateA", "rateB", "rateC", "ratio", "angle", "status"),
    *("angmin", "angmax"),
)
_COST = ("model", "startup", "shutdown", "n")
_DC_LINE = ("fbus", "tbus", "status", "Pf", "Pt", "Qf", "Qt", "Vf", "Vt", "Pmin", "Pmax")

_KINDS = {
    **dict.fromkeys((("ng", "GT"), ("ng", "IC"), ("ng", "JE")), "gas-ct"),
    ("ng", "ST"): "gas-st",
    **dict.fromkeys((("oil", "GT"), ("oil", "IC"), ("dfo", "GT"), ("dfo", "IC")), "oil-ct"),
    **dict.fromkeys((("oil", "ST"), ("dfo", "ST"), ("rfo", "ST")), "oil-st"),
}
_FUELS = {"ng": "gas-cc", "solar": "pv"}
_KNOWN = ("coal", "nuclear", "hydro", "wind")
_RENEWABLE = ("hydro", "wind", "pv")


def read_case(
    path: str | Path, *, segments: int = 50, area: Literal["area", "zone"] = "area"
) -> Grid:
    """Read a MATPOWER case.

    Polynomial costs keep their coefficients and become ``segments`` chords (too few where an upper
    limit is far above the load, as in case3_lmbd: 1.2 % of its cost at 50); piecewise ones are
    taken as they are. Ramps come from ``RAMP_AGC``, ``RAMP_10`` or ``RAMP_30`` where one is given,
    else they are unlimited. Technologies come from ``mpc.genfuel`` and ``mpc.gentype`` where
    present, else they are ``thermal``. Of several buses of type 3 the first is the reference.

    Args:
        path: the ``.m`` or ``.m.gz`` file.
        segments: chords of a quadratic cost.
        area: which column groups the buses; the loads of ``scenarios_ACTIVSg200`` go by zone.

    Raises:
        DataError: file, line, field and value of what cannot be used.
    """
    path = Path(path)
    blocks = read_blocks(path)
    version = _required(path, blocks, "version").words()
    if version != ("2",):
        accepted = "case format version '2' is expected; convert it with MATPOWER's loadcase"
        line = blocks["version"].line
        raise DataError(path, line=line, field="version", value=version, accepted=accepted)
    base = _required(path, blocks, "baseMVA").scalar()
    bus = _required(path, blocks, "bus").matrix(13, _BUS)
    gen = _required(path, blocks, "gen").matrix(10, _GEN)
    branch = _required(path, blocks, "branch").matrix(11, _BRANCH)
    cost = _required(path, blocks, "gencost").matrix(5, _COST)

    number, connected = _check_buses(bus)
    index = {int(name): at for at, name in enumerate(number[connected])}
    isolated = set(number[~connected].tolist())
    running = gen[7] > 0.0
    closed = branch[10] > 0.0
    at_bus = _find(gen, 0, running, index, isolated)
    starts = _find(branch, 0, closed, index, isolated)
    ends = _find(branch, 1, closed, index, isolated)
    kinds = _kinds(path, blocks, gen)
    reference = bus[1][connected] == 3.0
    if not reference.any():
        accepted = "no reference bus: one of type 3 is expected"
        raise DataError(path, line=bus.block.line, field="bus column 2 (type)", accepted=accepted)
    group = bus[6 if area == "area" else 10]
    bus.reject(group != np.round(group), 6 if area == "area" else 10, "a whole number is expected")
    areas, area_of = np.unique(group[connected], return_inverse=True)
    grid = Grid(
        name=path.name.removesuffix(".gz").removesuffix(".m"),
        base=base,
        buses=Buses(
            name=tuple(str(int(name)) for name in number[connected]),
            load=bus[2][connected],
            shunt=bus[4][connected],
            area=area_of.astype(np.int64),
            areas=tuple(f"{name:g}" for name in areas),
        ),
        branches=_branches(branch, closed, starts, ends),
        dc_lines=_dc_lines(blocks, index, isolated),
        units=_units(gen, cost, running, at_bus, kinds, segments),
        storages=no_storages(),
        reference=int(np.argmax(reference)),
        flexible=np.zeros(len(index)),
    )
    try:
        return check_grid(grid)
    except GridError as error:
        raise DataError(path, accepted=str(error)) from error


def _required(path: Path, blocks: dict[str, Block], name: str) -> Block:
    if name not in blocks:
        accepted = "missing; a MATPOWER case has version, baseMVA, bus, gen, branch and gencost"
        raise DataError(path, field=f"mpc.{name}", accepted=accepted)
    return blocks[name]


def _check_buses(bus: Matrix) -> tuple[Ints, Bools]:
    """Bus numbers of all rows, and which rows are not isolated."""
    number = bus[0]
    bus.reject(~((number > 0) & (number == np.round(number))), 0, "a positive whole number")
    bus.reject(~np.isin(bus[1], (1, 2, 3, 4)), 1, "a type from 1 to 4 is expected")
    for column in (2, 4):
        bus.reject(~np.isfinite(bus[column]), column, "a finite number is expected")
    _, first = np.unique(number, return_index=True)
    again = np.ones(len(number), dtype=np.bool_)
    again[first] = False
    bus.reject(again, 0, "this bus number is used twice")
    isolated = bus[1] == 4.0
    accepted = "an isolated bus (type 4) cannot have load; set it to 0 or connect the bus"
    bus.reject(isolated & (bus[2] != 0.0), 2, accepted)
    return number.astype(np.int64), ~isolated


def _find(
    table: Matrix, column: int, used: Bools, index: dict[int, int], isolated: set[int]
) -> Ints:
    """Indices of the buses that the ``used`` rows of a table name."""
    named = table[column]
    attached = used & np.isin(named, list(isolated))
    table.reject(attached, column, "this bus is isolated (type 4); take the row out of service")
    known = np.isin(named, list(index))
    table.reject(used & ~known, column, "no bus has this number")
    return np.array([index[int(bus)] for bus in named[used]], dtype=np.int64)


def _branches(branch: Matrix, closed: Bools, starts: Ints, ends: Ints) -> Branches:
    branch.reject(closed & (branch[3] == 0.0), 3, "a reactance other than 0 is expected")
    for column in (2, 3, 8, 9):
        branch.reject(closed & ~np.isfinite(branch[column]), column, "a finite number is expected")
    branch.reject(closed & ~(branch[5] >= 0.0), 5, "a rating of at least 0 (0: none) is expected")
    seen: Counter[tuple[int, int]] = Counter()
    names: list[str] = []
    for start, end in branch.values[:, :2].astype(np.int64).tolist():
        seen[start, end] += 1
        names.append(f"{start}-{end}-{seen[start, end]}")
    rate, tap = branch[5][closed], branch[8][closed]
    absent = np.zeros(len(rate))
    low = branch[11][closed] if branch.columns > 11 else absent
    high = branch[12][closed] if branch.columns > 12 else absent
    return Branches(
        name=tuple(name for name, used in zip(names, closed, strict=True) if used),
        start=starts,
        end=ends,
        r=branch[2][closed],
        x=branch[3][closed],
        tap=np.where(tap == 0.0, 1.0, tap),
        shift=np.deg2rad(branch[9][closed]),
        rate=np.where(rate == 0.0, np.inf, rate),
        angle_low=np.where((low == 0.0) | (low <= -360.0), -np.inf, np.deg2rad(low)),
        angle_high=np.where((high == 0.0) | (high >= 360.0), np.inf, np.deg2rad(high)),
        outage_rate=absent,
        outage_hours=absent.copy(),
    )


def _dc_lines(blocks: dict[str, Block], index: dict[int, int], isolated: set[int]) -> DcLines:
    if "dcline" not in blocks:
        return no_dc_lines()
    table = blocks["dcline"].matrix(11, _DC_LINE)
    used = table[2] > 0.0
    symmetric = (table[9] == -table[10]) & (table[10] >= 0.0)
    table.reject(used & ~symmetric, 9, "only lines with Pmin = -Pmax are modelled")
    for column in (15, 16):
        if table.columns > column:
            table.reject(used & (table[column] != 0.0), column, "only lossless lines are modelled")
    starts = _find(table, 0, used, index, isolated)
    ends = _find(table, 1, used, index, isolated)
    rows = np.flatnonzero(used)
    return DcLines(tuple(f"DC{row + 1}" for row in rows), starts, ends, table[10][used])


def _units(
    gen: Matrix, cost: Matrix, running: Bools, bus: Ints, kinds: list[str], segments: int
) -> Units:
    for column in (8, 9):
        gen.reject(running & ~np.isfinite(gen[column]), column, "a finite number is expected")
    gen.reject(running & (gen[9] > gen[8]), 9, "at most Pmax is expected")
    rows = np.flatnonzero(running)
    low, high = gen[9][rows], gen[8][rows]
    quadratic, curve = _costs(cost, gen, running, segments)
    kind = tuple(kinds[row] for row in rows)
    renewable = np.isin(kind, _RENEWABLE)
    start = np.repeat(cost[1][rows][:, None], 3, axis=1)
    count = len(rows)
    return Units(
        name=tuple(f"G{row + 1}" for row in rows),
        bus=bus,
        kind=kind,
        low=low,
        high=high,
        curve=curve,
        quadratic=quadratic,
        ramp=_ramps(gen)[rows],
        min_up=np.zeros(count),
        min_down=np.zeros(count),
        start_hours=np.zeros((count, 3)),
        start_after=np.zeros((count, 3)),
        start_cost=start,
        mttf=np.full(count, np.inf),
        mttr=np.zeros(count),
        inertia=np.zeros(count),
        renewable=renewable,
        curtailable=renewable.copy(),
    )


def _costs(cost: Matrix, gen: Matrix, running: Bools, segments: int) -> tuple[Doubles, Curves]:
    """Coefficients ``[U, 3]`` (NaN where piecewise) and curves of the running generators."""
    total = len(gen.values)
    if len(cost.values) not in {total, 2 * total}:
        raise DataError(
            cost.block.file,
            line=cost.block.line,
            field="gencost",
            value=f"{len(cost.values)} rows",
            accepted=f"{total} rows are expected, as in gen (or twice as many, with reactive cost)",
        )
    used = np.zeros(len(cost.values), dtype=np.bool_)
    used[:total] = running
    cost.reject(used & ~np.isin(cost[0], (1, 2)), 0, "1 (piecewise) or 2 (polynomial) is expected")
    terms = cost[3]
    fits = np.where(cost[0] == 1, 2 * terms, terms) <= cost.columns - 4
    whole = (terms == np.round(terms)) & (terms >= np.where(cost[0] == 1, 2, 1))
    cost.reject(used & ~(fits & whole), 3, "it does not agree with the numbers in this row")
    rows = np.flatnonzero(used)
    low, high = gen[9][rows], gen[8][rows]
    quadratic = _polynomials(cost, rows)
    smooth = chords(np.nan_to_num(quadratic), low, high, segments)
    bad = used.copy()
    bad[rows] = quadratic[:, 0] < 0.0
    cost.reject(bad, 4, "a convex cost (quadratic coefficient of at least 0) is expected")
    piecewise = np.isnan(quadratic[:, 0])
    if not piecewise.any():
        return quadratic, smooth
    points = list(zip(smooth.power, smooth.cost, strict=True))
    for at in np.flatnonzero(piecewise):
        row = cost.values[rows[at]]
        pairs = row[4 : 4 + 2 * int(row[3])].reshape(-1, 2)
        if not (np.diff(pairs[:, 0]) > 0.0).all():
            bad[:] = False
            bad[rows[at]] = True
            cost.reject(bad, 4, "points of ascending power are expected")
        points[at] = cut(pairs[:, 0], pairs[:, 1], low[at], high[at])
    return quadratic, stack(points)


def _polynomials(cost: Matrix, rows: Ints) -> Doubles:
    """c2, c1, c0 of the given rows, NaN where cost is piecewise."""
    table = cost.values
    result = np.zeros((len(rows), 3))
    for at, row in enumerate(rows):
        if table[row, 0] == 1.0:
            result[at] = np.nan
            continue
        coefficients = table[row, 4 : 4 + int(table[row, 3])]
        if coefficients[:-3].any():
            bad = np.arange(len(table)) == row
            cost.reject(bad, 3, "polynomials up to the second order are modelled")
        kept = coefficients[-3:]
        result[at, 3 - len(kept) :] = kept
    return result


def _ramps(gen: Matrix) -> Doubles:
    """MW/min of every row, ``inf`` where no column says."""
    ramp = np.full(len(gen.values), np.inf)
    for column, minutes in ((18, 30.0), (17, 10.0), (16, 1.0)):
        if gen.columns > column:
            given = gen[column] > 0.0
            ramp[given] = gen[column][given] / minutes
    return ramp


def _kinds(path: Path, blocks: dict[str, Block], gen: Matrix) -> list[str]:
    """Technology of every row of ``gen``."""
    count = len(gen.values)
    columns: list[tuple[str, ...]] = []
    for name in ("genfuel", "gentype"):
        words = blocks[name].words() if name in blocks else ("",) * count
        if len(words) != count:
            accepted = f"{count} entries are expected, as in gen"
            line, value = blocks[name].line, f"{len(words)} entries"
            raise DataError(path, line=line, field=name, value=value, accepted=accepted)
        columns.append(words)
    return [_kind(fuel, turbine) for fuel, turbine in zip(*columns, strict=True)]


def _kind(fuel: str, turbine: str) -> str:
    known = _KINDS.get((fuel, turbine)) or _FUELS.get(fuel)
    return known or (fuel if fuel in _KNOWN else "thermal")
