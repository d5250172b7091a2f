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
from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any

import numpy as np

from ..calendar import Calendar, Timer, Wake
from ..interface import Bools, Doubles
from .demand import Demand
from .kinematics import stretch
from .layout import RANKS, Layout
from .motion import Motion
from .right_of_way import RED, YELLOW, YIELD, RightOfWay
from .storage import Storage

_STOOD = 0.5
"""Seconds of delay beyond which a vehicle has lost its speed."""


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
        links: ``[V]`` of each vehicle's route; factor: ``[V]``; space: ``[V]`` m of lane it takes.
        storage: room on the lanes; status: per connection, what it shows.
        blocked: per actor, whether its head found no room ahead.
        queues: vehicles of every lane, first at the stop line.
        ready: ``[V]`` when a vehicle would cross its stop line if nobody were in its way.
        lane_of: ``[V]`` lane, -1 elsewhere.
        place: ``[V]`` how many had entered its lane before it; motion: how many have left it, when.
        speed: ``[V]`` m/s that it would drive on its link.
        leg: ``[V]`` index into its route; entered, finished: ``[V]`` s, NaN where not yet.
        stood: ``[P]`` s of delay that vehicles had at the end of the lane when they left it.
        moves: crossings so far; spills: times that a vehicle found no room ahead.
    """

    def __init__(self, layout: Layout, demand: Demand, factor: Doubles, calendar: Calendar) -> None:
        self.layout, self.demand, self.calendar = layout, demand, calendar
        lanes, connections = len(layout.lane_link), len(layout.connection_lane)
        self._lanes, self._origins = lanes, lanes + connections
        actors = self._origins + len(layout.limit)
        again: list[Callable[[Any], None]] = [self._fire]
        self._timers = [Timer(actor, again) for actor in range(actors)]
        self._due = [inf] * actors
        self._at = calendar.at
        self.queues: list[deque[int]] = [deque() for _ in range(lanes)]
        self.inside: dict[int, deque[int]] = {}
        self.origins: list[deque[int]] = [deque() for _ in layout.limit]
        self._free = [-inf] * actors
        self.storage = Storage(layout)
        self._waiters: list[deque[int]] = [deque() for _ in layout.limit]
        self.blocked = [False] * actors
        self._rank = [0] * lanes
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
        self.motion = Motion(lanes)
        self.gone = self.motion.gone
        self._in = [0] * lanes
        self.stood = array("d", bytes(8 * lanes))
        self.moves = self.spills = self.inserted = self.completed = self._serial = 0
        self._departure = Wake([self._depart])
        if demand.vehicles:
            self._at(self._depart_at[0], self._departure)

    def _vehicles(self, demand: Demand, factor: Doubles) -> None:
        links, moves = self.layout.courses(demand.routes)
        own = demand.route.tolist()
        self.links = [links[at] for at in own]
        self._moves = [moves[at] for at in own]
        self._kind: list[int] = demand.kind.tolist()
        self.factor: list[float] = factor.tolist()
        self.space = [self.layout.kinds[at].space for at in self._kind]
        self._depart_at: list[float] = demand.depart.tolist()
        count = demand.vehicles
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
        now, rights, lanes = self.calendar.now, self._rights, self.layout.connection_lane
        opened, closed = rights.show(signal, state, now)
        for connection in closed:
            self.motion.halt(lanes[connection])
        for connection in opened:
            self._go(lanes[connection], connection, now)
        # Who waits for a gap looks again: it, or who it gives way to, may show something else now.
        for connection in self.layout.yielding[signal]:
            if self.inside.get(connection):
                self._wake(self._lanes + connection, now)
            if rights.yielding[lanes[connection]]:
                self._wake(lanes[connection], now)

    def _go(self, lane: int, connection: int, now: float) -> None:
        queue = self.queues[lane]
        if not queue or self.connection(queue[0]) != connection:
            return
        if self.ready[queue[0]] < now:
            self._rank[lane] = 0
            self._free[lane] = max(self._free[lane], now + self.layout.driving.lost)
        self._wake(lane, now)

    # Events.

    def _wake(self, actor: int, time: float) -> None:
        """The actor's next look is at ``time`` or before."""
        if time < self._due[actor]:
            self._due[actor] = time
            self._at(time, self._timers[actor])

    def _fire(self, timer: Timer) -> None:
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
            link = self.links[at][0]
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
            lane = self._claim(actor, vehicle, 0, now)
            if lane < 0:
                return
            waiting.popleft()
            self._free[actor] = now + self.layout.driving.insertion
            self.entered[vehicle] = now
            self.inserted += 1
            self._enter(vehicle, 0, lane, now, self.layout.driving.entry)

    def _serve(self, lane: int, now: float) -> None:
        """Let the lane's head, and who follows, cross as far as they may now."""
        queue, layout = self.queues[lane], self.layout
        while queue:
            vehicle = queue[0]
            time = max(self.ready[vehicle], self._free[lane])
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
                self._wait(lane)
                return
            if status == YIELD and not self._clear(lane, connection, vehicle, now):
                return
            target = self._claim(lane, vehicle, leg + 1, now)
            if target < 0:
                return
            self._cross(lane, vehicle, connection, target, now)

    def _wait(self, lane: int) -> None:
        """The head must wait: who follows starts from a stand."""
        self._rank[lane] = 0
        self.motion.halt(lane)

    def _clear(self, lane: int, connection: int, vehicle: int, now: float) -> bool:
        """Whether a head that must give way may go now; else it looks again, or moves inside."""
        again = self._rights.gap(connection, vehicle, now)
        if again <= now:
            self._rights.yielding[lane] = False
            return True
        self._wait(lane)
        capacity = self.layout.inside[connection]
        if capacity:
            inside = self.inside.setdefault(connection, deque())
            if len(inside) < capacity:
                self._leave_line(lane, self.links[vehicle][self.leg[vehicle] + 1])
                self._rights.yielding[lane] = False
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
            target = self._claim(actor, vehicle, leg + 1, now)
            if target < 0:
                return
            inside.popleft()
            kind = self._kind[vehicle]
            self._free[actor] = now + self.layout.head[kind][connection]
            self._rights.last[connection] = now
            self.stood[self.layout.connection_lane[connection]] += now - self.ready[vehicle]
            seconds, speed = self.layout.start[kind][connection][0]
            self._enter(vehicle, leg + 1, target, now + seconds, speed)
            self.moves += 1

    def _claim(self, actor: int, vehicle: int, leg: int, now: float) -> int:
        """The emptiest lane of the route's ``leg``-th link that serves what comes after, or -1.

        Who finds no room waits for it. Who comes while others wait lines up behind them, and looks
        once more in the same instant, after those whose turn it is.
        """
        link = self.links[vehicle][leg]
        waiters = self._waiters[link]
        if waiters and actor not in waiters:
            waiters.append(actor)
            self._wake(actor, now)
            return -1
        lane = self.storage.find(self.choices(vehicle, leg), self.space[vehicle], now)
        if lane >= 0:
            if waiters:
                self._leave_line(actor, link)
            return lane
        if not waiters:
            waiters.append(actor)
        if not self.blocked[actor]:
            self.blocked[actor] = True
            self.spills += 1
        if actor < self._lanes:
            self._wait(actor)
        self._wake_waiters(link, self.storage.next(self.layout.lanes_of[link], now))
        return -1

    def _leave_line(self, actor: int, link: int) -> None:
        self.blocked[actor] = False
        if actor in self._waiters[link]:
            self._waiters[link].remove(actor)

    def _wake_waiters(self, link: int, time: float) -> None:
        for actor in self._waiters[link]:
            self._wake(actor, time)

    def _drop(self, lane: int, vehicle: int, now: float) -> None:
        """The head leaves the lane; its space travels upstream."""
        self.queues[lane].popleft()
        self.lane_of[vehicle] = -1
        self.motion.leave(lane, now)
        usable = self.storage.free(lane, self.space[vehicle], now)
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
            self._free[lane] = now + layout.pace[kind][connection][rank]
            seconds, speed = layout.start[kind][connection][rank]
        else:
            seconds, speed = layout.turn[kind][connection]
        self._enter(vehicle, self.leg[vehicle] + 1, target, now + seconds, speed)

    def _enter(self, vehicle: int, leg: int, lane: int, time: float, speed: float) -> None:
        """Onto the ``leg``-th link of its route at ``time``, driving ``speed`` m/s."""
        layout, moves = self.layout, self._moves[vehicle]
        top, dawdle, accel, decel = layout.manner[self._kind[vehicle]]
        limit = min(layout.limit[layout.lane_link[lane]] * self.factor[vehicle], top)
        limit -= min(dawdle, 0.5 * limit)
        end = layout.end[moves[leg]] if leg < len(moves) else limit
        ready = time + stretch(layout.length[lane], speed, limit, end, accel, decel)
        self.ready[vehicle] = ready
        self.leg[vehicle] = leg
        self.speed[vehicle] = limit
        self.lane_of[vehicle] = lane
        self.place[vehicle] = self._in[lane]
        self._in[lane] += 1
        self.storage.take(lane, self.space[vehicle])
        queue = self.queues[lane]
        queue.append(vehicle)
        if len(queue) == 1:
            self._wake(lane, ready)

    # What others ask.

    def choices(self, vehicle: int, leg: int) -> Sequence[int]:
        """Lanes of the route's ``leg``-th link that serve what comes after it."""
        moves = self._moves[vehicle]
        if leg < len(moves):
            return self.layout.choices[moves[leg]]
        return self.layout.lanes_of[self.links[vehicle][leg]]

    def connection(self, vehicle: int) -> int:
        """By which a vehicle leaves the lane that it is on, -1 at the end of its route."""
        leg, moves = self.leg[vehicle], self._moves[vehicle]
        if leg == len(moves):
            return -1
        return self.layout.connection_of[self.lane_of[vehicle]][moves[leg]]

    def waiting_for_gaps(self) -> Bools:
        """``[N]`` signals at which somebody waits for a gap, as cars do inside a junction."""
        return self._rights.waiting() | np.array(
            [any(self.inside.get(at) for at in row) for row in self.layout.yielding], dtype=np.bool_
        )

    def driving(self) -> int:
        """Vehicles that have entered and not arrived."""
        return self.inserted - self.completed

    def outside(self) -> int:
        """Vehicles whose departure is due and that found no room to enter."""
        return self._serial - self.inserted

    def due(self) -> int:
        """Vehicles whose departure is due."""
        return self._serial
