"""Trackers: the smallest team game with set-points.

N agents sit in a ring, each with D set-points in a box that moves. The shared reward is minus the
mean squared distance of every set-point from its target, and a coupling: the mean of an agent's
set-points and its left neighbour's, too, shall be the mean of their targets. Agents see their
targets as a share of the box, so that the best policy is known.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from collector import OBSERVED

from fairlead.models.interface import Reference, SetPointInfluence, set_point_values
from fairlead.policies.acting import actor
from fairlead.policies.box_acting import free, shares
from fairlead.policies.interface import Effects, Rollout
from fairlead.policies.learners import LearnerConfig, make_learner
from fairlead.simulators.interface import Box, Feature, Observation, Spec, Step

COUPLING = 1.0


class Trackers:
    """Implements ``Simulator``. Some agents idle; ``pinned`` boxes have no width."""

    def __init__(self, agents=6, dimensions=1, horizon=12, work=0.9, pinned=()):
        self.dimensions, self.work, self.pinned = dimensions, work, list(pinned)
        self.spec = Spec(
            domain="toy",
            scenario="trackers",
            agents=agents,
            groups=("even", "odd"),
            group_of=np.arange(agents) % 2,
            agent_features=(
                *(Feature(f"target {d}", "1", 0, 1) for d in range(dimensions)),
                Feature("size", "MW", 0, transform="log1p"),
            ),
            candidate_features=(),
            critic_features=(Feature("mean target", "1", 0, 1),),
            state_size=2 * agents * dimensions,
            action=Box(dimensions),
            horizon=horizon,
            dt=1.0,
        )

    def reset(self, seed):
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self.epoch, self.total = 0, 0.0
        return self._observe()

    def step(self, actions):
        seen = self.last
        actions = np.asarray(actions)
        inside = (actions >= seen.low) & (actions <= seen.high)
        if actions.shape != seen.low.shape or not inside.all():
            raise ValueError(f"set-points {actions} outside {seen.low} to {seen.high}")
        off = self.distances(np.where(free(seen), actions, seen.low))
        local = -(off**2).sum(axis=(0, 2))
        self.epoch += 1
        reward = float(local.mean())
        self.total += reward
        done = self.epoch >= self.spec.horizon
        return Step(self._observe(), reward, local, {"distance": reward}, False, done)

    def metrics(self):
        return {"return": self.total}

    def distances(self, points):
        """Distance from the own target, and from the pair's, ``[2, A, D]``."""
        own = points - self.target
        return np.stack([own, np.sqrt(COUPLING) * 0.5 * (own + np.roll(own, 1, axis=0))])

    def _observe(self):
        n, shape = self.spec.agents, (self.spec.agents, self.dimensions)
        low = self.rng.uniform(-1.0, 0.0, shape).astype(np.float32)
        high = low + self.rng.uniform(1.0, 2.0, shape).astype(np.float32)
        share = self.rng.uniform(0.1, 0.9, shape)
        self.target = low + (high - low) * share
        high[self.pinned] = low[self.pinned]
        agent = np.concatenate([share, self.rng.uniform(0.0, 9.0, (n, 1))], axis=1)
        self.last = Observation(
            agent=agent.astype(np.float32),
            candidates=np.zeros((n, 0, 0), np.float32),
            target=np.zeros((n, 0), np.int64),
            mask=np.zeros((n, 0), bool),
            low=low,
            high=high,
            active=self.rng.random(n) < self.work,
            critic=share.mean(axis=(0, 1), keepdims=True)[0].astype(np.float32),
            state=self.distances(low).ravel(),
            exogenous=np.array([float(self.epoch)]),
            time=float(self.epoch),
        )
        return self.last


