"""Pictures of the learning benches: training curves, intervals of the result, what was measured.

Bands and intervals are 95 % bootstrap intervals of the mean over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...simulators.interface import Doubles
from ..canvas import Palette, decorate, number, write_picture
from ..statistics import bootstrap
from .learning_table import RunTable

SERIES = (
    "#9aa5b1",
    "#656d76",
    "#a3507f",
    "#1f2328",
    "#c26a00",
    "#e69f00",
    "#0072b2",
    "#009e73",
    "#56b4e9",
    "#8c2d04",
)
"""Colours of variants in the order of the table: plain ones grey, the others apart for all eyes."""
DASHES = ("--", ":", "-.")


def draw_trust_region(
    table: RunTable,
    methods: Sequence[str],
    path: Path,
    *,
    long: str = "",
    suffixes: Sequence[str] = ("", " clipped"),
) -> None:
    """Curves, final returns and variance of the weighted advantage, a row of panels per N.

    ``suffixes`` are those of the variants that every method has, ``long`` is that of the variants
    whose variance is shown.

    Raises:
        UserError: ``path`` ends in neither .png nor .svg, or cannot be written.
        KeyError: a statistic is missing.
    """
    names = [f"{method}{clip}" for clip in suffixes for method in methods]

    def draw(figure: Figure, palette: Palette) -> None:
        pairs = _pairs(methods, (palette.muted, palette.policy, palette.same), " clipped")
        styles = {name: style for name, style in pairs.items() if name in names}
        grid = figure.subplots(len(table.agents), 3, squeeze=False)
        for (left, middle, right), agents in zip(grid, table.agents, strict=True):
            _curves(left, table, agents, styles, palette, f"N = {agents}: return")
            finals = {name: table.final(name, agents) for name in names}
            _intervals(middle, finals, styles, palette, "Final return")
            for name, (colour, dash) in styles.items():
                values = table.figure(name + long, agents, "factor/variance").mean(axis=0)
                right.plot(_updates(values), values, "o" + dash, color=colour, linewidth=1.5)
            right.set_yscale("log")
            right.set_title("Variance of the weighted advantage", loc="left", color=palette.ink)
            right.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            decorate(right, palette, x=f"updates{long} (dashed: not clipped)", y="")

    write_picture(path, draw, (13.0, 3.6 * len(table.agents)))


def draw_projection(table: RunTable, methods: Sequence[str], path: Path) -> None:
    """Curves, final returns by seed, and non-potentiality over time, a row of panels per N.

    Raises:
        UserError: ``path`` ends in neither .png nor .svg, or cannot be written.
        KeyError: a statistic is missing.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        styles = _pairs(methods, (palette.policy, palette.same, palette.fresh), " + HPML")
        grid = figure.subplots(len(table.agents), 3, squeeze=False)
        for (left, middle, right), agents in zip(grid, table.agents, strict=True):
            _curves(left, table, agents, styles, palette, f"N = {agents}: return")
            finals = {name: table.final(name, agents) for name in styles}
            _intervals(middle, finals, styles, palette, "Final return, every seed a dot")
            for name, (colour, _) in styles.items():
                if not name.endswith(" + HPML"):
                    continue
                for figure_name, dash in (("kappa", "-"), ("noise_floor", ":")):
                    values = table.figure(name, agents, f"projection/{figure_name}")
                    values = np.nanmean(values, axis=0)
                    label = f"{name.removesuffix(' + HPML')}: {figure_name.replace('_', ' ')}"
                    right.plot(_updates(values), values, dash, color=colour, label=label)
            right.set_ylim(bottom=0.0)
            right.set_title("Non-potentiality", loc="left", color=palette.ink)
            right.legend(frameon=False, labelcolor=palette.ink, fontsize=8)
            decorate(right, palette, x="updates", y="")

    write_picture(path, draw, (13.0, 3.6 * len(table.agents)))


