"""A network compiled for the event loop: plain lists, and tables of what never changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..interface import Doubles, Ints
from .demand import Kind
from .driving import Driving
from .kinematics import CREEP, SIGHT, STAND, clearing, headway, speed_after, starting, stretch
from .network import Network

RANKS = 8
"""Places in a discharging queue whose crossing speed differs; later ones cross at full speed."""


_Lists = list[list[int]]


class Layout:
    """Tables by lane, connection and movement; ``kinds`` first where they depend on the vehicle.

    Attributes:
        connection_of: per lane, movement to connection.
        choices: per movement, lanes of its link that serve it.
        yields: per connection, those that it gives way to.
        yielding: per signal, its connections that give way to any.
        manner: per kind, m/s that it reaches and stays below, m/s^2 up and down.
        length: m of every lane; room: m that its vehicles may take; clear: s until freed space is
            usable upstream.
        limit: m/s of every link.
        end: m/s at which the end of a movement's link is approached.
        head: s between two cars leaving a queue, ``[kind][connection]``.
        turn: ``(s, m/s)`` to pass the junction and speed at its end, for crossing at full speed.
        pace: s between the first of a standing queue and the next one, by rank.
        crept, slow: the same where a connection must give way, which is crossed slowly.
        start: the same for the first :data:`RANKS` of a queue.
        need: s that a gap must last to cross from a stand.
    """

    def __init__(self, network: Network, kinds: Sequence[Kind], driving: Driving) -> None:
        self.network, self.kinds, self.driving = network, tuple(kinds), driving
        self.lane_link: list[int] = network.lane_link.tolist()
        start = network.lane_start.tolist()
        self.lanes_of = [list(range(start[at], start[at + 1])) for at in range(len(network.links))]
        self.limit: list[float] = network.speed.tolist()
        self.length: list[float] = network.length[network.lane_link].tolist()
        wave = driving.wave
        self.clear = [length / wave if wave > 0.0 else 0.0 for length in self.length]
        self._courses: tuple[tuple[Ints, ...], _Lists, _Lists] = ((), [], [])
        self.manner = [(kind.top, kind.dawdle, kind.accel, kind.decel) for kind in self.kinds]
        self._connections(network)
        self.room: list[float] = (self._inner(network) + network.length)[network.lane_link].tolist()
        self._tables(network)

    def courses(self, routes: tuple[Ints, ...]) -> tuple[_Lists, _Lists]:
        """Links and movements of every route; kept, because all episodes share their routes."""
        if self._courses[0] is not routes:
            index = self.network.move_index
            links: _Lists = [route.tolist() for route in routes]
            moves = [[index[pair] for pair in pairwise(row)] for row in links]
            self._courses = (routes, links, moves)
        return self._courses[1], self._courses[2]

    def _connections(self, network: Network) -> None:
        self.connection_lane: list[int] = network.connection_lane.tolist()
        self.connection_move: list[int] = network.connection_move.tolist()
        self.connection_of: list[dict[int, int]] = [{} for _ in self.lane_link]
        self.choices: list[list[int]] = [[] for _ in range(network.move_from.size)]
        for at, (lane, move) in enumerate(
            zip(self.connection_lane, self.connection_move, strict=True)
        ):
            if move not in self.connection_of[lane]:
                self.connection_of[lane][move] = at
                self.choices[move].append(lane)
        bounds = network.yield_start.tolist()
        foes = network.yield_to.tolist()
        self.yields = [
            tuple(foes[bounds[at] : bounds[at + 1]]) for at in range(len(self.connection_lane))
        ]
        self.inside: list[int] = (
            network.waits_inside.tolist() if self.driving.inside else [0] * len(self.yields)
        )
        self.of_signal: list[list[tuple[int, int]]] = [[] for _ in network.signals]
        signal = network.connection_signal.tolist()
        index = network.connection_index.tolist()
        for at, owner in enumerate(signal):
            if owner >= 0:
                self.of_signal[owner].append((at, index[at]))
        self.controlled = [owner >= 0 for owner in signal]
        self.yielding = [[at for at, _ in row if self.yields[at]] for row in self.of_signal]

    def _inner(self, network: Network) -> Doubles:
        """``[L]`` m inside the junction before a link on which its queue may stand, too.

        Nobody stands where others cross: only joints that no signal controls count.
        """
        inner = np.zeros(len(network.links))
        free = np.ones(network.move_from.size, dtype=np.bool_)
        for at, move in enumerate(self.connection_move):
            if self.controlled[at]:
                free[move] = False
        np.maximum.at(inner, network.move_to[free], network.turn_length[free])
        return inner

    def _tables(self, network: Network) -> None:
        moves = self.connection_move
        turn_length = network.turn_length[moves].tolist()
        into = network.speed[network.move_to[moves]]
        turn_speed = np.minimum(network.turn_speed[moves], into).tolist()
        gives_way = np.zeros(network.move_from.size, dtype=np.bool_)
        for at, foes in enumerate(self.yields):
            if foes and not self.controlled[at]:
                gives_way[moves[at]] = True
        approach = np.where(gives_way, np.minimum(network.turn_speed, SIGHT), network.turn_speed)
        self.end: list[float] = approach.tolist()
        slow = approach[moves].tolist()
        self.head: list[list[float]] = []
        self.pace: list[list[list[float]]] = []
        self.crept: list[list[float]] = []
        self.slow: list[list[tuple[float, float]]] = []
        self.turn: list[list[tuple[float, float]]] = []
        self.start: list[list[list[tuple[float, float]]]] = []
        self.need: list[list[float]] = []
        for kind in self.kinds:
            rows = list(zip(turn_length, turn_speed, slow, strict=True))
            self.head.append([headway(kind, speed) for _, speed, _ in rows])
            paces = [[starting(kind, rank, speed) for rank in range(RANKS)] for _, speed, _ in rows]
            self.pace.append(paces)
            self.crept.append([headway(kind, min(speed, CREEP)) for _, speed, _ in rows])
            self.turn.append([_passing(kind, m, v, min(entry, v)) for m, v, entry in rows])
            self.slow.append([_passing(kind, m, v, min(CREEP, v)) for m, v, _ in rows])
            starts = [
                [
                    _passing(kind, m, v, speed_after(rank * kind.space + STAND, 0.0, v, kind.accel))
                    for rank in range(RANKS)
                ]
                for m, v, _ in rows
            ]
            self.start.append(starts)
            self.need.append([clearing(m, 0.0, v, kind) + self.driving.gap for m, v, _ in rows])


def _passing(kind: Kind, length: float, limit: float, entry: float) -> tuple[float, float]:
    """Seconds inside the junction and speed at its end, entering at ``entry`` m/s."""
    seconds = stretch(length, entry, limit, limit, kind.accel, kind.decel)
    return seconds, speed_after(length, entry, limit, kind.accel)
