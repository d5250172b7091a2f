"""Policies of all decisions of a roll-out, to first order in what their networks put out.

A point ``y`` of the subspace moves the outputs of a decision from ``z`` to ``z + dz y``; what the
policy is there, how likely the action taken, and its score in ``y``, are exact given that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Doubles
from ..box_minibatch import fisher
from ..distributions import BoxBeta, masked_log_softmax, masked_probabilities
from .subspace import Subspace


@dataclass(frozen=True, slots=True)
class Tangent(ABC):
    """Policies of ``n`` decisions; arrays on the device.

    ``at`` ``[n, O]`` is the policy; ``slope`` ``[n, O, D]`` the change of the outputs along the
    decision's own player's directions; ``mask`` ``[n, ...]``; ``action`` ``[n, ...]``;
    ``advantage``, ``epoch`` and ``player`` ``[n]``.
    """

    at: Tensor
    slope: Tensor
    mask: Tensor
    action: Tensor
    advantage: Tensor
    epoch: Tensor
    player: Tensor

    @staticmethod
    @abstractmethod
    def expanded(raw: Tensor, slope: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``at`` and ``slope`` of decisions ``[g, b]``, from what the networks put out."""

    @abstractmethod
    def moved(self, part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
        """Log-ratio ``[b, k]`` of the actions taken and its score ``[b, D, k]``.

        ``own`` ``[b, D, k]`` are ``k`` points in the coordinates of each decision's own player.
        """

    @abstractmethod
    def _information(self) -> Tensor:
        """Fisher information of every decision in the player's coordinates, ``[n, D, D]``."""

    def metric(self, subspace: Subspace, epochs: int) -> Doubles:
        """``[r, r]`` such that the joint KL of an epoch is about ``y' G y / 2``: exact Fisher."""
        players, slots = subspace.live.shape
        blocks = torch.zeros(players, slots, slots, dtype=torch.float64, device=self.at.device)
        blocks.index_add_(0, self.player, self._information().double())
        blocks = 0.5 * (blocks + blocks.transpose(1, 2))  # float32 products are not symmetric
        full = np.zeros((players, slots, players, slots))
        each = np.arange(players)
        full[each, :, each, :] = blocks.cpu().numpy() / epochs
        return full.reshape(players * slots, -1)[
            np.ix_(subspace.live.ravel(), subspace.live.ravel())
        ]


class ChoiceTangent(Tangent):
    """``at`` are log-probabilities ``[n, K]``; slopes have mean 0 under the policy, 0 if masked."""

    @staticmethod
    def expanded(raw: Tensor, slope: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        log_p = masked_log_softmax(raw, mask)
        return log_p, _centred(slope, log_p, mask)

    def _information(self) -> Tensor:
        p = masked_probabilities(self.at, self.mask).unsqueeze(2)
        return torch.bmm((p * self.slope).transpose(1, 2), self.slope)

    def moved(self, part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
        slope, action = self.slope[part], self.action[part]
        weight = torch.bmm(slope, own).add_(self.at[part].unsqueeze(2))
        weight.masked_fill_(~self.mask[part].unsqueeze(2), -torch.inf)
        most = weight.amax(dim=1, keepdim=True)
        weight.sub_(most).exp_()  # probabilities up to a factor
        ones = torch.ones_like(slope[..., :1])
        moments = torch.bmm(torch.cat([ones, slope], dim=2).transpose(1, 2), weight)
        total = moments[:, :1]
        index = action[:, None, None].expand(-1, 1, slope.shape[2])
        taken = slope.gather(1, index).squeeze(1)  # [b, D]
        score = taken.unsqueeze(2) - moments[:, 1:] / total
        shift = torch.bmm(taken.unsqueeze(1), own) - total.log() - most
        return shift.squeeze(1), score


class BoxTangent(Tangent):
    """``at`` are the network's outputs ``[n, 2 B]`` of B set-points, ``action`` shares ``[n, B]``.

    Densities are in double precision, as in :mod:`..box_minibatch`.
    """

    @staticmethod
    def expanded(raw: Tensor, slope: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        twice = torch.cat([mask, mask], dim=-1).unsqueeze(-1)
        return raw, slope.masked_fill(~twice, 0.0)

    def _information(self) -> Tensor:
        along = self.slope.transpose(1, 2)
        curved = fisher(self.at.unsqueeze(1), self.mask.unsqueeze(1), along)
        return torch.bmm(curved, self.slope)

    def moved(self, part: slice, own: Tensor) -> tuple[Tensor, Tensor]:
        slope = self.slope[part]
        at = self.at[part].unsqueeze(1)
        mask, share = self.mask[part].unsqueeze(1), self.action[part].double().unsqueeze(1)
        outputs = at + torch.bmm(slope, own).transpose(1, 2)  # [b, k, 2 B]
        policy = BoxBeta.of_shares(outputs, mask)
        old = BoxBeta.of_shares(at, mask)
        shift = policy.log_probability(share) - old.log_probability(share)
        score = policy.score(share) * torch.sigmoid(outputs)
        return shift, torch.bmm(score.to(own.dtype), slope).transpose(1, 2)


def _centred(slope: Tensor, log_p: Tensor, mask: Tensor) -> Tensor:
    """A change common to all candidates is no change of the policy, only a source of rounding."""
    slope = slope.masked_fill(~mask.unsqueeze(-1), 0.0)
    p = masked_probabilities(log_p, mask).unsqueeze(-1)
    return (slope - (p * slope).sum(dim=-2, keepdim=True)).masked_fill(~mask.unsqueeze(-1), 0.0)
