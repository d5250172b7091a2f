"""The update bench: options, rows, the HARL runner's line, and what goes wrong."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fairlead.platform.benchmarks import update, update_factor, update_runs
from fairlead.platform.benchmarks.harl_runner import effective_share, read_flat_yaml
from fairlead.platform.benchmarks.update_problem import Problem, Team
from fairlead.platform.benchmarks.update_runs import Case, Checkout, Harl, parse
from fairlead.platform.benchmarks.update_worker import Result, Work, measure
from fairlead.platform.files import UserError
from fairlead.platform.progress import silent

LINE = {
    "algorithm": "hatrpo", "agents": 3, "samples": 20, "space": "discrete", "advantage": "noise",
    "train_seconds": [1.5], "factor_seconds": [0.3], "gain": [],
    "factor_max": [2.0, 100.0], "effective_share": [0.9, None], "failed_at": 3,
    "failure": "ValueError: Expected parameter loc", "peak_mib": 300.0, "torch": "2",
}  # fmt: skip

SMALL = Problem(agents=6, samples=400, observation=3, hidden=(8,), actions=3)


def team(case: Case, problem: Problem = SMALL) -> Team:
    return Team.build(problem, case.learner(problem))


def result(**changes) -> Result:
    return Result(
        seconds=8.0, wall=9.0, peak=500.0, before=300.0, finite=True, gain=0.02, gain_error=0.005,
        gain_late=0.01, gain_late_error=0.002, statistics={},
    ).model_copy(update=changes)  # fmt: skip


# -- the problem ------------------------------------------------------------------------------


def test_actions_come_from_the_policy_and_the_advantage_counts_favourites():
    one = team(Case("hatrpo", 2))
    actions = one.ppo.experience.minibatch(
        torch.arange(400) * 6 + torch.arange(6)[:, None],
        torch.ones(6, 400, dtype=torch.bool),
        torch.arange(6),
    ).actions
    assert set(actions.unique().tolist()) == {0, 1, 2}
    counted = (actions.T.numpy() == one.favourite).sum(axis=1)
    expected = (counted - counted.mean()) / counted.std()
    assert one.ppo.advantages.numpy()[0] == pytest.approx(expected, abs=1e-5)
    assert one.favoured() == pytest.approx(np.full(6, 1 / 3), abs=0.02)


def test_noise_has_nothing_to_do_with_actions():
    noise = SMALL.model_copy(update={"advantage": "noise"})
    first, second = (team(Case("hatrpo", 2), p) for p in (SMALL, noise))
    assert not torch.equal(first.ppo.advantages, second.ppo.advantages)
    assert abs(float(second.ppo.advantages.mean())) < 1e-6
    assert float(second.ppo.advantages.std()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    "case",
    [
        Case("hatrpo", 2, 100), Case("clip-hatrpo", 1), Case("hatrpo-w", 2, 100, total_kl=0.05),
        Case("hatrpo-g", 2), Case("happo", 3), Case("clip-happo", 6),
    ],
)  # fmt: skip
def test_every_learner_really_improves_the_joint_policy(case):
    one = team(case)
    before = one.favoured()
    statistics = one.improve()
    assert one.finite()
    # One policy-gradient step of 400 samples; noise alone would leave it near 0.
    assert (one.favoured() - before).mean() > 0.003
    if "hatrpo" in case.algorithm:
        bound = 0.06 if case.total_kl is None else case.total_kl
        assert 0.0 < statistics["trust/joint_kl"] <= bound * 1.001


def test_block_and_bound_reach_the_learner():
    config = Case("clip-hatrpo", 4, 100, 0.5).learner(Problem(agents=10, samples=50))
    assert (config.blocks, config.sharing, config.order) == (3, "none", "fixed")
    assert config.trust_region.fisher_samples == 100 and config.trust_region.total_kl == 0.5
    assert config.max_samples == 500 and config.clips_factor
    assert Case("hatrpo-w", 4, clip=True).learner(Problem(agents=10)).clips_factor
    assert Case("hatrpo", 1).learner(Problem(agents=10)).blocks == 10


def test_a_worker_reports_what_it_measured():
    measured = measure(Work(problem=SMALL, learner=Case("hatrpo", 2).learner(SMALL)))
    assert measured.finite and measured.seconds > 0.0 and measured.wall > 0.0
    assert measured.peak >= measured.before > 50.0
    assert measured.gain > 0.0 and measured.gain_error > 0.0
    assert measured.statistics["trust/moved"] == 6.0
    assert 0.0 < measured.statistics["factor_ess/1"] <= 1.0


# -- HARL's side ------------------------------------------------------------------------------


def test_the_runners_line_is_read_with_numbers_that_are_not_finite():
    text = "policy update does not improve\n" + json.dumps(LINE) + "\n"
    found = parse(text, Path("somewhere"))
    assert found.seconds == pytest.approx(1.8)
    assert found.effective_share == [0.9, None] and found.failed_at == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "the line"),
        ("not json", "the line"),
        (json.dumps(LINE | {"agents": "many"}), "agents"),
        (json.dumps({key: value for key, value in LINE.items() if key != "gain"}), "gain"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text, names):
    with pytest.raises(UserError, match=r"harl=somewhere: cannot read .*stdout") as error:
        parse(text, Path("somewhere"))
    assert f"({names}: " in str(error.value)


def test_a_missing_checkout_or_interpreter_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(UserError, match=r"no HARL checkout there .* clone github.com/PKU-MARL"):
        update.run(update.Options(quick=True, harl=tmp_path), silent)
    (tmp_path / "harl" / "algorithms" / "actors").mkdir(parents=True)
    with pytest.raises(UserError, match=r"harl_python=.*nowhere: no such file; give an interp"):
        update.run(
            update.Options(quick=True, harl=tmp_path, harl_python=tmp_path / "nowhere"), silent
        )


def test_a_checkout_that_is_not_complete_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "harl" / "algorithms" / "actors").mkdir(parents=True)
    checkout = Checkout(tmp_path, Path(sys.executable))
    checkout.check()
    with pytest.raises(UserError, match=r"status 3: FileNotFoundError.*happo\.yaml"):
        checkout.run(SMALL, "happo", advantage="own")


def test_the_runner_stands_alone():
    """It is run by interpreters that do not have this package."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(update_runs.RUNNER.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    assert imported - sys.stdlib_module_names == {"numpy", "torch"}


