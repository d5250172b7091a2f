"""How fast the power model solves again after something has changed.

DC-OPF of PGLib cases and of RTS-GMLC hours, multi-period dispatch of 24 h, look-ahead dispatch of
12 x 5 min, and the batched economic dispatch in torch. Where a Pyomo form with a persistent solver
exists, it solves the same instances in the same run. Marks are what plain highspy, Pyomo and torch
took on an idle core (PGLib and RTS-GMLC figures: HiGHS's own run, without prices and flows, which
are part of ours). Where the data are not there, generated systems take their place, without marks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...models.power.dcopf import DcOpf, Interval
from ...models.power.differentiable import economic_dispatch
from ...models.power.dispatch_program import DispatchProgram
from ...models.power.pyomo_dispatch import PyomoDcOpf
from ...models.power.torch_costs import unit_costs
from ...simulators.errors import DataError
from ...simulators.interface import Doubles
from ...simulators.power.files.matpower import read_case
from ...simulators.power.files.pglib_uc import read_instance, to_grid
from ...simulators.power.generated import generate
from ...simulators.power.grid import Grid
from ...simulators.power.network import Network, Susceptance
from ...simulators.settings import Settings, knob
from ...simulators.tables import locate
from ..progress import Report
from ..rows import Row
from ..validation.power_plexos import Solved, read
from .hot_times import hot_seconds
from .power_lookahead import day_rows, horizon_rows

CASES = {"14_ieee": 0.02, "118_ieee": 0.11, "1354_pegase": 4.7}
"""PGLib cases, and ms that a hot re-solve may take."""
HOUR = 1.8
"""ms for one RTS-GMLC hour."""
BATCH, BATCH_LIMIT = 1024, 152.0
"""Members of the torch batch, and ms for it."""
SAME = 1e-6
"""Relative difference of two forms' objectives that counts as none."""


class Options(Settings):
    """What to measure."""

    data: Path | None = knob(None, "folder with the data (none: FAIRLEAD_DATA, ../shared/data)")
    passes: int = knob(5, "timed passes, of which the fastest counts", usual="3..10", ge=1)
    loads: int = knob(40, "changed loads of a pass", usual="20..200", ge=2)
    units: tuple[int, ...] = knob((20, 100, 600), "sizes of the systems that stand in for data")
    day: bool = knob(True, "also multi-period and look-ahead dispatch")
    pyomo: bool = knob(True, "also Pyomo's persistent form, for the ratio")
    seeds: int = knob(0, "seed of the changes", ge=0)
    quick: bool = knob(False, "smallest useful run")


@dataclass(frozen=True, slots=True)
class Instances:
    """A network and the intervals to solve one after another; ``limit`` ms each, if marked."""

    name: str
    network: Network
    intervals: list[Interval]
    limit: float | None


def run(options: Options, progress: Report) -> list[Row]:
    """Time every form; see the module."""
    if options.quick:
        options = options.model_copy(update={"passes": 2, "loads": 6, "units": (20, 50)})
    torch.set_num_threads(1)
    rts = _found("rts_gmlc/source/gen.csv", options.data)
    jobs: list[tuple[str, Callable[[], list[Row]]]] = [
        *_opf_jobs(options),
        ("RTS-GMLC hour", partial(_hour_rows, options, rts)),
        ("torch", partial(_batch_rows, options)),
    ]
    if options.day:
        jobs += [
            ("24 h", partial(day_rows, _solved(rts), options)),
            ("look-ahead", partial(horizon_rows, rts is not None, options)),
        ]
    rows: list[Row] = []
    for done, (what, job) in enumerate(jobs):
        progress(done, len(jobs), what)
        rows += job()
    progress(len(jobs), len(jobs), "done")
    return rows


def _opf_jobs(options: Options) -> list[tuple[str, Callable[[], list[Row]]]]:
    files = {case: _found(f"pglib_opf/pglib_opf_case{case}.m", options.data) for case in CASES}
    if any(path is None for path in files.values()):
        return [
            (f"{units} units", partial(_generated_rows, options, units)) for units in options.units
        ]
    return [
        (case, partial(_case_rows, options, path, CASES[case]))
        for case, path in files.items()
        if path is not None
    ]


def _case_rows(options: Options, path: Path, limit: float) -> list[Row]:
    grid = read_case(path)
    name = f"DC-OPF, PGLib {len(grid.buses.name)} buses"
    return opf_rows(_changed(options, name, grid, "r-x", limit), options)


def _generated_rows(options: Options, units: int) -> list[Row]:
    grid = generate(units, seed=0)
    name = f"DC-OPF, generated, {units} units"
    return opf_rows(_changed(options, name, grid, "x", None), options)


def _changed(
    options: Options, name: str, grid: Grid, convention: Susceptance, limit: float | None
) -> Instances:
    """Loads of 90 to 100 %, every bus 5 % around its own."""
    rng = np.random.default_rng(options.seeds)
    load = grid.buses.load
    changed = [
        Interval(load=load * rng.uniform(0.9, 1.0) * rng.uniform(0.95, 1.05, load.shape))
        for _ in range(options.loads)
    ]
    return Instances(name, Network(grid, convention=convention), changed, limit)


