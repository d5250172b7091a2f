"""Static networks that validation brings along: parallel links, Braess's network, random ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...simulators.traffic.static_network import StaticNetwork

_EMPTY = 1e-9
"""Time of an empty link that should take none: BPR can only multiply it."""


def affine_network(
    name: str,
    links: Sequence[tuple[int, int, float, float]],
    trips: float,
    *,
    power: float = 1.0,
) -> StaticNetwork:
    """Trips from node 0 to node 1 over ``links`` of (tail, head, free, slope), capacities 1.

    A link costs ``free + slope * volume ** power``; free times of 0 become a billionth.
    """
    table = np.array(links, dtype=np.float64)
    ends, free = table[:, :2].astype(np.int64), np.maximum(table[:, 2], _EMPTY)
    one = np.ones(free.size)
    network = StaticNetwork(
        name=name,
        nodes=int(ends.max()) + 1,
        tail=ends[:, 0],
        head=ends[:, 1],
        free_flow_time=free,
        capacity=one,
        b=table[:, 3] / free,
        power=power * one,
        toll=0.0 * one,
        length=one.copy(),
        first_thru=0,
        demand=np.array([[0.0, trips], [0.0, 0.0]]),
    )
    network.check()
    return network


def pigou(power: float) -> StaticNetwork:
    """One trip and two routes: one takes 1, the other ``volume ** power``."""
    return affine_network("Pigou", [(0, 1, 1.0, 0.0), (0, 1, 0.0, 1.0)], 1.0, power=power)


def braess(*, middle: bool = True) -> StaticNetwork:
    """Braess's network with six trips; ``middle``: with the link that makes everybody slower."""
    links = [(0, 2, 0.0, 10.0), (0, 3, 50.0, 1.0), (2, 1, 50.0, 1.0), (3, 1, 0.0, 10.0)]
    bridge = [(2, 3, 10.0, 1.0)] if middle else []
    return affine_network("Braess", [*links, *bridge], 6.0)


def random_network(seed: int, *, nodes: int = 9, zones: int = 4) -> StaticNetwork:
    """A ring with chords, parallel links, and zones that half the time cannot be passed through.

    Powers from 0 to 5, some links without congestion, some pairs without trips.
    """
    rng = np.random.default_rng(seed)
    through = np.arange(zones, zones + nodes)
    ring = np.stack([through, np.roll(through, -1)], axis=1)
    chords = np.stack([rng.choice(through, 2, replace=False) for _ in range(2 * nodes)])
    connectors = np.stack([np.repeat(np.arange(zones), 2), rng.choice(through, 2 * zones)], axis=1)
    pairs = np.concatenate([ring, ring[:, ::-1], chords, connectors, connectors[:, ::-1]])
    count = pairs.shape[0]
    demand = rng.uniform(0.0, 20.0, (zones, zones)) * (rng.random((zones, zones)) < 0.8)
    network = StaticNetwork(
        name=f"random {seed}",
        nodes=zones + nodes,
        tail=pairs[:, 0],
        head=pairs[:, 1],
        free_flow_time=rng.uniform(1.0, 5.0, count),
        capacity=rng.uniform(5.0, 30.0, count),
        b=rng.uniform(0.1, 1.0, count) * (rng.random(count) < 0.8),
        power=rng.integers(0, 6, count).astype(np.float64),
        toll=np.zeros(count),
        length=np.ones(count),
        first_thru=int(rng.choice([0, zones])),
        demand=demand,
    )
    network.check()
    return network
