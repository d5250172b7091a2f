"""Batched DC-OPF in torch: published costs, HiGHS, bounds, derivatives, degenerate members."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from power_data import needed
from power_grids import random_curves, random_grid, small_grid

from fairlead.models.power.active_set import solve_flow
from fairlead.models.power.dcopf import DcOpf, Interval, SlackPrices
from fairlead.models.power.dual_ascent import Prices, ascend
from fairlead.models.power.torch_costs import CostTensors, unit_costs
from fairlead.models.power.torch_opf import BatchDcOpf, solve_dcopf
from fairlead.simulators.power.files.matpower import read_case
from fairlead.simulators.power.network import Network

torch.set_num_threads(1)


def random_network(seed, *, rate=22.0):
    rng = np.random.default_rng(seed)
    lines = random_grid(24, 14, seed=seed).branches
    spots = [(int(bus), 0.0, 0.0) for bus in rng.integers(0, 24, 12)]
    load = rng.uniform(0, 25, 24)
    grid = small_grid(24, [(0, 1, 0.1)], units=spots, dc=[(2, 20, 30.0)], load=load)
    curves = random_curves(rng, 12, 4)
    units = replace(grid.units, curve=curves, low=curves.power[:, 0], high=curves.power[:, -1])
    limited = replace(lines, rate=np.full(37, rate), shift=0.2 * lines.shift)
    return Network(replace(grid, units=units, branches=limited), convention="x-tap")


def batch(seed, members, *, rate=22.0):
    network = random_network(seed, rate=rate)
    rng = np.random.default_rng(seed + 100)
    load = network.grid.buses.load * rng.uniform(0.7, 1.2, (members, 1))
    return network, torch.tensor(load * rng.uniform(0.8, 1.2, load.shape))


@pytest.mark.parametrize(
    "case", ["3_lmbd", "5_pjm", "14_ieee", "24_ieee_rts", "30_as", "30_ieee", "39_epri", "118_ieee"]
)
def test_published_costs_with_a_gap_that_proves_them(case):
    grid = read_case(needed("pglib_opf", f"pglib_opf_case{case}.m"))
    network = Network(grid, convention="r-x")
    smooth = unit_costs(grid.units, quadratic=True)
    found = BatchDcOpf(network, costs=smooth).solve()
    with needed("pglib_opf", "baseline_v23.07.csv").open() as lines:
        table = {row["case"]: float(row["dc_usd_per_h"]) for row in csv.DictReader(lines)}
    printed = table[f"pglib_opf_case{case}"]
    assert found.objective.item() == pytest.approx(printed, rel=5e-5)
    assert abs(found.gap.item()) <= 1e-9 * printed and found.violation.item() <= 1e-7


def test_the_five_buses_of_pjm():
    grid = read_case(needed("pglib_opf", "pglib_opf_case5_pjm.m"))
    found = solve_dcopf(grid, Network(grid, convention="r-x"))
    assert found.dispatch[0].numpy() == pytest.approx([40, 170, 323.4948, 0, 466.5052], abs=1e-4)
    assert found.lmp[0].numpy() == pytest.approx([16.9774, 26.3845, 30, 39.9427, 10], abs=1e-4)
    assert found.cost.item() == pytest.approx(17479.8969, abs=1e-4)
    assert found.flow[0, 5].item() == pytest.approx(-240.0, abs=1e-9)
    assert not found.degenerate.item()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_batch_is_what_highs_finds_one_by_one(seed):
    network, load = batch(seed, 12)
    load[-1] *= 4  # sheds
    load[-2] = 0.0  # more than anybody wants
    found = BatchDcOpf(network).solve(load)
    one = DcOpf(network, slack=SlackPrices())
    assert (found.gap.abs() <= 1e-8 * (1 + found.objective.abs())).all()
    assert (found.violation <= 1e-7).all()
    congested, compared = 0, 0
    for member in range(12):
        best = one.solve(Interval(load=load[member].numpy()))
        assert found.objective[member].item() == pytest.approx(best.objective, rel=1e-8)
        if not found.degenerate[member]:
            assert found.lmp[member].numpy() == pytest.approx(best.lmp, abs=1e-6)
            assert found.dispatch[member].numpy() == pytest.approx(best.power, abs=1e-6)
            congested += bool((found.congestion[member] != 0).any())
            compared += 1
    assert congested >= 4 and compared >= 5
    assert found.shed[-1].sum() > 1 and found.surplus[-2].sum() > 1


def test_any_prices_bound_the_cost_and_ascent_tightens_the_bound():
    network, load = batch(9, 6)
    model = BatchDcOpf(network)
    best = model.solve(load)
    units = network.grid.units
    low, high = (torch.tensor(v).expand(6, -1) for v in (units.low, units.high))
    problem = model.problem(load, low, high, (model.flow_low, model.flow_high)).detached()
    rng = np.random.default_rng(5)
    for _ in range(50):
        prices = Prices(
            torch.tensor(rng.normal(30, 20, 6)),
            torch.tensor(rng.normal(0, 10, (6, network.branches))),
        )
        assert (problem.bound(prices) <= best.objective + 1e-7).all()
    # The smoothed dual is ascended; with its centre at the optimum both have one maximum.
    solved = solve_flow(problem, shed_price=10_000.0)
    near = problem.near(torch.full((6,), 20.0).double(), solved.controls)
    start = Prices(torch.full((6,), 30.0).double(), torch.zeros(6, network.branches).double())
    bounds = [problem.bound(ascend(near, start, steps)) for steps in (0, 100, 1000)]
    assert (bounds[1] >= bounds[0]).all() and (bounds[2] >= bounds[1] - 1e-6).all()
    assert ((best.objective - bounds[2]) <= 0.2 * (best.objective - bounds[0])).all()


def test_prices_are_derivatives_of_the_cost():
    network, load = batch(6, 8)
    load.requires_grad_()
    found = BatchDcOpf(network).solve(load)
    (per_mw,) = torch.autograd.grad(found.objective.sum(), load)
    sure = ~found.degenerate
    assert sure.sum() >= 4
    torch.testing.assert_close(per_mw[sure], found.lmp.detach()[sure], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bent", [False, True])
def test_gradients_equal_finite_differences(bent):
    network, load = batch(9, 4)
    units, rng = network.grid.units, np.random.default_rng(8)
    plain = unit_costs(units)
    bend = torch.full_like(plain.bend, 0.03) if bent else plain.bend
    values = {
        "load": load,
        "low": torch.tensor(units.low).expand(4, -1).clone(),
        "high": torch.tensor(units.high).expand(4, -1).clone(),
        "slope": plain.slope.clone(),
        "limit": torch.tensor(network.high).clone(),
        **({"bend": bend.clone(), "origin": plain.origin.clone()} if bent else {}),
    }
    weight = [torch.tensor(rng.normal(size=(4, size))) for size in (12, 24, 37)]
    sure = BatchDcOpf(network, costs=replace(plain, bend=bend)).solve(load)
    assert not sure.degenerate.any() and (sure.congestion.abs() > 1e-6).any()

    def loss(at):
        costs = CostTensors(
            plain.power, at["slope"], plain.base, at.get("bend", bend),
            at.get("origin", plain.origin),
        )  # fmt: skip
        found = BatchDcOpf(network, costs=costs).solve(
            at["load"], at["low"], at["high"], flow_limits=(-at["limit"], at["limit"]), warm=sure
        )
        parts = zip(weight, (found.dispatch, found.lmp, found.flow), strict=True)
        return sum((w * part).sum() for w, part in parts)

    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    loss(leaves).backward()
    for name, value in values.items():
        # Every input in some direction, and its largest single gradient.
        grad = leaves[name].grad
        single = torch.zeros_like(value).view(-1)
        single[grad.abs().argmax()] = 1.0
        for direction in (torch.tensor(rng.normal(size=value.shape)), single.view_as(value)):
            ends = [
                float(loss({**values, name: value + sign * 1e-5 * direction})) for sign in (1, -1)
            ]
            measured = (ends[0] - ends[1]) / 2e-5
            assert float((grad * direction).sum()) == pytest.approx(measured, rel=1e-5, abs=1e-4)


def test_equal_units_are_flagged_and_still_optimal():
    grid = small_grid(
        2, [(0, 1, 0.1)], units=[(0, 100.0, 20.0), (1, 100.0, 20.0)], load=[30.0, 40.0]
    )
    found = solve_dcopf(grid, Network(grid, convention="x"))
    assert found.degenerate.item()
    assert found.cost.item() == pytest.approx(1400.0) and abs(found.gap.item()) < 1e-6


def test_units_that_are_off_and_a_warm_start():
    network, load = batch(9, 5)
    on = torch.ones(5, 12, dtype=torch.bool)
    on[:, :3] = False
    model = BatchDcOpf(network)
    cold = model.solve(load, on=on)
    assert (cold.dispatch[:, :3] == 0).all()
    assert (cold.gap.abs() <= 1e-8 * cold.objective).all()
    best = DcOpf(network, slack=SlackPrices()).solve(
        Interval(load=load[0].numpy(), on=on[0].numpy())
    )
    assert cold.objective[0].item() == pytest.approx(best.objective, rel=1e-8)
    assert cold.lower_bound[0].item() == pytest.approx(best.objective, rel=1e-8)
    warm = model.solve(load, on=on, warm=cold)
    torch.testing.assert_close(warm.objective, cold.objective, rtol=1e-9, atol=0)


def test_single_precision_says_how_far_it_got():
    network, load = batch(2, 6)
    found = BatchDcOpf(network, dtype=torch.float32).solve(load.float(), tolerance=1e-4)
    exact = BatchDcOpf(network).solve(load)
    assert torch.isfinite(found.objective).all()
    torch.testing.assert_close(found.objective.double(), exact.objective, rtol=1e-3, atol=0)


def test_wrong_input_is_named():
    network, load = batch(1, 3)
    load[1, 4] = float("nan")
    with pytest.raises(ValueError, match="member 1: load, low and high must be finite"):
        BatchDcOpf(network).solve(load)
    with pytest.raises(ValueError, match="the network is of grid"):
        solve_dcopf(replace(network.grid, name="other"), network)
    grid = small_grid(3, [(0, 1, 0.1)], units=[(0, 9.0, 1.0)], load=[0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="needs one island, found 2"):
        BatchDcOpf(Network(grid, convention="x", split=True))
