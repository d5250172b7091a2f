"""Reports and pictures of runs: self-contained, and the figures shown are those in the tables."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from fairlead.platform import canvas, plots
from fairlead.platform.evaluation import EvaluationTable
from fairlead.platform.files import UserError
from fairlead.platform.report import write_report
from fairlead.platform.run_data import read_run

RULES = (
    ("best rule", "same", -3.0),
    ("poor <rule>", "same", -9.0),
    ("seer (fresh)", "fresh", -2.0),
)
SEEDS = 12


def episodes(name: str, kind: str, information: str, mean: float, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 5]))
    returns = mean + rng.normal(scale=0.3, size=SEEDS)
    return pl.DataFrame(
        {
            "controller": name,
            "kind": kind,
            "information": information,
            "seed": np.arange(SEEDS),
            "return": returns,
            "regret": -returns / 1.5 - 1.0,
            "response_mean": -returns,
            "energy_kwh": 0.0,
        }
    )


def write_run(folder, *, finished: bool = True, iterations: int = 6):
    folder.mkdir()
    config = {
        "domain": "cloud",
        "scenario": {"name": "dispatch", "agents": 20},
        "learner": {"algorithm": "mappo"},
        "episodes": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    facts = {"seed": 7, "started": "2026-01-02T03:04:05+00:00", "versions": {"numpy": "2.4"}}
    (folder / "run.json").write_text(json.dumps(facts))
    steps = np.arange(iterations + 1)
    pl.DataFrame(
        {
            "iteration": steps,
            "guidance/alpha": [None, *np.linspace(0.9, 0.2, iterations)],
            "guidance/cosine": [None, *np.full(iterations, 0.25)],
            "guidance/cosine_error": [None, *np.full(iterations, 0.125)],
            "policy/entropy": [None, *np.linspace(2.0, 0.5, iterations)],
            "decisions_per_agent": [None, *(400.0 * steps[1:])],
        },
        strict=False,
    ).write_parquet(folder / "metrics.parquet")
    pl.DataFrame({"iteration": steps, "collect": 1.0 + steps, "update": 0.5}).write_parquet(
        folder / "timing.parquet"
    )
    curve = [
        episodes("policy", "policy", "same", -2.5 - 6.0 * 0.3**step, int(step)).with_columns(
            iteration=pl.lit(int(step))
        )
        for step in steps
    ]
    pl.concat(curve).write_parquet(folder / "evaluation.parquet")
    rules = [episodes(name, "heuristic", info, mean, 99) for name, info, mean in RULES]
    pl.concat(rules).write_parquet(folder / "baselines.parquet")
    if finished:
        policy = episodes("policy", "policy", "same", -2.5, 98)
        pl.concat([policy, *rules]).write_parquet(folder / "comparison.parquet")
        (folder / "summary.json").write_text(json.dumps({"seconds": 75.0, "finished": True}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "done")


@pytest.fixture(scope="module")
def page(run) -> str:
    path = write_report(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_report_needs_nothing_from_outside(page):
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import|<script|<link|<img", page)
    assert page.count("<svg") == page.count("</svg>") == 4
    for reference in re.findall(r'(?:url\(#|href="#)([^)"]+)', page):
        assert f'id="{reference}"' in page
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_colours_follow_the_reader(page):
    style = page[page.index("<style>") : page.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    for palette in (canvas.LIGHT, canvas.DARK):
        for name, colour in asdict(palette).items():
            assert f"--{name}: {colour};" in style
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--policy)" in drawings
    for colour in asdict(canvas.LIGHT).values():
        assert colour not in drawings


def rows_of(page: str, heading: str) -> dict[str, list[float]]:
    """First cell of every row of the first table after a heading, and its exact numbers."""
    table = page[page.index(f"<h2>{heading}</h2>") :]
    table = table[table.index("<table>") : table.index("</table>")]
    found = {}
    for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL):
        first = re.search(r"<td>(.*?)</td>", row)
        if first:
            found[first[1]] = [float(value) for value in re.findall(r'<data value="(.*?)"', row)]
    return found


def test_standings_in_the_report_equal_the_data(page, run):
    table = EvaluationTable.read(run / "comparison.parquet")
    rows = rows_of(page, "Comparison")
    assert list(rows) == ["seer (fresh)", "policy", "best rule", "poor &lt;rule&gt;"]
    mine, bar = table.values("policy"), table.values("best rule")
    trimmed = np.sort(mine)[3:-3].mean()
    assert rows["policy"] == pytest.approx([mine.mean(), trimmed, (mine - bar).mean()])
    assert rows["best rule"][0] == pytest.approx(bar.mean())
    assert len(rows["best rule"]) == 2  # it is the bar: no gain over itself
    won = round(100 * np.mean(mine > bar))
    assert f"<td>{won}&nbsp;%</td>" in page


def test_episode_figures_in_the_report_equal_the_data(page, run):
    table = EvaluationTable.read(run / "comparison.parquet")
    rows = rows_of(page, "Episodes")
    columns = ("policy", "best rule", "seer (fresh)")
    for figure in ("regret", "response_mean"):
        assert rows[figure] == pytest.approx(
            [table.values(name, figure).mean() for name in columns]
        )
    assert "energy_kwh" not in rows  # zero for all
    assert "<td>response_mean</td><td>s</td>" in page


def test_the_curve_is_the_mean_over_the_seeds(run):
    data = read_run(run)
    curve = data.learning()
    evaluation = pl.read_parquet(run / "evaluation.parquet")
    means = evaluation.group_by("iteration", maintain_order=True).agg(pl.col("return").mean())
    assert curve.episodes.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert curve.value == pytest.approx(means["return"].to_numpy())
    assert (curve.low < curve.value).all() and (curve.value < curve.high).all()
    cosine = data.with_error(data.curve("guidance/cosine"), "guidance/cosine_error")
    assert cosine.low == pytest.approx(0.125) and cosine.high == pytest.approx(0.375)
    assert data.curve("guidance/nothing") is None


def test_a_run_in_progress_has_a_report_too(tmp_path):
    page = write_report(write_run(tmp_path / "half", finished=False)).read_text(encoding="utf-8")
    assert "Not measured yet: the run is not finished." in page
    assert "mean return so far" in page
    assert "of wall clock" not in page


def test_damage_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no run \(no config\.json\)"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "bad")
    (folder / "metrics.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(UserError, match=r"cannot read .*metrics\.parquet"):
        write_report(folder)


def test_pictures_are_written_by_their_ending(run, tmp_path):
    plots.demo_picture(run, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    table = EvaluationTable.read(run / "comparison.parquet")
    plots.comparison_picture(table, tmp_path / "c.svg", title="Four controllers")
    assert ">Four controllers</text>" in (tmp_path / "c.svg").read_text()
    with pytest.raises(UserError, match=r"must end in \.png or \.svg"):
        plots.comparison_picture(table, tmp_path / "c.bmp")
    unfinished = write_run(tmp_path / "half", finished=False)
    with pytest.raises(UserError, match="is not finished"):
        plots.demo_picture(unfinished, tmp_path / "demo.png")


def test_labels_are_spread_apart_in_order():
    places = plots._spread([0.5, 0.51, 0.1, 0.505], 0.0, 1.0)
    assert np.diff(np.sort(places)).min() >= 0.052 - 1e-9
    assert np.argsort(places).tolist() == [2, 0, 3, 1]


def test_numbers_read_well():
    shown = [canvas.number(value) for value in (-2.5, 0.123, 12.0, 1234.5, -0.0123)]
    assert shown == ["\u22122.50", "0.12", "12.00", "1,234", "\u22120.0123"]
