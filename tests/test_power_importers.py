"""MATPOWER cases and change tables: what is read, and how bad files are refused."""

import csv
import gzip
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from power_data import needed

from fairlead.platform.cli import main as cli
from fairlead.simulators.errors import DataError
from fairlead.simulators.power.files.matlab import read_blocks
from fairlead.simulators.power.files.matpower import read_case
from fairlead.simulators.power.files.matpower_changes import read_area_loads
from fairlead.simulators.power.network import IslandError, islands
from fairlead.simulators.power.series import bus_loads, check_series

CASE = """function mpc = tiny
% a comment with 'a quote'
mpc.version = '2';
mpc.baseMVA = 100.0;  %% base
mpc.bus = [  % bus type Pd Qd Gs Bs area Vm Va kV zone Vmax Vmin
 10 3 0 0 0 0 1 1 0 230 7 1.1 0.9;
 20 1 50 0 2.5 0 1 1 0 230 8 1.1 0.9;
 30 2, 70 0 0 0 2 1 0 230 8 1.1 0.9
 40 4 0 0 0 0 2 1 0 230 8 1.1 0.9; ];
mpc.gen = [
 10 0 0 0 0 1 100 1 80 10;
 30 0 0 0 0 1 100 0 90 0;
 30 0 0 0 0 1 100 1 100 -5;
 20 0 0 0 0 1 100 1 60 20;
];
mpc.branch = [
 10 20 0.01 0.1 0 100 0 0 0 0 1 -30 30;
 10 20 0.01 0.2 0 0 0 0 0 0 1 0 0;
 20 30 0 0.1 0 50 0 0 0.98 ...
  -10 1 -360 360;
 10 30 0 0.1 0 50 0 0 0 0 0 -30 30;
];
mpc.gencost = [
 2 5 0 3 0.02 8 100 0 0 0;
 2 0 0 3 0 0 0 0 0 0;
 2 0 0 2 12 7 0 0 0 0;
 1 0 0 3 20 200 40 420 50 600;
];
mpc.dcline = [
 10 30 1 0 0 0 0 1 1 -25 25 0 0 0 0 0 0;
];
mpc.genfuel = { 'coal'; 'wind'; 'wind'; 'ng' };
mpc.gentype = { 'ST'; 'W2'; 'W2'; 'GT' };
"""
CHANGES = """function chgtab = scenarios_tiny
%   for the year 2016.
define_constants;
chgtab = [
 1 0 CT_TAREALOAD 1 CT_LOAD_ALL_P CT_REP 46.9;
 1 0 CT_TAREALOAD 2 CT_LOAD_ALL_P CT_REP 80;
 2 0 CT_TAREALOAD 1 CT_LOAD_ALL_P CT_REP 40.1;
 2 0 CT_TAREALOAD 2 CT_LOAD_ALL_P CT_REP 81;
];
"""


