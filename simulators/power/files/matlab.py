"""Matrices and cell arrays of a MATLAB data file, with the line every row came from.

Not a MATLAB interpreter: assignments of literals are read, all else is either harmless (function
header, ``end``) or refused, because a statement that changes a matrix must not go unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...interface import Bools, Doubles
from ...tables import open_text

_ASSIGNMENT = re.compile(r"^\s*(?:\w+\.)?(\w+)\s*=(?!=)\s*(.*)$")
_CHANGE = re.compile(r"^\s*(?:\w+\.)?\w+\s*[({].*[)}]\s*=(?!=)")
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Block:
    """One assigned value: the words of each row, and the 1-based line a row started on."""

    file: Path
    name: str
    line: int
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def matrix(self, columns: int, names: tuple[str, ...] = ()) -> Matrix:
        """The numbers of a rectangular matrix of at least ``columns`` columns.

        Raises:
            DataError: a row of another length than the first, too few columns, a word that is no
                number.
        """
        widths = {len(row) for row in self.rows}
        if len(widths) > 1:
            first = len(self.rows[0])
            row = next(at for at, words in enumerate(self.rows) if len(words) != first)
            raise DataError(
                self.file,
                line=self.lines[row],
                field=self.name,
                value=" ".join(self.rows[row]),
                accepted=f"{len(self.rows[row])} numbers where the rows above have {first}",
            )
        width = widths.pop() if widths else columns
        if width < columns:
            raise DataError(
                self.file,
                line=self.lines[0],
                field=self.name,
                value=f"{width} columns",
                accepted=f"at least {columns} columns are expected",
            )
        try:
            values = np.array(self.rows, dtype=np.float64).reshape(len(self.rows), width)
        except ValueError:
            values = None
        if values is None or any("_" in word for row in self.rows for word in row):
            row, column = next(
                (row, column)
                for row, words in enumerate(self.rows)
                for column, word in enumerate(words)
                if not _is_number(word)
            )
            label = f" ({names[column]})" if column < len(names) else ""
            raise DataError(
                self.file,
                line=self.lines[row],
                field=f"{self.name} column {column + 1}{label}",
                value=self.rows[row][column],
                accepted="a number is expected",
            )
        return Matrix(self, values, names)

    def words(self) -> tuple[str, ...]:
        """All words of a cell array, in order, without quotes."""
        return tuple(word for row in self.rows for word in row)

    def scalar(self) -> float:
        """A single number.

        Raises:
            DataError: it is none.
        """
        words = self.words()
        if len(words) != 1 or not _is_number(words[0]):
            raise DataError(
                self.file,
                line=self.line,
                field=self.name,
                value=" ".join(words),
                accepted="one number is expected",
            )
        return float(words[0])


@dataclass(frozen=True, slots=True)
class Matrix:
    """``values`` ``[rows, columns]`` of a block, and the means to refuse one of them."""

    block: Block
    values: Doubles
    names: tuple[str, ...]

    def __getitem__(self, column: int) -> Doubles:
        return self.values[:, column]

    @property
    def columns(self) -> int:
        return self.values.shape[1]

    def reject(self, wrong: Bools, column: int, accepted: str) -> None:
        """Raise the ``DataError`` of the first row in which ``wrong`` is true, if any."""
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        label = f" ({self.names[column]})" if column < len(self.names) else ""
        raise DataError(
            self.block.file,
            line=self.block.lines[row],
            field=f"{self.block.name} column {column + 1}{label}",
            value=float(self.values[row, column]),
            accepted=accepted,
        )


def read_blocks(path: str | Path) -> dict[str, Block]:
    """All literal assignments of a MATLAB file (plain or gzip), by name without the structure's.

    Raises:
        DataError: a matrix that is not closed (a truncated file), a statement that changes part of
            a matrix, a file that cannot be read.
    """
    path = Path(path)
    blocks: dict[str, Block] = {}
    with open_text(path) as stream:
        lines = _statements(stream)
        for number, line in lines:
            if _CHANGE.match(line):
                raise DataError(
                    path,
                    line=number,
                    value=line.strip(),
                    accepted="only assignments of numbers are read; apply this one in MATLAB first",
                )
            found = _ASSIGNMENT.match(line)
            if found is None:
                continue
            block = Block(path, found[1], number)
            blocks[block.name] = block
            _fill(block, found[2], lines)
    return blocks


def _statements(stream: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Lines without comments; continued ones (``...``) joined under their first number."""
    held, start = "", 0
    for number, raw in enumerate(stream, start=1):
        line = _without_comment(raw)
        start = start or number
        if "..." in line and "'" not in line:
            held += line.partition("...")[0] + " "
            continue
        yield start, held + line
        held, start = "", 0
    if held:
        yield start, held


def _without_comment(line: str) -> str:
    if "%" not in line:
        return line
    quoted = False
    for at, letter in enumerate(line):
        if letter == "'":
            quoted = not quoted
        elif letter == "%" and not quoted:
            return line[:at]
    return line


def _fill(block: Block, rest: str, lines: Iterator[tuple[int, str]]) -> None:
    closing = _CLOSING.get(rest[:1])
    if closing is None:
        _append(block, rest.strip().rstrip(";"), block.line)
        return
    rest, number = rest[1:], block.line
    while closing not in _unquoted(rest):
        _append(block, rest, number)
        number, rest = next(lines, (0, closing))
        if number == 0:
            raise DataError(
                block.file,
                line=block.line,
                field=block.name,
                accepted=f"no closing {closing!r} up to the end of the file; is it truncated?",
            )
    _append(block, _before(rest, closing), number)


def _append(block: Block, text: str, number: int) -> None:
    if "'" in text:
        words = [quoted or bare for quoted, bare in re.findall(r"'([^']*)'|([^\s;,']+)", text)]
        if words:
            block.rows.append(words)
            block.lines.append(number)
        return
    for part in text.split(";"):
        words = part.replace(",", " ").split()
        if words:
            block.rows.append(words)
            block.lines.append(number)


def _unquoted(text: str) -> str:
    return re.sub(r"'[^']*'", "", text) if "'" in text else text


def _before(text: str, closing: str) -> str:
    """``text`` up to the first ``closing`` outside quotes."""
    for found in re.finditer(rf"'[^']*'|{re.escape(closing)}", text):
        if found[0] == closing:
            return text[: found.start()]
    return text


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word
