"""The projection on set-points: the measured field against the networks themselves."""

import dataclasses

import numpy as np
import pytest
import torch
from box_toys import Trackers, learner_on, play
from ring_game import same, weights

from fairlead.policies.experience import Decisions
from fairlead.policies.gradients import time_units
from fairlead.policies.projection.field import Sample, linearise, measure, own_gradient
from fairlead.policies.projection.subspace import Subspace, players_of
from fairlead.policies.trust.fisher import flatten, unflatten

GROUPS = 2


class Probe:
    """A roll-out of trackers, linearised along random directions; advantages are made up."""

    def __init__(self, per_agent):
        simulator = Trackers(agents=5, dimensions=2, horizon=40, pinned=(3,))
        self.learner = learner_on(simulator, network={"hidden": (6,), "output_scale": 0.5})
        self.actor = self.learner.actor
        rollout = play(simulator, self.learner, [0, 1])
        decisions = Decisions(rollout, self.actor.member, GROUPS)
        (table,) = decisions.whole_epochs(
            np.random.default_rng(0), np.arange(GROUPS), most=10**9, pieces=1
        )
        units = time_units(*rollout.reward.shape, block=25, aim=64)
        self.sample = Sample.of(table, simulator.spec.agents, units)
        self.experience = self.actor.experience(rollout)
        shape = rollout.active.shape if per_agent else rollout.reward.shape
        values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
        self.values = torch.from_numpy(values)
        generator = torch.Generator().manual_seed(1)
        like = flatten(self.actor.parameters)
        directions = [torch.randn(like.shape, generator=generator) for _ in range(2)]
        self.subspace = Subspace.spanned(players_of(GROUPS, 8), directions, 2)
        self.tangent = linearise(
            self.actor.parameters, self.experience, self.sample, self.subspace, self.worth
        )
        batch = self.experience.minibatch(
            *self.experience.placed(self.sample.index, self.sample.real, np.arange(GROUPS))
        )
        self.batch = dataclasses.replace(batch, agent=batch.agent.double())
        self.theta = {k: v.double() for k, v in self.actor.parameters.items()}

    def worth(self, batch):
        return self.experience.spread(self.values, batch.index)

    def at(self, y):
        flat = flatten(self.theta) + self.subspace.lift(y).double()
        return {k: v.detach().requires_grad_() for k, v in unflatten(flat, self.theta).items()}

    def field(self, y):
        """``f(y)`` by automatic differentiation of the networks in double precision."""
        batch, leaves = self.batch, self.at(y)
        old = batch.log_probability(batch.outputs(self.theta))
        new = batch.log_probability(batch.outputs(leaves))
        epoch = torch.from_numpy(self.sample.epoch)
        change = ((new - old) * batch.weight).detach()
        ratio = torch.zeros(self.sample.epochs, dtype=torch.float64)
        ratio = ratio.index_add_(0, epoch.ravel(), change.ravel()).exp()
        gain = (new * self.worth(batch).double() * ratio[epoch] * batch.weight).sum()
        parts = torch.autograd.grad(gain / self.sample.epochs, list(leaves.values()))
        return self.subspace.coordinates(torch.cat([p.flatten(1) for p in parts], dim=1))


@pytest.mark.parametrize("per_agent", [False, True])
def test_the_field_is_the_gradient_of_the_joint_ratio_times_each_players_advantage(per_agent):
    probe = Probe(per_agent)
    origin = np.zeros(probe.subspace.rank)
    here = probe.field(origin)
    size = np.abs(here).max()
    assert size > 0.01 and probe.subspace.rank == 4
    found = measure(probe.tangent, probe.subspace, probe.sample, origin[None]).mean[0]
    np.testing.assert_allclose(found, here, atol=1e-4 * size)
    own = own_gradient(probe.actor.parameters, probe.experience, probe.sample, probe.worth)
    np.testing.assert_allclose(probe.subspace.coordinates(own), here, atol=1e-4 * size)
    near = origin + 0.005
    found = measure(probe.tangent, probe.subspace, probe.sample, near[None]).mean[0]
    np.testing.assert_allclose(found, probe.field(near), atol=0.01 * size)


