"""The latest decisions as table rows, and the interventions among them with their causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from ..daemon.interface import Entry, Slot
from ..decision.types import CONSTRAINTS
from .series import bar
from .summary import Summaries, Summary
from .words import CAUSES

LISTED = 14
"""Decisions in the table."""

INTERVENTIONS = 20
"""Interventions in the list."""


@dataclass(frozen=True, slots=True)
class Row:
    """One decision.

    Attributes:
        id, short: of the entry; ``short`` is its counter.
        time: local wall-clock time of day with milliseconds.
        role, principal: who decided, who asked.
        outcome, mode: see :class:`...decision.types.Decision`.
        agents: rows decided. active: those that had something to decide.
        pieces: shares by source, as pieces of a bar 100 wide.
        causes: cause names and how many agents they concern, most first.
        seconds: the decision's own time.
    """

    id: str
    short: str
    time: str
    role: str
    principal: str
    outcome: str
    mode: str
    agents: int
    active: int
    pieces: tuple[tuple[str, float, float], ...]
    causes: tuple[tuple[str, str, int], ...]
    seconds: float


def row(entry: Entry, one: Summary) -> Row:
    """An entry as a row of the table."""
    return Row(
        id=entry.id,
        short=entry.id.rsplit("-", 1)[-1],
        time=_time_of_day(entry.clock.wall),
        role=entry.role,
        principal=entry.principal,
        outcome=entry.decision.outcome,
        mode=entry.decision.mode,
        agents=one.agents,
        active=one.active,
        pieces=tuple(bar(one)),
        causes=tuple(
            (cause.name.lower().replace("_", " "), CAUSES[cause], count)
            for cause, count in one.causes
        ),
        seconds=one.seconds,
    )


def rows(slot: Slot, summaries: Summaries) -> tuple[Row, ...]:
    """The latest decisions, newest first."""
    return tuple(row(entry, one) for entry, one in summaries.of(slot.history(LISTED)))


def interventions(slot: Slot, summaries: Summaries) -> tuple[Row, ...]:
    """The latest decisions in which something other than the plain policy acted."""
    touched = (entry for entry in slot.history(512) if entry.decision.cause.any())
    found = list(islice(touched, INTERVENTIONS))
    return tuple(row(entry, one) for entry, one in summaries.of(found))


@dataclass(frozen=True, slots=True)
class Constraint:
    """How often and how far one constraint moved wanted actions, over the recent decisions."""

    name: str
    moved: int
    share: float
    distance: float


def constraints(recent: Sequence[Summary]) -> tuple[Constraint, ...]:
    """Every projection constraint, also those that never acted."""
    total = sum(one.agents for one in recent)
    found: list[Constraint] = []
    for index, name in enumerate(CONSTRAINTS.values()):
        count = sum(one.moved[index][0] for one in recent)
        distance = sum(one.moved[index][1] for one in recent)
        found.append(
            Constraint(name, count, count / max(total, 1), distance / count if count else 0.0)
        )
    return tuple(found)


def refused(entries: Sequence[Entry]) -> tuple[tuple[str, int], ...]:
    """Reasons for which observations or agents were not usable, with counts, most first."""
    counts: dict[str, int] = {}
    for entry in entries:
        for reason, count in entry.decision.invalid.items():
            counts[reason] = counts.get(reason, 0) + count
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def _time_of_day(wall: float) -> str:
    moment = datetime.fromtimestamp(wall).astimezone()
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
