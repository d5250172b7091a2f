"""The check that every simulator makes before it applies a joint decision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .interface import Box, Floats, Ints, Observation, Spec


def checked_choices(spec: Spec, seen: Observation, actions: NDArray[np.generic]) -> Ints:
    """``actions`` as ``[A]`` int64 if every agent's candidate is in its mask.

    Raises:
        ValueError: wrong shape or type, or a candidate outside the mask; names agent and value.
    """
    given: NDArray[Any] = np.asarray(actions)
    if given.shape != (spec.agents,) or given.dtype.kind not in "iu":
        raise ValueError(
            f"actions must be integers of shape ({spec.agents},), one per agent; "
            f"got {given.dtype} of shape {given.shape}"
        )
    inside = (given >= 0) & (given < seen.mask.shape[1])
    chosen = np.where(inside, given, 0).astype(np.int64)
    legal = inside & seen.mask[np.arange(spec.agents), chosen]
    if not legal.all():
        agent = int(np.argmin(legal))
        allowed = np.flatnonzero(seen.mask[agent]).tolist()
        raise ValueError(
            f"agent {agent} chose illegal candidate {given[agent]}; its mask allows {allowed}"
        )
    return chosen


def checked_set_points(spec: Spec, seen: Observation, actions: NDArray[np.generic]) -> Floats:
    """``actions`` as ``[A, D]`` float32 if every set-point is inside its box.

    Raises:
        ValueError: wrong shape, or a number outside the box (NaN included); names agent and value.
    """
    dimensions = spec.action.dimensions if isinstance(spec.action, Box) else 0
    given = np.asarray(actions, dtype=np.float32)
    if given.shape != (spec.agents, dimensions):
        raise ValueError(
            f"actions must have shape ({spec.agents}, {dimensions}), got {given.shape}"
        )
    inside = (given >= seen.low) & (given <= seen.high)
    if not inside.all():
        agent, axis = (int(index) for index in np.argwhere(~inside)[0])
        raise ValueError(
            f"agent {agent} set dimension {axis} to {given[agent, axis]}, outside its box "
            f"[{seen.low[agent, axis]}, {seen.high[agent, axis]}]"
        )
    return given
