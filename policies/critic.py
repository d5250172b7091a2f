"""Value functions: central (its input does not grow with the agents) or each agent's own.

Returns are normalised by a running mean and deviation; when those move, the last layer is
rescaled so that the predictions stay what they were (PopArt, after arXiv 1602.07714 section 2.2).
The critic only ever sees the true return, never the guidance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Doubles, Spec
from .interface import Rollout
from .networks import (
    Parameters,
    normalise,
    perceptron,
    perceptron_weights,
    pooled,
    to_tensor,
)
from .normaliser import Normaliser
from .optimiser import StackedAdam
from .settings import CriticSettings

CHUNK = 65_536
"""Rows evaluated at once, so that memory does not grow with the roll-out."""


class Critic:
    """One tanh network with normalised outputs and its optimiser.

    Args:
        inputs: columns of its input.
        heads: values predicted at once (1, or one for each group of agents).
    """

    def __init__(
        self,
        *,
        inputs: int,
        heads: int,
        settings: CriticSettings,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        self.settings, self.device, self.heads = settings, device, heads
        weights = perceptron_weights(rng, inputs=inputs, hidden=settings.hidden, outputs=heads)
        self.parameters: Parameters = {
            name: torch.from_numpy(value).to(device) for name, value in weights.items()
        }
        self.adam = StackedAdam(self.parameters, learning_rate=settings.learning_rate)
        self.mean: Doubles = np.zeros(heads)
        self.deviation: Doubles = np.ones(heads)
        self.calibrated = False

    @torch.no_grad()
    def values(self, inputs: Tensor) -> Doubles:
        """Values ``[rows, heads]`` in units of return."""
        parts = [perceptron(self.parameters, part).cpu() for part in inputs.split(CHUNK)]
        return torch.cat(parts).double().numpy() * self.deviation + self.mean

    def fit(
        self, inputs: Tensor, returns: Doubles, *, rng: np.random.Generator, most: int
    ) -> dict[str, float]:
        """Regress on ``returns`` ``[rows, heads]``; at most ``most`` random rows per pass."""
        self.rescale(returns)
        targets = (returns - self.mean) / self.deviation
        target = torch.from_numpy(targets.astype(np.float32)).to(self.device)
        rows = min(inputs.shape[0], most)
        size = min(self.settings.minibatch, rows)
        # All random choices are made before the loop: inside, nothing leaves the device.
        order = np.stack(
            [rng.permutation(inputs.shape[0])[:rows] for _ in range(self.settings.passes)]
        )
        order_on_device = torch.from_numpy(order).to(self.device)
        live = torch.ones(1, dtype=torch.bool, device=self.device)
        losses: list[Tensor] = []
        norms: list[Tensor] = []
        for one_pass in order_on_device:
            for part in one_pass.split(size):
                leaves = {n: p.detach().requires_grad_() for n, p in self.parameters.items()}
                error = perceptron(leaves, inputs[part]) - target[part]
                loss = 0.5 * error.square().mean()
                gradients = torch.autograd.grad(loss, list(leaves.values()))
                norm = self.adam.step(
                    self.parameters, gradients, live=live, max_norm=self.settings.max_grad_norm
                )
                losses.append(loss.detach())
                norms.append(norm)
        return {
            "critic/loss": float(torch.stack(losses).mean()),
            "critic/grad_norm": float(torch.stack(norms).mean()),
        }

    def rescale(self, returns: Doubles) -> None:
        """Move the normalisation towards these returns; predictions do not change."""
        mean, deviation = returns.mean(axis=0), returns.std(axis=0)
        if self.calibrated:
            keep = self.settings.memory
            past = self.deviation**2 + self.mean**2
            second = keep * past + (1.0 - keep) * (deviation**2 + mean**2)
            mean = keep * self.mean + (1.0 - keep) * mean
            deviation = np.sqrt(np.maximum(second - mean**2, 0.0))
        deviation = np.where(deviation > 1e-6 * (1.0 + np.abs(mean)), deviation, 1.0)
        weight, bias = self.parameters["output.weight"], self.parameters["output.bias"]
        if self.calibrated:
            ratio = torch.from_numpy((self.deviation / deviation).astype(np.float32))
            shift = torch.from_numpy(((self.mean - mean) / deviation).astype(np.float32))
            weight.mul_(ratio.to(self.device))
            bias.mul_(ratio.to(self.device)).add_(shift.to(self.device))
        # Before the first roll-out the network predicts 0 and there is nothing to preserve.
        self.mean, self.deviation, self.calibrated = mean, deviation, True

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that ``load_state`` needs for an exact resume."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in self.parameters.items():
            arrays[f"weights.{name}"] = value.cpu().numpy().copy()
            arrays[f"first.{name}"] = self.adam.first[name].cpu().numpy().copy()
            arrays[f"second.{name}"] = self.adam.second[name].cpu().numpy().copy()
        arrays["steps"] = self.adam.steps.cpu().numpy().copy()
        arrays["mean"], arrays["deviation"] = self.mean.copy(), self.deviation.copy()
        arrays["calibrated"] = np.array([self.calibrated])
        return arrays

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore a state; shapes were checked by the learner."""
        for name, value in self.parameters.items():
            value.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
            self.adam.first[name].copy_(torch.from_numpy(arrays[f"first.{name}"]))
            self.adam.second[name].copy_(torch.from_numpy(arrays[f"second.{name}"]))
        self.adam.steps.copy_(torch.from_numpy(arrays["steps"]))
        self.mean, self.deviation = arrays["mean"].copy(), arrays["deviation"].copy()
        self.calibrated = bool(arrays["calibrated"][0])


def central_inputs(rollout: Rollout, normaliser: Normaliser, device: torch.device) -> Tensor:
    """Critic features, normalised: ``[E * (T + 1), S]``."""
    rows = normaliser(rollout.critic.reshape(-1, rollout.critic.shape[-1]))
    return torch.from_numpy(rows).to(device)


def own_inputs(
    rollout: Rollout,
    *,
    spec: Spec,
    agent: Normaliser,
    candidate: Normaliser,
    device: torch.device,
) -> Tensor:
    """Each agent's own features, mean legal candidate and group: ``[E * (T + 1) * A, F + C + G]``.

    Set-points: own features and group alone, C = 0.
    A roll-out records no candidates at the bootstrap epoch; there the candidates of the epoch
    before stand in (one epoch older information for one value per episode and agent).
    """
    groups = np.eye(len(spec.groups), dtype=np.float32)[spec.group_of]
    scales = [
        torch.from_numpy(a).to(device)
        for a in (candidate.logarithmic, candidate.shift, candidate.scale)
    ]
    parts: list[Tensor] = []
    for episode in range(rollout.agent.shape[0]):
        own = torch.from_numpy(agent(rollout.agent[episode])).to(device)
        member = torch.from_numpy(groups).to(device).expand(own.shape[0], -1, -1)
        columns = [own, member]
        if not rollout.boxes:
            each = normalise(to_tensor(rollout.candidates[episode], device), *scales)
            context = pooled(each, to_tensor(rollout.mask[episode], device))
            columns.insert(1, torch.cat([context, context[-1:]]))
        parts.append(torch.cat(columns, dim=2).flatten(0, 1))
    return torch.cat(parts)
