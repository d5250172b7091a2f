"""The report of a run: one HTML file with its pictures and tables, readable offline."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .canvas import DARK, LIGHT, MINUS, Draw, Palette, number, render
from .evaluation import EvaluationTable, Standing, unit_of
from .files import UserError, write_atomic
from .plots import (
    comparison_draw,
    comparison_height,
    guidance_picture,
    learning_picture,
    time_picture,
)
from .registry import find_domain
from .run_data import RunData, read_run
from .statistics import Interval

_DROPPED = re.compile(
    r"<\?xml[^>]*>|<!DOCTYPE[^>]*>|<metadata>.*?</metadata>|\sxmlns(:\w+)?=\"[^\"]*\"", re.DOTALL
)
"""Parts of an SVG file that an HTML page does without; they hold the only outside addresses."""


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Works while the run is in progress and shows what is there: sections whose tables are missing
    say so.

    Raises:
        UserError: the folder holds no run, or a file in it is damaged or cannot be written.
    """
    run = read_run(run_dir)
    path = run_dir / "report.html"
    write_atomic(path, report_html(run))
    return path


def report_html(run: RunData) -> str:
    """The page as text."""
    parts = [
        f"<h1>{escape(run.title)}</h1>",
        f'<p class="quiet">{escape(_origin(run))}</p>',
        _tiles(run),
        *_learning_section(run),
        *_comparison_section(run),
        *_episode_section(run),
        *_learner_section(run),
        *_facts_section(run),
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(run.title)}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _origin(run: RunData) -> str:
    source = run.facts.get("source") or {}
    revision = f", revision {str(source['git'])[:12]}" if "git" in source else ""
    changed = " with local changes" if source.get("changed") else ""
    started = str(run.facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC")
    return f"Started {started}, seed {run.facts.get('seed')}{revision}{changed}."


def _tiles(run: RunData) -> str:
    tiles: list[tuple[str, str, str]] = []
    table, standing = run.comparison, _policy(run.comparison)
    if table is not None and standing is not None:
        tiles.append(
            (number(standing.mean.point), "mean return of the best policy", _range(standing.mean))
        )
        if standing.difference is not None and standing.improvement is not None:
            bar = f"above {table.bar()}, the best heuristic with the same information"
            gain = standing.difference
            tiles.append((_signed(gain.point), bar, _range(gain)))
            won = f"{100 * standing.improvement.point:.0f} %"
            tiles.append((won, f"of {len(table.seeds)} unseen seeds won against it", ""))
    learning = run.learning()
    if learning is not None and not tiles:
        tiles.append((number(float(learning.value[-1])), "mean return so far", ""))
    if learning is not None:
        tiles.append((f"{learning.episodes[-1]:.0f}", "episodes of training", _per_agent(run)))
    if "seconds" in run.summary:
        tiles.append((_duration(float(run.summary["seconds"])), "of wall clock", ""))
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(caption)}</span>'
        f"<small>{escape(note)}</small></div>"
        for value, caption, note in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _learning_section(run: RunData) -> Iterator[str]:
    yield "<h2>Learning</h2>"
    if run.learning() is None:
        yield "<p>No evaluation yet.</p>"
        return
    yield (
        "<p>Mean return of the policy on fixed evaluation seeds with its 95&nbsp;% bootstrap "
        "interval over seeds. Lines are heuristics on the same seeds: dashed with the policy's "
        "information, dotted with fresh information, which no decentralised policy has.</p>"
    )
    yield _figure(learning_picture(run), (9.2, 4.0))


def _comparison_section(run: RunData) -> Iterator[str]:
    yield "<h2>Comparison</h2>"
    if run.comparison is None:
        yield "<p>Not measured yet: the run is not finished.</p>"
        return
    table = run.comparison
    yield (
        f"<p>The best policy and the heuristics on the same {len(table.seeds)} seeds, which "
        "neither training nor the choice of the best policy has seen. Gains and seeds won are "
        f"against <b>{escape(str(table.bar()))}</b>, seed by seed.</p>"
    )
    yield _figure(comparison_draw(table), (9.2, comparison_height(table)))
    yield _standings(table.standings())


def _standings(standings: Sequence[Standing]) -> str:
    heads = ("controller", "information", "mean return", "95 % interval", "IQM", "gain")
    rows = [_row("th", [*heads, "95 % interval", "seeds won"])]
    for s in standings:
        gain, won = s.difference, s.improvement
        cells = [
            escape(s.name),
            s.information,
            _value(s.mean.point),
            _range(s.mean),
            _value(s.iqm.point),
            "" if gain is None else _value(gain.point, signed=True),
            "" if gain is None else _range(gain),
            "" if won is None else f"{100 * won.point:.0f}&nbsp;%",
        ]
        rows.append(_row("td", cells, "policy" if s.kind == "policy" else s.information))
    return _wide(rows)


