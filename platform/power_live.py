"""The power domain inside the controller: fallback rule, exact projection, look-ahead, guidance.

Built from a bundle's spec and its scenario's settings; no simulator, no grid, no data file, no
solver. All parts read the decentralised observation only: its boxes hold ramps, commitment and
energy, its feature ``need`` the expected demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..policies.heuristics.power_local import local
from ..policies.interface import Controller
from ..simulators.interface import Box, Doubles, Floats, Ints, Observation, Spec
from ..simulators.power.balance import balance
from ..simulators.power.fleet import REST
from ..simulators.power.scenario import PowerScenario, Prices
from .decision.settings import SlotSettings
from .decision.types import Actions, Cause, Projected
from .files import UserError
from .power import SCENARIOS
from .power_costs import WEATHER, Priced, Reader
from .served_scenario import served_scenario

DEFAULT = "merit-order"
"""Fallback rule: the cheapest dispatch that meets the expected demand on a copper plate."""


class PowerLive:
    """Implements ``Live`` for all power scenarios.

    Requests about some of the agents only cannot close the balance, which is of all: their
    set-points are projected onto boxes alone, and their look-ahead lets the others make up for the
    difference at the indicative price.

    Args:
        spec: of the bundle.
        prices: of the scenario.
        limit: predicted cost of a decision beyond which the baseline takes over, as a multiple of
            the baseline's own (``simplex.limit``).
        baseline: fallback rule by name; empty: :data:`DEFAULT`.

    Raises:
        UserError: there is no such rule, or the spec lacks a column that is needed.
    """

    def __init__(self, spec: Spec, prices: Prices, *, limit: float, baseline: str = "") -> None:
        if not isinstance(spec.action, Box) or spec.action.dimensions != 1:
            raise UserError(f"the power domain serves set-points of one number, not {spec.action}")
        try:
            self._reader, rules = Reader(spec), local(spec)
        except KeyError as error:
            raise UserError(
                f"the bundle's {spec.scenario!r} observations cannot be served: {error.args[0]}"
            ) from error
        offered = {rule.name: rule for rule in rules}
        if (baseline or DEFAULT) not in offered:
            raise UserError(
                f"slot.baseline = {baseline!r}: the power domain has no such fallback rule; "
                f"known: {', '.join(sorted(offered))}"
            )
        self._baseline = offered[baseline or DEFAULT]
        self._prices, self._limit = prices, limit
        weather = np.array([group in WEATHER for group in spec.groups])[spec.group_of]
        self._part = np.where(weather, REST, 1.0)
        self._ramped = np.array([group not in _FREE for group in spec.groups])[spec.group_of]
        self._priced: Priced | None = None

    @property
    def baseline(self) -> Controller:
        """The verified fallback rule."""
        return self._baseline

    def project(
        self, observation: Observation, wanted: Actions, last: Actions | None, agents: Ints | None
    ) -> Projected:
        """Box (which holds the ramp), then the balance: see ``simulators.power.balance.balance``.

        Exact within float32 (:data:`.power_costs.RESOLUTION`), and idempotent. A cause is named
        for every agent that was moved; all take part in the balance, so mostly all are. Distances
        are shares of the agent's box.

        Raises:
            ValueError: not one set-point per row.
        """
        del last
        if wanted.shape != observation.low.shape:
            raise ValueError(f"set-points {wanted.shape}, expected {observation.low.shape}")
        boxed = np.clip(wanted, observation.low, observation.high).astype(np.float32)
        cause = np.zeros(len(boxed), np.int8)
        cut = (boxed != wanted)[:, 0]
        if cut.any():
            cause[cut] = Cause.BOX
            cause[cut & self._by_ramp(observation, wanted[:, 0], agents)] = Cause.RAMP
        actions = boxed
        if len(boxed) == self._part.size:
            actions = self._balanced(observation, boxed, agents)
            cause[((actions != boxed)[:, 0]) & ~cut] = Cause.COUPLING
        return Projected(actions, cause, _distance(observation, actions, wanted))

    def recoverable(
        self, observation: Observation, actions: Actions, baseline: Actions
    ) -> tuple[bool, float]:
        """Whether the predicted cost stays within ``limit`` times that of the baseline's decision.

        A dispatch inside ramps and balance is never irreversible by itself; what is lost by it is
        money, and load where demand lies beyond the box. Baseline costs below those of the present
        outputs are raised to them. The margin is the distance from the limit as a share of it.
        """
        priced = self._price(observation)
        margin = self._margin(priced, priced.total(actions), priced.total(baseline))
        return margin >= 0.0, margin

    def surely_recoverable(self, observation: Observation, actions: Actions) -> float:
        """The margin of :meth:`recoverable` against a baseline that pays no more than it must."""
        priced = self._price(observation)
        return self._margin(priced, priced.total(actions), priced.bound())

    def hold(
        self, observation: Observation, last: Actions | None, agents: Ints | None
    ) -> Actions | None:
        """The last set-points, as near as boxes allow; ``None`` before the first decision.

        Agents that had none stay where they are.
        """
        if last is None:
            return None
        own = last if agents is None else last[agents]
        kept = np.where(np.isfinite(own), own, self.safe(observation))
        return np.clip(kept, observation.low, observation.high).astype(np.float32)

    def safe(self, observation: Observation) -> Actions:
        """Every agent stays where it is, as near as its box allows."""
        power, _ = self._reader.standing.read(observation)
        held = power[:, None].astype(np.float32)
        return np.clip(held, observation.low, observation.high)

    def deviation(self, observation: Observation, actions: Actions) -> Floats:
        """``[n]`` cost above the best set-point's at the local price, as a share of the spread."""
        priced = self._price(observation)
        least = priced.reduced(priced.best())
        most = np.maximum(priced.reduced(priced.low), priced.reduced(priced.high))
        above = priced.reduced(actions[:, 0].astype(np.float64)) - least
        spread = most - least
        share = np.divide(above, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        return np.maximum(share, 0.0).astype(np.float32)

    def objective(self, observation: Observation, actions: Actions) -> tuple[float, float]:
        """Predicted $/h of the joint set-points, and a lower bound on that of any."""
        priced = self._price(observation)
        return priced.total(actions), priced.bound()

    def coupling(self, spec: Spec) -> Ints:
        """``[A]``: all share one balance, so they are one group."""
        return np.zeros(spec.agents, dtype=np.int64)

    def _balanced(self, observation: Observation, boxed: Floats, agents: Ints | None) -> Floats:
        target = self._reader.target(observation)
        low, high = (x[:, 0].astype(np.float64) for x in (observation.low, observation.high))
        wanted = boxed[:, 0].astype(np.float64)
        # As near as the boxes come to it.
        nearest = min(max(target.demand, float(low.sum())), float(high.sum()))
        if abs(nearest - float(wanted.sum())) <= target.tolerance:
            return boxed
        part = self._own(self._part, agents) * np.maximum(high - low, 1e-6)
        power = balance(wanted, low, high, part, target.demand).power
        single = power.astype(np.float32)[:, None]
        return np.clip(single, observation.low, observation.high)

    def _by_ramp(self, observation: Observation, wanted: Floats, agents: Ints | None) -> Any:
        """``[n]`` bool: running units that could be where they should, only not so soon."""
        seen = observation.agent
        _, capacity = self._reader.standing.read(observation)
        lowest = seen[:, self._reader.minimum] * capacity
        able = (seen[:, self._reader.on] > 0.5) & self._own(self._ramped, agents)
        return able & (wanted >= lowest * (1 - 1e-5)) & (wanted <= capacity * (1 + 1e-5))

    @staticmethod
    def _own(values: Any, agents: Ints | None) -> Any:
        return values if agents is None else values[agents]

    def _margin(self, priced: Priced, cost: float, reference: float) -> float:
        if np.isnan(reference):
            return float("nan")
        allowed = self._limit * max(reference, priced.base)
        if allowed <= 0.0:
            return 1.0 if cost <= 0.0 else -np.inf
        return float(1.0 - cost / allowed)

    def _price(self, observation: Observation) -> Priced:
        """Costs of this very observation object, computed once; both threads may come here."""
        priced = self._priced
        if priced is None or priced.observation is not observation:
            priced = self._priced = self._reader.priced(observation, self._prices)
        return priced


_FREE = WEATHER | {"storage", "flexible"}
"""Technologies whose box is no matter of ramps."""


def _distance(observation: Observation, actions: Floats, wanted: Floats) -> Floats:
    width = (observation.high - observation.low)[:, 0].astype(np.float64)
    moved: Doubles = np.abs(actions.astype(np.float64) - wanted)[:, 0]
    whole = np.where(moved > 0.0, 1.0, 0.0)
    return np.divide(moved, width, out=whole, where=width > 0.0).astype(np.float32)


def power_live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> PowerLive:
    """The domain's part of the controller for a bundle.

    Args:
        spec: of the bundle.
        settings: its scenario's settings (those that differ from the defaults suffice).
        slot: knobs; ``baseline`` and ``simplex.limit`` are read.

    Raises:
        UserError: unknown scenario, settings it does not accept, unknown baseline, or observations
            without the columns that are needed.
    """
    scenario = served_scenario("power", SCENARIOS, spec, settings)
    if not isinstance(scenario, PowerScenario):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the power domain")
    return PowerLive(spec, scenario.prices, limit=slot.simplex.limit, baseline=slot.baseline)
