"""Our streets against SUMO: the same network, demand and signal plans in both.

Needs the extra ``sumo``; without it every check is a row that says so. SUMO's version decides its
figures, so it stands in the name of every row. Single streets come from
:mod:`.traffic_sumo_links`, grids and real maps from :mod:`.traffic_sumo_maps`, the order of rules
and RESCO's published figures from :mod:`.traffic_sumo_rules`.
"""

from __future__ import annotations

from pathlib import Path

from ...simulators.traffic.sumo.install import EXTRA, available
from ..rows import Row
from .suites import Check, skipped

SEEDS = 3


def checks(
    *, data: Path | None, quick: bool, seeds: int | None = None, binary: Path | None = None
) -> list[Check]:
    """All comparisons with SUMO that the folder and the installation allow.

    Args:
        data: folder with RESCO's maps; without it only generated streets are compared.
        quick: shorter runs, one seed.
        seeds: of every mean; default :data:`SEEDS`. Orders of rules and RESCO's figures take more.
        binary: a ``sumo`` program of version 1.9.1, for RESCO's published figures.

    Raises:
        DataError: no such folder.
    """
    if not available():
        return [Check("SUMO", _without, 0.0)]
    from .traffic_sumo_links import link_checks
    from .traffic_sumo_maps import grid_checks, map_checks
    from .traffic_sumo_rules import parity_checks, rank_checks

    count = seeds or (1 if quick else SEEDS)
    return [
        *link_checks(seeds=count, quick=quick),
        *grid_checks(seeds=count, quick=quick),
        *map_checks(data, seeds=count),
        *rank_checks(data, seeds=count, quick=quick),
        *parity_checks(data, binary, quick=quick),
    ]


def _without() -> list[Row]:
    return [skipped("comparison with SUMO", f"SUMO is not installed; {EXTRA}")]
