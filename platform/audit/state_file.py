"""The state file: what a restarted daemon needs to go on where it stopped.

``state.json`` holds the state of every slot: last executed actions (so that *hold* works from the
first tick on), sequence numbers, breaker, mode. It is replaced as a whole. A file that cannot be
used is set aside under a name that says so, with a warning; the daemon then starts without it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import orjson

from ...simulators.interface import HOLD, Choice, Spec
from ..decision.types import Actions, Breaker, BreakerPhase, Clock, Mode, State
from ..files import make_folder, write_atomic

FORMAT = 1
_TYPES = {"<i8": np.int64, "<f4": np.float32}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a state file held.

    Attributes:
        states: by domain; empty if there is none, or none that can be used.
        saved: wall clock of its writing; NaN without one.
        warning: what is wrong with it; empty if nothing is.
    """

    states: Mapping[str, State] = field(default_factory=dict[str, State])
    saved: float = float("nan")
    warning: str = ""


class StateFile:
    """Saves and loads the states of all slots.

    Args:
        path: of the file; its folder is created when first saved.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def save(self, states: Mapping[str, State], clock: Clock) -> None:
        """Replace the file; readers and crashes see the old or the new one.

        Raises:
            UserError: it cannot be written; the old one is still there.
        """
        slots = {domain: _state_out(state, clock) for domain, state in states.items()}
        body = orjson.dumps({"format": FORMAT, "saved": clock.wall, "slots": slots})
        make_folder(self.path.parent)
        write_atomic(self.path, orjson.dumps({"seal": _seal(body), "state": orjson.Fragment(body)}))

    def load(self, clock: Clock) -> Loaded:
        """The states; never raises for what is in the file or missing.

        ``breaker.since`` is moved to this run's monotonic clock, by the age it had when saved.
        """
        self._sweep()
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Loaded()
        except OSError as error:
            return self._useless(f"it cannot be read: {error.strerror}")
        try:
            return _loaded(data, clock)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._useless(str(error) or repr(error))

    def _useless(self, why: str) -> Loaded:
        aside = self.path.with_name(f"{self.path.name}.damaged-{_number(self.path)}")
        try:
            os.replace(self.path, aside)
            where = f"it lies in {aside.name} now"
        except OSError as error:
            where = f"it could not be set aside: {error.strerror}"
        warning = f"state file {self.path} is not used ({why}); {where}"
        _log.warning("%s", warning)
        return Loaded(warning=warning)

    def _sweep(self) -> None:
        """Scratch files of saves that a crash cut short."""
        for scratch in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            scratch.unlink(missing_ok=True)


def fitted(state: State, spec: Spec) -> State:
    """The state without last actions that ``spec`` does not know (another bundle was served)."""
    last = state.last
    if last is None:
        return state
    if isinstance(spec.action, Choice):
        fits = last.shape == (spec.agents,) and last.dtype == np.int64
        fits = fits and bool(((last >= HOLD) & (last < spec.action.candidates)).all())
    else:
        fits = last.shape == (spec.agents, spec.action.dimensions) and last.dtype == np.float32
    return state if fits else replace(state, last=None)


def _loaded(data: bytes, clock: Clock) -> Loaded:
    whole = orjson.loads(data)
    if not isinstance(whole, dict) or "seal" not in whole or "state" not in whole:
        raise ValueError("it is no state file")
    document = cast("dict[str, Any]", whole)
    body = document["state"]
    if _seal(orjson.dumps(body)) != document["seal"]:
        raise ValueError("its seal is broken")
    if body["format"] != FORMAT:
        raise ValueError(f"it has format {body['format']!r}; this program reads {FORMAT}")
    states = {domain: _state_in(values, clock) for domain, values in body["slots"].items()}
    return Loaded(states, float(body["saved"]))


def _state_out(state: State, clock: Clock) -> dict[str, Any]:
    breaker = state.breaker
    return {
        "mode": state.mode,
        "clean": state.clean,
        "latched": state.latched,
        "forced": state.forced,
        "ticks": state.ticks,
        "sequence": [list(pair) for pair in state.sequence],
        "last": None if state.last is None else _array_out(state.last),
        "breaker": {
            "phase": breaker.phase,
            "window": [bool(failed) for failed in breaker.window],
            "age": max(0.0, clock.mono - breaker.since),
            "probes": breaker.probes,
            "trips": breaker.trips,
        },
    }


def _state_in(values: Mapping[str, Any], clock: Clock) -> State:
    breaker = values["breaker"]
    if values["mode"] not in get_args(Mode) or breaker["phase"] not in get_args(BreakerPhase):
        raise ValueError(f"mode {values['mode']!r} or breaker {breaker['phase']!r} is unknown")
    return State(
        mode=values["mode"],
        breaker=Breaker(
            phase=breaker["phase"],
            window=tuple(map(bool, breaker["window"])),
            since=clock.mono - float(breaker["age"]),
            probes=int(breaker["probes"]),
            trips=int(breaker["trips"]),
        ),
        clean=int(values["clean"]),
        latched=bool(values["latched"]),
        forced=bool(values["forced"]),
        last=None if values["last"] is None else _array_in(values["last"]),
        sequence=tuple((str(key), int(seq)) for key, seq in values["sequence"]),
        ticks=int(values["ticks"]),
    )


def _array_out(array: Actions) -> dict[str, Any]:
    kind = array.dtype.newbyteorder("<").str
    if kind not in _TYPES:
        raise TypeError(f"last actions of type {array.dtype}; int64 or float32 are known")
    data = base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()
    return {"dtype": kind, "shape": list(array.shape), "data": data}


def _array_in(values: Mapping[str, Any]) -> Actions:
    kind = _TYPES[values["dtype"]]
    data = base64.b64decode(values["data"], validate=True)
    return np.frombuffer(data, values["dtype"]).astype(kind).reshape(values["shape"])


def _seal(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _number(path: Path) -> int:
    """First free number for a damaged file."""
    names = (found.name.rpartition("-")[2] for found in path.parent.glob(f"{path.name}.damaged-*"))
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
