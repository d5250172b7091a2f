"""Right of way: what every connection shows, and whether who gives way may go.

Who must give way looks at the connections that it yields to: where somebody crosses now, or comes
before the gap would be over, it looks again when that one has passed.
"""

from __future__ import annotations

from array import array
from collections import deque
from math import inf

import numpy as np

from ..interface import Bools
from .layout import Layout

RED, YELLOW, YIELD, GO = range(4)
"""What a connection shows."""
_STATUS = {"r": RED, "u": RED, "y": YELLOW, "g": YIELD, "s": YIELD, "o": YIELD}
"""By letter of a state; others are :data:`GO`."""
_CROSSED = 1.0
"""Seconds for which a crossing keeps its conflict area."""
_LOOK = 3
"""Vehicles of a lane with right of way that are looked at."""


class RightOfWay:
    """State of all connections, and gaps between those who have right of way.

    Args:
        layout: of the network.
        queues: vehicles of every lane.
        ready: ``[V]`` s at which a vehicle would reach its stop line.
        next_move: by vehicle and leg, the movement at its link's end.
        leg: ``[V]`` index into the route.
        kind: ``[V]``.
        free: per actor, the first of which are lanes: s from which its head may cross.
        blocked: per actor, whether its head found no room ahead.

    Attributes:
        status: per connection, what it shows.
        until: per connection, s until which its yellow is still used.
        last: per connection, s of the last crossing.
        yielding: per lane, whether its head waits for a gap.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        queues: list[deque[int]],
        ready: array[float],
        moves: list[list[int]],
        leg: array[int],
        kind: list[int],
        free: list[float],
        blocked: list[bool],
    ) -> None:
        self._layout, self._queues, self._ready = layout, queues, ready
        self._moves, self._leg, self._kind = moves, leg, kind
        self._free, self._blocked = free, blocked
        connections = len(layout.connection_lane)
        self.status = [GO if not layout.yields[at] else YIELD for at in range(connections)]
        self.until = [inf] * connections
        self.last = [-inf] * connections
        self.yielding = [False] * len(layout.lane_link)
        self._shown = [""] * len(layout.of_signal)

    def show(self, signal: int, state: str, now: float) -> tuple[list[int], list[int]]:
        """Set a signal's state string; returns connections that may go now, and that must stop."""
        before, self._shown[signal] = self._shown[signal], state
        opened: list[int] = []
        closed: list[int] = []
        if state == before:
            return opened, closed
        layout, status = self._layout, self.status
        for connection, place in layout.of_signal[signal]:
            if before and before[place] == state[place]:
                continue
            old, new = status[connection], _STATUS.get(state[place], GO)
            if new == YIELD and not layout.yields[connection]:
                new = GO
            status[connection] = new
            if new == YELLOW:
                self.until[connection] = now + layout.driving.yellow_used
            elif new == RED:
                closed.append(connection)
            elif old < YIELD:
                opened.append(connection)
        return opened, closed

    def waiting(self) -> Bools:
        """``[N]`` signals of which a line's head waits for a gap where there is room inside."""
        layout = self._layout
        found = np.zeros(len(layout.yielding), dtype=np.bool_)
        for signal, row in enumerate(layout.yielding):
            for connection in row:
                lane = layout.connection_lane[connection]
                queue = self._queues[lane]
                room = layout.network.waits_inside[connection]
                if queue and self.yielding[lane] and room:
                    vehicle = queue[0]
                    leg, moves = self._leg[vehicle], self._moves[vehicle]
                    wanted = moves[leg] if leg < len(moves) else -1
                    found[signal] |= wanted == layout.connection_move[connection]
        return found

    def gap(self, connection: int, vehicle: int, now: float) -> float:
        """``now`` if nobody with right of way is too near, else when to look again."""
        layout, status = self._layout, self.status
        need = now + layout.need[self._kind[vehicle]][connection]
        own = self._ready[vehicle]
        wait = now
        for foe in layout.yields[connection]:
            shown = status[foe]
            if shown == RED or (shown == YELLOW and now > self.until[foe]):
                continue
            passed = self.last[foe] + _CROSSED
            wait = max(wait, passed)
            lane = layout.connection_lane[foe]
            if self._blocked[lane]:
                continue
            queue = self._queues[lane]
            if not queue:
                continue
            if self.yielding[lane] and shown == YIELD and self._ready[queue[0]] >= own:
                continue
            before = need if shown != YELLOW else min(need, self.until[foe])
            wait = max(wait, self._coming(queue, foe, before) + _CROSSED)
        return wait if wait > now + 1e-9 else now

    def _coming(self, queue: deque[int], connection: int, before: float) -> float:
        """When the next vehicle takes the connection if ``before`` that time, else -inf."""
        move = self._layout.connection_move[connection]
        head = self._layout.head
        time = self._free[self._layout.connection_lane[connection]]
        for at, vehicle in enumerate(queue):
            ready = self._ready[vehicle]
            time = max(time, ready)
            if time > before or at == _LOOK:
                return -inf
            leg, moves = self._leg[vehicle], self._moves[vehicle]
            if leg < len(moves) and moves[leg] == move:
                return time
            time += head[self._kind[vehicle]][connection]
        return -inf
