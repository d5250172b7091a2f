"""What each part buys and costs: from IPPO to DG-PG + HATRPO-W + clamp + HPML, beside the rules.

All learners take the same environment steps. The first four are plain, the others add guidance, the
clamped compound ratio, the budgets and the projection one after another. The rules include greedy
on the reference state: guided learning that does not beat it has learned nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...simulators.settings import knob
from ..evaluation import Entrant
from ..progress import Report
from ..rows import Row
from ..statistics import bootstrap, paired_difference
from ..tasks import DomainFactory
from .learning_plan import PLAIN, RunOptions, Variant, assignments, heterogeneous
from .learning_runs import run_all
from .learning_table import RunTable

GREEDY = "greedy-reference"
"""The rule that follows the analytical model and has learned nothing."""
CLIP: dict[str, Any] = {"clip_factor": True}
HPML: dict[str, Any] = {"projection": {"method": "hpml"}}

VARIANTS: tuple[Variant, ...] = (
    Variant("IPPO", {**PLAIN, "algorithm": "ippo"}),
    Variant("MAPPO", {**PLAIN, "algorithm": "mappo"}),
    Variant("HAPPO", {**PLAIN, "algorithm": "happo"}),
    Variant("HATRPO", {**PLAIN, "algorithm": "hatrpo"}),
    Variant("HATRPO + DG", {"algorithm": "hatrpo"}),
    Variant("HATRPO + DG + clip", {"algorithm": "hatrpo", **CLIP}),
    Variant("HATRPO + DG + clip + W", {"algorithm": "hatrpo-w", **CLIP}),
    Variant("HATRPO + DG + clip + G", {"algorithm": "hatrpo-g", **CLIP}),
    Variant("HATRPO + DG + clip + W + HPML", {"algorithm": "hatrpo-w", **CLIP, **HPML}),
)
STEPS = (
    ("HATRPO + DG", "HATRPO"),
    ("HATRPO + DG + clip", "HATRPO + DG"),
    ("HATRPO + DG + clip + W", "HATRPO + DG + clip"),
    ("HATRPO + DG + clip + G", "HATRPO + DG + clip"),
    ("HATRPO + DG + clip + W + HPML", "HATRPO + DG + clip + W"),
)
"""Which variant adds one part to which other."""


class Options(RunOptions):
    """What to train."""

    agents: tuple[int, ...] = knob((50,), "numbers of dispatchers")
    seeds: int = knob(5, "training runs of every variant, with seeds in common", ge=2)
    iterations: int = knob(12, "updates of every run", usual="10 ... 200", ge=1)
    episodes: int = knob(1, "episodes per update", usual="1 ... 16", ge=1)
    evaluation: int = knob(10, "episodes of the final evaluation", usual="10 ... 100", ge=2)
    every: int = knob(3, "updates between evaluations in between (0: none)", ge=0)
    probes: int = knob(2, "episodes of an evaluation in between", usual="2 ... 20", ge=1)
    variants: tuple[str, ...] = knob(
        tuple(variant.name for variant in VARIANTS), "which rows of the matrix"
    )
    guided: bool = knob(False, "also MAPPO with guidance, the default of fairlead train")
    mix: float = knob(0.0, "m of the general-sum game (0: a team)", ge=0, le=1)


def run(options: Options, progress: Report) -> list[Row]:
    """Train every variant, play every rule; see ``Options``.

    Raises:
        UserError: an unknown knob, a damaged file of runs, or a run that diverged.
        ValueError: an unknown variant; names the known ones.
    """
    if options.quick:
        smaller = {"agents": (8,), "seeds": 2, "iterations": 2, "episodes": 1, "evaluation": 2}
        options = options.model_copy(update={**smaller, "horizon": 20, "every": 1, "probes": 1})
    chosen = chosen_variants(options)
    wanted = []
    rules: dict[int, list[Entrant]] = {}
    for agents in options.agents:
        scenario = heterogeneous(options, agents)
        factory = DomainFactory("cloud", "dispatch", scenario)
        rules[agents] = [Entrant.rule(rule) for rule in factory.heuristics()]
        played = [Variant(rule.name, {}, "rule") for rule in rules[agents]]
        start = Variant("untrained", PLAIN, "untrained")
        wanted += assignments(options, [*chosen, start, *played], scenario)
    table = run_all(options, wanted, progress)
    rows: list[Row] = []
    for agents in options.agents:
        rows += baseline_rows(table, agents, rules[agents])
        rows += learner_rows(table, agents, [v.name for v in chosen], rules[agents])
    if options.plot is not None:
        from .learning_chart import draw_ablation

        shown = [variant.name for variant in chosen]
        bars = {agents: lines(table, agents, rules[agents]) for agents in options.agents}
        draw_ablation(table, shown, bars, options.plot)
    return rows


def chosen_variants(options: Options) -> list[Variant]:
    """The rows of the matrix that are wanted, in its order.

    Raises:
        ValueError: an unknown name; names the known ones.
    """
    known = {variant.name: variant for variant in VARIANTS}
    for name in options.variants:
        if name not in known:
            raise ValueError(f"variants: no variant {name!r}; known: {', '.join(known)}")
    found = [variant for variant in VARIANTS if variant.name in options.variants]
    if options.guided:
        found.append(Variant("MAPPO + DG", {"algorithm": "mappo"}))
    return [Variant(v.name, {**v.knobs, "local_mix": options.mix}) for v in found]


def best_rule(table: RunTable, agents: int, rules: Sequence[Entrant], information: str) -> str:
    """The rule with the highest mean return among those with this information."""
    names = [rule.name for rule in rules if rule.information == information]
    return max(names, key=lambda name: float(table.final(name, agents)[0]))


def lines(table: RunTable, agents: int, rules: Sequence[Entrant]) -> dict[str, float]:
    """Mean response of the rules that a chart shows, by caption, s."""
    same, fresh = (best_rule(table, agents, rules, which) for which in ("same", "fresh"))
    found = {
        f"greedy on the reference ({GREEDY})": GREEDY,
        f"best rule, same information ({same})": same,
        f"best rule, fresh information ({fresh.removesuffix(' (fresh)')})": fresh,
    }
    return {caption: -float(table.final(name, agents)[0]) for caption, name in found.items()}


def baseline_rows(table: RunTable, agents: int, rules: Sequence[Entrant]) -> list[Row]:
    """Mean response of the untrained policy and of every rule, best first."""
    start = -float(table.final("untrained", agents).mean())
    rows = [Row.info(f"N={agents}: untrained, mean response", start, "s")]
    bar = best_rule(table, agents, rules, "same")
    for rule in sorted(rules, key=lambda rule: -float(table.final(rule.name, agents)[0])):
        mark = ", best with the same information" if rule.name == bar else ""
        value = -float(table.final(rule.name, agents)[0])
        rows.append(Row.info(f"N={agents}: {rule.name}{mark}, mean response", value, "s"))
    return rows


def learner_rows(
    table: RunTable, agents: int, names: Sequence[str], rules: Sequence[Entrant]
) -> list[Row]:
    """Final response, distance to the rules, what one more part changed, and cost."""
    rows: list[Row] = []
    bar = best_rule(table, agents, rules, "same")
    for variant in names:
        name, response = f"N={agents}: {variant}", -table.final(variant, agents)
        interval = bootstrap(response)
        collect, update = table.seconds(variant, agents)
        rows += [
            Row.info(f"{name}, mean response", interval.point, "s"),
            Row.info(f"{name}, mean response, 95 % low", interval.low, "s"),
            Row.info(f"{name}, mean response, 95 % high", interval.high, "s"),
        ]
        for rule in dict.fromkeys((bar, GREEDY)):
            shorter = bootstrap(-float(table.final(rule, agents)[0]) - response)
            rows += [
                Row.info(f"{name}, shorter than {rule}", shorter.point, "s"),
                Row.info(f"{name}, shorter than {rule}, 95 % low", shorter.low, "s"),
            ]
        rows += [
            Row.info(f"{name}, collecting", collect, "s/update"),
            Row.info(f"{name}, updating", update, "s/update"),
        ]
    for more, less in STEPS:
        if more in names and less in names:
            ours, theirs = -table.final(more, agents), -table.final(less, agents)
            change = paired_difference(ours, theirs)
            label = f"N={agents}: {more}, change from {less}"
            cost = table.seconds(more, agents)[1] / table.seconds(less, agents)[1]
            rows += [
                Row.info(f"{label}, mean response", change.point, "s"),
                Row.info(f"{label}, mean response, 95 % low", change.low, "s"),
                Row.info(f"{label}, mean response, 95 % high", change.high, "s"),
                Row.info(f"{label}, cost of an update", float(np.float64(cost)), "times"),
            ]
    return rows
