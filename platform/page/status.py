"""The state of one domain in a few figures: what the cards on top of the page show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from ..daemon.interface import Daemon, Entry, Slot
from ..decision.types import Clock, Source
from .summary import Summaries, Summary
from .words import MODES

RECENT = 120
"""Decisions that the figures are taken over."""

LATE = 3.0
"""Ticks without a decision after which a domain counts as silent."""


@dataclass(frozen=True, slots=True)
class Card:
    """One domain at a glance.

    Attributes:
        domain, scenario, agents: what is controlled.
        mode, tone, meaning: how the last tick was decided (``drain`` while the daemon drains), its
            colour word and its sentence.
        since: seconds in that mode, as far back as the history goes; NaN without history.
        held: the whole history is in that mode, so it may have lasted longer than ``since``.
        champion, name: digest and name of the bundle in charge; empty without one.
        rate: decisions per second. p50, p99: seconds per decision. NaN without history.
        own: share of agent-decisions that the policy made, projected ones included.
        silent: seconds since the last decision; infinite before the first.
        alarms: what a person should look at, worst first.
        ticks: decisions made.
    """

    domain: str
    scenario: str
    agents: int
    mode: str
    tone: str
    meaning: str
    since: float
    held: bool
    champion: str
    name: str
    rate: float
    p50: float
    p99: float
    own: float
    silent: float
    alarms: tuple[str, ...]
    ticks: int


def card(daemon: Daemon, slot: Slot, now: Clock, summaries: Summaries) -> Card:
    """Figures of one slot; call it from the event loop's thread."""
    entries = slot.history(512)
    mode = "drain" if daemon.draining else slot.state.mode
    tone, meaning = MODES[mode]
    recent = entries[:RECENT]
    found = [one for _, one in summaries.of(recent)]
    p50, p99 = latency(found)
    since, held = _since(entries, slot.state.mode, now)
    silent = now.mono - entries[0].clock.mono if entries else float("inf")
    return Card(
        domain=slot.domain,
        scenario=slot.runtime.spec.scenario,
        agents=slot.runtime.spec.agents,
        mode=mode,
        tone=tone,
        meaning=meaning,
        since=since,
        held=held,
        champion=slot.runtime.digest[:12],
        name=_name(slot.view()),
        rate=rate(recent),
        p50=p50,
        p99=p99,
        own=own_share(found),
        silent=silent,
        alarms=alarms(daemon, slot, silent),
        ticks=slot.state.ticks,
    )


def alarms(daemon: Daemon, slot: Slot, silent: float) -> tuple[str, ...]:
    """What needs a person, worst first, each a short sentence."""
    found: list[str] = []
    ready, reason = daemon.ready(slot.domain)
    if not ready:
        found.append(f"Not ready: {reason}")
    state = slot.state
    if state.forced:
        found.append("An operator has forced the fallback")
    elif state.mode in ("fallback", "hold") and slot.history(1):
        found.append(f"Mode is {state.mode}")
    if state.breaker.phase != "closed":
        found.append(f"Circuit breaker is {state.breaker.phase}")
    if state.latched:
        found.append(f"Simplex switch holds the baseline ({state.clean} clean ticks so far)")
    audit = slot.view().get("audit")
    if isinstance(audit, Mapping) and audit.get("healthy") is False:
        found.append("The audit cannot be written")
    tick = daemon.settings.tick.get(slot.domain, slot.runtime.spec.dt)
    if tick * LATE < silent < float("inf"):
        found.append("No observations arrive")
    return tuple(found)


def latency(recent: Sequence[Summary]) -> tuple[float, float]:
    """Median and 99th percentile of the decisions' own time, in seconds."""
    if not recent:
        return nan, nan
    low, high = np.quantile([one.seconds for one in recent], (0.5, 0.99))
    return float(low), float(high)


def rate(entries: Sequence[Entry]) -> float:
    """Decisions per second between the oldest and the newest entry."""
    if len(entries) < 2:
        return nan
    span = entries[0].clock.mono - entries[-1].clock.mono
    return (len(entries) - 1) / span if span > 0 else nan


def own_share(recent: Sequence[Summary]) -> float:
    """Share of agent-decisions that the policy made, its projected ones included."""
    total = sum(one.agents for one in recent)
    own = sum(one.sources[Source.POLICY] + one.sources[Source.PROJECTED] for one in recent)
    return own / total if total else nan


def _since(entries: Sequence[Entry], mode: str, now: Clock) -> tuple[float, bool]:
    oldest: Entry | None = None
    for entry in entries:
        if entry.decision.mode != mode:
            return (nan if oldest is None else now.mono - oldest.clock.mono), False
        oldest = entry
    return (nan, False) if oldest is None else (now.mono - oldest.clock.mono, True)


def _name(view: Mapping[str, Any]) -> str:
    """Name of the champion, where the slot's own view tells one."""
    rollout = view.get("rollout")
    champion = rollout.get("champion") if isinstance(rollout, Mapping) else None
    name = champion.get("name") if isinstance(champion, Mapping) else None
    return name if isinstance(name, str) else ""
