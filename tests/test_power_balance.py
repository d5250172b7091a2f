"""The two projections of joint set-points, against their definition as a nearest point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairlead.simulators.power.balance import balance, relieve, within_limits


def draw(seed, size=12):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-50.0, 50.0, size)
    high = low + rng.uniform(0.0, 80.0, size) * (rng.random(size) < 0.8)
    wanted = low + (high - low) * rng.random(size)
    return rng, wanted, low, high, rng.uniform(0.1, 30.0, size)


def distance(power, wanted, weight):
    return float(((power - wanted) ** 2 / weight).sum())


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None)
def test_balance_is_feasible_idempotent_and_moves_all_by_one_multiple(seed, share):
    _, wanted, low, high, weight = draw(seed)
    demand = float(low.sum() + share * (high.sum() - low.sum()))
    found = balance(wanted, low, high, weight, demand)
    assert abs(found.power.sum() - demand) <= 1e-9 * max(1.0, abs(demand))
    assert abs(found.missing) <= 1e-9 * max(1.0, abs(demand))
    assert (found.power >= low - 1e-9).all()
    assert (found.power <= high + 1e-9).all()
    again = balance(np.clip(found.power, low, high), low, high, weight, demand)
    assert np.allclose(again.power, found.power, atol=1e-8)
    # Karush-Kuhn-Tucker: one multiple for all that are not at a limit, less for those that are.
    if np.isfinite(found.step):
        assert np.allclose(found.power, np.clip(wanted + found.step * weight, low, high), atol=1e-7)


@pytest.mark.parametrize("seed", range(12))
def test_balance_is_the_nearest_point_of_a_quadratic_program(seed):
    rng, wanted, low, high, weight = draw(seed, 7)
    demand = float(low.sum() + rng.random() * (high.sum() - low.sum()))
    found = balance(wanted, low, high, weight, demand).power
    solved = minimize(
        lambda p: distance(p, wanted, weight),
        np.clip(wanted, low, high),
        jac=lambda p: 2.0 * (p - wanted) / weight,
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - demand},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    assert distance(found, wanted, weight) <= solved.fun * (1.0 + 1e-6) + 1e-9
    assert np.abs(found - solved.x).max() <= 2e-3


@given(seed=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_balance_does_not_expand(seed):
    rng, one, low, high, weight = draw(seed)
    other = low + (high - low) * rng.random(one.size)
    demand = float(low.sum() + rng.random() * (high.sum() - low.sum()))
    first, second = (balance(p, low, high, weight, demand).power for p in (one, other))
    assert distance(first, second, weight) <= distance(one, other, weight) * (1 + 1e-9) + 1e-9


def test_a_mismatch_is_shared_by_participation():
    low, high = np.zeros(3), np.array([100.0, 100.0, 12.0])
    found = balance(np.full(3, 10.0), low, high, np.array([1.0, 3.0, 4.0]), 38.0)
    # 8 MW: the third gives its last 2, the others share 6 in proportion 1 to 3.
    assert np.allclose(found.power, [11.5, 14.5, 12.0])


@pytest.mark.parametrize(("demand", "missing"), [(250.0, 50.0), (-30.0, -30.0)])
def test_demand_beyond_the_box_is_reported(demand, missing):
    found = balance(np.array([10.0, 50.0]), np.zeros(2), np.full(2, 100.0), np.ones(2), demand)
    assert found.missing == pytest.approx(missing)
    assert (found.power == (100.0 if missing > 0 else 0.0)).all()


def test_boxes_without_width_do_not_move():
    low = np.array([5.0, 0.0])
    found = balance(np.array([5.0, 20.0]), low, np.array([5.0, 40.0]), np.full(2, 1e-6), 40.0)
    assert found.power.tolist() == [5.0, 35.0]


def relief(seed):
    """A case whose rows can be met: some point of the box with the same sum meets them."""
    rng, wanted, low, high, weight = draw(seed, 8)
    rows = rng.uniform(-1.0, 1.0, (2, 8))
    other = balance(
        low + (high - low) * rng.random(8), low, high, weight, float(wanted.sum())
    ).power
    excess = -(rows @ (other - wanted)) - 1e-3
    return wanted, low, high, weight, rows, excess


@pytest.mark.parametrize("seed", range(20))
def test_relief_meets_what_can_be_met_with_the_least_change(seed):
    wanted, low, high, weight, rows, excess = relief(seed)
    found = relieve(wanted, low, high, weight, rows, excess)
    assert abs(found.sum() - wanted.sum()) <= 1e-7
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()
    assert (rows @ (found - wanted) + excess).max() <= 1e-2
    solved = minimize(
        lambda p: distance(p, wanted, weight),
        wanted,
        jac=lambda p: 2.0 * (p - wanted) / weight,
        bounds=list(zip(low, high, strict=True)),
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - wanted.sum()},
            {"type": "ineq", "fun": lambda p: -excess - rows @ (p - wanted)},
        ],
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    met = (-excess - rows @ (solved.x - wanted)).min() >= -1e-6
    assert met
    assert distance(found, wanted, weight) <= solved.fun * (1.0 + 1e-4) + 1e-3


def test_relief_leaves_alone_what_is_within_limits():
    wanted, low, high = np.array([10.0, 20.0]), np.zeros(2), np.full(2, 50.0)
    rows = np.array([[1.0, 0.0]])
    found = relieve(wanted, low, high, np.ones(2), rows, np.array([-5.0]))
    assert np.allclose(found, wanted)


def test_relief_that_is_impossible_still_balances_and_goes_as_far_as_it_can():
    wanted, low, high = np.array([30.0, 20.0]), np.array([25.0, 0.0]), np.full(2, 50.0)
    rows = np.array([[1.0, 0.0]])
    found = relieve(wanted, low, high, np.ones(2), rows, np.array([20.0]))
    assert found.sum() == pytest.approx(50.0)
    assert found[0] == pytest.approx(25.0, abs=1e-3)


def test_a_branch_that_relief_overloads_joins_it():
    # 10 MW must leave the first unit; the nearest way loads the second branch beyond its limit.
    wanted, low, high = np.array([60.0, 20.0, 20.0]), np.zeros(3), np.full(3, 100.0)
    effect, limit = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([50.0, 22.0])
    none = np.zeros(2)
    found = within_limits(wanted, low, high, np.ones(3), (none, effect, limit))
    assert np.allclose(found, [50.0, 22.0, 28.0], atol=0.05)
    loose = (none, effect, np.array([60.0, 22.0]))
    assert within_limits(wanted, low, high, np.ones(3), loose) is wanted
