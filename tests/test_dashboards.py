"""The dashboards: built from code, true to Grafana's schema and to the metrics there are."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from grafana_foundation_sdk.models import units as grafana_units
from grafana_foundation_sdk.models.dashboard import Dashboard

from fairlead.ops import grafana
from fairlead.ops import lint as linter
from fairlead.ops.dashboards import build
from fairlead.platform.page import dashboards as page

FOLDER = Path(build.__file__).parent
NAMES = tuple(sorted(path.name for path in FOLDER.glob("*.json")))
SCHEMAS = Path(os.environ.get("FAIRLEAD_DATA", "/work/shared/data")) / "grafana"


def load(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def queried():
    for name in NAMES:
        for panel in linter.panels_of(load(name)):
            for target in panel["targets"]:
                yield name, panel, target["expr"]


def test_building_again_changes_nothing():
    made = build.generate()
    assert set(made) == set(NAMES) and len(NAMES) == 7
    for name, content in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, (
            f"{name} is not what its code builds; run `make dashboards`"
        )


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_of_the_linter_is_broken(name):
    assert [str(finding) for finding in linter.lint(load(name))] == []


@pytest.mark.parametrize("name", NAMES)
def test_reading_and_writing_with_the_sdk_is_a_fixed_point(name):
    once = json.loads(build.JSONEncoder().encode(Dashboard.from_json(load(name))))
    again = json.loads(build.JSONEncoder().encode(Dashboard.from_json(copy.deepcopy(once))))
    assert again == once
    assert [p["title"] for p in once["panels"]] == [p["title"] for p in load(name)["panels"]]


def violations(content):
    if not SCHEMAS.is_dir():
        pytest.skip(f"Grafana's schemas are not in {SCHEMAS} (FAIRLEAD_DATA)")
    return grafana.violations(content, SCHEMAS)


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_schemas_accept_it_with_every_panel(name):
    assert violations(load(name)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["panels"][1].update(titel="x"),
        lambda c: c.update(refresh=5),
        lambda c: panel(c)["options"]["legend"].update(colour="red"),
        lambda c: panel(c)["fieldConfig"]["defaults"]["custom"].update(fillOpacity="half"),
        lambda c: panel(c)["targets"][0].update(legend="x"),
    ],
)
def test_the_schemas_see_mistakes(change):
    content = load("fairlead-domain.json")
    change(content)
    assert len(violations(content)) == 1


def test_units_are_grafanas():
    known = {value for name, value in vars(grafana_units).items() if name[0].isupper()}
    assert linter.UNITS - known == set()


def test_every_exported_metric_is_in_a_panel_or_says_why_not():
    used = {s.metric for _, _, expr in queried() for s in linter.selectors(expr)}
    rules = "".join(
        path.read_text(encoding="utf-8") for path in (FOLDER.parent / "prometheus").glob("*.yml")
    )
    unseen = [
        metric.full
        for metric in linter.METRICS.values()
        if not used & set(metric.samples) and metric.full not in rules and not metric.raw
    ]
    assert unseen == []


def broken(change):
    """Rules that a change of a good dashboard breaks."""
    content = load("fairlead-domain.json")
    change(content)
    return {finding.rule for finding in linter.lint(content)}


def panel(content, kind="timeseries"):
    return next(p for p in content["panels"] if p["type"] == kind)


def expr(text):
    return lambda content: panel(content)["targets"][0].update(expr=text)


HERE = 'job=~"$job", instance=~"$instance"'

MISTAKES = {
    "no job variable": (
        "template_variables",
        lambda c: c["templating"]["list"].pop(1),
    ),
    "one value only": (
        "template_variables",
        lambda c: c["templating"]["list"][1].update(multi=False),
    ),
    "variable never reloaded": (
        "template_variables",
        lambda c: c["templating"]["list"][1].update(refresh=1),
    ),
    "editable": ("uneditable", lambda c: c.update(editable=True)),
    "fixed data source": ("datasource", lambda c: panel(c)["datasource"].update(uid="prom")),
    "no title": ("title_and_description", lambda c: panel(c).update(title=" ")),
    "no description": ("title_and_description", lambda c: panel(c).update(description="x")),
    "unknown unit": ("units", lambda c: panel(c)["fieldConfig"]["defaults"].update(unit="sec")),
    "no query": ("targets", lambda c: panel(c).update(targets=[])),
    "shared refId": ("targets", lambda c: panel(c)["targets"].append(panel(c)["targets"][0])),
    "no PromQL": ("promql", expr("sum(")),
    "unknown variable": ("promql", expr(f'fairlead_queue_length{{{HERE}, domain="$nobody"}}')),
    "unknown metric": ("promql", expr(f"fairlead_queue_size{{{HERE}}}")),
    "unknown label": ("promql", expr(f'fairlead_queue_length{{{HERE}, agent="3"}}')),
    "grouped by an unknown label": (
        "promql",
        expr(f"sum by (agent) (fairlead_queue_length{{{HERE}}})"),
    ),
    "no matchers": ("matchers", expr("fairlead_queue_length")),
    "other matchers": ("matchers", expr('fairlead_queue_length{job="a", instance=~"$instance"}')),
    "fixed window": (
        "rate_interval",
        expr(f"sum(rate(fairlead_breaker_trips_total{{{HERE}}}[5m]))"),
    ),
    "bare counter": ("counters", expr(f"fairlead_breaker_trips_total{{{HERE}}}")),
    "shared id": ("unique_ids", lambda c: panel(c).update(id=1)),
    "too far right": ("layout", lambda c: panel(c)["gridPos"].update(x=20, w=8)),
    "overlap": ("layout", lambda c: panel(c)["gridPos"].update(y=panel(c)["gridPos"]["y"] - 2)),
    "no legend": ("legends", lambda c: panel(c)["options"]["legend"].update(showLegend=False)),
    "automatic names": ("legends", lambda c: panel(c)["targets"][0].update(legendFormat="")),
    "no base colour": (
        "thresholds",
        lambda c: panel(c)["fieldConfig"]["defaults"]["thresholds"].update(
            steps=[{"value": 1, "color": "red"}]
        ),
    ),
    "thresholds out of order": (
        "thresholds",
        lambda c: panel(c)["fieldConfig"]["defaults"]["thresholds"].update(
            steps=[
                {"value": None, "color": "green"},
                {"value": 2, "color": "red"},
                {"value": 1, "color": "yellow"},
            ]
        ),
    ),
    "link to nowhere": ("links", lambda c: c["links"][0].update(tags=["other"])),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_linter_finds(name):
    rule, change = MISTAKES[name]
    assert rule in broken(change)


def test_every_rule_of_the_linter_has_a_mistake_that_breaks_it():
    assert {rule for rule, _ in MISTAKES.values()} == {
        rule.__name__.strip("_") for rule in linter.RULES
    }


def test_selectors_are_read_from_nested_queries():
    found = linter.selectors(
        'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x="1"}[5m]))) / ignoring(y) (b > 0)'
    )
    assert [(s.metric, dict(s.matchers), s.ranged) for s in found] == [
        ("a_bucket", {"x": "1"}, True),
        ("b", {}, False),
    ]
    assert found[0].around == ("histogram_quantile", "aggregate", "rate")


def test_the_page_reads_every_dashboard_in_order():
    found = page.all_dashboards()
    assert list(found) == [
        "fairlead-fleet",
        "fairlead-domain",
        "fairlead-power",
        "fairlead-traffic",
        "fairlead-rollout",
        "fairlead-training",
        "fairlead-process",
    ]
    for dashboard in found.values():
        plan = page.plan(dashboard)
        drawn = {p["type"] for p in plan["panels"]}
        assert drawn <= {"row", "timeseries", "stat", "table", "heatmap", "state-timeline"}
        assert set(dashboard.variables) >= {"job", "instance"}
