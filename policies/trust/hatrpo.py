"""HATRPO: one trust-region step of every group, all with the same KL budget.

After arXiv 2109.11251, section 4.1 and algorithm 2. ``clip-hatrpo`` clamps the compound ratio from
above at 1 where it is used (after 2606.25526). Blocks of groups move together; with as many blocks
as groups it is the published one agent after another.
"""

from __future__ import annotations

from ..ascent import Ascent
from .walk import Walk


def hatrpo(ascent: Ascent, names: tuple[str, ...]) -> dict[str, float]:
    """One update of all groups in place; returns statistics."""
    walk = Walk(ascent, names)
    sweeps = ascent.sweeps
    for sweep in range(1, sweeps + 1):
        blocks = ascent.blocks(ascent.order())
        for position, members in enumerate(blocks, 1):
            last = sweep == sweeps and position == len(blocks)
            walk.step(members, walk.even[members] * (sweep / sweeps), last=last)
    return walk.statistics()