def test_two_level_configurations_are_read_flat():
    text = (
        "# about\ntrain:\n  episode_length: 200 # steps\n  use_gae: True\n  lr: 0.0005\n"
        "model:\n  hidden_sizes: [128, 128]\n  model_dir: ~\n  activation_func: relu\n"
        '  log_dir: "./results"\n'
    )
    assert read_flat_yaml(text) == {
        "episode_length": 200, "use_gae": True, "lr": 0.0005, "hidden_sizes": [128, 128],
        "model_dir": None, "activation_func": "relu", "log_dir": "./results",
    }  # fmt: skip
    with pytest.raises(ValueError, match="cannot read the line"):
        read_flat_yaml("- a list")


def test_effective_share_of_equal_single_and_broken_weights():
    assert effective_share(np.full((4, 5), 3.0)) == pytest.approx(1.0)
    assert effective_share(np.eye(1, 20)) == pytest.approx(1 / 20)
    assert effective_share(np.full(3, 1e300)) == pytest.approx(1.0)
    assert effective_share(np.array([1.0, np.inf])) is None
    assert effective_share(np.zeros(3)) is None


# -- rows -------------------------------------------------------------------------------------


@pytest.fixture
def stub(monkeypatch):
    """Measurements without work; returns the calls."""
    calls: list[str] = []

    def ours(*works):
        calls.extend(f"{case.algorithm}/{case.block}" for _, case in works)
        seen = {"factor_ess/1": 0.5, "factor_ess_used/1": 0.8, "factor_log_max/1": 2.302585}
        return [result(statistics=seen) for _ in works]

    def theirs(self, problem, algorithm, *, advantage):
        calls.append(f"HARL {algorithm} {advantage}")
        return Harl.model_validate(LINE | {"algorithm": algorithm, "train_seconds": [80.0]})

    monkeypatch.setattr(update, "measure", ours)
    monkeypatch.setattr(update_factor, "measure", ours)
    monkeypatch.setattr(Checkout, "run", theirs)
    monkeypatch.setattr(Checkout, "check", lambda self: None)
    return calls


def test_marks_hold_large_teams_to_the_promised_cost(stub):
    rows = {row.name: row for row in update.run(update.Options(factor_agents=()), silent)}
    part = "clamped, blocks of 32, 500 in Fisher products, CPU per agent"
    targets = {n: rows[f"N={n}: hatrpo {part}"].target for n in (8, 32, 200, 1000)}
    assert targets == {8: None, 32: None, 200: 0.04, 1000: 0.04}
    assert rows[f"N=200: hatrpo {part}"].measured == 8.0 / 200
    assert rows[f"N=200: hatrpo {part}"].passed
    assert rows["N=200: happo 5 x 1 clamped, blocks of 32, CPU per agent"].target == 0.02
    assert rows["N=200: happo 5 x 1 clamped, blocks of 32, CPU per agent"].passed is False
    last = "hatrpo clamped, one by one, all samples, CPU per agent"
    assert rows[f"N=1000: {last}"].target == 0.12
    assert rows[f"N=1000: {last}".replace("CPU per agent", "peak memory")].measured == 500
    assert stub.count("hatrpo/32") == 3 * 3 + 1, "large teams are measured once"


