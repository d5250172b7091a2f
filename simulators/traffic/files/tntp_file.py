"""The outer form of TNTP files: comments, tags of metadata, and rows of fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ...errors import DataError
from ...tables import finite, open_text, whole

_TAG = re.compile(r"<(?P<name>[^>]+)>(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """A row without its comment and final ``;``, with its 1-based number in the file."""

    number: int
    text: str


class TntpFile:
    """One file, plain or gzip, read at once.

    Attributes:
        path: of the file; lines: its rows, without tags, comments and blanks.

    Raises:
        DataError: not readable as text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._tags: dict[str, Line] = {}
        with open_text(path) as stream:
            for number, raw in enumerate(stream, start=1):
                # What follows a tilde is a comment, in tags as well.
                text = raw.partition("~")[0].strip().rstrip(";").strip()
                tag = _TAG.match(text)
                if tag:
                    name = " ".join(tag["name"].upper().split())
                    self._tags[name] = Line(number, tag["value"].strip())
                elif text:
                    self.lines.append(Line(number, text))

    def count(self, tag: str) -> int:
        """A whole number of at least 1 from the metadata."""
        if tag not in self._tags:
            self.fail(None, tag, None, f"<{tag}> and its value are expected before the rows")
        line = self._tags[tag]
        return self.whole(line.number, tag, line.text, 1, None)

    def total(self, tag: str) -> float | None:
        """A number from the metadata, ``None`` where the tag is absent."""
        if tag not in self._tags:
            return None
        line = self._tags[tag]
        return self.number(line.number, tag, line.text)

    def whole(self, line: int, field: str, text: str, low: int, high: int | None) -> int:
        """``text`` as a whole number from ``low`` to ``high``, or the error of its line."""
        try:
            value = whole(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
            self.fail(line, field, text, f"a whole number {bounds} is expected")
        return value

    def number(self, line: int, field: str, text: str, *, signed: bool = False) -> float:
        """``text`` as a finite number, at least 0 unless ``signed``, or the error of its line."""
        try:
            value = finite(text)
        except ValueError:
            self.fail(line, field, text, "a finite number is expected")
        if value < 0.0 and not signed:
            self.fail(line, field, text, "a finite number of at least 0 is expected")
        return value

    def fail(self, line: int | None, field: str | None, value: object, accepted: str) -> NoReturn:
        """Raise the ``DataError`` of one place."""
        raise DataError(self.path, line=line, field=field, value=value, accepted=accepted)