def write(folder, text, name="tiny.m"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def refused(call, *parts):
    """The call raises a DataError whose message has all ``parts``."""
    with pytest.raises(DataError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
    return caught.value


@pytest.fixture
def tiny(tmp_path):
    return read_case(write(tmp_path, CASE), segments=4)


def test_a_case_becomes_a_grid(tiny):
    assert tiny.name == "tiny" and tiny.base == 100.0 and tiny.reference == 0
    assert tiny.buses.name == ("10", "20", "30") and tiny.buses.areas == ("1", "2")
    assert tiny.buses.load.tolist() == [0, 50, 70] and tiny.buses.shunt.tolist() == [0, 2.5, 0]
    assert tiny.buses.area.tolist() == [0, 0, 1]
    assert tiny.branches.name == ("10-20-1", "10-20-2", "20-30-1")
    assert tiny.branches.rate.tolist() == [100, np.inf, 50]
    assert tiny.branches.tap.tolist() == [1, 1, 0.98]
    assert tiny.branches.shift.tolist() == [0, 0, np.deg2rad(-10)]
    assert tiny.branches.angle_low.tolist() == [np.deg2rad(-30), -np.inf, -np.inf]
    assert tiny.branches.angle_high.tolist() == [np.deg2rad(30), np.inf, np.inf]
    lines = tiny.dc_lines
    assert (lines.start.tolist(), lines.end.tolist(), lines.limit.tolist()) == ([0], [2], [25])
    units = tiny.units
    assert units.name == ("G1", "G3", "G4") and units.kind == ("coal", "wind", "gas-ct")
    assert units.bus.tolist() == [0, 2, 1] and units.low.tolist() == [10, -5, 20]
    assert units.start_cost[0].tolist() == [5, 5, 5] and np.isinf(units.ramp).all()
    assert units.renewable.tolist() == [False, True, False]


def test_costs_keep_the_polynomial_or_the_points(tiny):
    curve, quadratic = tiny.units.curve, tiny.units.quadratic
    assert quadratic[0].tolist() == [0.02, 8, 100] and quadratic[1].tolist() == [0, 12, 7]
    assert np.isnan(quadratic[2]).all()
    assert np.allclose(curve.power[0], [10, 27.5, 45, 62.5, 80])
    assert np.allclose(curve.cost[0], 0.02 * curve.power[0] ** 2 + 8 * curve.power[0] + 100)
    assert curve.power[1].tolist() == [-5, 100, 100, 100, 100]
    assert np.allclose(curve.cost[1][:2], [-53, 1207])
    # The last segment goes on to the limit, 18 $/MWh from 50 to 60 MW.
    assert curve.power[2].tolist() == [20, 40, 50, 60, 60]
    assert np.allclose(curve.cost[2], [200, 420, 600, 780, 780])


def test_zones_can_be_the_areas(tmp_path):
    grid = read_case(write(tmp_path, CASE), area="zone")
    assert grid.buses.areas == ("7", "8") and grid.buses.area.tolist() == [0, 1, 1]


def test_ramps_come_from_the_columns_that_have_them(tmp_path):
    with_ramps = CASE.replace("1 80 10;", "1 80 10" + " 0" * 6 + " 3 0 0 0 0;")
    with_ramps = with_ramps.replace("0 90 0;", "0 90 0" + " 0" * 11 + ";")
    with_ramps = with_ramps.replace("1 100 -5;", "1 100 -5" + " 0" * 6 + " 0 40 90 0 0;")
    with_ramps = with_ramps.replace("1 60 20;", "1 60 20" + " 0" * 6 + " 0 0 90 0 0;")
    assert read_case(write(tmp_path, with_ramps)).units.ramp.tolist() == [3, 4, 3]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("];\nmpc.dcline", "mpc.dcline", ("line 28", "'gencost'", "rows above")),
        (CASE[CASE.index("mpc.branch") + 90 :], "", ("line 16", "'branch'", "truncated")),
        ("mpc.gencost = [", "mpc.other = [", ("mpc.gencost", "missing")),
        ("mpc.version = '2'", "mpc.version = '1'", ("line 3", "'version'", "loadcase")),
        ("100.0;", "1OO;", ("line 4", "'baseMVA'", "'1OO'")),
        ("50 0 2.5", "5o 0 2.5", ("line 7", "bus column 3 (Pd)", "'5o'", "a number")),
        ("50 0 2.5", "5_0 0 2.5", ("line 7", "'5_0'")),
        ("50 0 2.5", "NaN 0 2.5", ("line 7", "(Pd)", "nan", "finite")),
        ("0.9;\n 20", "0.9 7;\n 20", ("line 7", "13 numbers where the rows above have 14")),
        (" 20 1 50", " 10 1 50", ("line 7", "(bus)", "10.0", "used twice")),
        (" 20 1 50", " 2.5 1 50", ("line 7", "(bus)", "whole number")),
        (" 20 1 50", " 20 9 50", ("line 7", "(type)", "9.0")),
        (" 10 3 0", " 10 2 0", ("(type)", "type 3")),
        ("40 4 0 0", "40 4 9 0", ("line 9", "(Pd)", "isolated")),
        (" 20 0 0 0 0 1", " 21 0 0 0 0 1", ("line 14", "gen column 1 (bus)", "21")),
        (" 20 0 0 0 0 1", " 40 0 0 0 0 1", ("line 14", "isolated (type 4)")),
        (" 20 30 0 ", " 20 33 0 ", ("line 19", "branch column 2 (tbus)", "33")),
        ("0.01 0.2", "0.01 0", ("line 18", "(x)", "0.0", "reactance")),
        ("0.2 0 0 0", "0.2 0 -1 0", ("line 18", "(rateA)", "-1.0")),
        ("1 80 10;", "1 80 90;", ("line 11", "(Pmin)", "90.0", "Pmax")),
        ("2 5 0 3", "3 5 0 3", ("line 24", "(model)", "3.0")),
        ("2 5 0 3 0.02 8 100 0", "2 5 0 4 1 0.02 8 100", ("line 24", "(n)", "second")),
        ("2 5 0 3 0.02", "2 5 0 3 -0.02", ("line 24", "-0.02", "convex")),
        ("3 20 200 40", "3 20 200 10", ("line 27", "20.0", "ascending")),
        ("40 420 50 600", "40 600 50 620", ("G4", "convex")),
        ("1 0 0 3 20", "1 0 0 5 20", ("line 27", "(n)", "does not agree")),
        (" 1 0 0 3 20 200 40 420 50 600;\n", "", ("'gencost'", "3 rows", "4 rows")),
        ("-25 25", "-20 25", ("line 30", "(Pmin)", "Pmin = -Pmax")),
        ("0 0 0 0 0 0;\n];\nmpc.genfuel", "0 0 0 0 0 5;\n];\nmpc.genfuel", ("lossless",)),
        ("'wind'; 'ng' };", "'ng' };", ("'genfuel'", "3 entries", "4 entries")),
        ("mpc.dcline = [", "mpc.branch(:, 6) = 5;\nmpc.dcline = [", ("line 29", "MATLAB")),
    ],
)  # fmt: skip
def test_malformed_cases_are_named(tmp_path, old, new, parts):
    assert CASE.count(old) == 1
    path = write(tmp_path, CASE.replace(old, new))
    refused(lambda: read_case(path), str(path), *parts)


