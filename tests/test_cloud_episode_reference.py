"""Whole dispatching episodes against a naive replay of the placements that were made.

The replay knows who placed which job where and when, and nothing else: it serves every node by
advancing all its jobs at every event, and rebuilds completions, rewards, features and state.
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from test_cloud_reference import naive_queue, naive_sharing

from fairlead.simulators.cloud.dispatch import DispatchSimulator
from fairlead.simulators.cloud.scenario import DispatchScenario, Failures
from fairlead.simulators.cloud.snapshot import profile_edges


class Watched(DispatchSimulator):
    """Notes every placement, completion and return of a job, in order."""

    def reset(self, seed):
        self.placements: list[tuple[float, int, object, float]] = []
        self.arrived: list[object] = []
        self.completed: list[object] = []
        observation = super().reset(seed)
        place = self._cluster.place

        def noted(job, node):
            place(job, node)
            self.placements.append((self._cluster.calendar.now, node, job, job.service))

        self._cluster.place = noted
        return observation

    def _admit(self, end):
        first = self._next if (self._epoch - 1) % 16 else 0
        result = super()._admit(end)
        self.arrived += self._jobs[first : self._next]
        return result

    def _finished(self):
        done = super()._finished()
        self.completed += done
        return done

    def by_node(self, before=inf):
        nodes = [[] for _ in range(self.fleet.nodes)]
        for time, node, job, service in self.placements:
            if time < before:
                nodes[node].append((time, service, job))
        return nodes


def scenario(**changes):
    base = {"agents": 6, "horizon": 20, "load": 0.9, "arrivals_per_epoch": 1.2, "sampled": 3}
    return DispatchScenario(**(base | changes))


def play(simulator, seed, look=None):
    """A random legal episode; ``look(observation, time)`` at every epoch."""
    rng = np.random.default_rng(seed)
    observation, total = simulator.reset(seed), 0.0
    for _ in range(simulator.spec.horizon):
        if look is not None:
            look(observation)
        keys = observation.mask * rng.random(observation.mask.shape)
        step = simulator.step(keys.argmax(axis=1))
        total += step.reward
        observation = step.observation
    return observation, total


def naive_finish(simulator, node_jobs):
    work = [(time, service) for time, service, _ in node_jobs]
    if simulator.scenario.discipline == "fcfs":
        return naive_queue(work, 1)
    return naive_sharing(work)[0]


def naive_left(simulator, node_jobs, at):
    work = [(time, service) for time, service, _ in node_jobs]
    if simulator.scenario.discipline == "ps":
        return naive_sharing(work, at)[1] if work else []
    finish = naive_queue(work, 1)
    return [
        min(service, end - at) for (_, service), end in zip(work, finish, strict=True) if end > at
    ]


@pytest.mark.parametrize("discipline", ["ps", "fcfs"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_completions_and_return(discipline, seed):
    simulator = Watched(scenario(discipline=discipline))
    last, total = play(simulator, seed)
    end = last.time
    finish = {id(job): inf for job in simulator.arrived}
    for node_jobs in simulator.by_node():
        for (_, _, job), time in zip(node_jobs, naive_finish(simulator, node_jobs), strict=True):
            finish[id(job)] = time
    assert len(simulator.completed) > 40
    for job in simulator.completed:
        assert job.finish == pytest.approx(finish[id(job)], abs=1e-9)
    assert {id(job) for job in simulator.completed} == {
        id(job) for job in simulator.arrived if finish[id(job)] <= end
    }
    spent = sum(min(finish[id(job)], end) - job.arrival for job in simulator.arrived)
    assert -total * simulator.fleet.expected_arrivals == pytest.approx(spent, rel=1e-9)


@pytest.mark.parametrize("discipline", ["ps", "fcfs"])
@pytest.mark.parametrize("age", [0, 1, 3])
def test_state_and_stale_features(discipline, age):
    simulator = Watched(scenario(discipline=discipline, snapshot_age=age))
    spec = simulator.spec
    edges = profile_edges(simulator.scenario)
    columns = {name: spec.candidate_column(name) for name in ("jobs", "work", "overlap", "service")}
    compared, times = 0, []

    def look(observation):
        nonlocal compared
        now, bins = observation.time, len(edges) - 1
        state = observation.state.reshape(simulator.fleet.nodes, bins)
        for node, jobs in enumerate(simulator.by_node(before=now)):
            left = naive_left(simulator, jobs, now)
            for b in range(bins):
                low, high = edges[b], edges[b + 1]
                area = sum(max(0.0, min(rest, high) - low) for rest in left)
                assert state[node, b] == pytest.approx(area / (high - low), abs=1e-7)
        times.append(now)
        seen = times[max(len(times) - 1 - age, 0)]
        nodes = simulator.by_node(before=seen)
        for agent, choice in zip(*np.nonzero(observation.mask[:, 1:]), strict=True):
            node = observation.target[agent, choice + 1]
            left = naive_left(simulator, nodes[node], seen)
            found = observation.candidates[agent, choice + 1]
            service = found[columns["service"]]
            assert found[columns["jobs"]] == len(left)
            assert found[columns["work"]] == pytest.approx(sum(left), rel=1e-5, abs=1e-5)
            overlap = sum(min(rest, service) for rest in left)
            assert found[columns["overlap"]] == pytest.approx(overlap, rel=1e-5, abs=1e-5)
            compared += 1

    play(simulator, 3, look)
    assert compared > 100


def test_the_drained_cost_is_the_integral_of_the_squared_profile():
    # Why the profile is the state: jobs with remaining r_i drain in a total time of
    # sum_ij min(r_i, r_j) = integral of n(>u)^2 du. The naive server confirms both.
    rng = np.random.default_rng(5)
    for _ in range(20):
        left = rng.exponential(2.0, size=int(rng.integers(1, 9)))
        finish, _, _ = naive_sharing([(0.0, rest) for rest in left])
        assert sum(finish) == pytest.approx(np.minimum.outer(left, left).sum(), rel=1e-12)


@pytest.mark.parametrize("lose_work", [True, False])
def test_every_job_survives_failures(lose_work):
    failures = Failures(mttf=15.0, mttr=5.0, lose_work=lose_work)
    simulator = Watched(scenario(horizon=60, load=0.5, failures=failures))
    last, total = play(simulator, 4)
    down = simulator._cluster.down_times()
    assert down.max() > 0
    waiting = [job for queue in simulator._queues for job in queue]
    running = [job for station in simulator._cluster.stations for job in station.present()]
    known = {id(job) for job in [*waiting, *running, *simulator.completed]}
    assert known == {id(job) for job in simulator.arrived}
    assert len(known) == len(waiting) + len(running) + len(simulator.completed)
    placed = {}
    for _, _, job, _ in simulator.placements:
        placed[id(job)] = placed.get(id(job), 0) + 1
    assert max(placed.values()) > 1  # some job was placed again
    spent = sum(job.finish - job.arrival for job in simulator.completed)
    spent += sum(last.time - job.arrival for job in [*waiting, *running])
    assert -total * simulator.fleet.expected_arrivals == pytest.approx(spent, rel=1e-9)
    if lose_work:
        assert all(
            job.finish >= job.placed + job.service * (1 - 1e-9) for job in simulator.completed
        )
