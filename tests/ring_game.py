"""The toy ring with a price on holding, its exact model, and a training loop."""

from __future__ import annotations

import dataclasses

import numpy as np
from collector import collect
from toys import RingModel, RingSimulator

from fairlead.models.interface import Influence, Reference
from fairlead.policies.acting import PolicyActor
from fairlead.policies.learners import LearnerConfig, make_learner


class PricedRing(RingSimulator):
    """The ring whose state also counts holds, one coordinate per agent (always 0 before acting)."""

    def _observe(self):
        seen = super()._observe()
        state = np.concatenate([seen.state, np.zeros(self.spec.agents)])
        self.last = dataclasses.replace(seen, state=state)
        return self.last


class PricedModel(RingModel):
    """``d`` of the state after the decision is exactly minus the reward of the epoch.

    A load costs ``cost load^2 / N`` and a hold ``4 / N``. ``sign=-1`` prescribes the opposite.
    """

    def __init__(self, simulator: PricedRing, sign: float = 1.0):
        super().__init__(simulator)
        self.sign = sign
        self.state_size = 2 * simulator.spec.agents

    def reference(self, exogenous) -> Reference:
        n = self.simulator.spec.agents
        weight = np.concatenate([2.0 * self.simulator.cost / n, np.full(n, 8.0 / n)])
        return Reference(np.zeros(2 * n), weight, np.zeros(0), 0.0, 0.0, "optimal")

    def influence(self, observation) -> Influence:
        index = observation.target.copy()
        index[:, 0] = self.simulator.spec.agents + np.arange(index.shape[0])
        return Influence(index[:, :, None], np.ones((*index.shape, 1)))


def flipped(rollout):
    """The same experience with guidance that recommends the opposite."""
    return dataclasses.replace(rollout, guidance=-rollout.guidance)


def learner_on(simulator, seed=0, **config):
    return make_learner(simulator.spec, LearnerConfig.model_validate(config), seed=seed)


def play(simulator, learner, seeds, *, model=None, effects=True):
    actor = PolicyActor(simulator.spec, learner.policy(), name="test")
    return collect(simulator, actor, seeds, model=model, effects=effects and model is not None)


def train(simulator, learner, *, updates, episodes=4, model=None, change=None):
    """Mean reward per epoch of the roll-out before each update, and the last statistics."""
    curve, statistics = [], {}
    for update in range(updates):
        seeds = range(update * episodes, (update + 1) * episodes)
        rollout = play(simulator, learner, seeds, model=model)
        curve.append(rollout.reward.mean())
        statistics = learner.update(change(rollout) if change else rollout)
    return np.array(curve), statistics


def weights(learner):
    return learner.policy().tensors


def same(first, second) -> bool:
    """Bitwise equality of two mappings of arrays."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[key], second[key]) for key in first
    )


PLAIN = {"guidance": {"alpha": {"schedule": "fixed", "start": 0.0}}}
STEADY = {"pace": {"first": 1.0, "last": 1.0}, "target_kl": 0.05}
GUIDED = {"guidance": {"alpha": {"schedule": "fixed", "start": 1.0}, **STEADY}}
QUICK = {"network": {"hidden": (16,)}, "critic": {"hidden": (16,), "passes": 4}, "minibatches": 4}
