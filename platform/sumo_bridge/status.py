"""What signals show, and how long still: a status document like the field's SPaT messages.

The fields are those of a movement in SPaT (SAE J2735, ISO/TS 19091): ``state`` in its words,
``minEndTime``, ``maxEndTime`` and ``likelyTime``, null where nothing is known. It is JSON for
people and programs that want to know; no conformity to those standards, nor to NTCIP 1202, is
claimed: times are seconds of the run, not tenths in the hour, and a signal group is a letter of the
signal's state strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...simulators.interface import Bools
from ...simulators.traffic.programme import GREEN, Signal
from ...simulators.traffic.timing import Change, TimingSettings
from ..lamps import compatible

WORDS: Mapping[str, str] = {
    "G": "protected-Movement-Allowed",
    "g": "permissive-Movement-Allowed",
    "y": "protected-clearance",
    "r": "stop-And-Remain",
    "s": "stop-Then-Proceed",
}
"""Letter of a state string to the word for it in SPaT."""


@dataclass(slots=True)
class _Signal:
    state: str
    since: list[float]
    coming: list[Change]
    revision: int = 0


class StatusBoard:
    """Follows all signals.

    Args:
        signals: N, each in its first green phase at 0 s.
        timing: what changes keep to.
        interval: s between two decisions.
    """

    def __init__(
        self, signals: Sequence[Signal], timing: TimingSettings, *, interval: float
    ) -> None:
        self._signals, self._timing, self._interval = tuple(signals), timing, interval
        self._together = [compatible(signal) for signal in signals]
        self._shown = [_Signal(s.greens[0], [0.0] * len(s.greens[0]), []) for s in signals]

    def plan(self, changes: Sequence[Change]) -> None:
        """Changes that will be shown."""
        for change in changes:
            shown = self._shown[change.signal]
            shown.coming = sorted([*shown.coming, change], key=lambda one: one.time)

    def show(self, now: float) -> list[Change]:
        """Changes that are due by ``now``; they are shown from here on."""
        due: list[Change] = []
        for shown in self._shown:
            while shown.coming and shown.coming[0].time <= now:
                change = shown.coming.pop(0)
                due.append(change)
                for at, (old, new) in enumerate(zip(shown.state, change.state, strict=True)):
                    if old != new:
                        shown.since[at] = change.time
                shown.state, shown.revision = change.state, shown.revision + 1
        return due

    def document(self, now: float, waiting: Bools, sources: Sequence[str]) -> dict[str, Any]:
        """JSON-able.

        Args:
            now: s of the run.
            waiting: ``[N, J]`` whether somebody waits at a letter.
            sources: ``[N]`` who chose the phase of each signal.
        """
        intersections = [
            {
                "name": signal.name,
                "revision": self._shown[at].revision,
                "source": sources[at],
                "groups": self._groups(at, now, waiting[at]),
            }
            for at, signal in enumerate(self._signals)
        ]
        return {"form": "SPaT-like, no conformity claimed", "time": now, "signals": intersections}

    def _groups(self, at: int, now: float, waiting: Bools) -> list[dict[str, Any]]:
        shown = self._shown[at]
        found: list[dict[str, Any]] = []
        for letter, aspect in enumerate(shown.state):
            ends = next((c.time for c in shown.coming if c.state[letter] != aspect), None)
            least = most = ends
            if ends is None:
                least, most = self._open(at, letter, now, waiting)
            found.append(
                {
                    "group": letter,
                    "state": WORDS[aspect],
                    "minEndTime": least,
                    "maxEndTime": most,
                    "likelyTime": ends,
                }
            )
        return found

    def _open(
        self, at: int, letter: int, now: float, waiting: Bools
    ) -> tuple[float | None, float | None]:
        """Earliest and latest end of an aspect whose end is not decided yet."""
        shown, timing = self._shown[at], self._timing
        if not self._together[at][letter, letter]:
            return None, None  # no phase ever lets it go
        between = timing.yellow + timing.all_red
        green = [k for k, aspect in enumerate(shown.state) if aspect in GREEN]
        # Green ends after its minimum; red ends when a change has begun then and is over.
        young = max((shown.since[k] for k in green), default=now)
        young = max(young, *(change.time for change in shown.coming), 0.0)
        least = max(now, young + timing.min_green)
        if shown.state[letter] not in GREEN:
            return least + between, self._latest(at, letter, now, waiting)
        foes = [k for k in range(len(shown.state)) if not self._together[at][letter, k]]
        ends = [self._latest(at, foe, now, waiting) for foe in foes]
        return least, min((end for end in ends if end is not None), default=None)

    def _latest(self, at: int, letter: int, now: float, waiting: Bools) -> float | None:
        """When somebody who waits is green at the latest: after the longest red, others first."""
        timing, shown = self._timing, self._shown[at]
        ever = self._together[at][letter, letter]
        if not (ever and timing.max_red and waiting[letter]) or shown.state[letter] in GREEN:
            return None
        turns = len(self._signals[at].greens) + 1
        return max(shown.since[letter] + timing.max_red, now) + turns * self._interval
