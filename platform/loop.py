"""One iteration of learning: collect, update, check; with everything a resume needs as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..policies.interface import Learner
from .executors import Executor, OnResult
from .files import UserError
from .rollouts import collect, training_tasks
from .tasks import Guidance, Result, Trained

_CHECKED = ("policy/", "critic/", "advantage/", "return")
"""Statistics that must be finite; some others are NaN where there is nothing to measure."""


class DivergedError(UserError):
    """Learning produced a number that is not finite; names the iteration and the number."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration did.

    Attributes:
        number: 1 for the first.
        figures: reproducible statistics, ``group/name`` to number.
        seconds: wall-clock per stage; ``simulate``, ``act`` and ``guidance`` are summed over
            workers, ``collect`` and ``update`` are of this process.
    """

    number: int
    figures: dict[str, float]
    seconds: dict[str, float]


class Loop:
    """Learner and executor, taking turns.

    Args:
        executor: plays the episodes.
        learner: learns from them.
        seed: of the run; seeds of episodes derive from it and the iteration's number.
        episodes: per iteration.
        guidance: what roll-outs record for the guidance.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        learner: Learner,
        seed: int,
        episodes: int,
        guidance: Guidance | None,
    ):
        self.learner = learner
        self._executor, self._seed = executor, seed
        self._episodes, self._guidance = episodes, guidance
        self.iteration = 0

    def policy(self, *, stochastic: bool = True) -> Trained:
        """The current policy as executors take it."""
        return Trained(self.learner.policy(), stochastic=stochastic)

    def iterate(self, *, on_result: OnResult | None = None) -> Iteration:
        """Collect one roll-out and update on it. An interruption while collecting changes nothing.

        Raises:
            DivergedError: a return, statistic or weight is not finite. The learner is unusable
                then; its last checkpoint is not.
        """
        number = self.iteration + 1
        tasks = training_tasks(
            self.policy(),
            run_seed=self._seed,
            iteration=number,
            episodes=self._episodes,
            guidance=self._guidance,
        )
        start = perf_counter()
        rollout, results = collect(self._executor, tasks, on_result=on_result)
        collected = perf_counter()
        figures = _summarise(results)
        if not np.isfinite(rollout.reward).all():
            raise DivergedError(f"iteration {number}: the simulator's reward is not finite")
        figures |= self.learner.update(rollout)
        updated = perf_counter()
        self.iteration = number
        figures["episodes"] = float(number * self._episodes)
        figures["decisions_per_agent"] = figures["episodes"] * rollout.decisions_per_agent
        self._require_finite(figures)
        seconds = {
            name: sum(result.seconds[name] for result in results)
            for name in ("simulate", "act", "guidance")
        }
        seconds |= {"collect": collected - start, "update": updated - collected}
        return Iteration(number, figures, seconds)

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
        """Tensors and counters for an exact resume."""
        tensors, counters = self.learner.state()
        return tensors, {"iteration": self.iteration, "learner": counters}

    def load_state(
        self, tensors: Mapping[str, NDArray[np.generic]], counters: Mapping[str, Any]
    ) -> None:
        """Continue where ``state`` was taken."""
        self.learner.load_state(dict(tensors), dict(counters["learner"]))
        self.iteration = int(counters["iteration"])

    def _require_finite(self, figures: Mapping[str, float]) -> None:
        wrong = [
            name
            for name, value in figures.items()
            if name.startswith(_CHECKED) and not np.isfinite(value)
        ]
        weights = self.learner.policy().tensors
        wrong += [name for name, tensor in weights.items() if not np.isfinite(tensor).all()]
        if wrong:
            trusted = any(name.startswith("trust/") for name in figures)
            knobs = (
                "learner.trust_region.kl"
                if trusted
                else "learner.learning_rate or learner.max_grad_norm"
            )
            raise DivergedError(
                f"iteration {self.iteration}: {', '.join(wrong[:5])} is not finite; try a smaller "
                f"{knobs}"
            )


def _summarise(results: Sequence[Result]) -> dict[str, float]:
    """Means over the collected episodes."""
    totals = np.array([result.total for result in results])
    figures = {
        "return": float(totals.mean()),
        "return_min": float(totals.min()),
        "return_max": float(totals.max()),
    }
    for name in results[0].components:
        parts = [result.components.get(name, 0.0) for result in results]
        figures[f"component/{name}"] = float(np.mean(parts))
    distances = np.array([result.distance for result in results])
    if np.isfinite(distances).all():
        figures["guidance/distance"] = float(distances.mean())
    return figures
