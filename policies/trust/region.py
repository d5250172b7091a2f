"""One natural-gradient step of a block of parameter groups within KL budgets.

``max g's`` subject to ``s'Hs / 2 <= delta`` has the solution ``s = sqrt(2 delta / k) H^-1 g`` with
``k = g'H^-1 g`` and the predicted gain ``sqrt(2 delta k)`` (arXiv 2109.11251, section 4.1). The
exact mean KL and the surrogate itself decide how much of that step is taken. (The theory bounds
the maximum over states; like all practical versions, this one bounds the mean.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks import Parameters
from ..trust_settings import TrustRegionSettings
from .batches import BatchType, Gain
from .fisher import conjugate_gradient, flatten, inner, leaves_of, unflatten

FLATTEST = 0.1
"""Curvature counts as at least this share of its damped value, so that steps along directions to
which the policy hardly responds stay bounded."""

MARGIN = 0.98
"""A step that is shortened because of its KL aims at this share of the length that would fit."""

TRANCHE = 2
"""Shorter steps tried at once after the full one was refused; then all others at once."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Gradient of the surrogate ``[g, P]``, its value ``[g]``, and the outputs it was taken at."""

    gradient: Tensor
    value: Tensor
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class Natural:
    """A natural gradient.

    ``direction`` is ``(H + damping I)^-1 g`` ``[g, P]``; ``k`` its product with the gradient,
    ``curvature`` its product with ``H`` (without damping), ``residual`` that of the solver relative
    to ``|g|``, and ``iterations``, each ``[g]``. ``finite`` ``[g]`` is false where a gradient or a
    solution was not; such a group has zeros throughout and does not move.
    """

    gradient: Tensor
    direction: Tensor
    k: Tensor
    curvature: Tensor
    residual: Tensor
    iterations: Tensor
    finite: Tensor

    def scale(self, budget: Tensor) -> Tensor:
        """Length of the full step along ``direction`` for KL budgets ``[g]``; 0 for no budget."""
        bend = torch.maximum(self.curvature, FLATTEST * self.k)
        moves = (budget > 0.0) & (bend > 0.0)
        return torch.where(moves, (2.0 * budget / bend.clamp_min(1e-30)).sqrt(), 0.0)


@dataclass(frozen=True, slots=True)
class Move:
    """What a line search accepted.

    ``parameters`` ``[g, ...]`` (bit for bit the old ones where nothing was), measured ``kl`` and
    ``gain``, ``predicted`` gain of the full step, accepted ``fraction`` (0: none) and number of
    ``backtracks``, each ``[g]``; ``outputs`` on the batch after the move.
    """

    parameters: Parameters
    kl: Tensor
    gain: Tensor
    predicted: Tensor
    fraction: Tensor
    backtracks: Tensor
    outputs: Tensor


def slope(
    parameters: Parameters, batch: BatchType, gain: Gain[BatchType], *, old: Tensor | None = None
) -> Slope:
    """Gradient of the surrogate; ``old`` are the roll-out policy's outputs if they differ."""
    leaves = leaves_of(parameters)
    outputs = batch.outputs(leaves)
    at = outputs.detach()
    value = gain(batch, at if old is None else old, outputs)
    parts = torch.autograd.grad(value.sum(), list(leaves.values()))
    flat = torch.cat([part.flatten(1) for part in parts], dim=1)
    return Slope(flat, value.detach(), at)


def half_slopes(
    parameters: Parameters, batch: BatchType, gain: Gain[BatchType]
) -> tuple[Tensor, Tensor]:
    """Gradients ``[g, P]`` on either half of the roll-out, from one forward pass."""
    leaves = leaves_of(parameters)
    outputs = batch.outputs(leaves)
    at = outputs.detach()
    flats: list[Tensor] = []
    for number, half in enumerate(batch.halves()):
        value = gain(half, at, outputs)
        parts = torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=number == 0)
        flats.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    return flats[0], flats[1]


