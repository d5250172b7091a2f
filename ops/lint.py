"""A linter of Grafana dashboards: what makes one wrong, unreadable or blind, found without Grafana.

The rules of https://github.com/grafana/dashboard-linter as far as they fit dashboards on
Prometheus, and more: unique ids, no overlaps, legends, thresholds, links, and that every metric
and label is one that exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser

from .contract import FOREIGN, METRICS, RECORDED

Json = Mapping[str, Any]

TARGET_LABELS = frozenset({"job", "instance"})
"""Labels that Prometheus adds to everything it scrapes."""

UNITS = frozenset(
    {
        "none", "short", "s", "bytes", "Bps", "ops", "reqps", "percentunit", "percent",
        "dateTimeFromNow", "dateTimeAsIso", "string", "watt", "watth", "currencyUSD",
    }
)  # fmt: skip
"""Unit ids of Grafana that our dashboards use; tests hold them against Grafana's own list."""

EXEMPT = frozenset({"ALERTS"})
"""Series of the Prometheus server itself, which carry an alert's labels and not a target's."""

COLUMNS = 24

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_SAMPLES = {"__rate_interval": "5m", "__interval": "15s", "__range": "1h"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule, and where."""

    rule: str
    dashboard: str
    panel: str
    message: str

    def __str__(self) -> str:
        place = f"{self.dashboard}, panel {self.panel!r}" if self.panel else self.dashboard
        return f"{self.rule}: {place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Selector:
    """One series selector of a query: metric, matchers by label, and the functions around it."""

    metric: str
    matchers: Mapping[str, str]
    around: tuple[str, ...]
    ranged: bool


def known_series() -> Mapping[str, frozenset[str]]:
    """Every series that a query may name, with its labels; from :mod:`.contract`."""
    known: dict[str, frozenset[str]] = {}
    for metric in METRICS.values():
        labels = TARGET_LABELS | set(metric.labels)
        for sample in metric.samples:
            known[sample] = labels | ({"le"} if sample.endswith("_bucket") else set[str]())
    for name, labels in FOREIGN.items():
        known[name] = TARGET_LABELS | set(labels)
    for name, labels in RECORDED.items():
        known[name] = TARGET_LABELS | set(labels)
    return known


def counters() -> frozenset[str]:
    """Samples that only ever rise, so that their plain value says nothing."""
    own = {
        sample
        for metric in METRICS.values()
        for sample in metric.samples
        if metric.kind in ("counter", "histogram")
    }
    return frozenset(own | {name for name in FOREIGN if name.endswith("_total")})


def filled(expr: str) -> str:
    """The expression with every variable replaced, so that it parses."""
    return _VARIABLE.sub(lambda m: _SAMPLES.get(m.group(1) or m.group(2), "x"), expr)


def selectors(expr: str) -> list[Selector]:
    """Every selector of an expression, variables filled in.

    Raises:
        ValueError: the expression is no PromQL; says why.
    """
    found: list[Selector] = []
    _walk(promql_parser.parse(filled(expr)), (), found)
    return found


def grouping(expr: str) -> set[str]:
    """Labels named in the ``by`` and ``without`` clauses of an expression."""
    clauses = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expr)
    return {label.strip() for clause in clauses for label in clause.split(",") if label.strip()}


def _walk(node: Any, around: tuple[str, ...], found: list[Selector], ranged: bool = False) -> None:
    if node is None:
        return
    if isinstance(node, promql_parser.VectorSelector):
        matchers = {m.name: m.value for m in node.matchers.matchers}
        found.append(Selector(node.name or matchers.get("__name__", ""), matchers, around, ranged))
    elif isinstance(node, promql_parser.MatrixSelector):
        _walk(node.vector_selector, around, found, ranged=True)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            _walk(argument, (*around, node.func.name), found)
    elif isinstance(node, promql_parser.AggregateExpr):
        _walk(node.expr, (*around, "aggregate"), found)
    elif isinstance(node, promql_parser.BinaryExpr):
        _walk(node.lhs, around, found)
        _walk(node.rhs, around, found)
    elif hasattr(node, "expr"):
        _walk(node.expr, around, found)


Rule = Callable[[Json], Iterator[tuple[str, str]]]


def lint(dashboard: Json) -> list[Finding]:
    """Every broken rule of one dashboard; empty if it is fit to be shown."""
    name = str(dashboard.get("uid") or dashboard.get("title") or "dashboard")
    return [
        Finding(rule.__name__.strip("_"), name, panel, message)
        for rule in RULES
        for panel, message in rule(dashboard)
    ]


def panels_of(dashboard: Json) -> list[Json]:
    """All panels, also those folded into rows; rows themselves are left out."""
    found: list[Json] = []
    for panel in dashboard.get("panels", ()):
        found += panel.get("panels", ())
        found += [] if panel.get("type") == "row" else [panel]
    return found


def _queries(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            yield panel.get("title", ""), target.get("expr", "")


def _variables(dashboard: Json) -> Mapping[str, Json]:
    return {v["name"]: v for v in dashboard.get("templating", {}).get("list", ())}


def _template_variables(dashboard: Json) -> Iterator[tuple[str, str]]:
    known = _variables(dashboard)
    if known.get("datasource", {}).get("type") != "datasource":
        yield "", "needs a variable 'datasource' of type datasource"
    for name in ("job", "instance"):
        variable = known.get(name)
        if variable is None or variable.get("type") != "query":
            yield "", f"needs a query variable {name!r}"
            continue
        if not (variable.get("multi") and variable.get("includeAll")):
            yield "", f"variable {name!r} must allow several values and all of them"
    for name, variable in known.items():
        if variable.get("type") == "query" and variable.get("refresh") != 2:
            yield "", f"variable {name!r} must be reloaded when the time range changes"


def _uneditable(dashboard: Json) -> Iterator[tuple[str, str]]:
    if dashboard.get("editable") is not False:
        yield "", "must not be editable: its source is code"


def _datasource(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        if panel.get("type") != "text" and panel.get("datasource", {}).get("uid") not in (
            "${datasource}",
            "$datasource",
        ):
            yield panel.get("title", ""), "must use the variable ${datasource}"


def _title_and_description(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        title = str(panel.get("title", ""))
        if not title.strip():
            yield str(panel.get("id")), "has no title"
        if len(str(panel.get("description", "")).strip()) < 10:
            yield title, "has no description"


def _units(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        if panel.get("type") != "text" and unit not in UNITS:
            yield panel.get("title", ""), f"has unit {unit!r}; choose one of {sorted(UNITS)}"


def _targets(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        targets = panel.get("targets", ())
        if panel.get("type") != "text" and not targets:
            yield panel.get("title", ""), "has no query"
        references = [target.get("refId") for target in targets]
        if len(set(references)) < len(references):
            yield panel.get("title", ""), f"queries share a refId: {references}"


def _promql(dashboard: Json) -> Iterator[tuple[str, str]]:
    known, names = known_series(), set(_variables(dashboard)) | set(_SAMPLES)
    for title, expr in _queries(dashboard):
        for match in _VARIABLE.finditer(expr):
            if (match.group(1) or match.group(2)) not in names:
                yield title, f"uses {match.group(0)}, which the dashboard does not have"
        try:
            found = selectors(expr)
        except ValueError as error:
            yield title, f"{expr!r} is no PromQL: {error}"
            continue
        labels: set[str] = set()
        for selector in found:
            if selector.metric not in known:
                yield title, f"there is no series {selector.metric!r}"
                continue
            labels |= known[selector.metric]
            for label in set(selector.matchers) - known[selector.metric] - {"__name__"}:
                yield title, f"{selector.metric} has no label {label!r}"
        if found:
            for label in grouping(expr) - labels:
                yield title, f"groups by {label!r}, which none of its series has"


def _matchers(dashboard: Json) -> Iterator[tuple[str, str]]:
    for title, expr in _queries(dashboard):
        for selector in _parsed(expr):
            if selector.metric in EXEMPT:
                continue
            for label in ("job", "instance"):
                if selector.matchers.get(label) != "x":  # the variable, filled in
                    yield title, f'{selector.metric} needs {label}=~"${label}"'


def _rate_interval(dashboard: Json) -> Iterator[tuple[str, str]]:
    for title, expr in _queries(dashboard):
        for window in re.findall(r"\b(?:rate|irate)\([^\[\]]*\[([^\]]+)\]", expr):
            if window != "$__rate_interval":
                yield title, f"rates over [{window}]; use $__rate_interval"


def _counters(dashboard: Json) -> Iterator[tuple[str, str]]:
    rising = counters()
    allowed = {"rate", "irate", "increase", "resets", "changes"}
    for title, expr in _queries(dashboard):
        for selector in _parsed(expr):
            if selector.metric not in rising or allowed & set(selector.around):
                continue
            # An aggregated total beside a figure is a count since the start, and meant as one.
            if "aggregate" not in selector.around:
                yield title, f"shows the counter {selector.metric} without rate or sum"


def _parsed(expr: str) -> Sequence[Selector]:
    try:
        return selectors(expr)
    except ValueError:
        return ()  # told by the rule promql


def _unique_ids(dashboard: Json) -> Iterator[tuple[str, str]]:
    everything = [*dashboard.get("panels", ())]
    everything += [inner for panel in everything for inner in panel.get("panels", ())]
    seen: set[Any] = set()
    for panel in everything:
        if panel.get("id") in seen:
            yield panel.get("title", ""), f"shares id {panel.get('id')}"
        seen.add(panel.get("id"))


def _layout(dashboard: Json) -> Iterator[tuple[str, str]]:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard.get("panels", ()):
        title, box = str(panel.get("title", "")), panel["gridPos"]
        if box["x"] < 0 or box["w"] < 1 or box["h"] < 1 or box["x"] + box["w"] > COLUMNS:
            yield title, f"does not fit into {COLUMNS} columns: {dict(box)}"
            continue
        cells = [
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        ]
        others = {taken[cell] for cell in cells if cell in taken}
        for other in sorted(others):
            yield title, f"lies over {other!r}"
        taken |= dict.fromkeys(cells, title)


def _legends(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        if panel.get("type") not in ("timeseries", "state-timeline"):
            continue
        if not panel.get("options", {}).get("legend", {}).get("showLegend"):
            yield panel.get("title", ""), "shows no legend"
        for target in panel.get("targets", ()):
            if target.get("legendFormat", "__auto") in ("", "__auto"):
                yield panel.get("title", ""), "names its series automatically; say what they are"


def _thresholds(dashboard: Json) -> Iterator[tuple[str, str]]:
    for panel in panels_of(dashboard):
        steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps")
        if panel.get("type") == "text":
            continue
        if not steps or steps[0].get("value") is not None:
            yield panel.get("title", ""), "needs thresholds that begin with a base colour"
            continue
        values = [step["value"] for step in steps[1:]]
        if values != sorted(values):
            yield panel.get("title", ""), f"has thresholds out of order: {values}"


def _links(dashboard: Json) -> Iterator[tuple[str, str]]:
    tags = set(dashboard.get("tags", ()))
    for link in dashboard.get("links", ()):
        if link.get("type") == "dashboards" and not tags & set(link.get("tags", ())):
            yield "", f"link {link.get('title')!r} leads to tags that this dashboard lacks"
        if link.get("type") == "link" and not str(link.get("url", "")).startswith(
            ("/", "https://")
        ):
            yield "", f"link {link.get('title')!r} leads to {link.get('url')!r}"


RULES: tuple[Rule, ...] = (
    _template_variables,
    _uneditable,
    _datasource,
    _title_and_description,
    _units,
    _targets,
    _promql,
    _matchers,
    _rate_interval,
    _counters,
    _unique_ids,
    _layout,
    _legends,
    _thresholds,
    _links,
)
"""Every rule, in the order of reading."""
