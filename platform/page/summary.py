"""Every decision in a few numbers, computed once: the page asks every second, on the event loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from time import perf_counter

import numpy as np

from ..daemon.interface import Entry
from ..decision.types import CONSTRAINTS, Cause, Source

BUDGET = 0.003
"""Seconds per call for decisions not seen before; older ones come with the calls after it."""

KEPT = 2048
"""Summaries remembered, oldest forgotten first."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the page tells of one decision.

    Attributes:
        sources: agents by value of :class:`Source`.
        causes: cause and how many agents it concerns, most first, without ``NONE``.
        moved: by constraint in the order of :data:`CONSTRAINTS`: agents moved, sum of distances.
        agents, active: rows decided, and those that had something to decide.
        seconds: the decision's own time.
        deviation: mean and 90th percentile of the guidance deviation over active agents, and the
            share of them that took the guidance's favourite; NaN where unknown.
    """

    sources: tuple[int, ...]
    causes: tuple[tuple[Cause, int], ...]
    moved: tuple[tuple[int, float], ...]
    agents: int
    active: int
    seconds: float
    deviation: tuple[float, float, float]


def summary(entry: Entry) -> Summary:
    """Condense one decision."""
    decision = entry.decision
    counts = np.bincount(decision.cause, minlength=len(Cause)).tolist()
    causes = [(Cause(value), count) for value, count in enumerate(counts) if value and count]
    return Summary(
        sources=tuple(np.bincount(decision.source, minlength=len(Source)).tolist()),
        causes=tuple(sorted(causes, key=lambda item: -item[1])),
        moved=tuple(
            (counts[cause], float(decision.distance[decision.cause == cause].sum()))
            if counts[cause]
            else (0, 0.0)
            for cause in CONSTRAINTS
        ),
        agents=int(decision.source.size),
        active=int(entry.request.observation.active.sum()),
        seconds=sum(decision.seconds.values()),
        deviation=_deviation(entry),
    )


def _deviation(entry: Entry) -> tuple[float, float, float]:
    values = entry.decision.deviation
    values = values[entry.request.observation.active & np.isfinite(values)]
    if not values.size:
        return nan, nan, nan
    place = int(0.9 * (values.size - 1))
    high = float(np.partition(values, place)[place])
    return float(values.mean()), high, float((values <= 1e-6).mean())


class Summaries:
    """Summaries by the entry's id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Summary] = OrderedDict()

    def of(self, entries: Sequence[Entry]) -> list[tuple[Entry, Summary]]:
        """The entries with their summaries, as many of the first ones as the time allows.

        At least one that was not known, if there is one; the rest is found in the next calls.
        """
        begin, made, found = perf_counter(), False, list[tuple[Entry, Summary]]()
        for entry in entries:
            known = self._known.get(entry.id)
            if known is None:
                if made and perf_counter() - begin > BUDGET:
                    break
                made = True
                known = self._known[entry.id] = summary(entry)
            found.append((entry, known))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found
