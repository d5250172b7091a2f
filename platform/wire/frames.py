"""Raw frames: the body of the native route, and the messages of the unix socket.

::

    4 bytes   magic FLD1
    u32       length of the header
    header    JSON (UTF-8): fields, and tensors: [{name, datatype, shape}]
    zeros     up to the next multiple of 8 bytes from the start
    tensors   little-endian, in the order of the list, each padded with zeros to a multiple of 8

All integers are little-endian. On the unix socket a u32 with the frame's total length comes first,
and the header names the ``domain``. A refusal is a frame whose header holds ``problem``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson

from ...simulators.interface import Spec
from ..daemon.interface import Entry
from ..decision.types import Request
from . import answers
from .problems import Problem
from .tensors import (
    DTYPES,
    FIELDS,
    INPUTS,
    Array,
    Limits,
    Wanted,
    described,
    raw,
    refuse,
    request_of,
    show,
    wanted_names,
)

MAGIC = b"FLD1"
MEDIA_TYPE = "application/x-fairlead-frame"
MAX_HEADER = 16384
LENGTH = struct.Struct("<I")
"""Total length before every frame on the unix socket."""

_KNOWN = frozenset((*FIELDS, "tensors", "want", "domain"))
_TENSORS = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame taken apart; tensors are read-only views into it."""

    header: Mapping[str, Any]
    tensors: Mapping[str, Array]


def pack(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> bytes:
    """A frame of JSON-able fields and arrays of the types in ``tensors.DTYPES``."""
    listed: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    for name, tensor in tensors.items():
        kind = answers.datatype(tensor)
        listed.append({"name": name, "datatype": kind, "shape": list(tensor.shape)})
        data = tensor.astype(DTYPES[kind], copy=False).tobytes()
        pieces.append(data)
        pieces.append(bytes(-len(data) % 8))
    head = orjson.dumps({**header, "tensors": listed})
    pad = bytes(-(8 + len(head)) % 8)
    return b"".join([MAGIC, LENGTH.pack(len(head)), head, pad, *pieces])


def unpack(body: bytes, *, names: Mapping[str, str] = INPUTS) -> Frame:
    """Header and tensors of a request; no memory beyond the body's own is taken.

    Raises:
        Rejected: ``frame``, ``json``, ``field``, ``unknown``, ``dtype``, ``shape`` or ``size``.
    """
    header, at = _header(body)
    listed = header.get("tensors", [])
    if not isinstance(listed, list) or len(cast("list[object]", listed)) > _TENSORS:
        raise refuse("field", f"tensors is a list of at most {_TENSORS}")
    view = memoryview(body)
    found: dict[str, Array] = {}
    for item in cast("list[object]", listed):
        name, kind, shape, count = described(item, names)
        size = count * kind.itemsize
        if name in found:
            raise refuse("field", f"tensor {name} is given twice")
        if at + size > len(body):
            raise refuse("size", f"the frame ends inside tensor {name}", 400)
        found[name] = raw(name, view[at : at + size], kind, shape)
        at += size + -size % 8
    if at != len(body):
        raise refuse("size", f"the frame has {len(body)} bytes, its header describes {at}", 400)
    return Frame(header, found)


def _header(body: bytes) -> tuple[dict[str, Any], int]:
    """The parsed header and where the tensors begin."""
    if len(body) < 8 or body[:4] != MAGIC:
        raise refuse("frame", f"a frame begins with {MAGIC.decode()} and a header length")
    (length,) = LENGTH.unpack_from(body, 4)
    if length > min(MAX_HEADER, len(body) - 8):
        raise refuse(
            "frame",
            f"header of {length} bytes; at most {MAX_HEADER}, inside the frame, is accepted",
        )
    try:
        header = orjson.loads(memoryview(body)[8 : 8 + length])
    except orjson.JSONDecodeError as error:
        raise refuse("json", f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise refuse("json", "the header is an object")
    return cast("dict[str, Any]", header), 8 + length + -(8 + length) % 8


def decode(
    body: bytes, spec: Spec, limits: Limits, *, received: float = 0.0
) -> tuple[Request, Wanted]:
    """What a frame asks; see :func:`unpack` and :func:`request_of` for the refusals."""
    if len(body) > limits.binary:
        raise refuse("size", f"frame of {len(body)} bytes; at most {limits.binary}", 413)
    return decode_frame(unpack(body), spec, limits, received=received)


def decode_frame(
    frame: Frame, spec: Spec, limits: Limits, *, received: float = 0.0
) -> tuple[Request, Wanted]:
    """As :func:`decode`, for a frame that was taken apart to read its domain."""
    unknown = frame.header.keys() - _KNOWN
    if unknown:
        raise refuse(
            "parameter", f"no field {show(min(unknown))}; known: {', '.join(sorted(_KNOWN))}"
        )
    want = frame.header.get("want", [])
    if not isinstance(want, list):
        raise refuse("field", f"want is a list of output names, not {show(want)}")
    request = request_of(frame.tensors, frame.header, spec, limits, received=received)
    return request, Wanted(wanted_names(cast("Sequence[object]", want)))


def encode(
    entry: Entry, wanted: Wanted, *, deadline_left: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the answer; see :func:`.oip.encode`."""
    header = answers.parameters(entry, deadline_left)
    body = pack(header, answers.outputs(entry, wanted))
    return body, {**answers.headers(entry), "Content-Type": MEDIA_TYPE}


def encode_request(
    request: Request, *, want: Sequence[str] = (), domain: str | None = None
) -> bytes:
    """A request as a frame; what a client sends. Tensors with their default value are left out."""
    seen = request.observation
    tensors: dict[str, Array] = {"agent": np.asarray(seen.agent, np.float32)}
    if seen.low.shape[1]:
        tensors["low"] = np.asarray(seen.low, np.float32)
        tensors["high"] = np.asarray(seen.high, np.float32)
    else:
        tensors["candidates"] = np.asarray(seen.candidates, np.float32)
        tensors["mask"] = np.asarray(seen.mask, np.bool_)
        tensors["target"] = np.asarray(seen.target, np.int64)
    if not seen.active.all():
        tensors["active"] = np.asarray(seen.active, np.bool_)
    if request.agents is not None:
        tensors["agents"] = np.asarray(request.agents, np.int64)
    given: dict[str, Any] = {
        "client": request.client or None,
        "episode": request.episode or None,
        "seq": request.seq if request.seq >= 0 else None,
        "observed": request.observed,
        "deadline_ms": None if request.deadline is None else 1000.0 * request.deadline,
        "seed": request.seed,
        "greedy": request.greedy,
        "time": seen.time or None,
        "want": list(want) or None,
        "domain": domain,
    }
    return pack({key: value for key, value in given.items() if value is not None}, tensors)


def problem(found: Problem) -> bytes:
    """A refusal as a frame."""
    return pack({"problem": found.view()}, {})
