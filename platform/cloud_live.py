"""The cloud domain inside the controller: fallback rule, projection, look-ahead, guidance.

Built from a bundle's spec and its scenario's settings; no simulator, no data file, no solver. All
parts read the decentralised observation only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..policies.heuristics.batch import controllers as batch_rules
from ..policies.heuristics.dispatch import EXCLUSIVE
from ..policies.heuristics.dispatch import controllers as dispatch_rules
from ..policies.interface import Controller
from ..simulators.cloud.batch_scenario import SwfScenario
from ..simulators.cloud.scenario import DispatchScenario, LlmScenario, OpenbScenario
from ..simulators.interface import Floats, Ints, Observation, Spec
from .cloud_costs import Costs, Priced, Scenario, costs_of
from .cloud_placement import JobLimit, Room, Vectors, project
from .decision.settings import SlotSettings
from .decision.types import Actions, Projected
from .files import UserError
from .served_scenario import served_scenario

DEFAULT = {
    "dispatch": "interpreted-reference",
    "llm": "softmax-sed",
    "openb": "best-fit",
    "swf": "F1",
}
"""Fallback rule of each scenario. The best same-information rule that needs no more than spec and
scenario: rankings herd on stale load, so shared nodes get one that spreads; exclusive nodes the
published Best-Fit."""

_STATEFUL = frozenset({"round-robin"})
"""Rules that remember: a replay could not recompute them, so they are not offered."""

SCENARIOS: Mapping[str, type[Scenario]] = {
    "dispatch": DispatchScenario,
    "llm": LlmScenario,
    "openb": OpenbScenario,
    "swf": SwfScenario,
}


class CloudLive:
    """Implements ``Live`` for all cloud scenarios.

    Args:
        spec: of the bundle.
        scenario: the values that it was trained with.
        limit: predicted cost of a decision beyond which the baseline takes over, as a multiple of
            the baseline's own (``simplex.limit``).
        baseline: fallback rule by name; empty: :data:`DEFAULT`.

    Attributes:
        scenario: as given.

    Raises:
        UserError: the scenario has no such rule, or the spec lacks a column that is needed.
    """

    def __init__(self, spec: Spec, scenario: Scenario, *, limit: float, baseline: str = ""):
        self.scenario = scenario
        self._limit = limit
        try:
            self._costs: Costs = costs_of(spec, scenario)
            self._room = _room(spec, scenario)
            self._baseline = _rule(spec, scenario, baseline)
            self._age = None if self._room is None else spec.agent_column("age")
        except KeyError as error:
            raise UserError(
                f"the bundle's {spec.scenario!r} observations cannot be served: {error.args[0]}"
            ) from error
        self._apart = isinstance(scenario, SwfScenario)
        self._priced: Priced | None = None

    @property
    def baseline(self) -> Controller:
        """The verified fallback rule."""
        return self._baseline

    def project(
        self, observation: Observation, wanted: Actions, last: Actions | None, agents: Ints | None
    ) -> Projected:
        """Legality by mask, then joint room on every node; see ``cloud_placement``.

        Raises:
            ValueError: not one action per row.
        """
        del last, agents
        rows = observation.mask.shape[0]
        if wanted.shape != (rows,):
            raise ValueError(f"wanted actions have shape {wanted.shape}, expected ({rows},)")
        return project(
            observation,
            wanted,
            cost=lambda: self._price(observation).cost,
            room=self._room,
            age=self._age,
        )

    def recoverable(
        self, observation: Observation, actions: Actions, baseline: Actions
    ) -> tuple[bool, float]:
        """Whether the predicted cost stays within ``limit`` times that of the baseline's decision.

        A cloud decision is never irreversible by itself (jobs leave), so the way back is lost by
        degrees: backlog or fragments that the baseline would have to work off. Baseline costs
        below one of the least consequence (an epoch of waiting, a twentieth of a GPU, for each
        deciding agent) are raised to it. The margin is the distance from the limit as a share of
        it; 1 if nobody decides.
        """
        priced = self._price(observation)
        cost, reference = priced.total(self._costs, actions), priced.total(self._costs, baseline)
        margin = self._margin(observation, cost, reference)
        return margin >= 0.0, margin

    def surely_recoverable(self, observation: Observation, actions: Actions) -> float:
        """The margin of :meth:`recoverable` against a baseline that pays no more than it must."""
        priced = self._price(observation)
        return self._margin(observation, priced.total(self._costs, actions), priced.bound)

    def hold(
        self, observation: Observation, last: Actions | None, agents: Ints | None
    ) -> Actions | None:
        """Jobs that run keep running, nothing new is placed; ``None`` before the first decision.

        The last placements are not repeated: their jobs have left the queues, and the candidates
        of one epoch are other nodes than those of the last.
        """
        del agents
        return None if last is None else self.safe(observation)

    def safe(self, observation: Observation) -> Actions:
        """Every agent holds: queues grow, nothing breaks."""
        return np.zeros(observation.mask.shape[0], dtype=np.int64)

    def deviation(self, observation: Observation, actions: Actions) -> Floats:
        """``[n]`` how far each choice is from the cheapest one, as a share of the spread; 0 idle.

        A choice that must not be made counts as the worst.
        """
        priced = self._price(observation)
        chosen = priced.cost[np.arange(actions.shape[0]), actions]
        spread = priced.most - priced.least
        above = np.minimum(chosen, priced.most) - priced.least
        return np.divide(above, spread, out=np.zeros_like(spread), where=spread > 0.0)

    def objective(self, observation: Observation, actions: Actions) -> tuple[float, float]:
        """Predicted cost of the joint decision, and a lower bound on that of any.

        In s of response time (shared nodes), GPUs made unusable (exclusive nodes) or cost per
        second of the waiting jobs (batch). The bound lets every agent have its cheapest candidate
        without meeting anybody.
        """
        priced = self._price(observation)
        return priced.total(self._costs, actions), priced.bound

    def coupling(self, spec: Spec) -> Ints:
        """``[A]``: dispatchers share all nodes, so they are one group; partitions share nothing."""
        if self._apart:
            return np.arange(spec.agents, dtype=np.int64)
        return np.zeros(spec.agents, dtype=np.int64)

    def _margin(self, observation: Observation, cost: float, reference: float) -> float:
        floor = self._costs.floor * np.count_nonzero(observation.active)
        allowed = self._limit * max(reference, floor)
        if allowed <= 0.0:
            return 1.0 if cost <= 0.0 else -np.inf
        return float(1.0 - cost / allowed)

    def _price(self, observation: Observation) -> Priced:
        """Costs of this very observation object, computed once.

        Shadow and decision threads may both come here: the last one is kept, both are right.
        """
        priced = self._priced
        if priced is None or priced.observation is not observation:
            priced = self._priced = Priced.of(self._costs, observation)
        return priced


def cloud_live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> CloudLive:
    """The domain's part of the controller for a bundle.

    Args:
        spec: of the bundle.
        settings: its scenario's settings (those that differ from the defaults suffice).
        slot: knobs; ``baseline`` and ``simplex.limit`` are read.

    Raises:
        UserError: unknown scenario, settings it does not accept, unknown baseline, or observations
            without the columns that are needed.
    """
    scenario = served_scenario("cloud", SCENARIOS, spec, settings)
    return CloudLive(spec, scenario, limit=slot.simplex.limit, baseline=slot.baseline)


def _room(spec: Spec, scenario: Scenario) -> Room | None:
    if isinstance(scenario, OpenbScenario):
        return Vectors(spec)
    if isinstance(scenario, DispatchScenario) and scenario.node_limit is not None:
        return JobLimit(spec, scenario.node_limit)
    return None


def _rule(spec: Spec, scenario: Scenario, name: str) -> Controller:
    rules = batch_rules(spec) if isinstance(scenario, SwfScenario) else _node_rules(spec, scenario)
    offered = {
        rule.name: rule
        for rule in rules
        if rule.information == "same" and rule.name not in _STATEFUL
    }
    wanted = name or DEFAULT[spec.scenario]
    if wanted not in offered:
        known = ", ".join(sorted(offered))
        raise UserError(
            f"slot.baseline = {wanted!r}: scenario {spec.scenario!r} has no such fallback rule; "
            f"known: {known}"
        )
    return offered[wanted]


def _node_rules(
    spec: Spec, scenario: DispatchScenario | LlmScenario | OpenbScenario
) -> tuple[Controller, ...]:
    exclusive = any(feature.name == EXCLUSIVE for feature in spec.candidate_features)
    bins = 2 if exclusive else scenario.profile.bins
    return dispatch_rules(scenario, spec, nodes=max(spec.state_size // bins, 1))
