"""Quickest routes in free flow, with the delays that SUMO's router expects at junctions.

Costs follow the documented defaults of SUMO 1.28 (``--weights.minor-penalty``,
``--weights.turnaround-penalty``; none at signals).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

import numpy as np

from ..interface import Doubles, Ints
from .network import Network

MINOR = 1.5
"""s for giving way."""
TURNAROUND = 5.0
"""s for giving way on a U-turn, instead of ``MINOR``."""
_KEPT = 256  # searches; each takes 16 bytes a link
_NOBODY = -1


def movement_seconds(network: Network) -> Doubles:
    """``[M]`` s from the start of a movement's first link to the start of its second one.

    Free flow on the link and inside the junction, and a penalty where the connection gives way:
    once at the stop line without a signal, and once at the place to wait inside the junction, if it
    has one. Of several connections the one with the least penalty counts.
    """
    rows = np.diff(network.yield_start)
    gives_way = (network.connection_signal < 0) & ((rows > 0) | (network.stops > 0))
    times = gives_way.astype(np.float64) + (network.waits_inside > 0)
    least = np.full(network.move_from.size, np.inf)
    np.minimum.at(least, network.connection_move, times)
    # A movement without connections (networks without lane detail) has nobody to give way to.
    least[np.isinf(least)] = 0.0
    turns = np.array(network.turn, dtype=np.str_) == "t"
    start = network.move_from
    return (
        network.length[start] / network.speed[start]
        + network.turn_length / network.turn_speed
        + least * np.where(turns, TURNAROUND, MINOR)
    )


class Router:
    """Quickest routes from link to link; searches are kept by origin, the latest ones.

    Args:
        network: on whose movements routes lie.
        seconds: ``[M]`` cost of each movement, not negative; :func:`movement_seconds` if omitted.

    Raises:
        ValueError: costs of another length, or one that is negative or no number.
    """

    def __init__(self, network: Network, seconds: Doubles | None = None) -> None:
        cost = movement_seconds(network) if seconds is None else seconds
        if cost.shape != network.move_from.shape or not (cost >= 0.0).all():
            raise ValueError(f"{network.move_from.size} costs of at least 0 are expected")
        self._onward: list[list[tuple[float, int]]] = [[] for _ in network.links]
        moves = (cost.tolist(), network.move_from.tolist(), network.move_to.tolist())
        for value, start, end in zip(*moves, strict=True):
            self._onward[start].append((value, end))
        self._trees: OrderedDict[int, tuple[Doubles, Ints]] = OrderedDict()

    def route(self, origin: int, target: int) -> Ints | None:
        """Links from ``origin`` to ``target``, both included; ``None`` if there is no way.

        Of equally quick routes the one through links with lower numbers is likelier, as in SUMO.
        """
        _, before = self._search(origin)
        found = [target]
        while found[-1] != origin:
            previous = int(before[found[-1]])
            if previous == _NOBODY:
                return None
            found.append(previous)
        return np.array(found[::-1], dtype=np.int64)

    def seconds(self, origin: int, target: int) -> float:
        """Cost from the start of ``origin`` to the start of ``target``; ``inf`` without a way."""
        return float(self._search(origin)[0][target])

    def _search(self, origin: int) -> tuple[Doubles, Ints]:
        """``[L]`` cost to, and link before, each link."""
        if origin in self._trees:
            self._trees.move_to_end(origin)
            return self._trees[origin]
        cost = [np.inf] * len(self._onward)
        before = [_NOBODY] * len(self._onward)
        cost[origin] = 0.0
        queue = [(0.0, origin)]
        while queue:
            reached, link = heapq.heappop(queue)
            if reached > cost[link]:
                continue
            for value, end in self._onward[link]:
                if reached + value < cost[end]:
                    cost[end], before[end] = reached + value, link
                    heapq.heappush(queue, (cost[end], end))
        self._trees[origin] = np.array(cost), np.array(before, dtype=np.int64)
        if len(self._trees) > _KEPT:
            self._trees.popitem(last=False)
        return self._trees[origin]


def resolve_movements(network: Network, route: Ints) -> Ints:
    """``[len(route) - 1]`` movements along a route.

    Raises:
        ValueError: two links that no movement joins.
    """
    found: list[int] = []
    for one, two in zip(route[:-1].tolist(), route[1:].tolist(), strict=True):
        if (one, two) not in network.move_index:
            start, end = network.links[one], network.links[two]
            raise ValueError(f"no movement from link {start!r} to {end!r}")
        found.append(network.move_index[one, two])
    return np.array(found, dtype=np.int64)
