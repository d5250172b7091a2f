"""Multi-period dispatch and unit commitment: closed forms, seams, and PGLib-UC's proven intervals.

Every PGLib-UC instance of the data folder is solved under a time limit and judged by a validator
that shares no code with the model. Where an interval is known, two rigorous things must hold
whatever the time: the objective is not below the proven bound, and the solver's own bound is not
above the known objective. That the objective also beats the known one needs the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ...models.power.commitment import UnitCommitment
from ...models.power.feasibility import judge
from ...models.power.multiperiod import MultiPeriodDispatch
from ...models.power.multiperiod_bound import lower_bound
from ...models.power.multiperiod_inputs import DispatchInputs, DispatchState, StorageEnd
from ...simulators.interface import Doubles, Ints
from ...simulators.power.curves import stack
from ...simulators.power.files.pglib_uc import read_instance
from ...simulators.power.grid import Curves, Grid, Storages, check_grid
from ...simulators.tables import search_folders
from ..rows import Row
from .power_cases import Lines, bare_grid
from .suites import Check, skipped

HOUR = 3600.0
TIME_LIMIT = 120.0
"""Seconds of search per instance."""
PATIENT = 180.0
"""Seconds where the known interval needs them on a busy machine."""


@dataclass(frozen=True, slots=True)
class Known:
    """Interval of an instance's optimum: ``bound`` is proven, ``objective`` was found, $."""

    bound: float
    objective: float
    seconds: float


KNOWN = {
    "rts_gmlc_2020-07-06": Known(3_728_088.0, 3_732_900.0, TIME_LIMIT),
    "rts_gmlc_2020-01-27": Known(1_226_689.50, 1_243_703.98, PATIENT),
}
"""HiGHS on the library's own model, with 43 s and 92 s of search."""


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """Closed forms; instances in ``pglib_uc`` of the data folder (quick: only relaxations)."""
    found = [
        Check("storage arbitrage", arbitrage, 0.2),
        Check("horizon seams", seams, 0.5),
        Check("charging and discharging at once", at_once, 0.1),
    ]
    for path in instances(data):
        name = path.name.removesuffix(".gz").removesuffix(".json")
        seconds = KNOWN[name].seconds if name in KNOWN else TIME_LIMIT
        run = partial(commitment, path, seconds, relaxed_only=quick)
        found.append(Check(f"PGLib-UC {name}", run, 5.0 if quick else seconds))
    return found


def instances(data: Path | None) -> Sequence[Path]:
    """PGLib-UC files, plain or gzip, in the order of their names."""
    if data is None:
        return []
    folders = [folder / "pglib_uc" for folder in search_folders(data)]
    return sorted(path for folder in folders for path in folder.glob("*.json*"))


def arbitrage() -> list[Row]:
    """A storage charges at p1 and discharges at p2 if and only if p2 times efficiency is above."""
    rows: list[Row] = []
    first, power = 20.0, 10.0
    for efficiency in (0.7, 0.85, 1.0):
        for second in (first, 0.99 * first / efficiency, 1.01 * first / efficiency, 60.0):
            grid = _grid(np.array([first, second]), efficiency=efficiency, stored=0.0)
            high = np.array([[1000.0, 0.0], [0.0, 1000.0]])
            problem = MultiPeriodDispatch(grid, horizon=2, step=HOUR, wear=0.0)
            solved = problem.solve(
                DispatchState(np.zeros(2), np.zeros(1)),
                DispatchInputs(
                    load=np.full(2, 100.0),
                    low=np.zeros((2, 2)),
                    high=high,
                    end=StorageEnd.free(1),
                ),
            )
            gain = max(power * (efficiency * second - first), 0.0)
            name = (
                f"storage arbitrage, efficiency {efficiency:g}, prices {first:g} and {second:.4g}"
            )
            cost = 100.0 * (first + second) - gain
            rows.append(Row.near(f"{name}: cost", solved.objective, "$", cost, 1e-6))
            charged = power if efficiency * second > first * (1 + 1e-9) else 0.0
            if efficiency * second != first:
                rows.append(
                    Row.near(f"{name}: charged", float(solved.charge[0, 0]), "MW", charged, 1e-7)
                )
    return rows


