"""Figures with marks, and files that are never half written."""

from __future__ import annotations

import json
import math
import os
import stat

import numpy as np
import pytest

from fairlead.platform.files import UserError, make_folder, write_atomic
from fairlead.platform.rows import Row, report


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (Row.near("a", 1.05, "s", 1.0, 0.1), True),
        (Row.near("a", 1.2, "s", 1.0, 0.1), False),
        (Row.near("a", math.nan, "s", 1.0, 0.1), False),
        (Row.near("a", 3, "jobs", 3, 0), True),
        (Row.near("a", math.inf, "s", math.inf, 0), True),
        (Row.at_least("a", 2.0, "s", 2.0), True),
        (Row.at_least("a", 1.9, "s", 2.0), False),
        (Row.at_least("a", math.nan, "s", 2.0), False),
        (Row.at_most("a", 2.0, "s", 2.0), True),
        (Row.at_most("a", 2.1, "s", 2.0), False),
        (Row.at_most("a", math.nan, "s", 2.0), False),
        (Row.info("a", math.nan, "s"), None),
    ],
)
def test_marks(row, passed):
    assert row.passed is passed


def test_status_is_one_exactly_if_a_mark_was_missed(capsys):
    good, bad, info = Row.at_most("a", 1, "s", 2), Row.at_most("b", 3, "s", 2), Row.info("c", 0, "")
    assert report("t", [good, info], as_json=False) == 0
    assert report("t", [good, bad], as_json=True) == 1
    assert report("t", [], as_json=True) == 0
    assert "NO" not in capsys.readouterr().out


def test_json_is_one_document_without_empty_keys(capsys):
    rows = [Row.near("x", np.float64(1.5), "s", np.float32(1.5), 0.25), Row.info("y", "text", "")]
    extra = {"curve": np.array([1.0, np.nan]), "agents": np.int64(4), "nested": {"inf": math.inf}}
    report("numbers", rows, as_json=True, extra=extra)
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document == {
        "title": "numbers",
        "rows": [
            {
                "name": "x",
                "measured": 1.5,
                "unit": "s",
                "expected": 1.5,
                "tolerance": 0.25,
                "passed": True,
            },
            {"name": "y", "measured": "text", "unit": ""},
        ],
        "curve": [1.0, None],
        "agents": 4,
        "nested": {"inf": None},
    }


def test_a_nan_measurement_is_null_and_failed_in_json(capsys):
    assert report("t", [Row.at_least("x", math.nan, "s", 0)], as_json=True) == 1
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["measured"] is None and row["passed"] is False


def test_table_shows_marks_and_brackets_literally(capsys):
    report(
        "t", [Row.near("p[0]", 2.0, "s", 1.0, 0.5), Row.info("n", 1234567, "jobs")], as_json=False
    )
    printed = capsys.readouterr().out
    assert "p[0]" in printed and "1 ± 0.5" in printed and "NO" in printed and "1,234,567" in printed


def test_write_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "first, and longer")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(UserError, match=r"cannot write .*a\.json: No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="choose a folder that exists"):
        write_atomic(tmp_path / "none" / "a.json", "x")
    assert make_folder(tmp_path / "b" / "c").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write into folder .*file"):
        make_folder(tmp_path / "file")
    assert list((tmp_path / "b" / "c").iterdir()) == []
