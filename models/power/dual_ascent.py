"""Lagrangian duality of the DC optimal power flow, batched: bounds at any prices, and their ascent.

Controls x (units, DC lines, shedding per bus) minimise ``c(x)`` within boxes, with one balance
``a'x = demand`` and flows ``low <= G x + offset <= high``. Given a price lambda of the balance and
one y per branch (positive at its upper limit, negative at its lower one), every control sees

    pi = lambda a - G'y

and answers by itself, in closed form. The value of that is a lower bound on the cost for any
prices (weak duality). With a proximal term the dual is smooth, and accelerated proximal gradient
steps ascend it with nothing but products with G (arXiv 2406.13191 does so for DC OPF on GPUs).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from .torch_costs import CostTensors


@dataclass(frozen=True)
class FlowProblem:
    """A batch of B programs over n controls and L branches that have limits.

    Attributes:
        costs: of the controls, shared by the members.
        low, high: ``[B, n]`` MW boxes.
        balance: ``[n]`` coefficients a.
        demand: ``[B]`` MW.
        effect: ``[L, n]`` G, MW of flow per MW of control.
        offset: ``[B, L]`` MW of flow without controls.
        flow_low, flow_high: ``[B, L]`` MW.
        capacity: ``[n]`` MW, positive, by which moves of a control are measured.
    """

    costs: CostTensors
    low: Tensor
    high: Tensor
    balance: Tensor
    demand: Tensor
    effect: Tensor
    offset: Tensor
    flow_low: Tensor
    flow_high: Tensor
    capacity: Tensor

    def detached(self) -> FlowProblem:
        """The same without gradients."""
        costs = CostTensors(
            **{
                field.name: getattr(self.costs, field.name).detach()
                for field in fields(CostTensors)
            }
        )
        rest = {
            field.name: getattr(self, field.name).detach()
            for field in fields(self)
            if field.name != "costs"
        }
        return FlowProblem(costs, **rest)

    def take(self, members: Tensor) -> FlowProblem:
        """Some members, by index or mask."""
        names = ("low", "high", "demand", "offset", "flow_low", "flow_high")
        return replace(self, **{name: getattr(self, name)[members] for name in names})

    def near(self, softness: Tensor, centre: Tensor) -> FlowProblem:
        """The program with a proximal term around ``centre`` ``[B, n]``.

        ``softness`` ``[B]`` in $/MWh is by how much a price must change to move a control by its
        capacity.
        """
        return replace(self, costs=self.costs.near(softness[:, None] / self.capacity, centre))

    def flows(self, controls: Tensor) -> Tensor:
        """``[B, L]`` MW."""
        return torch.addmm(self.offset, controls, self.effect.T)

    def seen(self, prices: Prices) -> Tensor:
        """The price pi ``[B, n]`` that every control sees."""
        return prices.balance[:, None] * self.balance - prices.branch @ self.effect

    def congestion(self, branch: Tensor) -> Tensor:
        """``[B]`` $/h, the most that flows within limits can earn at prices ``[B, L]``."""
        return torch.maximum(branch * self.flow_high, branch * self.flow_low).sum(1)

    def value(self, prices: Prices, controls: Tensor, seen: Tensor) -> Tensor:
        """Dual value ``[B]`` of prices, given the controls' answer to them."""
        own = (self.costs.total(controls) - seen * controls).sum(1)
        fixed = prices.balance * self.demand + (prices.branch * self.offset).sum(1)
        return own + fixed - self.congestion(prices.branch)

    def bound(self, prices: Prices) -> Tensor:
        """A lower bound ``[B]`` in $/h on what these loads cost, valid for any prices."""
        seen = self.seen(prices)
        answer = self.costs.offer(seen, self.low, self.high, closed=False)
        return self.value(prices, answer, seen)

    def violation(self, controls: Tensor) -> Tensor:
        """``[B]`` MW by which controls miss the balance or the branch they overload most."""
        flow = self.flows(controls)
        excess = torch.maximum(flow - self.flow_high, self.flow_low - flow).clamp(min=0.0)
        missing = (self.demand - controls @ self.balance).abs()
        return torch.cat([excess, missing[:, None]], 1).amax(1)

    @cached_property
    def steps(self) -> tuple[Tensor, Tensor]:
        """Safe steps ``[B]`` of the balance and ``[B, L]`` of branch prices, for bent costs only.

        Row sums of ``|A| diag(1 / bend) |A|'`` bound the curvature of the dual from above.
        """
        give = self.costs.bend.reciprocal()
        size, own = self.effect.abs(), self.balance.abs()
        spread = give * (size.sum(0) + own)
        return (spread @ own).reciprocal(), (spread @ size.T).clamp(min=1e-12).reciprocal()


@dataclass(frozen=True, slots=True)
class Prices:
    """Dual variables: ``balance`` ``[B]`` and ``branch`` ``[B, L]``, both $/MWh."""

    balance: Tensor
    branch: Tensor

    def toward(self, other: Prices, share: Tensor | float) -> Prices:
        """The point that lies a share ``[B, 1]`` of the way to others (beyond them above 1)."""
        wide = share[:, 0] if isinstance(share, Tensor) else share
        return Prices(
            self.balance + wide * (other.balance - self.balance),
            self.branch + share * (other.branch - self.branch),
        )

    def take(self, members: Tensor) -> Prices:
        """Those of some members, by index or mask."""
        return Prices(self.balance[members], self.branch[members])

    def where(self, mask: Tensor, other: Prices) -> Prices:
        """These where mask ``[B]``, else the others."""
        return Prices(
            torch.where(mask, self.balance, other.balance),
            torch.where(mask[:, None], self.branch, other.branch),
        )


def gradient_step(problem: FlowProblem, prices: Prices) -> Prices:
    """One proximal gradient step up the dual of a program with bent costs; never goes down."""
    controls = problem.costs.offer(problem.seen(prices), problem.low, problem.high, closed=False)
    step, steps = problem.steps
    moved = prices.branch / steps + problem.flows(controls)
    # Moreau: what exceeds the limits is the new price, the rest is free capacity.
    branch = steps * (moved - moved.clamp(problem.flow_low, problem.flow_high))
    missing = problem.demand - controls @ problem.balance
    return Prices(prices.balance + step * missing, branch)


def ascend(problem: FlowProblem, prices: Prices, iterations: int) -> Prices:
    """Accelerated ascent of the dual of a program with bent costs.

    FISTA (Beck and Teboulle, 2009) whose momentum restarts for a member when it points down
    (O'Donoghue and Candes, 2015, arXiv 1204.3982).
    """
    ahead, age = prices, torch.zeros_like(prices.balance)
    for _ in range(iterations):
        found = gradient_step(problem, ahead)
        turn = (ahead.balance - found.balance) * (found.balance - prices.balance)
        turn += ((ahead.branch - found.branch) * (found.branch - prices.branch)).sum(1)
        age = torch.where(turn > 0.0, 0.0, age + 1.0)
        share = 1.0 + (age / (age + 3.0))[:, None]
        prices, ahead = found, prices.toward(found, share)
    return prices