def opf_rows(given: Instances, options: Options) -> list[Row]:
    """Hot re-solves of one network, whole and HiGHS's part of it, and Pyomo's for the ratio."""
    opf = DcOpf(given.network)
    ours = 1e3 * hot_seconds([partial(opf.solve, one) for one in given.intervals], options.passes)
    name = f"{given.name}: hot re-solve"
    rows = [
        Row.info(name, ours, "ms")
        if given.limit is None
        else Row.at_most(name, ours, "ms", given.limit)
    ]
    if not opf.monitored and given.intervals[0].low is None:
        bare = 1e3 * hot_seconds(_bare(opf, given), options.passes)
        rows.append(Row.info(f"{name}, HiGHS's program alone", bare, "ms"))
    if not options.pyomo:
        return rows
    pyomo = PyomoDcOpf(given.network)
    some = given.intervals[:10]
    theirs = 1e3 * hot_seconds([partial(pyomo.solve, one) for one in some], options.passes)
    costs = np.array([[form.solve(one).objective for form in (opf, pyomo)] for one in some])
    apart = np.abs(costs[:, 0] - costs[:, 1]) / np.maximum(np.abs(costs[:, 1]), 1.0)
    return [
        *rows,
        Row.info(f"{given.name}: Pyomo's persistent form", theirs, "ms"),
        Row.at_least(f"{given.name}: Pyomo's time over ours", theirs / ours, "1", 1.0),
        Row.at_most(f"{given.name}: objectives apart, relative", float(apart.max()), "1", SAME),
    ]


def _bare(opf: DcOpf, given: Instances) -> list[Callable[[], object]]:
    """The balance's program of a network whose lines do not bind, with nothing around it."""
    units = given.network.grid.units
    columns = opf.segments.columns(units.low, units.high, np.ones(len(units.name), bool), units.low)
    program = DispatchProgram(price=opf.segments.price, fixed=np.ones((1, columns.upper.size)))
    program.set_columns(np.zeros(columns.upper.size), columns.upper)
    shunt, base = float(given.network.grid.buses.shunt.sum()), float(columns.base.sum())

    def solve(demand: Doubles) -> None:
        program.set_rows(demand, demand)
        program.solve()

    loads = [given.network.grid.buses.load if i.load is None else i.load for i in given.intervals]
    return [partial(solve, np.array([float(load.sum()) + shunt - base])) for load in loads]


def _hour_rows(options: Options, rts: Path | None) -> list[Row]:
    """Hours of PLEXOS's days, with its commitment."""
    solved = _solved(rts)
    if solved is None:
        return []
    count = min(options.loads, solved.on.shape[0])
    hours = [
        Interval(load=solved.load[t], low=solved.low[t], high=solved.high[t], on=solved.on[t])
        for t in range(count)
    ]
    wires = Network(solved.grid, convention="x")
    return opf_rows(Instances("DC-OPF, RTS-GMLC hour", wires, hours, HOUR), options)


def _batch_rows(options: Options) -> list[Row]:
    """Economic dispatch of a batch of demands in torch, one thread, float64."""
    path = _found("pglib_uc/ca_2014-09-01_reserves_3.json", options.data)
    grid = generate(max(options.units), seed=0) if path is None else to_grid(read_instance(path))[0]
    units, batch = grid.units, BATCH if not options.quick else 64
    rng = np.random.default_rng(options.seeds)
    low, high = torch.tensor(units.low), torch.tensor(units.high)
    share = torch.tensor(rng.uniform(0.1, 0.9, batch))
    load = low.sum() + share * (high - low).sum()
    costs = unit_costs(units)

    def solve() -> object:
        return economic_dispatch(costs, load, low, high)

    milliseconds = 1e3 * hot_seconds([solve] * 3, options.passes)
    source = "generated" if path is None else "California"
    name = f"torch economic dispatch, batch {batch}, {len(units.name)} units ({source})"
    error = float((economic_dispatch(costs, load, low, high).dispatch.sum(1) - load).abs().max())
    marked = path is not None and batch == BATCH
    time = Row.at_most(name, milliseconds, "ms", BATCH_LIMIT) if marked else None
    return [
        time or Row.info(name, milliseconds, "ms"),
        Row.info(f"{name}: of one dispatch", 1e3 * milliseconds / batch, "us"),
        Row.at_most(f"{name}: balance error", error, "MW", 1e-6),
    ]


def _solved(rts: Path | None) -> Solved | None:
    """PLEXOS's days with network, if they are there."""
    if rts is None:
        return None
    home = rts.parents[1]
    solution = home / "plexos_reference" / "allTX"
    return read(home, solution) if solution.is_dir() else None


def _found(name: str, data: Path | None) -> Path | None:
    """A data file; ``None`` where no folder was named and there is none.

    Raises:
        DataError: the folder was named and lacks it.
    """
    try:
        return locate(name, data)
    except DataError:
        if data is not None:
            raise
        return None
