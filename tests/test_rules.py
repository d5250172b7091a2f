"""Recording and alert rules: they parse, read what exists, and every alert's test can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fairlead.ops import contract, queries
from fairlead.ops.rules import FILES, FOLDER, rules

OPS = FOLDER.parent
ALERTS = [rule for rule in rules() if rule.kind == "alert"]
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def loaded(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def promtool(*arguments, cwd=FOLDER):
    return subprocess.run(
        ["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_our_reader_sees_what_a_yaml_library_sees():
    plain = [
        (rule.get("alert") or rule["record"], " ".join(rule["expr"].split()), rule.get("for", ""))
        for name in FILES
        for rule in loaded(name)
    ]
    assert plain == [(rule.name, rule.expression, rule.wait) for rule in rules()]
    severities = [rule["labels"]["severity"] for rule in loaded("alerts.rules.yml")]
    assert severities == [rule.severity for rule in ALERTS]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: f"{rule.name}-{rule.severity}")
def test_every_metric_label_and_value_in_a_rule_exists(rule):
    assert queries.problems(rule.expression) == []


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("rate(fairlead_decision_total[5m])", "nobody exports fairlead_decision_total"),
        ('fairlead_decisions_total{agent="1"}', "no label agent"),
        ('fairlead_decisions_total{source="polcy"}', "never 'polcy'"),
        ('fairlead_decisions_total{source=~"policy|sage"}', "never 'policy|sage'"),
        ("sum by (dom) (fairlead_decisions_total)", "by (dom)"),
        ("fairlead_decision_duration_seconds", "nobody exports"),
        ("sum(", "does not parse"),
    ],
)
def test_the_check_of_expressions_finds_mistakes(expression, part):
    assert any(part in problem for problem in queries.problems(expression))


def test_recorded_series_are_those_of_the_contract_and_named_level_metric_operation():
    recorded = [rule.name for rule in rules() if rule.kind == "record"]
    assert recorded == [*contract.RECORDED]
    assert all(re.fullmatch(r"domain:fairlead_\w+:\w+", name) for name in recorded)
    for name in recorded:
        used = {family for rule in rules() for family in queries.used(rule.expression)}
        dashboards = "".join(p.read_text() for p in (OPS / "dashboards").glob("*.json"))
        assert name in used or name in dashboards, f"nobody reads {name}"


def test_every_alert_says_what_with_a_value_and_where_to_look():
    for rule in loaded("alerts.rules.yml"):
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}
        assert notes["runbook_url"] == f"runbooks/{rule['alert']}.md"
        assert rule["labels"]["severity"] in {"page", "ticket", "none"}
        named = "{{" in notes["summary"] or rule["alert"] in {"FairleadAbsent", "Watchdog"}
        assert named, f"{rule['alert']} does not say where"


def test_there_is_a_runbook_for_every_alert_and_none_too_many():
    books = {path.stem for path in (OPS / "runbooks").glob("*.md")} - {"README"}
    assert books == {rule.name for rule in ALERTS}
    for path in (OPS / "runbooks").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        if path.stem != "README":
            assert text.startswith(f"# {path.stem}\n")
            assert all(f"\n## {part}\n" in text for part in ("Meaning", "Check", "Act")), path
        for query in re.findall(r"```promql\n(.*?)```", text, flags=re.DOTALL):
            assert queries.problems(query) == [], f"{path.name}: {query}"


@needs_promtool
def test_promtool_accepts_the_rules():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_behave_as_their_cases_say(path):
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted({rule.name for rule in ALERTS}))
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(name):
    cases = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
    fires, silent = 0, 0
    for case in cases:
        for one in case.get("alert_rule_test", []):
            fires += one["alertname"] == name and bool(one["exp_alerts"])
            silent += one["alertname"] == name and not one["exp_alerts"]
        for one in case.get("promql_expr_test", []):
            silent += name in one["expr"] and not one["exp_samples"]
    assert fires, f"{name} is never seen firing with its text"
    assert silent or name == "Watchdog"


def cases_about(name, folder):
    """A file with only the cases of one alert: promtool evaluates all rules for every case."""
    for path in TESTS:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        kept = [case for case in content["tests"] if f"{name}" in str(case)]
        if kept:
            files = [str(folder / Path(other).name) for other in content["rule_files"]]
            target = folder / "cases.yml"
            target.write_text(yaml.safe_dump({**content, "rule_files": files, "tests": kept}))
            return target
    raise AssertionError(f"no case names {name}")


def mutations():
    """(alert and severity, what is changed, old text, new text) in the rule file."""
    for rule in ALERTS:
        identity = f"{rule.name}-{rule.severity}"
        if rule.wait:
            minutes = {"30s": 30}.get(rule.wait) or 60 * int(rule.wait.removesuffix("m"))
            yield identity, "later", f"for: {rule.wait}", f"for: {minutes + 15}s"
            if minutes > 15:
                yield identity, "earlier", f"for: {rule.wait}", f"for: {minutes - 15}s"
        elif rule.name != "Watchdog":
            yield identity, "later", "labels:", "for: 15s\n        labels:"
        bound = re.search(r"(?<![\w\"{])(> |== )([0-9.]+)", rule.expression)
        if bound and bound[1] == "> " and float(bound[2]):
            yield identity, "lower", bound[0], f"> {float(bound[2]) * 0.8}"


@needs_promtool
@pytest.mark.slow
@pytest.mark.parametrize(
    ("identity", "what", "old", "new"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in mutations()],
)
def test_a_changed_rule_fails_its_test(tmp_path, identity, what, old, new):
    """Otherwise the test could not tell the rule from a wrong one."""
    name, severity = identity.split("-")
    text = (FOLDER / "alerts.rules.yml").read_text(encoding="utf-8")
    blocks = re.split(r"(?=\n +- alert: )", text)
    (index,) = [
        number
        for number, block in enumerate(blocks)
        if f"- alert: {name}\n" in block and f"severity: {severity}" in block
    ]
    block = blocks[index]
    assert old in block
    block = block.replace(old, new) if what == "lower" else block.replace(old, new, 1)
    blocks[index] = block
    (tmp_path / "alerts.rules.yml").write_text("".join(blocks), encoding="utf-8")
    shutil.copy(FOLDER / "recording.rules.yml", tmp_path)
    assert promtool("check", "rules", tmp_path / "alerts.rules.yml").returncode == 0
    failed = promtool("test", "rules", cases_about(name, tmp_path)).returncode != 0
    assert failed, f"{name}: no case notices that it fires {what}"


@needs_promtool
def test_prometheus_accepts_its_configuration(tmp_path):
    copy = tmp_path / "prometheus"
    shutil.copytree(FOLDER, copy)
    done = promtool("check", "config", copy / "prometheus.yml", cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
def test_alertmanager_accepts_its_configuration():
    config = OPS / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(
        ["amtool", "check-config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for severity, receiver in (("page", "page"), ("ticket", "ticket"), ("none", "watchdog")):
        route = ["amtool", "config", "routes", "test", f"--config.file={config}"]
        labels = [
            f"severity={severity}",
            "alertname=X" if severity != "none" else "alertname=Watchdog",
        ]
        done = subprocess.run([*route, *labels], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == receiver


def test_paths_in_the_configuration_exist():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == [*FILES]
    assert all((FOLDER / name).is_file() for name in config["rule_files"])
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in FILES)
    assert set(re.findall(r'job="([\w-]+)"', text)) <= jobs
    assert Path(OPS / "prometheus").is_dir()
