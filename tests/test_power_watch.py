"""The power domain's own metrics: read off decisions made by hand, and reported by bridges."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from daemon_process import running

from fairlead.ops import contract
from fairlead.platform import client
from fairlead.platform.decision.types import Request, Source
from fairlead.platform.metrics.meter import ContractMeter
from fairlead.platform.metrics.rehearsal_power import trained
from fairlead.platform.power_watch import PowerWatch, measured
from fairlead.platform.tasks import DomainFactory

SETTINGS = {"units": 12, "hours": 2}
FACTORY = DomainFactory("power", "generated", SETTINGS)
SIMULATOR = FACTORY.simulator()
SEEN = SIMULATOR.reset(3)
WATCH = PowerWatch(SIMULATOR.spec)


def decision(actions, wanted=None, source=Source.POLICY):
    found = np.full(len(actions), source, np.int8)
    return SimpleNamespace(actions=actions, wanted=wanted, source=found)


def figures(made, seen=SEEN, watch=WATCH):
    return {
        (one.metric, *one.labels.values()): one.value
        for one in watch.figures(Request(observation=seen), made)
    }


def middle(share=0.5):
    return (SEEN.low + (SEEN.high - SEEN.low) * np.float32(share)).astype(np.float32)


def test_every_figure_is_a_metric_of_the_contract_with_its_labels():
    meter = ContractMeter(domains=["power"])
    for one in WATCH.figures(Request(observation=SEEN), decision(middle())):
        meter.set(one.metric, one.value, domain="power", **one.labels)
    gauges = {m.name for m in contract.METRICS.values() if m.only == "power" and m.kind == "gauge"}
    assert gauges == {one.metric for one in WATCH.figures(Request(SEEN), decision(middle()))}


def test_demand_and_residual_are_those_of_the_day():
    found = figures(decision(middle()))
    demand = float(SIMULATOR.day.expected_demand[0, 0])
    assert found["power_demand_watts",] == pytest.approx(demand * 1e6, rel=1e-5)
    total = float(middle().sum(dtype=np.float64))
    residual = found["power_balance_residual_watts",]
    assert residual == pytest.approx((total - demand) * 1e6, abs=1e-5 * demand * 1e6)


def test_set_points_are_summed_by_technology():
    found, spec = figures(decision(middle())), SIMULATOR.spec
    for index, group in enumerate(spec.groups):
        own = middle()[spec.group_of == index].sum(dtype=np.float64) * 1e6
        assert found["power_set_point_watts", group] == pytest.approx(own)
        assert found["power_projection_watts", group] == 0.0


def test_projection_counts_what_the_policy_was_moved_by_and_no_fallback():
    wanted = middle() + np.float32(2.0)
    found = figures(decision(middle(), wanted, Source.PROJECTED))
    moved = [value for name, value in found.items() if name[0] == "power_projection_watts"]
    assert sum(moved) == pytest.approx(2e6 * len(wanted), rel=1e-4)
    found = figures(decision(middle(), wanted, Source.BASELINE))
    assert not any(value for name, value in found.items() if name[0] == "power_projection_watts")


def test_room_and_limits():
    found, width = figures(decision(middle(0.25))), (SEEN.high - SEEN.low).sum(dtype=np.float64)
    assert found["power_headroom_watts", "up"] == pytest.approx(0.75e6 * width, rel=1e-4)
    assert found["power_headroom_watts", "down"] == pytest.approx(0.25e6 * width, rel=1e-4)
    assert found["power_at_limit_ratio", "up"] == found["power_at_limit_ratio", "down"] == 0.0
    found = figures(decision(SEEN.high))
    assert found["power_headroom_watts", "up"] == 0.0
    assert (found["power_at_limit_ratio", "up"], found["power_at_limit_ratio", "down"]) == (1, 0)


def test_the_price_is_the_broadcast_one_and_never_above_the_dearest_offer():
    found, spec = figures(decision(middle())), SIMULATOR.spec
    price = 10.0 * float(SEEN.agent[0, spec.agent_column("price")])
    ceiling = 10.0 * float(SEEN.agent[:, spec.agent_column("cost_at_top")].max())
    assert found["power_price_dollars_per_megawatthour",] == pytest.approx(price)
    assert found["power_price_ceiling_dollars_per_megawatthour",] == pytest.approx(ceiling)
    assert 0.0 < price <= ceiling


def test_where_merit_order_is_exhausted_the_price_is_the_ceiling():
    simulator = DomainFactory("power", "generated", SETTINGS).simulator()
    seen = simulator.reset(3)
    simulator.day.expected_demand[:] = 1e6  # MW, as if everybody came home at once
    seen = simulator.step(seen.high).observation
    found = figures(decision(seen.high), seen, PowerWatch(simulator.spec))
    price = found["power_price_dollars_per_megawatthour",]
    assert price == found["power_price_ceiling_dollars_per_megawatthour",]
    assert found["power_balance_residual_watts",] < 0.0


def test_decisions_about_some_agents_or_with_blind_sensors_tell_nothing():
    some = replace(SEEN, agent=SEEN.agent[:3], low=SEEN.low[:3], high=SEEN.high[:3])
    assert WATCH.figures(Request(some, agents=np.arange(3)), decision(middle()[:3])) == ()
    blind = SEEN.agent.copy()
    blind[2] = np.nan
    assert WATCH.figures(Request(replace(SEEN, agent=blind)), decision(middle())) == ()


def test_an_intervals_report_is_what_the_figures_grew_by_in_base_units():
    before = {"shed_mwh": 1.0, "overload_mwh": 2.0, "cost_usd": 5.0, "frequency_outside_s": 3.0}
    after = {"shed_mwh": 1.5, "overload_mwh": 2.0 - 1e-15, "frequency_outside_s": 10.0}
    assert measured(before, after) == {
        "unserved_joules": 1.8e9,
        "overload_joules": 0.0,
        "off_frequency_seconds": 7.0,
    }
    simulator = FACTORY.simulator()
    simulator.reset(0)
    assert set(measured({}, simulator.metrics())) < set(contract.REPORTED["power"])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    bundle = trained(tmp_path_factory.mktemp("bundle") / "run")
    folder = tmp_path_factory.mktemp("daemon")
    with running(bundle, folder, ("slot.deadline=2",)) as found:
        yield found


def told(daemon, name):
    time.sleep(0.6)  # the background's pause, and the exposition's quarter of a second
    return daemon.metric(name, domain="power")


def test_a_daemon_exports_what_it_decides_and_what_a_bridge_reports(daemon):
    with client.Client(daemon.url, "power", timeout=10, name="bridge") as asking:
        answer = asking.decide(SEEN, seq=1)
        figures = {"unserved_joules": 3.6e9, "set_points_expired": 2}
        assert asking.report(answer.decision, measured=figures)
        assert not asking.report(answer.decision, measured=figures)
        again = asking.decide(SEEN, seq=2).decision
        assert asking.report(again, measured={"unserved_joules": 1.0})
    assert told(daemon, "power_unserved_joules_total") == 3.6e9 + 1.0
    assert told(daemon, "power_set_points_expired_total") == 2.0
    demand = told(daemon, "power_demand_watts")
    assert demand == pytest.approx(float(SIMULATOR.day.expected_demand[0, 0]) * 1e6, rel=1e-5)
    assert abs(told(daemon, "power_balance_residual_watts")) < 1e-5 * demand
    _, _, text = daemon.call("GET", "/metrics")
    assert b'fairlead_power_set_point_watts{domain="power",group="coal"}' in text


@pytest.mark.parametrize(
    ("figures", "code"),
    [
        ({"unserved_joules": -1.0}, "parameter"),
        ({"unserved_joules": 1e16}, "parameter"),
        ({"unserved_joules": True}, "parameter"),
        ({"unserved_joules": "much"}, "parameter"),
        ({"unserved_joules": 1.0, "unserved_mwh": 1.0}, "unknown"),
    ],
)
def test_figures_that_are_none_are_refused_and_nothing_is_counted(daemon, figures, code):
    before = told(daemon, "power_unserved_joules_total")
    with client.Client(daemon.url, "power", timeout=10, name=f"bad-{id(figures)}") as asking:
        decided = asking.decide(SEEN, seq=1).decision
    body = json.dumps({"decision": decided, "measured": figures}).encode()
    status, _, answer = daemon.call("POST", "/v1/outcome/power", body)
    assert (status, json.loads(answer)["code"]) == (400, code)
    assert told(daemon, "power_unserved_joules_total") == before
