"""Batch scheduling against published figures: RLScheduler's table and per-sequence values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...policies.heuristics.batch import RULES, BatchRule
from ...simulators.cloud.backfill import Backfill
from ...simulators.cloud.batch import BatchJobs, BatchResult, batch_jobs, schedule
from ...simulators.cloud.batch_scenario import PUBLISHED_STARTS
from ...simulators.cloud.swf import read_swf
from ...simulators.tables import Table, has_columns, read_table
from ..rows import Row
from .suites import Check, skipped

COLUMNS = (
    "trace",
    "start_index",
    "num_jobs",
    "backfill",
    "policy",
    "bounded_slowdown",
    "utilization",
)
OPTIONAL = ("wait_definition", "procs")
DEFAULT_PROCESSORS = 256
TOLERANCE = 1e-6
"""Of per-sequence values, which are given with six digits after the point."""

_RULES = ("FCFS", "WFP3 as published", "UNI as published", "SJF", "F1")
_PUBLISHED: dict[tuple[str, Backfill], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("lublin1_256", "none"): (
        (7273.77, 19753.53, 22274.74, 277.35, 258.37),
        (0.657, 0.747, 0.691, 0.762, 0.816),
    ),
    ("lublin1_256", "greedy"): (
        (235.82, 133.87, 307.23, 73.31, 75.07),
        (0.868, 0.864, 0.883, 0.778, 0.840),
    ),
    ("lublin2_256", "none"): (
        (7842.47, 9523.18, 11265.31, 787.89, 698.34),
        (0.404, 0.543, 0.510, 0.562, 0.478),
    ),
    ("lublin2_256", "greedy"): (
        (247.61, 318.35, 379.59, 91.99, 148.25),
        (0.587, 0.583, 0.587, 0.593, 0.552),
    ),
}
"""Mean bounded slowdown and utilisation by trace, backfilling and rule (order of ``_RULES``).

