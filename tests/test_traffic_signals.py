"""One signal against queueing theory: D/D/1, Lindley's recursion, Webster, capacity, overload."""

from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_small import IDEAL, PLAIN, ideal

from fairlead.platform.validation.traffic_cases import delays_at_signal
from fairlead.platform.validation.traffic_queues import lindley, webster_delay

CYCLE, GREEN = 60.0, 27.0
RED = CYCLE - GREEN
PLAN = (("r", RED), ("G", GREEN))


def delays(arrivals, kind, *, until, plan=PLAN, driving=PLAIN, lanes=1):
    return delays_at_signal(
        np.asarray(arrivals, float), kind, plan=plan, until=until, driving=driving, lanes=lanes
    )


# --- deterministic arrivals -----------------------------------------------------------------------


def uniform_total(flow, saturation):
    """s of delay per cycle."""
    return RED**2 * flow / (2 * (1 - flow / saturation))


@given(st.floats(0.0, 4.999), st.sampled_from([1.8, 2.0, 2.2]))
@settings(max_examples=25, deadline=None)
def test_regular_arrivals_have_the_delay_that_counting_gives(first, headway):
    late, _ = delays(first + 5.0 * np.arange(120), ideal(headway), until=900)
    exact = sum(max(RED - first - (5.0 - headway) * k, 0.0) for k in range(12))
    assert late.sum() / 10 == pytest.approx(exact, abs=1e-3)
    # The continuous triangle is off by the shift from the middle of both intervals, at most.
    triangle = uniform_total(0.2, 1 / headway)
    shift = abs(first - (5.0 - headway) / 2)
    assert abs(exact - triangle) <= 12 * shift + (5.0 - headway)


def test_aligned_arrivals_have_the_uniform_delay_exactly():
    # 33 s of red, 0.2 veh/s, 2 s: 11 vehicles wait, the queue is gone 55 s after red began.
    late, _ = delays(1.5 + 5.0 * np.arange(120), IDEAL, until=900)
    assert late[:12].sum() == pytest.approx(181.5, abs=1e-4)
    assert late.sum() == pytest.approx(10 * uniform_total(0.2, 0.5), abs=1e-3)
    assert np.flatnonzero(late[:12] > 1e-3).tolist() == list(range(11))


def test_a_shift_by_one_cycle_changes_nothing():
    arrivals = np.sort(np.random.default_rng(3).uniform(0, 600, 110))
    one, _ = delays(arrivals, IDEAL, until=1200)
    two, _ = delays(arrivals + CYCLE, IDEAL, until=1260)
    assert two == pytest.approx(one, abs=1e-6)


def test_without_red_or_lost_time_the_queueing_limit_is_left():
    arrivals = np.cumsum(np.random.default_rng(5).exponential(2.5, 2000))
    late, _ = delays(arrivals, IDEAL, until=8000, plan=(("G", CYCLE),))
    start = arrivals[0]
    for arrival, delay in zip(arrivals.tolist(), late.tolist(), strict=True):
        start = max(arrival, start)
        assert delay == pytest.approx(start - arrival, abs=1e-3)
        start += 2.0


# --- capacity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("green", [10.0, 27.0, 31.3])
@pytest.mark.parametrize(("lost", "used"), [(0.0, 0.0), (0.6, 0.0), (0.6, 2.0), (3.0, 3.0)])
@pytest.mark.parametrize("headway", [1.7, 2.3])
def test_a_saturated_cycle_serves_what_green_and_used_yellow_hold(green, lost, used, headway):
    plan = (("r", RED), ("G", green), ("y", 3.0))
    driving = PLAIN.model_copy(update={"lost": lost, "yellow_used": used})
    length = sum(seconds for _, seconds in plan)
    _, found = delays(np.zeros(400), ideal(headway), until=10 * length, plan=plan, driving=driving)
    expected = floor((green + used - lost) / headway + 1e-9) + 1
    assert found.moves == 10 * expected


