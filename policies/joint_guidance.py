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
"""

from __future__ import annotations

import torch
from torch import Tensor


def has_disjoint_supports(index: Tensor) -> bool:
    """Whether no two candidates of one agent touch the same coordinate of x.

    ``index`` ``[B, A, K, M]`` int64, -1 = padding. One pass over a batch, done once per roll-out:
    disjoint supports (one node per candidate) allow a form that is linear in K.
    """
    flat = index.flatten(2)
    ordered = flat.sort(dim=-1).values
    repeated = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    return not bool(repeated.any())


def joint_values(
    probabilities: Tensor,
    deviation: Tensor,
    weight: Tensor,
    index: Tensor,
    value: Tensor,
    *,
    disjoint: bool,
) -> Tensor:
    """Expected own-action guidance values qbar ``[B, A, K]`` under the joint policy.

    Args:
        probabilities: ``[B, A, K]`` of the current policy, zero for masked candidates and for all
            candidates of inactive agents; detached, since the values weight the policy.
        deviation: ``[B, X]`` state before the decision minus reference.
        weight: ``[B, X]`` diagonal of W.
        index: ``[B, A, K, M]`` int64 coordinates, -1 = padding.
        value: ``[B, A, K, M]`` influence of a candidate on its coordinates; zero where padded.
        disjoint: result of :func:`has_disjoint_supports` on ``index``.
    """
    epochs, coordinates = deviation.shape
    offset = torch.arange(epochs, device=index.device).view(-1, 1, 1, 1) * coordinates
    place = index.clamp(min=0) + offset
    expected = probabilities.unsqueeze(-1) * value
    total = deviation.reshape(-1).index_add(0, place.reshape(-1), expected.reshape(-1))
    others = total[place] - _own_mean(place, expected, disjoint)
    curvature = weight.reshape(-1)[place]
    return -(curvature * value * (others + 0.5 * value)).sum(-1)


def _own_mean(place: Tensor, expected: Tensor, disjoint: bool) -> Tensor:
    """The agent's own expected effect at each of its candidates' coordinates, ``[B, A, K, M]``.

    Without ``disjoint`` the candidates of an agent may share coordinates (jobs of one queue): every
    pair of entries is compared, O((K M)^2) per agent, exact.
    """
    if disjoint:
        return expected
    shape = expected.shape
    place, expected = place.flatten(2), expected.flatten(2)
    same = (place.unsqueeze(-1) == place.unsqueeze(-2)).to(expected.dtype)
    return torch.einsum("baij,baj->bai", same, expected).view(shape)
