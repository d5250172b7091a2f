"""The optimality conditions of a solved DC optimal power flow, on its active set.

Controls at a limit or at a jump of their marginal cost stay there under small changes, branches
without a price stay free. What is left, controls that move x_F and branches that bind R, satisfies

    [ Q   -a_F  G_RF' ] [ x_F    ]     marginal cost = price seen
    [ a_F'  0    0    ] [ lambda ]  =  balance
    [ G_RF  0    0    ] [ y_R    ]     flow = limit

One solve of it sharpens the solution to machine precision, one of its transpose gives all
gradients (OptNet, arXiv 1703.00443, for this one structure). Where it is singular or a price sits
exactly on the edge, the active set is not the only one: such members are flagged, and Tikhonov's
term picks the smallest answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .active_set import TIKHONOV, Solved, better, certify, pack
from .dual_ascent import FlowProblem, Prices
from .torch_costs import pick


@dataclass(frozen=True, slots=True)
class KktSolution:
    """A solution whose controls and prices carry gradients.

    Attributes:
        controls: ``[B, n]`` MW; prices: of balance and branches.
        certificate: what the numbers prove, without gradients.
        degenerate: ``[B]`` bool, the active set is not the only one.
    """

    controls: Tensor
    prices: Prices
    certificate: Solved
    degenerate: Tensor


@dataclass(frozen=True, slots=True)
class ActiveSet:
    """Which controls move and which branches bind; masks ``[B, n]`` and signs ``[B, L]``.

    ``edge`` ``[B]``: some control or branch could as well belong to the other side.
    """

    moves: Tensor
    at_low: Tensor
    at_high: Tensor
    side: Tensor
    edge: Tensor


def differentiable_solution(problem: FlowProblem, found: Solved) -> KktSolution:
    """Sharpen a solution and attach the gradients of its optimality conditions."""
    with torch.no_grad():
        plain = problem.detached()
        active = active_set(plain, found)
        system = KktSystem(plain, active)
        found = better(_sharpened(plain, found, active, system), found)
        degenerate = active.edge | system.singular()
    costs = problem.costs
    inputs = (
        problem.low, problem.high, problem.demand, problem.offset, problem.flow_low,
        problem.flow_high, costs.slope, costs.bend, costs.origin,
    )  # fmt: skip
    if torch.is_grad_enabled() and any(value.requires_grad for value in inputs):
        state = (plain, found, active, system)
        controls, balance, branch = _Implicit.apply(*inputs, state)
        return KktSolution(controls, Prices(balance, branch), found, degenerate)
    return KktSolution(found.controls, found.prices, found, degenerate)


def active_set(problem: FlowProblem, found: Solved) -> ActiveSet:
    """Read the active set off a solution; a control counts as at a limit within 1e-7 of its box."""
    costs, controls = problem.costs, found.controls
    seen = problem.seen(found.prices)
    near = 1e-7 * (1.0 + problem.capacity)
    at_low = controls <= problem.low + near
    at_high = (controls >= problem.high - near) & ~at_low
    at_knot = torch.zeros_like(at_low)
    jumps = costs.slope.diff(dim=1) > 1e-9
    for k, knot in enumerate(costs.power[:, 1:-1].unbind(1)):
        at_knot |= ((controls - knot).abs() <= near) & jumps[:, k]
    rigid = at_low | at_high | at_knot
    bent = costs.bend * (controls - costs.origin)
    left = pick(costs.slope, costs.segment(controls - near)) + bent - seen
    right = pick(costs.slope, costs.segment(controls + near)) + bent - seen
    small = 1e-7 * (1.0 + seen.abs())
    # A rigid control should be pushed against what holds it.
    loose = (at_low & (right <= small)) | (at_high & (left >= -small))
    loose |= at_knot & ~at_low & ~at_high & ((right <= small) | (left >= -small))
    edge = (loose & (problem.high > problem.low)).any(1)
    branch = found.prices.branch
    priced = branch.abs() > 1e-8 * (1.0 + found.prices.balance.abs())[:, None]
    flow = problem.flows(controls)
    room = torch.minimum(problem.flow_high - flow, flow - problem.flow_low)
    edge |= ((room <= 1e-7 * (1.0 + flow.abs())) & ~priced).any(1)
    return ActiveSet(~rigid, at_low, at_high, torch.sign(branch) * priced, edge)


class KktSystem:
    """The matrix of an active set, packed to its largest member, and its regularised inverse."""

    def __init__(self, problem: FlowProblem, active: ActiveSet) -> None:
        self.moving, self.is_moving = pack(active.moves)
        self.binding, self.is_binding = pack(active.side != 0.0)
        members, count = self.moving.shape
        bend = problem.costs.bend.expand_as(active.moves).gather(1, self.moving)
        balance = problem.balance[self.moving] * self.is_moving
        wide = self.moving[:, None, :].expand(-1, self.binding.shape[1], -1)
        effect = problem.effect[self.binding].gather(2, wide)
        effect = effect * self.is_binding[:, :, None] * self.is_moving[:, None, :]
        self.size = (count, self.binding.shape[1])
        matrix = bend.new_zeros(members, sum(self.size) + 1, sum(self.size) + 1)
        matrix[:, :count, :count] = torch.diag_embed(torch.where(self.is_moving, bend, 1.0))
        matrix[:, :count, count] = -balance
        matrix[:, count, :count] = balance
        matrix[:, :count, count + 1 :] = effect.mT
        matrix[:, count + 1 :, :count] = effect
        matrix[:, count + 1 :, count + 1 :] = torch.diag_embed((~self.is_binding).to(bend.dtype))
        self.matrix = matrix

    def solve(self, right: Tensor, *, transposed: bool = False) -> Tensor:
        """``[B, m]``: exact where the matrix is regular, the smallest least-squares answer else."""
        matrix = self.matrix.mT if transposed else self.matrix
        normal = matrix.mT @ matrix
        normal.diagonal(dim1=1, dim2=2).add_(TIKHONOV)
        factor = torch.linalg.cholesky(normal)
        answer = torch.zeros_like(right)
        # Every repetition takes Tikhonov's bias back where the matrix is regular.
        for _ in range(6):
            rest = right - (matrix @ answer[..., None])[..., 0]
            step = torch.cholesky_solve(matrix.mT @ rest[..., None], factor)[..., 0]
            answer = answer + step
        return answer

    def singular(self) -> Tensor:
        """``[B]`` whether some right-hand side has no answer."""
        size = self.matrix.shape[1]
        probe = torch.cos(torch.arange(size, dtype=self.matrix.dtype, device=self.matrix.device))
        right = probe.expand(self.matrix.shape[0], -1)
        missed = (self.matrix @ self.solve(right)[..., None])[..., 0] - right
        return missed.abs().amax(1) > 1e-4

    def join(self, controls: Tensor, balance: Tensor, branch: Tensor) -> Tensor:
        """Pick the active entries of ``[B, n]``, ``[B]`` and ``[B, L]`` into ``[B, m]``."""
        moving = controls.gather(1, self.moving) * self.is_moving
        binding = branch.gather(1, self.binding) * self.is_binding
        return torch.cat([moving, balance[:, None], binding], 1)

    def part(self, packed: Tensor, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The inverse of ``join``: zeros elsewhere, of the shapes of controls and branches."""
        count = self.size[0]
        controls = torch.zeros_like(like[0])
        controls.scatter_add_(1, self.moving, packed[:, :count] * self.is_moving)
        branch = torch.zeros_like(like[1])
        branch.scatter_add_(1, self.binding, packed[:, count + 1 :] * self.is_binding)
        return controls, packed[:, count], branch


