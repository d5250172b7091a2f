"""RTS-GMLC: tables, series and PLEXOS solutions, and how bad copies of them are refused."""

import shutil
import time
from collections import Counter
from datetime import date

import numpy as np
import pytest
from power_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.power.files.plexos import read_solution
from fairlead.simulators.power.files.rts_gmlc import notice, read_grid, source_folder
from fairlead.simulators.power.files.rts_series import available_days, day_ahead, real_time
from fairlead.simulators.power.series import bus_loads, check_series

VARIANTS = ("noTX", "allTX")


@pytest.fixture(scope="module")
def folder():
    return needed("rts_gmlc")


@pytest.fixture(scope="module")
def grid(folder):
    return read_grid(folder)


@pytest.fixture
def copy(folder, tmp_path):
    """A writable copy of the tables, as a clone has them, without the notice."""
    target = tmp_path / "RTS_Data" / "SourceData"
    shutil.copytree(folder / "source", target)
    return target


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def refused(call, *parts):
    with pytest.raises(DataError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_the_tables_become_a_grid(grid):
    units = grid.units
    assert (len(grid.buses.name), len(grid.branches.name), len(units.name)) == (73, 120, 157)
    assert Counter(units.kind) == {
        "rtpv": 31, "gas-ct": 27, "pv": 25, "hydro": 20, "coal": 16, "oil-ct": 12, "gas-cc": 10,
        "oil-st": 7, "wind": 4, "condenser": 3, "nuclear": 1, "csp": 1,
    }  # fmt: skip
    assert grid.buses.areas == ("1", "2", "3") and grid.buses.load.sum() == 8550
    assert grid.buses.name[grid.reference] == "113"
    stores = grid.storages
    assert stores.name == ("313_STORAGE_1",) and grid.buses.name[stores.bus[0]] == "313"
    assert (stores.power[0], stores.energy[0], stores.efficiency[0]) == (50, 150, 0.85)
    line = grid.dc_lines
    assert grid.buses.name[line.start[0]] == "113" and grid.buses.name[line.end[0]] == "316"
    assert line.limit.tolist() == [100]
    a1 = grid.branches.name.index("A1")
    assert (grid.branches.outage_rate[a1], grid.branches.outage_hours[a1]) == (0.24, 16)


def test_costs_starts_and_outages_follow_the_tables(grid):
    units = grid.units
    nuclear, cycle = grid.unit("121_NUCLEAR_1"), grid.unit("107_CC_1")
    curve = units.curve
    assert np.allclose(curve.slope[nuclear], 8.1035)
    assert curve.power[nuclear][[0, -1]].tolist() == [396, 400]
    assert units.start_cost[cycle] == pytest.approx([12425.89, 17632.82, 28046.68], abs=0.01)
    assert units.start_after[cycle].tolist() == [0, 1, 2] and units.ramp[cycle] == 4.14
    assert units.inertia[cycle] == 5 * 414
    # The table's forced outage rate is MTTR/(MTTF+MTTR), rounded.
    forced = units.mttr / (units.mttf + units.mttr)
    assert forced[cycle] == pytest.approx(0.033) and forced[nuclear] == pytest.approx(0.12)
    assert np.isinf(units.mttf[grid.unit("309_WIND_1")])
    fixed = {kind for kind, free in zip(units.kind, units.curtailable, strict=True) if not free}
    assert "rtpv" in fixed and not fixed & {"hydro", "wind", "pv"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_running_unit_costs_what_plexos_says(folder, grid, variant):
    solution = read_solution(folder / "plexos_reference" / variant, grid)
    units, on = grid.units, solution.commitment > 0.0
    assert solution.generation.shape == (240, 157)
    cost = np.stack(
        [
            np.interp(solution.generation[:, unit], units.curve.power[unit], units.curve.cost[unit])
            for unit in range(len(units.name))
        ],
        axis=1,
    )
    off_by = np.where(on, solution.cost - cost, 0.0)
    started = on & ~np.concatenate([np.ones((1, len(units.name)), bool), on[:-1]])
    assert np.abs(off_by[~started]).max() < 0.5
    hot_to_cold = units.start_cost[np.nonzero(started)[1]]
    paid = off_by[started]
    # All starts of these days are cold ones.
    assert np.abs(paid - hot_to_cold[:, 2]).max() < 1.5 and paid.size >= 20
    totals = {"noTX": 18_597_909.51, "allTX": 18_669_374.98}
    assert solution.cost.sum() == pytest.approx(totals[variant], abs=0.01)
    # Without a network PLEXOS puts no limit on the DC line.
    assert np.abs(solution.dc_flow).max() == (155 if variant == "noTX" else 100)


def test_plexos_uses_the_series_as_read(folder, grid):
    """Water and rooftops are taken as given, wind and sun at most; generation meets load."""
    solution = read_solution(folder / "plexos_reference" / "noTX", grid)
    series = day_ahead(folder, grid, date(2020, 7, 5), 10)
    assert series.start == solution.times[0]
    columns = np.flatnonzero(grid.units.renewable)
    kinds = np.array(grid.units.kind)[columns]
    left = series.available - solution.generation[:, columns]
    assert np.abs(left[:, np.isin(kinds, ("hydro", "rtpv"))]).max() < 1e-9
    assert left.min() > -1e-9 and left[:, kinds == "wind"].max() > 100
    assert not series.available[:, kinds == "csp"].any()
    assert np.allclose(solution.generation.sum(axis=1), series.load.sum(axis=1), atol=1e-6)


def test_load_is_split_over_the_buses_of_its_region(folder, grid):
    series = day_ahead(folder, grid, date(2020, 2, 29))
    at_bus = bus_loads(grid, series.load)
    for area in range(3):
        inside = grid.buses.area == area
        assert np.allclose(at_bus[:, inside].sum(axis=1), series.load[:, area])
    assert (at_bus[:, grid.buses.load == 0] == 0).all()


def test_real_time_is_real_where_the_data_are(folder, grid):
    columns = np.flatnonzero(grid.units.renewable)
    kinds = np.array(grid.units.kind)[columns]
    first = check_series(grid, real_time(folder, grid, date(2020, 1, 1)))
    assert (first.length, first.step) == (288, 300)
    lines = (folder / "realtime_5min_2020-01-01" / "REAL_TIME_pv.csv").read_text().splitlines()
    names = lines[0].split(",")
    column = [grid.units.name[unit] for unit in columns].index("320_PV_1")
    wanted = [float(line.split(",")[names.index("320_PV_1")]) for line in lines[1:]]
    assert first.available[:, column].tolist() == wanted
    # The next day has no 5-minute file of the sun: straight lines between the hours' middles.
    day = real_time(folder, grid, date(2020, 1, 2))
    hours = day_ahead(folder, grid, date(2020, 1, 2))
    sun = np.isin(kinds, ("pv", "rtpv", "hydro"))
    halves = day.available[5::12][:, sun] + day.available[6::12][:, sun]
    near = np.abs(halves / 2 - hours.available[:, sun])
    assert near.max() <= np.abs(np.diff(hours.available[:, sun], axis=0)).max() / 12
    curved = np.abs(np.diff(day.available[:, sun], n=2, axis=0)) > 1e-9
    assert curved.any(axis=1).sum() <= 48
    wind = day.available[:, kinds == "wind"]
    assert np.abs(np.diff(wind, n=2, axis=0)).min(axis=1).mean() > 0.01
    both = real_time(folder, grid, date(2020, 1, 1), 2)
    assert np.array_equal(both.available, np.concatenate([first.available, day.available]))
    assert np.allclose(day.reserve.reshape(24, 12), hours.reserve[:, None])
    assert hours.reserve.min() > 50


def test_a_day_is_quick_after_the_first(folder, grid):
    real_time(folder, grid, date(2020, 5, 1))
    begin = time.perf_counter()
    for day in range(2, 22):
        real_time(folder, grid, date(2020, 5, day))
        day_ahead(folder, grid, date(2020, 5, day))
    assert (time.perf_counter() - begin) / 20 < 0.02


def test_missing_days_are_named_and_listed(folder, grid):
    days = available_days(folder)
    assert len(days) == 362 and date(2020, 7, 16) not in days and days[0] == date(2020, 1, 1)
    refused(lambda: day_ahead(folder, grid, date(2020, 7, 14), 2), "2020-07-15", "362 days")
    refused(lambda: real_time(folder, grid, date(2021, 1, 1)), "2021-01-01", "Load_rebuilt")
    with pytest.raises(ValueError, match="days = 0"):
        day_ahead(folder, grid, date(2020, 1, 1), 0)


def test_the_csp_unit_can_follow_its_inflow(folder, grid):
    kinds = np.array(grid.units.kind)[grid.units.renewable]
    series = real_time(folder, grid, date(2020, 7, 5), solar_thermal=True)
    inflow = series.available[:, kinds == "csp"]
    assert inflow.max() == 200 and inflow.min() == 0


def test_a_clone_is_read_and_its_missing_notice_is_said(folder, copy):
    clone = copy.parents[1]
    assert read_grid(clone).units.name == read_grid(folder).units.name
    assert source_folder(clone) == copy and read_grid(copy).name == "RTS-GMLC"
    assert "DATA USE DISCLAIMER AGREEMENT" in notice(folder)
    assert notice(clone).startswith("Warning: no NOTICE.md")
    refused(lambda: read_grid(copy.parents[3]), "no gen.csv", "folder of RTS-GMLC")


@pytest.mark.parametrize(
    ("file", "old", "new", "parts"),
    [
        ("bus.csv", "MW Load", "MW Lod", ("'MW Load'", "required", "line 1")),
        ("bus.csv", "PV,108.0", "PV,", ("line 2", "'MW Load'", "''", "at least 0")),
        ("bus.csv", "PV,108.0", "PV,-8", ("line 2", "'MW Load'", "'-8'", "at least 0")),
        ("bus.csv", "PV,108.0", "PV,nan", ("line 2", "'MW Load'", "'nan'")),
        ("bus.csv", "102,Adams", "101,Adams", ("line 2", "'Bus ID'", "'101'", "twice")),
        ("bus.csv", "Ref", "PV", ("'Bus Type'", "found 0")),
        ("branch.csv", "A1,101,", "A1,999,", ("line 2", "'From Bus'", "'999'", "bus.csv")),
        ("branch.csv", "0.003,0.014", "0.003,0", ("line 2", "'X'", "'0'", "reactance")),
        ("branch.csv", "0.461,175", "0.461,-175", ("line 2", "'Cont Rating'", "'-175'")),
        ("gen.csv", "Oil CT", "Peat", ("line 2", "'Category'", "'Peat'", "Coal")),
        ("gen.csv", "1.0468,20,8", "1.0468,20,28", ("line 2", "'PMin MW'", "'28'")),
        ("gen.csv", "NA,13114,9456", "NA,13114,ten", ("line 2", "'HR_incr_1'", "'ten'")),
        ("gen.csv", "NA,13114,9456,9476", "NA,13114,9999,9476", ("101_CT_1", "convex")),
        ("gen.csv", "101_CT_1,101", "101_CT_1,10", ("line 2", "'Bus ID'", "'10'")),
        ("storage.csv", "313_HEAD_STORAGE,0.15", "313_HEAD_STORAGE,x", ("'Max Volume GWh'",)),
        ("storage.csv", "NA,0.1,50,head", "NA,0.1,50,top", ("313_STORAGE_1", "head", "gen.csv")),
        ("dc_branch.csv", "DC1,113", "DC1,13", ("line 2", "'From Bus'", "'13'")),
    ],
)
def test_bad_tables_are_named(copy, file, old, new, parts):
    edit(copy / file, old, new)
    refused(lambda: read_grid(copy), *parts)


HEADER = "Year,Month,Day,Period,1,2,3\n"


def hourly(hours=range(1, 25), value="100"):
    return HEADER + "".join(f"2020,3,1,{hour},{value},200,300\n" for hour in hours)


@pytest.fixture
def bare(folder, copy):
    """A copy with one day of load and nothing else."""
    series = copy.parent / "timeseries"
    series.mkdir()
    shutil.copy(folder / "timeseries" / "DAY_AHEAD_regional_Spin_Up_R1.csv.gz", series)
    return series / "DAY_AHEAD_regional_Load.csv"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (hourly(value="nan"), ("line 2", "'1'", "'nan'", "finite")),
        (hourly(value=""), ("line 2", "'1'", "finite")),
        (hourly(value="1oo"), ("line 2", "'1oo'")),
        (hourly(range(1, 24)), ("'Period'", "1 to 24")),
        (hourly(range(2, 26)), ("line 2", "'Period'", "2")),
        (hourly().replace(",2,3\n", ",2,4\n"), ("'3'", "required")),
        (hourly().replace("Period", "Hour"), ("'Period'", "required")),
        (hourly().replace("2020,3,1,1,", "2020,13,1,1,"), ("line 2", "month")),
        (hourly().replace("2020,3,1,1,", "2020,March,1,1,"), ("whole numbers", "March")),
        (HEADER, ("no rows",)),
        (hourly() + "2020,3,2,1,5\n", ("finite number", "line 26")),
    ],
)
def test_bad_series_are_named(bare, grid, text, parts):
    bare.write_text(text)
    refused(lambda: day_ahead(bare.parents[2], grid, date(2020, 3, 1)), str(bare), *parts)


