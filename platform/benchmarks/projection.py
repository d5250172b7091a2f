"""HPML on a general-sum game, and that it leaves a team game alone.

With ``local_mix`` above 0 every dispatcher weighs its own jobs more than those of others, so the
joint update field has a part that no potential explains; HPML measures it (kappa), compares it with
its noise floor and leaves it out of the update. Compared are the common return, which no agent
alone is trained for, and stability: the spread over seeds and the largest drop from the best policy
that a run had. In a pure team game (``local_mix`` = 0) the trajectory must be the same to the bit.
Do not expect much here: dispatching is a congestion game, and those are close to potential games.
On power (``domain=power``, groups are technologies) a unit's own reward is its own cost, and the
same holds: units meet only through the balance and the lines.
On traffic (``domain=traffic``) every signal answers for its own queues only (``mix`` = 1), though
what it lets go stands at the next one.
Published (arXiv 2605.18809): better stability and normalised return, without a number that could be
compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.settings import knob
from ..progress import Report
from ..rows import Row
from ..statistics import bootstrap, paired_difference
from .learning_plan import PLAIN, DomainOptions, Variant, assignments, heterogeneous
from .learning_runs import run_all, weights
from .learning_table import RunTable

WITH = " + HPML"
KAPPA, FLOOR, ACTIVE = "projection/kappa", "projection/noise_floor", "projection/projected"


class Options(DomainOptions):
    """What to compare."""

    tuned: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "power": {"agents": (40,), "horizon": 72, "episodes": 2},
        "traffic": {"agents": (16,), "horizon": 120, "episodes": 2, "mix": 1.0, "seeds": 5},
    }

    methods: tuple[str, ...] = knob(("mappo", "hatrpo-w"), "learners, each with and without HPML")
    iterations: int = knob(20, "updates of every run", usual="10 ... 200", ge=1)
    agents: tuple[int, ...] = knob((20,), "numbers of agents (power: 40, traffic: 16)")
    episodes: int = knob(1, "episodes per update (power, traffic: 2)", usual="1 ... 16", ge=1)
    evaluation: int = knob(10, "episodes of the final evaluation", usual="10 ... 100", ge=2)
    every: int = knob(4, "updates between evaluations in between (0: none)", ge=0)
    probes: int = knob(3, "episodes of an evaluation in between", usual="2 ... 20", ge=1)
    mix: float = knob(
        0.5,
        "m of the general-sum game: share of the own jobs in a reward (traffic: 1, own queues)",
        gt=0,
        le=1,
    )
    team_updates: int = knob(8, "updates of the team game whose weights are compared", ge=1)


def run(options: Options, progress: Report) -> list[Row]:
    """Train every learner with and without the projection; see ``Options``.

    Raises:
        UserError: an unknown knob, a damaged file of runs, or a run that diverged.
    """
    if options.quick:
        few = (options.subject.few,)
        smaller = {"agents": few, "seeds": 2, "iterations": 3, "episodes": 1, "evaluation": 2}
        more = {"horizon": 24, "every": 1, "probes": 1, "team_updates": 2}
        options = options.model_copy(update={**smaller, **more})
    start = Variant("untrained", {**PLAIN, "local_mix": options.mix}, "untrained")
    chosen = [start, *variants(options.methods, options.mix)]
    wanted = [
        assignment
        for agents in options.agents
        for assignment in assignments(options, chosen, heterogeneous(options, agents))
    ]
    table = run_all(options, wanted, progress)
    rows = [Row.info("m, share of the own jobs in a reward", options.mix, "1")]
    for agents in options.agents:
        for method in options.methods:
            rows += learned(table, agents, method)
            rows += stability(table, agents, method)
            rows += potential(table, agents, method)
        progress(1, 1, f"N={agents}, team game")
        rows += [team(options, agents, method) for method in options.methods]
    if options.plot is not None:
        from .learning_chart import draw_projection

        draw_projection(table, options.methods, options.plot)
    return rows


def variants(methods: Sequence[str], mix: float) -> list[Variant]:
    """Every method without and with the projection, unguided."""
    return [
        Variant(method + WITH * projected, _knobs(method, mix, projected=projected))
        for method in methods
        for projected in (False, True)
    ]


def _knobs(method: str, mix: float, *, projected: bool) -> Mapping[str, Any]:
    projection = {"method": "hpml" if projected else "none"}
    return {**PLAIN, "algorithm": method, "local_mix": mix, "projection": projection}


def learned(table: RunTable, agents: int, method: str) -> list[Row]:
    """What training gained, and that steps with a KL budget kept it."""
    rows: list[Row] = []
    for variant in (method, method + WITH):
        gained = paired_difference(table.final(variant, agents), table.final("untrained", agents))
        name = f"N={agents}: {variant}"
        rows += [
            Row.info(f"{name}, gained over untrained", gained.point, "return"),
            Row.info(f"{name}, gained over untrained, 95 % low", gained.low, "return"),
            Row.info(f"{name}, gained over untrained, 95 % high", gained.high, "return"),
            Row.info(
                f"{name}, KL of a decision and update",
                table.mean(variant, agents, "policy/kl"),
                "nats",
            ),
        ]
        if "trust/total" in table.of(variant, agents)[0].figures:
            used = table.figure(variant, agents, "trust/joint_kl")
            most = float(np.nanmax(used / table.figure(variant, agents, "trust/total")))
            rows.append(Row.at_most(f"{name}, largest used over allowed KL", most, "1", 1.001))
    return rows


def stability(table: RunTable, agents: int, method: str) -> list[Row]:
    """Final common return, its spread over seeds, and the largest drop within a run."""
    rows: list[Row] = []
    for variant in (method, method + WITH):
        final, drops = table.final(variant, agents), largest_drops(table, agents, variant)
        name, interval = f"N={agents}: {variant}", bootstrap(final)
        low, high = np.quantile(final, [0.25, 0.75])
        rows += [
            Row.info(f"{name}, final return", interval.point, "return"),
            Row.info(f"{name}, final return, 95 % low", interval.low, "return"),
            Row.info(f"{name}, final return, 95 % high", interval.high, "return"),
            Row.info(f"{name}, interquartile range over seeds", float(high - low), "return"),
            Row.info(f"{name}, largest drop from the best so far", float(drops.mean()), "return"),
        ]
    for what, measure in (
        ("final return", table.final),
        ("largest drop", lambda variant, agents: largest_drops(table, agents, variant)),
    ):
        change = paired_difference(measure(method + WITH, agents), measure(method, agents))
        name = f"N={agents}: {method}, change of {what} with HPML"
        rows += [
            Row.info(name, change.point, "return"),
            Row.info(f"{name}, 95 % low", change.low, "return"),
            Row.info(f"{name}, 95 % high", change.high, "return"),
        ]
    return rows


def largest_drops(table: RunTable, agents: int, variant: str) -> Doubles:
    """How far a run fell below the best it had been, at worst, ``[seeds]`` (0: it never fell).

    Evaluations in between are used where there are some: they are on the same episodes, whereas
    training returns also move with the episodes.
    """
    _, curves = table.probes(variant, agents)
    if curves.shape[1] < 2:
        curves = table.curves(variant, agents)
    return (np.maximum.accumulate(curves, axis=1) - curves).max(axis=1)


def potential(table: RunTable, agents: int, method: str) -> list[Row]:
    """Non-potentiality over time, how often it was projected away, and what that cost."""
    variant = method + WITH
    kappa, floor = (table.figure(variant, agents, name) for name in (KAPPA, FLOOR))
    third = max(1, kappa.shape[1] // 3)
    name = f"N={agents}: {variant}"
    rows: list[Row] = []
    for when, part in (("first third", slice(0, third)), ("last third", slice(-third, None))):
        rows += [
            Row.info(f"{name}, kappa in the {when}", float(np.nanmean(kappa[:, part])), "1"),
            Row.info(f"{name}, noise floor in the {when}", float(np.nanmean(floor[:, part])), "1"),
        ]
    with_it, without = table.seconds(variant, agents)[1], table.seconds(method, agents)[1]
    return [
        *rows,
        Row.info(f"{name}, updates that projected", table.mean(variant, agents, ACTIVE), "1"),
        Row.info(f"{name}, updating", with_it, "s/update"),
        Row.info(f"{name}, share of the projection in the update", 1.0 - without / with_it, "1"),
    ]


def team(options: Options, agents: int, method: str) -> Row:
    """Largest difference of a weight after training in the team game without and with HPML."""
    few = options.model_copy(update={"iterations": options.team_updates, "seeds": 2, "every": 0})
    chosen = [
        Variant(method, _knobs(method, 0.0, projected=projected)) for projected in (False, True)
    ]
    runs = assignments(few, chosen, heterogeneous(options, agents))[:: few.seeds]
    without, with_it = (weights(assignment) for assignment in runs)
    largest = max(float(np.abs(without[name] - with_it[name]).max()) for name in without)
    name = f"N={agents}: {method}, team game, largest difference of a weight with HPML"
    return Row.near(name, largest, "1", 0.0, 0.0)
