"""DG-PG: noise-free per-agent guidance beside the sampled policy gradient (after arXiv 2602.20078).

The published method adds, to each agent's policy gradient, the inner product of (system state minus
reference) with the agent's influence vector, times the agent's score, balanced by a weight alpha.
Only the abstract was available to us; what follows is our formulation of it.

A roll-out carries ``q_i(a)``, the decrease of ``d(x, x_ref)`` that agent i's own action ``a``
causes with all other actions held fixed (``models.interface.counterfactual_values``). The guidance
advantage is ``A^G(a) = q(a) - sum_a' pi(a') q(a')``. Two estimators of its policy gradient

- *sampled*: ``A^G(a_taken) grad log pi(a_taken)``,
- *expected*: ``sum_a pi(a) A^G(a) grad log pi(a)``, the mean of the former over own actions,

have the same mean; the second has no own-action noise. (Set-points have a q for every share v, and
an integral for the sum: a closed form, :mod:`.box_minibatch`.) The third estimator, *joint*, is the
expected one with q taken under the current policy of all agents instead of at the sampled actions
of the others (:mod:`.joint_guidance`). Blend: ``(1 - alpha) A^J + alpha c A^G``,
with ``c = RMS(A^J) / RMS(A^G)`` from running mean squares. The critic never sees any of this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import HOLD
from .joint_guidance import JointGuidance, JointSetPoints
from .minibatch import DecisionBatch


@dataclass(frozen=True, slots=True)
class Blend:
    """How guidance enters the surrogate.

    Attributes:
        of_return: ``1 - alpha`` of each parameter group, ``[G]``.
        of_guidance: ``alpha c``, ``[G]``.
        estimator: ``sampled``, ``expected`` or ``joint``.
        clip: whether the expected surrogate of choices has the PPO clip, too.
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

    def values(self, batch: DecisionBatch, outputs: Tensor) -> Tensor:
        """Guidance of the minibatch's own actions, of the shape of ``batch.guidance``."""
        return batch.guidance if self.joint is None else self.joint(batch, outputs)


class JointValues(ABC):
    """Own actions' guidance under the current joint policy, for minibatches of whole epochs.

    A minibatch must hold *all* decisions of its epochs, or ``policy`` ``[E * T, A, K or D]`` must
    give the mean actions of the agents that it leaves out (HAPPO: the other blocks).
    """

    def __init__(self, guidance: Tensor, mask: Tensor) -> None:
        """``guidance`` ``[E * T, A, ...]`` and ``mask`` ``[E * T, A, K or D]`` of the roll-out."""
        self._guidance, self._mask = guidance, mask
        self.policy: Tensor | None = None

    def __call__(self, batch: DecisionBatch, outputs: Tensor) -> Tensor:
        """Guidance as in ``batch.guidance``, given the policy's current outputs; detached."""
        agents = self._mask.shape[1]
        epoch = torch.div(batch.index, agents, rounding_mode="floor")
        agent = batch.index - epoch * agents
        epochs, place = torch.unique(epoch, return_inverse=True)
        shape = (epochs.numel(), *self._mask.shape[1:])
        actions = outputs.new_zeros(shape) if self.policy is None else self.policy[epochs]
        real = batch.weight > 0.0
        actions[place[real], agent[real]] = batch.mean_action(outputs)[real]
        values = self._values(epochs, actions)[place, agent]
        mask = batch.mask.repeat(1, 1, values.shape[-1] // batch.mask.shape[-1])
        # Padding may stand on a decision that has no other candidate to compare with.
        return values.masked_fill(~(mask & real.unsqueeze(-1)), 0.0)

    @abstractmethod
    def _values(self, epochs: Tensor, actions: Tensor) -> Tensor:
        """Guidance of everybody in these epochs, given everybody's mean action."""


class JointChoices(JointValues):
    """Expected values of candidates ``[g, b, K]``.

    Holding does not move x; where the roll-out prices it (``Influence.hold_cost``), it is worth the
    best other candidate less that price, which is read off the recorded values.
    """

    def __init__(self, effects: JointGuidance, guidance: Tensor, mask: Tensor) -> None:
        super().__init__(guidance, mask)
        self._effects = effects
        others = guidance[..., HOLD + 1 :].masked_fill(~mask[..., HOLD + 1 :], -torch.inf)
        # Without a price every hold is worth exactly 0.
        self._priced = bool((guidance[..., HOLD] != 0.0).any())
        self._hold_cost = others.amax(dim=-1) - guidance[..., HOLD]

    def _values(self, epochs: Tensor, actions: Tensor) -> Tensor:
        values = self._effects.at(epochs).values(actions)
        if self._priced:
            legal = self._mask[epochs][..., HOLD + 1 :]
            best = values[..., HOLD + 1 :].masked_fill(~legal, -torch.inf).amax(dim=-1)
            values[..., HOLD] = best - self._hold_cost[epochs]
        return values


class JointBoxes(JointValues):
    """Coefficients s and h of set-points ``[g, b, 2 D]``; ``taken`` are the recorded shares.

    d is quadratic, so that s depends on the others' shares through their mean alone, and h on
    nothing.
    """

    def __init__(
        self, effects: JointSetPoints, guidance: Tensor, mask: Tensor, taken: Tensor
    ) -> None:
        super().__init__(guidance, mask)
        self._effects, self._taken = effects, taken

    def _values(self, epochs: Tensor, actions: Tensor) -> Tensor:
        change = torch.where(self._mask[epochs], actions - self._taken[epochs], 0.0)
        values = self._guidance[epochs]
        values[..., : change.shape[-1]] += self._effects.slopes(epochs, change)
        return values


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
