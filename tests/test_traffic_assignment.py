"""Static assignment against closed forms, properties, and linear programs."""

import dataclasses

import numpy as np
import pytest
import torch

from fairlead.models.traffic.assignment import marginal_tolls, system_optimum, user_equilibrium
from fairlead.models.traffic.assignment_bound import objective_bounds
from fairlead.models.traffic.bpr import bpr
from fairlead.models.traffic.bpr_torch import TorchLatency
from fairlead.models.traffic.shortest_paths import ShortestPaths
from fairlead.platform.validation.traffic_assignment import closed_checks
from fairlead.platform.validation.traffic_assignment_cases import (
    affine_network,
    braess,
    pigou,
    random_network,
)

SEEDS = range(12)


def test_braess_link_makes_everybody_slower():
    equilibrium, optimum = user_equilibrium(braess()), system_optimum(braess())
    np.testing.assert_allclose(equilibrium.volume, [4, 2, 2, 4, 2], atol=1e-6)
    np.testing.assert_allclose(equilibrium.routes.cost, [92, 92, 92], atol=1e-5)
    assert equilibrium.total_time == pytest.approx(552.0, abs=1e-6)
    np.testing.assert_allclose(optimum.volume, [3, 3, 3, 3, 0], atol=1e-6)
    assert optimum.total_time == pytest.approx(498.0, abs=1e-6)
    without = user_equilibrium(braess(middle=False))
    assert without.total_time == pytest.approx(498.0, abs=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0, 10.0])
def test_pigou_has_the_closed_form(power):
    best = 1.0 - power * (power + 1.0) ** (-(power + 1.0) / power)
    assert user_equilibrium(pigou(power)).total_time == pytest.approx(1.0, abs=1e-6)
    optimum = system_optimum(pigou(power))
    assert optimum.total_time == pytest.approx(best, abs=1e-6)
    assert optimum.volume[1] == pytest.approx((power + 1.0) ** (-1.0 / power), abs=1e-3)


def test_two_routes_by_hand():
    # 10 + x = 4 + 2 (9 - x), so x = 4; marginal: 10 + 2 x = 4 + 4 (9 - x), so x = 5.
    network = affine_network("two", [(0, 1, 10.0, 1.0), (0, 1, 4.0, 2.0)], 9.0)
    equilibrium, optimum = user_equilibrium(network), system_optimum(network)
    np.testing.assert_allclose(equilibrium.volume, [4, 5], atol=1e-6)
    assert equilibrium.objective == pytest.approx(10 * 4 + 8 + 4 * 5 + 25, abs=1e-6)
    np.testing.assert_allclose(optimum.volume, [5, 4], atol=1e-6)
    assert optimum.total_time == optimum.objective == pytest.approx(5 * 15 + 4 * 12, abs=1e-6)
    np.testing.assert_allclose(marginal_tolls(network, optimum), [5, 8], atol=1e-5)


