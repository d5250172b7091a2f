"""What a batch of set-points tells a learner: against Monte Carlo, autograd and brute force."""

import dataclasses

import numpy as np
import pytest
import torch
from box_toys import Trackers, TrackersModel, learner_on, play
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Beta, kl_divergence

from fairlead.models.interface import set_point_values
from fairlead.policies.advantages import gae
from fairlead.policies.box_minibatch import BoxMinibatch, fisher
from fairlead.policies.distributions import BoxBeta
from fairlead.policies.experience import Decisions
from fairlead.policies.gradient_noise import agent_gradients, gradient_noise
from fairlead.policies.guidance import JointBoxes
from fairlead.policies.joint_guidance import JointSetPoints

ROWS, DIMENSIONS = 40, 2


def batch_of(seed, *, rows=ROWS, kind=torch.float64):
    """One group's decisions, half of the second dimensions not free, and two policies' outputs."""
    rng = np.random.default_rng(seed)
    mask = np.ones((1, rows, DIMENSIONS), bool)
    mask[0, ::2, 1] = False
    guidance = rng.standard_normal((1, rows, 2 * DIMENSIONS))
    guidance *= np.concatenate([mask, mask], axis=2)
    old, new = 2.0 * rng.standard_normal((2, 1, rows, 2 * DIMENSIONS))
    shares = np.where(mask, rng.beta(2.0, 2.0, mask.shape), 0.5)
    batch = BoxMinibatch(
        index=torch.zeros(1, rows, dtype=torch.int64),
        weight=torch.ones(1, rows, dtype=kind),
        groups=torch.zeros(1, dtype=torch.int64),
        agent=torch.zeros(1, rows, 0, dtype=kind),
        mask=torch.from_numpy(mask),
        actions=torch.from_numpy(shares).to(kind),
        guidance=torch.from_numpy(guidance).to(kind),
        half=torch.zeros(1, rows, dtype=torch.bool),
    )
    return batch, torch.from_numpy(old).to(kind), torch.from_numpy(new).to(kind)


def betas(batch, outputs):
    a, b = (1.0 + torch.nn.functional.softplus(outputs)).chunk(2, dim=-1)
    return Beta(a, b)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_densities_entropies_and_kl_are_torchs_over_the_free_dimensions(seed):
    batch, old, new = batch_of(seed)
    one, two = betas(batch, old), betas(batch, new)

    def over(values):
        return torch.where(batch.mask, values, 0.0).sum(-1)

    torch.testing.assert_close(batch.log_probability(old), over(one.log_prob(batch.actions)))
    torch.testing.assert_close(batch.entropy(old), over(one.entropy()))
    torch.testing.assert_close(batch.kl(old, new), over(kl_divergence(one, two)))
    torch.testing.assert_close(
        torch.where(batch.mask, batch.mean_action(old), 0.0), torch.where(batch.mask, one.mean, 0.0)
    )
    assert (batch.kl(old, old) == 0.0).all()


def test_scores_and_information_are_derivatives_of_the_log_density():
    batch, old, _ = batch_of(1)
    policy = BoxBeta.of_shares(old, batch.mask)
    a, b = (shape.clone().requires_grad_() for shape in (policy.a, policy.b))
    leaf = BoxBeta(a, b, policy.low, policy.high)
    by_a, by_b = torch.autograd.grad(leaf.log_probability(batch.actions).sum(), (a, b))
    torch.testing.assert_close(policy.score(batch.actions), torch.cat([by_a, by_b], -1))
    # E[score] = 0 and E[score score'] = information, by Monte Carlo.
    samples = torch.from_numpy(
        np.random.default_rng(0).beta(policy.a.numpy(), policy.b.numpy(), (200_000, *a.shape))
    )[:, 0, :3]
    part = BoxBeta(*(getattr(policy, n)[0, :3] for n in ("a", "b", "low", "high")))
    score = part.score(samples)
    score = score * torch.cat([batch.mask[0, :3], batch.mask[0, :3]], -1)
    outer = torch.einsum("sno,snp->nop", score, score) / len(samples)
    for column in range(2 * DIMENSIONS):
        along = torch.eye(2 * DIMENSIONS, dtype=torch.float64)[column].expand(3, -1)
        exact = torch.cat(part.information(*along.chunk(2, -1)), -1)
        torch.testing.assert_close(outer[:, :, column], exact, atol=0.02, rtol=0.03)


