"""The running estimate of k: no start bias, no bias by clipping, exact resume."""

import numpy as np
import pytest

from fairlead.policies.trust.budgets import RunningK, allocate


def test_running_k_is_the_weighted_mean_without_start_bias():
    rng = np.random.default_rng(0)
    measured = rng.gamma(1.0, 1.0, (6, 3))
    running = RunningK(3, memory=0.6)
    for k in measured:
        running.observe(k)
    weights = 0.6 ** np.arange(5, -1, -1)
    np.testing.assert_allclose(
        running.mean, (weights[:, None] * measured).sum(0) / weights.sum(), rtol=1e-12
    )
    newest = RunningK(3, memory=0.0)
    for k in measured:
        newest.observe(k)
    np.testing.assert_array_equal(newest.mean, measured[-1])


def test_running_k_ignores_and_counts_what_is_not_finite():
    running = RunningK(3, memory=0.5)
    np.testing.assert_array_equal(running.value, np.zeros(3))
    running.observe(np.array([2.0, np.nan, 4.0]))
    np.testing.assert_array_equal(running.value, [2.0, 3.0, 4.0])
    running.observe(np.array([np.inf, 7.0, -np.inf]))
    np.testing.assert_array_equal(running.value, [2.0, 7.0, 4.0])
    np.testing.assert_array_equal(running.ignored, [1, 1, 1])


def test_running_k_averages_signed_values_and_clips_only_the_mean():
    running = RunningK(2, memory=0.9)
    rng = np.random.default_rng(0)
    for _ in range(300):
        running.observe(rng.standard_normal(2) + np.array([0.0, -5.0]))
    noise, negative = running.value
    assert negative == 0.0 and noise < 0.8, "clipping each one would leave about 0.4 on average"
    alternating = RunningK(1, memory=0.99)
    for step in range(2000):
        alternating.observe(np.array([(-1.0) ** step]))
    assert alternating.value[0] < 0.01


def test_running_k_of_equal_measurements_keeps_equal_budgets_bit_for_bit():
    running = RunningK(7, memory=0.3)
    for k in (0.1, 0.77, 1.3):
        running.observe(np.full(7, k))
    size = np.linspace(1.0, 2.0, 7)
    np.testing.assert_array_equal(
        allocate(running.value, size=size, total=0.1), np.full(7, 0.1 / size.sum())
    )


def test_differences_count_only_as_far_as_they_are_reliable():
    rng = np.random.default_rng(3)
    shares = []
    for spread in (0.0, 0.5, 20.0):
        running = RunningK(40, memory=0.5)
        true = 1.0 + spread * rng.random(40)
        for _ in range(4):
            running.observe(true + 3.0 * rng.standard_normal(40))
        shares.append(running.reliability)
        estimate = running.value
        assert estimate.mean() > 0.0
        assert np.var(estimate) <= running.reliability**2 * np.var(running.mean) + 1e-9
    assert shares[0] < 0.35 and shares[0] <= shares[1] + 0.2 and shares[2] > 0.8
    clean = RunningK(5, memory=0.5)
    clean.observe(np.arange(1.0, 6.0))
    assert clean.reliability == 1.0
    np.testing.assert_array_equal(clean.value, np.arange(1.0, 6.0))


def test_pure_noise_buys_nothing():
    rng = np.random.default_rng(8)
    largest = []
    for _ in range(200):
        running = RunningK(10, memory=0.5)
        for _ in range(3):
            running.observe(rng.standard_normal(10))
        budgets = allocate(running.value, size=np.ones(10), total=1.0, high=0.5)
        largest.append(budgets.max())
    assert np.mean(largest) < 0.25, "a lottery would give about 0.4 to the luckiest"


def test_running_k_resumes_exactly():
    rng = np.random.default_rng(5)
    first = RunningK(4, memory=0.7)
    first.observe(np.array([1.0, np.nan, 0.3, -2.0]))
    second = RunningK(4, memory=0.7)
    second.load_state(first.state())
    for _ in range(3):
        k = rng.standard_normal(4)
        first.observe(k)
        second.observe(k)
    for name, array in first.state().items():
        np.testing.assert_array_equal(second.state()[name], array)
        assert array.dtype == second.state()[name].dtype
    kept = first.state()["moment"]
    first.observe(np.ones(4))
    assert not np.array_equal(kept, first.moment), "a state is a copy"
    with pytest.raises(ValueError, match="shape"):
        first.observe(np.ones(3))
