"""The dispatching models: what their numbers mean, against nodes that really drain."""

from __future__ import annotations

from itertools import count, pairwise

import numpy as np
import pytest

from fairlead.models.check import check_model
from fairlead.models.cloud.dispatch_model import DispatchModel
from fairlead.models.cloud.profile_model import ProfileModel
from fairlead.models.cloud.size_moments import excess_moment
from fairlead.models.interface import counterfactual_values
from fairlead.simulators.calendar import Calendar
from fairlead.simulators.cloud.dispatch import DispatchSimulator, Exogenous
from fairlead.simulators.cloud.kernel import Job, Seat
from fairlead.simulators.cloud.scenario import DispatchScenario, Failures, Profile
from fairlead.simulators.cloud.sizes import SizeLaw
from fairlead.simulators.cloud.stations import FirstComeFirstServed, ProcessorSharing


def drained(kind, services) -> float:
    """Total response time of jobs that are at a node together, no more arriving."""
    calendar, finished = Calendar(), []
    station = kind(Seat(0, calendar, [0], finished, count()))
    for service in services:
        station.admit(Job(0, 0, service, 0.0, [service], service), service)
    calendar.run_until(1e6)
    assert len(finished) == len(services)
    return sum(job.finish for job in finished)


def profile(services, edges, points: int = 20000) -> np.ndarray:
    """Mean number of jobs with more than u left, by brute force."""
    left = np.asarray(services)
    means = []
    for low, high in pairwise(edges):
        u = low + (np.arange(points) + 0.5) * (high - low) / points
        means.append((left[:, None] > u).sum(axis=0).mean())
    return np.array(means)


def small_model(reference="drain", **knobs) -> ProfileModel:
    knobs = {"profile": Profile(bins=6, first=0.5, cap=16.0)} | knobs
    return ProfileModel(DispatchScenario(agents=4, **knobs), reference=reference)


def mean_exogenous(model: ProfileModel, factor: float = 1.0, up=None) -> np.ndarray:
    up = np.ones(model.fleet.nodes) if up is None else up
    return Exogenous(0.0, model.fleet.class_rates * factor, up).pack()


def deviation(model, x, exogenous) -> float:
    reference = model.reference(exogenous)
    return 0.5 * float(reference.weight @ (x - reference.x_ref) ** 2)


