"""CityFlow's intersections as movements, connections and signals of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...interface import Ints
from ..programme import Signal
from .cityflow_json import Node
from .cityflow_signals import Turn, foes, read_signal

TURN_SPEED = 8.3333
"""m/s of turning vehicles in CityFlow's engine."""
_TURNS = {"go_straight": "s", "turn_left": "l", "turn_right": "r"}

Polyline = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Road:
    """One road.

    Attributes:
        tail, head: intersections.
        lanes: how many; first: index of its rightmost lane in the network.
        speed: m/s, of its fastest lane.
        points: m, from the edge of one intersection to that of the other.
    """

    tail: int
    head: int
    lanes: int
    first: int
    speed: float
    points: Polyline

    def lane(self, node: Node) -> int:
        """The network's lane that ``node`` means; CityFlow counts from the middle of the road."""
        return self.first + self.lanes - 1 - node.index(self.lanes)

    @property
    def toward(self) -> tuple[float, float]:
        """Unit vector at its end."""
        return _direction(self.points[-2], self.points[-1])


def read_roads(nodes: list[Node], intersections: dict[str, int], width: list[float]) -> list[Road]:
    """All roads, cut off at the ``width`` (m) of the intersections at their ends.

    Raises:
        DataError: a missing or impossible value, or a road with nothing left between its ends.
    """
    roads: list[Road] = []
    first = 0
    for node in nodes:
        tail = node.get("startIntersection").one_of(intersections, "an intersection")
        head = node.get("endIntersection").one_of(intersections, "an intersection")
        lanes = [lane.get("maxSpeed").number(above=0.0) for lane in node.get("lanes").items()]
        if not lanes:
            node.get("lanes").fail("at least one lane is expected", value=0)
        points = _cut(node.get("points"), width[tail], width[head])
        roads.append(Road(tail, head, len(lanes), first, max(lanes), points))
        first += len(lanes)
    return roads


