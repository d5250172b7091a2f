"""Planning, delay and fluid models: oracle numbers, equal forms, prices, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairlead.models.cloud.delay import DelaySolver, segments, tangent_points
from fairlead.models.cloud.differentiable import (
    delay_single,
    delay_torch,
    fluid_unrolled,
    planning_torch,
)
from fairlead.models.cloud.fluid import FluidProblem, FluidSolver, fluid_recursion
from fairlead.models.cloud.planning import FlowProblem, PlanningSolver
from fairlead.models.cloud.pyomo_forms import delay_pyomo, fluid_pyomo, planning_pyomo

SPEEDS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
# Load, flows and mean response of the optimal static split over SPEEDS (square-root rule).
SQUARE_ROOT = [
    (0.8, [0.448528, 1.220101, 2.897056, 6.440202, 13.794113], 0.620428),
    (0.5, [0.0, 0.0, 1.168239, 3.995284, 10.336477], 0.208728),
    (0.3, [0.0, 0.0, 0.0, 1.911061, 7.388939], 0.126014),
]


def double(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)[None]


def random_system(seed: int, load: float = 0.8, classes: int = 4, types: int = 6):
    rng = np.random.default_rng(seed)
    service = rng.uniform(0.3, 3.0, (classes, types)) * (rng.random((classes, types)) < 0.7)
    service[:, 0] = 1.0
    count = rng.integers(1, 30, types).astype(float)
    rate = rng.uniform(1.0, 5.0, classes)
    return rate * load / PlanningSolver(service).solve(rate, count).rho, service, count


@pytest.mark.parametrize(("load", "flow", "response"), SQUARE_ROOT)
def test_square_root_rule(load, flow, response):
    rate, ones = load * SPEEDS.sum(), np.ones(5)
    utilisation, multiplier = delay_single(double(rate), double(SPEEDS), double(ones))
    closed = utilisation[0].numpy() * SPEEDS
    assert closed == pytest.approx(flow, abs=1e-6)
    exact = float((utilisation / (1 - utilisation)).sum()) / rate
    assert exact == pytest.approx(response, abs=1e-6)

    interior = delay_torch(double([rate]), double(SPEEDS[None]), double(ones))
    assert interior.flow[0, 0].numpy() == pytest.approx(closed, abs=1e-6)
    assert float(interior.objective) / rate == pytest.approx(exact, rel=1e-9)
    assert float(interior.class_prices) == pytest.approx(float(multiplier), rel=1e-6)

    tangents = DelaySolver(SPEEDS[None]).solve(np.array([rate]), ones)
    assert tangents.flow[0] == pytest.approx(closed, abs=0.02)
    assert tangents.mean_response == pytest.approx(exact, rel=5e-5)
    assert -5e-5 < tangents.lower_bound / (exact * rate) - 1 <= 1e-9
    assert tangents.class_prices[0] == pytest.approx(float(multiplier), rel=0.01)

    pyomo = delay_pyomo(FlowProblem(np.array([rate]), SPEEDS[None], ones))
    assert pyomo.lower_bound == pytest.approx(tangents.lower_bound, rel=1e-9)


def test_fifty_tangents_are_coarser_but_still_a_bound():
    exact = 0.6204277420634 * 24.8
    few = DelaySolver(SPEEDS[None], tangents=50).solve(np.array([24.8]), np.ones(5))
    assert 5e-5 < 1 - few.lower_bound / exact < 5e-3


def test_segments_are_the_largest_tangent():
    points = tangent_points(60)
    widths, slopes = segments(points)
    assert widths.sum() == pytest.approx(1.0)
    rho = np.linspace(0.0, 0.999, 4001)
    tangents = points / (1 - points) + (rho[:, None] - points) / (1 - points) ** 2
    filled = np.clip(rho[:, None] - np.append(0.0, widths.cumsum()[:-1]), 0.0, widths)
    assert filled @ slopes == pytest.approx(tangents.max(axis=1), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_planning_forms_agree_and_the_dual_closes_the_gap(seed):
    rate, service, count = random_system(seed)
    hot = PlanningSolver(service).solve(rate, count)
    assert hot.rho == pytest.approx(0.8, abs=1e-9)
    assert hot.lower_bound == pytest.approx(hot.rho, abs=1e-9)
    assert hot.flow.sum(axis=1) == pytest.approx(rate)
    assert (FlowProblem(rate, service, count).utilisation(hot.flow) <= hot.rho + 1e-9).all()
    assert count @ hot.node_prices == pytest.approx(1.0)
    pyomo = planning_pyomo(FlowProblem(rate, service, count))
    batch = planning_torch(double(rate), double(service), double(count))
    for other in (pyomo.rho, float(batch.rho)):
        assert other == pytest.approx(hot.rho, abs=1e-8)
    for other in (pyomo.class_prices, batch.class_prices[0].numpy()):
        assert other == pytest.approx(hot.class_prices, abs=1e-7)
    for other in (pyomo.node_prices, batch.node_prices[0].numpy()):
        assert other == pytest.approx(hot.node_prices, abs=1e-7)


def test_prices_are_finite_differences():
    rate, service, count = random_system(1)
    solver = PlanningSolver(service)
    base = solver.solve(rate, count)
    for k in range(rate.shape[0]):
        more = rate.copy()
        more[k] += 1e-6
        assert (solver.solve(more, count).rho - base.rho) / 1e-6 == pytest.approx(
            base.class_prices[k], rel=1e-5
        )
    for j in range(count.shape[0]):
        more = count.copy()
        more[j] += 1e-6
        fall = (base.rho - solver.solve(rate, more).rho) / 1e-6
        assert fall == pytest.approx(base.rho * base.node_prices[j], rel=1e-4, abs=1e-8)
    delay = DelaySolver(service, tangents=2000)
    prices = delay.solve(rate, count).class_prices
    for k in range(rate.shape[0]):
        more, less = rate.copy(), rate.copy()
        more[k] += 0.05
        less[k] -= 0.05
        slope = (delay.solve(more, count).lower_bound - delay.solve(less, count).lower_bound) / 0.1
        assert slope == pytest.approx(prices[k], rel=0.02)


def test_hot_and_cold_solves_agree():
    rate, service, count = random_system(2)
    solver = DelaySolver(service)
    for factor in (1.0, 0.5, 1.1, 0.9):
        hot = solver.solve(rate * factor, count)
        cold = DelaySolver(service).solve(rate * factor, count)
        assert hot.lower_bound == pytest.approx(cold.lower_bound, rel=1e-9)
    smaller = np.where(np.arange(count.shape[0]) == 2, 0.0, count)
    assert solver.solve(rate * 0.3, smaller).flow[:, 2] == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(3))
def test_delay_forms_agree_for_several_classes_and_prices(seed):
    rate, service, count = random_system(seed)
    price = np.linspace(0.0, 2.0, count.shape[0])
    tangents = DelaySolver(service, price=price).solve(rate, count)
    pyomo = delay_pyomo(FlowProblem(rate, service, count), price=price)
    interior = delay_torch(double(rate), double(service), double(count), double(price))
    assert pyomo.lower_bound == pytest.approx(tangents.lower_bound, rel=1e-9)
    best = float(interior.objective)
    assert tangents.lower_bound <= best * (1 + 1e-9)
    assert tangents.lower_bound == pytest.approx(best, rel=8e-5)
    assert tangents.objective == pytest.approx(best, rel=5e-5)
    assert tangents.objective >= best * (1 - 1e-9)
    assert interior.utilisation[0].numpy() == pytest.approx(tangents.utilisation, abs=5e-3)


def test_a_batch_is_its_members():
    systems = [random_system(seed, load) for seed, load in ((5, 0.3), (5, 0.6), (5, 0.9))]
    rate = torch.cat([double(system[0]) for system in systems])
    service = torch.cat([double(system[1]) for system in systems])
    count = torch.cat([double(system[2]) for system in systems])
    together = delay_torch(rate, service, count)
    for row, system in enumerate(systems):
        alone = delay_torch(*(double(part) for part in system))
        assert together.objective[row] == pytest.approx(float(alone.objective), rel=1e-9)


def test_implicit_gradients_are_finite_differences():
    price = np.linspace(0.0, 0.5, 5)
    inputs = [double(20.0), double(SPEEDS), double([1.0, 2.0, 1.0, 3.0, 1.0]), double(price)]
    inputs = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(delay_single, inputs, eps=1e-6, rtol=1e-5, atol=1e-8)

    rate, service, count = random_system(3, classes=3, types=3)
    several = [double(rate), double(service), double(count), double([0.1, 0.0, 0.3])]
    several = [value.requires_grad_() for value in several]
    service_of = several[1]

    def outputs(rate, count, price):
        solved = delay_torch(rate, service_of.detach(), count, price)
        return solved.utilisation, solved.objective

    free = [several[0], several[2], several[3]]
    assert torch.autograd.gradcheck(outputs, free, eps=1e-5, rtol=1e-4, atol=1e-6)

    rho = planning_torch(several[0], service_of, several[2]).rho
    gradients = torch.autograd.grad(rho.sum(), [several[0], service_of, several[2]])
    base = PlanningSolver(service)
    for k, j in np.argwhere(service > 0):
        more = service.copy()
        more[k, j] += 1e-6
        slope = (PlanningSolver(more).solve(rate, count).rho - base.solve(rate, count).rho) / 1e-6
        assert float(gradients[1][0, k, j]) == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert gradients[0][0].numpy() == pytest.approx(base.solve(rate, count).class_prices, abs=1e-7)


def test_beyond_capacity_every_form_refuses():
    rate, ones = np.array([32.0]), np.ones(5)
    with pytest.raises(RuntimeError, match="infeasible"):
        DelaySolver(SPEEDS[None]).solve(rate, ones)
    with pytest.raises(RuntimeError, match="infeasible"):
        delay_pyomo(FlowProblem(rate, SPEEDS[None], ones))
    with pytest.raises(RuntimeError, match=r"rho = 1\.03"):
        delay_torch(double(rate), double(SPEEDS[None]), double(ones))
    with pytest.raises(ValueError, match="not below the capacity 31"):
        delay_single(double(32.0), double(SPEEDS), double(ones))


def test_malformed_problems_are_named():
    with pytest.raises(ValueError, match="no node serves class 1"):
        PlanningSolver(np.array([[1.0], [0.0]])).solve(np.array([1.0, 2.0]), np.ones(1))
    with pytest.raises(ValueError, match="rate must be finite and non-negative"):
        PlanningSolver(np.array([[1.0]])).solve(np.array([-1.0]), np.ones(1))
    with pytest.raises(ValueError, match="float64"):
        delay_torch(torch.ones(1, 1), torch.ones(1, 1, 1), torch.ones(1, 1))


def test_fluid_forms_agree_and_prices_are_finite_differences():
    rng = np.random.default_rng(1)
    service = rng.uniform(0.3, 3.0, (3, 4)) * (rng.random((3, 4)) < 0.7)
    service[:, 0] = 1.0
    rate, start = rng.uniform(1.0, 3.0, (12, 3)), rng.uniform(0.0, 2.0, 3)
    count = np.tile([3.0, 2.0, 4.0, 1.0], (12, 1))
    share = np.array([0.5, 1.0, 0.8])
    solver = FluidSolver(service, slots=12, dt=0.7, wait=0.3, share=share)
    hot = solver.solve(rate, count, start)
    pyomo = fluid_pyomo(FluidProblem(rate, service, count, start, 0.7, 0.3, share))
    assert pyomo.objective == pytest.approx(hot.objective, rel=1e-9)
    balance = hot.backlog[:-1] + rate * 0.7 - hot.served.sum(axis=2)
    assert hot.backlog[1:] == pytest.approx(balance)
    inner = FluidSolver(service, slots=12, dt=0.7, wait=0.3, share=share, method="ipm")
    assert inner.solve(rate, count, start).objective == pytest.approx(hot.objective, rel=1e-6)
    for slot, kind in ((0, 0), (5, 1), (11, 2)):
        more, less = rate.copy(), rate.copy()
        more[slot, kind] += 1e-4 / 0.7
        less[slot, kind] -= 1e-4 / 0.7
        high, low = (solver.solve(r, count, start).objective for r in (more, less))
        assert hot.prices[slot, kind] == pytest.approx((high - low) / 2e-4, abs=1e-6)
        assert pyomo.prices[slot, kind] == pytest.approx(hot.prices[slot, kind], abs=1e-8)


def test_fluid_of_one_class_is_the_recursion():
    rate = 2.4 + 2.2 * np.sin(np.arange(30) / 4)[:, None]
    trajectory = FluidSolver(np.array([[2.0]]), slots=30, dt=0.5).solve(
        rate, np.ones((30, 1)), np.array([1.0])
    )
    limit = np.full((30, 1), 0.5)
    backlog = fluid_recursion(rate * 0.5 / 2.0, limit, np.array([0.5]))
    assert trajectory.backlog == pytest.approx(2.0 * backlog, abs=1e-9)
    assert backlog.max() > 1.0
    unrolled = [
        fluid_unrolled(
            torch.tensor(rate * 0.25),
            torch.tensor(limit),
            torch.tensor([0.5]).double(),
            temperature=temperature,
        ).numpy()
        for temperature in (0.0, 0.003, 0.1)
    ]
    assert np.array_equal(unrolled[0], backlog)
    # The softmin lies below the minimum by at most t log 2 per slot, and never above it.
    for softened, temperature in zip(unrolled[1:], (0.003, 0.1), strict=True):
        gap = softened - backlog
        assert (gap >= -1e-12).all()
        assert gap.max() <= 30 * temperature * np.log(2)
    assert (unrolled[2] - backlog).max() > 1e-4


def test_unrolled_gradient_counts_the_slots_that_a_job_waits():
    work = torch.full((6, 1), 0.3, dtype=torch.float64)
    work[0] = 2.0
    work.requires_grad_()
    capacity = torch.full((6, 1), 0.5, dtype=torch.float64)
    fluid_unrolled(work, capacity, torch.zeros(1, dtype=torch.float64)).sum().backward()
    # Saturated throughout: one more second stays for all the slots that are left.
    assert work.grad is not None
    assert work.grad[:, 0].tolist() == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("load", [0.9, 1.2])
def test_beyond_the_boundary_the_backlog_grows_at_the_fluid_slope(load):
    service, count = np.array([[1.0, 2.0, 4.0]]), np.array([4.0, 2.0, 1.0])
    capacity = float((service * count).sum())
    slots, dt = 80, 1.0
    trajectory = FluidSolver(service, slots=slots, dt=dt).solve(
        np.full((slots, 1), load * capacity), np.tile(count, (slots, 1)), np.zeros(1)
    )
    rho = PlanningSolver(service).solve(np.array([load * capacity]), count).rho
    assert rho == pytest.approx(load, abs=1e-9)
    # Away from the end, where serving on slow nodes does not pay any more.
    slope = (trajectory.backlog[60, 0] - trajectory.backlog[20, 0]) / (40 * dt)
    if load > 1.0:
        assert slope == pytest.approx((rho - 1.0) * capacity, rel=0.02)
    else:
        # The jobs that are there anyway: those on busy nodes, and half a slot's arrivals.
        present = rho * count.sum() + load * capacity * dt / 2.0
        assert trajectory.backlog.max() <= present + 1e-9


def test_no_control_of_several_classes_grows_slower_than_the_fluid():
    rate, service, count = random_system(4, load=1.2)
    trajectory = FluidSolver(service, slots=40, dt=1.0).solve(
        np.tile(rate, (40, 1)), np.tile(count, (40, 1)), np.zeros(4)
    )
    # In units of the planning problem's class prices, capacity is worth 1 per second.
    worth = trajectory.backlog @ PlanningSolver(service).solve(rate, count).class_prices
    assert (np.diff(worth) >= 0.2 * 1.0 / 1.2 - 1e-9).all()
