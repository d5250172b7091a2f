"""PGLib-UC instances (JSON): unit commitment on a copper plate, with its state at the start.

Format: the repository's README. Hours are intervals here; all instances of the library are hourly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...interface import Bools, Doubles, Ints
from ...tables import open_text
from ..curves import stack
from ..grid import Branches, Buses, Curves, Grid, Units, check_grid, no_dc_lines, no_storages
from ..series import Series

_KINDS = {"WIND": "wind", "PV": "pv", "RTPV": "rtpv", "HYDRO": "hydro", "CSP": "csp"}


@dataclass(frozen=True, slots=True)
class Thermals:
    """Thermal units, ``[G]`` each unless said otherwise.

    Attributes:
        low, high: MW while on.
        must_run: cannot be off.
        ramp_up, ramp_down: MW per interval.
        ramp_start, ramp_stop: most output in the first, and before the last, interval on.
        min_up, min_down: intervals.
        on: at the start; power: MW then; up, down: intervals in that state so far (0 in the other).
        start_lag: ``[G, S]`` intervals off from which a category of start applies, ascending;
            ``inf`` where a unit has fewer categories.
        start_cost: ``[G, S]`` $ (the last one repeated).
        curve: production cost, from ``low`` to ``high``.
    """

    name: tuple[str, ...]
    low: Doubles
    high: Doubles
    must_run: Bools
    ramp_up: Doubles
    ramp_down: Doubles
    ramp_start: Doubles
    ramp_stop: Doubles
    min_up: Ints
    min_down: Ints
    on: Bools
    power: Doubles
    up: Ints
    down: Ints
    start_lag: Doubles
    start_cost: Doubles
    curve: Curves


@dataclass(frozen=True, slots=True)
class CommitmentInstance:
    """One unit commitment problem over T intervals of an hour.

    Attributes:
        name: of the file, without its ending.
        demand: ``[T]`` MW; reserves: ``[T]`` MW of spinning reserve.
        thermals: thermal units.
        renewables: names of the others.
        renewable_low, renewable_high: ``[T, W]`` MW between which they may be.
    """

    name: str
    demand: Doubles
    reserves: Doubles
    thermals: Thermals
    renewables: tuple[str, ...]
    renewable_low: Doubles
    renewable_high: Doubles


def read_instance(path: str | Path) -> CommitmentInstance:
    """Read an instance, plain or gzip.

    Raises:
        DataError: no JSON (with the line), a missing key, a value that is no number or out of
            range, a series of another length than ``time_periods``; the field is the path to it.
    """
    path = Path(path)
    with open_text(path) as stream:
        text = stream.read()
    try:
        document = json.loads(text)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise DataError(path, line=line, accepted=f"not valid JSON ({error})") from error
    root = _Node(path, "", document)
    periods = root.whole("time_periods", low=1)
    renewables = root.children("renewable_generators")
    low, high = (
        np.stack([unit.series(f"power_output_{end}", periods) for unit in renewables], axis=1)
        if renewables
        else np.zeros((periods, 0))
        for end in ("minimum", "maximum")
    )
    for column, unit in enumerate(renewables):
        if (low[:, column] > high[:, column]).any():
            unit.fail("power_output_minimum", None, "at most the maximum is expected")
    return CommitmentInstance(
        name=path.name.removesuffix(".gz").removesuffix(".json"),
        demand=root.series("demand", periods),
        reserves=root.series("reserves", periods),
        thermals=_thermals(root.children("thermal_generators")),
        renewables=tuple(unit.name for unit in renewables),
        renewable_low=low,
        renewable_high=high,
    )


def to_grid(instance: CommitmentInstance) -> tuple[Grid, Series]:
    """The instance as a grid of one bus, and its series.

    Units are the thermals, then the renewables, in the instance's order. What a grid has no place
    for stays in the instance: must-run, the state at the start, ramps of starts and stops, lower
    bounds of renewables. Ramps are the smaller of up and down. Renewables whose bounds are equal
    throughout cannot be curtailed.

    Raises:
        GridError: a cost curve that is not convex.
        ValueError: more than three categories of starts.
    """
    thermals, high = instance.thermals, instance.renewable_high
    after, cost = _three_starts(thermals)
    count, weather = len(thermals.name), len(instance.renewables)
    peak = high.max(axis=0) if weather else np.zeros(0)
    zeros, none = np.zeros(count + weather), np.zeros(weather)
    flat = np.stack([none, peak], axis=1)
    curve = stack(
        [
            *zip(thermals.curve.power, thermals.curve.cost, strict=True),
            *((power, np.zeros(2)) for power in flat),
        ]
    )
    free = (instance.renewable_low < high).any(axis=0)
    grid = Grid(
        name=instance.name,
        base=100.0,
        buses=Buses(
            name=("1",),
            load=np.array([instance.demand.max()]),
            shunt=np.zeros(1),
            area=np.zeros(1, dtype=np.int64),
            areas=("1",),
        ),
        branches=_no_branches(),
        dc_lines=no_dc_lines(),
        units=Units(
            name=(*thermals.name, *instance.renewables),
            bus=np.zeros(count + weather, dtype=np.int64),
            kind=("thermal",) * count + tuple(_kind(name) for name in instance.renewables),
            low=np.concatenate([thermals.low, none]),
            high=np.concatenate([thermals.high, peak]),
            curve=curve,
            quadratic=np.full((count + weather, 3), np.nan),
            ramp=np.concatenate(
                [np.minimum(thermals.ramp_up, thermals.ramp_down) / 60.0, none + np.inf]
            ),
            min_up=np.concatenate([thermals.min_up.astype(np.float64), none]),
            min_down=np.concatenate([thermals.min_down.astype(np.float64), none]),
            start_hours=np.zeros((count + weather, 3)),
            start_after=np.concatenate([after, np.zeros((weather, 3))]),
            start_cost=np.concatenate([cost, np.zeros((weather, 3))]),
            mttf=zeros + np.inf,
            mttr=zeros,
            inertia=zeros.copy(),
            renewable=np.arange(count + weather) >= count,
            curtailable=np.concatenate([np.zeros(count, dtype=np.bool_), free]),
        ),
        storages=no_storages(),
        reference=0,
        flexible=np.zeros(1),
    )
    day = re.search(r"\d{4}-\d{2}-\d{2}", instance.name)
    start = np.datetime64(day[0] if day else "1970-01-01", "s")
    return check_grid(grid), Series(
        start, 3600.0, instance.demand[:, None], high, instance.reserves
    )


def _no_branches() -> Branches:
    empty, index = np.zeros(0), np.zeros(0, dtype=np.int64)
    return Branches((), index, index, *(empty,) * 9)


def _kind(name: str) -> str:
    found = [_KINDS[part] for part in name.upper().split("_") if part in _KINDS]
    return found[0] if found else "renewable"


def _three_starts(thermals: Thermals) -> tuple[Doubles, Doubles]:
    """``[G, 3]`` hours off and cost of hot, warm and cold starts."""
    categories = thermals.start_lag.shape[1]
    if categories > 3:
        raise ValueError(f"{categories} categories of starts; a grid has three: hot, warm, cold")
    after = np.zeros((len(thermals.name), 3))
    cost = np.repeat(thermals.start_cost[:, -1:], 3, axis=1)
    cost[:, :categories] = thermals.start_cost
    for column in range(1, 3):
        lag = thermals.start_lag[:, min(column, categories - 1)]
        # Of fewer than three categories the last one is warm and cold, from the same hour on.
        known = np.isfinite(lag) & (categories > 1)
        after[:, column] = np.where(known, lag, after[:, column - 1])
    return after, cost


def _thermals(units: list[_Node]) -> Thermals:
    names = tuple(unit.name for unit in units)
    lags, costs, points = [], [], []
    for unit in units:
        lag, cost = unit.pairs("startup", "lag", "cost")
        power, price = unit.pairs("piecewise_production", "mw", "cost")
        lags.append(lag)
        costs.append(cost)
        points.append((power, price))
    widest = max((len(lag) for lag in lags), default=1)
    low = _column(units, "power_output_minimum")
    high = _column(units, "power_output_maximum")
    for row, unit in enumerate(units):
        power = points[row][0]
        if low[row] > high[row]:
            unit.fail("power_output_minimum", low[row], "at most the maximum is expected")
        if not np.allclose(power[[0, -1]], (low[row], high[row]), rtol=1e-6, atol=1e-6):
            accepted = f"points from {low[row]:g} to {high[row]:g} MW are expected"
            unit.fail("piecewise_production", f"{power[0]:g} to {power[-1]:g}", accepted)
        power[0], power[-1] = low[row], high[row]
    return Thermals(
        name=names,
        low=low,
        high=high,
        must_run=_column(units, "must_run") > 0.0,
        ramp_up=_column(units, "ramp_up_limit"),
        ramp_down=_column(units, "ramp_down_limit"),
        ramp_start=_column(units, "ramp_startup_limit"),
        ramp_stop=_column(units, "ramp_shutdown_limit"),
        min_up=_whole_column(units, "time_up_minimum"),
        min_down=_whole_column(units, "time_down_minimum"),
        on=_column(units, "unit_on_t0") > 0.0,
        power=_column(units, "power_output_t0"),
        up=_whole_column(units, "time_up_t0"),
        down=_whole_column(units, "time_down_t0"),
        start_lag=_padded(lags, widest, math.inf),
        start_cost=_padded(costs, widest, None),
        curve=stack(points),
    )


def _column(units: list[_Node], key: str) -> Doubles:
    return np.array([unit.number(key) for unit in units], dtype=np.float64)


def _whole_column(units: list[_Node], key: str) -> Ints:
    return np.array([unit.whole(key) for unit in units], dtype=np.int64)


def _padded(rows: Sequence[Doubles], width: int, fill: float | None) -> Doubles:
    table = np.empty((len(rows), width))
    for at, row in enumerate(rows):
        table[at, : len(row)] = row
        table[at, len(row) :] = row[-1] if fill is None else fill
    return table


class _Node:
    """An object of the document with the path to it, for messages."""

    def __init__(self, file: Path, name: str, value: Any, parent: str = "") -> None:
        self.file, self.name = file, name
        self.place = f"{parent}.{name}" if parent else name
        if not isinstance(value, dict):
            raise DataError(
                file, field=self.place or None, value=value, accepted="an object is expected"
            )
        self.value: dict[str, Any] = value

    def fail(self, key: str, value: object, accepted: str) -> None:
        field = f"{self.place}.{key}" if self.place else key
        raise DataError(self.file, field=field, value=value, accepted=accepted)

    def get(self, key: str) -> Any:
        if key not in self.value:
            self.fail(key, None, "missing")
        return self.value[key]

    def number(self, key: str) -> float:
        value = self.get(key)
        if not _is_amount(value):
            self.fail(key, value, "a finite number of at least 0 is expected")
        return float(value)

    def whole(self, key: str, *, low: int = 0) -> int:
        value = self.number(key)
        if value != round(value) or value < low:
            self.fail(key, value, f"a whole number of at least {low} is expected")
        return round(value)

    def series(self, key: str, length: int) -> Doubles:
        values = self.get(key)
        if not isinstance(values, list) or len(values) != length:
            found = len(values) if isinstance(values, list) else values
            self.fail(key, found, f"{length} numbers are expected, as time_periods says")
        for at, value in enumerate(values):
            if not _is_amount(value):
                self.fail(f"{key}[{at}]", value, "a finite number of at least 0 is expected")
        return np.array(values, dtype=np.float64)

    def children(self, key: str) -> list[_Node]:
        inside = _Node(self.file, key, self.get(key), self.place)
        return [_Node(self.file, name, value, key) for name, value in inside.value.items()]

    def pairs(self, key: str, first: str, second: str) -> tuple[Doubles, Doubles]:
        """Two columns of a list of objects; the first must ascend."""
        values = self.get(key)
        if not isinstance(values, list) or not values:
            self.fail(key, values, "a list of at least one point is expected")
        nodes = [_Node(self.file, f"{key}[{at}]", v, self.place) for at, v in enumerate(values)]
        left = np.array([node.number(first) for node in nodes])
        right = np.array([node.number(second) for node in nodes])
        if (np.diff(left) <= 0.0).any():
            self.fail(key, left.tolist(), f"ascending values of {first} are expected")
        return left, right


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
