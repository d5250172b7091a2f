"""The baseline that descends the model's cost: it gets near the optimum and keeps every limit."""

import numpy as np
import torch
from scipy.optimize import linprog

from fairlead.models.power.torch_costs import CostTensors
from fairlead.models.power.torch_descent import descend

torch.set_num_threads(1)

UNITS, INTERVALS = 6, 4


def system(members):
    rng = np.random.default_rng(3)
    slope = torch.tensor(rng.uniform(10, 60, (UNITS, 1)))
    zero = torch.zeros(UNITS, dtype=torch.float64)
    power = torch.stack([zero, zero + 100], 1)
    costs = CostTensors(power, slope, zero, zero, zero)
    high = torch.full((members, INTERVALS, UNITS), 100.0, dtype=torch.float64)
    previous = torch.tensor(rng.uniform(20, 60, (members, UNITS)))
    growth = torch.linspace(1.0, 1.3, INTERVALS, dtype=torch.float64)
    load = previous.sum(1)[:, None] * growth
    ramp = torch.tensor(rng.uniform(8, 30, UNITS))
    return {
        "costs": costs, "load": load, "low": torch.zeros_like(high), "high": high,
        "previous": previous, "ramp": ramp, "hours": 0.25,
    }  # fmt: skip


def optimum(case, member):
    """The linear program of one member with all its ramps."""
    size = UNITS * INTERVALS
    cost = np.tile(case["costs"].slope[:, 0].numpy(), INTERVALS) * case["hours"]
    balance = np.kron(np.eye(INTERVALS), np.ones(UNITS))
    change = np.eye(size) - np.eye(size, k=-UNITS)
    ramp, before = np.tile(case["ramp"].numpy(), INTERVALS), np.zeros(size)
    before[:UNITS] = case["previous"][member].numpy()
    solved = linprog(
        cost, np.concatenate([change, -change]), np.concatenate([ramp + before, ramp - before]),
        balance, case["load"][member].numpy(), [(0, 100)] * size, method="highs-ds",
    )  # fmt: skip
    assert solved.status == 0
    return solved.fun


def test_it_lowers_the_cost_to_near_the_optimum_within_all_limits():
    case = system(5)
    found = descend(**case, steps=150, rate=0.05)
    path = torch.cat([case["previous"][:, None], found.dispatch], 1).diff(dim=1)
    assert (path.abs() <= case["ramp"] + 1e-9).all()
    assert (found.dispatch >= 0).all() and (found.dispatch <= 100).all()
    torch.testing.assert_close(found.dispatch.sum(2), case["load"], rtol=1e-12, atol=0)
    for member in range(5):
        best = optimum(case, member)
        start, end = float(found.start[member]), float(found.objective[member])
        assert best - 1e-6 <= end
        assert end - best <= 0.05 * (start - best)


def test_members_do_not_touch_each_other():
    case = system(3)
    both = descend(**case, steps=10)
    for member in range(3):
        own = slice(member, member + 1)
        alone = descend(
            **{**case, **{key: case[key][own] for key in ("load", "low", "high", "previous")}},
            steps=10,
        )
        torch.testing.assert_close(alone.dispatch, both.dispatch[own], rtol=0, atol=1e-9)


def test_availability_that_falls_faster_than_the_ramp_and_a_shortage_are_survived():
    case = system(2)
    case["high"][:, 1:, 0] = 1.0
    case["load"][1, -1] = 1000.0
    found = descend(**case, steps=5)
    assert torch.isfinite(found.objective).all()
    assert (found.dispatch[:, 1:, 0] <= 1.0 + 1e-12).all()
    assert found.objective[1] > 5000 * 0.25 * (1000 - 600)
