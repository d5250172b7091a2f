"""Decisions of some parameter groups, and what a learner asks about them.

Learners know decisions through :class:`DecisionBatch` alone. *Outputs* are whatever parametrises
the distribution of one decision: log-probabilities of the candidates here, the raw outputs of the
network for set-points (:mod:`.box_minibatch`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Self

from torch import Tensor

from .distributions import (
    entropy,
    kl,
    log_probability,
    masked_log_softmax,
    masked_probabilities,
)
from .networks import Parameters, scores
from .surrogates import expected_surrogate, guidance_advantage


@dataclass(frozen=True, slots=True)
class DecisionBatch(ABC):
    """Decisions of ``g`` parameter groups, ``b`` each, normalised and ready for the network.

    ``index`` ``[g, b]`` are decision addresses, ``weight`` ``[g, b]`` is 1 for real ones and 0 for
    padding; ``groups`` ``[g]`` are the rows' parameter groups; ``agent`` ``[g, b, F]``; ``mask``,
    ``actions`` and ``guidance`` as in the roll-out, ``[g, b, ...]``; ``half`` ``[g, b]`` assigns
    each decision to one of two halves of the roll-out.

    It is a ``trust.fisher.Batch``.
    """

    index: Tensor
    weight: Tensor
    groups: Tensor
    agent: Tensor
    mask: Tensor
    actions: Tensor
    guidance: Tensor
    half: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Mean over real decisions, ``[g, b]`` to ``[g]``."""
        return (values * self.weight).sum(dim=1) / self.weight.sum(dim=1).clamp_min(1.0)

    def rows(self, index: Tensor) -> Self:
        """These parameter groups only, ``[m]`` int64; they may repeat."""
        picked = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return replace(self, **picked)

    def halves(self) -> tuple[Self, Self]:
        """The same decisions, counting those of one half of the roll-out only."""
        first = self.weight * ~self.half
        return replace(self, weight=first), replace(self, weight=self.weight - first)

    @abstractmethod
    def raw(self, parameters: Parameters) -> Tensor:
        """What the network puts out, ``[g, b, O]``; the projection is linear in it."""

    @abstractmethod
    def outputs(self, parameters: Parameters) -> Tensor:
        """Distribution parameters under stacked weights, ``[g, b, O]``; differentiable."""

    @abstractmethod
    def log_probability(self, outputs: Tensor) -> Tensor:
        """Of the actions taken, ``[g, b]``."""

    @abstractmethod
    def entropy(self, outputs: Tensor) -> Tensor:
        """Exact entropy of every decision in nats, ``[g, b]``."""

    @abstractmethod
    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Exact ``KL(old || new)`` of every decision in nats, ``[g, b]``."""

    @abstractmethod
    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information with respect to the outputs, times a direction of their shape."""

    @abstractmethod
    def mean_action(self, outputs: Tensor) -> Tensor:
        """Expected action as it moves the state: probabilities, or shares; ``[g, b, K or D]``."""

    @abstractmethod
    def sampled_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        """``A^G = q - E q`` of the actions taken, ``[g, b]``; E under ``outputs``."""

    @abstractmethod
    def expected_guidance(
        self, old: Tensor, new: Tensor, guidance: Tensor, clip: float | None
    ) -> Tensor:
        """Surrogate of ``E_new A^G``, with A^G under ``old``, ``[g, b]``."""

    @abstractmethod
    def squared_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        """``E (A^G)^2``, ``[g, b]``."""


@dataclass(frozen=True, slots=True)
class Minibatch(DecisionBatch):
    """Choices among candidates, for :func:`..networks.scores`; outputs are log-probabilities.

    ``candidates`` ``[g, b, K, C]``, ``mask`` and ``guidance`` ``[g, b, K]`` and ``actions``
    ``[g, b]``.
    """

    candidates: Tensor

    def raw(self, parameters: Parameters) -> Tensor:
        """Logits of the candidate scorer, ``[g, b, K]``."""
        return scores(parameters, self.agent, self.candidates, self.mask)

    def outputs(self, parameters: Parameters) -> Tensor:
        """Masked log-softmax of the logits, ``[g, b, K]``."""
        return masked_log_softmax(self.raw(parameters), self.mask)

    def log_probability(self, outputs: Tensor) -> Tensor:
        return log_probability(outputs, self.actions)

    def entropy(self, outputs: Tensor) -> Tensor:
        return entropy(outputs, self.mask)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return kl(old, new, self.mask)

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information ``E[dlog p dlog p']`` times a direction in log-probabilities."""
        return masked_probabilities(outputs, self.mask) * direction

    def mean_action(self, outputs: Tensor) -> Tensor:
        return masked_probabilities(outputs, self.mask)

    def sampled_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        advantage = guidance_advantage(outputs, guidance, self.mask)
        return log_probability(advantage, self.actions)

    def expected_guidance(
        self, old: Tensor, new: Tensor, guidance: Tensor, clip: float | None
    ) -> Tensor:
        """With ``clip`` the PPO clip applies to every candidate."""
        advantage = guidance_advantage(old, guidance, self.mask)
        return expected_surrogate(old, new, advantage, self.mask, clip)

    def squared_guidance(self, outputs: Tensor, guidance: Tensor) -> Tensor:
        advantage = guidance_advantage(outputs, guidance, self.mask)
        return (masked_probabilities(outputs, self.mask) * advantage.square()).sum(dim=-1)
