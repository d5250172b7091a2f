"""What an episode cost: delay as it accrues, by signal, and trips as RESCO counts them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ..interface import Doubles, Ints
from .gridlock import DeadlockWatch
from .streets import Streets

GRIDLOCK = 0.05
"""Share of unfinished trips above which an episode counts as gridlocked."""


def ideal_times(streets: Streets) -> tuple[list[Doubles], Ints]:
    """Free-flow seconds from the start of each route to the end of each leg, at factor 1."""
    network, demand = streets.layout.network, streets.demand
    index = network.move_index
    found: list[Doubles] = []
    for route in demand.routes:
        links = route.tolist()
        legs = network.length[route] / network.speed[route]
        moves = [index[pair] for pair in pairwise(links)]
        inside = network.turn_length[moves] / network.turn_speed[moves]
        legs[1:] += inside
        found.append(np.cumsum(legs))
    return found, demand.route


class Accounts:
    """Delay of one episode.

    Delay accrues to the signal that a lane leads to: behind its stop line, inside its junction,
    and outside where vehicles find no room to enter.

    Args:
        streets: of the episode.
        owner: ``[P]`` agent of every lane, -1 for none.
        agents: A.
    """

    def __init__(self, streets: Streets, *, owner: Ints, agents: int) -> None:
        self._streets, self._agents = streets, agents
        self._slot = np.where(owner >= 0, owner, agents)
        self._first = np.array([links[0] for links in streets.layout.lanes_of], dtype=np.int64)
        self._begin = np.array([links[0] for links in streets.links], dtype=np.int64)
        self._depart = streets.demand.depart
        self._before = np.zeros(agents + 1)
        self.switches = 0
        self.deadlocks = 0
        self._watch = DeadlockWatch(streets)
        self.longest_queue = 0.0

    def watch(self) -> None:
        """Count new deadlocks; to be called at every decision, it looks once a minute."""
        self.deadlocks += self._watch.look()

    def accrued(self) -> Doubles:
        """``[A + 1]`` s of delay since the last call, by agent; last: nobody's."""
        streets = self._streets
        now = streets.calendar.now
        total = np.bincount(
            self._slot, weights=np.frombuffer(streets.stood), minlength=self._agents + 1
        )
        lane_of = np.frombuffer(streets.lane_of, dtype=np.int64)
        there = np.flatnonzero(lane_of >= 0)
        late = np.maximum(now - np.frombuffer(streets.ready)[there], 0.0)
        total += np.bincount(self._slot[lane_of[there]], late, minlength=self._agents + 1)
        for connection, inside in streets.inside.items():
            slot = self._slot[streets.layout.connection_lane[connection]]
            total[slot] += sum(now - streets.ready[vehicle] for vehicle in inside)
        total += self._outside(now)
        grown = total - self._before
        self._before = total
        return grown

    def _outside(self, now: float) -> Doubles:
        """Waiting to enter: of those that did, and of those that still do."""
        streets = self._streets
        due = streets.due()
        entered = np.frombuffer(streets.entered)[:due]
        until = np.where(np.isnan(entered), now, entered)
        waited = until - self._depart[:due]
        slot = self._slot[self._first[self._begin[:due]]]
        return np.bincount(slot, waited, minlength=self._agents + 1).astype(np.float64, copy=False)

    def metrics(self) -> dict[str, float]:
        """Trips so far: delay as RESCO defines it, trip times, what did not finish."""
        streets, demand = self._streets, self._streets.demand
        now = streets.calendar.now
        due = streets.due()
        entered = np.frombuffer(streets.entered)[:due]
        finished = np.frombuffer(streets.finished)[:due]
        inside = ~np.isnan(entered)
        done = ~np.isnan(finished)
        lost = self._time_lost(due, now)
        held = entered - self._depart[:due]
        charged = ~inside
        if demand.charged.size:
            charged &= demand.charged[:due]
        else:
            charged &= False
        trips = int(inside.sum()) + int(charged.sum())
        delay = float((lost + held)[inside].sum() + (now - self._depart[:due])[charged].sum())
        duration = np.where(done, finished, now) - entered
        count = max(trips, 1)
        left = int(inside.sum() - done.sum())
        unfinished = (left + int((~inside).sum())) / max(due, 1)
        return {
            "delay_mean_s": delay / count,
            "trip_time_mean_s": float(duration[done].mean()) if done.any() else float("nan"),
            "trip_time_all_s": float(duration[inside].mean()) if inside.any() else float("nan"),
            "departure_delay_s": float(held[inside].mean()) if inside.any() else float("nan"),
            "finished_trips": float(done.sum()),
            "running_trips": float(left),
            "outside_trips": float((~inside).sum()),
            "unfinished_share": unfinished,
            "gridlock": float(unfinished > GRIDLOCK or self.deadlocks > 0),
            "deadlocks": float(self.deadlocks),
            "spillbacks": float(streets.spills),
            "longest_queue_vehicles": self.longest_queue,
            "switches": float(self.switches),
        }

    def _time_lost(self, due: int, now: float) -> Doubles:
        """``[due]`` s behind free driving, of vehicles that have entered."""
        streets = self._streets
        cumulative, route = ideal_times(streets)
        length = max(len(row) for row in cumulative)
        table = np.zeros((len(cumulative), length + 1))
        for at, row in enumerate(cumulative):
            table[at, 1 : len(row) + 1] = row
        leg = np.maximum(np.frombuffer(streets.leg, dtype=np.int64)[:due], 0)
        own = route[:due]
        factor = np.array(streets.factor)[:due]
        finished = np.frombuffer(streets.finished)[:due]
        entered = np.frombuffer(streets.entered)[:due]
        done = ~np.isnan(finished)
        # Who still drives is somewhere on its leg: where free driving would have it, at most.
        start, end = table[own, leg], table[own, leg + 1]
        rest = np.maximum(np.frombuffer(streets.ready)[:due] - now, 0.0) * factor
        reached = np.where(done, end, np.maximum(end - rest, start))
        return np.maximum(np.where(done, finished, now) - entered - reached / factor, 0.0)
