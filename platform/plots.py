"""Pictures of runs and comparisons, for the report and for the README.

Colours are the colour-blind-safe ones of Okabe and Ito; what colour says, the marker or the line
style says too. Drawing never touches matplotlib's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .canvas import Draw, Palette, decorate, number, write_picture
from .evaluation import EvaluationTable, Standing
from .files import UserError
from .run_data import Curve, RunData, read_run

STAGES = {
    "collect": "play episodes",
    "update": "update the policy",
    "evaluate": "evaluate",
    "write": "write tables and checkpoint",
}
"""Stages of an iteration on the wall clock, in order, with their captions."""


@dataclass(frozen=True, slots=True)
class View:
    """A small panel: some statistics of the learner over training.

    ``columns`` maps a caption to a metric; ``error`` is the metric that holds its standard error.
    """

    title: str
    unit: str
    columns: Mapping[str, str]
    limits: tuple[float, float] | None = None
    error: str = ""
    logarithmic: bool = False

    def curves(self, run: RunData) -> dict[str, Curve]:
        """Those of the statistics that the run recorded."""
        found = {caption: run.curve(column) for caption, column in self.columns.items()}
        return {
            caption: run.with_error(curve, self.error)
            for caption, curve in found.items()
            if curve is not None
        }


VIEWS = (
    View("Weight of the guidance, alpha", "", {"alpha": "guidance/alpha"}, (-0.03, 1.03)),
    View(
        "Cosine of guidance and return gradients",
        "± standard error",
        {"cosine": "guidance/cosine"},
        (-1.05, 1.05),
        error="guidance/cosine_error",
    ),
    View(
        "Size of the advantages",
        "RMS, log scale",
        {"of the return": "advantage/rms_return", "of the guidance": "advantage/rms_guidance"},
        logarithmic=True,
    ),
    View("Step of an update, KL", "nats", {"KL": "policy/kl"}),
    View("Entropy of the policy", "nats", {"entropy": "policy/entropy"}),
    View("Variance explained by the critic", "", {"critic": "critic/explained_variance"}),
)
"""Panels of :func:`guidance_picture`."""


def learning_picture(run: RunData) -> Draw:
    """Evaluation return over training, with the baselines on the same seeds as lines.

    Raises:
        UserError: the run has no evaluation yet.
    """
    learning = run.learning()
    if learning is None:
        raise UserError(f"{run.folder} has no evaluation yet; nothing to draw")

    def draw(figure: Figure, palette: Palette) -> None:
        _learning(figure.subplots(), learning, run.baselines, palette)

    return draw


def comparison_draw(table: EvaluationTable) -> Draw:
    """Every controller's mean return with its interval, the best on top."""

    def draw(figure: Figure, palette: Palette) -> None:
        _comparison(figure.subplots(), table.standings(), palette)

    return draw


def guidance_picture(run: RunData) -> Draw | None:
    """Small panels on what the learner did; ``None`` if it recorded nothing of it."""
    panels = [(view, found) for view in VIEWS if (found := view.curves(run))]
    if not panels:
        return None

    def draw(figure: Figure, palette: Palette) -> None:
        rows = (len(panels) + 2) // 3
        grid = figure.subplots(rows, 3, squeeze=False).ravel()
        for axes, (view, curves) in zip(grid, panels, strict=False):
            _panel(axes, view, curves, palette)
            axes.set_title(view.title, loc="left", fontsize=9, color=palette.ink)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()

    return draw


def time_picture(run: RunData) -> Draw | None:
    """Seconds of every iteration by stage, stacked; ``None`` if none was recorded."""
    stages = run.stages(tuple(STAGES))
    if not stages or not next(iter(stages.values())).size:
        return None

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        colours = (palette.policy, palette.same, palette.fresh, palette.extra)
        count = next(iter(stages.values())).size
        where, base = np.arange(1, count + 1), np.zeros(count)
        total = sum(float(seconds.sum()) for seconds in stages.values())
        for (name, seconds), colour in zip(stages.items(), colours, strict=False):
            share = 100.0 * float(seconds.sum()) / total if total else 0.0
            label = f"{STAGES[name]} ({share:.0f} %)"
            axes.bar(where, seconds, bottom=base, width=0.85, color=colour, label=label)
            base = base + seconds
        decorate(axes, palette, x="iteration", y="seconds")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.4, count + 0.6)
        axes.set_ylim(0.0, 1.25 * float(base.max()) or 1.0)
        axes.legend(ncols=2, loc="upper left", frameon=False, labelcolor=palette.ink, fontsize=8)

    return draw


