"""The policy in training: stacked weights, their optimiser and the feature scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..simulators.interface import Box, Floats, Ints, Spec
from .box_acting import BOX_NORMALISER
from .box_minibatch import BoxMinibatch
from .columns import NORMALISER
from .experience import Experience
from .interface import PolicyArrays, Rollout
from .minibatch import Minibatch
from .networks import Parameters, base_weights, box_weights, scorer_weights
from .normaliser import Normaliser
from .optimiser import StackedAdam
from .settings import LearnerConfig, NetworkSettings, Sharing


def parameter_groups(spec: Spec, sharing: Sharing) -> tuple[Ints, tuple[str, ...]]:
    """Parameter group of each agent ``[A]`` and the groups' names."""
    if sharing == "all":
        return np.zeros(spec.agents, np.int64), ("all",)
    if sharing == "group":
        return np.asarray(spec.group_of, np.int64), spec.groups
    return np.arange(spec.agents), tuple(f"agent{a}" for a in range(spec.agents))


def _initial_weights(
    spec: Spec, settings: NetworkSettings, groups: int, rng: np.random.Generator
) -> dict[str, Floats]:
    if isinstance(spec.action, Box):
        weights = box_weights(
            rng,
            groups=groups,
            agent_features=len(spec.agent_features),
            dimensions=spec.action.dimensions,
            hidden=settings.hidden,
            output_scale=settings.output_scale,
            concentration=1.05 if based(spec, settings) else settings.concentration,
        )
        if based(spec, settings):
            weights |= _base(spec, settings, groups, Normaliser.from_features(spec.agent_features))
        return weights
    return scorer_weights(
        rng,
        groups=groups,
        agent_features=len(spec.agent_features),
        candidate_features=len(spec.candidate_features),
        hidden=settings.hidden,
        context=settings.context,
        output_scale=settings.output_scale,
    )


def based(spec: Spec, settings: NetworkSettings) -> bool:
    """Whether set-points start at the simulator's base."""
    return settings.base > 0.0 and isinstance(spec.action, Box) and bool(spec.action.base)


def _base(
    spec: Spec, settings: NetworkSettings, groups: int, scales: Normaliser
) -> dict[str, Floats]:
    named = spec.action.base if isinstance(spec.action, Box) else ()
    columns = [spec.agent_column(name) for name in named]
    shift, scale = scales.shift, scales.scale
    return base_weights(columns, shift=shift, scale=scale, count=settings.base, groups=groups)


class Actor:
    """Networks of all parameter groups: candidate scorers, or those of set-points in boxes.

    Attributes:
        parameters: weights ``[G, ...]`` on the device.
        adam: their optimiser.
        scales: the ``normaliser.*`` tensors ``[G, columns]``.
        normalisers: of agent, candidate and critic features.
        calibrated: whether the feature scales have been fitted; that happens once.
    """

    def __init__(
        self, spec: Spec, config: LearnerConfig, rng: np.random.Generator, device: torch.device
    ) -> None:
        self.member, self.names = parameter_groups(spec, config.sharing)
        self.device = device
        self.boxes = isinstance(spec.action, Box)
        self._spec, self._network = spec, config.network
        weights = _initial_weights(spec, config.network, self.groups, rng)
        self.parameters: Parameters = {
            name: torch.from_numpy(value).to(device) for name, value in weights.items()
        }
        self.adam = StackedAdam(self.parameters, learning_rate=config.learning_rate)
        self.calibrated = False
        self._set_normalisers(
            Normaliser.from_features(spec.agent_features),
            Normaliser.from_features(spec.candidate_features),
            Normaliser.from_features(spec.critic_features),
        )

    @property
    def groups(self) -> int:
        """Number of parameter groups."""
        return len(self.names)

    def calibrate(self, rollout: Rollout) -> None:
        """Feature scales from the first roll-out; later calls change nothing."""
        if self.calibrated:
            return
        agent, candidate, critic = self.normalisers
        deciding = rollout.active
        self._set_normalisers(
            agent.calibrated(rollout.agent[:, :-1][deciding]),
            candidate
            if self.boxes
            else candidate.calibrated(rollout.candidates[deciding[..., None] & rollout.mask]),
            critic.calibrated(rollout.critic.reshape(-1, rollout.critic.shape[-1])),
        )
        self.calibrated = True
        if based(self._spec, self._network):
            # Nothing has been learned yet: the same start, told in the new scales.
            agent = self.normalisers[0]
            for name, value in _base(self._spec, self._network, self.groups, agent).items():
                self.parameters[name].copy_(torch.from_numpy(value))

    def experience(self, rollout: Rollout) -> Experience:
        """The roll-out on the device, read through the feature scales."""
        agent, candidate, _ = self.normalisers
        return Experience(
            rollout,
            scales=self.scales,
            agent_log=torch.from_numpy(agent.logarithmic).to(self.device),
            candidate_log=torch.from_numpy(candidate.logarithmic).to(self.device),
            device=self.device,
            kind=BoxMinibatch if self.boxes else Minibatch,
        )

    def policy(self) -> PolicyArrays:
        """Copies of weights and feature scales, ready for ``acting.actor``."""
        both = {**self.parameters, **self.scales}
        tensors = {name: value.cpu().numpy().copy() for name, value in both.items()}
        return PolicyArrays(tensors, self.member.copy())

    def _set_normalisers(
        self, agent: Normaliser, candidate: Normaliser, critic: Normaliser
    ) -> None:
        self.normalisers = (agent, candidate, critic)
        names, rows = NORMALISER, (agent.shift, agent.scale, candidate.shift, candidate.scale)
        if self.boxes:
            names, rows = BOX_NORMALISER, rows[:2]
        self.scales: Parameters = {
            name: torch.from_numpy(np.repeat(row[None], self.groups, axis=0)).to(self.device)
            for name, row in zip(names, rows, strict=True)
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that ``load_state`` needs for an exact resume."""
        arrays: dict[str, NDArray[Any]] = {
            "steps": self.adam.steps.cpu().numpy().copy(),
            "calibrated": np.array([self.calibrated]),
        }
        for name, value in self.parameters.items():
            arrays[f"weights.{name}"] = value.cpu().numpy().copy()
            arrays[f"first.{name}"] = self.adam.first[name].cpu().numpy().copy()
            arrays[f"second.{name}"] = self.adam.second[name].cpu().numpy().copy()
        for number, normaliser in enumerate(self.normalisers):
            arrays[f"shift.{number}"] = normaliser.shift.copy()
            arrays[f"scale.{number}"] = normaliser.scale.copy()
        return arrays

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore a state; shapes were checked by the learner."""
        for name, value in self.parameters.items():
            value.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
            self.adam.first[name].copy_(torch.from_numpy(arrays[f"first.{name}"]))
            self.adam.second[name].copy_(torch.from_numpy(arrays[f"second.{name}"]))
        self.adam.steps.copy_(torch.from_numpy(arrays["steps"]))
        agent, candidate, critic = (
            Normaliser(
                old.logarithmic,
                arrays[f"shift.{number}"].copy(),
                arrays[f"scale.{number}"].copy(),
            )
            for number, old in enumerate(self.normalisers)
        )
        self._set_normalisers(agent, candidate, critic)
        self.calibrated = bool(arrays["calibrated"][0])
