"""The event loop of the streets: a spatial queue per lane, no process per vehicle, no ticking.

A vehicle is an index into arrays. It enters a lane if there is room, reaches the stop line after
what free driving takes, and leaves when it is the first, its signal or gap lets it go, the headway
to the one before has passed, and the next link has room. A lane has at most one valid event, the
next moment at which its head may move; a lane that stands at red has none. Freed space becomes
usable upstream after the time that a wave takes over the lane (Newell's link model).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ..calendar import Calendar, Wake
from ..interface import Doubles
from .demand import Demand
from .kinematics import stretch
from .layout import RANKS, Layout
from .right_of_way import GO, RED, YELLOW, YIELD, RightOfWay
from .storage import Storage

_STATUS = {"r": RED, "u": RED, "y": YELLOW, "g": YIELD, "s": YIELD, "o": YIELD}
_STOOD = 0.5
"""Seconds of delay beyond which a vehicle has lost its speed."""


class _Timer(Wake):
    """The one event of an actor: a lane, a waiting place inside a junction, or an origin."""

    __slots__ = ("actor", "again")

    def __init__(self, actor: int, again: list[Callable[[Any], None]]) -> None:
        super().__init__(again)
        self.actor, self.again = actor, again


class Streets:
    """Everything that moves in one episode.

    Actors are numbered: lanes, then waiting places inside junctions (by connection), then origins
    (by link).

    Args:
        layout: of the network.
        demand: who drives.
        factor: ``[V]`` desired speed over the limit.
        calendar: event list.

    Attributes:
        queues: vehicles of every lane, first at the stop line.
        ready: ``[V]`` when a vehicle would cross its stop line if nobody were in its way.
        lane_of: ``[V]`` lane, -1 elsewhere.
        place: ``[V]`` how many had entered its lane before it; gone: ``[P]`` how many have left it.
        speed: ``[V]`` m/s that it would drive on its link.
        leg: ``[V]`` index into its route; entered, finished: ``[V]`` s, NaN where not yet.
        stood: ``[P]`` s of delay that vehicles had at the end of the lane when they left it.
        started, stopped: ``[P]`` when the lane's queue last began to move (inf: it stands), and
            when it last moved.
        moves: crossings so far; spills: times that a vehicle found no room ahead.
    """

    def __init__(self, layout: Layout, demand: Demand, factor: Doubles, calendar: Calendar) -> None:
        self.layout, self.demand, self.calendar = layout, demand, calendar
        lanes, connections = len(layout.lane_link), len(layout.connection_lane)
        self._lanes, self._origins = lanes, lanes + connections
        actors = self._origins + len(layout.limit)
        again: list[Callable[[Any], None]] = [self._fire]
        self._timers = [_Timer(actor, again) for actor in range(actors)]
        self._due = [inf] * actors
        self._at = calendar.at
        self.queues: list[deque[int]] = [deque() for _ in range(lanes)]
        self.inside: dict[int, deque[int]] = {}
        self.origins: list[deque[int]] = [deque() for _ in layout.limit]
        self._free = [0.0] * actors
        self._storage = Storage(layout)
        self._waiters: list[deque[int]] = [deque() for _ in layout.limit]
        self.blocked = [False] * actors
        self._rank = [0] * lanes
        self._shown: list[str] = ["" for _ in layout.of_signal]
        self._vehicles(demand, factor)
        self._rights = RightOfWay(
            layout,
            queues=self.queues,
            ready=self.ready,
            moves=self._moves,
            leg=self.leg,
            kind=self._kind,
            free=self._free,
            blocked=self.blocked,
        )
        self.status = self._rights.status
        self.gone = array("q", bytes(8 * lanes))
        self._in = [0] * lanes
        self.stood = array("d", bytes(8 * lanes))
        self.started = array("d", [inf]) * lanes
        self.stopped = array("d", bytes(8 * lanes))
        self.moves = self.spills = 0
        self.inserted = self.completed = 0
        self._serial = 0
        self._departure = Wake([self._depart])
        if demand.vehicles:
            self._at(self._depart_at[0], self._departure)

    def _vehicles(self, demand: Demand, factor: Doubles) -> None:
        network = self.layout.network
        index = network.move_index
        routes = [route.tolist() for route in demand.routes]
        turns = [[index[pair] for pair in zip(r[:-1], r[1:], strict=True)] for r in routes]
        own = demand.route.tolist()
        self._links = [routes[at] for at in own]
        self._moves = [turns[at] for at in own]
        self._kind: list[int] = demand.kind.tolist()
        self._factor: list[float] = factor.tolist()
        kinds = self.layout.kinds
        self._space = [kinds[at].space for at in self._kind]
        self._depart_at: list[float] = demand.depart.tolist()
        count = demand.vehicles
        nan = float("nan")
        self.ready = array("d", [inf]) * count
        self.lane_of = array("q", [-1]) * count
        self.place = array("q", bytes(8 * count))
        self.speed = array("d", [1.0]) * count
        self.leg = array("q", [-1]) * count
        self.entered = array("d", [nan]) * count
        self.finished = array("d", [nan]) * count

    # What the controller does.

    def show(self, signal: int, state: str) -> None:
        """Set a signal's state string now."""
        before = self._shown[signal]
        if state == before:
            return
        self._shown[signal] = state
        now = self.calendar.now
        layout = self.layout
        lost, used = layout.driving.lost, layout.driving.yellow_used
        for connection, place in layout.of_signal[signal]:
            if before and before[place] == state[place]:
                continue
            old, new = self.status[connection], _STATUS.get(state[place], GO)
            if new == YIELD and not layout.yields[connection]:
                new = GO
            self.status[connection] = new
            lane = layout.connection_lane[connection]
            if new == YELLOW:
                self._rights.until[connection] = now + used
            elif new == RED:
                self._halt(lane)
            elif old < YIELD:
                self._go(lane, now, lost)
        for connection, _ in layout.of_signal[signal]:
            if self.inside.get(connection):
                self._wake(self._lanes + connection, now)

    def _halt(self, lane: int) -> None:
        self.started[lane] = inf

    def _go(self, lane: int, now: float, lost: float) -> None:
        queue = self.queues[lane]
        if not queue:
            return
        if self.ready[queue[0]] < now:
            self._rank[lane] = 0
            self._free[lane] = max(self._free[lane], now + lost)
        self._wake(lane, now)

    # Events.

    def _wake(self, actor: int, time: float) -> None:
        """The actor's next look is at ``time`` or before."""
        if time < self._due[actor]:
            self._due[actor] = time
            self._at(time, self._timers[actor])

    def _fire(self, timer: _Timer) -> None:
        timer.callbacks = timer.again
        actor = timer.actor
        now = self.calendar.now
        if self._due[actor] != now:
            return
        self._due[actor] = inf
        if actor < self._lanes:
            self._serve(actor, now)
        elif actor < self._origins:
            self._serve_inside(actor, now)
        else:
            self._insert(actor - self._origins, now)

    def _depart(self, event: Wake) -> None:
        event.callbacks = [self._depart]
        now = self.calendar.now
        times, at = self._depart_at, self._serial
        while at < len(times) and times[at] <= now:
            link = self._links[at][0]
            self.origins[link].append(at)
            if len(self.origins[link]) == 1:
                self._insert(link, now)
            at += 1
        self._serial = at
        if at < len(times):
            self._at(times[at], event)

    def _insert(self, link: int, now: float) -> None:
        """Let vehicles that wait outside enter the link."""
        waiting, actor = self.origins[link], self._origins + link
        while waiting:
            if self._free[actor] > now:
                self._wake(actor, self._free[actor])
                return
            vehicle = waiting[0]
            lane = self._room(vehicle, 0, now)
            if lane < 0:
                self._block(actor, link, now)
                return
            waiting.popleft()
            self.blocked[actor] = False
            self._free[actor] = now + self.layout.driving.insertion
            self.entered[vehicle] = now
            self.inserted += 1
            self._enter(vehicle, 0, lane, now, self.layout.driving.entry)

    def _serve(self, lane: int, now: float) -> None:
        """Let the lane's head, and who follows, cross as far as they may now."""
        queue, layout = self.queues[lane], self.layout
        while queue:
            vehicle = queue[0]
            time = self.ready[vehicle]
            time = max(time, self._free[lane])
            if time > now:
                self._wake(lane, time)
                return
            leg, moves = self.leg[vehicle], self._moves[vehicle]
            if leg == len(moves):
                self._arrive(lane, vehicle, now)
                continue
            connection = layout.connection_of[lane][moves[leg]]
            status = self.status[connection]
            if status <= YELLOW and (status == RED or now > self._rights.until[connection]):
                self._rank[lane] = 0
                self.started[lane] = inf
                return
            if status == YIELD and not self._clear(lane, connection, vehicle, now):
                return
            target = self._room(vehicle, leg + 1, now)
            if target < 0:
                self._rank[lane] = 0
                self.started[lane] = inf
                self._block(lane, self._links[vehicle][leg + 1], now)
                return
            self.blocked[lane] = False
            self._cross(lane, vehicle, connection, target, now)

    def _clear(self, lane: int, connection: int, vehicle: int, now: float) -> bool:
        """Whether a head that must give way may go now; else it looks again, or moves inside."""
        again = self._rights.gap(connection, vehicle, now)
        if again <= now:
            self._rights.yielding[lane] = False
            return True
        self._rank[lane] = 0
        capacity = self.layout.inside[connection]
        if capacity:
            inside = self.inside.setdefault(connection, deque())
            if len(inside) < capacity:
                self._drop(lane, vehicle, now)
                self._free[lane] = now + self.layout.head[self._kind[vehicle]][connection]
                inside.append(vehicle)
                self._wake(self._lanes + connection, again)
                self._wake(lane, now)
                return False
        self._rights.yielding[lane] = True
        self._wake(lane, again)
        return False

    def _serve_inside(self, actor: int, now: float) -> None:
        connection = actor - self._lanes
        inside = self.inside[connection]
        while inside:
            vehicle = inside[0]
            if self._free[actor] > now:
                self._wake(actor, self._free[actor])
                return
            again = self._rights.gap(connection, vehicle, now)
            if again > now:
                self._wake(actor, again)
                return
            leg = self.leg[vehicle]
            target = self._room(vehicle, leg + 1, now)
            if target < 0:
                self._block(actor, self._links[vehicle][leg + 1], now)
                return
            inside.popleft()
            self.blocked[actor] = False
            kind = self._kind[vehicle]
            self._free[actor] = now + self.layout.head[kind][connection]
            self._rights.last[connection] = now
            self.stood[self.layout.connection_lane[connection]] += now - self.ready[vehicle]
            seconds, speed = self.layout.start[kind][connection][0]
            self._enter(vehicle, leg + 1, target, now + seconds, speed)
            self.moves += 1

    def _room(self, vehicle: int, leg: int, now: float) -> int:
        """The emptiest lane of the route's ``leg``-th link that serves its next movement, or -1."""
        moves = self._moves[vehicle]
        if leg < len(moves):
            lanes = self.layout.choices[moves[leg]]
        else:
            lanes = self.layout.lanes_of[self._links[vehicle][leg]]
        return self._storage.find(lanes, self._space[vehicle], now)

    def _block(self, actor: int, link: int, now: float) -> None:
        """No room on ``link``: wait for it, in the order of coming."""
        if not self.blocked[actor]:
            self.spills += 1
        self.blocked[actor] = True
        if actor not in self._waiters[link]:
            self._waiters[link].append(actor)
        self._wake_waiters(link, self._storage.next(self.layout.lanes_of[link], now))

    def _wake_waiters(self, link: int, time: float) -> None:
        waiters = self._waiters[link]
        for actor in waiters:
            self._wake(actor, time)

    def _drop(self, lane: int, vehicle: int, now: float) -> None:
        """The head leaves the lane; its space travels upstream."""
        self.queues[lane].popleft()
        self.gone[lane] += 1
        self.lane_of[vehicle] = -1
        self.stopped[lane] = now
        if self.started[lane] == inf:
            self.started[lane] = now
        usable = self._storage.free(lane, self._space[vehicle], now)
        link = self.layout.lane_link[lane]
        if self._waiters[link]:
            self._wake_waiters(link, usable)

    def _arrive(self, lane: int, vehicle: int, now: float) -> None:
        self._drop(lane, vehicle, now)
        self._free[lane] = now
        self.stood[lane] += now - self.ready[vehicle]
        self.finished[vehicle] = now
        self.completed += 1

    def _cross(self, lane: int, vehicle: int, connection: int, target: int, now: float) -> None:
        kind, layout = self._kind[vehicle], self.layout
        delay = now - self.ready[vehicle]
        self._drop(lane, vehicle, now)
        slow = self.status[connection] == YIELD
        self._free[lane] = now + (layout.crept if slow else layout.head)[kind][connection]
        self._rights.last[connection] = now
        self.stood[lane] += delay
        self.moves += 1
        rank = self._rank[lane]
        if slow:
            seconds, speed = layout.slow[kind][connection]
        elif delay > _STOOD and rank < RANKS:
            self._rank[lane] = rank + 1
            seconds, speed = layout.start[kind][connection][rank]
        else:
            seconds, speed = layout.turn[kind][connection]
        self._enter(vehicle, self.leg[vehicle] + 1, target, now + seconds, speed)

    def _enter(self, vehicle: int, leg: int, lane: int, time: float, speed: float) -> None:
        """Onto the ``leg``-th link of its route at ``time``, driving ``speed`` m/s."""
        layout = self.layout
        link, moves = self._links[vehicle][leg], self._moves[vehicle]
        kind = layout.kinds[self._kind[vehicle]]
        limit = min(layout.limit[link] * self._factor[vehicle], kind.top) - kind.dawdle
        end = layout.end[moves[leg]] if leg < len(moves) else limit
        ready = time + stretch(layout.length[lane], speed, limit, end, kind.accel, kind.decel)
        self.ready[vehicle] = ready
        self.leg[vehicle] = leg
        self.speed[vehicle] = limit
        self.lane_of[vehicle] = lane
        self.place[vehicle] = self._in[lane]
        self._in[lane] += 1
        self._storage.take(lane, self._space[vehicle])
        queue = self.queues[lane]
        queue.append(vehicle)
        waiters = self._waiters[link]
        if waiters:
            self._retire(waiters)
        if len(queue) == 1:
            self._wake(lane, ready)

    def _retire(self, waiters: deque[int]) -> None:
        """Whoever got its room waits no longer; the others stay in their order."""
        for _ in range(len(waiters)):
            actor = waiters.popleft()
            if self.blocked[actor]:
                waiters.append(actor)

    def driving(self) -> int:
        """Vehicles that have entered and not arrived."""
        return self.inserted - self.completed

    def outside(self) -> int:
        """Vehicles whose departure is due and that found no room to enter."""
        return self._serial - self.inserted

    def due(self) -> int:
        """Vehicles whose departure is due."""
        return self._serial
