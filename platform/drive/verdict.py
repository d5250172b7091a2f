"""What a drive has shown: feasibility, cost by phase, who decided, and whether that is enough."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Box
from ..decision.types import CONSTRAINTS, Source
from ..rows import Row
from ..statistics import bootstrap
from .session import Driven, phase_costs

NOISE = 3.0
"""Cost after the faults above the policy's own, in standard errors of the policy's own draws."""

RETURNED = 1.01
"""Cost after the faults as a multiple of the policy's own, where the policy is not sampled."""

BACK = 0.9
"""Share of decisions that the policy makes again after the faults."""

ENOUGH = 20
"""Epochs after the faults without which an episode says nothing about its end."""

Values = NDArray[np.float64]


def rows_of(driven: Driven) -> list[Row]:
    """Figures and marks of a drive."""
    wrong = sum(len(run.infeasible) for run in driven.runs)
    rows = [Row.at_most("infeasible executed actions", wrong, "epochs", 0)]
    if isinstance(driven.order.bundle.spec.action, Box):
        rows += _violated(driven)
    phases = driven.order.plan.phases()
    if "outage" in phases:
        ours, _, theirs = phase_costs(driven, "outage")
        rows += [
            Row.at_most(
                "outage: cost over the baseline's", _ratio(ours, theirs), "1", driven.accepted
            ),
            Row.near("episodes that came back in time", _back(driven), "", len(driven.runs), 0),
        ]
        ours, theirs, _ = phase_costs(driven, "after")
        rows += [
            *_returned(ours, theirs),
            Row.at_least("after: share decided by the policy", _made(driven, "after"), "1", BACK),
        ]
    if driven.status is not None:
        rows.append(Row.near("exit status of the daemon after SIGTERM", driven.status, "", 0, 0))
    for phase in phases:
        rows += _phase(driven, phase)
    return rows + _service(driven)


def _returned(ours: Values, theirs: Values) -> list[Row]:
    """Whether the cost is the policy's own again, ``[S]`` against ``[S, R]``.

    A policy that is not sampled has no noise of its own to compare with, but what the outage left
    in the plant (energy stored, units started) still costs a little more or less.
    """
    ratio = _ratio(ours, theirs)
    if theirs.any() and not np.ptp(theirs, axis=1).any():
        return [Row.at_most("after: cost over the policy's", ratio, "1", RETURNED)]
    over = excess(ours, theirs)
    return [
        Row.at_most("after: cost above the policy's", over, "standard errors", NOISE),
        Row.info("after: cost over the policy's", ratio, "1"),
    ]


def _violated(driven: Driven) -> list[Row]:
    """Set-points that break a hard constraint, all kinds that projections know."""
    counts = Counter[str]()
    for run in driven.runs:
        counts.update(run.violations)
    return [
        Row.at_most(f"set-points that violate {name}", counts[name], "", 0)
        for name in CONSTRAINTS.values()
        if name != "legality"
    ]


def excess(ours: Values, theirs: Values) -> float:
    """By how many standard errors the driven cost exceeds the policy's own.

    Args:
        ours: ``[S]`` driven, one episode per seed.
        theirs: ``[S, R]`` the policy in process, R other draws of its sampling per seed.

    The draws of one seed differ by sampling alone; their pooled variance is that of one episode,
    so that the mean over seeds of (one episode - mean of R) has variance ``s^2 (1 + 1/R) / S``.
    """
    seeds, draws = theirs.shape
    difference = float((ours - theirs.mean(axis=1)).mean())
    if draws < 2:
        return float("nan")
    spread = float(theirs.var(axis=1, ddof=1).mean())
    error = np.sqrt(spread * (1 + 1 / draws) / seeds)
    if error == 0:
        return 0.0 if difference <= 0 else float("inf")
    return difference / float(error)


