"""A fixed plan that needs no timetable: every signal goes round its phases, as long in each."""

from __future__ import annotations

import numpy as np

from ...simulators.interface import HOLD, Doubles, Ints, Observation, Spec
from ...simulators.traffic.timing import TimingSettings
from ..interface import Information

GREEN = 30.0
"""s that a phase lasts, with the change to it, where the longest red leaves room."""


class Rotation:
    """After so long in a phase the next one comes, whoever waits.

    It reads the time in the phase and how many phases there are, nothing that a detector says: what
    is left when detectors fail. The time is a whole number of decision intervals, so short that
    nobody's red reaches the limit of the timing layer, if intervals can be as short as that.

    Args:
        spec: of the observations.
        timing: what changes keep to.

    Raises:
        KeyError: the spec lacks a feature that is needed.
    """

    information: Information = "same"
    name = "fixed-rotation"

    def __init__(self, spec: Spec, timing: TimingSettings) -> None:
        self._age = spec.agent_column("time_in_phase")
        self._phases = spec.agent_column("phases")
        self._timing, self._interval = timing, spec.dt

    def green(self, phases: Doubles) -> Doubles:
        """Seconds of green that a phase has at signals with so many of them."""
        timing, interval = self._timing, self._interval
        between = timing.yellow + timing.all_red
        least = np.ceil((timing.min_green + between) / interval)
        most = np.floor(GREEN / interval) + np.zeros_like(phases)
        if timing.max_red:
            others = np.maximum(phases - 1.0, 1.0) * interval
            most = np.minimum(most, np.floor((timing.max_red - between) / others))
        return np.maximum(np.maximum(most, least), 1.0) * interval - between

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Hold or the next phase ``[A]``."""
        del rng
        if observation.mask.shape[1] < 2:
            return np.full(len(observation.mask), HOLD, dtype=np.int64)
        seen = observation.agent.astype(np.float64)
        # A decision can come a moment before the time is quite over.
        due = seen[:, self._age] >= self.green(seen[:, self._phases]) - 0.5
        return (due & observation.active & observation.mask[:, 1]).astype(np.int64)
