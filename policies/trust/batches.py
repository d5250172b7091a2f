"""What a trust region needs to know about the decisions of some parameter groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from torch import Tensor

from ..networks import Parameters


class Batch(Protocol):
    """Decisions of ``g`` parameter groups, ``b`` each (shorter groups are padded).

    *Outputs* are whatever parametrises the distribution of one decision (log-probabilities, means,
    ...), ``[g, b, ...]``. ``..minibatch.Minibatch`` chooses among candidates, :mod:`.dense` among
    actions without features, and ``..box_minibatch.BoxMinibatch`` has set-points in a box.
    """

    @property
    def weight(self) -> Tensor:
        """1 for a decision, 0 for padding, ``[g, b]``."""
        ...

    def mean(self, values: Tensor) -> Tensor:
        """Mean over decisions, ``[g, b]`` to ``[g]``; 0 for a group without any."""
        ...

    def outputs(self, parameters: Parameters) -> Tensor:
        """Distribution parameters under stacked weights ``[g, ...]``; differentiable."""
        ...

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Exact ``KL(old || new)`` of every decision in nats, ``[g, b]``."""
        ...

    def metric(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """Fisher information with respect to the outputs, times a direction of their shape."""
        ...

    def rows(self, index: Tensor) -> Self:
        """These parameter groups only, ``[m]`` int64; they may repeat."""
        ...

    def halves(self) -> tuple[Self, Self]:
        """The same decisions, counting only those of either half of the roll-out."""
        ...


BatchType = TypeVar("BatchType", bound=Batch)

Gain = Callable[[BatchType, Tensor, Tensor], Tensor]
"""Surrogate of each group ``[g]`` from a batch, its old outputs and its new ones."""
