"""The few directions of the joint parameter space in which the field is measured.

Parameter groups are gathered into players. Every direction belongs to one player and moves that
player's parameters only, so each coordinate is one player's own and the metric (Fisher blocks) is
block diagonal. Inside a player directions are orthonormal in the Euclidean sense, hence over all
players too, and a covector ``f`` of the coordinates is lifted to the gradient ``U f``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...simulators.interface import Bools, Doubles, Ints

DEPENDENT = 1e-3
"""A direction of which less than this share is new to its player is left out."""


def players_of(groups: int, most: int) -> Ints:
    """Player of each parameter group ``[G]``: contiguous chunks of nearly equal size."""
    sizes = [part.size for part in np.array_split(np.arange(groups), min(most, groups))]
    return np.repeat(np.arange(len(sizes)), sizes)


@dataclass(frozen=True, slots=True)
class Subspace:
    """Orthonormal directions of all players.

    Attributes:
        player: player of each parameter group ``[G]`` int64, on the device.
        basis: ``[D, G, P]``; slot ``q`` holds every player's ``q``-th direction, 0 where it has
            none.
        live: ``[players, D]`` on the host; which slots hold a direction. Coordinates ``[r]`` run
            over the live slots, player after player.
    """

    player: Tensor
    basis: Tensor
    live: Bools

    @property
    def rank(self) -> int:
        """Number of coordinates, r."""
        return int(self.live.sum())

    @staticmethod
    def spanned(player: Ints, directions: Sequence[Tensor], slots: int) -> Subspace:
        """From candidates ``[G, P]``, best first; zero or dependent ones leave their slot empty.

        Gram-Schmidt, twice (once loses orthogonality where candidates are nearly dependent).
        """
        like = directions[0]
        on = torch.from_numpy(player).to(like.device)
        count = int(player.max()) + 1
        basis = torch.zeros((slots, *like.shape), dtype=like.dtype, device=like.device)
        live = np.zeros((count, slots), bool)
        for slot, candidate in enumerate(directions[:slots]):
            length = _inner(candidate, candidate, on, count).sqrt()
            vector = candidate / _row(length.clamp_min(torch.finfo(torch.float32).tiny), on, like)
            for _ in range(2):
                for earlier in basis[:slot]:
                    vector = vector - _row(_inner(vector, earlier, on, count), on, like) * earlier
            left = _inner(vector, vector, on, count).sqrt()
            # Far below float32's own rounding of a weight there is no direction to speak of.
            new = (left > DEPENDENT) & (length > 1e-12)
            scale = torch.where(new, 1.0 / left.clamp_min(DEPENDENT), torch.zeros_like(left))
            basis[slot] = vector * _row(scale, on, like)
            live[:, slot] = new.cpu().numpy()
        return Subspace(on, basis, live)

    def without(self, dropped: Bools) -> Subspace:
        """The same without the coordinates where ``dropped`` ``[r]`` is true."""
        live = self.live.copy()
        live[self.live] = ~dropped
        return Subspace(self.player, self.basis, live)

    def coordinates(self, vector: Tensor) -> Doubles:
        """``U' v`` of parameters or gradients ``[G, P]``, as ``[r]``."""
        count = self.live.shape[0]
        columns = [_inner(direction, vector, self.player, count) for direction in self.basis]
        return torch.stack(columns, dim=1).cpu().numpy()[self.live]

    def spread(self, coordinates: Doubles) -> Doubles:
        """Coordinates ``[..., r]`` by slot, ``[..., players, D]``, 0 where a slot is empty."""
        full = np.zeros((*coordinates.shape[:-1], *self.live.shape))
        full[..., self.live] = coordinates
        return full

    def lift(self, coordinates: Doubles) -> Tensor:
        """``U y`` as parameters or gradients ``[G, P]``."""
        full = torch.from_numpy(self.spread(coordinates)).to(self.basis)
        return torch.einsum("gd,dgp->gp", full[self.player], self.basis)


def _inner(one: Tensor, other: Tensor, player: Tensor, count: int) -> Tensor:
    """Inner products per player of two ``[G, P]``, ``[players]`` float64."""
    own = (one.double() * other.double()).sum(dim=1)
    return torch.zeros(count, dtype=own.dtype, device=own.device).index_add_(0, player, own)


def _row(values: Tensor, player: Tensor, like: Tensor) -> Tensor:
    return values[player].unsqueeze(1).to(like.dtype)