def test_damaged_gzip_is_named(tmp_path):
    path = write(tmp_path, CASE, "tiny.m.gz")
    assert read_case(path).name == "tiny"
    path.write_bytes(path.read_bytes()[:-40])
    refused(lambda: read_case(path), str(path), "truncated gzip")
    path.write_text(CASE)
    refused(lambda: read_case(path), "not a gzip stream")


def test_a_network_in_parts_is_read_and_its_islands_are_known(tmp_path):
    parted = CASE.replace("  -10 1 -360 360;", "  -10 0 -360 360;")
    grid = read_case(write(tmp_path, parted))
    label = islands(len(grid.buses.name), grid.branches.start, grid.branches.end)
    assert label.tolist() == [0, 0, 1]
    assert issubclass(IslandError, ValueError)


number = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.7g}"))
matrix = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=8)
)


@settings(max_examples=80, deadline=None)
@given(
    rows=matrix,
    word=st.sampled_from(["{:g}", "{:.9f}", "{:+.12e}", "  {:.9g}\t"]),
    gap=st.sampled_from([" ", "\t", ", ", " ...\n  "]),
    end=st.sampled_from([";\n", "\n", "; % note [ ] 'x'\n", ";", ";;\n\n"]),
)
def test_matrices_come_back_as_written(tmp_path_factory, rows, word, gap, end):
    text = end.join(gap.join(word.format(value) for value in row) for row in rows)
    text = f"function mpc = x\nmpc.a = 1;\nmpc.m = [{text}{end}];\nmpc.z = [];\n"
    path = write(tmp_path_factory.mktemp("m"), text)
    blocks = read_blocks(path)
    expected = [[float(word.format(value)) for value in row] for row in rows]
    assert np.array_equal(blocks["m"].matrix(1).values, expected)
    assert blocks["z"].rows == [] and blocks["a"].scalar() == 1.0


def test_area_loads_of_a_year(tmp_path, tiny):
    series = read_area_loads(write(tmp_path, CHANGES, "scenarios_tiny.m.gz"), tiny)
    assert series.load.tolist() == [[46.9, 80], [40.1, 81]] and series.step == 3600
    assert series.start == np.datetime64("2016-01-01") and series.reserve.tolist() == [0, 0]
    assert series.available.tolist() == [[100], [100]]
    assert np.allclose(bus_loads(tiny, series.load), [[0, 46.9, 80], [0, 40.1, 81]])
    assert check_series(tiny, series) is series


def test_an_area_that_is_left_out_keeps_its_load(tmp_path, tiny):
    lines = [line for line in CHANGES.splitlines() if "LOAD 2" not in line]
    series = read_area_loads(write(tmp_path, "\n".join(lines)), tiny)
    assert series.load.tolist() == [[46.9, 70], [40.1, 70]]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("chgtab = [", "other = [", ("'chgtab'", "missing")),
        (
            " 1 0 CT_TAREALOAD 1",
            " 1 0 CT_TBUS 1",
            ("line 5", "'table'", "CT_TBUS"),
        ),
        (
            " 1 0 CT_TAREALOAD 1",
            " 1 0 CT_TAREALOAD 9",
            ("line 5", "'9'", "area='zone'"),
        ),
        ("CT_REP 46.9", "CT_REL 46.9", ("line 5", "'chgtype'", "CT_REL")),
        ("CT_REP 46.9", "CT_REP nan", ("line 5", "'newval'", "'nan'", "finite")),
        (
            " 1 0 CT_TAREALOAD 1",
            " 0 0 CT_TAREALOAD 1",
            ("line 5", "'label'", "'0'"),
        ),
        (" CT_REP 46.9", " 46.9", ("line 5", "7 fields")),
        (
            " 2 0 CT_TAREALOAD 1",
            " 1 0 CT_TAREALOAD 1",
            ("'label'", "twice"),
        ),
        (
            " 2 0 CT_TAREALOAD 1",
            " 3 0 CT_TAREALOAD 1",
            ("no load in hour 2 of 3",),
        ),
        ("%   for the year 2016.", "%", ("'year'", "pass year=")),
    ],
)
def test_malformed_changes_are_named(tmp_path, tiny, old, new, parts):
    assert CHANGES.count(old) == 1
    path = write(tmp_path, CHANGES.replace(old, new), "changes.m")
    refused(lambda: read_area_loads(path, tiny), *parts)


