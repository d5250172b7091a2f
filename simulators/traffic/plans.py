"""Fixed plans second by second: what every signal shows when, from its programme and its offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from ..interface import Doubles, Ints
from .generated_demand import movement_flows
from .programme import Signal, red_state, yellow_state
from .timing import Change, TimingSettings
from .town import Town
from .webster import webster

FIXED, WEBSTER, ACTUATED = "fixed", "webster", "actuated"
PLANS = (FIXED, WEBSTER, ACTUATED)
"""What the signals' own controllers can run."""


@dataclass(frozen=True, slots=True)
class Shown(Change):
    """A change of a plan, and what it means for who counts phases.

    Attributes:
        phase: green that is shown, or that comes after this yellow or red.
        since: s when that green began or will begin.
    """

    phase: int
    since: float


class Programmes:
    """Programmes of all signals as one time table.

    Times are s of the episode. As in SUMO, a programme starts anew at all times ``t`` of the
    source's clock with ``(t - offset) mod cycle = 0``.

    Args:
        signals: N of them.
        begin: s of the source's clock at which the episode starts.

    Raises:
        ValueError: a signal whose programme is empty or never green; named.
    """

    def __init__(self, signals: Sequence[Signal], *, begin: float = 0.0) -> None:
        rows = [row for at, signal in enumerate(signals) for row in _steps(at, signal, begin)]
        self._signal: Ints = np.array([row.signal for row in rows], dtype=np.int64)
        self._first: Doubles = np.array([row.time for row in rows])
        self._cycle: Doubles = np.array([signals[row.signal].cycle for row in rows])
        self._rows = rows

    def at(self, now: float) -> list[Shown]:
        """What every signal shows at ``now``: the change by which it came, in order of signals."""
        last = self._after(np.nextafter(now, np.inf)) - 1.0
        time = self._first + last * self._cycle
        order = np.lexsort((time, self._signal))
        ends = np.flatnonzero(np.diff(self._signal[order], append=-1))
        return [self._shown(row, float(last[row])) for row in order[ends].tolist()]

    def changes(self, start: float, end: float) -> list[Shown]:
        """All changes from ``start`` on and before ``end``, in order of time."""
        turn = self._after(start)
        found: list[Shown] = []
        while True:
            due = np.flatnonzero(self._first + turn * self._cycle < end)
            if not due.size:
                found.sort(key=lambda shown: shown.time)
                return found
            found += [self._shown(row, float(turn[row])) for row in due.tolist()]
            turn += 1.0

    def _after(self, start: float) -> Doubles:
        """Number of the cycle in which each step begins at ``start`` or next after it.

        Times are compared as they are shown, so that intervals end to end lose and repeat nothing.
        """
        turn = np.ceil((start - self._first) / self._cycle) - 1.0
        for _ in range(2):
            turn += self._first + turn * self._cycle < start
        return turn

    def _shown(self, row: int, turn: float) -> Shown:
        step = self._rows[row]
        time = float(self._first[row] + turn * self._cycle[row])
        since = time + (step.since - step.time)
        return Shown(time, step.signal, step.state, step.phase, since)


def _steps(at: int, signal: Signal, begin: float) -> list[Shown]:
    """The steps of a cycle, at the times that those of cycle 0 have."""
    steps = [step for step in signal.programme if step[1] > 0.0]
    phases = [signal.greens.index(s) if s in signal.greens else -1 for s, _ in steps]
    if max(phases, default=-1) < 0:
        raise ValueError(f"signal {signal.name!r} has no programme that shows one of its greens")
    seconds = [duration for _, duration in steps]
    count = len(steps)
    starts = list(accumulate(seconds, initial=signal.offset - begin))
    found: list[Shown] = []
    for k, (state, _) in enumerate(steps):
        since, green = starts[k], k
        while phases[green] < 0:
            since += seconds[green]
            green = (green + 1) % count
        if green == k:
            # A green that was shown in several steps began with the first of them.
            for back in range(1, count):
                if phases[k - back] != phases[k]:
                    break
                since -= seconds[k - back]
        found.append(Shown(starts[k], at, state, phases[green], since))
    return found


def plan_signals(town: Town, plan: str) -> tuple[Signal, ...]:
    """Signals with the programmes of a plan: the network's own, or retimed for the mean demand.

    Raises:
        ValueError: a plan that is no programme.
    """
    if plan == FIXED:
        return town.network.signals
    if plan != WEBSTER:
        raise ValueError(f"{plan!r} is no programme; known: {FIXED}, {WEBSTER}")
    timing = town.scenario.timing
    flows = movement_flows(town.network, town.demand) * town.scenario.scale
    retimed = webster(town.network, flows, yellow=timing.yellow)
    return tuple(_with_all_red(signal, timing) for signal in retimed)


def _with_all_red(signal: Signal, timing: TimingSettings) -> Signal:
    """All-red after every yellow of a plan that has none."""
    if not timing.all_red or len(signal.greens) < 2:
        return signal
    greens = [step for step in signal.programme if step[0] in signal.greens]
    steps: list[tuple[str, float]] = []
    for k, (state, seconds) in enumerate(greens):
        after = greens[(k + 1) % len(greens)][0]
        steps.append((state, seconds))
        yellow = yellow_state(state, after)
        if "y" in yellow:
            steps += [(yellow, timing.yellow), (red_state(state, after), timing.all_red)]
    return replace(signal, programme=tuple(steps))
