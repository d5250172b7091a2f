"""Forecasts of load, wind and sun that are wrong as real ones are, and noise within the hour.

The error of a forecast is built from innovations, one for every interval, that become known as time
passes: seen from epoch t, the interval t + k misses the innovations of t ... t + k,

    e(t, k) = sum over j = 0 ... k of w_j eps(t + k - j),       w_j^2 = v((j + 1) h) - v(j h).

So forecasts of one moment get better as it comes nearer, step by uncorrelated step (a martingale),
their variance v(lead) is as given, and neighbouring moments err alike. With v exponential in the
lead, e is an autoregression of first order (Box and Jenkins, Time Series Analysis, section 5.1.1
on forecast errors as moving averages); measured errors grow more slowly at first, hence the shape:

    v(lead) = ceiling^2 (1 - exp(-(lead / time)^shape)).

``calibrate`` measures the parameters: it takes the error of the day-ahead forecast, whose own last
value corrects it (the best linear nowcast), so that v(lead) = ceiling^2 (1 - rho(lead)^2) with
rho the error's autocorrelation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..interface import Doubles
from .grid import Grid, Units
from .series import Series

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """Standard deviation of forecast errors by lead, as shares of ``of``.

    Attributes:
        ceiling: at long leads.
        time: lead at which 63 % of the variance is reached (with any shape), s.
        shape: 1 for an autoregression of first order, more for errors that grow late.
        common: correlation of the errors of different units (areas) of the kind.
        of: what the share is of: ``capacity``, or ``actual`` (none at night).
    """

    ceiling: float
    time: float
    shape: float
    common: float
    of: Literal["capacity", "actual"] = "capacity"

    def variance(self, lead: Doubles) -> Doubles:
        """At leads in s."""
        return self.ceiling**2 * -np.expm1(-((lead / self.time) ** self.shape))

    def std(self, lead: Doubles) -> Doubles:
        """Standard deviation at leads in s."""
        return np.sqrt(self.variance(lead))


LOAD = ErrorModel(ceiling=0.0070, time=640.0, shape=1.39, common=0.21, of="actual")
"""Measured on RTS-GMLC's year. Its day-ahead load is the hourly mean of the real-time load times a
constant, so this is the error of a straight line within the hour; it holds no error of the day
ahead, which is a few per cent of the load where people forecast it."""

ERRORS: Mapping[str, ErrorModel] = {
    "wind": ErrorModel(ceiling=0.233, time=7780.0, shape=1.58, common=0.40),
    "pv": ErrorModel(ceiling=0.237, time=1490.0, shape=1.15, common=0.39, of="actual"),
    "rtpv": ErrorModel(ceiling=0.141, time=2220.0, shape=1.50, common=0.48, of="actual"),
    "csp": ErrorModel(ceiling=0.237, time=1490.0, shape=1.15, common=0.39, of="actual"),
}
"""Measured on RTS-GMLC: wind on the year, sun on its only 5-minute day (1 January); CSP, a single
plant, as PV. Units of other kinds (water) are foreseen: the data's 5-minute water is a straight
line between its day-ahead hours. ``tests/test_power_forecasts.py`` measures these figures again."""


class Forecaster:
    """Forecasts of one episode: what is expected of interval t + k when interval t begins.

    Args:
        series: what happens, T intervals.
        grid: kinds and capacities of the renewable units; areas.
        leads: L; lead k (0-based) is of interval t + k. Beyond the end the last interval counts.
        scale: multiple of the errors; with 0 forecasts are what happens, exactly.
        rng: draws of one interval follow those of the one before, so a longer episode or more leads
            change no earlier error.
        load, errors: error models of the load and, by kind, of the units.

    Attributes:
        load: ``[T, L, areas]`` MW.
        available: ``[T, L, V]`` MW, within 0 and capacity. (So the mean error is 0 but for what
            this cuts off.)

    Raises:
        ValueError: fewer than one lead, a negative scale.
    """

    def __init__(
        self,
        series: Series,
        grid: Grid,
        *,
        leads: int,
        scale: float,
        rng: np.random.Generator,
        load: ErrorModel = LOAD,
        errors: Mapping[str, ErrorModel] = ERRORS,
    ):
        if leads < 1 or not scale >= 0.0:
            raise ValueError(f"leads is {leads} and scale {scale}; expected at least 1 and 0")
        kinds, capacity = _renewable(grid.units)
        areas, count = series.load.shape[1], len(kinds)
        names = sorted(errors)
        drawn = rng.standard_normal((series.length + leads - 1, areas + count + 1 + len(names)))
        own, shared = drawn[:, : areas + count], drawn[:, areas + count :]
        target = np.minimum(np.arange(series.length)[:, None] + np.arange(leads), series.length - 1)
        future = series.load[target]
        missed = scale * _errors(load, own[:, :areas], shared[:, 0], leads, series.step)
        self.load: Doubles = np.maximum(future - missed * _size(load, future, np.ones(areas)), 0.0)
        self.available: Doubles = series.available[target]
        for place, name in enumerate(names):
            units = np.flatnonzero(kinds == name)
            if units.size == 0 or scale == 0.0:
                continue
            model = errors[name]
            missed = _errors(model, own[:, areas + units], shared[:, 1 + place], leads, series.step)
            future = self.available[:, :, units]
            top = np.maximum(capacity[units], future)
            missed *= scale * _size(model, future, capacity[units])
            self.available[:, :, units] = np.clip(future - missed, 0.0, top)


def _renewable(units: Units) -> tuple[NDArray[np.str_], Doubles]:
    which = np.flatnonzero(units.renewable)
    return np.array(units.kind)[which], units.high[which]


def _size(model: ErrorModel, future: Doubles, capacity: Doubles) -> Doubles:
    return future if model.of == "actual" else capacity


def _errors(model: ErrorModel, own: Doubles, shared: Doubles, leads: int, step: float) -> Doubles:
    """``[T, L, n]`` shares, from innovations ``[T + L - 1, n]`` and common ones ``[T + L - 1]``."""
    mixed = np.sqrt(model.common) * shared[:, None] + np.sqrt(1.0 - model.common) * own
    variance = model.variance(np.arange(leads + 1, dtype=np.float64) * step)
    weight = np.sqrt(np.diff(variance))
    lag = np.subtract.outer(np.arange(leads), np.arange(leads))
    table = np.where(lag >= 0, weight[np.maximum(lag, 0)], 0.0)
    windows = np.lib.stride_tricks.sliding_window_view(mixed, leads, axis=0)
    return table @ windows.transpose(0, 2, 1)


@dataclass(frozen=True, slots=True)
class Noise:
    """Autoregression of first order, as a share of what is available.

    Attributes:
        std: standard deviation.
        correlation: of values 5 minutes apart.
        common: correlation of different units.
    """

    std: float
    correlation: float
    common: float


NOISE: Mapping[str, Noise] = {
    "pv": Noise(std=0.129, correlation=0.80, common=0.09),
    "rtpv": Noise(std=0.090, correlation=0.95, common=0.20),
    "csp": Noise(std=0.129, correlation=0.80, common=0.09),
}
"""So that what is left within the hour has the spread and the correlation of RTS-GMLC's only
5-minute day of sun (rooftop units are smoother than an autoregression can be; CSP as PV). Water
has none: the data's 5-minute water is a straight line between hours."""


