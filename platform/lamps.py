"""The conflict monitor of a street: may these lamps follow those that are shown?

Judges single changes of lamps by what has been shown, and knows nothing of phases, plans and
policies. Cabinets have such a monitor beside the controller (NEMA TS 2: malfunction management
unit) because whoever computes a sequence is a bad judge of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..simulators.interface import Bools
from ..simulators.traffic.programme import GREEN, Signal
from ..simulators.traffic.timing import Change, TimingSettings

LETTERS = frozenset("Ggyrs")
_SLACK = 1e-6
"""s by which durations may be short: they are differences of decimal times."""


def compatible(signal: Signal) -> Bools:
    """``[J, J]`` letters that may be green together: those that some green phase has so."""
    green = np.array([[letter in GREEN for letter in state] for state in signal.greens])
    return np.logical_or.reduce(green[:, :, None] & green[:, None, :], axis=0)


@dataclass(slots=True)
class _Lamps:
    """What one signal shows: the state, and since when each letter has its aspect."""

    state: str
    since: list[float]
    last: float


class LampMonitor:
    """Watches the lamps of all signals.

    Every signal begins in its first green phase, with whoever is red having been so for long.

    Args:
        signals: N of them.
        settings: durations to hold; ``max_red`` is none of a monitor's business.
        start: s at which watching begins.
        together: ``[J, J]`` for each signal, letters that may be green together, with themselves
            if they may be green at all; ``None``: as :func:`compatible` finds.

    Raises:
        ValueError: a green phase lets go who must not go together; names signal, phase, letters.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        settings: TimingSettings,
        *,
        start: float = 0.0,
        together: Sequence[Bools] | None = None,
    ) -> None:
        self._settings = settings
        self._together = [compatible(s) for s in signals] if together is None else [*together]
        if len(self._together) != len(signals):
            raise ValueError(f"{len(self._together)} conflict matrices for {len(signals)} signals")
        self._lamps: list[_Lamps] = []
        for at, signal in enumerate(signals):
            _check_phases(signal, self._together[at])
            first = signal.greens[0]
            since = [start if letter in GREEN else -np.inf for letter in first]
            self._lamps.append(_Lamps(first, since, start))

    def shown(self, signal: int) -> str:
        """What a signal shows after the last change."""
        return self._lamps[signal].state

    def fault(self, change: Change) -> str:
        """Why a change must not be shown after what has been; empty if it may be.

        ``state`` (letters or their number), ``time`` (earlier than the last change), ``conflict``,
        ``no-yellow``, ``short-yellow``, ``yellow-to-green``, ``short-green``, ``no-clearance``
        (all-red too short).
        """
        lamps, state = self._lamps[change.signal], change.state
        if len(state) != len(lamps.state) or not LETTERS.issuperset(state):
            return "state"
        if not change.time >= lamps.last:
            return "time"
        return self._crossing(change) or self._durations(lamps, change)

    def show(self, change: Change) -> None:
        """Take note that a change is shown, whatever there is to say against it."""
        lamps = self._lamps[change.signal]
        for at, (old, new) in enumerate(zip(lamps.state, change.state, strict=True)):
            if _aspect(old) != _aspect(new):
                lamps.since[at] = change.time
        lamps.state, lamps.last = change.state, change.time

    def _crossing(self, change: Change) -> str:
        """Who goes, and who still may be in the junction because yellow is not over."""
        state, together = change.state, self._together[change.signal]
        going = [at for at, letter in enumerate(state) if letter in GREEN]
        leaving = [at for at, letter in enumerate(state) if letter == "y"]
        apart = any(not together[a, b] for a in going for b in (*going, *leaving))
        return "conflict" if apart else ""

    def _durations(self, lamps: _Lamps, change: Change) -> str:
        settings, now = self._settings, change.time
        for at, (old, new) in enumerate(zip(lamps.state, change.state, strict=True)):
            before, after = _aspect(old), _aspect(new)
            if before == after:
                continue
            lasted = now - lamps.since[at] + _SLACK
            if before == "G" and lasted < settings.min_green:
                return "short-green"
            if before == "G" and after == "r" and settings.yellow:
                return "no-yellow"
            if before == "y" and after == "G":
                return "yellow-to-green"
            if before == "y" and lasted < settings.yellow:
                return "short-yellow"
            if after == "G" and not self._cleared(lamps, change, at):
                return "no-clearance"
        return ""

    def _cleared(self, lamps: _Lamps, change: Change, at: int) -> bool:
        """Whether all that conflict with letter ``at`` have been red for the all-red time."""
        if not self._settings.all_red:
            return True
        foes = np.flatnonzero(~self._together[change.signal][at]).tolist()
        return all(
            _aspect(lamps.state[foe]) == "r"
            and change.time - lamps.since[foe] + _SLACK >= self._settings.all_red
            for foe in foes
        )


def _aspect(letter: str) -> str:
    """Green, yellow or red; right of way or a turn on red make no difference to a lamp."""
    return "G" if letter in GREEN else "y" if letter == "y" else "r"


def _check_phases(signal: Signal, together: Bools) -> None:
    letters = len(signal.greens[0])
    if together.shape != (letters, letters):
        raise ValueError(
            f"signal {signal.name!r}: conflict matrix {together.shape}, states have {letters}"
        )
    for phase, state in enumerate(signal.greens):
        going = [at for at, letter in enumerate(state) if letter in GREEN]
        for one in going:
            for other in going:
                if not together[one, other]:
                    raise ValueError(
                        f"signal {signal.name!r}: green phase {phase} lets letters {one} and "
                        f"{other} go, which must not go together"
                    )
