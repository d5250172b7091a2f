"""Generated systems and days: sizes, plausibility, feasibility, and that a seed says everything."""

import os
import subprocess
import sys
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from power_data import needed

from fairlead.models.power.dcopf import DcOpf, Interval, SlackPrices
from fairlead.simulators.power.files.matpower import read_case
from fairlead.simulators.power.generated import PEAK, generate
from fairlead.simulators.power.generated_series import generate_forecast, generate_series
from fairlead.simulators.power.grid import check_grid
from fairlead.simulators.power.network import Network, bridges
from fairlead.simulators.power.series import bus_loads, check_series

SIZES = (10, 11, 13, 17, 50, 150, 600)


def same(one, other):
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one == other


def firm(grid):
    return grid.units.high[~grid.units.renewable].sum()


@pytest.mark.parametrize("units", SIZES)
def test_a_system_has_the_agents_asked_for_and_covers_its_load(units):
    grid = check_grid(generate(units, seed=3))
    assert len(grid.units.name) + len(grid.storages.name) == units
    assert {"coal", "gas-cc", "gas-ct", "hydro", "wind", "pv"} <= set(grid.units.kind)
    assert len(grid.storages.name) >= 1
    assert grid.buses.load.sum() == pytest.approx(PEAK * firm(grid))
    for seed in range(3):
        series = check_series(grid, generate_series(grid, seed=seed))
        covered = firm(grid) - series.load.sum(axis=1) - series.reserve
        assert covered.min() > 0.0


def test_peaks_of_a_year_are_usual_and_costs_do_not_depend_on_size():
    cost = {}
    for units in (10, 50, 600):
        grid = generate(units, seed=0, network=False)
        assert len(grid.buses.name) == 1 and not grid.branches.name
        peaks = [
            generate_series(grid, seed=s, days=7).load.sum(axis=1).max() / firm(grid)
            for s in range(10)
        ]
        assert 0.75 < max(peaks) < 0.88 and min(peaks) > 0.6
        opf = DcOpf(Network(grid, convention="x"))
        cost[units] = opf.solve().cost / grid.buses.load.sum()
    assert max(cost.values()) < 1.5 * min(cost.values())
    assert all(5.0 < value < 25.0 for value in cost.values())


@pytest.mark.parametrize("units", [20, 100, 300])
def test_the_network_is_meshed_and_a_few_lines_bind(units):
    bound, priced = [], []
    for system in range(3):
        grid = generate(units, seed=system)
        network = Network(grid, convention="x")
        assert len(grid.buses.name) == units // 2
        assert not bridges(network).any()
        opf = DcOpf(network, slack=SlackPrices())
        series = generate_series(grid, seed=system)
        at = int(series.load.sum(axis=1).argmax())
        high = grid.units.high.copy()
        high[grid.units.renewable] = series.available[at]
        found = opf.solve(Interval(load=bus_loads(grid, series.load[at]), high=high))
        assert found.shed.sum() == 0.0 and found.surplus.sum() == 0.0
        bound.append((np.abs(found.congestion) > 1e-6).mean())
        priced.append(np.ptp(found.lmp))
    assert 0.0 < np.mean(bound) < 0.08 and max(bound) < 0.15
    assert max(priced) > 0.5


def test_seed_and_size_say_everything():
    assert same(generate(40, seed=5), generate(40, seed=5))
    assert not same(generate(40, seed=5), generate(40, seed=6))
    grid = generate(40, seed=5)
    assert same(generate_series(grid, seed=1, days=2), generate_series(grid, seed=1, days=2))
    assert not same(generate_series(grid, seed=1), generate_series(grid, seed=2))
    assert same(generate_forecast(grid, seed=1), generate_forecast(grid, seed=1))


