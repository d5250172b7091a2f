"""Agents of a grid: limits and curves that agree, batteries and flexible loads among them."""

from dataclasses import replace

import numpy as np
import pytest
from power_data import needed
from power_small import small_grid
from power_toys import Record, column, share, toy

from fairlead.simulators.power.fleet import fleet_of, from_zero, with_stores
from fairlead.simulators.power.grid import Curves, check_grid
from fairlead.simulators.power.scenario import (
    ActivsgScenario,
    CaliforniaScenario,
    GeneratedScenario,
    RtsScenario,
)
from fairlead.simulators.power.system import system_of


def pinned(low=30.0):
    """A thermal unit, and wind whose data have it between ``low`` and 30 MW."""
    grid = small_grid(
        [{"slopes": (20.0,), "ramp": 20.0}, {"renewable": True, "low": low, "high": 30.0}],
        loads=(60.0,),
    )
    cost = grid.units.curve.cost.copy()
    cost[1] = 5.0 + 2.0 * (grid.units.curve.power[1] - low)
    return check_grid(
        replace(grid, units=replace(grid.units, curve=Curves(grid.units.curve.power, cost)))
    )


@pytest.mark.parametrize(("low", "at_zero", "at_top"), [(30.0, 5.0, 5.0), (10.0, -15.0, 45.0)])
def test_curtailable_units_come_down_to_zero(low, at_zero, at_top):
    grid = check_grid(from_zero(pinned(low)))
    assert grid.units.low.tolist() == [0.0, 0.0]
    assert grid.units.curve.power[1].tolist() == [0.0, 30.0]
    assert grid.units.curve.cost[1].tolist() == [at_zero, at_top]
    assert from_zero(grid) is grid


def test_wind_of_a_fixed_output_is_used_first():
    simulator = toy(pinned(), np.full(12, 60.0), np.full(12, 25.0))
    record = Record(simulator, column(simulator, "merit"))
    assert record.metrics["curtailed_mwh"] <= 1e-5
    assert record.power[-1] == pytest.approx([35.0, 25.0], abs=1e-4)
    lowest = Record(simulator, share(0.0))
    # It gives way where it is told to: others have room for all of it.
    assert lowest.metrics["curtailed_mwh"] == pytest.approx(25.0, abs=0.1)


SCENARIOS = [
    pytest.param(GeneratedScenario(batteries=2, flexible=0.05), (), id="generated"),
    pytest.param(RtsScenario, ("rts_gmlc", "source"), id="rts-gmlc"),
    pytest.param(CaliforniaScenario, ("pglib_uc",), id="california"),
    pytest.param(ActivsgScenario, ("activsg",), id="activsg2000"),
]


@pytest.mark.parametrize(("kind", "path"), SCENARIOS)
def test_curves_reach_from_limit_to_limit(kind, path):
    scenario = kind(data=str(needed(*path[:1]).parents[1])) if path else kind
    fleet = system_of(scenario).fleet
    power = fleet.curve.power
    assert np.allclose(power[:, 0], fleet.low)
    assert np.allclose(power[:, -1], fleet.high)
    assert (np.diff(power, axis=1) >= 0.0).all()


def test_batteries_and_flexible_loads_are_agents_of_their_own():
    grid = small_grid([{}], loads=(100.0, 40.0), branches=[(0, 1, 0.1, 999.0)])
    fleet = fleet_of(with_stores(grid, batteries=1, flexible=0.1), interval=300.0)
    assert fleet.name == ("u0", "battery b0", "load b0", "load b1")
    assert fleet.groups == ("flexible", "storage", "thermal")
    assert fleet.store.tolist() == [False, True, True, True]
    assert fleet.high[1:].tolist() == [50.0, 10.0, 4.0]
    assert fleet.low[1:].tolist() == [-50.0, -10.0, -4.0]
    assert fleet.energy[1:].tolist() == [200.0, 40.0, 16.0]
    assert fleet.initial[1:].tolist() == [100.0, 20.0, 8.0]
    assert fleet.efficiency[1:].tolist() == [0.85, 1.0, 1.0]
    assert with_stores(grid, batteries=0, flexible=0.0) is grid
