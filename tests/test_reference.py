"""The batched trust region against the plain single-file reference; they share no code."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from reference_hatrpo_w import (
    Agent,
    Config,
    conjugate_gradient,
    hatrpo_w,
    hessian_vector_product,
    log_policy,
    mean_kl,
    natural_gradient,
    policy_gradient,
)
from ring_game import QUICK, PricedRing, learner_on, play

from fairlead.policies import actor_critic
from fairlead.policies.ascent import Ascent
from fairlead.policies.experience import Decisions, Experience
from fairlead.policies.interface import Rollout
from fairlead.policies.networks import scorer_weights
from fairlead.policies.optimiser import StackedAdam
from fairlead.policies.ppo import Ppo
from fairlead.policies.settings import LearnerConfig
from fairlead.policies.trust.budgets import RunningK
from fairlead.policies.trust.hatrpo import hatrpo
from fairlead.policies.trust.hatrpo_w import hatrpo_w as fast_hatrpo_w
from fairlead.policies.trust.walk import Walk

AGENTS, CHOICES, EPISODES, EPOCHS = 5, 4, 2, 14


@pytest.fixture(autouse=True)
def double_precision():
    """Buffers that the package makes itself are then double, too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# -- the same problem for both --------------------------------------------------------------------


def random_rollout(rng):
    """Random features, masks and idle agents; some agents have nothing but a hold at times."""
    shape = (EPISODES, EPOCHS, AGENTS)
    mask = rng.random((*shape, CHOICES)) < 0.7
    mask[..., 0] = True
    actions = np.argmax(np.where(mask, rng.random(mask.shape), -1.0), axis=-1)
    return Rollout(
        agent=rng.standard_normal((EPISODES, EPOCHS + 1, AGENTS, 3)),
        candidates=rng.standard_normal((*shape, CHOICES, 2)),
        mask=mask,
        active=rng.random(shape) < 0.8,
        actions=actions,
        critic=np.zeros((EPISODES, EPOCHS + 1, 1)),
        reward=np.zeros(shape[:2]),
        local_reward=np.zeros(shape),
        guidance=np.zeros(mask.shape),
        terminated=np.zeros(EPISODES, bool),
        seeds=np.arange(EPISODES),
    )


def ascent_on(seed, *, shared=False, context=True, **config):
    """A random problem as the learners see it, in float64, all samples in the Fisher products."""
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng)
    member = np.array([0, 1, 0, 2, 2]) if shared else np.arange(AGENTS)
    groups = int(member.max()) + 1
    weights = scorer_weights(
        rng,
        groups=groups,
        agent_features=3,
        candidate_features=2,
        hidden=(5, 4),
        context=context,
        output_scale=1.0,
    )
    parameters = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    columns = {"agent.shift": 3, "agent.scale": 3, "candidate.shift": 2, "candidate.scale": 2}
    experience = Experience(
        rollout,
        scales={
            f"normaliser.{name}": torch.full((groups, width), float("scale" in name))
            for name, width in columns.items()
        },
        agent_log=torch.zeros(3, dtype=torch.bool),
        candidate_log=torch.zeros(2, dtype=torch.bool),
        device=torch.device("cpu"),
    )
    settings = LearnerConfig.model_validate(
        {"algorithm": "hatrpo-w", "sharing": "none", "blocks": 1000, "max_samples": 10**6}
        | {**config, "trust_region": exact(**config.get("trust_region", {}))}
    )
    # Advantages that agents of different weight can do something about.
    pull = np.array([3.0, 1.0, 0.3, 0.1, 0.0])
    taken = np.take_along_axis(rollout.candidates[..., 0], rollout.actions[..., None], -1)[..., 0]
    advantages = (pull * taken).sum(-1) + 0.3 * rng.standard_normal(rollout.reward.shape)
    advantages = torch.from_numpy((advantages - advantages.mean()) / advantages.std())
    return Ascent(
        parameters=parameters,
        adam=StackedAdam(parameters, learning_rate=1e-3),
        ppo=Ppo(experience, advantages, None, settings),
        decisions=Decisions(rollout, member, groups),
        config=settings,
        rng=lambda purpose: np.random.default_rng([seed, len(purpose)]),
    )


def exact(**settings):
    budget = {"split_half": False, **settings.pop("budget", {})}
    return {"fisher_samples": None, **settings, "budget": budget}


def reference_agents(ascent):
    """Each parameter group's weights and decisions, one by one."""
    agents, experience = [], ascent.ppo.experience
    for group in range(ascent.groups):
        flat = ascent.decisions.flat[ascent.decisions.group == group]
        index = torch.from_numpy(flat)[None]
        seen = experience.minibatch(index, torch.ones_like(index) > 0, torch.tensor([group]))
        epoch = index[0] // experience.agents
        agents.append(
            Agent(
                weights={n: value[group].double() for n, value in ascent.parameters.items()},
                own=seen.agent[0].double(),
                candidates=seen.candidates[0].double(),
                mask=seen.mask[0],
                action=seen.actions[0],
                epoch=epoch,
                advantage=ascent.ppo.advantages.reshape(-1)[epoch].double(),
            )
        )
    return agents, experience.episodes * experience.epochs


