"""What a choice of phases is predicted to cost, from a decentralised traffic observation alone.

Every candidate tells how many vehicles it would let go until the next decision (``served``, net of
what a change loses), how full the links are that it leads into, and how long somebody has waited
for it. No network, no demand and no simulator is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulators.interface import HOLD, Bools, Doubles, Ints, Observation, Spec
from ..simulators.traffic.timing import TimingSettings

FULL = 0.9
"""Share of a link's storage above which it takes fewer vehicles in, down to none at 1."""

SLACK = 1e-3
"""s; features are float32 numbers of a few hundred seconds."""


class Reader:
    """Columns of a spec that the costs need.

    Raises:
        KeyError: the spec lacks one of them.
    """

    def __init__(self, spec: Spec, timing: TimingSettings) -> None:
        self.timing, self.interval = timing, spec.dt
        self._age = spec.agent_column("time_in_phase")
        self._queue, self._soon = spec.agent_column("queue"), spec.agent_column("soon")
        column = spec.candidate_column
        self._served, self._left = column("served"), column("left")
        self._red, self._into = column("red"), column("downstream")

    def young(self, observation: Observation) -> Bools:
        """``[n]`` the minimum green is still running."""
        return observation.agent[:, self._age] < self.timing.min_green - SLACK

    def legal(self, observation: Observation) -> Bools:
        """``[n, K]`` candidates that may be taken: all but hold wait for the minimum green."""
        free = observation.active & ~self.young(observation)
        found = observation.mask & free[:, None]
        found[:, HOLD] = True
        return found

    def forced(self, observation: Observation, legal: Bools) -> Ints:
        """``[n]`` candidate whose red would pass its limit before the next decision, else -1.

        The longest red first, as the timing layer has it (``Timing.forced``).
        """
        rows = len(legal)
        if not self.timing.max_red or legal.shape[1] < 2:
            return np.full(rows, -1, dtype=np.int64)
        red = np.where(legal, observation.candidates[:, :, self._red], -np.inf)
        # Whoever is green now has no red; hold serves nobody else.
        red[:, HOLD] = -np.inf
        worst = red.argmax(axis=1).astype(np.int64)
        longest = red[np.arange(rows), worst]
        coming = self.timing.yellow + self.timing.all_red + self.interval
        return np.where(longest + coming > self.timing.max_red + SLACK, worst, -1)

    def priced(self, observation: Observation) -> Priced:
        """The costs of an observation."""
        seen = observation.candidates.astype(np.float64)
        served, into = seen[:, :, self._served], seen[:, :, self._into]
        room = np.clip((1.0 - into) / (1.0 - FULL), 0.0, 1.0)
        agent = observation.agent.astype(np.float64)
        queue, soon = agent[:, self._queue], agent[:, self._soon]
        # Phases also serve queues that reach back over several links.
        most = (served + seen[:, :, self._left]).max(axis=1, initial=0.0)
        queue = np.maximum(queue, most - soon)
        legal = self.legal(observation)
        gain = served * room
        return Priced(
            observation=observation,
            interval=self.interval,
            waiting=self.interval * (queue + 0.5 * soon),
            gain=gain,
            best=np.where(legal, gain, 0.0).max(axis=1, initial=0.0),
            least=np.where(legal, gain, np.inf).min(axis=1, initial=np.inf),
            deciding=np.logical_or.reduce(legal[:, 1:], axis=1),
        )


@dataclass(frozen=True, slots=True)
class Priced:
    """Costs of the candidates of one observation.

    Until the next decision, ``T`` s, queued vehicles wait all the time, those that come half of it
    in the mean; of both, each that is served is away for half of it in the mean. So a choice costs
    ``T (queue + soon / 2 - served / 2)`` vehicle-seconds.

    Attributes:
        observation: the very object that was priced.
        interval: ``T``.
        waiting: ``[n]`` vehicle-seconds if nobody were served.
        gain: ``[n, K]`` vehicles that each candidate lets go and that find room.
        best, least: ``[n]`` over the candidates that may be taken.
        deciding: ``[n]`` agents with more than one of them.
    """

    observation: Observation
    interval: float
    waiting: Doubles
    gain: Doubles
    best: Doubles
    least: Doubles
    deciding: Bools

    def own(self, actions: Ints) -> Doubles:
        """``[n]`` vehicles that each agent's choice lets go."""
        return self.gain[np.arange(len(actions)), actions]

    def missed(self, actions: Ints) -> float:
        """Vehicles that a joint choice does not let go although its agents could."""
        return float(np.maximum(self.best - self.own(actions), 0.0)[self.deciding].sum())

    def total(self, actions: Ints) -> float:
        """Vehicle-seconds of waiting until the next decision."""
        return float((self.waiting - 0.5 * self.interval * self.own(actions)).sum())

    def bound(self) -> float:
        """Vehicle-seconds that no joint choice goes below."""
        chosen = np.where(self.deciding, self.best, self.gain[:, HOLD])
        return float((self.waiting - 0.5 * self.interval * chosen).sum())
