"""Training on set-points, from the command line to the bundle; resumed runs repeat it exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import box_domain
import polars as pl
import pytest
from box_domain import NAME, SCENARIO, TrackFactory
from polars.testing import assert_frame_equal

from fairlead.platform import registry
from fairlead.platform.bundle import load_bundle
from fairlead.platform.cli.main import main
from fairlead.platform.contest import Arena
from fairlead.platform.drive.session import _lengthened
from fairlead.platform.episodes import Stage
from fairlead.platform.evaluation import EvaluationTable
from fairlead.platform.files import UserError
from fairlead.platform.plots import comparison_picture
from fairlead.platform.report import write_report
from fairlead.platform.tasks import DomainFactory, Task
from fairlead.platform.train_config import UNGUIDED, load_config
from fairlead.platform.training import resume, start
from fairlead.simulators.interface import Box
from fairlead.simulators.settings import Settings

SMALL = (
    "learner.network.hidden=[16]",
    "learner.critic.hidden=[16]",
    "learner.passes=2",
    "learner.critic.passes=4",
    "evaluation.every=2",
    "evaluation.episodes=3",
    "execution.executor=inline",
    "iterations=4",
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "domains", box_domain.with_toybox())
        yield


def small(*overrides):
    return load_config(NAME, SCENARIO, overrides=[*SMALL, *overrides])


@pytest.fixture(scope="module")
def finished(registered, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished") / "run"
    return root, start(small(), root)


def assert_same_run(left: Path, right: Path) -> None:
    for name in ("metrics", "evaluation", "baselines", "comparison"):
        a, b = (pl.read_parquet(root / f"{name}.parquet") for root in (left, right))
        assert_frame_equal(a, b, check_exact=True)
    for name in ("weights.safetensors", "golden.safetensors", "model.onnx"):
        assert (left / "bundle" / name).read_bytes() == (right / "bundle" / name).read_bytes()


def test_a_run_leaves_curves_comparison_bundle_and_report(finished):
    root, outcome = finished
    assert outcome.finished and outcome.mark[0] == "proportional"
    metrics = pl.read_parquet(root / "metrics.parquet")
    assert metrics["iteration"].to_list() == [0, 1, 2, 3, 4]
    assert metrics["guidance/distance"].drop_nulls().is_finite().all()
    comparison = EvaluationTable.read(root / "comparison.parquet")
    assert comparison.names == ["policy", "proportional", "middle"]
    assert "missed_mwh" in comparison.figures
    report = (root / "report.html").read_text()
    assert "proportional" in report and "missed_mwh" in report
    assert "nan" not in report.lower().replace("nano", "")
    bundle = load_bundle(root / "bundle")
    assert bundle.spec.action == Box(2) and bundle.manifest["provenance"]["guided"]


def test_the_bundle_is_the_best_policy_and_acts_as_evaluated(finished):
    root, outcome = finished
    bundle = load_bundle(root / "bundle")
    evaluation = pl.read_parquet(root / "evaluation.parquet")
    best = evaluation.filter(pl.col("iteration") == outcome.best_iteration)
    stage = Stage(bundle.factory())
    for row in best.iter_rows(named=True):
        assert stage.play(Task(row["seed"], bundle.trained())).total == row["return"]


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.parametrize(("stage", "iteration"), [("collect", 0), ("write", 2), ("collect", 3)])
def test_resume_after_a_kill_gives_the_same_curve(finished, tmp_path, stage, iteration):
    root, _ = finished

    def kill(moment):
        if (moment.stage, moment.iteration) == (stage, iteration):
            raise Killed

    with pytest.raises(Killed):
        start(small(), tmp_path / "run", watch=kill)
    assert resume(tmp_path / "run").finished
    assert_same_run(root, tmp_path / "run")


@pytest.mark.parametrize(
    "overrides",
    [
        UNGUIDED,
        ("learner.guidance.estimator=joint",),
        ("learner.sharing=all", "evaluation.stochastic=false"),
    ],
    ids=["plain", "joint", "mode"],
)
def test_other_learners_end_in_a_bundle_too(tmp_path, overrides):
    outcome = start(small("iterations=2", *overrides), tmp_path / "run")
    assert outcome.finished
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.stochastic is ("evaluation.stochastic=false" not in overrides)
    assert bundle.manifest["provenance"]["guided"] is (overrides is not UNGUIDED)


def test_linear_guidance_is_refused(tmp_path):
    with pytest.raises(UserError, match="form = 'exact'"):
        start(small("learner.guidance.form=linear"), tmp_path / "run")


def run(capsys, *words):
    """Exit status and parsed output of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out = capsys.readouterr()
    return ended.value.code, json.loads(out.out) if out.out.startswith("{") else out.out, out.err