From the tables in the README of RLScheduler's public code (DIR-LAB/deep-batch-scheduler): ten
sequences of 1,024 jobs on 256 processors. The log names are those of our copies of Lublin-1 and
Lublin-2.
"""

_BACKFILL: dict[str, Backfill] = {
    "0": "none",
    "1": "greedy",
    "false": "none",
    "true": "greedy",
    "none": "none",
    "greedy": "greedy",
    "easy": "easy",
}
_TRUE_WAIT = {"", "true", "wait"}


@dataclass(frozen=True, slots=True)
class Expected:
    """One row of an expected-values file."""

    start: int
    jobs: int
    backfill: Backfill
    rule: str
    bounded_slowdown: float
    utilization: float


def batch_checks(folders: Sequence[Path]) -> list[Check]:
    """Comparisons for every expected-values file in ``folders``, one check per log and file.

    Raises:
        DataError: an expected-values file with an unusable value.
    """
    found: list[Check] = []
    for folder in folders:
        for file in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
            if has_columns(file, COLUMNS):
                found += _checks(file, folders)
    return found


def _checks(file: Path, folders: Sequence[Path]) -> list[Check]:
    table = read_table(file, COLUMNS, OPTIONAL)
    found: list[Check] = []
    for (trace, processors), expected in _by_log(table).items():
        path = _log(trace, (file.parent, *folders))
        if path is None:
            missing = skipped(f"{file.name}: {trace}", f"no log {trace}.swf in the data folder")
            found.append(Check(f"{trace} of {file.name}", partial(_only, missing), cost=0.0))
            continue
        run = partial(compare_log, path, processors, tuple(expected))
        cost = 4e-6 * sum(row.jobs for row in expected)
        found.append(Check(f"{trace}: per-sequence values of {file.name}", run, cost))
        if processors in (None, DEFAULT_PROCESSORS) and any(key[0] == trace for key in _PUBLISHED):
            run = partial(compare_published, path, trace)
            found.append(Check(f"{trace}: published table", run, cost=1.0))
    return found


def _only(row: Row) -> list[Row]:
    return [row]


def _log(trace: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for name in (trace, f"{trace}.swf", f"{trace}.swf.gz", f"{trace}.gz"):
            if (folder / name).is_file():
                return folder / name
    return None


def _by_log(table: Table) -> dict[tuple[str, int | None], list[Expected]]:
    starts, jobs = table.integers("start_index"), table.integers("num_jobs", low=1)
    slowdown, utilization = table.numbers("bounded_slowdown"), table.numbers("utilization")
    processors = None
    if "procs" in table.columns:
        processors = table.integers("procs", low=1, empty=0)
    found: dict[tuple[str, int | None], list[Expected]] = {}
    for row, trace in enumerate(table.text("trace", required=True)):
        size = int(processors[row]) if processors is not None and processors[row] else None
        expected = Expected(
            start=int(starts[row]),
            jobs=int(jobs[row]),
            backfill=_backfill(table, row),
            rule=_rule(table, row),
            bounded_slowdown=float(slowdown[row]),
            utilization=float(utilization[row]),
        )
        found.setdefault((trace, size), []).append(expected)
    return found


def _backfill(table: Table, row: int) -> Backfill:
    word = table.columns["backfill"][row].strip().lower()
    if word not in _BACKFILL:
        table.fail(row, "backfill", f"one of {', '.join(_BACKFILL)} is expected")
    return _BACKFILL[word]


def _rule(table: Table, row: int) -> str:
    word = table.columns["policy"][row].strip()
    names = {name.lower(): name for name in RULES}
    wait = table.columns.get("wait_definition", [""] * table.rows)[row].strip().lower()
    if word.lower() not in names:
        table.fail(row, "policy", f"one of {', '.join(RULES)} is expected")
    name = names[word.lower()]
    if wait in _TRUE_WAIT:
        return name
    if not wait.startswith("as_published"):
        table.fail(row, "wait_definition", "'true' or 'as_published...' is expected")
    return f"{name} as published" if f"{name} as published" in RULES else name


def compare_log(path: Path, processors: int | None, expected: tuple[Expected, ...]) -> list[Row]:
    """Both figures of every expected row."""
    size, jobs = _jobs(path, processors)
    rows: list[Row] = []
    for row in expected:
        result = _schedule(jobs, (row.start, row.jobs), size, RULES[row.rule], row.backfill)
        name = (
            f"{path.name}: jobs {row.start}+{row.jobs}, {row.rule}, {_words(row.backfill)}, "
            f"{size} processors"
        )
        slowdown = float(result.bounded_slowdown.mean())
        utilization = result.utilization_to_last_start
        rows += [
            Row.near(f"{name}: bounded slowdown", slowdown, "1", row.bounded_slowdown, TOLERANCE),
            Row.near(f"{name}: utilisation", utilization, "1", row.utilization, TOLERANCE),
        ]
    return rows


def compare_published(path: Path, trace: str) -> list[Row]:
    """The published figures of one trace, digit for digit."""
    size, jobs = _jobs(path, DEFAULT_PROCESSORS)
    rows: list[Row] = []
    for (name, backfill), (slowdowns, utilizations) in _PUBLISHED.items():
        if name != trace:
            continue
        for rule, slowdown, utilization in zip(_RULES, slowdowns, utilizations, strict=True):
            results = [
                _schedule(jobs, (start, 1024), size, RULES[rule], backfill)
                for start in PUBLISHED_STARTS
            ]
            title = f"RLScheduler table, {path.name}, {rule}, {_words(backfill)}"
            mean = float(np.mean([result.bounded_slowdown.mean() for result in results]))
            used = float(np.mean([result.utilization_to_last_start for result in results]))
            rows += [
                Row.near(f"{title}: bounded slowdown", round(mean, 2), "1", slowdown, 0.0),
                Row.near(f"{title}: utilisation", round(used, 3), "1", utilization, 0.0),
            ]
    return rows


def _jobs(path: Path, processors: int | None) -> tuple[int, BatchJobs]:
    log = read_swf(path)
    size = processors or log.processors or DEFAULT_PROCESSORS
    return size, batch_jobs(log, processors=size)


def _schedule(
    jobs: BatchJobs, span: tuple[int, int], size: int, rule: BatchRule, backfill: Backfill
) -> BatchResult:
    sequence = jobs.sequence(*span)
    return schedule(sequence, processors=size, score=rule, backfill=backfill)


def _words(backfill: Backfill) -> str:
    return {"none": "no", "greedy": "greedy", "easy": "EASY"}[backfill] + " backfilling"
