"""Budgets by the KKT conditions against a generic solver; what is left over."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from fairlead.policies.trust.budgets import allocate, joint_gain, redistribute

CASES = st.integers(0, 2**32 - 1)


def problem(seed, n=None):
    """A random feasible problem: k over ten orders of magnitude, some 0, sizes, bounds, total."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12)) if n is None else n
    k = 10.0 ** rng.uniform(-6, 4, n) * (rng.random(n) < 0.9)
    size = rng.choice([1.0, 0.25, 3.7, 40.0], n)
    total = 10.0 ** rng.uniform(-4, 1)
    share = total / size.sum()
    low = share * rng.choice([0.0, 0.1, 0.9]) * rng.random(n)
    high = np.maximum(low, share * rng.choice([0.5, 2.0, np.inf]) * rng.uniform(0.5, 2.0, n))
    return k, {"size": size, "total": total, "low": low, "high": high}


def spent(budgets, size):
    return float((np.asarray(size) * budgets).sum())


# -- the optimum --------------------------------------------------------------------------------


def solver_gain(k, size, total, low, high):
    """Best gain by SLSQP over step lengths ``s = sqrt(delta)``, in which the problem is convex."""
    rate, price = size * np.sqrt(2.0 * k), size * total / (size.sum() * total)
    scale = np.sqrt(total / size.sum())
    found = minimize(
        lambda s: -(rate @ s) * scale / max(1e-300, (rate * scale).max()),
        np.sqrt(np.maximum(low, 1e-12)) / scale,
        jac=lambda s: -rate / max(1e-300, rate.max()),
        bounds=list(zip(np.sqrt(low) / scale, np.sqrt(high) / scale, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda s: 1.0 - price @ s**2,
            "jac": lambda s: -2.0 * price * s,
        },
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert price @ found.x**2 <= 1.0 + 1e-6
    return float(rate @ found.x) * scale


@pytest.mark.parametrize("seed", range(40))
def test_gain_is_that_of_a_generic_convex_solver(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    k, size = rng.gamma(0.7, 1.0, n), rng.uniform(0.5, 5.0, n)
    total = float(rng.uniform(0.01, 2.0))
    share = total / size.sum()
    low, high = np.full(n, 0.3 * share), np.full(n, 2.0 * share)
    if seed % 4 == 0:
        low, high = np.zeros(n), np.full(n, total / size.min())
    budgets = allocate(k, size=size, total=total, low=low, high=high)
    assert float(joint_gain(k, budgets, size=size)) == pytest.approx(
        solver_gain(k, size, total, low, high), rel=1e-6
    )


def test_without_bounds_it_is_proportional_and_gains_the_square_root():
    rng = np.random.default_rng(1)
    k, size, total = rng.gamma(0.5, 1.0, 7), rng.uniform(0.5, 4.0, 7), 0.3
    budgets = allocate(k, size=size, total=total)
    np.testing.assert_allclose(budgets, total * k / (size * k).sum(), rtol=1e-12)
    best = np.sqrt(2.0 * total * (size * k).sum())
    assert float(joint_gain(k, budgets, size=size)) == pytest.approx(best, rel=1e-12)


@given(CASES)
def test_gain_over_the_equal_split_is_between_one_and_the_root_of_n(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    k = 10.0 ** rng.uniform(-5, 5, n)
    ones = np.ones(n)
    gain = joint_gain(k, allocate(k, size=ones, total=0.1), size=ones)
    equal = joint_gain(k, allocate(k, size=ones, total=0.1, weight=0.0), size=ones)
    assert 1.0 - 1e-12 <= gain / equal <= np.sqrt(n) + 1e-12


def test_both_ends_of_the_gain_ratio_are_reached():
    for k, ratio in ((np.full(9, 2.0), 1.0), (np.eye(9)[3], 3.0)):
        ones = np.ones(9)
        best, even = (
            joint_gain(k, allocate(k, size=ones, total=1.0, weight=w), size=ones) for w in (1, 0)
        )
        assert best / even == pytest.approx(ratio, rel=1e-12)


@given(CASES)
def test_no_feasible_exchange_between_two_groups_gains(seed):
    k, limits = problem(seed)
    size, low, high = limits["size"], limits["low"], limits["high"]
    budgets = allocate(k, **limits)
    rng = np.random.default_rng(seed)
    gain = float(joint_gain(k, budgets, size=size))
    for _ in range(20):
        giver, taker = rng.integers(0, k.size, 2)
        amount = rng.random() * size[giver] * (budgets[giver] - low[giver])
        amount = min(amount, size[taker] * (high[taker] - budgets[taker]))
        moved = budgets.copy()
        moved[giver] -= amount / size[giver]
        moved[taker] += amount / size[taker]
        moved = np.maximum(moved, 0.0)
        assert float(joint_gain(k, moved, size=size)) <= gain * (1.0 + 1e-9)


# -- sums, bounds, symmetries --------------------------------------------------------------------


@given(CASES)
def test_the_total_is_used_and_bounds_are_kept(seed):
    k, limits = problem(seed)
    size, total, low, high = (limits[name] for name in ("size", "total", "low", "high"))
    budgets = allocate(k, **limits)
    assert (budgets >= low).all() and (budgets <= high).all()
    movable = k > 0.0 if (k > 0.0).any() else np.ones(k.size, dtype=bool)
    most = spent(np.where(movable, np.minimum(high, 1e9), low), size)
    assert spent(budgets, size) == pytest.approx(min(total, most), rel=1e-9)


@given(CASES, st.floats(1e-3, 1e3))
def test_budgets_depend_only_on_ratios_of_k(seed, factor):
    k, limits = problem(seed)
    np.testing.assert_allclose(allocate(factor * k, **limits), allocate(k, **limits), rtol=1e-9)


def test_gradients_scaled_by_c_leave_budgets_and_one_scaled_gradient_counts_squared():
    rng = np.random.default_rng(3)
    n, width, c = 5, 6, 1.7
    factor = rng.standard_normal((n, width, width))
    fisher = factor @ factor.transpose(0, 2, 1) + np.eye(width)
    gradient = rng.standard_normal((n, width))

    def measure(g):
        return np.einsum("np,np->n", g, np.linalg.solve(fisher, g[:, :, None])[:, :, 0])

    ones = np.ones(n)
    base = allocate(measure(gradient), size=ones, total=0.1)
    np.testing.assert_allclose(allocate(measure(c * gradient), size=ones, total=0.1), base)
    one = gradient.copy()
    one[2] *= c
    changed = allocate(measure(one), size=ones, total=0.1)
    relative = changed / base
    np.testing.assert_allclose(relative[2] / relative[0], c**2, rtol=1e-10)
    np.testing.assert_allclose(np.delete(relative, 2), relative[0], rtol=1e-10)


def test_k_does_not_depend_on_how_a_group_is_parametrised():
    rng = np.random.default_rng(4)
    factor = rng.standard_normal((6, 6))
    fisher, gradient = factor @ factor.T + np.eye(6), rng.standard_normal(6)
    change = rng.standard_normal((6, 6)) + 3.0 * np.eye(6)
    other = change.T @ gradient
    k = gradient @ np.linalg.solve(fisher, gradient)
    again = other @ np.linalg.solve(change.T @ fisher @ change, other)
    assert again == pytest.approx(k, rel=1e-10)


@given(CASES, st.floats(1.0, 100.0))
def test_more_k_never_means_less_budget(seed, factor):
    k, limits = problem(seed)
    chosen = seed % k.size
    more = k.copy()
    more[chosen] *= factor
    before, after = allocate(k, **limits), allocate(more, **limits)
    assert after[chosen] >= before[chosen] * (1.0 - 1e-9)
    others = np.arange(k.size) != chosen
    assert (after[others] <= before[others] * (1.0 + 1e-9)).all()


@given(CASES)
def test_order_of_the_groups_does_not_matter(seed):
    k, limits = problem(seed)
    order = np.random.default_rng(seed).permutation(k.size)
    moved = {name: x if name == "total" else x[order] for name, x in limits.items()}
    np.testing.assert_allclose(
        allocate(k[order], **moved), allocate(k, **limits)[order], rtol=1e-9, atol=1e-300
    )


@given(CASES)
def test_a_batch_of_problems_equals_one_problem_after_another(seed):
    parts = [problem(seed + i, n=5) for i in range(6)]
    k = np.stack([k for k, _ in parts]).reshape(2, 3, 5)
    limits = {
        name: np.stack([limits[name] for _, limits in parts]).reshape(2, 3, *tail)
        for name, tail in (("size", (5,)), ("total", ()), ("low", (5,)), ("high", (5,)))
    }
    single = [allocate(k, **limits, weight=0.7) for k, limits in parts]
    together = allocate(k, **limits, weight=0.7)
    np.testing.assert_array_equal(together.reshape(6, 5), np.stack(single))


# -- exact cases ---------------------------------------------------------------------------------


@given(CASES)
def test_equal_k_is_the_equal_share_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    size, total = rng.uniform(0.1, 40.0, n), float(rng.uniform(1e-4, 3.0))
    share = total / size.sum()
    wanted = np.full(n, share)
    k = rng.uniform(1e-8, 1e8)
    for values in (np.full(n, k), np.zeros(n)):
        for weight in (0.0, 0.37, 1.0):
            budgets = allocate(
                values, size=size, total=total, low=share, high=5 * share, weight=weight
            )
            np.testing.assert_array_equal(budgets, wanted)
    uneven = rng.gamma(1.0, 1.0, n)
    np.testing.assert_array_equal(
        allocate(uneven, size=size, total=total, high=5 * share, weight=0.0), wanted
    )


def test_weight_leads_from_equal_to_best():
    k, limits = np.array([1.0, 2.0, 9.0]), {"size": np.ones(3), "total": 1.0}
    even, best = (allocate(k, **limits, weight=w) for w in (0.0, 1.0))
    mixed = allocate(k, **limits, weight=0.25)
    np.testing.assert_allclose(mixed, 0.75 * even + 0.25 * best, rtol=1e-12)


def test_a_group_without_improvement_gets_its_floor():
    k, ones = np.array([0.0, 1.0, 3.0]), np.ones(3)
    np.testing.assert_allclose(allocate(k, size=ones, total=1.0), [0.0, 0.25, 0.75], rtol=1e-12)
    with_floor = allocate(k, size=ones, total=1.0, low=0.1)
    assert with_floor[0] == 0.1 and with_floor.sum() == pytest.approx(1.0, rel=1e-12)


def test_caps_that_bind_leave_the_rest_unused_when_the_others_have_no_improvement():
    budgets = allocate([0.0, 5.0], size=[1.0, 1.0], total=1.0, low=0.05, high=0.4)
    np.testing.assert_array_equal(budgets, [0.05, 0.4])


def test_caps_on_everybody_are_reached_exactly():
    budgets = allocate([0.3, 7.0, 1e-90], size=[1.0, 2.0, 3.0], total=9.0, high=[0.1, 0.7, 0.3])
    np.testing.assert_array_equal(budgets, [0.1, 0.7, 0.3])


@given(CASES)
def test_caps_are_met_bit_for_bit_and_do_not_disturb_equal_shares(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 20))
    size, high = rng.uniform(0.1, 9.0, n), rng.uniform(0.1, 1.0, n)
    enough = spent(high, size) * 1.01
    k = rng.gamma(1.0, 1.0, n)
    np.testing.assert_array_equal(allocate(k, size=size, total=enough, high=high), high)
    share = 1.0 / size.sum()
    some = np.where(rng.random(n) < 0.5, share, 5.0 * share)
    budgets = allocate(np.ones(n), size=size, total=1.0, high=some)
    np.testing.assert_array_equal(budgets, np.full(n, share))


def test_a_water_level_appears_with_floors_and_caps():
    budgets = allocate([1.0, 10.0, 100.0, 1000.0], size=np.ones(4), total=1.0, low=0.1, high=0.5)
    np.testing.assert_allclose(budgets, [0.1, 0.1, 0.3, 0.5], rtol=1e-12)


def test_no_total_means_no_budget():
    np.testing.assert_array_equal(allocate([1.0, 2.0], size=[1.0, 3.0], total=0.0), [0.0, 0.0])


def test_groups_in_which_nobody_decides_do_not_matter():
    k = np.array([np.nan, 1.0, 3.0, 1e9])
    size = np.array([0.0, 1.0, 1.0, 0.0])
    for weight in (0.0, 0.5, 1.0):
        budgets = allocate(k, size=size, total=1.0, low=0.1, high=0.8, weight=weight)
        alone = allocate(k[1:3], size=np.ones(2), total=1.0, low=0.1, high=0.8, weight=weight)
        np.testing.assert_array_equal(budgets, [0.0, *alone, 0.0])
    np.testing.assert_array_equal(allocate(k, size=np.zeros(4), total=1.0), np.zeros(4))
    assert allocate([], size=[], total=1.0).shape == redistribute([], 1.0, size=[]).shape == (0,)


def test_extreme_k_give_finite_budgets():
    k = np.array([1e-300, 5e-324, 1e300, 1e150])
    budgets = allocate(k, size=np.ones(4), total=1.0, high=0.6)
    np.testing.assert_array_equal(budgets > 0.0, [False, False, True, False])
    assert budgets[2] == 0.6, "what is below 1e-100 of the largest counts as 0"
    np.testing.assert_allclose(allocate(k[:1], size=[2.0], total=1.0), [0.5], rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": [1.0, -0.5]}, r"k\[1\] = -0.5, .*: leave the group out"),
        ({"k": [np.nan, 1.0]}, r"k\[0\] = nan"),
        ({"k": [np.inf, 1.0]}, r"k\[0\] = inf"),
        ({"size": [1.0, -1.0]}, r"size\[1\] = -1"),
        ({"total": np.inf}, r"total = inf"),
        ({"total": -1.0}, r"total = -1.0, .*trust_region.kl"),
        ({"low": 0.6}, r"floors need 1.2 nats and the total is 1: lower trust_region.budget.floor"),
        ({"low": 0.3, "high": [0.5, 0.2]}, r"low\[1\] = 0.3 and high\[1\] = 0.2"),
        ({"high": np.nan}, r"high\[0\] = nan"),
        ({"low": -0.1}, r"low\[0\] = -0.1"),
        ({"weight": 1.5}, r"weight = 1.5"),
    ],
)
def test_impossible_wishes_name_value_and_remedy(change, message):
    wishes = {"k": [1.0, 2.0], "size": [1.0, 1.0], "total": 1.0} | change
    with pytest.raises(ValueError, match=message):
        allocate(wishes.pop("k"), **wishes)


# -- what is left over ----------------------------------------------------------------------------


@given(CASES)
def test_leftover_is_used_or_all_are_capped_and_nobody_loses(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 15))
    size = rng.uniform(0.2, 9.0, n) * (rng.random(n) < 0.9)
    planned = rng.gamma(0.5, 0.1, n) * (rng.random(n) < 0.8)
    leftover = float(rng.gamma(0.5, 1.0) * (rng.random() < 0.9))
    high = rng.choice([0.05, 0.3, 100.0])
    new = redistribute(planned, leftover, size=size, high=high)
    assert (new >= planned).all() and (new <= np.maximum(planned, high)).all()
    unchanged = redistribute(planned, 0.0, size=size, high=high)
    np.testing.assert_array_equal(unchanged, planned)
    handed = spent(new - planned, size)
    room = spent(np.where(planned > 0.0, np.maximum(high - planned, 0.0), 0.0), size)
    assert handed == pytest.approx(min(leftover, room), rel=1e-9, abs=1e-12)
    below = (size > 0.0) & (planned > 0.0) & (new < high * (1.0 - 1e-9)) & (planned < high)
    if below.sum() > 1:
        growth = new[below] / planned[below]
        np.testing.assert_allclose(growth, growth[0], rtol=1e-9)


def test_leftover_refused_by_a_cap_goes_to_the_others():
    new = redistribute([0.1, 0.2, 0.1], 0.4, size=[1.0, 1.0, 1.0], high=0.3)
    np.testing.assert_allclose(new, [0.25, 0.3, 0.25], rtol=1e-12)
    planned = np.array([0.1, 0.7, 0.0, 0.3])
    np.testing.assert_array_equal(redistribute(planned, 0.0, size=np.ones(4)), planned)
    above = redistribute([0.1, 0.7], 10.0, size=[1.0, 1.0], high=0.5)
    np.testing.assert_array_equal(above, [0.5, 0.7])
    with pytest.raises(ValueError, match=r"leftover = -0.1"):
        redistribute(planned, -0.1, size=np.ones(4))


@given(CASES)
def test_rejections_and_shortened_steps_never_overspend(seed):
    """Groups in sequence, each spending a random share of its budget, some nothing at all."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    k, size, total = rng.gamma(0.5, 1.0, n), rng.uniform(0.5, 5.0, n), float(rng.uniform(0.01, 1.0))
    high = 3.0 * total / size.sum()
    budgets = allocate(k, size=size, total=total, high=high)
    used, last = np.zeros(n), budgets
    for group in range(n):
        share = rng.choice([0.0, rng.random(), 1.0])
        used[group] = share * budgets[group]
        rest = slice(group + 1, n)
        leftover = size[group] * (budgets[group] - used[group])
        budgets = budgets.copy()
        budgets[rest] = redistribute(budgets[rest], leftover, size=size[rest], high=high)
        assert (budgets >= last).all()
        last = budgets
        assert spent(used, size) + spent(budgets[rest], size[rest]) <= total * (1.0 + 1e-9)
