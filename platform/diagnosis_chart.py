"""The picture of a diagnosis: who was how alarming when, and whom Patient-0's influence reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from ..simulators.interface import Spec
from .canvas import Palette, decorate, write_picture
from .diagnosis import Case

ROWS = 40
"""Up to so many agents every row has a label."""

LIMIT = 3.0
"""Heat ends at so many thresholds; what is above has the same colour."""

BARS = 14


def draw_case(case: Case, spec: Spec, path: Path, window: int) -> None:
    """Write the picture to ``path`` (.png or .svg).

    Left: largest signal of every agent and epoch in incident thresholds, first crossings and
    contagion on top. Right: Patient-0's influence on the agents it reached most.

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        if case.contagion is None:
            _heat(figure, figure.subplots(), case, spec, palette, window)
            return
        left, right = figure.subplots(1, 2, width_ratios=(3.0, 1.0))
        _heat(figure, left, case, spec, palette, window)
        _influence(right, case, palette, window)

    agents = case.ratio.shape[2]
    height = 1.6 + 0.2 * agents if agents <= ROWS else 8.5
    write_picture(path, draw, (11.5, max(height, 4.0)))


def _heat(
    figure: Figure, axes: Axes, case: Case, spec: Spec, palette: Palette, window: int
) -> None:
    order = np.argsort(spec.group_of, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    heat = np.where(np.isnan(case.signals).all(axis=0), np.nan, case.heat)
    ramp = [(0.0, palette.paper), (0.5, "#9ec9e8"), (0.501, "#f6c28b"), (1.0, "#a52a00")]
    colours = LinearSegmentedColormap.from_list("alarm", ramp).with_extremes(bad=palette.grid)
    image = axes.imshow(
        heat[:, order].T,
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        norm=TwoSlopeNorm(1.0, 0.0, LIMIT),
    )
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.01, extend="max")
    bar.set_label("largest signal, in incident thresholds", color=palette.muted)
    bar.ax.tick_params(colors=palette.muted)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    decorate(axes, palette, x="decision epoch (grey: nothing to decide)", y="agent")
    axes.grid(visible=False)
    _labels(axes, case, spec, order, palette)
    _marks(axes, case, place, palette, window)
    axes.set_title(_title(case), loc="left", color=palette.ink)


