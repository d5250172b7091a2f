"""SUMO's XML as small records that know their line, one element below the root at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

from ...errors import DataError
from ...tables import finite, open_text, whole


@dataclass(frozen=True, slots=True)
class Tag:
    """One element.

    Attributes:
        file, line: where it was read (1-based; the last line, if its attributes take several).
        name: of the element.
        values: attributes.
        children: elements inside it, in order.
    """

    file: Path
    line: int
    name: str
    values: dict[str, str]
    children: list[Tag]

    def fail(self, field: str, accepted: str) -> NoReturn:
        """Raise the ``DataError`` of one attribute."""
        value = self.values.get(field)
        place = f"{self.name}.{field}"
        raise DataError(self.file, line=self.line, field=place, value=value, accepted=accepted)

    def refuse(self, accepted: str) -> NoReturn:
        """Raise the ``DataError`` of the element as a whole."""
        value = self.values.get("id")
        raise DataError(self.file, line=self.line, field=self.name, value=value, accepted=accepted)

    def text(self, field: str) -> str:
        """A value that must be there."""
        value = self.values.get(field)
        if not value:
            self.fail(field, "missing" if value is None else "a name is expected")
        return value

    def words(self, field: str) -> tuple[str, ...]:
        """Values separated by blanks; none where the attribute is absent."""
        return tuple(self.values.get(field, "").split())

    def number(
        self, field: str, default: float | None = None, *, low: float = 0.0, above: bool = False
    ) -> float:
        """A finite number of at least ``low``, or, with ``above``, greater than it."""
        if default is not None and field not in self.values:
            return default
        try:
            value = finite(self.text(field))
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            value = math.nan
        if not (value > low or (value == low and not above)):
            relation = "greater than" if above else "of at least"
            self.fail(field, f"a number {relation} {low:g} is expected")
        return value

    def whole(self, field: str) -> int:
        """A whole number of at least 0."""
        try:
            value = whole(self.text(field))
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            value = -1
        if value < 0:
            self.fail(field, "a whole number of at least 0 is expected")
        return value


def read_tags(path: str | Path, roots: tuple[str, ...]) -> Iterator[Tag]:
    """The elements directly below the root, each with what is inside it; gzip is accepted.

    Memory is that of one element. The text is fed line by line: that is how lines are known.

    Raises:
        DataError: empty, truncated or malformed XML (with the line), a document type, or a root
            other than ``roots``.
    """
    path = Path(path)
    collector = _Collector(path, roots)
    parser = ET.XMLParser(target=collector)  # noqa: S314 (entities are refused, see doctype)
    with open_text(path) as stream:
        try:
            for collector.line, text in enumerate(stream, 1):
                parser.feed(text)
                yield from collector.take()
            parser.close()
        except ET.ParseError as error:
            line = error.position[0]
            remedy = f"not well-formed XML ({error.msg}); is the file complete?"
            raise DataError(path, line=line, accepted=remedy) from error
    yield from collector.take()


class _Collector:
    """Target of the parser: nests the elements and hands over those that are complete."""

    def __init__(self, file: Path, roots: tuple[str, ...]) -> None:
        self.file, self.roots = file, roots
        self.line = 0
        self._open: list[Tag] = []
        self._complete: list[Tag] = []

    def start(self, name: str, values: dict[str, str]) -> None:
        if not self._open and name not in self.roots:
            expected = " or ".join(f"<{root}>" for root in self.roots)
            raise DataError(
                self.file, line=self.line, value=f"<{name}>", accepted=f"{expected} is expected"
            )
        tag = Tag(self.file, self.line, name, values, [])
        if len(self._open) > 1:
            self._open[-1].children.append(tag)
        self._open.append(tag)

    def end(self, _name: str) -> None:
        tag = self._open.pop()
        if len(self._open) == 1:
            self._complete.append(tag)

    def close(self) -> None:
        """Nothing is kept."""

    def doctype(self, name: str, _public: str | None, _system: str | None) -> None:
        # A document type could define entities that expand without limit; SUMO writes none.
        remedy = "a file without document type is expected"
        raise DataError(self.file, line=self.line, value=f"<!DOCTYPE {name}>", accepted=remedy)

    def take(self) -> list[Tag]:
        complete, self._complete = self._complete, []
        return complete
