"""A training job in progress: baselines, iterations, evaluations, tables, checkpoints, bundle.

The order within an iteration is: collect, update, evaluate, write the tables, checkpoint. A kill
between any two of these is repaired on resume, because rows later than the checkpoint are dropped
and made again by the same random streams.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import polars as pl

from ..policies.learners import make_learner
from .bundle import Contents, save_bundle
from .checkpoint import Checkpoint, CheckpointStore
from .evaluation import Entrant, EvaluationTable, evaluate
from .executors import Executor, Result
from .files import UserError
from .loop import Iteration, Loop
from .moments import Moment, Observer, Outcome, Recorded, Stage, Stopped
from .observed import Recording
from .registry import find_domain
from .rollouts import evaluation_seeds
from .run_folder import RunFolder, Table, revision
from .tasks import Task, Trained
from .tensorboard import EventFiles
from .train_config import TrainConfig

POLICY = "policy"
"""Name of the policy in the tables of a run."""

HELD_OUT = 1_000_000
"""Seeds of the final comparison start this far after those of the evaluations, which chose the
best policy and so are no longer fair to it."""

RECORDED = 8
"""Evaluation episodes from which a bundle tells what its policy has seen."""

_MEMORY = 512 * 2**20
"""Bytes that their arrays may take; then there are fewer."""


class Job:
    """One training job.

    Args:
        folder: of the run.
        config: of the run.
        executor: plays the episodes.
        observer: is told how far it is, and may ask it to stop.
    """

    def __init__(
        self, folder: RunFolder, config: TrainConfig, executor: Executor, observer: Observer
    ):
        self._folder, self._config, self._executor = folder, config, executor
        self._observer, self._watch = observer, observer.watch
        self._store = CheckpointStore(folder.checkpoints)
        self._loop = Loop(
            executor=executor,
            learner=make_learner(
                executor.spec, config.learner, seed=config.seed, device=config.execution.device
            ),
            seed=config.seed,
            episodes=config.episodes,
            guidance=config.guidance(),
        )
        self._metrics = Table(folder.metrics)
        self._groups = Table(folder.groups)
        self._timing = Table(folder.timing)
        self._evaluations = Table(folder.evaluation)
        settings = config.evaluation
        self._seeds = evaluation_seeds(settings.episodes, settings.first_seed)
        self._bound = find_domain(config.domain).bound(config.scenario)
        self._origin = perf_counter()
        self._best: float | None = None
        self._best_iteration: int | None = None
        self._latest: float | None = None
        self._mark: tuple[str, float] | None = None

    def run(self, loaded: Checkpoint | None) -> bool:
        """Train, from a checkpoint or from the beginning, until done (true) or stopped (false).

        Raises:
            UserError: learning diverged, an episode fails in every attempt, a file cannot be
                written; the last checkpoint is intact.
        """
        after = None if loaded is None else loaded.iteration
        try:
            if loaded is not None:
                self._restore(loaded)
            self._measure_baselines()
            with EventFiles(self._folder.tensorboard, after=after) as events:
                if loaded is None:
                    self._begin(events)
                while self._loop.iteration < self._config.iterations:
                    self._iterate(events)
            self._finish()
        except Stopped:
            return False
        return True

    def moment(self, stage: Stage, done: int = 0, total: int = 0) -> Moment:
        return Moment(
            stage=stage,
            iteration=self._loop.iteration,
            iterations=self._config.iterations,
            done=done,
            total=total,
            latest=self._latest,
            best=self._best,
            mark=self._mark,
        )

    def outcome(self, *, finished: bool) -> Outcome:
        return Outcome(
            folder=self._folder.root,
            finished=finished,
            iteration=self._loop.iteration,
            best_iteration=self._best_iteration,
            best=self._best,
            mark=self._mark,
            seconds=perf_counter() - self._origin,
        )

    def _measure_baselines(self) -> None:
        if self._folder.baselines.exists():
            self._mark = _mark_of(EvaluationTable.read(self._folder.baselines))
            return
        entrants = baselines(self._config)
        if not entrants:
            return
        table = evaluate(
            self._executor,
            entrants,
            self._seeds,
            bound=self._bound,
            progress=self._report("baselines"),
        )
        table.write(self._folder.baselines)
        self._mark = _mark_of(table)

    def _begin(self, events: EventFiles) -> None:
        """Measure and store the policy before any update, so that every kill can be resumed."""
        figures = self._evaluate(0)
        self._record(Iteration(0, figures, {}), events)

    def _restore(self, loaded: Checkpoint) -> None:
        self._loop.load_state(loaded.tensors, loaded.counters["loop"])
        self._best = loaded.counters["best"]
        self._best_iteration = loaded.counters["best_iteration"]
        self._latest = loaded.counters["latest"]
        for table in (self._metrics, self._groups, self._timing, self._evaluations):
            table.restore(loaded.iteration)
        if "elapsed" in self._timing.frame.columns:
            self._origin -= float(self._timing.frame["elapsed"].to_list()[-1])

    def _iterate(self, events: EventFiles) -> None:
        begin = perf_counter()
        self._watch(self.moment("collect", 0, self._config.episodes))
        done = self._loop.iterate(on_result=self._on_result("collect", self._config.episodes))
        due = done.number % self._config.evaluation.every == 0
        last = done.number == self._config.iterations
        clock = perf_counter()
        figures = self._evaluate(done.number) if due or last else {}
        seconds = {**done.seconds, "evaluate": perf_counter() - clock}
        clock = perf_counter()
        seconds["total"] = clock - begin
        self._record(Iteration(done.number, {**done.figures, **figures}, seconds), events)
        self._observer.raise_if_stopped()

    def _evaluate(self, iteration: int) -> dict[str, float]:
        """Play the current policy on the evaluation seeds; remember the best (or the last).

        A request to stop does not interrupt it: the update before it is done, and what follows
        is a checkpoint.
        """
        policy = self._loop.policy(stochastic=self._config.evaluation.stochastic)
        entrant = Entrant(POLICY, policy, "policy")
        table = evaluate(
            self._executor,
            [entrant],
            self._seeds,
            bound=self._bound,
            progress=lambda done, total, _: self._watch(
                self.moment("evaluate", int(done), int(total))
            ),
        )
        self._evaluations.append(
            table.frame.with_columns(pl.lit(iteration, pl.Int64).alias("iteration"))
        )
        returns = table.values(POLICY)
        self._latest = float(returns.mean())
        last = self._config.evaluation.keep == "last"
        if last or self._best is None or self._latest > self._best:
            self._best, self._best_iteration = self._latest, iteration
        figures = {"evaluation/return": self._latest, "evaluation/std": float(returns.std())}
        for name in table.figures:
            figures[f"evaluation/{name}"] = float(table.values(POLICY, name).mean())
        return figures

    def _record(self, done: Iteration, events: EventFiles) -> None:
        """Tables, then the checkpoint, which is what makes the iteration count."""
        clock = perf_counter()
        self._watch(self.moment("write"))
        self._metrics.append(_row(done.number, done.figures))
        self._metrics.write()
        names, figures = self._loop.learner.groups()
        if figures:
            self._groups.append(
                pl.DataFrame({"group": names, **figures}).with_columns(
                    pl.lit(done.number, pl.Int64).alias("iteration")
                )
            )
            self._groups.write()
        if self._evaluations.frame.height:
            self._evaluations.write()
        faults = self._executor.faults
        tensors, counters = self._loop.state()
        state = {
            "loop": counters,
            "best": self._best,
            "best_iteration": self._best_iteration,
            "latest": self._latest,
        }
        self._store.save(Checkpoint(done.number, tensors, state), best=self._best_iteration)
        seconds = {
            **done.seconds,
            "write": perf_counter() - clock,
            "elapsed": perf_counter() - self._origin,
            "memory_mib": _memory_mib(),
            "workers_lost": float(faults.total),
        }
        self._timing.append(_row(done.number, seconds))
        self._timing.write()
        events.write(done.number, {**done.figures, **_prefixed("seconds", seconds)})
        by_group = {name: [*map(float, column)] for name, column in figures.items()}
        self._observer.record(Recorded(done.number, done.figures, seconds, by_group, faults.total))

    def _finish(self) -> None:
        """Bundle of the best policy, and its comparison with the heuristics on unseen seeds."""
        best = self._loop.iteration if self._best_iteration is None else self._best_iteration
        chosen = self._store.load(best)
        learner = make_learner(self._executor.spec, self._config.learner, seed=self._config.seed)
        learner.load_state(dict(chosen.tensors), dict(chosen.counters["loop"]["learner"]))
        stochastic = self._config.evaluation.stochastic
        policy = Trained(learner.policy(), name=POLICY, stochastic=stochastic)
        self._save_bundle(policy, best)
        settings = self._config.evaluation
        table = evaluate(
            self._executor,
            [Entrant.policy(policy), *baselines(self._config)],
            evaluation_seeds(settings.episodes, settings.first_seed + HELD_OUT),
            bound=self._bound,
            progress=self._report("comparison"),
        )
        table.write(self._folder.comparison)

    def _save_bundle(self, policy: Trained, best: int) -> None:
        """Golden observations are from the first evaluation episode."""
        self._watch(self.moment("bundle"))
        episodes = self._recorded(policy)
        factory = self._config.factory()
        contents = Contents(
            name=self._config.title,
            spec=self._executor.spec,
            arrays=policy.arrays,
            settings=dict(factory.settings),
            provenance=self._provenance(best),
            stochastic=policy.stochastic,
        )
        save_bundle(
            self._folder.bundle,
            contents,
            episode=episodes[0][0],
            epochs=episodes[0][1],
            others=episodes[1:],
        )

    def _recorded(self, policy: Trained) -> list[Recording]:
        """Evaluation episodes with their arrays, one at a time, as far as memory is meant for."""
        found: list[Recording] = []
        size = 0
        for seed in self._seeds[:RECORDED]:
            result = self._executor.map([Task(seed, policy, record=True)])[0]
            if result.episode is None:
                raise RuntimeError("a recorded episode came back without its arrays")
            found.append((result.episode, max(1, result.epochs)))
            seen = (result.episode.agent, result.episode.candidates)
            boxes = (result.episode.low, result.episode.high)
            size += sum(array.nbytes for array in (*seen, *boxes) if array is not None)
            if size * (len(found) + 1) > _MEMORY * len(found):
                break
        return found

    def _provenance(self, iteration: int) -> dict[str, Any]:
        config = self._config
        return {
            "iteration": iteration,
            "episodes": iteration * config.episodes,
            "seed": config.seed,
            "algorithm": config.learner.algorithm,
            "guided": config.learner.guided,
            "evaluation_return": self._best,
            "evaluation_episodes": config.evaluation.episodes,
            "baseline": None if self._mark is None else self._mark[0],
            "baseline_return": None if self._mark is None else self._mark[1],
            "source": revision(),
        }

    def _report(self, stage: Stage) -> Callable[[float, float, str], None]:
        def progress(done: float, total: float, _: str) -> None:
            self._watch(self.moment(stage, int(done), int(total)))
            self._observer.raise_if_stopped()

        return progress

    def _on_result(self, stage: Stage, total: int) -> Callable[[int, Result], None]:
        done = 0

        def count(_: int, __: Result) -> None:
            nonlocal done
            done += 1
            self._watch(self.moment(stage, done, total))
            self._observer.raise_if_stopped()

        return count


def baselines(config: TrainConfig) -> list[Entrant]:
    """The heuristics to measure.

    Raises:
        UserError: one that the scenario does not offer; names the known ones.
    """
    wanted = config.evaluation.baselines
    if wanted == "none":
        return []
    offered = {rule.name: Entrant.rule(rule) for rule in config.factory().heuristics()}
    if wanted == "all":
        return list(offered.values())
    if wanted == "same":
        return [entrant for entrant in offered.values() if entrant.information == "same"]
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise UserError(
            f"evaluation.baselines: no heuristic {unknown[0]!r}; known: {', '.join(offered)}"
        )
    return [offered[name] for name in wanted]


def _mark_of(table: EvaluationTable) -> tuple[str, float] | None:
    name = table.bar()
    return None if name is None else (name, float(table.values(name).mean()))


def _row(iteration: int, figures: dict[str, float]) -> pl.DataFrame:
    return pl.DataFrame({"iteration": iteration, **figures})


def _prefixed(prefix: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in figures.items()}


def _memory_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
