"""Days of a generated system: load by area, wind, sun and water in 5-minute steps, from a seed.

- Load has a daily shape with two peaks, lower week-ends, a yearly season, and slow noise that is
  partly common to all areas.
- Wind is an Ornstein-Uhlenbeck process, common to an area and of each farm, through a power curve.
- Sun is the height above a horizon at 35 degrees north, dimmed by drifting clouds.
- Water is a level for the whole period that follows the hours of high load a little.

The day-ahead forecast is the hourly mean with errors of a usual size. Any grid whose renewable
units are hydro, wind and sun can be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf

import numpy as np

from ..interface import Doubles, Ints
from .grid import Grid
from .series import Series

_STEP = 300.0
_SLOTS = 288
_LATITUDE = np.deg2rad(35.0)
_LOAD_LIMIT = 1.05
_RESERVE = 0.04
_LOAD_ERROR, _WIND_ERROR, _SUN_ERROR = 0.015, 0.15, 0.15
_NORMAL = np.array([0.5 * (1.0 + erf(z / np.sqrt(2.0))) for z in np.linspace(-6.0, 6.0, 2401)])


@dataclass(frozen=True, slots=True)
class _Clock:
    """``[T]`` hour of the day, day of the week (0: Monday), day of the year."""

    hour: Doubles
    weekday: Ints
    day: Doubles


def generate_series(grid: Grid, *, seed: int, days: int = 1) -> Series:
    """What happens on ``days`` days of the year 2021, the first of which the seed draws.

    The load of an area is at most 105 % of its buses' nominal load; reserve is 4 % of all load.

    Raises:
        ValueError: fewer than one day, or a renewable unit of a kind without a process.
    """
    if days < 1:
        raise ValueError(f"days = {days}: at least one is needed")
    rng = np.random.default_rng([seed, 1])
    start = np.datetime64("2021-01-01", "D") + int(rng.integers(365))
    clock = _clock(start, days)
    load = _load(grid, clock, rng)
    available = _available(grid, clock, rng)
    reserve = _RESERVE * load.sum(axis=1)
    return Series(start.astype("datetime64[s]"), _STEP, load, available, reserve)


def generate_forecast(grid: Grid, *, seed: int, days: int = 1) -> Series:
    """The hourly day-ahead forecast of the same days.

    Hourly means with errors of 1.5 % of the load, 15 % of wind capacity and 15 % of the sun's
    output (standard deviations, correlated over a few hours); water is known.
    """
    actual = generate_series(grid, seed=seed, days=days)
    rng = np.random.default_rng([seed, 2])
    hours = 24 * days
    load = actual.load.reshape(hours, 12, -1).mean(axis=1)
    available = actual.available.reshape(hours, 12, -1).mean(axis=1)
    kinds, high = _renewables(grid)
    load = load * (1.0 + _LOAD_ERROR * _drift(hours, load.shape[1], 1.0, 6.0, rng))
    error = _drift(hours, len(kinds), 1.0, 4.0, rng)
    wind, sun = kinds == "wind", np.isin(kinds, ("pv", "rtpv"))
    available[:, wind] += _WIND_ERROR * error[:, wind] * high[wind]
    available[:, sun] *= 1.0 + _SUN_ERROR * error[:, sun]
    available = np.clip(available, 0.0, high)
    return Series(actual.start, 3600.0, load, available, _RESERVE * load.sum(axis=1))


def _clock(start: np.datetime64, days: int) -> _Clock:
    slots = np.arange(days * _SLOTS)
    date = start + slots // _SLOTS
    # 1970-01-01 was a Thursday.
    weekday = (date.astype(np.int64) + 3) % 7
    year = date - date.astype("datetime64[Y]").astype("datetime64[D]")
    hour = (slots % _SLOTS).astype(np.float64) / 12.0 + 1.0 / 24.0
    return _Clock(hour, weekday, year.astype(np.float64))


def _drift(steps: int, width: int, step: float, memory: float, rng: np.random.Generator) -> Doubles:
    """``[steps, width]`` Ornstein-Uhlenbeck paths of unit variance; times in h."""
    keep = np.exp(-step / memory)
    paths = rng.standard_normal((steps, width))
    paths[1:] *= np.sqrt(1.0 - keep**2)
    for at in range(1, steps):
        paths[at] += keep * paths[at - 1]
    return paths


def _normal(z: Doubles) -> Doubles:
    """Distribution function of the standard normal, from a table (error below 1e-5)."""
    return np.interp(z, np.linspace(-6.0, 6.0, _NORMAL.size), _NORMAL)


def _load(grid: Grid, clock: _Clock, rng: np.random.Generator) -> Doubles:
    areas = len(grid.buses.areas)
    peak = np.bincount(grid.buses.area, weights=grid.buses.load, minlength=areas)
    morning = np.exp(-(((clock.hour - 9.5) / 2.5) ** 2))
    evening = np.exp(-(((clock.hour - 18.5) / 3.0) ** 2))
    midday = np.exp(-(((clock.hour - 14.0) / 4.0) ** 2))
    shape = 0.6 + 0.16 * morning + 0.3 * evening + 0.12 * midday
    shape *= np.where(clock.weekday >= 5, 0.92, 1.0)
    shape *= 0.94 + 0.06 * np.cos(4.0 * np.pi * (clock.day - 15.0) / 365.0)
    common = _drift(clock.hour.size, 1, _STEP / 3600.0, 18.0, rng)
    own = _drift(clock.hour.size, areas, _STEP / 3600.0, 3.0, rng)
    noise = 1.0 + 0.02 * common + 0.012 * own
    return np.minimum(shape[:, None] * noise, _LOAD_LIMIT) * peak.astype(np.float64)


def _renewables(grid: Grid) -> tuple[np.ndarray, Doubles]:
    """Kind and capacity of the renewable units, in order."""
    columns = np.flatnonzero(grid.units.renewable)
    return np.array([grid.units.kind[unit] for unit in columns]), grid.units.high[columns]


def _available(grid: Grid, clock: _Clock, rng: np.random.Generator) -> Doubles:
    kinds, high = _renewables(grid)
    unknown = set(kinds) - {"wind", "pv", "rtpv", "hydro"}
    if unknown:
        raise ValueError(f"no process for renewable units of kind {', '.join(sorted(unknown))}")
    area = grid.buses.area[grid.units.bus[grid.units.renewable]]
    areas = len(grid.buses.areas)
    share = np.zeros((clock.hour.size, len(kinds)))
    for names, process in ((("wind",), _wind), (("pv", "rtpv"), _sun), (("hydro",), _water)):
        chosen = np.isin(kinds, names)
        share[:, chosen] = process(clock, area[chosen], areas, rng)
    return share * high


def _latent(
    clock: _Clock, area: Ints, areas: int, memory: tuple[float, float], rng: np.random.Generator
) -> Doubles:
    """``[T, units]`` of unit variance: 60 % common to the area, 40 % of each unit."""
    steps, step = clock.hour.size, _STEP / 3600.0
    common = _drift(steps, areas, step, memory[0], rng)[:, area]
    return np.sqrt(0.6) * common + np.sqrt(0.4) * _drift(steps, area.size, step, memory[1], rng)


def _wind(clock: _Clock, area: Ints, areas: int, rng: np.random.Generator) -> Doubles:
    return _normal(1.3 * _latent(clock, area, areas, (48.0, 20.0), rng) - 0.5)


def _sun(clock: _Clock, area: Ints, areas: int, rng: np.random.Generator) -> Doubles:
    declination = -np.deg2rad(23.44) * np.cos(2.0 * np.pi * (clock.day + 10.0) / 365.0)
    turn = np.deg2rad(15.0 * (clock.hour - 12.0))
    height = np.sin(_LATITUDE) * np.sin(declination) + (
        np.cos(_LATITUDE) * np.cos(declination) * np.cos(turn)
    )
    clear = np.clip(height, 0.0, None) ** 1.15
    cloud = _normal(1.5 * _latent(clock, area, areas, (8.0, 0.7), rng) - 0.8)
    return clear[:, None] * (1.0 - 0.75 * cloud)


def _water(clock: _Clock, area: Ints, areas: int, rng: np.random.Generator) -> Doubles:
    level = rng.uniform(0.35, 0.75, areas)[area]
    follow = 1.0 + 0.2 * np.sin(2.0 * np.pi * (clock.hour - 9.0) / 24.0)
    return np.clip(level * follow[:, None], 0.0, 1.0)
