"""The picture of the games bench: fields with and without HPML above, trust regions below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..canvas import Palette, decorate, write_picture
from .games_differential import EDGE, STARTS, Outcome, payoff, wilson
from .games_matrix import Learnt
from .games_projection import HPML, PLAIN, SMALL, Contest
from .games_walk import METHODS

CROSSING = 1
"""Index of the start whose paths are drawn: the wide one, from which some cross and some do not."""


@dataclass(frozen=True, slots=True)
class Played:
    """All that the picture shows."""

    quadratics: Sequence[Sequence[Contest]]
    mixed: Sequence[Contest]
    crossings: Sequence[Outcome]
    learnt: Sequence[tuple[str, Sequence[Learnt]]]


def draw_games(played: Played, path: Path) -> None:
    """Write the picture to ``path`` (.png or .svg).

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        grid = figure.subplots(2, 4)
        _kappa(grid[0, 0], played.quadratics, palette)
        for axes, family in zip(grid[0, 1:3], played.quadratics, strict=False):
            _converged(axes, family, palette)
        _legend(grid[0, 1], palette, framed=True)
        _gaps(grid[0, 3], played.mixed, palette)
        _paths(grid[1, 0], played.crossings, palette)
        _shares(grid[1, 1], played.crossings, palette)
        for axes, (title, learnt) in zip(grid[1, 2:], played.learnt, strict=False):
            _learning(axes, title, learnt, palette)
        for axes in grid.ravel():
            if not axes.has_data():
                axes.axis("off")

    write_picture(path, draw, (17.0, 8.0))


def _title(axes: Axes, text: str, palette: Palette) -> None:
    axes.set_title(text, loc="left", color=palette.ink)


def _legend(
    axes: Axes,
    palette: Palette,
    where: Literal["best", "upper left"] = "best",
    *,
    framed: bool = False,
) -> None:
    axes.legend(
        frameon=framed,
        framealpha=0.9,
        edgecolor=palette.grid,
        facecolor=palette.paper,
        labelcolor=palette.ink,
        fontsize=8,
        loc=where,
    )


def _kappa(axes: Axes, families: Sequence[Sequence[Contest]], palette: Palette) -> None:
    twists = np.linspace(0.0, max(one.value for one in families[0]), 200)
    axes.plot(twists, twists**2 / (1.0 + twists**2), color=palette.muted, label="exact")
    colours = (palette.policy, palette.extra)
    for family, colour in zip(families, colours, strict=False):
        players = family[0].label.split(",")[0].split("=")[1]
        at = [one.value for one in family]
        axes.plot(at, [one.kappa for one in family], "o", color=colour, label=f"r = {players}")
        graph = [one.kappa_graph for one in family]
        axes.plot(at, graph, "x", color=colour, label=f"r = {players}, graph form")
    _title(axes, "Non-potentiality of quadratic games", palette)
    decorate(axes, palette, x="lambda", y="kappa")
    _legend(axes, palette)


def _converged(axes: Axes, family: Sequence[Contest], palette: Palette) -> None:
    looks = {
        PLAIN: ("s--", palette.same),
        SMALL: ("v:", palette.muted),
        HPML["rest"]: ("o-", palette.policy),
        HPML["mean"]: ("^-", palette.fresh),
        HPML["start"]: ("x:", palette.extra),
    }
    for name, (marks, colour) in looks.items():
        shares = [one.outcomes[name].settled.mean() for one in family]
        at = [one.value for one in family]
        axes.plot(at, shares, marks, color=colour, label=name, markersize=5, alpha=0.9)
    axes.set_ylim(-0.05, 1.08)
    players = family[0].label.split(",")[0].split("=")[1]
    _title(axes, f"Runs that converge, r = {players}", palette)
    decorate(axes, palette, x="lambda", y="share")


def _gaps(axes: Axes, mixed: Sequence[Contest], palette: Palette) -> None:
    looks = {
        PLAIN: ("s--", palette.same),
        HPML["rest"]: ("o-", palette.policy),
        HPML["mean"]: ("^-", palette.fresh),
    }
    for name, (marks, colour) in looks.items():
        # Orbits never end: the mean over the last quarter of the path is what they cost.
        gaps = [one.outcomes[name].cycling.mean() for one in mixed]
        axes.plot([one.value for one in mixed], gaps, marks, color=colour, label=name, markersize=5)
    _title(axes, "Pennies mixed with coordination", palette)
    decorate(axes, palette, x="share of coordination", y="mean gap, last quarter of the path")
    _legend(axes, palette)


def _colours(palette: Palette) -> dict[str, str]:
    return dict(zip(METHODS, (palette.muted, palette.policy, palette.same), strict=True))


def _paths(axes: Axes, crossings: Sequence[Outcome], palette: Palette) -> None:
    ticks = np.linspace(0.0, EDGE, 141)
    first, second = np.meshgrid(ticks, ticks)
    heights = payoff(np.stack([first, second], axis=-1))
    axes.contourf(first, second, heights, levels=14, cmap="Greys", alpha=0.55)
    start = STARTS[CROSSING]
    for one in crossings:
        if one.start is not start or one.method == "hatrpo-g":
            continue
        colour = palette.extra if one.method == "hatrpo" else palette.policy
        for number in range(one.paths.shape[1]):
            path = one.paths[:, number]
            label = one.method if number == 0 else None
            axes.plot(path[:, 0], path[:, 1], color=colour, linewidth=1.1, label=label)
            axes.plot(path[-1, 0], path[-1, 1], "o", color=colour, markersize=5)
    axes.set_xlim(0.0, EDGE)
    axes.set_ylim(0.0, EDGE)
    _title(axes, f"Policy means: {start.name}", palette)
    decorate(axes, palette, x="agent 1", y="agent 2")
    _legend(axes, palette, "upper left")


def _shares(axes: Axes, crossings: Sequence[Outcome], palette: Palette) -> None:
    width = 0.26
    for place, method in enumerate(METHODS):
        reached = [one.reached for one in crossings if one.method == method]
        share = np.array([one.mean() for one in reached])
        ends = np.array([wilson(int(one.sum()), one.size) for one in reached])
        at = np.arange(len(reached)) + (place - 1) * width
        axes.bar(at, share, 0.9 * width, color=_colours(palette)[method], label=method)
        error = np.maximum(np.abs(ends.T - share), 0.0)
        axes.errorbar(at, share, yerr=error, fmt="none", ecolor=palette.ink, elinewidth=1.0)
    names = [start.name.replace(", ", "\n") for start in STARTS]
    axes.set_xticks(range(len(STARTS)), names)
    axes.set_ylim(0.0, 1.3)
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    _title(axes, "Runs that reach the far peak", palette)
    decorate(axes, palette, x="", y="share, 95 % interval")
    _legend(axes, palette, "upper left")


def _learning(axes: Axes, title: str, learnt: Sequence[Learnt], palette: Palette) -> None:
    for one in learnt:
        clipped = one.name.startswith("clip-")
        colour = _colours(palette)[one.name.removeprefix("clip-")]
        style = ":" if clipped else "-"
        axes.plot(one.gaps.mean(axis=1), style, color=colour, label=one.name, linewidth=1.6)
    axes.set_yscale("log")
    lowest = min(float(one.gaps.mean(axis=1).min()) for one in learnt)
    ticks = [tick for tick in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005) if tick > 0.7 * lowest]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    _title(axes, title[0].upper() + title[1:], palette)
    decorate(axes, palette, x="updates", y="relative gap")
    _legend(axes, palette)
