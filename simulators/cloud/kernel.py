"""Jobs, and what a station shares with its system.

No process per job and no polling. A station has at most one *valid* event in the calendar, its
next departure, so an arrival or departure costs O(log n) in the jobs of that station and in the
stations of the system.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from ..calendar import Calendar


class Job:
    """A job in the system; lives from its arrival until its completion record is taken.

    Attributes:
        owner: dispatcher that it belongs to.
        kind: index of its class.
        size: work units.
        arrival: time of arrival at its dispatcher, s.
        services: full-speed service time on every node type, s.
        best: shortest entry of ``services`` among capable types, s.
        demand: row of the workload's demand table (0 where nodes are not exclusive).
        estimate: estimated over true size, all that its dispatcher knows of it.
        node, service: where it runs and its full-speed service time there.
        placed: time at which it was committed to its node.
        finish: time of completion.
        gpus: indices of the GPUs that it occupies (exclusive nodes).
    """

    __slots__ = (
        "arrival",
        "best",
        "demand",
        "estimate",
        "finish",
        "gpus",
        "kind",
        "node",
        "owner",
        "placed",
        "service",
        "services",
        "size",
    )

    def __init__(
        self,
        owner: int,
        kind: int,
        size: float,
        arrival: float,
        services: list[float],
        best: float,
        demand: int = 0,
        estimate: float = 1.0,
    ):
        self.owner = owner
        self.kind = kind
        self.size = size
        self.arrival = arrival
        self.services = services
        self.best = best
        self.demand = demand
        self.estimate = estimate
        self.node = -1
        self.service = 0.0
        self.placed = arrival
        self.finish = inf
        self.gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seat:
    """What a station shares with its system.

    Attributes:
        index: the station's place in ``counts``.
        calendar: event list.
        counts: jobs present at every station; each keeps its own entry up to date.
        finished: where completed jobs are appended; a job is anything with a writable ``finish``.
        serial: numbers that break ties between equal times.
    """

    index: int
    calendar: Calendar
    counts: list[int]
    finished: list[Any]
    serial: Iterator[int]
