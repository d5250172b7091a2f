"""The dispatching simulator: epochs, observations, accounting, determinism."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fairlead.simulators.cloud.arrivals import ArrivalPattern
from fairlead.simulators.cloud.dispatch import WINDOW, DispatchSimulator, Exogenous
from fairlead.simulators.cloud.episode import BACKGROUND
from fairlead.simulators.cloud.scenario import (
    DispatchScenario,
    Failures,
    LlmScenario,
    OpenbScenario,
    Profile,
    Weights,
)
from fairlead.simulators.cloud.sizes import SizeLaw
from fairlead.simulators.cloud.snapshot import influence, profile_edges
from fairlead.simulators.interface import Choice, SequentialSimulator

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "cloud" / "openb_pod_list_default.csv").is_file(),
    reason="no openb and Azure files; set FAIRLEAD_DATA to their folder",
)
SMALL = {"agents": 12, "horizon": 40}
SCENARIOS = [
    pytest.param(DispatchScenario(**SMALL), id="ps"),
    pytest.param(DispatchScenario(**SMALL, discipline="fcfs"), id="fcfs"),
    pytest.param(DispatchScenario(**SMALL, node_limit=2, load=0.9), id="limited"),
    pytest.param(DispatchScenario(**SMALL, failures=Failures(mttf=20.0, mttr=5.0)), id="failing"),
    pytest.param(
        DispatchScenario(
            **SMALL,
            estimate_error=0.5,
            snapshot_age=3,
            weights=Weights(energy=0.1, slo=0.5),
            rotate=True,
        ),
        id="weighted",
    ),
    pytest.param(LlmScenario(**SMALL), id="llm", marks=needs_data),
    pytest.param(
        OpenbScenario(
            agents=10,
            horizon=40,
            nodes=60,
            failures=Failures(mttf=3000.0, mttr=300.0, lose_work=False),
            weights=Weights(energy=0.01, slo=1.0, fragmentation=0.1),
        ),
        id="openb",
        marks=needs_data,
    ),
]


def legal(observation, rng):
    """A uniformly random legal candidate of every agent."""
    key = np.where(observation.mask, rng.random(observation.mask.shape), -1.0)
    return key.argmax(axis=1)


def run(simulator, seed, policy=legal, fresh=False):
    """Play an episode; returns the observations and steps."""
    rng = np.random.default_rng(7)
    seen, steps = [simulator.reset(seed)], []
    for _ in range(simulator.spec.horizon):
        if fresh:
            step = simulator.step_fresh(lambda observation: policy(observation, rng))
        else:
            step = simulator.step(policy(seen[-1], rng))
        steps.append(step)
        seen.append(step.observation)
    return seen, steps


def in_system(simulator):
    """Jobs that the episode's cost counts and that have not left."""
    waiting = [job for queue in simulator._queues for job in queue]
    running = [job for station in simulator._cluster.stations for job in station.present()]
    return [job for job in waiting + running if job.owner != BACKGROUND]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_observations_match_the_spec(scenario):
    simulator = DispatchSimulator(scenario)
    assert isinstance(simulator, SequentialSimulator)
    spec = simulator.spec
    seen, steps = run(simulator, 1)
    agents, candidates = spec.agents, spec.action.candidates
    assert isinstance(spec.action, Choice) and spec.group_of.shape == (agents,)
    assert spec.group_of.max() + 1 == len(spec.groups)
    for observation in seen:
        assert observation.agent.shape == (agents, len(spec.agent_features))
        shape = (agents, candidates, len(spec.candidate_features))
        assert observation.candidates.shape == shape
        assert observation.mask.shape == observation.target.shape == shape[:2]
        assert observation.critic.shape == (len(spec.critic_features),)
        assert observation.state.shape == (spec.state_size,)
        assert observation.private["service"].shape == shape[:2]
        assert observation.agent.dtype == observation.critic.dtype == np.float32
        assert observation.candidates.dtype == np.float32 and observation.mask.dtype == np.bool_
        assert observation.state.dtype == observation.exogenous.dtype == np.float64
        for values, features in (
            (observation.agent, spec.agent_features),
            (observation.candidates, spec.candidate_features),
            (observation.critic, spec.critic_features),
        ):
            assert np.isfinite(values).all()
            for column, feature in enumerate(features):
                span = 1e-6 * max(1.0, abs(feature.low))
                assert values[..., column].min() >= feature.low - span, feature.name
                assert values[..., column].max() <= feature.high * (1 + 1e-6) + 1e-6, feature.name
        assert observation.mask[:, 0].all() and (observation.target[:, 0] == -1).all()
        assert (observation.candidates[:, 0, 0] == 1).all()
        assert (observation.candidates[:, 1:, 0] == 0).all()
        assert not observation.mask[~observation.active, 1:].any()
        assert not (observation.mask & (observation.target < 0))[:, 1:].any()
        placed = observation.mask.copy()
        placed[:, 0] = False
        assert (observation.private["service"][placed] > 0).all()
        for row in observation.target[observation.active]:
            nodes = row[row >= 0]
            assert len(set(nodes.tolist())) == nodes.size > 0
    assert any(observation.active.any() for observation in seen)
    assert [step.truncated for step in steps] == [False] * (spec.horizon - 1) + [True]
    assert not any(step.terminated for step in steps)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_rewards_are_the_response_times(scenario):
    simulator = DispatchSimulator(scenario)
    _, steps = run(simulator, 3)
    metrics = simulator.metrics()
    left, end = in_system(simulator), simulator.spec.horizon * simulator.spec.dt
    total = metrics["response_mean"] * metrics["completed"] + sum(end - j.arrival for j in left)
    expected = -total / simulator.fleet.expected_arrivals
    assert sum(step.components["response"] for step in steps) == pytest.approx(expected, rel=1e-9)
    assert metrics["arrivals"] == metrics["completed"] + metrics["in_system"]
    assert metrics["in_system"] == len(left)
    for step in steps:
        assert step.reward == pytest.approx(sum(step.components.values()), rel=1e-12)
        assert step.local_reward.mean() == pytest.approx(step.reward, rel=1e-9, abs=1e-12)
        assert set(step.components) == {"response", "energy", "slo", "fragmentation"}
    assert sum(step.reward for step in steps) == pytest.approx(metrics["return"], rel=1e-12)
    own = np.zeros(simulator.spec.agents)
    np.add.at(own, [job.owner for job in left], 1)
    assert (own == simulator._accounts.in_system).all()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fresh", [False, True])
