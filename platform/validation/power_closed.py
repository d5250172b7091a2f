"""The power domain's models against closed forms and against each other: what needs no data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ...models.power.costs import chord_error
from ...models.power.dcopf import DcOpf, Dispatch, Interval, SlackPrices
from ...models.power.dcopf_quadratic import QuadraticDcOpf
from ...models.power.economic import merit_order, quadratic_dispatch
from ...models.power.pyomo_dispatch import PyomoDcOpf, economic_pyomo
from ...simulators.power.curves import chords
from ...simulators.power.network import Network
from ..rows import Row
from .power_cases import meshed, one_line, pjm_five, two_buses
from .power_flows import flow_checks
from .suites import Check

STEP = 1e-4
"""MW of a finite difference."""


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All closed forms of dispatch and network; ``data`` is not looked at."""
    del data
    seeds = range(3 if quick else 20)
    return [
        Check("three units of Wood and Wollenberg", three_units, 0.1),
        Check("random units against Pyomo", partial(random_units, seeds), 0.5),
        Check("random quadratic units", partial(quadratic_units, 20 if quick else 200), 1.5),
        Check("PJM's five buses", five_buses, 0.2),
        Check("congestion between two buses", congestion, 0.1),
        Check("prices and rents of random grids", partial(prices, seeds), 1.0),
        *flow_checks(seeds=seeds),
    ]


def three_units() -> list[Row]:
    """Example 3A of Wood, Wollenberg, Sheble, and the derivative of its dispatch."""
    quadratic = np.array([[0.001562, 7.92, 561.0], [0.00194, 7.85, 310.0], [0.00482, 7.97, 78.0]])
    low, high = np.array([150.0, 100.0, 50.0]), np.array([600.0, 400.0, 200.0])
    done = quadratic_dispatch(quadratic, low, high, 850.0)
    more = quadratic_dispatch(quadratic, low, high, 850.0 + STEP)
    slope = (more.power - done.power) / STEP
    name = "three units, 850 MW"
    return [
        Row.near(f"{name}: incremental cost", done.price, "$/MWh", 9.1483, 5e-5),
        *(
            Row.near(f"{name}: unit {row + 1}", power, "MW", printed, 5e-3)
            for row, (power, printed) in enumerate(
                zip(done.power.tolist(), (393.17, 334.60, 122.23), strict=True)
            )
        ),
        Row.near(f"{name}: cost", done.cost, "$/h", 8194.36, 5e-3),
        Row.near(f"{name}: balance", done.power.sum(), "MW", 850.0, 1e-9),
        Row.near(
            f"{name}: derivative of the dispatch against finite difference",
            np.abs(slope - done.response).max(),
            "1",
            0.0,
            1e-6,
        ),
        Row.near(f"{name}: sum of the derivative", done.response.sum(), "1", 1.0, 1e-12),
    ]


def random_units(seeds: range) -> list[Row]:
    """Merit order against a linear program, and its price against finite differences."""
    worst_cost = worst_price = 0.0
    for seed in seeds:
        units = meshed(seed, 60).units
        rng = np.random.default_rng(seed)
        demand = units.low.sum() + rng.uniform(0.1, 0.9) * (units.high - units.low).sum()
        on = rng.random(units.low.shape[0]) < 0.9
        demand = min(demand, 0.95 * units.high[on].sum())
        done = merit_order(units.curve, demand, on=on)
        other = economic_pyomo(units.curve, demand, low=units.low, high=units.high, on=on)
        more = merit_order(units.curve, demand + STEP, on=on)
        worst_cost = max(worst_cost, abs(done.cost - other.cost))
        worst_price = max(worst_price, abs((more.cost - done.cost) / STEP - done.next_price))
    name = f"merit order, {len(seeds)} random systems of 30 units"
    return [
        Row.near(f"{name}: cost against HiGHS by Pyomo", worst_cost, "$/h", 0.0, 1e-6),
        Row.near(f"{name}: price against finite difference", worst_price, "$/MWh", 0.0, 1e-3),
    ]


def quadratic_units(instances: int) -> list[Row]:
    """Equal incremental cost against chords (with their error bound) and HiGHS's quadratic program.

    Up to 1,000 units; the quadratic program takes those of up to 60, and its refused answers count.
    """
    below = above = derivative = program = 0.0
    solved = refused = 0
    for seed in range(instances):
        rng = np.random.default_rng(seed)
        count = int(rng.choice([3, 10, 60, 1000]))
        quadratic = np.stack(
            [rng.uniform(1e-3, 0.05, count), rng.uniform(5, 50, count), rng.uniform(0, 500, count)],
            axis=1,
        )
        low = rng.uniform(0.0, 50.0, count)
        high = low + rng.uniform(0.0, 300.0, count)
        demand = float(low.sum() + rng.uniform(0.05, 0.95) * (high - low).sum())
        done = quadratic_dispatch(quadratic, low, high, demand)
        linear = merit_order(chords(quadratic, low, high, 40), demand)
        bound = float(chord_error(quadratic, (high - low) / 40).sum())
        below = max(below, (done.cost - linear.cost) / done.cost)
        above = max(above, (linear.cost - done.cost - bound) / done.cost)
        more = quadratic_dispatch(quadratic, low, high, demand + STEP)
        if np.array_equal((more.power < high) & (more.power > low), done.response > 0.0):
            error = np.abs((more.power - done.power) / STEP - done.response).max()
            derivative = max(derivative, float(error))
        if count <= 60:
            form = QuadraticDcOpf(one_line(demand, quadratic, low, high))
            other = form.solve()
            solved, refused = solved + 1, refused + form.fallbacks
            if other.form == "qp":
                program = max(program, abs(other.cost / done.cost - 1.0))
    name = f"equal incremental cost, {instances} random systems"
    return [
        Row.at_most(f"{name}: above the cost of chords", below, "1", 1e-12),
        Row.at_most(f"{name}: chords above it by more than their bound", above, "1", 1e-12),
        Row.near(f"{name}: derivative against finite difference", derivative, "1", 0.0, 1e-5),
        Row.near(f"{name}: HiGHS's quadratic program, {solved} systems", program, "1", 0.0, 1e-6),
        Row.info(f"{name}: refused answers of the quadratic program", refused, "1"),
    ]


