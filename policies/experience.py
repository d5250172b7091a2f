"""A roll-out on the device, and which of its decisions a minibatch holds.

A *decision* is one agent at one epoch of one episode, addressed by ``(e T + t) A + a``. Only
decisions with something to decide count: the agent is active and has more than one legal
candidate. The others have probability ratio 1, entropy 0 and gradient 0 whatever the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.interface import Bools, Ints
from .distributions import kl, masked_log_softmax, masked_probabilities
from .interface import Rollout
from .networks import Parameters, normalise, scores, to_tensor

TIME_BLOCK = 25
"""Epochs that stay together when a roll-out is split in halves; about the reach of GAE."""


class Decisions:
    """Decisions of a roll-out by parameter group.

    ``flat`` lists decision addresses, group after group; group ``g`` owns
    ``flat[start[g] : start[g] + count[g]]``.
    """

    def __init__(self, rollout: Rollout, member: Ints, groups: int, within: slice | None = None):
        """``within`` restricts to some epochs of the flattened ``[E * T]`` axis."""
        active, mask = rollout.active, rollout.mask
        agents = active.shape[2]
        rows = within or slice(0, active.shape[0] * active.shape[1])
        legal = mask.reshape(-1, agents, mask.shape[3])[rows].sum(axis=2)
        decisive = active.reshape(-1, agents)[rows] & (legal > 1)
        flat = np.flatnonzero(decisive) + (rows.start or 0) * agents
        group = member[flat % agents]
        order = np.argsort(group, kind="stable")
        self.agents, self.epochs = agents, active.shape[0] * active.shape[1]
        self.flat: Ints = flat[order]
        self.group: Ints = group[order]
        self.count: Ints = np.bincount(group, minlength=groups)
        self.start: Ints = np.concatenate([[0], np.cumsum(self.count)[:-1]])

    def table(
        self, rng: np.random.Generator, groups: Ints, *, per_group: int
    ) -> tuple[Ints, Bools]:
        """A random subset of each group's decisions, without replacement.

        Returns addresses ``[g, b]`` and which of them are real ``[g, b]`` (groups with fewer than
        ``b`` decisions are padded), with ``b = min(per_group, largest group)``.
        """
        shuffled = self.flat[np.argsort(self.group + rng.random(self.flat.size))]
        return self._padded(shuffled, self.count[groups], self.start[groups], per_group)

    def scattered(
        self, rng: np.random.Generator, groups: Ints, *, per_group: int, pieces: int
    ) -> list[tuple[Ints, Bools]]:
        """One pass over a random subset, in ``pieces`` minibatches of random decisions."""
        index, real = self.table(rng, groups, per_group=per_group)
        # Strided, so that padding at the end is shared out among the minibatches.
        return [
            (index[:, piece::pieces], real[:, piece::pieces])
            for piece in range(min(pieces, index.shape[1]))
        ]

    def whole_epochs(
        self, rng: np.random.Generator, groups: Ints, *, most: int, pieces: int
    ) -> list[tuple[Ints, Bools]]:
        """One pass over random epochs, each with all of its decisions, in ``pieces`` minibatches.

        Takes as many epochs as hold about ``most`` decisions of all groups.
        """
        epochs = self.epochs
        share = min(1.0, most / max(1, self.flat.size))
        chosen = rng.permutation(epochs)[: max(pieces, round(share * epochs))]
        wanted = np.isin(self.group, groups)
        flat, group = self.flat[wanted], self.group[wanted]
        epoch = flat // self.agents
        tables: list[tuple[Ints, Bools]] = []
        for part in np.array_split(chosen, min(pieces, chosen.size)):
            inside = np.zeros(epochs, bool)
            inside[part] = True
            keep = inside[epoch]
            count = np.bincount(group[keep], minlength=self.count.size)
            start = np.concatenate([[0], np.cumsum(count)[:-1]])
            largest = int(count.max(initial=0))
            tables.append(self._padded(flat[keep], count[groups], start[groups], largest))
        return tables

    def everything(self, groups: Ints, *, width: int) -> list[tuple[Ints, Bools]]:
        """All decisions of these groups, ``[g, at most width]`` at a time."""
        largest = int(self.count[groups].max(initial=0))
        index, real = self._padded(self.flat, self.count[groups], self.start[groups], largest)
        return [
            (index[:, begin : begin + width], real[:, begin : begin + width])
            for begin in range(0, index.shape[1], width)
        ]

    @staticmethod
    def _padded(flat: Ints, count: Ints, start: Ints, most: int) -> tuple[Ints, Bools]:
        width = max(1, min(most, int(count.max(initial=0))))
        column = np.arange(width)
        real = column < count[:, None]
        if flat.size == 0:
            return np.zeros(real.shape, np.int64), real
        return flat[np.where(real, start[:, None] + column, 0)], real


Pass = list[tuple[Tensor, Tensor]]
"""Minibatches as decision addresses and which are real, each ``[g, b]``, on the device."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Decisions of some parameter groups, normalised and ready for :func:`..networks.scores`.

    ``index`` ``[g, b]`` are decision addresses, ``weight`` ``[g, b]`` is 1 for real ones and 0 for
    padding; ``groups`` ``[g]`` are the rows' parameter groups; ``agent`` ``[g, b, F]``,
    ``candidates`` ``[g, b, K, C]``, ``mask`` and ``guidance`` ``[g, b, K]``, ``actions``
    ``[g, b]``; ``half`` ``[g, b]`` assigns each decision to one of two halves of the roll-out.

    It is a ``trust.fisher.Batch``: its *outputs* are log-probabilities.
    """

    index: Tensor
    weight: Tensor
    groups: Tensor
    agent: Tensor
    candidates: Tensor
    mask: Tensor
    actions: Tensor
    guidance: Tensor
    half: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Mean over real decisions, ``[g, b]`` to ``[g]``."""
        return (values * self.weight).sum(dim=1) / self.weight.sum(dim=1).clamp_min(1.0)

    def outputs(self, parameters: Parameters) -> Tensor:
        """Masked log-softmax of the candidate scorer, ``[g, b, K]``."""
        logits = scores(parameters, self.agent, self.candidates, self.mask)
        return masked_log_softmax(logits, self.mask)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Exact ``KL(old || new)`` of every decision in nats, ``[g, b]``."""
        return kl(old, new, self.mask)

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information ``E[dlog p dlog p']`` times a direction in log-probabilities."""
        return masked_probabilities(outputs, self.mask) * direction

    def rows(self, index: Tensor) -> Self:
        """These parameter groups only, ``[m]`` int64; they may repeat."""
        picked = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return replace(self, **picked)

    def halves(self) -> tuple[Self, Self]:
        """The same decisions, counting those of one half of the roll-out only."""
        first = self.weight * ~self.half
        return replace(self, weight=first), replace(self, weight=self.weight - first)