def _labels(axes: Axes, case: Case, spec: Spec, order: np.ndarray, palette: Palette) -> None:
    groups = spec.group_of[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    for start in starts[1:]:
        axes.axhline(start - 0.5, color=palette.muted, linewidth=0.7)
    if order.size <= ROWS:
        axes.set_yticks(range(order.size), [str(agent) for agent in order])
        for label, agent in zip(axes.get_yticklabels(), order, strict=True):
            if agent == case.patient_zero:
                label.set_color(palette.ink)
                label.set_fontweight("bold")
        return
    ends = np.r_[starts[1:], order.size]
    names = [spec.groups[int(groups[start])] for start in starts]
    axes.set_yticks(
        [(start + end - 1) / 2.0 for start, end in zip(starts, ends, strict=True)],
        [f"{name}\n({end - start})" for name, start, end in zip(names, starts, ends, strict=True)],
    )


def _marks(axes: Axes, case: Case, place: np.ndarray, palette: Palette, window: int) -> None:
    for fault in case.faults:
        axes.plot(
            fault.epoch - 0.5,
            place[fault.agent],
            marker=">",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=palette.policy,
            markeredgewidth=1.6,
            linestyle="none",
            label=f"agent {fault.agent} broken on purpose ({fault.kind})",
        )
    sick = set() if case.contagion is None else {edge.target for edge in case.contagion.edges}
    when = {crossing.agent: crossing.epoch for crossing in case.crossings}
    others = [c for c in case.crossings if c.agent not in sick and c.agent != case.patient_zero]
    if others:
        axes.plot(
            [c.epoch for c in others],
            [place[c.agent] for c in others],
            marker=".",
            color=palette.muted,
            linestyle="none",
            label="crossed the level for one agent, nobody's influence explains it",
        )
    start = _start(case)
    if case.patient_zero is not None and start is not None:
        axes.plot(
            start,
            place[case.patient_zero],
            marker="*",
            markersize=15,
            color=palette.ink,
            markeredgecolor=palette.paper,
            linestyle="none",
            label=f"Patient-0: agent {case.patient_zero} at epoch {start}",
            clip_on=False,
            zorder=5,
        )
    if case.contagion is not None and case.contagion.edges:
        for edge in case.contagion.edges:
            begin = start if edge.source == case.patient_zero else when[edge.source]
            doubtful = case.confirmed(edge, window) is False
            axes.annotate(
                "",
                (edge.epoch, place[edge.target]),
                (begin if begin is not None else edge.epoch, place[edge.source]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": palette.ink,
                    "linewidth": 1.2,
                    "linestyle": ":" if doubtful else "-",
                },
            )
        for doubtful, face, caption in (
            (False, palette.ink, "taken along"),
            (True, palette.paper, "seems taken along, but crosses without the fault, too"),
        ):
            found = [
                edge
                for edge in case.contagion.edges
                if (case.confirmed(edge, window) is False) is doubtful
            ]
            if found:
                axes.plot(
                    [edge.epoch for edge in found],
                    [place[edge.target] for edge in found],
                    marker="o",
                    markersize=6,
                    color=face,
                    markeredgecolor=palette.ink,
                    linestyle="none",
                    label=caption,
                )
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0.0, -0.08), ncols=2, frameon=False, fontsize=8,
            labelcolor=palette.ink,
        )  # fmt: skip


def _start(case: Case) -> int | None:
    if case.first is None:
        return None
    own = [c.epoch for c in case.crossings if c.agent == case.patient_zero]
    return case.first.epoch if case.patient_zero == case.first.agent else own[0]


def _title(case: Case) -> str:
    if case.first is None:
        return f"Episode {case.seed}: no incident"
    return f"Episode {case.seed}: agent {case.patient_zero} failed first, by {case.first.signal}"


def _influence(axes: Axes, case: Case, palette: Palette, window: int) -> None:
    contagion = case.contagion
    if contagion is None:
        raise ValueError("no contagion to draw")
    order = np.argsort(-contagion.strength, kind="stable")
    order = order[order != contagion.source][:BARS]
    taken = {edge.target for edge in contagion.edges}
    colours = [
        palette.fresh if agent in taken
        else palette.same if contagion.reached[agent] >= 0
        else palette.muted
        for agent in order
    ]  # fmt: skip
    where = np.arange(order.size)
    axes.barh(where, contagion.strength[order], color=colours, height=0.7)
    for row, agent in enumerate(order):
        if contagion.reached[agent] >= 0:
            note = f"from epoch {contagion.reached[agent]}"
            axes.annotate(
                note, (contagion.strength[agent], row), xytext=(3, 0),
                textcoords="offset points", va="center", fontsize=7, color=palette.muted,
            )  # fmt: skip
    axes.axvline(contagion.edge, color=palette.ink, linewidth=1.0, linestyle="--", label="reach")
    axes.set_yticks(where, [str(agent) for agent in order])
    axes.set_ylim(BARS - 0.4, -0.6)
    axes.margins(x=0.35)
    decorate(axes, palette, x=f"strongest in {2 * window} epochs\n(1: its own clean 99 %)", y="")
    axes.grid(visible=False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
    axes.set_title(f"Influence of {contagion.source} on others", loc="left", color=palette.ink)
    for caption, colour in (
        ("taken along", palette.fresh),
        ("reached", palette.same),
        ("not reached", palette.muted),
    ):
        if colour in colours:
            axes.barh([0], [0], color=colour, label=caption)
    axes.legend(
        frameon=False,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.14),
        labelcolor=palette.ink,
    )
