"""The parts of a SUMO network file as they are written: edges, junctions, connections, signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .sumo_xml import Tag, read_tags

CAR = "passenger"
INSIDE = ":"
"""First letter of what lies inside a junction, footpaths included."""
_ORDINARY = ("", "normal", "connector")
_TURNS = {"s": "s", "r": "r", "R": "r", "l": "l", "L": "l", "t": "t", "T": "t"}
_STOPPING = ("s", "w")


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane: m, m/s, and whether passenger cars may use it."""

    length: float
    speed: float
    cars: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge between junctions, or (``inside``) the part of a turn that lies in one."""

    tag: Tag
    name: str
    tail: str
    head: str
    lanes: tuple[Lane, ...]
    inside: bool

    @property
    def right(self) -> Lane:
        """The rightmost lane for cars; the rightmost one if none is."""
        return next((lane for lane in self.lanes if lane.cars), self.lanes[0])


@dataclass(frozen=True, slots=True)
class Request:
    """Right of way of one connection: places it gives way to; ``waits``: inside the junction."""

    response: tuple[int, ...]
    waits: bool


@dataclass(frozen=True, slots=True)
class Junction:
    """A junction: the lanes into it, the lanes inside it (in order of requests), its requests."""

    tag: Tag
    name: str
    kind: str
    x: float
    y: float
    incoming: tuple[str, ...]
    inside: tuple[str, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """A connection from lane to lane; ``via``: lane inside the junction, empty where none is."""

    tag: Tag
    origin: str
    lane: int
    target: str
    into: int
    via: str
    stops: bool
    cars: bool

    @property
    def start(self) -> tuple[str, int]:
        """Edge and lane it leads from."""
        return self.origin, self.lane

    @property
    def end(self) -> tuple[str, int]:
        """Edge and lane it leads into."""
        return self.target, self.into

    @property
    def turn(self) -> str:
        """Direction, as a network names it."""
        turn = _TURNS.get(self.tag.text("dir"))
        if turn is None:
            self.tag.fail("dir", f"one of {', '.join(_TURNS)} is expected")
        return turn


@dataclass(slots=True)
class Parts:
    """All parts of a file, in its order; ``logics``: the ``tlLogic`` elements."""

    file: Path
    edges: dict[str, Edge] = field(default_factory=dict[str, Edge])
    junctions: dict[str, Junction] = field(default_factory=dict[str, Junction])
    joins: list[Join] = field(default_factory=list[Join])
    logics: list[Tag] = field(default_factory=list[Tag])


def read_parts(path: str | Path) -> Parts:
    """Read the parts of a ``.net.xml`` file, plain or gzip.

    Footpaths (walking areas, crossings) and junctions that only order the inside of others are left
    out.

    Raises:
        DataError: see :func:`~fairlead.simulators.traffic.files.sumo_net.read_sumo_net`.
    """
    parts = Parts(Path(path))
    for tag in read_tags(path, ("net",)):
        if tag.name == "edge" and tag.values.get("function", "") in (*_ORDINARY, "internal"):
            edge = _edge(tag)
            if edge.name in parts.edges:
                tag.fail("id", "another id than that of an earlier edge is expected")
            parts.edges[edge.name] = edge
        elif tag.name == "junction" and tag.values.get("type") != "internal":
            junction = _junction(tag)
            parts.junctions[junction.name] = junction
        elif tag.name == "connection":
            parts.joins.append(_join(tag))
        elif tag.name == "tlLogic":
            parts.logics.append(tag)
    _check_names(parts)
    return parts


def _check_names(parts: Parts) -> None:
    for edge in parts.edges.values():
        for key, node in (("from", edge.tail), ("to", edge.head)):
            if not edge.inside and node not in parts.junctions:
                edge.tag.fail(key, "the id of a junction is expected")
    for join in parts.joins:
        for key, name, lane in (("from", join.origin, join.lane), ("to", join.target, join.into)):
            if name in parts.edges:
                count = len(parts.edges[name].lanes)
                if lane >= count:
                    join.tag.fail(f"{key}Lane", f"a lane below {count} is expected")
            elif not name.startswith(INSIDE):
                join.tag.fail(key, "the id of an edge is expected")


def _edge(tag: Tag) -> Edge:
    inside = tag.values.get("function") == "internal"
    tail, head = ("", "") if inside else (tag.text("from"), tag.text("to"))
    lanes = [child for child in tag.children if child.name == "lane"]
    for place, lane in enumerate(lanes):
        if lane.whole("index") != place:
            lane.fail("index", f"{place} is expected, lanes are in order")
    if not lanes:
        tag.refuse("at least one lane is expected")
    return Edge(tag, tag.text("id"), tail, head, tuple(map(_lane, lanes)), inside)


def _lane(tag: Tag) -> Lane:
    return Lane(tag.number("length", above=True), tag.number("speed", above=True), _cars(tag))


def _cars(tag: Tag) -> bool:
    """Whether ``allow`` and ``disallow`` let passenger cars pass; neither means everybody."""
    if "allow" in tag.values:
        return bool({CAR, "all"} & {*tag.words("allow")})
    return not {CAR, "all"} & {*tag.words("disallow")}


def _junction(tag: Tag) -> Junction:
    requests = [child for child in tag.children if child.name == "request"]
    for place, request in enumerate(requests):
        if request.whole("index") != place:
            request.fail("index", f"{place} is expected, requests are in order")
    return Junction(
        tag=tag,
        name=tag.text("id"),
        kind=tag.values.get("type", ""),
        x=tag.number("x", low=-1e12),
        y=tag.number("y", low=-1e12),
        incoming=tag.words("incLanes"),
        inside=tag.words("intLanes"),
        requests=tuple(_request(request, len(requests)) for request in requests),
    )


def _request(tag: Tag, count: int) -> Request:
    bits = tag.text("response")
    if len(bits) != count or not {*bits} <= {"0", "1"}:
        tag.fail("response", f"{count} digits 0 or 1 are expected, one for each request")
    # The rightmost digit is that of request 0.
    response = tuple(place for place, bit in enumerate(reversed(bits)) if bit == "1")
    return Request(response, tag.values.get("cont") in ("1", "true"))


def _join(tag: Tag) -> Join:
    return Join(
        tag=tag,
        origin=tag.text("from"),
        lane=tag.whole("fromLane"),
        target=tag.text("to"),
        into=tag.whole("toLane"),
        via=tag.values.get("via", ""),
        stops=tag.values.get("state") in _STOPPING,
        cars=_cars(tag),
    )
