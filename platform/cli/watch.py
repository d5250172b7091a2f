"""What a training job looks like while it runs: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..moments import Moment, Watch


@contextmanager
def watching(title: str) -> Generator[Watch]:
    """Shows a job's moments on stderr; stdout stays free for results."""
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=None, figures="")
        yield _Bar(progress, task, title)


class _Bar:
    """One bar over all iterations; the stage within an iteration moves it, too."""

    def __init__(self, progress: Progress, task: TaskID, title: str):
        self._progress, self._task, self._title = progress, task, title

    def __call__(self, moment: Moment) -> None:
        part = moment.done / moment.total if moment.total else 0.0
        share = 0.3 * part if moment.stage == "collect" else 0.0
        count = f" {moment.done}/{moment.total}" if moment.total else ""
        self._progress.update(
            self._task,
            completed=moment.iteration + share,
            total=moment.iterations,
            description=f"{self._title} {moment.iteration}/{moment.iterations} "
            f"{moment.stage}{count}",
            figures=figures(moment),
        )


class _Lines:
    """A line whenever an iteration with an evaluation is stored."""

    def __init__(self, title: str):
        self._title, self._begin = title, time.monotonic()
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._last: float | None = None

    def __call__(self, moment: Moment) -> None:
        if moment.stage == "write" and moment.latest is not None and moment.latest != self._last:
            self._last = moment.latest
            seconds = time.monotonic() - self._begin
            self._console.print(
                f"{self._title} {moment.iteration}/{moment.iterations}  {figures(moment)}  "
                f"{seconds:.0f} s"
            )


def figures(moment: Moment) -> str:
    """Return, best so far, and the heuristic to beat."""
    parts: list[str] = []
    if moment.latest is not None:
        parts.append(f"return {moment.latest:.3f}")
    if moment.best is not None:
        parts.append(f"best {moment.best:.3f}")
    if moment.mark is not None:
        ahead = moment.best is not None and moment.best > moment.mark[1]
        parts.append(f"{moment.mark[0]} {moment.mark[1]:.3f}{' beaten' if ahead else ''}")
    return "  ".join(parts)
