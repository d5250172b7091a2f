"""Adam (arXiv 1412.6980) on stacked parameters, each group with its own step count and norm limit.

Groups are independent: their gradients are clipped by their own norm, and a group that has
reached its KL limit is left exactly as it is. Nothing here asks the device for a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .networks import Parameters

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class StackedAdam:
    """First and second moments of parameters ``[G, ...]`` and steps taken by each group ``[G]``."""

    def __init__(self, parameters: Parameters, *, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in parameters.items()}
        any_parameter = next(iter(parameters.values()))
        self.steps = torch.zeros(
            any_parameter.shape[0], dtype=torch.float32, device=any_parameter.device
        )

    def select(self, groups: Tensor) -> StackedAdam:
        """A copy that holds only these groups (indices ``[g]``)."""
        part = object.__new__(StackedAdam)
        part.learning_rate = self.learning_rate
        part.first = {name: value[groups] for name, value in self.first.items()}
        part.second = {name: value[groups] for name, value in self.second.items()}
        part.steps = self.steps[groups]
        return part

    def merge(self, part: StackedAdam, groups: Tensor) -> None:
        """Write a selection back."""
        for name in self.first:
            self.first[name][groups] = part.first[name]
            self.second[name][groups] = part.second[name]
        self.steps[groups] = part.steps

    @torch.no_grad()
    def step(
        self,
        parameters: Parameters,
        gradients: tuple[Tensor, ...],
        *,
        live: Tensor,
        max_norm: float,
        pace: Tensor | float = 1.0,
    ) -> Tensor:
        """One step in place for the groups where ``live`` ``[G]`` is true.

        ``pace`` ``[G]`` multiplies the step size. A group whose gradient is not finite stays as it
        is.

        Returns each group's gradient norm before it was limited, ``[G]``.
        """
        norm = group_norm(gradients)
        live = live & norm.isfinite()
        shorten = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        self.steps += live
        correction1 = 1.0 - BETA1**self.steps
        correction2 = 1.0 - BETA2**self.steps
        # A group that never moved has no moments to correct.
        rate = torch.where(
            live, self.learning_rate * pace / correction1.clamp_min(1e-12), torch.zeros_like(norm)
        )
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            shape = (-1, *([1] * (gradient.ndim - 1)))
            on = live.view(shape)
            short = gradient * shorten.view(shape)
            first, second = self.first[name], self.second[name]
            first.copy_(torch.where(on, first.lerp(short, 1.0 - BETA1), first))
            second.copy_(torch.where(on, second.lerp(short * short, 1.0 - BETA2), second))
            spread = (second / correction2.clamp_min(1e-12).view(shape)).sqrt_().add_(EPSILON)
            parameter.sub_(rate.view(shape) * first / spread)
        return norm


def group_norm(tensors: tuple[Tensor, ...]) -> Tensor:
    """Euclidean norm over everything but the first axis, ``[G]``."""
    return torch.stack([t.square().flatten(1).sum(dim=1) for t in tensors]).sum(dim=0).sqrt()
