"""Benches of the power domain: timings, speed, scaling, variance, and the comparison of costs."""

from __future__ import annotations

import numpy as np
import pytest
from power_data import DATA

from fairlead.platform.benchmarks import (
    dgpg_scaling,
    dgpg_variance,
    dispatch_regret,
    power_model,
    power_simulator,
)
from fairlead.platform.benchmarks.hot_times import hot_seconds
from fairlead.platform.benchmarks.regret_play import Archive, Clocked, ClockedFactory
from fairlead.platform.benchmarks.regret_rows import Standing, setting_rows
from fairlead.platform.benchmarks.subjects import SUBJECTS, OneDay, noise_of
from fairlead.platform.cli.bench import build_options
from fairlead.platform.evaluation import EvaluationTable
from fairlead.platform.files import UserError
from fairlead.platform.progress import silent
from fairlead.policies.settings import LearnerConfig
from fairlead.simulators.errors import DataError


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))


def by_name(rows):
    return {row.name: row for row in rows}


def test_hot_seconds_is_the_median_of_the_fastest_pass(monkeypatch):
    # Warm-up, then two passes of three solves: 5, 1, 9 and 2, 4, 3 seconds.
    ticks = iter(np.cumsum([0.0, 5, 0, 1, 0, 9, 0, 2, 0, 4, 0, 3]))
    monkeypatch.setattr(
        "fairlead.platform.benchmarks.hot_times.time.perf_counter", lambda: next(ticks)
    )
    calls = []
    work = [lambda item=item: calls.append(item) for item in range(3)]
    assert hot_seconds(work, 2) == 3.0
    assert calls == [0, 1, 2] * 3


def test_without_data_generated_systems_stand_in_and_nothing_is_marked_by_time(no_data):
    options = power_model.Options(units=(12,), passes=1, loads=3, quick=False, day=False)
    rows = by_name(power_model.run(options, silent))
    assert rows["DC-OPF, generated, 12 units: hot re-solve"].passed is None
    apart = rows["DC-OPF, generated, 12 units: objectives apart, relative"]
    assert apart.passed and float(apart.measured) <= 1e-6
    assert not any("PGLib" in name or "RTS" in name for name in rows)
    batch = next(row for name, row in rows.items() if name.endswith("balance error"))
    assert batch.passed


def test_a_named_folder_without_the_files_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        power_model.run(power_model.Options(data=tmp_path), silent)
    with pytest.raises(DataError, match="no such file"):
        power_simulator.run(power_simulator.Options(data=tmp_path), silent)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "power").is_dir(), reason=f"needs {DATA / 'power'}")
def test_with_data_every_published_instance_is_timed_against_its_mark():
    rows = by_name(power_model.run(power_model.Options(data=DATA, quick=True), silent))
    marks = {14: 0.02, 118: 0.11, 1354: 4.7}
    for buses, mark in marks.items():
        assert rows[f"DC-OPF, PGLib {buses} buses: hot re-solve"].target == mark
        assert rows[f"DC-OPF, PGLib {buses} buses: objectives apart, relative"].passed
    assert rows["DC-OPF, RTS-GMLC hour: hot re-solve"].target == 1.8
    assert rows["24 h multi-period dispatch, RTS-GMLC: hot re-solve after new loads"].target == 410


def test_simulator_bench_measures_speed_and_flat_memory(no_data):
    options = power_simulator.Options(units=(10,), episodes=1, hours=1, regulation=True)
    rows = by_name(power_simulator.run(options, silent))
    for regulated in ("without", "with"):
        for seen in ("without", "with"):
            name = f"generated, 10 units, {regulated} regulation, {seen} features: simulated days"
            assert float(rows[name].measured) > 0.0 and rows[name].passed is None
    assert rows["growth of peak memory, 8 episodes over 2"].target == 1.1


def test_power_scales_over_generated_systems_from_nothing_and_plain_learners_beside():
    power = SUBJECTS["power"]
    assert power.agents == (10, 20, 50, 100, 200, 400, 600)
    values = power.factory(20, 24, None).values().model_dump()
    assert (values["units"], values["hours"], values["network"]) == (20, 2, True)
    guided = power.learner("dgpg")
    assert guided.guided and guided.network.base == 0.0 < power.config().learner.network.base
    plain = power.learner("ippo")
    assert plain.algorithm == "ippo" and not plain.guided and plain.sharing == "group"
    cloud = SUBJECTS["cloud"]
    assert cloud.learner("dgpg") == LearnerConfig()
    with pytest.raises(UserError, match="no offered load"):
        power.factory(20, 24, 0.5)
    with pytest.raises(UserError, match="whole hours of 12"):
        power.factory(20, 30, None)


