"""Plain networks on an agent's own features that choose one of K actions.

For problems whose actions have no features of their own (games, benchmarks). Weights are those of
``networks.perceptron_weights``, stacked ``[g, ...]``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..minibatch import Minibatch
from ..networks import Parameters, hidden_layers
from ..thin import thin


def dense(parameters: Parameters, inputs: Tensor) -> Tensor:
    """Stacked tanh networks: ``[g, b, F]`` to ``[g, b, O]``."""
    outputs = thin(hidden_layers(parameters, inputs), parameters["output.weight"])
    return outputs + parameters["output.bias"].unsqueeze(1)


@dataclass(frozen=True, slots=True)
class DenseMinibatch(Minibatch):
    """Decisions whose K actions are the network's K outputs; candidates' features are not read."""

    def raw(self, parameters: Parameters) -> Tensor:
        """Logits ``[g, b, K]``."""
        return dense(parameters, self.agent)
