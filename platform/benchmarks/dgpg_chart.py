"""The picture of a scaling bench: learning curves for every N, beside the best rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..canvas import Palette, decorate, write_picture
from .scaling_run import Point
from .subjects import Subject

COLUMNS = 3
NAMES = {"dgpg": "DG-PG", "mappo": "MAPPO", "ippo": "IPPO"}


def draw_scaling(points: Sequence[Point], path: Path, subject: Subject) -> None:
    """Write the picture to ``path`` (.png or .svg).

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    rows = -(-len(points) // COLUMNS)

    def draw(figure: Figure, palette: Palette) -> None:
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        for axes, point in zip(grid.ravel(), points, strict=False):
            _panel(axes, point, subject, palette)
        for axes in grid.ravel()[len(points) :]:
            axes.axis("off")
        grid[0, 0].legend(frameon=False, labelcolor=palette.ink, fontsize=8, loc="center right")

    write_picture(path, draw, (4.0 * COLUMNS, 3.1 * rows))


def _panel(axes: Axes, point: Point, subject: Subject, palette: Palette) -> None:
    colours = {"dgpg": palette.policy, "mappo": palette.extra, "ippo": palette.muted}
    markers = {"dgpg": "o", "mappo": "s", "ippo": "^"}
    for curve in point.curves:
        first = curve is point.of(curve.learner)[0]
        axes.plot(
            curve.episodes,
            curve.returns,
            marker=markers[curve.learner],
            markersize=3.5,
            linewidth=1.6,
            color=colours[curve.learner],
            label=NAMES[curve.learner] if first else None,
        )
    bar, bound = point.rules.bar(), _best_bound(point)
    for name, colour, what in (
        (bar, palette.same, "best rule, same information"),
        (bound, palette.fresh, f"best rule, {subject.bound}"),
    ):
        if name is not None:
            level = float(point.rules.values(name).mean())
            axes.axhline(level, color=colour, linestyle="--", linewidth=1.4, label=what)
    axes.set_title(f"N = {point.agents}", loc="left", color=palette.ink)
    guided = [value for curve in point.of("dgpg") for value in curve.returns]
    rules = [float(point.rules.values(name).mean()) for name in (bar, bound) if name is not None]
    low, high = min([*guided, *rules]), max([*guided, *rules])
    # Unguided learners may be far below; the panel shows where the decision is made.
    floor = low - 0.35 * (high - low)
    axes.set_ylim(floor, high + 0.1 * (high - low))
    below = [
        f"{NAMES[curve.learner]} {curve.returns[-1]:.1f}"
        for curve in point.curves
        if max(curve.returns) < floor
    ]
    if below:
        caption = f"below, at the end: {', '.join(below)}"
        axes.text(0.02, 0.03, caption, transform=axes.transAxes, color=palette.muted, fontsize=8)
    axes.set_xscale("log")
    ticks = [1, 2, 5, 10, 20, 40]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    decorate(axes, palette, x="training episodes", y=subject.returns)


def _best_bound(point: Point) -> str | None:
    names = [name for name in point.rules.names if point.rules.about(name)[1] != "same"]
    means = {name: float(np.mean(point.rules.values(name))) for name in names}
    return max(means, key=means.__getitem__, default=None)
