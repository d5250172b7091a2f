"""The whole alarm path, live: daemon, Prometheus with our rules, Alertmanager, every panel's query.

What no file check can see: names that exist and are never set, queries that join nothing, rules
that fail at run time, an alert that reaches nobody.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from ...ops import contract, lint, rules
from ...ops.metric import PREFIX
from .checks import OPS, Finding, boards
from .rehearsal import AGENTS, DOMAIN, Rehearsal, training
from .servers import Alertmanager, Prometheus, program

PAGE = "FallbackActive"
"""The alert that the outage of all sensors must raise."""

NEEDED = ("prometheus", "alertmanager", "promtool")

Told = Callable[[str], None]


def live(told: Told, *, url: str = "") -> list[Finding]:
    """Start everything on loopback, play the rehearsal, and look at what Prometheus has.

    Args:
        told: gets the name of each step.
        url: a running daemon to look at instead; it is only scraped, so panels about events that
            have not happened there are not held against it.

    Returns:
        Findings; one that says what is not installed, if something is not.
    """
    missing = [name for name in NEEDED if program(name) is None]
    if missing:
        return [Finding("live checks", skipped=f"not installed: {', '.join(missing)}")]
    with tempfile.TemporaryDirectory(prefix="fairlead-ops-") as folder:
        if url:
            return _watched(Path(folder), url.removeprefix("http://").rstrip("/"), told)
        return _rehearsed(Path(folder), told)


def _rehearsed(folder: Path, told: Told) -> list[Finding]:
    rehearsal = Rehearsal(folder)
    begin = time.time()
    with rehearsal.running() as address, training(folder) as (jobs, trainer):
        targets = {"fairlead": [address], "fairlead-train": [*jobs]}
        with _servers(folder, targets) as (prometheus, alertmanager):
            trainer.start()
            rehearsal.play(told)
            early = PAGE in alertmanager.alerts()
            told(f"all sensors fail, until Alertmanager holds {PAGE} (a minute and more)")
            arrived = rehearsal.outage(until=lambda: PAGE in alertmanager.alerts())
            held = alertmanager.alerts()
            trainer.join(120.0)
            told("reading every panel's query")
            return [
                Finding(
                    f"live: no {PAGE} before the outage",
                    [f"{PAGE} was there already"] if early else [],
                ),
                _alert(held, arrived),
                Finding("live: Watchdog arrives", [] if "Watchdog" in held else ["it does not"]),
                *_exposition(address),
                _evaluated(prometheus),
                *_panels(prometheus, begin, strict=True),
            ]


def _watched(folder: Path, address: str, told: Told) -> list[Finding]:
    begin = time.time()
    with _servers(folder, {"fairlead": [address]}) as (prometheus, _):
        told(f"scraping {address} for twenty seconds")
        time.sleep(20.0)
        return [
            *_exposition(address),
            _evaluated(prometheus),
            *_panels(prometheus, begin, strict=False),
        ]


@contextmanager
def _servers(
    folder: Path, targets: Mapping[str, list[str]]
) -> Generator[tuple[Prometheus, Alertmanager]]:
    files = [rules.FOLDER / name for name in rules.FILES]
    config = OPS / "alertmanager" / "alertmanager.yml"
    with Alertmanager(folder, config=config) as alertmanager:
        server = Prometheus(folder, rules=files, targets=targets, alertmanager=alertmanager.address)
        with server as prometheus:
            yield prometheus, alertmanager


def _alert(held: Mapping[str, Mapping[str, str]], arrived: bool) -> Finding:
    name = f"live: {PAGE} reaches Alertmanager as a page"
    if not arrived:
        return Finding(name, [f"Alertmanager holds only {sorted(held)}"])
    labels = held[PAGE]
    right = labels.get("severity") == "page" and labels.get("domain") == DOMAIN
    return Finding(name, [] if right else [f"with labels {dict(labels)}"])


def _exposition(address: str) -> list[Finding]:
    """What the daemon itself exports: promtool is silent, names and labels are the contract's."""
    with urlopen(f"http://{address}/metrics", timeout=10.0) as answer:
        text = answer.read()
    command = [program("promtool") or "promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, check=False)  # noqa: S603
    said = (done.stdout + done.stderr).decode().strip()
    known = {
        sample: set(metric.labels) | ({"le"} if sample.endswith("_bucket") else set())
        for metric in contract.METRICS.values()
        for sample in metric.samples
    }
    wrong: list[str] = []
    series: Counter[str] = Counter()
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            series[sample.labels.get("domain", "")] += 1
            if sample.name.startswith(PREFIX) and (known.get(sample.name) != set(sample.labels)):
                wrong.append(f"{sample.name}{dict(sample.labels)} is not in the contract")
    most = max((count for domain, count in series.items() if domain), default=0)
    over = [f"a domain has {most} series"] if most > contract.SERIES_PER_DOMAIN else []
    return [
        Finding("live: promtool check metrics is silent", [said] if said else []),
        Finding("live: series are those of the contract", wrong),
        Finding(f"live: at most {contract.SERIES_PER_DOMAIN} series a domain ({most})", over),
    ]


def _evaluated(prometheus: Prometheus) -> Finding:
    return Finding("live: every rule is evaluated", prometheus.rule_errors())


def _panels(prometheus: Prometheus, begin: float, *, strict: bool) -> list[Finding]:
    """Each panel's queries give finite numbers, with the labels that its ``by`` clause names."""
    end = time.time()
    found: list[Finding] = []
    for name, board in boards().items():
        if not strict and "training" in name:
            continue
        wrong: list[str] = []
        count = 0
        for panel in lint.panels_of(board):
            for target in panel.get("targets", ()):
                count += 1
                wrong += _empty(prometheus, panel, target["expr"], begin, end, strict)
        found.append(Finding(f"live: {name}: all {count} queries give data", wrong))
    return found


def _empty(
    prometheus: Prometheus,
    panel: Mapping[str, Any],
    expression: str,
    begin: float,
    end: float,
    strict: bool,
) -> list[str]:
    result = prometheus.series(filled(expression), begin=begin, end=end, step=1.0)
    title = f"{panel['title']}: {expression}"
    if not result:
        return [f"no series: {title}"] if strict else []
    numbers = [float(value) for one in result for _, value in one["values"]]
    if strict and not any(math.isfinite(number) for number in numbers):
        return [f"only NaN: {title}"]
    wanted = _grouping(expression)
    labels = {label for one in result for label in one["metric"]} - {"__name__"}
    if wanted is not None and not labels <= wanted:
        return [f"labels {sorted(labels)} beside its by clause: {title}"]
    shares = panel.get("fieldConfig", {}).get("defaults", {}).get("unit") == "percentunit"
    if shares and any(number < 0.0 for number in numbers):
        return [f"a negative share: {title}"]
    return []


def filled(expression: str) -> str:
    """A panel's query for everything there is, over intervals that suit one scrape a second."""
    for name, value in (("$__rate_interval", "10s"), ("$__range", "2m"), ("$__interval", "1s")):
        expression = expression.replace(name, value)
    return re.sub(r"\$\{?[a-z]+\}?", ".+", expression)


def _grouping(expression: str) -> set[str] | None:
    """Labels of the outermost aggregation, if the whole query is one."""
    found = re.match(r"(?:sum|max|min|avg|count) by \(([^)]*)\) \(", expression)
    return {label.strip() for label in found[1].split(",")} if found else None


__all__ = ["AGENTS", "NEEDED", "PAGE", "filled", "live"]