def test_d_is_exactly_the_cost_of_draining_a_shared_node():
    model = small_model()
    exogenous = mean_exogenous(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        # Remaining times at bin edges: n(>u) is constant inside bins.
        services = rng.choice(model.edges[1:], size=rng.integers(1, 9)).tolist()
        x = np.zeros(model.state_size)
        x[6:12] = profile(services, model.edges)
        total = drained(ProcessorSharing, services)
        assert deviation(model, x, exogenous) == pytest.approx(total, rel=1e-9)


def test_between_bin_edges_d_is_a_close_lower_bound_of_draining():
    model = small_model(profile=Profile(bins=16, first=0.1, cap=16.0))
    exogenous = mean_exogenous(model)
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(50):
        services = np.minimum(rng.exponential(1.0, rng.integers(1, 9)), 16.0).tolist()
        x = np.zeros(model.state_size)
        x[:16] = profile(services, model.edges)
        total = drained(ProcessorSharing, services)
        gaps.append(1.0 - deviation(model, x, exogenous) / total)
    # Never above; a single job that ends inside a bin may lose up to a quarter of its width.
    assert min(gaps) > -1e-9
    assert np.mean(gaps) < 0.05


def test_greedy_value_is_minus_what_the_job_adds_to_the_drain():
    scenario = DispatchScenario(agents=20, horizon=40, profile=Profile(bins=64, first=0.05))
    simulator, model = DispatchSimulator(scenario), DispatchModel(scenario)
    seen = simulator.reset(3)
    rng = np.random.default_rng(3)
    for _ in range(30):
        legal = np.where(seen.mask[:, 1:], rng.random(seen.mask[:, 1:].shape), -1.0)
        seen = simulator.step(np.where(seen.active, legal.argmax(axis=1) + 1, 0)).observation
    values = counterfactual_values(
        seen, model.reference(seen.exogenous), model.influence(seen), np.zeros(20, np.int64)
    )
    compared = 0
    for agent, candidate in np.argwhere(seen.mask & seen.active[:, None]):
        if candidate == 0:
            continue
        station = simulator._cluster.stations[seen.target[agent, candidate]]
        service = float(seen.private["service"][agent, candidate])
        before = sorted(station.remaining())
        if max([*before, service]) > scenario.profile.cap:
            continue
        added = drained(ProcessorSharing, [*before, service]) - drained(ProcessorSharing, before)
        assert values[agent, candidate] == pytest.approx(-added, rel=0.1, abs=0.05)
        compared += 1
    assert compared > 30


def test_fcfs_drain_counts_work():
    model = small_model(discipline="fcfs", profile=Profile(bins=1, cap=100.0))
    node_type = model.fleet.type_of[0]
    share = model.fleet.class_rates / model.fleet.class_rates.sum()
    mean = float(model.fleet.mean_service[node_type] @ share)
    x = np.zeros(model.state_size)
    x[0] = 7 * mean / 100.0
    assert profile([mean] * 7, model.edges)[0] == pytest.approx(x[0], rel=0.01)
    # Seven jobs of mean size: W^2 / (2 m) + W / 2.
    total = drained(FirstComeFirstServed, [mean] * 7)
    assert deviation(model, x, mean_exogenous(model)) == pytest.approx(
        total - 7 * mean / 2, rel=1e-9
    )
    with pytest.raises(ValueError, match=r"set profile\.bins = 1"):
        small_model(discipline="fcfs")


def test_improvement_is_the_value_function_of_exponential_nodes():
    size = SizeLaw(law="exponential")
    model = small_model("improvement", size=size, profile=Profile(bins=64, first=0.02, cap=40.0))
    exogenous = mean_exogenous(model)
    reference = model.reference(exogenous)
    assert model._split is not None
    split = model._split.solve(model._split.key(model.fleet.class_rates), np.ones(4)).delay
    rng = np.random.default_rng(2)
    for node, node_type in enumerate(model.fleet.type_of):
        rho = float(split.utilisation[node_type])
        mu, jobs = 2.0, 3
        costs = []
        for _ in range(4000):
            x = np.zeros(model.state_size)
            left = rng.exponential(1.0 / mu, jobs)[:, None]
            widths = np.diff(model.edges)
            x[node * 64 : (node + 1) * 64] = np.clip(
                (left - model.edges[:-1]) / widths, 0.0, 1.0
            ).sum(axis=0)
            costs.append(0.5 * float(reference.weight @ (x - reference.x_ref) ** 2))
        # v(n) - v(0) = n (n + 1) / (2 (mu - lambda)) with lambda = rho mu.
        value = jobs * (jobs + 1) / (2.0 * mu * (1.0 - rho))
        assert np.mean(costs) == pytest.approx(value, rel=0.03)


def test_static_reference_is_the_stationary_profile():
    size = SizeLaw(law="exponential")
    model = small_model("static", size=size, profile=Profile(bins=40, first=0.01, cap=400.0))
    reference = model.reference(mean_exogenous(model))
    assert model._split is not None
    split = model._split.solve(model._split.key(model.fleet.class_rates), np.ones(4)).delay
    widths, fleet = np.diff(model.edges), model.fleet
    for node, node_type in enumerate(fleet.type_of):
        rho = split.utilisation[node_type]
        x = reference.x_ref[node * 40 : (node + 1) * 40]
        assert x[0] == pytest.approx(rho / (1 - rho), rel=0.05)
        flow = split.flow[:, node_type] / fleet.type_counts[node_type]
        second = 2.0 * fleet.mean_service[node_type] ** 2
        workload = float(flow @ second) / (2 * (1 - rho))
        assert x @ widths == pytest.approx(workload, rel=1e-6)
    down = np.array([1.0, 0.0, 1.0, 1.0])
    lame = model.reference(mean_exogenous(model, 0.5, up=down)).x_ref.reshape(4, 40)
    assert (lame[1] == 0.0).all()


@pytest.mark.parametrize(
    "law", ["exponential", "deterministic", "pareto", "hyperexponential", "bimodal"]
)
def test_excess_moments_are_those_of_the_samples(law):
    size = SizeLaw(law=law, mean=1.3)
    zero = np.zeros(1)
    assert excess_moment(size, zero, 0)[0] == pytest.approx(1.0)
    assert excess_moment(size, zero, 1)[0] == pytest.approx(size.mean)
    assert excess_moment(size, zero, 2)[0] == pytest.approx(size.second_moment())
    sample = size.sample(np.random.default_rng(0), 400_000)
    thresholds = np.array([0.3, 1.0, 4.0])
    over = np.maximum(sample - thresholds[:, None], 0.0)
    assert excess_moment(size, thresholds, 0) == pytest.approx((over > 0).mean(axis=1), abs=4e-3)
    assert excess_moment(size, thresholds, 1) == pytest.approx(over.mean(axis=1), abs=0.02)
    assert excess_moment(size, thresholds, 2) == pytest.approx(
        (over**2).mean(axis=1), rel=0.05, abs=0.02
    )


def test_holding_costs_the_jobs_that_it_delays():
    scenario = DispatchScenario(agents=8, horizon=40)
    simulator, model = DispatchSimulator(scenario), DispatchModel(scenario)
    seen = simulator.reset(0)
    for _ in range(6):
        seen = simulator.step(np.zeros(8, np.int64)).observation
    cost = model.influence(seen).hold_cost
    waiting = seen.agent[:, simulator.spec.agent_column("waiting")]
    rates = Exogenous.unpack(seen.exogenous, len(simulator.fleet.classes)).class_rates
    arrivals = rates.sum() * simulator.spec.dt / 8
    assert waiting.max() > 2
    assert cost == pytest.approx(simulator.spec.dt * waiting / (1 - min(arrivals, 0.9)))
    values = counterfactual_values(
        seen, model.reference(seen.exogenous), model.influence(seen), np.zeros(8, np.int64)
    )
    legal = seen.mask & seen.active[:, None]
    for agent in np.flatnonzero(legal[:, 1:].any(axis=1)):
        best = values[agent, 1:][legal[agent, 1:]].max()
        assert values[agent, 0] == pytest.approx(best - cost[agent])


@pytest.mark.parametrize("reference", ["drain", "static", "improvement"])
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"failures": Failures(mttf=60.0)},
        {"discipline": "fcfs", "profile": Profile(bins=1)},
        {"class_work": (0.02, 0.2, 0.5, 5.0), "own_share": 0.9},
    ],
)
def test_the_model_conforms(reference, knobs):
    scenario = DispatchScenario(agents=10, horizon=25, **knobs)
    simulator = DispatchSimulator(scenario)
    assert check_model(DispatchModel(scenario, reference), simulator, episodes=1) == []


