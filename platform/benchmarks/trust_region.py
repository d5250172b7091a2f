"""HATRPO, HATRPO-W and HATRPO-G, each with and without the clamped compound ratio.

The scenario has tenants with very different stakes. All variants take the same environment steps
and may spend the same total KL per update; they differ in who gets it (equal shares, KKT shares,
greedy) and in whether the compound ratio of the groups that moved before is clamped at 1. Compared
are the final return on held-out episodes, paired by training seed, and the improvement over the
untrained policy. Published for HATRPO-W and HATRPO-G (arXiv 2508.10340, on other tasks): 22.5 %
and 25.2 % above HATRPO. Published for the clamp (arXiv 2606.25526): low variance, no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...simulators.settings import knob
from ..progress import Report
from ..rows import Row
from ..statistics import bootstrap, paired_difference
from .learning_plan import PLAIN, RunOptions, Variant, assignments, heterogeneous
from .learning_runs import run_all
from .learning_table import RunTable

METHODS = ("hatrpo", "hatrpo-w", "hatrpo-g")
CLIPPED = " clipped"
PUBLISHED: Mapping[str, float] = {"hatrpo-w": 22.5, "hatrpo-g": 25.2}
"""Improvement over HATRPO in per cent."""
VARIANCE = 0.2
"""Share of the unclipped variance that the clipped one may have, from this many agents on."""
MANY = 100


class Options(RunOptions):
    """What to compare."""

    agents: tuple[int, ...] = knob((20, 100), "numbers of dispatchers")
    methods: tuple[str, ...] = knob(METHODS, "learners; the first is the one to compare with")
    guided: bool = knob(False, "with guidance, as fairlead train has it; default: the plain ones")


def run(options: Options, progress: Report) -> list[Row]:
    """Train every variant at every N; see ``Options``.

    Raises:
        UserError: an unknown knob, a damaged file of runs, or a run that diverged.
    """
    if options.quick:
        smaller = {"agents": (8,), "seeds": 2, "iterations": 2, "episodes": 1, "evaluation": 2}
        options = options.model_copy(update={**smaller, "horizon": 20, "every": 1, "probes": 1})
    chosen = variants(options)
    wanted = [
        assignment
        for agents in options.agents
        for assignment in assignments(options, chosen, heterogeneous(options, agents))
    ]
    table = run_all(options, wanted, progress)
    rows = [
        Row.info(
            "environment steps of a run",
            options.iterations * options.episodes * options.horizon,
            "epochs",
        )
    ]
    for agents in options.agents:
        rows += comparison(table, agents, options.methods)
        rows += variances(table, agents, options.methods)
        rows += budgets(table, agents, options.methods)
    if options.plot is not None:
        from .learning_chart import draw_trust_region

        draw_trust_region(table, options.methods, options.plot)
    return rows


def variants(options: Options) -> list[Variant]:
    """Every method with and without the clamp, and the policy that all of them start from."""
    base: Mapping[str, Any] = {} if options.guided else PLAIN
    found = [Variant("untrained", base, "untrained")]
    for name in options.methods:
        for clip in (False, True):
            knobs = {**base, "algorithm": name, "clip_factor": clip}
            found.append(Variant(name + CLIPPED * clip, knobs))
    return found


def comparison(table: RunTable, agents: int, methods: tuple[str, ...]) -> list[Row]:
    """Final returns, differences to the first method, and improvement over the untrained policy."""
    untrained = table.final("untrained", agents)
    rows = [Row.info(f"N={agents}: untrained, final return", float(untrained.mean()), "return")]
    for clip in (False, True):
        first = methods[0] + CLIPPED * clip
        theirs = table.final(first, agents)
        for method in methods:
            variant = method + CLIPPED * clip
            ours, name = table.final(variant, agents), f"N={agents}: {variant}"
            interval = bootstrap(ours)
            rows += [
                Row.info(f"{name}, final return", interval.point, "return"),
                Row.info(f"{name}, final return, 95 % low", interval.low, "return"),
                Row.info(f"{name}, final return, 95 % high", interval.high, "return"),
                Row.info(
                    f"{name}, area under the training curve",
                    float(table.curves(variant, agents).mean()),
                    "return",
                ),
            ]
            if variant == first:
                continue
            # The published margins are those without the clamp.
            mark = None if clip else PUBLISHED.get(method)
            ahead = paired_difference(ours, theirs)
            gain = _percent(ours, theirs, untrained)
            label = f"{name}, ahead of {first}"
            rows.append(Row.info(label, ahead.point, "return"))
            low, more = f"{label}, 95 % low", f"{name}, improvement over that of {first}"
            if mark is None:
                rows += [Row.info(low, ahead.low, "return"), Row.info(more, gain, "%")]
            else:
                rows.append(Row.at_least(low, ahead.low, "return", 0.0))
                rows.append(Row.at_least(more, gain, "%", mark))
    return rows


def _percent(ours: Any, theirs: Any, untrained: Any) -> float:
    """How much more of the untrained policy's return ours gained than theirs, in per cent."""
    base = float(np.mean(theirs - untrained))
    return 100.0 * (float(np.mean(ours - untrained)) / base - 1.0) if base > 0.0 else np.nan


