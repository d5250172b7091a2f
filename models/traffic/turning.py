"""Turning as routes have it: flows of movements, who follows whom, and arrivals from outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from ...simulators.interface import Doubles, Ints
from ...simulators.traffic.demand import Demand
from ...simulators.traffic.network import Network


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Turning:
    """What a demand does at junctions.

    Attributes:
        flow: ``[M]`` veh/h of movements.
        ratio: ``[M, M]`` share of those who drive m that next drive n; the rest ends its trip.
        first: ``[routes]`` movement by which a route begins, -1 where it has no second link.
    """

    flow: Doubles
    ratio: csr_array
    first: Ints

    def arrivals(self, demand: Demand, *, start: float, interval: float, horizon: int) -> Doubles:
        """Vehicles ``[K, M]`` that depart in each of K intervals, on their first movement.

        Args:
            demand: the one that was counted.
            start: s of the episode at which the first interval begins.
            interval: s.
            horizon: K.
        """
        slot = np.floor((demand.depart - start) / interval).astype(np.int64)
        move = self.first[demand.route]
        there = (slot >= 0) & (slot < horizon) & (move >= 0)
        size = self.flow.size
        counts = np.bincount(slot[there] * size + move[there], minlength=horizon * size)
        return counts.reshape(horizon, size).astype(np.float64)


def turning_ratios(network: Network, demand: Demand, *, seconds: float | None = None) -> Turning:
    """Count a demand's routes.

    Those who drive a movement that no route has are taken to go on as all who drive on the link
    that it enters; nobody does there either: they end their trip.

    Args:
        network: carries the demand.
        demand: checked.
        seconds: over which flows are taken; default the source's length of the episode, or the time
            to the last departure.

    Raises:
        ValueError: ``seconds`` or what stands for it is not positive.
    """
    if seconds is None:
        seconds = demand.end or (float(demand.depart[-1]) if demand.vehicles else 0.0)
    if not seconds > 0.0:
        raise ValueError(f"flows need a positive time to be taken over, got {seconds} s")
    size = network.move_from.size
    weight = np.bincount(demand.route, minlength=len(demand.routes)).astype(np.float64)
    first = np.full(len(demand.routes), -1, dtype=np.int64)
    count = np.zeros(size)
    before, after, passed = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for at, route in enumerate(demand.routes):
        pairs = zip(route[:-1].tolist(), route[1:].tolist(), strict=True)
        moves = np.array([network.move_index[pair] for pair in pairs], dtype=np.int64)
        if moves.size:
            first[at] = moves[0]
        np.add.at(count, moves, weight[at])
        before.append(moves[:-1])
        after.append(moves[1:])
        passed.append(np.full(max(moves.size - 1, 0), weight[at]))
    place = (np.concatenate(before), np.concatenate(after))
    follow = coo_array((np.concatenate(passed), place), shape=(size, size)).tocsr()
    return Turning(
        flow=count * 3600.0 / seconds, ratio=_ratios(network, count, follow), first=first
    )


def _ratios(network: Network, count: Doubles, follow: csr_array) -> csr_array:
    links, size = len(network.links), count.size
    ones, moves = np.ones(size), np.arange(size)
    enters = csr_array((ones, (moves, network.move_to)), shape=(size, links))
    into = np.asarray(np.bincount(network.move_to, count, minlength=links), np.float64)
    beyond = enters.T.tocsr() @ follow
    by_link = _scaled(csr_array(beyond), into)
    unused = csr_array(((count == 0.0).astype(np.float64), (moves, moves)), shape=(size, size))
    ratio = csr_array(_scaled(follow, count) + unused @ enters @ by_link)
    ratio.eliminate_zeros()
    return ratio


def _scaled(table: csr_array, total: Doubles) -> csr_array:
    """Rows over their total; rows of nothing stay so."""
    share = np.where(total > 0.0, 1.0 / np.where(total > 0.0, total, 1.0), 0.0)
    place = np.arange(total.size)
    scale = csr_array((share, (place, place)), shape=(total.size,) * 2)
    return csr_array(scale @ table)
