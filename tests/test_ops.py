"""What is deployed: it loads where it will be loaded, and the alarm path works from end to end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from typer.testing import CliRunner

from fairlead.ops import contract, lint
from fairlead.ops.metric import Metric
from fairlead.platform.cli.main import build
from fairlead.platform.config import load
from fairlead.platform.daemon.settings import ServeConfig
from fairlead.platform.files import UserError
from fairlead.platform.knobs import knobs
from fairlead.platform.metrics import checks, live
from fairlead.platform.metrics.export import export
from fairlead.platform.metrics.servers import program

OPS = checks.OPS
CONFIG = OPS / "config" / "serve.toml"
UNIT = OPS / "systemd" / "fairlead.service"


def run(*words):
    return CliRunner().invoke(build(), list(words), env={"COLUMNS": "300"})


# --- files ------------------------------------------------------------------------------------


def test_the_example_configuration_loads_and_changes_only_paths():
    loaded = load(ServeConfig, file=CONFIG, overrides=[]).model_dump()
    plain = ServeConfig().model_dump()
    changed = {
        f"{section}.{key}"
        for section, values in loaded.items()
        for key, value in values.items()
        if value != plain[section][key]
    }
    assert changed == {"server.frames", "server.admin", "state.folder"}


def test_the_example_configuration_explains_every_knob_with_its_default():
    text = CONFIG.read_text(encoding="utf-8")
    # What is commented out is TOML as well, so that removing the # is all there is to do.
    bare = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    bare = bare.replace("# [slots.cloud]\ndeadline = 0.02\n", "").replace(
        "# [tick]\ncloud = 1.0", ""
    )
    shown = tomllib.loads(bare)
    plain = ServeConfig().model_dump(mode="json")
    for knob in knobs(ServeConfig):
        *path, name = knob.name.split(".")
        if not path:
            continue
        here, default = shown, plain
        for step in path:
            here, default = here[step], default[step]
        assert name in here, f"{knob.name} is not in {CONFIG.name}"
        if knob.name not in ("server.frames", "server.admin", "state.folder"):
            assert here[name] == default[name], knob.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_and_finds_it_confined(tmp_path):
    unit = tmp_path / "fairlead.service"
    text = UNIT.read_text(encoding="utf-8")
    # The program is not installed there on this machine; everything else is as deployed.
    unit.write_text(text.replace("/opt/fairlead/bin/fairlead", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    unit.write_text(text.replace("Type=notify\n", "Type=notifyy\n"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "notifyy" in done.stderr  # the check sees mistakes
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", exposure.stdout)
    if level is None:
        pytest.skip("this systemd cannot judge a unit offline")
    assert float(level[1]) < 2.5


def test_the_unit_starts_what_the_command_line_has():
    text = UNIT.read_text(encoding="utf-8")
    (start,) = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    assert start.split()[1:] == ["serve", "--config", "/etc/fairlead/serve.toml"]
    assert run("serve", "run", "--help").exit_code == 0
    drain = ServeConfig().server.drain
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, flags=re.MULTILINE)
    assert int(stop) > drain, "systemd would kill it while it drains"


def test_provisioning_names_what_there_is():
    (source,) = (OPS / "provisioning" / "datasources").glob("*.yml")
    (provider,) = (OPS / "provisioning" / "dashboards").glob("*.yml")
    (datasource,) = yaml.safe_load(source.read_text())["datasources"]
    assert datasource["type"] == "prometheus"
    prometheus = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
    interval = prometheus["global"]["scrape_interval"]
    assert datasource["jsonData"]["timeInterval"] == interval
    (one,) = yaml.safe_load(provider.read_text())["providers"]
    assert one["type"] == "file" and one["allowUiUpdates"] is False


def test_the_container_holds_no_training_and_no_root():
    text = (OPS / "container" / "Containerfile").read_text(encoding="utf-8")
    stages = text.split("FROM ")[1:]
    assert len(stages) == 2 and "USER 10470" in stages[1]
    assert "'.[serve]'" in text and "[all]" not in text and "torch" not in stages[1]
    assert "constraints.txt" in text


# --- export -----------------------------------------------------------------------------------


def test_export_writes_everything_deployable_and_links_runbooks(tmp_path):
    done = run("ops", "export", str(tmp_path / "out"), "--runbooks", "https://ops.example/books/")
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    rules = (out / "prometheus" / "alerts.rules.yml").read_text()
    links = re.findall(r"runbook_url: (\S+)", rules)
    assert links and all(link.startswith("https://ops.example/books/") for link in links)
    for name in ("systemd/fairlead.service", "config/serve.toml", "THREATS.md", "README.md"):
        assert (out / name).read_bytes() == (OPS / name).read_bytes()
    boards = {path.name for path in (out / "dashboards").iterdir()}
    assert boards == {path.name for path in (OPS / "dashboards").glob("*.json")}
    assert not [path for path in out.rglob("*") if path.suffix in {".py", ".pyc"}]


def test_export_replaces_nothing_unasked(tmp_path):
    export(tmp_path)
    export(tmp_path)  # the same again is no conflict
    mine = tmp_path / "prometheus" / "prometheus.yml"
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"prometheus\.yml exists and differs"):
        export(tmp_path)
    assert mine.read_text() == "mine"
    export(tmp_path, force=True)
    assert mine.read_text() != "mine"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_what_is_exported_passes_promtool(tmp_path):
    export(tmp_path, runbooks="https://ops.example")
    done = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus" / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- check ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_files_pass_their_checks():
    done = run("ops", "check", "--files-only", "--json")
    content = json.loads(done.stdout)
    assert content["mistakes"] == {}
    assert done.exit_code == 0
    names = " ".join(row["name"] for row in content["rows"])
    for part in ("linter", "schema", "runbook", "contract", "rules"):
        assert part in names


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("alerts.rules.yml", ("fairlead_breaker_trips_total[1h]", "fairlead_trips[1h]"), "exist"),
        ("alerts.rules.yml", ("runbooks/FdNearLimit", "runbooks/Gone"), "runbook"),
    ],
)
def test_a_mistake_in_a_rule_is_found(tmp_path, monkeypatch, name, content, part):
    folder = tmp_path / "prometheus"
    shutil.copytree(checks.rules.FOLDER, folder)
    text = (folder / name).read_text()
    assert content[0] in text
    (folder / name).write_text(text.replace(*content))
    whole = checks.rules.rules
    monkeypatch.setattr(checks.rules, "rules", lambda: whole(folder))
    found = [one for one in (checks._rules(), checks._runbooks()) if one.wrong]
    assert len(found) == 1 and part in found[0].name and found[0].row.passed is False


def test_a_metric_that_nobody_reads_is_found(monkeypatch):
    lonely = Metric("lonely_ratio", "gauge", "Nobody looks at it.")
    monkeypatch.setattr(contract, "METRICS", {**contract.METRICS, "lonely_ratio": lonely})
    assert any("fairlead_lonely_ratio" in line for line in checks._used().wrong)


def test_panel_queries_are_filled_in_for_everything_there_is():
    for board in checks.boards().values():
        for panel in lint.panels_of(board):
            for target in panel["targets"]:
                assert "$" not in live.filled(target["expr"])


def test_without_servers_the_live_part_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(live, "program", lambda name: None)
    (finding,) = live.live(lambda _: None)
    assert "prometheus, alertmanager, promtool" in finding.skipped
    assert finding.row.passed is None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    any(program(name) is None for name in live.NEEDED),
    reason="prometheus, prometheus-alertmanager or promtool is not installed",
)
def test_an_outage_reaches_alertmanager_and_every_panel_has_data():
    found = live.live(lambda _: None)
    assert {one.name: list(one.wrong) for one in found if one.wrong} == {}
    assert any("reaches Alertmanager" in one.name for one in found)
    assert sum("queries give data" in one.name for one in found) == 7
