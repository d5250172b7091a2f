"""The price at which what units offer meets the load, and how both move with their inputs.

Offers grow with the price. The search first bisects the sorted marginal costs at which offers jump
(ends exactly, after the logarithm of their number), then takes Newton steps on the piecewise-linear
offers of bent costs inside a bracket without jumps (ends exactly too, usually within ten steps).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .torch_costs import CostTensors


@dataclass(frozen=True, slots=True)
class Balanced:
    """Dispatch and price of a batch, and what gradients need besides.

    Attributes:
        dispatch: ``[B, U]`` MW; price: ``[B]`` $/MWh.
        least, most: ``[B, U]`` MW, lowest and highest offer at the price; they differ where the
            price is a jump, and the dispatch lies between them in equal parts of their difference.
        spare: ``[B]`` bool, a further MW is shed or surplus and moves no unit.
    """

    dispatch: Tensor
    price: Tensor
    least: Tensor
    most: Tensor
    spare: Tensor


def balance(
    costs: CostTensors, load: Tensor, low: Tensor, high: Tensor, prices: tuple[float, float]
) -> Balanced:
    """Price and dispatch without gradients.

    Args:
        costs: of U units.
        load: ``[B]`` MW.
        low: ``[B, U]`` MW, finite.
        high: ``[B, U]`` MW, finite and at least ``low``.
        prices: ``(-surplus_price, shed_price)``, the range of the price.
    """
    members, units = low.shape
    if low.device.type != "cpu" or members * units <= _TILE:
        return _balance_tile(costs, load, low, high, prices)
    # Some 20 passes over the same arrays: in pieces that stay in the cache they are much faster.
    whole: Balanced | None = None
    rows = max(_TILE // units, 1)
    for at in range(0, members, rows):
        here = slice(at, at + rows)
        piece = _balance_tile(costs.member(here), load[here], low[here], high[here], prices)
        parts = [getattr(piece, field.name) for field in fields(piece)]
        if whole is None:
            whole = Balanced(*(part.new_empty(members, *part.shape[1:]) for part in parts))
        for field, part in zip(fields(piece), parts, strict=True):
            getattr(whole, field.name)[here] = part
    assert whole is not None  # noqa: S101 (an empty batch fits a tile)
    return whole


_TILE = 1 << 16
"""Elements of an array that a processor's cache holds several of."""


def _balance_tile(
    costs: CostTensors, load: Tensor, low: Tensor, high: Tensor, prices: tuple[float, float]
) -> Balanced:
    with torch.no_grad():
        levels = _Levels(costs, prices, load)
        rank = levels.search(load, low, high)
        least = levels.offer(rank, low, high, closed=False)
        # Without flat units no offer jumps.
        jumps = costs.merit_order.any_flat
        most = levels.offer(rank, low, high, closed=True) if jumps else least
        price, width = levels.value[rank], most - least
        room, missing = width.sum(1), load - least.sum(1)
        fill = torch.where(room > 0.0, missing / room, 0.0).clamp(0.0, 1.0)
        dispatch = torch.addcmul(least, width, fill[:, None])
        spare = torch.where(rank > 0, missing > room, missing < 0.0)
        smooth = (missing < 0.0) & (rank > 0)
        if costs.merit_order.all_flat or not bool(smooth.any()):
            return Balanced(dispatch, price, least, most, spare)
        below = levels.value[(rank - 1).clamp(min=0)]
        inner, inner_price = _newton(costs, load, low, high, (below, price))
        here = smooth[:, None]
        return Balanced(
            torch.where(here, inner, dispatch),
            torch.where(smooth, inner_price, price),
            torch.where(here, inner, least),
            torch.where(here, inner, most),
            spare & ~smooth,
        )