class Junctions:
    """Collects what the intersections add to a network, one after another.

    Args:
        roads: of the network.
        links: ids of the roads to their places.
        phases: green phases that every signal keeps; all if ``None``.
    """

    def __init__(self, roads: list[Road], links: dict[str, int], phases: int | None) -> None:
        self._roads, self._links, self._phases = roads, links, phases
        self._turns: list[Turn] = []
        self._lengths: list[float] = []
        self._connections: list[tuple[int, int, int, int, int]] = []
        self._yields: list[list[int]] = []
        self._signals: list[Signal] = []

    def read(self, at: int, node: Node) -> None:
        """Add intersection ``at``.

        Raises:
            DataError: a missing or impossible value.
        """
        first = len(self._turns)
        lane_links: list[list[tuple[int, int]]] = []
        for link in node.get("roadLinks").items():
            turn = self._turn(at, link)
            if any((turn.start, turn.end) == (t.start, t.end) for t in self._turns[first:]):
                link.fail("one road link for its two roads is expected")
            lanes, length = self._lanes(turn, link.get("laneLinks"))
            self._turns.append(turn)
            self._lengths.append(length)
            lane_links.append(lanes)
        turns = self._turns[first:]
        if not turns:
            return
        place = (node.get("id").text(), *node.get("point").point())
        signal = read_signal(node.get("trafficLight"), turns, place, self._phases)
        controller = -1 if signal is None else len(self._signals)
        self._signals += [] if signal is None else [signal]
        start = len(self._connections)
        of_turn: list[list[int]] = []
        for index, lanes in enumerate(lane_links):
            letter = -1 if signal is None else index
            of_turn.append([start + offset for offset in range(len(lanes))])
            start += len(lanes)
            self._connections += [
                (lane, first + index, into, controller, letter) for lane, into in lanes
            ]
        for gives, lanes in zip(foes(turns), lane_links, strict=True):
            others = [connection for turn in gives for connection in of_turn[turn]]
            self._yields += [others] * len(lanes)

    def arrays(self) -> dict[str, Any]:
        """The parts of a :class:`..network.Network` that come from its junctions."""
        roads, turns = self._roads, self._turns
        table = np.array(self._connections, dtype=np.int64).reshape(-1, 5)
        speeds = [
            roads[turn.start].speed
            if turn.kind == "s"
            else min(TURN_SPEED, roads[turn.start].speed)
            for turn in turns
        ]
        return {
            "move_from": ints([turn.start for turn in turns]),
            "move_to": ints([turn.end for turn in turns]),
            "turn_length": np.array(self._lengths, dtype=np.float64),
            "turn_speed": np.array(speeds, dtype=np.float64),
            "turn": tuple(turn.kind for turn in turns),
            "connection_lane": table[:, 0].copy(),
            "connection_move": table[:, 1].copy(),
            "connection_into": table[:, 2].copy(),
            "connection_signal": table[:, 3].copy(),
            "connection_index": table[:, 4].copy(),
            "yield_start": ints(np.cumsum([0, *(len(others) for others in self._yields)])),
            "yield_to": ints([other for others in self._yields for other in others]),
            "waits_inside": np.zeros(len(table), dtype=np.int64),
            "stops": np.zeros(len(table), dtype=np.bool_),
            "signals": tuple(self._signals),
        }

    def _turn(self, at: int, link: Node) -> Turn:
        kind = link.get("type")
        if kind.text() not in _TURNS:
            kind.fail(f"one of {', '.join(_TURNS)} is expected")
        start = link.get("startRoad").one_of(self._links, "a road")
        end = link.get("endRoad").one_of(self._links, "a road")
        if self._roads[start].head != at:
            link.get("startRoad").fail("a road that ends at this intersection is expected")
        if self._roads[end].tail != at:
            link.get("endRoad").fail("a road that starts at this intersection is expected")
        back = self._roads[end].head == self._roads[start].tail
        letter = _TURNS[kind.value]
        # The format has no type for U-turns; they come as left turns.
        return Turn(
            "t" if back and letter == "l" else letter, start, end, self._roads[start].toward
        )

    def _lanes(self, turn: Turn, node: Node) -> tuple[list[tuple[int, int]], float]:
        """Lanes from and to, and the mean length in m."""
        start, end = self._roads[turn.start], self._roads[turn.end]
        lanes: list[tuple[int, int]] = []
        lengths: list[float] = []
        for link in node.items():
            lanes.append(
                (start.lane(link.get("startLaneIndex")), end.lane(link.get("endLaneIndex")))
            )
            drawn = link.has("points") and link.get("points").items()
            ends = [start.points[-1], end.points[0]]
            lengths.append(length_of(link.get("points").points() if drawn else ends))
        if not lanes:
            node.fail("at least one lane link is expected", value=0)
        return lanes, float(np.mean(lengths))


def ints(values: Any) -> Ints:
    """An int64 array, of whatever length."""
    return np.array(values, dtype=np.int64)


def length_of(points: Polyline) -> float:
    """Length of a polyline, m."""
    return sum(math.dist(one, two) for one, two in pairwise(points))


def _direction(one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
    far = math.dist(one, two)
    return (two[0] - one[0]) / far, (two[1] - one[1]) / far


def _cut(node: Node, begin: float, end: float) -> Polyline:
    """A road's points without the first ``begin`` and the last ``end`` m."""
    points = node.points()
    if any(one == two for one, two in pairwise(points)):
        node.fail("points that differ from the one before are expected")
    for cut, at, other in ((begin, 0, 1), (end, -1, -2)):
        if math.dist(points[at], points[other]) <= cut:
            node.fail(f"an end longer than the width {cut:g} of its intersection is expected")
        x, y = _direction(points[at], points[other])
        points[at] = (points[at][0] + x * cut, points[at][1] + y * cut)
    return points
