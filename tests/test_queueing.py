"""Textbook formulas against tabulated values and against independent computations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.models.cloud import bounds, queueing


def test_single_server_waits_against_tabulated_values():
    assert queueing.mm1_wait(arrival_rate=0.8, service_rate=1.0) == pytest.approx(4.0)
    for scv, expected in ((1.0, 4.0), (0.0, 2.0), (10.0, 22.0)):
        wait = queueing.pollaczek_khinchine_wait(arrival_rate=0.8, mean=1.0, scv=scv)
        assert wait == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("servers", "offered", "probability", "wait"),
    [
        (2, 1.6, 0.71111111, 1.77777778),
        (10, 8.0, 0.40918015, 0.20459008),
        (100, 90.0, 0.21694048, 0.02169405),
        (1500, 1400.0, 0.0047134, 4.713e-5),
    ],
)
def test_erlang_c_against_tabulated_values(servers, offered, probability, wait):
    assert queueing.erlang_c(servers=servers, offered=offered) == pytest.approx(
        probability, rel=1e-4 if servers == 1500 else 1e-7
    )
    got = queueing.mmc_wait(servers=servers, arrival_rate=offered, service_rate=1.0)
    assert got == pytest.approx(wait, rel=1e-4 if servers == 1500 else 1e-6)


def test_erlang_b_against_the_sum_formula_and_erlang_c_with_one_server():
    offered, servers = 3.5, 6
    terms = [1.0]
    for k in range(1, servers + 1):
        terms.append(terms[-1] * offered / k)
    assert queueing.erlang_b(servers=servers, offered=offered) == pytest.approx(
        terms[-1] / sum(terms), rel=1e-13
    )
    assert queueing.erlang_c(servers=1, offered=0.37) == pytest.approx(0.37, rel=1e-13)


def test_processor_sharing_is_linear_in_the_size():
    assert queueing.ps_response(load=0.75, size=1.0) == pytest.approx(4.0)
    assert queueing.ps_response(load=0.75, size=3.0) == pytest.approx(12.0)


SPLITS = [
    (0.8, [0.448528, 1.220101, 2.897056, 6.440202, 13.794113], 0.620428, 0.806452),
    (0.5, [0, 0, 1.168239, 3.995284, 10.336477], 0.208728, 0.322581),
    (0.3, [0, 0, 0, 1.911061, 7.388939], 0.126014, 0.230415),
]


@pytest.mark.parametrize(("load", "flow", "response", "proportional"), SPLITS)
def test_square_root_split_against_tabulated_values(load, flow, response, proportional):
    rates = [1.0, 2.0, 4.0, 8.0, 16.0]
    split = queueing.square_root_split(arrival_rate=load * 31, service_rates=rates)
    assert split.flow == pytest.approx(flow, abs=1e-6)
    assert split.response == pytest.approx(response, abs=1e-6)
    assert queueing.proportional_split_response(
        arrival_rate=load * 31, service_rates=rates
    ) == pytest.approx(proportional, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    rates=st.lists(st.floats(0.1, 20.0), min_size=2, max_size=6),
    load=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**16),
)
def test_no_other_split_beats_the_square_root_rule(rates, load, seed):
    arrival = load * sum(rates)
    split = queueing.square_root_split(arrival_rate=arrival, service_rates=rates)
    assert split.flow.sum() == pytest.approx(arrival, rel=1e-9)
    assert (split.flow >= 0).all()
    rng = np.random.default_rng(seed)
    step = rng.normal(size=len(rates)) * 0.02
    other = np.maximum(split.flow + (step - step.mean()) * arrival, 0)
    other *= arrival / other.sum()
    if (other < np.asarray(rates)).all():
        response = queueing.split_response(flow=other, service_rates=rates)
        assert response >= split.response * (1 - 1e-12)


@pytest.mark.parametrize(
    ("load", "expected"),
    [(0.7, 1.614454), (0.8, 1.947363), (0.9, 2.614057), (0.95, 3.383046)],
)
def test_mean_field_of_two_choices(load, expected):
    assert queueing.jsq_response(load=load, choices=2) == pytest.approx(expected, abs=1e-6)
    tail = queueing.jsq_tail(load=load, choices=2, levels=3)
    assert tail == pytest.approx([load, load**3, load**7], rel=1e-12)


def test_mean_field_with_one_choice_is_mm1():
    assert queueing.jsq_response(load=0.8, choices=1) == pytest.approx(5.0)
    tail = queueing.jsq_tail(load=0.8, choices=1, levels=400)
    assert tail.sum() / 0.8 == pytest.approx(5.0, rel=1e-9)


def test_lindley_equals_the_recursion_written_as_a_loop():
    rng = np.random.default_rng(1)
    gaps, services = rng.exponential(1.25, 500), rng.exponential(1.0, 500)
    waits = queueing.lindley_waits(gaps, services)
    expected = [0.0]
    for n in range(1, 500):
        expected.append(max(0.0, expected[-1] + services[n - 1] - gaps[n]))
    assert waits == pytest.approx(expected, abs=1e-10)


def test_lindley_confirms_pollaczek_khinchine_with_the_planned_run_length():
    load, scv, jobs, seeds = 0.8, 0.0, 200_000, 20
    means = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        means.append(queueing.lindley_waits(rng.exponential(1 / load, jobs), np.ones(jobs)).mean())
    expected = queueing.pollaczek_khinchine_wait(arrival_rate=load, mean=1.0, scv=scv)
    planned = expected * np.sqrt(queueing.wait_relative_variance(load=load, scv=scv) / jobs)
    assert abs(np.mean(means) - expected) < 4 * planned / np.sqrt(seeds)
    assert 0.6 < np.std(means, ddof=1) / planned < 1.6


@pytest.mark.parametrize(
    "call",
    [
        lambda: queueing.mm1_wait(arrival_rate=1.0, service_rate=1.0),
        lambda: queueing.pollaczek_khinchine_wait(arrival_rate=1.2, mean=1.0, scv=1.0),
        lambda: queueing.pollaczek_khinchine_wait(arrival_rate=0.5, mean=1.0, scv=-1.0),
        lambda: queueing.erlang_c(servers=3, offered=3.0),
        lambda: queueing.square_root_split(arrival_rate=3.0, service_rates=[1.0, 2.0]),
        lambda: queueing.square_root_split(arrival_rate=1.0, service_rates=[1.0, -2.0]),
        lambda: queueing.ps_response(load=1.0, size=1.0),
        lambda: queueing.jsq_response(load=1.0, choices=2),
        lambda: queueing.lindley_waits(np.zeros(3), np.zeros(4)),
    ],
)
def test_formulas_refuse_what_has_no_steady_state_or_no_meaning(call):
    with pytest.raises(ValueError, match=r"load|scv|positive|equally long"):
        call()


def test_dominant_resource_fairness_worked_example():
    tasks, shares = bounds.drf_tasks([9, 18], [[1, 4], [3, 1]])
    assert tasks == [3, 2]
    assert shares == pytest.approx([2 / 3, 2 / 3])


def test_optimal_bins_against_enumeration():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 10, size=5).tolist()
        best = len(sizes)
        for assignment in itertools.product(range(len(sizes)), repeat=len(sizes)):
            bins = np.bincount(assignment, weights=sizes)
            if bins.max() <= 10:
                best = min(best, int((bins > 0).sum()))
        assert bounds.optimal_bins(sizes, 10) == best


def test_optimal_makespan_against_enumeration():
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = rng.integers(1, 12, size=7).tolist()
        best = min(
            int(np.bincount(assignment, weights=times).max())
            for assignment in itertools.product(range(3), repeat=len(times))
        )
        assert bounds.optimal_makespan(times, 3) == best


def test_guarantees_at_their_tight_cases():
    # Graham's two tight families: m (m - 1) unit jobs then one of m; 2m + 1 jobs for LPT.
    machines = 4
    assert bounds.optimal_makespan([1] * 12 + [4], machines) == 4
    assert 4 * bounds.graham_factor(machines) == 7  # the list in that order ends at 3 + 4
    lpt_times = [7, 7, 6, 6, 5, 5, 4, 4, 4]
    assert bounds.optimal_makespan(lpt_times, machines) == 12
    assert 12 * bounds.lpt_factor(machines) == pytest.approx(15)
    assert bounds.first_fit_guarantee(10) == 17


def test_bounds_refuse_impossible_input():
    with pytest.raises(ValueError, match="does not fit"):
        bounds.optimal_bins([3, 11], 10)
    with pytest.raises(ValueError, match="columns"):
        bounds.drf_tasks([1, 2], [[1]])
    with pytest.raises(ValueError, match="positive amount"):
        bounds.drf_tasks([1, 2], [[0, 0]])
