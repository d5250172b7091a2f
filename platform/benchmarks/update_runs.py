"""Measurements of updates in processes of their own: ours, and those of a HARL checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ...policies.settings import LearnerConfig
from ..files import UserError
from .update_problem import Problem
from .update_worker import Result, Work

RUNNER = Path(__file__).with_name("harl_runner.py")
WORKER = f"{__package__}.update_worker"

HARL_MARK = Path("harl") / "algorithms" / "actors"
"""What a HARL checkout has and little else."""


@dataclass(frozen=True, slots=True)
class Case:
    """A learner of ours and how its update is cut into blocks.

    ``block`` is the number of agents that move at once; ``fisher`` the decisions per agent in the
    Fisher products (None: all); ``total_kl`` the bound on the joint KL (None: none).
    """

    algorithm: Literal["happo", "clip-happo", "hatrpo", "clip-hatrpo", "hatrpo-w", "hatrpo-g"]
    block: int
    fisher: int | None = None
    total_kl: float | None = None
    clip: bool | None = None

    def learner(self, problem: Problem) -> LearnerConfig:
        """Settings: weights not shared, a fixed order, every decision used; else the defaults."""
        blocks = -(-problem.agents // self.block)
        return LearnerConfig.model_validate(
            {
                "algorithm": self.algorithm,
                "sharing": "none",
                "blocks": blocks,
                "order": "fixed",
                "clip_factor": self.clip,
                "passes": 5,
                "minibatches": 1,
                "max_samples": max(64, problem.samples * problem.agents),
                "trust_region": {"fisher_samples": self.fisher, "total_kl": self.total_kl},
            }
        )


class Harl(BaseModel):
    """The runner's JSON line; see ``harl_runner``. None stands for a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    algorithm: str
    agents: int
    samples: int
    space: str
    train_seconds: list[float]
    factor_seconds: list[float]
    gain: list[float | None]
    factor_max: list[float | None]
    effective_share: list[float | None]
    failed_at: int | None
    failure: str | None
    peak_mib: float

    @property
    def seconds(self) -> float:
        """Process-CPU seconds of one update of all agents with their compound ratios."""
        return self.train_seconds[0] + self.factor_seconds[0]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A HARL checkout and the interpreter that can import it."""

    root: Path
    python: Path
    space: str = "discrete"

    def check(self) -> None:
        """Raise ``UserError`` unless both exist."""
        if not (self.root / HARL_MARK).is_dir():
            raise UserError(
                f"harl={self.root}: no HARL checkout there ({HARL_MARK} is missing); clone "
                "github.com/PKU-MARL/HARL and give its root"
            )
        if not self.python.is_file():
            raise UserError(
                f"harl_python={self.python}: no such file; give an interpreter that has torch and "
                "numpy, or leave it out for this one"
            )

    def run(self, problem: Problem, algorithm: str, *, advantage: str) -> Harl:
        """One sweep over all agents.

        Raises:
            UserError: the checkout cannot be imported, or the runner failed otherwise.
        """
        steps, threads = _episodes(problem.samples)
        command = [
            *(str(self.python), str(RUNNER), str(self.root)),
            *("--algorithm", algorithm, "--agents", str(problem.agents)),
            *("--steps", str(steps), "--threads", str(threads)),
            *("--observation", str(problem.observation), "--actions", str(problem.actions)),
            *("--space", self.space, "--advantage", advantage, "--seed", str(problem.seed)),
        ]
        done = _call(command)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(
                f"harl={self.root}: its runner stopped with status {done.returncode}: {reason}; "
                "check that the checkout is complete and that harl_python has torch and numpy"
            )
        return parse(done.stdout, self.root)


@dataclass(slots=True)
class Cost:
    """All runs of one number of agents."""

    agents: int
    ours: dict[str, list[Result]] = field(default_factory=dict)
    harl: dict[str, list[Harl]] = field(default_factory=dict)

    def per_agent(self, name: str) -> float:
        """Median process-CPU seconds per agent of one of our entries."""
        return median(one.seconds for one in self.ours[name]) / self.agents

    def harl_per_agent(self, algorithm: str) -> float:
        """The same of HARL, with the compound ratios."""
        return median(one.seconds for one in self.harl[algorithm]) / self.agents


def parse(text: str, root: Path) -> Harl:
    """The last line of the runner's output.

    Raises:
        UserError: it is not the JSON that the runner prints.
    """
    lines = text.strip().splitlines()
    try:
        return Harl.model_validate_json(lines[-1] if lines else "")
    except ValidationError as error:
        what = error.errors()[0]
        place = ".".join(str(part) for part in what["loc"]) or "the line"
        raise UserError(
            f"harl={root}: cannot read what its runner printed ({place}: {what['msg']}); "
            "check that nothing else writes to its stdout"
        ) from error


def measure(*works: tuple[Problem, Case]) -> list[Result]:
    """Updates of ours, one after another in one fresh process of this interpreter.

    Peak memory is that of the process so far, so it is clean for a single one only.

    Raises:
        RuntimeError: the process failed; holds the end of its stderr.
    """
    lines = [
        Work(problem=problem, learner=case.learner(problem)).model_dump_json()
        for problem, case in works
    ]
    done = _call([sys.executable, "-m", WORKER, *lines])
    if done.returncode:
        raise RuntimeError(
            f"update worker ended with status {done.returncode} ({works}): {done.stderr[-2000:]}"
        )
    return [Result.model_validate_json(line) for line in done.stdout.splitlines()]


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Two busy threads of one small product are slower than one and would blur process time.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603


def _episodes(samples: int) -> tuple[int, int]:
    """Steps and parallel episodes whose product is ``samples``; ten episodes if it divides."""
    threads = 10 if samples % 10 == 0 else 1
    return samples // threads, threads