def test_harl_takes_turns_with_ours_and_is_compared(stub):
    options = update.Options(
        agents=(8, 200), repeats=2, harl=Path("x"), harl_python=Path("y"), factor_agents=()
    )
    rows = {row.name: row for row in update.run(options, silent)}
    one = ["hatrpo/32", "HARL hatrpo own", "hatrpo-w/32", "happo/32", "HARL happo own", "hatrpo/1"]
    assert stub[:12] == [*one, *one]
    assert not any(call.startswith("HARL") for call in stub[12:]), "only where it is asked for"
    ratio = rows["N=8: HARL hatrpo over ours in blocks"]
    assert ratio.measured == pytest.approx(80.3 / 8.0) and ratio.target == 10.0 and ratio.passed
    assert rows["N=8: HARL hatrpo, CPU per agent"].measured == pytest.approx(80.3 / 8)
    assert rows["N=8: HARL happo over ours in blocks"].passed is None
    assert not any("N=200: HARL" in name for name in rows)


def test_factor_rows_show_where_it_breaks(stub):
    options = update.Options(agents=(), factor_agents=(64,), harl=Path("x"), harl_python=Path("y"))
    rows = {row.name: row for row in update.run(options, silent)}
    assert rows["HARL hatrpo, discrete, after 2 agents, largest ratio, log10"].measured == 2.0
    assert rows["HARL hatrpo, discrete, ended with"].measured == "ValueError"
    assert rows["HARL hatrpo, discrete, agents updated of 3"].measured == 2
    assert rows["N=64: clip-hatrpo, after 32 agents, effective samples"].measured == 0.5
    used = rows["N=64: clip-hatrpo, after 32 agents, effective samples as used"]
    assert used.measured == 0.8
    assert rows["N=64: clip-hatrpo, all weights finite"].passed
    sure = rows["N=64: clip-hatrpo, true improvement of the last quarter over its error"]
    assert sure.measured == 5.0 and sure.passed
    raw = rows["N=64: hatrpo, true improvement of the last quarter over its error"]
    assert raw.passed is None, "without the clamp late agents learn nothing; that is shown"


def test_an_update_that_moves_nobody_is_no_improvement(stub, monkeypatch):
    still = result(gain=0.0, gain_error=0.0, gain_late=0.0, gain_late_error=0.0)
    monkeypatch.setattr(update_factor, "measure", lambda *works: [still for _ in works])
    options = update.Options(agents=(), factor_agents=(64,))
    rows = {row.name: row for row in update.run(options, silent)}
    name = "N=64: clip-hatrpo, true improvement of the last quarter over its error"
    assert rows[name].passed is False


def test_runs_in_a_process_of_their_own_come_back_in_order():
    small = Problem(agents=4, samples=50, observation=3, hidden=(8,), actions=3)
    first, second = update_runs.measure((small, Case("hatrpo", 2)), (small, Case("happo", 2)))
    assert first.statistics["trust/moved"] == 4.0 and "trust/moved" not in second.statistics
    assert second.peak >= first.peak > 0.0


def test_the_ratio_is_followed_from_many_agents_on():
    assert update.Options().followed == (32, 200, 1000)
    assert update.Options(agents=(8,)).followed == ()
    assert update.Options(agents=(8,), factor_agents=(40,)).followed == (40,)


def test_a_run_that_fails_shows_why():
    broken = Problem.model_construct(**(SMALL.model_dump() | {"actions": 0}))
    with pytest.raises(RuntimeError, match=r"update worker ended with status 1 [\s\S]*actions"):
        update_runs.measure((broken, Case("hatrpo", 2)))


@pytest.mark.slow
def test_the_smallest_run_measures_and_draws(tmp_path):
    picture = tmp_path / "update.png"
    options = update.Options(quick=True, plot=picture)
    rows = {row.name: row for row in update.run(options, silent)}
    costs = [row for name, row in rows.items() if name.endswith("CPU per agent")]
    assert float(rows["machine: matrix products of this size, per CPU second"].measured) > 0.0
    assert len(costs) == 4 and all(float(row.measured) > 0.0 for row in costs)
    assert rows["N=6: clip-hatrpo, all weights finite"].passed
    assert float(rows["N=6: hatrpo, after 2 agents, effective samples"].measured) <= 1.0
    assert picture.read_bytes().startswith(b"\x89PNG")
