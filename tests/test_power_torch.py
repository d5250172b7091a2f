"""Economic dispatch in torch: oracle numbers, exactness, gradients, continuity."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fairlead.models.power.differentiable import (
    economic_dispatch,
    price_interval,
    proximal_reference,
)
from fairlead.models.power.torch_costs import CostTensors, parabola_costs

torch.set_num_threads(1)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def curves(rng, units=12, segments=3, bent="no"):
    """Random convex curves; ``bent``: no | all | some units with a parabola on top."""
    power = np.sort(rng.uniform(0, 100, (units, segments + 1)), axis=1)
    slope = np.sort(rng.uniform(5, 60, (units, segments)), axis=1)
    bend = rng.uniform(0.02, 0.5, units)
    bend *= {"no": 0, "all": 1, "some": rng.random(units) < 0.5}[bent]
    origin = rng.uniform(0, 50, units) * (bend > 0)
    values = (power, slope, rng.uniform(0, 200, units), bend, origin)
    return CostTensors(*(torch.tensor(value) for value in values))


def boxes(rng, costs, members):
    low = costs.power[:, 0] + torch.tensor(rng.uniform(0, 3, (members, costs.power.shape[0])))
    high = costs.power[:, -1] - torch.tensor(rng.uniform(0, 3, low.shape))
    low = torch.minimum(low, high)
    share = torch.tensor(rng.uniform(0.05, 0.95, members))
    return low, high, low.sum(1) + share * (high - low).sum(1)


def test_three_units_of_wood_and_wollenberg():
    costs = parabola_costs(
        2 * tensor(0.001562, 0.00194, 0.00482), tensor(7.92, 7.85, 7.97), tensor(561, 310, 78)
    )
    found = economic_dispatch(costs, tensor(850), tensor(150, 100, 50), tensor(600, 400, 200))
    assert found.price.item() == pytest.approx(9.1483, abs=1e-4)
    assert found.dispatch[0].numpy() == pytest.approx([393.17, 334.60, 122.23], abs=1e-2)
    assert found.cost.item() == pytest.approx(8194.36, abs=1e-2)
    assert found.dispatch.sum().item() == pytest.approx(850, abs=1e-9)


def test_closed_form_without_limits():
    rng = np.random.default_rng(1)
    bend, slope = torch.tensor(rng.uniform(0.01, 1, 400)), torch.tensor(rng.uniform(5, 30, 400))
    load = torch.tensor(rng.uniform(1e4, 5e4, 50))
    far = torch.full((400,), 1e6, dtype=torch.float64)
    found = economic_dispatch(parabola_costs(bend, slope), load, -far, far)
    price = (load + (slope / bend).sum()) / (1 / bend).sum()
    torch.testing.assert_close(found.price, price, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.dispatch, (price[:, None] - slope) / bend)


def test_curves_agree_with_a_linear_program():
    rng = np.random.default_rng(2)
    for _ in range(20):
        costs = curves(rng)
        low, high, load = boxes(rng, costs, 4)
        found = economic_dispatch(costs, load, low, high)
        assert found.feasible.all()
        for member in range(4):
            cost = linear_program(costs, load[member], low[member], high[member])
            assert found.cost[member].item() == pytest.approx(cost, rel=1e-10)
        torch.testing.assert_close(found.dispatch.sum(1), load, rtol=1e-13, atol=1e-11)
        lower, upper = price_interval(costs, found.dispatch, low, high)
        assert (lower <= found.price + 1e-9).all() and (found.price <= upper + 1e-9).all()


def linear_program(costs, load, low, high):
    """Epigraph form by scipy's HiGHS; the tangents of a convex curve extend over the box."""
    units, segments = costs.slope.shape
    power, slope = costs.power.numpy(), costs.slope.numpy()
    at = costs.base.numpy()[:, None] + np.cumsum(slope * np.diff(power, axis=1), axis=1)
    at = np.concatenate([costs.base.numpy()[:, None], at[:, :-1]], axis=1)
    rows, right = np.zeros((units * segments, 2 * units)), np.zeros(units * segments)
    for row, (u, k) in enumerate(itertools.product(range(units), range(segments))):
        rows[row, u], rows[row, units + u] = slope[u, k], -1
        right[row] = slope[u, k] * power[u, k] - at[u, k]
    balance = np.concatenate([np.ones(units), np.zeros(units)])[None]
    bounds = [*zip(low.tolist(), high.tolist(), strict=True), *[(None, None)] * units]
    cost = np.concatenate([np.zeros(units), np.ones(units)])
    solved = linprog(cost, rows, right, balance, [load.item()], bounds, method="highs-ds")
    assert solved.status == 0
    return solved.fun


