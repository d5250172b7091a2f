"""``fairlead compare traffic --in``: our streets, SUMO, and the gap between."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("simpy")

from fairlead.platform.cli.main import main
from fairlead.platform.evaluation import EvaluationTable
from fairlead.platform.executors import ProcessExecutor
from fairlead.platform.files import UserError
from fairlead.platform.plant import OURS, placed
from fairlead.platform.plant_picture import plant_picture
from fairlead.platform.plant_table import gap_rows, gaps, spread_rows, spreads
from fairlead.platform.rollouts import evaluation_seeds
from fairlead.platform.tasks import DomainFactory, Heuristic, Task
from fairlead.simulators.traffic.sumo.install import available

sumo = pytest.mark.skipif(not available(), reason="needs the extra sumo")

SMALL = ["scenario.rows=1", "scenario.columns=2", "scenario.seconds=300", "scenario.rate=300"]
FACTORY = DomainFactory(
    "traffic", "grid", {"rows": 1, "columns": 2, "seconds": 300.0, "rate": 300.0}
)


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def table(**delays):
    """An evaluation with these delays; an episode above 100 s is gridlocked."""
    records = [
        {
            "controller": name,
            "kind": "policy" if name == "trained" else "heuristic",
            "information": "same",
            "seed": seed,
            "return": -delay,
            "delay_mean_s": delay,
            "trip_time_mean_s": delay + 60.0,
            "gridlock": float(delay > 100.0),
        }
        for name, row in delays.items()
        for seed, delay in enumerate(row)
    ]
    return EvaluationTable(pl.DataFrame(records))


def children() -> set[int]:
    """Processes that run SUMO for us."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                parents = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "fairlead.simulators.traffic.sumo.worker" in words and f"MARK={MARK}" in parents:
                found.add(int(folder.name))
    return found


MARK = f"compare-traffic-{os.getpid()}"


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch, tmp_path):
    """Every SUMO ends with its test, and its files go."""
    monkeypatch.setenv("MARK", MARK)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "temporary").mkdir()
    yield
    end = time.monotonic() + 10.0
    while children() and time.monotonic() < end:
        time.sleep(0.05)
    assert not children()
    assert not [path.name for path in (tmp_path / "temporary").glob("fairlead-*")]
    monkeypatch.undo()
    tempfile.tempdir = None


# Figures.


def test_spread_over_seeds_by_hand():
    best, other = spreads(table(slow=[20.0, 30.0, 190.0], trained=[10.0, 12.0, 14.0]))
    assert (best.controller, best.mean, best.median, best.std) == ("trained", 12.0, 12.0, 2.0)
    assert (other.mean, other.median, other.gridlock) == (80.0, 30.0, pytest.approx(1 / 3))
    assert other.std == pytest.approx(np.std([20, 30, 190], ddof=1))
    assert best.trip_time == 72.0


def test_gap_between_the_plants_by_hand():
    ours = table(a=[10.0, 12.0], b=[20.0, 20.0], c=[30.0, 30.0])
    theirs = table(a=[16.0, 16.0], b=[40.0, 40.0], c=[25.0, 25.0])
    found = gaps(ours, theirs)
    assert [gap.controller for gap in found] == ["a", "c", "b"]
    assert [gap.difference for gap in found] == [5.0, -5.0, 20.0]
    rows = {row.name: row.measured for row in gap_rows(ours, theirs, "SUMO 1.2.3")}
    # One pair of three the wrong way round.
    name = f"{OURS} and SUMO 1.2.3: Kendall's tau of the orders by delay"
    assert rows[name] == pytest.approx(1 / 3)
    assert all("SUMO 1.2.3" in name for name in rows)


def test_every_row_names_the_plant():
    rows = spread_rows(table(a=[1.0, 2.0]), "SUMO 9.9")
    assert len(rows) == 5 and all("SUMO 9.9" in row.name for row in rows)
    assert {row.unit for row in rows} == {"s", "1"}


def test_the_picture_has_a_box_per_controller_and_plant(tmp_path):
    ours = table(a=[10.0, 12.0], trained=[20.0, 20.0])
    plant_picture(
        {OURS: ours, "SUMO 9.9": table(a=[11.0, 900.0], trained=[22.0, 25.0])},
        tmp_path / "both.svg",
        title="two plants",
    )
    text = (tmp_path / "both.svg").read_text()
    assert text.startswith("<?xml") and "two plants" in text and "SUMO 9.9" in text
    with pytest.raises(UserError, match="png"):
        plant_picture({OURS: ours}, tmp_path / "both.gif", title="")


# Our streets, which need no SUMO.


