"""Suites of checks: named pieces of work that compare the product with figures known beforehand.

A suite lists its :class:`Check` values for the data at hand; a check runs on its own, in any
process, and returns marked rows. Which domain has which suites stands in one mapping in
``platform/validation/__init__.py``; a suite's module is imported when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, cast

from ..progress import Report, silent
from ..rows import Row


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        name: what is compared, in words; ``--only`` selects by it.
        run: picklable function of no arguments that returns the rows.
        cost: expected work in seconds on one core, for the order of work and the progress bar.
    """

    name: str
    run: Callable[[], list[Row]]
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Suite:
    """A module with ``checks(*, data: Path | None, quick: bool) -> list[Check]``.

    ``needs_data`` suites are skipped, and a row says so, when no data folder is at hand.
    ``options`` are further arguments of ``checks``.
    """

    name: str
    module: str
    needs_data: bool
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


class _SuiteModule(Protocol):
    def checks(self, *, data: Path | None, quick: bool, **options: Any) -> list[Check]: ...


def skipped(what: str, reason: str) -> Row:
    """A row without a mark that says what was not compared, and why."""
    return Row.info(f"skipped: {what}", reason, "")


def collect(
    suites: Sequence[Suite], *, data: Path | None, quick: bool, only: str | None = None
) -> tuple[list[Check], list[Row]]:
    """The checks to run, in their order, and rows that say what is left out.

    ``only`` keeps checks whose name, alone or as ``suite: name``, matches it, ignoring case: a
    shell pattern if it holds any of ``*?[``, else a part of the name.
    """
    chosen: list[Check] = []
    left_out: list[Row] = []
    for suite in suites:
        if suite.needs_data and data is None:
            left_out.append(skipped(suite.name, "no data folder; give one with --data DIR"))
            continue
        module = cast(_SuiteModule, import_module(suite.module, package=__package__))
        found = module.checks(data=data, quick=quick, **suite.options)
        kept = [
            check
            for check in found
            if matches(check.name, only) or matches(f"{suite.name}: {check.name}", only)
        ]
        chosen += kept
        if len(kept) < len(found):
            count = len(found) - len(kept)
            left_out.append(skipped(f"{suite.name}: {count} checks", f"do not match {only!r}"))
    return chosen, left_out


def matches(name: str, pattern: str | None) -> bool:
    """Whether ``name`` matches, ignoring case, as a shell pattern or as a part of it."""
    if pattern is None:
        return True
    if any(character in pattern for character in "*?["):
        return fnmatchcase(name.lower(), pattern.lower())
    return pattern.lower() in name.lower()


def run_checks(
    checks: Sequence[Check], *, workers: int = 1, progress: Report = silent
) -> list[Row]:
    """Run all checks and return their rows in the order of ``checks``.

    Each check has its own seeds, so the rows do not depend on ``workers``. An exception in a check
    ends the run; its note names the check.
    """
    total = sum(check.cost for check in checks)
    results: list[list[Row]] = [[] for _ in checks]
    done = 0.0
    progress(done, total, "starting")
    if workers <= 1:
        for position, check in enumerate(checks):
            results[position] = _guarded(check)
            done += check.cost
            progress(done, total, check.name)
        return [row for rows in results for row in rows]
    # Costly checks first, so that no worker is left with a long one at the end. Fresh processes
    # (not forks): a forked copy of a process with running solver threads can deadlock.
    order = sorted(range(len(checks)), key=lambda position: -checks[position].cost)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: dict[Future[list[Row]], int] = {
            pool.submit(_guarded, checks[position]): position for position in order
        }
        try:
            for future in as_completed(running):
                position = running[future]
                results[position] = future.result()
                done += checks[position].cost
                progress(done, total, checks[position].name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [row for rows in results for row in rows]


def _guarded(check: Check) -> list[Row]:
    try:
        return check.run()
    except Exception as error:
        error.add_note(f"in check {check.name!r}")
        raise


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
