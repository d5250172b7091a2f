"""The planning, delay and fluid models in torch: batched, float64, differentiable.

``planning_torch`` and ``delay_torch`` agree with the HiGHS forms; ``delay_single`` is the closed
form for one class by bisection on the multiplier with the implicit gradient. All tensors carry a
leading batch axis B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .interior import InteriorPoint, solve_interior


@dataclass(frozen=True, slots=True)
class PlanningTensors:
    """Static planning of a batch; only ``rho`` is differentiable (rate, service, count).

    Shapes: rho ``[B]``, flow ``[B, K, J]``, class_prices ``[B, K]``, node_prices ``[B, J]``.
    """

    rho: Tensor
    flow: Tensor
    class_prices: Tensor
    node_prices: Tensor


@dataclass(frozen=True, slots=True)
class DelayTensors:
    """Convex delay model of a batch; all differentiable but the class prices.

    Shapes: flow ``[B, K, J]``, utilisation ``[B, J]``, objective ``[B]``, class_prices ``[B, K]``.
    """

    flow: Tensor
    utilisation: Tensor
    objective: Tensor
    class_prices: Tensor


def _pairs(service: Tensor) -> tuple[Tensor, Tensor]:
    usable = service > 0.0
    if not bool((usable == usable[0]).all()):
        raise ValueError("all members of a batch must share the pattern of usable pairs")
    k, j = usable[0].nonzero(as_tuple=True)
    return k, j


def _double(*values: Tensor) -> None:
    for value in values:
        if value.dtype != torch.float64:
            raise ValueError(f"the models need float64, got {value.dtype}")


def planning_torch(rate: Tensor, service: Tensor, count: Tensor) -> PlanningTensors:
    """The static planning problem of ``planning`` for a batch, by the interior method.

    The gradient of rho is that of the envelope theorem: d rho = sum_k p_k d lambda_k
    - sum_kj w_j x_kj / mu_kj^2 d mu_kj - rho sum_j w_j d n_j, with p and w the dual prices.

    Args:
        rate: ``[B, K]`` jobs/s.
        service: ``[B, K, J]`` jobs/s of one node.
        count: ``[B, J]`` nodes, positive.

    Raises:
        RuntimeError: the method did not converge.
    """
    _double(rate, service, count)
    rho, flow, class_prices, node_prices = _Planning.apply(rate, service, count)
    return PlanningTensors(rho, flow, class_prices, node_prices)


class _Planning(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rate: Tensor, service: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        solved, k, j, scale = _plan(rate, service, count, tolerance=1e-11)
        classes = rate.shape[1]
        flow = torch.zeros_like(service)
        flow[:, k, j] = solved.x[:, : k.shape[0]] * scale[:, None]
        rho = solved.x[:, k.shape[0]].clone()
        class_prices = solved.equality[:, :classes] / scale[:, None]
        node_prices = -solved.equality[:, classes:] / scale[:, None]
        ctx.save_for_backward(service, flow, rho, class_prices, node_prices)
        ctx.mark_non_differentiable(flow, class_prices, node_prices)
        return rho, flow, class_prices, node_prices

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        service, flow, rho, class_prices, node_prices = ctx.saved_tensors
        outer = gradients[0]
        usable = service > 0.0
        per_rate = torch.where(usable, service, 1.0) ** -2
        per_service = torch.where(usable, -node_prices[:, None, :] * flow * per_rate, 0.0)
        per_count = -rho[:, None] * node_prices
        return (
            outer[:, None] * class_prices,
            outer[:, None, None] * per_service,
            outer[:, None] * per_count,
        )


def _plan(
    rate: Tensor, service: Tensor, count: Tensor, *, tolerance: float
) -> tuple[InteriorPoint, Tensor, Tensor, Tensor]:
    """Variables: flows of the pairs, rho, slacks of the types; per node of the system."""
    k, j = _pairs(service)
    batch, classes = rate.shape
    types, pairs = count.shape[1], k.shape[0]
    scale = count.sum(-1).clamp(min=1.0)
    share, demand = count / scale[:, None], rate / scale[:, None]
    columns = torch.arange(pairs, device=rate.device)
    matrix = rate.new_zeros(batch, classes + types, pairs + 1 + types)
    matrix[:, k, columns] = 1.0
    matrix[:, classes + j, columns] = 1.0 / service[:, k, j]
    matrix[:, classes:, pairs] = -share
    matrix[:, classes:, pairs + 1 :] = torch.eye(types, dtype=rate.dtype, device=rate.device)
    right = torch.cat([demand, torch.zeros_like(share)], dim=-1)
    cost = torch.zeros_like(matrix[:, 0])
    cost[:, pairs] = 1.0
    flat = torch.zeros_like(cost).diag_embed()
    start = torch.ones_like(cost)
    solved = solve_interior(lambda _x: (cost, flat), matrix, right, start, tolerance=tolerance)
    return solved, k, j, scale


def delay_torch(
    rate: Tensor, service: Tensor, count: Tensor, price: Tensor | None = None
) -> DelayTensors:
    """The convex delay model of ``delay`` for a batch, several classes, by the interior method.

    The minimiser is made differentiable by one Newton step from the converged point whose matrix
    is held constant: its value does not change, its derivative is the implicit one.

    Args:
        rate: ``[B, K]`` jobs/s.
        service: ``[B, K, J]`` jobs/s of one node.
        count: ``[B, J]`` nodes, positive.
        price: ``[B, J]`` cost of a busy node.

    Raises:
        RuntimeError: the load reaches the capacity (names the planning rho), or no convergence.
    """
    _double(rate, service, count)
    price = torch.zeros_like(count) if price is None else price
    with torch.no_grad():
        planned, k, j, scale = _plan(rate, service, count, tolerance=1e-6)
        pairs = k.shape[0]
        rho = planned.x[:, pairs]
        if bool((rho >= 1.0 - 1e-5).any()):
            raise RuntimeError(
                "the convex delay model needs a load below capacity; the planning problem says "
                f"rho = {float(rho.max()):.6f}"
            )
        start = planned.x[:, :pairs].clamp(min=1e-6 * float(planned.x[:, :pairs].max()))

    share, demand = count / scale[:, None], rate / scale[:, None]
    used_type = torch.nn.functional.one_hot(j, count.shape[1]).to(rate.dtype)
    busy = used_type / (service[:, k, j] * share[:, j])[:, :, None]
    equations = torch.nn.functional.one_hot(k, rate.shape[1]).to(rate.dtype).mT
    equations = equations.expand(rate.shape[0], -1, -1)

    def utilisation(flow: Tensor) -> Tensor:
        return (flow[:, None, :] @ busy).squeeze(1)

    def gradient(flow: Tensor) -> Tensor:
        marginal = share * ((1.0 - utilisation(flow)) ** -2 + price)
        return (busy @ marginal[..., None]).squeeze(-1)

    def curvature(flow: Tensor) -> Tensor:
        bend = 2.0 * share * (1.0 - utilisation(flow)) ** -3
        return (busy * bend[:, None, :]) @ busy.mT

    with torch.no_grad():
        # A flow inside rho < 1 that meets every demand: shrink what exceeds, keep positive.
        start = start * torch.clamp(0.999 / utilisation(start).amax(-1), max=1.0)[:, None]
        solved = solve_interior(
            lambda x: (gradient(x), curvature(x)),
            equations,
            demand,
            start,
            domain=lambda x: (utilisation(x) < 1.0).all(-1),
            tolerance=1e-11,
        )
        flow, multipliers, bound = solved.x, solved.equality, solved.bound
        barrier = flow * bound
        kkt = torch.cat(
            [
                torch.cat([curvature(flow) + torch.diag_embed(bound / flow), -equations.mT], -1),
                torch.cat([equations, equations.new_zeros(*demand.shape, demand.shape[1])], -1),
            ],
            dim=-2,
        )
    stationarity = (
        gradient(flow) - (equations.mT @ multipliers[..., None]).squeeze(-1) - barrier / flow
    )
    balance = (equations @ flow[..., None]).squeeze(-1) - demand
    residual = torch.cat([stationarity, balance], dim=-1)
    correction = torch.linalg.solve(kkt, (residual - residual.detach())[..., None]).squeeze(-1)
    flow = flow - correction[:, : flow.shape[1]]
    rho = utilisation(flow)
    objective = (count * (rho / (1.0 - rho) + price * rho)).sum(-1)
    full = torch.zeros_like(service)
    full[:, k, j] = flow * scale[:, None]
    return DelayTensors(full, rho, objective, multipliers)


def delay_single(
    rate: Tensor, service: Tensor, count: Tensor, price: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The convex delay model for one class in closed form (square-root rule with prices).

    Stationarity ``1 / (1 - rho_j)^2 + price_j = nu mu_j`` gives
    ``rho_j = [1 - (nu mu_j - price_j)^(-1/2)]+``; the multiplier nu solves
    ``sum_j n_j mu_j rho_j = lambda`` by bisection. Gradients are implicit (exact), not those of
    the bisection.

    Args:
        rate: ``[B]`` jobs/s.
        service: ``[B, J]`` jobs/s of one node, positive.
        count: ``[B, J]`` nodes.
        price: ``[B, J]`` cost of a busy node.

    Returns:
        utilisation ``[B, J]`` and multiplier nu ``[B]`` (d jobs / d rate, s), differentiable.

    Raises:
        ValueError: the rate reaches the capacity (member and values named).
    """
    price = torch.zeros_like(count) if price is None else price
    _double(rate, service, count, price)
    capacity = (service * count).sum(-1)
    full = rate >= capacity
    if bool(full.any()):
        member = int(full.nonzero()[0, 0])
        raise ValueError(
            f"member {member}: rate {float(rate[member]):g} jobs/s is not below the capacity "
            f"{float(capacity[member]):g} jobs/s"
        )
    utilisation, multiplier = _SquareRoot.apply(rate, service, count, price)
    return utilisation, multiplier


