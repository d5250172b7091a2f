"""Which agents' observations the policy may act on: imputation within a budget, range gate.

An agent whose own numbers cannot be used (not finite, physically impossible) or are unlike anything
in training does not get the policy's action; the others do. Numbers that cannot be used are
replaced by the training median, so that the baseline has something to decide on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import HOLD, Bools, Floats, Observation
from .arrays import every, some
from .bounds import Bounds, Pair, Range
from .settings import SlotSettings


@dataclass(frozen=True, slots=True)
class Screened:
    """An observation that is finite and possible everywhere.

    Attributes:
        observation: for the baseline, the projection and the look-ahead.
        invalid: ``[n]`` active agents whose own numbers were not usable; ``None``: none.
        drifted: ``[n]`` active agents that are out of distribution; ``None``: none.
        reasons: agents by reason (``nan``, ``missing``: no number at all, ``range``).
    """

    observation: Observation
    invalid: Bools | None
    drifted: Bools | None
    reasons: dict[str, int]


def screen(bounds: Bounds, settings: SlotSettings, observation: Observation) -> Screened:
    """Screen an observation whose shapes are right."""
    agent, candidates = observation.agent, observation.candidates
    rows, choices = candidates.shape[:2]
    if _within(agent, bounds.usual(rows, 0)) and (
        not choices or _within(candidates.reshape(rows, -1), bounds.usual(rows, choices))
    ):
        return Screened(observation, None, None, {})
    return _screen_closely(bounds, settings, observation)


def _within(values: Floats, bounds: Pair) -> bool:
    # Also false for NaN.
    inside = values >= bounds[0]
    inside &= values <= bounds[1]
    return every(inside)


def _outside(values: Floats, low: Floats, high: Floats) -> Bools:
    """Where values are not between the bounds; NaN never is."""
    return ~((values >= low) & (values <= high))


def _screen_closely(bounds: Bounds, settings: SlotSettings, observation: Observation) -> Screened:
    active = observation.active
    offered = observation.mask & active[:, None]
    own = _unusable(observation.agent, bounds.agent)
    each = _unusable(observation.candidates, bounds.candidate)
    counted = each & offered[:, :, None] if each is not None else None
    invalid: Bools | None = None
    reasons: dict[str, int] = {}
    if own is not None or counted is not None:
        reasons, invalid = _reasons(observation, own, counted)
        observation = _imputed(observation, bounds, own, each)
    drifted: Bools | None = None
    if bounds.gated:
        drifted = active & (_unusual(observation, bounds, offered) >= settings.drift.features)
        if invalid is not None:
            drifted &= ~invalid
        drifted = drifted if some(drifted) else None
    return Screened(observation, invalid, drifted, reasons)


def _unusable(values: Floats, known: Range) -> Bools | None:
    found = _outside(values, known.low, known.high)
    return found if some(found) else None


def _reasons(
    observation: Observation, own: Bools | None, counted: Bools | None
) -> tuple[dict[str, int], Bools | None]:
    """Active agents by the worst thing that is wrong with them, and which ones they are."""
    active = observation.active
    none = np.zeros(active.shape, np.bool_)
    bad, nan = none.copy(), none.copy()
    missing = none
    if own is not None:
        bad |= own.any(axis=1)
        lost = ~np.isfinite(observation.agent)
        nan |= lost.any(axis=1)
        missing = lost.all(axis=1) & active
    if counted is not None:
        bad |= counted.any(axis=(1, 2))
        nan |= (counted & ~np.isfinite(observation.candidates)).any(axis=(1, 2))
    bad &= active
    nan &= bad & ~missing
    counts = {
        "missing": int(missing.sum()),
        "nan": int(nan.sum()),
        "range": int((bad & ~nan & ~missing).sum()),
    }
    return {reason: n for reason, n in counts.items() if n}, bad if some(bad) else None


def _imputed(
    observation: Observation, bounds: Bounds, own: Bools | None, each: Bools | None
) -> Observation:
    agent, candidates = observation.agent, observation.candidates
    if own is not None:
        agent = np.where(own, bounds.agent.middle, agent)
    if each is not None:
        candidates = np.where(each, bounds.candidate.middle, candidates)
    return replace(observation, agent=agent, candidates=candidates)


def _unusual(observation: Observation, bounds: Bounds, offered: Bools) -> NDArray[np.int64]:
    """``[n]`` features of an agent, and of its candidates, beyond the training range."""
    count = _outside(observation.agent, bounds.agent.usual_low, bounds.agent.usual_high).sum(axis=1)
    if observation.candidates.size:
        beyond = _outside(
            observation.candidates, bounds.candidate.usual_low, bounds.candidate.usual_high
        )
        beyond &= offered[:, :, None]
        beyond[:, HOLD] = False
        count = count + beyond.any(axis=1).sum(axis=1)
    return count
