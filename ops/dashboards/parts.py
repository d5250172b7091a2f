"""Queries and panels that all dashboards share.

Written with grafana-foundation-sdk 11.6. Every panel says what it shows and what to make of it;
every query keeps the viewer's data source, job and instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_build
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

SOURCE = model.DataSourceRef("prometheus", "${datasource}")

HERE = 'job=~"$job", instance=~"$instance"'
"""Matchers of every serving metric."""

DOMAIN = HERE + ', domain=~"$domain"'
"""Matchers of metrics that have a domain."""

RATE = "[$__rate_interval]"

COLOURS: Mapping[str, str] = {
    "policy": "#2a9d8f",
    "projected": "#4c8bf5",
    "previous": "#8b6fe8",
    "baseline": "#e9a23b",
    "hold": "#e76f51",
    "safe": "#c81e4a",
}
"""Colour of every source of an action, the same as on the operator page."""

Mapped = Mapping[str, tuple[str, str]]
"""Value (as text) to its word and colour."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series (Grafana's ``{{label}}`` form)."""

    expr: str
    legend: str = ""


def metric(name: str, *matchers: str, where: str = DOMAIN, **equal: str) -> str:
    """A selector of ``fairlead_<name>`` with the dashboard's own matchers and more of them."""
    more = [f'{label}="{value}"' for label, value in equal.items()]
    return f"fairlead_{name}{{{', '.join((where, *matchers, *more))}}}"


def rate(name: str, *matchers: str, where: str = DOMAIN) -> str:
    """Rate of a counter over Grafana's own interval."""
    return f"rate({metric(name, *matchers, where=where)}{RATE})"


def quantile(share: float, name: str, *by: str, where: str = DOMAIN) -> str:
    """Quantile of a classic histogram, by labels."""
    labels = ", ".join(("le", *by))
    inner = f"sum by ({labels}) ({rate(name + '_bucket', where=where)})"
    return f"histogram_quantile({share:g}, {inner})"


def _targets(queries: Sequence[Query], *, instant: bool) -> list[prometheus.Dataquery]:
    found: list[prometheus.Dataquery] = []
    for index, query in enumerate(queries):
        target = (
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend or "__auto")
            .ref_id(chr(ord("A") + index))
            .datasource(SOURCE)
        )
        found.append(target.instant() if instant else target.range())
    return found


def _steps(steps: Sequence[tuple[float, str]], base: str = "green") -> dashboard.ThresholdsConfig:
    first = model.Threshold(None, base)
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([first, *(model.Threshold(value, colour) for value, colour in steps)])
    )


def _mappings(words: Mapped) -> list[model.ValueMapping]:
    options = {
        value: model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [model.ValueMap(options)]


def curve(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    limit: float | None = None,
    low: float | None = 0.0,
    high: float | None = None,
) -> timeseries.Panel:
    """Curves over time; ``limit`` draws a dashed line where attention is due."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .fill_opacity(60 if stacked else 6)
        .line_width(1)
        .show_points(common.VisibilityMode.NEVER)
        .thresholds(_steps([] if limit is None else [(limit, "red")]))
        .legend(
            common_build.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
        )
        .tooltip(
            common_build.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if limit is not None:
        style = common_build.GraphThresholdsStyleConfig()
        panel.thresholds_style(style.mode(common.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common_build.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    for name, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [model.DynamicConfigValue("color", fixed)])
    for target in _targets(queries, instant=False):
        panel.with_target(target)
    return panel


def figure(
    title: str,
    text: str,
    *queries: Query,
    unit: str,
    steps: Sequence[tuple[float, str]] = (),
    base: str = "green",
    words: Mapped | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """The present value, coloured by thresholds or by words."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_steps(steps, base))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(common.BigValueTextMode.AUTO)
        .reduce_options(common_build.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if words:
        panel.mappings(_mappings(words))
    if decimals is not None:
        panel.decimals(decimals)
    for target in _targets(queries, instant=True):
        panel.with_target(target)
    return panel


def states(title: str, text: str, *queries: Query, words: Mapped) -> statetimeline.Panel:
    """One lane per series, coloured by what its value means."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit("short")
        .mappings(_mappings(words))
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.85)
        .thresholds(_steps([]))
        .legend(
            common_build.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    for target in _targets(queries, instant=False):
        panel.with_target(target)
    return panel


def heat(title: str, text: str, expr: str, *, unit: str) -> heatmap.Panel:
    """Buckets of a classic histogram over time; ``expr`` keeps the label ``le``."""
    target = (
        prometheus.Dataquery()
        .expr(expr)
        .legend_format("{{le}}")
        .ref_id("A")
        .datasource(SOURCE)
        .format(prometheus_model.PromQueryFormat.HEATMAP)
        .range()
    )
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Greens")
            .steps(48)
            .exponent(0.5)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .thresholds(_steps([]))
        .with_target(target)
    )


def listing(
    title: str, text: str, query: Query, *, columns: Mapping[str, str], unit: str = "short"
) -> table.Panel:
    """Series as rows; ``columns`` gives labels their headings and order, others are hidden."""
    known = {"__name__", "job", "instance", "domain", "role", "bundle", "alertname", "alertstate"}
    known |= {"severity", "version", "python", "hash", "run", "Time", "Value"}
    organise = {
        "excludeByName": dict.fromkeys(sorted(known - set(columns)), True),
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    target = (
        prometheus.Dataquery()
        .expr(query.expr)
        .ref_id("A")
        .datasource(SOURCE)
        .format(prometheus_model.PromQueryFormat.TABLE)
        .instant()
    )
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_steps([]))
        .with_transformation(model.DataTransformerConfig(id_val="organize", options=organise))
        .with_target(target)
    )
