"""The train, demo and bundle commands: help, options, refusals, and one run from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from fairlead.platform.cli.main import build, main
from fairlead.platform.cli.train import _flags, data_override, scenario_of
from fairlead.platform.files import UserError
from fairlead.platform.knobs import knobs
from fairlead.platform.moments import Moment
from fairlead.platform.presets import ALGORITHMS, DEMO
from fairlead.platform.train_config import UNGUIDED, config_type, load_config
from fairlead.policies.settings import Algorithm

TINY = (
    "scenario.agents=4",
    "scenario.horizon=20",
    "evaluation.episodes=2",
    'evaluation.baselines=["sed"]',
    "execution.executor=inline",
    "learner.passes=1",
    "learner.critic.passes=1",
    "iterations=1",
)


def run(*words: str, columns: int = 300):
    return CliRunner().invoke(build(), list(words), env={"COLUMNS": str(columns)})


def test_help_explains_every_knob():
    text = run("train", "--help").stdout
    flat = " ".join(text.split())
    for knob in knobs(config_type("cloud", "dispatch")):
        assert knob.name in text, knob.name
        assert knob.help, f"{knob.name} explains nothing"
        assert " ".join(knob.help.split())[:40] in flat, knob.name


def test_help_says_what_every_algorithm_is_for():
    assert tuple(ALGORITHMS) == get_args(Algorithm)
    flat = " ".join(run("train", "--help").stdout.split())
    for name, purpose in ALGORITHMS.items():
        assert f"{name} {purpose}" in flat, name
    assert f"<{'|'.join(ALGORITHMS)}>" in flat
    assert "--projection" in flat and "none|hpml" in flat


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_every_algorithm_composes_with_guidance_and_projection(algorithm):
    given = _flags(algorithm, "dgpg", None, None, None, "hpml")
    learner = load_config("cloud", "dispatch", overrides=given).learner
    assert (learner.algorithm, learner.projection.method) == (algorithm, "hpml")
    assert learner.guided
    plain = load_config("cloud", "dispatch", overrides=_flags(algorithm, "none", None, None, None))
    assert not plain.learner.guided and plain.learner.projection.method == "none"


def test_guided_trust_regions_may_step_further_than_sampled_ones():
    region = load_config("cloud", "dispatch").learner.trust_region
    assert region.guided_kl >= region.kl


@pytest.mark.parametrize("scenario", ["dispatch", "openb", "llm", "swf"])
def test_knobs_of_every_scenario_can_be_listed(scenario):
    text = run("train", "cloud", "--scenario", scenario, "--knobs").stdout
    assert "scenario.agents" in text
    assert ("scenario.window" in text) == (scenario == "swf")


def test_options_are_overrides():
    config = load_config("cloud", "dispatch", overrides=_flags("ippo", "none", 7, 3, "cuda:1"))
    assert config.learner.algorithm == "ippo"
    assert not config.learner.guided
    assert (config.seed, config.execution.workers, config.execution.device) == (7, 3, "cuda:1")
    assert load_config("cloud", "dispatch", overrides=_flags(None, "dgpg", None, None, None)) == (
        load_config("cloud", "dispatch")
    )


def test_scenario_comes_from_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('seed = 3\n[scenario]\nname = "llm"\n')
    assert scenario_of(file, "cloud") == "llm"
    assert scenario_of(None, "cloud") == "dispatch"


def test_data_folder_goes_where_files_are_read(tmp_path):
    assert load_config(
        "cloud", "openb", overrides=data_override("cloud", "openb", tmp_path)
    ).model_dump()["scenario"]["data"] == str(tmp_path)
    with pytest.raises(UserError, match="'dispatch' is built in and reads no files"):
        data_override("cloud", "dispatch", tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        data_override("cloud", "openb", tmp_path / "nothing")


def test_demo_is_a_valid_configuration_within_its_size():
    config = load_config("cloud", "dispatch", overrides=DEMO)
    assert config.scenario.model_dump()["agents"] == 20
    assert config.learner.guided


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "clod"), "no domain named 'clod'; did you mean 'cloud'?"),
        (("train", "cloud", "--scenario", "dispach"), "did you mean 'dispatch'?"),
        (("train", "cloud", "learner.clipp=0.1"), "did you mean 'learner.clip'?"),
        (("train", "cloud", "--resume", "--force"), "--force starts anew"),
        (("train", "cloud", "--resume", "--out", "/nothing/here"), "holds no run to continue"),
        (("train", "cloud", "--device", "tpu"), "execution.device"),
        (
            ("train", "cloud", "--guidance", "dgpg", *UNGUIDED),
            "--guidance dgpg, but learner.guidance.alpha is fixed at 0",
        ),
        (("bundle", "check", "/nothing/here"), "cannot read /nothing/here/manifest.json"),
    ],
)
def test_mistakes_are_one_line_and_status_two(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_one_line_trains_the_whole_method(tmp_path):
    out = tmp_path / "run"
    line = "train cloud --algorithm hatrpo-w --guidance dgpg --projection hpml"
    done = run(*line.split(), *TINY, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    stored = json.loads((out / "config.json").read_text())["learner"]
    assert stored["algorithm"] == "hatrpo-w" and stored["projection"]["method"] == "hpml"


def test_one_run_from_train_to_bundle(tmp_path):
    out = tmp_path / "run"
    done = run("train", "cloud", *TINY, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    names = [row["name"] for row in document["rows"]]
    assert "policy: return on unseen seeds" in names
    assert "sed: return on unseen seeds" in names
    assert Path(document["report"]).stat().st_size > 10_000
    shown = run("bundle", "show", str(out), "--json")
    assert json.loads(shown.stdout)["manifest"]["provenance"]["guided"] is True
    checked = run("bundle", "check", document["bundle"], "--json")
    rows = {row["name"]: row for row in json.loads(checked.stdout)["rows"]}
    assert rows["ONNX scores: largest difference"]["passed"] is True
    assert rows["golden decisions reproduced"]["measured"] > 0


def test_bundle_check_exits_one_for_a_graph_that_decides_otherwise(tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert run("train", "cloud", *TINY, "--out", str(out)).exit_code == 0
    monkeypatch.setattr("fairlead.platform.onnx_check.graph_error", lambda *_: 0.5)
    assert run("bundle", "check", str(out)).exit_code == 1


def test_figures_of_the_progress_line():
    from fairlead.platform.cli.watch import figures

    moment = Moment("write", 3, 10, latest=-2.5, best=-2.0, mark=("sed", -3.0))
    assert figures(moment) == "return -2.500  best -2.000  sed -3.000 beaten"
    assert figures(Moment("collect", 0, 10, mark=("sed", -3.0))) == "sed -3.000"
