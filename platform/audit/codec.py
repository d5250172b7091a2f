"""Entries, events and segment headers as records: bytes that outlive the program that wrote them.

A *full* entry holds everything that a decision was computed from and all that it gave, so that it
can be recomputed. A *brief* one holds who, when and what was done, and which knob made it brief
(``audit.sample``, ``audit.full_rate``), without the observation, the scores and the last actions.
Of ``State.sequence`` only the request's own entry is kept: a decision reads no other. The
centralised part of an observation is not recorded, because nothing reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...simulators.interface import Observation
from ..daemon.interface import Entry
from ..decision.types import (
    Breaker,
    Clock,
    Decision,
    Inference,
    Outcome,
    Request,
    State,
)
from .tensors import Array, RecordError, Tensors, unpack

VERSION = 1
"""Of the records; a reader refuses others."""

_SEEN = ("agent", "candidates", "target", "mask", "low", "high", "active")
_ASKED = ("policy", "previous")


@dataclass(frozen=True, slots=True)
class Event:
    """An act of an operator or of the daemon itself.

    Attributes:
        kind: load, promote, rollback, drain, ...
        domain: whom it concerns; empty: the whole daemon.
        wall: when, seconds since 1970.
        detail: JSON-able.
    """

    kind: str
    domain: str
    wall: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """Where a segment's chain goes on from.

    Attributes:
        segment: number of the segment before; 0: this is the first one.
        records: how many of its records count.
        chain: chain hash after the last of those, hexadecimal.
        rest: what comes after them: ``whole`` (nothing), ``torn`` or ``damaged`` (found so when
            the daemon started again), ``doubtful`` (not known to be on disk after a failed write
            or flush; those records are written again in this segment).
    """

    segment: int = 0
    records: int = 0
    chain: str = ""
    rest: str = "whole"


@dataclass(frozen=True, slots=True)
class Header:
    """First record of a segment.

    Attributes:
        domain, number: as in the file's name.
        boot: id of the daemon's run.
        wall: when the segment was begun.
        link: to the segment before.
        context: JSON-able, see :class:`.writer.Context`.
    """

    domain: str
    number: int
    boot: str
    wall: float
    link: Link
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it was recorded; a brief one has an observation without agents.

    Attributes:
        entry: the decision and what it was computed from.
        full: whether all of that is there.
        brief: why it is not: the knob (``sample`` or ``rate``); empty where it is, or unsaid.
    """

    entry: Entry
    full: bool
    brief: str = ""


Record = Header | Event | Recorded


def encode_event(event: Event) -> bytes:
    """The event's payload; ``TypeError`` where its detail is not JSON-able."""
    values = {"kind": event.kind, "domain": event.domain, "detail": dict(event.detail)}
    return Tensors().payload({"v": VERSION, "is": "event", "wall": event.wall, **values})


def encode_header(header: Header) -> bytes:
    """The header's payload."""
    link = {name: getattr(header.link, name) for name in Link.__slots__}
    values = {"domain": header.domain, "number": header.number, "boot": header.boot}
    rest = {"wall": header.wall, "link": link, "context": dict(header.context)}
    return Tensors().payload({"v": VERSION, "is": "segment", **values, **rest})


def encode_entry(entry: Entry, *, full: bool, pack: bool = True, brief: str = "") -> bytes:
    """The payload of one decision; ``pack`` as in :class:`.tensors.Tensors`.

    ``brief`` says why it is not ``full``.

    Raises:
        RecordError: an array of a type that records do not hold, or too much of it.
    """
    tensors = Tensors(pack=pack)
    request, clock = entry.request, entry.clock
    description = {
        "v": VERSION,
        "is": "entry",
        "full": full,
        "brief": brief,
        "id": entry.id,
        "domain": entry.domain,
        "clock": [_number(clock.mono), _number(clock.wall)],
        "role": entry.role,
        "principal": entry.principal,
        "previous": entry.previous,
        "request": {
            "client": request.client,
            "episode": request.episode,
            "seq": request.seq,
            "observed": _number(request.observed),
            "received": _number(request.received),
            "deadline": _number(request.deadline),
            "seed": _whole(request.seed),
            "greedy": request.greedy,
            "agents": tensors.add(request.agents),
            "time": _number(float(request.observation.time)),
            "seen": [tensors.add(getattr(request.observation, n)) for n in _SEEN] if full else [],
        },
        "before": _state_out(entry.before, request, tensors, full=full),
        "decision": _decision_out(entry.decision, tensors, full=full),
    }
    return tensors.payload(description)


