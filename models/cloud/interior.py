"""A batched primal-dual interior method in torch.

Solves many programs ``min f(x)  s.t.  A x = b,  x >= 0`` of one shape at once, f convex and twice
differentiable; linear programs are the case without curvature. The method is the infeasible-start
primal-dual one of Boyd and Vandenberghe, *Convex Optimization* (2004), section 11.7: Newton steps
on the perturbed optimality conditions (those of the log barrier), with a backtracking search on
their residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Derivatives = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x ``[B, n]`` -> gradient ``[B, n]`` and Hessian ``[B, n, n]`` of f."""


class Domain(Protocol):
    """Where f is defined: x ``[B, n]`` -> ``[B]`` bool."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class InteriorPoint:
    """Solution of a batch; float64.

    Attributes:
        x: ``[B, n]`` minimiser.
        equality: ``[B, m]`` multipliers y: d(optimum) / d(b).
        bound: ``[B, n]`` multipliers z >= 0 of ``x >= 0``.
        iterations: Newton steps of the slowest member.
        status: ``"optimal"``.
    """

    x: Tensor
    equality: Tensor
    bound: Tensor
    iterations: int
    status: str


def everywhere(x: Tensor) -> Tensor:
    """The domain of functions that are defined for every x."""
    return torch.ones(x.shape[0], dtype=torch.bool, device=x.device)


def solve_interior(
    derivatives: Derivatives,
    matrix: Tensor,
    right: Tensor,
    start: Tensor,
    *,
    domain: Domain = everywhere,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
) -> InteriorPoint:
    """Minimise a batch from a strictly positive ``start`` inside the domain.

    Args:
        derivatives: gradient and Hessian of f.
        matrix: ``[B, m, n]`` with full row rank.
        right: ``[B, m]``.
        start: ``[B, n]``, > 0; need not satisfy the equations.
        domain: where f is defined; every iterate stays inside.
        tolerance: on the largest residual and on the mean complementarity, relative to the scale
            of the data (1 + |b|).
        max_iterations: Newton steps before giving up.

    Raises:
        RuntimeError: some member did not converge; names how many and the residual. Infeasible
            and unbounded programs end here.
    """
    x, scale = start.clone(), 1.0 + right.abs().amax(-1)
    gradient, hessian = derivatives(x)
    z = 1.0 / x
    y = torch.zeros_like(right)
    variables = x.shape[1]

    def residuals(
        x: Tensor, y: Tensor, z: Tensor, gradient: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dual = gradient - (matrix.mT @ y[..., None]).squeeze(-1) - z
        primal = (matrix @ x[..., None]).squeeze(-1) - right
        return dual, primal, x * z - target[:, None]

    def size(parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.cat(parts, dim=-1).square().sum(-1).sqrt()

    zero = torch.zeros_like(scale)
    done = torch.zeros_like(scale, dtype=torch.bool)
    worst = torch.full_like(scale, torch.inf)
    for iteration in range(max_iterations):
        gap = (x * z).mean(-1)
        dual, primal, _ = residuals(x, y, z, gradient, zero)
        worst = torch.maximum(dual.abs().amax(-1), primal.abs().amax(-1)) / scale
        done = (worst <= tolerance) & (gap <= tolerance * scale)
        if bool(done.all()):
            return InteriorPoint(x, y, z, iteration, "optimal")
        target = 0.1 * gap
        parts = residuals(x, y, z, gradient, target)
        dx, dy, dz = _newton(matrix, hessian, x, z, parts)
        # Longest step that keeps x and z positive, then backtrack on the residual.
        step = 0.995 * torch.minimum(_ratio(x, dx), _ratio(z, dz)).clamp(max=1.0 / 0.995)
        step = torch.where(done, zero, step)
        before = size(parts)
        accepted = done.clone()
        for _ in range(40):
            trial = x + step[:, None] * dx
            inside = domain(trial)
            safe = torch.where(inside[:, None], trial, x)
            trial_gradient, _ = derivatives(safe)
            after = size(
                residuals(
                    safe, y + step[:, None] * dy, z + step[:, None] * dz, trial_gradient, target
                )
            )
            # The slack covers rounding once the residual is at machine precision.
            better = after <= (1.0 - 0.01 * step) * before + 1e-13 * scale * variables
            accepted |= inside & better
            if bool(accepted.all()):
                break
            step = torch.where(accepted, step, 0.5 * step)
        step = torch.where(accepted, step, zero)
        x, y, z = x + step[:, None] * dx, y + step[:, None] * dy, z + step[:, None] * dz
        gradient, hessian = derivatives(x)
        if bool((step == 0.0).all()):
            break
    raise RuntimeError(
        f"the interior method did not converge for {int((~done).sum())} of {done.shape[0]} "
        f"programs (largest relative residual {float(worst.max()):.3e}); "
        "is the program feasible and bounded?"
    )


def _newton(
    matrix: Tensor, hessian: Tensor, x: Tensor, z: Tensor, parts: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    dual, primal, complementarity = parts
    bent = hessian + torch.diag_embed(z / x)
    # Scaled by sqrt(x / z): keeps the factor well conditioned as the gap closes.
    scaling = (x / z).sqrt()
    factor = torch.linalg.cholesky(scaling[:, :, None] * bent * scaling[:, None, :])

    def apply_inverse(columns: Tensor) -> Tensor:
        return scaling[:, :, None] * torch.cholesky_solve(scaling[:, :, None] * columns, factor)

    pull = -(dual + complementarity / x)
    inverse_rows = apply_inverse(matrix.mT)
    schur = matrix @ inverse_rows
    free = apply_inverse(pull[..., None])
    dy = torch.linalg.solve(schur, -primal[..., None] - matrix @ free)
    dx = (free + inverse_rows @ dy).squeeze(-1)
    dz = -(complementarity + z * dx) / x
    return dx, dy.squeeze(-1), dz


def _ratio(value: Tensor, direction: Tensor) -> Tensor:
    shrinking = direction < 0.0
    limit = torch.where(shrinking, -value / torch.where(shrinking, direction, -1.0), torch.inf)
    return limit.amin(-1)
