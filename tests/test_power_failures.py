"""Failures and repairs: unavailability, laws of the times, independence of the items."""

import time

import numpy as np
import pytest

from fairlead.platform.validation.power_dynamics import failures as validated_failures
from fairlead.simulators.calendar import Calendar
from fairlead.simulators.power.failures import Failures, branch_hours, unavailability

HOUR = 3600.0
YEAR = 8760 * HOUR
# (MTTF, MTTR, FOR) of the unit groups of RTS-GMLC, h.
RTS = {
    "U12": (2940.0, 60.0, 0.02),
    "U20": (450.0, 50.0, 0.10),
    "U76": (1960.0, 40.0, 0.02),
    "U155": (960.0, 40.0, 0.04),
    "U350": (1150.0, 100.0, 0.08),
    "U400": (1100.0, 150.0, 0.12),
}


def history(up, down, *, seed=0, years=1.0, begun=True):
    calendar, log = Calendar(), []
    failures = Failures(
        calendar,
        up_hours=np.asarray(up, float),
        down_hours=np.asarray(down, float),
        rng=np.random.default_rng(seed),
        on_change=lambda item, now_up: log.append((calendar.now, item, now_up)),
        begun=begun,
    )
    first = failures.up.copy()
    calendar.run_until(years * YEAR)
    return first, log, failures


def down_share(first, log, years):
    """Share of time that every item is down, from its log alone."""
    end = years * YEAR
    down = np.zeros(len(first))
    since = np.where(first, np.nan, 0.0)
    for now, item, now_up in log:
        if now_up:
            down[item] += now - since[item]
        since[item] = np.nan if now_up else now
    return (down + np.where(np.isnan(since), 0.0, end - since)) / end


@pytest.mark.parametrize("group", RTS)
def test_unavailability_is_the_forced_outage_rate(group):
    up, down, rate = RTS[group]
    items, years = 16, 50.0
    first, log, _ = history(np.full(items, up), np.full(items, down), years=years)
    share = down_share(first, log, years)
    # Variance of the share of time down over T: 2 U (1 - U) / (T (lambda + mu)) for large T.
    sigma = np.sqrt(2 * rate * (1 - rate) / (years * 8760 * (1 / up + 1 / down)))
    assert rate == pytest.approx(down / (up + down))
    assert np.abs(share - rate).max() < 4.0 * sigma
    assert abs(share.mean() - rate) < 3.0 * sigma / np.sqrt(items)


def test_times_up_and_down_are_exponential_with_their_means():
    _, log, _ = history([450.0], [50.0], years=200.0, begun=False)
    times = np.diff([0.0, *(now for now, _, _ in log)]) / HOUR
    ups, downs = times[0::2], times[1::2]
    for sample, mean in ((ups, 450.0), (downs, 50.0)):
        error = mean / np.sqrt(len(sample))
        assert abs(sample.mean() - mean) < 3 * error
        assert abs(sample.std() / sample.mean() - 1) < 3 * np.sqrt(2 / len(sample))
        assert abs(np.mean(sample > mean) - np.exp(-1)) < 3 * np.sqrt(0.2325 / len(sample))


def test_a_process_that_has_begun_starts_in_its_stationary_state():
    items = 4000
    first, _, failures = history(np.full(items, 450.0), np.full(items, 50.0), years=0.0)
    assert abs((~first).mean() - 0.1) < 3 * np.sqrt(0.09 / items)
    assert failures.changes == 0
    fresh, _, _ = history(np.full(items, 450.0), np.full(items, 50.0), years=0.0, begun=False)
    assert fresh.all()


def test_changes_alternate_and_are_in_order():
    first, log, failures = history([450.0, 2940.0, 1100.0], [50.0, 60.0, 150.0], years=5.0)
    assert failures.changes == len(log) > 20
    state = first.copy()
    for _, item, now_up in log:
        assert state[item] != now_up
        state[item] = now_up
    assert (state == failures.up).all()
    assert [now for now, _, _ in log] == sorted(now for now, _, _ in log)


def test_same_seed_same_log_and_another_seed_another():
    up, down = np.full(20, 450.0), np.full(20, 50.0)
    assert history(up, down, seed=3)[1] == history(up, down, seed=3)[1]
    assert history(up, down, seed=3)[1] != history(up, down, seed=4)[1]


def test_an_item_has_the_same_history_whatever_the_others_do():
    up, down = np.full(5, 450.0), np.full(5, 50.0)
    first, alone, _ = history(up, down, years=3.0)
    busy_up = np.concatenate([up, np.full(300, 20.0)])
    also, crowd, _ = history(busy_up, np.concatenate([down, np.full(300, 5.0)]), years=3.0)
    assert (also[:5] == first).all()
    assert [entry for entry in crowd if entry[1] < 5] == alone
    steady = up.copy()
    steady[0] = np.inf
    rest = history(steady, down, years=3.0)[1]
    assert rest == [entry for entry in alone if entry[1] != 0]


def test_infinite_means_never_fail():
    first, log, _ = history([np.inf, np.inf], [0.0, 10.0], years=100.0)
    assert first.all()
    assert log == []
    assert (unavailability(np.array([np.inf, 450.0]), np.array([0.0, 50.0])) == [0.0, 0.1]).all()


def test_branches_without_outages_never_fail():
    up, down = branch_hours(np.array([0.24, 0.0, 0.5]), np.array([16.0, 10.0, 0.0]))
    assert up.tolist() == [8760 / 0.24, np.inf, np.inf]
    assert down.tolist() == [16.0, 0.0, 0.0]


def test_starts_at_the_present_time_of_its_calendar():
    calendar, log = Calendar(), []
    calendar.run_until(1000.0)
    Failures(
        calendar,
        up_hours=np.array([1.0]),
        down_hours=np.array([1.0]),
        rng=np.random.default_rng(0),
        on_change=lambda item, now_up: log.append((calendar.now, now_up)),
        begun=False,
    )
    calendar.run_until(1000.0 + 100 * HOUR)
    assert log
    assert log[0][0] > 1000.0
    assert log[0][1] is False


@pytest.mark.parametrize(
    ("up", "down", "words"),
    [
        ([450.0, 0.0], [50.0, 50.0], "item 1 has a mean time to failure of 0.0 h"),
        ([450.0, np.nan], [50.0, 50.0], "item 1"),
        ([450.0, 450.0], [0.0, 50.0], "item 0.*to repair of 0.0 h"),
        ([450.0, 450.0], [50.0, np.inf], "item 1"),
        ([450.0], [50.0, 50.0], r"\(1,\).*\(2,\)"),
    ],
)
def test_impossible_means_are_refused(up, down, words):
    with pytest.raises(ValueError, match=words):
        history(up, down)


def test_two_thousand_items_cost_little():
    up, down = np.full(2000, 1000.0), np.full(2000, 50.0)
    best = np.inf
    for seed in range(5):
        rng, calendar = np.random.default_rng(seed), Calendar()
        began = time.perf_counter()
        Failures(
            calendar,
            up_hours=up,
            down_hours=down,
            rng=rng,
            on_change=lambda item, now_up: None,
            begun=True,
        )
        best = min(best, time.perf_counter() - began)
    assert best < 0.01


def test_validation_of_the_built_in_table_passes():
    rows = validated_failures(None)
    marked = [row for row in rows if row.passed is not None]
    assert len(marked) == 10
    assert [row.name for row in marked if not row.passed] == []
