"""No policy gets an unsafe or unfair sequence of lamps past the timing layer."""

from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.simulators.traffic.programme import GREEN, Signal, red_state, yellow_state
from fairlead.simulators.traffic.timing import Timing, TimingSettings

CROSS = Signal(name="cross", greens=("GGrr", "rrGG", "GrrG"), programme=())


def make(signals=(CROSS,), interval=10.0, **knobs):
    return Timing(signals, TimingSettings(**knobs), interval=interval)


def nobody(timing):
    return np.zeros(timing.serves.shape[::2], dtype=np.bool_)


def everybody(timing):
    return np.ones(timing.serves.shape[::2], dtype=np.bool_)


def drive(timing, wishes, waiting):
    """Lamps ``(time, state)`` of every signal under wishes ``[K][N]``, from time 0."""
    shown = [[(0.0, signal.greens[0])] for signal in timing.signals]
    for at, wish in enumerate(wishes):
        now = at * timing.interval
        wanted = np.array(wish, dtype=np.int64) % timing.phases
        changes = timing.order(now, wanted, waiting[at])
        times = [change.time for change in changes]
        assert times == sorted(times)
        assert all(now <= time <= now + timing.interval - 1.0 for time in times)
        for change in changes:
            shown[change.signal].append((change.time, change.state))
    return shown


def lamps(history, letter):
    """``(state, begin, end)`` of one letter; the last end is inf."""
    found = []
    for time, state in history:
        lamp = state[letter]
        if found and (found[-1][0] in GREEN) == (lamp in GREEN) and found[-1][0] == lamp:
            continue
        if found:
            found[-1][2] = time
        found.append([lamp, time, np.inf])
    return found


def conflicts(signal):
    """Pairs of letters that no green phase lets go together."""
    letters = range(len(signal.greens[0]))
    return [
        (one, two)
        for one in letters
        for two in letters
        if one != two
        and not any(state[one] in GREEN and state[two] in GREEN for state in signal.greens)
    ]


@st.composite
def random_signal(draw, name="s"):
    letters = draw(st.integers(2, 5))
    state = st.text("Ggr", min_size=letters, max_size=letters)
    greens = draw(
        st.lists(state.filter(lambda s: set(s) & set(GREEN)), min_size=2, max_size=5, unique=True)
    )
    return Signal(name=name, greens=tuple(greens), programme=())


@st.composite
def episodes(draw):
    signals = tuple(draw(random_signal(f"s{at}")) for at in range(draw(st.integers(1, 3))))
    interval = draw(st.sampled_from([5.0, 7.5, 10.0, 15.0]))
    knobs = {
        "yellow": draw(st.sampled_from([0.0, 2.0, 3.0])),
        "all_red": draw(st.sampled_from([0.0, 1.0])),
        "min_green": draw(st.sampled_from([0.0, 5.0, 7.0, 20.0])),
        "max_red": draw(st.sampled_from([0.0, 60.0, 120.0])),
    }
    timing = make(signals, interval, **knobs)
    steps = draw(st.integers(1, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    wishes = rng.integers(0, 60, (steps, len(signals)))
    stay = rng.random((steps, len(signals))) < draw(st.sampled_from([0.0, 0.8]))
    for at in range(1, steps):
        wishes[at] = np.where(stay[at], wishes[at - 1], wishes[at])
    shape = (steps, *timing.serves.shape[::2])
    return timing, wishes, rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 1.0]))


@given(episodes())
@settings(max_examples=120, deadline=None)
def test_no_sequence_of_wishes_is_unsafe(episode):
    timing, wishes, waiting = episode
    kept = timing.settings
    shown = drive(timing, wishes, waiting)
    for signal, history in zip(timing.signals, shown, strict=True):
        rows = [lamps(history, letter) for letter in range(len(signal.greens[0]))]
        for row in rows:
            for (lamp, begin, end), (after, _, _) in pairwise(row):
                if lamp in GREEN and after not in GREEN:
                    # The first green of all began before the episode.
                    assert after == ("y" if kept.yellow else "r")
                if lamp == "y":
                    assert after == "r" or (after in GREEN and not kept.all_red)
                    assert end - begin == pytest.approx(kept.yellow)
        for one, two in conflicts(signal):
            # Whoever gets green does so a yellow and an all-red after the other one lost it.
            for lamp, begin, _ in rows[one]:
                if lamp not in GREEN or begin == 0.0:
                    continue
                for other, start, end in rows[two]:
                    if other in GREEN and start < begin:
                        assert begin >= end + kept.yellow + kept.all_red - 1e-9
                    assert not (other in GREEN and start <= begin < end)


@given(episodes())
@settings(max_examples=120, deadline=None)
def test_no_green_is_shorter_than_the_minimum(episode):
    timing, wishes, waiting = episode
    green = [0.0] * len(timing.signals)  # since when its phase is shown
    for at, wish in enumerate(wishes):
        wanted = np.array(wish, dtype=np.int64) % timing.phases
        changes = timing.order(at * timing.interval, wanted, waiting[at])
        for signal in {change.signal for change in changes}:
            own = [change for change in changes if change.signal == signal]
            assert own[0].time - green[signal] >= timing.settings.min_green - 1e-9
            green[signal] = own[-1].time
            assert own[-1].state == timing.signals[signal].greens[timing.phase[signal]]