def test_two_lanes_serve_twice_as_many():
    one, _ = delays(1.5 + 5.0 * np.arange(120), IDEAL, until=900)
    two, _ = delays(np.repeat(1.5 + 5.0 * np.arange(120), 2), IDEAL, until=900, lanes=2)
    assert two.mean() == pytest.approx(one.mean(), abs=1e-6)


@pytest.mark.parametrize("load", [1.2, 1.5])
def test_overload_grows_by_what_capacity_lacks(load):
    # 15 vehicles a cycle are served.
    time, headway = 3600.0, 1.8
    flow = load * 15 / CYCLE
    driving = PLAIN.model_copy(update={"lost": 1e-3})
    count = round(flow * time)
    arrivals = (np.arange(count) + 0.5) / flow
    late, _ = delays(arrivals, ideal(headway), until=3 * time, driving=driving)
    left = count - (arrivals + late <= time).sum()
    assert left == pytest.approx((flow - 15 / CYCLE) * time, abs=1.0)
    expected = RED / 2 + time / 2 * (load - 1)
    assert late.mean() + headway / 2 == pytest.approx(expected, rel=0.01)


# --- random arrivals ------------------------------------------------------------------------------


def poisson(flow, count, seed):
    return 100.0 + np.cumsum(np.random.default_rng(seed).exponential(1 / flow, count))


@pytest.mark.parametrize("flow", [400, 720, 810])
def test_poisson_arrivals_follow_lindleys_recursion_vehicle_by_vehicle(flow):
    arrivals = poisson(flow / 3600, 4000, flow)
    driving = PLAIN.model_copy(update={"lost": 0.5})
    late, _ = delays(arrivals, ideal(1.8), until=arrivals[-1] + 2000, driving=driving)
    expected = lindley(arrivals, headway=1.8, red=RED, cycle=CYCLE, lost=0.5)
    assert late == pytest.approx(expected, abs=1e-4)


def test_lindley_by_hand():
    # Red until 33; lost 1 s: crossings at 34, 36, 38; the fourth comes in green and need not wait.
    found = lindley(np.array([0.0, 10.0, 33.5, 45.0]), headway=2.0, red=33, cycle=60, lost=1.0)
    assert found == pytest.approx([34.0, 26.0, 4.5, 0.0])
    # A queue that does not fit into the green ends in the next one.
    found = lindley(np.zeros(15), headway=2.0, red=33, cycle=60, lost=1.5)
    assert found[12:] == pytest.approx([58.5, 94.5, 96.5])


def test_websters_formula_gives_the_known_values():
    values = [
        webster_delay(flow / 3600, green=27, cycle=60, saturation=2000 / 3600)
        for flow in (400, 720, 810)
    ]
    assert values == pytest.approx([12.593, 19.297, 28.856], abs=5e-4)


@pytest.mark.parametrize(("flow", "seeds"), [(400, 3), (720, 5), (810, 12)])
def test_random_arrivals_have_websters_delay_within_six_percent(flow, seeds):
    # Lindley's recursion is what the simulator does (above); it gives long runs in no time.
    runs = [
        lindley(poisson(flow / 3600, 60_000, seed), headway=1.8, red=RED, cycle=CYCLE, lost=1e-3)
        for seed in range(seeds)
    ]
    mean = np.mean([run.mean() for run in runs])
    webster = webster_delay(flow / 3600, green=27, cycle=60, saturation=2000 / 3600)
    assert mean + 0.9 == pytest.approx(webster, rel=0.06)


@pytest.mark.parametrize("flow", [400, 720])
def test_the_mean_delay_is_within_three_standard_errors_of_other_arrivals(flow):
    driving = PLAIN.model_copy(update={"lost": 1e-3})
    arrivals = poisson(flow / 3600, 20_000, 99)
    late, _ = delays(arrivals, ideal(1.8), until=arrivals[-1] + 2000, driving=driving)
    others = [
        lindley(poisson(flow / 3600, 20_000, seed), headway=1.8, red=RED, cycle=CYCLE, lost=1e-3)
        for seed in range(12)
    ]
    means = np.array([run.mean() for run in others])
    error = means.std(ddof=1) * (1 + 1 / means.size) ** 0.5
    assert abs(late.mean() - means.mean()) <= 3 * error
