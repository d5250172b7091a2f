"""The filter at the street: whatever is asked for, in whatever order, the lamps stay safe."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamp_oracle import lamps_of, runs_of, unsafe

from fairlead.platform.lamps import LampMonitor, compatible
from fairlead.platform.signal_safety import REASONS, PhaseRequest, SafetyFilter
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.timing import Change, Timing, TimingSettings

TWO = Signal(name="two", greens=("GGrr", "rrGG"), programme=(("GGrr", 30.0), ("rrGG", 30.0)))
FOUR = Signal(
    name="four",
    greens=("GgrrGg", "rGrrrG", "rrGGrr", "rrrGrr"),
    programme=(("GgrrGg", 20.0),),
)
PLAIN = TimingSettings()


def one(signal=TWO, **knobs):
    return SafetyFilter([signal], TimingSettings(**knobs), interval=10.0)


def ask(phase, **fields):
    return PhaseRequest(fields.pop("signal", "two"), phase, **fields)


def nobody(count=1, letters=4):
    return np.zeros((count, letters), bool)


states = st.integers(2, 6).flatmap(
    lambda n: st.lists(
        st.text("Ggrs", min_size=n, max_size=n).filter(lambda s: "G" in s or "g" in s),
        min_size=2,
        max_size=5,
        unique_by=lambda s: tuple(x in "Gg" for x in s),
    )
)
durations = st.fixed_dictionaries(
    {
        "yellow": st.sampled_from([0.0, 2.0, 3.0, 5.0]),
        "all_red": st.sampled_from([0.0, 1.0, 2.5]),
        "min_green": st.sampled_from([0.0, 5.0, 7.0, 12.0]),
        "max_red": st.sampled_from([0.0, 30.0, 60.0, 120.0]),
    }
)
requests = st.builds(
    PhaseRequest,
    signal=st.sampled_from(["s", "s", "s", "other", ""]),
    phase=st.one_of(st.integers(-2, 6), st.sampled_from([True, 1.0, "1", None, np.int64(1)])),
    valid_until=st.one_of(st.floats(0, 400), st.sampled_from([math.inf, math.nan, -1.0])),
    sequence=st.one_of(st.none(), st.integers(-3, 50)),
)


@settings(max_examples=150)
@given(states, durations, st.data())
def test_whatever_is_asked_for_the_lamps_are_safe(greens, values, data):
    signal = Signal(name="s", greens=tuple(greens), programme=((greens[0], 10.0),))
    knobs = TimingSettings(**values)
    filtered = SafetyFilter([signal], knobs, interval=10.0)
    letters, now, changes = len(greens[0]), 0.0, []
    for _ in range(data.draw(st.integers(5, 25))):
        now += data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.5, 10.0]))
        waiting = None
        if data.draw(st.booleans()):
            waiting = np.array(
                [data.draw(st.lists(st.booleans(), min_size=letters, max_size=letters))]
            )
        asked = data.draw(st.lists(requests, max_size=4))
        verdict = filtered.step(now, asked, waiting)
        # Nothing that is planned is taken back, so that all changes of a run are one sequence.
        assert all(change.time >= now for change in verdict.changes)
        assert {refusal.reason for refusal in verdict.refused} <= set(REASONS)
        changes += verdict.changes
    assert not filtered.stopped
    assert unsafe(signal, changes, now + 30.0, knobs) == []


@settings(max_examples=60)
@given(states, st.sampled_from([40.0, 60.0, 120.0]), st.integers(0, 2**31))
def test_nobody_waits_longer_than_the_limit_and_the_phases_that_come_before(greens, limit, seed):
    signal = Signal(name="s", greens=tuple(greens), programme=((greens[0], 10.0),))
    knobs = TimingSettings(max_red=limit)
    filtered, rng = SafetyFilter([signal], knobs, interval=10.0), np.random.default_rng(seed)
    changes = []
    for epoch in range(120):
        # A policy that never leaves its favourite, or takes any phase.
        phase = 0 if seed % 2 else int(rng.integers(len(greens)))
        changes += filtered.step(10.0 * epoch, [PhaseRequest("s", phase)]).changes
    lamps = lamps_of(signal, changes, 1200.0)
    # Each of the others may be at its limit as well, and has an interval of its own.
    bound = limit + 10.0 * (len(greens) + 1)
    for letter in range(len(greens[0])):
        if not any(state[letter] in "Gg" for state in greens):
            continue
        for aspect, a, b in runs_of(lamps, letter):
            assert aspect == "G" or (b - a) * 0.5 <= bound + knobs.yellow


def test_a_change_shows_yellow_and_all_red_before_the_next_green():
    filtered = one(all_red=1.0)
    assert filtered.step(5.0, [ask(1)]).changes == (
        Change(5.0, 0, "yyrr"),
        Change(8.0, 0, "rrrr"),
        Change(9.0, 0, "rrGG"),
    )
    assert filtered.tally.switched == 1 and not filtered.tally.refused


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask(1, signal="nobody"), "unknown-signal"),
        (ask(2), "unknown-phase"),
        (ask(-1), "unknown-phase"),
        (ask(True), "unknown-phase"),
        (ask(1.0), "unknown-phase"),
        (ask(1, valid_until=19.9), "expired"),
        (ask(1, valid_until=math.nan), "expired"),
        (ask(1, sequence=4), "old"),
        (ask(0), ""),
        (ask(1, valid_until=20.0, sequence=5), ""),
    ],
)
def test_every_refusal_has_its_reason(request_, reason):
    filtered = one()
    assert filtered.step(10.0, [ask(0, sequence=4)]).refused == ()
    verdict = filtered.step(20.0, [request_], nobody())
    assert [refusal.reason for refusal in verdict.refused] == ([reason] if reason else [])
    assert bool(verdict.changes) == (not reason and request_.phase == 1)
    assert sum(filtered.tally.refused.values()) == len(verdict.refused)


def test_a_request_that_is_repeated_does_nothing_more():
    filtered = one()
    first = ask(1, sequence=7)
    assert filtered.step(10.0, [first, ask(0), ask(1)], nobody()).changes
    assert filtered.tally.refused == {"duplicate": 2}
    verdict = filtered.step(10.0, [first], nobody())
    assert not verdict.changes and verdict.refused[0].reason == "old"
    # The signal is still in its yellow, then in its minimum green.
    for now in (12.0, 13.0, 17.5):
        assert filtered.step(now, [ask(0)], nobody()).refused[0].reason == "min-green"
    assert filtered.step(18.0, [ask(0)], nobody()).changes


def test_a_red_that_is_too_long_comes_first_whatever_is_asked():
    filtered = one(max_red=60.0)
    waits = np.array([[False, False, True, False]])
    for epoch in range(4):
        assert filtered.step(10.0 * epoch, [ask(0)], waits).forced == ()
    # At 50 s the red would be 63 s old before the next decision could end it.
    verdict = filtered.step(50.0, [ask(0)], waits)
    assert verdict.forced == (0,) and verdict.refused[0].reason == "max-red"
    assert verdict.changes[-1] == Change(53.0, 0, "rrGG")
    # Who asks for the very phase is not overruled.
    willing = one(max_red=60.0)
    verdict = willing.step(50.0, [ask(1)], waits)
    assert verdict.forced == () and verdict.refused == () and len(verdict.changes) == 2


def test_without_requests_and_detectors_everybody_is_served_in_turn():
    filtered = SafetyFilter([FOUR], PLAIN, interval=10.0)
    changes = []
    for epoch in range(60):
        changes += filtered.step(10.0 * epoch, []).changes
    shown = {change.state for change in changes}
    assert "rrGGrr" in shown and "GgrrGg" in shown
    assert filtered.tally.forced >= 4 and unsafe(FOUR, changes, 600.0, PLAIN) == []


class Hasty(Timing):
    """A timing layer with a defect: it forgets yellow."""

    def change(self, at, phase, now):
        self.phase[at], self.since[at] = phase, now
        return [Change(now, at, self.signals[at].greens[phase])]


def test_a_defect_of_the_timing_layer_does_not_reach_the_lamps():
    filtered = SafetyFilter([TWO, FOUR], PLAIN, interval=10.0)
    filtered.timing = Hasty([TWO, FOUR], PLAIN, interval=10.0)
    verdict = filtered.step(10.0, [ask(1)])
    assert verdict.refused[0].reason == "monitor" and verdict.refused[0].detail == "no-yellow"
    assert verdict.changes == (Change(10.0, 0, "yyrr"), Change(13.0, 0, "rrrr"))
    assert filtered.stopped == ("two",)
    after = filtered.step(20.0, [ask(0), PhaseRequest("four", 0)])
    assert after.refused[0].reason == "stopped"
    assert all(change.signal == 1 for change in after.changes)


class Short(Timing):
    """Another defect: yellow of one second, so that the second change is the wrong one."""

    def change(self, at, phase, now):
        found = super().change(at, phase, now)
        return [Change(min(c.time, now + 1.0), c.signal, c.state) for c in found]


def test_a_signal_that_is_stopped_in_its_yellow_ends_red():
    filtered = one()
    filtered.timing = Short([TWO], PLAIN, interval=10.0)
    verdict = filtered.step(10.0, [ask(1)])
    assert verdict.refused[0].detail == "short-yellow"
    assert unsafe(TWO, verdict.changes, 60.0, PLAIN) == []
    assert lamps_of(TWO, verdict.changes, 60.0)[-1] == "rrrr"


def test_the_clock_does_not_go_back():
    filtered = one()
    filtered.step(10.0, [])
    for now in (9.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="the clock says"):
            filtered.step(now, [])
    with pytest.raises(ValueError, match="waiting has shape"):
        filtered.step(10.0, [], nobody(2))


# --- the monitor alone --------------------------------------------------------------------------


def test_who_may_go_together_is_read_off_the_phases():
    found = compatible(FOUR)
    assert found[0, 1] and found[1, 5] and found[2, 3] and not found[0, 2] and not found[1, 3]
    np.testing.assert_array_equal(found, found.T)
    for phase, state in enumerate(FOUR.greens):
        for a in range(6):
            for b in range(6):
                if state[a] in "Gg" and state[b] in "Gg":
                    assert found[a, b], phase


def test_a_matrix_of_the_site_must_allow_the_phases():
    site = compatible(TWO)
    site[2, 3] = site[3, 2] = False
    with pytest.raises(ValueError, match="green phase 1 lets letters 2 and 3 go"):
        SafetyFilter([TWO], PLAIN, interval=10.0, together=[site])
    with pytest.raises(ValueError, match="2 conflict matrices for 1"):
        LampMonitor([TWO], PLAIN, together=[site, site])
    with pytest.raises(ValueError, match="same name"):
        SafetyFilter([TWO, TWO], PLAIN, interval=10.0)


@pytest.mark.parametrize(
    ("sequence", "fault"),
    [
        ([(10, "rrGG")], "no-yellow"),
        ([(10, "yyGG")], "conflict"),
        ([(10, "GGrG")], "conflict"),
        ([(4, "yyrr")], "short-green"),
        ([(10, "yyrr"), (12, "rrrr")], "short-yellow"),
        ([(10, "yyrr"), (13, "Gyrr")], "yellow-to-green"),
        ([(10, "yyrr"), (13, "rrGG")], "no-clearance"),
        ([(10, "yyrr"), (13, "rrrr"), (13.5, "rrGG")], "no-clearance"),
        ([(10, "yyrr"), (9, "rrrr")], "time"),
        ([(10, "yyr")], "state"),
        ([(10, "yyrx")], "state"),
        ([(10, "yyrr"), (13, "rrrr"), (14, "rrGG")], ""),
        ([(10, "yyrr"), (13, "rrrr"), (14, "rrGs"), (19, "rryr")], ""),
        ([(10, "gGrr"), (10, "yyrr")], ""),
    ],
)
def test_the_monitor_names_what_is_wrong(sequence, fault):
    monitor = LampMonitor([TWO], TimingSettings(all_red=1.0))
    *before, last = [Change(float(time), 0, state) for time, state in sequence]
    for change in before:
        assert monitor.fault(change) == ""
        monitor.show(change)
    assert monitor.fault(last) == fault


@settings(max_examples=60)
@given(states, st.integers(0, 2**31))
def test_the_monitor_and_the_oracle_agree_on_random_sequences(greens, seed):
    signal = Signal(name="s", greens=tuple(greens), programme=((greens[0], 10.0),))
    rng, letters = np.random.default_rng(seed), range(len(greens[0]))
    knobs = TimingSettings(yellow=3.0, all_red=1.0, min_green=5.0)
    never = [j for j in letters if not any(state[j] in "Gg" for state in greens)]
    for _ in range(20):
        monitor, now, changes, said = LampMonitor([signal], knobs), 0.0, [], ""
        while not said and len(changes) < 4:
            now += float(rng.choice([1.0, 3.0, 5.0, 8.0]))
            state = "".join(rng.choice(list("Ggyrs"), len(letters)).tolist())
            if rng.random() < 0.5:
                state = str(rng.choice(greens))
            changes.append(Change(now, 0, state))
            said = monitor.fault(changes[-1])
            monitor.show(changes[-1])
        found = unsafe(signal, changes, now + 0.5, knobs)
        goes = any(changes[-1].state[j] in "Gg" for j in never)
        assert bool(said) == bool(found or goes), (said, found, changes)
