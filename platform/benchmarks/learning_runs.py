"""Training runs of several learners on common seeds, side by side: the machinery of the benches.

A *variant* is a name and learner knobs. Every variant trains on the same scenario, for the same
number of episodes, from the same seeds; episodes of training depend on the run's seed and the
iteration only, so runs with one seed are paired. The trained policy is then played on fixed seeds
that neither training nor the choice of knobs has seen: knobs are chosen with seeds below 1,000,
benches train with seeds from 1,000 and evaluate on episodes from 1,000,000.

A finished run is one line of a file of JSON lines, if one is named. A bench that is started again
reads it back and trains only what is missing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from time import process_time
from typing import Any

import numpy as np
import torch

from ...policies.interface import Learner, PolicyArrays, Rollout
from ...policies.learners import make_learner
from ...simulators.interface import Doubles, Floats
from ..evaluation import Entrant, evaluate
from ..executors import InlineExecutor
from ..files import UserError
from ..loop import Loop
from ..progress import Report
from ..rollouts import evaluation_seeds
from ..tasks import Heuristic
from ..train_config import TrainConfig, from_json
from ..training import usable_cores
from .learning_plan import Assignment, RunOptions
from .learning_table import Ledger, Run, RunTable

EVALUATION = 1_000_000
"""First seed of the final evaluation."""
REHEARSAL, FIRST_SEED = 500_000, 1000
"""Runs with seeds below 1,000, on which knobs are chosen, are evaluated on seeds of their own."""
PROBES = 2_000_000
"""First seed of the episodes played in between."""
KEPT = ("policy/", "trust/", "factor/", "projection/", "guidance/alpha", "rollout/", "critic/")
"""Statistics of an update that a run keeps, by their first words."""


def run_all(options: RunOptions, wanted: Sequence[Assignment], progress: Report) -> RunTable:
    """Do all runs that the file does not hold; the result does not depend on the order.

    Raises:
        UserError: a damaged file of runs, or a run that failed.
    """
    ledger = Ledger(options.runs)
    done = {a.key: run for a in wanted if (run := ledger.find(a.key)) is not None}
    missing = list({a.key: a for a in wanted if a.key not in done}.values())
    # The dearest first, so that no long run is left alone at the end.
    missing.sort(key=lambda a: -a.agents * (a.kind == "learner"))
    total = len(done) + len(missing)
    progress(len(done), total, f"{len(done)} runs read back")
    for assignment, run in _played(missing, options.workers or usable_cores()):
        ledger.append(assignment.key, run)
        done[assignment.key] = run
        progress(len(done), total, f"N={run.agents}, {run.variant}, seed {run.seed}")
    return RunTable(tuple(done[a.key].named(a.variant) for a in wanted))


def _played(missing: Sequence[Assignment], workers: int) -> Iterator[tuple[Assignment, Run]]:
    if workers == 1 or len(missing) < 2:
        for assignment in missing:
            yield assignment, play(assignment)
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork of its threads
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
        futures = {pool.submit(play, assignment): assignment for assignment in missing}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that trained was killed (out of memory?); with runs=FILE the finished "
                "runs are kept: start again, perhaps with fewer workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def play(assignment: Assignment) -> Run:
    """Train (unless it is no learner) and evaluate, in this process and on one thread.

    Raises:
        UserError: learning diverged; names variant and seed.
    """
    torch.set_num_threads(1)
    config = from_json(assignment.config)
    with InlineExecutor(config.factory()) as executor:
        if assignment.kind == "rule":
            entrant = Entrant(assignment.variant, Heuristic(assignment.variant), "heuristic")
            final = _returns(executor, entrant, _first(assignment), assignment.evaluation)
            return Run.played(assignment.variant, assignment.agents, assignment.seed, final)
        learner = _Timed(make_learner(executor.spec, config.learner, seed=config.seed))
        loop = _loop(config, executor, learner)
        if assignment.kind == "untrained":
            final = _returns(
                executor, _policy(loop, config), _first(assignment), assignment.evaluation
            )
            return Run.played(assignment.variant, assignment.agents, assignment.seed, final)
        return _train(assignment, config, executor, loop, learner)


def weights(assignment: Assignment) -> Mapping[str, Floats]:
    """The policy's tensors after training, without any evaluation.

    Raises:
        UserError: learning diverged.
    """
    torch.set_num_threads(1)
    config = from_json(assignment.config)
    with InlineExecutor(config.factory()) as executor:
        loop = _loop(
            config, executor, make_learner(executor.spec, config.learner, seed=config.seed)
        )
        for _ in range(config.iterations):
            loop.iterate()
    return loop.policy().arrays.tensors


def _loop(config: TrainConfig, executor: InlineExecutor, learner: Learner) -> Loop:
    return Loop(
        executor=executor,
        learner=learner,
        seed=config.seed,
        episodes=config.episodes,
        guidance=config.guidance(),
    )


def _train(
    assignment: Assignment,
    config: TrainConfig,
    executor: InlineExecutor,
    loop: Loop,
    learner: _Timed,
) -> Run:
    rows: list[dict[str, float]] = []
    collect: list[float] = []
    update: list[float] = []
    at: list[int] = []
    probes: list[float] = []

    def probe() -> None:
        at.append(loop.iteration)
        played = _returns(executor, _policy(loop, config), PROBES, assignment.probes)
        probes.append(float(np.mean(played)))

    if assignment.every:
        probe()
    for number in range(1, config.iterations + 1):
        start, before = process_time(), learner.seconds
        try:
            figures = loop.iterate().figures
        except UserError as error:
            name = f"{assignment.variant}, N={assignment.agents}, seed {assignment.seed}"
            raise UserError(f"{name}: {error}") from error
        update.append(learner.seconds - before)
        collect.append(process_time() - start - update[-1])
        rows.append(figures)
        if assignment.every and (number % assignment.every == 0 or number == config.iterations):
            probe()
    final = _returns(executor, _policy(loop, config), _first(assignment), assignment.evaluation)
    kept = sorted({name for row in rows for name in row if name.startswith(KEPT)})
    return Run(
        variant=assignment.variant,
        agents=assignment.agents,
        seed=assignment.seed,
        returns=np.array([row["return"] for row in rows]),
        at=np.array(at, dtype=np.float64),
        probes=np.array(probes),
        figures={name: np.array([row.get(name, np.nan) for row in rows]) for name in kept},
        final=final,
        collect=np.array(collect),
        update=np.array(update),
    )


def _returns(executor: InlineExecutor, entrant: Entrant, first: int, episodes: int) -> Doubles:
    """Returns of one controller on fixed seeds, ``[episodes]``."""
    return evaluate(executor, [entrant], evaluation_seeds(episodes, first)).values(entrant.name)


def _first(assignment: Assignment) -> int:
    return EVALUATION if assignment.seed >= FIRST_SEED else REHEARSAL


def _policy(loop: Loop, config: TrainConfig) -> Entrant:
    """The present policy as its domain serves it."""
    return Entrant.policy(loop.policy(stochastic=config.evaluation.stochastic))


class _Timed:
    """A learner that counts the processor time of its updates.

    Unlike wall-clock it does not depend on what else runs on the machine.
    """

    def __init__(self, learner: Learner):
        self._learner = learner
        self.seconds = 0.0

    def update(self, rollout: Rollout) -> dict[str, float]:
        start = process_time()
        statistics = self._learner.update(rollout)
        self.seconds += process_time() - start
        return statistics

    def policy(self) -> PolicyArrays:
        return self._learner.policy()

    def groups(self) -> tuple[tuple[str, ...], dict[str, Doubles]]:
        return self._learner.groups()

    def state(self) -> tuple[dict[str, Any], dict[str, object]]:
        return self._learner.state()

    def load_state(self, tensors: dict[str, Any], counters: dict[str, object]) -> None:
        self._learner.load_state(tensors, counters)