def _sharpened(problem: FlowProblem, found: Solved, active: ActiveSet, system: KktSystem) -> Solved:
    """The point at which the active set's conditions hold exactly."""
    costs = problem.costs
    controls = torch.where(active.at_low, problem.low, found.controls)
    controls = torch.where(active.at_high, problem.high, controls)
    near = 1e-7 * (1.0 + problem.capacity)
    for knot in costs.power[:, 1:-1].unbind(1):
        pinned = ((controls - knot).abs() <= near) & ~active.moves
        controls = torch.where(pinned & ~active.at_low & ~active.at_high, knot, controls)
    branch = torch.where(active.side != 0.0, found.prices.branch, 0.0)
    prices = Prices(found.prices.balance, branch)
    limit = torch.where(active.side > 0.0, problem.flow_high, problem.flow_low)
    slack = problem.seen(prices) - costs.marginal(controls)
    missing = problem.demand - controls @ problem.balance
    right = system.join(slack, missing, limit - problem.flows(controls))
    change = system.part(system.solve(right), (controls, branch))
    controls = (controls + change[0]).clamp(problem.low, problem.high)
    prices = Prices(prices.balance + change[1], branch + change[2])
    return certify(problem, controls, prices, found.rounds)


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        found: Solved = arguments[-1][1]
        ctx.state = arguments[-1]
        return found.controls.clone(), found.prices.balance.clone(), found.prices.branch.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        problem, found, active, system = ctx.state
        by_controls, by_balance, by_branch = gradients
        costs, controls = problem.costs, found.controls
        packed = system.join(by_controls, by_balance, by_branch)
        adjoint = system.solve(packed, transposed=True)
        moving, demand, flow = system.part(adjoint, (by_controls, by_branch))
        net = by_controls - demand[:, None] * problem.balance - flow @ problem.effect
        zero = torch.zeros_like(net)
        index = costs.segment(controls)
        width = costs.slope.shape[1]
        rows = torch.arange(controls.shape[1], device=controls.device) * width
        by_slope = torch.zeros_like(costs.slope).view(-1)
        by_slope.index_add_(0, (index + rows).view(-1), -moving.reshape(-1))
        by_bend = (-moving * (controls - costs.origin)).sum_to_size(costs.bend.shape)
        by_origin = (moving * costs.bend).sum_to_size(costs.origin.shape)
        return (
            torch.where(active.at_low, net, zero),
            torch.where(active.at_high, net, zero),
            demand,
            -flow,
            torch.where(active.side < 0.0, flow, 0.0),
            torch.where(active.side > 0.0, flow, 0.0),
            by_slope.view_as(costs.slope),
            by_bend,
            by_origin,
            None,
        )
