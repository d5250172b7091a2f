"""Traffic signals under decentralised control: our streets behind the simulator's contract."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..actions import checked_choices
from ..calendar import Calendar
from ..interface import Bools, Doubles, Ints, Observation, Spec, Step
from ..streams import Streams
from .accounts import Accounts
from .detectors import Detectors
from .episode import speed_factors, varied
from .field_control import FieldControl, Plan
from .observer import Observer
from .streets import Streets
from .timing import Timing
from .town import Town


class TrafficSimulator:
    """Implements ``Simulator`` and ``LocallyControlled`` for all traffic scenarios.

    Every ``interval`` seconds each signal keeps its green phase or asks for another one; the timing
    layer puts yellow between, or decides itself (see :mod:`.timing`). The reward is minus the delay
    that accrues, over the expected vehicles: the return is minus the mean delay in s, but for what
    braking and slow turns cost.
    """

    def __init__(self, town: Town) -> None:
        self.town, self.scenario = town, town.scenario
        self._observer = Observer(town)
        self._detectors = Detectors(town.layout, interval=self.scenario.interval)
        self._expected = max(
            float((town.demand.depart < self.scenario.seconds).sum()) * self.scenario.scale, 1.0
        )
        self._epoch = -1
        self._plan: Plan | None = None
        self._control: FieldControl | None = None

    @property
    def spec(self) -> Spec:
        return self._observer.spec

    def use_local(self, plan: str) -> None:
        """From the next ``reset`` on: a plan of :data:`.plans.PLANS`, or ``""`` for the agents.

        Raises:
            ValueError: unknown plan, or a signal without a programme for it.
        """
        self._plan = Plan(self.town, plan) if plan else None

    def reset(self, seed: int) -> Observation:
        """Start an episode; every random draw derives from ``seed``."""
        streams, scenario, town = Streams(seed), self.scenario, self.town
        demand = varied(town.demand, scenario, streams)
        self._calendar = Calendar()
        self.streets = Streets(town.layout, demand, speed_factors(demand, streams), self._calendar)
        self._accounts = Accounts(self.streets, owner=town.owner, agents=self.spec.agents)
        self.timing = Timing(town.network.signals, scenario.timing, interval=scenario.interval)
        for at, signal in enumerate(town.network.signals):
            self.streets.show(at, signal.greens[0])
        self._control = self._plan.start(self.streets, self.timing) if self._plan else None
        self._epoch = 0
        self._last = self._observe()
        return self._last

    def step(self, actions: NDArray[np.generic]) -> Step:
        """Give all signals their next phase and run to the next decision.

        Raises:
            ValueError: wrong shape, or an illegal candidate (names agent and value).
            RuntimeError: before ``reset`` or after the end of the episode.
        """
        if not 0 <= self._epoch < self.spec.horizon:
            raise RuntimeError("reset the simulator before stepping it")
        chosen = checked_choices(self.spec, self._last, actions)
        self._epoch += 1
        until = self._epoch * self.scenario.interval
        if self._control is not None:
            self._accounts.switches += self._control.advance(until)
        else:
            self._order(chosen)
        self._calendar.run_until(until)
        self._accounts.watch()
        accrued = self._accounts.accrued()
        self._last = self._observe()
        return self._settle(accrued)

    def _order(self, chosen: Ints) -> None:
        """Give all signals the phases that the agents chose."""
        wanted = self._observer.wanted(self._last, chosen, self.timing)
        changes = self.timing.order(self._calendar.now, wanted, self._waiting)
        self._accounts.switches += len({change.signal for change in changes})
        for change in changes:
            if change.time > self._calendar.now:
                self._calendar.run_until(change.time)
            self.streets.show(change.signal, change.state)

    def metrics(self) -> dict[str, float]:
        """The episode so far; see ``Accounts.metrics``."""
        if self._epoch < 0:
            raise RuntimeError("reset the simulator before asking for metrics")
        return self._accounts.metrics()

    def _settle(self, accrued: Doubles) -> Step:
        agents = self.spec.agents
        own = -accrued[:agents] / self._expected
        common = -float(accrued[agents]) / self._expected
        reward = float(own.sum()) + common
        return Step(
            observation=self._last,
            reward=reward,
            local_reward=own * agents + common,
            components={"signals": float(own.sum()), "elsewhere": common},
            terminated=False,
            truncated=self._epoch >= self.spec.horizon,
        )

    def _observe(self) -> Observation:
        readings = self._detectors.read(self.streets)
        streets = self.streets
        if self.scenario.timing.clear_inside:
            self.timing.inside = streets.waiting_for_gaps()
        observation, self._waiting = self._observer.observe(
            readings,
            self.timing,
            driving=streets.driving(),
            outside=streets.outside(),
            epoch=self._epoch,
            local=self._control is not None,
        )
        most = float(readings.queue.max(initial=0.0))
        self._accounts.longest_queue = max(self._accounts.longest_queue, most)
        return observation

    _waiting: Bools
