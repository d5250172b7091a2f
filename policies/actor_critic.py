"""IPPO, MAPPO and HAPPO with the DG-PG stage: one update, top to bottom in the papers' terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Choice, Doubles, Ints, Spec
from ..simulators.streams import Streams
from .acting import NORMALISER
from .advantages import gae, mixed_reward
from .alignment import AlignmentMonitor, GradientGram
from .alpha import AlphaController
from .critic import Critic, central_inputs, own_inputs
from .distributions import masked_probabilities
from .experience import Decisions, Experience, Minibatch, Pass, check_rollout
from .gradients import time_units, unit_gram
from .guidance import AdvantageScale, Blend, JointValues, guidance_advantage
from .interface import PolicyArrays, Rollout
from .joint_guidance import JointGuidance
from .networks import Parameters, scorer_weights, to_tensor
from .normaliser import Normaliser
from .optimiser import StackedAdam
from .ppo import Block, Ppo, PpoStatistics, policy_log_probabilities
from .settings import LearnerConfig, Sharing

SMALLEST = 64
"""Decisions per pass that every parameter group gets at least."""
NAMED_GROUPS = 16
"""Statistics are also given per parameter group up to this many groups."""


def parameter_groups(spec: Spec, sharing: Sharing) -> tuple[Ints, tuple[str, ...]]:
    """Parameter group of each agent ``[A]`` and the groups' names."""
    if sharing == "all":
        return np.zeros(spec.agents, np.int64), ("all",)
    if sharing == "group":
        return np.asarray(spec.group_of, np.int64), spec.groups
    return np.arange(spec.agents), tuple(f"agent{a}" for a in range(spec.agents))


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
        self.member, self.group_names = parameter_groups(spec, config.sharing)
        self.groups = len(self.group_names)
        self.updates = 0
        self.calibrated = False
        streams = Streams(seed)
        weights = scorer_weights(
            streams.generator("learner/policy weights"),
            groups=self.groups,
            agent_features=len(spec.agent_features),
            candidate_features=len(spec.candidate_features),
            hidden=config.network.hidden,
            context=config.network.context,
            output_scale=config.network.output_scale,
        )
        self.actor: Parameters = {
            name: torch.from_numpy(value).to(self.device) for name, value in weights.items()
        }
        self.adam = StackedAdam(self.actor, learning_rate=config.learning_rate)
        self._set_normalisers(
            Normaliser.from_features(spec.agent_features),
            Normaliser.from_features(spec.candidate_features),
            Normaliser.from_features(spec.critic_features),
        )
        self.own_critic = config.algorithm == "ippo"
        own_width = len(spec.agent_features) + len(spec.candidate_features) + len(spec.groups)
        self.critic = Critic(
            inputs=own_width if self.own_critic else len(spec.critic_features),
            heads=len(spec.groups) if config.local_mix > 0.0 and not self.own_critic else 1,
            settings=config.critic,
            rng=streams.generator("learner/critic weights"),
            device=self.device,
        )
        self.scale = AdvantageScale(config.guidance.scale_memory)
        self.alpha = AlphaController(config.guidance.alpha, self.groups)
        self.monitor = AlignmentMonitor(config.guidance.alignment)

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
        if not self.calibrated:
            self._calibrate(rollout)
        experience = Experience(
            rollout,
            scales=self.scales,
            agent_log=torch.from_numpy(self.normalisers[0].logarithmic).to(self.device),
            candidate_log=torch.from_numpy(self.normalisers[1].logarithmic).to(self.device),
            device=self.device,
        )
        decisions = Decisions(rollout, self.member, self.groups)
        statistics: dict[str, float] = {"rollout/decisions": float(decisions.flat.size)}

        # 1. Generalised advantages of the true reward, under the critic of the roll-out.
        inputs = self._critic_inputs(rollout)
        advantages, returns = self._advantages(rollout, inputs, statistics)
        normalised = self._normalise(advantages, decisions, statistics)

        # 2. Guidance: scale c, weight alpha, alignment.
        blend = self._guide(rollout, experience, decisions, normalised, statistics)

        # 3. PPO: all groups at once, or block after block with the compound ratio M (HAPPO).
        ppo = Ppo(experience, normalised, blend, config)
        statistics.update(self._improve(ppo, decisions))

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
                {name: value[groups] for name, value in self.actor.items()},
                self.adam.select(groups),
                factor=log_factor.exp().float() if position > 0 else None,
            )
            old = {name: value.clone() for name, value in block.parameters.items()}
            if joint is not None and len(blocks) > 1:
                joint.policy = self._probabilities(ppo.experience, decisions)
            passes = self._passes(rng, decisions, members, whole_epochs=joint is not None)
            done.append((groups, ppo.improve(block, passes)))
            for name, value in block.parameters.items():
                self.actor[name][groups] = value
            self.adam.merge(block.adam, groups)
            if position + 1 < len(blocks):
                everything = self._everything(decisions, members)
                log_factor = log_factor + ppo.log_ratio(old, block, everything)
                statistics.update(_factor_statistics(log_factor, position + 1))
        return {**statistics, **self._policy_statistics(done)}

    @torch.no_grad()
    def _probabilities(self, experience: Experience, decisions: Decisions) -> Tensor:
        """Current policy of every decision, ``[E * T, A, K]``; 0 where nothing is decided."""
        everyone = np.arange(self.groups)
        shape = (-1, self.spec.agents, experience.choices)
        rows = experience.episodes * experience.epochs * self.spec.agents
        total = torch.zeros(rows, experience.choices, device=self.device)
        groups = torch.from_numpy(everyone).to(self.device)
        for index, real in self._everything(decisions, everyone):
            batch = experience.minibatch(index, real, groups)
            chosen = masked_probabilities(policy_log_probabilities(self.actor, batch), batch.mask)
            total[index[real]] = chosen[real]
        return total.view(shape)

    # -- advantages ---------------------------------------------------------------------------

    def _critic_inputs(self, rollout: Rollout) -> Tensor:
        if not self.own_critic:
            return central_inputs(rollout, self.normalisers[2], self.device)
        agent, candidate, _ = self.normalisers
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

    # -- guidance -----------------------------------------------------------------------------

    def _guide(
        self,
        rollout: Rollout,
        experience: Experience,
        decisions: Decisions,
        normalised: Tensor,
        statistics: dict[str, float],
    ) -> Blend | None:
        settings = self.config.guidance
        if not self.config.guided or decisions.flat.size == 0:
            return None
        if settings.alpha.fine_tune_from is not None and not self.alpha.value(self.updates).any():
            statistics["guidance/alpha"] = 0.0
            return None
        if not rollout.guidance.any():
            raise ValueError(
                "guidance is on (alpha > 0) but the roll-out carries no guidance values; collect "
                "it with an analytical model or set guidance.alpha.schedule=fixed and start=0"
            )
        joint = self._joint(rollout)
        square = self._guidance_square(experience, decisions, self._rng("guidance"))
        self.scale.observe(float(normalised.square().mean()), square)
        scale = self.scale.factor
        gram = self._measure(rollout, experience, normalised, scale)
        inner, square_guidance = gram.products()
        self.alpha.observe(
            gram.variance_return, gram.variance_guidance, inner=inner, square=square_guidance
        )
        cosine, score = gram.cosine()
        self.alpha.brake = self.monitor.observe(score, self.alpha.brake)
        alpha = self.alpha.value(self.updates)
        statistics.update(
            {
                "advantage/rms_guidance": math.sqrt(square),
                "guidance/scale": scale,
                "guidance/alpha": float(alpha.mean()),
                "guidance/variance_return": _mean_known(gram.variance_return),
                "guidance/variance_guidance": _mean_known(gram.variance_guidance),
                "guidance/kappa": self.alpha.kappa,
                "guidance/cosine": cosine,
                "guidance/cosine_error": abs(cosine / score) if score else float("nan"),
                "guidance/evidence": float(self.monitor.evidence),
                "guidance/alerts": float(self.monitor.alerts),
                "guidance/brake": self.alpha.brake,
            }
        )
        if 1 < self.groups <= NAMED_GROUPS:
            for name, value in zip(self.group_names, alpha, strict=True):
                statistics[f"alpha/{name}"] = float(value)
        # Exactly nothing to blend: the plain learner's numbers, minibatches included.
        return self._blend(alpha, scale, joint) if alpha.any() else None

    def _blend(self, alpha: Doubles, scale: float, joint: JointValues | None = None) -> Blend:
        return Blend(
            of_return=torch.from_numpy((1.0 - alpha).astype(np.float32)).to(self.device),
            of_guidance=torch.from_numpy((alpha * scale).astype(np.float32)).to(self.device),
            estimator=self.config.guidance.estimator,
            clip=self.config.guidance.clip,
            joint=joint,
        )

    def _joint(self, rollout: Rollout) -> JointValues | None:
        if self.config.guidance.estimator != "joint":
            return None
        if rollout.effects is None:
            raise ValueError(
                "guidance.estimator=joint needs a roll-out with recorded effects; record them or "
                "set guidance.estimator=expected"
            )
        return JointValues(
            JointGuidance.from_effects(rollout.effects, self.device),
            to_tensor(rollout.guidance, self.device).flatten(0, 1),
            to_tensor(rollout.mask, self.device).flatten(0, 1),
        )

    @torch.no_grad()
    def _guidance_square(
        self, experience: Experience, decisions: Decisions, rng: np.random.Generator
    ) -> float:
        """Mean of ``sum_a pi(a) A^G(a)^2`` over a random subset of decisions."""
        everyone = np.arange(self.groups)
        table = decisions.table(rng, everyone, per_group=self._per_group())
        index, real, groups = self._placed(*table, everyone)
        batch = experience.minibatch(index, real, groups)
        log_p = policy_log_probabilities(self.actor, batch)
        advantage = guidance_advantage(log_p, batch.guidance, batch.mask)
        square = (masked_probabilities(log_p, batch.mask) * advantage.square()).sum(dim=-1)
        # Groups count by their number of decisions, not each the same.
        count = torch.from_numpy(decisions.count).to(self.device).double()
        return float((batch.mean(square).double() * count).sum() / count.sum())

    def _measure(
        self, rollout: Rollout, experience: Experience, normalised: Tensor, scale: float
    ) -> GradientGram:
        """Gram matrix of the two policy gradients on time blocks of the episodes.

        The joint estimator is measured in its expected form: at the roll-out policy both have the
        same mean, and the expected form's variance is an upper bound.
        """
        settings = self.config.guidance.alignment
        rng = self._rng("alignment")
        everyone = np.arange(self.groups)
        share = max(4, settings.samples // self.groups)
        units = [
            Decisions(rollout, self.member, self.groups, within).table(
                rng, everyone, per_group=share
            )
            for within in time_units(
                experience.episodes, experience.epochs, block=settings.block, aim=settings.units
            )
        ]
        pure = [
            Ppo(
                experience, normalised, self._blend(np.full(self.groups, alpha), scale), self.config
            )
            for alpha in (0.0, 1.0)
        ]

        def objectives(batch: Minibatch, log_p: Tensor) -> tuple[Tensor, Tensor]:
            old = log_p.detach()
            of_return, of_guidance = (ppo.surrogate(batch, old, log_p, None)[0] for ppo in pure)
            return of_return, of_guidance

        return unit_gram(
            self.actor, experience, units, network=policy_log_probabilities, objectives=objectives
        )

    # -- minibatches and blocks ---------------------------------------------------------------

    def _rng(self, purpose: str) -> np.random.Generator:
        return Streams(self.seed).generator(f"learner/update {self.updates}/{purpose}")

    def _per_group(self) -> int:
        return max(SMALLEST, self.config.max_samples // self.groups)

    def _placed(self, *arrays: NDArray[Any]) -> list[Tensor]:
        return [torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in arrays]

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
        return [[(i, r) for i, r in (self._placed(*pair) for pair in table)] for table in tables]

    def _everything(self, decisions: Decisions, block: Ints) -> Pass:
        width = max(1, max(self.config.max_samples, 4096) // block.size)
        pairs = (self._placed(*pair) for pair in decisions.everything(block, width=width))
        return [(index, real) for index, real in pairs]

    def _blocks(self) -> list[Ints]:
        everyone = np.arange(self.groups)
        if self.config.algorithm != "happo":
            return [everyone]
        if self.config.order == "random":
            everyone = self._rng("order").permutation(everyone)
        return list(np.array_split(everyone, min(self.config.blocks, self.groups)))

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
        if 1 < self.groups <= NAMED_GROUPS:
            for name in ("entropy", "kl", "grad_norm"):
                for group, value in zip(self.group_names, table[name], strict=True):
                    statistics[f"{name}/{group}"] = float(value)
        return statistics

    # -- normalisation, policy and state ------------------------------------------------------

    def _set_normalisers(
        self, agent: Normaliser, candidate: Normaliser, critic: Normaliser
    ) -> None:
        self.normalisers = (agent, candidate, critic)
        rows = (agent.shift, agent.scale, candidate.shift, candidate.scale)
        self.scales: Parameters = {
            name: torch.from_numpy(np.repeat(row[None], self.groups, axis=0)).to(self.device)
            for name, row in zip(NORMALISER, rows, strict=True)
        }

    def _calibrate(self, rollout: Rollout) -> None:
        """Feature scales from the first roll-out, then never again."""
        agent, candidate, critic = self.normalisers
        deciding = rollout.active
        self._set_normalisers(
            agent.calibrated(rollout.agent[:, :-1][deciding]),
            candidate.calibrated(rollout.candidates[deciding[..., None] & rollout.mask]),
            critic.calibrated(rollout.critic.reshape(-1, rollout.critic.shape[-1])),
        )
        self.calibrated = True

    def policy(self) -> PolicyArrays:
        """Copies of weights and feature scales, ready for ``PolicyActor``."""
        both = {**self.actor, **self.scales}
        tensors = {name: value.cpu().numpy().copy() for name, value in both.items()}
        return PolicyArrays(tensors, self.member.copy())

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Tensors and counters for an exact resume."""
        tensors: dict[str, NDArray[Any]] = {"actor.steps": self.adam.steps.cpu().numpy().copy()}
        for name, value in self.actor.items():
            tensors[f"actor.weights.{name}"] = value.cpu().numpy().copy()
            tensors[f"actor.first.{name}"] = self.adam.first[name].cpu().numpy().copy()
            tensors[f"actor.second.{name}"] = self.adam.second[name].cpu().numpy().copy()
        names = ("agent", "candidate", "critic")
        for name, normaliser in zip(names, self.normalisers, strict=True):
            tensors[f"normaliser.{name}.shift"] = normaliser.shift.copy()
            tensors[f"normaliser.{name}.scale"] = normaliser.scale.copy()
        parts = {"critic": self.critic.state(), "alpha": self.alpha.state()}
        parts["scale"] = self.scale.state()
        parts["monitor"] = {"evidence": np.array([self.monitor.evidence])}
        for part, arrays in parts.items():
            tensors.update({f"{part}.{name}": array for name, array in arrays.items()})
        counters: dict[str, object] = {
            "algorithm": self.config.algorithm,
            "seed": self.seed,
            "updates": self.updates,
            "calibrated": self.calibrated,
            "alerts": self.monitor.alerts,
        }
        return tensors, counters

    def load_state(self, tensors: dict[str, NDArray[Any]], counters: dict[str, object]) -> None:
        """Continue exactly where ``state`` was taken.

        Raises:
            ValueError: a state of another algorithm, or with other tensors or shapes.
        """
        own, own_counters = self.state()
        for name in ("algorithm", "updates", "calibrated", "seed", "alerts"):
            if name not in counters:
                raise ValueError(f"learner state lacks the counter {name!r}")
        if counters["algorithm"] != own_counters["algorithm"]:
            raise ValueError(
                f"learner state is of algorithm {counters['algorithm']!r}, this learner is "
                f"{own_counters['algorithm']!r}"
            )
        if missing := sorted(own.keys() ^ tensors.keys()):
            raise ValueError(f"learner state does not match, tensors differ in: {missing[:5]}")
        for name, array in own.items():
            if tensors[name].shape != array.shape:
                raise ValueError(
                    f"learner state tensor {name}: expected shape {array.shape}, found "
                    f"{tensors[name].shape}"
                )

        def part(prefix: str) -> dict[str, NDArray[Any]]:
            start = prefix + "."
            return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}

        for name, value in self.actor.items():
            value.copy_(torch.from_numpy(tensors[f"actor.weights.{name}"]))
            self.adam.first[name].copy_(torch.from_numpy(tensors[f"actor.first.{name}"]))
            self.adam.second[name].copy_(torch.from_numpy(tensors[f"actor.second.{name}"]))
        self.adam.steps.copy_(torch.from_numpy(tensors["actor.steps"]))
        loaded = [
            Normaliser(
                old.logarithmic,
                tensors[f"normaliser.{name}.shift"].copy(),
                tensors[f"normaliser.{name}.scale"].copy(),
            )
            for name, old in zip(("agent", "candidate", "critic"), self.normalisers, strict=True)
        ]
        self._set_normalisers(*loaded)
        self.critic.load_state(part("critic"))
        self.alpha.load_state(part("alpha"))
        self.scale.load_state(part("scale"))
        self.monitor.evidence = float(tensors["monitor.evidence"][0])
        self.monitor.alerts = int(str(counters["alerts"]))
        self.seed, self.updates = int(str(counters["seed"])), int(str(counters["updates"]))
        self.calibrated = bool(counters["calibrated"])


def _factor_statistics(log_factor: Tensor, position: int) -> dict[str, float]:
    """Largest compound ratio and effective sample size (share of samples) at a HAPPO position."""
    logs = log_factor.reshape(-1)
    weight = (logs - logs.max()).exp()
    share = weight.sum().square() / (weight.square().sum() * logs.numel())
    return {
        f"happo/log_factor_max/{position}": float(logs.max()),
        f"happo/effective_samples/{position}": float(share),
    }


def _mean_known(values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