class _Levels:
    """Prices at which offers jump, with those of surplus and shedding at the ends."""

    def __init__(self, costs: CostTensors, prices: tuple[float, float], like: Tensor) -> None:
        self.costs, order = costs, costs.merit_order
        ends = torch.tensor(prices, dtype=like.dtype, device=like.device)
        inner = order.levels[(order.levels > ends[0]) & (order.levels < ends[1])]
        self.value = torch.cat([ends[:1], inner, ends[1:]])
        self.opened = torch.searchsorted(order.levels, self.value)
        self.closed = torch.searchsorted(order.levels, self.value, right=True)

    def offer(self, rank: Tensor, low: Tensor, high: Tensor, *, closed: bool) -> Tensor:
        """What units offer at each member's level, ``[B, U]``."""
        if not self.costs.merit_order.all_flat:
            return self.costs.offer(self.value[rank][:, None], low, high, closed=closed)
        rows = (self.closed if closed else self.opened)[rank]
        return torch.clamp(self.costs.merit_order.table[rows], low, high)

    def search(self, load: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The lowest level that meets the load, else the last; ``[B]``."""
        count = self.value.shape[0]
        first = torch.zeros(load.shape, dtype=torch.int64, device=load.device)
        last = torch.full_like(first, count - 1)
        for _ in range((count - 1).bit_length()):
            middle = (first + last) // 2
            enough = self.offer(middle, low, high, closed=True).sum(1) >= load
            first = torch.where(enough, first, middle + 1).minimum(last)
            last = torch.where(enough, middle, last)
        return last


def _newton(
    costs: CostTensors, load: Tensor, low: Tensor, high: Tensor, bracket: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Dispatch and price in a bracket without jumps: Newton, halving where a step leaves it."""
    below, above = bracket
    eps = torch.finfo(load.dtype).eps
    inverse, intercepts = costs.merit_order.lines
    inverse = torch.where(costs.flat, 0.0, inverse)
    if costs.merit_order.any_flat:
        start = 0.5 * (below + above)
    else:
        whole = inverse.expand_as(low).sum(1)
        start = (load - intercepts[0].expand_as(low).sum(1)) / whole
    price = torch.where((start > below) & (start < above), start, 0.5 * (below + above))
    for _ in range(100):
        offered, free = offers(costs, price[:, None], low, high)
        given, slope = offered.sum(1), torch.where(free, inverse, 0.0).sum(1)
        missing = load - given
        below = torch.where(missing > 0.0, price, below)
        above = torch.where(missing < 0.0, price, above)
        step = torch.where(slope > 0.0, missing / torch.where(slope > 0.0, slope, 1.0), 0.0)
        settled = missing.abs() <= 16.0 * eps * (load.abs() + given.abs())
        # Neighbouring numbers leave nothing to choose.
        settled |= (slope > 0.0) & (step.abs() <= 4.0 * eps * price.abs())
        settled |= (above - below) <= 2.0 * eps * price.abs()
        if bool(settled.all()):
            # What rounding left goes to the units that may move.
            offered = torch.where(free, torch.addcmul(offered, inverse, step[:, None]), offered)
            return offered.clamp(low, high), price
        moved = price + step
        inside = (slope > 0.0) & (moved > below) & (moved < above)
        chosen = torch.where(inside, moved, 0.5 * (below + above))
        price = torch.where(settled, price, chosen)
    raise RuntimeError("economic dispatch did not balance within 100 steps; are the costs convex?")


def offers(costs: CostTensors, price: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest offers at a price ``[B, 1]`` and which of them move with it, ``[B, U]`` each."""
    order, ends = costs.merit_order, costs.ends
    offered, free = low, None
    last = costs.slope.shape[1] - 1
    for k in range(last + 1):
        reach = order.reach(price, k, closed=False)
        moves = reach > offered
        moves &= reach < high
        if k < last:
            moves &= reach < ends[:, k + 1]
            reach = reach.minimum(ends[:, k + 1])
        free = moves if free is None else free.logical_or_(moves)
        offered = torch.maximum(offered, reach)
    assert free is not None  # noqa: S101 (a curve has a segment)
    return offered.minimum(high), free & ~costs.flat if order.any_flat else free


def differentiable_balance(
    costs: CostTensors, load: Tensor, low: Tensor, high: Tensor, prices: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Dispatch ``[B, U]`` and price ``[B]`` of ``balance`` with implicit gradients."""
    return _Balance.apply(load, low, high, costs.slope, costs.bend, costs.origin, costs, prices)


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        load: Tensor,
        low: Tensor,
        high: Tensor,
        slope: Tensor,
        bend: Tensor,
        origin: Tensor,
        costs: CostTensors,
        prices: tuple[float, float],
    ) -> tuple[Tensor, Tensor]:
        found = balance(costs, load, low, high, prices)
        ctx.costs = costs
        state = (found.dispatch, found.price, found.least, found.most, found.spare)
        ctx.save_for_backward(low, high, slope, bend, origin, *state)
        return found.dispatch, found.price

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        low, high, slope, bend, origin, dispatch, price, least, most, spare = ctx.saved_tensors
        by_dispatch, by_price = gradients
        costs: CostTensors = ctx.costs
        _, free = offers(costs, price[:, None], low, high)
        give = torch.where(free, 1.0 / torch.where(costs.flat, 1.0, bend), 0.0)
        response, width = give.sum(1), most - least
        room = width.sum(1)
        jump = room > 0.0
        share = width / torch.where(jump, room, 1.0)[:, None]
        # What one MW more does to the loss: units at a jump take it all, else those that move.
        pull = ((by_dispatch * give).sum(1) + by_price) / torch.where(response > 0.0, response, 1.0)
        pull = torch.where(jump, (by_dispatch * share).sum(1), pull)
        pull = torch.where(spare | (~jump & (response <= 0.0)), 0.0, pull)
        net = by_dispatch - pull[:, None]
        by_marginal = -give * net
        # At a jump the price is the marginal cost of the units there; others follow it.
        follow = torch.where(jump & ~spare, by_price - by_marginal.sum(1), 0.0)
        by_unit = by_marginal + share * follow[:, None]
        middle = 0.5 * (least + most)
        rows = torch.arange(slope.shape[0], device=slope.device) * slope.shape[1]
        by_slope = torch.zeros_like(slope).view(-1)
        by_slope.index_add_(0, (costs.segment(middle) + rows).view(-1), by_unit.reshape(-1))
        by_bend = (by_marginal * (middle - origin)).sum_to_size(bend.shape)
        by_origin = (-by_marginal * bend).sum_to_size(origin.shape)
        fill = ((dispatch - least).sum(1) / torch.where(jump, room, 1.0))[:, None]
        by_low, by_high = _by_limits(net, (low, high), (least, most), fill, free)
        return pull, by_low, by_high, by_slope.view_as(slope), by_bend, by_origin, None, None


def _by_limits(
    net: Tensor,
    limits: tuple[Tensor, Tensor],
    offered: tuple[Tensor, Tensor],
    fill: Tensor,
    free: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients by low and high: of units pinned there, and of jumps that end there."""
    (low, high), (least, most) = limits, offered
    jumps = most > least
    from_low = torch.where(jumps, 1.0 - fill, 1.0) * ((least <= low) & ~free)
    from_high = torch.where(jumps, fill, 1.0) * ((most >= high) & (high > low) & ~free)
    return net * from_low, net * from_high
