"""BPR costs and Beckmann's objective in torch: batched, differentiable, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .bpr import Latency


@dataclass(frozen=True, eq=False, slots=True)
class TorchLatency:
    """``free + slope * volume ** power``, link by link; fields as :class:`.bpr.Latency`, tensors.

    Volumes are ``[..., L]``. Gradients may flow into the fields as well (capacities, tolls).
    """

    free: Tensor
    slope: Tensor
    power: Tensor

    @classmethod
    def of(
        cls,
        latency: Latency,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> TorchLatency:
        """The same costs as tensors."""
        arrays = (latency.free, latency.slope, latency.power)
        return cls(*(torch.tensor(array, dtype=dtype, device=device) for array in arrays))

    def cost(self, volume: Tensor) -> Tensor:
        """``[..., L]`` cost of one trip on each link."""
        return self.free + self.slope * volume**self.power

    def beckmann(self, volume: Tensor) -> Tensor:
        """``[...]`` costs integrated from 0 to the volumes; its gradient is :meth:`cost`."""
        rise = self.slope * volume**self.power / (self.power + 1.0)
        return (volume * (self.free + rise)).sum(-1)

    def total(self, volume: Tensor) -> Tensor:
        """``[...]`` what all trips pay; its gradient is the marginal cost."""
        return (volume * self.cost(volume)).sum(-1)