def comparison_picture(table: EvaluationTable, path: Path, *, title: str = "") -> None:
    """Write the comparison as PNG or SVG, by the file's ending.

    Raises:
        UserError: another ending, or the file cannot be written.
    """

    def draw(figure: Figure, palette: Palette) -> None:
        axes = figure.subplots()
        _comparison(axes, table.standings(), palette)
        axes.set_title(title, loc="left", color=palette.ink)

    write_picture(path, draw, (7.6, comparison_height(table)))


def comparison_height(table: EvaluationTable) -> float:
    """Inches that make room for every controller."""
    rows = len(table.names)
    return 1.3 + 0.27 * (rows if rows >= 9 else rows + 2.4)


def demo_picture(run_dir: Path, path: Path) -> None:
    """One picture of a finished run, for the README: how it learned, and how it compares.

    Of the rules with fresh information only the best three are shown.

    Raises:
        UserError: no finished run there, or the file cannot be written.
    """
    run = read_run(run_dir)
    learning, table = run.learning(), run.comparison
    if learning is None or table is None:
        raise UserError(f"{run_dir} is not finished: it lacks its evaluation or comparison")

    standings = table.standings()
    fresh = [standing for standing in standings if standing.information == "fresh"]
    standings = [standing for standing in standings if standing not in fresh[3:]]

    def draw(figure: Figure, palette: Palette) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05))
        _learning(left, learning, run.baselines, palette)
        left.set_title("Learning: return on fixed seeds", loc="left", color=palette.ink)
        _comparison(right, standings, palette)
        right.set_title("The trained policy on unseen seeds", loc="left", color=palette.ink)

    write_picture(path, draw, (12.0, max(4.2, 1.3 + 0.24 * len(standings))))


