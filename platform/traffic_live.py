"""The traffic domain inside the controller: fallback rules, projection, look-ahead, guidance.

Built from a bundle's spec and its scenario's settings; no simulator, no network, no solver. All
parts read the decentralised observation only. What is decided here is a request: the filter at the
street (:mod:`.signal_safety`) still judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..policies.heuristics.traffic_local import local
from ..policies.heuristics.traffic_rotation import Rotation
from ..policies.interface import Controller
from ..simulators.interface import HOLD, Choice, Floats, Ints, Observation, Spec
from ..simulators.traffic.scenario import TrafficScenario
from ..simulators.traffic.timing import TimingSettings
from .decision.arrays import among
from .decision.settings import SlotSettings
from .decision.types import Actions, Cause, Projected
from .files import UserError
from .served_scenario import served_scenario
from .traffic import SCENARIOS
from .traffic_costs import Priced, Reader

DEFAULT = "max-pressure"
"""Fallback rule: the one that counts what stands beyond the junction, so that it sends nobody where
there is no room. Measured in SUMO, ``discharge`` is quicker below capacity (cologne8: 19 s of delay
against 44 s), but jams beyond it (the generated arterial: 1215 s against 551 s), and a fallback has
to stand just that."""

FLOOR = 2.0
"""Vehicles per deciding agent: a loss below it is of no consequence. Sensible rules lose up to 1.5
in the mean and stay below the limit in nearly all decisions; random phases lose 1.5 to 6."""


class TrafficLive:
    """Implements ``Live`` for all traffic scenarios.

    Args:
        spec: of the bundle.
        timing: of the scenario.
        limit: loss of a decision beyond which the baseline takes over, as a multiple of the
            baseline's own (``simplex.limit``).
        baseline: fallback rule by name; empty: :data:`DEFAULT`.

    Raises:
        UserError: there is no such rule, or the spec lacks a column that is needed.
    """

    def __init__(
        self, spec: Spec, timing: TimingSettings, *, limit: float, baseline: str = ""
    ) -> None:
        if not isinstance(spec.action, Choice):
            raise UserError(f"the traffic domain serves choices of phases, not {spec.action}")
        try:
            self._reader = Reader(spec, timing)
            rules = (*local(spec), Rotation(spec, timing))
        except KeyError as error:
            raise UserError(
                f"the bundle's {spec.scenario!r} observations cannot be served: {error.args[0]}"
            ) from error
        offered = {rule.name: rule for rule in rules if rule.information == "same"}
        if (baseline or DEFAULT) not in offered:
            raise UserError(
                f"slot.baseline = {baseline!r}: the traffic domain has no such fallback rule; "
                f"known: {', '.join(sorted(offered))}"
            )
        self._baseline = offered[baseline or DEFAULT]
        self._limit = limit
        self._priced: Priced | None = None

    @property
    def baseline(self) -> Controller:
        """The verified fallback rule."""
        return self._baseline

    def project(
        self, observation: Observation, wanted: Actions, last: Actions | None, agents: Ints | None
    ) -> Projected:
        """Legal phases, minimum green, longest red; who may not do what is wanted holds.

        Causes: ``RAMP`` a change before the minimum green is over, ``LEGALITY`` any other choice
        that is not on offer, ``COUPLING`` another phase of the signal whose red would pass its
        limit before the next decision and therefore comes now. Every signal stands for itself.

        Raises:
            ValueError: not one action per row.
        """
        del last, agents
        rows, count = observation.mask.shape
        if wanted.shape != (rows,):
            raise ValueError(f"wanted actions have shape {wanted.shape}, expected ({rows},)")
        actions = wanted.astype(np.int64)
        if wanted.dtype != np.int64 or not among(actions, count):
            actions = np.where((wanted >= 0) & (wanted < count), actions, HOLD)
        reader = self._reader
        legal = reader.legal(observation)
        allowed = legal[np.arange(rows), actions]
        early = ~allowed & observation.active & reader.young(observation)
        cause = np.where(early, Cause.RAMP, Cause.LEGALITY).astype(np.int8)
        actions = np.where(allowed, actions, HOLD)
        forced = reader.forced(observation, legal)
        due = (forced >= 0) & (actions != forced)
        actions, cause = np.where(due, forced, actions), np.where(due, Cause.COUPLING, cause)
        changed = actions != wanted
        return Projected(
            actions, np.where(changed, cause, 0).astype(np.int8), changed.astype(np.float32)
        )

    def recoverable(
        self, observation: Observation, actions: Actions, baseline: Actions
    ) -> tuple[bool, float]:
        """Whether no more than ``limit`` times the baseline's loss is predicted.

        A phase is never irreversible by itself; what is lost is green. Compared are the vehicles
        that a joint choice keeps waiting although its agents could let them go, of which the
        baseline keeps some too; its loss is raised to :data:`FLOOR` for every deciding agent. The
        margin is the distance from the limit as a share of it; 1 if nobody decides.
        """
        priced = self._price(observation)
        margin = self._margin(priced, priced.missed(actions), priced.missed(baseline))
        return margin >= 0.0, margin

    def surely_recoverable(self, observation: Observation, actions: Actions) -> float:
        """The margin of :meth:`recoverable` against a baseline that loses nothing."""
        priced = self._price(observation)
        return self._margin(priced, priced.missed(actions), 0.0)

    def hold(
        self, observation: Observation, last: Actions | None, agents: Ints | None
    ) -> Actions | None:
        """All signals keep their phase; ``None`` before the first decision.

        The last choice is not repeated: a candidate is another phase at the next epoch. Nobody
        waits for ever: the longest red is the timing layer's.
        """
        del agents
        return None if last is None else self.safe(observation)

    def safe(self, observation: Observation) -> Actions:
        """All signals keep their phase."""
        return np.full(observation.mask.shape[0], HOLD, dtype=np.int64)

    def deviation(self, observation: Observation, actions: Actions) -> Floats:
        """``[n]`` vehicles not let go, as a share of the spread between best and worst; 0 idle."""
        priced = self._price(observation)
        spread = np.where(priced.deciding, priced.best - priced.least, 0.0)
        short = np.maximum(priced.best - priced.own(actions), 0.0)
        share = np.divide(short, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        return np.minimum(share, 1.0).astype(np.float32)

    def objective(self, observation: Observation, actions: Actions) -> tuple[float, float]:
        """Vehicle-seconds of waiting until the next decision, and a lower bound on that of any."""
        priced = self._price(observation)
        return priced.total(actions), priced.bound()

    def coupling(self, spec: Spec) -> Ints:
        """``[A]``: every signal stands for itself."""
        return np.arange(spec.agents, dtype=np.int64)

    def _margin(self, priced: Priced, missed: float, reference: float) -> float:
        allowed = self._limit * max(reference, FLOOR * np.count_nonzero(priced.deciding))
        if allowed <= 0.0:
            return 1.0
        return float(1.0 - missed / allowed)

    def _price(self, observation: Observation) -> Priced:
        """Costs of this very observation object, computed once; both threads may come here."""
        priced = self._priced
        if priced is None or priced.observation is not observation:
            priced = self._priced = self._reader.priced(observation)
        return priced


def traffic_live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> TrafficLive:
    """The domain's part of the controller for a bundle.

    Args:
        spec: of the bundle.
        settings: its scenario's settings (those that differ from the defaults suffice).
        slot: knobs; ``baseline`` and ``simplex.limit`` are read.

    Raises:
        UserError: unknown scenario, settings it does not accept, unknown baseline, or observations
            without the columns that are needed.
    """
    scenario = served_scenario("traffic", SCENARIOS, spec, settings)
    if not isinstance(scenario, TrafficScenario):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the traffic domain")
    return TrafficLive(spec, scenario.timing, limit=slot.simplex.limit, baseline=slot.baseline)