PGLIB = (
    *("case3_lmbd", "case5_pjm", "case14_ieee", "case24_ieee_rts", "case30_as", "case30_ieee"),
    *("case39_epri", "case57_ieee", "case73_ieee_rts", "case118_ieee", "case200_activ"),
    *("case300_ieee", "case500_goc", "case793_goc", "case1354_pegase"),
)
UNITS = {"case73_ieee_rts": 99, "case118_ieee": 54, "case500_goc": 171, "case1354_pegase": 260}


@pytest.mark.parametrize("case", PGLIB)
def test_pglib_cases_have_the_published_size(case):
    grid = read_case(needed("pglib_opf", f"pglib_opf_{case}.m"))
    with needed("pglib_opf", "baseline_v23.07.csv").open() as stream:
        table = {row["case"]: row for row in csv.DictReader(stream)}
    published = table[f"pglib_opf_{case}"]
    assert len(grid.buses.name) == int(published["buses"])
    # The published number of case500_goc counts five branches out of service.
    spare = 5 if case == "case500_goc" else 0
    assert len(grid.branches.name) == int(published["branches"]) - spare
    expected = UNITS.get(case, len(grid.units.name))
    assert len(grid.units.name) == expected


def test_activsg2000_has_its_units_and_a_year_of_loads():
    begin = time.perf_counter()
    grid = read_case(needed("activsg", "case_ACTIVSg2000.m.gz"))
    seconds = time.perf_counter() - begin
    assert seconds < 2.0
    assert (len(grid.buses.name), len(grid.branches.name), len(grid.units.name)) == (
        2000,
        3206,
        432,
    )
    blocks = read_blocks(needed("activsg", "case_ACTIVSg2000.m.gz"))
    assert len(blocks["gen"].rows) == 544
    assert {kind: grid.units.kind.count(kind) for kind in set(grid.units.kind)} == {
        "gas-ct": 288, "wind": 81, "coal": 22, "hydro": 20, "pv": 17, "nuclear": 4,
    }  # fmt: skip
    assert grid.buses.load.sum() == pytest.approx(67109.21)
    series = check_series(
        grid, read_area_loads(needed("activsg", "scenarios_ACTIVSg2000.m.gz"), grid)
    )
    assert series.length == 8784 and series.load[0, 4] == 10047.2
    assert bus_loads(grid, series.load[:3]).sum(axis=1) == pytest.approx(
        series.load[:3].sum(axis=1)
    )


def test_activsg200_counts_by_zone():
    case = needed("activsg", "case_ACTIVSg200.m.gz")
    changes = needed("activsg", "scenarios_ACTIVSg200.m.gz")
    assert read_area_loads(changes, read_case(case, area="zone")).load.shape == (8760, 6)
    refused(lambda: read_area_loads(changes, read_case(case)), "area='zone'", "'row'")


@pytest.mark.parametrize(
    ("kind", "parts", "name", "figure"),
    [
        ("matpower", ("pglib_opf", "pglib_opf_case73_ieee_rts.m"), "branches in service", 120),
        ("activsg", ("activsg", "case_ACTIVSg200.m.gz"), "length of the series", 8760),
        ("rts-gmlc", ("rts_gmlc",), "days with series", 362),
        ("pglib-uc", ("pglib_uc", "ca_2014-09-01_reserves_3.json"), "units in service", 610),
    ],
)
def test_the_command_line_shows_what_is_in_a_file(capsys, kind, parts, name, figure):
    path = needed(*parts)
    with pytest.raises(SystemExit) as end:
        cli.main(["scenario", "import", kind, str(path), "--json"])
    figures = {row["name"]: row["measured"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert not end.value.code and figures[name] == figure


def test_the_command_line_names_what_is_wrong(capsys, tmp_path):
    path = write(tmp_path, CASE.replace("0.01 0.2", "0.01 0"))
    with pytest.raises(SystemExit) as end:
        cli.main(["scenario", "import", "matpower", str(path)])
    assert end.value.code == 2 and f"{path}, line 18" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main(["scenario", "import", "activsg", str(path)])
    assert end.value.code == 2 and "scenarios_ACTIVSg*.m beside it" in capsys.readouterr().err