def test_scaling_bench_runs_on_power_and_shows_dollars(tmp_path):
    picture = tmp_path / "scaling.svg"
    options = dgpg_scaling.Options(
        domain="power", agents=(10,), episodes=2, plain_episodes=1, plain_every=1, evaluation=2,
        horizon=12, learners=("dgpg", "mappo"), fresh=("dc-opf",), workers=1, plot=picture,
    )  # fmt: skip
    rows = by_name(dgpg_scaling.run(options, silent))
    assert rows["N=10: dgpg, episodes to convergence"].target == 10
    assert float(rows["N=10: dgpg, final cost"].measured) > 0.0
    assert rows["N=10: dc-opf, cost"].unit == "$"
    assert "N=10: greedy-reference" not in rows  # not asked for: it sees more than a policy
    assert rows["N=10: dgpg, ahead of dc-opf, 95 % low"].passed is None
    assert "minus cost" in picture.read_text()


def test_noise_is_measured_on_one_day_whose_episodes_differ_by_what_agents_do():
    setting = noise_of(SUBJECTS["power"], 10, 12, 0.5, 1)
    assert isinstance(setting.factory, OneDay) and setting.scale > 1e3
    simulator = setting.factory.simulator()
    first, second = (simulator.reset(seed) for seed in (3, 4))
    np.testing.assert_array_equal(first.exogenous, second.exogenous)


@pytest.mark.parametrize("truth", [0.01, 1.0, 30.0])
def test_noise_over_signal_is_read_from_cosines(truth):
    rng = np.random.default_rng(0)
    estimates = 1.0 + np.sqrt(truth) * rng.standard_normal((200, 12, 1000))
    others = (estimates.sum(axis=1, keepdims=True) - estimates) / 11
    norms = np.linalg.norm(estimates, axis=2) * np.linalg.norm(others, axis=2)
    cosine = float(((estimates * others).sum(axis=2) / norms).mean())
    assert dgpg_variance.ratio(cosine, 12) == pytest.approx(truth, rel=0.05)
    assert dgpg_variance.ratio(-0.1, 12) == np.inf


def test_variance_bench_runs_on_power():
    options = dgpg_variance.Options(
        domain="power", agents=(10, 20), episodes=4, horizon=12, updates=0, systems=1, workers=1
    )
    rows = by_name(dgpg_variance.run(options, silent))
    assert rows["N=10: guidance, variance per agent"].unit == "($/h)^2"
    assert rows["slope of log variance over log N, return"].passed is None
    assert rows["slope of log noise over signal over log N, return"].expected == 1.0
    slope = rows["slope of log noise over signal over log N, guidance"]
    ratios = [float(rows[f"N={n}: guidance, noise over signal"].measured) for n in (10, 20)]
    assert slope.target == 0.15
    assert float(slope.measured) == pytest.approx(np.log2(ratios[1] / ratios[0]))
    with pytest.raises(UserError, match="no offered load"):
        dgpg_variance.run(options.model_copy(update={"load": 0.5}), silent)


def test_decisions_are_timed_without_the_first():
    factory = ClockedFactory("power", "generated", {"name": "generated", "units": 10, "hours": 1})
    simulator = factory.simulator()
    assert isinstance(simulator, Clocked)
    observation = simulator.reset(0)
    for epoch in range(4):
        for _ in range(400_000 if epoch == 0 else 0):  # a slow first decision
            pass
        observation = simulator.step(observation.low).observation
    figures = simulator.metrics()
    assert 0.0 <= figures["decision_p50"] <= figures["decision_p99"] < 2.0
    assert figures["cost_usd"] > 0.0


def test_regret_bench_compares_draws_and_continues_where_it_was(tmp_path):
    archive, picture = tmp_path / "episodes.jsonl", tmp_path / "gaps.svg"
    options = dispatch_regret.Options(
        rules=("merit-order",), units=10, hours=1, seeds=2, errors=(1.0,), workers=1,
        archive=archive, plot=picture,
    )  # fmt: skip
    rows = by_name(dispatch_regret.run(options, silent))
    what = "forecast error x 1: merit-order"
    cost = float(rows[f"{what}, cost of a day"].measured)
    bound = float(rows["forecast error x 1: perfect foresight, at least"].measured)
    assert 0.0 < bound <= cost
    assert rows[f"{what}, above perfect foresight"].measured == pytest.approx(
        100.0 * (cost / bound - 1.0)
    )
    assert float(rows[f"{what}, decisions faster than mpc's"].measured) > 1.0
    assert "cost above mpc" in picture.read_text()
    lines = archive.read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    # Two finished episodes are lost; the rest is taken from the file.
    archive.write_text("\n".join(lines[:-2]) + "\n")
    again = by_name(dispatch_regret.run(options, silent))
    assert again[f"{what}, cost of a day"].measured == cost
    assert sorted(archive.read_text().splitlines()) == sorted(lines)
    with pytest.raises(UserError, match="other settings"):
        dispatch_regret.run(options.model_copy(update={"hours": 2}), silent)


