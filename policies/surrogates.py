"""Terms of the surrogate on choices: the PPO clip, and guidance summed over the own actions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..simulators.interface import HOLD
from .distributions import masked_probabilities


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
