"""Plain networks on an agent's own features: one of K actions, or set-points in a box.

For problems whose actions have no features of their own (games, benchmarks, power set-points).
Weights are those of ``networks.perceptron_weights``, stacked ``[g, ...]``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from ..distributions import BoxBeta, masked_log_softmax
from ..experience import Minibatch
from ..networks import Parameters, hidden_layers
from ..thin import thin


def dense(parameters: Parameters, inputs: Tensor) -> Tensor:
    """Stacked tanh networks: ``[g, b, F]`` to ``[g, b, O]``."""
    outputs = thin(hidden_layers(parameters, inputs), parameters["output.weight"])
    return outputs + parameters["output.bias"].unsqueeze(1)


@dataclass(frozen=True, slots=True)
class DenseMinibatch(Minibatch):
    """Decisions whose K actions are the network's K outputs; candidates' features are not read."""

    def outputs(self, parameters: Parameters) -> Tensor:
        """Masked log-softmax ``[g, b, K]``."""
        return masked_log_softmax(dense(parameters, self.agent), self.mask)


@dataclass(frozen=True, slots=True)
class BoxBatch:
    """Set-points of ``g`` parameter groups with a Beta policy on their feasible box; a ``Batch``.

    ``agent`` ``[g, b, F]``, ``low``, ``high`` and ``actions`` ``[g, b, D]``, ``weight`` ``[g, b]``,
    ``half`` ``[g, b]`` bool. Outputs are the network's ``[g, b, 2 D]``.
    """

    agent: Tensor
    low: Tensor
    high: Tensor
    actions: Tensor
    weight: Tensor
    half: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Mean over real decisions, ``[g, b]`` to ``[g]``."""
        return (values * self.weight).sum(dim=1) / self.weight.sum(dim=1).clamp_min(1.0)

    def policy(self, outputs: Tensor) -> BoxBeta:
        """The distribution that outputs stand for."""
        return BoxBeta.from_network(outputs, self.low, self.high)

    def outputs(self, parameters: Parameters) -> Tensor:
        """Network outputs ``[g, b, 2 D]``."""
        return dense(parameters, self.agent)

    def log_ratio(self, old: Tensor, new: Tensor) -> Tensor:
        """``log pi_new(a) - log pi_old(a)`` of the actions taken, ``[g, b]``."""
        before, after = self.policy(old), self.policy(new)
        return after.log_probability(self.actions) - before.log_probability(self.actions)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Exact KL of every decision, ``[g, b]``."""
        return self.policy(old).kl(self.policy(new))

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information of the two shapes, carried through the softplus.

        That of a Beta distribution is ``[[t(a) - t(a+b), -t(a+b)], [-t(a+b), t(b) - t(a+b)]]``
        with the trigamma function t. A dimension without width is no decision and has none.
        """
        policy = self.policy(outputs)
        rise_a, rise_b = torch.sigmoid(outputs).chunk(2, dim=-1)
        along_a, along_b = direction.chunk(2, dim=-1)
        move_a, move_b = rise_a * along_a, rise_b * along_b
        both = torch.polygamma(1, policy.a + policy.b) * (move_a + move_b)
        free = (self.high > self.low).to(outputs.dtype)
        first = free * rise_a * (torch.polygamma(1, policy.a) * move_a - both)
        second = free * rise_b * (torch.polygamma(1, policy.b) * move_b - both)
        return torch.cat([first, second], dim=-1)

    def rows(self, index: Tensor) -> Self:
        """These parameter groups only, ``[m]`` int64; they may repeat."""
        picked = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return replace(self, **picked)

    def halves(self) -> tuple[Self, Self]:
        """The same decisions, counting those of one half of the roll-out only."""
        first = self.weight * ~self.half
        return replace(self, weight=first), replace(self, weight=self.weight - first)
