"""A whole dashboard: variables, annotations, and panels placed line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from .parts import SOURCE


@dataclass(frozen=True, slots=True)
class Placed:
    """A panel's builder and its size in grid units (24 columns)."""

    panel: Builder[model.Panel]
    width: int
    height: int


def wide(panel: Builder[model.Panel], height: int = 8) -> Placed:
    """A whole line."""
    return Placed(panel, 24, height)


def half(panel: Builder[model.Panel], height: int = 8) -> Placed:
    """Two of them on a line."""
    return Placed(panel, 12, height)


def third(panel: Builder[model.Panel], height: int = 8) -> Placed:
    """Three of them on a line."""
    return Placed(panel, 8, height)


def quarter(panel: Builder[model.Panel], height: int = 4) -> Placed:
    """Four of them on a line."""
    return Placed(panel, 6, height)


@dataclass(frozen=True, slots=True)
class Board:
    """A whole dashboard.

    Attributes:
        uid: also the name of its file.
        title, description: shown on top.
        rows: headings with their panels, placed from left to right, line by line.
        choices: variable names with the selector and label that their values come from.
        marks: names of annotations with the expression that is true when they happen.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Placed]]]
    choices: Mapping[str, str]
    marks: Mapping[str, str]

    def build(self) -> dashboard.Dashboard:
        """The builder of the finished dashboard."""
        made = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags(["fairlead"])
            .readonly()
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .time("now-1h", "now")
            .refresh("15s")
            .timezone("browser")
            .link(
                dashboard.DashboardLink("Fairlead")
                .type(model.DashboardLinkType.DASHBOARDS)
                .icon("external link")
                .tooltip("The other dashboards, with the same choices")
                .tags(["fairlead"])
                .as_dropdown(True)
                .include_vars(True)
                .keep_time(True)
            )
            .with_variable(
                dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
            )
        )
        for name, query in self.choices.items():
            made.with_variable(_choice(name, query))
        for name, expr in self.marks.items():
            made.annotation(
                dashboard.AnnotationQuery()
                .name(name)
                .datasource(SOURCE)
                .enable(True)
                .icon_color("purple")
                .expr(expr)
            )
        _place(made, self.rows)
        return made


def _choice(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _place(made: dashboard.Dashboard, rows: Sequence[tuple[str, Sequence[Placed]]]) -> None:
    number, y = 1, 0
    for heading, panels in rows:
        made.with_row(dashboard.Row(heading).id(number).grid_pos(model.GridPos(1, 24, 0, y)))
        number, y = number + 1, y + 1
        x, tallest = 0, 0
        for placed in panels:
            if x + placed.width > 24:
                x, y, tallest = 0, y + tallest, 0
            position = model.GridPos(placed.height, placed.width, x, y)
            # The builders of panels share these two methods but no type that names them.
            placed.panel.id(number).grid_pos(position)  # pyright: ignore[reportAttributeAccessIssue]
            made.with_panel(placed.panel)
            number, x, tallest = number + 1, x + placed.width, max(tallest, placed.height)
        y += tallest
