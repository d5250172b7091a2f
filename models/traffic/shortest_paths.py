"""Cheapest routes between all zones with trips, with zones that cannot be passed through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from ...simulators.interface import Doubles, Ints
from ...simulators.traffic.static_network import StaticNetwork


@dataclass(frozen=True, eq=False, slots=True)
class Trees:
    """Cheapest routes at one vector of costs.

    Attributes:
        distance: ``[K]`` cost of every pair's cheapest route.
        before: ``[Z, nodes of the graph]`` the node before, on the way from each zone.
        link: ``[edges of the graph]`` the link that stands for an edge, the cheapest of parallels.
    """

    distance: Doubles
    before: Ints
    link: Ints


class ShortestPaths:
    """Searches on one network (Dijkstra from every zone that has trips).

    A node that may not be passed through is split: its links leave a copy of it, which only a
    search that starts there visits.

    Attributes:
        origin, destination: ``[K]`` zones of every pair with trips; demand: ``[K]`` trips.
        size: nodes of the graph, copies included; tail: ``[L]`` where links leave in it; source:
            ``[Z]`` where trips of a zone start in it.
    """

    def __init__(self, network: StaticNetwork) -> None:
        self.network = network
        between = network.demand * (1.0 - np.eye(network.zones))
        self.origin, self.destination = np.nonzero(between)
        self.demand = between[self.origin, self.destination]
        closed, nodes = network.first_thru, network.nodes
        self.size = nodes + closed
        zone = np.arange(network.zones)
        self.source = np.where(zone < closed, zone + nodes, zone)
        self._origins, self._row = np.unique(self.origin, return_inverse=True)
        self.tail = np.where(network.tail < closed, network.tail + nodes, network.tail)
        self._key = self.tail * self.size + network.head
        self._order = np.argsort(self._key, kind="stable")
        self._edges, self._first = np.unique(self._key[self._order], return_index=True)
        ends = np.searchsorted(self._edges, np.arange(self.size + 1) * self.size)
        self._graph = (self._edges % self.size, ends)

    def search(self, cost: Doubles) -> Trees:
        """Cheapest routes at the links' costs ``[L]``.

        Raises:
            ValueError: a pair with trips and no route; names its zones, counted from 1.
        """
        order = self._order
        if self._edges.size < order.size:  # parallel links: the cheapest one first
            order = np.lexsort((cost, self._key))
        link = order[self._first]
        shape = (self.size, self.size)
        graph = csr_array((cost[link], *self._graph), shape=shape)
        far, before = dijkstra(graph, indices=self.source[self._origins], return_predecessors=True)
        distance = np.asarray(far)[self._row, self.destination]
        for pair in np.flatnonzero(np.isinf(distance)).tolist():
            raise ValueError(
                f"network {self.network.name!r}: {self.demand[pair]:g} trips from zone "
                f"{self.origin[pair] + 1} to zone {self.destination[pair] + 1}, but no route"
            )
        return Trees(distance, np.asarray(before, dtype=np.int64), link)

    def routes(self, trees: Trees, pairs: Ints) -> csr_array:
        """``[pairs, L]`` which links the cheapest route of each of ``pairs`` uses, as ones."""
        node, row = self.destination[pairs], self._row[pairs]
        source = self.source[self.origin[pairs]]
        alive = np.arange(pairs.size)
        rows: list[Ints] = []
        links: list[Ints] = []
        # All routes at once, from their ends backwards, one link a turn.
        while alive.size:
            before = trees.before[row[alive], node[alive]]
            edge = np.searchsorted(self._edges, before * self.size + node[alive])
            rows.append(alive)
            links.append(trees.link[edge])
            node[alive] = before
            alive = alive[before != source[alive]]
        at = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        used = np.concatenate(links) if links else np.zeros(0, dtype=np.int64)
        shape = (pairs.size, self.network.links)
        return csr_array((np.ones(at.size), (at, used)), shape=shape)
