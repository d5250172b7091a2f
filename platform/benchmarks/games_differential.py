"""The bimodal differential game of HATRPO-W and HATRPO-G: who crosses to the better peak.

Two agents choose numbers in [0, 7] and share the payoff

    R(a1, a2) = 10 N(5, 5; 1, 3) + 0.1 a1 + 5.3 N(1, 1; 1, 1)

where ``N(m1, m2; s1, s2)`` is the *normalised* density of two independent normal variables (means,
standard deviations). Formula after arXiv 2508.10340 by way of a caption of its figure; whether its
densities are normalised could not be checked. As it stands the peaks are worth 1.03 at (5, 5) and
0.94 at (1, 1), with a valley of about 0.4 between them.

Policies are normal with learnt mean and standard deviation; actions outside the square pay as its
edge does. All gradients are sampled: 30 plays per update, advantages normalised, no critic. A
narrow policy near (1, 1) cannot see the far peak; which start is used decides the outcome more
than the method does, so three are measured.

The published order is not what comes out: from a wide start equal shares cross more often. Its
deviation of 1.75 is where about half the runs cross, found by trying 1.25 to 2; HATRPO led in all
that were between none and all. Not all of that is noise: with 2,000 plays per update HATRPO-G still
stays, and from 1.6 so does HATRPO-W while HATRPO mostly crosses. There agent 1 gets 0.4 of the KL;
with 30 plays its part is nearly one half, so that this alone does not explain the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...policies.trust_settings import TrustRegionSettings
from ...simulators.interface import Bools, Doubles
from ..rows import Row
from .games_policies import GaussianPlays
from .games_walk import METHODS, Method, Rule, Walk, normalised, random_orders

AGENTS = 2
EDGE = 7.0
FAR = np.array([5.0, 5.0])
REACH = 1.0
"""Both means within this of (5, 5) count as having reached the far peak."""
EARLY = 15
"""Updates in which it is decided, from a wide start, which peak the policies climb."""
SHOWN = 6
"""Runs whose paths are kept for a picture."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where policies begin: one mean for all, or means drawn from the square; and the deviation."""

    name: str
    mean: float | None
    deviation: float