def test_commands_take_any_domain(finished, tmp_path, capsys):
    root, _ = finished
    status, found, _ = run(
        capsys, "compare", NAME, "--bundle", root, "--seeds", 3, "--workers", 1, "--json",
        "--plot", tmp_path / "plot.png",
    )  # fmt: skip
    assert status == 0 and found["bar"] == "proportional"
    assert {row["controller"] for row in found["episodes"]} >= {"proportional", "middle"}
    assert (tmp_path / "plot.png").stat().st_size > 1000
    status, found, _ = run(
        capsys, "evaluate", root, "--seeds", 2, "--workers", 1, "--baselines", "same", "--json"
    )
    assert status == 0 and len(found["episodes"]) == 6
    status, text, _ = run(capsys, "compare", NAME, "--seeds", 2, "--workers", 1)
    assert status == 0 and "proportional" in text
    status, _, error = run(capsys, "compare", "cloud", "--bundle", root, "--seeds", 2)
    assert status == 2 and "was trained for domain 'toybox'" in error
    status, text, _ = run(capsys, "train", NAME, "--knobs")
    assert status == 0 and "scenario.ramp" in text.replace("\n", "")
    status, found, _ = run(
        capsys, "train", NAME, "--out", tmp_path / "run", "--json", "iterations=1", *SMALL[:-1]
    )
    assert status == 0 and found["bundle"].endswith("bundle")


class Fixed(Settings):
    """A scenario whose episodes have one length."""

    name: Literal["fixed"] = "fixed"


def test_a_drive_needs_episodes_that_are_long_enough(monkeypatch):
    fixed = replace(
        box_domain.toybox(),
        name="fixed",
        scenarios={"fixed": Fixed},
        simulator=lambda _: TrackFactory().simulator(),
    )
    monkeypatch.setattr(registry, "domains", lambda: {"fixed": fixed, NAME: box_domain.toybox()})
    factory = DomainFactory("fixed", "fixed", {})
    assert _lengthened(factory, 20) is factory
    with pytest.raises(UserError, match="fixed/fixed have 20 epochs, the drive may need 21"):
        _lengthened(factory, 21)
    longer = _lengthened(DomainFactory(NAME, SCENARIO, {"agents": 9}), 21)
    assert longer.settings == {"agents": 9, "horizon": 21}


def test_bundles_of_another_shape_do_not_take_part(finished):
    bundle = load_bundle(finished[0] / "bundle")
    arena = Arena(DomainFactory(NAME, SCENARIO, {"agents": 9}))
    with pytest.raises(UserError, match="policy is for 6 agents, not 9"):
        arena.policies([bundle])
    cloud = Arena(DomainFactory("cloud", "dispatch", {"agents": 6}))
    with pytest.raises(UserError, match="policy lacks the tensors"):
        cloud.policies([bundle])


def test_reports_are_drawn_while_a_run_is_going_on_and_again(finished, tmp_path):
    root, _ = finished
    assert write_report(root).read_text().count("<svg") >= 2
    comparison = EvaluationTable.read(root / "comparison.parquet")
    comparison_picture(comparison, tmp_path / "c.svg", title="track")
    assert (tmp_path / "c.svg").exists()


def test_episodes_played_in_other_processes_are_the_same(finished, tmp_path):
    from fairlead.platform.executors import ProcessExecutor
    from fairlead.platform.rollouts import collect, training_tasks
    from fairlead.platform.tasks import Guidance

    policy = load_bundle(finished[0] / "bundle").trained()
    tasks = training_tasks(
        policy, run_seed=1, iteration=1, episodes=2, guidance=Guidance("demand", effects=True)
    )
    stage = Stage(TrackFactory())
    here = [stage.play(task) for task in tasks]
    with ProcessExecutor(TrackFactory(), workers=2) as pool:
        rollout, results = collect(pool, tasks)
    assert [one.total for one in here] == [one.total for one in results]
    for name in ("agent", "mask", "actions", "guidance"):
        for index, one in enumerate(here):
            assert (getattr(rollout, name)[index] == getattr(one.episode, name)).all(), name
