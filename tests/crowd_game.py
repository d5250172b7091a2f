"""Two crowds that choose between two sides, with payoffs whose joint field is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from fairlead.policies.actor import Actor
from fairlead.policies.distributions import masked_log_softmax, masked_probabilities
from fairlead.policies.experience import Decisions
from fairlead.policies.interface import Rollout
from fairlead.policies.networks import scores
from fairlead.policies.ppo import Ppo
from fairlead.policies.projection.stage import ProjectionStage
from fairlead.policies.settings import LearnerConfig
from fairlead.policies.trust.fisher import leaves_of, unflatten
from fairlead.simulators.interface import Choice, Feature, Spec


class Crowds:
    """Agents of crowd ``a`` and ``b`` each pick one of ``choices`` candidates, epoch by epoch.

    ``varied`` draws features anew at every decision; otherwise a crowd has one policy that does not
    depend on anything. Weights are shared within a crowd, or by nobody (``sharing="none"``).
    """

    def __init__(
        self,
        *,
        sizes=(4, 4),
        choices=2,
        epochs=(4, 250),
        seed=0,
        varied=False,
        sharing="group",
        **projection,
    ):
        self.sizes, self.choices, self.varied = sizes, choices, varied
        self.episodes, self.epochs = epochs
        self.agents = sum(sizes)
        self.config = LearnerConfig.model_validate(
            {
                "sharing": sharing,
                "network": {"hidden": (8,), "output_scale": 0.5},
                "projection": {"method": "hpml", **projection},
            }
        )
        self.spec = Spec(
            domain="toy",
            scenario="crowds",
            agents=self.agents,
            groups=("a", "b"),
            group_of=np.repeat([0, 1], sizes),
            agent_features=(Feature("one", "1", 0, 1),),
            candidate_features=tuple(Feature(f"c{k}", "1", 0, 1) for k in range(choices)),
            critic_features=(Feature("one", "1", 0, 1),),
            state_size=1,
            action=Choice(choices),
            horizon=self.epochs,
            dt=1.0,
        )
        self.rng = np.random.default_rng(seed + 1000)
        self.actor = Actor(self.spec, self.config, np.random.default_rng(seed), torch.device("cpu"))
        self.stage = ProjectionStage(self.actor, self.config)

    def shift(self, scale):
        """Move all weights at random."""
        for value in self.actor.parameters.values():
            value.add_(torch.from_numpy(self.rng.standard_normal(value.shape)), alpha=scale)

    def seen(self) -> Rollout:
        """A roll-out without actions (all 0)."""
        e, t, a, k = self.episodes, self.epochs, self.agents, self.choices
        if self.varied:
            agent = self.rng.random((e, t + 1, a, 1)).astype(np.float32)
            candidates = self.rng.random((e, t, a, k, k)).astype(np.float32)
        else:
            agent = np.ones((e, t + 1, a, 1), np.float32)
            candidates = np.tile(np.eye(k, dtype=np.float32), (e, t, a, 1, 1))
        return Rollout(
            agent=agent,
            candidates=candidates,
            mask=np.ones((e, t, a, k), bool),
            active=np.ones((e, t, a), bool),
            actions=np.zeros((e, t, a), np.int64),
            critic=np.ones((e, t + 1, 1), np.float32),
            reward=np.zeros((e, t)),
            local_reward=np.zeros((e, t, a)),
            guidance=np.zeros((e, t, a, k), np.float32),
            terminated=np.ones(e, bool),
            seeds=np.arange(e),
        )

    @torch.no_grad()
    def probabilities(self, rollout) -> np.ndarray:
        """Of every candidate, ``[E, T, A, K]``."""
        experience = self.actor.experience(rollout)
        decisions = Decisions(rollout, self.actor.member, self.actor.groups)
        everyone = np.arange(self.actor.groups)
        table = decisions.everything(everyone, width=10**9)[0]
        batch = experience.minibatch(*experience.placed(*table, everyone))
        log_p = logits_of(self.actor.parameters, batch)
        flat = np.zeros((rollout.actions.size, self.choices))
        chosen = masked_probabilities(log_p, batch.mask)
        flat[table[0][table[1]]] = chosen.numpy()[table[1]]
        return flat.reshape(*rollout.actions.shape, self.choices)

    def play(self, change=None) -> Rollout:
        """Actions drawn from the current policies; ``change`` edits what is seen before."""
        rollout = self.seen()
        rollout = change(rollout) if change else rollout
        p = self.probabilities(rollout)
        drawn = (p.cumsum(axis=-1) < self.rng.random((*p.shape[:-1], 1))).sum(axis=-1)
        actions = np.minimum(drawn, self.choices - 1)
        return dataclasses.replace(
            rollout, actions=np.where(p.sum(axis=-1) > 0.0, actions, rollout.actions)
        )

    def shares(self, rollout) -> np.ndarray:
        """Each crowd's share of side 0, minus 1/2, ``[E, T, 2]``."""
        left = rollout.actions == 0
        split = self.sizes[0]
        return np.stack([left[..., :split].mean(-1), left[..., split:].mean(-1)], -1) - 0.5

    def payoffs(self, rollout, *, pull, turn) -> np.ndarray:
        """``-pull m_i^2 +- turn m_1 m_2`` of the shares, centred, for every agent ``[E, T, A]``.

        In the shares the joint field is ``(-2 pull + turn S) m`` with skew S: rest at 0.
        """
        m = self.shares(rollout)
        both = turn * m[..., 0] * m[..., 1]
        pay = np.stack([-pull * m[..., 0] ** 2 + both, -pull * m[..., 1] ** 2 - both], -1)
        return 10.0 * np.repeat(pay - pay.mean((0, 1)), self.sizes, axis=-1)

    def ppo(self, rollout, advantages) -> Ppo:
        experience = self.actor.experience(rollout)
        return Ppo(experience, torch.from_numpy(advantages.astype(np.float32)), None, self.config)

    def correct(self, rollout, advantages, update):
        decisions = Decisions(rollout, self.actor.member, self.actor.groups)
        return self.stage.correction(
            rollout,
            self.ppo(rollout, advantages),
            decisions,
            update=update,
            rng=np.random.default_rng(update),
        )

    def gradient(self, rollout, advantages) -> torch.Tensor:
        """Every group's gradient of its mean surrogate, ``[G, P]``."""
        ppo = self.ppo(rollout, advantages)
        decisions = Decisions(rollout, self.actor.member, self.actor.groups)
        everyone = np.arange(self.actor.groups)
        table = decisions.everything(everyone, width=10**9)[0]
        batch = ppo.experience.minibatch(*ppo.experience.placed(*table, everyone))
        leaves = leaves_of(self.actor.parameters)
        taken = logits_of(leaves, batch).gather(2, batch.actions[..., None])[..., 0]
        gain = batch.mean(taken * ppo.experience.spread(ppo.advantages, batch.index)).sum()
        parts = torch.autograd.grad(gain, list(leaves.values()))
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def moves(self, rollout, covector) -> np.ndarray:
        """Covectors ``[2, P]`` of two uniform crowds along their logit difference, ``[2]``.

        A crowd's weights act on its policy through one number; ``covector`` is that number's
        gradient times the value returned.
        """
        leaves = leaves_of(self.actor.parameters)
        experience = self.actor.experience(rollout)
        index = np.array([[0], [self.sizes[0]]])
        batch = experience.minibatch(*experience.placed(index, np.ones((2, 1), bool), np.arange(2)))
        logits = scores(leaves, batch.agent, batch.candidates, batch.mask)[:, 0]
        parts = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), list(leaves.values()))
        slope = torch.cat([part.flatten(1) for part in parts], dim=1)
        return ((covector * slope).sum(1) / slope.square().sum(1)).numpy()

    def ascend(self, *, updates, rate, project, **payoffs) -> np.ndarray:
        """Distance of the expected shares from rest before each plain gradient step."""
        far = []
        for update in range(updates):
            rollout = self.play()
            p = self.probabilities(rollout)[0, 0, :, 0]
            far.append(np.hypot(p[0] - 0.5, p[-1] - 0.5))
            advantages = self.payoffs(rollout, **payoffs)
            step = self.gradient(rollout, advantages)
            if project:
                correction, _ = self.correct(rollout, advantages, update)
                step = step if correction is None else step - correction
            for name, value in unflatten(step, self.actor.parameters).items():
                self.actor.parameters[name] += rate * value
        return np.array(far)


def logits_of(parameters, batch) -> torch.Tensor:
    """Masked log-probabilities ``[g, b, K]``."""
    return masked_log_softmax(
        scores(parameters, batch.agent, batch.candidates, batch.mask), batch.mask
    )
