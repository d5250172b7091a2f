"""Signals by a receding horizon: store-and-forward control of the whole network, in one place.

At every decision a program plans the greens of the next cycles from all queues that are seen and
the mean demand, so that links fill evenly (Aboudolas, Papageorgiou, Kosmatopoulos, Transportation
Research C 17, 2009, whose quadratic cost is taken piecewise). A signal then shows the phase whose
planned green is most under-served in the running cycle: a window of that length that forgets
exponentially.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np

from ...models.traffic.network_movements import Service, movement_graph
from ...models.traffic.store_forward import StoreForward
from ...models.traffic.store_forward_layout import Costs
from ...models.traffic.turning import turning_ratios
from ...simulators.interface import HOLD, Doubles, Ints, Observation
from ...simulators.traffic.town import Town
from ..interface import Information
from .traffic_local import most

CYCLE = 60.0
"""s of an interval of the plan, and of the window over which its shares are kept to."""
HORIZON = 2
"""Intervals that are planned."""


class Forecast:
    """Shares of green that store-and-forward control gives all phases.

    Args:
        town: streets and demand.
        cycle: s of an interval of the plan; horizon: intervals.
    """

    def __init__(self, town: Town, *, cycle: float = CYCLE, horizon: int = HORIZON) -> None:
        network, scenario = town.network, town.scenario
        turns = turning_ratios(network, town.demand, seconds=scenario.seconds)
        # Without programmes all signals have the one cycle.
        signals = tuple(replace(signal, programme=()) for signal in network.signals)
        phases = max((len(signal.greens) for signal in signals), default=1)
        lost = lost_time(town)
        service = Service(lost=lost, least=0.0, cycle=max(cycle, 2.0 * lost * phases))
        graph = movement_graph(
            replace(network, signals=signals), turns.flow, turns.ratio, service=service
        )
        self._program = StoreForward(
            graph,
            interval=cycle,
            horizon=horizon,
            costs=Costs(objective="quadratic"),
            pass_through=True,
        )
        mean = turns.arrivals(town.demand, start=0.0, interval=scenario.seconds, horizon=1)[0]
        self._arrivals = np.tile(mean * scenario.scale * cycle / scenario.seconds, (horizon, 1))
        held = np.flatnonzero(network.connection_signal >= 0)
        self._lane, self._move = network.connection_lane[held], network.connection_move[held]
        self._share = town.turning.of_lane[held]
        agents = town.approaches.agents
        most = town.approaches.most
        place = graph.phase_start[agents][:, None] + np.arange(most)
        self._place = np.where(town.approaches.legal, place, 0)
        self._legal = town.approaches.legal

    def shares(self, lanes: Doubles) -> Doubles:
        """Share of the next cycle ``[A, P]`` for each phase, with vehicles by lane ``[lanes]``."""
        come = self._share * lanes[self._lane]
        queues = np.bincount(self._move, weights=come, minlength=self._arrivals.shape[1])
        queues = queues.astype(np.float64, copy=False)
        greens = self._program.solve(queues, self._arrivals).greens[0]
        return np.where(self._legal, greens[self._place], 0.0)


class Horizon:
    """The rule ``store-forward-mpc``.

    Args:
        town: streets and demand; its program is made at the first decision of an episode.
    """

    information: Information = "central"
    name = "store-forward-mpc"

    def __init__(self, town: Town) -> None:
        self._town = town
        self._forecast: Forecast | None = None
        self._own = _own_lanes(town)
        interval = town.scenario.interval
        self._interval, self._forget = interval, exp(-interval / CYCLE)
        self._lost = lost_time(town)
        self._due: Doubles = np.zeros(town.approaches.legal.shape)
        self._time = np.inf

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        if self._forecast is None or observation.time <= self._time:
            # Another episode: nothing may be left of the last one, the solver's basis included.
            self._forecast = Forecast(self._town)
            self._due[:] = 0.0
        self._time = observation.time
        order = observation.private["order"].astype(np.int64)
        agents = np.arange(len(order))
        shares = self._forecast.shares(self._come(observation, order[:, HOLD]))
        self._due += shares * self._interval
        value = self._due[agents[:, None], np.maximum(order, 0)]
        value[:, HOLD] += self._lost  # what a change costs
        chosen = most(value, observation)
        self._due[agents, order[agents, chosen]] -= self._interval
        self._due *= self._forget
        return chosen

    def _come(self, observation: Observation, shown: Ints) -> Doubles:
        """Vehicles ``[lanes]`` that stand at, or come to, each stop line in the interval."""
        lanes = observation.state.copy()
        kept = observation.private["lanes"][np.arange(len(shown)), shown].astype(np.float64)
        there = self._own >= 0
        lanes[self._own[there]] += kept[there]
        return np.maximum(lanes, 0.0)


def lost_time(town: Town) -> float:
    """Green that a change of phase costs, s."""
    timing = town.scenario.timing
    return timing.yellow + timing.all_red + town.scenario.driving.lost


def _own_lanes(town: Town) -> Ints:
    """``[A, N]`` lanes before the stop lines of each agent, ascending, -1 = padding."""
    network = town.network
    rows = [
        np.unique(network.connection_lane[network.connection_signal == signal])
        for signal in town.approaches.agents.tolist()
    ]
    own = np.full((len(rows), max((row.size for row in rows), default=1)), -1, dtype=np.int64)
    for at, row in enumerate(rows):
        own[at, : row.size] = row
    return own
