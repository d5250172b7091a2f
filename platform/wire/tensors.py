"""Tensors of a request as they travel: names, types and shapes, checked before memory is taken.

Both encodings (:mod:`.oip`, :mod:`.frames`) carry the same tensors; this module says which ones
there are and turns checked arrays and fields into a :class:`..decision.types.Request`.

============  ========  =========  ==============================================================
``agent``     FP32      [n, F]     always
``candidates``FP32      [n, K, C]  choice actions
``mask``      BOOL      [n, K]     choice actions
``low, high`` FP32      [n, D]     set-points
``active``    BOOL      [n]        optional, default all
``target``    INT64     [n, K]     optional, default the column's index, -1 for column 0 (hold)
``agents``    INT64     [n]        optional, which agents the rows are; default 0..A-1
============  ========  =========  ==============================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Box, Choice, Observation, Spec
from ..decision.types import Rejected, Request

Array = NDArray[Any]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
"""Datatypes of the Open Inference Protocol that are used here; little-endian on every machine."""

INPUTS: Mapping[str, str] = {
    "agent": "FP32",
    "candidates": "FP32",
    "mask": "BOOL",
    "low": "FP32",
    "high": "FP32",
    "active": "BOOL",
    "target": "INT64",
    "agents": "INT64",
}
OUTPUTS: Mapping[str, str] = {
    "action": "INT64",
    "source": "INT8",
    "cause": "INT8",
    "preference": "FP32",
}
ALWAYS = ("action", "source", "cause")
"""Outputs that a request which names none gets."""

_TEXT = 128
_DEADLINE = 60_000.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be; compared before anything of that size is allocated.

    Attributes:
        binary: largest body with binary tensors, bytes.
        json: largest body with numbers as text, bytes.
        candidates: most candidates per agent, K.
    """

    binary: int
    json: int
    candidates: int

    @classmethod
    def of(cls, spec: Spec, *, candidates: int = 4096, slack: float = 1.25) -> Limits:
        """Room for all agents of ``spec`` with every optional tensor, times ``slack``.

        A number written as text takes at most 25 bytes with its comma; 16 KiB are for the header.
        """
        agents, own = spec.agents, len(spec.agent_features)
        if isinstance(spec.action, Choice):
            choices = spec.action.candidates
            floats = agents * (own + choices * len(spec.candidate_features))
            flags, integers = agents * (choices + 1), agents * (choices + 1)
        else:
            floats = agents * (own + 2 * spec.action.dimensions)
            flags, integers = agents, agents
        binary = 4 * floats + flags + 8 * integers
        text = 25 * floats + 6 * flags + 21 * integers
        return cls(int(slack * binary) + 16384, int(slack * text) + 16384, candidates)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the answer to a request is to hold.

    Attributes:
        outputs: names of output tensors, in the order asked for.
        binary: those of them that travel as raw bytes (Open Inference Protocol).
        id: of the request, sent back as it came.
    """

    outputs: tuple[str, ...] = ALWAYS
    binary: frozenset[str] = frozenset()
    id: str = ""


def refuse(code: str, message: str, status: int = 400) -> Rejected:
    """The exception for a request that is wrong in the way ``code`` says."""
    return Rejected(code, message, status)


def described(
    tensor: object, names: Mapping[str, str] = INPUTS
) -> tuple[str, np.dtype[Any], tuple[int, ...], int]:
    """Name, type, shape and number of elements of a JSON tensor description.

    ``names`` maps the tensors that are expected to their datatypes; an empty datatype leaves it
    to the description.

    Raises:
        Rejected: ``field`` (no such description), ``unknown`` (name), ``dtype`` or ``shape``.
    """
    if not isinstance(tensor, dict):
        raise refuse("field", "every tensor is an object with name, datatype and shape")
    fields = cast("dict[str, object]", tensor)
    name, kind, shape = fields.get("name"), fields.get("datatype"), fields.get("shape")
    if not isinstance(name, str) or name not in names:
        raise refuse("unknown", f"no tensor {show(name)}; known: {', '.join(names)}")
    if not isinstance(kind, str) or kind not in DTYPES or kind != (names[name] or kind):
        raise refuse("dtype", f"tensor {name} is {names[name] or 'numeric'}, not {show(kind)}")
    if not isinstance(shape, list) or not 1 <= len(cast("list[object]", shape)) <= 3:
        raise refuse("shape", f"shape of {name} is a list of 1 to 3 lengths")
    sizes = cast("list[object]", shape)
    # type() and not isinstance(): true is an int to Python, but no length.
    if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise refuse("shape", f"lengths of {name} are whole numbers below 2^31")
    lengths = tuple(cast("list[int]", sizes))
    return name, DTYPES[kind], lengths, math.prod(lengths)


def raw(name: str, data: memoryview, kind: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Raw little-endian bytes as an array; no copy where their position in memory allows it.

    Raises:
        Rejected: ``dtype``: a BOOL byte that is neither 0 nor 1.
    """
    if kind == np.bool_:
        flags = np.frombuffer(data, np.uint8)
        if flags.size and flags.max() > 1:
            raise refuse("dtype", f"tensor {name} is BOOL: its bytes are 0 or 1")
        return flags.view(np.bool_).reshape(shape)
    return np.require(np.frombuffer(data, kind).reshape(shape), requirements="A")