def test_the_networks_curvature_that_is_left_out_adds_nothing_to_the_rotation():
    probe, small = Probe(per_agent=True), 1e-2
    units = np.eye(probe.subspace.rank)
    network = np.stack(
        [(probe.field(small * e) - probe.field(-small * e)) / (2 * small) for e in units], axis=1
    )
    steps = small * np.concatenate([units, -units])
    values = measure(probe.tangent, probe.subspace, probe.sample, steps).mean
    linear = (values[: len(units)] - values[len(units) :]).T / (2 * small)
    skew = network - network.T
    assert np.abs(network - linear).max() > 0.05 * np.abs(network).max()
    assert np.abs(skew).max() > 0.05 * np.abs(network).max()
    np.testing.assert_allclose(linear - linear.T, skew, atol=0.02 * np.abs(skew).max())


def test_with_one_advantage_the_field_is_a_gradient_and_with_several_it_is_not():
    sizes = {}
    for per_agent in (False, True):
        probe = Probe(per_agent)
        r = probe.subspace.rank
        steps = 0.05 * np.concatenate([np.eye(r), -np.eye(r)])
        values = measure(probe.tangent, probe.subspace, probe.sample, steps).mean
        jacobian = (values[:r] - values[r:]).T
        sizes[per_agent] = np.abs(jacobian - jacobian.T).max() / np.abs(jacobian).max()
    assert sizes[False] < 5e-3 and sizes[True] > 0.1, sizes


def test_the_metric_gives_the_joint_kl_of_an_epoch():
    probe = Probe(per_agent=False)
    metric = probe.tangent.metric(probe.subspace, probe.sample.epochs)
    rng = np.random.default_rng(1)
    for _ in range(3):
        y = 0.02 * rng.standard_normal(probe.subspace.rank)
        with torch.no_grad():
            old, new = (probe.batch.outputs(w) for w in (probe.theta, probe.at(y)))
            each = probe.batch.kl(old, new) * probe.batch.weight
        assert 0.5 * y @ metric @ y == pytest.approx(
            float(each.sum()) / probe.sample.epochs, rel=0.05
        )


def chase(rollout):
    """Agent 0 wants to be where agent 1 is, and agent 1 to be elsewhere."""
    apart = np.square(rollout.actions[:, :, 0, 0] - rollout.actions[:, :, 1, 0]).astype(float)
    local = np.stack([-apart, apart], axis=2)
    return dataclasses.replace(rollout, reward=np.zeros_like(apart), local_reward=local)


def test_a_chase_is_projected_and_a_threshold_out_of_reach_changes_no_bit():
    simulator = Trackers(agents=2, horizon=500, work=1.0)
    ends = []
    for projection in (
        {},
        {"method": "hpml", "least": 1.0, "samples": 32},
        {"method": "hpml", "samples": 32},
    ):
        learner = learner_on(
            simulator,
            sharing="none",
            local_mix=1.0,
            gamma=0.0,
            network={"hidden": (8,), "concentration": 1.5},
            projection=projection,
            guidance={"alpha": {"schedule": "fixed", "start": 0.0}},
        )
        # Off the middle, where the two do not pull.
        learner.actor.parameters["box.bias"].add_(torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
        rollout = chase(play(simulator, learner, range(8)))
        ends.append((weights(learner), learner.update(rollout), weights(learner)))
    plain, idle, projected = ends
    assert same(plain[2], idle[2]) and idle[1]["projection/projected"] == 0.0
    figures = projected[1]
    assert figures["projection/projected"] == 1.0 and figures["projection/removed"] > 0.1, figures
    assert not same(plain[2], projected[2]) and figures["projection/skipped"] == 0.0
    assert 0.3 < figures["projection/ess"] <= 1.0
