"""Fisher products and conjugate gradients for all parameter groups of a block at once.

The Fisher matrix of a group is the Hessian of its mean KL at the old policy, in Gauss-Newton form
``H = mean J' F J`` with ``J`` the Jacobian of the distribution's parameters and ``F`` their Fisher
information, known in closed form (arXiv 2109.11251, appendix; Gauss-Newton and Hessian agree there
because the gradient of the KL is 0). One graph is built and kept for all products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Parameters
from .batches import Batch


def flatten(parameters: Parameters) -> Tensor:
    """Stacked weights ``[g, ...]`` as one matrix ``[g, P]``, in the order of the mapping."""
    return torch.cat([value.flatten(1) for value in parameters.values()], dim=1)


def unflatten(flat: Tensor, like: Parameters) -> Parameters:
    """The inverse of :func:`flatten`; views where the layout allows it."""
    sizes = [value[0].numel() for value in like.values()]
    parts = flat.split(sizes, dim=1)
    return {
        name: part.reshape(-1, *value.shape[1:])
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


def leaves_of(parameters: Parameters) -> Parameters:
    """The same values as fresh leaves of a graph."""
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


def inner(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of each group's vectors, ``[g, P]`` twice to ``[g]``."""
    return torch.linalg.vecdot(first, second)


class FisherProduct:
    """``v -> H v`` for each group, without damping; ``[g, P]`` to ``[g, P]``.

    ``J v`` is the derivative of ``u -> J' u`` in direction v, so that both products come from one
    kept graph: no forward pass is repeated.
    """

    def __init__(self, parameters: Parameters, batch: Batch) -> None:
        self._batch = batch
        self._leaves = leaves_of(parameters)
        self._outputs = batch.outputs(self._leaves)
        self._dual = torch.zeros_like(self._outputs, requires_grad=True)
        self._pulled = torch.autograd.grad(
            self._outputs, list(self._leaves.values()), grad_outputs=self._dual, create_graph=True
        )
        self._at = self._outputs.detach()
        share = batch.weight / batch.weight.sum(dim=1, keepdim=True).clamp_min(1.0)
        self._share = share.view(*share.shape, *([1] * (self._at.ndim - 2)))

    def __call__(self, vectors: Tensor) -> Tensor:
        parts = list(unflatten(vectors, self._leaves).values())
        (pushed,) = torch.autograd.grad(
            self._pulled, self._dual, grad_outputs=parts, retain_graph=True
        )
        weighted = self._batch.metric(self._at, pushed) * self._share
        back = torch.autograd.grad(
            self._outputs, list(self._leaves.values()), grad_outputs=weighted, retain_graph=True
        )
        return torch.cat([part.flatten(1) for part in back], dim=1)


@dataclass(frozen=True, slots=True)
class Solution:
    """``x`` ``[g, P]``; what is left of the right-hand side, ``[g, P]``; iterations ``[g]``."""

    x: Tensor
    remainder: Tensor
    iterations: Tensor

    @property
    def residual(self) -> Tensor:
        """Norm of the remainder, ``[g]``."""
        return self.remainder.norm(dim=1)


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    damping: float,
    iterations: int,
    tolerance: float,
) -> Solution:
    """Solve ``(H + damping I) x = b`` for every group; each stops by itself.

    A group stops when its residual is below ``tolerance`` times ``|b|``, and before a direction
    without curvature (a singular H and no damping), with what it has by then. Where a product is
    not finite, x is NaN.
    """
    x = torch.zeros_like(b)
    residual, direction = b, b
    square = inner(b, b)
    enough = square * tolerance**2
    used = torch.zeros_like(square)
    failed = torch.zeros_like(square, dtype=torch.bool)
    for _ in range(iterations):
        live = square > enough
        # On an accelerator the question would cost more than the products that it may save.
        if b.device.type == "cpu" and not bool(live.any()):
            break
        curved = product(direction) + damping * direction
        bend = inner(direction, curved)
        failed = failed | (live & ~bend.isfinite())
        live = live & (bend > 0.0) & ~failed
        step = torch.where(live, square / bend, 0.0).unsqueeze(1)
        x = x + step * direction
        residual = torch.where(live.unsqueeze(1), residual - step * curved, residual)
        after = inner(residual, residual)
        turn = torch.where(live, after / square, 0.0).unsqueeze(1)
        direction = torch.where(live.unsqueeze(1), residual + turn * direction, direction)
        # A group without curvature is done: nothing can be gained by asking again.
        square = torch.where(live, after, torch.where(square > enough, enough, square))
        used = used + live
    return Solution(torch.where(failed.unsqueeze(1), torch.nan, x), residual, used)
