"""The contract of metrics and the meter: what is counted is what a scrape reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from fairlead.ops import contract
from fairlead.platform.decision.types import CONSTRAINTS, STAGES, Cause
from fairlead.platform.metrics.exposition import Exposition, wants_openmetrics
from fairlead.platform.metrics.meter import ContractMeter


def meter():
    return ContractMeter(domains=["cloud"])


def samples(made, openmetrics=False):
    text = Exposition(made, process=False, hold=0.0)(openmetrics).decode()
    families = (parse_open if openmetrics else parse)(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def of(found, name, **labels):
    return found["fairlead_" + name, tuple(sorted(labels.items()))]


# --- the contract -----------------------------------------------------------------------------


def test_names_follow_the_practice():
    for metric in contract.METRICS.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", metric.name), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not metric.name.endswith(("_count", "_sum", "_bucket", "_ms", "_us"))
        assert metric.help.endswith(".") and "\n" not in metric.help


def test_no_agent_is_ever_a_label():
    labels = {label for metric in contract.METRICS.values() for label in metric.labels}
    assert not {label for label in labels if "agent" in label}
    known = max(
        len(values) for metric in contract.METRICS.values() for values in metric.labels.values()
    )
    assert known <= 10


def test_labels_are_those_of_the_decision_types():
    assert contract.METRICS["decision_stage_duration_seconds"].labels["stage"] == STAGES
    projections = contract.METRICS["actions_projected_total"].labels["constraint"]
    assert projections == tuple(CONSTRAINTS.values())
    causes = {cause.name.lower() for cause in Cause if cause is not Cause.NONE}
    assert set(contract.LAYERS) == causes


# --- the meter --------------------------------------------------------------------------------


def test_known_label_sets_start_at_zero_so_that_the_first_increase_is_seen():
    found = samples(meter())
    assert of(found, "decisions_total", domain="cloud", source="hold") == 0.0
    assert of(found, "requests_rejected_total", domain="none", reason="auth") == 0.0
    assert of(found, "selftest_timestamp_seconds", domain="cloud") == 0.0
    assert np.isnan(of(found, "policy_entropy", domain="cloud"))
    assert not any(name == "fairlead_policy_info" for name, _ in found)


def test_a_domain_has_its_own_metrics_and_no_other_has_them():
    made = ContractMeter(domains=["cloud", "power"])
    names = {name for name, labels in samples(made) if ("domain", "cloud") in labels}
    assert not any(name.startswith("fairlead_power_") for name in names)
    assert of(samples(made), "power_unserved_joules_total", domain="power") == 0.0
    with pytest.raises(KeyError, match="power_demand_watts: domain='cloud'"):
        made.set("power_demand_watts", 1.0, domain="cloud")


def test_what_bridges_report_are_the_domains_own_counters():
    assert set(contract.REPORTED) == {"power", "traffic"}
    for domain, names in contract.REPORTED.items():
        for name, metric in names.items():
            assert metric == f"{domain}_{name}_total"
            assert contract.METRICS[metric].kind == "counter"


def test_counts_sets_and_observations_are_exported_as_made():
    made = meter()
    made.count("decisions_total", 3.0, domain="cloud", source="policy")
    made.count("decisions_total", source="policy", domain="cloud")
    made.set("queue_length", 7, domain="cloud")
    for seconds in (0.0001, 0.0002, 5.0):  # the first lies exactly on a bound: le is inclusive
        made.observe("decision_duration_seconds", seconds, domain="cloud")
    found = samples(made)
    assert of(found, "decisions_total", domain="cloud", source="policy") == 4.0
    assert of(found, "queue_length", domain="cloud") == 7.0
    name = "decision_duration_seconds"
    assert of(found, f"{name}_bucket", domain="cloud", le="0.0001") == 1.0
    assert of(found, f"{name}_bucket", domain="cloud", le="0.00025") == 2.0
    assert of(found, f"{name}_bucket", domain="cloud", le="1.0") == 2.0
    assert of(found, f"{name}_bucket", domain="cloud", le="+Inf") == 3.0
    assert of(found, f"{name}_count", domain="cloud") == 3.0
    assert of(found, f"{name}_sum", domain="cloud") == pytest.approx(5.0003)
    assert made.value("decision_duration_seconds", domain="cloud") == 3.0


@given(st.lists(st.one_of(st.floats(0.0, 3.0), st.sampled_from(contract.DEVIATIONS))))
def test_an_array_is_observed_as_its_values_one_by_one(values):
    once, each = meter(), meter()
    once.observe_many("guidance_deviation", np.array([*values, np.nan]), domain="cloud")
    for value in values:
        each.observe("guidance_deviation", value, domain="cloud")
    left, right = samples(once), samples(each)
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value == pytest.approx(right[key], nan_ok=True)


def test_one_hot_shows_one_state_at_a_time():
    made = meter()
    for mode in ("policy", "fallback"):
        made.one_hot("controller_mode", "mode", mode, domain="cloud")
    found = samples(made)
    modes = {m: of(found, "controller_mode", domain="cloud", mode=m) for m in contract.MODES}
    assert modes == {m: float(m == "fallback") for m in contract.MODES}
    with pytest.raises(KeyError, match="asleep"):
        made.one_hot("controller_mode", "mode", "asleep", domain="cloud")


def test_an_info_series_is_replaced_on_a_swap_and_dropped_when_forgotten():
    made = meter()
    for bundle in ("aaa", "bbb"):
        made.info("policy_info", key="champion", domain="cloud", role="champion", bundle=bundle)
    made.info("policy_info", key="shadow", domain="cloud", role="shadow", bundle="aaa")
    shown = [dict(labels) for name, labels in samples(made) if name == "fairlead_policy_info"]
    assert {(s["role"], s["bundle"]) for s in shown} == {("champion", "bbb"), ("shadow", "aaa")}
    made.forget("policy_info", key="shadow")
    made.forget("policy_info", key="shadow")
    shown = [dict(labels) for name, labels in samples(made) if name == "fairlead_policy_info"]
    assert [s["role"] for s in shown] == ["champion"]


@pytest.mark.parametrize(
    ("act", "metric", "labels"),
    [
        ("count", "decision_total", {"domain": "cloud"}),
        ("count", "decisions_total", {"domain": "cloud"}),
        ("count", "decisions_total", {"domain": "cloud", "source": "magic"}),
        ("count", "decisions_total", {"domain": "clouds", "source": "policy"}),
        ("count", "queue_length", {"domain": "cloud"}),
        ("set", "decisions_total", {"domain": "cloud", "source": "policy"}),
        ("observe", "queue_length", {"domain": "cloud"}),
        ("set", "train_return", {"run": "r", "domain": "cloud"}),
    ],
)
def test_what_the_contract_lacks_is_an_error(act, metric, labels):
    with pytest.raises(KeyError, match=metric):
        getattr(meter(), act)(metric, 1.0, **labels)


def test_exemplars_reach_openmetrics_and_only_that():
    made = meter()
    made.observe("decision_duration_seconds", 0.002, exemplar="cloud-0-7", domain="cloud")
    exposition = Exposition(made, process=False, hold=0.0)
    assert b'{decision_id="cloud-0-7"} 0.002' in exposition(openmetrics=True)
    assert b"cloud-0-7" not in exposition()
    assert wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.3")
    assert not wants_openmetrics("*/*")


def test_both_formats_say_the_same():
    made = meter()
    made.count("decisions_total", 3.0, domain="cloud", source="policy")
    made.info("build_info", key="build", version='1"\\\n', python="3")
    left, right = samples(made), samples(made, openmetrics=True)
    assert left.keys() == right.keys()
    assert all(value == pytest.approx(right[key], nan_ok=True) for key, value in left.items())


def test_a_flood_of_label_values_is_refused_and_counted():
    made = ContractMeter(domains=["cloud"], limit=40)
    for number in range(100):
        made.count("http_requests_total", route=f"/{number}", code="2xx")
    assert made.value("series_refused_total") == 60.0
    routes = [labels for name, labels in samples(made) if name == "fairlead_http_requests_total"]
    assert len(routes) == 40


def test_a_domain_stays_within_its_budget_of_series():
    made = ContractMeter(domains=["cloud", "power"])
    for domain in ("cloud", "power"):
        for role in contract.ROLES:
            made.info("policy_info", key=domain + role, domain=domain, role=role, bundle="0" * 12)
        for metric in ("objective_value", "objective_gap_ratio"):
            made.set(metric, 1.0, domain=domain, objective="cost")
    for metric in ("power_set_point_watts", "power_projection_watts"):
        for number in range(16):
            made.set(metric, 1.0, domain="power", group=f"technology-{number}")
    per_domain = Counter(dict(labels).get("domain") for _, labels in samples(made))
    assert per_domain["cloud"] < per_domain["power"] <= contract.SERIES_PER_DOMAIN
    assert per_domain["cloud"] > 200  # the count sees the series


def test_threads_lose_no_count():
    made = meter()

    def work():
        for _ in range(5000):
            made.count("decisions_total", domain="cloud", source="policy")
            made.observe("decision_duration_seconds", 0.01, domain="cloud")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = samples(made)
        name = "decision_duration_seconds"
        total = of(found, f"{name}_bucket", domain="cloud", le="+Inf")
        assert of(found, f"{name}_count", domain="cloud") == total
    assert made.value("decisions_total", domain="cloud", source="policy") == 20000.0
    assert made.value("decision_duration_seconds", domain="cloud") == 20000.0


def test_a_text_is_kept_for_a_quarter_of_a_second():
    made, now = meter(), [10.0]
    exposition = Exposition(made, process=False, clock=lambda: now[0])
    first = exposition()
    made.count("breaker_trips_total", domain="cloud")
    now[0] += 0.2
    assert exposition() is first
    now[0] += 0.1
    assert b'fairlead_breaker_trips_total{domain="cloud"} 1.0' in exposition()


def test_a_sample_costs_microseconds():
    """Ten times the usual figure, so that a busy machine passes and a lost cache does not."""
    made, values = meter(), np.linspace(0.0, 1.0, 200)
    begin = time.perf_counter()
    for _ in range(2000):
        made.count("decisions_total", 5.0, domain="cloud", source="policy")
        made.observe("decision_duration_seconds", 1e-3, domain="cloud")
    assert (time.perf_counter() - begin) / 4000 < 1e-5
    begin = time.perf_counter()
    for _ in range(200):
        made.observe_many("guidance_deviation", values, domain="cloud")
    assert (time.perf_counter() - begin) / 200 < 1e-4


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("scope", ["serve", "train"])
def test_promtool_finds_nothing_to_say(scope):
    made = ContractMeter(domains=["cloud"] if scope == "serve" else [], scope=scope)
    if scope == "serve":
        made.info("policy_info", key="c", domain="cloud", role="champion", bundle="0" * 12)
        made.info("build_info", key="b", version="1", python="3")
        made.info("config_info", key="c", hash="0")
        made.set("objective_value", 1.0, domain="cloud", objective="cost")
        made.count("http_requests_total", route="/metrics", code="2xx")
    else:
        for metric in contract.METRICS.values():
            labels = {"run": "r", "domain": "cloud"} | {
                name: known[0] for name, known in metric.labels.items() if known
            }
            if metric.scope == "train":
                act = {"counter": "count", "gauge": "set", "histogram": "observe"}[metric.kind]
                getattr(made, act)(metric.name, 1.0, **labels)
    text = Exposition(made, hold=0.0)()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
