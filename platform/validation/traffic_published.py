"""Published figures of the traffic domain that the data folder allows to compare with.

Everything is found by what the folder (and its ``traffic`` folder) holds: networks of the TNTP
collection with their best-known volumes, SUMO and CityFlow scenarios.
"""

from __future__ import annotations

from pathlib import Path

from ...simulators.tables import search_folders
from . import traffic_assignment
from .suites import Check
from .traffic_imports import import_checks


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All comparisons with published figures that ``data`` allows.

    Raises:
        DataError: no such folder.
    """
    folders = search_folders(data)
    return [
        *traffic_assignment.published_checks(folders),
        *import_checks(folders, quick=quick),
    ]
