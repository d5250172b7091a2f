"""Messages over a pipe: a length, a JSON header, then the raw bytes of arrays.

The header names every array with its type and shape. Nothing is pickled, so a damaged or hostile
peer can at worst send wrong numbers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<I")
_TYPES = ("<f8", "<i8", "|b1")
_ARRAYS = "arrays"

TRIPINFO, ERRORS = "tripinfo.xml", "errors.txt"
"""Files in the folder of an engine: SUMO's trips, and what it and the worker complained about."""
HEADER_LIMIT = 1 << 26
"""Bytes of a header."""
ARRAY_LIMIT = 1 << 30
"""Bytes of one array."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came over: ``header`` without the list of arrays, and the arrays by name."""

    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])


def send(
    stream: BinaryIO,
    header: Mapping[str, object],
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write one message and flush.

    Raises:
        ValueError: an array of another type than float64, int64 or bool, or too much of it.
        OSError: the other side is gone.
    """
    listed: list[tuple[str, str, tuple[int, ...]]] = []
    blocks: list[bytes] = []
    for name, values in (arrays or {}).items():
        if values.dtype.str not in _TYPES or values.nbytes > ARRAY_LIMIT:
            raise ValueError(f"array {name!r} of type {values.dtype.str}, {values.nbytes} bytes")
        listed.append((name, values.dtype.str, values.shape))
        blocks.append(values.tobytes())
    text = json.dumps({**header, _ARRAYS: listed}).encode()
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"a header of {len(text)} bytes, at most {HEADER_LIMIT} are allowed")
    stream.write(b"".join((_LENGTH.pack(len(text)), text, *blocks)))
    stream.flush()


def receive(stream: BinaryIO) -> Message:
    """Read one message.

    Raises:
        EOFError: the other side closed the pipe, between two messages or within one.
        ValueError: not a message.
    """
    (size,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if size > HEADER_LIMIT:
        raise ValueError(f"a header of {size} bytes is announced, at most {HEADER_LIMIT} allowed")
    header = json.loads(_exactly(stream, size))
    if not (isinstance(header, dict) and isinstance(header.get(_ARRAYS), list)):
        raise ValueError("the header is not an object that lists its arrays")  # noqa: TRY004
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind, shape in header.pop(_ARRAYS):
        if kind not in _TYPES or any(type(length) is not int or length < 0 for length in shape):
            raise ValueError(f"array {name!r}: type {kind!r}, shape {shape!r}")
        length = math.prod(shape) * np.dtype(kind).itemsize
        if length > ARRAY_LIMIT:
            raise ValueError(f"array {name!r} of {length} bytes, at most {ARRAY_LIMIT} are allowed")
        block = bytearray(_exactly(stream, length))
        arrays[name] = np.frombuffer(block, dtype=kind).reshape(shape)
    return Message(header, arrays)


def _exactly(stream: BinaryIO, length: int) -> bytes:
    block = stream.read(length)
    if len(block) < length:
        raise EOFError(f"the pipe closed after {len(block)} of {length} bytes")
    return block
