"""Layout, copies, comparison, and random legal or illegal actions for any simulator."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .interface import HOLD, Box, Choice, Observation, Spec


def copy_of(seen: Observation) -> Observation:
    """The observation with arrays of its own."""
    values: dict[str, Any] = {field.name: getattr(seen, field.name) for field in fields(seen)}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = value.copy()
    values["private"] = {name: array.copy() for name, array in seen.private.items()}
    return Observation(**values)


def difference(one: Observation, two: Observation) -> str:
    """Name of the first field in which two observations differ, or ``''``; NaN equals NaN."""
    for field in fields(Observation):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if field.name == "private":
            for name in sorted(a.keys() | b.keys()):
                if name not in a or name not in b or not _equal(a[name], b[name]):
                    return f"private[{name}]"
        elif not _equal(a, b):
            return field.name
    return ""


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")
    return bool(a == b)


def layout(spec: Spec) -> list[tuple[str, tuple[int, ...], type[np.generic]]]:
    """Name, shape and type of every array of an observation whose layout follows from the spec."""
    agents = spec.agents
    count = spec.action.candidates if isinstance(spec.action, Choice) else 0
    dimensions = spec.action.dimensions if isinstance(spec.action, Box) else 0
    features = len(spec.candidate_features) if count else 0
    return [
        ("agent", (agents, len(spec.agent_features)), np.float32),
        ("candidates", (agents, count, features), np.float32),
        ("target", (agents, count), np.int64),
        ("mask", (agents, count), np.bool_),
        ("low", (agents, dimensions), np.float32),
        ("high", (agents, dimensions), np.float32),
        ("active", (agents,), np.bool_),
        ("critic", (len(spec.critic_features),), np.float32),
        ("state", (spec.state_size,), np.float64),
    ]


def random_actions(spec: Spec, seen: Observation, rng: np.random.Generator) -> NDArray[np.generic]:
    """A legal action for every agent, uniform over the mask or the box."""
    if isinstance(spec.action, Box):
        drawn = seen.low + rng.random(seen.low.shape, dtype=np.float32) * (seen.high - seen.low)
        return np.clip(drawn, seen.low, seen.high)  # rounding may leave the box by a bit
    return np.where(seen.mask, rng.random(seen.mask.shape), -1.0).argmax(axis=1)


def illegal_actions(spec: Spec, seen: Observation) -> list[tuple[str, NDArray[np.generic]]]:
    """Joint actions that ``step`` must refuse, each with what is wrong about it in words."""
    if isinstance(spec.action, Box):
        above = seen.high.copy()
        above[0, 0] += 1.0
        return [
            ("an action above the box", above),
            ("an action array of the wrong shape", above[:, :0]),
            ("a NaN action", np.full_like(above, np.nan)),
        ]
    hold = np.full(spec.agents, HOLD, dtype=np.int64)
    cases: list[tuple[str, NDArray[np.generic]]] = []
    if not seen.mask.all():
        agent, candidate = np.argwhere(~seen.mask)[0]
        masked = hold.copy()
        masked[agent] = candidate
        cases.append(("a masked candidate", masked))
    for kind, value in (
        ("a candidate number above the last", spec.action.candidates),
        ("a negative candidate number", -1),
    ):
        wrong = hold.copy()
        wrong[-1] = value
        cases.append((kind, wrong))
    cases.append(("an action array of the wrong shape", hold[:-1]))
    return cases
