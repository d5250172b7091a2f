"""Text tables: the data folder, transparent decompression, and columns of checked numbers."""

from __future__ import annotations

import csv
import gzip
import math
import os
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from .errors import DataError
from .interface import Bools, Doubles, Ints

ENVIRONMENT = "FAIRLEAD_DATA"
"""Environment variable that names the data folder."""

_SIBLING = Path(__file__).resolve().parents[2] / "shared" / "data"
_DOMAINS = ("cloud", "power", "traffic")
_REMEDY = f"pass a data folder (--data DIR) or set {ENVIRONMENT} to one"


def data_folder(data: str | Path | None = None) -> Path:
    """The folder that holds data files.

    ``data`` if given, else the environment variable ``FAIRLEAD_DATA``, else ``../shared/data``
    beside a source checkout.

    Raises:
        DataError: the folder does not exist; names the remedy.
    """
    named = data if data is not None else os.environ.get(ENVIRONMENT) or None
    folder = Path(named).expanduser() if named is not None else _SIBLING
    if not folder.is_dir():
        raise DataError(folder, accepted=f"no such folder; {_REMEDY}")
    return folder


def search_folders(data: str | Path | None = None) -> tuple[Path, ...]:
    """The folders in which files are looked up: DIR and the domains' own folders in it."""
    folder = data_folder(data)
    return folder, *(folder / domain for domain in _DOMAINS if (folder / domain).is_dir())


def locate(name: str, data: str | Path | None = None) -> Path:
    """Path of the data file ``name`` (or ``name.gz``) in one of the ``search_folders``.

    An existing path (absolute, or relative to the working directory with a folder in it) is taken
    as it is.

    Raises:
        DataError: no such file; names the folders that were searched and the remedy.
    """
    direct = Path(name).expanduser()
    if len(direct.parts) > 1 and direct.is_file():
        return direct
    folders = search_folders(data)
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    searched = " and ".join(str(folder) for folder in folders)
    raise DataError(name, accepted=f"no such file in {searched}; {_REMEDY} that holds it")


