"""Feature-major arrays of the numpy policies: their room, their normaliser, means by agent.

``[F, n]``: one row for each feature, one column for each candidate of all agents. Rows are long and
contiguous, so that one operation on all columns costs little more than the memory it goes through.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Floats, Ints
from .normaliser import LIMIT

NORMALISER = (
    "normaliser.agent.shift",
    "normaliser.agent.scale",
    "normaliser.candidate.shift",
    "normaliser.candidate.scale",
)
"""Names of the feature scales among the tensors of a policy, each ``[G, columns]``."""

NOBODY = np.zeros(0, np.int64)
"""Members, where all agents are of one group."""


class Scratch(threading.local):
    """Room for intermediate results, one for each thread: fresh pages cost as much as the sums.

    A policy that was given up for being late may still run in its own thread, in its own room.
    """

    def __init__(self) -> None:
        self._flat = np.empty(0, np.float32)

    def matrices(self, features: int, width: int, columns: int) -> tuple[Floats, Floats, Floats]:
        """``[features, columns]`` and twice ``[width + 1, columns]``, with anything in them."""
        rows = features + 2 * (width + 1)
        if self._flat.size < rows * columns:
            self._flat = np.empty(rows * columns, np.float32)
        table = self._flat[: rows * columns].reshape(rows, columns)
        return table[:features], table[features : -width - 1], table[-width - 1 :]


SCRATCH = Scratch()


@dataclass(frozen=True, slots=True)
class Scale:
    """``normaliser.normalise`` of feature-major arrays, in place.

    Attributes:
        logarithmic: ``[L]`` rows that are read as logarithms.
        shift, scale: ``[F, G]``, or ``[F, 1]`` where all groups have the same.
    """

    logarithmic: Ints
    shift: Floats
    scale: Floats

    def __call__(self, values: Floats, member: Ints, counts: Ints | int) -> None:
        """Normalise ``[F, n]``; agent ``b`` of group ``member[b]`` has ``counts[b]`` columns."""
        shift, scale = self.shift, self.scale
        if shift.shape[1] > 1:
            column = np.repeat(member, counts)
            shift, scale = shift[:, column], scale[:, column]
        if self.logarithmic.size and values.size:
            raw = values.take(self.logarithmic, axis=0)
            if raw.min() >= 0.0:  # as it should be for what is read so; signs cost time
                values[self.logarithmic] = np.log1p(raw, out=raw)
            else:
                values[self.logarithmic] = np.copysign(np.log1p(np.abs(raw)), raw)
        _move(values, shift, scale)


def _move(values: Floats, shift: Floats, scale: Floats) -> None:
    """Shift, scale and limit ``[F, n]`` in place."""
    values -= shift
    values /= scale
    # np.clip asks Python more than the two comparisons take.
    np.minimum(values, np.float32(LIMIT), out=values)
    np.maximum(values, np.float32(-LIMIT), out=values)


@dataclass(frozen=True, slots=True)
class Scales:
    """Feature scales.

    Attributes:
        agent, candidate: of all groups.
        joined: of candidate features with their agent's below them, of the first group.
    """

    agent: Scale
    candidate: Scale
    joined: Scale

    @staticmethod
    def of(
        tensors: Mapping[str, Floats], agent: NDArray[np.bool_], candidate: NDArray[np.bool_]
    ) -> Scales:
        """The scales in a policy's tensors."""
        found: list[Floats] = []
        for name in NORMALISER:
            rows = tensors[name]
            same = bool((rows == rows[:1]).all())
            found.append(np.ascontiguousarray(rows[:1].T if same else rows.T))
        own_shift, own_scale, shift, scale = found
        return Scales(
            Scale(np.flatnonzero(agent), *np.broadcast_arrays(own_shift, own_scale)),
            Scale(np.flatnonzero(candidate), *np.broadcast_arrays(shift, scale)),
            Scale(
                np.flatnonzero(np.concatenate([candidate, agent])),
                np.concatenate([shift[:, :1], own_shift[:, :1]]),
                np.concatenate([scale[:, :1], own_scale[:, :1]]),
            ),
        )


def means(each: Floats, counts: Ints | int) -> Floats:
    """Mean over every agent's own columns ``[F, B]`` of ``[F, n]``."""
    if isinstance(counts, int):
        flat = np.matmul(each.reshape(-1, counts), np.ones(counts, np.float32))
        return flat.reshape(len(each), -1) / np.float32(counts)
    starts = np.cumsum(counts) - counts
    return (np.add.reduceat(each, starts, axis=1) / counts).astype(np.float32)
