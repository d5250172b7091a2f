"""Actuated signals: a green ends when the gap between vehicles is long enough, or at its longest.

As SUMO's ``actuated`` programmes do: phases come in cyclic order, also where nobody waits. A green
lasts ``min_green`` at least, goes on while its detectors see somebody within ``gap``, and ends at
``max_green`` whoever comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Ints
from .timing import Change, Timing

EVERY = 1.0
"""s between two looks of the controllers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatedSettings:
    """SUMO's defaults.

    Attributes:
        min_green, max_green: s.
        gap: s without anybody on a detector that end a green.
        detector: s of driving at the limit that detectors lie before the stop line.
    """

    min_green: float = 5.0
    max_green: float = 50.0
    gap: float = 3.0
    detector: float = 2.0


DEFAULTS = ActuatedSettings()


class Actuated:
    """Actuated controllers of all signals of an episode; they know nothing of the plant.

    Args:
        timing: phases of all signals; changes go through it.
        agents: ``[A]`` signals with more than one green; the others stay as they are.
        settings: durations. The timing layer's minimum green holds as well.
    """

    def __init__(self, timing: Timing, agents: Ints, settings: ActuatedSettings = DEFAULTS) -> None:
        self._timing, self._agents, self._settings = timing, agents, settings
        self._least = max(settings.min_green, timing.settings.min_green)
        self._last = np.full(agents.size, -np.inf)

    def decide(self, now: float, detected: Bools) -> list[Change]:
        """What to show from when on, in order of time; to be called every :data:`EVERY` s.

        Args:
            now: s.
            detected: ``[A, P]`` whether a vehicle passed or stood on a detector of a lane that the
                phase serves, since the last call.
        """
        timing, agents = self._timing, self._agents
        phase = timing.phase[agents]
        self._last[detected[np.arange(agents.size), phase]] = now
        # While yellow is shown the coming green's age is negative.
        age = now - timing.since[agents] + 1e-9
        gap = now - np.maximum(self._last, timing.since[agents]) + 1e-9
        ends = (age >= self._least) & (gap >= self._settings.gap)
        ends |= age >= max(self._settings.max_green, self._least)
        found: list[Change] = []
        for at in agents[ends].tolist():
            after = (int(timing.phase[at]) + 1) % int(timing.phases[at])
            found += timing.change(at, after, now)
        found.sort(key=lambda change: change.time)
        return found