def decode(payload: bytes) -> Record:
    """The record in a payload.

    Raises:
        RecordError: it is none, or of another version.
    """
    values, arrays = unpack(payload)
    if values.get("v") != VERSION:
        raise RecordError(f"record of version {values.get('v')!r}; this program reads {VERSION}")
    try:
        if values["is"] == "segment":
            link = Link(**values["link"])
            return Header(
                domain=values["domain"],
                number=values["number"],
                boot=values["boot"],
                wall=values["wall"],
                link=link,
                context=values["context"],
            )
        if values["is"] == "event":
            return Event(values["kind"], values["domain"], values["wall"], values["detail"])
        if values["is"] == "entry":
            return _entry_in(values, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RecordError(f"a record with missing or wrong parts: {error!r}") from error
    raise RecordError(f"a record that is {values['is']!r}")


def _entry_in(values: Mapping[str, Any], arrays: list[Array]) -> Recorded:
    asked = values["request"]
    seen = [arrays[index] for index in asked["seen"]] if values["full"] else _nothing()
    observation = Observation(
        **dict(zip(_SEEN, seen, strict=True)),
        critic=np.zeros(0, np.float32),
        state=np.zeros(0),
        exogenous=np.zeros(0),
        time=cast("float", _back(asked["time"])),
    )
    request = Request(
        observation=observation,
        agents=_at(arrays, asked["agents"]),
        client=asked["client"],
        episode=asked["episode"],
        seq=asked["seq"],
        observed=_back(asked["observed"]),
        received=cast("float", _back(asked["received"])),
        deadline=_back(asked["deadline"]),
        seed=None if asked["seed"] is None else int(asked["seed"]),
        greedy=asked["greedy"],
    )
    mono, wall = values["clock"]
    entry = Entry(
        id=values["id"],
        domain=values["domain"],
        clock=Clock(float(mono), float(wall)),
        request=request,
        decision=_decision_in(values["decision"], arrays),
        before=_state_in(values["before"], arrays),
        role=values["role"],
        principal=values["principal"],
        previous=values["previous"],
    )
    return Recorded(entry, bool(values["full"]), str(values.get("brief", "")))


def _state_out(
    state: State, request: Request, tensors: Tensors, *, full: bool
) -> Mapping[str, Any]:
    key = f"{request.client}/{request.episode}"
    breaker = state.breaker
    return {
        "mode": state.mode,
        "breaker": {
            "phase": breaker.phase,
            "window": "".join("1" if failed else "0" for failed in breaker.window),
            "since": _number(breaker.since),
            "probes": breaker.probes,
            "trips": breaker.trips,
        },
        "clean": state.clean,
        "latched": state.latched,
        "forced": state.forced,
        "last": tensors.add(state.last) if full else None,
        "sequence": [pair for pair in state.sequence if pair[0] == key],
        "ticks": state.ticks,
    }


def _state_in(values: Mapping[str, Any], arrays: list[Array]) -> State:
    breaker = values["breaker"]
    return State(
        mode=values["mode"],
        breaker=Breaker(
            phase=breaker["phase"],
            window=tuple(mark == "1" for mark in breaker["window"]),
            since=float(breaker["since"]),
            probes=breaker["probes"],
            trips=breaker["trips"],
        ),
        clean=values["clean"],
        latched=values["latched"],
        forced=values["forced"],
        last=_at(arrays, values["last"]),
        sequence=tuple((key, seq) for key, seq in values["sequence"]),
        ticks=values["ticks"],
    )


def _decision_out(decision: Decision, tensors: Tensors, *, full: bool) -> Mapping[str, Any]:
    asked = [None if one is None else _outcome_out(one, tensors, full) for one in decision.asked]
    return {
        "actions": tensors.add(decision.actions),
        "source": tensors.add(decision.source),
        "cause": tensors.add(decision.cause),
        "outcome": decision.outcome,
        "mode": decision.mode,
        "bundle": decision.bundle,
        "seed": str(decision.seed),
        "asked": asked,
        "distance": tensors.add(decision.distance),
        "margin": _number(decision.margin),
        "deviation": tensors.add(decision.deviation),
        "wanted": tensors.add(decision.wanted) if full else None,
        "preference": tensors.add(decision.preference) if full else None,
        "invalid": dict(decision.invalid),
        "seconds": {name: _number(value) for name, value in decision.seconds.items()},
        "failures": dict(decision.failures),
    }


def _decision_in(values: Mapping[str, Any], arrays: list[Array]) -> Decision:
    first, second = (None if one is None else _outcome_in(one, arrays) for one in values["asked"])
    return Decision(
        actions=arrays[values["actions"]],
        source=arrays[values["source"]],
        cause=arrays[values["cause"]],
        outcome=values["outcome"],
        mode=values["mode"],
        bundle=values["bundle"],
        seed=int(values["seed"]),
        asked=(first, second),
        distance=arrays[values["distance"]],
        margin=cast("float", _back(values["margin"])),
        deviation=arrays[values["deviation"]],
        wanted=_at(arrays, values["wanted"]),
        preference=_at(arrays, values["preference"]),
        invalid=values["invalid"],
        seconds={name: float(value) for name, value in values["seconds"].items()},
        failures=values["failures"],
    )


def _outcome_out(outcome: Outcome, tensors: Tensors, full: bool) -> Mapping[str, Any]:
    inference = outcome.inference if full else None
    return {
        "status": outcome.status,
        "seconds": _number(outcome.seconds),
        "detail": outcome.detail,
        "actions": None if inference is None else tensors.add(inference.actions),
        "preference": None if inference is None else tensors.add(inference.preference),
    }


def _outcome_in(values: Mapping[str, Any], arrays: list[Array]) -> Outcome:
    actions = _at(arrays, values["actions"])
    inference = None if actions is None else Inference(actions, _at(arrays, values["preference"]))
    return Outcome(values["status"], inference, float(values["seconds"]), values["detail"])


def _at(arrays: list[Array], index: int | None) -> Array | None:
    return None if index is None else arrays[index]


def _nothing() -> list[Array]:
    floats, bools = np.zeros((0, 0), np.float32), np.zeros((0, 0), bool)
    target = np.zeros((0, 0), np.int64)
    return [
        floats,
        np.zeros((0, 0, 0), np.float32),
        target,
        bools,
        floats,
        floats,
        np.zeros(0, bool),
    ]


def _number(value: float | None) -> float | str | None:
    """JSON has no infinities and no NaN; they travel as words."""
    if value is None or math.isfinite(value):
        return None if value is None else float(value)
    return repr(float(value))


def _back(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _whole(value: int | None) -> str | None:
    """Seeds may be longer than JSON's 64 bits."""
    return None if value is None else str(int(value))