def extra_of(driven: Driven) -> dict[str, Any]:
    """What the JSON document holds besides the rows."""
    order = driven.order
    problems: dict[str, int] = {}
    for run in driven.runs:
        for kind, count in run.problems.items():
            problems[kind] = problems.get(kind, 0) + count
    return {
        "bundle": order.bundle.manifest["digest"],
        "seeds": list(order.seeds),
        "speed": order.speed,
        "epochs": order.plan.epochs,
        "faults": [
            {"kind": fault.kind, "first": fault.first, "last": fault.last}
            for fault in order.plan.faults
        ],
        "phases": {
            name: [[part.start, part.stop] for part in driven.parts(name)]
            for name in order.plan.phases()
        },
        "local": problems,
        "infeasible": [line for run in driven.runs for line in run.infeasible],
        "violations": [run.violations for run in driven.runs],
        "cost": {
            "driven": np.array([run.cost for run in driven.runs]).mean(axis=0)[: driven.length],
            "policy": driven.policy.mean(axis=(0, 1))[: driven.length],
            "baseline": driven.baseline.mean(axis=(0, 1))[: driven.length],
        },
    }


def counts_of(driven: Driven) -> Values:
    """``[S, T, 7]`` active agents by source; the last column: decided by the client's own rule."""
    found = np.zeros((len(driven.runs), driven.order.plan.room, len(Source) + 1))
    for row, run in zip(found, driven.runs, strict=True):
        row[:, :-1] = run.source * ~run.local[:, None]
        row[:, -1] = run.source.sum(axis=1) * run.local
    return found


def shares(driven: Driven, phase: str) -> Values:
    """``[7]`` shares of the columns of :func:`counts_of` in a phase."""
    counts = counts_of(driven)
    total = np.sum(
        [of[part].sum(axis=0) for of, part in zip(counts, driven.parts(phase), strict=True)], axis=0
    )
    return total / max(float(total.sum()), 1.0)


def _ratio(ours: Values, theirs: Values) -> float:
    below = float(theirs.mean())
    return float(ours.mean()) / below if below > 0 else float("nan")


def _back(driven: Driven) -> int:
    """Episodes with something left after outage and settling to judge by."""
    return sum(part.stop - part.start >= ENOUGH for part in driven.parts("after"))


def _made(driven: Driven, phase: str) -> float:
    """Share of decisions that are the policy's, projected or not."""
    return float(shares(driven, phase)[[Source.POLICY, Source.PROJECTED]].sum())


def _phase(driven: Driven, phase: str) -> list[Row]:
    ours, policy, rule = phase_costs(driven, phase)
    rows: list[Row] = []
    for name, values in (
        ("driven", ours),
        ("policy in process", policy.mean(axis=1)),
        (f"{driven.rule} in process", rule.mean(axis=1)),
    ):
        interval = bootstrap(values)
        rows.append(Row.info(f"{phase}: cost, {name}", interval.point, driven.unit))
        if len(values) > 1:
            rows.append(
                Row.info(
                    f"{phase}: cost, {name}, 95 %",
                    f"{interval.low:.4g}..{interval.high:.4g}",
                    driven.unit,
                )
            )
    made = shares(driven, phase)
    for source, share in zip([*(s.name.lower() for s in Source), "local"], made, strict=True):
        if share > 0:
            rows.append(Row.info(f"{phase}: share decided by {source}", float(share), "1"))
    if phase == "before":
        agreed = float(np.mean([run.agreed[driven.parts(phase)[0]] for run in driven.runs]))
        rows.append(Row.info("before: actions equal to those in process", agreed, "1"))
    return rows


def _service(driven: Driven) -> list[Row]:
    """How the daemon and the wire did."""
    # Epochs that an episode did not have took no time.
    heard = np.concatenate([run.seconds[~run.local & (run.seconds > 0)] for run in driven.runs])
    rows: list[Row] = []
    if heard.size:
        middle, high = np.quantile(heard, [0.5, 0.99])
        rows += [
            Row.info("answer over the wire, p50", 1e3 * float(middle), "ms"),
            Row.info("answer over the wire, p99", 1e3 * float(high), "ms"),
        ]
    late = sum(run.late for run in driven.runs)
    rows.append(Row.info("epochs that began late", late, "epochs"))
    if driven.starts:
        rows.append(Row.info("starts of the daemon", driven.starts, ""))
        memory = driven.runs[-1].memory
        rows.append(Row.info("memory of the daemon at the end", memory, "MiB"))
    back = [run.recovery for run in driven.runs if np.isfinite(run.recovery)]
    if back:
        rows.append(Row.info("from restart to the next answer, longest", float(np.max(back)), "s"))
    return rows
