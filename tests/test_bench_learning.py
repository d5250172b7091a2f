"""The learning benches: plans, finished runs in a file, what is said about a table, pictures."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fairlead.platform.benchmarks import ablation, learning_runs, projection, trust_region
from fairlead.platform.benchmarks.learning_chart import (
    draw_ablation,
    draw_projection,
    draw_trust_region,
)
from fairlead.platform.benchmarks.learning_plan import (
    PLAIN,
    RunOptions,
    Variant,
    assignments,
    heterogeneous,
)
from fairlead.platform.benchmarks.learning_table import Ledger, Run, RunTable
from fairlead.platform.files import UserError
from fairlead.platform.progress import silent

TINY = {"agents": (4,), "seeds": 2, "iterations": 2, "episodes": 1, "evaluation": 2, "horizon": 12}
CHEAP = ("critic.passes=1", "passes=1")
METHODS = ("hatrpo", "hatrpo-w", "hatrpo-g")


def made_up(variant: str, seed: int, final: float, *, agents: int = 100, **figures: float) -> Run:
    known = {
        "factor/variance": 1.0,
        "factor/variance_raw": 1.0,
        "factor/mean": 1.0,
        "factor/ess": 0.9,
        "trust/joint_kl": 0.09,
        "trust/total": 0.1,
        "trust/accepted": 1.0,
        "trust/gini": 0.2,
        "projection/kappa": 0.3,
        "projection/noise_floor": 0.1,
        "projection/projected": 0.5,
    }
    known |= {name.replace("__", "/"): value for name, value in figures.items()}
    return Run(
        variant,
        agents,
        seed,
        returns=np.array([-4.0, -3.0, final]),
        at=np.array([0.0, 1.0, 3.0]),
        probes=np.array([-4.0, -2.0, final]),
        figures={name: np.full(3, value) for name, value in known.items()},
        final=np.array([final - 0.5, final + 0.5]),
        collect=np.full(3, 0.2),
        update=np.full(3, 0.5),
    )


def table(finals: dict[str, float], **figures: float) -> RunTable:
    jitter = (0.0, 0.01, -0.01, 0.02)
    return RunTable(
        tuple(
            made_up(name, seed, final + jitter[seed], **figures)
            for name, final in finals.items()
            for seed in range(4)
        )
    )


def compared(w: float, g: float) -> dict[str, float]:
    finals = {"untrained": -5.0, "hatrpo": -3.0, "hatrpo-w": w, "hatrpo-g": g}
    return {**finals, **{f"{name} clipped": finals[name] for name in METHODS}}


# -- plans ------------------------------------------------------------------------------------


def plan(*, learner: tuple[str, ...] = (), **knobs):
    options = RunOptions.model_validate({**TINY, "learner": learner})
    variant = Variant("it", {**PLAIN, "algorithm": "happo", **knobs})
    return assignments(options, [variant], heterogeneous(options, 4))


def test_a_run_is_known_by_what_it_depends_on():
    first, second = plan()
    assert (first.seed, second.seed) == (1000, 1001)
    keys = {first.key, second.key, plan(clip=0.1)[0].key, plan(learner=("gamma=0.9",))[0].key}
    assert len(keys) == 4
    assert dataclasses.replace(first, variant="another name").key == first.key
    assert dataclasses.replace(first, evaluation=3).key != first.key


def test_a_policy_that_learns_nothing_is_played_once_for_all_learners():
    options = RunOptions.model_validate(TINY)
    scenario = heterogeneous(options, 4)
    kinds = [
        assignments(options, [Variant("start", {**PLAIN, "clip": clip}, "untrained")], scenario)
        for clip in (0.1, 0.2)
    ]
    assert [a.key for a in kinds[0]] == [a.key for a in kinds[1]]
    (rule,) = assignments(options, [Variant("sed", {}, "rule")], scenario)
    assert rule.key not in {a.key for a in kinds[0]}


def test_what_defines_a_variant_wins_over_the_knobs_of_all():
    (config, _) = [a.config for a in plan(learner=("algorithm=ippo", "gamma=0.9"))]
    assert config["learner"]["algorithm"] == "happo"
    assert config["learner"]["gamma"] == 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learner": ("clipp=0.1",)}, "did you mean 'learner.clip'"),
        ({"scenario": ("agent=3",)}, "did you mean 'scenario.agents'"),
        ({"scenario": ("load=-1",)}, "scenario.load"),
    ],
)
def test_unknown_knobs_are_named(changed, message):
    options = trust_region.Options.model_validate({**TINY, **changed})
    with pytest.raises(UserError, match=message):
        trust_region.run(options, silent)


def test_unknown_rows_of_the_matrix_are_named():
    with pytest.raises(ValueError, match="no variant 'MAPPPO'; known: IPPO, MAPPO"):
        ablation.run(ablation.Options.model_validate({**TINY, "variants": ("MAPPPO",)}), silent)


def test_tenants_of_the_scenario_differ():
    scenario = heterogeneous(RunOptions(), 20)
    assert max(scenario["class_work"]) / min(scenario["class_work"]) > 100
    assert scenario["own_share"] == 1.0 and scenario["agents"] == 20


# -- finished runs ----------------------------------------------------------------------------


def test_runs_come_back_as_they_were(tmp_path):
    path = tmp_path / "runs.jsonl"
    run = made_up("hatrpo", 3, -2.0, factor__mean=float("nan"))
    Ledger(path).append("a", run)
    Ledger(path).append("b", Run.played("sed", 4, 0, np.array([-1.0])))
    again = Ledger(path)
    found = again.find("a")
    assert found is not None and found.to_json() == run.to_json()
    assert np.isnan(found.figure("factor/mean")).all()
    played = again.find("b")
    assert played is not None and played.final.tolist() == [-1.0] and again.find("c") is None
    assert len(path.read_text().splitlines()) == 2


def test_a_half_written_last_line_is_dropped_and_the_file_stays_usable(tmp_path):
    path = tmp_path / "runs.jsonl"
    Ledger(path).append("a", made_up("hatrpo", 0, -2.0))
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    ledger = Ledger(path)
    assert ledger.find("a") is not None
    ledger.append("b", made_up("hatrpo", 1, -2.0))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_damaged_line_and_a_folder_that_is_missing_are_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"key": "a"}\n')
    with pytest.raises(UserError, match=r"runs\.jsonl, line 1 is no finished run \('run'\)"):
        Ledger(path)
    with pytest.raises(UserError, match="cannot write"):
        Ledger(tmp_path / "missing" / "runs.jsonl")


def test_finished_runs_are_read_back_and_only_the_others_trained(tmp_path, monkeypatch):
    options = RunOptions.model_validate(
        {**TINY, "learner": CHEAP, "workers": 1, "runs": tmp_path / "runs.jsonl"}
    )
    variant = Variant("happo", {**PLAIN, "algorithm": "happo"})
    start = Variant("untrained", PLAIN, "untrained")
    wanted = assignments(options, [variant, start], heterogeneous(options, 4))
    told: list[str] = []
    first = learning_runs.run_all(options, wanted[1:], lambda *what: told.append(str(what[2])))
    assert told[0] == "0 runs read back" and len(told) == 4
    assert first.of("happo", 4)[0].returns.shape == (2,)
    played: list[int] = []
    play = learning_runs.play
    monkeypatch.setattr(learning_runs, "play", lambda a: (played.append(a.seed), play(a))[1])
    second = learning_runs.run_all(options, wanted, silent)
    assert played == [1000]
    assert second.of("happo", 4)[1].to_json() == first.of("happo", 4)[0].to_json()
    # Doing it again gives the same run, but for the seconds.
    repeated, kept = play(wanted[1]).to_json(), first.of("happo", 4)[0].to_json()
    assert all(repeated[key] == kept[key] for key in ("returns", "final", "figures", "probes"))


@pytest.mark.slow
def test_processes_give_the_runs_of_one_process():
    options = RunOptions.model_validate({**TINY, "learner": CHEAP, "every": 1})
    variant = Variant("hatrpo", {**PLAIN, "algorithm": "hatrpo"})
    wanted = assignments(options, [variant], heterogeneous(options, 4))
    one, two = (
        learning_runs.run_all(options.model_copy(update={"workers": n}), wanted, silent)
        for n in (1, 2)
    )
    for name in ("returns", "final", "probes"):
        for ours, theirs in zip(one.runs, two.runs, strict=True):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_knobs_are_chosen_on_other_episodes_than_benches_report(monkeypatch):
    seen: list[int] = []

    def evaluated(executor, entrants, seeds):
        seen.append(seeds[0])
        raise KeyError

    monkeypatch.setattr(learning_runs, "evaluate", evaluated)
    for first in (0, 1000):
        options = RunOptions.model_validate({**TINY, "first_seed": first})
        start = Variant("untrained", PLAIN, "untrained")
        with pytest.raises(KeyError):
            learning_runs.play(assignments(options, [start], heterogeneous(options, 4))[0])
    assert seen == [500_000, 1_000_000]


# -- what is said about a table ---------------------------------------------------------------


def test_margins_are_of_the_improvement_over_the_untrained_policy():
    rows = {r.name: r for r in trust_region.comparison(table(compared(-2.5, -2.6)), 100, METHODS)}
    w = rows["N=100: hatrpo-w, improvement over that of hatrpo"]
    assert w.measured == pytest.approx(25.0) and w.target == 22.5 and w.passed
    g = rows["N=100: hatrpo-g, improvement over that of hatrpo"]
    assert g.measured == pytest.approx(20.0) and g.passed is False
    assert rows["N=100: hatrpo-w, ahead of hatrpo, 95 % low"].passed
    assert rows["N=100: hatrpo-w clipped, improvement over that of hatrpo clipped"].passed is None


def test_an_interval_that_holds_zero_misses_the_mark():
    rows = trust_region.comparison(table(compared(-3.0, -3.1)), 100, METHODS)
    low = {row.name: row for row in rows}["N=100: hatrpo-g, ahead of hatrpo, 95 % low"]
    assert low.passed is False and float(low.measured) < 0.0


def test_clipped_variance_has_a_mark_where_agents_are_many():
    names = [f"{m}{c}{trust_region.LONG}" for m in METHODS for c in ("", " clipped")]
    runs = [
        made_up(name, seed, -2.0, agents=agents, factor__variance=0.5 if "clip" in name else 4.0)
        for name in names
        for seed in (0, 1)
        for agents in (20, 100)
    ]
    whole = RunTable(tuple(runs))
    for agents, passed in ((20, None), (100, True)):
        rows = {row.name: row for row in trust_region.variances(whole, agents, METHODS)}
        share = rows[f"N={agents}: hatrpo-w, long steps, clipped over unclipped variance"]
        assert share.measured == pytest.approx(0.125) and share.passed is passed


def test_a_budget_that_is_exceeded_once_misses_the_mark():
    good = trust_region.budgets(table(compared(-2.5, -2.5)), 100, METHODS)
    assert all(row.passed for row in good if "largest used" in row.name)
    bad = table(compared(-2.5, -2.5), trust__joint_kl=0.11)
    assert not any(
        row.passed for row in trust_region.budgets(bad, 100, METHODS) if "largest used" in row.name
    )


def test_a_missing_statistic_or_variant_is_an_error_that_names_the_known_ones():
    whole = table(compared(-2.5, -2.6))
    with pytest.raises(KeyError, match=r"no statistic 'trust/spent'; known: .*trust/total"):
        whole.figure("hatrpo", 100, "trust/spent")
    with pytest.raises(KeyError, match="no run of 'mappo' with N=100; known: untrained, hatrpo"):
        whole.final("mappo", 100)


def test_drops_are_measured_from_the_best_so_far():
    whole = RunTable(tuple(made_up("a", seed, -2.7 - seed) for seed in (0, 1)))
    assert projection.largest_drops(whole, 100, "a") == pytest.approx([0.7, 1.7])


def test_stability_and_cost_of_the_projection():
    runs = [
        dataclasses.replace(made_up(name, seed, -2.0 - spread * seed), update=np.full(3, seconds))
        for name, spread, seconds in (("mappo", 0.4, 0.5), ("mappo + HPML", 0.1, 0.8))
        for seed in range(5)
    ]
    whole = RunTable(tuple(runs))
    rows = {row.name: row.measured for row in projection.stability(whole, 100, "mappo")}
    assert rows["N=100: mappo, interquartile range over seeds"] == pytest.approx(0.8)
    assert rows["N=100: mappo + HPML, interquartile range over seeds"] == pytest.approx(0.2)
    assert float(rows["N=100: mappo, change of largest drop with HPML"]) < 0.0
    rows = {row.name: row.measured for row in projection.potential(whole, 100, "mappo")}
    share = rows["N=100: mappo + HPML, share of the projection in the update"]
    assert share == pytest.approx(0.375)
    assert rows["N=100: mappo + HPML, kappa in the last third"] == pytest.approx(0.3)


# -- pictures and whole benches ---------------------------------------------------------------


def test_pictures_are_written(tmp_path):
    whole = table(compared(-2.5, -2.6))
    draw_trust_region(whole, METHODS, tmp_path / "trust.png")
    both = RunTable(
        tuple(
            made_up(f"{name}{suffix}", seed, -2.0 - 0.1 * seed)
            for name in ("mappo", "hatrpo-w")
            for suffix in ("", " + HPML")
            for seed in range(3)
        )
    )
    draw_projection(both, ("mappo", "hatrpo-w"), tmp_path / "projection.png")
    lines = {100: {"greedy": 2.2, "best rule": 2.1}}
    draw_ablation(whole, METHODS, lines, tmp_path / "ablation.svg")
    for name in ("trust.png", "projection.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "ablation.svg").read_text()
    assert "hatrpo-w" in drawn and "best rule" in drawn
    with pytest.raises(UserError, match=r"must end in \.png or \.svg"):
        draw_ablation(whole, METHODS, lines, tmp_path / "ablation.jpg")


@pytest.mark.slow
def test_smallest_trust_region_bench(tmp_path):
    options = trust_region.Options.model_validate(
        {"quick": True, "workers": 1, "plot": tmp_path / "trust.png", "methods": METHODS[:2]}
    )
    rows = {row.name: row for row in trust_region.run(options, silent)}
    assert rows["environment steps of a run"].measured == 120
    used = rows["N=8: hatrpo-w clipped, largest used over allowed KL"]
    assert used.passed and float(used.measured) > 0.0
    assert rows["N=8: hatrpo-w, improvement over that of hatrpo"].target == 22.5
    assert (tmp_path / "trust.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_smallest_projection_bench_leaves_the_team_game_alone(tmp_path):
    options = projection.Options.model_validate(
        {"quick": True, "workers": 1, "plot": tmp_path / "hpml.png", "methods": ("mappo",)}
    )
    rows = {row.name: row for row in projection.run(options, silent)}
    team = rows["N=8: mappo, team game, largest difference of a weight with HPML"]
    assert team.measured == 0.0 and team.passed
    assert 0.0 <= float(rows["N=8: mappo + HPML, kappa in the first third"].measured) <= 1.0
    assert (tmp_path / "hpml.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_smallest_ablation_sets_learners_beside_the_rules(tmp_path):
    names = ("HATRPO", "HATRPO + DG")
    options = ablation.Options.model_validate(
        {"quick": True, "workers": 1, "plot": tmp_path / "all.png", "variants": names}
    )
    rows = {row.name: row for row in ablation.run(options, silent)}
    best = [name for name in rows if "best with the same information" in name]
    assert len(best) == 1
    change = rows["N=8: HATRPO + DG, change from HATRPO, mean response"]
    parts = [float(rows[f"N=8: {name}, mean response"].measured) for name in names]
    assert change.measured == pytest.approx(parts[1] - parts[0])
    assert float(rows["N=8: HATRPO + DG, change from HATRPO, cost of an update"].measured) > 0.0
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
