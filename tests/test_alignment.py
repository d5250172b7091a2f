"""Statistics of independent gradient samples: unbiased, honest about noise."""

import numpy as np
import pytest

from fairlead.policies.alignment import AlignmentMonitor, GradientGram
from fairlead.policies.gradients import time_units
from fairlead.policies.guidance_settings import AlignmentSettings


def gram_of(of_return, of_guidance):
    """From ``[G, n, P]`` samples."""
    both = np.concatenate([of_return, of_guidance], axis=1)
    return GradientGram(np.einsum("gup,gvp->guv", both, both))


def samples(rng, *, units, size, mean, noise, groups=1):
    return mean + noise * rng.standard_normal((groups, units, size))


def test_variances_and_products_by_hand():
    rng = np.random.default_rng(0)
    of_return, of_guidance = rng.normal(size=(2, 3, 6, 5))
    gram = gram_of(of_return, of_guidance)
    for measured, by_hand in (
        (gram.variance_return, of_return),
        (gram.variance_guidance, of_guidance),
    ):
        np.testing.assert_allclose(measured, by_hand.var(axis=1, ddof=1).sum(axis=-1) / 6)
    pairs = [(u, v) for u in range(6) for v in range(6) if u != v]
    inner = np.mean([(of_return[:, u] * of_guidance[:, v]).sum() for u, v in pairs])
    square = np.mean([(of_guidance[:, u] * of_guidance[:, v]).sum() for u, v in pairs])
    np.testing.assert_allclose(gram.products(), (inner, square))


def test_noise_that_both_samples_of_a_unit_share_is_no_alignment():
    rng = np.random.default_rng(1)
    inner = []
    for _ in range(300):
        noise = rng.normal(size=(1, 8, 20))
        inner.append(gram_of(noise, noise + 0.1).products()[0])
    # Without leaving out equal units the mean would be 20 / 8.
    assert abs(np.mean(inner)) < 4.0 * np.std(inner) / np.sqrt(300)
    assert np.std(inner) / np.sqrt(300) < 0.1


@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_the_score_is_standard_normal_without_alignment(signal):
    """Also where the guidance itself has no signal left, near its optimum."""
    rng = np.random.default_rng(2)
    scores = [
        gram_of(
            samples(rng, units=8, size=30, mean=0.0, noise=3.0),
            samples(rng, units=8, size=30, mean=signal, noise=1.0),
        ).cosine()[1]
        for _ in range(1500)
    ]
    assert abs(np.mean(scores)) < 0.1
    assert np.std(scores) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.abs(scores) > 2.58) < 0.025


def test_cosine_sees_agreement_and_conflict():
    rng = np.random.default_rng(3)
    direction = rng.normal(size=40)
    for sign in (1.0, -1.0):
        cosine, score = gram_of(
            samples(rng, units=16, size=40, mean=sign * direction, noise=2.0),
            samples(rng, units=16, size=40, mean=direction, noise=0.2),
        ).cosine()
        assert sign * cosine > 0.7 and sign * score > 3.0
    few = gram_of(np.ones((1, 3, 2)), np.ones((1, 3, 2)))
    assert np.isnan(few.cosine()).all()
    one = gram_of(np.ones((2, 1, 2)), np.ones((2, 1, 2)))
    assert np.isnan(one.variance_return).all() and np.isnan(one.products()).all()


def test_monitor_rarely_alarms_on_noise_soon_on_conflict_and_heals():
    settings = AlignmentSettings()
    rng = np.random.default_rng(4)
    quiet = AlignmentMonitor(settings)
    for score in rng.normal(size=4000):
        quiet.observe(score, 1.0)
    assert quiet.alerts < 20
    monitor, brake, updates = AlignmentMonitor(settings), 1.0, 0
    while monitor.alerts == 0:
        brake, updates = monitor.observe(-2.5, brake), updates + 1
    assert updates < 8 and brake == settings.cut
    for _ in range(20):
        brake = monitor.observe(2.0, brake)
    assert brake == 1.0
    assert monitor.observe(float("nan"), 0.3) == 0.3


def test_time_units_cover_every_epoch_once():
    units = time_units(3, 100, block=25, aim=8)
    assert len(units) == 9 and min(u.stop - u.start for u in units) >= 25
    assert sorted(e for u in units for e in range(u.start, u.stop)) == list(range(300))
    assert time_units(2, 10, block=25, aim=16) == [slice(0, 10), slice(10, 20)]