def test_units_are_plausible():
    grid = generate(200, seed=0)
    units = grid.units
    kind = np.array(units.kind)
    marginal = units.curve.slope
    assert (np.diff(marginal, axis=1) >= -1e-9).all()
    means = {name: marginal[kind == name].mean() for name in set(units.kind)}
    assert means["nuclear"] < means["coal"] < means["gas-ct"] and means["wind"] == 0.0
    thermal = ~units.renewable
    assert (units.start_cost[thermal, 2] >= units.start_cost[thermal, 0]).all()
    assert np.isfinite(units.mttf[thermal]).all() and (units.inertia[thermal] > 0).all()
    forced = units.mttr[thermal] / (units.mttf[thermal] + units.mttr[thermal])
    assert 0.02 < forced.mean() < 0.08
    hours = (units.high - units.low)[thermal] / units.ramp[thermal] / 60
    assert hours.min() > 0.1 and hours.max() < 1.5
    assert len(grid.buses.areas) == 4


def test_days_look_like_days():
    grid = generate(100, seed=1)
    kind = np.array(grid.units.kind)[grid.units.renewable]
    high = grid.units.high[grid.units.renewable]
    share = []
    for seed in range(8):
        series = generate_series(grid, seed=seed, days=3)
        assert (series.length, series.step) == (864, 300)
        hour = (np.arange(864) % 288) / 12
        sun = series.available[:, kind == "pv"]
        assert not sun[(hour < 4) | (hour > 20)].any() and sun[(hour > 11) & (hour < 13)].all()
        total = series.load.sum(axis=1)
        assert total[(hour > 17) & (hour < 20)].mean() > 1.2 * total[hour < 4].mean()
        wind = series.available[:, kind == "wind"] / high[kind == "wind"]
        assert wind.min() >= 0 and wind.max() <= 1
        share.append(wind.mean())
        assert np.diff(wind.mean(axis=1)).std() < 0.02
    assert 0.2 < np.mean(share) < 0.55


def test_week_ends_are_lower():
    grid = generate(20, seed=0, network=False)
    series = generate_series(grid, seed=4, days=28)
    days = series.start + np.arange(28).astype("timedelta64[D]")
    weekend = np.is_busday(days.astype("datetime64[D]")) == 0
    daily = series.load.sum(axis=1).reshape(28, 288).mean(axis=1)
    assert daily[weekend].mean() < 0.96 * daily[~weekend].mean()


def test_forecasts_are_hourly_and_wrong_by_as_much_as_said():
    grid = generate(100, seed=1)
    kind = np.array(grid.units.kind)[grid.units.renewable]
    high = grid.units.high[grid.units.renewable]
    load, wind = [], []
    for seed in range(10):
        actual = generate_series(grid, seed=seed, days=2)
        forecast = check_series(grid, generate_forecast(grid, seed=seed, days=2))
        assert forecast.start == actual.start and forecast.step == 3600 and forecast.length == 48
        mean = actual.load.reshape(48, 12, -1).mean(axis=1)
        load.append(forecast.load / mean - 1)
        error = forecast.available - actual.available.reshape(48, 12, -1).mean(axis=1)
        wind.append(error[:, kind == "wind"] / high[kind == "wind"])
        assert (forecast.available <= high).all()
        assert np.allclose(error[:, kind == "hydro"], 0)
    assert np.std(load) == pytest.approx(0.015, rel=0.2)
    # Cut at 0 and at capacity, so somewhat less than 15 %.
    assert 0.08 < np.std(wind) < 0.15


def test_what_cannot_be_generated_is_refused():
    with pytest.raises(ValueError, match="units = 9: from 10 to 2000"):
        generate(9, seed=0)
    grid = generate(10, seed=0)
    with pytest.raises(ValueError, match="days = 0"):
        generate_series(grid, seed=0, days=0)


def test_days_can_be_generated_for_a_grid_of_the_data():
    grid = read_case(needed("activsg", "case_ACTIVSg200.m.gz"))
    series = check_series(grid, generate_series(grid, seed=0))
    assert series.available.shape == (288, 6)


def test_no_data_folder_is_touched(tmp_path):
    """In a process whose data folder does not exist, and with nothing but numpy imported."""
    code = (
        "import sys\n"
        "from fairlead.simulators.power.generated import generate\n"
        "from fairlead.simulators.power.generated_series import generate_series\n"
        "generate_series(generate(30, seed=1), seed=2)\n"
        "assert not {'polars', 'scipy', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
    )
    environment = {**os.environ, "FAIRLEAD_DATA": str(tmp_path / "none")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
