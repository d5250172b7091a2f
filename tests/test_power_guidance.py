"""Guidance of power set-points: gradients against finite differences, fits against quadrature."""

import time

import numpy as np
import pytest
import torch

from fairlead.models.power.differentiable import economic_dispatch
from fairlead.models.power.guidance import (
    BoxFit,
    GuidanceState,
    guidance,
    objective,
    proximal_weight,
    ramp_adders,
)
from fairlead.models.power.torch_costs import CostTensors
from fairlead.simulators.power.costs import CostTable
from fairlead.simulators.power.grid import Curves

torch.set_num_threads(1)


def convex(rng, units, segments):
    power = np.sort(rng.uniform(0, 100, (units, segments + 1)), axis=1)
    slope = np.sort(rng.uniform(5, 60, (units, segments)), axis=1)
    first = rng.uniform(0, 200, (units, 1))
    cost = np.concatenate([first, first + np.cumsum(slope * np.diff(power), axis=1)], axis=1)
    return Curves(power, cost)


def tensors(curves):
    zero = torch.zeros(len(curves.power), dtype=torch.float64)
    power, slope, base = map(torch.tensor, (curves.power, curves.slope, curves.cost[:, 0]))
    return CostTensors(power, slope, base, zero, zero)


@pytest.fixture(name="system")
def fixture_system():
    """A cheapest dispatch, and guidance made from it."""
    rng = np.random.default_rng(1)
    curves = convex(rng, 30, 4)
    low, high = curves.power[:, 0], curves.power[:, -1]
    load = float(low.sum() + 0.43 * (high - low).sum())
    found = economic_dispatch(
        tensors(curves), torch.tensor([load]).double(), torch.tensor(low), torch.tensor(high)
    )
    state = GuidanceState(
        costs=CostTable(curves),
        price=np.full(30, found.price.item()),
        reference=found.dispatch[0].numpy(),
        weight=proximal_weight(curves, high),
    )
    return curves, load, state, rng


@pytest.mark.parametrize("mode", ["marginal", "proximal"])
def test_gradient_equals_finite_difference_of_the_objective(system, mode):
    curves, _, state, rng = system
    # Away from the points of the curves, where the objective has a slope on each side.
    actions = curves.power[:, 1] + rng.uniform(0.1, 0.9, 30) * np.diff(curves.power)[:, 1]
    found = guidance(state, actions, mode)
    for agent in range(30):
        step = np.zeros(30)
        step[agent] = 1e-5
        ends = [objective(state, actions + sign * step, mode).sum() for sign in (1, -1)]
        assert found[agent] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_marginal_guidance_is_the_cost_of_the_system_when_the_others_redispatch(system):
    curves, load, state, _ = system
    costs = tensors(curves)
    low, high = torch.tensor(curves.power[:, 0]), torch.tensor(curves.power[:, -1])
    checked = 0
    for agent in range(30):
        # Somewhere in the middle of one of its segments, not where the reference put it.
        own = float(curves.power[agent, 1:3].mean())

        def system_cost(value, agent=agent):
            pinned_low, pinned_high = low.clone(), high.clone()
            pinned_low[agent] = pinned_high[agent] = value
            return economic_dispatch(costs, torch.tensor([load]).double(), pinned_low, pinned_high)

        # Duals of the others' redispatch; the own set-point held.
        price = system_cost(own).price.item()
        if {system_cost(own + d).price.item() for d in (-1e-4, 1e-4)} != {price}:
            continue
        held = GuidanceState(state.costs, np.full(30, price), state.reference, state.weight)
        slope = guidance(held, np.full(30, own), "marginal")[agent]
        ends = [system_cost(own + step).cost.item() for step in (1e-4, -1e-4)]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-4, abs=1e-5)
        checked += 1
    assert checked >= 25


def test_zero_at_the_reference(system):
    curves, _, state, _ = system
    assert (guidance(state, state.reference, "proximal") == 0).all()
    # The slope of an optimum: zero inside a segment, and signs that hold a unit at its ends.
    slope = guidance(state, state.reference, "marginal")
    left = guidance(state, state.reference - 1e-6, "marginal")
    assert (slope[state.reference < curves.power[:, -1]] >= -1e-9).all()
    assert (left[state.reference > curves.power[:, 0] + 1e-6] <= 1e-9).all()


