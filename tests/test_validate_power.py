"""Closed forms and published figures of the power domain pass, and fail when something is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from power_data import DATA, needed
from typer.testing import CliRunner

from fairlead.platform.cli import validate as validate_cli
from fairlead.platform.rows import Row
from fairlead.platform.validation import (
    power_closed,
    power_flows,
    power_pglib,
    power_plexos,
    power_published,
)
from fairlead.platform.validation.power_cases import meshed, pjm_five
from fairlead.simulators.errors import DataError
from fairlead.simulators.power.network import Network


def failed(rows: list[Row]) -> list[str]:
    return [row.name for row in rows if row.passed is False]


def run(name: str, checks) -> list[Row]:
    chosen = [check for check in checks if name in check.name]
    assert chosen, f"no check has {name!r} in its name"
    return [row for check in chosen for row in check.run()]


@pytest.mark.parametrize(
    ("check", "marked"),
    [
        ("three units", 8),
        ("random units", 2),
        ("random quadratic", 4),
        ("five buses", 24),
        ("two buses", 5),
        ("prices and rents", 5),
        ("flows of random", 3),
        ("outages of random", 3),
    ],
)
def test_closed_forms_pass(check, marked):
    rows = run(check, power_closed.checks(data=None, quick=True))
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) == marked


@pytest.mark.slow
def test_flows_are_those_of_pandapower_or_the_rows_say_why_not():
    rows = power_flows.pandapower()
    assert failed(rows) == []
    assert len(rows) == 4 or rows[0].name.startswith("skipped")


@pytest.mark.parametrize("case", ["5_pjm", "30_as", "30_ieee", "118_ieee", "300_ieee"])
def test_published_costs_come_out_with_every_form(case):
    needed("pglib_opf")
    rows = run(f"case{case}", power_published.checks(data=DATA, quick=False))
    assert failed(rows) == []
    assert {"highspy, piecewise linear", "Pyomo", "highspy, quadratic", "torch"} <= {
        row.name.partition(": ")[2] for row in rows
    }


@pytest.mark.parametrize("variant", ["noTX", "allTX"])
def test_the_published_days_come_out_hour_by_hour(variant):
    needed("rts_gmlc", "plexos_reference", variant)
    rows = run(f"PLEXOS {variant}", power_published.checks(data=DATA, quick=True))
    assert failed(rows) == []
    days = {row.name.split(" ")[2] for row in rows if "2020-07-" in row.name}
    assert len(days) == 10
    if variant == "allTX":
        assert next(r.measured for r in rows if "congested hours found" in r.name) == 3


def test_the_published_days_tell_a_wrong_convention_apart(monkeypatch):
    home = needed("rts_gmlc")
    solution = needed("rts_gmlc", "plexos_reference", "allTX")

    class Tapped(Network):
        def __init__(self, grid, *, convention):
            assert convention == "x"
            super().__init__(grid, convention="x-tap")

    monkeypatch.setattr(power_plexos, "Network", Tapped)
    wrong = failed(power_plexos.network("PLEXOS", home, solution))
    assert sum("flows" in name for name in wrong) == 10
    assert any("prices" in name for name in wrong)


def test_the_published_days_tell_other_costs_apart(monkeypatch):
    home = needed("rts_gmlc")
    solution = needed("rts_gmlc", "plexos_reference", "noTX")
    read_grid = power_plexos.read_grid

    def dearer(folder):
        grid = read_grid(folder)
        curve = grid.units.curve
        cost = curve.cost[:, :1] + (curve.cost - curve.cost[:, :1]) * 1.01
        return replace(grid, units=replace(grid.units, curve=replace(curve, cost=cost)))

    monkeypatch.setattr(power_plexos, "read_grid", dearer)
    wrong = failed(power_plexos.copper_plate("PLEXOS", home, solution))
    assert sum("worst price" in name for name in wrong) == 10
    assert any("production cost" in name for name in wrong)


def test_a_wrong_table_fails_and_a_missing_case_is_said(tmp_path: Path):
    case = "pglib_opf_case5_pjm"
    shutil.copy(needed("pglib_opf", f"{case}.m"), tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(f"case,buses,dc_usd_per_h\n{case},5,1.7481e+04\nother,3,5.0e+00\n")
    (tmp_path / "unrelated.csv").write_text("a,b\n1,2\n")
    checks = power_published.checks(data=tmp_path, quick=True)
    assert len(failed(run("case5_pjm", checks))) == 4
    (absent,) = run("other", checks)
    assert absent.name == "skipped: PGLib other" and "other.m" in str(absent.measured)
    table.write_text(f"case,buses,dc_usd_per_h\n{case},5,cheap\n")
    with pytest.raises(DataError, match=r"table\.csv, line 2, field 'dc_usd_per_h, buses'"):
        power_published.checks(data=tmp_path, quick=True)


def test_the_tolerance_is_half_a_unit_of_the_last_printed_digit(tmp_path: Path):
    table = tmp_path / "t.csv"
    table.write_text("case,dc_usd_per_h\na,2.0515e+03\nb,767.60\n")
    one, other = power_pglib._read_table(table)
    assert (one.cost, one.tolerance) == (2051.5, pytest.approx(0.05))
    assert (other.cost, other.tolerance) == (767.6, pytest.approx(0.005))


def test_wrong_flows_and_wrong_outages_are_noticed(monkeypatch):
    flows = Network.flows
    monkeypatch.setattr(Network, "flows", lambda self, net: flows(self, net) * (1.0 + 1e-6))
    assert failed(power_flows.flows(range(2))) == ["DC flow, 2 random grids: PTDF against angles"]
    monkeypatch.undo()
    monkeypatch.setattr(power_flows, "lodf", lambda network: 1.001 * _lodf(network))
    assert failed(power_flows.outages(range(2)))[0].endswith("LODF against the network rebuilt")


_lodf = power_flows.lodf


def test_cases_are_what_they_say():
    grid = pjm_five()
    assert (grid.buses.load.sum(), grid.units.high.sum()) == (1000.0, 1530.0)
    one, again, other = meshed(3), meshed(3), meshed(4)
    assert np.array_equal(one.branches.x, again.branches.x)
    assert not np.array_equal(one.branches.x, other.branches.x)


def test_the_command_runs_without_data_and_says_what_it_left_out(monkeypatch):
    monkeypatch.delenv("FAIRLEAD_DATA", raising=False)
    app = typer.Typer()
    validate_cli.register(app)
    app.command("other")(lambda: None)
    arguments = ["validate", "power", "--only", "three units*", "--json", "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["domain"] == "power"
    names = [row["name"] for row in document["rows"]]
    assert "three units, 850 MW: cost" in names and "skipped: published" in names
