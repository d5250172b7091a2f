"""The picture of the regret bench: how far every controller is above look-ahead dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..canvas import MINUS, Palette, decorate, write_picture
from .regret_rows import MPC, Standing

LINEAR = 1.0
"""% around zero within which the axis is linear; beyond, it is logarithmic."""

TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000)
"""% that have a tick where the panel shows them."""


def draw_gaps(standings: Sequence[Standing], path: Path) -> None:
    """Write the picture to ``path`` (.png or .svg): a panel per setting.

    A point is the gap of the mean cost with its 95 % interval, a small mark one day, the dashed
    line perfect foresight.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    first = standings[0]
    names = sorted(first.table.names, key=lambda name: -float(first.cost(name).mean()))

    def draw(figure: Figure, palette: Palette) -> None:
        panels = figure.subplots(1, len(standings), squeeze=False, sharex=True, sharey=True)[0]
        for axes, standing in zip(panels, standings, strict=True):
            _panel(axes, standing, names, palette)
        panels[0].set_yticks(range(len(names)), names, color=palette.ink)

    write_picture(path, draw, (4.6 * len(standings) + 1.2, 0.5 * len(names) + 1.6))


def _panel(axes: Axes, standing: Standing, names: Sequence[str], palette: Palette) -> None:
    theirs = standing.cost(MPC)
    least, most = -2.0 * LINEAR, 2.0 * LINEAR
    for row, name in enumerate(names):
        kind, information = standing.table.about(name)
        central = palette.same if information == "same" else palette.fresh
        colour = palette.policy if kind == "policy" else central
        gap = standing.gap(name)
        days = 100.0 * (standing.cost(name) - theirs) / theirs
        least, most = min(least, float(days.min())), max(most, float(days.max()))
        axes.plot(days, np.full(days.size, row), "|", color=colour, alpha=0.35, markersize=9)
        reach = [[gap.point - gap.low], [gap.high - gap.point]]
        axes.errorbar(
            [gap.point], [row], xerr=reach, fmt="o", color=colour, capsize=3.0, markersize=5
        )
        text = "" if name == MPC else f"{round(gap.point, 2) + 0.0:+.2f} %".replace("-", MINUS)
        axes.annotate(
            text,
            (gap.point, row),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=palette.ink,
            fontsize=8,
        )
    if standing.bounds is not None:
        level = 100.0 * float(standing.bounds.mean() / theirs.mean() - 1.0)
        least = min(least, level)
        axes.axvline(level, color=palette.extra, linestyle="--", linewidth=1.3)
        axes.annotate(
            "perfect foresight",
            (level, -0.45),
            xytext=(4, 0),
            textcoords="offset points",
            color=palette.extra,
            fontsize=8,
        )
    axes.axvline(0.0, color=palette.muted, linewidth=1.0)
    axes.set_xscale("symlog", linthresh=LINEAR)
    places = [tick for tick in TICKS if 1.2 * least <= tick <= 1.2 * most]
    axes.set_xticks(places, [f"{place:g}".replace("-", MINUS) for place in places])
    axes.minorticks_off()
    axes.set_ylim(-0.7, len(names) - 0.4)
    axes.set_title(standing.setting, loc="left", color=palette.ink)
    decorate(axes, palette, x=f"cost above {MPC}, % (logarithmic beyond {LINEAR:g})", y="")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
