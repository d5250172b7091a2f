"""``fairlead compare`` and ``evaluate`` on the real scenario, small."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("simpy")

from fairlead.platform.cli.main import main
from fairlead.platform.evaluation import EvaluationTable

SMALL = ["scenario.agents=6", "scenario.horizon=20"]


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def test_compare_prints_one_document_with_rows_and_episodes(capsys, tmp_path):
    table_file, picture = tmp_path / "episodes.parquet", tmp_path / "compare.png"
    status, out, _ = run(
        capsys, "compare", "cloud", *SMALL, "--controllers", "jsq,sed,sed (fresh)", "--seeds", "5",
        "--workers", "1", "--json", "--out", str(table_file), "--plot", str(picture),
    )  # fmt: skip
    document = json.loads(out)
    assert status == 0
    rows = {row["name"]: row for row in document["rows"]}
    table = EvaluationTable.read(table_file)
    sed, jsq = table.values("sed"), table.values("jsq")
    assert document["bar"] == table.bar()
    assert rows["sed: return mean"]["measured"] == pytest.approx(sed.mean())
    assert rows["sed: return mean"]["unit"] == "return"
    loser, winner = sorted(("sed", "jsq"), key=lambda name: table.values(name).mean())
    won = np.mean(table.values(loser) > table.values(winner))
    row = rows[f"{loser}: probability of improvement on {winner}"]
    assert row["measured"] == pytest.approx(won)
    assert rows["sed: response_mean"]["unit"] == "s"
    assert len(document["episodes"]) == 15
    recorded = [e["return"] for e in document["episodes"] if e["controller"] == "jsq"]
    assert recorded == jsq.tolist()
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_compare_shows_standings(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = run(
        capsys, "compare", *SMALL, "--controllers", "jsq,sed,sed (fresh)", "--seeds", "4",
        "--workers", "1",
    )  # fmt: skip
    assert status == 0
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0] == ["compare", "cloud/dispatch,", "4", "seeds"]
    body = [words[0] for words in lines]
    assert body.index("same") < body.index("sed") < body.index("fresh,")
    assert "the bar" in out and "±" in out


def test_the_regret_is_against_the_scenario_s_bound(capsys, tmp_path):
    from fairlead.platform.registry import find_domain, find_scenario

    file = tmp_path / "episodes.parquet"
    run(capsys, "compare", *SMALL, "--controllers", "sed", "--seeds", "3", "--out", str(file))
    table = EvaluationTable.read(file)
    scenario = find_scenario("cloud", "dispatch")(agents=6, horizon=20)
    bound = find_domain("cloud").bound(scenario)
    assert 0.0 < bound < -table.values("sed").mean()
    assert table.values("sed", "regret") == pytest.approx(-table.values("sed") / bound - 1.0)


def test_mistakes_are_one_clear_line(capsys, tmp_path):
    for words, problem in (
        (["compare", "--controllers", "jqs", *SMALL], "has no heuristic 'jqs'; known: random"),
        (["compare", "--controllers", "none", *SMALL], "nobody to compare"),
        (["compare", "cloud", "scenario.agent=6"], "agents"),
        (["evaluate", str(tmp_path)], "manifest.json"),
    ):
        status, out, err = run(capsys, *words)
        assert (status, out) == (2, "")
        assert problem in " ".join(err.split())
        assert "Traceback" not in err


def test_a_trained_bundle_is_evaluated_and_compared(capsys, tmp_path):
    folder = tmp_path / "run"
    small = [*SMALL, "iterations=1", "episodes=1", "evaluation.episodes=2"]
    status, *_ = run(capsys, "train", "cloud", *small, "--out", str(folder), "--workers", "1")
    assert status == 0
    status, out, _ = run(
        capsys, "evaluate", str(folder), "--seeds", "3", "--json", "--workers", "1"
    )
    assert status == 0
    alone = json.loads(out)["episodes"]
    assert [episode["kind"] for episode in alone] == ["policy"] * 3
    status, out, _ = run(
        capsys, "compare", "--bundle", str(folder), "--controllers", "sed", "--seeds", "3",
        "--json", "--workers", "2",
    )  # fmt: skip
    both = json.loads(out)["episodes"]
    policy = [e["return"] for e in both if e["kind"] == "policy"]
    assert policy == [episode["return"] for episode in alone]
    status, _, err = run(capsys, "evaluate", str(folder), "scenario.agents=9", "--seeds", "1")
    assert status == 2 and "does not fit cloud/dispatch" in " ".join(err.split())
