"""The traffic domain's own metrics, read off decisions made by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fairlead.ops import contract
from fairlead.platform.decision.types import Request
from fairlead.platform.metrics.meter import ContractMeter
from fairlead.platform.tasks import DomainFactory
from fairlead.platform.traffic_watch import TrafficWatch, measured
from fairlead.policies.heuristics.traffic_local import local

SETTINGS = {"rows": 2, "columns": 3, "rate": 600.0, "seconds": 900.0, "mixed": True}
SIMULATOR = DomainFactory("traffic", "grid", SETTINGS).simulator()
SPEC = SIMULATOR.spec


def episode(count=40):
    rule = {rule.name: rule for rule in local(SPEC)}["greedy"]
    seen = [SIMULATOR.reset(3)]
    while len(seen) < count:
        seen.append(SIMULATOR.step(rule.act(seen[-1], None)).observation)
    return seen


SEEN = episode()
HOLD = np.zeros(SPEC.agents, np.int64)


def figures(seen, actions=HOLD, watch=None):
    made = SimpleNamespace(actions=actions)
    return {
        (one.metric, *one.labels.values()): one.value
        for one in (watch or TrafficWatch(SPEC)).figures(Request(observation=seen), made)
    }


def test_every_figure_is_a_metric_of_the_contract_with_its_labels():
    meter = ContractMeter(domains=["traffic"])
    found = TrafficWatch(SPEC).figures(Request(SEEN[5]), SimpleNamespace(actions=HOLD))
    for one in found:
        meter.set(one.metric, one.value, domain="traffic", **one.labels)
    gauges = {
        m.name for m in contract.METRICS.values() if m.only == "traffic" and m.kind == "gauge"
    }
    assert gauges == {one.metric for one in found}
    # By kind of signal, never by signal: the number of series does not grow with the town.
    assert len(found) == 4 + 4 * len(SPEC.groups) + 2


@pytest.mark.parametrize("index", [5, 20, 39])
def test_sums_are_those_of_the_signals_by_their_kind(index):
    seen = SEEN[index]
    found = figures(seen)
    names = {"queue": "traffic_queue_vehicles", "soon": "traffic_arriving_vehicles"}
    names["wait"] = "traffic_waiting_seconds"
    for feature, metric in names.items():
        column = seen.agent[:, SPEC.agent_column(feature)]
        for at, group in enumerate(SPEC.groups):
            own = column[SPEC.group_of == at].sum(dtype=np.float64)
            assert found[metric, group] == pytest.approx(own)
    queue = seen.agent[:, SPEC.agent_column("queue")]
    assert found["traffic_longest_queue_vehicles",] == pytest.approx(queue.max())
    red = seen.candidates[:, :, SPEC.candidate_column("red")]
    assert found["traffic_longest_red_seconds",] == pytest.approx(red.max())


def test_pressure_and_switches_are_those_of_the_chosen_phases():
    seen = next(one for one in SEEN if one.mask[:, 1].sum() >= 2)
    actions = HOLD.copy()
    row = int(np.flatnonzero(seen.mask[:, 1])[0])
    actions[row] = 1
    found = figures(seen, actions)
    pressure = seen.candidates[np.arange(SPEC.agents), actions, SPEC.candidate_column("pressure")]
    total = sum(found["traffic_pressure_vehicles", group] for group in SPEC.groups)
    assert total == pytest.approx(pressure.sum(dtype=np.float64))
    assert found["traffic_switch_ratio",] == pytest.approx(1 / SPEC.agents)
    assert figures(seen)["traffic_switch_ratio",] == 0.0


def test_full_links_ahead_are_counted():
    agent = SEEN[5].agent.copy()
    agent[:, SPEC.agent_column("downstream")] = [0.95, 0.89, 0.1, 1.2, 0.0, 0.9]
    found = figures(replace(SEEN[5], agent=agent))
    assert found["traffic_spill_ratio",] == pytest.approx(3 / 6)


def test_who_may_only_hold_is_too_young_or_ends_a_red_that_is_too_long():
    """The watch learns the minimum green; the timing layer knows who is forced."""
    settings = {**SETTINGS, "timing": {"max_red": 50.0, "min_green": 8.0}}
    simulator = DomainFactory("traffic", "grid", settings).simulator()
    watch, seen = TrafficWatch(SPEC), simulator.reset(1)
    rule = {rule.name: rule for rule in local(SPEC)}["greedy"]
    forced_in_all = 0
    for epoch in range(simulator.spec.horizon):
        found = figures(seen, watch=watch)
        shares = [found["traffic_held_ratio", reason] for reason in ("max_red", "min_green")]
        assert sum(shares) == pytest.approx((~seen.active).mean())
        timing = simulator.timing
        forced = (timing.forced(seen.time, simulator._waiting) >= 0).sum()
        if epoch > 10:
            assert shares[0] == pytest.approx(forced / SPEC.agents)
            forced_in_all += int(forced)
        seen = simulator.step(rule.act(seen, None)).observation
    assert forced_in_all > 5


def test_decisions_about_some_signals_or_with_blind_detectors_tell_nothing():
    rows = slice(0, 2)
    some = replace(
        SEEN[5], agent=SEEN[5].agent[rows], candidates=SEEN[5].candidates[rows],
        active=SEEN[5].active[rows],
    )  # fmt: skip
    made = SimpleNamespace(actions=HOLD[rows])
    assert TrafficWatch(SPEC).figures(Request(some, agents=np.arange(2)), made) == ()
    agent = SEEN[5].agent.copy()
    agent[1] = np.nan
    assert figures(replace(SEEN[5], agent=agent)) == {}


def test_an_intervals_report_is_what_the_figures_grew_by():
    simulator = DomainFactory("traffic", "grid", SETTINGS).simulator()
    seen, rule = simulator.reset(2), {rule.name: rule for rule in local(SPEC)}["greedy"]
    before, total = simulator.metrics(), {}
    for _ in range(simulator.spec.horizon):
        seen = simulator.step(rule.act(seen, None)).observation
        after = simulator.metrics()
        found = measured(before, after)
        assert set(found) <= set(contract.REPORTED["traffic"])
        assert all(value >= 0.0 for value in found.values())
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + value
        before = after
    assert total["trips"] == after["finished_trips"]
    assert total["phase_changes"] == after["switches"]
    delay = after["delay_mean_s"] * (after["finished_trips"] + after["running_trips"])
    assert total["delay_seconds"] == pytest.approx(delay, rel=0.05)
