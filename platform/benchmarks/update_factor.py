"""How far the compound ratio of many agents can be trusted, ours and HARL's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..progress import Report
from ..rows import Row
from .update_problem import Problem
from .update_runs import Case, Checkout, Harl, measure
from .update_worker import Result

SHOWN = (1, 3, 5, 10, 20, 32, 64, 100, 200, 500, 1000)
"""Numbers of moved agents that the report lists, as near as a block's end comes."""
SURE = 2.0
"""Under the clamp, also the last quarter of the agents has to improve the joint policy: by this
many standard errors."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The compound ratio after ``moved`` agents, while all fit the same noise.

    ``share`` is the effective sample size over the number of samples, ``used`` the same of the
    ratio as the next agent uses it (clamped or not), ``largest`` the decimal logarithm of the
    largest ratio (NaN where it is not finite).
    """

    name: str
    agents: int
    moved: tuple[int, ...]
    share: tuple[float, ...]
    used: tuple[float, ...]
    largest: tuple[float, ...]


def factor_rows(
    problems: Sequence[Problem],
    *,
    block: int,
    fisher: int,
    total_kl: float,
    harl: Checkout | None,
    harl_problem: Problem,
    progress: Report,
) -> tuple[list[Curve], list[Row]]:
    """Follow the ratio under several learners; every learner must stay finite and improve."""
    curves: list[Curve] = []
    rows: list[Row] = []
    if not problems:
        return curves, rows
    if harl is not None:
        for number, algorithm in enumerate(("hatrpo", "happo")):
            progress(number, 2, f"factor of HARL {algorithm}")
            noise = harl.run(harl_problem, algorithm, advantage="noise")
            team = harl.run(harl_problem, algorithm, advantage="team") if _chooses(harl) else None
            curves.append(_harl_curve(noise))
            rows += _harl_rows(noise, team)
    for problem in problems:
        size = 1 if problem.agents <= block else block
        for number, (name, case) in enumerate(variants := _variants(size, fisher, total_kl)):
            progress(number, len(variants), f"{problem.agents} agents: factor of {name}")
            stress = problem.model_copy(update={"advantage": "noise"})
            noise, team = measure((stress, case), (problem, case))
            curve = _curve(name, problem.agents, size, noise)
            curves.append(curve)
            rows += _rows(f"N={problem.agents}: {name}", curve, case, noise, team)
    return curves, rows


def _variants(block: int, fisher: int, total_kl: float) -> tuple[tuple[str, Case], ...]:
    bound = f"joint KL at most {total_kl:g}"
    return (
        ("hatrpo", Case("hatrpo", block, fisher)),
        ("clip-hatrpo", Case("clip-hatrpo", block, fisher)),
        (f"hatrpo, {bound}", Case("hatrpo", block, fisher, total_kl)),
        (f"hatrpo-w clipped, {bound}", Case("hatrpo-w", block, fisher, total_kl, clip=True)),
    )


def _curve(name: str, agents: int, block: int, noise: Result) -> Curve:
    statistics = noise.statistics
    sizes = np.array([part.size for part in np.array_split(np.arange(agents), -(-agents // block))])
    moved = np.cumsum(sizes)
    positions = sorted(
        int(key.split("/")[1]) for key in statistics if key.startswith("factor_ess/")
    )

    def series(key: str) -> tuple[float, ...]:
        return tuple(statistics.get(f"{key}/{position}", math.nan) for position in positions)

    return Curve(
        name=name,
        agents=agents,
        moved=tuple(int(moved[position - 1]) for position in positions),
        share=series("factor_ess"),
        used=series("factor_ess_used"),
        largest=tuple(log / math.log(10.0) for log in series("factor_log_max")),
    )


def _harl_curve(noise: Harl) -> Curve:
    logs = [math.log10(one) if one else math.nan for one in noise.factor_max]
    shares = [math.nan if one is None else one for one in noise.effective_share]
    return Curve(
        name=f"HARL {noise.algorithm}",
        agents=noise.agents,
        moved=tuple(range(1, len(shares) + 1)),
        share=tuple(shares),
        used=tuple(shares),
        largest=tuple(logs),
    )


def _table(curve: Curve, name: str) -> list[Row]:
    """Largest ratio and effective share after some numbers of agents, each block's end once."""
    shown = [number for number in SHOWN if number < curve.moved[-1]]
    nearest = {min(curve.moved, key=lambda moved: abs(moved - number)) for number in shown}
    nearest.add(curve.moved[-1])
    rows: list[Row] = []
    columns = zip(curve.moved, curve.share, curve.used, curve.largest, strict=True)
    for moved, share, used, largest in columns:
        if moved in nearest:
            after = f"{name}, after {moved} agents"
            rows += [
                Row.info(f"{after}, largest ratio, log10", largest, "1"),
                Row.info(f"{after}, effective samples", share, "of all"),
            ]
            if math.isfinite(used) and not math.isclose(used, share, rel_tol=1e-9):
                rows.append(Row.info(f"{after}, effective samples as used", used, "of all"))
    return rows


def _rows(name: str, curve: Curve, case: Case, noise: Result, team: Result) -> list[Row]:
    label = f"{name}, true improvement"
    late = f"{label} of the last quarter"
    error = team.gain_late_error
    sure = team.gain_late / error if error > 0.0 else math.nan
    # With the raw ratio the last agents learn nothing; that is shown, and is no promise.
    clamped = case.clip or case.algorithm.startswith("clip-")
    joint = noise.statistics.get("trust/joint_kl", math.nan)
    return [
        *(_table(curve, name) if curve.moved else []),
        Row.info(f"{name}, joint KL used", joint, "nats"),
        Row.at_least(f"{name}, all weights finite", int(noise.finite and team.finite), "1", 1),
        Row.info(label, team.gain, "probability"),
        Row.info(late, team.gain_late, "probability"),
        Row.at_least(f"{late} over its error", sure, "1", SURE)
        if clamped
        else Row.info(f"{late} over its error", sure, "1"),
    ]


def _chooses(harl: Checkout) -> bool:
    return harl.space == "discrete"


def _harl_rows(noise: Harl, team: Harl | None) -> list[Row]:
    name = f"HARL {noise.algorithm}, {noise.space}"
    ended = noise.failure or "no failure"
    rows = [
        *_table(_harl_curve(noise), name),
        Row.info(f"{name}, agents updated of {noise.agents}", len(noise.factor_max), "agents"),
        Row.info(f"{name}, ended with", ended.split(":")[0], ""),
    ]
    if team is not None and team.gain:
        gain = np.array([math.nan if one is None else one for one in team.gain])
        late = gain[-max(1, gain.size // 4) :]
        label = f"{name}, N={team.agents}: true improvement"
        rows += [
            Row.info(label, float(gain.mean()), "probability"),
            Row.info(f"{label} of the last quarter", float(late.mean()), "probability"),
        ]
    return rows
