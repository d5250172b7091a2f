"""Random cooperative matrix games: n agents, K actions each, one payoff for every joint action.

Two experiments. *Learning*: sampled plays from uniform policies; how far from the best joint action
the methods end at the same total KL, with and without the clamp of the compound ratio. *One exact
step*: all joint actions are listed with their probabilities, so that gradients, surrogates and KL
are exact; does the payoff of the joint policy fall? Without the clamp it cannot, whatever the
budget: each agent's surrogate is the payoff of the policies up to it. With the clamp the surrogate
is another one, and agents that move at once do not know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...policies.networks import Parameters
from ...policies.trust_settings import BudgetSettings, TrustRegionSettings
from ...simulators.interface import Doubles, Ints
from ..rows import Row
from ..statistics import Interval, paired_difference
from .games_policies import SoftmaxPlays
from .games_walk import METHODS, Rule, Walk, normalised, random_orders

BEST = 0.01
"""Relative gap below which a game counts as solved."""
EARLY = 10
"""Updates after which speed is compared."""
BUDGETS = {"small": 1e-4, "large": 0.5}
"""KL of an agent's exact step, nats."""


@dataclass(frozen=True, slots=True)
class Size:
    """Games side by side, agents of each, actions of each agent.

    ``uneven``: every agent's own choice matters half as much as that of the one before it, and
    joint actions add a quarter of that of the first. Otherwise joint actions are all that counts.
    """

    games: int
    agents: int
    actions: int
    uneven: bool = False

    def joint_actions(self) -> Ints:
        """All of them, ``[K^n, n]``."""
        grid = np.indices((self.actions,) * self.agents)
        return grid.reshape(self.agents, -1).T

    def payoffs(self, rng: np.random.Generator) -> Doubles:
        """Payoffs of all joint actions, ``[S, K^n]``, from standard normal parts."""
        joint = rng.standard_normal((self.games, self.actions**self.agents))
        if not self.uneven:
            return joint
        own = rng.standard_normal((self.games, self.agents, self.actions))
        own *= 0.5 ** np.arange(self.agents)[:, None]
        return own[:, np.arange(self.agents), self.joint_actions()].sum(axis=2) + 0.25 * joint

    def index(self, actions: Ints) -> Ints:
        """Joint actions ``[..., n]`` to columns of the payoffs."""
        shape = (self.actions,) * self.agents
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(actions, -1, 0)), shape))


def joint_probability(policies: Parameters, size: Size) -> Doubles:
    """Of all joint actions, ``[S, K^n]``."""
    p = torch.softmax(policies["logits"], dim=1).numpy()
    table = p.reshape(size.games, size.agents, size.actions)
    listed = size.joint_actions()
    agents = np.arange(size.agents)
    return table[:, agents, listed].prod(axis=2)


def relative_gap(policies: Parameters, payoffs: Doubles, size: Size) -> Doubles:
    """Exact expected shortfall from the best joint action; 1 is as bad as random play, ``[S]``."""
    value = (joint_probability(policies, size) * payoffs).sum(axis=1)
    best = payoffs.max(axis=1)
    return (best - value) / (best - payoffs.mean(axis=1))


@dataclass(frozen=True, slots=True)
class Learnt:
    """Relative gaps of one rule: ``[T + 1, S]``, and the share of the total KL that it used."""

    name: str
    gaps: Doubles
    used: float


def learn(rule: Rule, size: Size, *, updates: int, plays: int, seed: int) -> Learnt:
    """Learn all games side by side from sampled plays; the same games for every rule."""
    rng = np.random.default_rng(seed)
    payoffs = size.payoffs(rng)
    groups = size.games * size.agents
    walk = Walk(size.games, size.agents, rule)
    policies: Parameters = {"logits": torch.zeros(groups, size.actions, dtype=torch.float64)}
    weight = torch.ones(groups, plays, dtype=torch.float64)
    half = torch.from_numpy(np.tile(np.arange(plays) % 2 == 1, (groups, 1)))
    rows = np.arange(size.games)[:, None]
    gaps = [relative_gap(policies, payoffs, size)]
    for _ in range(updates):
        edges = torch.softmax(policies["logits"], dim=1).numpy().cumsum(axis=1)[:, None, :-1]
        actions = (rng.random((groups, plays, 1)) > edges).sum(axis=2)
        joint = actions.reshape(size.games, size.agents, plays).transpose(0, 2, 1)
        advantage = normalised(payoffs[rows, size.index(joint)])
        batch = SoftmaxPlays(
            torch.from_numpy(actions),
            torch.from_numpy(advantage).repeat_interleave(size.agents, dim=0),
            weight,
            half,
        )
        policies = walk.update(policies, batch, random_orders(rng, size.games, size.agents))
        gaps.append(relative_gap(policies, payoffs, size))
    used = float(walk.spent.kl.sum(axis=1).mean()) / (walk.total * updates)
    return Learnt(rule.name, np.array(gaps), used)