def _learning(
    axes: Axes, curve: Curve, baselines: EvaluationTable | None, palette: Palette
) -> None:
    lines = _reference_lines(baselines)
    levels = [mean for _, mean, _ in lines]
    low, high = _window(curve.value, levels)
    end = float(curve.episodes[-1]) or 1.0
    axes.fill_between(
        curve.episodes, curve.low, curve.high, color=palette.policy, alpha=0.18, linewidth=0
    )
    axes.plot(curve.episodes, curve.value, color=palette.policy, linewidth=2.2, zorder=3)
    axes.set_xlim(0.0, end)
    axes.set_ylim(low, high)
    labels = [("policy", float(curve.value[-1]), palette.policy, "bold")]
    for name, mean, information in lines:
        fresh = information == "fresh"
        colour = palette.fresh if fresh else palette.same
        axes.axhline(mean, color=colour, linewidth=1.1, linestyle=(0, (2, 2)) if fresh else "--")
        labels.append((name, mean, colour, "normal"))
    for (name, _, colour, weight), place in zip(
        labels, _spread([mean for _, mean, _, _ in labels], low, high), strict=True
    ):
        axes.annotate(
            name,
            (end, place),
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            weight=weight,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )
    if float(curve.value[0]) < low:
        note = f"starts at {number(float(curve.value[0]))}"
        axes.annotate(note, (0.02, 0.03), xycoords="axes fraction", color=palette.muted, fontsize=8)
    decorate(axes, palette, x="training episodes", y="mean return (95 % interval)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _reference_lines(baselines: EvaluationTable | None) -> list[tuple[str, float, str]]:
    """The three best rules with the same information and the best fresh one."""
    if baselines is None:
        return []
    standings = baselines.standings(resamples=2)
    same = [s for s in standings if s.information == "same"][:3]
    fresh = [s for s in standings if s.information == "fresh"][:1]
    return [(s.name, s.mean.point, s.information) for s in (*same, *fresh)]


def _window(values: np.ndarray, levels: Sequence[float]) -> tuple[float, float]:
    """Limits that show the references and most of the curve, not the depth where it began."""
    high = max([float(values.max()), *levels])
    floor = min([float(np.median(values)), float(values[-1]), *levels])
    span = max(high - floor, 1e-9 + 0.02 * abs(high))
    low = max(float(values.min()), floor - 0.6 * span)
    return min(low, floor) - 0.08 * span, high + 0.08 * span


def _spread(places: Sequence[float], low: float, high: float) -> list[float]:
    """Moves labels apart vertically so that none covers another; keeps their order."""
    gap = 0.052 * (high - low)
    order = np.argsort(places, kind="stable")
    found = np.clip(np.array(places)[order], low, high)
    for _ in range(50):
        overlap = gap - np.diff(found)
        if (overlap <= 1e-12).all():
            break
        push = np.maximum(overlap, 0.0) / 2.0
        found[:-1] -= push
        found[1:] += push
    spread = np.empty_like(found)
    spread[order] = found
    return spread.tolist()


def _comparison(axes: Axes, standings: Sequence[Standing], palette: Palette) -> None:
    means = np.array([standing.mean.point for standing in standings])
    best, middle = float(means.max()), float(np.median(means))
    floor = middle - 1.6 * (best - middle) if len(standings) > 3 else -np.inf
    shown = [standing.mean for standing in standings if standing.mean.point >= floor]
    left, right = min(mean.low for mean in shown), max(mean.high for mean in shown)
    pad = 0.06 * max(right - left, 1e-9 + 0.02 * abs(right))
    left, right = left - pad, right + pad
    for row, standing in enumerate(standings):
        colour, marker = _role(standing, palette)
        mean = standing.mean
        if mean.point < floor:
            axes.plot(left + 0.5 * pad, row, marker="<", color=colour, markersize=5)
        else:
            axes.plot([mean.low, mean.high], [row, row], color=colour, linewidth=2.4)
            axes.plot(mean.point, row, marker=marker, color=colour, markersize=7, zorder=3)
        axes.annotate(
            number(mean.point),
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
            weight="bold" if standing.kind == "policy" else "normal",
        )
    axes.set_xlim(left, right)
    # The worst stand at the bottom left, so the legend has the bottom right corner.
    axes.set_ylim(len(standings) - 0.4 + (2.4 if len(standings) < 9 else 0.0), -0.6)
    decorate(axes, palette, x="mean return, right is better (95 % interval)", y="")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=palette.grid, linewidth=0.8)
    axes.set_yticks(range(len(standings)), [s.name.removesuffix(" (fresh)") for s in standings])
    for label, standing in zip(axes.get_yticklabels(), standings, strict=True):
        label.set_color(_role(standing, palette)[0])
        label.set_fontweight("bold" if standing.kind == "policy" else "normal")
    for caption, colour, marker in (
        ("trained policy", palette.policy, "o"),
        ("heuristic, same information", palette.same, "o"),
        ("heuristic, fresh information (a bound)", palette.fresh, "D"),
    ):
        if any(_role(standing, palette) == (colour, marker) for standing in standings):
            axes.plot([], [], color=colour, marker=marker, linewidth=2.4, label=caption)
    axes.legend(
        loc="lower right", frameon=False, fontsize=8, labelcolor=palette.ink, borderaxespad=0.2
    )


def _role(standing: Standing, palette: Palette) -> tuple[str, str]:
    if standing.kind == "policy":
        return palette.policy, "o"
    return (palette.fresh, "D") if standing.information == "fresh" else (palette.same, "o")


def _panel(axes: Axes, view: View, curves: dict[str, Curve], palette: Palette) -> None:
    colours = (palette.policy, palette.same, palette.fresh, palette.extra)
    styles = ("-", "--", "-.", ":")
    if view.limits is not None:
        axes.set_ylim(*view.limits)
        if view.limits[0] < -1.0:
            axes.axhline(0.0, color=palette.muted, linewidth=0.8)
    if view.logarithmic:
        axes.set_yscale("log")
    for (name, curve), colour, style in zip(curves.items(), colours, styles, strict=False):
        axes.fill_between(
            curve.episodes, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(
            curve.episodes, curve.value, color=colour, linestyle=style, linewidth=1.8, label=name
        )
    decorate(axes, palette, x="training episodes", y=view.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.minorticks_off()
    if not view.logarithmic:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=7, labelcolor=palette.ink)
