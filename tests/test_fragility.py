"""Taylor remainders of the commitment cost: against the definition, calculus and their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import RingSimulator

from fairlead.policies.fragility import FragilityGauge, Shift, View
from fairlead.policies.interface import PolicyArrays
from fairlead.policies.learners import LearnerConfig, make_learner

AGENTS = 7


def policy(sharing="none", context=True, seed=0):
    simulator = RingSimulator(agents=AGENTS, horizon=9)
    config = LearnerConfig(sharing=sharing, network={"hidden": (12, 8), "context": context})
    arrays = make_learner(simulator.spec, config, seed=seed).policy()
    rng = np.random.default_rng(seed)
    for name in arrays.tensors:
        tensor, size = arrays.tensors[name], 1.0 if "normaliser" in name else 0.7
        tensor[...] += size * rng.uniform(0.1, 0.6, tensor.shape)
    return simulator, arrays


def views(sharing="none", context=True):
    simulator, arrays = policy(sharing, context)
    rng = np.random.default_rng(4)
    mask = np.ones((AGENTS, 4), bool)
    mask[:, 1:] = rng.random((AGENTS, 3)) < 0.7
    mask[:, 2] |= ~mask[:, 1:].any(axis=1)
    gauge = FragilityGauge(simulator.spec, arrays)
    agent = rng.uniform(0.0, 1.0, (AGENTS, 2)).astype(np.float32)
    candidates = rng.uniform(0.0, 3.0, (AGENTS, 4, 3)).astype(np.float32)
    return gauge, gauge.view_of(agent, candidates, mask)


def shift_of(view, scale=1.0, seed=1):
    rng = np.random.default_rng(seed)
    parts = (rng.standard_normal(tuple(part.shape)) for part in (view.agent, view.candidates))
    return Shift(*(torch.tensor(scale * part) for part in parts))


@pytest.mark.parametrize("sharing", ["none", "group", "all"])
@pytest.mark.parametrize("context", [True, False])
def test_remainder_is_the_definition_with_a_gradient_by_finite_differences(sharing, context):
    gauge, view = views(sharing, context)
    eta = shift_of(view)
    found = gauge.remainder(view, eta)
    choice = gauge.greedy(view)
    step = 1e-5
    cost = gauge.cost(view, choice).numpy()
    ahead, behind = (
        gauge.cost(view.moved(Shift(s * eta.agent, s * eta.candidates)), choice).numpy()
        for s in (step, -step)
    )
    slope = (ahead - behind) / (2 * step)
    moved = gauge.cost(view.moved(eta), choice).numpy()
    np.testing.assert_allclose(found.cost, cost, rtol=1e-12)
    np.testing.assert_allclose(found.slope, slope, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.remainder, moved - cost - slope, rtol=1e-5, atol=1e-7)
    assert np.abs(found.remainder).max() > 0.05


def test_scores_and_features_are_those_of_the_acting_policy():
    from fairlead.policies.acting import PolicyActor

    for sharing in ("none", "group", "all"):
        simulator, arrays = policy(sharing)
        seen = simulator.reset(3)
        gauge = FragilityGauge(simulator.spec, arrays)
        actor = PolicyActor(simulator.spec, arrays, name="ring")
        found = gauge.log_probabilities(gauge.view(seen)).exp().numpy()
        rows = seen.active
        assert rows.any()
        np.testing.assert_allclose(found[rows], actor.probabilities(seen)[rows], atol=2e-6)


class Linear(FragilityGauge):
    """A policy whose logits are linear in the features."""

    weight = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)
    first = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)

    def logits(self, agent, candidates):
        return candidates @ self.weight + agent[:, :1] * self.first

    def log_probabilities(self, view: View):
        raw = self.logits(view.agent, view.candidates)
        return torch.where(view.mask, raw, -torch.inf).log_softmax(dim=-1)


def test_linear_logits_have_the_analytic_remainder():
    """L = log E_pi exp(d) - E_pi d with d the change of the logits, whatever the action."""
    simulator, arrays = policy()
    gauge = Linear(simulator.spec, arrays)
    _, view = views()
    eta = shift_of(view)
    found = gauge.remainder(view, eta).remainder
    chances = gauge.log_probabilities(view).exp()
    change = gauge.logits(eta.agent, torch.where(view.mask[..., None], eta.candidates, 0.0))
    mean = (chances * change).sum(dim=1)
    expected = torch.log((chances * change.exp()).sum(dim=1)) - mean
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-10)
    assert (found > 0.0).all()  # the log-sum-exp is convex
    small = Shift(1e-3 * eta.agent, 1e-3 * eta.candidates)
    variance = (chances * (change - mean[:, None]) ** 2).sum(dim=1).numpy()
    curvature = 2.0 * gauge.remainder(view, small).remainder / 1e-6
    np.testing.assert_allclose(curvature, variance, rtol=2e-2)


def test_zero_eta_leaves_exactly_nothing():
    gauge, view = views()
    assert (gauge.remainder(view, shift_of(view, 0.0)).remainder == 0.0).all()


def test_remainder_is_quadratic_for_small_eta():
    gauge, view = views()
    sizes = np.array([0.04, 0.02, 0.01, 0.005])
    found = np.array([np.abs(gauge.remainder(view, shift_of(view, s)).remainder) for s in sizes])
    slopes = np.diff(np.log(found), axis=0) / np.diff(np.log(sizes))[:, None]
    assert slopes[-1] == pytest.approx(np.full(AGENTS, 2.0), abs=0.1)


def test_masked_candidates_never_matter_not_even_as_nan():
    simulator, arrays = policy()
    gauge = FragilityGauge(simulator.spec, arrays)
    rng = np.random.default_rng(4)
    mask = np.ones((AGENTS, 4), bool)
    mask[:, 3] = False
    agent = rng.uniform(0.0, 1.0, (AGENTS, 2)).astype(np.float32)
    candidates = rng.uniform(0.0, 3.0, (AGENTS, 4, 3)).astype(np.float32)
    broken = candidates.copy()
    broken[:, 3] = np.nan
    view, other = (gauge.view_of(agent, each, mask) for each in (candidates, broken))
    eta = shift_of(view)
    far = Shift(eta.agent, eta.candidates.clone())
    far.candidates[:, 3] = 1e6
    first, second = gauge.remainder(view, eta), gauge.remainder(other, far)
    assert np.isfinite(first.remainder).all()
    for name in ("cost", "slope", "remainder"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    # The same candidate matters as soon as it is legal.
    open_mask = np.ones((AGENTS, 4), bool)
    legal = gauge.remainder(gauge.view_of(agent, candidates, open_mask), eta)
    assert (legal.remainder != first.remainder).all()


@pytest.mark.parametrize("sharing", ["none", "group", "all"])
def test_agents_are_independent(sharing):
    gauge, view = views(sharing)
    eta = shift_of(view)
    base = gauge.remainder(view, eta).remainder
    eta.agent[2] += 3.0
    eta.candidates[2] -= 1.0
    changed = gauge.remainder(view, eta).remainder
    others = np.arange(AGENTS) != 2
    np.testing.assert_allclose(changed[others], base[others], rtol=1e-12)
    assert changed[2] != base[2]


def test_an_agent_without_a_choice_has_nothing_at_stake():
    simulator, arrays = policy()
    gauge = FragilityGauge(simulator.spec, arrays)
    mask = np.zeros((AGENTS, 4), bool)
    mask[:, 0] = True
    view = gauge.view_of(
        np.ones((AGENTS, 2), np.float32), np.ones((AGENTS, 4, 3), np.float32), mask
    )
    found = gauge.remainder(view, shift_of(view))
    assert (found.cost == 0.0).all() and (found.remainder == 0.0).all()


def test_a_subset_of_agents_reads_its_own_weights():
    simulator, arrays = policy("none")
    gauge = FragilityGauge(simulator.spec, arrays)
    seen = simulator.reset(1)
    rows = np.array([5, 1, 1])
    whole = gauge.log_probabilities(gauge.view(seen))[torch.tensor(rows)]
    parts = (seen.agent[rows], seen.candidates[rows], seen.mask[rows])
    some = gauge.log_probabilities(gauge.view_of(*parts, rows=rows))
    torch.testing.assert_close(some, whole)


def test_probe_is_the_root_mean_square_over_its_perturbations():
    gauge, view = views()
    probes = gauge.probes(np.random.default_rng(0), 4, pairs=3, radius=0.1)
    assert probes.agent.shape == (6, 2)
    torch.testing.assert_close(probes.candidates[:3], -probes.candidates[3:])
    assert (probes.candidates[:, 0] == 0.0).all()
    each = []
    for agent, candidates in zip(probes.agent, probes.candidates, strict=True):
        eta = Shift(agent.expand(AGENTS, -1), candidates.expand(AGENTS, -1, -1))
        each.append(gauge.remainder(view, eta).remainder)
    expected = np.sqrt(np.mean(np.square(each), axis=0))
    np.testing.assert_allclose(gauge.probe(view, probes), expected, rtol=1e-9)


def test_sharper_policies_are_more_fragile():
    simulator, arrays = policy()
    sharp = dict(arrays.tensors) | {"score.weight": 3.0 * arrays.tensors["score.weight"]}
    _, view = views()
    found = []
    for tensors in (arrays.tensors, sharp):
        gauge = FragilityGauge(simulator.spec, PolicyArrays(tensors, arrays.member))
        probes = gauge.probes(np.random.default_rng(0), 4, pairs=8, radius=0.1)
        found.append(gauge.probe(view, probes))
    assert np.median(found[1] / found[0]) > 1.5
