"""HATRPO, HATRPO-W and HATRPO-G on many small games at once.

The learners in ``policies.trust`` walk over the parameter groups of one roll-out. Here every game
is a roll-out of its own, and the same walk is done for all games together: in each of the n rounds
one agent of every game moves, each game in its own order and with its own budgets. Steps, budgets
and running estimates are those of ``policies.trust``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...policies.networks import Parameters
from ...policies.trust.batches import Gain
from ...policies.trust.budgets import RunningK, allocate, redistribute
from ...policies.trust.fisher import FisherProduct, conjugate_gradient, inner
from ...policies.trust.region import half_slopes, natural, search, slope
from ...policies.trust_settings import TrustRegionSettings
from ...simulators.interface import Doubles, Ints
from .games_policies import Plays

Method = Literal["hatrpo", "hatrpo-w", "hatrpo-g"]
METHODS: tuple[Method, ...] = ("hatrpo", "hatrpo-w", "hatrpo-g")


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may move how far: the method, the clamp of the compound ratio, the trust region.

    ``at_once``: nobody hears of the others' steps (M stays 1), as independent learners.
    """

    method: Method
    clamp: bool
    settings: TrustRegionSettings
    at_once: bool = False

    @property
    def name(self) -> str:
        """As in ``LearnerConfig.algorithm``, with the clamp in front."""
        return f"clip-{self.method}" if self.clamp else self.method


@dataclass(slots=True)
class Spent:
    """Sums over updates: KL used by every agent ``[S, n]``, accepted and rejected steps ``[S]``."""

    kl: Doubles
    accepted: Doubles
    rejected: Doubles

    @staticmethod
    def none(games: int, agents: int) -> Spent:
        """Nothing yet."""
        return Spent(np.zeros((games, agents)), np.zeros(games), np.zeros(games))


def gain(batch: Plays, old: Tensor, new: Tensor) -> Tensor:
    """The surrogate ``E[M r A]`` of every agent, ``[g]``."""
    ratio = (batch.log_probability(new) - batch.log_probability(old)).exp()
    return batch.mean(ratio * batch.value)


@dataclass(slots=True)
class Walk:
    """S games of ``agents`` agents under one rule; remembers what the rule remembers.

    ``memory`` has the running estimate of k of every game's agents, ``spent`` what was used.
    """

    games: int
    agents: int
    rule: Rule
    memory: list[RunningK] = field(init=False)
    spent: Spent = field(init=False)

    def __post_init__(self) -> None:
        weight = self.rule.settings.budget.memory
        self.memory = [RunningK(self.agents, weight) for _ in range(self.games)]
        self.spent = Spent.none(self.games, self.agents)

    @property
    def total(self) -> float:
        """D, the joint KL of one update of one game, in nats."""
        return self.agents * self.rule.settings.kl

    def observe(self, k: Doubles) -> Doubles:
        """Add measurements ``[S, n]``; the running estimates ``[S, n]``."""
        for one, row in zip(self.memory, k, strict=True):
            one.observe(row)
        return np.stack([one.value for one in self.memory])

    def update(self, policies: Parameters, batch: Plays, order: Ints) -> Parameters:
        """Move all agents once.

        Args:
            policies: stacked weights ``[S n, ...]``; not changed.
            batch: plays under ``policies``, with the plain advantage as their value.
            order: who moves when, ``[S, n]`` (hatrpo-g decides by itself).

        Returns:
            The new weights.
        """
        one = _Pass(self, policies, batch)
        if self.rule.method == "hatrpo-g":
            one.greedy()
        else:
            one.in_order(order)
        return one.policies


