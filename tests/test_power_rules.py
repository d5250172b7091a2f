"""Dispatch rules: legal everywhere, in the order that they should be in, above the lower bound."""

import numpy as np
import pytest
from power_data import needed
from power_toys import QUIET, Record

from fairlead.models.power.foresight import Foresight
from fairlead.platform.power import power
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import (
    ActivsgScenario,
    CaliforniaScenario,
    GeneratedScenario,
    Outages,
    RtsScenario,
)
from fairlead.simulators.power.system import system_of

RULES = ("merit-order", "price", "proportional", "droop", "dc-opf", "mpc", "greedy-reference")
LOCAL = {"merit-order", "price", "proportional", "droop"}


SLOW_RULE = "gradient"
"""Takes a tenth of a second to decide; has a test of its own."""


def rules_of(scenario):
    every = {rule.name: rule for rule in power().heuristics(scenario)}
    return {name: rule for name, rule in every.items() if name != SLOW_RULE}


def choose(rule):
    rng = np.random.default_rng(0)
    return lambda seen: rule.act(seen, rng)


SCENARIOS = [
    pytest.param(GeneratedScenario, (), id="generated"),
    pytest.param(RtsScenario, ("rts_gmlc", "source"), id="rts-gmlc"),
    pytest.param(CaliforniaScenario, ("pglib_uc",), id="california"),
    pytest.param(ActivsgScenario, ("activsg",), id="activsg2000"),
]


@pytest.mark.parametrize(("kind", "path"), SCENARIOS)
def test_every_rule_is_legal_on_every_scenario(kind, path):
    values = {"data": str(needed(*path[:1]).parents[1])} if path else {}
    scenario = kind(hours=1, leads=4, outages=Outages(scale=50.0), **values)
    simulator = PowerSimulator(scenario, system_of(scenario))
    found = rules_of(scenario)
    assert set(found) == set(RULES)
    for name, rule in found.items():
        assert rule.information == ("same" if name in LOCAL else "central")
        record = Record(simulator, choose(rule), 3)
        assert len(record.rewards) == 12
        assert record.metrics["balance_residual_mw"] <= 1e-6
        for seen in record.seen[:3]:
            wanted = rule.act(seen, np.random.default_rng(0))
            assert wanted.shape == (simulator.spec.agents, 1)
            assert wanted.dtype == np.float32
            assert (wanted >= seen.low).all()
            assert (wanted <= seen.high).all()


@pytest.fixture(scope="module")
def congested():
    """Cost over the lower bound on a congested generated system, ``[seeds, rules]``."""
    scenario = GeneratedScenario(units=30, hours=12, limit_scale=0.8)
    system = system_of(scenario)
    simulator, foresight = PowerSimulator(scenario, system), Foresight(scenario, system)
    rows = []
    for seed in range(4):
        bound = foresight.bound(seed).value
        records = {
            name: Record(simulator, choose(rule), seed).metrics
            for name, rule in rules_of(scenario).items()
        }
        rows.append({name: figures["cost_usd"] / bound for name, figures in records.items()})
        rows[-1]["overload"] = records["merit-order"]["overload_mwh"]
    return rows


def test_nobody_is_cheaper_than_perfect_foresight(congested):
    assert all(row[name] >= 1.0 - 1e-9 for row in congested for name in RULES)


def test_rules_are_in_the_order_of_what_they_know(congested):
    mean = {name: np.mean([row[name] for row in congested]) for name in RULES}
    assert min(row["overload"] for row in congested) > 0.0
    # Look-ahead gains little where ramps seldom bind; what margin is left on branches counts more.
    assert mean["mpc"] <= mean["dc-opf"] * 1.015
    assert mean["dc-opf"] < mean["merit-order"]
    assert mean["price"] < mean["merit-order"]
    assert mean["greedy-reference"] < mean["merit-order"]
    assert mean["merit-order"] < min(mean["proportional"], mean["droop"])
    # Broadcast prices do most of what an optimal dispatch of the interval does.
    assert mean["price"] <= mean["dc-opf"] * 1.05
    assert mean["mpc"] < 1.06


def test_without_congestion_and_errors_local_rules_meet_the_optimum():
    scenario = GeneratedScenario(
        units=30, hours=6, network=False, forecast_error=0.0, outages=QUIET
    )
    simulator = PowerSimulator(scenario, system_of(scenario))
    rules = rules_of(scenario)
    cost = {
        name: Record(simulator, choose(rules[name]), 1).metrics["cost_usd"]
        for name in ("merit-order", "price", "dc-opf", "proportional")
    }
    assert cost["merit-order"] == pytest.approx(cost["dc-opf"], rel=3e-3)
    assert cost["price"] == cost["merit-order"]
    assert cost["proportional"] > cost["dc-opf"] * 1.01


def test_gradient_through_the_model_nears_the_optimum_of_a_copper_plate():
    scenario = GeneratedScenario(
        units=12, hours=1, network=False, forecast_error=0.0, outages=QUIET
    )
    simulator = PowerSimulator(scenario, system_of(scenario))
    offered = {rule.name: rule for rule in power().heuristics(scenario)}
    rule = offered[SLOW_RULE]
    assert rule.information == "central"
    costs = {
        name: Record(simulator, choose(offered[name]), 4).metrics["cost_usd"]
        for name in (SLOW_RULE, "dc-opf", "proportional")
    }
    assert costs[SLOW_RULE] <= costs["dc-opf"] * 1.01
    assert costs[SLOW_RULE] <= costs["proportional"]


def test_relief_brings_the_merit_order_near_the_optimal_dispatch():
    values = {"units": 30, "hours": 12, "limit_scale": 0.8, "outages": QUIET}
    costs = {}
    for projection in ("balance", "network"):
        scenario = GeneratedScenario(projection=projection, **values)
        simulator = PowerSimulator(scenario, system_of(scenario))
        rules = rules_of(scenario)
        for name in ("merit-order", "dc-opf"):
            figures = [Record(simulator, choose(rules[name]), seed).metrics for seed in range(3)]
            costs[projection, name] = np.mean([one["cost_usd"] for one in figures])
    plain, relieved = costs["balance", "merit-order"], costs["network", "merit-order"]
    optimal = costs["balance", "dc-opf"]
    assert plain - optimal > 0.05 * optimal
    assert relieved - optimal < 0.25 * (plain - optimal)


def test_the_same_rule_object_plays_one_episode_after_another_alike():
    scenario = GeneratedScenario(units=12, hours=2)
    simulator = PowerSimulator(scenario, system_of(scenario))
    for name, rule in rules_of(scenario).items():
        first = Record(simulator, choose(rule), 1)
        Record(simulator, choose(rule), 2)
        again = Record(simulator, choose(rule), 1)
        assert first.metrics["cost_usd"] == pytest.approx(again.metrics["cost_usd"], rel=1e-6), name
