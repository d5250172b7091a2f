"""How long work tells how far it is, without knowing who watches."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Report(Protocol):
    """Called as ``progress(done, total, what)``; ``done`` and ``total`` in any common unit."""

    def __call__(self, done: float, total: float, what: str, /) -> None: ...


def silent(done: float, total: float, what: str, /) -> None:
    """A report that nobody watches."""


@contextmanager
def progress_bar(title: str) -> Generator[Report]:
    """A progress bar on stderr while the block runs; silent where stderr is not a terminal.

    Stdout stays free for results, so ``--json`` output can be piped while the bar is on screen.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: float, total: float, what: str, /) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {what}")

        yield advance
