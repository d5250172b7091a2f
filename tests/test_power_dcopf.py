"""DC-OPF: known dispatches and prices, duals against finite differences, three forms, outages."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from power_data import needed
from power_grids import random_curves, random_grid, small_grid

from fairlead.models.power.costs import Proximal
from fairlead.models.power.dcopf import DcOpf, Interval, SlackPrices
from fairlead.models.power.dcopf_quadratic import QuadraticDcOpf
from fairlead.models.power.economic import merit_order
from fairlead.models.power.pyomo_dispatch import PyomoDcOpf, economic_pyomo
from fairlead.simulators.power.files.matpower import read_case
from fairlead.simulators.power.grid import Grid
from fairlead.simulators.power.lodf import Topology, drop_branches
from fairlead.simulators.power.network import IslandError, Network


def pglib(case: str, segments: int = 50) -> Network:
    grid = read_case(needed("pglib_opf", f"pglib_opf_case{case}.m"), segments=segments)
    return Network(grid, convention="r-x")


def random_system(seed: int, *, rate: float = 50.0, dc: bool = True) -> Grid:
    """Buses, lines with limits, units with random curves, one DC line."""
    rng = np.random.default_rng(seed)
    lines = random_grid(24, 14, seed=seed).branches
    spots = [(int(bus), 0.0, 0.0) for bus in rng.integers(0, 24, 12)]
    grid = small_grid(
        24,
        [(0, 1, 0.1)],
        units=spots,
        dc=[(2, 20, 30.0)] if dc else [],
        load=rng.uniform(0, 25, 24),
    )
    curves = random_curves(rng, 12, 4)
    units = replace(grid.units, curve=curves, low=curves.power[:, 0], high=curves.power[:, -1])
    return replace(
        grid, units=units, branches=replace(lines, rate=np.full(37, rate), shift=0.2 * lines.shift)
    )


SLACK = SlackPrices()


def test_two_buses_share_one_limited_line():
    grid = small_grid(
        2,
        [(0, 1, 0.1)],
        units=[(0, 200.0, 10.0), (1, 200.0, 30.0)],
        load=[20.0, 100.0],
        rate=60.0,
    )
    done = DcOpf(Network(grid, convention="x")).solve()
    assert done.power == pytest.approx([80.0, 40.0]) and done.flow == pytest.approx([60.0])
    assert done.lmp == pytest.approx([10.0, 30.0])
    assert done.congestion == pytest.approx([20.0])
    assert done.congestion @ done.flow == pytest.approx(60.0 * (done.lmp[1] - done.lmp[0]))
    assert done.cost == done.objective == pytest.approx(2000.0)
    reverse = DcOpf(Network(grid, convention="x")).solve(Interval(load=np.array([180.0, -50.0])))
    assert reverse.flow == pytest.approx([-50.0]) and (reverse.congestion == 0.0).all()


@pytest.mark.parametrize("form", [DcOpf, PyomoDcOpf, QuadraticDcOpf])
def test_the_five_buses_of_pjm(form):
    done = form(pglib("5_pjm")).solve()
    assert done.power == pytest.approx([40.0, 170.0, 323.4948, 0.0, 466.5052], abs=1e-3)
    assert done.lmp == pytest.approx([16.9774, 26.3845, 30.0, 39.9427, 10.0], abs=1e-3)
    assert done.cost == pytest.approx(17479.8969, abs=1e-3)
    assert done.flow[5] == pytest.approx(-240.0)
    assert done.congestion[5] < 0.0 and (done.congestion[:5] == pytest.approx(0.0))


def test_published_costs_and_the_convention_they_need():
    with needed("pglib_opf", "baseline_v23.07.csv").open() as file:
        published = {row["case"]: float(row["dc_usd_per_h"]) for row in csv.DictReader(file)}
    for case in ("14_ieee", "24_ieee_rts", "39_epri", "118_ieee", "300_ieee"):
        cost = DcOpf(pglib(case)).solve().objective
        assert cost == pytest.approx(published[f"pglib_opf_case{case}"], rel=5e-5), case
    tapped = Network(pglib("30_ieee").grid, convention="x-tap")
    assert DcOpf(pglib("30_ieee")).solve().cost == pytest.approx(7472.8, abs=0.05)
    assert DcOpf(tapped).solve().cost == pytest.approx(7504.44, abs=0.005)


def test_a_failing_quadratic_program_is_replaced_counted_and_said():
    quadratic = QuadraticDcOpf(pglib("793_goc"))
    done = quadratic.solve()
    assert done.objective == pytest.approx(258310.0, rel=2e-5)
    assert (done.form, quadratic.solves, quadratic.fallbacks) == ("pwl", 1, 1)
    assert "solve error" in quadratic.failure
    fine = QuadraticDcOpf(pglib("3_lmbd"))
    assert fine.solve().objective == pytest.approx(5695.9, abs=0.05)
    assert fine.solve().form == "qp" and fine.fallbacks == 0


@pytest.mark.parametrize("seed", range(8))
def test_prices_are_finite_differences_and_rents_add_up(seed):
    network = Network(random_system(seed), convention="x-tap")
    grid = network.grid
    opf = DcOpf(network, slack=SLACK)
    done = opf.solve(hot=False)
    step = 1e-4
    for bus in range(0, network.buses, 3):
        more, less = grid.buses.load.copy(), grid.buses.load.copy()
        more[bus] += step
        less[bus] -= step
        up = (opf.solve(Interval(load=more)).objective - done.objective) / step
        down = (done.objective - opf.solve(Interval(load=less)).objective) / step
        assert down - 1e-4 <= done.lmp[bus] <= up + 1e-4
    buses = np.arange(network.buses)
    served = grid.buses.load - done.shed + done.surplus
    paid = done.lmp @ served - done.lmp[grid.units.bus] @ done.power
    cable = done.dc_flow @ (done.lmp[grid.dc_lines.end] - done.lmp[grid.dc_lines.start])
    rent = done.congestion @ (done.flow - network.offset)
    assert paid == pytest.approx(rent + cable, rel=1e-6, abs=1e-6)
    assert (done.congestion @ done.flow >= -1e-9) and cable >= -1e-9
    injection = network.injection(done.power, load=served, dc=done.dc_flow)
    assert injection.sum() == pytest.approx(0.0, abs=1e-7)
    assert network.flows(injection) == pytest.approx(done.flow, abs=1e-6)
    assert (done.flow <= network.high + 1e-6).all() and (done.flow >= network.low - 1e-6).all()
    assert len(buses) == 24 and done.status == "optimal"


@pytest.mark.parametrize("seed", range(8))
def test_the_pyomo_form_agrees_while_both_are_re_solved(seed):
    network = Network(random_system(seed, rate=20.0), convention="x-tap")
    grid, rng = network.grid, np.random.default_rng(seed)
    fast, readable = DcOpf(network, slack=SLACK), PyomoDcOpf(network, slack=SLACK)
    congested = 0
    for _ in range(6):
        on = rng.random(12) < 0.8
        low = grid.units.low * rng.uniform(0.5, 1.0, 12)
        interval = Interval(
            load=grid.buses.load * rng.uniform(0.3, 1.5, 24),
            low=low,
            high=np.maximum(low, grid.units.high * rng.uniform(0.5, 1.0, 12)),
            on=on,
            dc_limit=np.array([rng.uniform(0.0, 30.0)]),
        )
        one, other = fast.solve(interval), readable.solve(interval)
        assert one.objective == pytest.approx(other.objective, rel=1e-6)
        assert one.cost == pytest.approx(
            one.objective - SLACK.shed * one.shed.sum() - SLACK.surplus * one.surplus.sum(),
            rel=1e-9,
        )
        assert (one.power[~on] == 0.0).all()
        assert one.lmp == pytest.approx(other.lmp, abs=1e-6)
        assert one.congestion == pytest.approx(other.congestion, abs=1e-5)
        congested += bool(np.abs(one.congestion).max() > 1.0)
    assert congested >= 1


@pytest.mark.parametrize("seed", range(10))
def test_without_limits_it_is_the_merit_order_and_pyomo_says_so_too(seed):
    grid = random_system(seed, rate=np.inf, dc=False)
    demand = float(grid.buses.load.sum())
    done = DcOpf(Network(grid, convention="x")).solve()
    order = merit_order(grid.units.curve, demand)
    assert done.objective == pytest.approx(order.cost, rel=1e-9)
    assert order.price - 1e-9 <= done.lmp[0] <= order.next_price + 1e-9
    on = np.arange(12) != 3
    third = economic_pyomo(
        grid.units.curve, demand, low=grid.units.low, high=grid.units.high, on=on
    )
    assert third.cost == pytest.approx(merit_order(grid.units.curve, demand, on=on).cost, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_outages_are_those_of_the_rebuilt_network_and_hot_equals_cold(seed):
    grid = random_system(seed)
    network = Network(grid, convention="x-tap")
    topology, opf = Topology(network), DcOpf(network, slack=SLACK)
    rng = np.random.default_rng(seed)
    for branch in rng.permutation(network.branches)[:8].tolist():
        if topology.splits(branch):
            continue
        topology.open(branch)
        load = grid.buses.load * rng.uniform(0.6, 1.3, 24)
        hot = opf.solve(Interval(load=load, topology=topology))
        rebuilt = Network(drop_branches(grid, ~topology.closed), convention="x-tap")
        cold = DcOpf(rebuilt, slack=SLACK).solve(Interval(load=load))
        assert hot.objective == pytest.approx(cold.objective, rel=1e-9)
        assert hot.lmp == pytest.approx(cold.lmp, abs=1e-6)
        assert hot.flow[~topology.closed].tolist() == [0.0] * int((~topology.closed).sum())
        if rng.random() < 0.5:
            topology.close(branch)
    assert topology.version > 2
    again = opf.solve(Interval(topology=topology), hot=False)
    fresh = DcOpf(network, slack=SLACK).solve(Interval(topology=topology))
    assert (again.power == fresh.power).all() and (again.lmp == fresh.lmp).all()
    with pytest.raises(ValueError, match="the topology is of another network"):
        opf.solve(Interval(topology=Topology(rebuilt)))


def test_an_infeasible_interval_sheds_at_a_price_or_is_a_named_error():
    grid = small_grid(2, [(0, 1, 0.1)], units=[(0, 100.0, 10.0)], load=[20.0, 150.0], rate=60.0)
    network = Network(grid, convention="x")
    done = DcOpf(network, slack=SLACK).solve()
    assert done.shed == pytest.approx([0.0, 90.0]) and done.lmp == pytest.approx([10.0, 5000.0])
    assert done.cost == pytest.approx(800.0)
    assert done.objective == pytest.approx(800.0 + 90.0 * 5000.0)
    surplus = DcOpf(network, slack=SLACK).solve(
        Interval(low=np.array([90.0]), load=np.array([10.0, 0.0]))
    )
    assert surplus.surplus.sum() == pytest.approx(80.0) and surplus.lmp[0] == pytest.approx(-5000.0)
    with pytest.raises(RuntimeError, match="infeasible; demand and shunts take 170 MW, units give"):
        DcOpf(network).solve()
    assert DcOpf(network).solve(Interval(load=np.array([1.0, 2.0]))).cost == pytest.approx(30.0)


def test_limits_may_be_broken_at_a_price():
    grid = small_grid(2, [(0, 1, 0.1)], units=[(0, 300.0, 10.0)], load=[20.0, 150.0], rate=60.0)
    network = Network(grid, convention="x")
    cheap, dear = (DcOpf(network, slack=SlackPrices(overload=price)) for price in (700.0, 1e5))
    done = cheap.solve()
    assert done.overload == pytest.approx([90.0]) and done.shed == pytest.approx([0.0, 0.0])
    assert done.lmp == pytest.approx([10.0, 710.0]) and done.congestion == pytest.approx([700.0])
    assert done.objective == pytest.approx(1700.0 + 90.0 * 700.0)
    assert dear.solve().shed == pytest.approx([0.0, 90.0])
    assert dear.solve().overload.tolist() == [0.0]
    again = cheap.solve(hot=False)
    assert again.objective == done.objective


def test_an_error_leaves_the_program_usable():
    network = Network(random_system(0), convention="x")
    opf = DcOpf(network)
    first = opf.solve()
    with pytest.raises(RuntimeError, match="infeasible"):
        opf.solve(Interval(load=network.grid.buses.load * 100.0))
    assert opf.solve().objective == pytest.approx(first.objective, rel=1e-12)


def test_wrong_input_is_named():
    grid = small_grid(2, [(0, 1, 0.1)], units=[(0, 100.0, 10.0)], load=[20.0, 50.0])
    opf = DcOpf(Network(grid, convention="x"))
    with pytest.raises(ValueError, match=r"unit 'unit0': low is 60\.0 MW, expected at most high 5"):
        opf.solve(Interval(low=np.array([60.0]), high=np.array([50.0])))
    with pytest.raises(ValueError, match="bus 'bus1': load is nan"):
        opf.solve(Interval(load=np.array([1.0, np.nan])))
    with pytest.raises(ValueError, match="'unit0' has a piecewise cost"):
        QuadraticDcOpf(Network(grid, convention="x"))


def test_islands_are_refused_or_balanced_apart():
    grid = small_grid(
        4,
        [(0, 1, 0.1), (2, 3, 0.1)],
        units=[(0, 100.0, 10.0), (2, 100.0, 40.0)],
        load=[0.0, 30.0, 0.0, 50.0],
        dc=[(1, 3, 20.0)],
    )
    with pytest.raises(IslandError, match="2 islands"):
        Network(grid, convention="x")
    done = DcOpf(Network(grid, convention="x", split=True)).solve()
    assert done.dc_flow == pytest.approx([20.0]) and done.power == pytest.approx([50.0, 30.0])
    assert done.lmp == pytest.approx([10.0, 10.0, 40.0, 40.0])


def test_the_proximal_reference_moves_little_with_the_demand_and_ends_at_the_linear_one():
    grid = small_grid(
        2,
        [(0, 1, 0.1)],
        units=[(0, 100.0, 10.0), (1, 100.0, 10.01)],
        load=[0.0, 100.0],
    )
    network = Network(grid, convention="x")
    around = np.array([40.0, 40.0])

    def at(load: float, weight: float) -> np.ndarray:
        opf = DcOpf(network, proximal=Proximal(weight=weight, pieces=10))
        return opf.solve(Interval(load=np.array([0.0, load]), around=around)).power

    assert at(80.0, 1e5) == pytest.approx(around)
    assert at(100.0, 1e5) == pytest.approx([50.0, 50.0], abs=6.0)
    assert at(100.0, 1e-3) == pytest.approx([100.0, 0.0])
    steps = [at(load, 1e5)[0] for load in np.arange(70.0, 130.0, 1.0)]
    assert np.diff(steps).min() >= -1e-9 and np.abs(np.diff(steps)).max() <= 1.0 + 1e-9
    linear = [at(load, 1e-3)[0] for load in (99.0, 100.0)]
    assert linear == pytest.approx([99.0, 100.0])


@pytest.mark.parametrize("seed", range(4))
def test_the_proximal_objective_is_cost_plus_the_chords_of_the_parabola(seed):
    network = Network(random_system(seed), convention="x")
    units, rng = network.grid.units, np.random.default_rng(seed)
    around = rng.uniform(units.low, units.high)
    opf = DcOpf(network, slack=SLACK, proximal=Proximal(weight=800.0, pieces=50))
    done = opf.solve(Interval(around=around))
    capacity = np.maximum(units.high, 1.0)
    pull = 400.0 * (((done.power - around) / capacity) ** 2).sum()
    rest = SLACK.shed * done.shed.sum() + SLACK.surplus * done.surplus.sum()
    assert done.objective == pytest.approx(done.cost + pull + rest, rel=1e-4)
    assert done.objective >= done.cost + pull + rest - 1e-6
    plain = DcOpf(network, slack=SLACK).solve()
    assert plain.objective <= done.cost + rest + 1e-6
