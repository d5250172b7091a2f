"""Open Inference Protocol v2: ``/infer`` bodies in JSON and with the binary-tensor extension.

Core: kserve/open-inference-protocol, ``specification/protocol/open_inference_rest.yaml``. Binary
tensors: triton-inference-server/server, ``docs/protocol/extension_binary_data.md``: the JSON part
comes first, its length stands in the header ``Inference-Header-Content-Length``, and the raw bytes
of every tensor with a ``binary_data_size`` follow in the order of the list.

Strict: unknown names, types, shapes and sizes are refused, each with its own code. JSON knows no
NaN, so text is always finite; binary floats may be NaN and are the decision core's to judge.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any, cast

import numpy as np
import orjson

from ...simulators.interface import Spec
from ..daemon.interface import Entry
from ..decision.types import Request
from . import answers
from .tensors import (
    FIELDS,
    OUTPUTS,
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

HEADER_LENGTH = "Inference-Header-Content-Length"
_TRITON = ("binary_data_output", "priority", "timeout")
_KNOWN = frozenset((*FIELDS, *_TRITON))


def decode(
    body: bytes,
    header_length: int | None,
    spec: Spec,
    limits: Limits,
    *,
    received: float = 0.0,
) -> tuple[Request, Wanted]:
    """What an ``/infer`` body asks.

    Args:
        body: the whole HTTP body.
        header_length: of its JSON part (header ``Inference-Header-Content-Length``); ``None``: all.
        spec: of the bundle that serves the domain.
        limits: of the size.
        received: monotonic clock of the receipt, s.

    Raises:
        Rejected: ``json``, ``field``, ``unknown``, ``dtype``, ``shape``, ``size``, ``missing``,
            ``agents``, ``parameter`` or ``finite``.
    """
    if len(body) > limits.json:
        raise refuse("size", f"body of {len(body)} bytes; at most {limits.json} are accepted", 413)
    if header_length is None:
        head, tail = memoryview(body), memoryview(b"")
    elif 0 < header_length <= len(body):
        head, tail = memoryview(body)[:header_length], memoryview(body)[header_length:]
    else:
        raise refuse("field", f"{HEADER_LENGTH} is {header_length}, the body has {len(body)} bytes")
    try:
        parsed = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise refuse("json", f"not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise refuse("json", "the body is an object with inputs")
    document = cast("dict[str, object]", parsed)
    parameters = _object(document.get("parameters", {}), "parameters")
    unknown = parameters.keys() - _KNOWN
    if unknown:
        raise refuse("parameter", f"no parameter {show(min(unknown))}; known: {', '.join(FIELDS)}")
    tensors = _inputs(document.get("inputs"), tail)
    wanted = _wanted(document, binary=parameters.get("binary_data_output") is True)
    fields = parameters if "timeout" not in parameters else _timeout(parameters)
    return request_of(tensors, fields, spec, limits, received=received), wanted


def encode(
    entry: Entry, wanted: Wanted, *, deadline_left: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the answer (content type, lengths, identity of the decision).

    Args:
        entry: the decision.
        wanted: what the request asked for.
        deadline_left: time until the request's deadline, s.
    """
    described_outputs: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    for name, tensor in answers.outputs(entry, wanted).items():
        item: dict[str, Any] = {
            "name": name,
            "datatype": answers.datatype(tensor),
            "shape": list(tensor.shape),
        }
        if name in wanted.binary:
            pieces.append(tensor.tobytes())
            item["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            item["data"] = np.ascontiguousarray(tensor).reshape(-1)
        described_outputs.append(item)
    document: dict[str, Any] = {
        "model_name": entry.domain,
        "model_version": entry.decision.bundle[:12],
        "parameters": answers.parameters(entry, deadline_left),
        "outputs": described_outputs,
    }
    if wanted.id:
        document["id"] = wanted.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = answers.headers(entry)
    if not pieces:
        return head, {**headers, "Content-Type": "application/json"}
    headers["Content-Type"] = "application/octet-stream"
    headers[HEADER_LENGTH] = str(len(head))
    return b"".join([head, *pieces]), headers


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse("field", f"{name} is an object, not {show(value)}")
    return cast("dict[str, object]", value)


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise refuse("field", f"{name} is a list, not {show(value)}")
    return cast("list[object]", value)


def _inputs(listed: object, tail: memoryview) -> dict[str, Array]:
    """All input tensors by name; the binary ones use up ``tail`` exactly."""
    found: dict[str, Array] = {}
    at = 0
    for item in _list(listed, "inputs"):
        name, kind, shape, count = described(item)
        if name in found:
            raise refuse("field", f"tensor {name} is given twice")
        fields = cast("dict[str, object]", item)
        size = _object(fields.get("parameters", {}), f"parameters of {name}").get(
            "binary_data_size"
        )
        if (size is None) == ("data" not in fields):
            raise refuse("field", f"tensor {name} has either data or binary_data_size")
        if size is None:
            found[name] = _from_text(name, fields["data"], kind, shape, count)
            continue
        if type(size) is not int or size != count * kind.itemsize:
            raise refuse(
                "size",
                f"binary_data_size of {name} is {show(size)}; its shape needs "
                f"{count * kind.itemsize}",
                400,
            )
        if at + size > len(tail):
            raise refuse("size", f"the body ends inside tensor {name}", 400)
        found[name] = raw(name, tail[at : at + size], kind, shape)
        at += size
    if at != len(tail):
        raise refuse("size", f"{len(tail) - at} bytes follow the last binary tensor", 400)
    return found


def _from_text(
    name: str, data: object, kind: np.dtype[Any], shape: tuple[int, ...], count: int
) -> Array:
    """Numbers of a JSON list, flat or nested as the shape says."""
    values = _list(data, f"data of {name}")
    if len(values) != count or (count and isinstance(values[0], list)):
        values = _flatten(name, values, shape, count)
    try:
        if kind == np.bool_:
            # Triton's clients write BOOL as true and false, some others as 0 and 1.
            flags = bytes(cast("list[int]", values))
            return raw(name, memoryview(flags), kind, shape)
        letter = "f" if kind.kind == "f" else "q"
        made = np.frombuffer(array(letter, cast("Iterable[Any]", values)), kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise refuse("dtype", f"data of {name} is not {kind.name}: {error}") from error
    if letter == "f" and not np.isfinite(made).all():
        raise refuse("finite", f"data of {name} exceeds the range of FP32", 422)
    return made.reshape(shape)


def _flatten(name: str, values: list[object], shape: tuple[int, ...], count: int) -> list[object]:
    """Row-major elements of nested lists; every list has the length that its axis has."""
    flat = values
    for length in shape[1:]:
        rows = [cast("list[object]", row) for row in flat if isinstance(row, list)]
        if len(rows) != len(flat) or any(len(row) != length for row in rows):
            break
        flat = list(chain.from_iterable(rows))
    if len(flat) != count or len(values) != shape[0]:
        raise refuse("shape", f"data of {name} does not have the {count} elements of {list(shape)}")
    return flat


def _wanted(document: dict[str, object], *, binary: bool) -> Wanted:
    """Names of the outputs, and which of them travel as raw bytes."""
    identity = document.get("id", "")
    if not isinstance(identity, str) or len(identity) > 128:
        raise refuse("field", "id is a text of at most 128 characters")
    names: list[object] = []
    raw_bytes: set[str] = set()
    for item in _list(document.get("outputs", []), "outputs"):
        output = _object(item, "an output")
        chosen = output.get("name")
        names.append(chosen)
        said = _object(output.get("parameters", {}), "parameters of an output").get("binary_data")
        if not isinstance(said, bool | None):
            raise refuse("parameter", f"binary_data is true or false, not {show(said)}")
        if binary if said is None else said:
            raw_bytes.add(cast("str", chosen))
    outputs = wanted_names(names)
    if not names and binary:
        raw_bytes.update(OUTPUTS)
    return Wanted(outputs, frozenset(raw_bytes), identity)


def _timeout(parameters: dict[str, object]) -> dict[str, object]:
    """Triton's ``timeout`` is microseconds; ``deadline_ms`` wins over it."""
    micros = parameters["timeout"]
    if type(micros) is not int or micros < 0:
        raise refuse("parameter", f"timeout is a whole number of microseconds, not {show(micros)}")
    return {"deadline_ms": micros / 1000.0, **parameters}
