"""The rows of the regret bench: costs, gaps, regret, unserved energy, speed, and who wins where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Bools, Doubles
from ...simulators.power.accounts import PARTS
from ..evaluation import EvaluationTable
from ..rows import Row
from ..statistics import Interval, bootstrap, paired_difference

MPC = "mpc"
"""The look-ahead rule that everybody is compared with."""
WITHIN = 1.0
"""% above the cost of ``mpc`` that a trained policy may take."""
FASTER = 50.0
"""Times that its decisions must be faster."""
UNSERVED = 1e-6
"""MWh that count as none."""
CENT = 0.01
"""$ below which two costs of a day do not differ."""
BEHIND = ("merit-order", "proportional", "greedy-reference")
"""Rules that a trained policy should be ahead of."""

SHOWN = {
    "shed_mwh": ("shed", "MWh"),
    "overload_mwh": ("overload", "MWh"),
    "overload_intervals": ("intervals with overload", "1"),
    "curtailed_mwh": ("curtailed", "MWh"),
    "projection_mw": ("projection", "MW"),
    "regulation_mwh": ("moved by regulation", "MWh"),
    "decision_p50": ("decision, p50", "ms"),
    "decision_p99": ("decision, p99", "ms"),
}
"""Figures of an episode that are shown as means over days: what they are called, and the unit."""

Side = Literal["with", "without"]


@dataclass(frozen=True, slots=True)
class Standing:
    """All episodes of one setting, and the lower bound ``[seeds]`` $ of every day, if known."""

    setting: str
    table: EvaluationTable
    bounds: NDArray[np.float64] | None

    def cost(self, name: str) -> Doubles:
        """$ of every day."""
        return self.table.values(name, "cost_usd")

    def gap(self, name: str, days: Bools | None = None) -> Interval:
        """% above the mean cost of ``mpc`` on these days, with its paired interval."""
        chosen = np.ones(len(self.table.seeds), bool) if days is None else days
        theirs = self.cost(MPC)[chosen]
        difference = paired_difference(self.cost(name)[chosen], theirs)
        scale = 100.0 / float(theirs.mean())
        return Interval(
            difference.point * scale,
            difference.low * scale,
            difference.high * scale,
            difference.level,
        )

    def failures(self) -> Bools:
        """Days on which a unit or a branch fails; the same for everybody."""
        happened = self.table.values(MPC, "unit_trips") + self.table.values(MPC, "branch_outages")
        return happened > 0.0


def setting_rows(standing: Standing, *, marked: bool, wrong: bool = False) -> list[Row]:
    """Every controller, cheapest first; a policy's promises are ``marked``.

    ``wrong``: forecasts are worse than measured, which is where (with days of failures) a policy
    is promised to be ahead of the rules in :data:`BEHIND`.
    """
    names = sorted(standing.table.names, key=lambda name: float(standing.cost(name).mean()))
    rows: list[Row] = []
    if standing.bounds is not None:
        bound = float(standing.bounds.mean())
        rows.append(Row.info(f"{standing.setting}: perfect foresight, at least", bound, "$"))
    for name in names:
        policy = standing.table.about(name)[0] == "policy"
        rows += _controller_rows(standing, name)
        if name != MPC:
            rows += _against_mpc(standing, name, marked=marked and policy)
        if policy:
            rows += _ahead_rows(standing, name, marked=marked, wrong=wrong)
            rows += _where_mpc_wins(standing, name)
    return rows


def _controller_rows(standing: Standing, name: str) -> list[Row]:
    label, cost = f"{standing.setting}: {name}", standing.cost(name)
    rows = _interval(f"{label}, cost of a day", bootstrap(cost), "$")
    if standing.bounds is not None:
        regret = 100.0 * (cost.mean() / standing.bounds.mean() - 1.0)
        rows.append(Row.info(f"{label}, above perfect foresight", float(regret), "%"))
    for figure, (what, unit) in SHOWN.items():
        mean = float(standing.table.values(name, figure).mean())
        rows.append(Row.info(f"{label}, {what}", mean, unit))
    return rows


def _against_mpc(standing: Standing, name: str, *, marked: bool) -> list[Row]:
    label = f"{standing.setting}: {name}"
    gap, what = standing.gap(name), f"{label}, above {MPC}"
    difference = paired_difference(standing.cost(name), standing.cost(MPC))
    shed = np.maximum(_figure(standing, name, "shed_mwh") - _figure(standing, MPC, "shed_mwh"), 0.0)
    avoided = f"{label}, unserved energy that {MPC} avoids"
    times = _figure(standing, MPC, "decision_p50") / _figure(standing, name, "decision_p50")
    faster, speed = f"{label}, decisions faster than {MPC}'s", float(np.median(times))
    rows = _interval(f"{what}, a day", difference, "$")
    if marked:
        rows += [
            Row.at_most(what, gap.point, "%", WITHIN),
            Row.at_most(avoided, float(shed.mean()), "MWh", UNSERVED),
            Row.at_least(faster, speed, "1", FASTER),
        ]
    else:
        rows += [
            Row.info(what, gap.point, "%"),
            Row.info(avoided, float(shed.mean()), "MWh"),
            Row.info(faster, speed, "1"),
        ]
    rows += [Row.info(f"{what}, 95 % low", gap.low, "%")]
    rows += [Row.info(f"{what}, 95 % high", gap.high, "%")]
    return rows + _breakdown(standing, name)


def _breakdown(standing: Standing, name: str) -> list[Row]:
    """The gap on days with failures and on days without."""
    rows: list[Row] = []
    failures = standing.failures()
    for side, days in (("with", failures), ("without", ~failures)):
        if days.any():
            what = f"{standing.setting}: {name}, above {MPC}, days {side} a failure"
            rows.append(
                Row.info(f"{what} ({int(days.sum())})", standing.gap(name, days).point, "%")
            )
    return rows


def _ahead_rows(standing: Standing, name: str, *, marked: bool, wrong: bool) -> list[Row]:
    """What a policy saves against rules, on all days and on those with failures."""
    failures, rows = standing.failures(), list[Row]()
    for rival in BEHIND:
        if rival not in standing.table.names:
            continue
        saved = standing.cost(rival) - standing.cost(name)
        what = f"{standing.setting}: {name}, saved against {rival}, a day"
        parts = [(what, saved, wrong)]
        if failures.any():
            days = f"{what}, days with a failure ({int(failures.sum())})"
            parts.append((days, saved[failures], marked or wrong))
        for label, values, promised in parts:
            ahead, low = bootstrap(values), f"{label}, 95 % low"
            rows.append(Row.info(label, ahead.point, "$"))
            row = Row.at_least(low, ahead.low, "$", 0.0) if promised else None
            rows.append(row or Row.info(low, ahead.low, "$"))
    return rows


def _where_mpc_wins(standing: Standing, name: str) -> list[Row]:
    """Days and parts of the cost on which ``mpc`` is cheaper than a policy."""
    label = f"{standing.setting}: {MPC} cheaper than {name}"
    dearer = standing.cost(name) - standing.cost(MPC)
    wins, days = dearer > CENT, dearer.shape[0]
    rows = [Row.info(f"{label}, days of {days}", int(wins.sum()), "1")]
    if wins.any():
        worst = int(np.argmax(dearer))
        rows += [
            Row.info(f"{label}, on these days", float(dearer[wins].mean()), "$"),
            Row.info(f"{label}, at most (seed {standing.table.seeds[worst]})", dearer[worst], "$"),
        ]
    for part in PARTS:
        figure = f"cost_{part}_usd"
        apart = float((_figure(standing, name, figure) - _figure(standing, MPC, figure)).mean())
        if apart > CENT:
            rows.append(Row.info(f"{label}, in {part}, a day", apart, "$"))
    return rows


def _figure(standing: Standing, name: str, figure: str) -> Doubles:
    return standing.table.values(name, figure)


def _interval(name: str, interval: Interval, unit: str) -> list[Row]:
    return [
        Row.info(name, interval.point, unit),
        Row.info(f"{name}, 95 % low", interval.low, unit),
        Row.info(f"{name}, 95 % high", interval.high, unit),
    ]
