"""The episode bound lies below what policies reach, and is sharp where it must be."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.models.cloud.episode_bound import episode_bound
from fairlead.simulators.cloud.arrivals import ArrivalPattern
from fairlead.simulators.cloud.dispatch import DispatchSimulator
from fairlead.simulators.cloud.scenario import DispatchScenario
from fairlead.simulators.cloud.sizes import SizeLaw

STEADY = ArrivalPattern(amplitude=0.0, burst_factor=1.0)


def cost_of_fresh_greedy(scenario: DispatchScenario, seeds) -> float:
    """Mean response of a strong policy: agent after agent to the smallest growth of drain cost."""
    simulator = DispatchSimulator(scenario)
    overlap = simulator.spec.candidate_column("overlap")
    service = simulator.spec.candidate_column("service")

    def choose(seen):
        score = 2.0 * seen.candidates[:, :, overlap] + seen.candidates[:, :, service]
        return np.where(seen.mask[:, 1:], score[:, 1:], np.inf).argmin(axis=1) + 1

    totals = []
    for seed in seeds:
        simulator.reset(seed)
        total, done = 0.0, False
        while not done:
            step = simulator.step_fresh(choose)
            total, done = total - step.reward, step.truncated
        totals.append(total)
    return float(np.mean(totals))


@pytest.mark.parametrize("load", [0.3, 0.7, 1.5])
def test_the_bound_is_below_a_strong_policy(load):
    scenario = DispatchScenario(agents=10, horizon=60, load=load, sampled=10)
    bound = episode_bound(scenario)
    reached = cost_of_fresh_greedy(scenario, range(4))
    assert bound.status == "optimal"
    assert 0.1 * reached < bound.mean_response < reached


def test_the_bound_is_sharp_without_contention():
    # Deterministic jobs on one node at a tiny load: half an epoch of waiting, then the service.
    scenario = DispatchScenario(
        agents=1,
        horizon=400,
        load=0.01,
        size=SizeLaw(law="deterministic"),
        pattern=STEADY,
        arrivals_per_epoch=0.05,
    )
    bound = episode_bound(scenario)
    simulator = DispatchSimulator(scenario)
    expected = simulator.spec.dt / 2 + float(
        simulator.fleet.mean_service[0] @ simulator.fleet.class_rates
    ) / float(simulator.fleet.class_rates.sum())
    assert bound.mean_response == pytest.approx(expected, rel=0.01)
    assert bound.mean_response < cost_of_fresh_greedy(scenario, range(8)) * 1.3


def test_more_bins_and_slots_tighten_it():
    scenario = DispatchScenario(agents=10, horizon=60, load=1.5)
    coarse, fine = episode_bound(scenario, slots=6, bins=4), episode_bound(scenario)
    assert coarse.mean_response < fine.mean_response


def test_overload_shows_in_the_bound():
    quiet, busy = (
        episode_bound(DispatchScenario(agents=10, horizon=400, load=load, pattern=STEADY))
        for load in (0.9, 1.9)
    )
    assert busy.mean_response > 3 * quiet.mean_response
