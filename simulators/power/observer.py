"""From the state of a power system to what is observed of it, and the box that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Observation
from .costs import CostTable
from .day import Day
from .flows import Flows
from .limits import Limits
from .merit import MeritOrder
from .nodal import Indication, NodalPrices
from .plant import HOUR, Plant
from .scenario import PowerScenario
from .system import System
from .view import BRANCHES, Sight, View


@dataclass(slots=True)
class Present:
    """What the last interval left.

    Attributes:
        epoch: of the coming interval.
        power: ``[A]`` MW; stored: ``[A]`` MWh.
        demand: MW of the last interval.
        fuel: $/h at these outputs.
        moved: MW that regulation moved.
        reserve_left: spinning reserve above the requirement, as a share of it.
    """

    epoch: int
    power: Doubles
    stored: Doubles
    demand: float
    fuel: float
    moved: float
    reserve_left: float


@dataclass(frozen=True, slots=True)
class Look:
    """An observation, and the numbers behind it: the box ``[A]`` and the indicative price."""

    observation: Observation
    low: Doubles
    high: Doubles
    price: float


class Observer:
    """Looks at a system; ``limits`` and ``merit`` follow the plant when it has changed.

    Without ``features`` nobody learns or follows a price: those arrays and the price stay 0, which
    takes less than half the time.
    """

    def __init__(
        self,
        scenario: PowerScenario,
        system: System,
        *,
        plant: Plant,
        limits: Limits,
        flows: Flows,
        table: CostTable,
        features: bool = True,
    ) -> None:
        self._fleet, self._interval = system.fleet, scenario.interval
        self._plant, self._limits, self._flows, self._table = plant, limits, flows, table
        self.merit = MeritOrder(self._fleet)
        self._features = features
        self._nodal = NodalPrices(self._fleet, self.merit, cap=scenario.prices.overload)
        self.view = View(self._fleet, scenario.leads)
        self.packing = system.packing(scenario.leads)
        size = self._fleet.size
        self._unseen = (
            np.zeros((size, len(self.view.agent)), np.float32),
            np.zeros(len(self.view.critic), np.float32),
        )
        self._top_cost = np.ascontiguousarray(table.slope[:, -1])
        self._energy = np.maximum(self._fleet.energy, 1e-9)
        self._nothing = (
            np.zeros((size, 0, 0), np.float32),
            np.zeros((size, 0), np.int64),
            np.zeros((size, 0), bool),
        )

    def begin(self, day: Day) -> None:
        """A new episode."""
        self._day = day
        self._start = float(
            (day.start - day.start.astype("datetime64[D]")) / np.timedelta64(1, "s")
        )
        self._nodal.begin(self._flows.closed.size)

    def look(self, present: Present) -> Look:
        """The observation of the coming interval (after the last one: of that again)."""
        day, plant = self._day, self._plant
        epoch = min(present.epoch, day.demand.size - 1)
        now = present.epoch * self._interval
        if plant.changed:
            self._limits.changed(plant)
            plant.changed = False
            runs = plant.on & ~plant.failed & ~self._fleet.curtailed
            self.merit.commit(runs, self._fleet.high)
        low, high = self._limits.box(
            present.power, present.stored, day.expected_available[epoch], now
        )
        box_low, box_high = low.astype(np.float32)[:, None], high.astype(np.float32)[:, None]
        # What is announced in float32 is what holds.
        low, high = box_low[:, 0].astype(np.float64), box_high[:, 0].astype(np.float64)
        demand = float(day.expected_demand[epoch, 0])
        agent, critic = self._unseen
        price = 0.0
        if self._features:
            merit = self.merit.within(low, high, demand)
            price = merit.price
            point = self.merit.dispatch(low, merit.width, demand)
            lines = self._flows.expected(epoch)
            seen = self._nodal.indicate(merit, point, low, high, demand, lines)
            agent, critic = self.view.see(self._sight(present, epoch, low, high, point, seen))
        candidates, target, mask = self._nothing
        observation = Observation(
            agent=agent,
            candidates=candidates,
            target=target,
            mask=mask,
            low=box_low,
            high=box_high,
            active=high > low,
            critic=critic,
            state=present.power.copy(),
            exogenous=self.packing.pack(
                (
                    present.power,
                    low,
                    high,
                    self._limits.top,
                    self._limits.stop_in(now),
                    present.stored,
                    day.reserve[epoch : epoch + 1],
                    day.expected_load[epoch],
                    day.expected_series[epoch],
                    self._flows.closed,
                )
            ),
            time=now,
        )
        return Look(observation, low, high, price)

    def _sight(
        self,
        present: Present,
        epoch: int,
        low: Doubles,
        high: Doubles,
        point: Doubles,
        seen: Indication,
    ) -> Sight:
        fleet, plant, day, leads = self._fleet, self._plant, self._day, self.view.leads
        now = present.epoch * self._interval
        span = high - low
        # Where the box has no width the differences below are 0 as well.
        scale = 1.0 / np.maximum(span, 1e-9)
        expected = day.expected_demand[epoch]
        change = expected - present.demand
        net = expected[leads] - day.expected_renewable[epoch, leads]
        loading, effect = self._flows.most_loaded(BRANCHES)
        return Sight(
            power=present.power,
            low=low,
            high=high,
            on=(plant.on & ~plant.failed).astype(np.float64),
            hours=(now - plant.since) / HOUR,
            stored=present.stored / self._energy,
            marginal=self._table.marginal(present.power),
            top_cost=self._top_cost,
            merit=(point - low) * scale,
            response=(seen.response - low) * scale,
            local_price=seen.local,
            price=seen.price,
            prices_ahead=self.merit.ahead(net),
            demand=float(expected[0]),
            demand_change=float(change[0]),
            changes=change[leads],
            renewable=float(day.expected_renewable[epoch, 0]),
            merit_cost=(present.fuel + seen.price * float(change[0])) / fleet.normal,
            imbalance=present.moved,
            reserve_left=present.reserve_left,
            loading=loading,
            effect=effect,
            overload=self._flows.overload,
            failed=float(plant.failed @ fleet.high),
            branches_out=self._flows.out,
            hour=(self._start + now) / HOUR % 24.0,
        )
