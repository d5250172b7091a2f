"""Checks of the monitoring files that need no server: schemas, linters, contract, promtool."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...ops import contract, grafana, lint, queries, rules
from ..rows import Row
from .servers import program

OPS = Path(rules.__file__).parent
DASHBOARDS = OPS / "dashboards"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, what is wrong with it, and why it did not run, if so."""

    name: str
    wrong: Sequence[str] = ()
    skipped: str = ""

    @property
    def row(self) -> Row:
        """As a figure of a report: the number of mistakes, which must be 0."""
        if self.skipped:
            return Row.info(self.name, f"skipped: {self.skipped}", "")
        return Row.at_most(self.name, len(self.wrong), "mistakes", 0)


def boards() -> Mapping[str, Mapping[str, Any]]:
    """Every committed dashboard by its file's name."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(DASHBOARDS.glob("*.json"))
    }


def static(schemas: Path | None) -> list[Finding]:
    """All checks that run on files.

    Args:
        schemas: folder with Grafana's JSON schemas; ``None``: ``$FAIRLEAD_DATA/grafana``.
    """
    return [*_dashboards(schemas), _regenerated(), _rules(), _runbooks(), _used(), *_tools()]


def _dashboards(schemas: Path | None) -> list[Finding]:
    folder = schemas or Path(os.environ.get("FAIRLEAD_DATA", "data")) / "grafana"
    found: list[Finding] = []
    for name, content in boards().items():
        if folder.is_dir():
            found.append(Finding(f"{name}: Grafana's schema", grafana.violations(content, folder)))
        else:
            reason = f"no folder {folder} (--schemas or FAIRLEAD_DATA)"
            found.append(Finding(f"{name}: Grafana's schema", skipped=reason))
        found.append(Finding(f"{name}: linter", [str(one) for one in lint.lint(content)]))
    return found


def _regenerated() -> Finding:
    from ...ops.dashboards import build

    wrong = [
        f"{name} is not what its code builds; run `make dashboards`"
        for name, text in build.generate().items()
        if (DASHBOARDS / name).read_text(encoding="utf-8") != text
    ]
    return Finding("dashboards are what their code builds", wrong)


def _rules() -> Finding:
    wrong = [
        f"{rule.name}: {problem}"
        for rule in rules.rules()
        for problem in queries.problems(rule.expression)
    ]
    return Finding("rules: metrics, labels and values exist", wrong)


def _runbooks() -> Finding:
    wrong = [
        f"{rule.name}: no {rule.runbook or 'runbook_url'}"
        for rule in rules.rules()
        if rule.kind == "alert" and not (rule.runbook and (OPS / rule.runbook).is_file())
    ]
    return Finding("rules: every alert has its runbook", wrong)


def _used() -> Finding:
    """Every metric is shown or alerted on, or says why not."""
    read: set[str] = set()
    for rule in rules.rules():
        read |= queries.used(rule.expression)
    for content in boards().values():
        for panel in lint.panels_of(content):
            for target in panel.get("targets", ()):
                read |= {selector.metric for selector in lint.selectors(target["expr"])}
    wrong = [
        f"{metric.full} is in no panel and no rule, and does not say why"
        for metric in contract.METRICS.values()
        if not read & set(metric.samples) and not metric.raw
    ]
    return Finding("contract: every metric is used", wrong)


def _tools() -> list[Finding]:
    folder = rules.FOLDER
    tests = [f"tests/{path.name}" for path in sorted((folder / "tests").glob("*.yml"))]
    config = str(OPS / "alertmanager" / "alertmanager.yml")
    return [
        _tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *rules.FILES),
        _tool("promtool", "check", "config", "prometheus.yml"),
        *(_tool("promtool", "test", "rules", name) for name in tests),
        _tool("amtool", "check-config", config),
    ]


def _tool(name: str, *arguments: str) -> Finding:
    told = f"{name} {' '.join(Path(word).name for word in arguments if word[:2] != '--')}"
    found = program(name)
    if found is None:
        return Finding(told, skipped=f"{name} is not installed")
    done = subprocess.run(  # noqa: S603
        [found, *arguments], cwd=rules.FOLDER, capture_output=True, text=True, check=False
    )
    return Finding(told, [(done.stdout + done.stderr).strip()] if done.returncode else [])
