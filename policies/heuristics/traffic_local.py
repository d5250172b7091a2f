"""Signal rules that read nothing but what agents observe; they need no streets and no solver.

``greedy`` (most vehicles within 50 m: RESCO's MAXWAVE), ``longest-queue``, ``max-pressure``
(acyclic), ``max-pressure-cyclic``, ``discharge`` (most vehicles leaving in the next interval),
``random`` and ``keep``. Candidate 0 is the phase that is shown, the others follow in cyclic order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import HOLD, Ints, Observation, Spec
from ..interface import Controller, Information

COLUMN = {
    "greedy": "wave",
    "longest-queue": "queue",
    "max-pressure": "pressure",
    "discharge": "served",
}
LONGEST = 60.0
"""s after which the cyclic rule leaves a green that others wait for."""
NOBODY = 0.1
"""Vehicles below which a phase counts as empty: shares of lanes that serve others, too."""


class PhaseRule:
    """Takes the legal phase with the most of one feature.

    Among equals it takes the one that serves most lanes (who comes next is likeliest to find green
    there), then the one that is shown, then the next in cyclic order. What is unknown (NaN) is
    never taken.
    """

    information: Information = "same"

    def __init__(self, spec: Spec, name: str) -> None:
        self.name = name
        self._column = spec.candidate_column(COLUMN[name])
        self._lanes = spec.candidate_column("lanes")

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        seen = observation.candidates
        value = seen[:, :, self._column]
        known = np.where(observation.mask & ~np.isnan(value), value, -np.inf)
        most_of_all = known.max(axis=1, keepdims=True)
        best = (known == most_of_all) & np.isfinite(most_of_all)
        return most(np.where(best, seen[:, :, self._lanes], np.nan), observation)


class MaxPressureCyclic:
    """Max pressure that visits phases in cyclic order.

    It keeps a green while no phase has more pressure, for :data:`LONGEST` s at most, and then
    goes to the next phase that somebody waits for or comes to; if there is none, it stays.
    """

    information: Information = "same"
    name = "max-pressure-cyclic"

    def __init__(self, spec: Spec) -> None:
        self._pressure = spec.candidate_column("pressure")
        self._demand = [spec.candidate_column(name) for name in ("queue", "behind", "soon")]
        self._age = spec.agent_column("time_in_phase")

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        best = most(observation.candidates[:, :, self._pressure], observation)
        stays = (best == HOLD) & (observation.agent[:, self._age] < LONGEST)
        wanted = observation.candidates[:, :, self._demand].sum(axis=2) > NOBODY
        wanted &= observation.mask
        wanted[:, HOLD] = False
        # The first true entry is the next in the cycle; hold where there is none.
        return np.where(stays, HOLD, wanted.argmax(axis=1)).astype(np.int64)


class RandomPhase:
    """Every legal phase with the same probability, the one that is shown included."""

    information: Information = "same"
    name = "random"

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        draw = rng.random(observation.mask.shape)
        return np.where(observation.mask, draw, -1.0).argmax(axis=1).astype(np.int64)


class Keep:
    """Never asks for a change; only the timing layer makes one."""

    information: Information = "same"

    def __init__(self, name: str = "keep") -> None:
        self.name = name

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        return np.full(observation.mask.shape[0], HOLD, dtype=np.int64)


class FieldPlan(Keep):
    """Stands for a plan that the signals' own controllers run; a ``PlantPlan``."""

    def __init__(self, plan: str) -> None:
        super().__init__(plan)
        self.plan = plan


def most(value: NDArray[np.floating], observation: Observation) -> Ints:
    """Legal candidate ``[A]`` with the largest value ``[A, K]``; the first of equals."""
    known = observation.mask & ~np.isnan(value)
    return np.where(known, value, -np.inf).argmax(axis=1).astype(np.int64)


def local(spec: Spec) -> tuple[Controller, ...]:
    """All rules that act on an observation alone."""
    return (
        *(PhaseRule(spec, name) for name in COLUMN),
        MaxPressureCyclic(spec),
        RandomPhase(),
        Keep(),
    )