class Experience:
    """The arrays of a roll-out as tensors on ``device`` (views on the CPU), gathered by address.

    Normalisation happens per minibatch, so memory stays at the roll-out plus one minibatch.
    ``scales`` are the policy's ``normaliser.*`` tensors ``[G, columns]``.
    """

    def __init__(
        self,
        rollout: Rollout,
        *,
        scales: Parameters,
        agent_log: Tensor,
        candidate_log: Tensor,
        device: torch.device,
        kind: type[Minibatch] = Minibatch,
    ) -> None:
        """``kind`` is the network that reads the decisions: the candidate scorer by default."""
        self.episodes, self.epochs, self.agents, self.choices = rollout.mask.shape
        self.scales = scales
        self.agent_log = agent_log if bool(agent_log.any()) else None
        self.candidate_log = candidate_log if bool(candidate_log.any()) else None
        self.device, self.kind = device, kind
        rows = self.episodes * self.epochs * self.agents
        # Empty episodes or agents never reach here, so the reshapes below are views.
        self._agent = to_tensor(rollout.agent, device).reshape(-1, rollout.agent.shape[3])
        self._candidates = to_tensor(rollout.candidates, device).view(rows, self.choices, -1)
        self._mask = to_tensor(rollout.mask, device).view(rows, self.choices)
        self._actions = to_tensor(rollout.actions, device).view(rows)
        self._guidance = to_tensor(rollout.guidance, device).view(rows, self.choices)

    def minibatch(self, index: Tensor, real: Tensor, groups: Tensor) -> Minibatch:
        """Gather decisions ``index`` ``[g, b]`` of the parameter groups ``groups`` ``[g]``."""
        # The agent array has one more epoch (the bootstrap) in each episode.
        episode = torch.div(index, self.epochs * self.agents, rounding_mode="floor")
        agent = normalise(
            self._agent[index + episode * self.agents],
            self.agent_log,
            self.scales["normaliser.agent.shift"][groups].unsqueeze(1),
            self.scales["normaliser.agent.scale"][groups].unsqueeze(1),
        )
        candidates = normalise(
            self._candidates[index],
            self.candidate_log,
            self.scales["normaliser.candidate.shift"][groups][:, None, None],
            self.scales["normaliser.candidate.scale"][groups][:, None, None],
        )
        return self.kind(
            index=index,
            weight=real.to(agent.dtype),
            groups=groups,
            agent=agent,
            candidates=candidates,
            mask=self._mask[index],
            actions=self._actions[index],
            guidance=self._guidance[index],
            half=self.half(index),
        )

    def half(self, index: Tensor) -> Tensor:
        """Which half of the roll-out decisions belong to: time blocks alternate, bool.

        Whole blocks, since the advantages of one epoch and of its neighbours share their noise.
        """
        blocks = min(TIME_BLOCK, max(1, self.episodes * self.epochs // 2))
        return torch.div(index, blocks * self.agents, rounding_mode="floor") % 2 == 1

    def placed(self, index: Ints, real: Bools, groups: Ints) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of ``minibatch`` on the device."""
        arrays = (np.ascontiguousarray(index), np.ascontiguousarray(real), groups)
        one, two, three = (torch.from_numpy(a).to(self.device) for a in arrays)
        return one, two, three

    def spread(self, values: Tensor, index: Tensor) -> Tensor:
        """Look up per-epoch ``[E, T]`` or per-agent ``[E, T, A]`` values at addresses ``index``."""
        if values.ndim == 2:
            return values.reshape(-1)[torch.div(index, self.agents, rounding_mode="floor")]
        return values.reshape(-1)[index]


def check_rollout(rollout: Rollout, *, agents: int, candidates: int, features: int) -> None:
    """Raise ``ValueError`` naming the array whose shape or content does not fit."""
    episodes, epochs = rollout.reward.shape
    shapes: dict[str, tuple[NDArray[np.generic], tuple[int, ...]]] = {
        "agent": (rollout.agent, (episodes, epochs + 1, agents, features)),
        "candidates": (rollout.candidates, (episodes, epochs, agents, candidates)),
        "mask": (rollout.mask, (episodes, epochs, agents, candidates)),
        "active": (rollout.active, (episodes, epochs, agents)),
        "actions": (rollout.actions, (episodes, epochs, agents)),
        "critic": (rollout.critic, (episodes, epochs + 1)),
        "local_reward": (rollout.local_reward, (episodes, epochs, agents)),
        "guidance": (rollout.guidance, (episodes, epochs, agents, candidates)),
        "terminated": (rollout.terminated, (episodes,)),
    }
    for name, (array, expected) in shapes.items():
        if array.shape[: len(expected)] != expected:
            raise ValueError(f"roll-out {name}: expected shape {expected}, got {array.shape}")
    taken = np.take_along_axis(rollout.mask, rollout.actions[..., None], axis=3)[..., 0]
    wrong = rollout.active & ~taken
    if wrong.any():
        episode, epoch, agent = (int(axis[0]) for axis in np.nonzero(wrong))
        action = int(rollout.actions[episode, epoch, agent])
        raise ValueError(
            f"roll-out actions: agent {agent} took the masked candidate {action} in episode "
            f"{episode}, epoch {epoch}"
        )
    if not np.isfinite(rollout.reward).all():
        episode, epoch = (int(axis[0]) for axis in np.nonzero(~np.isfinite(rollout.reward)))
        raise ValueError(f"roll-out reward is not finite in episode {episode}, epoch {epoch}")
