"""The circuit breaker as a state machine, against a model that counts by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.platform.decision.breaker import after, before
from fairlead.platform.decision.settings import BreakerSettings
from fairlead.platform.decision.types import Breaker

KNOBS = BreakerSettings(window=6, share=0.5, minimum=3, open_time=10.0, probes=3)


def feed(breaker, outcomes, *, now=0.0, knobs=KNOBS):
    for failed in outcomes:
        breaker = after(knobs, before(knobs, breaker, now), now, failed=failed)
    return breaker


class TestClosed:
    @pytest.mark.parametrize(
        ("outcomes", "phase"),
        [
            ([1, 1], "closed"),  # below the minimum
            ([1, 1, 1], "open"),
            ([0, 1, 1], "open"),
            ([1, 1, 0], "closed"),  # a good answer opens nothing
            ([1, 1, 0, 0, 1], "open"),  # 3 of 5
            ([1, 0, 0, 0, 1], "closed"),
            ([1, 1, 0, 0, 0, 0, 0, 0, 1, 1], "closed"),  # the first two left the window
        ],
    )
    def test_the_share_among_the_latest_opens_it(self, outcomes, phase):
        breaker = feed(Breaker(), map(bool, outcomes))
        assert breaker.phase == phase
        assert breaker.trips == (phase == "open")

    def test_a_minimum_beyond_the_window_means_the_whole_window(self):
        knobs = BreakerSettings(window=2, minimum=5, share=1.0)
        assert feed(Breaker(), [True, True], knobs=knobs).phase == "open"

    def test_the_window_is_bounded(self):
        assert feed(Breaker(), [False] * 50).window == (False,) * 6


class TestOpen:
    def test_it_must_not_be_asked(self):
        with pytest.raises(ValueError, match="open"):
            after(KNOBS, Breaker("open"), 0.0, failed=False)

    def test_it_waits_for_its_time_and_is_half_open_then(self):
        opened = Breaker("open", (), 100.0, 0, 1)
        assert before(KNOBS, opened, 109.9) is opened
        assert before(KNOBS, opened, 110.0) == Breaker("half-open", (), 110.0, 0, 1)

    def test_the_clock_of_another_boot_starts_the_waiting_anew(self):
        opened = Breaker("open", (), 1e9, 0, 1)
        waiting = before(KNOBS, opened, 5.0)
        assert waiting == Breaker("open", (), 5.0, 0, 1)
        assert before(KNOBS, waiting, 15.0).phase == "half-open"


class TestHalfOpen:
    def test_probes_in_a_row_close_it_with_a_clean_window(self):
        breaker = Breaker("half-open", (), 0.0, 0, 1)
        assert feed(breaker, [False, False]).phase == "half-open"
        assert feed(breaker, [False] * 3) == Breaker("closed", (), 0.0, 0, 1)

    def test_one_bad_probe_opens_it_again(self):
        breaker = feed(Breaker("half-open", (), 0.0, 2, 1), [True], now=7.0)
        assert breaker == Breaker("open", (), 7.0, 0, 2)


@settings(max_examples=200, deadline=None)
@given(
    events=st.lists(st.tuples(st.floats(0, 15), st.booleans()), max_size=60),
    window=st.integers(2, 8),
    share=st.sampled_from([0.2, 0.5, 1.0]),
    minimum=st.integers(1, 9),
    probes=st.integers(1, 4),
)
def test_every_run_obeys_the_rules(events, window, share, minimum, probes):
    knobs = BreakerSettings(
        window=window, share=share, minimum=minimum, open_time=10.0, probes=probes
    )
    breaker, now, latest, opened, good, trips = Breaker(), 0.0, [], None, 0, 0
    for wait, failed in events:
        now += wait
        breaker = before(knobs, breaker, now)
        if opened is not None and now - opened < 10.0:
            assert breaker.phase == "open"
            continue
        if opened is not None:
            assert breaker.phase == "half-open"
            good = 0 if failed else good + 1
        else:
            assert breaker.phase == "closed"
            latest = [*latest, failed][-window:]
        breaker = after(knobs, breaker, now, failed=failed)
        if opened is not None and failed:
            opened, trips, good = now, trips + 1, 0
        elif opened is not None and good == probes:
            opened, latest, good = None, [], 0
        elif (
            opened is None
            and failed
            and len(latest) >= min(minimum, window)
            and sum(latest) >= share * len(latest)
        ):
            opened, trips = now, trips + 1
        if opened is not None and breaker.phase == "half-open":
            # Half-open stays so however late the next probe comes.
            opened = now - 10.0
        assert breaker.trips == trips
        assert len(breaker.window) <= window
