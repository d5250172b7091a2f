"""CityFlow's road networks and flows (JSON, plain or gzip).

Format: the documentation of github.com/cityflow-project/CityFlow, and what its engine does where
that is silent: lanes are counted from the middle of the road, they end at the widths of the
intersections, turning vehicles drive at 8.3333 m/s, and ``endTime`` -1 means without end.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles
from ..demand import Demand, Kind
from ..network import Network
from .cityflow_json import Node, names, read_json
from .cityflow_junctions import Junctions, ints, length_of, read_roads


def read_cityflow_roadnet(path: str | Path, *, phases: int | None = None) -> Network:
    """Read a road network (``roadnet*.json``).

    Roads become links, road links movements, lane links connections. A signal's states have one
    letter per road link of its intersection. Intersections whose light has fewer than two phases
    are not controlled.

    Args:
        path: of the file.
        phases: green phases that every signal keeps, from the first; all if ``None``. Published
            studies of the Jinan and Hangzhou networks use 4 of the 8 in the files.

    Raises:
        DataError: no JSON, a missing or impossible value, an id that nothing has; the field is the
            path to it.
        ValueError: ``phases`` below 1.
    """
    if phases is not None and phases < 1:
        raise ValueError(f"phases is {phases}, expected at least 1")
    document = read_json(Path(path))
    intersections = document.get("intersections").items()
    road_nodes = document.get("roads").items()
    nodes, links = names(intersections), names(road_nodes)
    roads = read_roads(road_nodes, nodes, [_width(node) for node in intersections])
    junctions = Junctions(roads, links, phases)
    for at, node in enumerate(intersections):
        if not node.get("virtual").truth():
            junctions.read(at, node)
    network = Network(
        name=Path(path).name.removesuffix(".gz").removesuffix(".json"),
        nodes=tuple(nodes),
        xy=np.array([node.get("point").point() for node in intersections]).reshape(-1, 2),
        links=tuple(links),
        tail=ints([road.tail for road in roads]),
        head=ints([road.head for road in roads]),
        length=np.array([length_of(road.points) for road in roads]),
        speed=np.array([road.speed for road in roads]),
        lane_link=np.repeat(np.arange(len(roads)), ints([road.lanes for road in roads])),
        **junctions.arrays(),
    )
    try:
        network.check()
    except ValueError as error:
        raise DataError(path, accepted=str(error)) from error
    return network


def read_cityflow_flow(path: str | Path, network: Network, *, end: float = 3600.0) -> Demand:
    """Read the vehicles of a flow file that depart before ``end`` s.

    A flow sends a vehicle at ``startTime`` and every ``interval`` s until ``endTime``, which is
    included; -1 means until ``end``. Drivers are all alike: no spread of speeds, no imperfection.

    Raises:
        DataError: no JSON, a missing or impossible value, a road that the network does not have, or
            two roads in a row that no movement joins.
    """
    routes: dict[tuple[int, ...], int] = {}
    kinds: dict[Kind, int] = {}
    vehicles: list[tuple[float, str, int, int]] = []
    for at, flow in enumerate(read_json(Path(path)).items()):
        kind = kinds.setdefault(_read_kind(flow.get("vehicle")), len(kinds))
        route = routes.setdefault(_read_route(flow.get("route"), network), len(routes))
        vehicles += [
            (depart, f"flow_{at}_{count}", kind, route)
            for count, depart in enumerate(_departures(flow, end).tolist())
        ]
    vehicles.sort(key=lambda vehicle: vehicle[0])
    return Demand(
        names=tuple(name for _, name, _, _ in vehicles),
        depart=np.array([depart for depart, _, _, _ in vehicles], dtype=np.float64),
        kind=ints([kind for _, _, kind, _ in vehicles]),
        route=ints([route for _, _, _, route in vehicles]),
        routes=tuple(ints(route) for route in routes),
        kinds=tuple(replace(kind, name=f"{kind.name} {at}") for kind, at in kinds.items()),
        charged=np.ones(len(vehicles), dtype=np.bool_),
        end=end,
    )


def _width(node: Node) -> float:
    """What an intersection takes off each road, m; in the engine virtual ones take nothing."""
    return 0.0 if node.get("virtual").truth() else node.get("width").number(low=0.0)


def _read_kind(node: Node) -> Kind:
    def positive(key: str) -> float:
        return node.get(key).number(above=0.0)

    return Kind(
        name="cityflow",
        length=positive("length"),
        gap=node.get("minGap").number(low=0.0),
        tau=positive("headwayTime"),
        accel=positive("maxPosAcc"),
        decel=positive("usualNegAcc"),
        spread=0.0,
        top=positive("maxSpeed"),
        sigma=0.0,
    )


def _read_route(node: Node, network: Network) -> tuple[int, ...]:
    items = node.items()
    if not items:
        node.fail("at least one road is expected", value=0)
    route = tuple(item.one_of(network.link_index, "a road of the network") for item in items)
    for item, pair in zip(items[1:], pairwise(route), strict=True):
        if pair not in network.move_index:
            before = network.links[pair[0]]
            item.fail(f"a road that a road link joins to the one before it ({before}) is expected")
    return route


def _departures(flow: Node, end: float) -> Doubles:
    """Times at which a flow's vehicles depart, s."""
    start = flow.get("startTime").number(low=0.0)
    interval = flow.get("interval").number(above=0.0)
    last = flow.get("endTime").number(low=-1.0)
    if last == -1.0:
        last = end
    elif last < start:
        flow.get("endTime").fail(f"-1, or at least the startTime {start:g}, is expected")
    # A little slack, so that rounding does not lose the last one.
    count = int(np.floor((min(last, end) - start) / interval + 1e-9)) + 1
    times = start + interval * np.arange(max(count, 0), dtype=np.float64)
    return np.asarray(times[times < end], dtype=np.float64)
