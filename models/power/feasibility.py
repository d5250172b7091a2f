"""Whether a commitment is feasible and what it costs, judged without any optimisation model.

Walks through every unit's hours as an operator would and compares with the instance alone; it
shares no code and no formulation with ``commitment``. Its cost is recomputed from the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.files.pglib_uc import CommitmentInstance

TOLERANCE = 1e-4
"""MW that a limit may be missed by."""


class Schedule(Protocol):
    """What is judged; shapes as in ``commitment.CommitmentSolution``."""

    @property
    def on(self) -> Bools: ...

    @property
    def power(self) -> Doubles: ...

    @property
    def reserve(self) -> Doubles: ...

    @property
    def renewable(self) -> Doubles: ...

    @property
    def shed(self) -> Doubles: ...

    @property
    def surplus(self) -> Doubles: ...

    @property
    def short(self) -> Doubles: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an independent look finds.

    Attributes:
        violations: every broken rule in words (unit, interval, found, allowed); empty if feasible.
        cost: $ of production and starts, recomputed (shedding and missing reserve are not in it).
        starts: number of starts.
    """

    violations: tuple[str, ...]
    cost: float
    starts: int


def judge(
    instance: CommitmentInstance, schedule: Schedule, *, tolerance: float = TOLERANCE
) -> Verdict:
    """Check a schedule against every rule of its instance.

    Raises:
        ValueError: arrays of another shape than the instance, or numbers that are not finite.
    """
    periods, count = instance.demand.shape[0], len(instance.thermals.name)
    for name, array, shape in (
        ("on", schedule.on, (periods, count)),
        ("power", schedule.power, (periods, count)),
        ("reserve", schedule.reserve, (periods, count)),
        ("renewable", schedule.renewable, (periods, len(instance.renewables))),
        ("shed", schedule.shed, (periods,)),
        ("surplus", schedule.surplus, (periods,)),
        ("short", schedule.short, (periods,)),
    ):
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"schedule.{name}: {array.shape}, finite numbers {shape} expected")
    found = _system(instance, schedule, tolerance)
    cost, starts = 0.0, 0
    for unit in range(count):
        found += _run_lengths(instance, unit, schedule.on[:, unit])
        found += _limits(instance, unit, schedule, tolerance)
        found += _ramps(instance, unit, schedule, tolerance)
        money, begun = _unit_cost(instance, unit, schedule)
        cost, starts = cost + money, starts + begun
    return Verdict(violations=tuple(found), cost=cost, starts=starts)


def _system(instance: CommitmentInstance, schedule: Schedule, tolerance: float) -> list[str]:
    found: list[str] = []
    for t in range(instance.demand.shape[0]):
        given = sum(schedule.power[t].tolist()) + sum(schedule.renewable[t].tolist())
        given += float(schedule.shed[t]) - float(schedule.surplus[t])
        if abs(given - instance.demand[t]) > tolerance * len(instance.thermals.name):
            found.append(f"interval {t}: {given:.6g} MW for a demand of {instance.demand[t]:.6g}")
        held = sum(schedule.reserve[t].tolist()) + float(schedule.short[t])
        if held < instance.reserves[t] - tolerance * len(instance.thermals.name):
            found.append(f"interval {t}: reserve {held:.6g} MW of {instance.reserves[t]:.6g}")
        for name, amount in (
            ("shed", schedule.shed[t]),
            ("surplus", schedule.surplus[t]),
            ("missing reserve", schedule.short[t]),
        ):
            if amount < -tolerance:
                found.append(f"interval {t}: {name} of {amount:.6g} MW is negative")
        for w, name in enumerate(instance.renewables):
            power = schedule.renewable[t, w]
            low, high = instance.renewable_low[t, w], instance.renewable_high[t, w]
            if not low - tolerance <= power <= high + tolerance:
                found.append(
                    f"{name}, interval {t}: {power:.6g} MW, allowed {low:.6g} to {high:.6g}"
                )
    return found


def _run_lengths(instance: CommitmentInstance, unit: int, on: Bools) -> list[str]:
    """Minimum up and down times with the hours before the start; the last run may be cut."""
    units = instance.thermals
    history = bool(units.on[unit])
    before = int(units.up[unit] if history else units.down[unit])
    runs = [(history, before)]
    for state, hours in groupby(bool(value) for value in on.tolist()):
        length = len(list(hours))
        if runs[-1][0] == state:
            runs[-1] = (state, runs[-1][1] + length)
        else:
            runs.append((state, length))
    found: list[str] = []
    for state, length in runs[:-1]:
        least = int(units.min_up[unit] if state else units.min_down[unit])
        if length < least:
            word = "on" if state else "off"
            found.append(f"{units.name[unit]}: {word} for {length} intervals, at least {least}")
    return found