def test_a_damaged_archive_names_its_line(tmp_path):
    path = tmp_path / "episodes.jsonl"
    Archive(path, {"a": 1}).add(("s", "mpc", 3), {"cost_usd": 1.0})
    path.write_text(path.read_text() + '{"key": ["s"')
    with pytest.raises(UserError, match=r"episodes\.jsonl:3 is no finished episode"):
        Archive(path, {"a": 1})


def test_rows_say_where_look_ahead_wins_and_marks_stand_on_policies_only():
    standing = controllers(ours=(101.0, 99.0, 130.0), shed=(0.0, 0.0, 0.5))
    rows = by_name(setting_rows(standing, marked=True))
    gap = rows["s: policy, above mpc"]
    assert gap.measured == pytest.approx(10.0) and gap.passed is False
    assert rows["s: policy, unserved energy that mpc avoids"].passed is False
    assert rows["s: policy, decisions faster than mpc's"].passed
    assert rows["s: mpc cheaper than policy, days of 3"].measured == 2
    assert rows["s: mpc cheaper than policy, at most (seed 2)"].measured == 30.0
    assert rows["s: mpc cheaper than policy, in fuel, a day"].measured == pytest.approx(10.0)
    assert rows["s: policy, above mpc, days with a failure (1)"].measured == pytest.approx(30.0)
    assert rows["s: policy, above mpc, days without a failure (2)"].measured == pytest.approx(0.0)
    rival = "s: policy, saved against merit-order, a day"
    assert rows[rival].measured == pytest.approx(0.0)
    assert rows[f"{rival}, 95 % low"].passed is None
    assert rows[f"{rival}, days with a failure (1), 95 % low"].passed  # 140 $ against 130 $
    wrong = by_name(setting_rows(standing, marked=False, wrong=True))
    assert wrong[f"{rival}, 95 % low"].passed is False
    plain = by_name(setting_rows(standing, marked=False))
    assert all(row.passed is None for row in plain.values())
    within = controllers(ours=(100.5, 100.0, 100.0), shed=(0.0, 0.0, 0.0))
    assert by_name(setting_rows(within, marked=True))["s: policy, above mpc"].passed


def controllers(*, ours, shed):
    """A policy beside ``mpc``, which pays 100 $ every day, and a rule; a unit trips on the last."""
    import polars as pl

    from fairlead.simulators.power.accounts import PARTS

    others = ("overload_mwh", "overload_intervals", "curtailed_mwh", "projection_mw")
    others += ("regulation_mwh", "branch_outages", *(f"cost_{part}_usd" for part in PARTS))
    none = dict.fromkeys(others, 0.0)
    records = []
    for name, kind, costs, sheds, milliseconds in (
        ("policy", "policy", ours, shed, 0.1),
        ("mpc", "heuristic", (100.0,) * 3, (0.0,) * 3, 10.0),
        ("merit-order", "heuristic", (95.0, 95.0, 140.0), (0.0,) * 3, 0.05),
    ):
        information = "central" if name == "mpc" else "same"
        for seed, (cost, lost) in enumerate(zip(costs, sheds, strict=True)):
            records.append(
                {"controller": name, "kind": kind, "information": information, "seed": seed}
                | {"return": -cost, **none, "cost_usd": cost, "cost_fuel_usd": cost}
                | {"shed_mwh": lost, "unit_trips": float(seed == 2)}
                | {"decision_p50": milliseconds, "decision_p99": 2.0 * milliseconds}
            )
    return Standing("s", EvaluationTable(pl.DataFrame(records)), np.full(3, 95.0))


def test_unknown_knobs_rules_and_bundles_of_the_regret_bench_are_named(tmp_path):
    def run(**given):
        return dispatch_regret.run(dispatch_regret.Options(**given), silent)

    with pytest.raises(UserError, match="no such knob"):
        run(scenario="california", units=20)
    with pytest.raises(UserError, match="no heuristic 'nosuch'"):
        run(rules=("nosuch",), units=10, hours=1)
    with pytest.raises(UserError, match="at least one, each once"):
        run(errors=())
    with pytest.raises(UserError):
        run(bundle=tmp_path)


def test_flags_for_domain_data_and_bundle_reach_the_options(tmp_path):
    scaling = build_options(
        "dgpg-scaling", dgpg_scaling.Options, file=None, overrides=[], flags={"domain": "power"}
    )
    assert isinstance(scaling, dgpg_scaling.Options) and scaling.subject is SUBJECTS["power"]
    timed = build_options(
        "power-model", power_model.Options, file=None, overrides=[], flags={"data": tmp_path}
    )
    assert isinstance(timed, power_model.Options) and timed.data == tmp_path
    with pytest.raises(UserError, match="cloud"):
        build_options(
            "dgpg-scaling", dgpg_scaling.Options, file=None, overrides=["domain=water"], flags={}
        )
    with pytest.raises(UserError, match="no option --bundle"):
        build_options(
            "power-model", power_model.Options, file=None, overrides=[], flags={"bundle": tmp_path}
        )
