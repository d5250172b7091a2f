"""What a training job tells whoever watches it, and how it is asked to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Stage = Literal["baselines", "evaluate", "collect", "write", "bundle", "comparison", "report"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a training job is; given to its watcher.

    ``latest`` and ``best`` are evaluation means; ``mark`` is the best heuristic with the policy's
    information and its mean, if baselines were measured.
    """

    stage: Stage
    iteration: int
    iterations: int
    done: int = 0
    total: int = 0
    latest: float | None = None
    best: float | None = None
    mark: tuple[str, float] | None = None


Watch = Callable[[Moment], None]


def unwatched(_: Moment) -> None:
    """A watcher that looks away."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an iteration measured, once its checkpoint is kept.

    Attributes:
        iteration: its number; 0: the policy before any update.
        figures: statistics, ``group/name`` to number.
        seconds: wall-clock per stage.
        groups: statistics of each parameter group, by name.
        workers_lost: since the job began.
    """

    iteration: int
    figures: Mapping[str, float]
    seconds: Mapping[str, float]
    groups: Mapping[str, Sequence[float]]
    workers_lost: int


Record = Callable[[Recorded], None]


def unrecorded(_: Recorded) -> None:
    """A recorder that keeps nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        folder: of the run.
        finished: all iterations are done; otherwise it was stopped and can be resumed.
        iteration: last completed one.
        best_iteration: with the highest evaluation mean.
        best: that mean; ``None`` if there was no evaluation.
        mark: best heuristic with the same information, and its mean.
        seconds: wall-clock of the run; after a resume including the time up to its checkpoint.
    """

    folder: Path
    finished: bool
    iteration: int
    best_iteration: int | None
    best: float | None
    mark: tuple[str, float] | None
    seconds: float


class Stopped(Exception):  # noqa: N818
    """The user asked to stop; raised between episodes and between stages."""


@dataclass(frozen=True, slots=True)
class Observer:
    """Who watches a job, the flag by which it is asked to stop, and who takes its figures."""

    watch: Watch = unwatched
    stop: threading.Event = field(default_factory=threading.Event)
    record: Record = unrecorded

    def raise_if_stopped(self) -> None:
        if self.stop.is_set():
            raise Stopped
