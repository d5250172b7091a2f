"""From rough prices of the DC optimal power flow to a primal-dual pair of machine precision.

The proximal dual is piecewise quadratic, so semismooth Newton steps (solve for the controls that
move and the branches that bind, a small dense system) reach its maximum after finitely many.
Around that the proximal point iteration (Rockafellar, 1976) moves the centre to the last controls
while the proximal term fades; on linear programs it ends exactly, too. The gap between cost and
dual bound of the *original* program certifies the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .dual_ascent import FlowProblem, Prices, ascend, gradient_step
from .torch_balance import balance, offers

TIKHONOV = 1e-8
"""Relative weight that keeps systems of degenerate active sets solvable."""


@dataclass(frozen=True, slots=True)
class Solved:
    """Controls ``[B, n]``, prices, and what they certify.

    Attributes:
        bound: ``[B]`` $/h proven lower bound; gap: ``[B]`` $/h cost less bound.
        violation: ``[B]`` MW.
        rounds: proximal point iterations that were made.
    """

    controls: Tensor
    prices: Prices
    bound: Tensor
    gap: Tensor
    violation: Tensor
    rounds: int

    def put(self, members: Tensor, found: Solved) -> Solved:
        """These with some members replaced, by index."""
        return Solved(
            self.controls.index_copy(0, members, found.controls),
            Prices(
                self.prices.balance.index_copy(0, members, found.prices.balance),
                self.prices.branch.index_copy(0, members, found.prices.branch),
            ),
            self.bound.index_copy(0, members, found.bound),
            self.gap.index_copy(0, members, found.gap),
            self.violation.index_copy(0, members, found.violation),
            found.rounds,
        )

    def take(self, members: Tensor) -> Solved:
        """Some members, by index or mask."""
        return Solved(
            self.controls[members],
            self.prices.take(members),
            self.bound[members],
            self.gap[members],
            self.violation[members],
            self.rounds,
        )


def solve_flow(
    problem: FlowProblem,
    *,
    shed_price: float,
    tolerance: float = 1e-9,
    rounds: int = 40,
    warm: tuple[Tensor, Prices] | None = None,
) -> Solved:
    """Solve a batch of programs; the certificate says how well.

    Args:
        problem: B programs, without gradients.
        shed_price: $/MWh, upper end of the price where the search begins.
        tolerance: relative gap, and violation per MW of demand, at which a member is done.
        rounds: most proximal point iterations.
        warm: controls ``[B, n]`` and prices to begin from; default those without a network.
    """
    with torch.no_grad():
        centre, prices = _start(problem, shed_price) if warm is None else warm
        centre = centre.clamp(problem.low, problem.high)
        every = best = certify(problem, centre, prices, 0)
        members = torch.arange(centre.shape[0], device=centre.device)
        softness = torch.full_like(prices.balance, 20.0 if warm is None else 2.0)
        for number in range(1, rounds + 1):
            near = problem.near(softness, centre)
            prices = ascend(near, prices, 20) if number == 1 and warm is None else prices
            reached = newton(near, prices)
            best = better(certify(problem, reached.controls, reached.prices, number), best)
            every = every.put(members, best)
            open_ = ~_done(problem, best, tolerance)
            if not bool(open_.any()):
                break
            # A maximum that was not reached was too sharp, and is no centre to go on from.
            sharp = reached.residual > 1e-6 * (1.0 + problem.demand.abs())
            centre = torch.where(sharp[:, None], centre, reached.controls)[open_]
            softness = torch.where(sharp, 10.0 * softness, 0.3 * softness).clamp(1e-3, 1e4)[open_]
            problem, prices = problem.take(open_), reached.prices.take(open_)
            best, members = best.take(open_), members[open_]
        return every


def _start(problem: FlowProblem, shed_price: float) -> tuple[Tensor, Prices]:
    """The dispatch without a network, and its price."""
    one = problem.balance > 0.0
    fixed = torch.where(one, problem.low, 0.0), torch.where(one, problem.high, 0.0)
    plain = balance(problem.costs, problem.demand, *fixed, (-shed_price, shed_price))
    return plain.dispatch, Prices(plain.price, torch.zeros_like(problem.offset))


def certify(problem: FlowProblem, controls: Tensor, prices: Prices, number: int) -> Solved:
    """A pair with what it proves about the original program."""
    bound = problem.bound(prices)
    gap = problem.costs.total(controls).sum(1) - bound
    return Solved(controls, prices, bound, gap, problem.violation(controls), number)


def better(found: Solved, best: Solved) -> Solved:
    """Member by member the pair with the smaller gap, a MW of violation counting as $100.

    Where rounding alone could tell them apart it is the first: on bent costs a gap is quadratic
    in what it measures.
    """
    noise = 100.0 * torch.finfo(best.bound.dtype).eps * (1.0 + best.bound.abs())
    score = best.gap.abs() + 100.0 * best.violation + noise
    take = found.gap.abs() + 100.0 * found.violation <= score
    return Solved(
        torch.where(take[:, None], found.controls, best.controls),
        found.prices.where(take, best.prices),
        torch.where(take, found.bound, best.bound),
        torch.where(take, found.gap, best.gap),
        torch.where(take, found.violation, best.violation),
        found.rounds,
    )


def _done(problem: FlowProblem, solved: Solved, tolerance: float) -> Tensor:
    small = solved.gap.abs() <= tolerance * (1.0 + solved.bound.abs())
    return small & (solved.violation <= tolerance * (1.0 + problem.demand.abs()))


@dataclass(frozen=True, slots=True)
class Reached:
    """Prices, the controls ``[B, n]`` that answer, and ``[B]`` MW by which optimality is missed."""

    prices: Prices
    controls: Tensor
    residual: Tensor


def newton(problem: FlowProblem, prices: Prices, iterations: int = 50) -> Reached:
    """Maximise the dual of a program with bent costs.

    Every step is searched along for a higher dual value; where there is none, a plain gradient
    step is taken, so that the value never falls.
    """
    value, controls, free = _answer(problem, prices)
    scale = 1e-11 * (1.0 + problem.demand.abs())
    damping, residual = torch.full_like(value, TIKHONOV), torch.full_like(value, torch.inf)
    for _ in range(iterations):
        target = _newton_target(problem, prices, controls, free, damping)
        residual = target.residual
        open_ = residual > scale
        if not bool(open_.any()):
            break
        prices, (value, controls, free), share = _climb(problem, prices, target, value, open_)
        # Steps that had to be shortened say that other controls start to move: be careful.
        short = share < 0.5
        damping = torch.where(short, 30.0 * damping, 0.1 * damping).clamp(TIKHONOV, 1.0)
    return Reached(prices, controls, residual)


def _climb(
    problem: FlowProblem, prices: Prices, target: _Target, value: Tensor, open_: Tensor
) -> tuple[Prices, tuple[Tensor, Tensor, Tensor], Tensor]:
    """Prices on the way to the target with no lower value, the answer to them, and how far."""
    noise = 1e-13 * (1.0 + value.abs())
    share = torch.where(open_, 1.0, 0.0)[:, None]
    trial, low = prices, open_
    for _ in range(12):
        trial = prices.toward(target.prices, share)
        # A price that would change its sign stops at nought: the branch is free again.
        kept = trial.branch * target.side >= 0.0
        trial = Prices(trial.balance, torch.where(kept, trial.branch, 0.0))
        answer = _answer(problem, trial)
        low = open_ & (answer[0] < value - noise)
        if not bool(low.any()):
            return trial, answer, share[:, 0]
        share = torch.where(low[:, None], 0.25 * share, share)
    trial = gradient_step(problem, prices).where(low, trial)
    return trial, _answer(problem, trial), share[:, 0]


def _answer(problem: FlowProblem, prices: Prices) -> tuple[Tensor, Tensor, Tensor]:
    """Dual value ``[B]``, controls that answer, and which of them move with prices."""
    seen = problem.seen(prices)
    controls, free = offers(problem.costs, seen, problem.low, problem.high)
    return problem.value(prices, controls, seen), controls, free


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a Newton step leads; ``side`` ``[B, L]`` is the sign of each branch price (0: none).

    ``residual`` ``[B]`` MW: by how much optimality is missed now.
    """

    prices: Prices
    side: Tensor
    residual: Tensor


