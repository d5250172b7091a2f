"""The runs behind the scaling bench: rules and learners at one number of agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from ...policies.learners import make_learner
from ...simulators.interface import Doubles
from ...simulators.settings import Settings, knob
from ..evaluation import Entrant, EvaluationTable, evaluate
from ..executors import Executor, ProcessExecutor
from ..loop import Loop
from ..rollouts import evaluation_seeds
from ..training import usable_cores
from .subjects import SUBJECTS, Name, Subject

WITHIN = 0.02
"""Share of the run's best return that counts as converged."""


class Options(Settings):
    """What to run."""

    domain: Name = knob(
        "cloud", "domain of control: cloud (dispatch), power (generated systems), traffic (grids)"
    )
    agents: tuple[int, ...] | None = knob(None, "numbers of agents (none: the domain's own)")
    learners: tuple[str, ...] = knob(
        ("dgpg", "mappo", "ippo"), "learners: dgpg (MAPPO with guidance), mappo, ippo"
    )
    episodes: int = knob(16, "training episodes of DG-PG, one per update", usual="10 ... 40", ge=1)
    plain_episodes: int = knob(
        40, "training episodes of the unguided learners", usual="20 ... 500", ge=1
    )
    plain_mix: float | None = knob(
        None,
        "m of the unguided learners, share of the own cost in a reward (none: as the guided one's)",
        ge=0,
        le=1,
    )
    plain_every: int = knob(5, "updates between evaluations of the unguided learners", ge=1)
    evaluation: int | None = knob(
        None,
        "fixed seeds of every evaluation (none: 40 cloud, 20 power, 10 traffic)",
        usual="10 ... 100",
        ge=2,
    )
    horizon: int | None = knob(
        None, "decisions per agent in an episode (none: 200 cloud, 288 power, 120 traffic)", ge=10
    )
    load: float | None = knob(
        None, "offered load, cloud only (none: 0.7)", usual="0.5, 0.7, 0.9", gt=0, lt=1
    )
    fresh: tuple[str, ...] | None = knob(
        None, "rules with more information to show as a bound (none: the domain's own)"
    )
    seeds: int = knob(1, "training runs per learner and N, with different seeds", ge=1)
    workers: int = knob(0, "processes that play episodes (0: one per usable core)", ge=0)
    limit: float = knob(10, "episodes to convergence that DG-PG may take", unit="episodes", ge=1)
    minutes: float = knob(
        5.0, "wall-clock that DG-PG may train at N = 200 (cloud)", unit="min", gt=0
    )
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")

    @property
    def subject(self) -> Subject:
        """The domain under study."""
        return SUBJECTS[self.domain]


@dataclass(frozen=True, slots=True)
class Curve:
    """One training run: returns on the fixed seeds after each evaluated episode.

    ``training`` are seconds of collecting and updating up to the last episode, ``total`` those with
    the evaluations; ``converged`` is the episode of convergence, or one more than were played.
    ``cost`` is the last evaluation's mean cost of an episode, where the domain shows one.
    """

    learner: str
    seed: int
    episodes: tuple[int, ...]
    returns: tuple[float, ...]
    last: Doubles
    training: float
    total: float
    cost: float = float("nan")

    @property
    def converged(self) -> int:
        best = max(self.returns)
        floor = best - WITHIN * abs(best)
        below = [i for i, value in enumerate(self.returns) if value < floor]
        if not below:
            return self.episodes[0]
        after = below[-1] + 1
        return self.episodes[after] if after < len(self.episodes) else self.episodes[-1] + 1


@dataclass(frozen=True, slots=True)
class Point:
    """Everything at one number of agents; ``rules`` are the domain's own on the same seeds."""

    agents: int
    rules: EvaluationTable
    curves: tuple[Curve, ...]

    def of(self, learner: str) -> list[Curve]:
        return [curve for curve in self.curves if curve.learner == learner]


def measure(options: Options, agents: int, told: Callable[[str], None]) -> Point:
    """Evaluate the rules, train and evaluate the learners; ``told`` hears what is going on."""
    subject = options.subject
    factory = subject.factory(agents, options.horizon or subject.horizon, options.load)
    seeds = evaluation_seeds(options.evaluation or subject.evaluation)
    shown = subject.bounds if options.fresh is None else options.fresh
    with ProcessExecutor(factory, workers=options.workers or usable_cores()) as executor:
        told("rules")
        entrants = [
            Entrant.rule(rule)
            for rule in factory.heuristics()
            if rule.information == "same" or rule.name in shown
        ]
        rules = evaluate(executor, entrants, seeds)
        curves: list[Curve] = []
        for learner in options.learners:
            for seed in range(options.seeds):
                told(f"{learner}, seed {seed}")
                curves.append(_train(options, executor, learner, seed, seeds))
    return Point(agents, rules, tuple(curves))


def _train(
    options: Options, executor: Executor, learner: str, seed: int, seeds: Sequence[int]
) -> Curve:
    guided, subject = learner == "dgpg", options.subject
    config = subject.config()
    loop = Loop(
        executor=executor,
        learner=make_learner(executor.spec, subject.learner(learner, options.plain_mix), seed=seed),
        seed=seed,
        episodes=1,
        guidance=config.guidance() if guided else None,
    )
    episodes = options.episodes if guided else options.plain_episodes
    every = 1 if guided else options.plain_every
    marks: list[int] = []
    returns: list[float] = []
    last, cost = np.zeros(0), float("nan")
    training, start = 0.0, perf_counter()
    for episode in range(1, episodes + 1):
        begin = perf_counter()
        loop.iterate()
        training += perf_counter() - begin
        if episode % every == 0 or episode == episodes:
            policy = loop.policy(stochastic=config.evaluation.stochastic)
            table = evaluate(executor, [Entrant.policy(policy)], seeds)
            last = table.values("policy")
            marks.append(episode)
            returns.append(float(last.mean()))
            if subject.figure is not None:
                cost = float(table.values("policy", subject.figure).mean())
    total = perf_counter() - start
    return Curve(learner, seed, tuple(marks), tuple(returns), last, training, total, cost)
