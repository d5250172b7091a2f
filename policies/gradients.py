"""Gradients of the two surrogates on independent units of a roll-out, reduced to a Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Bools, Ints
from .alignment import GradientGram
from .experience import Experience
from .minibatch import DecisionBatch
from .networks import Parameters

Objectives = Callable[[DecisionBatch, Tensor], tuple[Tensor, Tensor]]
"""Minibatch and its outputs ``[g, b, O]`` to the J and the G objective, each ``[g]``."""

FLOATS = 30_000_000
"""Gradient entries held at once; more groups than fit are taken in chunks."""


def unit_gram(
    parameters: Parameters,
    experience: Experience,
    units: Sequence[tuple[Ints, Bools]],
    *,
    objectives: Objectives,
) -> GradientGram:
    """Gram matrix of per-unit gradients.

    Args:
        parameters: stacked policy weights ``[G, ...]``.
        experience: the roll-out.
        units: for each unit, decision addresses and which are real, each ``[G, b]``.
        objectives: at the roll-out policy, so that their gradients are the policy gradients.
    """
    groups = next(iter(parameters.values())).shape[0]
    size = sum(value[0].numel() for value in parameters.values())
    chunk = max(1, FLOATS // (2 * len(units) * size))
    grams: list[np.ndarray] = []
    for begin in range(0, groups, chunk):
        chosen = torch.arange(begin, min(begin + chunk, groups), device=experience.device)
        leaves = {n: p[chosen].detach().requires_grad_() for n, p in parameters.items()}
        rows: list[list[Tensor]] = [[], []]
        for index, real in units:
            picked = slice(begin, begin + chosen.numel())
            batch = experience.minibatch(
                torch.from_numpy(index[picked]).to(experience.device),
                torch.from_numpy(real[picked]).to(experience.device),
                chosen,
            )
            both = objectives(batch, batch.outputs(leaves))
            for part, objective in enumerate(both):
                gradients = torch.autograd.grad(
                    objective.sum(), list(leaves.values()), retain_graph=part == 0
                )
                rows[part].append(torch.cat([g.flatten(1) for g in gradients], dim=1))
        stacked = torch.stack(rows[0] + rows[1], dim=1)
        grams.append(torch.bmm(stacked, stacked.transpose(1, 2)).double().cpu().numpy())
    return GradientGram(np.concatenate(grams))


def time_units(episodes: int, epochs: int, *, block: int, aim: int) -> list[slice]:
    """About ``aim`` slices of the flattened ``[E * T]`` axis, each of ``block`` epochs or more."""
    blocks = max(1, min(epochs // block, -(-aim // episodes)))
    edges = np.linspace(0, epochs, blocks + 1).astype(int)
    return [
        slice(episode * epochs + int(edges[i]), episode * epochs + int(edges[i + 1]))
        for episode in range(episodes)
        for i in range(blocks)
    ]