@pytest.mark.parametrize("mode", ["marginal", "proximal"])
def test_nobody_else_matters(system, mode):
    curves, _, state, rng = system
    actions = rng.uniform(curves.power[:, 0], curves.power[:, -1])
    before = guidance(state, actions, mode)
    others = rng.uniform(curves.power[:, 0], curves.power[:, -1])
    for agent in range(30):
        changed = others.copy()
        changed[agent] = actions[agent]
        assert guidance(state, changed, mode)[agent] == before[agent]


def test_unknown_mode_is_named(system):
    with pytest.raises(ValueError, match="known: marginal, proximal"):
        guidance(system[2], system[2].reference, "nearest")
    with pytest.raises(ValueError, match="known: marginal, proximal"):
        objective(system[2], system[2].reference, "nearest")


def test_ramp_adders_are_the_slope_of_the_ramp_terms():
    rng = np.random.default_rng(2)
    up, down = rng.uniform(0, 9, (2, 5, 3))
    power, before = rng.uniform(0, 9, (5, 3)), rng.uniform(0, 9, 3)

    def terms(power):
        return ((up - down) * np.diff(power, axis=0, prepend=before[None])).sum()

    found = ramp_adders(up, down)
    for place in np.ndindex(5, 3):
        step = np.zeros((5, 3))
        step[place] = 1e-4
        measured = (terms(power + step) - terms(power - step)) / 2e-4
        assert found[place] == pytest.approx(measured, abs=1e-8)


def test_weights_of_a_typical_unit_are_in_money():
    curves = convex(np.random.default_rng(3), 40, 3)
    weight = proximal_weight(curves, curves.power[:, -1])
    assert weight * np.maximum(curves.power[:, -1], 1) ** 2 == pytest.approx(
        weight[0] * curves.power[0, -1] ** 2
    )
    idle = Curves(np.zeros((2, 3)), np.zeros((2, 3)))
    assert proximal_weight(idle, np.array([0.0, 10.0])).tolist() == [5.5, 0.055]


def test_box_fit_is_the_least_squares_line():
    rng = np.random.default_rng(4)
    curves = convex(rng, 25, 4)
    low, high = np.sort(rng.uniform(-10, 110, (2, 25)), axis=0)
    origin, price = rng.uniform(low, high), rng.uniform(10, 40, 25)
    slope, curvature = BoxFit(curves)(low, high, origin, price)
    table = CostTable(curves)
    share = (np.arange(200000) + 0.5) / 200000
    for unit in range(25):
        at = low[unit] + share * (high[unit] - low[unit])
        marginal = curves.slope[unit][np.searchsorted(curves.power[unit, 1:-1], at, "right")]
        fit = np.polynomial.polynomial.polyfit(at - origin[unit], marginal - price[unit], 1)
        assert [slope[unit], curvature[unit]] == pytest.approx(fit, rel=1e-3, abs=1e-3)
    # The whole box costs what it costs.
    parabola = [slope * (u - origin) + curvature * (u - origin) ** 2 / 2 for u in (low, high)]
    exact = table.cost(high) - table.cost(low) - price * (high - low)
    assert parabola[1] - parabola[0] == pytest.approx(exact, abs=1e-9)
    assert (curvature >= 0).all()


def test_box_fit_of_one_segment_and_of_no_width():
    curves = convex(np.random.default_rng(5), 6, 1)
    low = curves.power[:, 0]
    slope, curvature = BoxFit(curves)(low, low, low, np.zeros(6))
    assert slope == pytest.approx(curves.slope[:, 0]) and (curvature == 0).all()
    slope, curvature = BoxFit(curves)(low, curves.power[:, 1], low, np.zeros(6))
    assert slope == pytest.approx(curves.slope[:, 0]) and curvature == pytest.approx(
        np.zeros(6), abs=1e-9
    )


def test_six_hundred_units_take_tens_of_microseconds():
    rng = np.random.default_rng(6)
    curves = convex(rng, 600, 5)
    low, high = np.sort(rng.uniform(0, 100, (2, 600)), axis=0)
    fit, price = BoxFit(curves), rng.uniform(10, 40, 600)
    state = GuidanceState(CostTable(curves), price, low, proximal_weight(curves, high))
    for ask in (lambda: fit(low, high, low, price), lambda: guidance(state, low, "marginal")):
        times = []
        for _ in range(300):
            start = time.perf_counter()
            ask()
            times.append(time.perf_counter() - start)
        assert min(times) < 2e-4  # 50 us on an idle machine
