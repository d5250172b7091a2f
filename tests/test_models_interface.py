"""Guidance values against the definition of d, and the price of holding."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.models.interface import Influence, Reference, counterfactual_values
from fairlead.simulators.interface import Observation


def random_case(seed: int, *, agents=6, candidates=5, support=4, size=17, block=False):
    rng = np.random.default_rng(seed)
    if block:
        node = rng.integers(0, size // support, (agents, candidates))
        index = node[:, :, None] * support + np.arange(support)
    else:
        index = np.array(
            [
                [rng.choice(size, support, replace=False) for _ in range(candidates)]
                for _ in range(agents)
            ]
        )
    value = rng.normal(size=(agents, candidates, support))
    index = np.where(rng.random(index.shape) < 0.2, -1, index)
    index[:, 0], value[:, 0] = -1, 0.0
    mask = rng.random((agents, candidates)) < 0.7
    mask[:, 0] = True
    active = rng.random(agents) < 0.8
    actions = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
    none = np.zeros((agents, 0), np.float32)
    observation = Observation(
        agent=none,
        candidates=np.zeros((agents, candidates, 0), np.float32),
        target=index[:, :, 0].astype(np.int64),
        mask=mask,
        low=none,
        high=none,
        active=active,
        critic=np.zeros(0, np.float32),
        state=rng.normal(size=size),
        exogenous=np.zeros(0),
        time=0.0,
    )
    reference = Reference(
        rng.normal(size=size), rng.random(size) + 0.1, np.zeros(0), 0.0, 0.0, "optimal"
    )
    return observation, reference, Influence(index.astype(np.int64), value), actions


def cost_of(observation, reference, influence, actions):
    """d of the joint decision, straight from its definition."""
    x = observation.state.copy()
    for agent, action in enumerate(actions):
        if observation.active[agent] and observation.mask[agent, action]:
            for coordinate, change in zip(
                influence.index[agent, action], influence.value[agent, action], strict=True
            ):
                if coordinate >= 0:
                    x[coordinate] += change
    return 0.5 * float(reference.weight @ (x - reference.x_ref) ** 2)


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_exact_values_are_differences_of_d(seed, block):
    observation, reference, influence, actions = random_case(seed, block=block)
    values = counterfactual_values(observation, reference, influence, actions)
    for agent in range(actions.shape[0]):
        without = actions.copy()
        without[agent] = 0
        for candidate in range(values.shape[1]):
            instead = actions.copy()
            instead[agent] = candidate
            legal = observation.active[agent] and observation.mask[agent, candidate]
            expected = (
                cost_of(observation, reference, influence, without)
                - cost_of(observation, reference, influence, instead)
                if legal
                else 0.0
            )
            assert values[agent, candidate] == pytest.approx(expected, abs=1e-12)


def test_linear_values_are_the_gradient_at_the_joint_state():
    observation, reference, influence, actions = random_case(3)
    values = counterfactual_values(observation, reference, influence, actions, form="linear")
    base = cost_of(observation, reference, influence, actions)
    x = observation.state.copy()
    for agent, action in enumerate(actions):
        if observation.active[agent]:
            for c, v in zip(
                influence.index[agent, action], influence.value[agent, action], strict=True
            ):
                x[c] += v if c >= 0 else 0.0
    assert base == pytest.approx(0.5 * float(reference.weight @ (x - reference.x_ref) ** 2))
    gradient = reference.weight * (x - reference.x_ref)
    for agent, candidate in np.ndindex(*values.shape):
        index, value = influence.index[agent, candidate], influence.value[agent, candidate]
        legal = observation.active[agent] and observation.mask[agent, candidate]
        expected = -float(np.where(index >= 0, gradient[index] * value, 0.0).sum()) * legal
        assert values[agent, candidate] == pytest.approx(expected, abs=1e-12)


def test_hold_is_worth_the_best_other_candidate_less_its_cost():
    observation, reference, influence, actions = random_case(5, agents=40)
    free = counterfactual_values(observation, reference, influence, actions)
    assert (free[:, 0] == 0.0).all()
    price = np.linspace(0.1, 4.0, 40)
    priced = counterfactual_values(
        observation,
        reference,
        Influence(influence.index, influence.value, hold_cost=price),
        actions,
    )
    assert (priced[:, 1:] == free[:, 1:]).all()
    legal = observation.mask & observation.active[:, None]
    for agent in range(40):
        others = free[agent, 1:][legal[agent, 1:]]
        expected = others.max() - price[agent] if others.size else 0.0
        assert priced[agent, 0] == pytest.approx(expected, abs=1e-12)


def test_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'quadratic'"):
        counterfactual_values(*random_case(0), form="quadratic")