def test_same_seed_same_episode(scenario, fresh):
    def digest(seed):
        seen, steps = run(DispatchSimulator(scenario), seed, fresh=fresh)
        arrays = [o.candidates.tobytes() + o.agent.tobytes() + o.state.tobytes() for o in seen]
        return arrays, [step.local_reward.tobytes() for step in steps]

    assert digest(5) == digest(5)
    assert digest(5)[1] != digest(6)[1]


def test_a_simulator_can_be_reset_again_and_again():
    simulator = DispatchSimulator(DispatchScenario(**SMALL))
    first = [step.reward for step in run(simulator, 1)[1]]
    run(simulator, 2)
    assert [step.reward for step in run(simulator, 1)[1]] == first


def test_arrivals_do_not_depend_on_the_policy():
    def hold(observation, rng):
        return np.zeros(observation.mask.shape[0], dtype=np.int64)

    counts = []
    for policy in (legal, hold):
        simulator = DispatchSimulator(DispatchScenario(**SMALL))
        run(simulator, 9, policy)
        counts.append((simulator.metrics()["arrivals"], simulator._batch.time.tobytes()))
    assert counts[0] == counts[1]


def test_illegal_actions_are_refused_by_name():
    simulator = DispatchSimulator(DispatchScenario(**SMALL))
    with pytest.raises(RuntimeError, match="reset"):
        simulator.step(np.zeros(12, dtype=np.int64))
    observation = simulator.reset(0)
    while not observation.active.any() or observation.active.all():
        observation = simulator.step(np.zeros(12, dtype=np.int64)).observation
    idle = int(np.argmin(observation.active))
    actions = np.zeros(12, dtype=np.int64)
    actions[idle] = 3
    with pytest.raises(ValueError, match=rf"agent {idle} chose illegal candidate 3"):
        simulator.step(actions)
    actions[idle] = 99
    with pytest.raises(ValueError, match=rf"agent {idle} chose illegal candidate 99"):
        simulator.step(actions)
    with pytest.raises(ValueError, match=r"shape \(12,\)"):
        simulator.step(np.zeros(11, dtype=np.int64))
    with pytest.raises(ValueError, match="integers"):
        simulator.step(np.zeros(12))
    simulator.step(np.zeros(12, dtype=np.int64))  # a refused step changes nothing
    while simulator._epoch != simulator.spec.horizon:
        simulator.step(np.zeros(12, dtype=np.int64))
    with pytest.raises(RuntimeError, match="ended after 40 epochs"):
        simulator.step(np.zeros(12, dtype=np.int64))