def _limits(
    instance: CommitmentInstance, unit: int, schedule: Schedule, tolerance: float
) -> list[str]:
    units, name, found = instance.thermals, instance.thermals.name[unit], list[str]()
    low, high = float(units.low[unit]), float(units.high[unit])
    for t, running in enumerate(schedule.on[:, unit].tolist()):
        power, reserve = float(schedule.power[t, unit]), float(schedule.reserve[t, unit])
        if units.must_run[unit] and not running:
            found.append(f"{name}, interval {t}: off, but it must run")
        least, most = (low, high) if running else (0.0, 0.0)
        if power < least - tolerance:
            found.append(f"{name}, interval {t}: {power:.6g} MW, below its minimum {least:.6g}")
        if power + reserve > most + tolerance:
            total = f"{power:.6g} MW and {reserve:.6g} MW of reserve"
            found.append(f"{name}, interval {t}: {total}, above its maximum {most:.6g}")
        if reserve < -tolerance:
            found.append(f"{name}, interval {t}: reserve {reserve:.6g} MW is negative")
    return found


def _ramps(
    instance: CommitmentInstance, unit: int, schedule: Schedule, tolerance: float
) -> list[str]:
    """Ramps of the output above the minimum, and limits around a start and a stop."""
    units, name, found = instance.thermals, instance.thermals.name[unit], list[str]()
    low = float(units.low[unit])
    was_on, was = bool(units.on[unit]), float(units.power[unit])
    was_held = 0.0
    for t, running in enumerate(schedule.on[:, unit].tolist()):
        power, held = float(schedule.power[t, unit]), float(schedule.reserve[t, unit])
        rise = (power - low if running else 0.0) - (was - low if was_on else 0.0)
        if rise + held > units.ramp_up[unit] + tolerance:
            found.append(
                f"{name}, interval {t}: rises by {rise:.6g} MW with {held:.6g} MW of reserve, "
                f"ramp {units.ramp_up[unit]:.6g}"
            )
        if -rise > units.ramp_down[unit] + tolerance:
            found.append(
                f"{name}, interval {t}: falls by {-rise:.6g} MW, ramp {units.ramp_down[unit]:.6g}"
            )
        first, last = running and not was_on, was_on and not running
        if first and power + held > max(units.ramp_start[unit], low) + tolerance:
            found.append(
                f"{name}, interval {t}: {power + held:.6g} MW in its first interval on, at most "
                f"{units.ramp_start[unit]:.6g}"
            )
        if last and was + was_held > max(units.ramp_stop[unit], low) + tolerance:
            found.append(
                f"{name}, interval {t}: {was + was_held:.6g} MW before it stops, at most "
                f"{units.ramp_stop[unit]:.6g}"
            )
        was_on, was, was_held = running, power, held
    return found


def _unit_cost(instance: CommitmentInstance, unit: int, schedule: Schedule) -> tuple[float, int]:
    """$ of production and starts of one unit, and its starts."""
    units = instance.thermals
    power, cost = units.curve.power[unit], units.curve.cost[unit]
    points, first = np.unique(power, return_index=True)
    off = 0 if units.on[unit] else int(units.down[unit])
    running_before, total, starts = bool(units.on[unit]), 0.0, 0
    for t, running in enumerate(schedule.on[:, unit].tolist()):
        if running:
            total += float(np.interp(schedule.power[t, unit], points, cost[first]))
            if not running_before:
                starts += 1
                total += _start_cost(instance, unit, off)
            off = 0
        else:
            off += 1
        running_before = running
    return total, starts


def _start_cost(instance: CommitmentInstance, unit: int, off: int) -> float:
    """$ of a start after ``off`` intervals: the last category whose lag has passed."""
    lags = instance.thermals.start_lag[unit].tolist()
    costs = instance.thermals.start_cost[unit].tolist()
    paid = costs[0]
    for lag, cost in zip(lags, costs, strict=True):
        if lag <= off:
            paid = cost
    return float(paid)