@pytest.mark.parametrize("bent", ["all", "some"])
def test_bent_curves_satisfy_the_optimality_conditions(bent):
    rng = np.random.default_rng(3)
    for _ in range(20):
        costs = curves(rng, bent=bent)
        low, high, load = boxes(rng, costs, 16)
        found = economic_dispatch(costs, load, low, high)
        lower, upper = price_interval(costs, found.dispatch, low, high)
        assert (lower <= found.price + 1e-6).all() and (found.price <= upper + 1e-6).all()
        torch.testing.assert_close(found.dispatch.sum(1), load, rtol=1e-13, atol=1e-11)
        assert (found.dispatch >= low).all() and (found.dispatch <= high).all()


def test_price_at_a_jump_is_the_lower_end_of_the_dual_interval():
    costs = CostTensors(
        tensor(0, 10, 20)[None].repeat(2, 1), torch.stack([tensor(1, 4), tensor(2, 9)]),
        tensor(0, 0), tensor(0, 0), tensor(0, 0),
    )  # fmt: skip
    low, high = torch.zeros(2, dtype=torch.float64), tensor(20, 20)
    found = economic_dispatch(costs, tensor(10, 20, 25, 30), low, high)
    assert found.price.tolist() == [1, 2, 4, 4]
    assert found.dispatch.tolist() == [[10, 0], [10, 10], [15, 10], [20, 10]]
    lower, upper = price_interval(costs, found.dispatch, low, high)
    assert lower.tolist() == [1, 2, 4, 4] and upper.tolist() == [2, 4, 4, 9]


def test_equal_units_share_and_infeasible_members_shed_or_spill():
    costs = CostTensors(
        tensor(0, 10)[None].repeat(3, 1), tensor(7, 7, 7)[:, None], tensor(0, 0, 0),
        tensor(0, 0, 0), tensor(0, 0, 0),
    )  # fmt: skip
    low, high = tensor(2, 2, 2), tensor(12, 7, 7)
    found = economic_dispatch(
        costs, tensor(16, 30, 1), low, high, shed_price=1000, surplus_price=50
    )
    torch.testing.assert_close(
        found.dispatch, torch.tensor([[7, 4.5, 4.5], [12, 7, 7], [2, 2, 2]], dtype=torch.float64)
    )
    assert found.price.tolist() == [7, 1000, -50]
    assert found.shed.tolist() == [0, 4, 0] and found.surplus.tolist() == [0, 0, 5]
    assert found.feasible.tolist() == [True, False, False]
    assert found.objective.tolist() == [112, 182 + 4000, 42 + 250]


def test_units_dearer_than_shedding_stay_down_and_those_that_are_off_cost_nothing():
    costs = parabola_costs(tensor(0, 0.1), tensor(2000, 10), tensor(5, 6))
    on = torch.tensor([[True, True], [True, False]])
    found = economic_dispatch(
        costs, tensor(100, 100), tensor(0, 0), tensor(80, 80), on=on, shed_price=1000
    )
    assert found.dispatch.tolist() == [[0, 80], [0, 0]]
    assert found.shed.tolist() == [20, 100]
    assert found.cost.tolist() == [5 + 6 + 800 + 320, 5]


def test_wrong_input_is_named():
    costs = parabola_costs(tensor(1, 1), tensor(1, 1))
    with pytest.raises(ValueError, match="member 1: load, low and high must be finite"):
        economic_dispatch(costs, tensor(1, float("nan")), tensor(0, 0), tensor(1, 1))
    with pytest.raises(ValueError, match="must exceed -surplus_price"):
        economic_dispatch(costs, tensor(1), tensor(0, 0), tensor(1, 1), shed_price=-600.0)
    with pytest.raises(ValueError, match="rho must be positive"):
        proximal_reference(
            costs, tensor(1), tensor(0, 0), tensor(1, 1),
            previous=torch.zeros(1, 2), capacity=tensor(1, 1), rho=0.0,
        )  # fmt: skip


@pytest.mark.parametrize("bent", ["no", "all", "some"])
def test_gradients_equal_finite_differences(bent):
    rng = np.random.default_rng(4)
    costs = curves(rng, units=7, bent=bent)
    low, high, load = boxes(rng, costs, 6)
    load[-1] = high[-1].sum() + 5  # one member sheds
    weight = torch.tensor(rng.normal(size=low.shape))
    names = ["load", "low", "high", "slope", *(["bend", "origin"] if bent == "all" else [])]

    def loss(values):
        own = {name: values[name] for name in ("slope", "bend", "origin") if name in values}
        priced = CostTensors(**{**vars_of(costs), **own})
        found = economic_dispatch(priced, values["load"], values["low"], values["high"])
        return (weight * found.dispatch).sum() + 3 * found.price.sum() + 0.1 * found.objective.sum()

    whole = {**vars_of(costs), "load": load, "low": low, "high": high}
    values = {name: whole[name].clone().requires_grad_() for name in names}
    loss(values).backward()
    for name in names:
        measured = torch.zeros_like(values[name])
        for place in range(measured.numel()):
            moved = []
            for step in (1e-5, -1e-5):
                other = {key: value.detach().clone() for key, value in values.items()}
                other[name].view(-1)[place] += step
                moved.append(loss(other))
            measured.view(-1)[place] = (moved[0] - moved[1]) / 2e-5
        torch.testing.assert_close(values[name].grad, measured, rtol=1e-6, atol=1e-6, msg=name)


