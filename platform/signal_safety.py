"""The safety filter at the street: what of all that is asked for reaches the lamps.

It stands with the signals, not with the daemon, and trusts nobody: requests may be wrong, late,
repeated or missing. What passes becomes lamp states through the timing layer
(:class:`...simulators.traffic.timing.Timing`: yellow, all-red, minimum green, longest red), and a
monitor that knows nothing of phases (:mod:`.lamps`) has the last word on every one of them.
Whatever is refused is told with its reason, and the signal goes on with what it does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ..simulators.interface import Bools
from ..simulators.traffic.programme import GREEN, Signal
from ..simulators.traffic.timing import Change, Timing, TimingSettings
from .lamps import LampMonitor

REASONS = (
    "unknown-signal",
    "unknown-phase",
    "expired",
    "old",
    "duplicate",
    "min-green",
    "max-red",
    "stopped",
    "monitor",
)
"""Why a request is refused, in the order of asking.

``expired``: its validity is over. ``old``: its sequence number is not above the last one of the
signal. ``duplicate``: the signal has another request in the same step. ``min-green``: green is too
young, or yellow is shown. ``max-red``: somebody else has waited too long and comes first.
``stopped``: the signal is out of service. ``monitor``: the monitor refused what would be shown.
"""


@dataclass(frozen=True, slots=True)
class PhaseRequest:
    """What somebody wants of one signal. A wish, no command: it names a phase, never lamps.

    Attributes:
        signal: its name.
        phase: one of its green phases; the one that is shown already means: keep it.
        valid_until: s on the street's clock after which it must not be carried out.
        sequence: must increase from request to request of a signal; ``None``: not in any order, as
            from the plan in the cabinet itself.
    """

    signal: str
    phase: int
    valid_until: float = math.inf
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not carried out, and why (one of :data:`REASONS`)."""

    request: PhaseRequest
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one step does.

    Attributes:
        changes: of lamps, in order of time, the first ones now.
        refused: requests that were not carried out.
        forced: signals that turn to a phase by themselves because of a red that is too long.
        switched: signals that begin to change their phase.
    """

    changes: tuple[Change, ...] = ()
    refused: tuple[Refusal, ...] = ()
    forced: tuple[int, ...] = ()
    switched: tuple[int, ...] = ()


@dataclass(slots=True)
class _Tally:
    refused: Counter[str] = field(default_factory=Counter[str])
    forced: int = 0
    switched: int = 0


class SafetyFilter:
    """Turns requests into lamp states.

    Call :meth:`step` at least every ``interval`` s, with or without requests: the longest red is
    kept by whoever is called, not by a clock of its own.

    Args:
        signals: of the street.
        settings: durations that are kept.
        interval: s within which the next step surely comes.
        start: s at which all signals show their first green phase.
        together: as for :class:`.lamps.LampMonitor`.

    Attributes:
        timing: phases of all signals.
        tally: refusals by reason, forced phases and switches so far.

    Raises:
        ValueError: durations that do not fit the interval, phases that contradict ``together``, or
            two signals of one name.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        settings: TimingSettings,
        *,
        interval: float,
        start: float = 0.0,
        together: Sequence[Bools] | None = None,
    ) -> None:
        self._index = {signal.name: at for at, signal in enumerate(signals)}
        if len(self._index) != len(signals):
            raise ValueError("two signals have the same name")
        self.timing = Timing(signals, settings, interval=interval, start=start)
        self.tally = _Tally()
        self._monitor = LampMonitor(signals, settings, start=start, together=together)
        self._settings, self._now = settings, start
        self._sequence: dict[int, int] = {}
        self._stopped: set[int] = set()

    def step(
        self, now: float, requests: Sequence[PhaseRequest], waiting: Bools | None = None
    ) -> Verdict:
        """Carry out what may be carried out.

        Args:
            now: s on the street's own clock.
            requests: at most one a signal counts; none: the phase stays.
            waiting: ``[N, J]`` whether somebody waits at a letter; ``None``: nobody can tell, so
                everybody is taken to wait.

        Raises:
            ValueError: a clock that goes back or is none, or ``waiting`` of another shape.
        """
        if not self._now <= now < math.inf:
            raise ValueError(f"the clock says {now} s after {self._now} s")
        self._now = now
        timing = self.timing
        shape = timing.serves.shape[::2]
        known = np.ones(shape, dtype=np.bool_) if waiting is None else waiting
        if known.shape != shape:
            raise ValueError(f"waiting has shape {known.shape}, expected {shape}")
        forced = timing.forced(now, known)
        wanted, refused = self._wanted(now, requests, forced.tolist())
        asked = wanted.copy()
        stopped = np.array(sorted(self._stopped), dtype=np.int64)
        # Whoever is out of service shows red, whatever phase the timing layer has it in.
        before = timing.phase.copy()
        changes = [c for c in timing.order(now, wanted, known) if c.signal not in self._stopped]
        switched = np.setdiff1d(np.flatnonzero(timing.phase != before), stopped)
        pushed = [at for at in switched.tolist() if timing.phase[at] != asked[at]]
        changes, struck = self._watched(changes, now)
        refused += struck
        self.tally.refused.update(refusal.reason for refusal in refused)
        self.tally.forced += len(pushed)
        self.tally.switched += len(switched)
        return Verdict(tuple(changes), tuple(refused), tuple(pushed), tuple(switched.tolist()))

    @property
    def stopped(self) -> tuple[str, ...]:
        """Signals that the monitor took out of service: all red, until the process starts anew."""
        return tuple(self.timing.signals[at].name for at in sorted(self._stopped))

    def _wanted(
        self, now: float, requests: Sequence[PhaseRequest], forced: list[int]
    ) -> tuple[np.ndarray, list[Refusal]]:
        """``[N]`` phases to ask the timing layer for, and what is refused before."""
        timing = self.timing
        wanted, free = timing.phase.copy(), timing.open(now)
        refused: list[Refusal] = []
        done: set[int] = set()
        for request in requests:
            at = self._index.get(request.signal)
            reason = "unknown-signal" if at is None else self._stale(at, request, now, done)
            if at is not None and not reason:
                done.add(at)
                if request.sequence is not None:
                    self._sequence[at] = request.sequence
                if at in self._stopped:
                    reason = "stopped"
                elif forced[at] not in (-1, request.phase):
                    reason = "max-red"
                elif request.phase != timing.phase[at] and not free[at]:
                    reason = "min-green"
                else:
                    wanted[at] = request.phase
            if reason:
                refused.append(Refusal(request, reason))
        return wanted, refused

    def _stale(self, at: int, request: PhaseRequest, now: float, done: set[int]) -> str:
        """What is wrong with the request itself."""
        # Whatever came over a wire may stand there.
        phase, sequence = cast("object", request.phase), request.sequence
        whole = isinstance(phase, int | np.integer) and not isinstance(phase, bool)
        if not (whole and 0 <= request.phase < self.timing.phases[at]):
            return "unknown-phase"
        if not now <= request.valid_until:
            return "expired"
        if sequence is not None and sequence <= self._sequence.get(at, -1):
            return "old"
        return "duplicate" if at in done else ""

    def _watched(self, changes: list[Change], now: float) -> tuple[list[Change], list[Refusal]]:
        """What the monitor lets pass; a signal that it stops turns red over yellow."""
        passed: list[Change] = []
        struck: list[Refusal] = []
        for change in changes:
            if change.signal in self._stopped:
                continue
            fault = self._monitor.fault(change)
            if not fault:
                self._monitor.show(change)
                passed.append(change)
                continue
            self._stopped.add(change.signal)
            signal = self.timing.signals[change.signal]
            phase = int(self.timing.phase[change.signal])
            struck.append(Refusal(PhaseRequest(signal.name, phase), "monitor", fault))
            passed = [c for c in passed if c.signal != change.signal or c.time <= now]
            passed += self._ending(change.signal, max([now, *_times(passed, change.signal)]))
        return sorted(passed, key=lambda change: change.time), struck

    def _ending(self, signal: int, now: float) -> list[Change]:
        """From what is shown to all red, over yellow where somebody has green."""
        shown = self._monitor.shown(signal)
        yellow = "".join("y" if letter in GREEN + "y" else "r" for letter in shown)
        end = Change(now + self._settings.yellow, signal, "r" * len(shown))
        if "y" not in yellow or not self._settings.yellow:
            return [end]
        return [Change(now, signal, yellow), end]


def _times(changes: Sequence[Change], signal: int) -> list[float]:
    return [change.time for change in changes if change.signal == signal]