def draw_ablation(
    table: RunTable,
    names: Sequence[str],
    rules: Mapping[int, Mapping[str, float]],
    path: Path,
) -> None:
    """Mean response of every variant beside the rules, and how it was learned; a row per N.

    Args:
        table: the runs.
        names: variants from top to bottom.
        rules: mean response of the rules to show by caption, for every N, s.
        path: PNG or SVG file.

    Raises:
        UserError: ``path`` ends in neither .png nor .svg, or cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        styles = {name: (SERIES[i % len(SERIES)], "-") for i, name in enumerate(names)}
        grid = figure.subplots(len(table.agents), 2, squeeze=False, width_ratios=(1.25, 1.0))
        for (left, right), agents in zip(grid, table.agents, strict=True):
            finals = {name: -table.final(name, agents) for name in names}
            title = f"N = {agents}: mean response after training, s"
            _intervals(left, finals, styles, palette, title)
            _curves(
                right, table, agents, styles, palette, "Mean response while training, s", sign=-1.0
            )
            colours = (palette.extra, palette.same, palette.fresh)
            for (caption, value), colour, dash in zip(
                rules[agents].items(), colours, DASHES, strict=False
            ):
                left.axvline(value, color=colour, linestyle=dash, linewidth=1.4, label=caption)
                right.axhline(value, color=colour, linestyle=dash, linewidth=1.2)
            left.legend(
                frameon=False,
                labelcolor=palette.ink,
                fontsize=8,
                loc="upper center",
                bbox_to_anchor=(0.4, -0.1),
            )

    height = 1.6 + 0.38 * len(names)
    write_picture(path, draw, (13.0, max(4.2, height) * len(table.agents)))


Styles = Mapping[str, tuple[str, str]]
"""Variant to colour and line style."""


def _pairs(methods: Sequence[str], colours: Sequence[str], suffix: str) -> Styles:
    """A colour per method; the one with the suffix solid, the one without dashed."""
    styles: dict[str, tuple[str, str]] = {}
    for method, colour in zip(methods, colours, strict=False):
        styles |= {method: (colour, "--"), method + suffix: (colour, "-")}
    return styles


def _updates(values: Doubles) -> Doubles:
    return np.arange(1, values.shape[-1] + 1, dtype=np.float64)


def _curves(
    axes: Axes,
    table: RunTable,
    agents: int,
    styles: Styles,
    palette: Palette,
    title: str,
    *,
    sign: float = 1.0,
) -> None:
    """Mean over seeds with its interval; evaluations in between if there are some."""
    for name, (colour, dash) in styles.items():
        at, values = table.probes(name, agents)
        if values.shape[1] < 2:
            values = table.curves(name, agents)
            at = _updates(values)
        spans = _spans(sign * values)
        axes.plot(at, spans[0], dash, color=colour, linewidth=1.6, label=name)
        axes.fill_between(at, spans[1], spans[2], color=colour, alpha=0.12, linewidth=0.0)
    axes.set_title(title, loc="left", color=palette.ink)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    decorate(axes, palette, x="updates", y="")


def _spans(values: Doubles) -> Doubles:
    """Mean, low and high for every column of ``[seeds, P]``, ``[3, P]``."""
    intervals = [bootstrap(column, resamples=500) for column in values.T]
    return np.array([[i.point, i.low, i.high] for i in intervals]).T


def _intervals(
    axes: Axes,
    finals: Mapping[str, Doubles],
    styles: Styles,
    palette: Palette,
    title: str,
    label: Callable[[float], str] = number,
) -> None:
    """One line per variant: runs as dots, mean with its interval, the mean as a number."""
    for row, (name, values) in enumerate(finals.items()):
        colour, interval = styles[name][0], bootstrap(values)
        axes.plot(values, np.full(values.shape, row), ".", color=colour, alpha=0.35, markersize=5)
        axes.plot([interval.low, interval.high], [row, row], "-", color=colour, linewidth=3.0)
        axes.plot(
            interval.point,
            row,
            "o",
            color=colour,
            markersize=7,
            markeredgecolor=palette.paper,
        )
        axes.annotate(
            label(interval.point),
            (interval.point, row),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
            fontsize=8,
            color=palette.ink,
        )
    axes.set_yticks(range(len(finals)), list(finals))
    axes.set_ylim(len(finals) - 0.4, -0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(title, loc="left", color=palette.ink)
    decorate(axes, palette, x="", y="")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
    axes.tick_params(axis="y", labelcolor=palette.ink)
