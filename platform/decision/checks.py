"""Whether a request says what to decide about, in which order, and whether that was just now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Box, Choice, Ints, Spec
from .arrays import every
from .settings import ValidationSettings
from .types import Clock, Rejected, Request, State

_KEPT = 64
"""Identities whose newest seq is remembered; the one unused for longest is forgotten first."""


def check_shape(spec: Spec, settings: ValidationSettings, request: Request) -> None:
    """Compare the decentralised part of the observation with the spec.

    The number of candidates may differ from that of the spec: scorers take any number.

    Raises:
        Rejected: ``agents``, ``shape``, ``dtype``, ``mask`` or ``box``; says which array, and what
            would be right.
    """
    seen = request.observation
    rows = _rows(spec, request.agents)
    _expect("agent", seen.agent, np.float32, (rows, len(spec.agent_features)))
    _expect("active", seen.active, np.bool_, (rows,))
    if isinstance(spec.action, Box):
        shape = (rows, spec.action.dimensions)
        _expect("low", seen.low, np.float32, shape)
        _expect("high", seen.high, np.float32, shape)
        _expect("mask", seen.mask, np.bool_, (rows, 0))
        _expect("candidates", seen.candidates, np.float32, (rows, 0, 0))
        # Also false where a bound is NaN; infinite ones leave no set-point to take.
        finite = np.isfinite(seen.low).all() and np.isfinite(seen.high).all()
        if not (finite and (seen.low <= seen.high).all()):
            raise Rejected("box", "low and high must be finite, and low at most high", 422)
        return
    _expect_choices(spec, spec.action, settings, request, rows)


def _expect_choices(
    spec: Spec, action: Choice, settings: ValidationSettings, request: Request, rows: int
) -> None:
    seen = request.observation
    choices = seen.mask.shape[1] if seen.mask.ndim == 2 else action.candidates
    if not 1 <= choices <= settings.max_candidates:
        raise Rejected(
            "shape", f"{choices} candidates; 1 to {settings.max_candidates} can be decided among"
        )
    _expect("mask", seen.mask, np.bool_, (rows, choices))
    _expect(
        "candidates", seen.candidates, np.float32, (rows, choices, len(spec.candidate_features))
    )
    _expect("target", seen.target, np.int64, (rows, choices))
    if not every(seen.mask[:, 0]):
        row = int(np.argmin(seen.mask[:, 0]))
        raise Rejected("mask", f"row {row} may not hold: column 0 of the mask must be true", 422)


def _rows(spec: Spec, agents: Ints | None) -> int:
    if agents is None:
        return spec.agents
    if agents.ndim != 1 or agents.dtype != np.int64:
        raise Rejected("dtype", f"agents is {agents.dtype} {agents.shape}, not int64 [n]")
    if not 1 <= agents.size <= spec.agents:
        raise Rejected("agents", f"{agents.size} agents; the bundle has {spec.agents}")
    if agents.min() < 0 or agents.max() >= spec.agents:
        raise Rejected("agents", f"agents must be 0 to {spec.agents - 1}, found {agents.tolist()}")
    if np.bincount(agents, minlength=spec.agents).max() > 1:
        raise Rejected("agents", "an agent occurs more than once")
    return agents.size


def _expect(name: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype:
        raise Rejected("dtype", f"{name} is {array.dtype}, not {np.dtype(dtype)}")
    if array.shape != shape:
        raise Rejected("shape", f"{name} has shape {list(array.shape)}, not {list(shape)}")


def order(state: State, request: Request) -> tuple[tuple[str, int], ...]:
    """``State.sequence`` after the request; unordered requests (seq below 0) leave it as it is.

    Raises:
        Rejected: ``order`` (409), the seq is not above the newest one of its client and episode.
    """
    if request.seq < 0:
        return state.sequence
    name = f"{request.client}/{request.episode}"
    newest = (name, request.seq)
    if state.sequence and state.sequence[-1][0] == name:
        rest, last = state.sequence[:-1], state.sequence[-1][1]
    else:
        known = dict(state.sequence)
        last = known.pop(name, -1)
        rest = tuple(known.items())[-(_KEPT - 1) :]
    if request.seq <= last:
        raise Rejected(
            "order", f"seq {request.seq} of {name!r} is not above {last}, the newest decided", 409
        )
    return (*rest, newest)


def untimely(settings: ValidationSettings, request: Request, clock: Clock) -> str:
    """``stale``, ``future``, or nothing if the observation is recent enough.

    Its wall clock is compared where the request names one, else the monotonic clock of receipt.
    """
    waited = clock.mono - request.received if request.received > 0 else 0.0
    age = waited if request.observed is None else clock.wall - request.observed
    if age < -settings.max_skew:
        return "future"
    # An age that is not a number is nobody's recent observation.
    return "" if age <= settings.max_age else "stale"


def budget(default: float, request: Request, clock: Clock) -> float:
    """Seconds left of the time for the whole decision; may be negative."""
    whole = default
    if request.deadline is not None and request.deadline < default:
        whole = request.deadline
    waited = clock.mono - request.received if request.received > 0 else 0.0
    return whole - max(waited, 0.0)
