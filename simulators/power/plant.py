"""Units over time: on, off, starting, stopping, failed, as SimPy callbacks; branches in and out.

Once an hour the committed plan is carried out: starts begin early enough to be ready, stops are
announced an hour ahead or more so that the unit can come down. If failures or the forecast leave
too little capacity, stops are called off and quick units are started, cheapest first. None of this
reads a set point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ..calendar import Calendar, Wake
from ..interface import Bools, Doubles, Ints
from .commitment import ranking
from .fleet import Fleet
from .grid import Units
from .lodf import Topology
from .network import IslandError

HOUR = 3600.0

QUICK = 2.0
"""Hours within which a unit must be ready to be started against a shortage."""


@dataclass(slots=True)
class Tally:
    """What happened so far in an episode, and in the present interval."""

    starts: int = 0
    start_cost: float = 0.0
    trips: int = 0
    branch_outages: int = 0
    splits_refused: int = 0
    interval_start_cost: float = 0.0
    tripped: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])


@dataclass(frozen=True, slots=True)
class Rules:
    """Start and stop data of the agents, ``[A, 3]`` and ``[A, 2]``; hours and $.

    ``duration``, ``after`` and ``cost`` are of hot, warm and cold starts; ``least`` are the minimum
    up and down times.
    """

    duration: Doubles
    after: Doubles
    cost: Doubles
    least: Doubles

    @staticmethod
    def of(fleet: Fleet, units: Units) -> Rules:
        """The rules of units; storages and loads have none."""

        def rows(table: Doubles) -> Doubles:
            found = np.zeros((fleet.size, *table.shape[1:]))
            own = fleet.unit >= 0
            found[own] = table[fleet.unit[own]]
            return found

        return Rules(
            duration=rows(units.start_hours),
            after=rows(units.start_after),
            cost=rows(units.start_cost),
            least=np.stack([rows(units.min_up), rows(units.min_down)], axis=1),
        )


class Plant:
    """State of all units and branches; driven by a calendar.

    Args:
        fleet: the agents.
        rules: their starts and stops.
        topology: of the network; branches are opened and closed in it. ``None``: copper plate.
        spacing: s between the stops of units that are stopped in the same hour.

    Attributes:
        on: ``[A]`` bool, may produce.
        failed: ``[A]`` bool.
        stop_at: ``[A]`` s, announced stop (``inf``: none).
        since: ``[A]`` s, last change of on.
        changed: set by every event; whoever derives from the state resets it.
        tally: counts.
    """

    def __init__(
        self, fleet: Fleet, rules: Rules, topology: Topology | None, *, spacing: float = 300.0
    ) -> None:
        self._fleet, self._rules, self._topology = fleet, rules, topology
        self._spacing = spacing
        self._order = ranking(fleet)
        self._every = np.arange(fleet.size)
        self.tally = Tally()

    def begin(
        self,
        calendar: Calendar,
        *,
        plan: Bools,
        need: Doubles,
        surprise: Callable[[float], float],
        failed: Bools,
        branches_out: Ints,
    ) -> None:
        """Start an episode.

        Args:
            calendar: at time 0.
            plan: ``[H, A]`` on or off in every hour.
            need: ``[H]`` MW of capacity that must be on.
            surprise: MW by which more is needed than planned, as seen at a time.
            failed: ``[A]`` units that are out already.
            branches_out: branches that are out already.
        """
        self._calendar, self._plan, self._need = calendar, plan, need
        self._surprise = surprise
        size = self._fleet.size
        self.failed = failed.copy()
        # Others are on whenever they work, also once they have been repaired.
        self.on = plan[0] & ~(failed & self._fleet.thermal)
        self.stop_at = np.full(size, inf)
        self.since = np.full(size, -24.0 * HOUR)
        self._ready = np.full(size, inf)
        self.tally = Tally()
        self.changed = True
        if self._topology is not None:
            for branch in self._topology.out.tolist():
                self._topology.close(branch)
            for branch in branches_out.tolist():
                self.branch_changed(branch, up=False)
            self.tally.branch_outages = 0
        for hour in range(plan.shape[0]):
            calendar.at(hour * HOUR, _Hour(self, hour))

    def unit_changed(self, agent: int, *, up: bool) -> None:
        """A unit fails or is repaired (callback of the failure process)."""
        self.changed = True
        self.failed[agent] = not up
        if up:
            return
        if self.on[agent]:
            self.tally.trips += 1
            # A unit that is repaired and fails again within minutes has tripped once.
            if all(earlier != agent for earlier, _ in self.tally.tripped):
                self.tally.tripped.append((agent, self._calendar.now))
        if self._fleet.thermal[agent]:
            self.on[agent] = False
            self.stop_at[agent] = self._ready[agent] = inf
            self.since[agent] = self._calendar.now

    def branch_changed(self, branch: int, *, up: bool) -> None:
        """A branch fails or is repaired. An outage that would split the network does not happen."""
        topology = self._topology
        if topology is None or topology.closed[branch] == up:
            return
        self.changed = True
        if up:
            topology.close(branch)
            return
        try:
            topology.open(branch)
        except IslandError:
            self.tally.splits_refused += 1
        else:
            self.tally.branch_outages += 1

    def hour(self, hour: int) -> None:
        """Carry out the plan for the hour that begins."""
        now, plan, fleet = self._calendar.now, self._plan, self._fleet
        last = plan.shape[0] - 1
        for agent in np.flatnonzero(self.stop_at <= now).tolist():
            self.stop(agent, float(self.stop_at[agent]))
        rested = (now - self.since) / HOUR
        kind = (rested[:, None] >= self._rules.after).sum(axis=1) - 1
        kind = np.maximum(kind, 0)
        lead = self._rules.duration[self._every, kind]
        idle = fleet.thermal & ~self.on & ~self.failed & (self._ready == inf)
        may = idle & (rested >= self._rules.least[:, 1])
        ahead = np.minimum(hour + np.ceil(lead).astype(np.int64), last)
        starting = may & plan[ahead, self._every]
        if hour == last:
            return
        stays = self.on & (self.stop_at == inf)
        ends = stays & fleet.thermal & ~plan[hour + 1]
        ends &= (now + HOUR - self.since) / HOUR >= self._rules.least[:, 0]
        soon = stays | starting | (self._ready < now + QUICK * HOUR)
        capacity = float(fleet.high[soon & ~ends & fleet.thermal].sum())
        short = float(self._need[hour : hour + 3].max()) + self._surprise(now) - capacity
        for agent in self._order.tolist():
            if short <= 0.0:
                break
            quick = may[agent] and lead[agent] <= QUICK and not starting[agent]
            if ends[agent] or quick:
                ends[agent] = False
                starting[agent] |= quick
                short -= float(fleet.high[agent])
        self._announce(ends, now + HOUR)
        for agent in np.flatnonzero(starting).tolist():
            self._start(agent, float(lead[agent]), float(self._rules.cost[agent, kind[agent]]))

    def _announce(self, ends: Bools, time: float) -> None:
        """Stop units from ``time`` on, the most expensive first.

        One after another within an hour: the minima of many that stop at once would be more than
        the others can climb in an interval.
        """
        agents = self._order[ends[self._order]][::-1]
        if not agents.size:
            return
        slots = max(int(HOUR / self._spacing), 1)
        late = np.arange(agents.size) * slots // agents.size * self._spacing
        self.stop_at[agents] = time + late
        self.changed = True
        for agent, due in zip(agents.tolist(), self.stop_at[agents].tolist(), strict=True):
            self._calendar.at(due, _Stop(self, agent, due))

    def stop(self, agent: int, due: float) -> None:
        """A stop happens, unless a failure came first."""
        if self.stop_at[agent] != due:
            return
        self.on[agent] = False
        self.since[agent] = due
        self.stop_at[agent] = inf
        self.changed = True

    def _start(self, agent: int, hours: float, cost: float) -> None:
        now = self._calendar.now
        self.tally.starts += 1
        self.tally.start_cost += cost
        self.tally.interval_start_cost += cost
        self._ready[agent] = now + hours * HOUR
        self._calendar.at(self._ready[agent], _Ready(self, agent, self._ready[agent]))

    def ready(self, agent: int, due: float) -> None:
        """A start is complete, unless it was given up meanwhile."""
        if self._ready[agent] != due:
            return
        self._ready[agent] = inf
        self.on[agent] = True
        self.since[agent] = due
        self.changed = True


class _Hour(Wake):
    __slots__ = ("hour", "plant")

    def __init__(self, plant: Plant, hour: int) -> None:
        super().__init__([self._act])
        self.plant, self.hour = plant, hour

    def _act(self, _: Wake) -> None:
        self.plant.hour(self.hour)


class _Stop(Wake):
    __slots__ = ("agent", "due", "plant")

    def __init__(self, plant: Plant, agent: int, due: float) -> None:
        super().__init__([self._act])
        self.plant, self.agent, self.due = plant, agent, due

    def _act(self, _: Wake) -> None:
        self.plant.stop(self.agent, self.due)


class _Ready(Wake):
    __slots__ = ("agent", "due", "plant")

    def __init__(self, plant: Plant, agent: int, due: float) -> None:
        super().__init__([self._act])
        self.plant, self.agent, self.due = plant, agent, due

    def _act(self, _: Wake) -> None:
        self.plant.ready(self.agent, self.due)
