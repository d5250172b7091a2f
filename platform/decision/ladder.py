"""The rungs below the policy: domain baseline, hold, safe constant; and what is feasible at all.

Every rung may fail in its own way, and what it answers is checked before it is believed. Whatever
fails is named in ``failures``. The last resort needs no code of the domain: candidate 0 (hold) is
always legal, and so is the lower end of every box.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...simulators.interface import HOLD, Ints, Observation
from .arrays import among, every
from .seeds import BASELINE, late_generator
from .types import Actions, Live, Projected, Source


def feasible(observation: Observation, actions: Actions) -> bool:
    """Right type and shape, finite, inside mask or box, hold for inactive agents (choices)."""
    rows, dimensions = observation.low.shape
    if dimensions:
        return (
            actions.shape == (rows, dimensions)
            and actions.dtype == np.float32
            # Also false for NaN.
            and every((actions >= observation.low) & (actions <= observation.high))
        )
    rows, choices = observation.mask.shape
    if actions.shape != (rows,) or actions.dtype != np.int64 or not among(actions, choices):
        return False
    legal = observation.mask.ravel()[np.arange(0, rows * choices, choices) + actions]
    return every(legal) and every(observation.active | (actions == HOLD))


class Ladder:
    """The fallbacks of one decision, worked out when first needed and at most once.

    Args:
        live: the domain's part.
        observation: screened: finite and possible everywhere.
        last: last executed actions of all agents, ``None`` if there are none.
        agents: which agents the rows are; ``None``: all.
        seed: of the decision.

    Attributes:
        observation: as given.
        failures: what failed so far, by part, and how.
    """

    def __init__(
        self,
        *,
        live: Live,
        observation: Observation,
        last: Actions | None,
        agents: Ints | None,
        seed: int,
    ) -> None:
        self._live, self.observation, self._agents = live, observation, agents
        self._last, self._seed = last, seed
        self._plain: tuple[Actions | None] | None = None
        self._projected: tuple[Projected | None] | None = None
        self.failures: dict[str, str] = {}

    def baseline(self) -> Actions | None:
        """What the domain's rule answers, before projection; ``None`` if it failed."""
        if self._plain is None:
            self._plain = (self._attempt("baseline", self._act),)
        return self._plain[0]

    def projected_baseline(self) -> Projected | None:
        """The rule's answer made feasible; ``None`` if either failed."""
        if self._projected is None:
            plain = self.baseline()
            self._projected = (None if plain is None else self.project(plain),)
        return self._projected[0]

    def project(self, wanted: Actions) -> Projected | None:
        """Feasible actions nearest to ``wanted``; ``None`` if that failed."""
        return self._attempt("project", lambda: self._project(wanted))

    def parts(self) -> tuple[Actions, Source]:
        """Actions for those agents that the policy does not get, to be projected with the others.

        Each is legal in itself; only the baseline's may need projecting.
        """
        plain = self.baseline()
        return (plain, Source.BASELINE) if plain is not None else self._below()

    def whole(self) -> tuple[Projected, Source]:
        """Feasible actions for everybody, from the highest rung that has some."""
        found = self.projected_baseline()
        if found is not None:
            return found, Source.BASELINE
        actions, source = self._below()
        rows = self.observation.active.shape[0]
        return Projected(actions, np.zeros(rows, np.int8), np.zeros(rows, np.float32)), source

    def _below(self) -> tuple[Actions, Source]:
        observation = self.observation
        held = self._attempt("hold", self._hold)
        if held is not None:
            return held, Source.HOLD
        safe = self._attempt("safe", lambda: self._sound(self._live.safe(observation)))
        if safe is not None:
            return safe, Source.SAFE
        if observation.low.shape[1]:
            return observation.low.copy(), Source.SAFE
        return np.full(observation.active.shape, HOLD, np.int64), Source.SAFE

    def _act(self) -> Actions:
        observation = self.observation
        actions: Actions = self._live.baseline.act(
            observation, late_generator(self._seed, BASELINE)
        )
        box = observation.low.shape[1] > 0
        shape = observation.low.shape if box else observation.active.shape
        if actions.shape != shape or actions.dtype != (np.float32 if box else np.int64):
            raise ValueError(f"actions are {actions.dtype} {actions.shape}, rows are {shape}")
        if box and not np.isfinite(actions).all():
            raise ValueError("set-points that are not finite")
        return actions

    def _project(self, wanted: Actions) -> Projected:
        projected = self._live.project(self.observation, wanted, self._last, self._agents)
        self._sound(projected.actions)
        rows = self.observation.active.shape
        if projected.cause.shape != rows or projected.distance.shape != rows:
            raise ValueError("cause or distance are not one number per agent")
        return projected

    def _hold(self) -> Actions:
        held = self._live.hold(self.observation, self._last, self._agents)
        if held is None:
            raise ValueError("nothing that could be held is feasible")
        return self._sound(held)

    def _sound(self, actions: Actions) -> Actions:
        if not feasible(self.observation, actions):
            raise ValueError("infeasible actions")
        return actions

    def _attempt(self, part: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - the next rung answers, and the failure is named
            self.failures.setdefault(part, f"{type(error).__name__}: {error}")
            return None
