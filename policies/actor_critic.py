"""IPPO, MAPPO and HAPPO with the DG-PG stage: one update, top to bottom in the papers' terms."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Bools, Choice, Doubles, Ints, Spec
from ..simulators.streams import Streams
from .actor import Actor
from .advantages import gae, mixed_reward
from .critic import Critic, central_inputs, own_inputs
from .descent import NAMED_GROUPS, DescentGuidance, part
from .distributions import masked_probabilities
from .experience import Decisions, Experience, Pass, check_rollout
from .interface import PolicyArrays, Rollout
from .ppo import Block, Ppo, PpoStatistics, policy_log_probabilities
from .settings import LearnerConfig

SMALLEST = 64
"""Decisions per pass that every parameter group gets at least."""


class ActorCritic:
    """Implements ``Learner`` for simulators whose agents choose among candidates.

    Every random choice of update ``u`` comes from streams named after ``u``, so the state to resume
    from holds no generator. Guidance has streams of its own: with alpha = 0 the numbers are those
    of the plain learner bit for bit.
    """

    def __init__(self, spec: Spec, config: LearnerConfig, *, seed: int, device: str) -> None:
        if not isinstance(spec.action, Choice):
            raise TypeError(f"scenario {spec.scenario!r} has box actions; this learner chooses")
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
        self.guidance = DescentGuidance(self.actor, config)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One update; see ``Learner``.

        Raises:
            ValueError: arrays that do not fit the spec, masked actions, or guidance that is asked
                for and missing from the roll-out.
        """
        config = self.config
        check_rollout(
            rollout,
            agents=self.spec.agents,
            candidates=rollout.mask.shape[3],
            features=len(self.spec.agent_features),
        )
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

        # 3. PPO: all groups at once, or block after block with the compound ratio M (HAPPO).
        statistics.update(self._improve(dataclasses.replace(ppo, blend=blend), decisions))

        # 4. The critic, on true returns only.
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

    def _improve(self, ppo: Ppo, decisions: Decisions) -> dict[str, float]:
        rng = self._rng("minibatches")
        statistics: dict[str, float] = {}
        done: list[tuple[Tensor, PpoStatistics]] = []
        blocks = self._blocks()
        joint = ppo.blend.joint if ppo.blend is not None else None
        shape = (ppo.experience.episodes, ppo.experience.epochs)
        log_factor = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for position, members in enumerate(blocks):
            groups = torch.from_numpy(members).to(self.device)
            block = Block(
                groups,
                {name: value[groups] for name, value in self.actor.parameters.items()},
                self.actor.adam.select(groups),
                factor=log_factor.exp().float() if position > 0 else None,
            )
            old = {name: value.clone() for name, value in block.parameters.items()}
            if joint is not None and len(blocks) > 1:
                joint.policy = self._probabilities(ppo.experience, decisions)
            passes = self._passes(rng, decisions, members, whole_epochs=joint is not None)
            done.append((groups, ppo.improve(block, passes)))
            for name, value in block.parameters.items():
                self.actor.parameters[name][groups] = value
            self.actor.adam.merge(block.adam, groups)
            if position + 1 < len(blocks):
                everything = self._everything(decisions, members)
                log_factor = log_factor + ppo.log_ratio(old, block, everything)
                statistics.update(_factor_statistics(log_factor, position + 1))
        return {**statistics, **self._policy_statistics(done)}

    @torch.no_grad()
    def _probabilities(self, experience: Experience, decisions: Decisions) -> Tensor:
        """Current policy of every decision, ``[E * T, A, K]``; 0 where nothing is decided."""
        everyone = np.arange(self.actor.groups)
        shape = (-1, self.spec.agents, experience.choices)
        rows = experience.episodes * experience.epochs * self.spec.agents
        total = torch.zeros(rows, experience.choices, device=self.device)
        groups = torch.from_numpy(everyone).to(self.device)
        for index, real in self._everything(decisions, everyone):
            batch = experience.minibatch(index, real, groups)
            chosen = masked_probabilities(
                policy_log_probabilities(self.actor.parameters, batch), batch.mask
            )
            total[index[real]] = chosen[real]
        return total.view(shape)

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

    # -- minibatches and blocks ---------------------------------------------------------------

    def _rng(self, purpose: str) -> np.random.Generator:
        return Streams(self.seed).generator(f"learner/update {self.updates}/{purpose}")

    def _per_group(self) -> int:
        return max(SMALLEST, self.config.max_samples // self.actor.groups)

    def _passes(
        self, rng: np.random.Generator, decisions: Decisions, block: Ints, *, whole_epochs: bool
    ) -> list[Pass]:
        """All random choices of a block's update, made before its loop."""
        config = self.config
        tables = (
            decisions.whole_epochs(rng, block, most=config.max_samples, pieces=config.minibatches)
            if whole_epochs
            else decisions.scattered(
                rng, block, per_group=self._per_group(), pieces=config.minibatches
            )
            for _ in range(config.passes)
        )
        return [self._placed(table) for table in tables]

    def _everything(self, decisions: Decisions, block: Ints) -> Pass:
        width = max(1, max(self.config.max_samples, 4096) // block.size)
        return self._placed(decisions.everything(block, width=width))

    def _placed(self, tables: list[tuple[Ints, Bools]]) -> Pass:
        on = self.device
        return [
            (torch.from_numpy(index).to(on), torch.from_numpy(real).to(on))
            for index, real in tables
        ]

    def _blocks(self) -> list[Ints]:
        everyone = np.arange(self.actor.groups)
        if self.config.algorithm != "happo":
            return [everyone]
        if self.config.order == "random":
            everyone = self._rng("order").permutation(everyone)
        return list(np.array_split(everyone, min(self.config.blocks, self.actor.groups)))

    # -- statistics ---------------------------------------------------------------------------

    def _policy_statistics(self, done: list[tuple[Tensor, PpoStatistics]]) -> dict[str, float]:
        order = torch.cat([groups for groups, _ in done]).argsort()

        def joined(name: str) -> NDArray[np.float32]:
            return torch.cat([getattr(s, name) for _, s in done])[order].cpu().numpy()

        mean = ("loss", "entropy", "kl", "clip_fraction", "grad_norm", "steps")
        table = {name: joined(name) for name in (*mean, "ratio_max", "first_ratio_error")}
        statistics = {f"policy/{name}": float(table[name].mean()) for name in mean}
        statistics["policy/ratio_max"] = float(table["ratio_max"].max())
        statistics["policy/first_ratio_error"] = float(table["first_ratio_error"].max())
        if 1 < self.actor.groups <= NAMED_GROUPS:
            for name in ("entropy", "kl", "grad_norm"):
                for group, value in zip(self.actor.names, table[name], strict=True):
                    statistics[f"{name}/{group}"] = float(value)
        return statistics

    # -- policy and state ---------------------------------------------------------------------

    def policy(self) -> PolicyArrays:
        """Copies of weights and feature scales, ready for ``PolicyActor``."""
        return self.actor.policy()

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Tensors and counters for an exact resume."""
        parts = {"actor": self.actor, "critic": self.critic, "guidance": self.guidance}
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
        self.seed, self.updates = int(str(counters["seed"])), int(str(counters["updates"]))


def _factor_statistics(log_factor: Tensor, position: int) -> dict[str, float]:
    """Largest compound ratio and effective sample size (share of samples) at a HAPPO position."""
    logs = log_factor.reshape(-1)
    weight = (logs - logs.max()).exp()
    share = weight.sum().square() / (weight.square().sum() * logs.numel())
    return {
        f"happo/log_factor_max/{position}": float(logs.max()),
        f"happo/effective_samples/{position}": float(share),
    }