def _newton_target(
    problem: FlowProblem, prices: Prices, controls: Tensor, free: Tensor, damping: Tensor
) -> _Target:
    _, steps = problem.steps
    flow = problem.flows(controls)
    moved = flow + prices.branch / steps
    at = moved.clamp(problem.flow_low, problem.flow_high)
    binding = moved != at
    missing = problem.demand - controls @ problem.balance
    off = torch.where(binding, at - flow, -prices.branch / steps)
    residual = torch.maximum(missing.abs(), off.abs().amax(1))
    rows, chosen = pack(binding)
    matrix = torch.cat(
        [problem.balance.expand(len(rows), 1, -1), problem.effect[rows] * chosen[..., None]], 1
    )
    give = torch.where(free, 1.0 / problem.costs.bend, 0.0)
    # Branches that do not bind lose their price at once, which moves the controls, too.
    dropped = torch.where(binding, 0.0, prices.branch)
    drift = give * (dropped @ problem.effect)
    right = torch.cat([(missing - drift @ problem.balance)[:, None], _at(off, rows, chosen)], 1)
    right[:, 1:] -= _at(drift @ problem.effect.T, rows, chosen)
    system = (matrix * give[:, None, :]) @ matrix.mT
    diagonal = system.diagonal(dim1=1, dim2=2)
    step, _ = problem.steps
    diagonal[:, 0] += damping / step
    diagonal[:, 1:] += torch.where(chosen, damping[:, None] / steps.gather(1, rows), 1.0)
    change = torch.linalg.solve(system, right)
    branch = torch.where(binding, prices.branch, 0.0)
    branch = branch.scatter_add(1, rows, -change[:, 1:] * chosen)
    target = Prices(prices.balance + change[:, 0], branch)
    return _Target(target, torch.sign(moved - at), residual)


def pack(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices ``[B, m]`` of the true entries of each row, and which of them are real."""
    count = mask.sum(1)
    most = int(count.max())
    order = torch.argsort(mask.to(torch.int8), dim=1, descending=True, stable=True)[:, :most]
    return order, torch.arange(most, device=mask.device) < count[:, None]


def _at(values: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    return values.gather(1, rows) * chosen
