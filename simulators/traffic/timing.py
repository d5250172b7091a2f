"""The timing layer: what every change of a signal must keep to, whoever asked for it.

Between a policy and the lamps stands this machine. It shows yellow (and all-red) before anybody
loses green to a conflict, keeps a green for its minimum, and takes over when somebody who waits has
had red for too long. Nothing reaches a signal but through :meth:`Timing.order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles, Ints
from ..settings import Settings, knob
from .programme import GREEN, Signal, red_state, yellow_state


class TimingSettings(Settings):
    """Durations that the timing layer keeps."""

    yellow: float = knob(3.0, "yellow when a green ends", unit="s", usual="3..5", ge=0, le=10)
    all_red: float = knob(
        0.0, "all-red between yellow and the next green", unit="s", usual="0..2", ge=0, le=10
    )
    min_green: float = knob(5.0, "shortest green of a phase", unit="s", usual="5..7", ge=0, le=60)
    clear_inside: float = knob(
        0.0,
        "longest extension of a green while somebody stands inside the junction waiting for a gap: "
        "who is caught there by the next phase can lock a large junction (0: none)",
        unit="s",
        usual="0..60",
        ge=0,
        le=300,
    )
    max_red: float = knob(
        120.0,
        "red after which somebody who waits is served, whatever the policy wants (0: never)",
        unit="s",
        usual="60..180",
        ge=0,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What a signal shows from ``time`` (s) on."""

    time: float
    signal: int
    state: str


class Timing:
    """Phases of all signals of one episode.

    Args:
        signals: N of them; each starts in its first green phase.
        settings: durations.
        interval: s between two decisions; a change must fit into it.
        start: s at which the first phases' greens began.

    Attributes:
        phase: ``[N]`` index of the green that is shown or under way.
        since: ``[N]`` s when it began (in the future while yellow is shown).
        inside: ``[N]`` whether somebody stands inside the junction; who reads detectors sets it.

    Raises:
        ValueError: yellow and all-red together do not leave a second of green in an interval.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        settings: TimingSettings,
        *,
        interval: float,
        start: float = 0.0,
    ) -> None:
        self.signals, self.settings, self.interval = tuple(signals), settings, interval
        self._between = settings.yellow + settings.all_red
        if self._between > interval - 1.0:
            raise ValueError(
                f"yellow {settings.yellow:g} s and all-red {settings.all_red:g} s do not fit into "
                f"an interval of {interval:g} s"
            )
        count = len(self.signals)
        self.phases = np.array([len(signal.greens) for signal in self.signals], dtype=np.int64)
        self.phase = np.zeros(count, dtype=np.int64)
        self.since = np.full(count, start)
        self.inside: Bools = np.zeros(count, dtype=np.bool_)
        self._letters()
        self._red_since = np.full(self.serves.shape[::2], start)
        self._red_since[self.serves[:, 0]] = np.inf

    def _letters(self) -> None:
        """``serves[i, p, j]``: phase p of signal i is green for letter j."""
        count = len(self.signals)
        most = int(self.phases.max(initial=1))
        letters = max((len(signal.greens[0]) for signal in self.signals), default=1)
        self.serves = np.zeros((count, most, letters), dtype=np.bool_)
        for at, signal in enumerate(self.signals):
            for p, state in enumerate(signal.greens):
                self.serves[at, p, : len(state)] = [letter in GREEN for letter in state]
        self._ever = self.serves.any(axis=1)

    def open(self, now: float) -> Bools:
        """``[N]`` whether a change may begin: the minimum green is over, and the junction empty."""
        settings = self.settings
        least = settings.min_green + settings.clear_inside * self.inside
        return now - self.since >= least - 1e-9

    def red(self, now: float, waiting: Bools) -> Doubles:
        """``[N, P]`` longest red of anybody waiting whom the phase would serve, s.

        ``waiting`` ``[N, J]``: whether somebody waits at a letter of the state strings.
        """
        age = np.where(waiting & self._ever, now - self._red_since, 0.0)
        age = np.maximum(age, 0.0)
        return np.where(self.serves, age[:, None, :], 0.0).max(axis=2)

    def forced(self, now: float, waiting: Bools) -> Ints:
        """``[N]`` phase that must come now because of a red that is too long, else -1.

        The red that would pass its limit before the next decision counts. It is forced only where
        the minimum green is over; several at one signal come one after another, the longest first.
        """
        if not self.settings.max_red:
            return np.full(len(self.signals), -1, dtype=np.int64)
        red = self.red(now, waiting)
        at_limit = red + self._between + self.interval > self.settings.max_red + 1e-9
        red = np.where(at_limit, red, -1.0)
        worst = red.argmax(axis=1).astype(np.int64)
        due = red[np.arange(len(worst)), worst] >= 0.0
        return np.where(due & self.open(now), worst, -1)

    def order(self, now: float, wanted: Ints, waiting: Bools) -> list[Change]:
        """Make the phases that are wanted (``[N]``) come, as far as they may; what to show when.

        Raises:
            ValueError: a phase that a signal has not.
        """
        bad = (wanted < 0) | (wanted >= self.phases)
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(
                f"signal {self.signals[at].name!r} has {self.phases[at]} green phases, "
                f"got {int(wanted[at])}"
            )
        forced = self.forced(now, waiting)
        wanted = np.where(forced >= 0, forced, wanted)
        changing = np.flatnonzero((wanted != self.phase) & self.open(now))
        changes: list[Change] = []
        for at in changing.tolist():
            changes += self.change(at, int(wanted[at]), now)
        changes.sort(key=lambda change: change.time)
        return changes

    def change(self, at: int, phase: int, now: float) -> list[Change]:
        """Bring signal ``at`` to ``phase`` from ``now`` on, whatever it has shown; what to show.

        For controllers of the plant, which keep minimum greens themselves; agents use
        :meth:`order`.
        """
        before = self.signals[at].greens[self.phase[at]]
        after = self.signals[at].greens[phase]
        stops = (self.serves[at, self.phase[at]] & ~self.serves[at, phase]).any()
        green = now + self._between if stops else now
        self.follow(at, phase, now, green)
        if not stops:  # the new green needs no yellow
            return [Change(now, at, after)]
        found = [Change(now, at, yellow_state(before, after))] if self.settings.yellow else []
        if self.settings.all_red:
            found.append(Change(now + self.settings.yellow, at, red_state(before, after)))
        return [*found, Change(green, at, after)]

    def follow(self, at: int, phase: int, now: float, since: float) -> None:
        """Signal ``at`` left its phase at ``now``; ``phase`` is green from ``since`` on."""
        loses = self.serves[at, self.phase[at]] & ~self.serves[at, phase]
        self._red_since[at, loses] = now
        self._red_since[at, self.serves[at, phase]] = np.inf
        self.phase[at] = phase
        self.since[at] = since
