"""How the noise of one agent's learning signal grows with the number of agents.

At every N one policy plays many independent episodes. From each episode every agent gets two
estimates of its policy gradient: from the sampled shared return, and from the guidance. The bench
fits the slope of log variance over log N: the return carries everybody's noise (about 1), the
guidance only what happens on the nodes that the agent could choose (about 0); arXiv 2602.20078
states the same in its abstract. ``policies.gradient_noise`` says exactly what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...policies.gradient_noise import GradientNoise, gradient_noise
from ...policies.learners import LearnerConfig, make_learner
from ...simulators.interface import Doubles
from ...simulators.settings import Settings, knob
from ..canvas import Draw, Palette, decorate, write_picture
from ..executors import DomainFactory, ProcessExecutor
from ..loop import Loop
from ..progress import Report
from ..rollouts import collect, training_tasks
from ..rows import Row
from ..tasks import Guidance
from ..training import usable_cores

SLOPE = 0.15
"""How far a slope may lie from 1 (return) or 0 (guidance)."""
ARRIVALS = 0.7
"""Arrivals per dispatcher and epoch, as in the scenario's default."""
MEASURED = 10_000
"""Iteration number of the measured episodes; keeps their seeds apart from those of training."""


class Options(Settings):
    """What to measure."""

    agents: tuple[int, ...] = knob((5, 10, 20, 50, 100, 200), "numbers of dispatchers")
    episodes: int = knob(48, "independent episodes per N", usual="24 ... 100", ge=4)
    horizon: int = knob(100, "epochs of an episode", unit="epochs", ge=10)
    load: float = knob(0.5, "offered load; variance is finite for the untrained policy too", gt=0)
    updates: int = knob(2, "guided updates before measuring (0 = the uniform policy)", ge=0)
    estimator: Literal["expected", "sampled"] = knob("expected", "form of the guidance estimate")
    gamma: float = knob(0.95, "discount of the returns to go", gt=0, le=1)
    workers: int = knob(0, "roll-out processes (0: one per usable core)", ge=0)
    seeds: int = knob(1, "seed of policy and episodes", ge=0)
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one number of agents.

    ``jobs`` is the number of expected arrivals of an episode: the reward is a mean over them, the
    guidance is seconds of one job. Times ``jobs`` both are seconds of the whole system.
    """

    agents: int
    jobs: float
    noise: GradientNoise

    @property
    def variances(self) -> tuple[float, float]:
        """Per agent, of the return and of the guidance, in the same unit."""
        of_return, of_guidance = self.noise.of_return, self.noise.of_guidance
        return of_return.variance * self.jobs**2, of_guidance.variance


def run(options: Options, progress: Report) -> list[Row]:
    """Measure every N, fit the slopes; see ``Options``."""
    if options.quick:
        options = options.model_copy(update={"agents": (5, 10, 20), "episodes": 12, "horizon": 60})
    points: list[Point] = []
    for done, agents in enumerate(options.agents):
        progress(done, len(options.agents), f"{agents} agents")
        jobs = agents * options.horizon * ARRIVALS
        points.append(Point(agents, jobs, _measure(options, agents)))
    progress(len(options.agents), len(options.agents), "done")
    rows = [row for point in points for row in _rows(point)]
    if len(points) > 1:
        rows += _slopes(points)
    if options.plot is not None:
        write_picture(options.plot, _chart(points), (9.0, 3.8))
    return rows


def _measure(options: Options, agents: int) -> GradientNoise:
    torch.set_num_threads(1)
    scenario = {
        "name": "dispatch",
        "agents": agents,
        "horizon": options.horizon,
        "load": options.load,
        "arrivals_per_epoch": ARRIVALS,
        # A rate that all agents share would correlate their noise, which is not what N adds.
        "pattern": {"amplitude": 0.0, "burst_share": 0.0},
    }
    factory = DomainFactory("cloud", "dispatch", scenario)
    config = LearnerConfig()
    guidance = Guidance("drain", form="exact", effects=config.needs_effects)
    workers = options.workers or usable_cores()
    with ProcessExecutor(factory, workers=workers) as executor:
        learner = make_learner(executor.spec, config, seed=options.seeds)
        loop = Loop(
            executor=executor, learner=learner, seed=options.seeds, episodes=1, guidance=guidance
        )
        for _ in range(options.updates):
            loop.iterate()
        tasks = training_tasks(
            loop.policy(),
            run_seed=options.seeds,
            iteration=MEASURED,
            episodes=options.episodes,
            guidance=Guidance("drain", form="exact"),
        )
        rollout, _ = collect(executor, tasks)
        return gradient_noise(
            executor.spec,
            learner.policy(),
            rollout,
            estimator=options.estimator,
            gamma=options.gamma,
        )


def _rows(point: Point) -> list[Row]:
    rows: list[Row] = []
    parts = (point.noise.of_return, point.noise.of_guidance)
    for what, part, variance in zip(("return", "guidance"), parts, point.variances, strict=True):
        name = f"N={point.agents}: {what}"
        rows += [
            Row.info(f"{name}, variance per agent", variance, "s^2"),
            Row.info(f"{name}, signal to noise", part.snr, "1"),
            Row.info(f"{name}, cosine to the mean gradient", part.cosine, "1"),
        ]
    alignment = point.noise.alignment
    return [*rows, Row.info(f"N={point.agents}: cosine of the two mean gradients", alignment, "1")]


def _slopes(points: Sequence[Point]) -> list[Row]:
    logs = np.log([[point.agents, *point.variances] for point in points])
    slopes = np.polyfit(logs[:, 0], logs[:, 1:], 1)[0]
    name = "slope of log variance over log N"
    return [
        Row.near(f"{name}, return", float(slopes[0]), "1", 1.0, SLOPE),
        Row.near(f"{name}, guidance", float(slopes[1]), "1", 0.0, SLOPE),
    ]


def _chart(points: Sequence[Point]) -> Draw:
    def draw(figure: Figure, palette: Palette) -> None:
        left, right = figure.subplots(1, 2)
        numbers = [point.agents for point in points]
        variances = np.array([point.variances for point in points])
        cosines = np.array([[p.noise.of_return.cosine, p.noise.of_guidance.cosine] for p in points])
        for axes, values, title in (
            (left, variances, "Variance per agent, seconds squared"),
            (right, cosines, "Cosine of one episode to the mean gradient"),
        ):
            _lines(axes, numbers, values, palette)
            axes.set_title(title, loc="left", color=palette.ink)
            axes.set_xscale("log")
            axes.set_xticks(numbers, [str(n) for n in numbers])
            axes.minorticks_off()
            decorate(axes, palette, x="agents", y="")
        left.set_yscale("log")
        left.legend(frameon=False, labelcolor=palette.ink)

    return draw


def _lines(axes: Axes, numbers: list[int], values: Doubles, palette: Palette) -> None:
    axes.plot(numbers, values[:, 0], "s--", color=palette.same, label="sampled return")
    axes.plot(numbers, values[:, 1], "o-", color=palette.policy, label="guidance")
