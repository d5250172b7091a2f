"""IPPO, MAPPO, HAPPO and clip-HAPPO: how PPO steps of the parameter groups follow one another.

IPPO and MAPPO (they differ in the critic) move all groups at once. HAPPO (arXiv 2109.11251,
section 4.2) moves one block after another; each later block's advantage is multiplied by the
compound ratio of those before it, which clip-HAPPO clamps from above at 1 (after 2606.25526).
"""

from __future__ import annotations

import numpy as np
import torch

from ..simulators.interface import Doubles, Ints
from .ascent import NAMED_GROUPS, Ascent
from .compound import Compound
from .experience import Pass
from .ppo import Block, PpoStatistics


def happo(ascent: Ascent, names: tuple[str, ...]) -> dict[str, float]:
    """One update of all groups in place; returns statistics."""
    rng = ascent.rng("minibatches")
    if ascent.config.sequential:
        blocks = ascent.blocks(ascent.order())
    else:
        blocks = [np.arange(ascent.groups)]
    compound = Compound(ascent) if len(blocks) > 1 else None
    memory = ascent.memory()
    done: list[tuple[torch.Tensor, PpoStatistics]] = []
    for position, members in enumerate(blocks):
        factor = compound.factor() if compound else None
        passes = ascent.passes(rng, members)
        widest = max(index.shape[1] for one_pass in passes for index, _ in one_pass)
        rows = np.arange(members.size)
        for piece in [rows] if ascent.epochwise else ascent.pieces(rows, widest):
            groups = ascent.placed(members[piece])
            block = Block(
                groups,
                ascent.weights(groups),
                ascent.adam.select(groups),
                factor=factor,
                correction=None if ascent.correction is None else ascent.correction[groups],
                memory=memory,
            )
            done.append((groups, ascent.ppo.improve(block, _part(passes, piece))))
            ascent.replace(groups, block.parameters)
            ascent.adam.merge(block.adam, groups)
        if compound:
            compound.advance(members, last=position + 1 == len(blocks))
    statistics = compound.statistics if compound else {}
    return {**statistics, **_statistics(done, names, ascent.table)}


def _part(passes: list[Pass], rows: Ints) -> list[Pass]:
    """The tables of some rows of a block; equal passes stay the same objects."""
    if rows.size == passes[0][0][0].shape[0]:
        return passes
    cut: dict[int, Pass] = {}
    for one_pass in passes:
        if id(one_pass) not in cut:
            cut[id(one_pass)] = [(index[rows], real[rows]) for index, real in one_pass]
    return [cut[id(one_pass)] for one_pass in passes]


def _statistics(
    done: list[tuple[torch.Tensor, PpoStatistics]],
    names: tuple[str, ...],
    by_group: dict[str, Doubles],
) -> dict[str, float]:
    order = torch.cat([groups for groups, _ in done]).argsort()

    def column(name: str) -> np.ndarray:
        return torch.cat([getattr(s, name) for _, s in done])[order].cpu().numpy()

    mean = ("loss", "entropy", "kl", "clip_fraction", "grad_norm", "steps")
    table = {name: column(name) for name in (*mean, "ratio_max", "first_ratio_error")}
    statistics = {f"policy/{name}": float(table[name].mean()) for name in mean}
    statistics["policy/ratio_max"] = float(table["ratio_max"].max())
    statistics["policy/first_ratio_error"] = float(table["first_ratio_error"].max())
    statistics["policy/nonfinite"] = float(column("nonfinite").sum())
    by_group.update({name: values.astype(np.float64) for name, values in table.items()})
    if 1 < len(names) <= NAMED_GROUPS:
        for name in ("entropy", "kl", "grad_norm", "clip_fraction"):
            for group, value in zip(names, table[name], strict=True):
                statistics[f"{name}/{group}"] = float(value)
    return statistics