def _episode_section(run: RunData) -> Iterator[str]:
    table, policy = run.comparison, _policy(run.comparison)
    if table is None or policy is None:
        return
    standings = table.standings(resamples=2)
    columns = [policy.name]
    columns += [name for name in (table.bar(),) if name is not None]
    columns += [s.name for s in standings if s.information == "fresh"][:1]
    yield "<h2>Episodes</h2>"
    yield (
        "<p>Means over the seeds: the best policy, the best heuristic with the same information"
        f"{', and the best one with fresh information' if len(columns) > 2 else ''}. "
        "Figures that are zero for all of them are left out.</p>"
    )
    units = _units(run)
    rows = [_row("th", ["figure", "unit", *map(escape, columns)])]
    for figure in table.figures:
        means = [_mean(table.values(name, figure)) for name in columns]
        if not np.isnan(means).all() and any(means):
            unit = unit_of(figure, units).replace("1", "")
            rows.append(_row("td", [escape(figure), escape(unit), *map(_value, means)]))
    yield _wide(rows)


def _units(run: RunData) -> Mapping[str, str]:
    try:
        return find_domain(str(run.config.get("domain"))).units
    except UserError:
        # A run of a domain that is not installed here can still be read, without units.
        return {}


def _learner_section(run: RunData) -> Iterator[str]:
    drawn = guidance_picture(run)
    if drawn is not None:
        yield "<h2>Guidance and learner</h2>"
        yield (
            "<p>Alpha blends the analytical model's guidance with the measured advantage. A cosine "
            "that stays below zero says that the guidance points away from what the return says."
            "</p>"
        )
        yield _figure(drawn, (9.8, 4.8))
    drawn = time_picture(run)
    if drawn is not None:
        yield "<h2>Time</h2>"
        yield _figure(drawn, (9.2, 3.0))


def _facts_section(run: RunData) -> Iterator[str]:
    yield "<h2>Configuration and versions</h2>"
    yield _details("Configuration", run.config)
    yield _details("Versions and source", run.facts)
    if run.summary:
        yield _details("How it ended", run.summary)


def _details(caption: str, values: Mapping[str, Any]) -> str:
    rows = [
        _row("td", [f"<code>{escape(name)}</code>", escape(str(value))])
        for name, value in _flat(values)
    ]
    inner = _wide(rows)
    return f"<details><summary>{escape(caption)}</summary>{inner}</details>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _policy(table: EvaluationTable | None) -> Standing | None:
    standings = [] if table is None else table.standings()
    return next((s for s in standings if s.kind == "policy"), None)


def _per_agent(run: RunData) -> str:
    decisions = run.curve("decisions_per_agent")
    return "" if decisions is None else f"{decisions.value[-1]:,.0f} decisions per agent"


def _mean(values: np.ndarray) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


def _value(value: float, *, signed: bool = False) -> str:
    """A number for reading that carries the exact one with it."""
    if np.isnan(value):
        return ""
    sign, size = "+" if signed else "", abs(value)
    # Costs of a day in dollars differ in the fourth digit: large figures are whole, not rounded.
    layout = (
        ",.3f" if size == 0.0 or 1e-3 <= size < 1e5 else ",.0f" if 1e5 <= size < 1e12 else ".3g"
    )
    shown = f"{value:{sign}{layout}}"
    return f'<data value="{value!r}">{shown.replace("-", MINUS)}</data>'


def _signed(value: float) -> str:
    return number(value) if value < 0 else f"+{number(value)}"


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}".replace("-", MINUS)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _row(tag: str, cells: Sequence[str], kind: str = "") -> str:
    inner = "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)
    return f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>"


def _wide(rows: Sequence[str]) -> str:
    return '<div class="wide"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _figure(draw: Draw, size: tuple[float, float]) -> str:
    """A drawing as inline SVG in the page's own colours."""
    text = render(draw, size, palette=LIGHT, kind="svg").decode("utf-8")
    text = _DROPPED.sub("", text).replace("xlink:href", "href")
    for field in fields(Palette):
        text = text.replace(getattr(LIGHT, field.name), f"var(--{field.name})")
    # Several drawings share the page: their inner references need names of their own.
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{mark}-", text)
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", text, count=1)
    return f"<figure>{text.strip()}</figure>"


def _style() -> str:
    def variables(palette: Palette) -> str:
        return " ".join(f"--{name}: {colour};" for name, colour in asdict(palette).items())

    return (
        f":root {{ {variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}\n{_RULES}"
    )


_RULES = """\
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 "DejaVu Sans", Verdana, system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 0.4rem; }
p { max-width: 46rem; }
.quiet { color: var(--muted); margin: 0.2rem 0 1.4rem; }
.tiles { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); }
.tile { border: 1px solid var(--grid); border-radius: 0.5rem; padding: 0.8rem 1rem;
  display: flex; flex-direction: column; }
.tile b { font-size: 1.5rem; color: var(--policy); }
.tile span { font-size: 0.85rem; }
.tile small { color: var(--muted); }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: 0.28rem 0.8rem 0.28rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
td:first-child, th:first-child { text-align: left; }
th { color: var(--muted); font-weight: normal; }
tr.policy td { color: var(--policy); font-weight: bold; }
tr.fresh td:first-child { color: var(--fresh); }
tr.same td:first-child { color: var(--same); }
details { margin: 0.6rem 0; }
details td { text-align: left; white-space: normal; }
summary { cursor: pointer; }
code { font-size: 0.95em; }
"""