@contextmanager
def open_text(path: str | Path) -> Generator[TextIO]:
    """Open a text file for reading; files that start with the gzip magic are decompressed.

    Raises:
        DataError: unreadable, not UTF-8, or a damaged or truncated gzip stream (also while the
            caller is reading).
    """
    path = Path(path)
    try:
        with path.open("rb") as probe:
            compressed = probe.read(2) == b"\x1f\x8b"
        if path.suffix == ".gz" and not compressed:
            raise DataError(path, accepted="not a gzip stream although its name ends in .gz")
        opener = gzip.open if compressed else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise DataError(path, accepted=f"text in UTF-8 is expected ({error.reason})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(path, accepted=f"damaged or truncated gzip stream ({error})") from error
    except OSError as error:
        raise DataError(path, accepted=f"cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of text with the line each row came from.

    Attributes:
        file: where it was read from.
        columns: column name to its cells, all of equal length.
        lines: ``[rows]`` 1-based line of each row.
    """

    file: Path
    columns: dict[str, list[str]]
    lines: Ints

    @property
    def rows(self) -> int:
        return int(self.lines.shape[0])

    def text(self, column: str, *, required: bool = False) -> tuple[str, ...]:
        """Cells without surrounding blanks; empty ones are an error if ``required``."""
        cells = tuple(cell.strip() for cell in self.columns[column])
        if required and "" in cells:
            self.fail(cells.index(""), column, "a name is expected")
        return cells

    def integers(
        self, column: str, *, low: int = 0, high: int | None = None, empty: int | None = None
    ) -> Ints:
        """Whole numbers in ``low..high``; ``empty`` is the value of an empty cell, if allowed."""
        accepted = f"a whole number {_range(low, high)} is expected"
        values = np.full(self.rows, 0 if empty is None else empty, dtype=np.int64)
        blank = np.zeros(self.rows, dtype=np.bool_)
        for row, cell in enumerate(self.columns[column]):
            if empty is not None and not cell.strip():
                blank[row] = True
                continue
            try:
                values[row] = whole(cell)
            except (ValueError, OverflowError):
                self.fail(row, column, accepted)
        self._reject(column, accepted, ~blank & _outside(values, low, high))
        return values

    def numbers(
        self,
        column: str,
        *,
        low: float = 0.0,
        high: float | None = None,
        empty: float | None = None,
    ) -> Doubles:
        """Finite numbers in ``low..high``; ``empty`` is the value of an empty cell, if allowed."""
        accepted = f"a finite number {_range(low, high)} is expected"
        values = np.full(self.rows, 0.0 if empty is None else empty, dtype=np.float64)
        blank = np.zeros(self.rows, dtype=np.bool_)
        for row, cell in enumerate(self.columns[column]):
            if empty is not None and not cell.strip():
                blank[row] = True
                continue
            try:
                values[row] = finite(cell)
            except ValueError:
                self.fail(row, column, accepted)
        self._reject(column, accepted, ~blank & _outside(values, low, high))
        return values

    def fail(self, row: int, column: str, accepted: str) -> None:
        """Raise the ``DataError`` of one cell."""
        cell = self.columns[column][row]
        line = int(self.lines[row])
        raise DataError(self.file, line=line, field=column, value=cell, accepted=accepted)

    def _reject(self, column: str, accepted: str, wrong: Bools) -> None:
        if wrong.any():
            self.fail(int(np.argmax(wrong)), column, accepted)


def read_table(
    path: str | Path, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Table:
    """Read a CSV file with a header line; columns that are not asked for are ignored.

    An ``optional`` column that is absent is left out of the result. Blank lines are skipped.

    Raises:
        DataError: missing column, no rows, or a line with another number of cells than the header
            (also the last line of a truncated file).
    """
    path = Path(path)
    lines: list[int] = []
    with open_text(path) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            for name in required:
                if name not in header:
                    found = ", ".join(header)
                    accepted = "this column is required in the header line"
                    raise DataError(path, line=1, field=name, value=found, accepted=accepted)
            wanted = [name for name in (*required, *optional) if name in header]
            cells: list[list[str]] = [[] for _ in wanted]
            sources = [header.index(name) for name in wanted]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    accepted = f"{len(header)} cells are expected, as in the header line"
                    value = f"{len(row)} cells: {','.join(row)}"
                    raise DataError(path, line=reader.line_num, value=value, accepted=accepted)
                lines.append(reader.line_num)
                for column, source in zip(cells, sources, strict=True):
                    column.append(row[source])
        except csv.Error as error:
            accepted = f"not valid CSV ({error})"
            raise DataError(path, line=reader.line_num, accepted=accepted) from error
    if not lines:
        raise DataError(path, line=1, accepted="no rows; a header line and rows are expected")
    columns = dict(zip(wanted, cells, strict=True))
    return Table(file=path, columns=columns, lines=np.array(lines, dtype=np.int64))


def has_columns(path: str | Path, columns: tuple[str, ...]) -> bool:
    """Whether the header line of a CSV file names all of ``columns``.

    Raises:
        DataError: not readable as text.
    """
    with open_text(path) as stream:
        header = next(csv.reader(stream), [])
    return set(columns) <= {name.strip() for name in header}


def whole(text: str) -> int:
    """A whole number in plain decimal digits; ``ValueError`` otherwise."""
    if "_" in text:
        raise ValueError(text)
    return int(text)


def finite(text: str) -> float:
    """A finite number in plain decimal notation; ``ValueError`` otherwise."""
    value = float(text)
    if "_" in text or not math.isfinite(value):
        raise ValueError(text)
    return value


def _outside(values: Ints | Doubles, low: float, high: float | None) -> Bools:
    return (values < low) | (values > (math.inf if high is None else high))


def _range(low: float, high: float | None) -> str:
    return f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
