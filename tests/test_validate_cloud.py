"""The cloud's closed forms hold on the simulator, and stop holding when the kernel is broken."""

from __future__ import annotations

import pytest

from fairlead.platform.rows import Row
from fairlead.platform.validation import (
    closed_forms,
    identities,
    intervals,
    many_servers,
    rules,
    single_server,
)
from fairlead.simulators.cloud.metrics import Accounts
from fairlead.simulators.cloud.stations import FirstComeFirstServed, ProcessorSharing


def failed(rows: list[Row]) -> list[str]:
    return [row.name for row in rows if row.passed is False]


def chosen(pattern: str) -> list[Row]:
    checks = [c for c in closed_forms.checks(data=None, quick=True) if pattern in c.name]
    assert checks
    return [row for check in checks for row in check.run()]


@pytest.mark.parametrize(
    "pattern",
    [
        "M/M/1 against",
        "M/D/1 against",
        "PS insensitivity, bounded",
        "Lindley",
        "work conservation",
        "Erlang C, 2",
        "Erlang B insensitivity, exp",
        "simulated, load 0.3",
        "simulated, load 0.5",
        "Little",
        "reward identity",
        "tangents",
        "torch",
        "capacity boundary",
        "packing bounds",
        "makespan bounds",
        "resource fairness",
    ],
)
def test_quick_closed_forms_pass(pattern):
    rows = chosen(pattern)
    assert failed(rows) == []
    assert any(row.passed for row in rows)


@pytest.mark.slow
def test_the_whole_quick_set_passes_without_data():
    rows = closed_forms.rows(quick=True, workers=2)
    assert failed(rows) == []
    assert len(rows) > 80


def faster(monkeypatch: pytest.MonkeyPatch, station: type, factor: float) -> None:
    """Break the kernel: jobs need ``1 / factor`` of their service time."""
    admit = station.admit
    monkeypatch.setattr(
        station, "admit", lambda self, job, service: admit(self, job, service / factor)
    )


@pytest.mark.parametrize(
    ("station", "run", "names"),
    [
        (
            FirstComeFirstServed,
            lambda: single_server.pollaczek_khinchine("M/M/1", intervals.Effort(200_000, True)),
            ["M/M/1, load 0.8: mean wait"],
        ),
        (
            FirstComeFirstServed,
            single_server.lindley,
            [f"{name}: largest gap to Lindley's recursion" for name in single_server.KENDALL],
        ),
        (
            FirstComeFirstServed,
            lambda: many_servers.waiting(10, 8.0, 0.03, intervals.Effort(200_000, True)),
            [
                "M/M/10 with 8 erlangs: probability of waiting",
                "M/M/10 with 8 erlangs: mean wait",
            ],
        ),
        (
            ProcessorSharing,
            lambda: single_server.insensitivity("deterministic", intervals.Effort(100_000, True)),
            ["M/G/1-PS, deterministic, load 0.7: mean response"],
        ),
        (
            ProcessorSharing,
            lambda: many_servers.static_split(0.5, intervals.Effort(50_000, True)),
            ["square-root split simulated, load 0.5: mean response"],
        ),
    ],
)
def test_a_server_that_is_five_percent_too_fast_is_found(monkeypatch, station, run, names):
    faster(monkeypatch, station, 1.05)
    assert failed(run()) == names


def test_a_reward_that_forgets_a_thousandth_of_the_cost_is_found(monkeypatch):
    close = Accounts.close

    def forgetful(self, epoch):
        cost = close(self, epoch)
        object.__setattr__(cost, "response", cost.response * 0.999)
        return cost

    monkeypatch.setattr(Accounts, "close", forgetful)
    names = failed(identities.rewards(20))
    assert names == [f"reward identity, {d}: cost over time in system" for d in ("ps", "fcfs")]


def test_a_rule_that_opens_a_bin_for_every_item_breaks_the_packing_bound(monkeypatch):
    monkeypatch.setattr(rules, "bins_used", lambda policy, sizes: len(sizes))
    assert len(failed(rules.packing(40))) == 3


def test_overfull_bins_are_found(monkeypatch):
    used = rules.bins_used
    monkeypatch.setattr(rules, "bins_used", lambda policy, sizes: max(used(policy, sizes) - 1, 1))
    assert any("OPT, best" in name for name in failed(rules.packing(40)))


def test_interval_rows_fail_for_a_wrong_value_and_for_a_wide_interval():
    effort = intervals.Effort(1000, quick=False)
    oracle = intervals.Oracle("figure", 1.0, "s")
    sharp = intervals.interval_rows([oracle], lambda seed, jobs: (1.0 + 1e-3 * (seed % 2),), effort)
    assert [row.passed for row in sharp] == [False, True]
    wide = intervals.interval_rows([oracle], lambda seed, jobs: (seed / 9.5,), effort)
    assert [row.passed for row in wide] == [True, False]


def test_student_quantiles_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for level, quantile in intervals.STUDENT.items():
        assert quantile == pytest.approx(stats.t.ppf(0.5 + level / 2, 19), abs=1e-6)
