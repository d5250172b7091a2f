"""Batch engine: hand-made schedules, backfilling rules, published figures."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.platform.validation.published import checks
from fairlead.platform.validation.published_batch import batch_checks
from fairlead.policies.heuristics.batch import FCFS, RULES, SJF
from fairlead.simulators.cloud.backfill import (
    BACKFILLS,
    Gap,
    Reservation,
    backfill_easy,
    backfill_greedy,
    reserve,
)
from fairlead.simulators.cloud.batch import BatchJobs, schedule
from fairlead.simulators.errors import DataError

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
EXPECTED = DATA / "cloud" / "rlscheduler_expected.csv"
needs_data = pytest.mark.skipif(not EXPECTED.is_file(), reason=f"needs {EXPECTED}")


def jobs(*rows):
    """Jobs from (submit, run, processors[, request])."""
    columns = [list(column) for column in zip(*(row[:3] for row in rows), strict=True)]
    request = [row[3] if len(row) > 3 else row[1] for row in rows]
    submit, run, request = (np.array(c, float) for c in (columns[0], columns[1], request))
    number = np.arange(1, len(rows) + 1)
    return BatchJobs(number, submit, run, request, np.array(columns[2], dtype=np.int64))


def starts(rows, rule=FCFS, backfill="none", processors=4):
    return schedule(
        jobs(*rows), processors=processors, score=rule, backfill=backfill
    ).start.tolist()


def test_head_is_committed_even_when_a_better_job_arrives():
    # Job 2 (long) is committed at time 1 while job 3 (short) arrives at 2: it still goes first.
    rows = [(0, 10, 4), (1, 50, 4), (2, 5, 4), (3, 4, 4)]
    assert starts(rows, SJF) == [0.0, 10.0, 64.0, 60.0]


def test_arrivals_come_before_ends_of_the_same_instant():
    # At time 10 job 3 arrives before job 1 ends, so SJF sees it when it next chooses.
    rows = [(0, 10, 4), (1, 7, 2), (10, 1, 4), (10, 2, 4)]
    assert starts(rows, SJF) == [0.0, 10.0, 17.0, 18.0]


def test_figures_of_a_schedule_by_hand():
    result = schedule(jobs((5, 20, 2), (6, 2, 4)), processors=4, score=FCFS)
    assert result.start.tolist() == [5.0, 25.0]
    assert result.wait.tolist() == [0.0, 19.0] and result.response.tolist() == [20.0, 21.0]
    assert result.bounded_slowdown.tolist() == [1.0, 2.1]
    assert result.makespan == 22.0
    assert result.utilization == pytest.approx(48 / (22 * 4))
    assert result.utilization_to_last_start == pytest.approx(48 / (20 * 4))


def test_reservation_counts_all_ends_of_the_shadow_time():
    assert reserve(3, 1, [(5.0, 1), (7.0, 1), (7.0, 2), (9.0, 4)]) == Reservation(7.0, 2)
    with pytest.raises(ValueError, match="9 processors can never start: only 4"):
        reserve(9, 1, [(5.0, 3)])


def test_greedy_is_strict_and_has_no_spare_processor_rule():
    processors, request = [9, 1, 1, 1], [0.0, 10.0, 9.0, 50.0]
    gap = Gap(0.0, 2, Reservation(10.0, 1))
    assert backfill_greedy([1, 2, 3], gap, processors, request) == [2]
    assert backfill_easy([1, 2, 3], gap, processors, request) == [1, 2]
    assert backfill_easy([3, 1, 2], gap, processors, request) == [3, 1]
    wide = Gap(0.0, 3, Reservation(5.0, 1))
    assert backfill_easy([3, 1, 2], wide, processors, request) == [3]


def test_backfilling_by_hand():
    # Job 1 holds 3 of 4 until 10. Job 2 wants 3 and waits. Job 3 (1 processor, 10 s) would end
    # at 12 and outlive the shadow time 10, but needs only the one spare processor; job 4 ends at 8.
    rows = [(0, 10, 3), (1, 10, 3), (2, 10, 1), (3, 5, 1)]
    assert starts(rows) == [0.0, 10.0, 10.0, 20.0]
    assert starts(rows, backfill="greedy") == [0.0, 10.0, 10.0, 3.0]
    assert starts(rows, backfill="easy") == [0.0, 10.0, 2.0, 12.0]


def test_greedy_shadow_time_is_computed_once_easy_anew():
    # Job 1 asks for 100 s but ends at 10: EASY then sees the shadow time of job 2's own end (30).
    rows = [(0, 10, 2, 100), (0, 30, 2), (1, 10, 4), (11, 25, 2)]
    assert starts(rows, backfill="greedy")[3] == 11.0
    assert starts(rows, backfill="easy")[3] == 40.0


def test_errors():
    with pytest.raises(ValueError, match="job 1 needs 9 processors, the cluster has 4"):
        starts([(0, 1, 9)])
    with pytest.raises(ValueError, match="backfill must be one of none, greedy, easy"):
        starts([(0, 1, 1)], backfill="best")
    with pytest.raises(ValueError, match="jobs 1 to 3 asked for, the log has 2"):
        jobs((0, 1, 1), (1, 1, 1)).sequence(1, 2)


job_lists = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(1, 4), st.integers(1, 60)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(job_lists, st.sampled_from(sorted(RULES)), st.sampled_from(BACKFILLS))
def test_schedules_are_feasible_and_complete(rows, rule, backfill):
    rows = sorted(rows)
    result = schedule(jobs(*rows), processors=4, score=RULES[rule], backfill=backfill)
    end = result.start + result.jobs.run
    assert (result.wait >= 0).all() and (result.bounded_slowdown >= 1).all()
    for moment in result.start:
        running = (result.start <= moment) & (end > moment)
        assert result.jobs.processors[running].sum() <= 4
    area = float(result.jobs.run @ result.jobs.processors)
    assert result.makespan >= max(area / 4, result.jobs.run.max()) - 1e-9


@settings(max_examples=60, deadline=None)
@given(job_lists, st.sampled_from(["greedy", "easy"]))
def test_backfilling_never_delays_the_first_committed_job(rows, backfill):
    # With exact requests the reservation of the first job that has to wait is kept. Later jobs may
    # be delayed by backfilled ones, also under EASY.
    exact = [(s, r, n) for s, r, n, _ in sorted(rows)]
    plain, filled = starts(exact), starts(exact, backfill=backfill)
    waits = [start > row[0] for start, row in zip(plain, exact, strict=True)]
    first = waits.index(True) if True in waits else len(exact) - 1
    assert filled[: first + 1] == plain[: first + 1]


@needs_data
def test_four_sequences_of_every_rule_equal_the_expected_values():
    for check in batch_checks([EXPECTED.parent]):
        if "per-sequence" in check.name:
            path, processors, expected = check.run.args
            rows = check.run.func(path, processors, expected[::3])
            assert len(rows) == 2 * len(expected[::3])
            assert all(row.passed for row in rows), [row for row in rows if not row.passed]


@needs_data
def test_forty_published_figures_digit_for_digit():
    rows = [
        row
        for check in batch_checks([EXPECTED.parent])
        if check.name.endswith("published table")
        for row in check.run()
    ]
    assert len(rows) == 40 and all(row.tolerance == 0.0 for row in rows)
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]


@needs_data
@pytest.mark.slow
def test_all_per_sequence_values():
    rows = [
        row
        for check in batch_checks([EXPECTED.parent])
        if "per-sequence" in check.name
        for row in check.run()
    ]
    assert len(rows) == 560 and all(row.passed for row in rows)


HEADER = "trace,start_index,num_jobs,backfill,policy,bounded_slowdown,utilization"


def log_folder(tmp_path, text):
    lines = [f"{i} {i} -1 10 1 -1 -1 -1 -1 -1 1 -1 -1 -1 -1 -1 -1 -1" for i in range(1, 5)]
    (tmp_path / "mine.swf").write_text("; MaxProcs: 2\n" + "\n".join(lines))
    (tmp_path / "expected.csv").write_text(f"{text}\n")
    return tmp_path


def test_any_expected_values_file_in_the_folder_is_used(tmp_path):
    # Two processors from the header; jobs 1..4 start at 1, 2, 11, 12.
    folder = log_folder(tmp_path, f"{HEADER}\nmine,0,4,0,fcfs,1.40,1.818181818\nmine,1,2,0,SJF,1,9")
    found = checks(data=folder, quick=False)
    assert [check.name for check in found] == ["mine: per-sequence values of expected.csv"]
    rows = found[0].run()
    assert [row.measured for row in rows] == pytest.approx([1.4, 40 / 22, 1.0, 10.0])
    assert [row.passed for row in rows] == [True, True, True, False]


def test_processors_column_and_wait_definition(tmp_path):
    text = f"{HEADER},wait_definition,procs\nmine,0,4,1,WFP3,2.35,1.2,as_published,1"
    rows = checks(data=log_folder(tmp_path, text), quick=False)[0].run()
    assert "WFP3 as published" in rows[0].name and "1 processors" in rows[0].name
    assert rows[0].measured == pytest.approx((1.0 + 1.9 + 2.8 + 3.7) / 4)


def test_missing_log_is_reported_as_skipped(tmp_path):
    folder = log_folder(tmp_path, f"{HEADER}\nother,0,4,0,FCFS,1,1")
    (row,) = checks(data=folder, quick=False)[0].run()
    assert row.name == "skipped: expected.csv: other" and row.passed is None


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("mine,0,4,2,FCFS,1,1", ("line 2", "backfill", "'2'")),
        ("mine,0,4,0,LIFO,1,1", ("line 2", "policy", "'LIFO'", "WFP3")),
        ("mine,x,4,0,FCFS,1,1", ("line 2", "start_index", "'x'")),
        ("mine,0,4,0,FCFS,nan,1", ("line 2", "bounded_slowdown", "'nan'")),
    ],
)
def test_unusable_expected_values_name_the_cell(tmp_path, line, parts):
    folder = log_folder(tmp_path, f"{HEADER}\n{line}")
    with pytest.raises(DataError) as caught:
        checks(data=folder, quick=False)
    for part in ("expected.csv", *parts):
        assert part in str(caught.value)