def natural(
    product: Callable[[Tensor], Tensor], gradient: Tensor, settings: TrustRegionSettings
) -> Natural:
    """Natural gradients of ``gradient`` ``[g, P]`` under the Fisher product of the same groups."""
    # A gradient whose square overflows is as useless as one that is not finite.
    finite = gradient.square().sum(dim=1).isfinite()
    gradient = torch.where(finite.unsqueeze(1), gradient, 0.0)
    solution = conjugate_gradient(
        product,
        gradient,
        damping=settings.damping,
        iterations=settings.cg_iterations,
        tolerance=settings.cg_tolerance,
    )
    finite = finite & solution.x.isfinite().all(dim=1)
    direction = torch.where(finite.unsqueeze(1), solution.x, 0.0)
    # H x = b - remainder - damping x: the curvature costs no further product.
    reached = inner(direction, gradient - solution.remainder)
    curvature = reached - settings.damping * inner(direction, direction)
    zero = torch.zeros_like(reached)
    return Natural(
        gradient=torch.where(finite.unsqueeze(1), gradient, 0.0),
        direction=direction,
        k=torch.where(finite, inner(gradient, direction), zero).clamp_min(0.0),
        curvature=torch.where(finite, curvature, zero).clamp_min(0.0),
        residual=torch.where(
            finite, solution.residual / gradient.norm(dim=1).clamp_min(1e-30), zero
        ),
        iterations=solution.iterations,
        finite=finite,
    )


@torch.no_grad()
def search(
    parameters: Parameters,
    batch: BatchType,
    gain: Gain[BatchType],
    start: Slope,
    step: Natural,
    budget: Tensor,
    settings: TrustRegionSettings,
    *,
    old: Tensor | None = None,
    base: Tensor | None = None,
) -> Move:
    """The largest of some step fractions with enough gain and an exact KL within budget.

    Enough is more than 0 and at least ``accept`` of what the linear model predicts for that
    fraction. The fractions are 1, then ``c backtrack^j`` with c = ``backtrack``, or, if the full
    step had too large a KL, the length at which a quadratic KL fits. Many fractions are evaluated
    in one pass over the data, for the groups that refused longer ones.

    ``start`` is :func:`slope` at ``parameters`` on ``batch``; ``budget`` ``[g]`` in nats. The KL is
    measured from ``old``, the outputs of the roll-out policy, if they are not ``start``'s; ``base``
    ``[g]`` is the KL that is there already and does not count.
    """
    flat = flatten(parameters)
    origin = start.outputs if old is None else old
    limit = budget if base is None else budget + base
    length = step.scale(budget)
    predicted = length * step.k
    shorter = settings.backtrack ** torch.arange(
        settings.fractions - 1, device=flat.device, dtype=flat.dtype
    )
    groups = flat.shape[0]
    waiting = torch.nonzero(predicted > 0.0).flatten()
    taken = torch.zeros(groups, device=flat.device, dtype=flat.dtype)
    kl, won = torch.zeros_like(taken), torch.zeros_like(taken)
    tried = torch.zeros_like(taken)
    outputs = start.outputs.clone()
    # The full step of everybody; then, of those that refused it, ever shorter ones.
    top = torch.ones_like(taken)
    for tranche in (None, shorter[:TRANCHE], shorter[TRANCHE:]):
        some = torch.ones_like(shorter[:1]) if tranche is None else tranche
        if waiting.numel() == 0 or some.numel() == 0:
            continue
        row = waiting.repeat(some.numel())
        part = (some.unsqueeze(1) * top[waiting]).flatten()
        moved = flat[row] + (part * length[row]).unsqueeze(1) * step.direction[row]
        rows = batch.rows(row)
        new = rows.outputs(unflatten(moved, parameters))
        before = origin[row]
        divergence = rows.mean(rows.kl(before, new))
        gained = gain(rows, before, new) - start.value[row]
        good = (gained > 0.0) & (gained >= settings.accept * part * predicted[row])
        good = (good & (divergence <= limit[row])).view(some.numel(), -1)
        first = good.int().argmax(dim=0)
        found = good.any(dim=0)
        place = (first * waiting.numel() + torch.arange(waiting.numel(), device=flat.device))[found]
        winner = waiting[found]
        taken[winner] = part[place]
        kl[winner] = divergence[place]
        won[winner] = gained[place]
        outputs[winner] = new[place]
        tried[waiting] += torch.where(found, first, some.numel()).to(tried.dtype)
        if tranche is None:
            # KL grows with the square of the step: the first shorter one just fits.
            fits = MARGIN * (limit[waiting] / divergence.clamp_min(1e-30)).sqrt()
            too_far = divergence.isfinite() & (divergence > limit[waiting])
            top[waiting] = torch.where(too_far, fits, settings.backtrack)
        waiting = waiting[~found]
    if base is not None:
        kl = torch.where(taken > 0.0, kl, base)
    goes = (taken > 0.0).unsqueeze(1)
    new_flat = torch.where(goes, flat + (taken * length).unsqueeze(1) * step.direction, flat)
    return Move(unflatten(new_flat, parameters), kl, won, predicted, taken, tried, outputs)