def test_holding_forever_costs_the_age_of_every_job():
    simulator = DispatchSimulator(DispatchScenario(**SMALL))
    _, steps = run(simulator, 2, lambda o, rng: np.zeros(o.mask.shape[0], dtype=np.int64))
    end = 40 * simulator.spec.dt
    ages = [end - job.arrival for job in in_system(simulator)]
    assert len(ages) == simulator.metrics()["arrivals"] and simulator.metrics()["completed"] == 0
    total = -sum(ages) / simulator.fleet.expected_arrivals
    assert sum(step.reward for step in steps) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("age", [0, 1, 4])
def test_snapshots_are_as_old_as_the_scenario_says(age):
    simulator = DispatchSimulator(DispatchScenario(agents=6, horizon=30, snapshot_age=age))
    jobs, work = (simulator.spec.candidate_column(name) for name in ("jobs", "work"))
    rng, truth = np.random.default_rng(0), []
    observation = simulator.reset(1)
    for epoch in range(30):
        left = [sum(station.remaining()) for station in simulator._cluster.stations]
        truth.append((list(simulator._cluster.counts), left))
        old_jobs, old_work = truth[max(epoch - age, 0)]
        for agent in np.flatnonzero(observation.active):
            node = observation.target[agent, 1:]
            shown = observation.candidates[agent, 1:]
            assert shown[:, jobs].tolist() == [old_jobs[j] for j in node]
            assert shown[:, work] == pytest.approx([old_work[j] for j in node], rel=1e-5)
        observation = simulator.step(legal(observation, rng)).observation
    assert max(max(count) for count, _ in truth) > 1