def reference_config(config, **change):
    region, budget = config.trust_region, config.trust_region.budget
    same = ("kl", "damping", "cg_iterations", "cg_tolerance", "backtrack", "fractions", "accept")
    plain = Config(
        **{name: getattr(region, name) for name in same},
        total_kl=np.inf if region.total_kl is None else region.total_kl,
        floor=budget.floor,
        cap=budget.cap,
        weight=budget.weight,
        redistribute=budget.redistribute,
        clip_factor=config.clips_factor,
    )
    return dataclasses.replace(plain, **change)


def reference_update(ascent, *, equal=False, **change):
    """The reference's new weights and reports; leaves the problem as it is."""
    agents, epochs = reference_agents(ascent)
    if equal:
        change["redistribute"] = False
    config = reference_config(ascent.config, equal=equal, **change)
    order = None if ascent.config.order == "greedy" else [int(g) for g in ascent.order()]
    weights, reports, _ = hatrpo_w(agents, epochs, config, order)
    return weights, reports


@cache
def reference_of(case, seed, *, equal=False, **change):
    return reference_update(ascent_on(seed, **CASES[case]), equal=equal, **change)


def names_of(ascent):
    return tuple(f"g{group}" for group in range(ascent.groups))


def compare(ascent, weights, reports, statistics, rtol=1e-5):
    for group, report in enumerate(reports):
        found = {
            name: statistics[f"{name}/g{group}"]
            for name in ("budget", "kl", "fraction", "backtracks", "k")
        }
        wanted = {
            "budget": report.budget,
            "kl": report.kl,
            "fraction": report.fraction,
            "backtracks": report.backtracks,
            "k": report.slope,
        }
        assert found == pytest.approx(wanted, rel=rtol, abs=1e-9)
        for name, value in ascent.parameters.items():
            np.testing.assert_allclose(
                value[group].numpy(), weights[group][name].numpy(), rtol=rtol, atol=rtol * 0.1
            )


# -- whole updates --------------------------------------------------------------------------------

CASES = {
    "plain": {},
    "no context": {"context": False},
    "shared weights": {"shared": True},
    "clamped ratio": {"clip_factor": True, "trust_region": {"kl": 0.1}},
    "largest k first": {"order": "greedy"},
    "listed order, bounded total": {"order": "fixed", "trust_region": {"total_kl": 0.01}},
    "floor and tight cap": {"trust_region": {"budget": {"floor": 0.3, "cap": 1.5}}},
    "half way": {"trust_region": {"budget": {"weight": 0.5}}},
    "long steps": {"trust_region": {"kl": 0.5, "accept": 0.8}},
    "few fractions": {"trust_region": {"kl": 0.1, "accept": 0.7, "fractions": 4}},
    "leftovers lost": {"trust_region": {"kl": 0.3, "budget": {"redistribute": False}}},
    "little damping": {
        "trust_region": {"damping": 0.01, "cg_iterations": 60, "cg_tolerance": 1e-9}
    },
    "rough solver": {"shared": True, "trust_region": {"cg_iterations": 2}},
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_hatrpo_w_equals_the_reference(case, seed):
    ascent = ascent_on(seed, **CASES[case])
    weights, reports = reference_of(case, seed)
    improvement = RunningK(ascent.groups, memory=0.5)
    statistics = fast_hatrpo_w(ascent, names_of(ascent), improvement)
    np.testing.assert_allclose(improvement.value, [report.k for report in reports], rtol=1e-6)
    compare(ascent, weights, reports, statistics)
    used = sum(m * report.kl for m, report in zip(ascent.sizes, reports, strict=True))
    assert used <= statistics["trust/total"] * (1.0 + 1e-9)
    assert any(report.fraction > 0.0 for report in reports)
    share = statistics["trust/total"] / ascent.sizes.sum()
    assert max(report.planned for report in reports) > 1.05 * share


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "case", ["plain", "shared weights", "clamped ratio", "long steps", "few fractions"]
)
def test_hatrpo_equals_the_reference_with_equal_budgets(case, seed):
    ascent = ascent_on(seed, **CASES[case])
    weights, reports = reference_of(case, seed, equal=True)
    statistics = hatrpo(ascent, names_of(ascent))
    compare(ascent, weights, reports, statistics)
    share = statistics["trust/total"] / ascent.sizes.sum()
    assert [report.budget for report in reports] == pytest.approx([share] * len(reports))


def test_the_cases_shorten_steps_reject_some_and_hand_kl_on():
    """What the comparisons above would be worth if nothing happened in them."""
    reports = [
        report for case in CASES for seed in (0, 1, 2) for report in reference_of(case, seed)[1]
    ]
    assert sum(0.0 < report.fraction < 1.0 for report in reports) >= 10
    assert sum(report.fraction == 0.0 for report in reports) >= 3
    assert sum(report.budget > 1.001 * report.planned for report in reports) >= 20
    for seed in (0, 1, 2):
        clamped = reference_of("clamped ratio", seed)[1]
        free = reference_of("clamped ratio", seed, clip_factor=False)[1]
        assert max(abs(a.slope / b.slope - 1.0) for a, b in zip(clamped, free, strict=True)) > 1e-3


