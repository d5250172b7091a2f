"""What can go wrong between a system and its controller, and when it does in an episode."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...simulators.interface import Observation
from ..decision.types import Request
from ..files import UserError
from ..wire import frames

KINDS: Mapping[str, str] = {
    "nan": "one agent in twenty reports NaN",
    "blackout": "all agents report NaN",
    "drift": "all features are a thousand times too large",
    "stale": "the time stamps are a minute old",
    "frozen": "features of 20 epochs ago, with time stamps of now: nobody can tell",
    "future": "a time stamp one hour ahead",
    "order": "sequence numbers that repeat or go back",
    "shape": "a feature is missing from the message",
    "garbage": "damaged bytes in the message",
    "slow": "the message arrives when its deadline is all but over",
    "stall": "the daemon is stopped (SIGSTOP) and goes on at the end",
    "kill": "the daemon is killed (SIGKILL) and started again half-way",
}
"""Faults by name. The last two need a daemon that the drive has started itself."""

PROCESS = frozenset({"stall", "kill"})
DEFAULT = ("nan", "stale", "order", "shape", "slow", "kill")
"""What a drive without other orders goes through."""

_SHARE = 20
_OLD = 20
_FAULT = re.compile(r"(?P<kind>[a-z]+)(?:@(?P<first>\d+)-(?P<last>\d+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in epochs ``first <= epoch < last``."""

    kind: str
    first: int
    last: int

    def at(self, epoch: int) -> bool:
        """Whether it is there in this epoch."""
        return self.first <= epoch < self.last


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in every driven episode.

    Attributes:
        epochs: length of an episode; it goes on longer, up to twice that, if a killed daemon takes
            its time to come back: a start costs real time, which is short in simulated time.
        faults: by their first epoch.
        settle: epochs after the last fault that count neither as outage nor as after it.
    """

    epochs: int
    faults: tuple[Fault, ...]
    settle: int

    def phases(self, back: int = 0) -> Mapping[str, slice]:
        """Epochs before, during and after the faults; one phase if there are none.

        ``back`` is the epoch in which a restarted daemon answers again; the outage lasts until
        then, and the part after it is as long as planned.
        """
        if not self.faults:
            return {"before": slice(0, self.epochs)}
        first, last = self.outage
        last, end = max(last, back), self.end(back)
        return {
            "before": slice(0, first),
            "outage": slice(first, min(last, end)),
            "after": slice(min(last + self.settle, end), end),
        }

    @property
    def room(self) -> int:
        """The longest that an episode can get."""
        return 2 * self.epochs if any(f.kind == "kill" for f in self.faults) else self.epochs

    def end(self, back: int = 0) -> int:
        """Length of an episode in which the daemon was back in epoch ``back``."""
        if not self.faults:
            return self.epochs
        return min(self.room, self.epochs + max(0, back - self.outage[1]))

    @property
    def outage(self) -> tuple[int, int]:
        """First epoch of the first fault, and the one after the last."""
        return min(f.first for f in self.faults), max(f.last for f in self.faults)

    @classmethod
    def of(cls, text: str, *, epochs: int, settle: int) -> Plan:
        """The plan for a list such as ``nan,kill`` or ``nan@40-60,kill@60-90``.

        Faults without epochs share the part from a fifth to nearly one half of the
        episode evenly, one after another.

        Raises:
            UserError: an unknown fault, epochs outside the episode, or nothing left after it.
        """
        words = [word for word in text.replace(" ", "").split(",") if word and word != "none"]
        faults = tuple(
            sorted(
                (_fault(word, index, len(words), epochs) for index, word in enumerate(words)),
                key=lambda fault: fault.first,
            )
        )
        plan = cls(epochs, faults, settle)
        if faults and not 0 < plan.outage[0] < plan.outage[1] + settle < epochs:
            first, last = plan.outage
            raise UserError(
                f"faults take epochs {first} to {last} and {settle} to settle; an episode of "
                f"{epochs} must leave some before and after them (--epochs, --settle)"
            )
        return plan


def _fault(word: str, index: int, count: int, epochs: int) -> Fault:
    found = _FAULT.fullmatch(word)
    if found is None or found["kind"] not in KINDS:
        raise UserError(
            f"no fault {word!r}; write NAME or NAME@FROM-TO with NAME one of {', '.join(KINDS)}"
        )
    if found["first"] is not None:
        first, last = int(found["first"]), int(found["last"])
    else:
        begin, end = epochs // 5, (9 * epochs) // 20
        first = begin + (end - begin) * index // count
        last = begin + (end - begin) * (index + 1) // count
    if not 0 <= first < last <= epochs:
        raise UserError(f"fault {word!r}: epochs {first} to {last} of an episode of {epochs}")
    return Fault(found["kind"], first, last)


@dataclass(frozen=True, slots=True)
class Shot:
    """What is sent instead of the true observation.

    Attributes:
        observation: as the sensors report it; masks and boxes are the true ones, because an agent
            knows its own choices.
        seq: of the message.
        age: of its time stamp, s; negative: ahead.
        deadline: s from receipt, ``None``: the daemon's own.
        damage: of the message on its way: ``shape``, ``garbage``, or none.
    """

    observation: Observation
    seq: int
    age: float = 0.0
    deadline: float | None = None
    damage: str = ""

    def frame(self, observed: float) -> bytes:
        """The damaged message; the sensors and the client's own rule are as they were."""
        seen = self.observation
        if self.damage == "shape":
            seen = replace(seen, agent=seen.agent[:, :-1])
        made = bytearray(
            frames.encode_request(Request(seen, client="drive", seq=self.seq, observed=observed))
        )
        if self.damage == "garbage":
            made[9] ^= 0x55
        return bytes(made)


def sequence(epoch: int) -> int:
    """The seq of an epoch: from 1, so that ``order`` has one that is older than all."""
    return epoch + 1


def disturb(
    kinds: Sequence[str], past: Sequence[Observation], epoch: int, rng: np.random.Generator
) -> Shot:
    """The true observation ``past[-1]``, disturbed by the faults in force."""
    shot = Shot(past[-1], sequence(epoch))
    for kind in kinds:
        shot = _disturbed(kind, shot, past, epoch, rng)
    return shot


def _disturbed(
    kind: str, shot: Shot, past: Sequence[Observation], epoch: int, rng: np.random.Generator
) -> Shot:
    seen = shot.observation
    if kind == "nan":
        broken = rng.choice(len(seen.agent), max(1, len(seen.agent) // _SHARE), replace=False)
        agent = seen.agent.copy()
        agent[broken] = np.nan
        return replace(shot, observation=replace(seen, agent=agent))
    if kind in {"blackout", "drift"}:
        factor = np.float32(np.nan if kind == "blackout" else 1e3)
        wrong = replace(seen, agent=seen.agent * factor, candidates=seen.candidates * factor)
        return replace(shot, observation=wrong)
    if kind == "frozen":
        old = past[-min(len(past), _OLD)]
        frozen = replace(seen, agent=old.agent, candidates=old.candidates)
        return replace(shot, observation=frozen)
    changes = {
        # Now the first one again, now one that was never used and is older than all others.
        "order": {"seq": epoch % 2},
        "stale": {"age": 60.0},
        "future": {"age": -3600.0},
        "slow": {"deadline": 1e-5},
        "shape": {"damage": "shape"},
        "garbage": {"damage": "garbage"},
    }
    return replace(shot, **changes.get(kind, {}))