def five_buses() -> list[Row]:
    """Dispatch, prices and cost of PJM's five buses, with the highspy and the Pyomo form."""
    network = Network(pjm_five(), convention="r-x")
    expected_power = (40.0, 170.0, 323.4948, 0.0, 466.5052)
    expected_lmp = (16.9774, 26.3845, 30.0, 39.9427, 10.0)
    rows: list[Row] = []
    for form, done in (
        ("highspy", DcOpf(network).solve()),
        ("Pyomo", PyomoDcOpf(network).solve()),
    ):
        name = f"PJM-5, {form}"
        rows += [
            *(
                Row.near(f"{name}: unit {row + 1}", value, "MW", expected_power[row], 1e-3)
                for row, value in enumerate(done.power.tolist())
            ),
            *(
                Row.near(f"{name}: price of bus {row + 1}", value, "$/MWh", expected_lmp[row], 1e-3)
                for row, value in enumerate(done.lmp.tolist())
            ),
            Row.near(f"{name}: cost", done.cost, "$/h", 17479.8969, 1e-3),
            Row.near(f"{name}: flow 4-5", done.flow[5], "MW", -240.0, 1e-6),
        ]
    return rows


def congestion() -> list[Row]:
    """Two buses: price difference, rent, and what the limit is worth."""
    done = DcOpf(Network(two_buses(60.0), convention="x")).solve()
    wider = DcOpf(Network(two_buses(60.0 + STEP), convention="x")).solve()
    rent = float(done.congestion @ done.flow)
    return [
        Row.near("two buses: flow at its limit", done.flow[0], "MW", 60.0, 1e-9),
        Row.near("two buses: price difference", done.lmp[1] - done.lmp[0], "$/MWh", 20.0, 1e-9),
        Row.near("two buses: congestion rent", rent, "$/h", 1200.0, 1e-6),
        Row.near("two buses: cost", done.cost, "$/h", 2000.0, 1e-6),
        Row.near(
            "two buses: value of a MW of limit against finite difference",
            (done.cost - wider.cost) / STEP,
            "$/MWh",
            float(done.congestion[0]),
            1e-4,
        ),
    ]


def prices(seeds: range) -> list[Row]:
    """LMPs between the finite differences, rents adding up, Pyomo's duals equal to ours."""
    outside = rent_error = cost_error = lmp_error = 0.0
    congested = 0
    for seed in seeds:
        network = Network(meshed(seed), convention="x-tap")
        opf = DcOpf(network, slack=SlackPrices())
        done = opf.solve()
        outside = max(outside, _outside(opf, done, network))
        rent_error = max(rent_error, _rent_error(network, done))
        other = PyomoDcOpf(network, slack=SlackPrices()).solve()
        cost_error = max(cost_error, abs(other.objective / done.objective - 1.0))
        lmp_error = max(lmp_error, float(np.abs(other.lmp - done.lmp).max()))
        congested += bool((np.abs(done.congestion) > 1e-6).any())
    name = f"{len(seeds)} random grids"
    return [
        Row.at_least(f"{name}: with congestion", congested, "1", len(seeds) // 2),
        Row.near(f"{name}: price outside its finite differences", outside, "$/MWh", 0.0, 1e-3),
        Row.near(
            f"{name}: paid by loads less paid to units less rents", rent_error, "$/h", 0.0, 1e-6
        ),
        Row.near(f"{name}: cost, PTDF form against Pyomo in angles", cost_error, "1", 0.0, 1e-9),
        Row.near(f"{name}: prices, PTDF form against Pyomo", lmp_error, "$/MWh", 0.0, 1e-5),
    ]


def _outside(opf: DcOpf, done: Dispatch, network: Network) -> float:
    """How far a price lies outside the costs of one step less and one step more of load."""
    worst, load = 0.0, network.grid.buses.load
    for bus in range(0, network.buses, 5):
        step = STEP * (np.arange(network.buses) == bus)
        up = (opf.solve(Interval(load=load + step)).objective - done.objective) / STEP
        down = (done.objective - opf.solve(Interval(load=load - step)).objective) / STEP
        worst = max(worst, float(done.lmp[bus] - up), float(down - done.lmp[bus]))
    return worst


def _rent_error(network: Network, done: Dispatch) -> float:
    grid = network.grid
    served = grid.buses.load - done.shed + done.surplus
    paid = float(done.lmp @ served - done.lmp[grid.units.bus] @ done.power)
    return abs(paid - float(done.congestion @ (done.flow - network.offset)))
