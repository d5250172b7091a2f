"""How the noise of one agent's learning signal grows with the number of agents.

At every N one policy plays many independent episodes. From each episode every agent gets two
estimates of its policy gradient: from the sampled shared return, and from the guidance. The bench
fits the slope of log variance over log N: the return carries everybody's noise (about 1), the
guidance only what concerns the agent itself (its nodes, its unit; about 0); arXiv 2602.20078
states the same in its abstract. Generated power systems of different sizes differ in what their
agents stand to gain, so there the slopes with marks are those of noise over signal, read from the
cosine of one episode's estimate to the mean of the others. ``policies.gradient_noise`` says exactly
what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...policies.gradient_noise import GradientNoise, Noise, gradient_noise
from ...policies.learners import make_learner
from ...simulators.interface import Doubles
from ...simulators.settings import Settings, knob
from ..canvas import Draw, Palette, decorate, write_picture
from ..executors import ProcessExecutor
from ..files import UserError
from ..loop import Loop
from ..progress import Report
from ..rollouts import collect, training_tasks
from ..rows import Row
from ..tasks import Guidance
from ..training import usable_cores
from .subjects import SUBJECTS, Name, Setting, Subject, noise_of

SLOPE = 0.15
"""How far a slope may lie from 1 (return) or 0 (guidance)."""
HORIZON: Mapping[Name, int] = {"cloud": 100, "power": 96, "traffic": 360}
"""Decisions of a measured episode, by default.

An hour of traffic: the queues of a large grid take minutes to build up, so that in short episodes
more signals have less to measure (over 20 min the slopes were 0.70 and -0.21).
"""
MEASURED = 10_000
"""Iteration number of the measured episodes; keeps their seeds apart from those of training."""


class Options(Settings):
    """What to measure."""

    domain: Name = knob(
        "cloud", "domain of control: cloud (dispatch), power (generated systems), traffic (grids)"
    )
    agents: tuple[int, ...] | None = knob(None, "numbers of agents (none: the domain's own)")
    episodes: int = knob(48, "independent episodes per N", usual="24 ... 100", ge=4)
    horizon: int | None = knob(
        None,
        "decisions of an episode (none: 100 cloud, 96 power, 360 traffic)",
        unit="decisions",
        ge=10,
    )
    load: float | None = knob(
        None,
        "offered load, cloud only (none: 0.5); variance is finite for the untrained policy too",
        gt=0,
    )
    updates: int = knob(2, "guided updates before measuring (0 = the uniform policy)", ge=0)
    estimator: Literal["expected", "sampled"] = knob("expected", "form of the guidance estimate")
    systems: int | None = knob(
        None, "systems over which noise is averaged (none: 1 cloud and traffic, 4 power)", ge=1
    )
    gamma: float = knob(0.95, "discount of the returns to go", gt=0, le=1)
    workers: int = knob(0, "roll-out processes (0: one per usable core)", ge=0)
    seeds: int = knob(1, "seed of policy and episodes", ge=0)
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")

    @property
    def subject(self) -> Subject:
        """The domain under study."""
        return SUBJECTS[self.domain]


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one number of agents, ``systems`` times.

    ``scale`` times the reward is in the guidance's unit, for the whole system: in the cloud the
    reward is a mean over the expected arrivals of an episode and the guidance seconds of one job,
    in power the reward is a share of a normal interval's cost and the guidance $/h of one unit. In
    traffic the reward is a mean over vehicles, and the guidance vehicles squared of one signal's
    lanes, so only slopes compare.
    """

    agents: int
    scale: tuple[float, ...]
    units: tuple[str, str]
    noise: tuple[GradientNoise, ...]
    episodes: int

    @property
    def parts(self) -> tuple[list[Noise], list[Noise]]:
        """Of the return and of the guidance, a system each."""
        return [one.of_return for one in self.noise], [one.of_guidance for one in self.noise]

    @property
    def variances(self) -> tuple[float, float]:
        """Per agent, of the return and of the guidance, in ``units``; geometric means."""
        scaled = [
            (one.of_return.variance * scale**2, one.of_guidance.variance)
            for one, scale in zip(self.noise, self.scale, strict=True)
        ]
        of_return, of_guidance = np.exp(np.log(scaled).mean(axis=0)).tolist()
        return of_return, of_guidance

    @property
    def ratios(self) -> tuple[float, float]:
        """Noise over signal of one episode's estimate, return and guidance; see ``ratio``."""
        of_return, of_guidance = (ratio(cosine, self.episodes) for cosine in self.cosines)
        return of_return, of_guidance

    @property
    def cosines(self) -> tuple[float, float]:
        """Of one episode's estimate to the mean of the others, return and guidance."""
        of_return, of_guidance = (
            float(np.mean([noise.cosine for noise in part])) for part in self.parts
        )
        return of_return, of_guidance


def ratio(cosine: float, episodes: int) -> float:
    """Noise over signal ``r`` (variance over squared mean) of a vector with many components.

    An estimate and the mean of E - 1 others with the same mean have in expectation the cosine
    ``1 / sqrt((1 + r) (1 + r / (E - 1)))``. Infinite where the cosine is not positive.
    """
    if cosine <= 0.0:
        return float("inf")
    others = episodes - 1
    linear, constant = 1.0 + 1.0 / others, 1.0 - 1.0 / cosine**2
    return float(others / 2.0 * (np.sqrt(linear**2 - 4.0 * constant / others) - linear))


