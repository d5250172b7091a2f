"""A drive as a picture: cost against time with the faults, and who decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..canvas import Palette, decorate, write_picture
from ..decision.types import Source
from .session import Driven
from .verdict import counts_of

_WINDOW = 9


def write_chart(path: Path, driven: Driven) -> None:
    """Draw a drive; the ending of ``path`` chooses PNG or SVG.

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.4])
        _costs(upper, driven, palette)
        _sources(lower, driven, palette)

    write_picture(path, draw, (9.0, 5.6))


def _costs(axes: Axes, driven: Driven, palette: Palette) -> None:
    plan = driven.order.plan
    lines = (
        (driven.baseline.mean(axis=(0, 1)), palette.same, f"{driven.rule} in process", 1.4),
        (driven.policy.mean(axis=(0, 1)), palette.muted, "policy in process", 1.4),
        (np.mean([run.cost for run in driven.runs], axis=0), palette.policy, "driven", 2.2),
    )
    for values, colour, name, width in lines:
        axes.plot(_smooth(values[: driven.length]), color=colour, linewidth=width, label=name)
    top = axes.get_ylim()[1]
    for index, fault in enumerate(plan.faults):
        shade = 0.28 if index % 2 == 0 else 0.16
        axes.axvspan(fault.first, fault.last, color=palette.extra, alpha=shade, linewidth=0)
        axes.text(
            (fault.first + fault.last) / 2,
            top,
            fault.kind,
            color=palette.ink,
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axes.set_xlim(0, driven.length)
    seeds = len(driven.runs)
    episodes = f"{seeds} episode{'' if seeds == 1 else 's'}"
    spec = driven.order.bundle.spec
    axes.set_title(f"{spec.domain}/{spec.scenario}, mean of {episodes}", loc="left", pad=22)
    axes.legend(
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.05),
        ncols=3,
        labelcolor=palette.ink,
        borderaxespad=0.0,
    )
    decorate(axes, palette, x="", y=f"cost of an epoch, {driven.unit}".removesuffix(", 1"))


def _sources(axes: Axes, driven: Driven, palette: Palette) -> None:
    """Stacked shares; what the policy decides at the bottom."""
    counts = counts_of(driven).sum(axis=0)[: driven.length]
    made = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    parts = (
        ("policy", made[:, [Source.POLICY, Source.PROJECTED]].sum(axis=1), palette.policy),
        ("previous policy", made[:, Source.PREVIOUS], palette.fresh),
        ("baseline in the daemon", made[:, Source.BASELINE], palette.same),
        ("hold or safe", made[:, [Source.HOLD, Source.SAFE]].sum(axis=1), palette.muted),
        ("the client's own rule", made[:, -1], palette.extra),
    )
    shown = [part for part in parts if part[1].any()]
    bottom = np.zeros(len(made))
    edges = np.arange(len(made) + 1)
    for name, values, colour in shown:
        axes.stairs(bottom + values, edges, baseline=bottom, fill=True, color=colour, label=name)
        bottom = bottom + values
    axes.set_ylim(0, 1)
    decorate(axes, palette, x="epoch", y="decided by")
    axes.legend(
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.38),
        ncols=len(shown),
        labelcolor=palette.ink,
    )


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moving mean over nine epochs, shorter at the ends."""
    weight = np.ones(min(_WINDOW, len(values)))
    known = np.convolve(np.ones_like(values), weight, mode="same")
    return np.convolve(values, weight, mode="same") / known
