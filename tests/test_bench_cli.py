"""The bench command: registry, options from flags and overrides, exit status, files."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fairlead.platform.cli import bench as bench_cli
from fairlead.platform.files import UserError
from fairlead.platform.rows import Row
from fairlead.simulators.settings import Settings, knob


class Options(Settings):
    agents: tuple[int, ...] = knob((5, 10), "numbers of agents")
    quick: bool = knob(False, "smallest run")
    plot: str | None = knob(None, "chart file")
    repeats: int = knob(3, "repeats", unit="runs", ge=1)


def run(options: Options, progress: Any) -> list[Row]:
    progress(1, 2, "half")
    return [
        Row.info(f"agents {options.agents} quick {options.quick} plot {options.plot}", 1, ""),
        Row.at_least("repeats", options.repeats, "runs", 2),
    ]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    module: Any = types.ModuleType("toy_bench")
    module.Options, module.run = Options, run
    monkeypatch.setitem(sys.modules, "toy_bench", module)
    monkeypatch.setattr(
        bench_cli,
        "BENCHES",
        {
            "toy": bench_cli.Bench("toy_bench", "a toy"),
            "lost": bench_cli.Bench("no_such_package_anywhere", "needs an extra"),
        },
    )
    app = typer.Typer()
    bench_cli.register(app)
    app.command("other")(lambda: None)
    return app


def invoke(app: typer.Typer, *arguments: str):
    return CliRunner().invoke(app, ["bench", *arguments])


def test_flags_and_overrides_reach_the_options_and_json_is_one_document(app, tmp_path):
    out = tmp_path / "result.json"
    result = invoke(
        app,
        *("toy", "repeats=7", "--agents", "5,20", "--quick", "--plot", "a'b.png".replace("'", "")),
        *("--json", "--out", str(out)),
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["rows"][0]["name"] == "agents (5, 20) quick True plot ab.png"
    assert document["rows"][1] == {
        "name": "repeats", "measured": 7, "unit": "runs", "target": 2, "passed": True,
    }  # fmt: skip
    assert document["options"]["agents"] == [5, 20]
    assert json.loads(out.read_text()) == document


def test_a_missed_mark_is_exit_status_one(app):
    result = invoke(app, "toy", "repeats=1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["rows"][1]["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no bench named 'nosuch'; known: toy, lost"),
        (["toy", "--seeds", "3"], "no option --seeds; its options: agents, quick, plot, repeats"),
        (["toy", "--agents", "5,x"], "--agents 5,x: give positive numbers"),
        (["toy", "repeat=2"], "did you mean 'repeats'"),
        (["toy", "repeats=0"], "at least 1 runs"),
        (["toy", "--out", "/no/such/folder/x.json"], "its folder does not exist"),
        (["lost"], "needs the package 'no_such_package_anywhere'"),
    ],
)
def test_mistakes_are_named(app, arguments, message):
    result = invoke(app, *arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_without_a_name_the_benches_are_listed_and_options_can_be_shown(app):
    listed = json.loads(invoke(app, "--json").stdout)
    assert [row["name"] for row in listed["rows"]] == ["toy", "lost"]
    shown = json.loads(invoke(app, "toy", "--options", "--json").stdout)
    assert [row["name"] for row in shown["rows"]] == ["agents", "quick", "plot", "repeats"]
    assert "numbers of agents" in invoke(app, "toy", "--options").stdout


@pytest.mark.parametrize("name", bench_cli.BENCHES)
def test_every_registered_bench_offers_options_and_run(name):
    module = bench_cli.load_bench(name)
    assert isinstance(module.Options(), Settings)
    assert callable(module.run)
