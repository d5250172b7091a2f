"""CityFlow's JSON documents, value by value, each with the path to it for error messages."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from ...errors import DataError
from ...tables import open_text


class Node:
    """One value of a document, ``place`` being the path to it (``roads[3].lanes``)."""

    __slots__ = ("file", "place", "value")

    def __init__(self, file: Path, place: str, value: Any) -> None:
        self.file, self.place, self.value = file, place, value

    def fail(self, accepted: str, *, value: object = None) -> NoReturn:
        """Raise the ``DataError`` of this value, or of ``value`` in its place."""
        found = self.value if value is None else value
        if isinstance(found, dict | list):
            found = None
        raise DataError(self.file, field=self.place or None, value=found, accepted=accepted)

    def get(self, key: str) -> Node:
        """The member ``key`` of an object."""
        if not isinstance(self.value, dict):
            self.fail("an object is expected")
        child = Node(self.file, f"{self.place}.{key}" if self.place else key, None)
        if key not in self.value:
            child.fail("missing")
        child.value = self.value[key]
        return child

    def has(self, key: str) -> bool:
        """Whether an object has the member ``key``."""
        return isinstance(self.value, dict) and key in self.value

    def items(self) -> list[Node]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            self.fail("an array is expected")
        return [Node(self.file, f"{self.place}[{at}]", v) for at, v in enumerate(self.value)]

    def text(self) -> str:
        """A string that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            self.fail("a string is expected")
        return self.value

    def truth(self) -> bool:
        """``true`` or ``false``."""
        if not isinstance(self.value, bool):
            self.fail("true or false is expected")
        return self.value

    def number(self, *, low: float = -math.inf, above: float = -math.inf) -> float:
        """A finite number of at least ``low`` and more than ``above``."""
        value = self.value
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or value < low or value <= above:
            bound = f" of at least {low:g}" if low > above else f" of more than {above:g}"
            limited = max(low, above) > -math.inf
            self.fail(f"a finite number{bound if limited else ''} is expected")
        return float(value)

    def index(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            self.fail(f"a whole number from 0 to {count - 1} is expected")
        return value

    def one_of(self, known: dict[str, int], what: str) -> int:
        """The number that ``known`` gives a name."""
        name = self.text()
        if name not in known:
            self.fail(f"the id of {what} is expected")
        return known[name]

    def point(self) -> tuple[float, float]:
        """An object with ``x`` and ``y``, in m."""
        return self.get("x").number(), self.get("y").number()

    def points(self) -> list[tuple[float, float]]:
        """A polyline of at least two points."""
        found = [item.point() for item in self.items()]
        if len(found) < 2:
            self.fail("at least two points are expected", value=len(found))
        return found


def read_json(path: Path) -> Node:
    """The document of a file, plain or gzip.

    Raises:
        DataError: not readable, or no JSON (with the line).
    """
    with open_text(path) as stream:
        text = stream.read()
    try:
        return Node(path, "", json.loads(text))
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise DataError(path, line=line, accepted=f"not valid JSON ({error})") from error


def names(nodes: list[Node]) -> dict[str, int]:
    """The ``id`` of every node to its place; an id twice is an error."""
    found: dict[str, int] = {}
    for at, node in enumerate(nodes):
        name = node.get("id")
        if name.text() in found:
            name.fail("an id that no other has is expected")
        found[name.value] = at
    return found
