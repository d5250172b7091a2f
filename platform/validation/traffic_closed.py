"""The street simulator and static assignment against closed forms: what needs no data.

Further comparisons are lists of checks, too; :data:`PARTS` is where they are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from . import traffic_assignment
from .suites import Check
from .traffic_episodes import episode_checks
from .traffic_links import link_checks
from .traffic_queues import queue_checks


class _Part(Protocol):
    def __call__(self, *, quick: bool) -> list[Check]: ...


PARTS: Sequence[_Part] = (
    link_checks,
    queue_checks,
    episode_checks,
    traffic_assignment.closed_checks,
)
"""The checks of each part, in the order of the report."""


def checks(*, data: Path | None, quick: bool) -> list[Check]:
    """All closed forms; ``data`` is not looked at."""
    del data
    return [check for part in PARTS for check in part(quick=quick)]
