"""The random half of an episode: who drives this time, when, and how fast they like to drive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..interface import Doubles
from ..streams import Streams
from .demand import Demand
from .scenario import TrafficScenario

FASTEST, SLOWEST = 2.0, 0.2
"""Bounds of desired speed over the limit (SUMO's ``normc`` for passenger cars)."""


def varied(demand: Demand, scenario: TrafficScenario, streams: Streams) -> Demand:
    """The demand of one episode: scaled, moved in time, cut at the episode's end."""
    keep = demand.depart < scenario.seconds
    times = keep.astype(np.int64)
    if scenario.scale != 1.0:
        draw = streams.generator("scale").random(demand.vehicles)
        whole = int(scenario.scale)
        times *= whole + (draw < scenario.scale - whole)
    depart = demand.depart
    if scenario.jitter:
        moved = streams.generator("jitter").normal(0.0, scenario.jitter, demand.vehicles)
        depart = np.clip(depart + moved, 0.0, np.nextafter(scenario.seconds, 0.0))
    elif bool((times == 1).all()):
        return demand
    chosen = np.repeat(np.arange(demand.vehicles), times)
    chosen = chosen[np.argsort(depart[chosen], kind="stable")]
    charged = demand.charged[chosen] if demand.charged.size else demand.charged
    return replace(
        demand,
        names=tuple(demand.names[at] for at in chosen.tolist()),
        depart=depart[chosen],
        kind=demand.kind[chosen],
        route=demand.route[chosen],
        charged=charged,
    )


def speed_factors(demand: Demand, streams: Streams) -> Doubles:
    """``[V]`` desired speed over the limit."""
    draw = streams.generator("speed").normal(size=demand.vehicles)
    mean = np.array([kind.factor for kind in demand.kinds])[demand.kind]
    spread = np.array([kind.spread for kind in demand.kinds])[demand.kind]
    return np.clip(mean + spread * draw, SLOWEST, FASTEST)