def check_shapes(tensors: Mapping[str, Array], spec: Spec, limits: Limits) -> int:
    """Compare every tensor with the spec and with the others; the number of rows n.

    Raises:
        Rejected: ``missing``, ``unknown``, ``shape`` or ``size``, naming tensor and both shapes.
    """
    own = len(spec.agent_features)
    if "agent" not in tensors:
        raise refuse("missing", f"tensor agent [n, {own}] is required")
    rows = tensors["agent"].shape[0]
    if not 1 <= rows <= spec.agents:
        raise refuse("shape", f"agent has {rows} rows; a request is about 1 to {spec.agents}")
    expected: dict[str, tuple[int, ...]] = {
        "agent": (rows, own),
        "active": (rows,),
        "agents": (rows,),
    }
    if isinstance(spec.action, Choice):
        needed = ("candidates", "mask")
        shape = tensors["mask"].shape if "mask" in tensors else ()
        choices = shape[1] if len(shape) == 2 else spec.action.candidates
        if not 1 <= choices <= limits.candidates:
            raise refuse(
                "size",
                f"{choices} candidates per agent; 1 to {limits.candidates} are accepted",
                413,
            )
        expected["candidates"] = (rows, choices, len(spec.candidate_features))
        expected["mask"] = expected["target"] = (rows, choices)
    else:
        needed = ("low", "high")
        expected["low"] = expected["high"] = (rows, spec.action.dimensions)
    for name in needed:
        if name not in tensors:
            raise refuse("missing", f"tensor {name} {list(expected[name])} is required")
    for name, tensor in tensors.items():
        if name not in expected:
            raise refuse("unknown", f"tensor {name} has no meaning for {spec.scenario!r}")
        if tensor.shape != expected[name]:
            raise refuse(
                "shape", f"{name} has shape {list(tensor.shape)}, expected {list(expected[name])}"
            )
    return rows


def observation_of(
    tensors: Mapping[str, Array], spec: Spec, limits: Limits, *, time: float = 0.0
) -> Observation:
    """The decentralised part of an observation; the centralised part stays empty.

    Raises:
        Rejected: see :func:`check_shapes`.
    """
    rows = check_shapes(tensors, spec, limits)
    active = tensors.get("active")
    if isinstance(spec.action, Box):
        target, mask = np.zeros((rows, 0), np.int64), np.zeros((rows, 0), np.bool_)
        candidates = np.zeros((rows, 0, 0), np.float32)
        low, high = tensors["low"], tensors["high"]
    else:
        mask, candidates = tensors["mask"], tensors["candidates"]
        given = tensors.get("target")
        target = _targets(*mask.shape) if given is None else given
        low = high = np.zeros((rows, 0), np.float32)
    return Observation(
        agent=tensors["agent"],
        candidates=candidates,
        target=target,
        mask=mask,
        low=low,
        high=high,
        active=_everybody(rows) if active is None else active,
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=time,
    )


