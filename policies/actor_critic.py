"""One update of any learner, top to bottom: advantages, guidance, projection, steps, critic."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Doubles, Spec
from ..simulators.streams import Streams
from .actor import Actor
from .advantages import gae, mixed_reward
from .ascent import Ascent
from .critic import Critic, central_inputs, own_inputs
from .descent import DescentGuidance, part
from .experience import Decisions
from .happo import happo
from .interface import PolicyArrays, Rollout
from .ppo import Ppo
from .projection.stage import ProjectionStage
from .rollout_check import check_rollout
from .settings import LearnerConfig
from .trust.budgets import RunningK
from .trust.hatrpo import hatrpo
from .trust.hatrpo_g import hatrpo_g
from .trust.hatrpo_w import hatrpo_w


class ActorCritic:
    """Implements ``Learner`` for simulators whose agents choose among candidates or set boxes.

    Every random choice of update ``u`` comes from streams named after ``u``, so the state to resume
    from holds no generator. Guidance has streams of its own: with alpha = 0 the numbers are those
    of the plain learner bit for bit.
    """

    def __init__(self, spec: Spec, config: LearnerConfig, *, seed: int, device: str) -> None:
        self.spec, self.config, self.seed = spec, config, seed
        self.device = torch.device(device)
        self.updates = 0
        streams = Streams(seed)
        self.actor = Actor(spec, config, streams.generator("learner/policy weights"), self.device)
        self.own_critic = config.algorithm == "ippo"
        own_width = len(spec.agent_features) + len(spec.candidate_features) + len(spec.groups)
        self.critic = Critic(
            inputs=own_width if self.own_critic else len(spec.critic_features),
            heads=len(spec.groups) if config.local_mix > 0.0 and not self.own_critic else 1,
            settings=config.critic,
            rng=streams.generator("learner/critic weights"),
            device=self.device,
        )
        self._groups: dict[str, Doubles] = {}
        self.guidance = DescentGuidance(self.actor, config)
        self.projection = ProjectionStage(self.actor, config)
        self.improvement = RunningK(
            self.actor.groups,
            memory=config.trust_region.budget.memory,
            shrink=config.trust_region.budget.split_half,
        )

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One update; see ``Learner``.

        Raises:
            ValueError: arrays that do not fit the spec, masked actions, shares outside [0, 1], or
                guidance that is asked for and missing from the roll-out.
        """
        config = self.config
        check_rollout(rollout, self.spec)
        self.actor.calibrate(rollout)
        experience = self.actor.experience(rollout)
        decisions = Decisions(rollout, self.actor.member, self.actor.groups)
        statistics: dict[str, float] = {"rollout/decisions": float(decisions.flat.size)}

        # 1. Generalised advantages of the true reward, under the critic of the roll-out.
        inputs = self._critic_inputs(rollout)
        advantages, returns = self._advantages(rollout, inputs, statistics)
        normalised = self._normalise(advantages, decisions, statistics)

        # 2. Guidance: scale c, weight alpha, alignment.
        ppo = Ppo(experience, normalised, None, config)
        blend, guidance = self.guidance.blend(
            rollout, ppo, decisions, update=self.updates, rng=self._rng
        )
        statistics.update(guidance)

        # 3. Projection: what no potential explains is taken off every group's gradient.
        ppo = dataclasses.replace(ppo, blend=blend)
        correction, projected = self.projection.correction(
            rollout, ppo, decisions, update=self.updates, rng=self._rng("projection")
        )
        statistics.update(projected)

        # 4. The steps of the groups, at once or one block after another.
        ascent = Ascent(
            parameters=self.actor.parameters,
            adam=self.actor.adam,
            ppo=ppo,
            decisions=decisions,
            config=config,
            rng=self._rng,
            correction=correction,
        )
        statistics.update(self._improve(ascent))
        self._groups = {"decisions": decisions.count.astype(np.float64), **ascent.table}
        if blend is not None:
            self._groups["alpha"] = 1.0 - blend.of_return.double().cpu().numpy()

        # 5. The critic, on true returns only.
        statistics.update(
            self.critic.fit(
                self._training_rows(inputs, rollout),
                returns,
                rng=self._rng("critic"),
                most=max(config.max_samples, config.critic.minibatch),
            )
        )
        self.updates += 1
        return statistics

    def groups(self) -> tuple[tuple[str, ...], dict[str, Doubles]]:
        """Figures of every parameter group in the last update; see ``Learner``."""
        return self.actor.names, self._groups

    def _improve(self, ascent: Ascent) -> dict[str, float]:
        names = self.actor.names
        if not self.config.trusted:
            return happo(ascent, names)
        if self.config.algorithm == "hatrpo-w":
            return hatrpo_w(ascent, names, self.improvement)
        if self.config.algorithm == "hatrpo-g":
            return hatrpo_g(ascent, names, self.improvement)
        return hatrpo(ascent, names)

    # -- advantages ---------------------------------------------------------------------------

    def _critic_inputs(self, rollout: Rollout) -> Tensor:
        if not self.own_critic:
            return central_inputs(rollout, self.actor.normalisers[2], self.device)
        agent, candidate, _ = self.actor.normalisers
        return own_inputs(
            rollout, spec=self.spec, agent=agent, candidate=candidate, device=self.device
        )

    def _training_rows(self, inputs: Tensor, rollout: Rollout) -> Tensor:
        """Inputs of all epochs but the bootstrap, ``[E * T (* A), ...]``."""
        episodes, epochs = rollout.reward.shape
        rows = inputs.view(episodes, epochs + 1, -1, inputs.shape[1])[:, :epochs]
        return rows.reshape(-1, inputs.shape[1])

    def _advantages(
        self, rollout: Rollout, inputs: Tensor, statistics: dict[str, float]
    ) -> tuple[Doubles, Doubles]:
        """A^J ``[E, T]`` or ``[E, T, A]``, and the critic's targets ``[rows, heads]``."""
        episodes, epochs = rollout.reward.shape
        values = self.critic.values(inputs)
        if self.own_critic:
            values = values.reshape(episodes, epochs + 1, self.spec.agents)
        else:
            values = values.reshape(episodes, epochs + 1, self.critic.heads)
            values = values[:, :, self.spec.group_of] if self.critic.heads > 1 else values[:, :, 0]
        reward = mixed_reward(rollout.reward, rollout.local_reward, mix=self.config.local_mix)
        advantages, returns = gae(
            reward,
            values,
            rollout.terminated,
            gamma=self.config.gamma,
            lam=self.config.gae_lambda,
        )
        if self.critic.heads > 1:
            member = np.eye(len(self.spec.groups))[self.spec.group_of]
            returns = returns @ (member / np.maximum(member.sum(axis=0), 1.0))
            targets = returns.reshape(-1, self.critic.heads)
        elif self.config.local_mix > 0.0 and not self.own_critic:
            targets = returns.mean(axis=2).reshape(-1, 1)
        else:
            targets = returns.reshape(-1, 1)
        residual = advantages if self.critic.heads == 1 else advantages.mean(axis=2)
        spread = float(returns.var())
        statistics["critic/explained_variance"] = (
            1.0 - float(residual.var()) / spread if spread > 0.0 else 0.0
        )
        statistics["advantage/return_mean"] = float(rollout.reward.sum(axis=1).mean())
        return advantages, targets

    def _normalise(
        self, advantages: Doubles, decisions: Decisions, statistics: dict[str, float]
    ) -> Tensor:
        """Mean 0 and deviation 1 over the roll-out's decisions (0 if there is no deviation)."""
        flat = decisions.flat
        rows = flat // self.spec.agents if advantages.ndim == 2 else flat
        seen = advantages.reshape(-1)[rows] if flat.size else np.zeros(1)
        mean, deviation = float(seen.mean()), float(seen.std())
        statistics["advantage/rms_return"] = float(np.sqrt(np.mean(seen**2)))
        if deviation > 1e-12 * (1.0 + abs(mean)):
            normalised = (advantages - mean) / deviation
        else:
            normalised = np.zeros_like(advantages)
        return torch.from_numpy(normalised.astype(np.float32)).to(self.device)

    def _rng(self, purpose: str) -> np.random.Generator:
        return Streams(self.seed).generator(f"learner/update {self.updates}/{purpose}")

    # -- policy and state ---------------------------------------------------------------------

    def policy(self) -> PolicyArrays:
        """Copies of weights and feature scales, ready for ``acting.actor``."""
        return self.actor.policy()

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Tensors and counters for an exact resume."""
        parts = {
            "actor": self.actor,
            "critic": self.critic,
            "guidance": self.guidance,
            "projection": self.projection,
            "improvement": self.improvement,
        }
        tensors: dict[str, NDArray[Any]] = {
            f"{name}.{key}": array
            for name, one in parts.items()
            for key, array in one.state().items()
        }
        counters: dict[str, object] = {
            "algorithm": self.config.algorithm,
            "seed": self.seed,
            "updates": self.updates,
        }
        return tensors, counters

    def load_state(self, tensors: dict[str, NDArray[Any]], counters: dict[str, object]) -> None:
        """Continue exactly where ``state`` was taken.

        Raises:
            ValueError: a state of another algorithm, or with other tensors or shapes.
        """
        own, own_counters = self.state()
        for name in own_counters:
            if name not in counters:
                raise ValueError(f"learner state lacks the counter {name!r}")
        if counters["algorithm"] != self.config.algorithm:
            raise ValueError(
                f"learner state is of algorithm {counters['algorithm']!r}, this learner is "
                f"{self.config.algorithm!r}"
            )
        if missing := sorted(own.keys() ^ tensors.keys()):
            raise ValueError(f"learner state does not match, tensors differ in: {missing[:5]}")
        for name, array in own.items():
            if tensors[name].shape != array.shape:
                raise ValueError(
                    f"learner state tensor {name}: expected shape {array.shape}, found "
                    f"{tensors[name].shape}"
                )
        self.actor.load_state(part(tensors, "actor"))
        self.critic.load_state(part(tensors, "critic"))
        self.guidance.load_state(part(tensors, "guidance"))
        self.projection.load_state(part(tensors, "projection"))
        self.improvement.load_state(part(tensors, "improvement"))
        self.seed, self.updates = int(str(counters["seed"])), int(str(counters["updates"]))
