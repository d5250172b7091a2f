"""Standard Workload Format, version 2: job logs of parallel computers.

Format: Chapin, Cirne, Feitelson, Jones, Leutenegger, Schwiegelshohn, Smith, Talby, "Benchmarks and
standards for the evaluation of parallel job schedulers" (JSSPP 1999) and the Parallel Workloads
Archive. Eighteen blank-separated numbers per job, ``-1`` for unknown, comment lines start with
``;`` and may carry ``; Key: value`` headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..interface import Doubles, Ints
from ..tables import finite, open_text

FIELDS = (
    "job_number",
    "submit_time",
    "wait_time",
    "run_time",
    "allocated_processors",
    "average_cpu_time",
    "used_memory",
    "requested_processors",
    "requested_time",
    "requested_memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding_job",
    "think_time",
)
"""The eighteen fields in their order in the file."""

_REAL = {
    "submit_time",
    "wait_time",
    "run_time",
    "average_cpu_time",
    "used_memory",
    "requested_time",
    "requested_memory",
    "think_time",
}


@dataclass(frozen=True, slots=True)
class SwfLog:
    """A job log, one array ``[jobs]`` per field, in file order; -1 stands for unknown.

    Times are seconds (float64), memory kilobytes per processor (float64), everything else int64.
    ``line`` is the 1-based line of each job; ``header`` maps the keys of the comment lines to
    their values (repeated keys joined by newlines).
    """

    file: Path
    header: dict[str, str]
    line: Ints
    job_number: Ints
    submit_time: Doubles
    wait_time: Doubles
    run_time: Doubles
    allocated_processors: Ints
    average_cpu_time: Doubles
    used_memory: Doubles
    requested_processors: Ints
    requested_time: Doubles
    requested_memory: Doubles
    status: Ints
    user: Ints
    group: Ints
    executable: Ints
    queue: Ints
    partition: Ints
    preceding_job: Ints
    think_time: Doubles

    @property
    def jobs(self) -> int:
        return int(self.job_number.shape[0])

    @property
    def processors(self) -> int | None:
        """Processors of the machine by the header: ``MaxProcs``, else ``MaxNodes``, else none."""
        for key in ("MaxProcs", "MaxNodes"):
            words = self.header.get(key, "").split()
            if words and words[0].isdigit() and int(words[0]) > 0:
                return int(words[0])
        return None


def read_swf(path: str | Path) -> SwfLog:
    """Read an SWF log (plain or gzip).

    Raises:
        DataError: not eighteen fields, not a finite number, below -1, a fraction where a whole
            number belongs, or no job at all; names file, line, field and value.
    """
    path = Path(path)
    header: dict[str, str] = {}
    lines: list[int] = []
    rows: list[list[float]] = []
    with open_text(path) as stream:
        for number, raw in enumerate(stream, start=1):
            text = raw.strip()
            if text.startswith(";"):
                _note(header, text)
            elif text:
                lines.append(number)
                rows.append(_fields(path, number, text.split()))
    if not rows:
        raise DataError(path, accepted="no job lines; eighteen numbers per line are expected")
    values = np.array(rows, dtype=np.float64)
    line = np.array(lines, dtype=np.int64)
    _check(path, values, line)
    columns: dict[str, Doubles | Ints] = {
        name: values[:, i].copy() if name in _REAL else values[:, i].astype(np.int64)
        for i, name in enumerate(FIELDS)
    }
    return SwfLog(file=path, header=header, line=line, **columns)  # pyright: ignore[reportArgumentType]


def _note(header: dict[str, str], text: str) -> None:
    key, colon, value = text.lstrip("; ").partition(":")
    if colon:
        key, value = key.strip(), value.strip()
        header[key] = f"{header[key]}\n{value}" if key in header else value


def _fields(path: Path, line: int, words: list[str]) -> list[float]:
    if len(words) != len(FIELDS):
        accepted = f"{len(FIELDS)} fields are expected (Standard Workload Format)"
        value = f"{len(words)} fields: {' '.join(words)}"
        raise DataError(path, line=line, value=value, accepted=accepted)
    row: list[float] = []
    for index, word in enumerate(words):
        try:
            row.append(finite(word))
        except ValueError as error:
            field = f"{index + 1} ({FIELDS[index]})"
            accepted = "a finite number is expected, -1 for unknown"
            raise DataError(path, line=line, field=field, value=word, accepted=accepted) from error
    return row


def _check(path: Path, values: Doubles, line: Ints) -> None:
    low = np.full(len(FIELDS), -1.0)
    low[FIELDS.index("job_number")] = 0.0
    low[FIELDS.index("submit_time")] = 0.0
    fraction = values != np.floor(values)
    fraction[:, [i for i, name in enumerate(FIELDS) if name in _REAL]] = False
    for wrong, accepted in (
        (
            values < low,
            "a number of at least -1 (job number and submit time: 0) is expected",
        ),
        (fraction, "a whole number is expected"),
    ):
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                path,
                line=int(line[row]),
                field=f"{column + 1} ({FIELDS[column]})",
                value=float(values[row, column]),
                accepted=accepted,
            )
