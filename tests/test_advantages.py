"""Advantages by hand, normalisers, value normalisation."""

import numpy as np
import pytest
import torch

from fairlead.policies.advantages import gae, mixed_reward
from fairlead.policies.critic import Critic
from fairlead.policies.networks import normalise as normalise_torch
from fairlead.policies.normaliser import Normaliser
from fairlead.policies.settings import CriticSettings
from fairlead.simulators.interface import Feature


def test_gae_by_hand_bootstraps_what_was_cut_and_not_what_ended():
    reward = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    values = np.array([[0.5, 1.0, 1.5, 2.0], [0.5, 1.0, 1.5, 2.0]])
    advantages, returns = gae(reward, values, np.array([False, True]), gamma=0.5, lam=0.5)
    # The episode that was cut has the one-step errors 1, 1.75 and 2.5.
    np.testing.assert_allclose(advantages[0], [1 + 0.25 * (1.75 + 0.625), 2.375, 2.5])
    # In the one that ended the last is 1.5: nothing follows.
    np.testing.assert_allclose(advantages[1], [1 + 0.25 * (1.75 + 0.375), 2.125, 1.5])
    np.testing.assert_allclose(returns, advantages + values[:, :-1])


def test_gae_with_lambda_one_is_the_return_less_the_value():
    rng = np.random.default_rng(0)
    reward, values = rng.normal(size=(2, 5)), rng.normal(size=(2, 6))
    _, returns = gae(reward, values, np.array([True, False]), gamma=0.9, lam=1.0)
    for episode in range(2):
        tail = values[episode, 5] * 0.9**5 * (episode == 1)
        direct = (reward[episode] * 0.9 ** np.arange(5)).sum() + tail
        assert returns[episode, 0] == pytest.approx(direct)


def test_gae_per_agent_equals_one_agent_at_a_time():
    rng = np.random.default_rng(1)
    reward, values = rng.normal(size=(3, 7, 4)), rng.normal(size=(3, 8, 4))
    ended = np.array([True, False, True])
    whole, _ = gae(reward, values, ended, gamma=0.95, lam=0.9)
    for agent in range(4):
        alone, _ = gae(reward[:, :, agent], values[:, :, agent], ended, gamma=0.95, lam=0.9)
        np.testing.assert_allclose(whole[:, :, agent], alone)
    shared, _ = gae(reward[:, :, 0], values, ended, gamma=0.95, lam=0.9)
    np.testing.assert_allclose(shared[:, :, 0], whole[:, :, 0])


def test_gae_needs_a_value_to_bootstrap_from():
    with pytest.raises(ValueError, match="6 epochs"):
        gae(np.zeros((1, 5)), np.zeros((1, 5)), np.zeros(1, bool), gamma=1.0, lam=1.0)


def test_mixed_reward():
    reward, local = np.array([[1.0]]), np.array([[[0.0, 2.0]]])
    assert mixed_reward(reward, local, mix=0.0) is reward
    np.testing.assert_allclose(mixed_reward(reward, local, mix=0.25), [[[0.75, 1.25]]])


FEATURES = (
    Feature("share", "1", 0, 4),
    Feature("queue", "jobs", 0, transform="log1p"),
    Feature("constant", "1"),
)


def test_normaliser_maps_bounds_then_calibrates_and_clips():
    static = Normaliser.from_features(FEATURES)
    np.testing.assert_allclose(
        static(np.array([[0, 0, 3], [4, np.e - 1, 3]], np.float32)), [[-1, 0, 3], [1, 1, 3]]
    )
    rng = np.random.default_rng(0)
    rows = np.stack(
        [rng.uniform(0, 4, 9000), rng.pareto(1.5, 9000), np.full(9000, 7.0)], axis=1
    ).astype(np.float32)
    fitted = static.calibrated(rows)
    out = fitted(rows)
    np.testing.assert_allclose(out.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(out[:, :2].std(axis=0), 1.0, atol=0.01)
    assert (out[:, 2] == 0).all()
    assert fitted(np.array([[1e9, 0, 1e9]], np.float32)).max() == 10.0
    assert static.calibrated(rows[:0]) is static


def test_normaliser_numpy_and_torch_forms_agree():
    rows = np.random.default_rng(1).pareto(1.0, (500, 3)).astype(np.float32)
    fitted = Normaliser.from_features(FEATURES).calibrated(rows)
    tensors = [torch.from_numpy(a) for a in (fitted.logarithmic, fitted.shift, fitted.scale)]
    torch_form = normalise_torch(torch.from_numpy(rows), *tensors).numpy()
    np.testing.assert_allclose(fitted(rows), torch_form, atol=2e-6)


def critic(memory=0.5):
    settings = CriticSettings(
        hidden=(16,), passes=100, minibatch=64, learning_rate=5e-3, memory=memory
    )
    rng = np.random.default_rng(0)
    return Critic(inputs=2, heads=2, settings=settings, rng=rng, device=torch.device("cpu"))


def test_critic_learns_and_rescaling_keeps_its_predictions():
    value = critic()
    x = np.random.default_rng(2).uniform(-1, 1, (600, 2)).astype(np.float32)
    returns = np.stack([300.0 + 50.0 * x[:, 0], -0.01 * x[:, 1] ** 2], axis=1)
    inputs = torch.from_numpy(x)
    value.fit(inputs, returns, rng=np.random.default_rng(3), most=10_000)
    error = (value.values(inputs) - returns).std(axis=0) / returns.std(axis=0)
    assert (error < 0.15).all()
    before = value.values(inputs)
    value.rescale(returns * 1000.0 + 5.0)
    np.testing.assert_allclose(value.values(inputs), before, rtol=1e-3, atol=1e-4)
    assert (value.deviation > 100.0 * returns.std(axis=0)).all()


def test_critic_of_constant_returns_stays_finite():
    value = critic()
    inputs = torch.zeros(10, 2)
    value.fit(inputs, np.full((10, 2), 7.0), rng=np.random.default_rng(0), most=100)
    np.testing.assert_allclose(value.values(inputs), 7.0, atol=0.5)
