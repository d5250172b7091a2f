"""Which lanes a phase serves, what leads where: the fixed relations between signals and lanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles, Ints
from .network import Network
from .programme import GREEN
from .readings import RANGE
from .turning import Turning


@dataclass(frozen=True, slots=True)
class Groups:
    """Lists of members of numbered owners, laid end to end.

    Attributes:
        owner: ``[G]`` the owners that have members, ascending.
        start: ``[G]`` where the members of each begin.
        member: ``[T]`` members.
        weight: ``[T]`` of each member.
    """

    owner: Ints
    start: Ints
    member: Ints
    weight: Doubles

    @classmethod
    def of(cls, rows: list[list[tuple[int, float]]]) -> Groups:
        """From ``(member, weight)`` pairs of owners 0, 1, ..."""
        filled = [at for at, row in enumerate(rows) if row]
        sizes = [len(rows[at]) for at in filled]
        start = np.concatenate([[0], np.cumsum(sizes)])[:-1] if sizes else np.zeros(0)
        flat = [pair for at in filled for pair in rows[at]]
        return cls(
            np.array(filled, dtype=np.int64),
            start.astype(np.int64),
            np.array([member for member, _ in flat], dtype=np.int64),
            np.array([weight for _, weight in flat], dtype=np.float64),
        )

    def sums(self, values: Doubles, count: int) -> Doubles:
        """``[..., count]`` weighted sums of ``values`` ``[..., members' range]`` by owner."""
        out = np.zeros((*values.shape[:-1], count))
        if self.owner.size:
            picked = values[..., self.member] * self.weight
            out[..., self.owner] = np.add.reduceat(picked, self.start, axis=-1)
        return out

    def most(self, values: Doubles, count: int) -> Doubles:
        """``[count]`` largest of the members' values, at least 0."""
        out = np.zeros(count)
        if self.owner.size:
            out[self.owner] = np.maximum.reduceat(values[self.member], self.start)
        return np.maximum(out, 0.0)


class Approaches:
    """Relations between the phases of all agents and the lanes of a network.

    Phases are numbered agent by agent, :attr:`most` to an agent.

    Attributes:
        agents: ``[A]`` signals that have a choice; most: largest number of phases.
        legal: ``[A, P]`` phases that exist.
        lanes: per phase, lanes with the share of their vehicles that it serves.
        whole: per phase, the same lanes with weight 1.
        protected: per phase, share served with right of way.
        into: per phase, links that it leads into, with weights that add up to 1.
        own: per agent, lanes before its stop lines.
        waiting: per letter of all signals' states (``letters`` to a signal), its lanes.
        behind, coming: per lane before a stop line, links that lead to it without another signal
            within range, with the share of their vehicles that come to it; ``coming`` counts those
            that arrive within ``reach`` m only.
    """

    def __init__(self, network: Network, turning: Turning, *, reach: float) -> None:
        signals = network.signals
        self.network = network
        self.agents = np.array(
            [at for at, signal in enumerate(signals) if len(signal.greens) > 1], dtype=np.int64
        )
        sizes = [len(signals[at].greens) for at in self.agents.tolist()]
        self.most = max(sizes, default=1)
        self.legal: Bools = np.arange(self.most) < np.array(sizes, dtype=np.int64)[:, None]
        self._connections: list[list[int]] = [[] for _ in signals]
        for at, owner in enumerate(network.connection_signal.tolist()):
            if owner >= 0:
                self._connections[owner].append(at)
        self._phases(network, turning.of_lane)
        own = [
            [(lane, 1.0) for lane in sorted({lanes[c] for c in self._connections[at]})]
            for lanes in [network.connection_lane.tolist()]
            for at in self.agents.tolist()
        ]
        self.own = Groups.of(own)
        self.letters = max((len(signal.greens[0]) for signal in signals), default=1)
        letters: list[list[tuple[int, float]]] = [[] for _ in range(len(signals) * self.letters)]
        for at, owner in enumerate(network.connection_signal.tolist()):
            if owner >= 0:
                place = owner * self.letters + int(network.connection_index[at])
                letters[place].append((int(network.connection_lane[at]), 1.0))
        self.waiting = Groups.of(letters)
        self._feeders(network, turning, reach)

    def _phases(self, network: Network, shares: Doubles) -> None:
        lane_of, move_of = network.connection_lane.tolist(), network.connection_move.tolist()
        index, into = network.connection_index.tolist(), network.move_to.tolist()
        lanes: list[list[tuple[int, float]]] = []
        protected: list[list[tuple[int, float]]] = []
        leads: list[list[tuple[int, float]]] = []
        for signal in self.agents.tolist():
            greens = network.signals[signal].greens
            for p in range(self.most):
                served: dict[int, float] = {}
                first: dict[int, float] = {}
                targets: dict[int, float] = {}
                for c in self._connections[signal] if p < len(greens) else ():
                    letter = greens[p][index[c]]
                    if letter not in GREEN:
                        continue
                    lane, link, share = lane_of[c], into[move_of[c]], float(shares[c])
                    served[lane] = served.get(lane, 0.0) + share
                    first[lane] = first.get(lane, 0.0) + share * (letter == "G")
                    targets[link] = targets.get(link, 0.0) + share
                total = sum(targets.values()) or 1.0
                lanes.append(list(served.items()))
                protected.append(list(first.items()))
                leads.append([(link, share / total) for link, share in targets.items()])
        self.lanes = Groups.of(lanes)
        self.whole = Groups.of([[(lane, 1.0) for lane, _ in row] for row in lanes])
        self.protected = Groups.of(protected)
        self.into = Groups.of(leads)

    def _feeders(self, network: Network, turning: Turning, reach: float) -> None:
        controlled = np.zeros(network.move_from.size, dtype=np.bool_)
        controlled[network.connection_move[network.connection_signal >= 0]] = True
        into: list[list[int]] = [[] for _ in network.links]
        for move in np.flatnonzero(~controlled).tolist():
            into[int(network.move_to[move])].append(move)
        behind: list[list[tuple[int, float]]] = [[] for _ in range(network.lane_link.size)]
        coming: list[list[tuple[int, float]]] = [[] for _ in range(network.lane_link.size)]
        length, start = network.length.tolist(), network.move_from.tolist()
        for lane in np.unique(self.own.member).tolist():
            link = int(network.lane_link[lane])
            todo = [(link, length[link], float(turning.lane_share[lane]))]
            seen = {link}
            while todo:
                at, distance, share = todo.pop()
                for move in into[at] if distance < RANGE else ():
                    before, part = start[move], share * float(turning.of_link[move])
                    if before in seen or part < 0.01:
                        continue
                    seen.add(before)
                    far = distance + length[before]
                    behind[lane].append((before, part))
                    within = min(max((reach - distance) / length[before], 0.0), 1.0)
                    if within > 0.0:
                        coming[lane].append((before, part * within))
                    todo.append((before, far, part))
        self.behind, self.coming = Groups.of(behind), Groups.of(coming)