@given(episodes())
@settings(max_examples=120, deadline=None)
def test_who_waits_is_served_in_time(episode):
    timing, wishes, _ = episode
    if not timing.settings.max_red:
        return
    always = np.ones((len(wishes), *timing.serves.shape[::2]), dtype=np.bool_)
    shown = drive(timing, wishes, always)
    end = len(wishes) * timing.interval
    kept = timing.settings
    # One service: yellow, all-red and the minimum green, on whole decisions. All other phases of
    # the signal may come first, each once.
    service = timing.interval * max(
        ceil((kept.yellow + kept.all_red + kept.min_green) / timing.interval - 1e-9), 1
    )
    for at, (signal, history) in enumerate(zip(timing.signals, shown, strict=True)):
        slack = (len(signal.greens) - 1) * service
        for letter in range(len(signal.greens[0])):
            if not timing.serves[at, :, letter].any():
                continue
            green_until = 0.0
            for lamp, begin, stop in lamps(history, letter):
                if lamp in GREEN:
                    assert begin - green_until <= kept.max_red + slack
                    green_until = stop
            assert end - green_until <= kept.max_red + slack + timing.interval


def test_with_two_phases_the_longest_red_is_kept_exactly():
    timing = make((Signal(name="s", greens=("Gr", "rG"), programme=()),), max_red=60.0)
    wishes = np.zeros((60, 1), dtype=np.int64)
    (history,) = drive(timing, wishes, [everybody(timing)] * 60)
    starts = [begin for lamp, begin, _ in lamps(history, 1) if lamp == "G"]
    assert starts[0] == 53.0  # the next decision would be too late: 63 s
    for lamp, begin, end in lamps(history, 1):
        if lamp == "r":
            assert end - begin <= 60.0
    # Nobody waits: nothing is forced.
    timing = make((Signal(name="s", greens=("Gr", "rG"), programme=()),), max_red=60.0)
    assert drive(timing, wishes, [nobody(timing)] * 60) == [[(0.0, "Gr")]]


def test_the_second_change_in_a_row_shows_yellow_too():
    timing = make()
    (history,) = drive(timing, [[0], [1], [2], [0], [1]], [nobody(timing)] * 5)
    assert history == [
        (0.0, "GGrr"),
        (10.0, "yyrr"),
        (13.0, "rrGG"),
        (20.0, "rryG"),
        (23.0, "GrrG"),
        (30.0, "Grry"),
        (33.0, "GGrr"),
        (40.0, "yyrr"),
        (43.0, "rrGG"),
    ]


def test_all_red_follows_yellow_and_who_stays_green_stays_green():
    timing = make(all_red=1.5, min_green=0.0)
    (history,) = drive(timing, [[2]], [nobody(timing)])
    assert history == [(0.0, "GGrr"), (0.0, "Gyrr"), (3.0, "Grrr"), (4.5, "GrrG")]


def test_more_green_needs_no_yellow():
    signal = Signal(name="s", greens=("Grr", "GGr", "rrG"), programme=())
    timing = make((signal,), min_green=0.0)
    (history,) = drive(timing, [[1]], [nobody(timing)])
    assert history == [(0.0, "Grr"), (0.0, "GGr")]


def test_a_change_has_to_wait_for_the_minimum_green():
    timing = make(interval=5.0, min_green=12.0)
    timing.order(0.0, np.array([1]), nobody(timing))  # too early: green since 0 s
    assert timing.phase.tolist() == [0]
    assert timing.order(10.0, np.array([1]), nobody(timing)) == []
    assert len(timing.order(15.0, np.array([1]), nobody(timing))) == 2
    assert timing.since.tolist() == [18.0]
    assert not timing.open(29.9).any()
    assert timing.open(30.0).all()


def test_several_that_wait_too_long_come_one_after_another():
    signal = Signal(name="s", greens=("Grr", "rGr", "rrG"), programme=())
    timing = make((signal,), max_red=60.0)
    waiting = everybody(timing)
    (history,) = drive(timing, [[0]] * 12, [waiting] * 12)
    greens = [(time, state) for time, state in history[1:] if state in signal.greens]
    assert [state for _, state in greens[:2]] == ["rGr", "rrG"]
    assert [time for time, _ in greens[:2]] == [53.0, 63.0]


@pytest.mark.parametrize(("phase", "message"), [(3, "got 3"), (-1, "got -1")])
def test_phases_that_a_signal_has_not_are_refused_and_change_nothing(phase, message):
    timing = make((CROSS, CROSS))
    with pytest.raises(ValueError, match=f"'cross' has 3 green phases, {message}"):
        timing.order(20.0, np.array([1, phase]), nobody(timing))
    assert timing.phase.tolist() == [0, 0]
    assert timing.since.tolist() == [0.0, 0.0]


def test_changes_that_do_not_fit_into_an_interval_are_refused():
    with pytest.raises(ValueError, match="do not fit into an interval of 5 s"):
        make(interval=5.0, yellow=3.0, all_red=1.5)


def test_states_between_two_greens():
    assert yellow_state("GgrG", "rgGg") == "ygrG"
    assert red_state("GgrG", "rgGg") == "rgrG"
