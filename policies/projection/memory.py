"""What the projection remembers from update to update, as arrays of fixed shapes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...simulators.interface import Bools, Doubles, Ints
from .galerkin import Potential
from .network import Weights, initial_weights
from .subspace import Subspace

NEVER = -1


class Memory:
    """Running mean of the policies, earlier policies, last potential, network, counters.

    Attributes:
        mean: running mean of the flat parameters ``[G, P]``; 0 before the first policies.
        violations: updates whose step fell in the potential of the update before.
        skipped: updates that had something to measure and met a non-finite number.
    """

    def __init__(self, like: Tensor, player: Ints, slots: int) -> None:
        """``like`` are flat parameters ``[G, P]``, ``player`` ``[G]`` their players."""
        self.mean = torch.zeros_like(like)
        earlier = max(1, slots - 2)
        self._past = torch.zeros((earlier, *like.shape), dtype=like.dtype, device=like.device)
        self._filled = 0
        self._subspace = Subspace.spanned(player, [self.mean], slots)
        self._potential = Potential(np.zeros(0), np.zeros(0), np.zeros((0, 0)))
        self._measured = NEVER
        # Zeros: a network that has never been fitted; its first layer has a row for every slot.
        shapes = initial_weights(np.random.default_rng(0), self._subspace.live.size)
        self._network: Weights = {name: np.zeros_like(value) for name, value in shapes.items()}
        self.violations = self.skipped = 0

    def displacement(self, theta: Tensor) -> Tensor:
        """``theta`` from the mean; 0 before the first policies, ``[G, P]``."""
        return theta - self.mean if self._filled else torch.zeros_like(theta)

    def observe(self, theta: Tensor, memory: float) -> None:
        """Take the policies ``theta`` ``[G, P]`` into the mean; ``memory`` weighs the past."""
        self.mean = theta.lerp(self.mean, memory) if self._filled else theta.clone()
        self._past = torch.cat([theta[None], self._past[:-1]])
        self._filled = min(self._filled + 1, self._past.shape[0])

    def updates(self, theta: Tensor) -> list[Tensor]:
        """Earlier steps of the parameters up to ``theta``, newest first, ``[G, P]`` each."""
        points = [theta, *self._past[: self._filled]]
        return [after - before for after, before in pairwise(points)]

    # -- potential ----------------------------------------------------------------------------

    def keep_potential(self, potential: Potential, subspace: Subspace, update: int) -> None:
        """In coordinates about the policies that :meth:`observe` is about to see."""
        self._potential, self._subspace, self._measured = potential, subspace, update

    def potential_gain(self, theta: Tensor, update: int) -> float | None:
        """Rise of the potential of the update before along its step; None if there is none.

        A fall is counted.
        """
        if self._measured == NEVER or self._measured != update - 1:
            return None
        step = self._subspace.coordinates(theta - self._past[0])
        after, before = self._potential.value(np.stack([step, np.zeros_like(step)]))
        gain = float(after - before)
        self.violations += int(gain < 0.0)
        return gain

    # -- network ------------------------------------------------------------------------------

    def network_weights(self, live: Bools) -> Weights | None:
        """Earlier parameters for the coordinates of ``live`` slots; None before the first fit."""
        if not self._network["first"].any():
            return None
        return {**self._network, "first": self._network["first"][live.ravel()]}

    def keep_network(self, weights: Weights, live: Bools) -> None:
        """Of a fit in the coordinates of ``live`` slots; rows of other slots stay."""
        first = self._network["first"].copy()
        first[live.ravel()] = weights["first"]
        self._network = {**weights, "first": first}

    # -- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that ``load_state`` needs; coordinates of empty slots are 0."""
        live = self._subspace.live.ravel()
        quadratic = np.zeros((live.size, live.size))
        arrays: dict[str, NDArray[Any]] = {
            "mean": self.mean.cpu().numpy().copy(),
            "past": self._past.cpu().numpy().copy(),
            "basis": self._subspace.basis.cpu().numpy().copy(),
            "live": self._subspace.live.copy(),
            "centre": np.zeros(live.size),
            "linear": np.zeros(live.size),
            "quadratic": quadratic,
            "counters": np.array([self._filled, self._measured, self.violations, self.skipped]),
        }
        if self._measured != NEVER:
            arrays["centre"][live] = self._potential.centre
            arrays["linear"][live] = self._potential.linear
            quadratic[np.ix_(live, live)] = self._potential.quadratic
        for name, value in self._network.items():
            arrays[f"network.{name}"] = value.copy()
        return arrays

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Restore a state; shapes were checked by the learner."""
        device = self.mean.device

        def placed(name: str) -> Tensor:
            return torch.from_numpy(arrays[name].copy()).to(device)

        def doubles(name: str) -> Doubles:
            return np.array(arrays[name], np.float64)

        self.mean, self._past = placed("mean"), placed("past")
        live = arrays["live"].copy()
        self._subspace = Subspace(self._subspace.player, placed("basis"), live)
        some = live.ravel()
        self._potential = Potential(
            doubles("centre")[some],
            doubles("linear")[some],
            doubles("quadratic")[np.ix_(some, some)],
        )
        counters = (int(value) for value in arrays["counters"])
        self._filled, self._measured, self.violations, self.skipped = counters
        self._network = {name: doubles(f"network.{name}") for name in self._network}
