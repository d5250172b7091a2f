"""The command line: help that teaches, figures as JSON, and one clear line per mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from pydantic import BaseModel

from fairlead.platform.cli import main as cli
from fairlead.platform.config import load
from fairlead.platform.files import UserError
from fairlead.platform.registry import domains, find_domain, find_scenario, locate_scenario
from fairlead.platform.template import template
from fairlead.simulators.errors import DataError

SCENARIOS = [(d, s) for d in domains().values() for s in d.scenarios]
DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FAIRLEAD_DEBUG", raising=False)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return call


def failing(error):
    """Replaces the commands by one that raises ``error``."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    return lambda: app


def test_help_lists_every_command_and_first_steps(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(f" {name} " in out for name in cli.COMMANDS)
    assert "fairlead demo" in out and "--debug" in out


def test_no_arguments_teach_instead_of_failing_silently(run):
    _, out, err = run()
    assert "fairlead scenario list" in out + err


def test_unknown_command_is_a_usage_error(run):
    status, _, err = run("tarin")
    assert status == 2 and "tarin" in err


def test_version_reports_every_relevant_package(run):
    status, out, err = run("version", "--json")
    found = {row["name"]: row["measured"] for row in json.loads(out)["rows"]}
    assert status == 0 and err == ""
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "simpy", "highspy", "fairlead"} <= found.keys()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such thing; try another"), "no such thing; try another"),
        (DataError("a.csv", line=3, field="gpu", value="x", accepted="a number"), None),
        (PermissionError(13, "Permission denied", "out/a.json"), "out/a.json: Permission denied"),
    ],
)
def test_mistakes_become_one_line_on_stderr_and_status_two(run, monkeypatch, error, line):
    monkeypatch.setattr(cli, "build", failing(error))
    # The importer's error counts as ours where an importer raised it; here a test does.
    monkeypatch.setattr(cli, "_raised_on_purpose", lambda _: True)
    status, out, err = run()
    assert (status, out) == (2, "")
    assert err == f"error: {line or str(error)}\n"


def test_debug_shows_the_traceback_anywhere(monkeypatch):
    monkeypatch.setattr(cli, "build", failing(UserError("no")))
    with pytest.raises(UserError):
        cli.main(["--debug"])
    monkeypatch.setenv("FAIRLEAD_DEBUG", "1")
    with pytest.raises(UserError):
        cli.main([])
    monkeypatch.setenv("FAIRLEAD_DEBUG", "0")
    with pytest.raises(SystemExit):
        cli.main([])


def test_defects_keep_their_traceback(monkeypatch):
    for defect in (ZeroDivisionError("x"), ValueError("raised by a test"), KeyError("x")):
        monkeypatch.setattr(cli, "build", failing(defect))
        with pytest.raises(type(defect)):
            cli.main([])


def test_a_value_error_counts_as_a_mistake_only_if_we_raise_it():
    simulator = find_domain("cloud").simulator(find_scenario("cloud", "dispatch")(agents=3))
    simulator.reset(0)
    with pytest.raises(ValueError, match="actions must be") as ours:
        simulator.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="shape") as numpys:
        np.zeros(2) + np.zeros(3)
    assert cli.explain(ours.value) == str(ours.value)
    assert cli.explain(numpys.value) is None


def test_settings_built_by_a_command_explain_themselves():
    class Knobs(BaseModel):
        width: int

    with pytest.raises(ValueError, match="width") as caught:
        Knobs(width="wide")
    assert cli.explain(caught.value).startswith("invalid Knobs: width: Input should be")


def test_extras_are_read_from_the_installed_distribution():
    assert {"torch", "simpy", "prometheus-client"} <= cli.requirements("train")
    assert "torch" not in cli.requirements("serve")
    assert "pytest" in cli.requirements("dev")


def test_missing_package_names_the_extra():
    assert cli.explain(ModuleNotFoundError("No module named 'simpy'", name="simpy.core")) == (
        "this command needs the package 'simpy', which is not installed; "
        "install it with: pip install 'fairlead[train]'"
    )
    assert cli.explain(ModuleNotFoundError("x", name="fairlead.platform.nonsense")) is None


def test_base_install_lists_scenarios_and_asks_for_the_extra():
    code = (
        "import sys\n"
        "for name in ('torch', 'simpy', 'polars', 'highspy', 'scipy', 'pyomo', 'matplotlib',\n"
        "             'gymnasium', 'pettingzoo', 'safetensors', 'onnxruntime', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "from fairlead.platform.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )

    def light(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )

    listed = light("scenario", "list")
    assert listed.returncode == 0 and "dispatch" in listed.stdout
    assert light("scenario", "show", "swf").returncode == 0
    checked = light("scenario", "check", "dispatch")
    assert checked.returncode == 2
    assert "pip install 'fairlead[train]'" in checked.stderr and checked.stderr.count("\n") == 1


def test_registry_suggests_names():
    with pytest.raises(UserError, match="no domain named 'clod'; did you mean 'cloud'"):
        find_domain("clod")
    with pytest.raises(UserError, match="no scenario of domain 'cloud' named 'dispatc'"):
        find_scenario("cloud", "dispatc")
    with pytest.raises(UserError, match="did you mean 'openb'"):
        locate_scenario("opemb")
    assert locate_scenario("cloud/llm")[1] is locate_scenario("llm")[1]


