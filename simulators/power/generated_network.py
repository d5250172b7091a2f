"""A meshed network for a generated system: buses in the plane, lines between neighbours.

Lines are the union of two spanning trees of least length without a common line, so no single outage
parts the network (where a tree cannot avoid a line of the other, a second circuit is built). With
two lines per bus the mesh is somewhat denser than real ones (RTS-GMLC has 1.6).
"""

from __future__ import annotations

import numpy as np

from ..interface import Doubles, Ints
from .grid import Branches

_OUTAGES_PER_YEAR = 0.4
_OUTAGE_HOURS = 11.0
_CIRCUITS = 1e3
"""Length that a second circuit counts as, so that it is built only where there is no other way."""


def place(buses: int, areas: int, rng: np.random.Generator) -> tuple[Doubles, Ints]:
    """Positions ``[B, 2]`` (neighbours about 1 apart) and area ``[B]`` of every bus.

    Areas are clusters on a circle; every area has a bus if there are as many buses as areas.
    """
    area = np.sort(np.arange(buses) % areas)
    angle = 2.0 * np.pi * area / areas
    spread = np.sqrt(buses / areas)
    centre = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (0.7 * spread * (areas > 1))
    return centre + rng.uniform(-0.5, 0.5, (buses, 2)) * spread, area.astype(np.int64)


def mesh(position: Doubles, rng: np.random.Generator) -> Branches:
    """Lines without limits; see ``rated`` for those.

    Reactance grows with length: 0.01 to about 0.06 per unit on 100 MVA, as in 230 kV networks.
    """
    offset = position[:, None] - position[None]
    distance = np.sqrt((offset**2).sum(axis=2))
    first = _tree(distance)
    used = distance.copy()
    used[first[:, 0], first[:, 1]] += _CIRCUITS
    used[first[:, 1], first[:, 0]] += _CIRCUITS
    lines = np.concatenate([first, _tree(used)])
    length = distance[lines[:, 0], lines[:, 1]]
    count = len(lines)
    x = 0.01 + 0.03 * length * rng.uniform(0.8, 1.2, count)
    return Branches(
        name=tuple(f"L{row + 1}" for row in range(count)),
        start=lines[:, 0],
        end=lines[:, 1],
        r=x / 8.0,
        x=x,
        tap=np.ones(count),
        shift=np.zeros(count),
        rate=np.full(count, np.inf),
        angle_low=np.full(count, -np.inf),
        angle_high=np.full(count, np.inf),
        outage_rate=np.full(count, _OUTAGES_PER_YEAR),
        outage_hours=np.full(count, _OUTAGE_HOURS),
    )


def ratings(
    branches: Branches, cheapest: Doubles, safe: Doubles, rng: np.random.Generator
) -> Doubles:
    """Limits ``[L]`` in MW under which a few lines bind.

    Every line carries the largest of its flows in the ``cheapest`` situations with a margin of 15
    to 60 %, but one in 12, drawn among the more loaded half, is 20 % short of it. All lines carry
    the flows of the ``safe`` situations, so there is always a way, and a third of the mean flow.

    Args:
        branches: the network.
        cheapest: ``[S, B]`` MW injected where only cost counts, balanced.
        safe: ``[S, B]`` MW injected where limits must not bind, balanced.
        rng: of the margins.
    """
    peak = np.abs(_flows(branches, cheapest)).max(axis=0)
    rate = peak * rng.uniform(1.15, 1.6, peak.size)
    loaded = np.flatnonzero(peak >= np.median(peak))
    short = rng.choice(loaded, size=max(1, peak.size // 12), replace=False)
    rate[short] = 0.8 * peak[short]
    carried = np.abs(_flows(branches, safe)).max(axis=0)
    return np.ceil(np.maximum(np.maximum(rate, carried), peak.mean() / 3.0))


def _flows(branches: Branches, injection: Doubles) -> Doubles:
    """DC flows ``[S, L]`` with b = 1/x; bus 0 is the reference."""
    buses = injection.shape[1]
    incidence = np.zeros((len(branches.name), buses))
    rows = np.arange(len(branches.name))
    incidence[rows, branches.start] = 1.0
    incidence[rows, branches.end] -= 1.0
    weighted = incidence / branches.x[:, None]
    angle = np.zeros((buses, len(injection)))
    angle[1:] = np.linalg.solve((incidence.T @ weighted)[1:, 1:], injection[:, 1:].T)
    return (weighted @ angle).T


def _tree(distance: Doubles) -> Ints:
    """Edges ``[B - 1, 2]`` of a spanning tree of least length (Prim)."""
    buses = len(distance)
    near = distance[0].copy()
    source = np.zeros(buses, dtype=np.int64)
    outside = np.ones(buses, dtype=np.bool_)
    outside[0] = False
    edges = np.zeros((buses - 1, 2), dtype=np.int64)
    for row in range(buses - 1):
        bus = int(np.argmin(np.where(outside, near, np.inf)))
        edges[row] = source[bus], bus
        outside[bus] = False
        closer = outside & (distance[bus] < near)
        near[closer], source[closer] = distance[bus][closer], bus
    return edges