def test_in_streets_gives_the_same_figures_as_the_plain_comparison(capsys, tmp_path):
    common = [
        "compare", "traffic", "--scenario", "grid", *SMALL, "--controllers", "greedy,fixed",
        "--seeds", "3", "--workers", "1", "--json",
    ]  # fmt: skip
    status, plain, _ = run(capsys, *common)
    _, spread, _ = run(capsys, *common, "--in", "streets", "--out", str(tmp_path / "e.parquet"))
    assert status == 0
    plain, spread = json.loads(plain), json.loads(spread)
    measured = {row["name"]: row["measured"] for row in spread["rows"]}
    expected = {row["name"]: row["measured"] for row in plain["rows"]}
    assert measured[f"greedy, {OURS}: delay, mean"] == pytest.approx(
        expected["greedy: delay_mean_s"]
    )
    assert spread["plants"] == [OURS]
    assert [e["delay_mean_s"] for e in spread["episodes"]] == [
        e["delay_mean_s"] for e in plain["episodes"]
    ]
    frame = pl.read_parquet(tmp_path / "e.parquet")
    assert set(frame["plant"]) == {OURS} and frame.height == 6


def test_mistakes_are_one_clear_line(capsys, tmp_path):
    no_sumo = tmp_path / "sumo"
    no_sumo.touch()
    for words, problem in (
        (["cloud", "--in", "sumo"], "only those of 'traffic'"),
        (["power", "--in", "streets"], "only those of 'traffic'"),
        (["traffic", "--in", "vissim"], "vissim"),
        (["traffic", "--sumo-binary", str(no_sumo)], "--in sumo"),
        (["traffic", "--in", "streets", "--sumo-binary", str(no_sumo)], "changes nothing"),
    ):
        scenario = ["--scenario", "grid"] if words[0] == "traffic" else []
        status, out, err = run(capsys, "compare", *words, *scenario)
        assert (status, out) == (2, "")
        assert problem in " ".join(err.split())
        assert "Traceback" not in err


# In SUMO.


@sumo
def test_what_sumo_cannot_run_is_said_before_it_starts(capsys, tmp_path):
    no_sumo = tmp_path / "sumo"
    no_sumo.touch()
    for words, problem in (
        (["scenario.scale=0.5"], "cannot run in SUMO: in SUMO the demand is the file's"),
        (["scenario.interval=7.5"], "SUMO runs in whole seconds; interval is 7.5 s"),
        (["--sumo-binary", str(no_sumo)], "runnable sumo program"),
    ):
        status, out, err = run(
            capsys, "compare", "traffic", "--scenario", "grid", "--in", "sumo", *words
        )
        assert (status, out) == (2, "")
        assert problem in " ".join(err.split())


@sumo
def test_in_sumo_the_version_is_in_every_row(capsys, tmp_path):
    picture = tmp_path / "delay.png"
    status, out, _ = run(
        capsys, "compare", "traffic", "--scenario", "grid", *SMALL, "--controllers",
        "greedy,fixed,actuated", "--seeds", "2", "--workers", "1", "--in", "sumo", "--json",
        "--plot", str(picture),
    )  # fmt: skip
    document = json.loads(out)
    label = placed(FACTORY, "sumo").label
    assert status == 0
    assert label.startswith("SUMO 1.") and label in document["title"]
    assert len(document["rows"]) == 15
    assert all(label in row["name"] for row in document["rows"])
    assert len(document["episodes"]) == 6
    assert all(episode["plant"] == label for episode in document["episodes"])
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@sumo
def test_both_plants_side_by_side_with_workers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = run(
        capsys, "compare", "traffic", "--scenario", "grid", *SMALL, "--controllers",
        "greedy,fixed", "--seeds", "2", "--workers", "2", "--in", "both",
    )  # fmt: skip
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines() if line.strip()]
    assert "our streets and SUMO 1." in lines[0] and "2 seeds" in lines[0]
    assert "fewer than 10" in lines[0]
    greedy = next(line.split() for line in lines if line.startswith("greedy"))
    ours, theirs, difference = (float(word) for word in greedy[1:4])
    assert difference == pytest.approx(theirs - ours, abs=0.011)
    assert abs(difference) < 0.5 * ours
    assert sum(line.startswith("in SUMO 1.") for line in lines) == 1


@sumo
@pytest.mark.slow
def test_results_do_not_depend_on_workers_and_no_sumo_outlives_them():
    sumo_factory = placed(FACTORY, "sumo").factory
    tasks = [Task(seed, Heuristic("greedy")) for seed in evaluation_seeds(3)]
    found = []
    for workers in (1, 2):
        with ProcessExecutor(sumo_factory, workers=workers) as executor:
            results = executor.map(tasks)
            assert len(children()) == workers
        found.append([result.metrics["delay_mean_s"] for result in results])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


@sumo
def test_a_killed_worker_takes_its_sumo_along():
    sumo_factory = placed(FACTORY, "sumo").factory
    executor = ProcessExecutor(sumo_factory, workers=1)
    executor.map([Task(1, Heuristic("greedy"))])
    assert len(children()) == 1
    os.kill(executor.processes[0], 9)
    end = time.monotonic() + 10.0
    while children() and time.monotonic() < end:
        time.sleep(0.05)
    assert not children()
    executor.close()
    # Nobody could remove the streets that were written for it.
    for left in Path(tempfile.gettempdir()).glob("fairlead-streets-*"):
        for path in left.iterdir():
            path.unlink()
        left.rmdir()