def variances(table: RunTable, agents: int, methods: tuple[str, ...]) -> list[Row]:
    """Variance of the weighted advantage at the last block, which has seen all other blocks move.

    ``between``: the clipped runs' variance over that of the unclipped runs. ``within``: the clipped
    runs' over what the same roll-outs would have had without the clamp.
    """
    rows: list[Row] = []
    for method in methods:
        name = f"N={agents}: {method}"
        plain, clipped = (
            table.mean(variant, agents, "factor/variance") for variant in (method, method + CLIPPED)
        )
        raw = table.mean(method + CLIPPED, agents, "factor/variance_raw")
        rows += [
            Row.info(f"{name}, variance of the weighted advantage", plain, "1"),
            Row.info(f"{name}{CLIPPED}, variance of the weighted advantage", clipped, "1"),
            Row.info(f"{name}{CLIPPED}, the same without the clamp", raw, "1"),
            Row.info(
                f"{name}{CLIPPED}, mean of the used ratio",
                table.mean(method + CLIPPED, agents, "factor/mean"),
                "1",
            ),
        ]
        share = f"{name}, clipped over unclipped variance"
        if agents >= MANY:
            rows.append(Row.at_most(share, clipped / plain, "1", VARIANCE))
        else:
            rows.append(Row.info(share, clipped / plain, "1"))
    return rows


def budgets(table: RunTable, agents: int, methods: tuple[str, ...]) -> list[Row]:
    """KL that was allowed and used, inequality of the shares, and cost of an update."""
    rows: list[Row] = []
    for variant in (method + CLIPPED * clip for method in methods for clip in (False, True)):
        name = f"N={agents}: {variant}"
        used = table.figure(variant, agents, "trust/joint_kl")
        total = table.figure(variant, agents, "trust/total")
        collect, update = table.seconds(variant, agents)
        rows += [
            Row.info(f"{name}, total KL of an update", float(np.nanmean(total)), "nats"),
            Row.info(f"{name}, total KL used", float(np.nanmean(used)), "nats"),
            # A trust region that is left even once is not one.
            Row.at_most(
                f"{name}, largest used over allowed KL", float(np.nanmax(used / total)), "1", 1.001
            ),
            Row.info(
                f"{name}, groups that moved", table.mean(variant, agents, "trust/accepted"), "1"
            ),
            Row.info(
                f"{name}, Gini of the budgets", table.mean(variant, agents, "trust/gini"), "1"
            ),
            Row.info(f"{name}, collecting", collect, "s/update"),
            Row.info(f"{name}, updating", update, "s/update"),
        ]
    return rows