def test_fixed_costs_count_for_the_choice_not_for_the_time():
    network = affine_network("two", [(0, 1, 10.0, 1.0), (0, 1, 4.0, 2.0)], 9.0)
    tolled = user_equilibrium(network, fixed=np.array([0.0, 3.0]))
    np.testing.assert_allclose(tolled.volume, [5, 4], atol=1e-6)
    np.testing.assert_allclose(tolled.cost, [15, 15], atol=1e-5)
    assert tolled.total_time == pytest.approx(5 * 15 + 4 * 12, abs=1e-5)
    with pytest.raises(ValueError, match="fixed costs must be 2 finite numbers"):
        user_equilibrium(network, fixed=np.array([0.0, -1.0]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("solve", [user_equilibrium, system_optimum])
def test_flows_are_conserved_and_used_routes_cost_the_same(seed, solve):
    network = random_network(seed)
    found = solve(network)
    assert found.status == "converged" and found.gap <= 1e-8
    assert found.bound <= found.objective <= found.bound * (1.0 + 1e-7)
    between = network.demand * (1.0 - np.eye(network.zones))
    balance = np.zeros(network.nodes)
    np.add.at(balance, network.head, found.volume)
    np.add.at(balance, network.tail, -found.volume)
    wanted = np.zeros(network.nodes)
    wanted[: network.zones] = between.sum(axis=0) - between.sum(axis=1)
    np.testing.assert_allclose(balance, wanted, atol=1e-9)
    routes = found.routes
    served = np.zeros_like(network.demand)
    np.add.at(served, (routes.origin, routes.destination), routes.flow)
    np.testing.assert_allclose(served, between, rtol=1e-12)
    np.testing.assert_allclose(routes.incidence.T @ routes.flow, found.volume, rtol=1e-12)
    # Wardrop: what is equalised (costs, or marginal costs) on no used route exceeds the cheapest.
    latency = bpr(network) if solve is user_equilibrium else bpr(network).marginal()
    paths = ShortestPaths(network)
    least = np.full_like(network.demand, np.nan)
    cost = latency.cost(found.volume)
    least[paths.origin, paths.destination] = paths.search(cost).distance
    excess = routes.incidence @ cost - least[routes.origin, routes.destination]
    assert excess.min() > -1e-9
    assert float(excess @ routes.flow) <= 1e-8 * float(cost @ found.volume) * 1.01
    assert excess[routes.flow > 0.01].max() < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_optimum_is_better_and_tolls_lead_to_it(seed):
    network = random_network(seed)
    equilibrium, optimum = user_equilibrium(network), system_optimum(network)
    assert optimum.total_time <= equilibrium.total_time * (1.0 + 1e-8)
    tolled = user_equilibrium(network, fixed=marginal_tolls(network, optimum))
    assert tolled.total_time == pytest.approx(optimum.total_time, rel=1e-6)
    rising = (bpr(network).slope > 0.0) & (network.power > 0.0)
    largest = optimum.volume.max()
    np.testing.assert_allclose(tolled.volume[rising], optimum.volume[rising], atol=2e-3 * largest)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_linear_programs_prove_the_same_objective(seed):
    network = random_network(seed)
    for latency, found in (
        (bpr(network), user_equilibrium(network)),
        (bpr(network).marginal(), system_optimum(network)),
    ):
        bounds = objective_bounds(network, latency)
        assert bounds.upper - bounds.lower <= 1e-6 * bounds.upper
        assert bounds.lower * (1.0 - 1e-8) <= found.objective <= bounds.upper * (1.0 + 1e-8)


def test_zones_are_not_passed_through():
    # Zone 2 (node 2) lies on a shorter way from zone 0 to zone 1; node 3 is no zone.
    links = [(0, 2, 1.0, 0.0), (2, 1, 1.0, 0.0), (0, 3, 5.0, 0.0), (3, 1, 5.0, 0.0)]
    network = affine_network("detour", links, 6.0)
    demand = np.zeros((3, 3))
    demand[0, 1], demand[2, 1], demand[0, 2] = 6.0, 1.0, 2.0
    open_zones = dataclasses.replace(network, demand=demand)
    closed = dataclasses.replace(open_zones, first_thru=3)
    assert user_equilibrium(open_zones).volume.tolist() == [8, 7, 0, 0]
    assert user_equilibrium(closed).volume.tolist() == [2, 1, 6, 6]


def test_links_without_any_cost_are_used():
    free = [(0, 2, 0.0, 0.0), (2, 1, 0.0, 0.0), (0, 1, 1.0, 1.0)]
    network = dataclasses.replace(
        affine_network("free", free, 3.0), free_flow_time=np.array([0.0, 0, 1])
    )
    found = user_equilibrium(network)
    assert found.volume.tolist() == [3, 3, 0]
    assert (found.objective, found.gap, found.status) == (0.0, 0.0, "converged")


def test_without_trips_nothing_moves():
    network = affine_network("empty", [(0, 1, 1.0, 1.0)], 0.0)
    found = user_equilibrium(network)
    assert found.volume.tolist() == [0.0] and found.gap == 0.0 and found.status == "converged"


def test_trips_without_a_route_are_named():
    network = affine_network("one-way", [(1, 0, 1.0, 0.0)], 4.0)
    with pytest.raises(ValueError, match="4 trips from zone 1 to zone 2, but no route"):
        user_equilibrium(network)
    with pytest.raises(RuntimeError, match="have a route"):
        objective_bounds(network, bpr(network))


def test_limits_are_kept_and_told():
    network = random_network(3)
    seen = []
    found = user_equilibrium(
        network, iterations=2, watch=lambda done, gap: seen.append((done, gap))
    )
    assert (found.status, found.iterations) == ("iterations", 2)
    assert [done for done, _ in seen] == [1, 2] and seen[-1][1] == found.gap > 1e-8
    # What rounding cannot resolve is said, and the flows are good nevertheless.
    stalled = user_equilibrium(network, gap=0.0)
    assert stalled.status in {"stalled", "converged"} and stalled.gap < 1e-9


def test_the_same_run_gives_the_same_flows():
    one, two = (user_equilibrium(random_network(5)) for _ in range(2))
    assert np.array_equal(one.volume, two.volume)


def test_derivatives_are_those_of_the_costs():
    network = random_network(1)
    latency = bpr(network)
    volume = np.random.default_rng(0).uniform(1.0, 40.0, network.links)
    step = 1e-4
    slope = (latency.cost(volume + step) - latency.cost(volume - step)) / (2.0 * step)
    np.testing.assert_allclose(latency.derivative(volume), slope, rtol=1e-6, atol=1e-9)
    total = volume * latency.cost(volume)
    np.testing.assert_allclose(latency.marginal().integrals(volume), total, rtol=1e-12)
    assert np.isfinite(latency.derivative(np.zeros(network.links))).all()


def test_torch_agrees_and_differentiates():
    network = random_network(2)
    latency, tensors = bpr(network), TorchLatency.of(bpr(network))
    volume = np.random.default_rng(0).uniform(0.0, 40.0, (3, network.links))
    volume[0, 0] = 0.0
    at = torch.tensor(volume, requires_grad=True)
    objective = tensors.beckmann(at)
    assert objective.tolist() == pytest.approx([latency.integral(row) for row in volume])
    (gradient,) = torch.autograd.grad(objective.sum(), at)
    np.testing.assert_allclose(gradient.numpy(), latency.cost(volume), rtol=1e-12)
    (marginal,) = torch.autograd.grad(tensors.total(at).sum(), at)
    np.testing.assert_allclose(marginal.numpy(), latency.marginal().cost(volume), rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": np.array([1.0, 0.0])}, r"capacity\[1\] is 0.0"),
        ({"power": np.array([1.0])}, r"power has shape \(1,\)"),
        ({"head": np.array([1, 2])}, r"head\[1\] is 2"),
        ({"demand": np.array([[0.0, np.nan], [0.0, 0.0]])}, "demand must be finite"),
        ({"demand": np.zeros((2, 3))}, "demand has shape"),
        ({"first_thru": 7}, "first_thru is 7"),
    ],
)
def test_contradicting_arrays_are_refused(changes, message):
    network = affine_network("two", [(0, 1, 10.0, 1.0), (0, 1, 4.0, 2.0)], 9.0)
    with pytest.raises(ValueError, match=message):
        user_equilibrium(dataclasses.replace(network, **changes))


def test_validation_without_data_passes():
    rows = [row for check in closed_checks(quick=True) for row in check.run()]
    assert len(rows) == 15 and all(row.passed for row in rows)
