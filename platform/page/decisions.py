"""The latest decisions as table rows, and the interventions among them with their causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ..daemon.interface import Entry, Slot
from ..decision.types import CONSTRAINTS, Cause
from .series import bar
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


def row(entry: Entry) -> Row:
    """An entry as a row of the table."""
    decision = entry.decision
    return Row(
        id=entry.id,
        short=entry.id.rsplit("-", 1)[-1],
        time=_time_of_day(entry.clock.wall),
        role=entry.role,
        principal=entry.principal,
        outcome=decision.outcome,
        mode=decision.mode,
        agents=int(decision.source.size),
        active=int(entry.request.observation.active.sum()),
        pieces=tuple(bar(entry)),
        causes=causes(entry),
        seconds=sum(decision.seconds.values()),
    )


def causes(entry: Entry) -> tuple[tuple[str, str, int], ...]:
    """Name, sentence and number of agents of every cause in an entry, most first."""
    values, counts = np.unique(entry.decision.cause, return_counts=True)
    found = [
        (Cause(int(value)).name.lower().replace("_", " "), CAUSES[Cause(int(value))], int(count))
        for value, count in zip(values, counts, strict=True)
        if value != Cause.NONE
    ]
    return tuple(sorted(found, key=lambda item: -item[2]))


def rows(slot: Slot) -> tuple[Row, ...]:
    """The latest decisions, newest first."""
    return tuple(row(entry) for entry in slot.history(LISTED))


def interventions(slot: Slot) -> tuple[Row, ...]:
    """The latest decisions in which something other than the plain policy acted."""
    found: list[Row] = []
    for entry in slot.history(512):
        if entry.decision.cause.any():
            found.append(row(entry))
            if len(found) == INTERVENTIONS:
                break
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Constraint:
    """How often and how far one constraint moved wanted actions, over the recent decisions."""

    name: str
    moved: int
    share: float
    distance: float


def constraints(entries: Sequence[Entry]) -> tuple[Constraint, ...]:
    """Every projection constraint, also those that never acted."""
    total = sum(entry.decision.cause.size for entry in entries)
    found: list[Constraint] = []
    for cause, name in CONSTRAINTS.items():
        moved = [entry.decision.distance[entry.decision.cause == cause] for entry in entries]
        distances = np.concatenate(moved) if moved else np.zeros(0, np.float32)
        count = int(distances.size)
        mean = float(distances.mean()) if count else 0.0
        found.append(Constraint(name, count, count / total if total else 0.0, mean))
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
