"""Exclusive vector resources: exact accounting, GPU placement, the openb scenario."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.simulators.calendar import Calendar
from fairlead.simulators.cloud.candidates import CandidateSampler
from fairlead.simulators.cloud.dispatch import DispatchSimulator
from fairlead.simulators.cloud.episode import BACKGROUND
from fairlead.simulators.cloud.exclusive import Exclusive, Ledger, place_rows
from fairlead.simulators.cloud.fleet import resolve
from fairlead.simulators.cloud.fragmentation import Fragmentation, TypicalPods
from fairlead.simulators.cloud.kernel import Job, Seat
from fairlead.simulators.cloud.resources import Demands, Resources
from fairlead.simulators.cloud.scenario import DispatchScenario, OpenbScenario
from fairlead.simulators.interface import Observation
from fairlead.simulators.streams import Streams

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (DATA / "cloud" / "openb_pod_list_default.csv").is_file(),
    reason="no openb files; set FAIRLEAD_DATA to their folder",
)
# CPU milli, MiB, GPUs, milli per GPU.
KINDS = [
    (500, 100, 0, 0),
    (1000, 200, 1, 300),
    (1000, 200, 1, 700),
    (2000, 500, 1, 1000),
    (2000, 500, 2, 1000),
    (100, 3000, 4, 1000),
]


def resources(nodes=1, gpus=4, accepts=None):
    """Nodes of 8 cores, 4,000 MiB and ``gpus`` devices of model 0."""
    table = np.array(KINDS)
    allowed = np.ones((len(KINDS), 2), dtype=bool) if accepts is None else accepts
    demands = Demands(table[:, 0], table[:, 1], table[:, 2], table[:, 3], allowed)
    typical = TypicalPods(
        table[:, 0], table[:, 2], table[:, 3], allowed, np.ones(len(KINDS), dtype=np.int64)
    )
    whole = np.ones(nodes, dtype=np.int64)
    return Resources(
        cpu=8000 * whole,
        memory=4000 * whole,
        gpus=gpus * whole,
        model=0 * whole,
        demands=demands,
        fragmentation=Fragmentation(typical),
    )


class Bed:
    def __init__(self):
        self.calendar, self.counts, self.done = Calendar(), [0], []
        self.ledger = Ledger(resources())
        seat = Seat(0, self.calendar, self.counts, self.done, count())
        self.node = Exclusive(seat, ledger=self.ledger, demands=KINDS)

    def job(self, kind, service=1.0):
        return Job(0, 0, service, 0.0, [service], service, kind)

    @property
    def gpu(self):
        return self.ledger.gpu[0].tolist()


def test_shares_go_to_the_smallest_sufficient_gpu():
    bed = Bed()
    for kind, expected in [
        (2, [300, 1000, 1000, 1000]),  # 700 on an untouched device
        (1, [0, 1000, 1000, 1000]),  # 300 into the hole
        (1, [0, 700, 1000, 1000]),
        (2, [0, 0, 1000, 1000]),  # 700 exactly, not a fresh device
        (3, [0, 0, 0, 1000]),
        (1, [0, 0, 0, 700]),
    ]:
        bed.node.admit(bed.job(kind), 1.0)
        assert bed.gpu == expected
    # 700 left on one device is no whole GPU.
    assert not bed.node.fits(bed.job(3)) and bed.node.fits(bed.job(2))
    with pytest.raises(ValueError, match="node 0 cannot host demand"):
        bed.node.admit(bed.job(4), 1.0)
    bed.calendar.run_until(1.0)
    assert bed.gpu == [1000] * 4 and bed.ledger.cpu[0] == 8000 and bed.ledger.memory[0] == 4000


def test_whole_gpu_jobs_take_untouched_devices_only():
    bed = Bed()
    bed.node.admit(bed.job(1), 5.0)
    bed.node.admit(job := bed.job(4), 2.0)
    assert job.gpus == (1, 2) and bed.gpu == [700, 0, 0, 1000]
    assert not bed.node.fits(bed.job(4))
    bed.calendar.run_until(2.0)
    assert bed.gpu == [700, 1000, 1000, 1000] and bed.node.fits(bed.job(4))
    # Allocated share of the GPUs: 2.3 of 4 for 2 s.
    assert bed.node.busy_time() == pytest.approx(2 * 2.3 / 4)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.floats(0.1, 6.0), st.floats(0.0, 2.0), st.booleans()),
        max_size=40,
    )
)
def test_accounting_is_exact(moves):
    bed = Bed()
    for kind, service, pause, fail in moves:
        bed.calendar.run_until(bed.calendar.now + pause)
        if fail and kind == 5:
            present = bed.counts[0]
            assert len(bed.node.evict()) == present and bed.node.present() == []
            assert bed.gpu == [1000] * 4 and bed.ledger.cpu[0] == 8000
        job = bed.job(kind, service)
        before = [*bed.gpu, int(bed.ledger.cpu[0]), int(bed.ledger.memory[0])]
        cpu, memory, gpus, milli = KINDS[kind]
        able = sum(free >= max(milli, 1) for free in before[:4]) >= gpus
        possible = able and before[4] >= cpu and before[5] >= memory
        assert bed.node.fits(job) == possible
        if possible:
            bed.node.admit(job, service)
            after = [*bed.gpu, int(bed.ledger.cpu[0]), int(bed.ledger.memory[0])]
            spent = [gpus * milli, cpu, memory]
            change = [sum(before[:4]) - sum(after[:4])]
            change += [before[4] - after[4], before[5] - after[5]]
            assert change == spent
            rows, enough = place_rows(np.array([before[:4]]), np.array([gpus]), np.array([milli]))
            assert enough[0] and rows[0].tolist() == after[:4]
        else:
            rows, enough = place_rows(np.array([before[:4]]), np.array([gpus]), np.array([milli]))
            assert enough[0] == able
        assert all(0 <= free <= 1000 for free in bed.gpu)
        assert 0 <= bed.ledger.cpu[0] <= 8000 and 0 <= bed.ledger.memory[0] <= 4000
        on_gpu = sum(KINDS[j.demand][2] * KINDS[j.demand][3] for j in bed.node.present())
        assert sum(bed.gpu) == 4000 - on_gpu
    bed.calendar.run_until(bed.calendar.now + 10.0)
    assert bed.counts == [0] and bed.gpu == [1000] * 4
    assert bed.ledger.cpu[0] == 8000 and bed.ledger.memory[0] == 4000


def test_a_failed_node_is_empty_again():
    bed = Bed()
    for kind in (1, 3, 0):
        bed.node.admit(bed.job(kind), 4.0)
    bed.calendar.run_until(1.0)
    gone = bed.node.evict()
    assert [left for _, left in gone] == [3.0] * 3 and all(job.gpus == () for job, _ in gone)
    assert bed.gpu == [1000] * 4 and bed.ledger.cpu[0] == 8000 and bed.counts == [0]
    bed.node.admit(bed.job(4), 1.0)
    bed.calendar.run_until(9.0)
    assert len(bed.done) == 1 and bed.gpu == [1000] * 4


def test_capable_respects_gpu_models():
    accepts = np.ones((len(KINDS), 2), dtype=bool)
    accepts[3, 0] = False
    able = resources(nodes=2, accepts=accepts).capable()
    assert able[:, 0].tolist() == [True, True, True, False, True, True]
    accepts[0, :] = False  # a pod without GPU runs anywhere
    assert resources(accepts=accepts).capable()[0, 0]
    assert not resources(gpus=3).capable()[5, 0]


@pytest.mark.parametrize("nodes", [6, 20, 500])
def test_candidates_are_distinct_capable_and_uniform(nodes):
    rng = np.random.default_rng(0)
    capable = np.ones((3, nodes), dtype=bool)
    capable[1] = rng.random(nodes) < 0.7
    capable[2] = np.arange(nodes) < 5
    sampler = CandidateSampler(capable=capable, width=6, rng=Streams(1).generator("candidates"))
    hits = np.zeros((3, nodes))
    rounds = 3000
    for _ in range(rounds // 30):
        demand = np.repeat(np.arange(3), 30)
        drawn = sampler.draw(demand)
        assert drawn.shape == (90, 6)
        for kind, row in zip(demand, drawn, strict=True):
            chosen = row[row >= 0]
            wanted = min(6, int(capable[kind].sum()))
            assert chosen.size == wanted == len(set(chosen.tolist()))
            assert capable[kind, chosen].all()
            hits[kind, chosen] += 1
    for kind in range(3):
        able = capable[kind]
        share = min(6, able.sum()) / able.sum()
        spread = 5 * np.sqrt(share * (1 - share) / rounds) + 1e-12
        assert abs(hits[kind, able] / rounds - share).max() <= spread
        assert hits[kind, ~able].sum() == 0


def legal(observation: Observation, rng: np.random.Generator):
    key = np.where(observation.mask, rng.random(observation.mask.shape), -1.0)
    key[:, 0] = -0.5
    return key.argmax(axis=1)


@needs_data
def test_openb_fleet_is_the_real_list():
    full = resolve(OpenbScenario(nodes=None))
    assert full.nodes == 1523 and full.vectors.gpus.sum() == 6212
    half = resolve(OpenbScenario(nodes=300))
    assert half.nodes == 300
    share = half.type_counts / 300
    names = {kind.name: i for i, kind in enumerate(full.types)}
    wanted = np.array([full.type_counts[names[kind.name]] / 1523 for kind in half.types])
    assert abs(share - wanted).max() < 0.011
    for fleet in (full, half):
        gpus, hosted = fleet.vectors.gpus.sum(), fleet.vectors.capable().any(axis=1)
        d = fleet.vectors.demands
        milli = (d.gpus * d.gpu_milli)[fleet.demand]
        held = [float(np.mean(fleet.run_time[p] * milli[p])) for p in fleet.pods_of]
        offered = fleet.group_rates @ held / 1000 / gpus
        assert offered == pytest.approx(0.95, rel=1e-9)
        assert hosted[fleet.demand].all() and fleet.run_time.max() == 1800.0
        assert fleet.mix.sum(axis=1) == pytest.approx(1.0)
    assert full.groups == ("LS", "BE") and (np.bincount(full.group_of) == [14, 10]).all()


@needs_data
def test_openb_resources_over_an_episode():
    scenario = OpenbScenario(agents=16, nodes=60, horizon=80, load=1.05)
    simulator = DispatchSimulator(scenario)
    vectors, rng = simulator.fleet.vectors, np.random.default_rng(0)
    d, ledger = vectors.demands, None
    observation = simulator.reset(1)
    ledger = simulator._cluster.ledger
    start = 1 - ledger.gpu.sum() / (vectors.gpus.sum() * 1000)
    assert 0.75 < start < 0.95
    for _ in range(80):
        for node, station in enumerate(simulator._cluster.stations):
            demand = [job.demand for job in station.present()]
            assert ledger.cpu[node] == vectors.cpu[node] - d.cpu[demand].sum() >= 0
            assert ledger.memory[node] == vectors.memory[node] - d.memory[demand].sum() >= 0
            held = (d.gpus * d.gpu_milli)[demand].sum()
            assert ledger.gpu[node].sum() == vectors.gpus[node] * 1000 - held
            assert ledger.gpu[node].min() >= 0 and ledger.gpu[node].max() <= 1000
        snapshot = simulator._snapshots[-1]
        fresh = vectors.fragmentation(ledger.cpu, ledger.gpu, vectors.model)
        assert (snapshot.fragmentation == fresh).all()
        assert observation.state[0::2] == pytest.approx(fresh / 1000, abs=1e-12)
        observation = simulator.step(legal(observation, rng)).observation
    metrics = simulator.metrics()
    assert metrics["conflicts"] > 0 and metrics["completed"] > 50
    assert 0.5 < metrics["gpu_allocation"] < 1.0 and 0.0 < metrics["fragmentation"] < 0.5


@needs_data
def test_openb_features_and_effects_by_trial():
    # With a fresh snapshot and one dispatcher, what a candidate promises is what then happens.
    scenario = OpenbScenario(agents=1, nodes=40, horizon=60, snapshot_age=0, prefill=0.7)
    simulator = DispatchSimulator(scenario)
    names = {f.name: i for i, f in enumerate(simulator.spec.candidate_features)}
    vectors, rng = simulator.fleet.vectors, np.random.default_rng(1)
    observation, trials = simulator.reset(2), 0
    for _ in range(60):
        action = int(legal(observation, rng)[0])
        if action:
            node = int(observation.target[0, action])
            seen = observation.candidates[0, action]
            ledger, state = simulator._cluster.ledger, observation.state
            job, before = simulator._queues[0][0], ledger.gpu[node].sum()
            assert seen[names["gpu_free"]] == before
            assert seen[names["cpu_free"]] == ledger.cpu[node]
            assert seen[names["mem_free"]] == pytest.approx(ledger.memory[node] / 1024)
            assert seen[names["fragmentation"]] == pytest.approx(state[2 * node] * 1000, abs=1e-2)
            simulator._cluster.place(simulator._queues[0].popleft(), node)
            after = vectors.fragmentation(ledger.cpu, ledger.gpu, vectors.model)[node]
            growth = after / 1000 - state[2 * node]
            delta = observation.private["delta"][0, action]
            assert delta[0] == pytest.approx(growth, abs=1e-9)
            assert seen[names["fragmentation_delta"]] == pytest.approx(growth * 1000, abs=1e-2)
            assert seen[names["cpu_left"]] == ledger.cpu[node]
            assert seen[names["gpu_left"]] == ledger.gpu[node].sum()
            used = [1 - ledger.cpu[node] / vectors.cpu[node]]
            used.append(1 - ledger.memory[node] / vectors.memory[node])
            if vectors.gpus[node]:
                used.append(1 - ledger.gpu[node].sum() / (vectors.gpus[node] * 1000))
            assert seen[names["dominant_share"]] == pytest.approx(max(used), rel=1e-5)
            assert delta[1] == pytest.approx(max(used) - state[2 * node + 1], abs=1e-9)
            assert job.node == node and before >= ledger.gpu[node].sum()
            trials += 1
        hold = np.zeros(1, dtype=np.int64)
        observation = simulator.step(hold).observation
    assert trials > 15


@needs_data
def test_openb_masks_only_what_fits_and_conflicts_stay_queued():
    scenario = OpenbScenario(agents=20, nodes=40, horizon=60, load=1.1, snapshot_age=0)
    simulator = DispatchSimulator(scenario)
    rng, observation = np.random.default_rng(0), simulator.reset(3)
    fitted = refused = 0
    for _ in range(60):
        for agent in np.flatnonzero(observation.active):
            job = simulator._queues[agent][0]
            for k in range(1, observation.mask.shape[1]):
                node = int(observation.target[agent, k])
                fits = node >= 0 and simulator._cluster.accepts(job, node)
                assert observation.mask[agent, k] == fits
                fitted, refused = fitted + fits, refused + (not fits)
        observation = simulator.step(legal(observation, rng)).observation
    assert fitted > 200 and refused > 200
    metrics = simulator.metrics()
    waiting = sum(len(queue) for queue in simulator._queues)
    stations = simulator._cluster.stations
    running = sum(j.owner != BACKGROUND for s in stations for j in s.present())
    assert metrics["arrivals"] == metrics["completed"] + waiting + running


@needs_data
def test_openb_fresh_dispatchers_never_conflict():
    scenario = OpenbScenario(agents=20, nodes=40, horizon=40, load=1.1)
    simulator = DispatchSimulator(scenario)
    rng = np.random.default_rng(0)
    simulator.reset(3)
    for _ in range(40):
        step = simulator.step_fresh(lambda observation: legal(observation, rng))
        fragments = simulator._snapshots[-1].fragmentation / 1000
        assert step.observation.state[0::2] == pytest.approx(fragments)
    assert simulator.metrics()["conflicts"] == 0


def test_shared_nodes_have_no_vector_resources():
    with pytest.raises(ValueError, match="no vector resources"):
        _ = resolve(DispatchScenario()).vectors