def test_features_by_brute_force():
    simulator = DispatchSimulator(DispatchScenario(agents=30, horizon=25, snapshot_age=0))
    fleet, rng = simulator.fleet, np.random.default_rng(0)
    names = {f.name: i for i, f in enumerate(simulator.spec.candidate_features)}
    column = {f.name: i for i, f in enumerate(simulator.spec.agent_features)}
    observation, checked = simulator.reset(4), 0
    for _ in range(25):
        now = observation.time
        for agent in range(30):
            queue = simulator._queues[agent]
            row = observation.agent[agent]
            assert row[column["waiting"]] == len(queue)
            if not queue:
                assert not observation.active[agent] and row[column["size"]] == 0
                continue
            job = queue[0]
            assert row[column["size"]] == pytest.approx(job.size, rel=1e-6)
            assert row[column["age"]] == pytest.approx(now - job.arrival, rel=1e-4, abs=1e-5)
            kinds = [row[column[f"class:{name}"]] for name in fleet.classes]
            assert kinds == [float(k == job.kind) for k in range(4)]
            for k in range(1, 9):
                node = int(observation.target[agent, k])
                kind = fleet.types[fleet.type_of[node]]
                values = observation.candidates[agent, k]
                station = simulator._cluster.stations[node]
                service = job.size / kind.speed[job.kind]
                shorter = sum(min(service, left) for left in station.remaining())
                assert values[names["speed"]] == pytest.approx(kind.speed[job.kind], rel=1e-6)
                assert values[names["service"]] == pytest.approx(service, rel=1e-6)
                assert values[names["overlap"]] == pytest.approx(shorter, rel=1e-4, abs=1e-5)
                assert values[names["power"]] == pytest.approx(
                    0.0 if station.present() else kind.peak - kind.idle
                )
                assert values[names["price"]] == pytest.approx(kind.price)
                assert observation.private["service"][agent, k] == pytest.approx(service)
                checked += 1
        observation = simulator.step(legal(observation, rng)).observation
    assert checked > 1000


def test_state_is_the_profile_of_remaining_service():
    scenario = DispatchScenario(agents=10, horizon=30, profile=Profile(bins=5, cap=256.0))
    simulator, edges = DispatchSimulator(scenario), profile_edges(scenario)
    assert edges.shape == (6,) and edges[0] == 0 and edges[-1] == 256 and (np.diff(edges) > 0).all()
    seen, _ = run(simulator, 3)
    state = seen[-1].state.reshape(10, 5)
    for node, station in enumerate(simulator._cluster.stations):
        left = np.array(station.remaining())
        expected = influence(left, edges).sum(axis=0)
        assert state[node] == pytest.approx(expected, abs=1e-9)
        assert state[node] @ np.diff(edges) == pytest.approx(left.sum(), rel=1e-9)


def test_squared_profile_is_the_cost_of_draining():
    # Edges at the remaining times make n(>u) constant in every bin; then the integral is exact.
    left = np.array([0.5, 1.25, 1.25, 4.0])
    edges = np.array([0.0, 0.5, 1.25, 4.0])
    profile = influence(left, edges).sum(axis=0)
    assert profile.tolist() == [4.0, 3.0, 1.0]
    cost = float(profile**2 @ np.diff(edges))
    pairs = np.minimum(left[:, None], left[None, :]).sum()
    # Sharing: departures at 2.0, 4.25, 4.25, 7.0.
    assert cost == pytest.approx(pairs) == pytest.approx(2.0 + 4.25 + 4.25 + 7.0)


def test_fresh_dispatchers_see_those_before_them():
    simulator = DispatchSimulator(DispatchScenario(agents=6, horizon=10))
    jobs, work, overlap = (
        simulator.spec.candidate_column(name) for name in ("jobs", "work", "overlap")
    )
    bins = simulator.scenario.profile.bins
    widths = np.diff(profile_edges(simulator.scenario))
    simulator.reset(3)
    for _ in range(10):
        before = list(simulator._cluster.counts)
        log = []

        def choose(observation, log=log):
            log.append(
                (
                    observation.candidates[0, 1].copy(),
                    float(observation.private["service"][0, 1]),
                    float(observation.state[:bins] @ widths),
                )
            )
            assert observation.active.shape == (1,) and observation.active[0]
            assert observation.target[0, 1] == 0
            return np.array([1])

        simulator.step_fresh(choose)
        added = np.cumsum([0.0] + [service for _, service, _ in log])
        for order, (seen, service, total) in enumerate(log):
            assert seen[jobs] == before[0] + order
            assert seen[work] - log[0][0][work] == pytest.approx(added[order], rel=1e-4, abs=1e-4)
            assert total - log[0][2] == pytest.approx(added[order], rel=1e-6, abs=1e-6)
            shorter = sum(min(service, other) for _, other, _ in log[:order])
            if before[0] == 0:
                assert seen[overlap] == pytest.approx(shorter, rel=1e-5)
    assert simulator.metrics()["completed"] > 0
    observation = simulator.reset(1)
    while not observation.active.any():
        observation = simulator.step(np.zeros(6, dtype=np.int64)).observation
    with pytest.raises(ValueError, match="illegal candidate 50"):
        simulator.step_fresh(lambda observation: np.array([50]))


