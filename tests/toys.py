"""A ring of servers: the smallest game with the structure of the real domains.

N agents sit on a ring of N servers. In each epoch every agent with work sends one unit to the
server on its left, to its own, or to the one on its right, or holds. The shared reward is minus
the mean squared load; the best joint policy spreads the load evenly. Small enough to check by hand.
"""

from __future__ import annotations

import numpy as np

from fairlead.models.interface import Influence, Reference
from fairlead.simulators.interface import Choice, Feature, Observation, Spec, Step


class RingSimulator:
    """Implements ``Simulator``; load drains by ``drain`` per epoch, server j weighs ``cost[j]``."""

    def __init__(self, agents: int = 6, horizon: int = 20, drain: float = 0.8, work: float = 0.8):
        self.drain, self.work = drain, work
        self.cost = np.where(np.arange(agents) % 2 == 0, 1.0, 3.0)
        self.neighbours = (np.arange(agents)[:, None] + np.array([-1, 0, 1])) % agents
        self.spec = Spec(
            domain="toy",
            scenario="ring",
            agents=agents,
            groups=("even", "odd"),
            group_of=np.arange(agents) % 2,
            agent_features=(Feature("work", "units", 0, 1), Feature("parity", "1", 0, 1)),
            candidate_features=(
                Feature("hold", "1", 0, 1),
                Feature("load", "units", 0, transform="log1p"),
                Feature("cost", "1", 0, 3),
            ),
            critic_features=(Feature("mean load", "units"), Feature("max load", "units")),
            state_size=agents,
            action=Choice(4),
            horizon=horizon,
            dt=1.0,
        )

    def reset(self, seed: int) -> Observation:
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self.load = np.zeros(self.spec.agents)
        self.epoch = 0
        self.total = 0.0
        return self._observe()

    def step(self, actions) -> Step:
        actions = np.asarray(actions)
        legal = self.last.mask[np.arange(self.spec.agents), actions]
        if not legal.all():
            agent = int(np.argmin(legal))
            raise ValueError(f"agent {agent} chose masked candidate {actions[agent]}")
        moved = (actions > 0) & self.last.active
        np.add.at(self.load, self.neighbours[moved, actions[moved] - 1], 1.0)
        held = (actions == 0) & self.last.active
        local = -(self.cost * self.load**2) - 4.0 * held
        self.load = np.maximum(self.load - self.drain, 0.0)
        self.epoch += 1
        reward = float(local.mean())
        self.total += reward
        done = self.epoch >= self.spec.horizon
        return Step(self._observe(), reward, local, {"load": reward}, False, done)

    def metrics(self) -> dict[str, float]:
        return {"return": self.total}

    def _observe(self) -> Observation:
        n = self.spec.agents
        active = self.rng.random(n) < self.work
        candidates = np.zeros((n, 4, 3), dtype=np.float32)
        candidates[:, 0, 0] = 1.0
        candidates[:, 1:, 1] = self.load[self.neighbours]
        candidates[:, 1:, 2] = self.cost[self.neighbours]
        mask = np.zeros((n, 4), dtype=bool)
        mask[:, 0] = True
        mask[:, 1:] = active[:, None]
        target = np.concatenate([np.full((n, 1), -1), self.neighbours], axis=1)
        agent = np.stack([active, np.arange(n) % 2], axis=1).astype(np.float32)
        self.last = Observation(
            agent=agent,
            candidates=candidates,
            target=target.astype(np.int64),
            mask=mask,
            low=np.zeros((n, 0), np.float32),
            high=np.zeros((n, 0), np.float32),
            active=active,
            critic=np.array([self.load.mean(), self.load.max()], np.float32),
            state=self.load.copy(),
            exogenous=np.array([float(self.epoch)]),
            time=float(self.epoch),
        )
        return self.last


class RingModel:
    """Implements ``AnalyticalModel``: empty servers, weight 2 cost / N (the reward's curvature)."""

    def __init__(self, simulator: RingSimulator):
        self.simulator = simulator
        self.state_size = simulator.spec.agents

    def reference(self, exogenous) -> Reference:
        n = self.state_size
        weight = 2.0 * self.simulator.cost / n
        return Reference(np.zeros(n), weight, np.zeros(0), 0.0, 0.0, "optimal")

    def influence(self, observation: Observation) -> Influence:
        value = (observation.target >= 0).astype(np.float64)
        return Influence(observation.target[:, :, None], value[:, :, None])
