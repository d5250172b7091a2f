"""Everything that one policy update works with, whichever learner makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..simulators.interface import Bools, Doubles, Ints
from .experience import Decisions, Pass
from .minibatch import DecisionBatch
from .networks import Parameters
from .optimiser import StackedAdam
from .ppo import Ppo
from .settings import LearnerConfig

NAMED_GROUPS = 16
"""Statistics are also given per parameter group up to this many groups."""

PIECE = 16_384
"""Decisions that a CPU works on at once: activations of more do not stay in its caches, and the
memory allocator returns and faults in pages of larger ones again and again."""

GUIDED_SWEEPS = 4
"""Trust-region passes over all groups while there is guidance, where none are asked for."""

SMALLEST = 64
"""Decisions that every parameter group gets at least."""


@dataclass(frozen=True, slots=True)
class Ascent:
    """Weights, the surrogate to climb, and the decisions it is measured on.

    Attributes:
        parameters: stacked weights ``[G, ...]``; learners replace rows of them.
        adam: their optimiser (PPO family).
        ppo: surrogate of the roll-out, with the guidance blended in.
        decisions: which decisions belong to which parameter group.
        config: of the learner.
        rng: a generator by purpose; the same purpose gives the same numbers within an update.
        table: figures of every parameter group by name, each ``[G]``, filled in by the learner.
        correction: what the projection takes off every group's gradient, ``[G, P]`` in the order of
            ``parameters`` (None: nothing).
    """

    parameters: Parameters
    adam: StackedAdam
    ppo: Ppo
    decisions: Decisions
    config: LearnerConfig
    rng: Callable[[str], np.random.Generator]
    correction: Tensor | None = None
    table: dict[str, Doubles] = field(default_factory=dict[str, Doubles])

    @property
    def groups(self) -> int:
        """Number of parameter groups G."""
        return int(self.adam.steps.numel())

    @property
    def sizes(self) -> Doubles:
        """Deciding members of each group per epoch, ``[G]``."""
        return self.decisions.count / max(1, self.decisions.epochs)

    @property
    def sweeps(self) -> int:
        """Passes of a trust-region learner over all groups."""
        chosen = self.config.trust_region.sweeps
        if chosen is not None:
            return chosen
        return 1 if self.ppo.blend is None else GUIDED_SWEEPS

    def order(self) -> Ints:
        """The groups in the order in which they move."""
        everyone = np.arange(self.groups)
        return (
            self.rng("order").permutation(everyone) if self.config.order == "random" else everyone
        )

    def blocks(self, order: Ints) -> list[Ints]:
        """Groups that move together, block after block."""
        return list(np.array_split(order, min(self.config.blocks, order.size)))

    def placed(self, groups: Ints) -> Tensor:
        """Group numbers on the device."""
        return torch.from_numpy(groups).to(self.ppo.experience.device)

    def pieces(self, groups: Ints, width: int) -> list[Ints]:
        """Parts of a block whose decisions, ``width`` for each group, fit in :data:`PIECE`.

        Groups of a block do not interact, so the parts may be computed one after another.
        """
        if self.ppo.experience.device.type != "cpu":
            return [groups]
        many = max(1, PIECE // max(1, width))
        return np.array_split(groups, -(-groups.size // many))

    def weights(self, groups: Tensor) -> Parameters:
        """A copy of these groups' weights."""
        return {name: value[groups] for name, value in self.parameters.items()}

    def replace(self, groups: Tensor, weights: Parameters) -> None:
        """Put new weights of these groups in place."""
        for name, value in weights.items():
            self.parameters[name][groups] = value

    # -- decisions ----------------------------------------------------------------------------

    @property
    def per_group(self) -> int:
        """Decisions of a group that one pass uses at most."""
        return max(SMALLEST, self.config.max_samples // self.groups)

    @property
    def whole(self) -> bool:
        """Whether a pass uses every decision there is."""
        if self.epochwise:
            return self.decisions.flat.size <= self.config.max_samples
        return int(self.decisions.count.max(initial=0)) <= self.per_group

    @property
    def epochwise(self) -> bool:
        """Whether minibatches must hold all decisions of their epochs."""
        return self.ppo.blend is not None and self.ppo.blend.joint is not None

    def memory(self) -> Tensor | None:
        """Room for the old outputs of all decisions, where passes repeat them."""
        if self.config.passes == 1 or not self.whole:
            return None
        experience = self.ppo.experience
        rows = experience.episodes * experience.epochs * experience.agents
        return torch.zeros(rows, experience.outputs, device=experience.device)

    def passes(self, rng: np.random.Generator, groups: Ints) -> list[Pass]:
        """PPO: all random choices of a block's update, made before its loop."""
        config = self.config
        if self.epochwise:
            tables = (
                self.decisions.whole_epochs(
                    rng, groups, most=config.max_samples, pieces=config.minibatches
                )
                for _ in range(config.passes)
            )
        else:
            # One minibatch of everything is the same mean in whatever order.
            once = config.minibatches == 1 and self.whole
            tables = (
                self.decisions.scattered(
                    rng, groups, per_group=self.per_group, pieces=config.minibatches
                )
                for _ in range(1 if once else config.passes)
            )
            if once:
                return [self._on_device(next(tables))] * config.passes
        return [self._on_device(table) for table in tables]

    def everything(self, groups: Ints) -> Pass:
        """All decisions of these groups, in pieces that fit into memory."""
        width = max(1, max(self.config.max_samples, 4096) // groups.size)
        return self._on_device(self.decisions.everything(groups, width=width))

    def sample(
        self, table: tuple[Ints, Bools], groups: Ints, most: int | None = None
    ) -> DecisionBatch:
        """The decisions of these groups from a table of all groups ``[G, b]``, the first ``most``.

        Columns that hold nobody's decision are left out.
        """
        index, real = table[0][groups, :most], table[1][groups, :most]
        used = max(1, int(real.any(axis=0).sum()))
        placed = self.ppo.experience.placed(index[:, :used], real[:, :used], groups)
        return self.ppo.experience.minibatch(*placed)

    def _on_device(self, tables: list[tuple[Ints, Bools]]) -> Pass:
        on = self.ppo.experience.device
        return [
            (torch.from_numpy(index).to(on), torch.from_numpy(real).to(on))
            for index, real in tables
        ]
