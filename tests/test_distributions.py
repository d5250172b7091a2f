"""Masked categorical and box Beta against torch.distributions and against quadrature."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Beta, Categorical, kl_divergence

from fairlead.policies.distributions import (
    BoxBeta,
    entropy,
    kl,
    log_probability,
    masked_log_softmax,
    masked_probabilities,
    sample,
)


def draw(seed, rows=50, choices=6):
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(2, rows, choices, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, choices, generator=generator) < 0.6
    mask[:, 0] = True
    return logits, mask


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_masked_categorical_equals_torch_distributions(seed):
    logits, mask = draw(seed)
    old, new = (masked_log_softmax(each, mask) for each in logits)
    # torch has no masks: a very negative logit stands in, whose probability underflows to 0.
    reference = [Categorical(logits=each.masked_fill(~mask, -1e9)) for each in logits]
    actions = reference[0].sample()
    torch.testing.assert_close(log_probability(old, actions), reference[0].log_prob(actions))
    torch.testing.assert_close(entropy(old, mask), reference[0].entropy())
    torch.testing.assert_close(kl(old, new, mask), kl_divergence(*reference))
    assert (kl(old, new, mask) >= 0).all() and (kl(old, old, mask) == 0).all()


def test_kl_is_weighted_by_the_old_probabilities():
    # A known library sums a sample estimator over the actions instead and gets 0.500 here.
    old, new = (torch.log(torch.tensor([p])) for p in ([0.96, 0.02, 0.02], [0.95, 0.04, 0.01]))
    every = torch.ones(1, 3, dtype=torch.bool)
    assert float(kl(old, new, every)) == pytest.approx(0.0101, abs=5e-5)


def test_masked_actions_have_no_probability_no_gradient_and_are_never_sampled():
    logits, mask = draw(3)
    leaf = logits[0].clone().requires_grad_()
    log_p = masked_log_softmax(leaf, mask)
    p = masked_probabilities(log_p, mask)
    assert (p[~mask] == 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(50, dtype=torch.float64))
    loss = entropy(log_p, mask).sum() + kl(log_p.detach(), 0.5 * log_p, mask).sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert torch.isfinite(gradient).all() and (gradient[~mask] == 0).all()
    assert gradient[mask].abs().sum() > 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        chosen = sample(log_p.detach(), mask, generator)
        assert mask.gather(1, chosen[:, None]).all()


def test_sampling_follows_the_probabilities():
    log_p = torch.log(torch.tensor([0.5, 0.3, 0.2, 0.0]).clamp_min(1e-9)).expand(40_000, 4)
    mask = torch.tensor([True, True, True, False]).expand(40_000, 4)
    counts = torch.bincount(sample(log_p, mask, torch.Generator().manual_seed(1)), minlength=4)
    np.testing.assert_allclose(counts / 40_000, [0.5, 0.3, 0.2, 0.0], atol=0.01)


def box(seed, dimensions=3):
    generator = torch.Generator().manual_seed(seed)
    outputs = 2.0 * torch.randn(8, 2 * dimensions, generator=generator, dtype=torch.float64)
    low = torch.randn(8, dimensions, generator=generator, dtype=torch.float64)
    width = torch.rand(8, dimensions, generator=generator, dtype=torch.float64) + 0.1
    return outputs, low, low + width


def test_box_beta_equals_torch_beta_after_the_change_of_variables():
    outputs, low, high = box(0)
    one, two = BoxBeta.from_network(outputs, low, high), BoxBeta.from_network(-outputs, low, high)
    first, second = Beta(one.a, one.b), Beta(two.a, two.b)
    u = first.sample()
    expected = (first.log_prob(u) - (high - low).log()).sum(-1)
    torch.testing.assert_close(one.log_probability(low + (high - low) * u), expected)
    torch.testing.assert_close(one.entropy(), (first.entropy() + (high - low).log()).sum(-1))
    torch.testing.assert_close(one.kl(two), kl_divergence(first, second).sum(-1))


def test_box_beta_against_quadrature():
    outputs, low, high = box(1, dimensions=1)
    one, two = BoxBeta.from_network(outputs, low, high), BoxBeta.from_network(-outputs, low, high)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = low + (high - low) * torch.from_numpy(nodes + 1.0) / 2.0
    scale = (high - low)[:, 0] / 2.0

    def integral(values):
        return (values * torch.from_numpy(weights)).sum(-1) * scale

    wide = [BoxBeta(p.a[:, None], p.b[:, None], low[:, None], high[:, None]) for p in (one, two)]
    log_one, log_two = (p.log_probability(x[..., None]) for p in wide)
    torch.testing.assert_close(integral(log_one.exp()), torch.ones(8).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.entropy(), -integral(log_one.exp() * log_one), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        one.kl(two), integral(log_one.exp() * (log_one - log_two)), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(one.mean[:, 0], integral(log_one.exp() * x), atol=1e-5, rtol=0)


def test_box_beta_stays_in_the_box_and_ignores_boxes_without_width():
    outputs, low, high = box(2)
    high[:, 1] = low[:, 1]
    policy = BoxBeta.from_network(outputs, low, high)
    rng = np.random.default_rng(0)
    draws = torch.stack([policy.sample(rng) for _ in range(4000)])
    assert (draws >= low).all() and (draws <= high).all()
    torch.testing.assert_close(draws.mean(0), policy.mean, atol=0.03, rtol=0)
    assert torch.isfinite(policy.log_probability(draws[0])).all()
    free = BoxBeta(policy.a[:, ::2], policy.b[:, ::2], low[:, ::2], high[:, ::2])
    torch.testing.assert_close(policy.entropy(), free.entropy())
    assert (policy.log_probability(high + 1.0) == -torch.inf).all()
