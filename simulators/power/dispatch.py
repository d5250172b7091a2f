"""Economic dispatch and balancing of a grid in five-minute intervals: the power simulator.

It is a dispatch simulator, not a grid simulator: lossless DC flows, no voltages, no protection, no
dynamics apart from the optional frequency model.

Every interval: agents set outputs inside the box that ramps, commitment, forecasts and stored
energy leave; the joint set-points are projected onto the forecast demand; units and branches fail,
start and stop as the calendar has it; the real demand arrives, regulation covers the difference,
and everything is priced.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..actions import checked_set_points
from ..calendar import Calendar
from ..interface import Bools, Box, Doubles, Ints, Observation, Spec, Step
from ..streams import Streams
from .accounts import PARTS, Interval, Ledger
from .balance import balance, within_limits
from .commitment import needed, priority_list
from .costs import CostTable
from .day import Day
from .exogenous import Packing
from .failures import Failures, branch_hours
from .flows import Flows
from .limits import Limits
from .observer import Observer, Present
from .plant import HOUR, Plant, Rules
from .regulation import Line, Regulator, Situation, lossy
from .scenario import PowerScenario
from .settle import Settled, settle
from .system import Episode, System


class PowerSimulator:
    """Implements ``Simulator``.

    Args:
        scenario: its values.
        system: grid, agents and days (:func:`.system.system_of`).
        features: compute what agents and the critic observe; without, those arrays are 0, for runs
            whose set-points come from elsewhere.
    """

    def __init__(self, scenario: PowerScenario, system: System, *, features: bool = True) -> None:
        self._scenario, self._system = scenario, system
        fleet = self._fleet = system.fleet
        self._hours = scenario.interval / HOUR
        self._epochs = round(scenario.hours * HOUR / scenario.interval)
        self._flows = Flows(system, scenario)
        self._rules = Rules.of(fleet, system.grid.units)
        self._plant = Plant(fleet, self._rules, self._flows.topology, spacing=scenario.interval)
        self._limits = Limits(fleet, scenario.interval)
        self._table = CostTable(fleet.curve)
        self._observer = Observer(
            scenario,
            system,
            plant=self._plant,
            limits=self._limits,
            flows=self._flows,
            table=self._table,
            features=features,
        )
        self._ledger = Ledger(scenario.prices, self._hours)
        self._line: Line | None = None
        self._regulator = (
            Regulator(scenario.regulation, fleet, system.grid.units, interval=scenario.interval)
            if scenario.regulation.simulated
            else None
        )
        self.spec = Spec(
            domain="power",
            scenario=str(getattr(scenario, "name", "power")),
            agents=fleet.size,
            groups=fleet.groups,
            group_of=fleet.group_of,
            agent_features=self._observer.view.agent,
            candidate_features=(),
            critic_features=self._observer.view.critic,
            state_size=fleet.size,
            action=Box(1, base=("response",)),
            horizon=self._epochs,
            dt=scenario.interval,
        )

    @property
    def packing(self) -> Packing:
        """Layout of ``Observation.exogenous``."""
        return self._observer.packing

    @property
    def day(self) -> Day:
        """Inputs of the running episode (perfect foresight reads them)."""
        return self._day

    def reset(self, seed: int) -> Observation:
        """A day of the scenario; see ``Simulator``."""
        streams = Streams(seed)
        episode = self._system.episode(seed, self._epochs)
        self._day = episode.day
        self._calendar = Calendar()
        self._begin_plant(episode, streams)
        self._calendar.run_until(0.0)
        self._flows.begin(self._day)
        self._observer.begin(self._day)
        self._ledger.reset()
        self._begin_control(streams)
        power = self._first_dispatch()
        self._flows.update(0, power)
        self._now = Present(
            epoch=0,
            power=power,
            stored=self._fleet.initial.copy(),
            demand=float(power.sum()),
            fuel=float(self._own_cost(power).sum()),
            moved=0.0,
            reserve_left=1.0,
        )
        return self._look()

    def step(self, actions: NDArray[np.generic]) -> Step:
        """One interval; see ``Simulator``."""
        wanted = checked_set_points(self.spec, self._seen, actions)[:, 0].astype(np.float64)
        epoch, day, low, high = self._now.epoch, self._day, self._low, self._high
        part = self._limits.participation(low, high)
        balanced = balance(wanted, low, high, part, float(day.expected_demand[epoch, 0]))
        point = balanced.power
        if self._scenario.projection == "network" and self._flows.limited:
            point = self._relieved(point, low, high, part)
        projected = float(np.abs(point - wanted).sum())
        average = None
        if self._line is not None:
            point, average = self._line.send(point, self._now.power, low, high)
        tally = self._plant.tally
        tally.tripped.clear()
        tally.interval_start_cost = 0.0
        self._calendar.run_until((epoch + 1) * self._scenario.interval)
        return self._close(self._happen(point, average), projected, balanced.missing)

    def metrics(self) -> dict[str, float]:
        """Figures of the episode so far, in $, MWh and MW."""
        tally = self._plant.tally
        return {
            **self._ledger.metrics(),
            "starts": float(tally.starts),
            "unit_trips": float(tally.trips),
            "branch_outages": float(tally.branch_outages),
            "splitting_outages_refused": float(tally.splits_refused),
            "stored_mwh": float(self._now.stored[self._fleet.store].sum()),
            **({} if self._regulator is None else self._regulator.metrics()),
            **({} if self._line is None else {"set_points_lost": float(self._line.lost)}),
        }

    # -- an interval --------------------------------------------------------------------------

    def _happen(self, point: Doubles, average: Doubles | None) -> Settled:
        """What comes of set-points ``point`` (on the interval's average ``average``)."""
        epoch, day, low, high = self._now.epoch, self._day, self._low, self._high
        available = self._limits.real(day.available[epoch])
        interval = self._scenario.interval
        tripped = [(agent, time / interval - epoch) for agent, time in self._plant.tally.tripped]
        demand = float(day.demand[epoch])

        def settled(served: float) -> Settled:
            return settle(
                point,
                low,
                high,
                curtailed=self._fleet.curtailed,
                available=available,
                demand=served,
                tripped=tripped,
                average=average,
            )

        happened = settled(demand)
        if self._regulator is None:
            return happened
        shed = self._regulator.interval(
            Situation(
                point=point,
                low=low,
                high=high,
                available=available,
                top=self._limits.top,
                tripped=tripped,
                moved=happened.moved,
                demand=demand,
            )
        )
        if shed > 0.0:
            # Load that frequency relays cut off need not be met.
            happened = settled(demand - shed)
            happened = replace(happened, shed=happened.shed + shed)
        return happened

    def _close(self, settled: Settled, projected: float, missing: float) -> Step:
        """Price the interval, move on, and look again."""
        fleet, day, now, hours = self._fleet, self._day, self._now, self._hours
        own = self._own_cost(settled.mean) * hours
        stored, taken = self._limits.charged(now.stored, settled.mean)
        self._flows.update(now.epoch, settled.power)
        reserve_left, reserve_short = self._reserve(
            settled.power, stored, float(day.reserve[now.epoch])
        )
        demand, fuel = float(day.demand[now.epoch]), float(own.sum())
        seen = Interval(
            shed=settled.shed,
            surplus=settled.surplus,
            curtailed=settled.curtailed,
            available=float(day.renewable[now.epoch]),
            overload=self._flows.overload,
            overloaded=self._flows.overloaded,
            moved=abs(settled.moved),
            reserve_short=reserve_short,
            projected=projected,
            ramped=float(np.abs(settled.power - now.power).sum()),
            residual=float(settled.mean.sum()) + settled.shed - settled.surplus - demand,
            demand=demand,
            price=self._price,
            missing=max(missing, 0.0),
            tripped=len(self._plant.tally.tripped),
            reserve_left=reserve_left,
        )
        costs = self._ledger.price(
            fuel, self._plant.tally.interval_start_cost, fleet.stored_value * taken, seen
        )
        scale = -1.0 / (fleet.normal * hours)
        self._now = Present(
            epoch=now.epoch + 1,
            power=settled.power,
            stored=stored,
            demand=demand,
            fuel=fuel / hours,
            moved=settled.moved,
            reserve_left=reserve_left,
        )
        return Step(
            observation=self._look(),
            reward=costs.total * scale,
            local_reward=own * (scale * fleet.size) + (costs.total - fuel) * scale,
            components={part: cost * scale for part, cost in zip(PARTS, costs, strict=True)},
            terminated=False,
            truncated=self._now.epoch >= self._epochs,
        )

    def _own_cost(self, power: Doubles) -> Doubles:
        """``[A]`` $/h of production; storages' energy is accounted for apart."""
        return self._table.cost(power, power > 0.0) * ~self._fleet.store

    def _relieved(self, point: Doubles, low: Doubles, high: Doubles, part: Doubles) -> Doubles:
        lines = self._flows.expected(self._now.epoch)
        return point if lines is None else within_limits(point, low, high, part, lines)

    def _reserve(self, power: Doubles, stored: Doubles, required: float) -> tuple[float, float]:
        """Spinning reserve above the requirement as a share of it, and MW that are missing."""
        if required <= 0.0:
            return 1.0, 0.0
        left = self._limits.spinning(power, stored, self._plant.on)
        return left / required - 1.0, max(0.0, required - left)

    def _look(self) -> Observation:
        look = self._observer.look(self._now)
        self._low, self._high, self._price = look.low, look.high, look.price
        self._seen = look.observation
        return look.observation

    # -- the start of an episode --------------------------------------------------------------

    def _begin_control(self, streams: Streams) -> None:
        scenario = self._scenario
        if self._regulator is not None:
            self._regulator.begin()
        if lossy(scenario.telemetry):
            self._line = Line(
                scenario.telemetry,
                self._fleet.size,
                interval=scenario.interval,
                rng=streams.generator("telemetry"),
            )

    def _begin_plant(self, episode: Episode, streams: Streams) -> None:
        """Failures, the plan of the day, and the units as they are at its start."""
        failed, branches_out = self._fail(streams)
        need = self._needed(episode)
        plan = episode.plan
        if plan is None:
            plan = priority_list(self._fleet, need=need, min_hours=self._rules.least, failed=failed)
        self._plant.begin(
            self._calendar,
            plan=plan,
            need=need,
            surprise=lambda now: self._surprise(now, episode.net_load),
            failed=failed,
            branches_out=branches_out,
        )

    def _first_dispatch(self) -> Doubles:
        """Merit order at the first interval's demand, without ramps."""
        fleet, plant, day = self._fleet, self._plant, self._day
        self._limits.changed(plant)
        available = self._limits.real(day.available[0])
        low = np.where(fleet.thermal & (self._limits.top > 0.0), fleet.low, 0.0)
        high = np.where(fleet.curtailed, available, np.where(fleet.store, 0.0, self._limits.top))
        low = np.minimum(low, high)
        merit = self._observer.merit
        width = merit.within(low, high, float(day.demand[0])).width
        return merit.dispatch(low, width, float(day.demand[0]))

    def _needed(self, episode: Episode) -> Doubles:
        """Capacity to be on in every hour; the first hours are seen as they are by now."""
        scenario, net = self._scenario, episode.net_load.copy()
        net[:2] = np.maximum(net[:2], float(self._net_ahead(0).max()))
        margins = (scenario.reserve_margin, scenario.renewable_margin)
        return needed(net, episode.renewable, episode.reserve, margins=margins)

    def _surprise(self, now: float, planned: Doubles) -> float:
        """MW by which the net load of the coming hour is expected above the day-ahead one."""
        epoch = min(round(now / self._scenario.interval), self._epochs - 1)
        hour = min(int(now / HOUR), planned.size - 1)
        return max(float(self._net_ahead(epoch).max()) - float(planned[hour : hour + 2].max()), 0.0)

    def _net_ahead(self, epoch: int) -> Doubles:
        return self._day.expected_demand[epoch] - self._day.expected_renewable[epoch]

    def _fail(self, streams: Streams) -> tuple[Bools, Ints]:
        """Start the failure processes; units and branches that are out already."""
        outages, units = self._scenario.outages, self._system.grid.units
        failed = np.zeros(self._fleet.size, bool)
        out = np.zeros(0, np.int64)
        own = np.flatnonzero(self._fleet.unit >= 0)
        if outages.units:
            unit = self._fleet.unit[own]
            process = Failures(
                self._calendar,
                up_hours=units.mttf[unit] / outages.scale,
                down_hours=units.mttr[unit],
                rng=streams.generator("unit failures"),
                on_change=lambda item, up: self._plant.unit_changed(int(own[item]), up=up),
                begun=True,
            )
            failed[own] = ~process.up
        if outages.branches and self._flows.topology is not None:
            table = self._system.grid.branches
            up_hours, down_hours = branch_hours(
                table.outage_rate * outages.scale, table.outage_hours
            )
            process = Failures(
                self._calendar,
                up_hours=up_hours,
                down_hours=down_hours,
                rng=streams.generator("branch failures"),
                on_change=lambda item, up: self._plant.branch_changed(item, up=up),
                begun=True,
            )
            out = np.flatnonzero(~process.up)
        return failed, out