@pytest.mark.parametrize("why", ["weight 0", "equal k"])
def test_equal_budgets_are_the_same_update_in_both_learners(why, monkeypatch):
    """Bit for bit, as long as nobody inherits what others left over."""
    weight = 0.0 if why == "weight 0" else 1.0
    first, second = (
        ascent_on(4, trust_region={"budget": {"weight": weight, "redistribute": False}})
        for _ in range(2)
    )
    if why == "equal k":
        monkeypatch.setattr(Walk, "improvements", lambda walk: np.full(AGENTS, 0.7))
    fast_hatrpo_w(first, names_of(first), RunningK(first.groups, memory=0.5))
    hatrpo(second, names_of(second))
    before = ascent_on(4).parameters
    for name, value in first.parameters.items():
        assert torch.equal(value, second.parameters[name]) and not torch.equal(value, before[name])


@pytest.mark.parametrize("algorithm", ["hatrpo", "hatrpo-w", "clip-hatrpo"])
def test_a_learner_on_the_ring_equals_the_reference(algorithm, monkeypatch):
    """Real roll-outs and float32, two updates; features and advantages as the learner scales."""
    torch.set_default_dtype(torch.float32)
    which = "hatrpo_w" if algorithm == "hatrpo-w" else "hatrpo"
    original, seen = getattr(actor_critic, which), []

    def spy(ascent, *rest):
        before = reference_agents(ascent)[0]
        weights, reports = reference_update(ascent, equal=which == "hatrpo")
        statistics = original(ascent, *rest)
        seen.append(statistics)
        for group, report in enumerate(reports):
            assert statistics[f"fraction/agent{group}"] == pytest.approx(report.fraction, rel=1e-5)
            assert statistics[f"budget/agent{group}"] == pytest.approx(report.budget, rel=1e-4)
            for name, value in ascent.parameters.items():
                moved = (weights[group][name] - before[group].weights[name]).abs().max()
                off = (value[group].double() - weights[group][name]).abs().max()
                assert off <= 0.002 * moved + 1e-7
        return statistics

    monkeypatch.setattr(actor_critic, which, spy)
    ring = PricedRing(agents=5)
    learner = learner_on(
        ring,
        algorithm=algorithm,
        sharing="none",
        blocks=1000,
        trust_region=exact(budget={"memory": 0.0}),
        guidance={"alpha": {"schedule": "fixed", "start": 0.0}},
        **QUICK,
    )
    for update in range(2):
        learner.update(play(ring, learner, range(4 * update, 4 * update + 4)))
    assert len(seen) == 2 and all(one["trust/moved"] == 5 for one in seen)


# -- the reference itself -------------------------------------------------------------------------


@pytest.fixture
def agent():
    agents, _ = reference_agents(ascent_on(7))
    return agents[0]


def dense_hessian(agent):
    count = sum(value.numel() for value in agent.weights.values())
    return torch.stack([hessian_vector_product(agent, unit) for unit in torch.eye(count)])


def test_reference_hessian_is_the_mean_outer_product_of_scores(agent):
    leaves = {n: value.clone().requires_grad_() for n, value in agent.weights.items()}
    log_p = log_policy(leaves, agent)
    fisher = 0.0
    for row, k in np.argwhere(agent.mask.numpy()):
        parts = torch.autograd.grad(log_p[row, k], list(leaves.values()), retain_graph=True)
        score = torch.cat([part.reshape(-1) for part in parts])
        fisher = fisher + log_p[row, k].detach().exp() * torch.outer(score, score)
    np.testing.assert_allclose(dense_hessian(agent), fisher / len(agent.action), atol=1e-12)


def test_reference_solver_agrees_with_a_dense_solve(agent):
    config = Config(damping=0.05, cg_iterations=200, cg_tolerance=1e-12)
    gradient = policy_gradient(agent, torch.ones(EPISODES * EPOCHS))
    matrix = dense_hessian(agent)
    dense = torch.linalg.solve(matrix + 0.05 * torch.eye(len(gradient)), gradient)
    np.testing.assert_allclose(natural_gradient(agent, gradient, config), dense, atol=1e-9)
    one = conjugate_gradient(lambda v: 4.0 * v, gradient, 5, 0.0)
    np.testing.assert_allclose(one, gradient / 4.0, rtol=1e-12)


def test_reference_kl_is_that_of_torch(agent):
    old = log_policy(agent.weights, agent)
    other = {name: value + 0.3 for name, value in agent.weights.items()}
    new = log_policy(other, agent)
    p, q = (torch.distributions.Categorical(probs=one.exp()) for one in (old, new))
    by_torch = torch.distributions.kl_divergence(p, q).mean()
    assert float(mean_kl(old, new)) == pytest.approx(float(by_torch), rel=1e-9)
    assert (old.exp()[~agent.mask] == 0.0).all() and float(by_torch) > 1e-4
