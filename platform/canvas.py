"""Palettes and plumbing of our pictures. Nothing here touches matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .files import UserError, write_atomic


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by role."""

    paper: str = "#ffffff"
    ink: str = "#1f2328"
    muted: str = "#656d76"
    grid: str = "#e1e4e8"
    policy: str = "#0072b2"
    same: str = "#c26a00"
    fresh: str = "#009e73"
    extra: str = "#a3507f"


LIGHT = Palette()
DARK = Palette(
    paper="#15191e",
    ink="#e6e9ed",
    muted="#9aa5b1",
    grid="#2d343c",
    policy="#56b4e9",
    same="#e69f00",
    fresh="#2fc495",
    extra="#cc79a7",
)

MINUS = "\N{MINUS SIGN}"

Draw = Callable[[Figure, Palette], None]
"""Draws on a figure in the colours of a palette."""


def render(draw: Draw, size: tuple[float, float], *, palette: Palette, kind: str) -> bytes:
    """A drawing as ``png`` or ``svg``, ``size`` in inches."""
    with _style(palette):
        figure = Figure(figsize=size, layout="constrained", facecolor=palette.paper)
        draw(figure, palette)
        buffer = io.BytesIO()
        quiet: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=160, metadata=quiet)
    return buffer.getvalue()


def write_picture(path: Path, draw: Draw, size: tuple[float, float]) -> None:
    """Write a drawing in light colours; the ending of ``path`` chooses PNG or SVG.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise UserError(f"cannot draw {path}: the file must end in .png or .svg")
    write_atomic(path, render(draw, size, palette=LIGHT, kind=kind))


@contextmanager
def _style(palette: Palette) -> Generator[None]:
    settings: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9.0,
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "axes.titlepad": 10.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "fairlead",
        "text.color": palette.ink,
        "axes.facecolor": palette.paper,
    }
    with mpl.rc_context(settings):
        yield


def decorate(axes: Axes, palette: Palette, *, x: str, y: str) -> None:
    """Quiet axes: no frame, light horizontal lines, captions in the muted colour."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(palette.grid)
    axes.tick_params(colors=palette.muted, length=0)
    axes.grid(axis="y", color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x, color=palette.muted)
    axes.set_ylabel(y, color=palette.muted)


def number(value: float) -> str:
    """A figure for a label: two decimals, fewer if large, more if small; a real minus sign."""
    size = abs(value)
    text = f"{value:,.0f}" if size >= 1000.0 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"
    return text.replace("-", MINUS)