def seams() -> list[Row]:
    """Ramps, state of charge and balance over the seams of a rolling horizon of 5 minutes."""
    grid = _grid(np.array([10.0, 30.0, 80.0]), efficiency=0.8, stored=10.0, ramp=15.0)
    horizon, steps, hours = 12, 144, 1.0 / 12.0
    clock = np.arange(steps + horizon)
    load = 1500.0 + 900.0 * np.sin(clock / 12.0) + 60.0 * np.sin(2.5 * clock)
    problem = MultiPeriodDispatch(grid, horizon=horizon, step=300.0)
    high = np.full((horizon, 3), 1000.0)
    state = start = DispatchState(np.array([1000.0, 500.0, 0.0]), np.array([10.0]))
    limit = grid.units.ramp * 5.0
    steepest = recursion = unmet = both = spent = outside = 0.0
    for t in range(steps):
        given = DispatchInputs(
            load=load[t : t + horizon], low=0.0 * high, high=high, end=StorageEnd.free(1, 20.0)
        )
        solved = problem.solve(state, given)
        path = np.concatenate([state.power[None], solved.power])
        steepest = max(steepest, float((np.abs(np.diff(path, axis=0)) - limit).max()))
        energy = np.concatenate([state.soc[None], solved.soc])
        gained = hours * (0.8 * solved.charge - solved.discharge)
        recursion = max(recursion, float(np.abs(np.diff(energy, axis=0) - gained).max()))
        outside = max(outside, float((solved.soc - 20.0).max()), float(-solved.soc.min()))
        supply = solved.power.sum(1) + (solved.discharge - solved.charge).sum(1)
        supply += solved.shed[:, 0] - solved.surplus
        unmet = max(unmet, float(np.abs(supply - given.load).max()))
        both = max(both, float(np.minimum(solved.charge, solved.discharge).max()))
        prices = problem.layout.prices
        slack = prices.shed * solved.shed[0, 0] + prices.surplus * solved.surplus[0]
        spent += float(solved.cost[0]) + slack * hours
        state = DispatchState(solved.power[0], solved.soc[0])
    always = np.full((steps, 3), 1000.0)
    whole = DispatchInputs(load=load[:steps], low=0.0 * always, high=always)
    bound = lower_bound(grid, whole, start, step=300.0)
    name = f"rolling horizon, {steps} steps of 5 minutes"
    return [
        Row.at_most(f"{name}: largest step beyond a ramp limit", steepest, "MW", 1e-7),
        Row.at_least(f"{name}: a ramp limit binds", steepest, "MW", -1e-7),
        Row.at_most(f"{name}: error of the state of charge", recursion, "MWh", 1e-7),
        Row.at_most(f"{name}: state of charge outside its limits", outside, "MWh", 1e-7),
        Row.at_most(f"{name}: error of the balance", unmet, "MW", 1e-6),
        Row.at_most(f"{name}: charge and discharge at once", both, "MW", 1e-7),
        Row.at_least(f"{name}: cost above perfect foresight's bound", spent, "$", bound.value),
        Row.near(
            f"{name}: perfect foresight, dual bound",
            bound.value,
            "$",
            bound.objective,
            1e-6 * bound.objective,
        ),
    ]


def at_once() -> list[Row]:
    """Where waste pays (a surplus that costs), storages still do not run in circles."""
    grid = _grid(np.array([10.0]), efficiency=0.5, stored=20.0)
    given = DispatchInputs(
        load=np.full(3, 40.0),
        low=np.full((3, 1), 60.0),
        high=np.full((3, 1), 1000.0),
        end=StorageEnd.fixed(np.array([20.0])),
    )
    state = DispatchState(np.array([60.0]), np.array([20.0]))
    loose = MultiPeriodDispatch(grid, horizon=3, step=HOUR, relaxed=True).solve(state, given)
    solved = MultiPeriodDispatch(grid, horizon=3, step=HOUR).solve(state, given)
    name = "surplus at a price"
    wasted = float(np.minimum(loose.charge, loose.discharge).max())
    both = float(np.minimum(solved.charge, solved.discharge).max())
    return [
        Row.at_least(f"{name}: at once in the linear relaxation", wasted, "MW", 1.0),
        Row.at_most(f"{name}: at once in the dispatch", both, "MW", 0.0),
        Row.at_least(f"{name}: objective above the bound", solved.objective, "$", loose.objective),
        Row.near(f"{name}: reported bound", solved.lower_bound, "$", loose.objective, 1e-6),
    ]


def commitment(path: Path, seconds: float, *, relaxed_only: bool) -> list[Row]:
    """One instance: relaxation, search under a time limit, and the judgement of what it found."""
    case = read_instance(path)
    name = f"PGLib-UC {case.name}"
    known = KNOWN.get(case.name)
    problem = UnitCommitment(case)
    if relaxed_only:
        rows = [skipped(f"{name}: search", f"quick; it takes up to {seconds:g} s")]
        if known is None:
            return rows
        what = f"{name}: linear relaxation"
        return [*rows, Row.at_most(what, problem.relax().objective, "$", known.objective)]
    relaxed = problem.relax()
    found = problem.solve(time_limit=seconds)
    verdict = judge(case, found)
    first = "none" if not verdict.violations else verdict.violations[0]
    rows = [
        Row.at_most(f"{name}: linear relaxation", relaxed.objective, "$", found.objective),
        Row.at_least(f"{name}: objective above its bound", found.objective, "$", found.bound),
        Row.near(
            f"{name}: violations found by the validator (first: {first})",
            len(verdict.violations),
            "1",
            0,
            0.0,
        ),
        Row.near(
            f"{name}: cost recomputed by the validator",
            verdict.cost,
            "$",
            found.objective,
            1e-6 * found.objective,
        ),
        Row.info(f"{name}: gap ({found.status})", 100.0 * found.gap, "%"),
        Row.info(f"{name}: search", found.seconds, "s"),
    ]
    if known is None:
        return rows
    above = f"{name}: objective, at least the known bound"
    below = f"{name}: objective, at most the known one"
    return [
        Row.at_least(above, found.objective, "$", known.bound),
        Row.at_most(below, found.objective, "$", known.objective),
        Row.at_most(
            f"{name}: own bound below the known objective", found.bound, "$", known.objective
        ),
        *rows,
    ]


def _grid(marginal: Doubles, *, efficiency: float, stored: float, ramp: float = np.inf) -> Grid:
    """One bus, units of 1 GW at these marginal costs, and a storage of 10 MW and 20 MWh."""
    count = marginal.shape[0]
    none: Ints = np.zeros(0, dtype=np.int64)
    empty = np.zeros(0)
    points = np.array([0.0, 1000.0])
    curve: Curves = stack([(points, points * price) for price in marginal.tolist()])
    lines = Lines(none, none, empty, empty, empty)
    bus = np.zeros(count, dtype=np.int64)
    grid = bare_grid("one bus", np.zeros(1), lines, bus, curve)
    storage = Storages(
        name=("storage",),
        bus=np.zeros(1, dtype=np.int64),
        power=np.array([10.0]),
        energy=np.array([20.0]),
        efficiency=np.array([efficiency]),
        initial=np.array([stored]),
    )
    units = replace(grid.units, ramp=np.full(count, ramp))
    return check_grid(replace(grid, units=units, storages=storage))
