"""The rules as values: read from the files that Prometheus loads, which stay the only source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "prometheus"
FILES = ("recording.rules.yml", "alerts.rules.yml")

_RULE = re.compile(r"^ +- (alert|record): (\S+)$", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One recording or alert rule.

    Attributes:
        kind: ``alert`` or ``record``.
        name: of the alert or of the recorded series.
        expression: PromQL, on one line.
        wait: the alert's ``for``, as written; empty without.
        severity: the alert's; empty for records.
        runbook: file of the alert's runbook, relative to this package; empty for records.
    """

    kind: str
    name: str
    expression: str
    wait: str = ""
    severity: str = ""
    runbook: str = ""


def rules(folder: Path = FOLDER) -> tuple[Rule, ...]:
    """All rules of our files, in their order.

    Only the form in which our own files are written is read, so that no YAML library is needed
    to check them; a test compares it with one.

    Raises:
        ValueError: a rule without an expression.
    """
    texts = ((folder / name).read_text(encoding="utf-8") for name in FILES)
    return tuple(rule for text in texts for rule in _rules(text))


def _rules(text: str) -> Iterator[Rule]:
    marks = [*_RULE.finditer(text)]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=True):
        body = text[mark.end() : end]
        yield Rule(
            kind=mark[1],
            name=mark[2],
            expression=_expression(body, mark[2]),
            wait=_field(body, r"^ +for: (\S+)$"),
            severity=_field(body, r"^ +labels: \{severity: (\w+)\}$"),
            runbook=_field(body, r"^ +runbook_url: (\S+)$"),
        )


def _field(body: str, pattern: str) -> str:
    found = re.search(pattern, body, flags=re.MULTILINE)
    return found[1] if found else ""


def _expression(body: str, name: str) -> str:
    found = re.search(r"^( +)expr: (.*)\n((?:\1 +\S.*\n)*)", body, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"rule {name} has no expr in the form that ops/rules.py reads")
    head = "" if found[2] == ">-" else found[2]
    return " ".join(f"{head} {found[3]}".split())
