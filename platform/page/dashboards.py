"""The committed Grafana dashboards, read for the page: what to draw, and the queries behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...ops import dashboards as committed
from .prometheus import Prometheus, one_of, substituted

POINTS = 240
"""Steps of a range query."""

SPANS: Mapping[int, str] = {
    300: "5 min",
    900: "15 min",
    3600: "1 h",
    21600: "6 h",
    86400: "1 day",
    604800: "1 week",
}
"""Spans to choose from, in seconds."""

_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*(?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard as its JSON says."""

    uid: str
    title: str
    description: str
    content: Mapping[str, Any]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables that a viewer may set, in order."""
        return tuple(v["name"] for v in self._queried())

    def _queried(self) -> list[Mapping[str, Any]]:
        return [v for v in self.content["templating"]["list"] if v["type"] == "query"]

    def panels(self) -> list[Mapping[str, Any]]:
        """Every panel and row, in reading order, without those folded into rows."""
        return sorted(self.content["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"]))

    def panel(self, number: int) -> Mapping[str, Any]:
        """One panel by its id.

        Raises:
            KeyError: there is none.
        """
        for panel in self.content["panels"]:
            if panel["id"] == number:
                return panel
        raise KeyError(f"dashboard {self.uid} has no panel {number}")


@cache
def all_dashboards() -> Mapping[str, Dashboard]:
    """Every committed dashboard by its uid, in the order of their files' own ranks."""
    found: list[Dashboard] = []
    for path in sorted(Path(committed.__file__).parent.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found.append(
            Dashboard(content["uid"], content["title"], content.get("description", ""), content)
        )
    order = ("fleet", "domain", "power", "traffic", "rollout", "training", "process")
    found.sort(key=lambda d: [d.uid.endswith(name) for name in order].index(True))
    return {dashboard.uid: dashboard for dashboard in found}


def plan(dashboard: Dashboard) -> dict[str, Any]:
    """What the browser needs to draw the dashboard; queries only to be shown, never sent back."""
    return {"uid": dashboard.uid, "panels": [_panel(panel) for panel in dashboard.panels()]}


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    config = panel.get("fieldConfig", {})
    defaults, custom = config.get("defaults", {}), config.get("defaults", {}).get("custom", {})
    targets = panel.get("targets", [])
    return {
        "id": panel["id"],
        "type": panel["type"],
        "title": panel.get("title", ""),
        "description": panel.get("description", ""),
        "grid": panel["gridPos"],
        "unit": defaults.get("unit", "short"),
        "decimals": defaults.get("decimals"),
        "min": defaults.get("min"),
        "max": defaults.get("max"),
        "thresholds": defaults.get("thresholds", {}).get("steps", []),
        "lines": custom.get("thresholdsStyle", {}).get("mode", "off") != "off",
        "mappings": defaults.get("mappings", []),
        "stacked": custom.get("stacking", {}).get("mode", "none") != "none",
        "fill": custom.get("fillOpacity", 0),
        "overrides": [_override(o) for o in config.get("overrides", [])],
        "transformations": panel.get("transformations", []),
        "options": panel.get("options", {}),
        "queries": [target["expr"] for target in targets],
        "legends": [target.get("legendFormat", "") for target in targets],
    }


def _override(override: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "matcher": override["matcher"],
        "properties": {p["id"]: p.get("value") for p in override["properties"]},
    }


def chosen(dashboard: Dashboard, picked: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Every variable's value as its queries want it: a regular expression.

    Variables that nobody picked match everything; names that the dashboard lacks are ignored.

    Raises:
        ValueError: a value cannot be one.
    """
    values = {
        variable["name"]: variable.get("allValue") or ".+"
        for variable in dashboard.content["templating"]["list"]
    }
    for name in dashboard.variables:
        if picked.get(name):
            values[name] = one_of(picked[name])
    return values


def data(
    dashboard: Dashboard,
    number: int,
    server: Prometheus,
    variables: Mapping[str, str],
    *,
    end: float,
    span: int,
) -> dict[str, Any]:
    """What a panel's queries give; blocks, so call it in a thread.

    Every target becomes ``{"table": bool, "series": [{"name", "labels", "at", "values"}]}``.

    Raises:
        KeyError: no such panel.
        PrometheusError: the server did not answer or refused.
    """
    step = max(1.0, span / POINTS)
    # Steps that fall on multiples of the step keep curves from wobbling between refreshes.
    end = end - end % step
    targets: list[dict[str, Any]] = []
    for target in dashboard.panel(number).get("targets", []):
        query = substituted(target["expr"], variables, span=span, step=step)
        instant = bool(target.get("instant"))
        if instant:
            result = [
                {"metric": one["metric"], "values": [one["value"]]}
                for one in server.at(query, time=end)
            ]
        else:
            result = server.over(query, start=end - span, end=end, step=step)
        legend = target.get("legendFormat", "")
        targets.append({"table": instant, "series": [_series(one, legend) for one in result]})
    return {"start": end - span, "end": end, "step": step, "targets": targets}


def _series(one: Mapping[str, Any], legend: str) -> dict[str, Any]:
    labels = one["metric"]
    finite = [(float(at), float(value)) for at, value in one["values"]]
    return {
        "name": _legend(legend, labels),
        "labels": labels,
        "at": [at for at, _ in finite],
        "values": [_jsonable(value) for _, value in finite],
    }


def _jsonable(value: float) -> float | None:
    return value if value - value == 0.0 else None  # infinities and NaN have no JSON


def _legend(legend: str, labels: Mapping[str, str]) -> str:
    if legend and legend != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m.group(1), ""), legend)
    shown = [f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__"]
    return ", ".join(shown) or labels.get("__name__", "value")


def variable_values(
    dashboard: Dashboard, server: Prometheus, variables: Mapping[str, str], *, end: float, span: int
) -> dict[str, list[str]]:
    """Values to choose from, by variable; blocks, so call it in a thread.

    Raises:
        PrometheusError: the server did not answer or refused.
    """
    found: dict[str, list[str]] = {}
    for variable in dashboard.content["templating"]["list"]:
        if variable["type"] != "query":
            continue
        query = variable["query"]
        text = query["query"] if isinstance(query, Mapping) else query
        match = _VALUES.fullmatch(text)
        if match is None:
            raise ValueError(f"{dashboard.uid}: cannot read the variable's query {text!r}")
        selector = substituted(match["selector"], variables, span=span, step=15)
        found[variable["name"]] = server.values(match["label"], selector, start=end - span, end=end)
    return found
