"""How many vehicles every phase lets go in one interval: the one-interval map of store and forward.

A lane with green for ``t`` s discharges ``min(vehicles that come, rate t)`` (store and forward
after Gazis and Potts, with the queue's own limit). Two things that streets do are added in closed
form: who wants a movement that is red stops everybody behind, so that a lane of which only the
share ``g`` may go lets ``g (1 - g^n) / (1 - g)`` of ``n`` pass in the mean; and a green that gives
way takes the gaps that Poisson traffic leaves (Siegloch's formula). What is discharged joins the
lanes of the next link.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from ..interface import Doubles, Ints
from .approaches import Approaches
from .network import Network
from .programme import GREEN
from .turning import Turning

CRITICAL, FOLLOW = 4.5, 2.6
"""Gap that a vehicle takes, and time between two that take the same one, s."""
PLATOON = 2.0
"""Flow while a phase is green over the mean flow."""


def gap_share(flow: float, rate: float) -> float:
    """Capacity of a stream that gives way to ``flow`` (1/s), as a share of ``rate`` (1/s)."""
    if flow <= 0.0:
        return min(1.0 / (FOLLOW * rate), 1.0)
    capacity = flow * exp(-flow * CRITICAL) / (1.0 - exp(-flow * FOLLOW))
    return min(capacity / rate, 1.0)


@dataclass(frozen=True, slots=True)
class Discharge:
    """Vehicles that leave in the next interval, by agent and phase.

    Attributes:
        lanes: ``[A, P, N]`` from each of the agent's own lanes.
        onward: ``[A, P, D]`` onto lanes before other stop lines.
    """

    lanes: Doubles
    onward: Doubles


class Effects:
    """The map for all agents at once.

    Args:
        approaches: phases and lanes.
        turning: how vehicles spread.
        rate: ``[lanes]`` vehicles/s that a lane discharges.
        interval: s between decisions.
        lost: s of an interval that a lane loses by turning green.
        seconds: s that the counts of ``turning`` are of.

    Attributes:
        lane: ``[A, N]`` own lanes, -1 = padding; onward: ``[A, D]`` lanes led to, -1 = padding.
    """

    def __init__(
        self,
        approaches: Approaches,
        turning: Turning,
        *,
        rate: Doubles,
        interval: float,
        lost: float,
        seconds: float,
    ) -> None:
        network = approaches.network
        agents, most = approaches.legal.shape
        self._interval, self._lost = interval, lost
        rows = [
            np.flatnonzero(network.connection_signal == signal)
            for signal in approaches.agents.tolist()
        ]
        width = max((row.size for row in rows), default=1)
        own = [sorted(set(network.connection_lane[row].tolist())) for row in rows]
        next_lanes = [_onward(approaches, row) for row in rows]
        self.lane = _padded(own, agents)
        self.onward = _padded(next_lanes, agents)
        self._green = np.zeros((agents, most, width))
        self._gap = np.ones((agents, most, width))
        self._share = np.zeros((agents, width))
        self._leaves = np.zeros((agents, width, self.lane.shape[1]))
        self._joins = np.zeros((agents, width, self.onward.shape[1]))
        lanes = np.bincount(network.connection_move, minlength=turning.flow.size)
        flow = (turning.flow / np.maximum(lanes, 1) / seconds)[network.connection_move]
        for a, row in enumerate(rows):
            greens = network.signals[int(approaches.agents[a])].greens
            for j, c in enumerate(row.tolist()):
                lane = int(network.connection_lane[c])
                for p, state in enumerate(greens):
                    letter = state[int(network.connection_index[c])]
                    self._green[a, p, j] = letter in GREEN
                    if letter == "g":
                        foes = _crossing(network, c, state, int(approaches.agents[a]))
                        against = PLATOON * float(flow[foes].sum())
                        if foes:
                            self._gap[a, p, j] = gap_share(against, float(rate[lane]))
                self._share[a, j] = turning.of_lane[c]
                self._leaves[a, j, own[a].index(lane)] = 1.0
                into = int(network.move_to[network.connection_move[c]])
                start, stop = network.lane_start[into], network.lane_start[into + 1]
                for target in range(int(start), int(stop)):
                    if target in next_lanes[a]:
                        at = next_lanes[a].index(target)
                        self._joins[a, j, at] = turning.lane_share[target]
        self._lane_rate = np.where(self.lane >= 0, rate[np.maximum(self.lane, 0)], 0.0)
        part = self._green * self._share[:, None, :]
        self._part = part @ self._leaves
        self._pass = (part * self._gap) @ self._leaves
        some = self._part > 1e-9
        self._pass = np.divide(self._pass, self._part, out=np.zeros_like(self._pass), where=some)
        self._mixed = self._part < 1.0 - 1e-6
        self._red = np.where(self._mixed, 1.0 - self._part, 1.0)
        of_lane = np.divide(
            part,
            self._part @ self._leaves.swapaxes(1, 2),
            out=np.zeros_like(part),
            where=part > 0.0,
        )
        self._onto = of_lane
        self._rows = np.arange(agents)

    def of(self, arriving: Doubles, phase: Ints) -> Discharge:
        """What every phase would discharge.

        Args:
            arriving: ``[lanes]`` vehicles that stand at, or come to, each stop line.
            phase: ``[A]`` phase that is green now; lanes green in both lose no time.
        """
        current = self._part[self._rows, phase][:, None, :] > 1e-9
        seconds = self._interval - self._lost * ~current
        capacity = self._lane_rate[:, None, :] * seconds * self._pass
        there = np.where(self.lane >= 0, arriving[np.maximum(self.lane, 0)], 0.0)[:, None, :]
        before_red = self._part * (1.0 - self._part**there) / self._red
        leaving = np.minimum(np.where(self._mixed, before_red, there), capacity)
        by_connection = (leaving @ self._leaves.swapaxes(1, 2)) * self._onto
        return Discharge(leaving, by_connection @ self._joins)


def _crossing(network: Network, connection: int, state: str, signal: int) -> list[int]:
    """Connections that it gives way to and that are green too."""
    start, stop = network.yield_start[connection], network.yield_start[connection + 1]
    return [
        foe
        for foe in network.yield_to[start:stop].tolist()
        if network.connection_signal[foe] == signal
        and state[int(network.connection_index[foe])] in GREEN
    ]


def _onward(approaches: Approaches, row: Ints) -> list[int]:
    """Lanes before other stop lines that the connections lead to."""
    network = approaches.network
    controlled = np.zeros(network.lane_link.size, dtype=np.bool_)
    controlled[approaches.own.member] = True
    into = set(network.move_to[network.connection_move[row]].tolist())
    return [
        lane
        for link in sorted(into)
        for lane in range(int(network.lane_start[link]), int(network.lane_start[link + 1]))
        if controlled[lane]
    ]


def _padded(rows: list[list[int]], agents: int) -> Ints:
    width = max((len(row) for row in rows), default=0) or 1
    out = np.full((agents, width), -1, dtype=np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
