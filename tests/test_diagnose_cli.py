"""The command diagnose: tables, documents, pictures, and one clear line per mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer

from fairlead.platform.bundle import Contents, save_bundle
from fairlead.platform.cli import main as cli
from fairlead.platform.cli.diagnose import register
from fairlead.platform.episodes import Stage
from fairlead.platform.tasks import DomainFactory, Task, Trained
from fairlead.policies.learners import LearnerConfig, make_learner

SCENARIO = {"agents": 6, "horizon": 25}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Not trained, but with opinions: steers to fast nodes with little work."""
    stage = Stage(DomainFactory("cloud", "dispatch", SCENARIO))
    spec = stage.spec
    config = LearnerConfig(network={"hidden": (8,), "context": False})
    arrays = make_learner(spec, config, seed=0).policy()
    first, last = arrays.tensors["candidate.weight"], arrays.tensors["score.weight"]
    first[...], last[...] = 0.0, 0.0
    for column, (name, opinion) in enumerate(
        {"hold": -12.0, "service": -6.0, "work": -6.0}.items()
    ):
        first[:, spec.candidate_column(name), column] = 0.5
        last[:, column] = opinion
    result = stage.play(Task(5, Trained(arrays), record=True))
    contents = Contents(
        name="test policy", spec=spec, arrays=arrays, settings=SCENARIO, provenance={}
    )
    folder = tmp_path_factory.mktemp("run") / "bundle"
    save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FAIRLEAD_DEBUG", raising=False)

    def build():
        app = typer.Typer(pretty_exceptions_enable=False)
        register(app)
        app.callback()(lambda: None)
        return app

    monkeypatch.setattr(cli, "build", build)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in ("diagnose", *arguments)])
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return call


def test_a_broken_agent_is_named_in_table_document_and_picture(run, bundle, tmp_path):
    plot = tmp_path / "case.png"
    given = (bundle, "--inject", "4@8", "--fault", "stuck", "--references", "8")
    status, out, _ = run(*given, "--plot", plot)
    assert status == 0
    assert "PATIENT 0; broken on purpose at 8 (stuck)" in out
    assert "Agent 4 failed first" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    status, out, _ = run(*given, "--json")
    document = json.loads(out)
    (episode,) = document["episodes"]
    assert status == 0 and episode["patient_0"] == 4 and episode["signal"] == "frozen"
    assert episode["faults"] == [{"agent": 4, "epoch": 8, "kind": "stuck", "strength": None}]
    assert len(episode["agents"]) == 6
    ranked = [row["peak"] for row in episode["agents"][1:]]
    assert all(np.isfinite(ranked))
    rows = {row["name"]: row["measured"] for row in document["rows"]}
    assert rows["episode 0: patient 0"] == 4
    assert document["accuracy"] is None


def test_episodes_without_a_fault_are_examined_as_they_are(run, bundle):
    status, out, _ = run(bundle, "--episodes", "2", "--seed", "7", "--references", "8", "--json")
    episodes = json.loads(out)["episodes"]
    assert status == 0
    assert [episode["seed"] for episode in episodes] == [7, 8]
    assert all(episode["faults"] == [] for episode in episodes)


def test_accuracy_is_reported_with_intervals_and_baselines(run, bundle):
    given = ("--accuracy", "4", "--fault", "flip", "--references", "8")
    status, out, _ = run(bundle, *given, "--json")
    found = json.loads(out)["accuracy"]
    assert status == 0 and set(found["shares"]) == {"flip"}
    shares = found["shares"]["flip"]
    assert {"both stages", "largest remainder", "random agent"} <= shares.keys()
    assert all(share["count"] == 4 for share in shares.values())
    assert found["false_alarms"]["count"] == 4
    status, out, _ = run(bundle, *given)
    assert status == 0 and "flip: Patient-0 by largest remainder" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inject", "9@3"], "agents are 0 to 5"),
        (["--inject", "2@99"], "epochs are 0 to 24"),
        (["--inject", "two"], "AGENT@EPOCH"),
        (["--inject", "2@3", "--fault", "melt"], "known: noise, stuck, flip"),
        (["--accuracy", "2", "--fault", "melt"], "known: noise, stuck, flip, all"),
        (["--signals", "heat"], "known: remainder, observation, surprise, frozen"),
        (["--alarm", "2"], "alarm"),
        (["--plot", "case.txt"], ".png or .svg"),
        (["--plot", "/nowhere/at/all/case.png"], "its folder does not exist"),
        (["scenario.agents=9"], "agents"),
        (["scenario.agent=9"], "agents"),
    ],
)
def test_mistakes_are_one_clear_line(run, bundle, arguments, words):
    status, out, err = run(bundle, *arguments)
    assert status == 2 and out == ""
    assert words in err and len(err.strip().splitlines()) == 1


def test_what_is_no_bundle_is_refused(run, tmp_path):
    status, _, err = run(tmp_path)
    assert status == 2 and str(tmp_path) in err and len(err.strip().splitlines()) == 1