def test_fresh_information_is_worth_something():
    def shortest_delay(observation, rng):
        columns = observation.candidates
        delay = np.where(observation.mask, (columns[:, :, 3] + 1) * columns[:, :, 2], np.inf)
        delay[:, 0] = 1e30
        return delay.argmin(axis=1)

    means = {}
    for fresh in (False, True):
        simulator = DispatchSimulator(DispatchScenario(agents=40, horizon=100))
        run(simulator, 1, shortest_delay, fresh=fresh)
        means[fresh] = simulator.metrics()["response_mean"]
    assert means[True] < 0.9 * means[False]


def test_equal_nodes_are_interchangeable():
    # Nodes 0 and 1 are of one type; a policy that swaps them must earn exactly the same.
    scenario = DispatchScenario(agents=8, horizon=60)
    simulator = DispatchSimulator(scenario)
    assert simulator.fleet.type_of[0] == simulator.fleet.type_of[1]

    def play(swap):
        wanted = np.random.default_rng(5)

        def policy(observation, _rng):
            node = wanted.integers(0, 8, 8)
            node = np.where(node < 2, 1 - node, node) if swap else node
            return np.where(observation.active, node + 1, 0)

        return [step.reward for step in run(simulator, 2, policy)[1]], simulator.metrics()

    (rewards, metrics), (swapped, metrics_swapped) = play(False), play(True)
    assert rewards == pytest.approx(swapped, rel=1e-12)
    assert metrics["response_p95"] == metrics_swapped["response_p95"]


def test_full_nodes_are_masked_and_late_placements_conflict():
    scenario = DispatchScenario(agents=12, horizon=60, node_limit=1, snapshot_age=1)
    simulator = DispatchSimulator(scenario)
    jobs = simulator.spec.candidate_column("jobs")
    rng = np.random.default_rng(0)
    observation = simulator.reset(1)
    for _ in range(60):
        full = observation.candidates[:, :, jobs] >= 1
        assert not (observation.mask & full).any()
        step = simulator.step(legal(observation, rng))
        assert max(simulator._cluster.counts) <= 1
        observation = step.observation
    metrics = simulator.metrics()
    assert metrics["conflicts"] > 20
    assert metrics["arrivals"] == metrics["completed"] + len(in_system(simulator))


@pytest.mark.parametrize("lose", [True, False])
def test_failures_return_jobs_and_mask_nodes(lose):
    law = Failures(mttf=12.0, mttr=6.0, lose_work=lose)
    scenario = DispatchScenario(agents=10, horizon=120, load=0.4, snapshot_age=0, failures=law)
    simulator = DispatchSimulator(scenario)
    rng, observation, down = np.random.default_rng(0), simulator.reset(2), 0
    for _ in range(120):
        up = Exogenous.unpack(observation.exogenous, 4).up.astype(bool)
        assert (up == simulator._cluster.up).all()
        down += int((~up).sum())
        assert not (observation.mask & ~up[np.maximum(observation.target, 0)])[:, 1:].any()
        assert all(simulator._cluster.counts[j] == 0 for j in np.flatnonzero(~up))
        observation = simulator.step(legal(observation, rng)).observation
    metrics = simulator.metrics()
    assert down / (10 * 120) == pytest.approx(1 / 3, abs=0.12)
    assert metrics["arrivals"] == metrics["completed"] + len(in_system(simulator))
    share = simulator._cluster.down_times() / observation.time
    assert share.mean() == pytest.approx(1 / 3, abs=0.12)