def test_influence_is_what_happens_to_a_real_node():
    scenario = DispatchScenario(agents=6, horizon=10)
    simulator, model = DispatchSimulator(scenario), DispatchModel(scenario)
    seen = simulator.reset(1)
    for _ in range(4):
        seen = simulator.step(np.where(seen.active & seen.mask[:, 1], 1, 0)).observation
    agent = int(np.flatnonzero(seen.active)[0])
    influence = model.influence(seen)
    bins = influence.index.shape[2]
    for candidate in np.flatnonzero(seen.mask[agent, 1:]) + 1:
        node = seen.target[agent, candidate]
        left = simulator._cluster.stations[node].remaining()
        service = float(seen.private["service"][agent, candidate])
        before = profile(left, simulator._edges) if left else np.zeros(bins)
        after = profile([*left, service], simulator._edges)
        assert influence.index[agent, candidate].tolist() == [node * bins + b for b in range(bins)]
        assert influence.value[agent, candidate] == pytest.approx(after - before, abs=1e-4)


def test_references_are_cached_and_independent_of_history():
    scenario = DispatchScenario(agents=12)
    first, second = (DispatchModel(scenario, "static") for _ in range(2))
    fleet = DispatchSimulator(scenario).fleet
    asked = [
        Exogenous(0.0, fleet.class_rates * f, np.ones(12)).pack() for f in (1.0, 0.6, 1.25, 2.5)
    ]
    forward = [first.reference(e).x_ref for e in asked]
    backward = [second.reference(e).x_ref for e in reversed(asked)][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert np.array_equal(one, two)
    assert first.reference(asked[0]) is first.reference(asked[0] + 0.0)
    # Beyond capacity the split is that of the largest load it accepts.
    assert np.isfinite(forward[-1]).all()
    with pytest.raises(ValueError, match="read-only"):
        forward[0][0] = 1.0


def test_unknown_references_are_named():
    with pytest.raises(ValueError, match=r"'fluid'.*drain, static, improvement"):
        DispatchModel(DispatchScenario(), "fluid")
