"""Perfect foresight bounds every controller from below, and is met where nothing is unknown."""

import numpy as np
import pytest

from fairlead.models.power.foresight import Foresight
from fairlead.policies.heuristics.power import controllers
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import GeneratedScenario, Outages, Transmission
from fairlead.simulators.power.system import system_of

QUIET = {"forecast_error": 0.0, "outages": Outages(units=False, branches=False), "network": False}


def costs(scenario, seeds, names):
    """Cost of every controller over the bound, ``[seeds, names]``."""
    system = system_of(scenario)
    simulator, foresight = PowerSimulator(scenario, system), Foresight(scenario, system)
    ratio = np.zeros((len(seeds), len(names)))
    for row, seed in enumerate(seeds):
        bound = foresight.bound(seed).value
        rules = {rule.name: rule for rule in controllers(simulator.spec, scenario, system)}
        for column, name in enumerate(names):
            observation, done = simulator.reset(seed), False
            rng = np.random.default_rng(0)
            while not done:
                step = simulator.step(rules[name].act(observation, rng))
                observation, done = step.observation, step.truncated
            ratio[row, column] = simulator.metrics()["cost_usd"] / bound
    return ratio


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"outages": Outages(scale=20.0)},
        {"batteries": 2, "flexible": 0.05},
        {"limit_scale": 0.6},
        {"telemetry": Transmission(delay=60.0, loss=0.05)},
    ],
)
def test_no_controller_undercuts_the_bound(more):
    scenario = GeneratedScenario(units=12, hours=4, **more)
    ratio = costs(scenario, range(3), ("merit-order", "mpc", "proportional"))
    assert (ratio >= 1.0 - 1e-9).all(), ratio


def test_where_nothing_is_unknown_look_ahead_meets_the_bound():
    scenario = GeneratedScenario(units=12, hours=4, **QUIET)
    ratio = costs(scenario, range(3), ("mpc", "proportional"))
    # Starts that reach any output at once leave a little room.
    assert (ratio[:, 0] < 1.005).all() and ratio[:, 0].min() < 1.0001, ratio
    assert (ratio >= 1.0 - 1e-9).all(), ratio
    assert (ratio[:, 1] > ratio[:, 0]).all()


def test_a_bound_depends_on_the_seed_alone():
    scenario = GeneratedScenario(units=12, hours=4)
    system = system_of(scenario)
    foresight = Foresight(scenario, system)
    first, second = foresight.bound(3), foresight.bound(4)
    again = Foresight(scenario, system).bound(3)
    assert first.value == again.value != second.value
    assert first.value == pytest.approx(first.dispatch + first.starts)
    assert first.power.shape == (48, int((system.fleet.unit >= 0).sum()))


def test_interior_point_proves_nearly_the_same_bound():
    scenario = GeneratedScenario(units=12, hours=4, batteries=1)
    system = system_of(scenario)
    exact = Foresight(scenario, system).bound(0).value
    inner = Foresight(scenario, system, method="ipm").bound(0).value
    assert inner <= exact * (1.0 + 1e-9)
    assert inner == pytest.approx(exact, rel=1e-6)
