"""Signals by a receding horizon: store-and-forward control of the whole network, in one place.

At every decision a linear program plans the greens of the next cycles from all queues that are seen
and the mean demand (Aboudolas, Papageorgiou, Kosmatopoulos, Transportation Research C 17, 2009).
A signal then shows the phase whose planned green is most under-served in its running cycle.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...models.traffic.network_movements import Service, movement_graph
from ...models.traffic.store_forward import StoreForward
from ...models.traffic.turning import turning_ratios
from ...simulators.interface import HOLD, Doubles, Ints, Observation
from ...simulators.traffic.town import Town
from ..interface import Information

CYCLE = 60.0
"""s over which planned shares of green are kept to."""
HORIZON = 3
"""Cycles that are planned."""


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
        timing = scenario.timing
        lost = timing.yellow + timing.all_red + scenario.driving.lost
        service = Service(lost=lost, least=0.0, cycle=max(cycle, 2.0 * lost * phases))
        graph = movement_graph(
            replace(network, signals=signals), turns.flow, turns.ratio, service=service
        )
        self._program = StoreForward(graph, interval=cycle, horizon=horizon, pass_through=True)
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
        queues = np.bincount(
            self._move, weights=self._share * lanes[self._lane], minlength=self._arrivals.shape[1]
        )
        greens = self._program.solve(queues, self._arrivals).greens[0]
        return np.where(self._legal, greens[self._place], 0.0)


class Horizon:
    """The rule ``store-forward-mpc``.

    Args:
        town: streets and demand; its program is made at the first decision.
    """

    information: Information = "central"
    name = "store-forward-mpc"

    def __init__(self, town: Town) -> None:
        self._town = town
        self._forecast: Forecast | None = None
        self._interval = town.scenario.interval
        self._own = _own_lanes(town)
        self._served: Doubles = np.zeros(town.approaches.legal.shape)
        self._time = np.inf

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        if self._forecast is None:
            self._forecast = Forecast(self._town)
        order = observation.private["order"].astype(np.int64)
        agents = np.arange(len(order))
        shown = order[:, HOLD]
        if observation.time <= self._time:
            self._served[:] = 0.0
        self._time = observation.time
        self._served[self._served.sum(axis=1) >= CYCLE - 1e-9] = 0.0
        planned = self._forecast.shares(self._come(observation, shown)) * CYCLE
        short = (planned - self._served)[agents[:, None], np.maximum(order, 0)]
        short = np.where(observation.mask, short, -np.inf)
        # A green goes on until its plan is met, so that phases change no oftener than they must.
        stays = short[:, HOLD] >= 0.5 * self._interval
        chosen = np.where(stays, HOLD, short.argmax(axis=1))
        self._served[agents, order[agents, chosen]] += self._interval
        return chosen.astype(np.int64)

    def _come(self, observation: Observation, shown: Ints) -> Doubles:
        """Vehicles ``[lanes]`` that stand at, or come to, each stop line in the interval."""
        lanes = observation.state.copy()
        kept = observation.private["lanes"][np.arange(len(shown)), shown].astype(np.float64)
        there = self._own >= 0
        lanes[self._own[there]] += kept[there]
        return np.maximum(lanes, 0.0)


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
