"""A synthetic roll-out for measuring updates, with an answer that is known exactly.

Every agent sees random features and chooses one of a few actions, of which it has one favourite.
The team's advantage of an epoch is the number of agents that took their favourites, standardised:
one number for all, in which an agent's own share is 1/N of the variance and the rest is the noise
of the others. Because the number is a sum, the joint policy's true improvement is the mean increase
in the probability of the favourites, on features that no update has seen.

``noise`` is the stress case: the advantage has nothing to do with the actions, and all agents fit
the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ...policies.ascent import Ascent
from ...policies.distributions import sample
from ...policies.experience import Decisions, Experience
from ...policies.happo import happo
from ...policies.interface import Rollout
from ...policies.networks import Parameters, stacked_weights
from ...policies.optimiser import StackedAdam
from ...policies.ppo import Ppo
from ...policies.settings import LearnerConfig
from ...policies.trust.budgets import RunningK
from ...policies.trust.dense import DenseMinibatch
from ...policies.trust.hatrpo import hatrpo
from ...policies.trust.hatrpo_g import hatrpo_g
from ...policies.trust.hatrpo_w import hatrpo_w
from ...simulators.interface import Doubles, Ints
from ...simulators.settings import Settings, knob
from ...simulators.streams import Streams

Advantage = Literal["team", "noise"]

UNSEEN = 256
"""Features per agent on which the true improvement is evaluated."""
CHUNK = 32
"""Agents that are evaluated together outside the measured update; bounds its memory."""


class Problem(Settings):
    """Size of a synthetic roll-out."""

    agents: int = knob(8, "agents, each with weights of its own", ge=2)
    samples: int = knob(2000, "decisions per agent", unit="decisions", ge=16)
    observation: int = knob(18, "features of an agent", ge=1)
    actions: int = knob(5, "actions to choose from", ge=2)
    hidden: tuple[int, ...] = knob((128, 128), "widths of the policy's hidden layers", min_length=1)
    advantage: Advantage = knob("team", "team: favourites and everybody's noise. noise: only noise")
    device: str = knob("cpu", "where the update runs: cpu, or cuda for a GPU")
    seed: int = knob(1, "seed of features, actions and weights", ge=0)


@dataclass(frozen=True, slots=True)
class Team:
    """Weights ``[N, ...]``, what the update reads, and the answer ``favourite`` ``[N]``."""

    problem: Problem
    config: LearnerConfig
    parameters: Parameters
    ppo: Ppo
    decisions: Decisions
    unseen: Experience
    favourite: Ints

    @staticmethod
    def build(problem: Problem, config: LearnerConfig) -> Team:
        """Weights, features, actions sampled from the policy, and the advantage."""
        streams = Streams(problem.seed)
        scale = config.network.output_scale
        parameters = _weights(problem, streams.generator("weights"), output_scale=scale)
        rollout = _rollout(problem, problem.samples, streams.generator("features"))
        # The experience holds views of the arrays: actions are filled in where it reads them.
        experience = _experience(problem, rollout, "cpu")
        _act(problem, parameters, experience, rollout.actions.astype(np.int64, copy=False))
        if problem.device != "cpu":
            experience = _experience(problem, rollout, problem.device)
        rng = streams.generator("advantage")
        favourite = rng.integers(problem.actions, size=problem.agents)
        if problem.advantage == "team":
            raw = (rollout.actions == favourite).sum(axis=2).astype(np.float64)
        else:
            raw = rng.standard_normal(rollout.actions.shape[:2])
        advantages = torch.from_numpy(((raw - raw.mean()) / raw.std()).astype(np.float32))
        return Team(
            problem=problem,
            config=config,
            parameters={name: value.to(problem.device) for name, value in parameters.items()},
            ppo=Ppo(experience, advantages.to(problem.device), None, config),
            decisions=Decisions(rollout, np.arange(problem.agents), problem.agents),
            unseen=_experience(
                problem, _rollout(problem, UNSEEN, streams.generator("unseen")), "cpu"
            ),
            favourite=favourite,
        )

    def improve(self) -> dict[str, float]:
        """One update of all agents, in place, by the learner's own functions; its statistics."""
        config = self.config
        ascent = Ascent(
            parameters=self.parameters,
            adam=StackedAdam(self.parameters, learning_rate=config.learning_rate),
            ppo=self.ppo,
            decisions=self.decisions,
            config=config,
            rng=Streams(self.problem.seed).generator,
        )
        names = tuple(f"agent{a}" for a in range(self.problem.agents))
        if not config.trusted:
            return happo(ascent, names)
        measured = RunningK(self.problem.agents, config.trust_region.budget.memory)
        if config.algorithm == "hatrpo-w":
            return hatrpo_w(ascent, names, measured)
        if config.algorithm == "hatrpo-g":
            return hatrpo_g(ascent, names, measured)
        return hatrpo(ascent, names)

    def finite(self) -> bool:
        """Whether all weights are."""
        return all(bool(value.isfinite().all()) for value in self.parameters.values())

    @torch.no_grad()
    def favoured(self) -> Doubles:
        """Probability of each agent's favourite, mean over unseen features ``[N]``."""
        weights = {name: value.cpu() for name, value in self.parameters.items()}
        chosen: list[torch.Tensor] = []
        for groups in _chunks(self.problem):
            batch = self.unseen.minibatch(*_everything(self.problem, groups, UNSEEN))
            log_p = batch.outputs({name: value[groups] for name, value in weights.items()})
            wanted = torch.from_numpy(self.favourite)[groups]
            chosen.append(log_p[torch.arange(groups.numel()), :, wanted].exp().mean(dim=1))
        return torch.cat(chosen).double().numpy()