def test_the_metric_is_the_hessian_of_the_kl():
    batch, old, _ = batch_of(2, rows=4)
    hessian = torch.autograd.functional.hessian(lambda new: batch.kl(old, new).sum(), old)
    size = old.numel()
    for column, unit in enumerate(torch.eye(size, dtype=torch.float64)):
        expected = hessian.reshape(size, size)[:, column]
        direction = unit.view(old.shape)
        torch.testing.assert_close(batch.metric(old, direction).reshape(-1), expected)
        torch.testing.assert_close(fisher(old, batch.mask, direction).reshape(-1), expected)


def test_guidance_is_what_sampling_many_actions_gives():
    batch, old, new = batch_of(3, rows=6)
    rng = np.random.default_rng(0)

    def q(shares):
        s, h = batch.guidance.chunk(2, -1)
        return -torch.where(batch.mask, s * shares + 0.5 * h * shares**2, 0.0).sum(-1)

    def drawn(outputs):
        policy = betas(batch, outputs)
        a, b = policy.concentration1.numpy(), policy.concentration0.numpy()
        return q(torch.from_numpy(rng.beta(a, b, (400_000, *a.shape))))

    before, after = drawn(old), drawn(new)
    near = {"atol": 5e-3, "rtol": 0.0}
    expected = batch.expected_guidance(old, new, batch.guidance, None)
    torch.testing.assert_close(expected, after.mean(0) - before.mean(0), **near)
    torch.testing.assert_close(
        batch.sampled_guidance(old, batch.guidance), q(batch.actions) - before.mean(0), **near
    )
    torch.testing.assert_close(
        batch.squared_guidance(old, batch.guidance), before.var(0), atol=5e-3, rtol=0.02
    )
    assert (batch.expected_guidance(old, old, batch.guidance, 0.2) == 0.0).all()
    assert expected.abs().max() > 0.05


def test_the_expected_gradient_is_the_mean_of_the_sampled_ones():
    batch, old, _ = batch_of(4, rows=3)
    leaf = old.clone().requires_grad_()
    exact = batch.expected_guidance(old, leaf, batch.guidance, None).sum()
    (exact,) = torch.autograd.grad(exact, leaf)
    count, rng = 200_000, np.random.default_rng(0)
    policy = betas(batch, old)
    a, b = policy.concentration1.numpy()[0], policy.concentration0.numpy()[0]
    shares = np.where(batch.mask[0].numpy(), rng.beta(a, b, (count, *a.shape)), 0.5)
    many = dataclasses.replace(
        batch,
        **{n: getattr(batch, n).expand(count, -1, -1) for n in ("mask", "guidance")},
        actions=torch.from_numpy(shares),
    )
    wide = old.expand(count, -1, -1).clone().requires_grad_()
    weight = many.sampled_guidance(wide.detach(), many.guidance)
    (sampled,) = torch.autograd.grad((weight * many.log_probability(wide)).sum(), wide)
    torch.testing.assert_close(sampled.mean(0, keepdim=True), exact, atol=3e-3, rtol=0.0)


def test_what_is_not_free_has_no_say_and_no_gradient():
    batch, old, new = batch_of(5)
    closed = ~torch.cat([batch.mask, batch.mask], -1)
    other = torch.where(closed, new, old)
    leaf = other.clone().requires_grad_()
    terms = [
        batch.log_probability(leaf),
        batch.entropy(leaf),
        batch.kl(old, leaf),
        batch.expected_guidance(old, leaf, batch.guidance, None),
        batch.squared_guidance(leaf, batch.guidance),
    ]
    assert (batch.kl(old, other) == 0.0).all()
    assert (batch.log_probability(other) == batch.log_probability(old)).all()
    (gradient,) = torch.autograd.grad(torch.stack(terms).sum(), leaf)
    assert (gradient[closed] == 0.0).all() and (gradient[~closed] != 0.0).any()
    assert (batch.metric(old, new)[closed] == 0.0).all()


def test_float32_outputs_keep_small_kl_of_sharp_policies_apart_from_rounding():
    batch, _, _ = batch_of(6, kind=torch.float32)
    for size in (3.0, 300.0, 30_000.0):
        old = torch.full((1, ROWS, 2 * DIMENSIONS), size)
        step = 0.01 * size**0.5
        kl = batch.kl(old, old + step)
        exact = batch.kl(old.double(), (old + step).double()).float()
        assert (kl > 0.0).all() and kl.dtype == torch.float32
        torch.testing.assert_close(kl, exact, rtol=1e-3, atol=0.0)