class TrackersModel:
    """Implements ``AnalyticalModel``: ``d`` after the decision is minus the reward, times sign."""

    def __init__(self, simulator, sign=1.0):
        self.simulator, self.sign = simulator, sign
        self.state_size = simulator.spec.state_size

    def reference(self, exogenous):
        weight = np.full(self.state_size, 2.0 / self.simulator.spec.agents)
        return Reference(np.zeros(self.state_size), weight, np.zeros(0), 0.0, 0.0, "optimal")

    def influence(self, seen):
        n, dimensions = seen.low.shape
        own = np.arange(n * dimensions).reshape(n, dimensions)
        pair = own + own.size
        index = np.stack([own, pair, np.roll(pair, -1, axis=0)], axis=2)
        half = 0.5 * np.sqrt(COUPLING)
        gain = np.broadcast_to(np.array([1.0, half, half]), index.shape)
        return SetPointInfluence(index, gain, seen.low.astype(np.float64))


def collect_boxes(simulator, controller, seeds, *, model=None, sign=1.0) -> Rollout:
    """Episodes with these seeds; guidance and effects from ``model`` (none without one)."""
    episodes = [_episode(simulator, controller, int(seed), model, sign) for seed in seeds]
    columns = {key: np.stack([episode[key] for episode in episodes]) for key in episodes[0]}
    recorded = {key: columns.pop(key) for key in ("deviation", "weight", "index", "value")}
    effects = Effects(**recorded) if model is not None else None
    return Rollout(seeds=np.asarray(seeds, np.int64), effects=effects, **columns)


def _episode(simulator, controller, seed, model, sign):
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    observation = simulator.reset(seed)
    rows: dict[str, list] = {}
    while True:
        points = controller.act(observation, rng)
        step = simulator.step(points)
        values = {name: getattr(observation, name) for name in OBSERVED} | {
            "mask": free(observation),
            "actions": shares(observation, points),
            "reward": step.reward,
            "local_reward": step.local_reward,
            **_guide(observation, points, model, sign),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
        observation = step.observation
        if step.terminated or step.truncated:
            break
    rows["agent"].append(observation.agent)
    rows["critic"].append(observation.critic)
    return {name: np.stack(values) for name, values in rows.items()} | {
        "terminated": np.array(step.terminated)
    }


def _guide(seen, points, model, sign):
    n, dimensions = seen.low.shape
    if model is None:
        nothing = np.zeros((n, dimensions, 0), np.float32)
        return {
            "guidance": np.zeros((n, 2 * dimensions), np.float32),
            "deviation": np.zeros(0, np.float32),
            "weight": np.zeros(0, np.float32),
            "index": nothing.astype(np.int32),
            "value": nothing,
        }
    reference, influence = model.reference(seen.exogenous), model.influence(seen)
    values = set_point_values(seen, reference, influence, points)
    width = np.where(free(seen), seen.high - seen.low, 0.0)
    return {
        "guidance": (sign * values).astype(np.float32),
        "deviation": seen.state.astype(np.float32),
        "weight": reference.weight.astype(np.float32),
        "index": influence.index.astype(np.int32),
        "value": (influence.gain * width[:, :, None]).astype(np.float32),
    }


def learner_on(simulator, seed=0, **config):
    return make_learner(simulator.spec, LearnerConfig.model_validate(config), seed=seed)


def play(simulator, learner, seeds, *, model=None, sign=1.0, stochastic=True):
    controller = actor(simulator.spec, learner.policy(), name="test", stochastic=stochastic)
    return collect_boxes(simulator, controller, seeds, model=model, sign=sign)


def train(simulator, learner, *, updates, episodes=4, model=None, sign=1.0):
    """Mean reward per epoch of the roll-out before each update, and the last statistics."""
    curve, statistics = [], {}
    for update in range(updates):
        seeds = range(update * episodes, (update + 1) * episodes)
        rollout = play(simulator, learner, seeds, model=model, sign=sign)
        curve.append(rollout.reward.mean())
        statistics = learner.update(rollout)
    return np.array(curve), statistics


def shaken(arrays, seed=0, size=0.5):
    """A policy with every weight moved: different groups, far from symmetric."""
    rng = np.random.default_rng(seed)
    moved = {
        name: value + size * rng.standard_normal(value.shape).astype(np.float32)
        for name, value in arrays.tensors.items()
        if not name.startswith("normaliser")
    }
    return dataclasses.replace(arrays, tensors={**arrays.tensors, **moved})