def test_keeping_work_over_failures_is_no_worse():
    means = []
    for lose in (True, False):
        law = Failures(mttf=8.0, mttr=2.0, lose_work=lose)
        scenario = DispatchScenario(
            agents=10, horizon=300, load=0.4, failures=law, size=SizeLaw(law="deterministic")
        )
        simulator = DispatchSimulator(scenario)
        run(simulator, 2)
        means.append(simulator.metrics()["response_mean"])
    assert means[1] < means[0]


def test_energy_is_idle_plus_swing_times_busy():
    scenario = DispatchScenario(agents=9, horizon=50, weights=Weights(energy=2.0))
    simulator = DispatchSimulator(scenario)
    _, steps = run(simulator, 1)
    fleet, end = simulator.fleet, 50 * simulator.spec.dt
    busy = np.array([station.busy_time() for station in simulator._cluster.stations])
    idle = np.array([kind.idle for kind in fleet.types])[fleet.type_of]
    peak = np.array([kind.peak for kind in fleet.types])[fleet.type_of]
    joules = float((idle * end + (peak - idle) * busy).sum())
    assert simulator.metrics()["energy_kwh"] == pytest.approx(joules / 3.6e6, rel=1e-9)
    total = sum(step.components["energy"] for step in steps)
    assert total == pytest.approx(-2.0 * joules / 1000 / fleet.expected_arrivals, rel=1e-9)
    assert simulator.metrics()["utilisation"] == pytest.approx(busy.mean() / end, rel=1e-9)


def test_deadlines_are_counted_when_a_job_leaves():
    scenario = DispatchScenario(agents=9, horizon=80, weights=Weights(slo=3.0), slo_factor=2.0)
    simulator = DispatchSimulator(scenario)
    simulator.reset(1)
    done, take = [], simulator._cluster.take_finished
    simulator._cluster.take_finished = lambda: done.extend(found := take()) or found
    rng, total, observation = np.random.default_rng(0), 0.0, simulator._last
    for _ in range(80):
        step = simulator.step(legal(observation, rng))
        total, observation = total + step.components["slo"], step.observation
    slack = 4.0 * simulator.spec.dt
    missed = sum(job.finish - job.arrival > 2.0 * job.best + slack for job in done)
    assert 0 < missed < len(done) and missed == simulator._accounts.misses
    assert simulator.metrics()["slo_miss"] == pytest.approx(missed / len(done))
    assert total == pytest.approx(-3.0 * missed / simulator.fleet.expected_arrivals, rel=1e-9)
    slowdown = np.mean([(job.finish - job.arrival) / job.best for job in done])
    assert simulator.metrics()["slowdown_mean"] == pytest.approx(slowdown, rel=1e-9)
    wait = np.mean([job.finish - job.arrival - job.service for job in done])
    assert simulator.metrics()["wait"] == pytest.approx(wait, rel=1e-9)
    response = np.array([job.finish - job.arrival for job in done])
    exact = np.quantile(response, 0.95, method="inverted_cdf")
    assert simulator.metrics()["response_p95"] == pytest.approx(exact, rel=0.0101)
    mean = np.array([response[[j.owner == a for j in done]].mean() for a in range(9)])
    jain = mean.sum() ** 2 / (9 * (mean**2).sum())
    assert simulator.metrics()["jain"] == pytest.approx(jain, rel=1e-9)


def test_size_estimates_blur_what_is_seen_and_not_what_is():
    exact = DispatchSimulator(DispatchScenario(agents=300, horizon=5))
    blurred = DispatchSimulator(DispatchScenario(agents=300, horizon=5, estimate_error=0.7))
    column = exact.spec.candidate_column("service")
    for simulator in (exact, blurred):
        simulator.reset(1)
        step = simulator.step(np.zeros(300, dtype=np.int64))
        true, told = step.observation.private["service"], step.observation.candidates[:, :, column]
        ratio = told[step.observation.mask & (true > 0)] / true[step.observation.mask & (true > 0)]
        wanted = 0.0 if simulator is exact else 0.7
        assert np.log(ratio).std() == pytest.approx(wanted, abs=0.12 * wanted + 1e-6)


