"""The signals' own controllers at work on our streets, between the decisions of agents."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .actuated import DEFAULTS, EVERY, Actuated
from .loops import Loops
from .plans import ACTUATED, PLANS, Programmes, Shown, plan_signals
from .streets import Streets
from .timing import Change, Timing
from .town import Town


class FieldControl(Protocol):
    """Controllers of all signals for one episode."""

    def advance(self, until: float) -> int:
        """Run signals and streets to the last change before ``until``; phases that changed."""
        ...


class ProgrammeControl:
    """Every signal runs its programme; ``timing`` follows what they show."""

    def __init__(self, programmes: Programmes, streets: Streets, timing: Timing) -> None:
        self._programmes, self._streets, self._timing = programmes, streets, timing
        for shown in programmes.at(streets.calendar.now):
            self._show(shown)

    def advance(self, until: float) -> int:
        calendar, count = self._streets.calendar, 0
        for shown in self._programmes.changes(calendar.now, until):
            calendar.run_until(shown.time)
            count += self._show(shown)
        return count

    def _show(self, shown: Shown) -> bool:
        changed = int(self._timing.phase[shown.signal]) != shown.phase
        self._timing.follow(shown.signal, shown.phase, self._streets.calendar.now, shown.since)
        self._streets.show(shown.signal, shown.state)
        return changed


class ActuatedControl:
    """Every signal decides by its loops, once a second."""

    def __init__(self, actuated: Actuated, loops: Loops, streets: Streets) -> None:
        self._actuated, self._loops, self._streets = actuated, loops, streets
        self._look = streets.calendar.now
        self._due: deque[Change] = deque()

    def advance(self, until: float) -> int:
        calendar, count = self._streets.calendar, 0
        while True:
            self._show_before(min(self._look, until))
            if self._look >= until:
                return count
            calendar.run_until(self._look)
            changes = self._actuated.decide(self._look, self._loops.detected(self._streets))
            if changes:
                count += len({change.signal for change in changes})
                self._due = deque(sorted([*self._due, *changes], key=lambda change: change.time))
            self._show_before(calendar.now, including=True)
            self._look += EVERY

    def _show_before(self, time: float, *, including: bool = False) -> None:
        due = self._due
        while due and (due[0].time < time or (including and due[0].time <= time)):
            change = due.popleft()
            if change.time > self._streets.calendar.now:
                self._streets.calendar.run_until(change.time)
            self._streets.show(change.signal, change.state)


class Plan:
    """A plan of a town, made once and run in many episodes.

    Args:
        town: streets and demand.
        name: one of :data:`.plans.PLANS`.

    Raises:
        ValueError: an unknown plan, or a programme that shows no green.
    """

    def __init__(self, town: Town, name: str) -> None:
        if name not in PLANS:
            raise ValueError(f"the signals know no plan {name!r}; known: {', '.join(PLANS)}")
        self._town, self._programmes = town, None
        if name != ACTUATED:
            signals = plan_signals(town, name)
            self._programmes = Programmes(signals, begin=town.demand.begin)

    def start(self, streets: Streets, timing: Timing) -> FieldControl:
        """Take over the signals of an episode that begins now."""
        if self._programmes is not None:
            return ProgrammeControl(self._programmes, streets, timing)
        town = self._town
        least = max(DEFAULTS.min_green, timing.settings.min_green)
        loops = Loops(town.layout, town.approaches, seconds=DEFAULTS.detector, least=least)
        return ActuatedControl(Actuated(timing, town.approaches.agents), loops, streets)
