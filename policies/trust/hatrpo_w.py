"""HATRPO-W: the same total KL as HATRPO, shared by the KKT conditions (after arXiv 2508.10340).

1. Before anybody moves, measure ``k_g = g' H^-1 g`` of every group: the squared gain that a nat of
   KL buys there (from two halves of the roll-out, so that noise buys nothing).
2. Share the total D: ``delta_g`` proportional to ``k_g`` within floor and cap.
3. Move block after block under the compound ratio, as HATRPO does. What a block does not use goes
   to those after it.

With equal k it is HATRPO. The published text was not available beyond its abstract: formulas,
de-biasing and the handing on of leftovers are ours.
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles, Ints
from ..ascent import Ascent
from .budgets import RunningK, allocate, joint_gain, redistribute
from .walk import Walk


def hatrpo_w(ascent: Ascent, names: tuple[str, ...], improvement: RunningK) -> dict[str, float]:
    """One update of all groups in place; ``improvement`` remembers k between updates.

    ``trust/headroom`` is how much more gain the quadratic model promises than for equal budgets.
    """
    settings = ascent.config.trust_region
    walk = Walk(ascent, names)
    improvement.observe(walk.improvements())
    plan = allocate(
        improvement.value,
        size=walk.sizes,
        total=walk.total,
        low=settings.budget.floor * walk.even,
        high=settings.budget.cap * walk.even,
        weight=settings.budget.weight,
    )
    for sweep in range(1, ascent.sweeps + 1):
        order = ascent.order()
        if ascent.config.order == "greedy":
            order = np.argsort(-improvement.value, kind="stable")
        blocks = ascent.blocks(order)
        budgets = plan * (sweep / ascent.sweeps)
        for position, members in enumerate(blocks, 1):
            last = sweep == ascent.sweeps and position == len(blocks)
            if settings.budget.redistribute:
                rest = np.concatenate(blocks[position - 1 :])
                budgets[rest] = _with_leftover(walk, plan * (sweep / ascent.sweeps), rest)
            walk.step(members, budgets[members], last=last)
    equal = float(joint_gain(improvement.value, walk.even, size=walk.sizes))
    chosen = float(joint_gain(improvement.value, plan, size=walk.sizes))
    return {
        **walk.statistics(),
        "trust/reliability": improvement.reliability,
        "trust/headroom": chosen / equal - 1.0 if equal > 0.0 else 0.0,
    }


def _with_leftover(walk: Walk, plan: Doubles, rest: Ints) -> Doubles:
    """Budgets of the groups that have not moved yet: their plans and what the others left.

    What a group of the rest has used in an earlier sweep stays used; the total is kept all the
    same.
    """
    size = walk.sizes[rest]
    moved = np.ones(plan.size, dtype=np.bool_)
    moved[rest] = False
    there = float((walk.sizes * plan).sum() - (walk.sizes * walk.used)[moved].sum())
    used = walk.used[rest]
    wanted = np.maximum(plan[rest], used)
    short = float((size * wanted).sum()) - there
    if short > 0.0:
        fresh = float((size * (wanted - used)).sum())
        return wanted - (wanted - used) * min(1.0, short / fresh) if fresh > 0.0 else used
    high = walk.ascent.config.trust_region.budget.cap * walk.even[rest]
    return redistribute(wanted, -short, size=size, high=high)
