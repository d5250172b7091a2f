"""A roll-out on the device, and which of its decisions a minibatch holds.

A *decision* is one agent at one epoch of one episode, addressed by ``(e T + t) A + a``. Only
decisions with something to decide count: the agent is active and has more than one legal
candidate, or a box with a width. The others have probability ratio 1, entropy 0 and gradient 0
whatever the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Bools, Ints
from .interface import Rollout
from .minibatch import DecisionBatch, Minibatch
from .networks import Parameters, normalise, to_tensor

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
        decisive = active.reshape(-1, agents)[rows] & (legal > (0 if rollout.boxes else 1))
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


class Experience:
    """The arrays of a roll-out as tensors on ``device`` (views on the CPU), gathered by address.

    Normalisation happens per minibatch, so memory stays at the roll-out plus one minibatch.
    ``scales`` are the policy's ``normaliser.*`` tensors ``[G, columns]``. ``choices`` is K or D,
    ``outputs`` how many numbers parametrise one decision.
    """

    def __init__(
        self,
        rollout: Rollout,
        *,
        scales: Parameters,
        agent_log: Tensor,
        candidate_log: Tensor,
        device: torch.device,
        kind: type[DecisionBatch] = Minibatch,
    ) -> None:
        """``kind`` is the network that reads the decisions: the candidate scorer by default."""
        self.episodes, self.epochs, self.agents, self.choices = rollout.mask.shape
        self.outputs = rollout.guidance.shape[3]
        self.scales = scales
        self.agent_log = agent_log if bool(agent_log.any()) else None
        self.candidate_log = candidate_log if bool(candidate_log.any()) else None
        self.device, self.kind = device, kind
        rows = self.episodes * self.epochs * self.agents
        # Empty episodes or agents never reach here, so the reshapes below are views.
        self._agent = to_tensor(rollout.agent, device).reshape(-1, rollout.agent.shape[3])
        self._candidates = None
        if not rollout.boxes:
            self._candidates = to_tensor(rollout.candidates, device).view(rows, self.choices, -1)
        self._mask = to_tensor(rollout.mask, device).view(rows, self.choices)
        self._actions = to_tensor(rollout.actions, device).view(rows, *rollout.actions.shape[3:])
        self._guidance = to_tensor(rollout.guidance, device).view(rows, self.outputs)

    def minibatch(self, index: Tensor, real: Tensor, groups: Tensor) -> DecisionBatch:
        """Gather decisions ``index`` ``[g, b]`` of the parameter groups ``groups`` ``[g]``."""
        # The agent array has one more epoch (the bootstrap) in each episode.
        episode = torch.div(index, self.epochs * self.agents, rounding_mode="floor")
        agent = normalise(
            self._agent[index + episode * self.agents],
            self.agent_log,
            self.scales["normaliser.agent.shift"][groups].unsqueeze(1),
            self.scales["normaliser.agent.scale"][groups].unsqueeze(1),
        )
        columns = {
            "index": index,
            "weight": real.to(agent.dtype),
            "groups": groups,
            "agent": agent,
            "mask": self._mask[index],
            "actions": self._actions[index],
            "guidance": self._guidance[index],
            "half": self.half(index),
        }
        if self._candidates is not None:
            columns["candidates"] = normalise(
                self._candidates[index],
                self.candidate_log,
                self.scales["normaliser.candidate.shift"][groups][:, None, None],
                self.scales["normaliser.candidate.scale"][groups][:, None, None],
            )
        return self.kind(**columns)

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
