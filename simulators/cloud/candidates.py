"""Which nodes a decision may choose from: all capable ones, or a seeded sample of them."""

from __future__ import annotations

import numpy as np

from ..interface import Bools, Ints


class CandidateSampler:
    """Samples nodes without replacement, independently for every agent.

    Args:
        capable: ``[D, M]`` nodes that could ever host a demand.
        width: candidates per decision.
        rng: the stream of samples.

    A demand with at most ``width`` capable nodes always gets all of them, in order of index.
    """

    def __init__(self, *, capable: Bools, width: int, rng: np.random.Generator):
        self._width = width
        self._rng = rng
        self._count = capable.sum(axis=1).astype(np.int64)
        self._nodes = np.full((capable.shape[0], max(int(self._count.max()), 1)), -1, np.int64)
        for demand, row in enumerate(capable):
            self._nodes[demand, : self._count[demand]] = np.flatnonzero(row)

    def draw(self, demand: Ints) -> Ints:
        """Nodes ``[A, width]`` for agents whose head jobs have these demands; -1 is padding."""
        count = self._count[demand]
        width = self._width
        position = np.broadcast_to(np.arange(width), (demand.shape[0], width)).copy()
        position[position >= count[:, None]] = -1
        sampled = np.flatnonzero(count > width)
        if sampled.size:
            position[sampled] = self._positions(count[sampled])
        row = np.minimum(position, self._nodes.shape[1] - 1)
        return np.where(position >= 0, self._nodes[demand[:, None], row], -1)

    def _positions(self, count: Ints) -> Ints:
        """Distinct uniform positions ``[n, width]`` below ``count``."""
        rng, width = self._rng, self._width
        largest = int(count.max())
        if largest <= 4 * width:
            keys = rng.random((count.shape[0], largest))
            keys[np.arange(largest) >= count[:, None]] = 2.0
            return np.argpartition(keys, width - 1, axis=1)[:, :width]
        # Rows with a repeated node are drawn again as a whole, which keeps all sets equally
        # likely. With counts just above the width this would take long: those rows are permuted.
        result = np.empty((count.shape[0], width), dtype=np.int64)
        tight = np.flatnonzero(count <= 4 * width)
        for row in tight:
            result[row] = rng.permutation(int(count[row]))[:width]
        left = np.flatnonzero(count > 4 * width)
        while left.size:
            draw = (rng.random((left.size, width)) * count[left, None]).astype(np.int64)
            ordered = np.sort(draw, axis=1)
            result[left] = draw
            left = left[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        return result
