"""HATRPO, HATRPO-W and HATRPO-G, each with and without the clamped compound ratio.

The scenario has tenants with very different stakes. All variants take the same environment steps
and may spend the same total KL per update; they differ in who gets it (equal shares, KKT shares,
greedy) and in whether the compound ratio of the groups that moved before is clamped at 1. Compared
are the final return on held-out episodes, paired by training seed, and the improvement over the
untrained policy. Published for HATRPO-W and HATRPO-G (arXiv 2508.10340, on other tasks): 22.5 %
and 25.2 % above HATRPO. Published for the clamp (arXiv 2606.25526): low variance, no number.

Two things decide what can be seen. Runs are short: who has converged cannot be ahead, and all of
them converge to the same policy. And learning is guided: without guidance the improvement per KL
of a group is lost in the noise of the shared return, and budgets that follow noise are worse than
equal ones (``guided=false`` shows it). The clamp matters when the joint KL of an update is large,
so its variance is measured apart, in a few long steps.

``domain=power`` plays a generated system, whose groups are technologies. Nothing was published for
it and nothing is promised, so there only the KL has a mark. All learners start from the middle of
the box (``network.base=0``), and the policies are evaluated as they are served, by their mode.
``domain=traffic`` plays a grid where some signals have two phases and others four; the same holds,
and signals with the same phases share weights, unless ``learner=["sharing=none"]`` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from ...simulators.settings import knob
from ..files import UserError
from ..progress import Report
from ..rows import Row
from ..statistics import bootstrap, paired_difference
from .learning_plan import PLAIN, Assignment, DomainOptions, Variant, assignments, heterogeneous
from .learning_runs import run_all
from .learning_table import RunTable

METHODS = ("hatrpo", "hatrpo-w", "hatrpo-g")
CLIPPED = " clipped"
LONG = ", long steps"
Clamp = Literal["unclamped", "clamped"]
CLAMPS: tuple[Clamp, ...] = ("unclamped", "clamped")
PUBLISHED: Mapping[str, float] = {"hatrpo-w": 22.5, "hatrpo-g": 25.2}
"""Improvement over HATRPO in per cent."""
VARIANCE = 0.2
"""Share of the unclipped variance that the clipped one may have, from this many agents on."""
MANY = 100


class Options(DomainOptions):
    """What to compare."""

    tuned: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "power": {
            "agents": (40,),
            "horizon": 72,
            "iterations": 10,
            "episodes": 4,
            "long_updates": 0,
            "clamps": ("unclamped",),
        },
        "traffic": {
            "agents": (36,),
            "horizon": 120,
            "iterations": 10,
            "episodes": 2,
            "long_updates": 0,
            "clamps": ("unclamped",),
        },
    }

    agents: tuple[int, ...] = knob((20, 100), "numbers of agents (power: 40, traffic: 36)")
    methods: tuple[str, ...] = knob(METHODS, "learners; the first is the one to compare with")
    iterations: int = knob(5, "updates of every run (power, traffic: 10)", usual="3 ... 30", ge=1)
    episodes: int = knob(1, "episodes per update (power: 4, traffic: 2)", usual="1 ... 16", ge=1)
    evaluation: int = knob(10, "episodes of the final evaluation", usual="10 ... 100", ge=2)
    every: int = knob(0, "updates between evaluations in between (0: none)", ge=0)
    guided: bool = knob(True, "with guidance; false: the plain learners")
    kl: float = knob(
        0.006,
        "equal share of an update: mean KL of a decision",
        unit="nats",
        usual="0.002 ... 0.05",
        gt=0,
    )
    long_kl: float = knob(
        0.15, "the same for the long steps in which the variance is measured", unit="nats", gt=0
    )
    clamps: tuple[Clamp, ...] = knob(
        CLAMPS,
        "which compound ratios (power, traffic: unclamped; it has no effect where guidance has all "
        "weight)",
        min_length=1,
    )
    long_updates: int = knob(
        3,
        "updates of a run with long steps (0: no such runs, as on power and traffic), needs both "
        "clamps",
        ge=0,
    )
    long_seeds: int = knob(3, "runs of every variant with long steps", ge=2)


def run(options: Options, progress: Report) -> list[Row]:
    """Train every variant at every N; see ``Options``.

    Raises:
        UserError: an unknown knob, long steps without both clamps, a damaged file of runs, or a
            run that diverged.
    """
    if options.quick:
        few = (options.subject.few,)
        smaller = {"agents": few, "seeds": 2, "iterations": 2, "evaluation": 2, "horizon": 60}
        long = {"long_updates": min(1, options.long_updates), "long_seeds": 2}
        options = options.model_copy(update={**smaller, **long})
    if options.long_updates and len(options.clamps) < len(CLAMPS):
        raise UserError(
            "clamps: runs with long steps compare both; add the other, or long_updates=0"
        )
    longer = options.model_copy(
        update={"iterations": options.long_updates, "seeds": options.long_seeds}
    )
    wanted: list[Assignment] = []
    for agents in options.agents:
        scenario = heterogeneous(options, agents)
        start = Variant("untrained", {} if options.guided else PLAIN, "untrained")
        wanted += assignments(options, [start, *variants(options, options.kl)], scenario)
        if options.long_updates:
            wanted += assignments(longer, variants(options, options.long_kl, LONG), scenario)
    table = run_all(options, wanted, progress)
    rows = [
        Row.info(
            "environment steps of a run",
            options.iterations * options.episodes * options.horizon,
            "epochs",
        )
    ]
    for agents in options.agents:
        published = PUBLISHED if options.domain == "cloud" else {}
        rows += comparison(table, agents, options.methods, options.clamps, published)
        rows += budgets(table, agents, options.methods, options.clamps)
        if options.long_updates:
            rows += variances(table, agents, options.methods)
    if options.plot is not None:
        from .learning_chart import draw_trust_region

        long = LONG if options.long_updates else ""
        suffixes = [suffix(clamp) for clamp in options.clamps]
        draw_trust_region(table, options.methods, options.plot, long=long, suffixes=suffixes)
    return rows


def suffix(clamp: Clamp) -> str:
    """What the name of a method gets."""
    return CLIPPED if clamp == "clamped" else ""


def variants(options: Options, kl: float, ending: str = "") -> list[Variant]:
    """Every method with and without the clamp."""
    base: Mapping[str, Any] = {} if options.guided else PLAIN
    region = {"kl": kl, "guided_kl": kl, "sweeps": 1}
    found: list[Variant] = []
    for name in options.methods:
        for clamp in options.clamps:
            clip = clamp == "clamped"
            knobs = {**base, "algorithm": name, "clip_factor": clip, "trust_region": region}
            found.append(Variant(name + suffix(clamp) + ending, knobs))
    return found


def comparison(
    table: RunTable,
    agents: int,
    methods: tuple[str, ...],
    clamps: tuple[Clamp, ...] = CLAMPS,
    published: Mapping[str, float] = PUBLISHED,
) -> list[Row]:
    """Final returns, differences to the first method, and improvement over the untrained policy.

    Methods that are in ``published`` have marks: ahead of the first one, and by so many per cent.
    """
    untrained = table.final("untrained", agents)
    rows = [Row.info(f"N={agents}: untrained, final return", float(untrained.mean()), "return")]
    for clamp in clamps:
        first = methods[0] + suffix(clamp)
        theirs = table.final(first, agents)
        for method in methods:
            variant = method + suffix(clamp)
            ours, name = table.final(variant, agents), f"N={agents}: {variant}"
            interval, gained = bootstrap(ours), paired_difference(ours, untrained)
            rows += [
                Row.info(f"{name}, final return", interval.point, "return"),
                Row.info(f"{name}, final return, 95 % low", interval.low, "return"),
                Row.info(f"{name}, final return, 95 % high", interval.high, "return"),
                Row.info(f"{name}, gained over untrained", gained.point, "return"),
                Row.info(f"{name}, gained over untrained, 95 % low", gained.low, "return"),
                Row.info(f"{name}, gained over untrained, 95 % high", gained.high, "return"),
                Row.info(
                    f"{name}, area under the training curve",
                    float(table.curves(variant, agents).mean()),
                    "return",
                ),
            ]
            if variant == first:
                continue
            # The published margins are those without the clamp.
            mark = published.get(method) if clamp == "unclamped" else None
            ahead = paired_difference(ours, theirs)
            gain = _percent(ours, theirs, untrained)
            label = f"{name}, ahead of {first}"
            rows += [
                Row.info(label, ahead.point, "return"),
                Row.info(f"{label}, 95 % high", ahead.high, "return"),
            ]
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

    The clipped runs' variance is compared with that of the unclipped runs; ``without the clamp`` is
    what the clipped runs' own roll-outs would have had.
    """
    rows: list[Row] = []
    for method in methods:
        name = f"N={agents}: {method}{LONG}"
        plain, clipped = method + LONG, method + CLIPPED + LONG
        before, after = (table.mean(v, agents, "factor/variance") for v in (plain, clipped))
        rows += [
            Row.info(f"{name}, total KL used", table.mean(plain, agents, "trust/joint_kl"), "nats"),
            Row.info(f"{name}, variance of the weighted advantage", before, "1"),
            Row.info(f"{name}, clipped, variance of the weighted advantage", after, "1"),
            Row.info(
                f"{name}, clipped, the same without the clamp",
                table.mean(clipped, agents, "factor/variance_raw"),
                "1",
            ),
            Row.info(
                f"{name}, clipped, mean of the used ratio",
                table.mean(clipped, agents, "factor/mean"),
                "1",
            ),
            Row.info(
                f"{name}, effective share of the samples",
                table.mean(plain, agents, "factor/ess"),
                "1",
            ),
        ]
        for variant in (plain, clipped):
            value = float(table.final(variant, agents).mean())
            rows.append(Row.info(f"N={agents}: {variant}, final return", value, "return"))
        share = f"{name}, clipped over unclipped variance"
        if agents >= MANY:
            rows.append(Row.at_most(share, after / before, "1", VARIANCE))
        else:
            rows.append(Row.info(share, after / before, "1"))
    return rows


def budgets(
    table: RunTable,
    agents: int,
    methods: tuple[str, ...],
    clamps: tuple[Clamp, ...] = CLAMPS,
) -> list[Row]:
    """KL that was allowed and used, inequality of the shares, and cost of an update."""
    rows: list[Row] = []
    for variant in (method + suffix(clamp) for method in methods for clamp in clamps):
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
            *_reliability(table, agents, variant),
            Row.info(f"{name}, collecting", collect, "s/update"),
            Row.info(f"{name}, updating", update, "s/update"),
        ]
    return rows


def _reliability(table: RunTable, agents: int, variant: str) -> list[Row]:
    """How far the measured differences between groups were believed, by methods that use them."""
    if any("trust/reliability" not in run.figures for run in table.of(variant, agents)):
        return []
    name = f"N={agents}: {variant}, reliability of the differences between groups"
    return [Row.info(name, table.mean(variant, agents, "trust/reliability"), "1")]
