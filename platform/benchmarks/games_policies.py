"""Policies of one-shot games, as batches that the trust region core takes.

Many independent games are played side by side: with S games of n agents, agent i of game s is the
parameter group ``s n + i``. An agent sees nothing, so that its policy is a handful of numbers: mean
and logarithm of the standard deviation, or logits. Float64 throughout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from ...policies.networks import Parameters


@dataclass(frozen=True, slots=True)
class Plays(ABC):
    """What ``g`` agents did in ``b`` plays; a ``policies.trust.batches.Batch``.

    ``actions`` ``[g, b]``; ``value`` ``[g, b]``, the advantage of the joint play times the compound
    ratio of those who moved before; ``weight`` ``[g, b]``: 1 for a sample, or in proportion to the
    probability of the play where all of them are listed; ``half`` ``[g, b]`` bool.
    """

    actions: Tensor
    value: Tensor
    weight: Tensor
    half: Tensor

    @abstractmethod
    def outputs(self, parameters: Parameters) -> Tensor:
        """Distribution parameters ``[g, b, O]``."""

    @abstractmethod
    def log_probability(self, outputs: Tensor) -> Tensor:
        """Of the actions taken, ``[g, b]``."""

    @abstractmethod
    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Exact KL in nats, ``[g, b]``."""

    @abstractmethod
    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information of the outputs times a direction ``[g, b, O]``."""

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over plays, ``[g, b]`` to ``[g]``."""
        return (values * self.weight).sum(dim=1) / self.weight.sum(dim=1).clamp_min(1.0)

    def rows(self, index: Tensor) -> Self:
        """These agents only, ``[m]`` int64; they may repeat."""
        picked = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return replace(self, **picked)

    def halves(self) -> tuple[Self, Self]:
        """The same plays, counting those of one half only."""
        first = self.weight * ~self.half
        return replace(self, weight=first), replace(self, weight=self.weight - first)

    def one_each(self) -> Self:
        """One play with weight 1: enough for Fisher products, as the policy is the same in all."""
        only = {field.name: getattr(self, field.name)[:, :1] for field in fields(self)}
        return replace(self, **(only | {"weight": torch.ones_like(only["weight"])}))

    def valued(self, value: Tensor) -> Self:
        """The same plays with other values ``[g, b]``."""
        return replace(self, value=value)


class GaussianPlays(Plays):
    """Normal policies: ``mean`` and ``log_std``, each ``[g, 1]``."""

    __slots__ = ()

    def outputs(self, parameters: Parameters) -> Tensor:
        """Mean and log standard deviation, ``[g, b, 2]``."""
        both = torch.cat([parameters["mean"], parameters["log_std"]], dim=1)
        return both.unsqueeze(1).expand(-1, self.actions.shape[1], -1)

    def log_probability(self, outputs: Tensor) -> Tensor:
        """Up to the constant ``-log(2 pi) / 2``."""
        mean, log_std = outputs.unbind(dim=-1)
        return -0.5 * ((self.actions - mean) * (-log_std).exp()).square() - log_std

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Of one normal distribution from another."""
        (mean, log_std), (mean_new, log_std_new) = old.unbind(dim=-1), new.unbind(dim=-1)
        spread = (2.0 * (log_std - log_std_new)).exp()
        shift = ((mean - mean_new) * (-log_std_new).exp()).square()
        return log_std_new - log_std + 0.5 * (spread + shift - 1.0)

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """``diag(1 / sigma^2, 2)``."""
        first = direction[..., 0] * (-2.0 * outputs[..., 1]).exp()
        return torch.stack([first, 2.0 * direction[..., 1]], dim=-1)


class SoftmaxPlays(Plays):
    """Choices among K actions: ``logits`` ``[g, K]``; ``actions`` int64."""

    __slots__ = ()

    def outputs(self, parameters: Parameters) -> Tensor:
        """Log-probabilities ``[g, b, K]``."""
        log_p = torch.log_softmax(parameters["logits"], dim=1)
        return log_p.unsqueeze(1).expand(-1, self.actions.shape[1], -1)

    def log_probability(self, outputs: Tensor) -> Tensor:
        """Of the actions taken, ``[g, b]``."""
        return outputs.gather(2, self.actions.unsqueeze(2)).squeeze(2)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Of one categorical distribution from another."""
        return (old.exp() * (old - new)).sum(dim=-1)

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """``diag(p)`` in log-probabilities."""
        return outputs.exp() * direction