class _Pass:
    """One update of all games."""

    def __init__(self, walk: Walk, policies: Parameters, batch: Plays) -> None:
        self._walk, self._batch = walk, batch
        self._advantage = batch.value
        self.policies = {name: value.clone() for name, value in policies.items()}
        self._settings = walk.rule.settings
        self._shape = (walk.games, walk.agents)
        self._log_m = batch.value.new_zeros(walk.games, batch.value.shape[1])
        self._used: Doubles = np.zeros(self._shape)
        self._left = np.ones(self._shape, dtype=np.bool_)

    def in_order(self, order: Ints) -> None:
        """Equal budgets, or the KKT budgets of hatrpo-w with leftovers handed on."""
        budget = self._settings.budget
        even = self._settings.kl
        plan = np.full(self._shape, even)
        weighted = self._walk.rule.method == "hatrpo-w"
        if weighted:
            plan = allocate(
                self._walk.observe(self._improvement()),
                size=np.ones(self._shape),
                total=self._walk.total,
                low=budget.floor * even,
                high=budget.cap * even,
                weight=budget.weight,
            )
        for who in order.T:
            budgets = plan
            if weighted and budget.redistribute:
                unused = np.where(self._left, 0.0, plan - self._used).sum(axis=1)
                size = self._left.astype(np.float64)
                budgets = redistribute(
                    plan, np.maximum(unused, 0.0), size=size, high=budget.cap * even
                )
            self._step(who, np.take_along_axis(budgets, who[:, None], axis=1)[:, 0])

    def greedy(self) -> None:
        """The best improvement per KL first, measured anew in every round (full greedy)."""
        settings = self._settings
        first = self._improvement()
        known = self._walk.observe(first)
        reliable = np.array([one.reliability for one in self._walk.memory])
        trial = (1.0 + reliable * (settings.budget.trial - 1.0)) * settings.kl
        fresh = known
        for number in range(self._walk.agents):
            if number:
                change = np.nan_to_num(self._improvement() - first)
                fresh = known + (1.0 - settings.budget.memory) * change
            priority = np.where(self._left, fresh, -np.inf)
            who = priority.argmax(axis=1)
            promising = priority.max(axis=1) > 0.0
            rest = np.maximum(self._walk.total - self._used.sum(axis=1), 0.0)
            self._step(who, np.where(promising, np.minimum(rest, trial), 0.0))

    def _current(self) -> Plays:
        """Advantages times M; per game M is the ratio of those who have moved."""
        log = self._log_m.clamp(max=0.0) if self._walk.rule.clamp else self._log_m
        factor = log.exp().repeat_interleave(self._walk.agents, dim=0)
        return self._batch.valued(self._advantage * factor)

    def _improvement(self) -> Doubles:
        """Measure k of every agent under the present M, ``[S, n]``; NaN where not finite."""
        batch, settings = self._current(), self._settings
        if settings.budget.split_half:
            one, other = half_slopes(self.policies, batch, gain)
        else:
            one = other = slope(self.policies, batch, gain).gradient
        finite = one.isfinite().all(dim=1) & other.isfinite().all(dim=1)
        solution = conjugate_gradient(
            FisherProduct(self.policies, batch.one_each()),
            torch.where(finite.unsqueeze(1), other, 0.0),
            damping=settings.damping,
            iterations=settings.cg_iterations,
            tolerance=settings.cg_tolerance,
        )
        k = torch.where(finite, inner(torch.nan_to_num(one), solution.x), torch.nan)
        return k.double().numpy().reshape(self._shape)

    def _step(self, who: Ints, budget: Doubles) -> None:
        """One agent of every game, ``[S]``, moves within its budget ``[S]``."""
        row = torch.from_numpy(np.arange(self._walk.games) * self._walk.agents + who)
        weights = {name: value[row] for name, value in self.policies.items()}
        batch = self._current().rows(row)
        step_gain: Gain[Plays] = gain
        start = slope(weights, batch, step_gain)
        step = natural(FisherProduct(weights, batch.one_each()), start.gradient, self._settings)
        limit = torch.from_numpy(budget).to(start.gradient.dtype)
        move = search(weights, batch, step_gain, start, step, limit, self._settings)
        with torch.no_grad():
            new = batch.outputs(move.parameters)
            change = batch.log_probability(new) - batch.log_probability(start.outputs)
        if not self._walk.rule.at_once:
            self._log_m = self._log_m + change
        for name, value in move.parameters.items():
            self.policies[name][row] = value
        self._note(who, budget, move.kl, move.fraction)

    def _note(self, who: Ints, budget: Doubles, kl: Tensor, fraction: Tensor) -> None:
        game, spent = np.arange(self._walk.games), self._walk.spent
        self._used[game, who] = kl.double().numpy()
        self._left[game, who] = False
        went = fraction.numpy() > 0.0
        spent.kl[game, who] += self._used[game, who]
        spent.accepted += went
        spent.rejected += (budget > 0.0) & ~went


def normalised(returns: Doubles) -> Doubles:
    """Advantages of plays ``[S, b]``: returns minus their mean, over their deviation."""
    centred = returns - returns.mean(axis=1, keepdims=True)
    return centred / np.maximum(returns.std(axis=1, keepdims=True), 1e-12)


def random_orders(rng: np.random.Generator, games: int, agents: int) -> Ints:
    """A random order of the agents of every game, ``[S, n]``."""
    return rng.random((games, agents)).argsort(axis=1)
