"""Training jobs: they learn, repeat themselves bit for bit, survive kills, and refuse clearly."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fairlead.platform.bundle import load_bundle
from fairlead.platform.checkpoint import CheckpointError
from fairlead.platform.evaluation import EvaluationTable
from fairlead.platform.files import UserError
from fairlead.platform.job import POLICY
from fairlead.platform.loop import DivergedError
from fairlead.platform.moments import Moment
from fairlead.platform.run_folder import RunFolder, Table
from fairlead.platform.tasks import Task
from fairlead.platform.train_config import UNGUIDED, from_json, load_config
from fairlead.platform.training import resume, start

SMALL = (
    "scenario.agents=4",
    "scenario.horizon=30",
    "learner.network.hidden=[16]",
    "learner.critic.hidden=[16]",
    "learner.passes=2",
    "learner.critic.passes=4",
    "evaluation.every=2",
    "evaluation.episodes=3",
    'evaluation.baselines=["sed", "random"]',
    "execution.executor=inline",
    "iterations=4",
)


def small(*overrides: str):
    return load_config("cloud", "dispatch", overrides=[*SMALL, *overrides])


def curves(root: Path) -> dict[str, pl.DataFrame]:
    names = ("metrics", "evaluation", "baselines", "comparison")
    return {name: pl.read_parquet(root / f"{name}.parquet") for name in names}


def assert_same_curves(left: Path, right: Path) -> None:
    a, b = curves(left), curves(right)
    for name, frame in a.items():
        assert_frame_equal(frame, b[name], check_exact=True)
    assert (left / "bundle" / "weights.safetensors").read_bytes() == (
        right / "bundle" / "weights.safetensors"
    ).read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished") / "run"
    moments: list[Moment] = []
    outcome = start(small(), root, watch=moments.append)
    return root, outcome, moments


def test_run_folder_holds_what_it_says(finished):
    root, outcome, moments = finished
    assert outcome.finished
    assert outcome.iteration == 4
    metrics = pl.read_parquet(root / "metrics.parquet")
    assert metrics["iteration"].to_list() == [0, 1, 2, 3, 4]
    assert metrics["episodes"].to_list() == [None, 1.0, 2.0, 3.0, 4.0]
    assert metrics["decisions_per_agent"].to_list()[1:] == [30.0, 60.0, 90.0, 120.0]
    measured = metrics.filter(pl.col("evaluation/return").is_not_null())
    assert measured["iteration"].to_list() == [0, 2, 4]
    evaluation = pl.read_parquet(root / "evaluation.parquet")
    assert evaluation.group_by("iteration", maintain_order=True).len()["len"].to_list() == [3, 3, 3]
    means = evaluation.group_by("iteration", maintain_order=True).agg(pl.col("return").mean())
    assert measured["evaluation/return"].to_list() == pytest.approx(means["return"].to_list())
    assert outcome.best == max(measured["evaluation/return"])
    timing = pl.read_parquet(root / "timing.parquet")
    for stage in ("collect", "simulate", "act", "guidance", "update", "evaluate", "write"):
        assert (timing.filter(pl.col("iteration") > 0)[stage] >= 0).all(), stage
    assert timing["workers_lost"].sum() == 0
    assert EvaluationTable.read(root / "baselines.parquet").names == ["sed", "random"]
    comparison = EvaluationTable.read(root / "comparison.parquet")
    assert comparison.names == [POLICY, "sed", "random"]
    assert set(comparison.seeds).isdisjoint(evaluation["seed"])
    facts = json.loads((root / "run.json").read_text())
    assert facts["versions"]["fairlead"] == "0.1.0"
    assert facts["torch_threads"] == 1
    assert from_json(json.loads((root / "config.json").read_text())) == small()
    assert load_config("cloud", "dispatch", file=root / "config.toml") == small()
    assert json.loads((root / "summary.json").read_text())["finished"] is True
    assert any(path.name.startswith("events.out") for path in (root / "tensorboard").iterdir())
    stages = [moment.stage for moment in moments]
    assert {"baselines", "collect", "evaluate", "write", "bundle", "comparison"} <= set(stages)
    assert moments[-1].mark is not None


def test_the_last_policy_may_be_kept_whatever_its_figure(tmp_path):
    # Steps so long that the policy gets worse: the best one is not the last.
    overrides = ("evaluation.keep=last", "learner.learning_rate=0.1", "learner.target_kl=100.0")
    outcome = start(small(*overrides), tmp_path / "run")
    measured = pl.read_parquet(tmp_path / "run" / "evaluation.parquet")
    means = measured.group_by("iteration").agg(pl.col("return").mean()).sort("iteration")
    assert means["return"].arg_max() != len(means) - 1
    assert outcome.best_iteration == means["iteration"].max() == 4
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.manifest["provenance"]["iteration"] == 4


def test_bundle_is_the_best_policy_and_acts_as_evaluated(finished):
    root, outcome, _ = finished
    bundle = load_bundle(root / "bundle")
    assert bundle.manifest["provenance"]["iteration"] == outcome.best_iteration
    from fairlead.platform.episodes import Stage

    evaluation = pl.read_parquet(root / "evaluation.parquet")
    best = evaluation.filter(pl.col("iteration") == outcome.best_iteration)
    stage = Stage(bundle.factory())
    for row in best.iter_rows(named=True):
        assert stage.play(Task(row["seed"], bundle.trained())).total == row["return"]


def test_second_run_in_worker_processes_gives_the_same_curves(finished, tmp_path):
    root, _, _ = finished
    start(small("execution.executor=processes", "execution.workers=2"), tmp_path / "pool")
    assert_same_curves(root, tmp_path / "pool")


def test_other_seed_gives_another_curve(finished, tmp_path):
    root, _, _ = finished
    start(small("seed=1", "iterations=1"), tmp_path / "run")
    theirs = pl.read_parquet(tmp_path / "run" / "metrics.parquet")["return"].to_list()
    assert theirs[1] != pl.read_parquet(root / "metrics.parquet")["return"].to_list()[1]


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.parametrize(
    ("stage", "iteration"), [("evaluate", 0), ("collect", 0), ("write", 2), ("collect", 3)]
)
def test_resume_after_a_kill_anywhere_gives_the_same_curve(finished, tmp_path, stage, iteration):
    root, _, _ = finished

    def kill(moment: Moment) -> None:
        if moment.stage == stage and moment.iteration == iteration:
            raise Killed

    run = tmp_path / "run"
    with pytest.raises(Killed):
        start(small(), run, watch=kill)
    assert resume(run).finished
    assert_same_curves(root, run)


def test_rows_after_the_checkpoint_are_made_again_not_doubled(finished, tmp_path, monkeypatch):
    root, _, _ = finished
    run = tmp_path / "run"
    from fairlead.platform.checkpoint import CheckpointStore

    save = CheckpointStore.save

    def kill_at_three(self, checkpoint, *, best=None):
        if checkpoint.iteration == 3:
            raise Killed
        save(self, checkpoint, best=best)

    monkeypatch.setattr(CheckpointStore, "save", kill_at_three)
    with pytest.raises(Killed):
        start(small(), run)
    monkeypatch.undo()
    assert pl.read_parquet(run / "metrics.parquet")["iteration"].to_list() == [0, 1, 2, 3]
    assert resume(run).finished
    assert_same_curves(root, run)


def test_longer_run_continues_a_finished_one(finished, tmp_path):
    run = tmp_path / "run"
    start(small("iterations=2"), run)
    resume(run, config=small())
    left = pl.read_parquet(run / "metrics.parquet")
    right = pl.read_parquet(finished[0] / "metrics.parquet")
    assert_frame_equal(left, right, check_exact=True)


def test_resume_in_the_final_comparison_gives_the_same_bundle(finished, tmp_path):
    root, _, _ = finished

    def kill(moment: Moment) -> None:
        if moment.stage == "comparison":
            raise Killed

    with pytest.raises(Killed):
        start(small(), tmp_path / "run", watch=kill)
    assert resume(tmp_path / "run").finished
    assert_same_curves(root, tmp_path / "run")


def test_resume_refuses_another_configuration_and_damage(tmp_path):
    run = tmp_path / "run"
    start(small("iterations=2"), run)
    with pytest.raises(UserError, match=r"other values of learner\.learning_rate"):
        resume(run, config=small("iterations=2", "learner.learning_rate=0.001"))
    newest = run / "checkpoints" / "000002" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"000002/tensors\.safetensors is damaged.*one of"):
        resume(run)
    with pytest.raises(CheckpointError, match=r"no checkpoint 7; known: "):
        resume(run, checkpoint=7)
    # Never silently; but when told to, it goes on from the older one.
    assert resume(run, checkpoint=1).iteration == 2


def test_plain_learner_needs_no_guidance(tmp_path):
    config = small(*UNGUIDED, "iterations=1")
    assert config.guidance() is None
    assert start(config, tmp_path / "run").finished
    metrics = pl.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert not [name for name in metrics.columns if name.startswith("guidance/")]


def test_joint_guidance_records_effects(tmp_path):
    config = small("learner.guidance.estimator=joint", "iterations=1")
    assert config.guidance().effects
    assert start(config, tmp_path / "run").finished


@pytest.mark.slow
def test_guided_training_beats_the_untrained_policy_by_far(tmp_path):
    config = small("scenario.horizon=100", "iterations=10", "evaluation.episodes=10")
    outcome = start(config, tmp_path / "run")
    first = pl.read_parquet(tmp_path / "run" / "metrics.parquet")["evaluation/return"][0]
    # Returns are minus mean response times, so half of it is a policy that is twice as fast.
    assert outcome.best > 0.5 * first


def test_runs_are_not_overwritten_by_accident(finished, tmp_path):
    root, _, _ = finished
    with pytest.raises(UserError, match=r"already holds a run.*--resume.*--force.*--out"):
        start(small(), root)
    (tmp_path / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UserError, match="holds other files and no run"):
            start(small(), tmp_path, force=force)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="holds no run to continue"):
        resume(tmp_path / "nothing")


def test_two_processes_cannot_train_in_one_folder(finished):
    folder, _ = RunFolder.open(finished[0])
    before = sorted(path.name for path in finished[0].rglob("*"))
    with folder.locked():
        with pytest.raises(UserError, match="another process is training in"):
            resume(finished[0])
        with pytest.raises(UserError, match="another process is training in"):
            start(small(), finished[0], force=True)
    assert sorted(path.name for path in finished[0].rglob("*")) == before


def test_force_replaces_a_run_and_only_that(tmp_path):
    run = tmp_path / "run"
    start(small("iterations=1"), run)
    (run / "notes.txt").write_text("mine")
    start(small("iterations=1", "seed=3"), run, force=True)
    assert json.loads((run / "config.json").read_text())["seed"] == 3
    assert pl.read_parquet(run / "metrics.parquet").height == 2
    assert (run / "notes.txt").read_text() == "mine"


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write into folder .*file/run: Not a directory"):
        start(small(), tmp_path / "file" / "run")


def test_full_disk_is_one_clear_error_and_keeps_the_checkpoints(tmp_path, monkeypatch):
    run = tmp_path / "run"
    write = Table.write

    def full(self):
        if self.frame.height > 2:
            raise UserError(f"cannot write {run / 'metrics.parquet'}: No space left on device")
        write(self)

    monkeypatch.setattr(Table, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        start(small("evaluation.episodes=1"), run)
    monkeypatch.undo()
    assert resume(run).finished


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_number_that_is_not_finite_stops_with_the_checkpoint_intact(tmp_path, monkeypatch, what):
    from fairlead.policies.actor_critic import ActorCritic

    run = tmp_path / "run"
    update = ActorCritic.update

    def diverge(self, rollout):
        figures = update(self, rollout)
        if self.updates == 3:
            if what == "loss":
                return {**figures, "policy/loss": float("nan")}
            self.actor.parameters["score.weight"][0, 0] = float("inf")
        return figures

    monkeypatch.setattr(ActorCritic, "update", diverge)
    name = {"loss": "policy/loss", "weight": r"score\.weight"}[what]
    with pytest.raises(DivergedError, match=rf"iteration 3: {name} is not finite"):
        start(small(), run)
    monkeypatch.undo()
    assert pl.read_parquet(run / "metrics.parquet")["iteration"].to_list() == [0, 1, 2]
    assert resume(run).finished


def test_unknown_names_are_explained(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'learner.guidnce'; did you mean"):
        small("learner.guidnce.form=exact")
    with pytest.raises(UserError, match=r"no reference 'optimum'; known: drain"):
        small("reference=optimum")
    with pytest.raises(UserError, match=r"no heuristic 'jsqq'; known: "):
        start(small('evaluation.baselines=["jsqq"]'), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def command(root: Path, *words: str) -> list[str]:
    overrides = [word for word in SMALL if not word.startswith("iterations")]
    return [
        *(sys.executable, "-c", "from fairlead.platform.cli.main import main; main()"),
        *("train", "cloud", "--out", str(root), *overrides, *words),
    ]


def wait_for(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_minus_nine_and_resume_on_the_command_line(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    pool = ("execution.executor=processes", "--workers", "2", "iterations=12")
    subprocess.run(command(whole, *pool), check=True, capture_output=True)
    for checkpoint in ("000002", "000005", "000009"):
        words = ("--resume",) if (cut / "config.json").exists() else pool
        running = subprocess.Popen(command(cut, *words), stderr=subprocess.DEVNULL)
        wait_for(cut / "checkpoints" / checkpoint)
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = subprocess.run(command(cut, "--resume"), check=True, capture_output=True, text=True)
    assert "return on unseen seeds" in done.stdout
    assert_same_curves(whole, cut)


@pytest.mark.slow
def test_interrupt_ends_with_a_checkpoint_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    words = ("execution.executor=processes", "--workers", "2", "iterations=500")
    running = subprocess.Popen(command(run, *words), stderr=subprocess.PIPE, text=True)
    wait_for(run / "checkpoints" / "000003")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert f"--out {run} --resume" in errors
    assert "Traceback" not in errors
    folder, _ = RunFolder.open(run)
    reached = json.loads(folder.summary.read_text())["iteration"]
    assert pl.read_parquet(folder.metrics)["iteration"].max() == reached
    done = subprocess.run(
        command(run, "--resume", f"iterations={reached + 1}"), capture_output=True, check=True
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_file_size_limit_is_one_clear_error(tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        command(tmp_path / "run", "iterations=2"),
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