# -- the joint estimator ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [False, True])
def test_joint_guidance_is_recorded_guidance_at_the_others_mean_shares(policy):
    simulator = Trackers(agents=5, dimensions=2, horizon=4, pinned=(2,))
    model, learner = TrackersModel(simulator), learner_on(simulator)
    rollout = play(simulator, learner, [0], model=model)
    experience = learner.actor.experience(rollout)
    groups = np.arange(2)
    (table,) = Decisions(rollout, learner.actor.member, 2).everything(groups, width=1000)
    batch = experience.minibatch(*experience.placed(*table, groups))
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.standard_normal((*batch.weight.shape, 4))).float()
    effects = JointSetPoints.from_effects(rollout.effects, torch.device("cpu"))
    guidance, mask, taken = (
        torch.from_numpy(array).flatten(0, 1)
        for array in (rollout.guidance, rollout.mask, rollout.actions)
    )
    joint = JointBoxes(effects, guidance, mask, taken)
    shares = rollout.actions[0].reshape(-1, 2).copy()
    real = table[1]
    shares[table[0][real]] = batch.mean_action(outputs).numpy()[real]
    shares = shares.reshape(4, 5, 2)
    if policy:  # half of the decisions come from elsewhere
        joint.policy = torch.from_numpy(shares)
        batch = batch.rows(torch.tensor([1]))
        outputs, table = outputs[1:], tuple(part[1:] for part in table)
        real = table[1]
    found = joint(batch, outputs).numpy()
    simulator.reset(0)
    expected = np.zeros((4, 5, 4))
    for epoch in range(4):
        seen = simulator.last
        points = seen.low + (seen.high - seen.low) * shares[epoch]
        expected[epoch] = set_point_values(
            seen, model.reference(None), model.influence(seen), points
        )
        simulator.step(np.clip(points.astype(np.float32), seen.low, seen.high))
    np.testing.assert_allclose(found[real], expected.reshape(-1, 4)[table[0][real]], atol=1e-5)
    assert (found[~real] == 0.0).all()
    changed = found[real] - rollout.guidance.reshape(-1, 4)[table[0][real]]
    assert np.abs(changed[:, :2]).max() > 0.01 and np.abs(changed[:, 2:]).max() == 0.0
    assert (rollout.guidance == guidance.numpy().reshape(rollout.guidance.shape)).all()


# -- noise of single agents' gradients -------------------------------------------------------------


def test_gradients_of_single_agents_are_those_of_their_own_last_layer():
    simulator = Trackers(agents=4, dimensions=1, horizon=5)
    learner = learner_on(simulator, sharing="all", network={"hidden": (6,)})
    rollout = play(simulator, learner, range(3), model=TrackersModel(simulator))
    policy = learner.policy()
    advantages, _ = gae(rollout.reward, np.zeros((3, 6)), np.ones(3, bool), gamma=0.5, lam=1.0)
    by_return, by_guidance = agent_gradients(
        simulator.spec, policy, rollout, advantages=advantages, estimator="expected"
    )
    experience = learner.actor.experience(rollout)
    (table,) = Decisions(rollout, policy.member, 1).everything(np.zeros(1, int), width=10**6)
    batch = experience.minibatch(*experience.placed(*table, np.zeros(1, int)))
    leaves = {n: p.detach().requires_grad_() for n, p in learner.actor.parameters.items()}
    outputs = batch.outputs(leaves)
    weight = experience.spread(torch.from_numpy(advantages), batch.index)
    for total, values in (
        (by_return, weight * batch.log_probability(outputs)),
        (by_guidance, batch.expected_guidance(outputs.detach(), outputs, batch.guidance, None)),
    ):
        (exact,) = torch.autograd.grad(values.sum(), leaves["box.weight"], retain_graph=True)
        np.testing.assert_allclose(total.sum((0, 1)), exact[0].flatten(), rtol=1e-4, atol=1e-5)


def test_expected_guidance_is_less_noisy_than_sampled_and_both_less_than_the_return():
    simulator = Trackers(agents=12, horizon=6)
    learner = learner_on(simulator, sharing="all")
    rollout = play(simulator, learner, range(60), model=TrackersModel(simulator))
    noise = {
        estimator: gradient_noise(
            simulator.spec, learner.policy(), rollout, estimator=estimator, gamma=0.0, scale=12.0
        )
        for estimator in ("sampled", "expected")
    }
    assert noise["expected"].of_guidance.variance < 0.5 * noise["sampled"].of_guidance.variance
    assert noise["sampled"].of_guidance.variance < 0.5 * noise["sampled"].of_return.variance
    assert noise["expected"].alignment > 0.3
