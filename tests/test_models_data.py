"""The models on real data: fragmentation descent on openb, the c-mu rule on a job log, llm."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fairlead.models.check import check_model
from fairlead.models.cloud.batch_model import BatchModel
from fairlead.models.cloud.dispatch_model import DispatchModel
from fairlead.models.cloud.episode_bound import episode_bound
from fairlead.models.interface import counterfactual_values
from fairlead.simulators.cloud.batch_env import BatchSimulator
from fairlead.simulators.cloud.batch_scenario import SwfScenario
from fairlead.simulators.cloud.dispatch import DispatchSimulator
from fairlead.simulators.cloud.scenario import LlmScenario, OpenbScenario

DATA = Path(os.environ.get("FAIRLEAD_DATA") or Path(__file__).parents[2] / "shared" / "data")
LOG = DATA / "cloud" / "lublin1_256.swf"
pytestmark = pytest.mark.skipif(not LOG.is_file(), reason=f"needs {LOG}")


@pytest.mark.parametrize("reference", ["drain", "static"])
@pytest.mark.parametrize("kind", [OpenbScenario, LlmScenario])
def test_models_of_real_data_conform(kind, reference):
    scenario = kind(data=str(DATA), horizon=12)
    simulator = DispatchSimulator(scenario)
    assert check_model(DispatchModel(scenario, reference), simulator, episodes=1) == []


def test_greedy_on_the_openb_reference_is_fragmentation_descent():
    scenario = OpenbScenario(data=str(DATA), horizon=40)
    simulator, model = DispatchSimulator(scenario), DispatchModel(scenario)
    seen = simulator.reset(0)
    checked = 0
    for _ in range(40):
        influence = model.influence(seen)
        values = counterfactual_values(
            seen, model.reference(seen.exogenous), influence, np.zeros(scenario.agents, np.int64)
        )
        nodes = seen.mask[:, 1:]
        growth = np.where(nodes, seen.private["delta"][:, 1:, 0], np.inf)
        chosen = np.where(nodes, values[:, 1:], -np.inf).argmax(axis=1)
        for agent in np.flatnonzero(nodes.sum(axis=1) > 1):
            # Within the stated error: at most (8 GPUs + growth) / 100 of the growth itself.
            assert growth[agent, chosen[agent]] <= growth[agent].min() + 0.01
            checked += 1
        held = influence.hold_cost
        assert held is not None and (held > 0.0).all()
        seen = simulator.step(np.where(nodes.any(axis=1), chosen + 1, 0)).observation
    assert checked > 200


def test_greedy_on_the_batch_reference_is_the_c_mu_rule():
    scenario = SwfScenario(data=str(DATA), agents=3, jobs=128)
    simulator, model = BatchSimulator(scenario), BatchModel(scenario)
    assert check_model(model, simulator, episodes=1) == []
    seen = simulator.reset(1)
    rng = np.random.default_rng(0)
    chosen = 0
    for _ in range(200):
        values = counterfactual_values(
            seen,
            model.reference(seen.exogenous),
            model.influence(seen),
            np.zeros(3, np.int64),
        )
        for agent in np.flatnonzero(seen.active):
            legal = np.flatnonzero(seen.mask[agent])
            best = legal[values[agent, legal].argmax()]
            rate = seen.private["rate"][agent]
            assert rate[best] == rate[legal].max() > 0.0
            assert values[agent, 0] == 0.0 < values[agent, best]
            # A choice never lowers the queue by more than the job's own weight.
            moved = model.influence(seen).value[agent, legal, 0]
            assert (-moved <= seen.private["weight"][agent, legal] + 1e-15).all()
            chosen += legal.size > 2
        random = np.where(seen.mask[:, 1:], rng.random(seen.mask[:, 1:].shape), -1.0)
        step = simulator.step(np.where(seen.active, random.argmax(axis=1) + 1, 0))
        seen = step.observation
        if step.terminated or step.truncated:
            break
    assert chosen > 50


@pytest.mark.parametrize("kind", [OpenbScenario, LlmScenario])
def test_the_episode_bound_is_below_random(kind):
    scenario = kind(data=str(DATA), horizon=40)
    simulator = DispatchSimulator(scenario)
    totals = []
    for seed in range(3):
        seen, rng = simulator.reset(seed), np.random.default_rng(seed)
        total, done = 0.0, False
        while not done:
            key = np.where(seen.mask[:, 1:], rng.random(seen.mask[:, 1:].shape), -1.0)
            able = seen.mask[:, 1:].any(axis=1)
            step = simulator.step(np.where(able, key.argmax(axis=1) + 1, 0))
            seen, total, done = step.observation, total - step.reward, step.truncated
        totals.append(total)
    bound = episode_bound(scenario)
    assert 0.05 * np.mean(totals) < bound.mean_response < np.mean(totals)
