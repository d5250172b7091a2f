"""The batch game: equality with the batch engine, rewards, holding, several partitions."""

import os
from pathlib import Path

import numpy as np
import pytest

from fairlead.policies.heuristics.batch import RULES, controllers
from fairlead.simulators.check import check_simulator
from fairlead.simulators.cloud.backfill import BACKFILLS
from fairlead.simulators.cloud.batch import batch_jobs, schedule
from fairlead.simulators.cloud.batch_env import PUBLISHED_STARTS, BatchSimulator, SwfScenario
from fairlead.simulators.cloud.swf import read_swf
from fairlead.simulators.errors import DataError

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
LOG = DATA / "cloud" / "lublin1_256.swf"
needs_data = pytest.mark.skipif(not LOG.is_file(), reason=f"needs {LOG}")


@pytest.fixture
def folder(tmp_path):
    """A random log of 120 jobs on 8 processors, with requested times above the run times."""
    rng = np.random.default_rng(7)
    submit = np.cumsum(rng.integers(0, 9, size=120))
    lines = ["; MaxProcs: 8"]
    for number, moment in enumerate(submit, start=1):
        run, needs = int(rng.integers(1, 60)), int(rng.integers(1, 7))
        fields = [number, int(moment), -1, run, needs, -1, -1, needs, run + int(rng.integers(20))]
        lines.append(" ".join(map(str, fields)) + " -1" * 9)
    (tmp_path / "small.swf").write_text("\n".join(lines))
    return tmp_path


def scenario(folder, **knobs):
    defaults = {"log": "small.swf", "data": str(folder), "jobs": 40, "horizon": 400}
    return SwfScenario(**(defaults | knobs))


def play(simulator, choose, seed=0):
    """An episode; ``choose`` maps an observation to actions. Returns steps and observations."""
    seen = [simulator.reset(seed)]
    steps = []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        steps.append(simulator.step(choose(seen[-1])))
        seen.append(steps[-1].observation)
    return steps, seen


def rule(simulator, name):
    found = {controller.name: controller for controller in controllers(simulator.spec)}
    return lambda seen: found[name].act(seen, np.random.default_rng(0))


def first_waiting(seen):
    return np.where(seen.active, 1, 0)


@pytest.mark.parametrize("backfill", BACKFILLS)
@pytest.mark.parametrize("name", sorted(RULES))
def test_one_partition_equals_the_batch_engine(folder, name, backfill):
    simulator = BatchSimulator(scenario(folder, backfill=backfill, starts=(0, 33, 80)))
    log = batch_jobs(read_swf(folder / "small.swf"), processors=8)
    for seed, start in enumerate((0, 33, 80)):
        steps, _ = play(simulator, rule(simulator, name), seed)
        jobs = log.sequence(start, 40)
        expected = schedule(jobs, processors=8, score=RULES[name], backfill=backfill)
        (found,) = simulator.results()
        assert found.start + jobs.submit[0] == pytest.approx(expected.start, abs=0)
        metrics = simulator.metrics()
        assert steps[-1].terminated and metrics["unstarted"] == 0
        assert metrics["bounded_slowdown"] == pytest.approx(expected.bounded_slowdown.mean())
        assert metrics["utilisation"] == pytest.approx(expected.utilization)
        assert metrics["makespan"] == expected.makespan


@needs_data
def test_a_published_sequence_through_the_game():
    knobs = {"data": str(DATA), "window": 1024, "starts": PUBLISHED_STARTS}
    simulator = BatchSimulator(SwfScenario(log=LOG.name, **knobs))
    steps, _ = play(simulator, rule(simulator, "SJF"), seed=0)
    assert len(steps) == 1024
    assert simulator.metrics()["bounded_slowdown"] == pytest.approx(204.258453, abs=1e-6)
    assert simulator.metrics()["utilisation_to_last_start"] == pytest.approx(0.781318, abs=1e-6)


@pytest.mark.parametrize("objective", ["bounded_slowdown", "response"])
@pytest.mark.parametrize("agents", [1, 3])
def test_rewards_sum_to_minus_the_mean_objective(folder, objective, agents):
    simulator = BatchSimulator(scenario(folder, objective=objective, agents=agents, horizon=2000))
    rng = np.random.default_rng(1)

    def random_job(seen):
        scores = np.where(seen.mask, rng.random(seen.mask.shape), -1.0)
        return scores.argmax(axis=1)

    steps, _ = play(simulator, random_job, seed=5)
    assert steps[-1].terminated
    key = {"response": "response_mean"}.get(objective, objective)
    total = sum(step.reward for step in steps)
    assert total == pytest.approx(-simulator.metrics()[key], rel=1e-11)
    per_agent = sum(step.local_reward for step in steps)
    means = [getattr(r, objective).mean() for r in simulator.results()]
    assert per_agent == pytest.approx(-np.array(means), rel=1e-11)


def test_reward_accrues_while_jobs_wait(folder):
    simulator = BatchSimulator(scenario(folder, objective="response"))
    simulator.reset(0)
    (part,) = simulator._partitions
    step = simulator.step(np.array([1]))
    waited, arrived = step.observation.time, part.arrived
    waits = np.minimum(np.where(np.isnan(part.start), np.inf, part.start), waited)[:arrived]
    waits -= part.jobs.submit[:arrived]
    # The first job's run time was charged when it arrived, before the first step.
    expected = waits.sum() + part.jobs.run[:arrived].sum()
    assert -step.reward * 40 == pytest.approx(expected)