STARTS = (
    Start("start 1.5, deviation 0.5", 1.5, 0.5),
    Start("start 1.5, deviation 1.75", 1.5, 1.75),
    Start("random starts, deviation 0.5", None, 0.5),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one method from one start.

    ``reached`` ``[S]`` at the end; ``when`` ``[S]`` first update at which it was there (NaN:
    never); ``final`` ``[S]`` payoff at the means; ``used`` share of the total KL; ``first`` agent
    1's share of the KL used in the first ``EARLY`` updates; ``paths`` ``[T + 1, SHOWN, 2]``.
    """

    start: Start
    method: Method
    reached: Bools
    when: Doubles
    final: Doubles
    used: float
    first: float
    paths: Doubles


def payoff(actions: Doubles) -> Doubles:
    """R of joint actions ``[..., 2]``."""
    inside = np.clip(actions, 0.0, EDGE)
    first, second = inside[..., 0], inside[..., 1]
    far = _density(first, 5.0, 1.0) * _density(second, 5.0, 3.0)
    near = _density(first, 1.0, 1.0) * _density(second, 1.0, 1.0)
    return 10.0 * far + 0.1 * first + 5.3 * near


def _density(x: Doubles, mean: float, deviation: float) -> Doubles:
    scaled = (x - mean) / deviation
    return np.exp(-0.5 * scaled**2) / (np.sqrt(2.0 * np.pi) * deviation)


def learn(
    start: Start,
    rule: Rule,
    *,
    runs: int,
    updates: int,
    plays: int,
    seed: int,
) -> Outcome:
    """Run ``runs`` independent learners side by side; the same noise for every rule."""
    rng = np.random.default_rng(seed)
    walk = Walk(runs, AGENTS, rule)
    groups = runs * AGENTS
    mean = np.full((groups, 1), start.mean if start.mean is not None else 0.0)
    if start.mean is None:
        mean = rng.uniform(0.0, EDGE, (groups, 1))
    policies = {
        "mean": torch.from_numpy(mean.copy()),
        "log_std": torch.full((groups, 1), float(np.log(start.deviation)), dtype=torch.float64),
    }
    weight = torch.ones(groups, plays, dtype=torch.float64)
    half = torch.from_numpy(np.tile(np.arange(plays) % 2 == 1, (groups, 1)))
    when = np.full(runs, np.nan)
    at = _means(policies["mean"], runs)
    paths = [at[:SHOWN]]
    early = np.ones(AGENTS)
    for update in range(1, updates + 1):
        noise = rng.standard_normal((groups, plays))
        actions = policies["mean"].numpy() + np.exp(policies["log_std"].numpy()) * noise
        joint = actions.reshape(runs, AGENTS, plays).transpose(0, 2, 1)
        advantage = torch.from_numpy(normalised(payoff(joint))).repeat_interleave(AGENTS, dim=0)
        batch = GaussianPlays(torch.from_numpy(actions), advantage, weight, half)
        policies = walk.update(policies, batch, random_orders(rng, runs, AGENTS))
        if update <= EARLY:
            early = walk.spent.kl.sum(axis=0)
        at = _means(policies["mean"], runs)
        paths.append(at[:SHOWN])
        when = np.where(np.isnan(when) & _reached(at), update, when)
    used = float(walk.spent.kl.sum(axis=1).mean()) / (walk.total * updates)
    first = float(early[0] / max(early.sum(), 1e-300))
    return Outcome(start, rule.method, _reached(at), when, payoff(at), used, first, np.array(paths))


def _means(mean: Tensor, runs: int) -> Doubles:
    return mean.numpy().reshape(runs, AGENTS).copy()


def _reached(means: Doubles) -> Bools:
    return np.abs(means - FAR).max(axis=1) <= REACH


def compete(*, runs: int, updates: int, plays: int, kl: float, seed: int) -> list[Outcome]:
    """Every method from every start, with the same total KL ``D = 2 kl``."""
    settings = TrustRegionSettings(kl=kl, damping=0.0)
    return [
        learn(
            start,
            Rule(method, clamp=False, settings=settings),
            runs=runs,
            updates=updates,
            plays=plays,
            seed=seed,
        )
        for start in STARTS
        for method in METHODS
    ]


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (95 % at the default z)."""
    share = successes / trials
    middle = share + z * z / (2.0 * trials)
    wide = z * np.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    scale = 1.0 + z * z / trials
    return float((middle - wide) / scale), float((middle + wide) / scale)


def differential_rows(outcomes: list[Outcome]) -> list[Row]:
    """Shares with Wilson intervals, times to get there, payoffs, KL used; W and G less HATRPO."""
    rows: list[Row] = [
        Row.near("differential: payoff at (5, 5)", float(payoff(FAR)), "1", 1.03, 0.01),
        Row.near("differential: payoff at (1, 1)", float(payoff(np.ones(2))), "1", 0.94, 0.01),
    ]
    for outcome in outcomes:
        name = f"differential, {outcome.start.name}: {outcome.method}"
        count, runs = int(outcome.reached.sum()), outcome.reached.size
        low, high = wilson(count, runs)
        there = outcome.when[np.isfinite(outcome.when)]
        rows += [
            Row.info(f"{name}, at the far peak", count / runs, "share"),
            Row.info(f"{name}, at the far peak, low", low, "share"),
            Row.info(f"{name}, at the far peak, high", high, "share"),
            Row.info(
                f"{name}, median updates of those who get there",
                float(np.median(there)) if there.size else float("nan"),
                "updates",
            ),
            Row.info(f"{name}, payoff at the means", float(outcome.final.mean()), "1"),
            Row.info(
                f"{name}, agent 1's part of the first {EARLY} updates' KL", outcome.first, "share"
            ),
            Row.at_most(f"{name}, total KL used", outcome.used, "share of D", 1.0 + 1e-9),
        ]
    by = {(one.start.name, one.method): one for one in outcomes}
    for start in STARTS:
        base = by[start.name, "hatrpo"].reached
        for method in METHODS[1:]:
            # Runs of one number see the same noise, so the difference is taken run by run.
            apart = by[start.name, method].reached.astype(float) - base
            error = 1.96 * float(apart.std()) / np.sqrt(apart.size)
            name = f"differential, {start.name}: {method} less hatrpo, share at the far peak"
            rows += [
                Row.info(name, float(apart.mean()), "share"),
                Row.info(f"{name}, half width", float(error), "share"),
            ]
    return rows
