"""What became of every trip: SUMO's tripinfo output, RESCO's delay, and plainer measures.

RESCO's delay is the field's figure and is kept to the letter, with its two oddities: vehicles that
never entered count only if they are ``<vehicle>`` entries, and only if they were due after the
last vehicle that did enter. ``TripReport.charged_delay`` charges everybody who was due.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...interface import Bools, Doubles
from ..files.sumo_departures import read_time
from ..files.sumo_xml import read_tags

GRIDLOCK = 0.05
"""Share of unfinished trips above which a run counts as gridlocked."""

_NUMBERS = {
    "depart": 0.0,
    "departDelay": 0.0,
    "arrival": -1.0,  # of a vehicle that is still on the way
    "duration": 0.0,
    "timeLoss": -math.inf,  # a driver above the desired speed gains a little
    "waitingTime": 0.0,
}
"""Attributes that are read, and what each is at least."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Trips:
    """Vehicles that entered, in SUMO's order: by arrival, then those still on the way.

    Attributes:
        names: ids, ``T`` of them.
        depart: ``[T]`` s, when it entered; depart_delay: ``[T]`` s that it waited for that.
        duration: ``[T]`` s on the way so far; time_loss: ``[T]`` s lost against its desired speed.
        waiting: ``[T]`` s that it stood.
        finished: ``[T]`` bool, it reached its destination.
    """

    names: tuple[str, ...]
    depart: Doubles
    depart_delay: Doubles
    duration: Doubles
    time_loss: Doubles
    waiting: Doubles
    finished: Bools

    @property
    def due(self) -> Doubles:
        """``[T]`` s, when it should have entered."""
        return np.round(self.depart - self.depart_delay, 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned:
    """Vehicles of route files.

    Attributes:
        names: ids, ``V`` of them.
        depart: ``[V]`` s, when they are due.
        charged: ``[V]`` bool, a ``<vehicle>``; RESCO charges no ``<trip>`` that never enters.
    """

    names: tuple[str, ...]
    depart: Doubles
    charged: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class TripReport:
    """Figures of one run; nan where nobody counts.

    Attributes:
        version: of SUMO, with the backend.
        seed: of the run.
        resco_delay: s, see :func:`resco_delay`.
        charged_delay: s, mean of time lost and entry delay over all who were due before the end;
            who never entered is charged from when it was due until the end.
        trip_time: s on the way, mean over finished trips; trip_time_all: over all that entered.
        time_loss: s, mean over all that entered; waiting: s that they stood, likewise.
        departed, finished, unfinished: vehicles that entered, arrived, were still on the way.
        undeparted: vehicles of the route files that were due and never entered.
        unfinished_share: ``unfinished / departed``.
        gridlock: ``unfinished_share`` above :data:`GRIDLOCK`.
        throughput: arrivals per hour.
    """

    version: str
    seed: int
    resco_delay: float
    charged_delay: float
    trip_time: float
    trip_time_all: float
    time_loss: float
    waiting: float
    departed: int
    finished: int
    unfinished: int
    undeparted: int
    unfinished_share: float
    gridlock: bool
    throughput: float


def read_tripinfo(path: Path) -> Trips:
    """Read a tripinfo file written with ``--tripinfo-output.write-unfinished``.

    Raises:
        DataError: not well-formed (a run that was cut short leaves such a file), or a value that
            is no number.
    """
    names: list[str] = []
    rows: list[list[float]] = []
    for tag in read_tags(path, ("tripinfos",)):
        if tag.name == "tripinfo":
            names.append(tag.text("id"))
            rows.append([tag.number(field, low=low) for field, low in _NUMBERS.items()])
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(_NUMBERS))
    depart, delay, arrival, duration, loss, waiting = np.ascontiguousarray(values.T)
    return Trips(
        names=tuple(names),
        depart=depart,
        depart_delay=delay,
        duration=duration,
        time_loss=loss,
        waiting=waiting,
        finished=arrival >= 0.0,
    )


def read_planned(routes: Sequence[Path], begin: float) -> Planned:
    """Vehicles and trips of ``routes`` that are due at ``begin`` or later; SUMO skips earlier ones.

    Vehicles of a ``<flow>`` have no entry of their own and are not listed.

    Raises:
        DataError: not well-formed, or a departure that is no time.
    """
    names: list[str] = []
    depart: list[float] = []
    charged: list[bool] = []
    for path in routes:
        for tag in read_tags(path, ("routes", "additional")):
            if tag.name not in {"vehicle", "trip"}:
                continue
            due = read_time(tag, "depart")
            if due >= begin:
                names.append(tag.text("id"))
                depart.append(due)
                charged.append(tag.name == "vehicle")
    return Planned(
        names=tuple(names),
        depart=np.array(depart, dtype=np.float64),
        charged=np.array(charged, dtype=np.bool_),
    )


def resco_delay(trips: Trips, planned: Planned, end: float) -> float:
    """RESCO's delay, s: mean over trips of time lost plus entry delay, unfinished ones included.

    ``<vehicle>`` entries that were due after the last vehicle that entered count as never departed
    and are charged ``end`` minus when they were due. Of vehicles that entered in the same second,
    the first one in the file is the last to enter (RESCO, ``utils/readXML.py``). nan without trips.
    """
    if not trips.names:
        return math.nan
    last = float(trips.due[int(np.argmax(trips.depart))])
    never = planned.depart[planned.charged & (planned.depart > last)]
    total = float(np.sum(trips.time_loss + trips.depart_delay) + np.sum(end - never))
    return total / (len(trips.names) + never.size)


def summary(
    trips: Trips, planned: Planned, *, begin: float, end: float, version: str, seed: int
) -> TripReport:
    """All figures of one run that was simulated from ``begin`` to ``end`` (s of SUMO's clock)."""
    entered = set(trips.names)
    missing = np.array([name not in entered for name in planned.names], dtype=np.bool_)
    never = planned.depart[missing & (planned.depart < end)]
    departed, finished = len(trips.names), int(trips.finished.sum())
    lost = trips.time_loss + trips.depart_delay
    share = (departed - finished) / departed if departed else 0.0
    return TripReport(
        version=version,
        seed=seed,
        resco_delay=resco_delay(trips, planned, end),
        charged_delay=_mean(np.concatenate([lost, end - never])),
        trip_time=_mean(trips.duration[trips.finished]),
        trip_time_all=_mean(trips.duration),
        time_loss=_mean(trips.time_loss),
        waiting=_mean(trips.waiting),
        departed=departed,
        finished=finished,
        unfinished=departed - finished,
        undeparted=int(never.size),
        unfinished_share=share,
        gridlock=share > GRIDLOCK,
        throughput=3600.0 * finished / (end - begin),
    )


def _mean(values: Doubles) -> float:
    return float(values.mean()) if values.size else math.nan
