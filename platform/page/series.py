"""Curves of the last decisions: who decided, how fast, how far from the guidance, at what margin.

They come from the slot's own history, so they are there without Prometheus and exact to the single
decision; the dashboards show the long run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import isfinite, nan
from time import perf_counter
from typing import Any

from ..daemon.interface import Entry, Slot
from .summary import Summaries, Summary
from .words import SOURCES

POINTS = 240
"""Decisions in a curve."""

BUDGET = 0.003
"""Seconds per call for predicted costs that are not known yet; the rest comes with later calls."""

KEPT = 2048
"""Predicted costs remembered, oldest forgotten first."""


class Curves:
    """Builds the curves; remembers what is dear to compute, by the entry's id."""

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries
        self._costs: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def of(self, slot: Slot) -> dict[str, Any]:
        """Columns of equal length, oldest decision first; ``None`` stands for 'not known'.

        ``at`` is wall-clock time; ``sources`` counts agent-decisions by source in the order of
        :data:`SOURCES`; ``latency`` is in seconds; ``deviation`` holds the mean and the 90th
        percentile over active agents and ``favourite`` the share of them that took the guidance's
        favourite; ``cost`` is what was executed and ``least`` the analytical lower bound.
        """
        pairs = self._summaries.of(slot.history(POINTS))[::-1]
        entries = [entry for entry, _ in pairs]
        found = [one for _, one in pairs]
        costs = self._predicted(slot, entries)
        return {
            "at": [entry.clock.wall for entry in entries],
            "sources": {
                name: [one.sources[source] for one in found]
                for source, (name, _) in SOURCES.items()
            },
            "latency": [one.seconds for one in found],
            "deviation": [[_known(one.deviation[k]) for one in found] for k in (0, 1)],
            "favourite": [_known(one.deviation[2]) for one in found],
            "margin": [_known(entry.decision.margin) for entry in entries],
            "cost": [_known(cost) for cost, _ in costs],
            "least": [_known(least) for _, least in costs],
        }

    def _predicted(self, slot: Slot, entries: Sequence[Entry]) -> list[tuple[float, float]]:
        begin = perf_counter()
        for entry in reversed(entries):
            if entry.id not in self._costs:
                if perf_counter() - begin > BUDGET:
                    break
                seen, done = entry.request.observation, entry.decision.actions
                self._costs[entry.id] = slot.runtime.live.objective(seen, done)
        while len(self._costs) > KEPT:
            self._costs.popitem(last=False)
        return [self._costs.get(entry.id, (nan, nan)) for entry in entries]


def _known(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def bar(one: Summary, width: float = 100.0) -> list[tuple[str, float, float]]:
    """Name, start and length of each source's piece of a bar of ``width``."""
    pieces: list[tuple[str, float, float]] = []
    at = 0.0
    for source, (name, _) in SOURCES.items():
        length = width * one.sources[source] / max(one.agents, 1)
        if length > 0.0:
            pieces.append((name, at, length))
            at += length
    return pieces
