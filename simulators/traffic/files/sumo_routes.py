"""SUMO demand (``.rou.xml``): vehicles with routes, trips to be routed, and flows.

Format: https://sumo.dlr.de/docs/Definition_of_Vehicles%2C_Vehicle_Types%2C_and_Routes.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from ..demand import Demand, Kind
from ..network import Network
from ..routing import Router, resolve_movements
from .sumo_departures import flow_times, read_time
from .sumo_kinds import DEFAULT, default_kind, read_kind
from .sumo_xml import Tag, read_tags

_Key = tuple[tuple[int, ...], bool]
_PLACES = ("from", "via", "to")
_REFUSED = {
    "vTypeDistribution": "give each vehicle a vType of its own",
    "routeDistribution": "give each vehicle a route of its own",
    "stop": "take stops out; vehicles drive through",
    "tlLogic": "put the programme of the signal into the network file",
}


def read_sumo_routes(
    paths: str | Path | Iterable[str | Path],
    network: Network,
    *,
    begin: float = 0.0,
    end: float | None = None,
    unroutable: Literal["raise", "drop"] = "raise",
) -> Demand:
    """Read route files, plain or gzip, in the order given.

    Trips and flows without a route take the quickest one in free flow, between their ``via`` edges
    too. Only ``vehicle`` elements are charged for delay if they never depart, as in RESCO. Lane,
    speed and place of departure and arrival are not read; persons, containers and whatever else is
    no vehicle are passed over.

    Args:
        paths: one file or several; kinds and named routes come before the vehicles that use them.
        network: what they drive on; edges that are not for cars are unknown here.
        begin: s of the files' clock; departures are relative to it, earlier ones are dropped.
        end: s of the files' clock at and after which departures are dropped, if given.
        unroutable: whether a trip without a way is an error or dropped. ``Demand.dropped`` counts.

    Raises:
        DataError: empty, truncated or malformed XML; an unknown edge, kind or route; consecutive
            edges that no movement joins; a departure that is no time (``triggered``); an id that
            comes twice; distributions and stops, which are not supported.
        ValueError: ``end`` not after ``begin``.
    """
    if end is not None and end <= begin:
        raise ValueError(f"end {end:g} must be after begin {begin:g}")
    reader = _Reader(network, begin, end)
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for tag in read_tags(path, ("routes", "additional")):
            reader.read(tag)
    return reader.demand(drop=unroutable == "drop")


@dataclass(frozen=True, slots=True)
class _Course:
    """Where somebody drives: all links of a route, or only those to pass (``found`` is false)."""

    tag: Tag
    links: tuple[int, ...]
    found: bool

    @property
    def key(self) -> _Key:
        return self.links, self.found


@dataclass(frozen=True, slots=True)
class _Ride:
    name: str
    depart: float
    kind: int
    course: _Course
    charged: bool


class _Reader:
    """Collects vehicles from the elements of route files."""

    def __init__(self, network: Network, begin: float, end: float | None) -> None:
        self._network = network
        self._begin, self._end = begin, end
        self._kinds: list[Kind] = []
        self._kind_index: dict[str, int] = {}
        self._named: dict[str, _Course] = {}
        self._ids: set[str] = set()
        self._rides: list[_Ride] = []
        self._dropped = 0
        self._readers: dict[str, Callable[[Tag], None]] = {
            "vType": self._vtype,
            "route": self._route,
            "vehicle": self._single,
            "trip": self._single,
            "flow": self._flow,
        }

    def read(self, tag: Tag) -> None:
        """Take in one element."""
        for item in (tag, *tag.children):
            if item.name in _REFUSED:
                item.refuse(f"not supported here; {_REFUSED[item.name]}")
        if tag.name in self._readers:
            self._readers[tag.name](tag)

    def _vtype(self, tag: Tag) -> None:
        kind = read_kind(tag)
        if kind.name in self._kind_index:
            tag.fail("id", "another id than that of an earlier vType is expected")
        self._kind_index[kind.name] = len(self._kinds)
        self._kinds.append(kind)

    def _route(self, tag: Tag) -> None:
        self._named[tag.text("id")] = self._along(tag)

    def _along(self, tag: Tag) -> _Course:
        """The course of a ``route``."""
        if tag.values.get("repeat", "0") != "0":
            tag.fail("repeat", "routes that are driven once are expected")
        links = self._links(tag, "edges")
        if not links:
            tag.fail("edges", "at least one edge is expected")
        try:
            resolve_movements(self._network, np.array(links, dtype=np.int64))
        except ValueError as error:
            tag.fail("edges", f"edges that follow one another are expected; {error}")
        return _Course(tag, links, found=True)

    def _links(self, tag: Tag, field: str) -> tuple[int, ...]:
        index = self._network.link_index
        for name in tag.words(field):
            if name not in index:
                tag.fail(field, f"edges for cars are expected; there is no {name!r}")
        return tuple(index[name] for name in tag.words(field))

    def _single(self, tag: Tag) -> None:
        name = self._new_id(tag)
        depart = read_time(tag, "depart")
        if self._begin <= depart and (self._end is None or depart < self._end):
            self._add(tag, [(name, depart)])
        else:
            self._dropped += 1

    def _flow(self, tag: Tag) -> None:
        name = self._new_id(tag)
        times = list(flow_times(tag, begin=self._begin, end=self._end))
        kept = [(at, time) for at, time in enumerate(times) if time >= self._begin]
        self._dropped += len(times) - len(kept)
        self._add(tag, [(f"{name}.{at}", time) for at, time in kept])

    def _new_id(self, tag: Tag) -> str:
        name = tag.text("id")
        if name in self._ids:
            tag.fail("id", "another id than that of an earlier vehicle, trip or flow is expected")
        self._ids.add(name)
        return name

    def _add(self, tag: Tag, departures: list[tuple[str, float]]) -> None:
        course, kind = self._course(tag), self._kind(tag)
        charged = tag.name == "vehicle"
        self._rides += [
            _Ride(name, time - self._begin, kind, course, charged) for name, time in departures
        ]

    def _course(self, tag: Tag) -> _Course:
        """By a route inside, by the name of a route, or from, over and to edges."""
        inside = [child for child in tag.children if child.name == "route"]
        if inside:
            return self._along(inside[0])
        if "route" in tag.values:
            if tag.values["route"] not in self._named:
                tag.fail("route", "the id of an earlier route is expected")
            return self._named[tag.values["route"]]
        if tag.name == "vehicle":
            tag.refuse("a route is expected, inside or by its id")
        for field in ("from", "to"):
            tag.text(field)
        links = (link for field in _PLACES for link in self._links(tag, field))
        return _Course(tag, tuple(links), found=False)

    def _kind(self, tag: Tag) -> int:
        name = tag.values.get("type", DEFAULT)
        if name == DEFAULT and name not in self._kind_index:
            self._kind_index[name] = len(self._kinds)
            self._kinds.append(default_kind())
        if name not in self._kind_index:
            tag.fail("type", "the id of an earlier vType is expected")
        return self._kind_index[name]

    def demand(self, *, drop: bool) -> Demand:
        """All vehicles read, routed; those without a way are dropped or an error."""
        courses: dict[_Key, _Course] = {}
        for ride in self._rides:
            courses.setdefault(ride.course.key, ride.course)
        ways = self._ways(courses, drop=drop)
        rides = [ride for ride in self._rides if ride.course.key in ways]
        rides.sort(key=lambda ride: ride.depart)
        routes = {way: place for place, way in enumerate(dict.fromkeys(ways.values()))}
        demand = Demand(
            names=tuple(ride.name for ride in rides),
            depart=np.array([ride.depart for ride in rides], dtype=np.float64),
            kind=np.array([ride.kind for ride in rides], dtype=np.int64),
            route=np.array([routes[ways[ride.course.key]] for ride in rides], dtype=np.int64),
            routes=tuple(np.array(way, dtype=np.int64) for way in routes),
            kinds=tuple(self._kinds) or (default_kind(),),
            charged=np.array([ride.charged for ride in rides], dtype=np.bool_),
            begin=self._begin,
            end=0.0 if self._end is None else self._end - self._begin,
            dropped=self._dropped + len(self._rides) - len(rides),
        )
        demand.check(self._network)
        return demand

    def _ways(self, courses: dict[_Key, _Course], *, drop: bool) -> dict[_Key, tuple[int, ...]]:
        """All links of each course, in the order of the files; searched in order of origins."""
        router = Router(self._network)
        routed = {
            key: _pass(router, course.links) if not course.found else course.links
            for key, course in sorted(courses.items())
        }
        ways: dict[_Key, tuple[int, ...]] = {}
        for key, course in courses.items():
            way = routed[key]
            if way is not None:
                ways[key] = way
            elif not drop:
                over = "".join(
                    f", {field} {course.tag.values[field]!r}"
                    for field in _PLACES
                    if field in course.tag.values
                )
                course.tag.refuse(f"edges that are connected for cars are expected{over}")
        return ways


def _pass(router: Router, links: tuple[int, ...]) -> tuple[int, ...] | None:
    """The quickest way through ``links`` in turn; ``None`` if there is none."""
    way = [links[0]]
    for origin, target in pairwise(links):
        leg = router.route(origin, target)
        if leg is None:
            return None
        way += leg[1:].tolist()
    return tuple(way)
