"""Arrays behind a JSON description: the layout of one record's payload.

::

    u32   length of the description (little-endian)
    JSON  description; its "tensors" lists [dtype, shape, dtype to restore, packed size]
          zero padding to a multiple of 8
    ...   the arrays in order, little-endian, each padded to a multiple of 8

Whole numbers are stored in the narrowest type that holds them and come back as they were. Large
arrays are packed (zlib) where that pays; packed size 0 means that they are not. Observations of
dispatchers shrink to a quarter: nodes repeat, and what is not on offer is zero.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import orjson
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_PAYLOAD = 256 * 2**20
"""Largest payload, bytes; a reader never allocates more for one record."""

_TYPES = ("<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "|b1")
_NARROW = (np.int8, np.int16, np.int32)
_LENGTH = struct.Struct("<I")
_WORTH, _PROBE, _PAYS = 4096, 2048, 0.7


class RecordError(ValueError):
    """Bytes that are not a record of this version; says what is wrong with them."""


class Tensors:
    """Collects the arrays of one payload. An array that is added twice is stored once.

    Args:
        pack: pack large arrays; it takes five times as long as writing them as they are.
    """

    def __init__(self, *, pack: bool = True) -> None:
        self._pack = pack
        self._described: list[tuple[str, list[int], str, int]] = []
        self._parts: list[bytes] = []
        self._known: dict[int, int] = {}
        self._alive: list[Array] = []  # an id is only unique while its array lives

    def add(self, array: Array | None) -> int | None:
        """Index to put into the description; ``None`` stays ``None``.

        Raises:
            RecordError: a type of array that records do not hold.
        """
        if array is None:
            return None
        known = self._known.get(id(array))
        if known is not None:
            return known
        stored = _narrowed(array)
        wide = array.dtype.newbyteorder("<").str
        if wide not in _TYPES:
            raise RecordError(f"arrays of type {array.dtype} cannot be recorded")
        stored = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
        data = stored.tobytes()
        packed = _packed(data) if self._pack else data
        size = 0 if packed is data else len(packed)
        self._described.append((stored.dtype.str, list(array.shape), wide, size))
        data = packed
        self._parts += (data, b"\0" * (-len(data) % 8))
        self._alive.append(array)
        index = self._known[id(array)] = len(self._described) - 1
        return index

    def payload(self, description: Mapping[str, Any]) -> bytes:
        """The whole payload.

        Raises:
            TypeError: the description is not JSON-able.
            RecordError: it is larger than :data:`MAX_PAYLOAD`.
        """
        text = orjson.dumps({**description, "tensors": self._described})
        padding = b"\0" * (-(_LENGTH.size + len(text)) % 8)
        whole = b"".join((_LENGTH.pack(len(text)), text, padding, *self._parts))
        if len(whole) > MAX_PAYLOAD:
            raise RecordError(f"a record of {len(whole)} bytes; the largest is {MAX_PAYLOAD}")
        return whole


def unpack(payload: bytes) -> tuple[dict[str, Any], list[Array]]:
    """Description and arrays (read-only) of a payload.

    Raises:
        RecordError: it does not hold what it claims to hold.
    """
    if len(payload) < _LENGTH.size:
        raise RecordError(f"a payload of {len(payload)} bytes")
    (length,) = _LENGTH.unpack_from(payload)
    at = _LENGTH.size + length
    if at > len(payload):
        raise RecordError(f"the description claims {length} of {len(payload)} bytes")
    try:
        description = orjson.loads(payload[_LENGTH.size : at])
    except orjson.JSONDecodeError as error:
        raise RecordError(f"the description is not JSON: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("tensors"), list):
        raise RecordError("the description lacks its tensors")
    found = cast("dict[str, Any]", description)
    arrays: list[Array] = []
    at += -at % 8
    for item in found["tensors"]:
        array, size = _read(payload, at, item)
        arrays.append(array)
        at += size + -size % 8
    if at != len(payload):
        raise RecordError(f"{len(payload)} bytes where the description says {at}")
    return found, arrays


def _read(payload: bytes, at: int, item: Any) -> tuple[Array, int]:
    try:
        kind, shape, wide, packed = item
        sizes = [int(size) for size in shape]
        packed = int(packed)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{item!r} does not describe an array") from error
    if kind not in _TYPES or wide not in _TYPES or min(packed, *sizes, 0) < 0:
        raise RecordError(f"{item!r} does not describe an array")
    count = math.prod(sizes)
    size = count * np.dtype(kind).itemsize
    stored = packed or size
    if at + stored > len(payload) or size > MAX_PAYLOAD:
        raise RecordError(f"an array of {size} bytes runs beyond the end of the record")
    if packed:
        data = _unpacked(payload[at : at + packed], size)
        array = np.frombuffer(data, np.dtype(kind), count).reshape(sizes)
    else:
        array = np.frombuffer(payload, np.dtype(kind), count, at).reshape(sizes)
    return (array if kind == wide else array.astype(wide)), stored


def _packed(data: bytes) -> bytes:
    """Packed, or the same object where that does not pay."""
    if len(data) < _WORTH:
        return data
    # A sample tells random numbers, whose packing would cost ten times as much for nothing.
    half = len(data) // 2
    sample = data[half : half + _PROBE]
    if len(zlib.compress(sample, 1)) > _PAYS * len(sample):
        return data
    packed = zlib.compress(data, 1)
    return packed if len(packed) < _PAYS * len(data) else data


def _unpacked(packed: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes, whatever the packed ones would grow to."""
    tool = zlib.decompressobj()
    try:
        data = tool.decompress(packed, size) if size else b""
        done = tool.eof or not tool.decompress(tool.unconsumed_tail, 1)
    except zlib.error as error:
        raise RecordError(f"an array cannot be unpacked: {error}") from error
    if len(data) != size or not done:
        raise RecordError(f"an array unpacks to something else than its {size} bytes")
    return data


def _narrowed(array: Array) -> Array:
    """The same whole numbers in fewer bytes, where they fit."""
    if array.dtype != np.int64 or array.size < 8:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in _NARROW:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return array.astype(kind)
    return array
