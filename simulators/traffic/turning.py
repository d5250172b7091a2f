"""How vehicles spread over movements and lanes, counted on their routes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..interface import Doubles
from .demand import Demand
from .network import Network

_LEAST = 1e-6
"""Vehicles on a movement that nobody uses, so that shares are defined everywhere."""


@dataclass(frozen=True, slots=True)
class Turning:
    """Counts and shares.

    Attributes:
        flow: ``[M]`` vehicles of the demand that take each movement.
        of_link: ``[M]`` share of the vehicles on the movement's link that take it.
        of_lane: ``[C]`` share of the vehicles on a connection's lane that take it.
        lane_share: ``[P]`` share of the vehicles on a link that use the lane.
    """

    flow: Doubles
    of_link: Doubles
    of_lane: Doubles
    lane_share: Doubles


def turning(network: Network, demand: Demand) -> Turning:
    """Shares from the routes; a movement's vehicles are spread evenly over the lanes serving it.

    Vehicles that end on a link take no movement there. Links that nobody uses share evenly.
    """
    flow = np.zeros(network.move_from.size)
    index = network.move_index
    times = np.bincount(demand.route, minlength=len(demand.routes)).tolist()
    ends = np.zeros(len(network.links))
    for route, count in zip(demand.routes, times, strict=True):
        links = route.tolist()
        for pair in pairwise(links):
            flow[index[pair]] += count
        ends[links[-1]] += count
    some = flow + _LEAST
    through = np.bincount(network.move_from, weights=some, minlength=len(network.links)) + ends
    lanes = np.bincount(network.connection_move, minlength=flow.size)
    each = (some / np.maximum(lanes, 1))[network.connection_move]
    by_lane = np.bincount(network.connection_lane, weights=each, minlength=network.lane_link.size)
    by_link = np.bincount(network.lane_link, weights=by_lane, minlength=len(network.links))
    used = by_link[network.lane_link]
    even = 1.0 / network.lanes[network.lane_link]
    return Turning(
        flow=flow,
        of_link=some / through[network.move_from],
        of_lane=each / by_lane[network.connection_lane],
        lane_share=np.where(used > 0.0, by_lane / np.where(used > 0.0, used, 1.0), even),
    )
