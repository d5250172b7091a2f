"""HATRPO-G: the same total KL as HATRPO, spent greedily (after arXiv 2508.10340).

The groups with the best improvement per KL move first, each with the same trial budget
(``trial`` equal shares), until the total is spent. The improvement is measured again under the
compound ratio of those that have moved, lazily: only for groups that come up next. With one trial
budget delta the quadratic model gives the ratio ``sqrt(2 k / delta)``, so groups are ranked by k.
Groups that promise nothing are not moved, even if some of the total is left.
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles, Ints
from ..ascent import Ascent
from .budgets import RunningK
from .greedy import LazyQueue
from .walk import Walk


def hatrpo_g(ascent: Ascent, names: tuple[str, ...], improvement: RunningK) -> dict[str, float]:
    """One update in place; ``improvement`` remembers k between updates."""
    settings = ascent.config.trust_region
    walk = Walk(ascent, names)
    first = walk.improvements()
    improvement.observe(first)
    known = improvement.value

    def fresh(members: Ints) -> Doubles:
        # The running estimate with its newest measurement exchanged for one under the present M.
        change = walk.improvement(members) - first[members]
        renewed = known[members] + (1.0 - improvement.memory) * np.nan_to_num(change)
        return np.where(walk.sizes[members] > 0.0, renewed, -np.inf)

    together = -(-ascent.groups // min(ascent.config.blocks, ascent.groups))
    # Where k is noise, nobody is better than the others and the trial budget is the equal share.
    trial = (1.0 + improvement.reliability * (settings.budget.trial - 1.0)) * walk.even
    evaluations = grown = 0
    for sweep in range(1, ascent.sweeps + 1):
        part = sweep / ascent.sweeps
        queue = LazyQueue(np.where(walk.sizes > 0.0, known, -np.inf), fresh=sweep == 1)
        left = walk.total * part - float((walk.sizes * walk.used).sum())
        while len(queue) and left > 0.0:
            taken = queue.take(together, fresh)
            members = taken.groups[taken.priorities > 0.0]
            if not members.size:
                break
            # In order of priority, each the trial budget, until the total is spent.
            size = walk.sizes[members]
            wanted = size * np.maximum(trial[members] * part - walk.used[members], 0.0)
            given = np.clip(left - (np.cumsum(wanted) - wanted), 0.0, wanted)
            before = float((size * walk.used[members]).sum())
            walk.step(members, walk.used[members] + given / size)
            left -= float((size * walk.used[members]).sum()) - before
        evaluations, grown = evaluations + queue.evaluations, grown + queue.grown
    return {
        **walk.statistics(),
        "trust/reliability": improvement.reliability,
        "trust/evaluations": float(evaluations),
        "trust/grown": float(grown),
    }