def test_missing_files_and_splits_are_named(folder, bare, grid):
    refused(
        lambda: day_ahead(bare.parents[2], grid, date(2020, 3, 1)),
        "DAY_AHEAD_regional_Load.csv", "missing in timeseries/",
    )  # fmt: skip
    for file in (folder / "timeseries").glob("DAY_AHEAD_*"):
        shutil.copy(file, bare.parent)
    source = source_folder(bare.parents[2])
    lines = (source / "bus.csv").read_text().splitlines()
    without = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        cells[4] = "0" if cells[0].startswith("2") else cells[4]
        without.append(",".join(cells))
    (source / "bus.csv").write_text("\n".join(without) + "\n")
    clone = bare.parents[2]
    refused(lambda: day_ahead(clone, read_grid(clone), date(2020, 3, 1)), "'2'", "MW Load", "share")


def test_solutions_of_other_hours_or_units_are_refused(folder, grid, tmp_path):
    target = tmp_path / "noTX"
    shutil.copytree(folder / "plexos_reference" / "noTX", target)
    (target / "flow.csv.gz").unlink()
    refused(lambda: read_solution(target, grid), "'flow.csv'", "missing")
    names = ",".join(["time", *grid.branches.name, "113_316_1"])
    (target / "flow.csv").write_text(names + "\n2020-07-05 00:00:00" + ",0" * 121 + "\n")
    refused(lambda: read_solution(target, grid), "'time'", "other hours")
