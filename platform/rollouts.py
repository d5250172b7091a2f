"""Experience for one update: which episodes to play, and their arrays side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..policies.interface import Effects, Rollout
from .executors import Executor, OnResult
from .tasks import Episode, Guidance, Heuristic, Result, Task, Trained

TRAINING_SEEDS = 2**62
"""Seeds of training episodes are at least this; seeds of evaluation episodes always below."""

_TRAINING_STREAM = 0x7247


def training_seed(run_seed: int, iteration: int, episode: int) -> int:
    """Seed of one training episode: a function of its place in the run, in [2^62, 2^63)."""
    sequence = np.random.SeedSequence([run_seed, _TRAINING_STREAM, iteration, episode])
    return TRAINING_SEEDS + int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(2))


def evaluation_seeds(count: int, first: int = 0) -> tuple[int, ...]:
    """The fixed seeds of evaluation episodes: ``first``, ``first + 1`` ...

    Raises:
        ValueError: they would reach the seeds of training.
    """
    if first < 0 or first + count > TRAINING_SEEDS:
        raise ValueError(f"evaluation seeds must lie in [0, 2^62), got {first} + {count}")
    return tuple(range(first, first + count))


def training_tasks(
    policy: Trained, *, run_seed: int, iteration: int, episodes: int, guidance: Guidance | None
) -> list[Task]:
    """The recorded episodes of one iteration, played by the stochastic ``policy``."""
    return [
        Task(training_seed(run_seed, iteration, episode), policy, record=True, guidance=guidance)
        for episode in range(episodes)
    ]


def evaluation_tasks(controller: Trained | Heuristic, seeds: Sequence[int]) -> list[Task]:
    """One unrecorded episode per seed."""
    return [Task(seed, controller) for seed in seeds]


def collect(
    executor: Executor, tasks: Sequence[Task], *, on_result: OnResult | None = None
) -> tuple[Rollout, list[Result]]:
    """Play recorded ``tasks``; returns their arrays as one roll-out, and the figures."""
    results = executor.map(tasks, on_result=on_result)
    return stack(results), results


def stack(results: Sequence[Result]) -> Rollout:
    """The recorded episodes of ``results`` along a new first axis.

    Raises:
        ValueError: no results, or one that was not recorded.
    """
    episodes = [result.episode for result in results if result.episode is not None]
    if not episodes or len(episodes) < len(results):
        raise ValueError(f"{len(episodes)} of {len(results)} results hold a recorded episode")
    fields = ("agent", "candidates", "mask", "active", "actions", "critic", "reward")
    arrays: dict[str, Any] = {
        name: np.stack([getattr(episode, name) for episode in episodes])
        for name in (*fields, "local_reward", "guidance")
    }
    return Rollout(
        **arrays,
        terminated=np.array([result.terminated for result in results], dtype=np.bool_),
        seeds=np.array([result.seed for result in results], dtype=np.int64),
        effects=_stack_effects(episodes),
    )


def _stack_effects(episodes: Sequence[Episode]) -> Effects | None:
    effects = [episode.effects for episode in episodes if episode.effects is not None]
    if not effects:
        return None
    arrays: dict[str, Any] = {
        name: np.stack([getattr(effect, name) for effect in effects])
        for name in ("deviation", "weight", "index", "value")
    }
    return Effects(**arrays)
