"""Published figures of the power domain that the data folder allows to compare with.

Everything is found by what the folder (and its ``power`` folder) holds: tables with the columns
``case, dc_usd_per_h`` beside MATPOWER files, and RTS-GMLC with ``plexos_reference``.
"""

from __future__ import annotations

from pathlib import Path

from ...simulators.tables import search_folders
from .power_pglib import pglib_checks
from .power_plexos import plexos_checks
from .suites import Check


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All comparisons with published figures that ``data`` allows.

    Raises:
        DataError: no such folder, or a table that cannot be read.
    """
    folders = search_folders(data)
    return [*pglib_checks(folders, quick=quick), *plexos_checks(folders)]
