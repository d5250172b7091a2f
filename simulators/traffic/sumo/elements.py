"""Start tags of an XML file, one after another, with their lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from ...errors import DataError
from ...tables import open_text

_CHUNK = 1 << 16


def scan(path: Path, found: Callable[[str, dict[str, str], int], None]) -> None:
    """Call ``found(tag, attributes, line)`` for every element, in order; gzip is unpacked.

    Raises:
        DataError: unreadable or not well-formed XML.
    """
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        found(tag, attributes, parser.CurrentLineNumber)

    parser.StartElementHandler = start
    try:
        with open_text(path) as stream:
            while chunk := stream.read(_CHUNK):
                parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        text = expat.ErrorString(error.code)
        raise DataError(
            path, line=error.lineno, accepted=f"well-formed XML is expected ({text})"
        ) from error
