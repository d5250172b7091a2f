"""From a plan of roads to a network: links, lanes, turns, signals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..interface import Bools, Doubles, Ints
from .generated_programme import find_greens, find_stages, first_seconds
from .junction import Arm, Path, find_paths, setback, turn_length, turn_speed, yields
from .network import Network
from .programme import Signal
from .webster import fixed_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node: ``protected`` lefts or not, ``None`` where no signal stands."""

    name: str
    x: float
    y: float
    protected: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """Two links, there and back; ``lanes`` per direction, ``speed`` limit in m/s."""

    one: int
    two: int
    lanes: int
    speed: float


@dataclass(frozen=True, slots=True)
class _Junction:
    """All that follows from the arms of a junction, shared by junctions of one shape."""

    paths: tuple[Path, ...]
    gives: Bools
    setbacks: tuple[float, ...]
    lengths: tuple[float, ...]
    greens: tuple[str, ...]
    programme: tuple[tuple[str, float], ...]


@lru_cache(maxsize=256)
def _junction(arms: tuple[Arm, ...], protected: bool) -> _Junction:
    paths = find_paths(arms, protected=protected)
    stages = find_stages(arms, paths, protected=protected)
    greens = find_greens(arms, paths, stages)
    return _Junction(
        paths=paths,
        gives=yields(arms, paths),
        setbacks=tuple(setback(arms, at) for at in range(len(arms))),
        lengths=tuple(turn_length(arms, path) for path in paths),
        greens=greens,
        programme=fixed_plan(greens, first_seconds(paths, stages)),
    )


def build_network(name: str, places: list[Place], roads: list[Road]) -> Network:
    """The network of ``roads`` that run north-south or east-west between ``places``.

    A link is called after its nodes (``A-B`` leads from A to B), a signal after its node. Links are
    in the order of ``roads``, there before back. Signal indices count the connections of a junction
    clockwise from the north, each arm from right to left, as netconvert does.

    Raises:
        ValueError: a road that is slanted or too short for its junctions, or roads that meet where
            no signal stands.
    """
    tail = np.array([end for road in roads for end in (road.one, road.two)], dtype=np.int64)
    head = np.array([end for road in roads for end in (road.two, road.one)], dtype=np.int64)
    limit = np.array([road.speed for road in roads for _ in range(2)])
    lanes = np.array([road.lanes for road in roads for _ in range(2)], dtype=np.int64)
    xy = np.array([(place.x, place.y) for place in places])
    length = np.hypot(*(xy[head] - xy[tail]).T)
    lane_start = np.concatenate([[0], np.cumsum(lanes)])
    turns = _Turns(limit, lane_start)
    signals: list[Signal] = []
    for at, entering in enumerate(_entering(places, xy, tail, head)):
        place = places[at]
        if place.protected is None:
            if len(entering) > 1:
                raise ValueError(f"{place.name!r} joins {len(entering)} roads without a signal")
            continue
        arms = tuple(Arm(bearing, int(lanes[link])) for bearing, link in entering)
        links = [link for _, link in entering]
        junction = _junction(arms, place.protected)
        for link, back in zip(links, junction.setbacks, strict=True):
            length[[link, link ^ 1]] -= back  # both links of the road
        turns.add(junction, links, len(signals))
        signals.append(
            Signal(
                name=place.name,
                greens=junction.greens,
                programme=junction.programme,
                x=place.x,
                y=place.y,
            )
        )
    names = [place.name for place in places]
    links = tuple(f"{names[a]}-{names[b]}" for a, b in zip(tail, head, strict=True))
    if not (length > 0.0).all():
        short = links[int(np.argmin(length))]
        raise ValueError(f"road {short!r} is too short for the junctions at its ends")
    network = Network(
        name=name,
        nodes=tuple(names),
        xy=xy,
        links=links,
        tail=tail,
        head=head,
        length=length,
        speed=limit,
        lane_link=np.repeat(np.arange(lanes.size), lanes),
        signals=tuple(signals),
        **turns.arrays(),
    )
    network.check()
    return network


def _entering(
    places: list[Place], xy: Doubles, tail: Ints, head: Ints
) -> list[list[tuple[int, int]]]:
    """Per node, bearing and index of the links that lead to it, clockwise from the north."""
    found: list[list[tuple[int, int]]] = [[] for _ in places]
    for link, (start, end) in enumerate(zip(tail.tolist(), head.tolist(), strict=True)):
        east, north = (xy[start] - xy[end]).tolist()
        bearing = math.degrees(math.atan2(east, north)) % 360.0
        if bearing % 90.0:
            road = f"{places[start].name}-{places[end].name}"
            raise ValueError(f"road {road!r} must run north-south or east-west")
        found[end].append((int(bearing), link))
    return [sorted(entering) for entering in found]


class _Turns:
    """Collects movements and connections junction by junction."""

    def __init__(self, limit: Doubles, lane_start: Ints) -> None:
        self._limit = limit
        self._lane_start = lane_start
        self._moves: dict[tuple[int, int], int] = {}
        self._turn: list[str] = []
        self._lengths: list[list[float]] = []
        self._rows: list[tuple[int, int, int, int, int, int]] = []
        self._gives: list[list[int]] = []

    def add(self, junction: _Junction, links: list[int], signal: int) -> None:
        """Add what leads over one junction; ``links`` lead to it, arm by arm."""
        first = len(self._rows)
        for index, path in enumerate(junction.paths):
            enter, leave = links[path.arm], links[path.leave] ^ 1
            move = self._moves.setdefault((enter, leave), len(self._moves))
            if move == len(self._turn):
                self._turn.append(path.turn)
                self._lengths.append([])
            self._lengths[move].append(junction.lengths[index])
            lane = int(self._lane_start[enter]) + path.lane
            into = int(self._lane_start[leave]) + path.target
            gives = np.flatnonzero(junction.gives[index])
            # SUMO lets one car wait past the stop line for a gap in the facing traffic.
            self._rows.append((lane, move, into, signal, index, min(gives.size, 1)))
            self._gives.append((first + gives).tolist())

    def arrays(self) -> dict[str, Any]:
        """The arrays of :class:`Network` that describe turns."""
        pairs = np.array(list(self._moves), dtype=np.int64).reshape(-1, 2)
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, 6)
        length = np.array([np.mean(lengths) for lengths in self._lengths])
        speed = (self._limit[pairs[:, 0]] + self._limit[pairs[:, 1]]) / 2.0
        bends = np.array([turn != "s" for turn in self._turn])
        allowed = np.array([turn_speed(metres) for metres in length.tolist()])
        return {
            "move_from": pairs[:, 0],
            "move_to": pairs[:, 1],
            "turn_length": length,
            "turn_speed": np.where(bends, np.minimum(speed, allowed), speed),
            "turn": tuple(self._turn),
            "connection_lane": rows[:, 0],
            "connection_move": rows[:, 1],
            "connection_into": rows[:, 2],
            "connection_signal": rows[:, 3],
            "connection_index": rows[:, 4],
            "yield_start": np.cumsum([0, *(len(gives) for gives in self._gives)]),
            "yield_to": np.array([c for gives in self._gives for c in gives], dtype=np.int64),
            "waits_inside": rows[:, 5],
            "stops": np.zeros(len(rows), dtype=np.bool_),
        }
