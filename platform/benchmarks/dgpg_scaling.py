"""Learning over the number of agents: DG-PG, MAPPO, IPPO and every rule on the same seeds.

For every N the domain's rules and the learners are evaluated on fixed seeds. A learner
has converged at the first episode whose evaluation is within 2 % of the best of its run and after
which it stays there. One episode is ``horizon`` decisions per agent. Published for the cloud task
of arXiv 2602.20078: at most 10 episodes at every N up to 200 (20 up to 1,500), equal to Best-Fit
to N = 100 and behind it at N = 200; its simulator is not public, so only the shape compares.
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import torch

from ..progress import Report
from ..rows import Row
from ..statistics import paired_difference
from .scaling_run import Options, Point, measure
from .subjects import Subject

__all__ = ["Options", "run"]


def run(options: Options, progress: Report) -> list[Row]:
    """Run every N; see ``Options``."""
    if options.quick:
        few = options.subject.agents[:2]
        smaller = {"agents": few, "episodes": 6, "plain_episodes": 5, "evaluation": 8}
        options = options.model_copy(update=smaller)
    torch.set_num_threads(1)
    subject = options.subject
    sizes = options.agents or subject.agents
    points: list[Point] = []
    rows = [Row.info("an episode", options.horizon or subject.horizon, "decisions per agent")]
    for done, agents in enumerate(sizes):

        def told(what: str, done: int = done, agents: int = agents) -> None:
            progress(done, len(sizes), f"N={agents}, {what}")

        points.append(measure(options, agents, told))
        rows += _rows(options, points[-1])
    progress(len(sizes), len(sizes), "done")
    if options.plot is not None:
        from .dgpg_chart import draw_scaling

        draw_scaling(points, options.plot, subject)
    return rows


def _rows(options: Options, point: Point) -> list[Row]:
    name = f"N={point.agents}"
    bar = point.rules.bar()
    if bar is None:
        raise ValueError(f"{name}: no rule with the policy's information to compare with")
    rows: list[Row] = []
    figure = options.subject.figure
    for learner in options.learners:
        rows += _learner_rows(options, point, learner, bar)
    for standing in point.rules.standings():
        mark = ", best with the same information" if standing.name == bar else ""
        rows.append(Row.info(f"{name}: {standing.name}{mark}", standing.mean.point, "return"))
        if figure is not None:
            cost = float(point.rules.values(standing.name, figure).mean())
            rows.append(Row.info(f"{name}: {standing.name}, cost", cost, options.subject.unit))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    rows.append(
        Row.info(f"{name}: peak memory, learner and largest worker", peak * unit / 2**20, "MiB")
    )
    return rows


def _learner_rows(options: Options, point: Point, learner: str, bar: str) -> list[Row]:
    name, curves, subject = f"N={point.agents}: {learner}", point.of(learner), options.subject
    converged = max(curve.converged for curve in curves)
    last = np.mean([curve.last for curve in curves], axis=0)
    minutes = max(curve.training for curve in curves) / 60.0
    rows = [Row.info(f"{name}, final return", float(last.mean()), "return")]
    if subject.figure is not None:
        cost = float(np.mean([curve.cost for curve in curves]))
        rows.append(Row.info(f"{name}, final cost", cost, subject.unit))
    ahead = paired_difference(last, point.rules.values(bar))
    if learner != "dgpg":
        return [
            *rows,
            Row.info(f"{name}, episodes to convergence", converged, "episodes"),
            Row.info(f"{name}, ahead of {bar}", ahead.point, "return"),
            Row.info(f"{name}, training wall-clock", minutes, "min"),
        ]
    total = max(curve.total for curve in curves) / 60.0
    rows += [
        Row.at_most(f"{name}, episodes to convergence", converged, "episodes", options.limit),
        _margin(subject, f"{name}, ahead of {bar}, 95 % low", ahead.low),
        Row.info(f"{name}, ahead of {bar}", ahead.point, "return"),
        Row.info(f"{name}, wall-clock with evaluations", total, "min"),
    ]
    for rival in subject.rivals:
        if rival in point.rules.names:
            low = paired_difference(last, point.rules.values(rival)).low
            rows.append(_margin(subject, f"{name}, ahead of {rival}, 95 % low", low))
    wall = f"{name}, training wall-clock"
    if point.agents == subject.timed:
        return [*rows, Row.at_most(wall, minutes, "min", options.minutes)]
    return [*rows, Row.info(wall, minutes, "min")]


def _margin(subject: Subject, name: str, low: float) -> Row:
    """A lead in return, marked where it is promised."""
    return Row.at_least(name, low, "return", 0.0) if subject.led else Row.info(name, low, "return")
