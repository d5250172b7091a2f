"""Forecast errors and clouds: law by lead, memory, limits, and the figures measured on RTS-GMLC."""

import os
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fairlead.simulators.power.forecasts import (
    ERRORS,
    LOAD,
    NOISE,
    ErrorModel,
    Forecaster,
    Noise,
    add_noise,
    calibrate,
)
from fairlead.simulators.power.series import Series

RTS = (
    Path(os.environ.get("FAIRLEAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    / "power"
    / "rts_gmlc"
)
needs_data = pytest.mark.skipif(
    not (RTS / "timeseries").is_dir(), reason=f"no RTS-GMLC data in {RTS}"
)
KINDS = ("wind", "pv", "hydro", "thermal", "pv")
CAPACITY = np.array([200.0, 100.0, 50.0, 300.0, 80.0])
GRID = SimpleNamespace(
    units=SimpleNamespace(
        kind=KINDS, high=CAPACITY, renewable=np.array([True, True, True, False, True])
    )
)


def series(length=288, wind=100.0, step=300.0):
    hours = np.arange(length) * step / 3600 % 24
    sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0.0, None)
    load = np.stack([1000 + 200 * np.sin(hours / 24 * 2 * np.pi), np.full(length, 500.0)], axis=1)
    available = np.stack([np.full(length, wind), 60 * sun, np.full(length, 20.0), 50 * sun], axis=1)
    start = np.datetime64("2020-06-01", "s")
    return Series(start, step, load, available, np.zeros(length))


def forecast(given, seed=0, leads=12, scale=1.0, **more):
    rng = np.random.default_rng(seed)
    return Forecaster(given, GRID, leads=leads, scale=scale, rng=rng, **more)


def errors(actual, forecasts):
    """``[T, L, n]`` where the target lies inside the series: forecast minus what happens."""
    length, leads = forecasts.shape[:2]
    whole = length - leads + 1
    target = np.arange(whole)[:, None] + np.arange(leads)
    return forecasts[:whole] - actual[target]


def test_spread_grows_with_lead_as_modelled():
    given = series(60_000)
    made = forecast(given, leads=48)
    leads = np.arange(1, 49) * 300.0
    wind = errors(given.available, made.available)[:, :, 0]
    # Far from both ends of 0 ... 200 MW at short leads only: a law without the cut is below.
    assert wind[:, 0].std() == pytest.approx(200 * ERRORS["wind"].std(leads[:1])[0], rel=0.03)
    narrow = forecast(given, leads=48, errors={"wind": ErrorModel(0.1, 3600.0, 1.5, 0.3)})
    spread = errors(given.available, narrow.available)[:, :, 0].std(axis=0)
    assert spread == pytest.approx(200 * ErrorModel(0.1, 3600.0, 1.5, 0.3).std(leads), rel=0.06)
    assert (np.diff(spread) > 0.0).all()
    load = errors(given.load, made.load) / given.load.mean(axis=0)
    assert load.std(axis=0)[:, 1] == pytest.approx(LOAD.std(leads), rel=0.06)


def test_errors_are_unbiased_at_every_lead():
    given = series(60_000)
    made = forecast(given, errors={"wind": ErrorModel(0.1, 3600.0, 1.0, 0.0)})
    wind = errors(given.available, made.available)[:, :, 0]
    # Errors of an autoregression that forgets in an hour: about 60,000 / 24 independent ones.
    assert np.abs(wind.mean(axis=0) / wind.std(axis=0)).max() < 4 / np.sqrt(60_000 / 24)


def test_autoregression_of_first_order_when_shape_is_one():
    model = ErrorModel(0.1, 3600.0, 1.0, 0.0)
    given = series(60_000)
    made = forecast(given, leads=96, errors={"wind": model})
    far = errors(given.available, made.available)[:, -1, 0]
    # v = c^2 (1 - phi^(2 k)) with phi^2 = exp(-step / time).
    phi = np.exp(-300.0 / 3600.0 / 2)
    for lag in (1, 2, 6, 12):
        rho = np.corrcoef(far[lag:], far[:-lag])[0, 1]
        assert rho == pytest.approx(phi**lag, abs=0.03)


def test_successive_forecasts_of_one_moment_are_a_martingale():
    given = series(40_000)
    made = forecast(given, leads=12, errors={"wind": ErrorModel(0.1, 3600.0, 1.5, 0.0)})
    wind = errors(given.available, made.available)[:, :, 0]
    # Error about a target: lead k at epoch t, then lead k - 1 at epoch t + 1, ...
    whole = len(wind) - 12
    about = np.stack([wind[11 - k : 11 - k + whole, k] for k in range(12)], axis=1)
    news = np.diff(about, axis=1)
    corr = np.corrcoef(np.concatenate([about[:, :1], news], axis=1).T)
    assert np.abs(corr - np.eye(12)).max() < 0.03
    assert np.corrcoef(about[:, 11], about[:, 6])[0, 1] > 0.5
    assert (np.diff(about.std(axis=0)) > 0.0).all()


def test_units_of_one_kind_share_part_of_their_errors_and_kinds_do_not():
    given = series(40_000)
    made = forecast(given)
    found = errors(given.available, made.available)[:, 3]
    day = (given.available[3 : 3 + len(found), 1] > 20.0) & (np.abs(found[:, 1]) > 0.0)
    relative = found[day] / given.available[3 : 3 + len(found)][day]
    table = np.corrcoef(relative[:, [0, 1, 3]].T)
    assert table[1, 2] == pytest.approx(ERRORS["pv"].common, abs=0.04)
    assert abs(table[0, 1]) < 0.04
    load = errors(given.load, made.load)[:, 3] / given.load[3 : 3 + len(found)]
    assert np.corrcoef(load.T)[0, 1] == pytest.approx(LOAD.common, abs=0.04)


def test_no_error_at_night_of_water_or_beyond_capacity():
    for wind in (2.0, 198.0):
        given = series(2000, wind=wind)
        made = forecast(given, scale=3.0)
        assert (made.available >= 0.0).all()
        assert (made.available <= CAPACITY[[0, 1, 2, 4]] + 1e-12).all()
        target = np.minimum(np.arange(2000)[:, None] + np.arange(12), 1999)
        night = given.available[target][:, :, 1] == 0.0
        assert night.any()
        assert (made.available[:, :, 1][night] == 0.0).all()
        assert (made.available[:, :, 2] == 20.0).all()
    assert (made.load > 0.0).all()


def test_scale_zero_is_perfect_and_scale_is_linear():
    given = series()
    target = np.minimum(np.arange(288)[:, None] + np.arange(12), 287)
    perfect = forecast(given, scale=0.0)
    assert (perfect.load == given.load[target]).all()
    assert (perfect.available == given.available[target]).all()
    one, two = forecast(given, scale=0.5), forecast(given, scale=1.0)
    assert two.load - given.load[target] == pytest.approx(2 * (one.load - given.load[target]))


def test_more_than_capacity_is_no_forecast_error():
    given = series(wind=205.0)
    assert (forecast(given, scale=0.0).available[:, :, 0] == 205.0).all()


def test_same_seed_same_forecasts_and_more_leads_change_no_earlier_error():
    given = series()
    assert (forecast(given).available == forecast(given).available).all()
    assert (forecast(given).available != forecast(given, seed=1).available).any()
    few, many = forecast(given, leads=6), forecast(given, leads=12)
    assert few.load == pytest.approx(many.load[:, :6], rel=1e-12)
    assert few.available == pytest.approx(many.available[:, :6], rel=1e-12)
    longer = forecast(series(576))
    assert longer.load[:276] == pytest.approx(many.load[:276], rel=1e-12)


def test_other_steps_have_the_same_law_in_time():
    quick = forecast(series(60_000, step=150.0), leads=2)
    given = series(60_000, step=150.0)
    spread = errors(given.load, quick.load)[:, 1, 1].std() / 500
    assert spread == pytest.approx(LOAD.std(np.array([300.0]))[0], rel=0.03)


@pytest.mark.parametrize(("leads", "scale"), [(0, 1.0), (12, -1.0), (12, np.nan)])
def test_impossible_requests_are_refused(leads, scale):
    with pytest.raises(ValueError, match="expected at least 1 and 0"):
        forecast(series(), leads=leads, scale=scale)


def test_calibration_finds_the_model_that_made_the_errors():
    rng = np.random.default_rng(5)
    phi, hours, columns = 0.97, 20_000, 3
    drawn = rng.standard_normal((hours * 12, columns)) * np.sqrt(1 - phi**2)
    shared = rng.standard_normal((hours * 12, 1)) * np.sqrt(1 - phi**2)
    error = np.zeros_like(drawn)
    for row in range(1, len(error)):
        error[row] = phi * error[row - 1] + np.sqrt(0.6) * drawn[row] + np.sqrt(0.4) * shared[row]
    day_ahead = np.full((hours, columns), 100.0)
    actual = 100.0 + 10.0 * error
    found = calibrate(day_ahead, actual, step=300.0, capacity=np.full(columns, 200.0))
    assert found.ceiling == pytest.approx(0.05, rel=0.03)
    assert found.shape == pytest.approx(1.0, abs=0.05)
    assert found.time == pytest.approx(-300.0 / (2 * np.log(phi)), rel=0.1)
    assert found.common == pytest.approx(0.4, abs=0.05)
    assert found.of == "capacity"
    # A constant factor of the day-ahead series is no error.
    scaled = calibrate(0.9 * day_ahead, actual, step=300.0, capacity=np.full(columns, 200.0))
    assert scaled.ceiling == pytest.approx(found.ceiling, rel=1e-9)


def test_calibration_refuses_what_cannot_be_measured():
    flat, wave = np.full((48, 2), 10.0), np.random.default_rng(0).random((576, 2)) + 10.0
    with pytest.raises(ValueError, match="does not cover"):
        calibrate(flat, wave[:-1], step=300.0)
    with pytest.raises(ValueError, match="column 1 has no energy"):
        calibrate(flat * [1.0, 0.0], wave, step=300.0)
    with pytest.raises(ValueError, match="column 0 has no error"):
        calibrate(flat, np.full((576, 2), 10.0), step=300.0)
    with pytest.raises(ValueError, match=r"falls below 0\.2 within two steps"):
        calibrate(flat, wave, step=300.0)


def within_hours(actual):
    """Power within the hour over power, and correlation of neighbours, of every column."""
    means = actual.reshape(-1, 12, actual.shape[1]).mean(axis=1)
    hours, times = np.arange(len(means)) + 0.5, (np.arange(len(actual)) + 0.5) / 12
    line = np.stack([np.interp(times, hours, column) for column in means.T], axis=1)
    # Hours that are lit, and whose neighbours are: dawn and dusk are no clouds.
    lit = means > 0.1 * means.max(axis=0)
    lit[1:-1] &= lit[:-2] & lit[2:]
    lit[[0, -1]] = False
    here = np.repeat(lit, 12, axis=0)
    left = (actual - line) * here
    pairs = (here[1:] & here[:-1]).sum(axis=0) / here.sum(axis=0)
    power = (left**2).sum(axis=0)
    rho = (left[1:] * left[:-1]).sum(axis=0) / power / pairs
    return np.sqrt(power / ((line * here) ** 2).sum(axis=0)), rho


def test_noise_leaves_night_wind_water_and_capacity_alone():
    given = series(2880)
    noisy = add_noise(given, GRID, rng=np.random.default_rng(0))
    assert (noisy.available[:, [0, 2]] == given.available[:, [0, 2]]).all()
    assert (noisy.load == given.load).all()
    sun = given.available[:, 1] > 0.0
    assert (noisy.available[~sun, 1] == 0.0).all()
    assert (noisy.available[sun, 1] != given.available[sun, 1]).mean() > 0.9
    loud = {"pv": Noise(2.0, 0.8, 0.0)}
    cut = add_noise(given, GRID, rng=np.random.default_rng(0), noise=loud).available
    assert (cut.min(), cut[:, 1].max(), cut[:, 3].max()) == (0.0, 100.0, 80.0)


def test_noise_hardly_moves_hourly_means_and_is_reproducible():
    given = series(2880)
    one = add_noise(given, GRID, rng=np.random.default_rng(0)).available
    assert (one == add_noise(given, GRID, rng=np.random.default_rng(0)).available).all()
    assert (one != add_noise(given, GRID, rng=np.random.default_rng(1)).available).any()
    before = given.available[:, 1].reshape(-1, 12).mean(axis=1)
    after = one[:, 1].reshape(-1, 12).mean(axis=1)
    within = (one[:, 1] - given.available[:, 1]).std()
    assert within > 2.0
    assert (after - before).std() < 0.35 * within
    assert after.mean() == pytest.approx(before.mean(), rel=0.01)


def test_noise_wants_steps_that_divide_the_hour():
    with pytest.raises(ValueError, match=r"7\.0 s does not divide"):
        add_noise(series(10, step=7.0), GRID, rng=np.random.default_rng(0))
    hourly = series(24, step=3600.0)
    same = add_noise(hourly, GRID, rng=np.random.default_rng(0)).available
    assert same == pytest.approx(hourly.available, abs=1e-12)
    part = series(30)
    assert add_noise(part, GRID, rng=np.random.default_rng(0)).length == 30


@pytest.fixture(scope="module")
def rts():
    from fairlead.simulators.power.files.rts_gmlc import read_grid
    from fairlead.simulators.power.files.rts_series import available_days, day_ahead, real_time

    grid = read_grid(RTS)
    # The whole year but for the days that the data leave out (15 to 18 July).
    days = available_days(RTS)
    gaps = [i for i in range(1, len(days)) if (days[i] - days[i - 1]).days > 1]
    spans = [(part[0], len(part)) for part in np.split(np.array(days), gaps)]

    def year(read):
        parts = [read(RTS, grid, first, count) for first, count in spans]
        return [np.concatenate([getattr(p, name) for p in parts]) for name in ("load", "available")]

    kinds = np.array(grid.units.kind)[grid.units.renewable]
    capacity = grid.units.high[grid.units.renewable]
    first = date(2020, 1, 1)
    sunny = real_time(RTS, grid, first)
    return SimpleNamespace(
        grid=grid,
        kinds=kinds,
        capacity=capacity,
        ahead=year(day_ahead),
        actual=year(real_time),
        first=(day_ahead(RTS, grid, first).available, sunny.available),
        series=sunny,
    )


def _equal(found, stated):
    assert found.ceiling == pytest.approx(stated.ceiling, rel=0.01)
    assert found.time == pytest.approx(stated.time, rel=0.01)
    assert found.shape == pytest.approx(stated.shape, abs=0.01)
    assert found.common == pytest.approx(stated.common, abs=0.01)
    assert found.of == stated.of


@needs_data
def test_built_in_load_and_wind_errors_are_those_of_the_year(rts):
    _equal(calibrate(rts.ahead[0], rts.actual[0], step=300.0), LOAD)
    wind = rts.kinds == "wind"
    found = calibrate(
        rts.ahead[1][:, wind], rts.actual[1][:, wind], step=300.0, capacity=rts.capacity[wind]
    )
    _equal(found, ERRORS["wind"])


@needs_data
def test_wind_model_fits_the_spread_of_a_corrected_day_ahead_forecast_by_lead(rts):
    wind = rts.kinds == "wind"
    hourly, actual = rts.ahead[1][:, wind], rts.actual[1][:, wind]
    times = (np.arange(len(actual)) + 0.5) / 12
    hours = np.arange(len(hourly)) + 0.5
    line = np.stack([np.interp(times, hours, column) for column in hourly.T], axis=1)
    error = (actual - line * (actual.sum(axis=0) / line.sum(axis=0))) / rts.capacity[wind]
    for lead, tolerance in ((1, 0.1), (2, 0.15), (3, 0.15), (6, 0.15), (12, 0.15), (24, 0.15)):
        rho = (error[lead:] * error[:-lead]).mean(axis=0) / (error**2).mean(axis=0)
        left = np.median((error[lead:] - rho * error[:-lead]).std(axis=0))
        stated = ERRORS["wind"].std(np.array([lead * 300.0]))[0]
        assert stated == pytest.approx(left, rel=tolerance)


@needs_data
@pytest.mark.parametrize("kind", ["pv", "rtpv"])
def test_built_in_errors_of_the_sun_are_those_of_the_only_day(rts, kind):
    here = rts.kinds == kind
    _equal(calibrate(rts.first[0][:, here], rts.first[1][:, here], step=300.0), ERRORS[kind])


@needs_data
@pytest.mark.parametrize("kind", ["pv", "rtpv"])
def test_built_in_noise_has_the_spread_within_the_hour_of_the_only_day(rts, kind):
    here = rts.kinds == kind
    spread, rho = within_hours(rts.first[1][:, here])
    smooth = rts.series.available.copy()
    means = smooth.reshape(24, 12, -1).mean(axis=1)
    times = (np.arange(288) + 0.5) / 12
    smooth = np.stack([np.interp(times, np.arange(24) + 0.5, m) for m in means.T], axis=1)
    flat = Series(rts.series.start, 300.0, rts.series.load, smooth, rts.series.reserve)
    made = []
    for seed in range(20):
        noisy = add_noise(flat, rts.grid, rng=np.random.default_rng(seed))
        made.append(within_hours(noisy.available[:, here]))
    assert np.median([m[0] for m in made]) == pytest.approx(np.median(spread), rel=0.1)
    if kind == "pv":
        assert np.median([m[1] for m in made]) == pytest.approx(np.median(rho), abs=0.05)
    else:
        # Smoother than any autoregression of first order: those stay below 0.70.
        assert np.median(rho) > 0.8
        assert np.median([m[1] for m in made]) > 0.6


@needs_data
def test_five_minute_water_is_a_line_between_hours(rts):
    here = rts.kinds == "hydro"
    hourly, fine = rts.first[0][:, here], rts.first[1][:, here]
    ends = np.concatenate([hourly[:1], hourly])
    line = np.stack(
        [np.interp((np.arange(288) + 1) / 12, np.arange(25), column) for column in ends.T], axis=1
    )
    assert np.abs(fine - line).max() < 0.01
    assert "hydro" not in NOISE
    assert "hydro" not in ERRORS
