"""PPO on stacked parameters (arXiv 1707.06347), with the DG-PG blend inside the surrogate.

One call of :meth:`Ppo.improve` moves a block of parameter groups at once; groups do not interact
except through the data. IPPO and MAPPO are one block of all groups. HAPPO (arXiv 2109.11251,
section 4.2, :mod:`.happo`) calls it block after block; each later block's advantage is multiplied
by the compound ratio of the blocks before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .experience import Experience, Pass
from .guidance import Blend
from .minibatch import DecisionBatch
from .networks import Parameters
from .optimiser import StackedAdam
from .settings import LearnerConfig
from .surrogates import clipped_surrogate


@dataclass(frozen=True, slots=True)
class Block:
    """Parameter groups that move together.

    ``groups`` ``[g]`` are their numbers, ``parameters`` ``[g, ...]`` and ``adam`` their own copies;
    ``factor`` ``[E, T]`` is the compound ratio M of the agents that moved before (None: 1);
    ``correction`` ``[g, P]`` is taken off every gradient (the projection; None: nothing);
    ``memory`` ``[E * T * A, O]`` is room to keep old outputs in, for passes that all use the same
    decisions (None: they are evaluated in every pass).
    """

    groups: Tensor
    parameters: Parameters
    adam: StackedAdam
    factor: Tensor | None = None
    correction: Tensor | None = None
    memory: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PpoStatistics:
    """Of one block; each ``[g]``, averaged over the minibatches in which the group still moved.

    ``nonfinite`` counts minibatches whose gradient was not finite; they move nothing.
    """

    loss: Tensor
    entropy: Tensor
    kl: Tensor
    clip_fraction: Tensor
    ratio_max: Tensor
    grad_norm: Tensor
    steps: Tensor
    first_ratio_error: Tensor
    nonfinite: Tensor


@dataclass(frozen=True, slots=True)
class Ppo:
    """The surrogate of one roll-out and how to climb it.

    ``advantages`` are normalised A^J, ``[E, T]`` or ``[E, T, A]``; ``blend`` is the guidance (None:
    the same numbers as ``alpha = 0``, without the work).
    """

    experience: Experience
    advantages: Tensor
    blend: Blend | None
    config: LearnerConfig

    def surrogate(
        self,
        batch: DecisionBatch,
        old: Tensor,
        new: Tensor,
        factor: Tensor | None,
        *,
        clip: float | None,
    ) -> tuple[Tensor, Tensor]:
        """Surrogate with the guidance blended in, and ratios of the taken actions.

        ``old`` and ``new`` are outputs of the batch ``[g, b, O]``; ``clip`` is PPO's (None: the
        plain importance-weighted surrogate); returns ``[g]`` and ``[g, b]``.
        """
        ratio = (batch.log_probability(new) - batch.log_probability(old)).exp()
        advantage = self.experience.spread(self.advantages, batch.index)
        if factor is not None:
            advantage = advantage * self.experience.spread(factor, batch.index)
        # Padding repeats somebody else's decision, which must not spoil this group's gradient.
        advantage = torch.where(batch.weight > 0.0, advantage, 0.0)
        if self.blend is None:
            return batch.mean(clipped_surrogate(ratio, advantage, clip)), ratio
        advantage = self.blend.of_return[batch.groups].unsqueeze(1) * advantage
        weight = self.blend.of_guidance[batch.groups]
        guidance = self.blend.values(batch, new.detach())
        if self.blend.estimator == "sampled":
            guided = batch.sampled_guidance(old, guidance)
            advantage = advantage + weight.unsqueeze(1) * guided
            return batch.mean(clipped_surrogate(ratio, advantage, clip)), ratio
        limit = clip if self.blend.clip else None
        expected = batch.mean(batch.expected_guidance(old, new, guidance, limit))
        return batch.mean(clipped_surrogate(ratio, advantage, clip)) + weight * expected, ratio

    def improve(self, block: Block, passes: list[Pass]) -> PpoStatistics:
        """Move the block's parameters in place by Adam over the minibatches of ``passes``.

        Old outputs come from a frozen copy of the parameters through the same operations
        on the same minibatch, so that the first ratio is exactly 1. A group stops once its exact
        KL exceeds its limit; that is decided on the device. Once per pass the host asks whether
        all groups have stopped; nothing else leaves the device.
        """
        config, parameters, blend = self.config, block.parameters, self.blend
        limit = config.target_kl if blend is None else blend.target_kl[block.groups]
        pace = 1.0 if blend is None else blend.pace[block.groups]
        frozen = {name: value.clone() for name, value in parameters.items()}
        stopped = torch.zeros(block.groups.numel(), dtype=torch.bool, device=block.groups.device)
        rows: list[Tensor] = []
        batch: DecisionBatch | None = None
        for number, one_pass in enumerate(passes):
            if number > 0 and bool(stopped.all()):
                break
            for index, real in one_pass:
                if batch is None or batch.index is not index:
                    batch = self.experience.minibatch(index, real, block.groups)
                old = self._old(frozen, batch, block.memory, known=number > 0)
                leaves = {
                    name: value.detach().requires_grad_() for name, value in parameters.items()
                }
                new = batch.outputs(leaves)
                gain, ratio = self.surrogate(batch, old, new, block.factor, clip=config.clip)
                spread = batch.mean(batch.entropy(new))
                loss = -gain - config.entropy * spread
                divergence = batch.mean(batch.kl(old, new)).detach()
                stopped = stopped | (divergence > limit)
                live = ~stopped & (batch.weight.sum(dim=1) > 0.0)
                gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
                if block.correction is not None:
                    gradients = _corrected(gradients, block.correction)
                norm = block.adam.step(
                    parameters, gradients, live=live, max_norm=config.max_grad_norm, pace=pace
                )
                off = (ratio.detach() - 1.0).abs() * batch.weight
                clipped = batch.mean((off > config.clip).to(norm.dtype))
                largest = (ratio.detach() * batch.weight).amax(dim=1)
                finite = norm.isfinite() & loss.detach().isfinite()
                row = [loss.detach(), spread.detach(), divergence, clipped, largest, norm]
                moves = [(live & finite).to(norm.dtype), off.amax(dim=1), (~finite).to(norm.dtype)]
                rows.append(torch.stack([*row, *moves]).nan_to_num(0.0, 0.0, 0.0))
        return _statistics(torch.stack(rows))

    @torch.no_grad()
    def _old(
        self, frozen: Parameters, batch: DecisionBatch, memory: Tensor | None, *, known: bool
    ) -> Tensor:
        if memory is not None and known:
            return memory[batch.index]
        old = batch.outputs(frozen)
        if memory is not None:
            real = batch.weight > 0.0
            memory[batch.index[real]] = old[real]
        return old


def _corrected(gradients: tuple[Tensor, ...], correction: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the *loss*, so that what is taken off the surrogate's is added here."""
    parts = correction.split([gradient[0].numel() for gradient in gradients], dim=1)
    return tuple(g + c.view_as(g) for g, c in zip(gradients, parts, strict=True))


def _statistics(rows: Tensor) -> PpoStatistics:
    """``rows`` ``[minibatches, 9, g]`` to means over the minibatches where a group was live."""
    live = rows[:, 6]
    steps = live.sum(dim=0)
    mean = (rows[:, :6] * live.unsqueeze(1)).sum(dim=0) / steps.clamp_min(1.0)
    return PpoStatistics(
        loss=mean[0],
        entropy=mean[1],
        kl=rows[:, 2].amax(dim=0),
        clip_fraction=mean[3],
        ratio_max=rows[:, 4].amax(dim=0),
        grad_norm=mean[5],
        steps=steps,
        first_ratio_error=rows[0, 7],
        nonfinite=rows[:, 8].sum(dim=0),
    )
