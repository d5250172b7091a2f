"""Pictures of a comparison in a plant: delay of every controller, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import Palette, decorate, write_picture
from .evaluation import EvaluationTable
from .plant_table import DELAY, spreads

_WIDTH = 0.34
"""Inches per line; boxes of two plants share one."""


def plant_picture(tables: Mapping[str, EvaluationTable], path: Path, *, title: str) -> None:
    """Write boxes (median, quartiles, range) and single episodes, the best controller on top.

    Args:
        tables: by the label of the plant; the last one gives the order.
        path: a PNG or SVG file.
        title: above it.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    order = [spread.controller for spread in spreads(list(tables.values())[-1])]

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        _boxes(axes, tables, order, palette)
        # Labels of controllers leave the axes little width; the title starts at the figure's edge.
        figure.suptitle(
            title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=palette.ink
        )

    write_picture(path, draw, (7.6, 1.5 + _WIDTH * len(order) * max(len(tables), 1.4)))


def _boxes(
    axes: Axes, tables: Mapping[str, EvaluationTable], order: list[str], palette: Palette
) -> None:
    colours = (palette.policy, palette.same)
    height = 0.7 / len(tables)
    for at, ((label, table), colour) in enumerate(zip(tables.items(), colours, strict=False)):
        places = np.arange(len(order)) + (at - 0.5 * (len(tables) - 1)) * height
        values = [table.values(name, DELAY) for name in order]
        line = {"color": colour, "linewidth": 1.2}
        axes.boxplot(
            values,
            positions=places.tolist(),
            widths=0.8 * height,
            orientation="horizontal",
            showfliers=False,
            whis=(0.0, 100.0),
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": colour, "linewidth": 2.4},
        )
        for place, delays in zip(places, values, strict=True):
            # Episodes side by side, so that equal ones show as several.
            beside = place + 0.3 * height * np.linspace(-1.0, 1.0, delays.size)
            axes.plot(delays, beside, ".", color=colour, markersize=3.5, alpha=0.7)
        axes.plot([], [], color=colour, linewidth=2.4, label=label)
    axes.set_ylim(len(order) - 0.4, -0.6)
    decorate(axes, palette, x="mean delay of an episode, s (left is better)", y="")
    if _long(tables):
        axes.set_xscale("log")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
    axes.set_yticks(range(len(order)), order)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(tables),
        frameon=False,
        fontsize=8,
        labelcolor=palette.ink,
    )


def _long(tables: Mapping[str, EvaluationTable]) -> bool:
    """Whether a gridlocked rule would press all others to the edge."""
    delays = np.concatenate([table.frame[DELAY].to_numpy() for table in tables.values()])
    return bool(delays.min() > 0.0 and delays.max() > 8.0 * np.median(delays))
