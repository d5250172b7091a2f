"""The runs behind the scaling bench: heuristics and learners at one number of agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from ...policies.learners import LearnerConfig, make_learner
from ...simulators.interface import Doubles
from ...simulators.settings import Settings, knob
from ..evaluation import Entrant, EvaluationTable, evaluate
from ..executors import DomainFactory, Executor, ProcessExecutor
from ..loop import Loop
from ..rollouts import evaluation_seeds
from ..tasks import Guidance
from ..training import usable_cores

UNGUIDED = {"guidance": {"alpha": {"schedule": "fixed", "start": 0.0}}}
"""MAPPO and IPPO: the same networks without guidance."""
WITHIN = 0.02
"""Share of the run's best return that counts as converged."""


class Options(Settings):
    """What to run."""

    agents: tuple[int, ...] = knob((5, 10, 20, 50, 100, 200), "numbers of dispatchers")
    learners: tuple[str, ...] = knob(
        ("dgpg", "mappo", "ippo"), "learners: dgpg (MAPPO with guidance), mappo, ippo"
    )
    episodes: int = knob(16, "training episodes of DG-PG, one per update", usual="10 ... 40", ge=1)
    plain_episodes: int = knob(
        40, "training episodes of the unguided learners", usual="20 ... 500", ge=1
    )
    plain_every: int = knob(5, "updates between evaluations of the unguided learners", ge=1)
    evaluation: int = knob(40, "fixed seeds of every evaluation", usual="10 ... 100", ge=2)
    horizon: int = knob(200, "decisions per agent in an episode", ge=10)
    load: float = knob(0.7, "offered load", usual="0.5, 0.7, 0.9", gt=0, lt=1)
    fresh: tuple[str, ...] = knob(
        ("sed (fresh)", "greedy-reference (fresh)"),
        "heuristics with fresh information to show as a bound",
    )
    seeds: int = knob(1, "training runs per learner and N, with different seeds", ge=1)
    workers: int = knob(0, "processes that play episodes (0: one per usable core)", ge=0)
    limit: float = knob(10, "episodes to convergence that DG-PG may take", unit="episodes", ge=1)
    minutes: float = knob(5.0, "wall-clock that DG-PG may train at N = 200", unit="min", gt=0)
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")


@dataclass(frozen=True, slots=True)
class Curve:
    """One training run: returns on the fixed seeds after each evaluated episode.

    ``training`` are seconds of collecting and updating up to the last episode, ``total`` those with
    the evaluations; ``converged`` is the episode of convergence, or one more than were played.
    """

    learner: str
    seed: int
    episodes: tuple[int, ...]
    returns: tuple[float, ...]
    last: Doubles
    training: float
    total: float

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
    """Everything at one number of agents; ``rules`` are the heuristics on the same seeds."""

    agents: int
    rules: EvaluationTable
    curves: tuple[Curve, ...]

    def of(self, learner: str) -> list[Curve]:
        return [curve for curve in self.curves if curve.learner == learner]


def measure(options: Options, agents: int, told: Callable[[str], None]) -> Point:
    """Evaluate the rules, train and evaluate the learners; ``told`` hears what is going on."""
    scenario = {
        "name": "dispatch",
        "agents": agents,
        "horizon": options.horizon,
        "load": options.load,
    }
    factory = DomainFactory("cloud", "dispatch", scenario)
    seeds = evaluation_seeds(options.evaluation)
    with ProcessExecutor(factory, workers=options.workers or usable_cores()) as executor:
        told("heuristics")
        entrants = [
            Entrant.rule(rule)
            for rule in factory.heuristics()
            if rule.information == "same" or rule.name in options.fresh
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
    guided = learner == "dgpg"
    config = LearnerConfig()
    if not guided:
        config = LearnerConfig.model_validate({"algorithm": learner} | UNGUIDED)
    loop = Loop(
        executor=executor,
        learner=make_learner(executor.spec, config, seed=seed),
        seed=seed,
        episodes=1,
        guidance=Guidance("drain", effects=config.needs_effects) if guided else None,
    )
    episodes = options.episodes if guided else options.plain_episodes
    every = 1 if guided else options.plain_every
    marks: list[int] = []
    returns: list[float] = []
    last = np.zeros(0)
    training, start = 0.0, perf_counter()
    for episode in range(1, episodes + 1):
        begin = perf_counter()
        loop.iterate()
        training += perf_counter() - begin
        if episode % every == 0 or episode == episodes:
            table = evaluate(executor, [Entrant.policy(loop.policy())], seeds)
            last = table.values("policy")
            marks.append(episode)
            returns.append(float(last.mean()))
    total = perf_counter() - start
    return Curve(learner, seed, tuple(marks), tuple(returns), last, training, total)