def request_of(
    tensors: Mapping[str, Array],
    fields: Mapping[str, object],
    spec: Spec,
    limits: Limits,
    *,
    received: float,
) -> Request:
    """The request that tensors and fields (``client``, ``seq``, ...) describe.

    Raises:
        Rejected: see :func:`check_shapes`; ``agents`` (out of range, twice, or not said),
            ``parameter`` (a field of the wrong type or range).
    """
    time = number(fields, "time", low=-1e18, high=1e18)
    observation = observation_of(tensors, spec, limits, time=0.0 if time is None else time)
    agents = tensors.get("agents")
    if agents is not None:
        if agents.min() < 0 or agents.max() >= spec.agents:
            raise refuse("agents", f"agents are 0..{spec.agents - 1}")
        if np.unique(agents).size != agents.size:
            raise refuse("agents", "an agent is named twice")
    elif len(observation.agent) != spec.agents:
        raise refuse(
            "agents",
            f"{len(observation.agent)} of {spec.agents} agents: tensor agents must say which",
        )
    late = number(fields, "deadline_ms", low=0.0, high=_DEADLINE)
    seq, seed = whole(fields, "seq", low=-1), whole(fields, "seed", low=0)
    greedy = fields.get("greedy")
    if not isinstance(greedy, bool | None):
        raise refuse("parameter", f"greedy is true or false, not {show(greedy)}")
    return Request(
        observation=observation,
        agents=agents,
        client=text(fields, "client"),
        episode=text(fields, "episode"),
        seq=-1 if seq is None else seq,
        observed=number(fields, "observed", low=0.0, high=1e11),
        received=received,
        deadline=None if late is None else late / 1000.0,
        seed=seed,
        greedy=greedy,
    )


FIELDS = ("client", "episode", "seq", "observed", "deadline_ms", "seed", "greedy", "time")
"""Fields of a request besides its tensors."""


def text(fields: Mapping[str, object], name: str) -> str:
    """A short text without control characters; empty if it is not given."""
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT or not value.isprintable():
        raise refuse("parameter", f"{name} is a text of at most {_TEXT} printable characters")
    return value


def number(fields: Mapping[str, object], name: str, *, low: float, high: float) -> float | None:
    """A finite number in a range; ``None`` if it is not given."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise refuse("parameter", f"{name} is a number in {low:g}..{high:g}, not {show(value)}")
    return float(value)


def whole(fields: Mapping[str, object], name: str, *, low: int) -> int | None:
    """A whole number below 2^63; ``None`` if it is not given."""
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value < 2**63:
        raise refuse("parameter", f"{name} is a whole number in {low}..2^63-1, not {show(value)}")
    return value


def wanted_names(names: Sequence[object]) -> tuple[str, ...]:
    """Output names of a request; all that always exist if it names none."""
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise refuse("unknown", f"no output {show(name)}; known: {', '.join(OUTPUTS)}")
    chosen = cast("tuple[str, ...]", tuple(dict.fromkeys(names)))
    return chosen or ALWAYS


def show(value: object) -> str:
    """A value from outside, cut short for a message."""
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


@lru_cache(maxsize=64)
def _targets(rows: int, choices: int) -> NDArray[np.int64]:
    line = np.arange(choices, dtype=np.int64)
    line[0] = -1
    return np.broadcast_to(line, (rows, choices))


@lru_cache(maxsize=64)
def _everybody(rows: int) -> NDArray[np.bool_]:
    return np.broadcast_to(np.True_, (rows,))
