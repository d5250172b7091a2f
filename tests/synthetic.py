"""Random roll-outs and made-up advantages, as the learners see them; no simulator."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from fairlead.policies.ascent import Ascent
from fairlead.policies.experience import Decisions, Experience
from fairlead.policies.happo import happo
from fairlead.policies.interface import Rollout
from fairlead.policies.networks import scorer_weights
from fairlead.policies.optimiser import StackedAdam
from fairlead.policies.ppo import Ppo
from fairlead.policies.settings import LearnerConfig
from fairlead.policies.trust.budgets import RunningK
from fairlead.policies.trust.hatrpo import hatrpo
from fairlead.policies.trust.hatrpo_g import hatrpo_g
from fairlead.policies.trust.hatrpo_w import hatrpo_w

FEATURES = {"agent": 3, "candidate": 2}


def random_rollout(rng, *, episodes, epochs, agents, choices, activity=0.8):
    """Random features, masks and idle agents; some have nothing but the first choice at times."""
    shape = (episodes, epochs, agents)
    mask = rng.random((*shape, choices)) < 0.7
    mask[..., 0] = True
    draw = rng.random(mask.shape)
    return Rollout(
        agent=rng.standard_normal((episodes, epochs + 1, agents, FEATURES["agent"]), np.float32),
        candidates=rng.standard_normal((*mask.shape, FEATURES["candidate"]), np.float32),
        mask=mask,
        active=rng.random(shape) < activity,
        actions=np.argmax(np.where(mask, draw, -1.0), axis=-1),
        critic=np.zeros((episodes, epochs + 1, 1), np.float32),
        reward=np.zeros(shape[:2]),
        local_reward=np.zeros(shape),
        guidance=np.zeros(mask.shape, np.float32),
        terminated=np.zeros(episodes, bool),
        seeds=np.arange(episodes),
    )


def random_weights(rng, groups, *, hidden=(6,), output_scale=1.0):
    weights = scorer_weights(
        rng,
        groups=groups,
        agent_features=FEATURES["agent"],
        candidate_features=FEATURES["candidate"],
        hidden=hidden,
        context=True,
        output_scale=output_scale,
    )
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def experience_of(rollout, groups):
    """The roll-out read through feature scales that change nothing."""
    scales = {
        f"normaliser.{kind}.{part}": torch.full((groups, width), float(part == "scale"))
        for kind, width in (
            ("agent", rollout.agent.shape[3]),
            ("candidate", rollout.candidates.shape[4]),
        )
        for part in ("shift", "scale")
    }
    return Experience(
        rollout,
        scales=scales,
        agent_log=torch.zeros(rollout.agent.shape[3], dtype=torch.bool),
        candidate_log=torch.zeros(rollout.candidates.shape[4], dtype=torch.bool),
        device=torch.device("cpu"),
    )


def ascent_of(rollout, advantages, weights, *, member, seed=0, **config):
    """``advantages`` ``[E, T]`` or ``[E, T, A]`` as they are, not normalised."""
    groups = int(member.max()) + 1
    settings = LearnerConfig.model_validate({"max_samples": 10**6, **config})
    parameters = {name: value.clone() for name, value in weights.items()}
    return Ascent(
        parameters=parameters,
        adam=StackedAdam(parameters, learning_rate=settings.learning_rate),
        ppo=Ppo(
            experience_of(rollout, groups),
            torch.as_tensor(np.asarray(advantages, np.float32)),
            None,
            settings,
        ),
        decisions=Decisions(rollout, member, groups),
        config=settings,
        rng=lambda purpose: np.random.default_rng([seed, len(purpose)]),
    )


def random_ascent(
    seed, *, agents=5, choices=4, episodes=2, epochs=14, member=None, output_scale=1.0, **config
):
    """A random problem: later agents can do ever less about the advantages, the last nothing."""
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng, episodes=episodes, epochs=epochs, agents=agents, choices=choices)
    member = np.arange(agents) if member is None else np.asarray(member)
    weights = random_weights(rng, int(member.max()) + 1, output_scale=output_scale)
    taken = np.take_along_axis(rollout.candidates[..., 0], rollout.actions[..., None], -1)[..., 0]
    pull = np.append(3.0 * 0.4 ** np.arange(agents - 1), 0.0)
    advantages = (pull * taken).sum(-1) + 0.3 * rng.standard_normal(rollout.reward.shape)
    advantages = (advantages - advantages.mean()) / advantages.std()
    return ascent_of(rollout, advantages, weights, member=member, seed=seed, **config)


def names_of(ascent):
    return tuple(f"g{group}" for group in range(ascent.groups))


def improve(ascent, improvement=None):
    """One update by the learner that the configuration names; statistics."""
    config, names = ascent.config, names_of(ascent)
    if not config.trusted:
        return happo(ascent, names)
    if config.algorithm in ("hatrpo-w", "hatrpo-g"):
        memory = improvement or RunningK(ascent.groups, memory=config.trust_region.budget.memory)
        learner = hatrpo_w if config.algorithm == "hatrpo-w" else hatrpo_g
        return learner(ascent, names, memory)
    return hatrpo(ascent, names)


def weights_of(ascent):
    return {name: value.clone() for name, value in ascent.parameters.items()}


def bits(value):
    """For comparisons that tell -0 from 0."""
    return value.contiguous().view(torch.int32 if value.dtype == torch.float32 else torch.int64)


def identical(first, second, groups=None):
    """Bit for bit, in these parameter groups (all)."""
    rows = slice(None) if groups is None else groups
    return all(torch.equal(bits(first[n][rows]), bits(second[n][rows])) for n in first)


def moved(first, second):
    """Which parameter groups differ in some bit, ``[G]`` bool."""
    return torch.stack(
        [(bits(first[n]) != bits(second[n])).flatten(1).any(dim=1) for n in first]
    ).any(dim=0)


def exact_kl(ascent, before, after):
    """Mean KL of each group's decisions between two sets of weights, in float64, ``[G]``."""
    groups = np.arange(ascent.groups)
    table = ascent.decisions.table(np.random.default_rng(0), groups, per_group=10**9)
    batch = ascent.ppo.experience.minibatch(*ascent.ppo.experience.placed(*table, groups))
    batch = dataclasses.replace(
        batch,
        agent=batch.agent.double(),
        candidates=batch.candidates.double(),
        weight=batch.weight.double(),
    )
    old, new = (batch.outputs({n: v.double() for n, v in one.items()}) for one in (before, after))
    return batch.mean(batch.kl(old, new)).numpy()


def log_change(ascent, before, after):
    """``log pi_new(a) - log pi_old(a)`` of every decision ``[E * T, A]``; 0 where none is made.

    Group by group in float64, by a road of its own: no stacking, no address tables.
    """
    experience, decisions = ascent.ppo.experience, ascent.decisions
    changes = np.zeros(experience.episodes * experience.epochs * experience.agents)
    for address, group in zip(decisions.flat, decisions.group, strict=True):
        batch = experience.minibatch(
            torch.tensor([[address]]), torch.ones(1, 1) > 0, torch.tensor([group])
        )
        batch = dataclasses.replace(
            batch, agent=batch.agent.double(), candidates=batch.candidates.double()
        )
        logs = [
            batch.outputs({n: v[[group]].double() for n, v in weights.items()})
            for weights in (before, after)
        ]
        action = int(batch.actions)
        changes[address] = float(logs[1][0, 0, action] - logs[0][0, 0, action])
    return changes.reshape(-1, experience.agents)
