"""Right of way in a SUMO network: the way through a junction, and who gives way to whom there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .sumo_net_parts import Edge, Join, Junction, Parts

_SPACE = 7.5  # m of lane that a standing passenger car takes in SUMO
_SHORT = 0.1  # m of a turn that has no lane of its own


@dataclass(frozen=True, slots=True)
class Passage:
    """The inside of a junction for one connection.

    Attributes:
        lanes: ids of the lanes inside, in order; none where the file has no such lanes.
        length: m. speed: m/s, length over travel time of the lanes.
        first: m of the first of several lanes, at the end of which is a place to wait; else 0.
    """

    lanes: tuple[str, ...]
    length: float
    speed: float
    first: float

    @property
    def seconds(self) -> float:
        return self.length / self.speed


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one connection: connections (by place in the file) it gives way to, and room to wait."""

    yields: tuple[int, ...]
    room: int


def passages(parts: Parts) -> dict[int, Passage]:
    """The way of each connection between ordinary edges, by its place in the file.

    A turn that has to wait inside a junction consists of two lanes, joined by a connection.

    Raises:
        DataError: a ``via`` that is no lane inside a junction, or lanes that lead in a circle.
    """
    edges = parts.edges
    inside = {
        f"{edge.name}_{place}": (edge, place)
        for edge in edges.values()
        if edge.inside
        for place in range(len(edge.lanes))
    }
    onward = {f"{join.origin}_{join.lane}": join.via for join in parts.joins if join.via}
    found: dict[int, Passage] = {}
    for place, join in enumerate(parts.joins):
        if not _is_ordinary(edges, join):
            continue
        names: list[str] = []
        name = join.via
        while name:
            if name not in inside or name in names:
                join.tag.fail("via", f"a way of lanes inside a junction is expected, not {name!r}")
            names.append(name)
            name = onward.get(name, "")
        found[place] = _passage(edges, join, names, inside)
    return found


def _is_ordinary(edges: dict[str, Edge], join: Join) -> bool:
    """Whether it joins two edges between junctions, no footpath and no inner part of a turn."""
    return all(name in edges and not edges[name].inside for name in (join.origin, join.target))


def _passage(
    edges: dict[str, Edge], join: Join, names: list[str], inside: dict[str, tuple[Edge, int]]
) -> Passage:
    lanes = [edge.lanes[place] for edge, place in map(inside.__getitem__, names)]
    if not lanes:
        speeds = (edges[name].right.speed for name in (join.origin, join.target))
        return Passage((), _SHORT, min(speeds), 0.0)
    length = sum(lane.length for lane in lanes)
    seconds = sum(lane.length / lane.speed for lane in lanes)
    first = lanes[0].length if len(lanes) > 1 else 0.0
    return Passage(tuple(names), length, length / seconds, first)


def rights(parts: Parts, ways: dict[int, Passage]) -> dict[int, Rights]:
    """Right of way by the requests of each junction.

    Requests are in the order of the lanes inside the junction (``intLanes``; for a turn of two
    lanes it names the second). Where there are no such lanes they are in the order of the lanes
    into it and, for each lane, of the connections in the file.

    Raises:
        DataError: a connection without its lane among those of the junction, or without a request.
    """
    at: dict[str, list[int]] = defaultdict(list)
    for place in ways:
        at[parts.edges[parts.joins[place].origin].head].append(place)
    found: dict[int, Rights] = {}
    for name, places in at.items():
        junction = parts.junctions[name]
        if not junction.requests:
            found |= {place: Rights((), 0) for place in places}
            continue
        order = _order(junction, places, parts, ways)
        member = {request: place for place, request in order.items()}
        for place, number in order.items():
            request = junction.requests[number]
            # A request of nobody here is that of pedestrians.
            yields = tuple(member[foe] for foe in request.response if foe in member)
            first = ways[place].first
            room = max(1, int(first / _SPACE)) if request.waits and first > 0.0 else 0
            found[place] = Rights(yields, room)
    return found


def _order(
    junction: Junction, places: list[int], parts: Parts, ways: dict[int, Passage]
) -> dict[int, int]:
    """Number of the request of each connection of a junction."""
    if any(ways[place].lanes for place in places):
        numbers = {lane: number for number, lane in enumerate(junction.inside)}
        order = {place: _first(numbers, ways[place].lanes) for place in places}
    else:
        lanes = {lane: rank for rank, lane in enumerate(junction.incoming)}
        order = {
            place: number
            for number, place in enumerate(
                sorted(places, key=lambda at: (lanes.get(_into(parts.joins[at]), -1), at))
            )
        }
    for place, number in order.items():
        if not 0 <= number < len(junction.requests):
            parts.joins[place].tag.fail(
                "via",
                f"a lane among the intLanes of junction {junction.name!r} is expected, and a "
                f"request for it; there are {len(junction.requests)}",
            )
    return order


def _into(join: Join) -> str:
    return f"{join.origin}_{join.lane}"


def _first(numbers: dict[str, int], lanes: Iterable[str]) -> int:
    return next((numbers[lane] for lane in lanes if lane in numbers), -1)
