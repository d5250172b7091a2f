"""Generalised advantage estimation (arXiv 1506.02438, eq. 16), vectorised over episodes."""

from __future__ import annotations

import numpy as np

from ..simulators.interface import Bools, Doubles


def mixed_reward(reward: Doubles, local_reward: Doubles, *, mix: float) -> Doubles:
    """``(1 - m) r + m r_local``: ``[E, T]`` while ``mix`` is 0, else ``[E, T, A]``."""
    if mix == 0.0:
        return reward
    return (1.0 - mix) * reward[:, :, None] + mix * local_reward


def gae(
    reward: Doubles,
    values: Doubles,
    terminated: Bools,
    *,
    gamma: float,
    lam: float,
) -> tuple[Doubles, Doubles]:
    """Advantages and the returns they imply (lambda-returns).

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lam A_{t+1}``. An episode
    that was cut by the horizon is bootstrapped with the value of its last observation; one that
    terminated is worth nothing after its last epoch.

    Args:
        reward: ``[E, T]``, or ``[E, T, A]`` for rewards of each agent's own.
        values: ``[E, T + 1]`` or ``[E, T + 1, A]``; broadcast against the reward.
        terminated: ``[E]``.
        gamma: discount per epoch.
        lam: weight lambda of longer returns.

    Returns:
        advantages and returns, each ``[E, T]`` or ``[E, T, A]`` float64.
    """
    epochs = reward.shape[1]
    if values.shape[1] != epochs + 1:
        raise ValueError(
            f"values need {epochs + 1} epochs (one to bootstrap), got {values.shape[1]}"
        )
    if reward.ndim > values.ndim:
        values = values[:, :, None]
    elif values.ndim > reward.ndim:
        reward = reward[:, :, None]
    alive = np.where(terminated, 0.0, 1.0).reshape(-1, *([1] * (values.ndim - 2)))
    shape = np.broadcast_shapes(reward.shape, values[:, :-1].shape)
    advantages = np.empty(shape, np.float64)
    carry = np.zeros((shape[0], *shape[2:]), np.float64)
    for epoch in reversed(range(epochs)):
        following = values[:, epoch + 1]
        if epoch == epochs - 1:
            following = following * alive
        delta = reward[:, epoch] + gamma * following - values[:, epoch]
        carry = delta + gamma * lam * carry
        advantages[:, epoch] = carry
    return advantages, advantages + values[:, :-1]
