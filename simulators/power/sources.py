"""Where the days of each scenario come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..interface import Bools, Doubles
from ..streams import Streams
from ..tables import locate
from .files import rts_gmlc as rts
from .files.matpower import read_case
from .files.matpower_changes import read_area_loads
from .files.pglib_uc import read_instance, to_grid
from .files.plexos import read_solution
from .files.rts_series import available_days, day_ahead, has_measured_sun, real_time
from .forecasts import add_noise
from .generated import generate
from .generated_series import generate_forecast, generate_series
from .grid import Grid
from .scenario import ActivsgScenario, CaliforniaScenario, GeneratedScenario, RtsScenario
from .series import Series

TRAINING_SEEDS = 2**62
"""Seeds from here on are of training; they get other days than those below."""

EVALUATION_EVERY = 4
"""Every such day (for longer episodes: block of days) is kept for evaluation."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A day.

    Attributes:
        actual: five-minute values; day_ahead: hourly forecast over the same time.
        plan: ``[H, U]`` given commitment of the grid's units, or ``None``.
    """

    actual: Series
    day_ahead: Series
    plan: Bools | None = None


Days = Callable[[int, int], Chosen]
"""Seed and number of intervals to a day (or several)."""


def pick(seed: int, days: int, length: int) -> int:
    """First of ``length`` days among ``days``: every fourth (block of days) for evaluation seeds.

    Evaluation seeds 0, 1, ... go through their days in turn, spread over the year; training seeds
    draw from the others.
    """
    last = max(days - length + 1, 1)
    everyday = np.arange(last)
    # Blocks of an episode's length, so that longer episodes have no day in common either.
    place = everyday % (EVALUATION_EVERY * length)
    held = place == (EVALUATION_EVERY - 1) * length
    if not held.any():
        return int(seed % last)
    if seed >= TRAINING_SEEDS:
        rest = everyday[place <= (EVALUATION_EVERY - 2) * length]
        return int(rest[Streams(seed).generator("day").integers(rest.size)])
    own = everyday[held]
    # A stride without common divisor goes through all of them, far apart from each other.
    stride = next(step for step in range(37, 37 + own.size) if np.gcd(step, own.size) == 1)
    return int(own[(seed * stride) % own.size])


def generated(scenario: GeneratedScenario) -> tuple[Grid, Days]:
    """A generated grid; every seed is another day of it."""
    grid = generate(scenario.units, seed=scenario.system)

    def days(seed: int, intervals: int) -> Chosen:
        count = _whole_days(intervals, 288)
        actual = generate_series(grid, seed=seed, days=count)
        return Chosen(actual, generate_forecast(grid, seed=seed, days=count))

    return grid, days


def rts_gmlc(scenario: RtsScenario) -> tuple[Grid, Days]:
    """RTS-GMLC and its days of 2020."""
    folder = locate("rts_gmlc/source/gen.csv", scenario.data).parents[1]
    grid = _all_curtailable(rts.read_grid(folder))
    present = available_days(folder)
    reference = None
    if scenario.commitment == "plexos":
        commitment = locate("rts_gmlc/plexos_reference/allTX/commitment.csv", scenario.data)
        reference = read_solution(commitment.parent, grid)
        first, last = reference.times[0], reference.times[-1]
        present = [day for day in present if first <= np.datetime64(day) <= last]
    chosen = [_known_day(folder, text, present) for text in scenario.days]

    def days(seed: int, intervals: int) -> Chosen:
        count = _whole_days(intervals, 288)
        if chosen:
            first = chosen[seed % len(chosen)]
        else:
            starts = _starts(tuple(present), count)
            first = starts[pick(seed, len(starts) + count - 1, count)]
        actual = real_time(folder, grid, first, count)
        if not has_measured_sun(folder, first, count):
            actual = add_noise(actual, grid, rng=Streams(seed).generator("five-minute noise"))
        plan = None
        if reference is not None:
            hour = int((np.datetime64(first) - reference.times[0]) / np.timedelta64(1, "h"))
            plan = reference.commitment[hour : hour + 24 * count] > 0.5
        return Chosen(actual, day_ahead(folder, grid, first, count), plan)

    return grid, days


def _all_curtailable(grid: Grid) -> Grid:
    """The grid with rooftop units that take set points like other ones."""
    units = replace(grid.units, curtailable=grid.units.curtailable | grid.units.renewable)
    return replace(grid, units=units)


def activsg(scenario: ActivsgScenario) -> tuple[Grid, Days]:
    """ACTIVSg2000 and its hourly area loads, straight lines between the hours."""
    grid = read_case(locate("activsg/case_ACTIVSg2000.m", scenario.data), segments=4, area="area")
    year = read_area_loads(locate("activsg/scenarios_ACTIVSg2000.m", scenario.data), grid)
    return grid, _of_year(grid, year)


def california(scenario: CaliforniaScenario) -> tuple[Grid, Days]:
    """California's two days of PGLib-UC."""
    path = locate("pglib_uc/ca_2014-09-01_reserves_3.json", scenario.data)
    grid, hours = to_grid(read_instance(path))
    return grid, _of_year(grid, hours)


def hourly(actual: Series) -> Series:
    """Hourly means of a series."""
    block = round(3600.0 / actual.step)

    def means(values: Doubles) -> Doubles:
        whole = values[: values.shape[0] // block * block]
        return whole.reshape(-1, block, *values.shape[1:]).mean(axis=1)

    return Series(
        actual.start, 3600.0, means(actual.load), means(actual.available), means(actual.reserve)
    )


def finer(hours: Series, step: float) -> Series:
    """Straight lines between the middles of the hours, every ``step`` seconds."""
    block = round(hours.step / step)
    middle = np.arange(hours.length) * block + (block - 1) / 2.0
    every = np.arange(hours.length * block)

    def lines(values: Doubles) -> Doubles:
        flat = values.reshape(hours.length, -1)
        drawn = [np.interp(every, middle, flat[:, column]) for column in range(flat.shape[1])]
        shape = (every.size, *values.shape[1:])
        return np.stack(drawn, axis=1).reshape(shape) if drawn else np.zeros(shape)

    return Series(
        hours.start, step, lines(hours.load), lines(hours.available), lines(hours.reserve)
    )


def _of_year(grid: Grid, hours: Series) -> Days:
    def days(seed: int, intervals: int) -> Chosen:
        count = _whole_days(intervals, 288)
        whole = hours.length // 24
        first = pick(seed, whole, count) if whole > 1 else 0
        ahead = hours.between(24 * first, 24 * (first + count))
        if ahead.length < 24 * count:
            raise ValueError(
                f"grid {grid.name!r}: its series has {whole} days, an episode needs {count}; "
                "choose fewer hours"
            )
        noise = Streams(seed).generator("five-minute noise")
        return Chosen(add_noise(finer(ahead, 300.0), grid, rng=noise), ahead)

    return days


def _whole_days(intervals: int, per_day: int) -> int:
    return -(-intervals // per_day)


@lru_cache(maxsize=16)
def _starts(present: tuple[date, ...], count: int) -> list[date]:
    """Days that ``count - 1`` more present days follow."""
    known = {day.toordinal() for day in present}
    return [
        day for day in present if all(day.toordinal() + later in known for later in range(count))
    ]


def _known_day(folder: Path, text: str, present: list[date]) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise DataError(folder, field="days", value=text, accepted="a day as YYYY-MM-DD") from error
    if day not in present:
        span = f"{present[0]} to {present[-1]}" if present else "none"
        raise DataError(
            folder, field="days", value=text, accepted=f"a day that the series have ({span})"
        )
    return day
