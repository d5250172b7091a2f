"""DG-PG: noise-free per-agent guidance beside the sampled policy gradient (after arXiv 2602.20078).

The published method adds, to each agent's policy gradient, the inner product of (system state minus
reference) with the agent's influence vector, times the agent's score, balanced by a weight alpha.
Only the abstract was available to us; what follows is our formulation of it.

A roll-out carries ``q_i(a)``, the decrease of ``d(x, x_ref)`` that agent i's own action ``a``
causes with all other actions held fixed (``models.interface.counterfactual_values``). The guidance
advantage is ``A^G(a) = q(a) - sum_a' pi(a') q(a')``. Two estimators of its policy gradient

- *sampled*: ``A^G(a_taken) grad log pi(a_taken)``,
- *expected*: ``sum_a pi(a) A^G(a) grad log pi(a)``, the mean of the former over own actions,

have the same mean; the second has no own-action noise. The third estimator, *joint*, is the
expected one with q taken under the current policy of all agents instead of at the sampled actions
of the others (:mod:`.joint_guidance`). Blend: ``(1 - alpha) A^J + alpha c A^G``,
with ``c = RMS(A^J) / RMS(A^G)`` from running mean squares. The critic never sees any of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import HOLD
from .distributions import masked_probabilities
from .experience import Minibatch
from .joint_guidance import JointGuidance


def guidance_advantage(log_p: Tensor, guidance: Tensor, mask: Tensor) -> Tensor:
    """``q(a) - sum_a' pi(a') q(a')`` for every legal own action, 0 elsewhere; ``[..., K]``.

    Values are taken relative to holding first, which is always legal: an agent whose actions are
    all worth the same then gets exactly 0, whatever the rounding of its probabilities.
    """
    relative = guidance - guidance[..., HOLD : HOLD + 1]
    mean = (masked_probabilities(log_p, mask) * relative).sum(dim=-1, keepdim=True)
    return (relative - mean) * mask


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float | None) -> Tensor:
    """``min(r A, clip(r, 1 - eps, 1 + eps) A)`` (arXiv 1707.06347, eq. 7), elementwise.

    ``clip=None`` is ``r A``.
    """
    if clip is None:
        return ratio * advantage
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def expected_surrogate(
    old_log_p: Tensor, log_p: Tensor, advantage: Tensor, mask: Tensor, clip: float | None
) -> Tensor:
    """``sum_a pi_old(a) f(r(a), A(a))`` with ``r = pi / pi_old``; ``[..., K]`` to ``[...]``.

    ``f`` is the PPO clip, or plain ``r A`` with ``clip=None`` (then it is ``sum_a pi(a) A(a)``).
    """
    if clip is None:
        return (masked_probabilities(log_p, mask) * advantage).sum(dim=-1)
    terms = clipped_surrogate((log_p - old_log_p).exp(), advantage, clip)
    return (masked_probabilities(old_log_p, mask) * terms).sum(dim=-1)


@dataclass(frozen=True, slots=True)
class Blend:
    """How guidance enters the surrogate.

    Attributes:
        of_return: ``1 - alpha`` of each parameter group, ``[G]``.
        of_guidance: ``alpha c``, ``[G]``.
        estimator: ``sampled``, ``expected`` or ``joint``.
        clip: whether the expected surrogate has the PPO clip, too.
        pace: factor on the step size, ``[G]``; 1 where alpha is 0.
        target_kl: KL at which a group's update stops, ``[G]`` nats.
        joint: guidance under the current joint policy, for the ``joint`` estimator.
    """

    of_return: Tensor
    of_guidance: Tensor
    estimator: str
    clip: bool
    pace: Tensor
    target_kl: Tensor
    joint: JointValues | None = None

    def values(self, batch: Minibatch, log_p: Tensor) -> Tensor:
        """Guidance values q of the minibatch's own actions ``[g, b, K]``."""
        return batch.guidance if self.joint is None else self.joint(batch, log_p)


class JointValues:
    """Expected own-action values under the current joint policy, for minibatches of whole epochs.

    A minibatch must hold *all* decisions of its epochs, or ``policy`` ``[E * T, A, K]`` must give
    the probabilities of the agents that it leaves out (HAPPO: the other blocks).

    Holding does not move x; where the roll-out prices it (``Influence.hold_cost``), it is worth the
    best other candidate less that price, which is read off the recorded values.
    """

    def __init__(self, effects: JointGuidance, guidance: Tensor, mask: Tensor) -> None:
        """``guidance`` and ``mask`` are the roll-out's, ``[E * T, A, K]``."""
        self._effects, self._mask = effects, mask
        self.policy: Tensor | None = None
        others = guidance[..., HOLD + 1 :].masked_fill(~mask[..., HOLD + 1 :], -torch.inf)
        # Without a price every hold is worth exactly 0.
        self._priced = bool((guidance[..., HOLD] != 0.0).any())
        self._hold_cost = others.amax(dim=-1) - guidance[..., HOLD]

    def __call__(self, batch: Minibatch, log_p: Tensor) -> Tensor:
        """Values ``[g, b, K]`` given the policy's current log-probabilities, detached."""
        agents = self._mask.shape[1]
        epoch = torch.div(batch.index, agents, rounding_mode="floor")
        agent = batch.index - epoch * agents
        epochs, place = torch.unique(epoch, return_inverse=True)
        shape = (epochs.numel(), *self._mask.shape[1:])
        probabilities = log_p.new_zeros(shape) if self.policy is None else self.policy[epochs]
        real = batch.weight > 0.0
        chosen = masked_probabilities(log_p, batch.mask)
        probabilities[place[real], agent[real]] = chosen[real]
        values = self._effects.at(epochs).values(probabilities)
        if self._priced:
            legal = self._mask[epochs][..., HOLD + 1 :]
            best = values[..., HOLD + 1 :].masked_fill(~legal, -torch.inf).amax(dim=-1)
            values[..., HOLD] = best - self._hold_cost[epochs]
        # Padding may stand on a decision that has no other candidate to compare with.
        return values[place, agent].masked_fill(~(batch.mask & real.unsqueeze(-1)), 0.0)


class AdvantageScale:
    """Running mean squares of both advantages; ``factor`` is c, the guidance's scale.

    One number for all agents: scaling each agent by itself would blow up the guidance of agents
    that hardly matter. ``memory`` 0 normalises each roll-out by itself.
    """

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.moments: NDArray[np.float64] = np.zeros(2)
        self.weight = 0.0

    def observe(self, return_square: float, guidance_square: float) -> None:
        """Add a roll-out's mean squares of A^J and A^G."""
        new = np.array([return_square, guidance_square])
        self.moments = self.memory * self.moments + (1.0 - self.memory) * new
        self.weight = self.memory * self.weight + (1.0 - self.memory)

    @property
    def factor(self) -> float:
        """``c``: 0 without guidance; ``1 / RMS(A^G)`` while A^J is 0 everywhere."""
        square_return, square_guidance = self.moments
        if square_guidance <= 0.0:
            return 0.0
        if square_return <= 0.0:
            return float(1.0 / np.sqrt(square_guidance / self.weight))
        return float(np.sqrt(square_return / square_guidance))

    def state(self) -> dict[str, NDArray[Any]]:
        return {"moments": self.moments.copy(), "weight": np.array([self.weight])}

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.moments = arrays["moments"].astype(np.float64)
        self.weight = float(arrays["weight"][0])
