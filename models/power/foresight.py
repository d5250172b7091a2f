"""What an episode of the power simulator costs at least, whoever controls it.

Which units run, fail and start does not depend on set-points, so one run of the simulator with any
set-points tells what every controller of that seed will meet. The dispatch with perfect foresight
of it (``multiperiod_bound``) is a lower bound of the episode's cost; starts cost the same for all.

Weaker than the simulator in everything: a copper plate, no reserve, no imbalance, starts and stops
that reach any output. Around trips means differ from the ends that ramps tie together, so no ramp
is asked there; with set-points that come late or get lost, none at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...simulators.interface import Bools, Doubles
from ...simulators.power.dispatch import PowerSimulator
from ...simulators.power.regulation import lossy
from ...simulators.power.scenario import PowerScenario, Regulation
from ...simulators.power.system import System
from .agents import acting_units
from .multiperiod_bound import lower_bound
from .multiperiod_inputs import DispatchInputs, DispatchState, StorageEnd
from .multiperiod_program import Method


@dataclass(frozen=True, slots=True)
class EpisodeForesight:
    """Lower bound of ``cost_usd`` of an episode.

    Attributes:
        value: $, proven; the sum of the parts below.
        dispatch: $ of fuel, curtailment, shedding, surplus and stored energy.
        starts: $ of starts.
        power: ``[T, U]`` MW of the acting units in the dispatch behind the bound.
        status: always ``"optimal"``.
    """

    value: float
    dispatch: float
    starts: float
    power: Doubles
    status: str


@dataclass(frozen=True, slots=True)
class _Record:
    """An episode's units over time: ``top`` ``[T + 1, A]`` MW, ``tripped`` ``[T]``."""

    state: DispatchState
    top: Doubles
    tripped: Bools
    available: Doubles
    demand: Doubles
    starts: float


class Foresight:
    """Bounds of the episodes of a scenario.

    Args:
        scenario: its values.
        system: its grid and agents.
        method: ``"simplex"`` or ``"ipm"`` (interior point without crossover).
    """

    def __init__(
        self, scenario: PowerScenario, system: System, *, method: Method = "simplex"
    ) -> None:
        self._scenario, self._system = scenario, system
        self._method: Method = method
        # Frequency inside the intervals changes nothing that is recorded here.
        quiet = scenario.model_copy(update={"regulation": Regulation()})
        self._simulator = PowerSimulator(quiet, system)
        self._late = lossy(scenario.telemetry)

    def bound(self, seed: int) -> EpisodeForesight:
        """The bound of the episode of ``seed``.

        Raises:
            RuntimeError: the solver proved no optimum (status named).
        """
        record = self._record(seed)
        fleet = self._system.fleet
        units = int((fleet.unit >= 0).sum())
        top, after = record.top[:-1, :units], record.top[1:, :units]
        curtailed, thermal = fleet.curtailed[:units], fleet.thermal[:units]
        works, ends = top > 0.0, (top > 0.0) & (after <= 0.0)
        high = np.where(curtailed, record.available[:, :units] * works, top)
        # A unit that is gone at the end may have been so from the beginning of the interval.
        on = works & ~ends
        low = np.where(thermal & on, fleet.low[:units], 0.0)
        free = np.concatenate([[False], record.tripped[:-1]])
        grid = acting_units(self._system.grid, fleet)
        ramp = np.where(curtailed, np.inf, grid.units.ramp)
        stores = fleet.size - units
        found = lower_bound(
            replace(grid, units=replace(grid.units, ramp=ramp)),
            DispatchInputs(
                load=record.demand,
                low=np.minimum(low, high),
                high=high,
                # Units that may stand at 0 pay nothing there.
                on=on & (low > 0.0),
                end=StorageEnd.free(stores, fleet.stored_value),
                ramp_free=free | self._late,
            ),
            record.state,
            step=self._scenario.interval,
            prices=self._scenario.prices,
            method=self._method,
        )
        hours = self._scenario.interval / 3600.0
        # What a failed unit could still have given is nobody's waste.
        gone = float((high * (ends & curtailed)).sum()) * hours
        stored = fleet.stored_value * float(record.state.soc.sum())
        dispatch = found.value + stored - self._scenario.prices.curtailment * gone
        return EpisodeForesight(
            value=dispatch + record.starts,
            dispatch=dispatch,
            starts=record.starts,
            power=found.dispatch.power,
            status=found.status,
        )

    def _record(self, seed: int) -> _Record:
        """Play the episode, everybody staying as near as possible to the present output."""
        simulator = self._simulator
        observation = simulator.reset(seed)
        first = simulator.packing.unpack(observation.exogenous)
        units = int((self._system.fleet.unit >= 0).sum())
        state = DispatchState(first.power[:units].copy(), first.stored[units:].copy())
        top, tripped, trips, done = [first.top], list[bool](), 0.0, False
        while not done:
            still = observation.state.astype(np.float32)[:, None]
            step = simulator.step(np.clip(still, observation.low, observation.high))
            observation, done = step.observation, step.truncated
            top.append(simulator.packing.unpack(observation.exogenous).top)
            count = simulator.metrics()["unit_trips"]
            tripped.append(count > trips)
            trips = count
        day = simulator.day
        return _Record(
            state=state,
            top=np.array(top),
            tripped=np.array(tripped, dtype=np.bool_),
            available=day.available[: len(tripped)],
            demand=day.demand[: len(tripped)],
            starts=simulator.metrics()["cost_start_usd"],
        )
