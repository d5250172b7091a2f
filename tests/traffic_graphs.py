"""Control problems for tests: one crossing, a tandem, grids, and random ones."""

import numpy as np
from scipy.sparse import coo_array, csr_array

from fairlead.models.traffic.movement_graph import MovementGraph


def graph(source, target, *, ratio=(), serve=(), storage=None, signals=1, **values):
    """A graph from lists; ``ratio`` is ``(m, n, share)``, ``serve`` ``[P, M]`` or triplets."""
    source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
    moves, links = source.size, int(max(source.max(), target.max())) + 1
    table = np.array(ratio, float).reshape(-1, 3)
    place = (table[:, 0].astype(int), table[:, 1].astype(int))
    serve = csr_array(serve if len(serve) else np.zeros((0, moves)), dtype=float)
    phases = serve.shape[0]
    given = {
        "travel": np.full(links, 20.0),
        "inflow": np.full(links, 1.0),
        "saturation": np.full(moves, 0.5),
        "always": np.zeros(moves),
        "signals": tuple(f"s{i}" for i in range(signals)),
        "phase_signal": np.repeat(np.arange(signals), phases // max(signals, 1)),
        "lost": np.full(signals, 0.1),
        "low": np.full(phases, 0.0),
        "high": np.full(phases, 1.0),
    }
    return MovementGraph(
        storage=np.full(links, 1e3) if storage is None else np.asarray(storage, float),
        source=source,
        target=target,
        ratio=csr_array(coo_array((table[:, 2], place), shape=(moves, moves))),
        serve=serve,
        **given | values,
    )


def crossing(**values):
    """Two one-way streets that meet: movement 0 and 1, a phase each, ten per cent lost."""
    return graph([0, 1], [2, 3], serve=np.eye(2), **values)


def tandem(**values):
    """Two signals in a row, each with a cross street: 0 feeds 1, 2 and 3 cross."""
    serve = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    return graph([0, 1, 2, 3], [1, 4, 5, 6], ratio=[(0, 1, 1.0)], serve=serve, signals=2, **values)


TURNS = (0.2, 0.6, 0.2)
"""Left, straight, right."""


def grid_graph(rows, columns, *, length=200.0, speed=13.89, lanes=2, low=5 / 60, lost=0.1):
    """A grid with two-way streets, four phases a signal: straight and right, left, each direction.

    Movement ``12 node + 3 side + turn`` leaves the link that comes from ``side`` (north, east,
    south, west); link ``4 node + side``; links out of the grid follow.
    """
    nodes, side = np.arange(rows * columns), np.arange(4)
    count = nodes.size
    row, column = np.divmod(nodes, columns)
    # Driving on over the far side `out` of a node means coming from the opposite side of the next.
    step = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
    out = (side[:, None] + np.array([1, 2, 3])[None, :]) % 4  # [side, turn]
    node = np.repeat(nodes, 12)
    from_side = np.tile(np.repeat(side, 3), count)
    turn = np.tile(np.arange(3), 4 * count)
    over = out[from_side, turn]
    there = np.stack([row[node], column[node]], axis=1) + step[over]
    inside = ((there >= 0) & (there < [rows, columns])).all(axis=1)
    target = np.where(inside, 4 * (there @ [columns, 1]) + (over + 2) % 4, 0)
    leave = node * 4 + over
    ends = np.unique(leave[~inside])
    target[~inside] = 4 * count + np.searchsorted(ends, leave[~inside])
    links = 4 * count + ends.size
    here = np.flatnonzero(inside)
    first = np.repeat(here, 3)
    then = (3 * target[here][:, None] + np.arange(3)).ravel()
    ratio = coo_array((np.tile(TURNS, here.size), (first, then)), shape=(node.size,) * 2)
    phase = 4 * node + 2 * (from_side % 2) + (turn == 0)
    serve = coo_array((np.ones(node.size), (phase, np.arange(node.size))), (4 * count, node.size))
    phase_signal = np.repeat(nodes, 4)
    return MovementGraph(
        storage=np.full(links, lanes * length / 7.5),
        travel=np.full(links, length / speed),
        inflow=np.full(links, lanes / 1.85),
        source=4 * node + from_side,
        target=target,
        saturation=np.where(turn == 1, lanes - 1 + 0.5, np.where(turn == 0, 1.0, 0.5)) / 1.85,
        ratio=csr_array(ratio),
        always=np.zeros(node.size),
        signals=tuple(f"n{i}" for i in nodes),
        phase_signal=phase_signal,
        serve=csr_array(serve),
        lost=np.full(count, lost),
        low=np.full(4 * count, low),
        high=np.full(4 * count, 1.0 - lost - 3 * low),
    )


def entries(grid):
    """Movements on links that nobody drives into from inside."""
    return ~np.isin(grid.source, grid.target)


def random_graph(rng, signals=4, *, storage=(8.0, 40.0)):
    """Signals of two or three phases with permissive service, and shares that end trips."""
    sides = 3
    moves = 2 * sides * signals
    source = np.repeat(np.arange(sides * signals), 2)
    exits = sides * signals
    target = np.where(
        rng.random(moves) < 0.35, exits, rng.integers(0, sides * signals, moves)
    ).astype(np.int64)
    ratio = []
    for m in range(moves):
        own = np.flatnonzero(source == target[m])
        share = rng.dirichlet(np.ones(own.size + 1))
        ratio += [(m, n, share[i]) for i, n in enumerate(own)]
    counts = rng.integers(2, 4, signals)
    serve = np.zeros((int(counts.sum()), moves))
    first = np.concatenate([[0], np.cumsum(counts)])
    for i in range(signals):
        for m in range(2 * sides * i, 2 * sides * (i + 1)):
            serve[first[i] + rng.integers(counts[i]), m] = 1.0
            if rng.random() < 0.3:
                serve[first[i] + rng.integers(counts[i]), m] = 0.4
    always = np.where(rng.random(moves) < 0.15, 0.3, 0.0)
    serve *= 1.0 - always
    table = np.array(ratio)
    place = (table[:, 0].astype(int), table[:, 1].astype(int))
    phases = serve.shape[0]
    links = exits + 1
    return MovementGraph(
        storage=rng.uniform(*storage, links),
        travel=rng.uniform(5.0, 30.0, links),
        inflow=rng.uniform(0.5, 1.5, links),
        source=source,
        target=target,
        saturation=rng.uniform(0.2, 1.0, moves),
        ratio=csr_array(coo_array((table[:, 2], place), shape=(moves, moves))),
        always=always,
        signals=tuple(f"s{i}" for i in range(signals)),
        phase_signal=np.repeat(np.arange(signals), counts),
        serve=csr_array(serve),
        lost=np.full(signals, 0.1),
        low=np.full(phases, 0.05),
        high=np.full(phases, 0.85),
    )


def random_greens(rng, made, count):
    """``[count, P]`` shares within their bounds (``high`` must not bind)."""
    weight = rng.exponential(size=(count, made.phases))
    share = weight / made.per_signal(weight)[:, made.phase_signal]
    spare = 1.0 - made.lost - made.per_signal(made.low)
    return made.low + spare[made.phase_signal] * share