@pytest.mark.parametrize(("domain", "scenario"), SCENARIOS)
def test_templates_read_back_as_the_same_scenario(tmp_path, domain, scenario):
    kind = domain.scenarios[scenario]
    file = tmp_path / "scenario.toml"
    name, value = next((name, value) for name, value in kind() if type(value) in (int, float))
    changed = kind(**{name: value + 1})
    file.write_text(template(changed, title="a [title]"), encoding="utf-8")
    assert load(kind, file=file, overrides=[]) == changed != kind()
    assert file.read_text().count("#") > len(kind.model_fields) // 2


def test_toml_values_survive_hard_strings(tmp_path):
    class Hard(BaseModel):
        text: str = 'a "b" \\ \n \t \x7f é'
        numbers: tuple[float, ...] = (1.0, 1e-30, float("inf"))
        table: dict[str, int] = {"a b": 1}
        flag: bool = True

    file = tmp_path / "hard.toml"
    file.write_text(template(Hard()), encoding="utf-8")
    assert load(Hard, file=file, overrides=[]) == Hard()


def test_scenario_list_and_show_as_json(run):
    status, out, _ = run("scenario", "list", "--json")
    names = [row["name"] for row in json.loads(out)["rows"]]
    assert status == 0 and names == [f"{d.name}/{s}" for d, s in SCENARIOS]
    _, out, _ = run("scenario", "show", "dispatch", "agents=7", "--json")
    document = json.loads(out)
    values = {row["name"]: row["measured"] for row in document["rows"]}
    assert values["agents"] == 7
    assert [note["name"] for note in document["knobs"]] == list(values)


def test_shown_toml_can_be_checked(run, tmp_path):
    _, text, _ = run("scenario", "show", "dispatch", "agents=6", "horizon=11", "--toml")
    file = tmp_path / "mine.toml"
    file.write_text(text + "\n[learner]\nanything = 1\n", encoding="utf-8")
    status, out, _ = run("scenario", "check", str(file), "load=0.6", "--json")
    document = json.loads(out)
    figures = {row["name"]: row["measured"] for row in document["rows"]}
    assert status == 0
    assert (figures["agents"], figures["decision epochs"]) == (6, 11)
    assert figures["reference model"] == "optimal"
    assert document["scenario"]["load"] == 0.6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[scenario]\nname = "dispatch"\nlaod = 1\n', ", line 3: unknown key 'scenario.laod'"),
        ('[scenario]\nname = "spiral"\n', "no scenario named 'spiral'"),
        ('[scenario]\nname = "dispatch"\nagents = 0\n', "scenario.agents = 0 is not accepted"),
        ("agents = 3\n", "a table [scenario] with name = "),
        ("agents = \n", "not valid TOML"),
    ],
)
def test_a_bad_scenario_file_is_one_clear_line(run, tmp_path, text, message):
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    status, out, err = run("scenario", "check", str(file))
    assert (status, out) == (2, "")
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


SWF = """; MaxProcs: 8
1 0 0 100 4 -1 -1 4 100 -1 1 1 1 1 1 1 -1 -1
2 50 0 200 2 -1 -1 2 300 -1 1 1 1 1 1 1 -1 -1
"""


def test_import_summarises_a_trace(run, tmp_path):
    file = tmp_path / "log.swf"
    file.write_text(SWF, encoding="utf-8")
    status, out, _ = run("scenario", "import", "swf", str(file), "--json")
    figures = {row["name"]: row["measured"] for row in json.loads(out)["rows"]}
    assert status == 0
    assert (figures["jobs"], figures["machine"]) == (2, 8)
    assert figures["offered load"] == pytest.approx((4 * 100 + 2 * 200) / (50 * 8))


def test_import_names_file_line_and_field(run, tmp_path):
    file = tmp_path / "log.swf"
    file.write_text(SWF.replace(" 200 ", " long "), encoding="utf-8")
    status, _, err = run("scenario", "import", "swf", str(file))
    assert status == 2 and f"{file}, line 3" in err and "(run_time)" in err and "'long'" in err
    status, _, err = run("scenario", "import", "spreadsheet", str(file))
    assert status == 2 and "known: swf, openb, azure" in err


@pytest.mark.parametrize(
    ("kind", "file", "name", "figure"),
    [
        ("openb", "openb_node_list_all_node.csv", "GPUs", 6212),
        ("openb", "openb_pod_list_default.csv", "pods", 8152),
        ("azure", "azure_llm_2023_conv.csv", "requests", 19366),
        ("swf", "lublin1_256.swf", "jobs", 10000),
    ],
)
def test_import_of_the_real_traces(run, kind, file, name, figure):
    path = DATA / "cloud" / file
    if not path.is_file():
        pytest.skip(f"needs {path}; set FAIRLEAD_DATA to the folder with real traces")
    status, out, _ = run("scenario", "import", kind, str(path), "--json")
    figures = {row["name"]: row["measured"] for row in json.loads(out)["rows"]}
    assert status == 0 and figures[name] == figure
