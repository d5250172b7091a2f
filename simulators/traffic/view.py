"""What signals see: agent, candidate and critic features from detector readings.

The same from our streets and from SUMO, because both give the same :class:`.readings.Readings`.
Candidate k of an agent is its k-th next green phase, so that 0 keeps the phase that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles, Feature, Floats, Ints
from .approaches import Approaches
from .effects import Discharge, Effects
from .readings import Readings
from .timing import Timing

AGENT = (
    Feature("time_in_phase", "s", transform="log1p"),
    Feature("phases", "1", 1.0),
    Feature("lanes", "1", 1.0),
    Feature("queue", "vehicles", transform="log1p"),
    Feature("soon", "vehicles", transform="log1p"),
    Feature("wait", "s", transform="log1p"),
    Feature("downstream", "1"),
)
CANDIDATE = (
    Feature("current", "1", 0.0, 1.0),
    Feature("queue", "vehicles", transform="log1p"),
    Feature("behind", "vehicles", transform="log1p"),
    Feature("near", "vehicles", transform="log1p"),
    Feature("seen", "vehicles", transform="log1p"),
    Feature("soon", "vehicles", transform="log1p"),
    Feature("served", "vehicles", transform="log1p"),
    Feature("left", "vehicles", transform="log1p"),
    Feature("wait", "s", transform="log1p"),
    Feature("longest", "s", transform="log1p"),
    Feature("red", "s", transform="log1p"),
    Feature("pressure", "vehicles", float("-inf")),
    Feature("downstream", "1"),
    Feature("protected", "1", 0.0, 1.0),
    Feature("lanes", "1"),
    Feature("wave", "vehicles", transform="log1p"),
)
CRITIC = (
    Feature("queue", "vehicles/signal", transform="log1p"),
    Feature("soon", "vehicles/signal", transform="log1p"),
    Feature("wait", "s/signal", transform="log1p"),
    Feature("longest_queue", "vehicles", transform="log1p"),
    Feature("driving", "vehicles/signal", transform="log1p"),
    Feature("outside", "vehicles/signal", transform="log1p"),
    Feature("left_of_episode", "1", 0.0, 1.0),
    Feature("time_in_phase", "s", transform="log1p"),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Vehicles on all links and waiting to enter them, and what is left of the episode, 0..1."""

    driving: int
    outside: int
    left: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What one look at the streets yields, before it is put in the order of candidates.

    Attributes:
        phases: ``[A, P, F]`` features of every phase by its number, without ``current``.
        agent: ``[A, F]``; critic: ``[S]``.
        waiting: ``[N, J]`` whether somebody waits at each letter of each signal.
        arriving: ``[lanes]`` vehicles that stand at, or come to, each stop line in the interval.
        discharge: what every phase would let go of them.
    """

    phases: Doubles
    agent: Floats
    critic: Floats
    waiting: Bools
    arriving: Doubles
    discharge: Discharge


class View:
    """Turns readings into features.

    Args:
        approaches: relations of phases and lanes.
        effects: what phases discharge.
        storage: ``[links]`` vehicles that a link holds.
    """

    def __init__(
        self,
        approaches: Approaches,
        *,
        effects: Effects,
        storage: Doubles,
    ) -> None:
        self._approaches, self._effects = approaches, effects
        self._storage = storage
        self._count = approaches.legal.size
        network = approaches.network
        self._lane_start = network.lane_start[:-1]
        self._lanes = network.lane_link.size
        shape = approaches.legal.shape
        ones = np.ones(self._lanes)
        total = approaches.lanes.sums(ones, self._count)
        first = approaches.protected.sums(ones, self._count)
        self._served_lanes = approaches.whole.sums(ones, self._count).reshape(shape)
        share = np.divide(first, total, out=np.zeros_like(first), where=total > 0.0)
        self._protected = share.reshape(shape)
        self._own_lanes = approaches.own.sums(ones, len(approaches.agents))
        self._rows = np.arange(shape[0])[:, None]
        self._order = np.arange(shape[1])

    def look(self, readings: Readings, timing: Timing, counts: Counts, now: float) -> Scene:
        """Features of all phases and agents at ``now``."""
        found = self._approaches
        shape, size = found.legal.shape, self._count
        link_count = np.add.reduceat(readings.count, self._lane_start)
        link_queue = np.add.reduceat(readings.queue, self._lane_start)
        link_moving = link_count - link_queue
        behind = found.behind.sums(link_queue, self._lanes)
        soon = readings.soon + found.coming.sums(link_moving, self._lanes)
        queue = readings.queue + behind
        arriving = queue + soon
        stacked = np.stack(
            [readings.queue, behind, readings.near, readings.seen, soon, readings.wait]
        )
        by_phase = found.lanes.sums(stacked, size).reshape(6, *shape)
        phase, since = timing.phase[found.agents], timing.since[found.agents]
        discharge = self._effects.of(arriving, phase)
        served = discharge.lanes.sum(axis=2)
        longest = found.whole.most(readings.longest, size).reshape(shape)
        waiting = found.waiting.sums(readings.queue, len(timing.signals) * found.letters)
        waiting = waiting.reshape(-1, found.letters) > 0.0
        red = timing.red(now, waiting)[found.agents]
        occupancy = link_count / self._storage
        downstream = found.into.sums(occupancy, size).reshape(shape)
        ahead = found.into.sums(link_count, size).reshape(shape)
        wave = found.whole.sums(readings.near, size).reshape(shape)
        pressure = found.whole.sums(readings.seen, size).reshape(shape) - ahead
        total = by_phase[0] + by_phase[1] + by_phase[4]
        phases = np.stack(
            [
                *by_phase[:5],
                served,
                np.maximum(total - served, 0.0),
                by_phase[5],
                longest,
                red,
                pressure,
                downstream,
                self._protected,
                self._served_lanes,
                wave,
            ],
            axis=2,
        )
        agent = self._agents(stacked, now - since, downstream)
        critic = self._critic(agent, counts)
        return Scene(phases, agent, critic, waiting, arriving, discharge)

    def _agents(self, stacked: Doubles, age: Doubles, downstream: Doubles) -> Floats:
        found = self._approaches
        count = len(found.agents)
        own = found.own.sums(stacked, count)
        agent = np.empty((count, len(AGENT)), np.float32)
        agent[:, 0] = np.maximum(age, 0.0)
        agent[:, 1] = found.legal.sum(axis=1)
        agent[:, 2] = self._own_lanes
        agent[:, 3] = own[0]
        agent[:, 4] = own[4]
        agent[:, 5] = own[5]
        agent[:, 6] = downstream.max(axis=1)
        return agent

    def _critic(self, agent: Floats, counts: Counts) -> Floats:
        signals = max(len(agent), 1)
        mean = agent.mean(axis=0) if len(agent) else np.zeros(len(AGENT), np.float32)
        most = float(agent[:, 3].max(initial=0.0))
        driving, outside = counts.driving / signals, counts.outside / signals
        values = [mean[3], mean[4], mean[5], most, driving, outside, counts.left, mean[0]]
        return np.array(values, dtype=np.float32)

    def order(self, timing: Timing) -> Ints:
        """``[A, P]`` phase that each candidate stands for, -1 where there is none."""
        found = self._approaches
        phases = found.legal.sum(axis=1)[:, None]
        phase = timing.phase[found.agents][:, None]
        return np.where(found.legal, (phase + self._order) % phases, -1)

    def candidates(self, scene: Scene, order: Ints) -> Floats:
        """``[A, P, C]`` features in the order of candidates."""
        seen = np.empty((*order.shape, len(CANDIDATE)), np.float32)
        seen[:, :, 0] = self._order == 0
        seen[:, :, 1:] = scene.phases[self._rows, order]
        seen[order < 0] = 0.0
        return seen
