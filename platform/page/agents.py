"""Agents: the whole population as one string, and one agent with the reasons of its action."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..daemon.interface import Entry, Slot
from ..decision.types import Cause, Source
from .words import CAUSES, SOURCES

BACK = 64
"""Decisions looked back for an agent's latest action."""

SHOWN = 12
"""Candidates listed for one agent, the best scored first."""

NEVER = "?"


@dataclass(frozen=True, slots=True)
class Grid:
    """All agents at once, one character each; small enough to be sent every second.

    Attributes:
        sources: digit of :class:`Source` of the agent's latest decision in which it was active,
            ``?`` if it had none lately.
        causes: ``A`` + value of :class:`Cause` of the same decision.
        active: ``1`` if it had something to decide in its newest observation, else ``0``.
        newest: id of the newest entry, empty without one.
        ticks: decisions made.
    """

    sources: str
    causes: str
    active: str
    newest: str
    ticks: int


def rows_of(entry: Entry, agents: int) -> NDArray[np.int64]:
    """``[n]`` which agents the rows of an entry are."""
    chosen = entry.request.agents
    return np.arange(agents, dtype=np.int64) if chosen is None else chosen


def grid(slot: Slot) -> Grid:
    """Latest action of every agent; a few array operations per entry looked at."""
    size = slot.runtime.spec.agents
    source = np.full(size, -1, np.int8)
    cause = np.zeros(size, np.int8)
    active = np.zeros(size, np.bool_)
    seen = np.zeros(size, np.bool_)
    entries = slot.history(BACK)
    for entry in entries:
        rows = rows_of(entry, size)
        now = entry.request.observation.active
        fresh = ~seen[rows]
        active[rows[fresh]] = now[fresh]
        seen[rows] = True
        take = now & (source[rows] < 0)
        source[rows[take]] = entry.decision.source[take]
        cause[rows[take]] = entry.decision.cause[take]
        if (source >= 0).all():
            break
    return Grid(
        sources=_letters(np.where(source < 0, ord(NEVER), source + ord("0"))),
        causes=_letters(cause + ord("A")),
        active=_letters(active + ord("0")),
        newest=entries[0].id if entries else "",
        ticks=slot.state.ticks,
    )


def _letters(codes: NDArray[Any]) -> str:
    return codes.astype(np.uint8).tobytes().decode("ascii")


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation beside the range that training has seen.

    ``place`` is where the value lies in that range (0: lowest, 1: highest), clipped to
    -0.25..1.25; NaN where the bundle does not say. ``outside`` says that it left the range.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    place: float
    outside: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One alternative of an agent: what it stands for, its score and its guidance deviation."""

    index: int
    target: int
    score: float
    deviation: float
    wanted: bool
    executed: bool
    features: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SetPoint:
    """One dimension of a set-point: limits, what the policy wanted, what was executed."""

    low: float
    high: float
    wanted: float
    executed: float


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's latest decision with its reasons.

    ``candidates`` (choices) or ``points`` (set-points); ``legal`` counts all legal candidates of
    which at most :data:`SHOWN` are listed.
    """

    index: int
    group: str
    entry: Entry
    active: bool
    source: str
    meaning: str
    cause: str
    why: str
    deviation: float
    distance: float
    features: tuple[Feature, ...]
    columns: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    points: tuple[SetPoint, ...]
    legal: int


def agent(slot: Slot, index: int) -> Agent | None:
    """The latest decision about an agent in which it was active, else its latest at all.

    ``None`` if none of the last :data:`BACK` decisions was about it.

    Raises:
        IndexError: there is no such agent.
    """
    spec = slot.runtime.spec
    if not 0 <= index < spec.agents:
        raise IndexError(f"agent {index} does not exist; there are {spec.agents}")
    found: tuple[Entry, int] | None = None
    for entry in slot.history(BACK):
        rows = np.flatnonzero(rows_of(entry, spec.agents) == index)
        if not rows.size:
            continue
        row = int(rows[0])
        found = found or (entry, row)
        if entry.request.observation.active[row]:
            found = (entry, row)
            break
    if found is None:
        return None
    entry, row = found
    decision = entry.decision
    source, cause = Source(int(decision.source[row])), Cause(int(decision.cause[row]))
    name, meaning = SOURCES[source]
    return Agent(
        index=index,
        group=spec.groups[int(spec.group_of[index])],
        entry=entry,
        active=bool(entry.request.observation.active[row]),
        source=name,
        meaning=meaning,
        cause=cause.name.lower().replace("_", " "),
        why=CAUSES[cause],
        deviation=float(decision.deviation[row]),
        distance=float(decision.distance[row]),
        features=_features(slot, entry, row),
        columns=tuple(
            f.name if f.unit in ("", "1") else f"{f.name} ({f.unit})"
            for f in spec.candidate_features
        ),
        candidates=_candidates(slot, entry, row),
        points=_points(entry, row),
        legal=int(entry.request.observation.mask[row].sum()) if _choice(entry) else 0,
    )


def _choice(entry: Entry) -> bool:
    return entry.decision.actions.ndim == 1


def _features(slot: Slot, entry: Entry, row: int) -> tuple[Feature, ...]:
    observed = slot.runtime.observed.get("agent", {})
    lows, highs = observed.get("low", ()), observed.get("high", ())
    values = entry.request.observation.agent[row]
    found: list[Feature] = []
    for column, feature in enumerate(slot.runtime.spec.agent_features):
        value = float(values[column])
        low = float(lows[column]) if len(lows) else nan
        high = float(highs[column]) if len(highs) else nan
        span = high - low
        place = min(max((value - low) / span, -0.25), 1.25) if span > 0 else nan
        outside = bool(value < low or value > high)
        found.append(Feature(feature.name, feature.unit, value, low, high, place, outside))
    return tuple(found)


def _candidates(slot: Slot, entry: Entry, row: int) -> tuple[Candidate, ...]:
    if not _choice(entry):
        return ()
    decision, seen = entry.decision, entry.request.observation
    legal = np.flatnonzero(seen.mask[row])
    score = decision.preference[row] if decision.preference is not None else None
    executed = int(decision.actions[row])
    wanted = None if decision.wanted is None else int(decision.wanted[row])
    if score is not None:
        legal = legal[np.argsort(-score[legal], kind="stable")]
    first = [k for k in dict.fromkeys((executed, wanted)) if k is not None]
    listed = list(dict.fromkeys([*legal[:SHOWN].tolist(), *first]))
    return tuple(
        Candidate(
            index=k,
            target=int(seen.target[row, k]),
            score=nan if score is None else float(score[k]),
            deviation=_deviation_if(slot, entry, row, k),
            wanted=k == wanted,
            executed=k == executed,
            features=tuple(float(v) for v in seen.candidates[row, k]),
        )
        for k in listed
    )


def _deviation_if(slot: Slot, entry: Entry, row: int, action: int) -> float:
    """Guidance deviation of one agent, had it taken ``action`` and the others what they did."""
    seen = entry.request.observation
    if not seen.mask[row, action] or not seen.active[row]:
        return nan
    actions = entry.decision.actions.copy()
    actions[row] = action
    return float(slot.runtime.live.deviation(seen, actions)[row])


def _points(entry: Entry, row: int) -> tuple[SetPoint, ...]:
    if _choice(entry):
        return ()
    seen, decision = entry.request.observation, entry.decision
    wanted = decision.actions[row] * nan if decision.wanted is None else decision.wanted[row]
    return tuple(
        SetPoint(float(low), float(high), float(want), float(done))
        for low, high, want, done in zip(
            seen.low[row], seen.high[row], wanted, decision.actions[row], strict=True
        )
    )
