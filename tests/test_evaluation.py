"""Evaluation on common seeds: figures by hand, executors that agree, files that come back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from toys import RingModel, RingSimulator

from fairlead.platform.cloud import UNITS
from fairlead.platform.evaluation import Entrant, EvaluationTable, evaluate, unit_of
from fairlead.platform.executors import InlineExecutor, ProcessExecutor
from fairlead.platform.files import UserError


@dataclass(frozen=True)
class Fixed:
    """Every active agent takes the same candidate, or the emptiest neighbour for ``None``."""

    name: str
    candidate: int | None
    information: str = "same"

    def act(self, observation, rng):
        wanted = self.candidate
        if wanted is None:
            wanted = 1 + observation.candidates[:, 1:, 1].argmin(axis=1)
        return np.where(observation.active, wanted, 0).astype(np.int64)


RULES = (Fixed("own", 2), Fixed("left", 1), Fixed("emptiest", None), Fixed("hold", 0))


@dataclass(frozen=True)
class Ring:
    """Picklable factory of the toy."""

    def simulator(self):
        return RingSimulator(agents=4, horizon=5)

    def model(self, reference):
        return RingModel(self.simulator())

    def heuristics(self):
        return RULES


SEEDS = [11, 12, 13, 14, 15, 16]


@pytest.fixture(scope="module")
def table() -> EvaluationTable:
    entrants = [Entrant.rule(rule) for rule in RULES]
    entrants.append(Entrant("learned", Fixed("anything", None), "policy"))
    with InlineExecutor(Ring()) as executor:
        return evaluate(executor, entrants, SEEDS, bound=2.0)


def played(rule: Fixed, seed: int) -> float:
    simulator, rng = RingSimulator(agents=4, horizon=5), np.random.default_rng()
    observation, total = simulator.reset(seed), 0.0
    for _ in range(5):
        step = simulator.step(rule.act(observation, rng))
        observation, total = step.observation, total + step.reward
    return total


def test_returns_are_those_of_the_episodes(table):
    for rule in RULES:
        assert table.values(rule.name).tolist() == [played(rule, seed) for seed in SEEDS]
    assert table.seeds == SEEDS
    assert table.names == ["own", "left", "emptiest", "hold", "learned"]
    assert table.values("own", "component.load") == pytest.approx(table.values("own"))


def test_regret_is_relative_to_the_bound(table):
    assert table.values("own", "regret") == pytest.approx(-table.values("own") / 2.0 - 1.0)


def test_standings_compare_with_the_best_rule_of_the_same_information(table):
    returns = {name: table.values(name) for name in table.names}
    best = max(("own", "left", "emptiest", "hold"), key=lambda name: returns[name].mean())
    assert table.bar() == best
    by_name = {standing.name: standing for standing in table.standings()}
    assert by_name[best].difference is None
    learned = by_name["learned"]
    assert learned.difference.point == pytest.approx((returns["learned"] - returns[best]).mean())
    won = (returns["learned"] > returns[best]) + 0.5 * (returns["learned"] == returns[best])
    assert learned.improvement.point == pytest.approx(won.mean())
    assert learned.mean.point == pytest.approx(returns["learned"].mean())
    assert learned.iqm.point == pytest.approx(np.sort(returns["learned"])[1:-1].mean())
    means = [standing.mean.point for standing in table.standings()]
    assert means == sorted(means, reverse=True)


def test_a_fresh_rule_is_never_the_bar():
    entrants = [
        Entrant("bound", Fixed("bound", None), "heuristic", "fresh"),
        Entrant("plain", Fixed("plain", 1), "heuristic", "same"),
        Entrant("learned", Fixed("learned", None), "policy", "same"),
    ]
    with InlineExecutor(Ring()) as executor:
        found = evaluate(executor, entrants, SEEDS[:2])
    assert found.bar() == "plain"


def test_rows_hold_the_figures(table):
    rows = {row.name: row for row in table.to_rows(UNITS)}
    assert rows["own: return mean"].measured == pytest.approx(table.values("own").mean())
    low = rows["own: return mean, 95 % low"].measured
    assert low < rows["own: return mean"].measured < rows["own: return mean, 95 % high"].measured
    assert rows["own: metric.return"].measured == pytest.approx(table.values("own").mean())
    assert f"learned: probability of improvement on {table.bar()}" in rows
    found = [unit_of(name, UNITS) for name in ("response_mean", "jain", "energy_kwh")]
    assert found == ["s", "1", "kWh"]
    assert unit_of("response_mean", {}) == "1"
    assert unit_of("component.load", {}) == "return"
    power = {"mwh": "MWh", "mw": "MW", "price": "$/MWh"}
    names = ("overload_mwh", "overload_worst_mw", "overload_intervals", "average_price")
    assert [unit_of(name, power) for name in names] == ["MWh", "MW", "1", "$/MWh"]


def test_worker_processes_change_nothing(table):
    entrants = [Entrant.rule(rule) for rule in RULES[:2]]
    seen = []
    with ProcessExecutor(Ring(), workers=2) as executor:
        again = evaluate(executor, entrants, SEEDS, bound=2.0, progress=lambda *a: seen.append(a))
    rows = len(entrants) * len(SEEDS)
    assert again.frame.equals(table.frame.head(rows))
    assert [done for done, _, _ in seen] == list(range(1, rows + 1))


def test_parquet_comes_back_and_damage_is_named(table, tmp_path):
    path = tmp_path / "evaluation.parquet"
    table.write(path)
    assert EvaluationTable.read(path).frame.equals(table.frame)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"cannot read evaluation .*evaluation\.parquet"):
        EvaluationTable.read(path)
    table.frame.drop("seed").write_parquet(path)
    with pytest.raises(UserError, match="it lacks seed"):
        EvaluationTable.read(path)
    assert len(table.to_json()["episodes"]) == 5 * len(SEEDS)


def test_what_is_asked_must_exist_once(table):
    with pytest.raises(KeyError, match="no 'right' in this evaluation; known: own, left"):
        table.values("right")
    with InlineExecutor(Ring()) as executor:
        with pytest.raises(ValueError, match="seeds to evaluate: got 3 twice"):
            evaluate(executor, [Entrant.rule(RULES[0])], [3, 3])
        with pytest.raises(ValueError, match="controllers to evaluate: got none"):
            evaluate(executor, [], [3])
