"""Guidance values under the current joint policy, in closed form.

The counterfactual values that a roll-out stores are taken at the *sampled* actions of the others
and belong to the policy that acted. When all agents learn at once from such values, each answers
what the others did last time: they leave a node together and come back together. Because the
deviation d(x, x_ref) is quadratic and agents act independently given their observations, its
expectation over everybody's action is available exactly, and with it each agent's expected own
value

    qbar_i(k) = - sum_x W_x z_ikx (mean_-i,x + z_ikx / 2),
    mean_-i   = x - x_ref + sum_{j != i} sum_l pi_j(l) z_jl ,

whose policy-weighted sum has the gradient of E d itself: several passes over one roll-out are then
descent on one potential, not a chase. After arXiv 2602.20078 (which uses the sampled state); this
form is derived here.

Set-points in boxes: with value z of a whole box and shares v, the slope of an own share depends on
the others' through ``sum_{j != i} z_j v_j`` alone, so their means take the place of their samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .interface import Effects


@dataclass(frozen=True, slots=True)
class JointGuidance:
    """Sparse effects of a roll-out on the system state, ready for batched evaluation.

    B is any number of decision epochs (episodes and epochs flattened).

    Attributes:
        deviation: ``[B, X]`` state before the decision minus reference.
        weight: ``[B, X]`` diagonal of W.
        index: ``[B, A, K, M]`` int64 coordinates, -1 = padding.
        value: ``[B, A, K, M]`` influence of a candidate on its coordinates; zero where padded.
        disjoint: no two candidates of an agent touch the same coordinate (one node per
            candidate); allows a form that is linear in K M instead of quadratic.
    """

    deviation: Tensor
    weight: Tensor
    index: Tensor
    value: Tensor
    disjoint: bool

    @classmethod
    def from_effects(cls, effects: Effects, device: torch.device) -> JointGuidance:
        """Recorded effects ``[E, T, ...]`` on ``device``, episodes and epochs flattened."""
        index = torch.from_numpy(effects.index).to(device).flatten(0, 1).long()
        return cls(
            deviation=torch.from_numpy(effects.deviation).to(device).flatten(0, 1),
            weight=torch.from_numpy(effects.weight).to(device).flatten(0, 1),
            index=index,
            value=torch.from_numpy(effects.value).to(device).flatten(0, 1),
            disjoint=has_disjoint_supports(index),
        )

    def at(self, epochs: Tensor) -> JointGuidance:
        """The effects of the given decision epochs (int64 indices into B)."""
        return JointGuidance(
            deviation=self.deviation[epochs],
            weight=self.weight[epochs],
            index=self.index[epochs],
            value=self.value[epochs],
            disjoint=self.disjoint,
        )

    def values(self, probabilities: Tensor) -> Tensor:
        """Expected own-action guidance values qbar ``[B, A, K]`` under the joint policy.

        ``probabilities`` ``[B, A, K]`` belong to the current policy, detached (the values weight
        the policy), zero for masked candidates and for inactive agents.
        """
        epochs, coordinates = self.deviation.shape
        offset = torch.arange(epochs, device=self.index.device).view(-1, 1, 1, 1) * coordinates
        place = self.index.clamp(min=0) + offset
        expected = probabilities.unsqueeze(-1) * self.value
        total = self.deviation.reshape(-1).index_add(0, place.reshape(-1), expected.reshape(-1))
        own = expected if self.disjoint else _own_mean(place, expected)
        others = total[place] - own
        return -(self.weight.reshape(-1)[place] * self.value * (others + 0.5 * self.value)).sum(-1)


def has_disjoint_supports(index: Tensor) -> bool:
    """Whether no two candidates of an agent share a coordinate; ``[B, A, K, M]``, -1 = none."""
    ordered = index.flatten(2).sort(dim=-1).values
    repeated = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    return not bool(repeated.any())


def _own_mean(place: Tensor, expected: Tensor) -> Tensor:
    """An agent's own expected effect at each of its candidates' coordinates, ``[B, A, K, M]``."""
    shape = expected.shape
    place, expected = place.flatten(2), expected.flatten(2)
    same = (place.unsqueeze(-1) == place.unsqueeze(-2)).to(expected.dtype)
    return torch.einsum("baij,baj->bai", same, expected).view(shape)


@dataclass(frozen=True, slots=True)
class JointSetPoints:
    """Effects of set-points on the state, for the change that other shares make to own slopes.

    Attributes:
        weight: ``[B, X]`` diagonal of W.
        index: ``[B, A, D, M]`` int64 coordinates, -1 = padding; none twice in one row.
        value: ``[B, A, D, M]`` effect of a whole box; zero where padded.
    """

    weight: Tensor
    index: Tensor
    value: Tensor

    @classmethod
    def from_effects(cls, effects: Effects, device: torch.device) -> JointSetPoints:
        """Recorded effects ``[E, T, ...]`` on ``device``, episodes and epochs flattened."""
        weight, index, value = (
            torch.from_numpy(array).to(device).flatten(0, 1)
            for array in (effects.weight, effects.index, effects.value)
        )
        return cls(weight, index, value)

    def slopes(self, epochs: Tensor, change: Tensor) -> Tensor:
        """Change of s ``[n, A, D]`` where all *other* shares change by ``[n, A, D]`` on average.

        ``sum_m W value_m (T_m - value_m change)``, with T the whole change of the state;
        ``epochs`` ``[n]`` are indices into B.
        """
        weight, value = self.weight[epochs], self.value[epochs]
        count, coordinates = weight.shape
        offset = torch.arange(count, device=weight.device).view(-1, 1, 1, 1) * coordinates
        place = self.index[epochs].clamp(min=0).long() + offset
        own = value * change.unsqueeze(-1)
        total = torch.zeros_like(weight).reshape(-1)
        total.index_add_(0, place.reshape(-1), own.reshape(-1))
        return (weight.reshape(-1)[place] * value * (total[place] - own)).sum(dim=-1)