def rules(kl: float) -> list[Rule]:
    """Every method without and with the clamp; all with the same total KL."""
    settings = TrustRegionSettings(kl=kl, damping=1e-3)
    return [Rule(method, clamp, settings) for clamp in (False, True) for method in METHODS]


def exact_plays(policies: Parameters, payoffs: Doubles, size: Size) -> SoftmaxPlays:
    """All joint actions as plays, weighted with their probabilities; exact advantages."""
    probability = joint_probability(policies, size)
    advantage = payoffs - (probability * payoffs).sum(axis=1, keepdims=True)
    listed = np.tile(size.joint_actions().T, (size.games, 1))
    # Weights sum to the number of plays, so that nothing that counts samples is misled.
    weight = probability * probability.shape[1]
    return SoftmaxPlays(
        torch.from_numpy(listed),
        torch.from_numpy(advantage).repeat_interleave(size.agents, dim=0),
        torch.from_numpy(weight).repeat_interleave(size.agents, dim=0),
        torch.zeros(listed.shape, dtype=torch.bool),
    )


def exact_settings(kl: float) -> TrustRegionSettings:
    """Without noise there is nothing to split: k comes from all plays."""
    budget = BudgetSettings(split_half=False)
    return TrustRegionSettings(kl=kl, damping=1e-3, budget=budget)


def exact_changes(rule: Rule, size: Size, *, seed: int) -> Doubles:
    """Change of the joint payoff by one update from random policies, ``[S]``; exact."""
    rng = np.random.default_rng(seed)
    payoffs = size.payoffs(rng)
    logits = rng.standard_normal((size.games * size.agents, size.actions))
    policies: Parameters = {"logits": torch.from_numpy(logits)}
    walk = Walk(size.games, size.agents, rule)
    batch = exact_plays(policies, payoffs, size)
    new = walk.update(policies, batch, random_orders(rng, size.games, size.agents))
    gained = joint_probability(new, size) - joint_probability(policies, size)
    return (gained * payoffs).sum(axis=1)


def learning_rows(title: str, learnt: list[Learnt]) -> list[Row]:
    """Gaps after a few updates and at the end, solved games, and differences to HATRPO."""
    rows: list[Row] = []
    base = {one.name: one for one in learnt}["hatrpo"]
    early = min(EARLY, base.gaps.shape[0] - 1)
    for one in learnt:
        name = f"{title}: {one.name}"
        rows += [
            Row.info(f"{name}, relative gap after {early} updates", one.gaps[early].mean(), "1"),
            Row.info(f"{name}, final relative gap", one.gaps[-1].mean(), "1"),
            Row.info(f"{name}, solved", (one.gaps[-1] <= BEST).mean(), "share"),
            Row.at_most(f"{name}, total KL used", one.used, "share of D", 1.0 + 1e-9),
        ]
        if one is not base:
            for when, at in ((f"after {early} updates", early), ("final", -1)):
                apart = paired_difference(-one.gaps[at], -base.gaps[at])
                rows += _difference(f"{name}, gap closed beyond hatrpo, {when}", apart)
    untrained = base.gaps[0].mean()
    worst = max(float(one.gaps[-1].mean()) for one in learnt)
    rows.append(
        Row.at_most(f"{title}: worst method, final gap over first", worst / untrained, "1", 0.5)
    )
    return rows


def _difference(name: str, interval: Interval) -> list[Row]:
    return [
        Row.info(name, interval.point, "1"),
        Row.info(f"{name}, low", interval.low, "1"),
        Row.info(f"{name}, high", interval.high, "1"),
    ]


def exact_rows(size: Size, *, seed: int) -> list[Row]:
    """Games in which one exact update lowers the payoff, for a small and a large KL."""
    rows: list[Row] = []
    means: dict[tuple[str, str], float] = {}
    for label, kl in BUDGETS.items():
        settings = exact_settings(kl)
        for name, rule in (
            ("hatrpo", Rule("hatrpo", clamp=False, settings=settings)),
            ("hatrpo-w", Rule("hatrpo-w", clamp=False, settings=settings)),
            ("hatrpo-g", Rule("hatrpo-g", clamp=False, settings=settings)),
            ("clip-hatrpo", Rule("hatrpo", clamp=True, settings=settings)),
            ("all at once", Rule("hatrpo", clamp=False, settings=settings, at_once=True)),
        ):
            changes = exact_changes(rule, size, seed=seed)
            means[label, name] = float(changes.mean())
            falls = int((changes < -1e-12).sum())
            what = (
                f"one exact step, {label} KL {kl:g}: {name}, games of {size.games} that get worse"
            )
            free = label == "large" and (rule.clamp or rule.at_once)
            rows += [
                Row.info(what, falls, "games") if free else Row.at_most(what, falls, "games", 0),
                Row.info(
                    f"one exact step, {label} KL {kl:g}: {name}, mean change of the payoff",
                    means[label, name],
                    "1",
                ),
            ]
    more = means["small", "hatrpo-w"] / means["small", "hatrpo"]
    name = "one exact step, small KL: mean change of hatrpo-w over that of hatrpo"
    return [*rows, Row.at_least(name, more, "1", 1.05)]