def _weights(problem: Problem, rng: np.random.Generator, *, output_scale: float) -> Parameters:
    widths = (problem.observation, *problem.hidden, problem.actions)
    names = (*(f"hidden.{layer}" for layer in range(len(problem.hidden))), "output")
    parameters: Parameters = {}
    for name, fan_in, fan_out in zip(names, widths, widths[1:], strict=False):
        gain = output_scale if name == "output" else 1.0
        weight = stacked_weights(rng, problem.agents, fan_in, fan_out, gain)
        parameters[f"{name}.weight"] = torch.from_numpy(weight)
        parameters[f"{name}.bias"] = torch.zeros(problem.agents, fan_out)
    return parameters


def _rollout(problem: Problem, samples: int, rng: np.random.Generator) -> Rollout:
    """One long episode: random features, everything legal, no action taken yet."""
    shape = (1, samples, problem.agents)
    features = (1, samples + 1, problem.agents, problem.observation)
    return Rollout(
        agent=rng.standard_normal(features, dtype=np.float32),
        candidates=np.zeros((*shape, problem.actions, 1), np.float32),
        mask=np.ones((*shape, problem.actions), np.bool_),
        active=np.ones(shape, np.bool_),
        actions=np.zeros(shape, np.int64),
        critic=np.zeros((1, samples + 1, 1), np.float32),
        reward=np.zeros((1, samples)),
        local_reward=np.zeros(shape),
        guidance=np.zeros((*shape, problem.actions), np.float32),
        terminated=np.ones(1, np.bool_),
        seeds=np.zeros(1, np.int64),
    )


def _experience(problem: Problem, rollout: Rollout, device: str) -> Experience:
    on = torch.device(device)
    wide, one = (problem.agents, problem.observation), (problem.agents, 1)
    return Experience(
        rollout,
        scales={
            "normaliser.agent.shift": torch.zeros(wide, device=on),
            "normaliser.agent.scale": torch.ones(wide, device=on),
            "normaliser.candidate.shift": torch.zeros(one, device=on),
            "normaliser.candidate.scale": torch.ones(one, device=on),
        },
        agent_log=torch.zeros(problem.observation, dtype=torch.bool, device=on),
        candidate_log=torch.zeros(1, dtype=torch.bool, device=on),
        device=on,
        kind=DenseMinibatch,
    )


@torch.no_grad()
def _act(problem: Problem, parameters: Parameters, experience: Experience, actions: Ints) -> None:
    generator = torch.Generator().manual_seed(problem.seed)
    for groups in _chunks(problem):
        batch = experience.minibatch(*_everything(problem, groups, problem.samples))
        log_p = batch.outputs({name: value[groups] for name, value in parameters.items()})
        drawn = sample(log_p, batch.mask, generator)
        actions[0, :, groups.numpy()] = drawn.numpy()


def _chunks(problem: Problem) -> tuple[torch.Tensor, ...]:
    return torch.arange(problem.agents).split(CHUNK)


def _everything(
    problem: Problem, groups: torch.Tensor, samples: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Addresses of all decisions of these agents, that they are real, and the agents."""
    index = torch.arange(samples) * problem.agents + groups.unsqueeze(1)
    return index, torch.ones_like(index, dtype=torch.bool), groups
