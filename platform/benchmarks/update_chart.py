"""The picture of the update bench: cost per agent, and how long the compound ratio lasts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..canvas import Palette, decorate, write_picture
from .update_factor import Curve
from .update_runs import Cost

MARKERS = "os^Dv"


def draw_update(
    costs: Sequence[Cost], names: Sequence[str], curves: Sequence[Curve], path: Path
) -> None:
    """Write the picture to ``path`` (.png or .svg).

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        left, right = figure.subplots(1, 2)
        _costs(left, costs, names, palette)
        _shares(right, curves, palette)

    write_picture(path, draw, (11.0, 4.4))


def _costs(axes: Axes, costs: Sequence[Cost], names: Sequence[str], palette: Palette) -> None:
    numbers = [cost.agents for cost in costs]
    colours = (palette.policy, palette.fresh, palette.extra, palette.ink)
    for name, colour, marker in zip(names, colours, MARKERS, strict=False):
        seconds = [cost.per_agent(name) for cost in costs]
        axes.plot(numbers, seconds, marker=marker, color=colour, label=name)
    for algorithm, marker in (("hatrpo", "o"), ("happo", "^")):
        known = [cost for cost in costs if algorithm in cost.harl]
        if known:
            axes.plot(
                [cost.agents for cost in known],
                [cost.harl_per_agent(algorithm) for cost in known],
                marker=marker,
                linestyle="--",
                color=palette.same,
                label=f"HARL {algorithm}",
            )
    axes.set_title("CPU seconds per agent of one update", loc="left", color=palette.ink)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    decorate(axes, palette, x="agents", y="")
    axes.legend(frameon=False, labelcolor=palette.ink, fontsize=8)


def _shares(axes: Axes, curves: Sequence[Curve], palette: Palette) -> None:
    """HARL's curves and those of our largest team, which share nothing but the noise."""
    largest = max((curve.agents for curve in curves if not _is_harl(curve)), default=0)
    colours = iter((palette.policy, palette.fresh, palette.extra, palette.ink))
    dashes = iter(("--", ":"))
    for curve in curves:
        if _is_harl(curve):
            style, colour = next(dashes), palette.same
        elif curve.agents == largest:
            style, colour = "-", next(colours)
        else:
            continue
        label = curve.name if _is_harl(curve) else f"N={curve.agents}: {curve.name}"
        axes.plot(curve.moved, curve.used, style, color=colour, label=label)
    axes.set_title("Effective samples as used, share of all", loc="left", color=palette.ink)
    axes.set_xscale("log")
    axes.set_yscale("log")
    decorate(axes, palette, x="agents that have moved", y="")
    axes.legend(frameon=False, labelcolor=palette.ink, fontsize=8, loc="lower left")


def _is_harl(curve: Curve) -> bool:
    return curve.name.startswith("HARL")
