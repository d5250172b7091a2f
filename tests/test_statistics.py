"""Statistics against values worked out by hand and against scipy's definitions."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.platform import statistics


def test_iqm_drops_a_quarter_at_each_end():
    assert statistics.iqm(np.array([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0, 6.0])) == 3.5
    # floor(5 / 4) = 1 value is dropped at each end.
    assert statistics.iqm(np.array([0.0, 1.0, 2.0, 6.0, 99.0])) == 3.0
    assert statistics.iqm(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])).tolist() == [
        2.0,
        6.0,
    ]


def test_iqm_equals_scipy_trim_mean():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).standard_t(2, size=37)
    assert statistics.iqm(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-14)


def test_bootstrap_interval_has_the_normal_width():
    values = np.random.default_rng(2).normal(5.0, 2.0, size=400)
    interval = statistics.bootstrap(values, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.point == values.mean()
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        interval = statistics.bootstrap(rng.normal(size=40), resamples=400, seed=trial)
        covered += interval.low <= 0.0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_bootstrap_never_crosses_strata():
    apart = np.repeat([-1.0, 1.0], 10)
    stratified = statistics.bootstrap(apart, strata=np.repeat([0, 1], 10))
    assert (stratified.low, stratified.point, stratified.high) == (0.0, 0.0, 0.0)
    pooled = statistics.bootstrap(apart)
    assert pooled.low < -0.2 and pooled.high > 0.2


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(20.0) ** 2
    again = statistics.bootstrap(values, seed=7)
    assert statistics.bootstrap(values, seed=7) == again
    assert statistics.bootstrap(values, seed=8) != again


def test_pairs_remove_the_variance_of_the_seeds():
    rng = np.random.default_rng(4)
    difficulty = rng.normal(scale=10.0, size=50)
    ours = difficulty + 0.5 + rng.normal(scale=0.1, size=50)
    interval = statistics.paired_difference(ours, difficulty)
    assert interval.point == pytest.approx(0.5, abs=0.05)
    assert interval.high - interval.low < 0.1
    won = statistics.probability_of_improvement(ours, difficulty, paired=True)
    assert won.point == 1.0
    # Unpaired, the same data hardly tell the two apart.
    assert statistics.probability_of_improvement(ours, difficulty).point < 0.6


def test_probability_of_improvement_by_hand():
    # Pairs: 3>1, 3>2, 3=3 (half), 1=1 (half), 1<2, 1<3.
    interval = statistics.probability_of_improvement([3.0, 1.0], [1.0, 2.0, 3.0])
    assert interval.point == pytest.approx(3.0 / 6.0)
    assert statistics.probability_of_improvement([2.0, 2.0], [1.0, 1.0]).low == 1.0


def test_probability_of_improvement_equals_mann_whitney():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 9, 23).astype(float), rng.integers(1, 10, 17).astype(float)
    u = stats.mannwhitneyu(a, b).statistic
    expected = u / (a.size * b.size)
    assert statistics.probability_of_improvement(a, b).point == pytest.approx(expected, abs=1e-12)


def test_performance_profile_counts_runs_above():
    profile = statistics.performance_profile([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 3.5, 9.0])
    assert profile.tolist() == [1.0, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.bootstrap([]), "one axis"),
        (lambda: statistics.bootstrap([1.0, np.nan]), "run 1 is nan"),
        (lambda: statistics.bootstrap([1.0, 2.0], level=95), "between 0 and 1, got 95"),
        (lambda: statistics.paired_difference([1.0, 2.0], [1.0]), "2 runs against 1"),
    ],
)
def test_errors_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()
