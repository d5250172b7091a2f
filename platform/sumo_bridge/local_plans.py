"""What signals do when nobody tells them: the plan in their own cabinet, asked every second.

A plan says which phase it wants; it goes through the same safety filter as anybody's wish.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...policies.interface import Controller
from ...simulators.interface import Doubles, Ints, Observation
from ...simulators.traffic.actuated import DEFAULTS
from ...simulators.traffic.observer import Observer
from ...simulators.traffic.plans import Programmes
from ...simulators.traffic.readings import Readings
from ...simulators.traffic.timing import Timing
from ...simulators.traffic.town import Town
from ..files import UserError

PLANS = ("fixed", "actuated", "max-pressure")


class LocalPlan(Protocol):
    """Wishes of all signals' own controllers."""

    def wanted(
        self, now: float, readings: Readings, timing: Timing, seen: Observation | None
    ) -> Ints:
        """``[N]`` phases.

        Args:
            now: s of the run.
            readings: of the last second.
            timing: what signals show, and since when.
            seen: the observation where a decision is due, else ``None``.
        """
        ...


class FixedPlan:
    """The programme of the network, by the clock.

    Raises:
        UserError: a signal whose programme shows none of its greens.
    """

    def __init__(self, town: Town) -> None:
        try:
            self._programmes = Programmes(town.network.signals, begin=town.demand.begin)
        except ValueError as error:
            raise UserError(f"no fixed plan: {error}; choose another local plan") from error

    def wanted(
        self, now: float, readings: Readings, timing: Timing, seen: Observation | None
    ) -> Ints:
        del readings, seen
        wanted = timing.phase.copy()
        for shown in self._programmes.at(now):
            wanted[shown.signal] = shown.phase
        return wanted


class ActuatedPlan:
    """Phases in cyclic order; a green ends when nobody is near, or at its longest.

    A vehicle is near within 50 m of the stop line, standing or not: about the three seconds without
    anybody that end a green of SUMO's ``actuated`` programmes.
    """

    def __init__(self, town: Town) -> None:
        self._approaches = town.approaches

    def wanted(
        self, now: float, readings: Readings, timing: Timing, seen: Observation | None
    ) -> Ints:
        del seen
        found = self._approaches
        agents = found.agents
        near: Doubles = found.whole.sums(readings.near, found.legal.size).reshape(found.legal.shape)
        phase, wanted = timing.phase[agents], timing.phase.copy()
        age = now - timing.since[agents]
        ends = (age >= DEFAULTS.min_green) & (near[np.arange(agents.size), phase] == 0.0)
        ends |= age >= DEFAULTS.max_green
        wanted[agents[ends]] = (phase[ends] + 1) % timing.phases[agents[ends]]
        return wanted


class RulePlan:
    """A rule that acts on the observation, where a decision is due; phases stay in between."""

    def __init__(self, town: Town, rule: Controller) -> None:
        self._observer, self._rule = Observer(town), rule
        self._rng = np.random.default_rng(0)

    def wanted(
        self, now: float, readings: Readings, timing: Timing, seen: Observation | None
    ) -> Ints:
        del now, readings
        if seen is None:
            return timing.phase.copy()
        chosen = np.asarray(self._rule.act(seen, self._rng), dtype=np.int64)
        return self._observer.wanted(seen, chosen, timing)


def local_plan(name: str, town: Town, rule: Controller) -> LocalPlan:
    """The plan of that name; ``rule`` is the one that the plan ``max-pressure`` follows.

    Raises:
        UserError: there is none, or the network has no programme for it.
    """
    if name == "fixed":
        return FixedPlan(town)
    if name == "actuated":
        return ActuatedPlan(town)
    if name == "max-pressure":
        return RulePlan(town, rule)
    raise UserError(f"no local plan named {name!r}; known: {', '.join(PLANS)}")