def vars_of(costs):
    return {name: getattr(costs, name) for name in ("power", "slope", "base", "bend", "origin")}


@pytest.mark.parametrize("bent", ["no", "all", "some"])
def test_one_more_mw_is_one_more_mw_and_costs_the_price(bent):
    rng = np.random.default_rng(5)
    costs = curves(rng, bent=bent)
    low, high, load = boxes(rng, costs, 8)
    load.requires_grad_()
    found = economic_dispatch(costs, load, low, high)
    (per_mw,) = torch.autograd.grad(found.dispatch.sum(), load, retain_graph=True)
    torch.testing.assert_close(per_mw, torch.ones_like(per_mw), rtol=0, atol=1e-12)
    (per_mw,) = torch.autograd.grad(found.cost.sum(), load)
    torch.testing.assert_close(per_mw, found.price.detach(), rtol=1e-9, atol=0)


def test_single_precision_balances_to_its_own_rounding():
    rng = np.random.default_rng(6)
    for bent in ("no", "all", "some"):
        costs = curves(rng, units=200, bent=bent)
        low, high, load = boxes(rng, costs, 32)
        exact = economic_dispatch(costs, load, low, high)
        single = CostTensors(**{k: v.float() for k, v in vars_of(costs).items()})
        rough = economic_dispatch(single, load.float(), low.float(), high.float())
        assert rough.feasible.all()
        torch.testing.assert_close(rough.cost.double(), exact.cost, rtol=1e-5, atol=0)
        torch.testing.assert_close(rough.dispatch.sum(1).double(), load, rtol=3e-6, atol=0)


class TestProximal:
    def setup_method(self):
        self.rng = np.random.default_rng(7)
        self.costs = curves(self.rng)
        self.low, self.high, self.load = boxes(self.rng, self.costs, 1)
        self.capacity = self.costs.power[:, -1]
        share = torch.tensor(self.rng.random(self.capacity.shape))
        self.previous = self.low + share * (self.high - self.low)

    def reference(self, load, rho, previous=None):
        many = load.shape[0]
        return proximal_reference(
            self.costs, load, self.low.repeat(many, 1), self.high.repeat(many, 1),
            previous=self.previous.repeat(many, 1) if previous is None else previous,
            capacity=self.capacity, rho=rho,
        )  # fmt: skip

    def test_is_continuous_where_the_merit_order_jumps(self):
        total = self.low.sum(), self.high.sum()
        load = torch.linspace(float(total[0]), float(total[1]), 20001, dtype=torch.float64)
        step = float(load[1] - load[0])
        moved = self.reference(load, 1e3).dispatch.diff(dim=0)
        # Non-decreasing in load and never faster than the load itself.
        assert moved.min() >= -1e-9 and moved.max() <= step + 1e-9

    def test_is_non_expansive_in_the_previous_dispatch(self):
        previous = self.previous + 5 * torch.tensor(self.rng.normal(size=(200, 12)))
        found = self.reference(self.load.repeat(200), 50.0, previous).dispatch
        change = ((found.diff(dim=0) / self.capacity) ** 2).sum(1)
        assert (change <= ((previous.diff(dim=0) / self.capacity) ** 2).sum(1) + 1e-12).all()

    def test_becomes_the_cheapest_dispatch_for_small_rho(self):
        cheapest = economic_dispatch(self.costs, self.load, self.low, self.high)
        gaps = [
            float(self.reference(self.load, rho).cost - cheapest.cost) for rho in (1e6, 1e3, 1.0)
        ]
        assert gaps[0] > gaps[1] > gaps[2] - 1e-9
        assert abs(gaps[2]) < 1e-6
        found = self.reference(self.load, 1e-3)
        torch.testing.assert_close(found.dispatch, cheapest.dispatch, rtol=0, atol=1e-6)

    def test_stays_where_it_was_for_large_rho(self):
        found = self.reference(self.previous.sum(1), 1e9)
        torch.testing.assert_close(found.dispatch, self.previous, rtol=0, atol=1e-2)

    def test_no_other_dispatch_is_better(self):
        found = self.reference(self.load, 200.0).dispatch

        def objective(dispatch):
            away = (dispatch - self.previous) / self.capacity
            return self.costs.total(dispatch).sum(1) + 100.0 * (away**2).sum(1)

        other = torch.tensor(self.rng.uniform(size=(500, 12)))
        other = self.low + other * (self.high - self.low)
        feasible = economic_dispatch(
            parabola_costs(torch.ones(12).double(), torch.zeros(12).double()),
            self.load.repeat(500), self.low, self.high,
        )  # fmt: skip
        mixed = 0.9 * found + 0.1 * feasible.dispatch
        assert (objective(mixed) >= objective(found) - 1e-9).all()