def run(options: Options, progress: Report) -> list[Row]:
    """Measure every N, fit the slopes; see ``Options``."""
    subject = options.subject
    if options.quick:
        smaller = {"agents": subject.agents[:3], "episodes": 12, "horizon": 60}
        options = options.model_copy(update=smaller)
    sizes = options.agents or subject.agents
    points: list[Point] = []
    for done, agents in enumerate(sizes):
        progress(done, len(sizes), f"{agents} agents")
        horizon = options.horizon or HORIZON[options.domain]
        settings = [
            noise_of(subject, agents, horizon, _load(options), system)
            for system in range(options.systems or subject.systems)
        ]
        noise = tuple(_measure(options, given) for given in settings)
        scale = tuple(given.scale for given in settings)
        points.append(Point(agents, scale, settings[0].units, noise, options.episodes))
    progress(len(sizes), len(sizes), "done")
    rows = [row for point in points for row in _rows(point, relative=subject.relative)]
    if len(points) > 1:
        rows += _slopes(points, relative=subject.relative)
    if options.plot is not None:
        write_picture(options.plot, _chart(points, subject.relative), (9.0, 3.8))
    return rows


def _load(options: Options) -> float:
    if options.load is not None and options.subject.load is None:
        raise UserError(f"load={options.load}: domain {options.domain} has no offered load")
    return 0.5 if options.load is None else options.load


def _measure(options: Options, given: Setting) -> GradientNoise:
    torch.set_num_threads(1)
    training = options.subject.config()
    guidance = training.guidance()
    # Noise is measured with policies that start from the middle of the box.
    network = training.learner.network.model_copy(update={"base": 0.0})
    config = training.learner.model_copy(update={"network": network})
    if guidance is None:
        raise ValueError(f"the tuned learner of {options.domain} has no guidance to measure")
    exact = Guidance(guidance.reference, form="exact")
    workers = options.workers or usable_cores()
    with ProcessExecutor(given.factory, workers=workers) as executor:
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
            guidance=exact,
        )
        rollout, _ = collect(executor, tasks)
        return gradient_noise(
            executor.spec,
            learner.policy(),
            rollout,
            estimator=options.estimator,
            gamma=options.gamma,
        )


def _rows(point: Point, *, relative: bool) -> list[Row]:
    rows: list[Row] = []
    for index, what in enumerate(("return", "guidance")):
        part = point.parts[index]
        name = f"N={point.agents}: {what}"
        rows += [
            Row.info(f"{name}, variance per agent", point.variances[index], point.units[index]),
            Row.info(f"{name}, signal to noise", float(np.mean([one.snr for one in part])), "1"),
            Row.info(f"{name}, cosine to the mean gradient", point.cosines[index], "1"),
        ]
        if relative:
            rows.append(Row.info(f"{name}, noise over signal", point.ratios[index], "1"))
    alignment = float(np.mean([one.alignment for one in point.noise]))
    return [*rows, Row.info(f"N={point.agents}: cosine of the two mean gradients", alignment, "1")]


def _slopes(points: Sequence[Point], *, relative: bool) -> list[Row]:
    numbers = [point.agents for point in points]
    plain = _slope(numbers, [point.variances for point in points])
    name = "slope of log variance over log N"
    whats = (("return", 1.0), ("guidance", 0.0))
    if not relative:
        return [
            Row.near(f"{name}, {what}", value, "1", expected, SLOPE)
            for (what, expected), value in zip(whats, plain, strict=True)
        ]
    rows = [
        Row.info(f"{name}, {what}", value, "1")
        for (what, _), value in zip(whats, plain, strict=True)
    ]
    name = "slope of log noise over signal over log N"
    of_return, of_guidance = _slope(numbers, [point.ratios for point in points])
    # Systems differ, so the guidance's ratio may fall; the claim is that it does not grow.
    return [
        *rows,
        Row.near(f"{name}, return", of_return, "1", 1.0, SLOPE),
        Row.at_most(f"{name}, guidance", of_guidance, "1", SLOPE),
    ]


def _slope(numbers: Sequence[int], values: Sequence[tuple[float, float]]) -> list[float]:
    """Of the logarithms, over the logarithm of the number of agents (NaN: a value is infinite)."""
    at, logs = np.log(numbers), np.log(np.array(values))
    return [
        float(np.polyfit(at, column, 1)[0]) if np.isfinite(column).all() else float("nan")
        for column in logs.T
    ]


def _chart(points: Sequence[Point], relative: bool) -> Draw:
    def draw(figure: Figure, palette: Palette) -> None:
        left, right = figure.subplots(1, 2)
        numbers = [point.agents for point in points]
        variances = np.array([p.ratios if relative else p.variances for p in points])
        units = " and ".join(dict.fromkeys(points[0].units))
        size = "Noise over signal" if relative else f"Variance per agent, {units}"
        cosines = np.array([point.cosines for point in points])
        for axes, values, title in (
            (left, variances, size),
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
