"""Matrix products with few outputs, in the memory layouts that CPUs do fast.

A stacked last layer ``[g, b, H] x [g, H, O]`` with a small O is three times slower in the usual
layout, and its weight gradient five to ten times. The three products below are each other's
derivatives, so they can be differentiated as often as needed.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def thin(hidden: Tensor, weight: Tensor) -> Tensor:
    """``hidden weight``: ``[g, b, H]`` times ``[g, H, O]`` with a small O."""
    return cast(Tensor, _Thin.apply(hidden, weight))


def _transposed(values: Tensor) -> Tensor:
    """The same matrices, laid out column by column."""
    return values.transpose(1, 2).contiguous().transpose(1, 2)


class _Thin(torch.autograd.Function):
    """``h w``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, w: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(h, w)
        return torch.bmm(h, _transposed(w))

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        h, w = ctx.saved_tensors
        return (
            cast(Tensor, _Wide.apply(u, w)) if ctx.needs_input_grad[0] else None,
            cast(Tensor, _Cross.apply(h, u)) if ctx.needs_input_grad[1] else None,
        )


class _Wide(torch.autograd.Function):
    """``u w'``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, w: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(u, w)
        return torch.bmm(u, w.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        u, w = ctx.saved_tensors
        return (
            cast(Tensor, _Thin.apply(gradient, w)) if ctx.needs_input_grad[0] else None,
            cast(Tensor, _Cross.apply(gradient, u)) if ctx.needs_input_grad[1] else None,
        )


class _Cross(torch.autograd.Function):
    """``h' u``."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, u: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(h, u)
        return torch.bmm(u.transpose(1, 2).contiguous(), h).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        h, u = ctx.saved_tensors
        return (
            cast(Tensor, _Wide.apply(u, gradient)) if ctx.needs_input_grad[0] else None,
            cast(Tensor, _Thin.apply(h, gradient)) if ctx.needs_input_grad[1] else None,
        )
