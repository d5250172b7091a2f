"""The validate command and the runner of suites, on suites made for the test."""

from __future__ import annotations

import json
import sys
import types
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fairlead.platform import validation
from fairlead.platform.cli import validate as validate_cli
from fairlead.platform.files import UserError
from fairlead.platform.rows import Row
from fairlead.platform.validation.suites import Check, Suite, collect, run_checks
from fairlead.simulators.errors import DataError


def square(value: float, expected: float) -> list[Row]:
    return [Row.near(f"square of {value:g}", value * value, "1", expected, 1e-9)]


def broken(file: str) -> list[Row]:
    raise DataError(file, accepted="a number", line=3, field="submit", value="x")


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """A domain 'toy' with a free and a data suite; the returned list may be extended."""
    free = [Check("square of two", partial(square, 2, 4)), Check("zero", partial(square, 0, 0))]
    module: Any = types.ModuleType("toy_free")
    module.checks = lambda *, data, quick: free
    published: Any = types.ModuleType("toy_published")
    published.checks = lambda *, data, quick: [Check("table", partial(broken, f"{data}/t.csv"))]
    monkeypatch.setitem(sys.modules, "toy_free", module)
    monkeypatch.setitem(sys.modules, "toy_published", published)
    monkeypatch.setitem(
        validation.SUITES,  # type: ignore[arg-type]
        "toy",
        (Suite("arithmetic", "toy_free", False), Suite("published", "toy_published", True)),
    )
    monkeypatch.delenv("FAIRLEAD_DATA", raising=False)
    return free


def invoke(*arguments: str):
    app = typer.Typer()
    validate_cli.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["validate", *arguments])


def test_rows_of_all_checks_and_what_was_skipped(suites):
    result = invoke("toy", "--json", "--workers", "1")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["name"] for row in document["rows"]] == [
        "square of 2",
        "square of 0",
        "skipped: published",
    ]
    assert "--data" in document["rows"][2]["measured"]
    assert "passed" not in document["rows"][2]


def test_a_wrong_figure_is_exit_status_one(suites):
    suites.append(Check("wrong", partial(square, 3, 9.1)))
    result = invoke("toy", "--json", "--workers", "1")
    assert result.exit_code == 1
    wrong = json.loads(result.stdout)["rows"][2]
    assert (wrong["measured"], wrong["expected"], wrong["passed"]) == (9, 9.1, False)


@pytest.mark.parametrize("pattern", ["ZERO", "arithmetic: z*", "z*o"])
def test_only_selects_by_name_and_says_what_it_left_out(suites, pattern):
    rows = json.loads(invoke("toy", "--only", pattern, "--json", "--workers", "1").stdout)["rows"]
    assert rows[0]["name"] == "square of 0"
    assert rows[1]["name"] == "skipped: arithmetic: 1 checks"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no domain named 'nosuch'; known: cloud, power, toy, traffic"),
        (["toy", "--only", "nothing"], "matches no check; known: square of two; zero"),
        (["toy", "--data", "/no/such/folder"], "no such folder"),
    ],
)
def test_mistakes_are_named(suites, arguments, message):
    result = invoke(*arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_a_damaged_file_is_one_clear_error(suites, tmp_path):
    result = invoke("toy", "--data", str(tmp_path), "--workers", "1")
    assert isinstance(result.exception, UserError)
    assert "t.csv, line 3, field 'submit': found 'x'; a number" in str(result.exception)


def test_rows_do_not_depend_on_the_number_of_workers():
    checks, left_out = collect(
        validation.SUITES["cloud"], data=None, quick=True, only="closed forms: *tangents*"
    )
    assert len(checks) == 1
    assert {row.name for row in left_out} >= {"skipped: published"}
    assert run_checks(checks, workers=2) == run_checks(checks, workers=1)


def test_an_error_in_a_worker_comes_back_whole_and_names_the_check(tmp_path: Path):
    check = Check("log of a broken file", partial(import_module, "no_such_module_here"))
    with pytest.raises(ModuleNotFoundError) as caught:
        run_checks([check, check], workers=2)
    assert any("log of a broken file" in note for note in caught.value.__notes__)