def test_rotation_gives_the_next_job_a_turn():
    for rotate in (False, True):
        simulator = DispatchSimulator(DispatchScenario(agents=3, horizon=60, rotate=rotate))
        simulator.reset(1)
        hold = np.zeros(3, dtype=np.int64)
        while min(len(queue) for queue in simulator._queues) < 2:
            simulator.step(hold)
        heads = [queue[0] for queue in simulator._queues]
        simulator.step(hold)
        moved = [queue[0] is not head for queue, head in zip(simulator._queues, heads, strict=True)]
        assert moved == [rotate] * 3


@pytest.mark.parametrize("horizon", [1, WINDOW, WINDOW + 1, 3 * WINDOW - 1])
def test_windows_of_arrivals_join_without_a_seam(horizon):
    simulator = DispatchSimulator(DispatchScenario(agents=10, horizon=horizon, snapshot_age=0))
    simulator.reset(1)
    times, dt = [], simulator.spec.dt
    for epoch in range(1, horizon + 1):
        before = sum(len(queue) for queue in simulator._queues)
        simulator.step(np.zeros(10, dtype=np.int64))
        jobs = [job for queue in simulator._queues for job in queue]
        new = sorted(job.arrival for job in jobs if job.arrival > (epoch - 1) * dt)
        assert len(jobs) - before == len(new)
        assert not new or new[-1] <= epoch * dt * (1 + 1e-12)
        times += new
    assert simulator.metrics()["arrivals"] == len(times)
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("agents", [5, 20, 100])
def test_work_per_node_does_not_depend_on_the_number_of_agents(agents):
    scenario = DispatchScenario(agents=agents)
    simulator = DispatchSimulator(scenario)
    assert simulator.fleet.expected_arrivals == pytest.approx(0.7 * agents * 200)
    flat = DispatchScenario(agents=agents, horizon=300, pattern=ArrivalPattern(amplitude=0.0))
    hold = np.zeros(agents, dtype=np.int64)
    simulator = DispatchSimulator(flat)
    simulator.reset(0)
    for _ in range(300):
        simulator.step(hold)
    arrivals = simulator.metrics()["arrivals"]
    assert arrivals == pytest.approx(simulator.fleet.expected_arrivals, rel=0.12)


def test_forecast_rates_are_those_of_the_arrivals():
    simulator = DispatchSimulator(DispatchScenario(agents=40, horizon=200))
    fleet = simulator.fleet
    seen, _ = run(simulator, 3, lambda o, rng: np.zeros(40, dtype=np.int64))
    forecast = np.array([Exogenous.unpack(o.exogenous, 4).class_rates for o in seen[1:]])
    kinds = np.bincount([job.kind for job in in_system(simulator)], minlength=4)
    expected = forecast.sum(axis=0) * fleet.dt
    assert kinds == pytest.approx(expected, abs=4 * np.sqrt(expected.max()))
    load = np.array([o.agent[:, simulator.spec.agent_column("load")] for o in seen])
    assert 0.4 < load.min() < 0.7 < load.max() < 1.3


def test_memory_does_not_grow_with_finished_jobs():
    simulator = DispatchSimulator(DispatchScenario(agents=20, horizon=400))
    rng, observation, sizes = np.random.default_rng(0), simulator.reset(0), []
    for _ in range(400):
        observation = simulator.step(legal(observation, rng)).observation
        kept = len(simulator._jobs) + len(simulator._cluster.finished)
        sizes.append(kept + len(simulator._cluster.calendar._queue))
    assert simulator.metrics()["completed"] > 3000
    assert max(sizes) < 2 * WINDOW * 20 + 200
