"""SUMO networks (``.net.xml``), for passenger cars.

Format: https://sumo.dlr.de/docs/Networks/SUMO_Road_Networks.html
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Doubles, Ints
from ..network import Network
from ..programme import Signal
from .sumo_net_parts import Edge, Join, Junction, Parts, read_parts
from .sumo_net_rights import Passage, Rights, passages, rights
from .sumo_net_signals import Logic, read_logics, to_signal

_ALL_STOP = "allway_stop"


def read_sumo_net(path: str | Path) -> Network:
    """Read a network, plain or gzip.

    Links are the edges with a lane for passenger cars, with those lanes only; length and speed are
    of the rightmost one. Nodes are all junctions, signals all ``tlLogic`` elements, in the order of
    the file. Length and speed of a turn are those of the lanes inside the junction (of the quickest
    connection, where a movement has several ways), or short and of the slower of its links if the
    file has none.

    Raises:
        DataError: empty, truncated or malformed XML; a missing or impossible value; an id of an
            edge, lane, junction or signal that is not there; states of a signal that are shorter
            than its connections; no edge for cars.
    """
    parts = read_parts(path)
    edges = [edge for edge in parts.edges.values() if _for_cars(edge)]
    if not edges:
        raise DataError(parts.file, accepted="an edge with a lane for passenger cars is expected")
    nodes = {name: place for place, name in enumerate(parts.junctions)}
    lanes = {
        (edge.name, place): link
        for link, edge in enumerate(edges)
        for place, lane in enumerate(edge.lanes)
        if lane.cars
    }
    lane_at = {lane: place for place, lane in enumerate(lanes)}
    ways = passages(parts)
    joins = {
        place: join
        for place, join in enumerate(parts.joins)
        if place in ways and join.cars and {join.start, join.end} <= lane_at.keys()
    }
    logics = read_logics(parts.logics)
    control = _control(joins, logics)
    names = {edge.name: link for link, edge in enumerate(edges)}
    pairs = [(names[join.origin], names[join.target]) for join in joins.values()]
    movements = _movements(pairs, joins, ways)
    order = {pair: place for place, pair in enumerate(movements)}
    giving = rights(parts, ways)
    yield_start, yield_to = _yields(joins, giving)
    network = Network(
        name=parts.file.name.removesuffix(".gz").removesuffix(".xml").removesuffix(".net"),
        nodes=tuple(nodes),
        xy=np.array([(node.x, node.y) for node in parts.junctions.values()], dtype=np.float64),
        links=tuple(names),
        tail=_whole(nodes[edge.tail] for edge in edges),
        head=_whole(nodes[edge.head] for edge in edges),
        length=_real(edge.right.length for edge in edges),
        speed=_real(edge.right.speed for edge in edges),
        lane_link=_whole(lanes.values()),
        move_from=_whole(start for start, _ in movements),
        move_to=_whole(end for _, end in movements),
        turn_length=_real(way.length for way, _ in movements.values()),
        turn_speed=_real(way.speed for way, _ in movements.values()),
        turn=tuple(turn for _, turn in movements.values()),
        connection_lane=_whole(lane_at[join.start] for join in joins.values()),
        connection_move=_whole(order[pair] for pair in pairs),
        connection_into=_whole(lane_at[join.end] for join in joins.values()),
        connection_signal=_whole(signal for signal, _ in control),
        connection_index=_whole(index for _, index in control),
        yield_start=yield_start,
        yield_to=yield_to,
        waits_inside=_whole(giving[place].room for place in joins),
        stops=_whole(int(_stops(parts, join)) for join in joins.values()),
        signals=_signals(parts, logics, joins, control),
    )
    network.check()
    return network


def _for_cars(edge: Edge) -> bool:
    return not edge.inside and any(lane.cars for lane in edge.lanes)


def _control(joins: dict[int, Join], logics: dict[str, Logic]) -> list[tuple[int, int]]:
    """Signal and place in its states of each connection, -1 twice where there is no signal."""
    order = {name: place for place, name in enumerate(logics)}
    found: list[tuple[int, int]] = []
    for join in joins.values():
        name = join.tag.values.get("tl")
        if name is None:
            found.append((-1, -1))
            continue
        if name not in logics:
            join.tag.fail("tl", "the id of a tlLogic is expected")
        index, size = join.tag.whole("linkIndex"), logics[name].size
        if index >= size:
            join.tag.fail("linkIndex", f"a place in states of {size} letters is expected")
        found.append((order[name], index))
    return found


def _movements(
    pairs: list[tuple[int, int]], joins: dict[int, Join], ways: dict[int, Passage]
) -> dict[tuple[int, int], tuple[Passage, str]]:
    """Way and direction by pair of links, in the order of the file; the quickest of several."""
    found: dict[tuple[int, int], tuple[Passage, str]] = {}
    for pair, (place, join) in zip(pairs, joins.items(), strict=True):
        way = ways[place]
        if pair not in found or way.seconds < found[pair][0].seconds:
            found[pair] = way, join.turn
    return found


def _yields(joins: dict[int, Join], giving: dict[int, Rights]) -> tuple[Ints, Ints]:
    """``[C + 1]`` starts and the connections given way to; those not for cars are left out."""
    new = {place: connection for connection, place in enumerate(joins)}
    rows = [[new[foe] for foe in giving[place].yields if foe in new] for place in joins]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return starts.astype(np.int64), _whole(foe for row in rows for foe in row)


def _stops(parts: Parts, join: Join) -> bool:
    return join.stops or parts.junctions[parts.edges[join.origin].head].kind == _ALL_STOP


def _signals(
    parts: Parts,
    logics: dict[str, Logic],
    joins: dict[int, Join],
    control: list[tuple[int, int]],
) -> tuple[Signal, ...]:
    owned: list[dict[str, Junction]] = [{} for _ in logics]
    for join, (signal, _) in zip(joins.values(), control, strict=True):
        if signal >= 0:
            junction = parts.junctions[parts.edges[join.origin].head]
            owned[signal][junction.name] = junction
    return tuple(
        to_signal(name, logic, list(junctions.values()))
        for (name, logic), junctions in zip(logics.items(), owned, strict=True)
    )


def _whole(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _real(values: Iterable[float]) -> Doubles:
    return np.fromiter(values, dtype=np.float64)