class _SquareRoot(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rate: Tensor, service: Tensor, count: Tensor, price: Tensor
    ) -> tuple[Tensor, Tensor]:
        def split(multiplier: Tensor) -> Tensor:
            margin = (multiplier[:, None] * service - price).clamp(min=1.0)
            return 1.0 - margin.rsqrt()

        def excess(multiplier: Tensor) -> Tensor:
            return (count * service * split(multiplier)).sum(-1) - rate

        low = ((1.0 + price) / service).amin(-1)
        high = 2.0 * ((1.0 + price) / service).amax(-1)
        while bool((excess(high) < 0.0).any()):
            high = torch.where(excess(high) < 0.0, 2.0 * high, high)
        for _ in range(200):
            middle = 0.5 * (low + high)
            above = excess(middle) >= 0.0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        multiplier = 0.5 * (low + high)
        utilisation = split(multiplier)
        ctx.save_for_backward(service, count, utilisation, multiplier)
        return utilisation, multiplier

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        service, count, utilisation, multiplier = ctx.saved_tensors
        by_utilisation, by_multiplier = gradients
        # d rho_j / d margin_j, zero for types that are switched off.
        slope = torch.where(utilisation > 0.0, 0.5 * (1.0 - utilisation) ** 3, 0.0)
        weight = count * service
        sensitivity = (weight * slope * service).sum(-1).clamp(min=torch.finfo(slope.dtype).tiny)
        # Total derivative of the loss with respect to nu, then through F(nu, theta) = 0.
        pull = (by_utilisation * slope * service).sum(-1) + by_multiplier
        per_rate = pull / sensitivity
        direct = by_utilisation - per_rate[:, None] * weight
        per_service = direct * slope * multiplier[:, None] - per_rate[:, None] * count * utilisation
        per_count = -per_rate[:, None] * service * utilisation
        per_price = -direct * slope
        return per_rate, per_service, per_count, per_price


def fluid_unrolled(
    work: Tensor, capacity: Tensor, start: Tensor, *, temperature: float = 0.0
) -> Tensor:
    """The recursion of ``fluid.fluid_recursion`` in torch, differentiable along the horizon.

    ``min(present, capacity)`` is replaced by the softmin
    ``-t log(exp(-present / t) + exp(-capacity / t))``, which lies below it by at most
    ``t log 2``; temperature 0 is the exact minimum.

    Args:
        work: ``[T, ..., J]`` seconds of service that arrive in a slot.
        capacity: ``[T, ..., J]`` seconds of service that can be given in a slot.
        start: ``[..., J]`` seconds of service present at time 0.
        temperature: seconds; 0 is exact.

    Returns:
        ``[T + 1, ..., J]`` seconds.
    """
    if temperature < 0.0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    backlog = [start]
    for arriving, limit in zip(work, capacity, strict=True):
        present = backlog[-1] + arriving
        if temperature == 0.0:
            served = torch.minimum(present, limit)
        else:
            served = -temperature * torch.logaddexp(-present / temperature, -limit / temperature)
        backlog.append(present - served)
    return torch.stack(backlog)