def test_conformance(folder):
    for knobs in (
        {},
        {"agents": 3, "backfill": "greedy"},
        {"agents": 4, "cycle": 30.0, "backfill": "easy", "objective": "response"},
        {"window": 2, "horizon": 25},
    ):
        assert check_simulator(lambda knobs=knobs: BatchSimulator(scenario(folder, **knobs))) == []


def test_candidates_are_the_first_waiting_jobs(folder):
    simulator = BatchSimulator(scenario(folder, window=3))
    column = {f.name: i for i, f in enumerate(simulator.spec.candidate_features)}
    _, seen = play(simulator, first_waiting)
    crowded = [s for s in seen if s.agent[0, 1] > 3]
    assert crowded
    for observation in crowded:
        features, target = observation.candidates[0], observation.target[0]
        assert observation.mask[0].all() and (np.diff(target[1:]) > 0).all()
        assert (np.diff(features[1:, column["wait"]]) <= 0).all()
        area = features[:, column["request"]] * features[:, column["procs"]] / 8
        assert features[1:, column["area"]] == pytest.approx(area[1:])
        free = round(float(observation.agent[0, 0]) * 8)
        assert (features[1:, column["fits"]] == (features[1:, column["procs"]] <= free)).all()
        weight = 1 / np.maximum(features[1:, column["request"]], 10)
        assert observation.private["weight"][0, 1:] == pytest.approx(weight)
        rate = weight / features[1:, column["area"]]
        assert observation.private["rate"][0, 1:] == pytest.approx(rate)


def test_state_is_the_weight_of_waiting_jobs(folder):
    simulator = BatchSimulator(scenario(folder, objective="response", agents=2))
    _, seen = play(simulator, first_waiting)
    for observation in seen:
        assert observation.state == pytest.approx(observation.agent[:, 1])


def test_holding_waits_for_the_next_event(folder):
    simulator = BatchSimulator(scenario(folder, jobs=2, starts=(0,), recheck=45.0))
    first = simulator.reset(0)
    second_submit = simulator._partitions[0].jobs.submit[1]
    step = simulator.step(np.array([0]))
    assert first.time == 0.0 and step.observation.time == second_submit
    # Nothing runs and nothing is to come: asked again after the recheck time.
    step = simulator.step(np.array([0]))
    assert step.observation.time == second_submit + 45.0 and step.observation.active.all()
    steps, _ = play(simulator, lambda seen: np.zeros(1, dtype=np.int64))
    assert len(steps) == 400 and steps[-1].truncated and not steps[-1].terminated
    assert simulator.metrics()["unstarted"] == 2


def test_partitions_decide_together_at_cycles(folder):
    knobs = {"agents": 4, "cycle": 30.0, "horizon": 2000}
    simulator = BatchSimulator(scenario(folder, **knobs))
    steps, seen = play(simulator, first_waiting)
    assert all(observation.time % 30.0 == 0 for observation in seen[:-1])
    assert max(observation.active.sum() for observation in seen) >= 3
    at_events = BatchSimulator(scenario(folder, agents=4, horizon=2000))
    others, seen = play(at_events, first_waiting)
    assert len(others) > len(steps)
    assert simulator.metrics()["wait_mean"] > at_events.metrics()["wait_mean"]


def test_seeds_choose_the_stretch_of_the_log(folder):
    simulator = BatchSimulator(scenario(folder, agents=2))
    column = {f.name: i for i, f in enumerate(simulator.spec.candidate_features)}["submit"]

    def submits(seed):
        simulator.reset(seed)
        return [tuple(part.jobs.run.tolist()) for part in simulator._partitions]

    assert submits(3) == submits(3) and submits(3) != submits(4)
    assert submits(3)[0] != submits(3)[1]
    pinned = BatchSimulator(scenario(folder, starts=(5, 60)))
    for seed, start in ((0, 5), (1, 60), (2, 5)):
        seen = pinned.reset(seed)
        assert seen.candidates[0, 1, column] == pinned.log.submit[start]


def test_illegal_actions_name_agent_and_candidate(folder):
    simulator = BatchSimulator(scenario(folder, agents=2))
    seen = simulator.reset(0)
    assert seen.active.tolist() == [True, False]
    with pytest.raises(ValueError, match="agent 1 chose illegal candidate 1"):
        simulator.step(np.array([1, 1]))
    with pytest.raises(ValueError, match="agent 0 chose illegal candidate 99"):
        simulator.step(np.array([99, 0]))
    with pytest.raises(ValueError, match=r"shape \(2,\), .* got int64 of shape \(1,\)"):
        simulator.step(np.array([1]))


def test_unusable_scenarios_are_refused(folder):
    with pytest.raises(DataError, match=r"at least 500 usable jobs.*the log has 120"):
        BatchSimulator(scenario(folder, jobs=500))
    with pytest.raises(DataError, match=r"found \(100,\)"):
        BatchSimulator(scenario(folder, starts=(100,)))
    with pytest.raises(DataError, match="at most the cluster's 4 are expected"):
        BatchSimulator(scenario(folder, processors=4))
    with pytest.raises(DataError, match="no such file in"):
        BatchSimulator(scenario(folder, log="other.swf"))
    headless = folder / "headless.swf"
    text = (folder / "small.swf").read_text().partition("\n")[2]
    headless.write_text(text)
    with pytest.raises(DataError, match="MaxProcs"):
        BatchSimulator(scenario(folder, log="headless.swf"))
