"""Figures with marks: what was measured, what was expected, and whether it passed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

Measured = float | int | str


PIPED_WIDTH = 200
"""Columns of a table that does not go to a terminal."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a report.

    Attributes:
        name: what was measured, in words or as a dotted path.
        measured: the figure.
        unit: its unit, ``"1"`` or empty for a pure number.
        expected: the figure it should equal, within ``tolerance``.
        target: a bound it should respect.
        tolerance: largest accepted ``|measured - expected|``.
        passed: whether the mark was met; ``None`` where there is no mark.
    """

    name: str
    measured: Measured
    unit: str
    expected: Measured | None = None
    target: Measured | None = None
    tolerance: float | None = None
    passed: bool | None = None

    @classmethod
    def near(cls, name: str, measured: float, unit: str, expected: float, tolerance: float) -> Row:
        """Passes if ``|measured - expected| <= tolerance`` (a NaN never passes)."""
        measured, expected = _number(measured), _number(expected)
        passed = bool(measured == expected or abs(measured - expected) <= tolerance)
        return cls(
            name, measured, unit, expected=expected, tolerance=float(tolerance), passed=passed
        )

    @classmethod
    def at_least(cls, name: str, measured: float, unit: str, target: float) -> Row:
        """Passes if ``measured >= target`` (a NaN never passes)."""
        measured, target = _number(measured), _number(target)
        return cls(name, measured, unit, target=target, passed=bool(measured >= target))

    @classmethod
    def at_most(cls, name: str, measured: float, unit: str, target: float) -> Row:
        """Passes if ``measured <= target`` (a NaN never passes)."""
        measured, target = _number(measured), _number(target)
        return cls(name, measured, unit, target=target, passed=bool(measured <= target))

    @classmethod
    def info(cls, name: str, measured: Measured, unit: str) -> Row:
        """A figure without a mark."""
        return cls(name, measured if isinstance(measured, str) else _number(measured), unit)

    def plain(self) -> dict[str, Any]:
        """The row as JSON-able values; keys without a value are left out, NaN becomes null."""
        items = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: _plain(value) for key, value in items.items() if value is not None}


def document(title: str, rows: Sequence[Row], *, extra: Mapping[str, Any] | None = None) -> str:
    """The JSON text of a report: ``{"title": ..., "rows": [...], **extra}`` and a newline."""
    content = {"title": title, "rows": [row.plain() for row in rows], **_plain(extra or {})}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def report(
    title: str,
    rows: Sequence[Row],
    *,
    as_json: bool,
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Print ``rows`` to stdout, as a table or as exactly one JSON document; return the exit status.

    The document is ``{"title": ..., "rows": [...], **extra}``; ``extra`` may hold numpy values.
    Numbers that JSON cannot hold (NaN, infinities) become null. The table shows no ``extra``.

    Returns:
        1 if a row has ``passed`` false, else 0.
    """
    if as_json:
        sys.stdout.write(document(title, rows, extra=extra))
        sys.stdout.flush()
    else:
        # Where nobody reserved a width (a pipe, a log), names stay on one line.
        console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
        console.print(Text(title, "bold"), soft_wrap=True)
        console.print(_table(rows))
    return 1 if any(row.passed is False for row in rows) else 0


def _table(rows: Sequence[Row]) -> Table:
    table = Table()
    table.add_column("name", overflow="fold")
    table.add_column("measured", justify="right", overflow="fold")
    table.add_column("unit")
    marked = any(row.passed is not None for row in rows)
    if marked:
        table.add_column("mark", justify="right", overflow="fold")
        table.add_column("passed")
    for row in rows:
        side = "left" if isinstance(row.measured, str) else "right"
        cells = [Text(row.name), Text(_show(row.measured), justify=side), Text(row.unit)]
        if marked:
            verdict = {None: Text(""), True: Text("yes", "green"), False: Text("NO", "bold red")}
            cells += [Text(_mark(row)), verdict[row.passed]]
        table.add_row(*cells)
    return table


def _mark(row: Row) -> str:
    if row.expected is not None:
        within = "" if row.tolerance is None else f" ± {_show(row.tolerance)}"
        return f"{_show(row.expected)}{within}"
    if row.target is not None:
        return f"target {_show(row.target)}"
    return ""


def _show(value: Measured) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else value


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _plain(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else _number(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
