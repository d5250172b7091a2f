"""Policies of set-points that start at a share which the simulator names."""

import dataclasses

import numpy as np
import pytest
import torch
from box_toys import Trackers, learner_on, play

from fairlead.platform.onnx_check import graph_error
from fairlead.platform.onnx_graph import policy_graph
from fairlead.policies.box_acting import SetPointActor, mode, shares
from fairlead.policies.gradient_noise import gradient_noise
from fairlead.policies.networks import box_outputs

COUNT = 40.0
PLAIN = {"guidance": {"alpha": {"schedule": "fixed", "start": 0.0}}}


def based(dimensions=1, **knobs):
    """A simulator that names its targets as the base, and a learner on it."""
    simulator = Trackers(agents=6, dimensions=dimensions)
    names = tuple(f"target {d}" for d in range(dimensions))
    action = dataclasses.replace(simulator.spec.action, base=names)
    simulator.spec = dataclasses.replace(simulator.spec, action=action)
    settings = {"network": {"base": COUNT}, "sharing": "group", **PLAIN} | knobs
    return simulator, learner_on(simulator, **settings)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_an_untrained_policy_sets_the_base(dimensions):
    simulator, learner = based(dimensions)
    actor = SetPointActor(simulator.spec, learner.policy(), name="new", stochastic=False)
    seen = simulator.reset(3)
    wanted = seen.agent[:, :dimensions]
    got = shares(seen, actor.act(seen, np.random.default_rng(0)))
    free = (seen.high > seen.low) & seen.active[:, None]
    assert free.any() and np.abs(got - wanted)[free].max() < 0.01
    a, b = actor.shapes(seen)
    assert (a + b)[free].min() > COUNT


def test_the_base_survives_the_calibration_of_features_and_can_be_left():
    simulator, learner = based(passes=20, learning_rate=0.01, target_kl=100.0)
    seen = simulator.reset(3)

    def chosen():
        actor = SetPointActor(simulator.spec, learner.policy(), name="x", stochastic=False)
        return shares(seen, actor.act(seen, np.random.default_rng(0)))

    before = chosen()
    rollout = play(simulator, learner, [1, 2])
    learner.actor.calibrate(rollout)
    np.testing.assert_allclose(chosen(), before, atol=2e-3)
    learner.update(rollout)
    assert np.abs(chosen() - before).max() > 1e-3


def test_numpy_and_torch_agree_with_a_base():
    simulator, learner = based(2)
    rollout = play(simulator, learner, [0])
    learner.update(rollout)
    actor = SetPointActor(simulator.spec, learner.policy(), name="x")
    seen = simulator.reset(5)
    a, b = actor.shapes(seen)
    arrays = learner.policy()
    scales = {n: torch.from_numpy(v) for n, v in arrays.tensors.items()}
    logs = [f.transform == "log1p" for f in simulator.spec.agent_features]
    values = np.where(logs, np.log1p(np.maximum(seen.agent, 0.0)), seen.agent)
    shift, scale = (
        arrays.tensors[f"normaliser.agent.{n}"][arrays.member] for n in ("shift", "scale")
    )
    rows = torch.from_numpy(np.clip((values - shift) / scale, -10, 10).astype(np.float32))
    own = {name: value[torch.from_numpy(arrays.member)] for name, value in scales.items()}
    outputs = box_outputs(own, rows[:, None])[:, 0]
    both = 1.0 + torch.nn.functional.softplus(outputs)
    np.testing.assert_allclose(np.concatenate([a, b], 1), both.numpy(), rtol=2e-4)


def test_the_exported_graph_has_the_base():
    simulator, learner = based()
    actor = SetPointActor(simulator.spec, learner.policy(), name="x")
    seen = simulator.reset(5)
    a, b = actor.shapes(seen)
    assert mode(a, b).std() > 0.05
    golden = {
        "agent": seen.agent[None],
        "low": seen.low[None],
        "high": seen.high[None],
        "active": seen.active[None],
        "seed": np.zeros(1, np.int64),
        "a": a[None],
        "b": b[None],
        "actions": actor.act(seen, np.random.default_rng(0))[None],
    }
    arrays = learner.policy()
    assert graph_error(policy_graph(simulator.spec, arrays), arrays, golden) < 1e-4
    golden["a"] = golden["a"] * 1.1
    assert graph_error(policy_graph(simulator.spec, arrays), arrays, golden) > 0.01


def test_without_a_named_base_the_knob_changes_nothing():
    simulator = Trackers(agents=4)
    plain = learner_on(simulator).policy()
    other = learner_on(simulator, network={"base": COUNT}).policy()
    assert plain.tensors.keys() == other.tensors.keys()
    for name, value in plain.tensors.items():
        np.testing.assert_array_equal(value, other.tensors[name])


def test_gradient_noise_is_not_measured_from_a_base():
    simulator, learner = based()
    rollout = play(simulator, learner, [0, 1, 2])
    rollout = dataclasses.replace(rollout, guidance=np.ones_like(rollout.guidance))
    with pytest.raises(ValueError, match=r"learner\.network\.base=0"):
        gradient_noise(
            simulator.spec, learner.policy(), rollout, estimator="expected", gamma=0.9, scale=1.0
        )
