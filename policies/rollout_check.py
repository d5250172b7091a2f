"""Whether a roll-out fits the scenario that a learner was made for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Bools, Box, Spec
from .interface import Rollout


def check_rollout(rollout: Rollout, spec: Spec) -> None:
    """Raise ``ValueError`` naming the array whose shape or content does not fit."""
    episodes, epochs = rollout.reward.shape
    per_agent = (episodes, epochs, spec.agents)
    if isinstance(spec.action, Box):
        dimensions = spec.action.dimensions
        actions, mask, guidance = (dimensions,), dimensions, 2 * dimensions
        candidates = (0, 0)
    else:
        mask = guidance = rollout.mask.shape[3]
        actions, candidates = (), (mask, len(spec.candidate_features))
    shapes: dict[str, tuple[NDArray[np.generic], tuple[int, ...]]] = {
        "agent": (rollout.agent, (episodes, epochs + 1, spec.agents, len(spec.agent_features))),
        "candidates": (rollout.candidates, (*per_agent, *candidates)),
        "mask": (rollout.mask, (*per_agent, mask)),
        "active": (rollout.active, per_agent),
        "actions": (rollout.actions, (*per_agent, *actions)),
        "critic": (rollout.critic, (episodes, epochs + 1, len(spec.critic_features))),
        "local_reward": (rollout.local_reward, per_agent),
        "guidance": (rollout.guidance, (*per_agent, guidance)),
        "terminated": (rollout.terminated, (episodes,)),
    }
    for name, (array, expected) in shapes.items():
        if array.shape != expected:
            raise ValueError(f"roll-out {name}: expected shape {expected}, got {array.shape}")
    if isinstance(spec.action, Box):
        _check_shares(rollout)
    else:
        _check_choices(rollout)
    if not np.isfinite(rollout.reward).all():
        episode, epoch = _first(~np.isfinite(rollout.reward))
        raise ValueError(f"roll-out reward is not finite in episode {episode}, epoch {epoch}")


def _check_choices(rollout: Rollout) -> None:
    actions = rollout.actions.astype(np.int64, copy=False)
    taken = np.take_along_axis(rollout.mask, actions[..., None], axis=3)[..., 0]
    wrong = rollout.active & ~taken
    if wrong.any():
        episode, epoch, agent = _first(wrong)
        action = int(rollout.actions[episode, epoch, agent])
        raise ValueError(
            f"roll-out actions: agent {agent} took the masked candidate {action} in episode "
            f"{episode}, epoch {epoch}"
        )


def _check_shares(rollout: Rollout) -> None:
    idle = rollout.mask & ~rollout.active[..., None]
    if idle.any():
        episode, epoch, agent, dimension = _first(idle)
        raise ValueError(
            f"roll-out mask: dimension {dimension} of agent {agent} is free in episode {episode}, "
            f"epoch {epoch}, where the agent is not active"
        )
    inside = (rollout.actions >= 0.0) & (rollout.actions <= 1.0)
    if not inside.all():  # NaN is not inside either
        episode, epoch, agent, dimension = place = _first(~inside)
        raise ValueError(
            f"roll-out actions: dimension {dimension} of agent {agent} has the share "
            f"{rollout.actions[place]} of its box in episode {episode}, epoch {epoch}; accepted "
            "are 0 to 1"
        )


def _first(wrong: Bools) -> tuple[int, ...]:
    return tuple(int(axis[0]) for axis in np.nonzero(wrong))
