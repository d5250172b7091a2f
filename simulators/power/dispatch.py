"""Economic dispatch and balancing of a grid in five-minute intervals: the power simulator.

It is a dispatch simulator, not a grid simulator: lossless DC flows, no voltages, no protection, no
dynamics apart from the optional frequency model (:mod:`.regulation`).

Every interval: agents set outputs inside the box that ramps, commitment, forecasts and stored
energy leave; the joint set-points are projected onto the forecast demand; units and branches fail,
start and stop as the calendar has it; the real demand arrives, regulation covers the difference,
and everything is priced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..actions import checked_set_points
from ..calendar import Calendar
from ..interface import Box, Doubles, Observation, Spec, Step
from ..streams import Streams
from .accounts import PARTS, Interval, Ledger, storage_change
from .balance import balance, relieve
from .commitment import needed, priority_list
from .costs import CostTable
from .day import Day
from .exogenous import Packing
from .failures import Failures, branch_hours
from .flows import Flows
from .limits import Limits
from .merit import MeritOrder
from .plant import HOUR, Plant, Rules
from .scenario import PowerScenario
from .settle import Settled, settle
from .system import Episode, System
from .view import BRANCHES, Sight, View

NORMAL = 0.6
"""Share of the firm capacity at which the normal hourly cost is taken."""


class PowerSimulator:
    """Implements ``Simulator``.

    Args:
        scenario: its values.
        system: grid, agents and days (:func:`.system.system_of`).
    """

    def __init__(self, scenario: PowerScenario, system: System) -> None:
        self._scenario, self._system = scenario, system
        fleet = self._fleet = system.fleet
        self._hours = scenario.interval / HOUR
        self._epochs = round(scenario.hours * HOUR / scenario.interval)
        self._flows = Flows(system, scenario)
        self._rules = Rules.of(fleet, system.grid.units)
        self._plant = Plant(fleet, self._rules, self._flows.topology)
        self._limits = Limits(fleet, scenario.interval)
        self._merit = MeritOrder(fleet)
        self._table = CostTable(fleet.curve)
        self._view = View(fleet, scenario.leads)
        self._ledger = Ledger(scenario.prices, self._hours)
        self._packing = system.packing(scenario.leads)
        self._idle = np.zeros(0, bool)
        self.normal = _normal_cost(system)
        firm = float(fleet.high[fleet.thermal].sum())
        self.stored_value = self.normal / (NORMAL * firm) if firm else 0.0
        self.spec = Spec(
            domain="power",
            scenario=str(getattr(scenario, "name", "power")),
            agents=fleet.size,
            groups=fleet.groups,
            group_of=fleet.group_of,
            agent_features=self._view.agent,
            candidate_features=(),
            critic_features=self._view.critic,
            state_size=fleet.size,
            action=Box(1),
            horizon=self._epochs,
            dt=scenario.interval,
        )

    @property
    def packing(self) -> Packing:
        """Layout of ``Observation.exogenous``."""
        return self._packing

    @property
    def day(self) -> Day:
        """Inputs of the running episode (perfect foresight reads them)."""
        return self._day

    def reset(self, seed: int) -> Observation:
        """A day of the scenario; see ``Simulator``."""
        system, fleet = self._system, self._fleet
        streams = Streams(seed)
        episode = system.episode(seed, self._epochs)
        self._day = episode.day
        self._calendar = Calendar()
        failed, branches_out = self._fail(streams)
        need = self._needed(episode)
        plan = episode.plan
        if plan is None:
            plan = priority_list(fleet, need=need, min_hours=self._rules.least, failed=failed)
        self._plant.begin(
            self._calendar,
            plan=plan,
            need=need,
            surprise=lambda now: self._surprise(now, episode.net_load),
            failed=failed,
            branches_out=branches_out,
        )
        self._calendar.run_until(0.0)
        self._epoch = 0
        self._stored = fleet.initial.copy()
        self._flows.begin(self._day)
        self._ledger.reset()
        self._last = Settled(np.zeros(0), np.zeros(0), 0.0, 0.0, 0.0, 0.0)
        self._power = self._first_dispatch()
        self._fuel = float(self._table.cost(self._power, self._plant.on).sum()) * self._hours
        self._flows.update(0, self._power)
        self._reserve_left = 1.0
        return self._look()

    def step(self, actions: NDArray[np.generic]) -> Step:
        """One interval; see ``Simulator``."""
        wanted = checked_set_points(self.spec, self._seen, actions)[:, 0].astype(np.float64)
        epoch, day, low, high = self._epoch, self._day, self._low, self._high
        np.clip(wanted, low, high, out=wanted)
        part = self._limits.participation(low, high)
        balanced = balance(wanted, low, high, part, float(day.expected_demand[epoch, 0]))
        point = balanced.power
        if self._scenario.projection == "network" and self._flows.limited:
            point = self._relieved(point, low, high, part)
        before = self._power
        tally = self._plant.tally
        tally.tripped.clear()
        tally.interval_start_cost = 0.0
        self._calendar.run_until((epoch + 1) * self._scenario.interval)
        settled = settle(
            point,
            low,
            high,
            curtailed=self._fleet.curtailed,
            available=self._limits.real(day.available[epoch]),
            demand=float(day.demand[epoch]),
            tripped=[
                (agent, time / self._scenario.interval - epoch) for agent, time in tally.tripped
            ],
        )
        return self._close(settled, wanted, point, before, balanced.missing)

    def metrics(self) -> dict[str, float]:
        """Figures of the episode so far, in $, MWh and MW."""
        tally = self._plant.tally
        return {
            **self._ledger.metrics(),
            "starts": float(tally.starts),
            "unit_trips": float(tally.trips),
            "branch_outages": float(tally.branch_outages),
            "splitting_outages_refused": float(tally.splits_refused),
            "stored_mwh": float(self._stored[self._fleet.store].sum()),
        }

    # -- an interval --------------------------------------------------------------------------

    def _close(
        self, settled: Settled, wanted: Doubles, point: Doubles, before: Doubles, missing: float
    ) -> Step:
        """Price the interval, move on, and look again."""
        fleet, day, epoch, hours = self._fleet, self._day, self._epoch, self._hours
        running = settled.mean > 0.0
        own = self._table.cost(settled.mean, running)
        own *= ~fleet.store
        own *= hours
        change = storage_change(settled.mean, fleet.efficiency, hours)
        change *= fleet.store
        stored = np.clip(self._stored + change, 0.0, fleet.energy)
        storage = self.stored_value * float((self._stored - stored).sum())
        self._stored = stored
        self._power = settled.power
        self._flows.update(epoch, settled.power)
        reserve_short = self._reserve(float(day.reserve[epoch]))
        demand = float(day.demand[epoch])
        self._fuel = float(own.sum())
        seen = Interval(
            shed=settled.shed,
            surplus=settled.surplus,
            curtailed=settled.curtailed,
            available=float(day.available[epoch].sum()),
            overload=self._flows.overload,
            overloaded=self._flows.overloaded,
            moved=abs(settled.moved),
            reserve_short=reserve_short,
            projected=float(np.abs(point - wanted).sum()),
            ramped=float(np.abs(settled.power - before).sum()),
            residual=float(settled.mean.sum()) + settled.shed - settled.surplus - demand,
            demand=demand,
            price=self._price,
            missing=max(missing, 0.0),
        )
        start = self._plant.tally.interval_start_cost
        costs = self._ledger.price(self._fuel, start, storage, seen)
        scale = -1.0 / (self.normal * hours)
        reward = costs.total * scale
        shared = (costs.total - self._fuel) * scale
        self._last = settled
        self._epoch += 1
        done = self._epoch >= self._epochs
        return Step(
            observation=self._look(),
            reward=reward,
            local_reward=own * (scale * fleet.size) + shared,
            components={part: getattr(costs, part) * scale for part in PARTS},
            terminated=False,
            truncated=done,
        )

    def _relieved(self, point: Doubles, low: Doubles, high: Doubles, part: Doubles) -> Doubles:
        rows, excess = self._flows.expected_overload(self._epoch, point)
        if not (excess > 0.0).any():
            return point
        return relieve(point, low, high, part, rows, excess)

    def _reserve(self, required: float) -> float:
        """MW of spinning reserve that is missing."""
        if required <= 0.0:
            self._reserve_left = 1.0
            return 0.0
        left = self._limits.spinning(self._power, self._plant.on)
        self._reserve_left = left / required - 1.0
        return max(0.0, required - left)

    # -- what is seen -------------------------------------------------------------------------

    def _look(self) -> Observation:
        """The observation of the present epoch, and the box that goes with it."""
        fleet, plant, day = self._fleet, self._plant, self._day
        epoch = min(self._epoch, self._epochs - 1)
        now = self._epoch * self._scenario.interval
        if plant.changed:
            self._limits.changed(plant)
            plant.changed = False
            self._merit.commit(plant.on & ~plant.failed & ~fleet.curtailed, fleet.high)
        low, high = self._limits.box(self._power, self._stored, day.expected_available[epoch], now)
        box_low, box_high = low.astype(np.float32)[:, None], high.astype(np.float32)[:, None]
        # What is announced in float32 is what holds.
        low, high = box_low[:, 0].astype(np.float64), box_high[:, 0].astype(np.float64)
        self._low, self._high = low, high
        demand = float(day.expected_demand[epoch, 0])
        merit = self._merit.within(low, high, demand)
        self._price = merit.price
        local = self._flows.local_price(merit.price)
        sight = self._sight(epoch, now, demand, merit.width, local)
        agent, critic = self._view.see(sight)
        self._seen = Observation(
            agent=agent,
            candidates=np.zeros((fleet.size, 0, 0), np.float32),
            target=np.zeros((fleet.size, 0), np.int64),
            mask=np.zeros((fleet.size, 0), bool),
            low=box_low,
            high=box_high,
            active=high > low,
            critic=critic,
            state=self._power.copy(),
            exogenous=self._packing.pack(
                (
                    self._power,
                    low,
                    high,
                    self._limits.top,
                    self._limits.stop_in(now),
                    self._stored,
                    day.reserve[epoch : epoch + 1],
                    day.expected_load[epoch],
                    day.expected_series[epoch],
                    self._flows.closed,
                )
            ),
            time=now,
        )
        return self._seen

    def _sight(
        self, epoch: int, now: float, demand: float, width: Doubles, local: Doubles
    ) -> Sight:
        fleet, plant, day, leads = self._fleet, self._plant, self._day, self._view.leads
        low, high = self._low, self._high
        span = high - low
        scale = np.divide(1.0, span, out=np.zeros(fleet.size), where=span > 0.0)
        response = (self._merit.response(low, width, local) - low) * scale
        merit = (self._merit.dispatch(low, width, demand) - low) * scale
        response[fleet.store] = merit[fleet.store] = self._rest(low, scale)
        net = self._net_ahead(epoch)
        there = day.expected_demand[epoch] - self._last_demand()
        marginal = self._table.marginal(self._power)
        fuel = self._fuel / self._hours + self._price * (demand - self._last_demand())
        loading, effect = self._flows.most_loaded(BRANCHES)
        return Sight(
            power=self._power,
            low=low,
            high=high,
            on=(plant.on & ~plant.failed).astype(np.float64),
            hours=(now - plant.since) / HOUR,
            stored=self._stored / np.maximum(fleet.energy, 1e-9),
            marginal=marginal,
            top_cost=self._table.slope[:, -1],
            merit=merit,
            response=response,
            local_price=local,
            price=self._price,
            prices_ahead=self._merit.ahead(net[leads]),
            demand=demand,
            demand_change=float(there[0]),
            changes=there[leads],
            renewable=float(day.expected_renewable[epoch, 0]),
            merit_cost=fuel / self.normal,
            imbalance=self._last.moved,
            reserve_left=self._reserve_left,
            loading=loading,
            effect=effect,
            overload=self._flows.overload,
            failed=float(plant.failed @ fleet.high),
            branches_out=self._flows.out,
            hour=self._hour_of_day(now),
        )

    def _rest(self, low: Doubles, scale: Doubles) -> Doubles:
        """Shares of the box at which storages rest."""
        return (-low * scale)[self._fleet.store]

    def _last_demand(self) -> float:
        return float(self._day.demand[self._epoch - 1]) if self._epoch else float(self._power.sum())

    def _hour_of_day(self, now: float) -> float:
        start = self._day.start - self._day.start.astype("datetime64[D]")
        return (float(start / np.timedelta64(1, "s")) + now) / HOUR % 24.0

    # -- the start of an episode --------------------------------------------------------------

    def _first_dispatch(self) -> Doubles:
        """Merit order at the first interval's demand, without ramps."""
        fleet, plant, day = self._fleet, self._plant, self._day
        self._limits.changed(plant)
        plant.changed = True
        available = self._limits.real(day.available[0])
        low = np.where(fleet.thermal & (self._limits.top > 0.0), fleet.low, 0.0)
        high = np.where(fleet.curtailed, available, np.where(fleet.store, 0.0, self._limits.top))
        low = np.minimum(low, high)
        width = self._merit.within(low, high, float(day.demand[0])).width
        return self._merit.dispatch(low, width, float(day.demand[0]))

    def _needed(self, episode: Episode) -> Doubles:
        """Capacity to be on in every hour; the first hours are seen as they are by now."""
        scenario, net = self._scenario, episode.net_load.copy()
        soon = float(self._net_ahead(0).max())
        net[:2] = np.maximum(net[:2], soon)
        margins = (scenario.reserve_margin, scenario.renewable_margin)
        return needed(net, episode.renewable, episode.reserve, margins=margins)

    def _surprise(self, now: float, planned: Doubles) -> float:
        """MW by which the net load of the coming hour is expected above the day-ahead one."""
        epoch = min(round(now / self._scenario.interval), self._epochs - 1)
        hour = min(int(now / HOUR), planned.size - 1)
        return max(float(self._net_ahead(epoch).max()) - float(planned[hour : hour + 2].max()), 0.0)

    def _net_ahead(self, epoch: int) -> Doubles:
        return self._day.expected_demand[epoch] - self._day.expected_renewable[epoch]

    def _fail(self, streams: Streams) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Start the failure processes; units and branches that are out already."""
        outages, units = self._scenario.outages, self._system.grid.units
        failed = np.zeros(self._fleet.size, bool)
        out = np.zeros(0, np.int64)
        own = np.flatnonzero(self._fleet.unit >= 0)
        if outages.units:
            unit = self._fleet.unit[own]
            self._unit_failures = Failures(
                self._calendar,
                up_hours=units.mttf[unit] / outages.scale,
                down_hours=units.mttr[unit],
                rng=streams.generator("unit failures"),
                on_change=lambda item, up: self._plant.unit_changed(int(own[item]), up=up),
                begun=True,
            )
            failed[own] = ~self._unit_failures.up
        if outages.branches and self._flows.topology is not None:
            table = self._system.grid.branches
            up_hours, down_hours = branch_hours(
                table.outage_rate * outages.scale, table.outage_hours
            )
            self._branch_failures = Failures(
                self._calendar,
                up_hours=up_hours,
                down_hours=down_hours,
                rng=streams.generator("branch failures"),
                on_change=lambda item, up: self._plant.branch_changed(item, up=up),
                begun=True,
            )
            out = np.flatnonzero(~self._branch_failures.up)
        return failed, out


def _normal_cost(system: System) -> float:
    """$/h of meeting :data:`NORMAL` of the firm capacity with the cheapest units at full output."""
    fleet = system.fleet
    thermal = np.flatnonzero(fleet.thermal)
    full = fleet.curve.cost[thermal, -1]
    order = np.argsort(full / np.maximum(fleet.high[thermal], 1e-9), kind="stable")
    capacity = fleet.high[thermal][order].cumsum()
    taken = int(capacity.searchsorted(NORMAL * capacity[-1])) + 1 if capacity.size else 0
    return max(float(full[order][:taken].sum()), 1.0)
