"""The cloud simulator and its models against closed forms: everything that needs no data."""

from __future__ import annotations

from pathlib import Path

from ..progress import Report, silent
from ..rows import Row
from . import identities, many_servers, planning, rules, single_server
from .suites import Check, run_checks


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All closed forms; ``data`` is not looked at."""
    del data
    return [
        *single_server.checks(quick=quick),
        *many_servers.checks(quick=quick),
        *identities.checks(quick=quick),
        *planning.checks(),
        *rules.checks(quick=quick),
    ]


def rows(*, quick: bool, workers: int = 1, progress: Report = silent) -> list[Row]:
    """Run all closed forms."""
    return run_checks(checks(data=None, quick=quick), workers=workers, progress=progress)
