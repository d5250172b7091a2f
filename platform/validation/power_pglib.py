"""PGLib-OPF's published DC costs: every case found, with every form of the DC-OPF.

The DC column of PGLib-OPF v23.07 was made by PowerModels with b = x/(r^2 + x^2), taps and phase
shifts ignored, angle limits on. All printed digits must come out: the tolerance is half a unit of
the last one. Quadratic costs get so many chords that their error cannot be seen.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ...models.power.costs import chord_error
from ...models.power.dcopf import DcOpf
from ...models.power.dcopf_quadratic import QuadraticDcOpf
from ...models.power.pyomo_dispatch import PyomoDcOpf
from ...simulators.errors import DataError
from ...simulators.power.curves import chords
from ...simulators.power.files.matpower import read_case
from ...simulators.power.grid import Grid
from ...simulators.power.network import Network
from ..rows import Row
from .suites import Check, skipped

COLUMNS = ("case", "dc_usd_per_h")
CHORDS = 0.25
"""Share of the last printed digit's half that all chords together may err by."""
MOST_SEGMENTS = 10_000
QUICK_BUSES = 120
TORCH_BUSES = 3000
"""Larger cases need a dense PTDF of all lines in torch; they are left to the other forms."""
CONVENTION_CASE, CONVENTION_COST = "pglib_opf_case30_ieee", 7504.44
"""Cost of that case with b = 1/(x tap), MATPOWER's convention, which is not the published one."""


@dataclass(frozen=True, slots=True)
class Published:
    """One line of a table of published costs.

    Attributes:
        name: of the case; path: its file.
        cost: $/h; tolerance: half a unit of the last printed digit.
        buses: number of buses that the table gives, 0 where it gives none.
    """

    name: str
    path: Path
    cost: float
    tolerance: float
    buses: int


def pglib_checks(folders: Sequence[Path], *, quick: bool) -> list[Check]:
    """A check for every published case whose file stands beside the table, or in ``pglib_opf``.

    Raises:
        DataError: a table that cannot be read.
    """
    checks: list[Check] = []
    for table in _tables(folders):
        for entry in _read_table(table):
            name = f"PGLib {entry.name.removeprefix('pglib_opf_')}"
            if not entry.path.is_file():
                checks.append(Check(name, partial(_absent, name, entry.path), 0.0))
            elif not (quick and entry.buses > QUICK_BUSES):
                checks.append(Check(name, partial(case_rows, name, entry), 1.0 + entry.buses / 200))
                if entry.name == CONVENTION_CASE:
                    title = f"{name}, susceptance convention"
                    checks.append(Check(title, partial(convention_rows, title, entry), 0.2))
    return checks


def case_rows(name: str, entry: Published) -> list[Row]:
    """The cost of one case by every form that applies."""
    grid = _with_fine_chords(read_case(entry.path, segments=1), CHORDS * entry.tolerance)
    network = Network(grid, convention="r-x")
    linear = DcOpf(network)
    rows = [
        _row(f"{name}: highspy, piecewise linear", linear.solve().objective, entry),
        _row(f"{name}: Pyomo", PyomoDcOpf(network).solve().objective, entry),
    ]
    quadratic = QuadraticDcOpf(network, linear)
    done = quadratic.solve()
    if done.form == "qp":
        rows.append(_row(f"{name}: highspy, quadratic", done.objective, entry))
    else:
        rows += [
            Row.info(f"{name}: highspy, quadratic, refused answer", quadratic.failure, ""),
            _row(f"{name}: highspy, quadratic, by its linear fallback", done.objective, entry),
        ]
    if network.buses > TORCH_BUSES:
        return [*rows, skipped(f"{name}: torch", f"more than {TORCH_BUSES} buses")]
    return [*rows, *_torch_rows(name, network, entry)]


def convention_rows(name: str, entry: Published) -> list[Row]:
    """The same case with taps: another cost, which is known too."""
    network = Network(read_case(entry.path), convention="x-tap")
    cost = DcOpf(network).solve().objective
    return [
        Row.near(f"{name}: cost with 1/(x tap)", cost, "$/h", CONVENTION_COST, 5e-3),
        Row.at_least(
            f"{name}: distance from the published cost", abs(cost - entry.cost), "$/h", 1.0
        ),
    ]


def _torch_rows(name: str, network: Network, entry: Published) -> list[Row]:
    """The batched form with the parabolas themselves, and its own proof of how good it is."""
    from ...models.power.torch_costs import unit_costs
    from ...models.power.torch_opf import BatchDcOpf

    costs = unit_costs(network.grid.units, quadratic=True)
    done = BatchDcOpf(network, costs=costs).solve()
    return [
        _row(f"{name}: torch", float(done.objective[0]), entry),
        Row.at_most(
            f"{name}: torch, proven gap", float(done.gap[0]), "$/h", max(entry.tolerance, 1e-6)
        ),
    ]


def _row(name: str, cost: float, entry: Published) -> Row:
    return Row.near(name, cost, "$/h", entry.cost, entry.tolerance)


def _absent(name: str, path: Path) -> list[Row]:
    return [skipped(name, f"no file {path}")]


def _with_fine_chords(grid: Grid, accepted: float) -> Grid:
    """The grid with so many chords that all together lie at most ``accepted`` $/h too high."""
    units = grid.units
    whole = float(np.nan_to_num(chord_error(units.quadratic, units.high - units.low)).sum())
    count = min(int(np.ceil(np.sqrt(whole / accepted))), MOST_SEGMENTS)
    if count <= 1 or not np.isfinite(units.quadratic).all():
        return grid
    curve = chords(units.quadratic, units.low, units.high, count)
    return replace(grid, units=replace(units, curve=curve))


def _tables(folders: Sequence[Path]) -> list[Path]:
    found = {
        path.resolve()
        for folder in folders
        for place in (folder, folder / "pglib_opf")
        if place.is_dir()
        for path in sorted(place.glob("*.csv"))
        if _header(path) >= set(COLUMNS)
    }
    return sorted(found)


def _header(path: Path) -> set[str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return set(file.readline().strip().split(","))


def _read_table(table: Path) -> list[Published]:
    entries: list[Published] = []
    with table.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            text, buses = row["dc_usd_per_h"] or "", row.get("buses") or "0"
            try:
                cost, size, unit = float(text), int(buses), _last_digit(text)
            except ValueError as error:
                raise DataError(
                    table,
                    line=line,
                    field="dc_usd_per_h, buses",
                    value=f"{text}, {buses}",
                    accepted="a cost like 1.2345e+04 and a whole number are expected",
                ) from error
            path = next(
                (
                    candidate
                    for candidate in (
                        table.parent / f"{row['case']}.m",
                        table.parent / f"{row['case']}.m.gz",
                    )
                    if candidate.is_file()
                ),
                table.parent / f"{row['case']}.m",
            )
            entries.append(Published(row["case"] or "", path, cost, unit / 2.0, size))
    return entries


def _last_digit(text: str) -> float:
    """Unit of the last printed digit: 0.1 for ``2.0515e+03``."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals)
