"""Simulators as PettingZoo and Gymnasium environments.

Inside, agents are an axis of arrays; here, at the edge, they become dictionaries (PettingZoo) or
one big action (Gymnasium), so that other libraries can train on our simulators. Observations are
dictionaries: ``agent`` features, ``candidates`` features and an ``action_mask`` for choices.
Set-points are given as fractions of the feasible box, so that action spaces never change.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from .interface import HOLD, Box, Chooser, Feature, Observation, Simulator, Spec, Step

Illegal = Literal["raise", "hold"]
"""What an illegal choice does: raise the simulator's ``ValueError``, or count as 'hold'."""

Arrays = dict[str, NDArray[Any]]


class ParallelAdapter(ParallelEnv[str, Any, Any]):
    """A simulator as a PettingZoo ``ParallelEnv``; agents are named ``<group>_<index>``.

    Args:
        simulator: to be adapted.
        local: share m of an agent's own reward: ``(1 - m) * shared + m * own``.
        illegal: see :data:`Illegal`.

    ``state()`` is the central critic's input.
    """

    def __init__(self, simulator: Simulator, *, local: float = 0.0, illegal: Illegal = "raise"):
        if not 0.0 <= local <= 1.0:
            raise ValueError(f"local must be between 0 and 1, got {local}")
        spec = simulator.spec
        self.simulator, self._local = simulator, local
        self._illegal: Illegal = illegal
        self.metadata = {"name": f"{spec.domain}_{spec.scenario}_v0", "render_modes": []}
        self.render_mode = None
        self.possible_agents = [
            f"{spec.groups[group]}_{index}" for index, group in enumerate(spec.group_of)
        ]
        self.agents: list[str] = []
        self.observation_spaces = {
            name: _observation_space(spec, joint=False) for name in self.possible_agents
        }
        self.action_spaces = {
            name: _action_space(spec, joint=False) for name in self.possible_agents
        }
        self.state_space = _features(spec.critic_features, ())
        self._episodes = _seeds(None)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Arrays], dict[str, dict[str, Any]]]:
        """Start an episode; without a seed, one is drawn from the stream of the last seed."""
        del options
        if seed is not None:
            self._episodes = _seeds(seed)
        self.agents = list(self.possible_agents)
        drawn = int(self._episodes.integers(2**31)) if seed is None else seed
        self._seen = self.simulator.reset(drawn)
        return self._dictionaries(self._seen), {name: {} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Apply everybody's action; an agent that gives none holds (or takes its lowest point)."""
        spec = self.simulator.spec
        joint = np.zeros((spec.agents, *_size(spec)), _action_type(spec))
        for index, name in enumerate(self.agents):
            if name in actions:
                joint[index] = actions[name]
        step = _apply(self.simulator, self._seen, joint, self._illegal)
        self._seen = step.observation
        rewards = (1.0 - self._local) * step.reward + self._local * step.local_reward
        names = self.agents
        if step.terminated or step.truncated:
            self.agents = []
        return (
            self._dictionaries(step.observation),
            dict(zip(names, rewards.tolist(), strict=True)),
            dict.fromkeys(names, step.terminated),
            dict.fromkeys(names, step.truncated),
            {name: {} for name in names},
        )

    def state(self) -> NDArray[np.float32]:
        return self._seen.critic

    def render(self) -> None:
        """Nothing to see: simulators report figures, see ``simulator.metrics()``."""

    def close(self) -> None:
        """Nothing to release."""

    def _dictionaries(self, seen: Observation) -> dict[str, Arrays]:
        return {
            name: _arrays(self.simulator.spec, seen, index)
            for index, name in enumerate(self.possible_agents)
        }


class _Adapter(gymnasium.Env[Any, Any]):
    """What both Gymnasium views share."""

    def __init__(self, simulator: Simulator, agent: int | None, illegal: Illegal):
        spec = simulator.spec
        self.simulator, self._agent = simulator, agent
        self._illegal: Illegal = illegal
        self.metadata = {"render_modes": []}
        self.observation_space = _observation_space(spec, joint=agent is None)
        self.action_space = _action_space(spec, joint=agent is None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Start an episode; without a seed, one is drawn from the environment's own stream."""
        super().reset(seed=seed, options=options)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        self._seen = self.simulator.reset(drawn)
        return _arrays(self.simulator.spec, self._seen, self._agent), self._info(None)

    def step(self, action: Any) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Apply the action; ``info`` holds the reward's components and the action mask."""
        step = _apply(self.simulator, self._seen, self._joint(action), self._illegal)
        self._seen = step.observation
        seen = _arrays(self.simulator.spec, self._seen, self._agent)
        return seen, self._reward(step), step.terminated, step.truncated, self._info(step)

    def _joint(self, action: Any) -> NDArray[Any]:
        raise NotImplementedError

    def _reward(self, step: Step) -> float:
        raise NotImplementedError

    def _info(self, step: Step | None) -> dict[str, Any]:
        info: dict[str, Any] = {"components": dict(step.components) if step else {}}
        if not isinstance(self.simulator.spec.action, Box):
            mask = self._seen.mask if self._agent is None else self._seen.mask[self._agent]
            info["action_mask"] = mask.astype(np.int8)
        return info


class JointEnv(_Adapter):
    """All agents as one: the joint action of the whole system, ``MultiDiscrete`` or a box.

    The reward is the shared one. ``illegal`` defaults to ``"hold"``, because Gymnasium expects an
    environment to accept every action of its space.
    """

    def __init__(self, simulator: Simulator, *, illegal: Illegal = "hold"):
        super().__init__(simulator, None, illegal)

    def _joint(self, action: Any) -> NDArray[Any]:
        return np.asarray(action, dtype=_action_type(self.simulator.spec))

    def _reward(self, step: Step) -> float:
        return float(step.reward)


class OneAgentEnv(_Adapter):
    """One agent's view of the system while fixed rules decide for all others.

    Args:
        simulator: to be adapted.
        agent: index of the agent.
        others: actions of all agents given an observation; the agent's own is replaced.
        local: share m of the agent's own reward: ``(1 - m) * shared + m * own``.
        illegal: see :data:`Illegal`.
    """

    def __init__(
        self,
        simulator: Simulator,
        *,
        agent: int,
        others: Chooser,
        local: float = 0.0,
        illegal: Illegal = "hold",
    ):
        if not 0 <= agent < simulator.spec.agents:
            raise ValueError(
                f"agent must be between 0 and {simulator.spec.agents - 1}, got {agent}"
            )
        if not 0.0 <= local <= 1.0:
            raise ValueError(f"local must be between 0 and 1, got {local}")
        super().__init__(simulator, agent, illegal)
        self._others, self._local, self._index = others, local, agent

    def _joint(self, action: Any) -> NDArray[Any]:
        spec = self.simulator.spec
        joint: NDArray[Any] = np.array(self._others(self._seen), dtype=_action_type(spec))
        if isinstance(spec.action, Box):
            # The others speak in raw set-points; _apply expects fractions of the box.
            span = np.maximum(self._seen.high - self._seen.low, np.finfo(np.float32).tiny)
            joint = (joint - self._seen.low) / span
        joint[self._index] = action
        return joint

    def _reward(self, step: Step) -> float:
        own = float(step.local_reward[self._index])
        return float((1.0 - self._local) * step.reward + self._local * own)


def _apply(simulator: Simulator, seen: Observation, joint: NDArray[Any], illegal: Illegal) -> Step:
    spec = simulator.spec
    if isinstance(spec.action, Box):
        raw = seen.low + np.clip(joint, 0.0, 1.0) * (seen.high - seen.low)
        return simulator.step(np.clip(raw, seen.low, seen.high))
    if illegal == "hold":
        known = np.clip(joint, 0, spec.action.candidates - 1)
        allowed = (known == joint) & seen.mask[np.arange(spec.agents), known]
        joint = np.where(allowed, joint, HOLD)
    return simulator.step(joint)


def _arrays(spec: Spec, seen: Observation, agent: int | None) -> Arrays:
    pick = slice(None) if agent is None else agent
    if isinstance(spec.action, Box):
        return {"agent": seen.agent[pick], "low": seen.low[pick], "high": seen.high[pick]}
    return {
        "agent": seen.agent[pick],
        "candidates": seen.candidates[pick],
        "action_mask": seen.mask[pick].astype(np.int8),
    }


def _observation_space(spec: Spec, *, joint: bool) -> spaces.Dict:
    lead = (spec.agents,) if joint else ()
    if isinstance(spec.action, Box):
        free = spaces.Box(-np.inf, np.inf, (*lead, spec.action.dimensions), np.float32)
        own = _features(spec.agent_features, lead)
        return spaces.Dict({"agent": own, "low": free, "high": free})
    count = spec.action.candidates
    return spaces.Dict(
        {
            "agent": _features(spec.agent_features, lead),
            "candidates": _features(spec.candidate_features, (*lead, count)),
            "action_mask": spaces.MultiBinary((*lead, count)),
        }
    )


def _action_space(spec: Spec, *, joint: bool) -> spaces.Space[Any]:
    if isinstance(spec.action, Box):
        shape = (spec.agents, spec.action.dimensions) if joint else (spec.action.dimensions,)
        return spaces.Box(0.0, 1.0, shape, np.float32)
    if joint:
        return spaces.MultiDiscrete(np.full(spec.agents, spec.action.candidates))
    return spaces.Discrete(spec.action.candidates)


def _features(features: tuple[Feature, ...], lead: tuple[int, ...]) -> spaces.Box:
    low = np.array([feature.low for feature in features], np.float32)
    high = np.array([feature.high for feature in features], np.float32)
    shape = (*lead, len(features))
    return spaces.Box(np.broadcast_to(low, shape), np.broadcast_to(high, shape), dtype=np.float32)


def _size(spec: Spec) -> tuple[int, ...]:
    return (spec.action.dimensions,) if isinstance(spec.action, Box) else ()


def _action_type(spec: Spec) -> type[np.generic]:
    return np.float32 if isinstance(spec.action, Box) else np.int64


def _seeds(seed: int | None) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed))
