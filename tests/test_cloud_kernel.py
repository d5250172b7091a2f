"""Event calendar, stations, random streams, sizes: numbers that can be checked by hand."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.platform.benchmarks.cloud_simulator import Options, event_run
from fairlead.platform.benchmarks.heap_twin import heap_twin
from fairlead.simulators.calendar import Calendar, Wake
from fairlead.simulators.cloud.arrivals import ArrivalPattern, RateShape
from fairlead.simulators.cloud.catalogue import SHARES, TENANTS, TYPES, apportion, capacity
from fairlead.simulators.cloud.event_mode import (
    NodeSpec,
    power_of_two,
    random_split,
    round_robin,
    run_event_mode,
    shortest_queue,
    to_only,
)
from fairlead.simulators.cloud.fleet import resolve
from fairlead.simulators.cloud.kernel import Job, Seat
from fairlead.simulators.cloud.quantiles import LogHistogram
from fairlead.simulators.cloud.scenario import DispatchScenario
from fairlead.simulators.cloud.sizes import SizeLaw
from fairlead.simulators.cloud.stations import FirstComeFirstServed, ProcessorSharing
from fairlead.simulators.streams import Streams


class Bed:
    """One station and a list of (time, service) arrivals."""

    def __init__(self, kind, **more):
        self.calendar, self.counts, self.done = Calendar(), [0], []
        self.station = kind(Seat(0, self.calendar, self.counts, self.done, count()), **more)

    def arrive(self, *jobs):
        for number, (time, service) in enumerate(jobs):
            job = Job(number, 0, service, time, [service], service)

            def admit(_event, job=job, service=service):
                self.station.admit(job, service)

            self.calendar.at(time, Wake([admit]))
        return self

    def finishes(self, until=1e9):
        self.calendar.run_until(until)
        return {job.owner: job.finish for job in self.done}


def test_processor_sharing_by_hand():
    # Alone until 1 (2 left), then shared: job 1 needs 1, gets rate 1/2, leaves at 3; job 0 at 4.
    assert Bed(ProcessorSharing).arrive((0, 3), (1, 1)).finishes() == {1: 3.0, 0: 4.0}
    # Three at once: remainders 1, 2, 3 leave at 3, 5, 6; then an idle gap and a lone job.
    bed = Bed(ProcessorSharing).arrive((0, 1), (0, 2), (0, 3), (10, 4))
    assert bed.finishes() == {0: 3.0, 1: 5.0, 2: 6.0, 3: 14.0}
    assert bed.station.busy_time() == 10.0 and bed.counts == [0]


def test_late_short_job_overtakes_in_processor_sharing():
    # The pending departure of the long job must be replaced by an earlier one.
    bed = Bed(ProcessorSharing).arrive((0, 100), (10, 1), (11, 0.25))
    # At 11 the second job has 0.5 left; three share: 0.25 takes 0.75 s, then 0.25 left of two.
    assert bed.finishes() == {2: 11.75, 1: 12.25, 0: 101.25}


def test_first_come_first_served_by_hand():
    jobs = ((0, 3), (1, 4), (2, 2), (2.5, 1))
    assert Bed(FirstComeFirstServed).arrive(*jobs).finishes() == {0: 3, 1: 7, 2: 9, 3: 10}
    bed = Bed(FirstComeFirstServed, servers=2).arrive(*jobs)
    assert bed.finishes() == {0: 3, 1: 5, 2: 5, 3: 6}
    assert bed.station.busy_time() == 5.0  # 10 s of work on two servers


@pytest.mark.parametrize("kind", [ProcessorSharing, FirstComeFirstServed])
def test_remaining_and_evict(kind):
    bed = Bed(kind).arrive((0, 3), (1, 1))
    bed.calendar.run_until(2)
    expected = [0.5, 1.5] if kind is ProcessorSharing else [1.0, 1.0]
    assert sorted(bed.station.remaining()) == expected
    gone = bed.station.evict()
    assert sorted(left for _, left in gone) == expected
    assert [job.owner for job, _ in sorted(gone, key=lambda pair: pair[0].owner)] == [0, 1]
    assert bed.counts == [0] and bed.station.remaining() == [] and bed.station.busy_time() == 2.0
    # Events of before the failure are void; the station works as new.
    bed.arrive((5, 2))
    assert bed.finishes() == {0: 7.0} and bed.station.busy_time() == 4.0


def test_the_calendar_is_a_simpy_environment():
    bed, seen = Bed(ProcessorSharing).arrive((0, 3), (1, 1)), []

    def watcher(env):
        while True:
            yield env.timeout(1.5)
            seen.append((env.now, bed.counts[0]))

    bed.calendar.process(watcher(bed.calendar))
    bed.calendar.run(until=5)  # SimPy's own loop
    assert {job.owner: job.finish for job in bed.done} == {1: 3.0, 0: 4.0}
    assert seen == [(1.5, 2), (3.0, 1), (4.5, 0)]
    assert isinstance(bed.calendar, simpy.Environment)
    bed.calendar.event().fail(KeyError("lost"))
    with pytest.raises(KeyError, match="lost"):
        bed.calendar.run_until(9)


def test_run_until_includes_its_end_and_moves_the_clock():
    bed = Bed(FirstComeFirstServed).arrive((0, 2))
    bed.calendar.run_until(2)
    assert len(bed.done) == 1
    bed.calendar.run_until(7.5)
    assert bed.calendar.now == 7.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5)), min_size=1, max_size=25),
)
def test_processor_sharing_against_a_step_by_step_simulation(jobs):
    jobs = sorted(jobs)
    finishes = Bed(ProcessorSharing).arrive(*jobs).finishes()
    left, now, following, expected = {}, 0.0, 0, {}
    while following < len(jobs) or left:
        due = now + min(left.values()) * len(left) if left else np.inf
        arrival = jobs[following][0] if following < len(jobs) else np.inf
        step = min(due, arrival) - now
        left = {job: rest - step / len(left) for job, rest in left.items()} if left else {}
        now += step
        if arrival <= due:
            left[following] = jobs[following][1]
            following += 1
        else:
            first = min(left, key=left.get)
            expected[first] = now
            del left[first]
    assert finishes.keys() == expected.keys()
    for job, time in expected.items():
        assert finishes[job] == pytest.approx(time, abs=1e-8)


def test_little_law_from_the_event_trace():
    result = run_event_mode(
        nodes=[NodeSpec(), NodeSpec("fcfs", servers=2), NodeSpec(speed=2.0)],
        arrivals=2.5,
        sizes=SizeLaw(),
        route=random_split([1, 1, 2]),
        jobs=20_000,
        seed=4,
        trace=True,
    )
    times = np.array([entry[0] for entry in result.trace])
    steps = np.array([entry[2] for entry in result.trace])
    assert result.left == 0 and steps.sum() == 0 and (np.diff(times) >= 0).all()
    area = float((np.cumsum(steps)[:-1] * np.diff(times)).sum())
    assert area == pytest.approx(result.response_sum, rel=1e-9)
    assert result.in_system * result.duration == pytest.approx(area, rel=1e-9)


def test_fcfs_and_sharing_have_the_same_busy_periods():
    ends = []
    for discipline in ("ps", "fcfs"):
        trace = run_event_mode(
            nodes=[NodeSpec(discipline)],
            arrivals=0.8,
            sizes=SizeLaw(),
            route=to_only(),
            jobs=5_000,
            seed=3,
            trace=True,
        ).trace
        level = np.cumsum([step for _, _, step in trace])
        ends.append(np.array([trace[i][0] for i in np.flatnonzero(level == 0)]))
    assert ends[0].shape[0] > 300
    assert np.abs(ends[0] - ends[1]).max() < 1e-7


def test_same_seed_same_trace():
    def trace(seed):
        return run_event_mode(
            nodes=[NodeSpec()] * 5,
            arrivals=4.0,
            sizes=SizeLaw(),
            route=power_of_two(),
            jobs=2_000,
            seed=seed,
            trace=True,
        ).trace

    assert trace(1) == trace(1) != trace(2)


def test_routes():
    def where(route, **more):
        result = run_event_mode(
            nodes=[NodeSpec()] * 3,
            arrivals=1.5,
            sizes=SizeLaw(law="exponential"),
            route=route,
            jobs=3_000,
            seed=0,
            trace=True,
            **more,
        )
        return [node for _, node, step in result.trace if step == 1], result

    assert where(round_robin())[0][:6] == [0, 1, 2, 0, 1, 2]
    split = np.bincount(where(random_split([1, 0, 3]))[0]) / 3_000
    assert split == pytest.approx([0.25, 0.0, 0.75], abs=0.03)
    assert where(to_only(2))[0] == [2] * 3_000
    queue, two, random = (
        where(route)[1].mean_response
        for route in (shortest_queue(), power_of_two(), random_split([1, 1, 1]))
    )
    assert queue < two < random


def test_loss_system_and_horizon():
    result = run_event_mode(
        nodes=[NodeSpec("fcfs", servers=3, limit=3)],
        arrivals=3.0,
        sizes=SizeLaw(law="exponential"),
        route=to_only(),
        horizon=5_000.0,
        seed=1,
        trace=True,
    )
    level = np.cumsum([step for _, _, step in result.trace])
    assert level.max() == 3 and result.arrivals == result.completed + result.rejected
    # Erlang B with 3 servers and 3 Erlang is 9/26.
    assert result.rejected / result.arrivals == pytest.approx(9 / 26, abs=0.02)
    assert result.mean_wait == pytest.approx(0.0, abs=1e-9) and result.delayed == 0.0
    assert max(time for time, _, step in result.trace if step == 1) <= 5_000.0


def test_undrained_run_counts_the_jobs_left_over():
    result = run_event_mode(
        nodes=[NodeSpec("fcfs")],
        arrivals=2.0,
        sizes=SizeLaw(law="deterministic"),
        route=to_only(),
        horizon=500.0,
        drain=False,
        seed=0,
    )
    assert result.duration == 500.0 and result.left == result.arrivals - result.completed
    assert result.left == pytest.approx(500, abs=80)  # load 2: backlog grows by one per second


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jobs": None}, "jobs or horizon"),
        ({"nodes": []}, "at least one node"),
        ({"warmup": 10}, "warmup"),
        ({"arrivals": 0.0}, "rate must be positive"),
    ],
)
def test_event_mode_refuses_nonsense(change, words):
    base = {
        "nodes": [NodeSpec()],
        "arrivals": 1.0,
        "sizes": SizeLaw(),
        "route": to_only(),
        "jobs": 10,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=words):
        run_event_mode(**{**base, **change})
    with pytest.raises(ValueError, match="one server"):
        NodeSpec("ps", servers=2)


@pytest.mark.parametrize("nodes", [2, 50])
def test_plain_heap_twin_agrees_to_the_last_bit(nodes):
    options = Options(jobs=9_000)
    ours = event_run(options, nodes, options.jobs)
    speeds = [1.0 if index % 2 else 1.25 for index in range(nodes)]
    twin = heap_twin(
        speeds=speeds, rate=0.8 * sum(speeds), sizes=SizeLaw(), jobs=options.jobs, seed=1
    )
    assert ours.completed == twin.completed == 9_000
    assert ours.response_sum == twin.response_sum > 0


def test_streams_are_named_and_independent():
    first, second = Streams(5).generator("arrivals"), Streams(5).generator("arrivals")
    assert (first.random(8) == second.random(8)).all()
    draws = [Streams(seed).generator(name).random() for seed in (5, 6) for name in ("a", "b")]
    assert len(set(draws)) == 4
    with pytest.raises(ValueError, match="-1"):
        Streams(-1)


@pytest.mark.parametrize(
    "law",
    [
        SizeLaw(law="exponential", mean=2.0),
        SizeLaw(law="deterministic", mean=0.7),
        SizeLaw(law="pareto", mean=3.0, tail=1.5, ratio=50.0),
        SizeLaw(law="pareto", mean=3.0, tail=1.0, ratio=50.0),
        SizeLaw(law="pareto", mean=3.0, tail=2.0, ratio=50.0),
        SizeLaw(law="hyperexponential", mean=1.5, scv=10.0),
        SizeLaw(),
    ],
)
def test_size_laws_have_their_moments(law):
    draws = law.sample(Streams(2).generator("sizes"), 400_000)
    assert draws.min() > 0 and draws.max() <= law.largest() * (1 + 1e-12)
    assert draws.mean() == pytest.approx(law.mean, rel=0.02)
    assert (draws**2).mean() == pytest.approx(law.second_moment(), rel=0.06)


def test_bimodal_default_is_the_documented_mixture():
    law = SizeLaw()
    assert law.small_mean == pytest.approx(0.5)
    draws = law.sample(Streams(2).generator("sizes"), 400_000)
    assert (draws > 2.2).mean() == pytest.approx(0.1 + 0.9 * np.exp(-2.2 / 0.5), abs=0.005)
    assert law.squared_variation() > 5
    with pytest.raises(ValueError, match="large_share"):
        SizeLaw(large_share=0.5, large_mean=2.0)


def test_rate_shape_has_mean_one_and_respects_its_bound():
    pattern, times = ArrivalPattern(), np.linspace(0.0, 100.0, 401)
    total = np.zeros((4, times.shape[0]))
    for seed in range(300):
        shape = RateShape(
            pattern=pattern,
            groups=4,
            length=100.0,
            dt=0.5,
            rng=Streams(seed).generator("pattern"),
        )
        values = np.array([shape.factor(g, times) for g in range(4)])
        assert values.max() <= shape.bound and values.min() > 0
        assert shape.factors(50.0) == pytest.approx(values[:, 200])
        total += values / 300
    assert total.mean() == pytest.approx(1.0, abs=0.01)
    assert abs(total - 1.0).max() < 0.1
    flat = ArrivalPattern(amplitude=0.0, burst_factor=1.0)
    shape = RateShape(
        pattern=flat, groups=1, length=9.0, dt=1.0, rng=Streams(0).generator("pattern")
    )
    assert shape.factor(0, times) == pytest.approx(np.ones(401))


def test_capacity_by_hand_and_against_the_planning_program():
    # One specialist per class and one generalist at half speed: 1 + 1 + 1 job per second.
    rates = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert capacity(np.array([1.0, 1, 2]), rates, np.array([0.5, 0.5])) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="class 1"):
        capacity(np.array([1.0]), np.array([[1.0, 0.0]]), np.array([0.5, 0.5]))
    planning = pytest.importorskip("fairlead.models.cloud.planning")
    speed = np.array([node.speed for node in TYPES])
    counts = apportion(SHARES, 200).astype(np.float64)
    mix = np.array(list(TENANTS.values())).mean(axis=0)
    theta = capacity(counts, speed, mix)
    plan = planning.PlanningSolver(speed.T.copy()).solve(theta * mix, counts)
    assert plan.rho == pytest.approx(1.0, abs=1e-7)


def test_work_of_classes_and_specialisation_keep_the_offered_load():
    plain = resolve(DispatchScenario(agents=8, load=0.6))
    scenario = DispatchScenario(agents=8, load=0.6, class_work=(0.1, 1, 2, 4), own_share=1.0)
    fleet = resolve(scenario)
    assert fleet.mean_service == pytest.approx(plain.mean_service * np.array([0.1, 1, 2, 4]))
    assert fleet.mix == pytest.approx(np.eye(4))
    planning = pytest.importorskip("fairlead.models.cloud.planning")
    counts = np.bincount(fleet.type_of).astype(np.float64)
    plan = planning.PlanningSolver(1.0 / fleet.mean_service.T).solve(fleet.class_rates, counts)
    assert plan.rho == pytest.approx(0.6, abs=1e-7)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=12), st.integers(0, 300))
def test_apportion_sums_and_is_fair(shares, seats):
    count_ = apportion(shares, seats)
    quota = np.array(shares) * seats / sum(shares)
    assert count_.sum() == seats and (abs(count_ - quota) < 1 + 1e-6).all()


def test_quantile_sketch_is_within_one_percent():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0.0, 2.0, 50_000))
    sketch = LogHistogram()
    for part in np.array_split(values, 7):
        sketch.add(part)
    for level in (0.01, 0.5, 0.95, 0.99, 1.0):
        exact = np.quantile(values, level, method="inverted_cdf")
        assert sketch.quantile(level) == pytest.approx(exact, rel=0.0101)
    assert np.isnan(LogHistogram().quantile(0.5))