def add_noise(
    series: Series, grid: Grid, *, rng: np.random.Generator, noise: Mapping[str, Noise] = NOISE
) -> Series:
    """The series with synthetic clouds on its solar units, for days known by the hour only.

    The noise has no hourly mean to speak of (a straight line through its own hourly means is taken
    off), is a share of what is available (none at night), and leaves 0 and capacity alone. Series
    begin on a whole hour.

    Raises:
        ValueError: a step that does not divide the hour.
    """
    per_hour = round(HOUR / series.step)
    if per_hour < 1 or abs(per_hour * series.step - HOUR) > 1e-6:
        raise ValueError(f"a step of {series.step} s does not divide the hour")
    kinds, capacity = _renewable(grid.units)
    names = sorted(noise)
    length = -(-series.length // per_hour) * per_hour
    drawn = rng.standard_normal((length, len(kinds) + len(names)))
    available = series.available.copy()
    for place, name in enumerate(names):
        units = np.flatnonzero(kinds == name)
        if units.size == 0:
            continue
        model = noise[name]
        shared = np.sqrt(model.common) * drawn[:, len(kinds) + place, None]
        mixed = shared + np.sqrt(1.0 - model.common) * drawn[:, units]
        wave = _autoregression(mixed, model.correlation ** (series.step / 300.0)) * model.std
        wave -= _finer(wave.reshape(-1, per_hour, units.size).mean(axis=1), per_hour)
        here = available[:, units]
        top = np.maximum(capacity[units], here)
        available[:, units] = np.clip(here * (1.0 + wave[: series.length]), 0.0, top)
    return replace(series, available=available)


def _autoregression(drawn: Doubles, phi: float) -> Doubles:
    """Stationary, of unit variance."""
    wave = drawn * np.sqrt(1.0 - phi * phi)
    wave[0] = drawn[0]
    for row in range(1, len(wave)):
        wave[row] += phi * wave[row - 1]
    return wave


def calibrate(
    day_ahead: Doubles, actual: Doubles, *, step: float, capacity: Doubles | None = None
) -> ErrorModel:
    """Error model of one kind from hourly day-ahead and finer actual series.

    Day-ahead hours are joined by straight lines between their middles and scaled to the energy of
    the actual series, column by column: a constant factor is no error of a forecaster. Medians over
    columns keep one column with broken data from deciding.

    Args:
        day_ahead: ``[H, n]`` MW.
        actual: ``[T, n]`` MW over the same hours.
        step: of ``actual``, s.
        capacity: ``[n]`` MW; without it errors are relative to ``actual`` itself.

    Raises:
        ValueError: lengths that do not fit, a column without energy or without error, errors
            without memory.
    """
    per_hour = round(HOUR / step)
    if actual.shape[0] != day_ahead.shape[0] * per_hour or actual.shape[1:] != day_ahead.shape[1:]:
        raise ValueError(
            f"actual {actual.shape} in steps of {step} s does not cover day_ahead {day_ahead.shape}"
        )
    expected = _finer(day_ahead, per_hour)
    for column in np.flatnonzero((actual.sum(axis=0) <= 0.0) | (expected.sum(axis=0) <= 0.0)):
        raise ValueError(f"column {column} has no energy; expected some, day ahead and actual")
    expected = expected * (actual.sum(axis=0) / expected.sum(axis=0))
    error = actual - expected
    for column in np.flatnonzero(~error.any(axis=0)):
        raise ValueError(f"column {column} has no error at all; nothing can be measured")
    size = expected if capacity is None else np.broadcast_to(capacity, error.shape)
    power = (error**2).sum(axis=0) / (size**2).sum(axis=0)
    leads, kept = np.array([1, 2, 3, 6, 12, 24]), list[float]()
    for lead in leads:
        products = (error[lead:] * error[:-lead]).sum(axis=0)
        sizes = (size[lead:] * size[:-lead]).sum(axis=0)
        rho = float(np.median(products / sizes / power))
        if rho < 0.2:
            break
        kept.append(rho)
    if len(kept) < 2:
        raise ValueError(
            f"the error's correlation falls below 0.2 within two steps of {step} s ({kept}); "
            "expected an error that lasts"
        )
    seconds = leads[: len(kept)] * step
    shape, offset = np.polyfit(np.log(seconds), np.log(-2.0 * np.log(kept)), 1)
    return ErrorModel(
        ceiling=float(np.sqrt(np.median(power))),
        time=float(np.exp(-offset / shape)),
        shape=float(shape),
        common=_common(error),
        of="capacity" if capacity is not None else "actual",
    )


def _common(error: Doubles) -> float:
    """Mean correlation between columns (0 for one column)."""
    live = error[:, error.std(axis=0) > 0.0]
    if live.shape[1] < 2:
        return 0.0
    table: Doubles = np.atleast_2d(np.corrcoef(live.T))
    return float(max(table[np.triu_indices_from(table, 1)].mean(), 0.0))


def _finer(hourly: Doubles, per_hour: int) -> Doubles:
    """Straight lines between the middles of the hours."""
    hours = np.arange(len(hourly)) + 0.5
    times = (np.arange(len(hourly) * per_hour) + 0.5) / per_hour
    return np.stack([np.interp(times, hours, column) for column in hourly.T], axis=1)
