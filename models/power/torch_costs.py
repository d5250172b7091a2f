"""Convex production costs as tensors: what they cost, and what units offer at a price.

A cost is piecewise linear plus a parabola,

    c(p) = base + pwl(p) + bend / 2 (p - origin)^2,

which covers bids (bend 0), fuel curves (one segment with a bend), and both with the proximal term
of ``differentiable``. Answers to a price are closed forms of each unit, so that every solver on
top needs elementwise tensors only. Beyond its ends a curve continues with its last slope: the box
alone limits a unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...simulators.power.grid import Units


@dataclass(frozen=True)
class CostTensors:
    """Costs of U units, shared by a batch; one dtype and device.

    ``slope``, ``bend``, ``origin`` and ``base`` are differentiable; ``power`` is not.

    Attributes:
        power: ``[U, K + 1]`` MW, ascending points.
        slope: ``[U, K]`` $/MWh of the segments, not falling.
        base: ``[U]`` or ``[B, U]`` $/h at the first point.
        bend: ``[U]`` or ``[B, U]`` $/h per MW^2, at least 0; a unit bends in all members or none.
        origin: ``[U]`` or ``[B, U]`` MW where the parabola has its lowest point.
    """

    power: Tensor
    slope: Tensor
    base: Tensor
    bend: Tensor
    origin: Tensor

    @cached_property
    def ends(self) -> Tensor:
        """``[U, K + 1]`` points with the outer ones at infinity."""
        ends = self.power.clone()
        ends[:, 0], ends[:, -1] = -torch.inf, torch.inf
        return ends

    @cached_property
    def flat(self) -> Tensor:
        """``[U]`` bool, units whose marginal cost is a step function."""
        return (self.bend <= 0.0) if self.bend.dim() == 1 else (self.bend <= 0.0).all(0)

    @cached_property
    def merit_order(self) -> MeritOrder:
        """Marginal costs of the flat units in ascending order."""
        return MeritOrder.of(self)

    def member(self, members: slice) -> CostTensors:
        """The costs of some members of a batch; themselves where all members share them."""
        if self.bend.dim() == self.origin.dim() == 1:
            return self
        bend, origin = (
            value if value.dim() == 1 else value[members] for value in (self.bend, self.origin)
        )
        base = self.base if self.base.dim() == 1 else self.base[members]
        return replace(self, base=base, bend=bend, origin=origin)

    def segment(self, dispatch: Tensor) -> Tensor:
        """Index ``[B, U]`` of the segment that serves the next MW, below K."""
        index = torch.zeros(dispatch.shape, dtype=torch.int64, device=dispatch.device)
        for knot in self.power[:, 1:-1].unbind(1):
            index += dispatch >= knot
        return index

    def total(self, dispatch: Tensor) -> Tensor:
        """Production cost ``[B, U]`` in $/h of ``[B, U]`` MW."""
        rise = (self.slope * self.power.diff(dim=1)).cumsum(1)
        at = torch.cat([torch.zeros_like(rise[:, :1]), rise[:, :-1]], 1)
        # A convex curve is the highest of its tangents.
        linear = None
        for offset, slope in zip(
            (at - self.slope * self.power[:, :-1]).unbind(1), self.slope.unbind(1), strict=True
        ):
            tangent = torch.addcmul(offset, dispatch, slope)
            linear = tangent if linear is None else torch.maximum(linear, tangent)
        assert linear is not None  # noqa: S101 (a curve has a segment)
        if self.merit_order.all_flat:
            return self.base + linear
        away = dispatch - self.origin
        return self.base + linear + 0.5 * self.bend * away * away

    def marginal(self, dispatch: Tensor) -> Tensor:
        """Cost of the next MW ``[B, U]`` in $/MWh."""
        slope = pick(self.slope, self.segment(dispatch.detach()))
        return slope + self.bend * (dispatch - self.origin)

    def offer(self, price: Tensor, low: Tensor, high: Tensor, *, closed: bool) -> Tensor:
        """Cheapest output at a price, in the box: ``argmin c(p) - price p``.

        Args:
            price: ``[B, 1]`` or ``[B, U]`` $/MWh.
            low: ``[B, U]`` MW.
            high: ``[B, U]`` MW.
            closed: of equally cheap outputs take the highest, else the lowest.
        """
        offered, order = low, self.merit_order
        for k, limit in enumerate(self.ends[:, 1:].unbind(1)):
            offered = torch.maximum(offered, order.reach(price, k, closed).minimum(limit))
        return offered.minimum(high)

    def near(self, pull: Tensor, centre: Tensor) -> CostTensors:
        """These costs plus ``pull / 2 (p - centre)^2`` for every unit.

        Args:
            pull: ``[U]`` $/h per MW^2, positive.
            centre: ``[B, U]`` MW.
        """
        bend = self.bend + pull
        origin = (self.bend * self.origin + pull * centre) / bend
        rest = 0.5 * self.bend * pull / bend * (self.origin - centre) ** 2
        return replace(self, base=self.base + rest, bend=bend, origin=origin)


def pick(table: Tensor, column: Tensor) -> Tensor:
    """``table[u, column[b, u]]`` ``[B, U]`` of a table ``[U, K]``."""
    rows = torch.arange(table.shape[0], device=table.device) * table.shape[1]
    return table.reshape(-1)[column + rows]


@dataclass(frozen=True)
class MeritOrder:
    """Answers to a price, prepared once for a batch of costs.

    Attributes:
        levels: ``[J]`` distinct marginal costs of the flat units, ascending.
        all_flat: whether no unit bends; any_flat: whether some unit does not.
    """

    costs: CostTensors
    levels: Tensor
    all_flat: bool
    any_flat: bool

    @classmethod
    def of(cls, costs: CostTensors) -> MeritOrder:
        flat = costs.flat
        levels = torch.unique(costs.slope.detach()[flat])
        return cls(costs, levels, bool(flat.all()), bool(flat.any()))

    @cached_property
    def table(self) -> Tensor:
        """``[J + 1, U]`` MW before any limit, when the first j levels run (flat units only)."""
        slope = self.costs.slope.detach().contiguous()
        units, segments = slope.shape
        rank = torch.searchsorted(self.levels, slope) + 1
        count = torch.zeros(self.levels.shape[0] + 1, units, dtype=torch.int64, device=slope.device)
        for k in range(segments):
            count.scatter_add_(0, rank[None, :, k], torch.ones_like(rank[None, :, k]))
        return pick(self.costs.ends, count.cumsum(0))

    @cached_property
    def lines(self) -> tuple[Tensor, list[Tensor]]:
        """Output before limits is ``inverse price + intercept`` per segment (bent units)."""
        costs = self.costs
        safe = torch.where(costs.flat, 1.0, costs.bend.detach())
        inverse = safe.reciprocal()
        origin = costs.origin.detach()
        return inverse, [origin - inverse * s for s in costs.slope.detach().unbind(1)]

    def reach(self, price: Tensor, k: int, closed: bool) -> Tensor:
        """Output at a price before limits if segment k went on for ever, ``[B, U]``."""
        if not self.any_flat:
            return self._bent(price, k)
        slope = self.costs.slope.detach()[:, k]
        step = (price >= slope) if closed else (price > slope)
        infinite = torch.tensor(torch.inf, dtype=slope.dtype, device=slope.device)
        jump = torch.where(step, infinite, -infinite)
        return jump if self.all_flat else torch.where(self.costs.flat, jump, self._bent(price, k))

    def _bent(self, price: Tensor, k: int) -> Tensor:
        inverse, intercepts = self.lines
        return torch.addcmul(intercepts[k], price, inverse)


def unit_costs(
    units: Units,
    *,
    quadratic: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> CostTensors:
    """Costs of a grid's units: their curves, or with ``quadratic`` the parabolas behind them.

    Units without a parabola (NaN in ``units.quadratic``) keep their curve.
    """
    power = torch.tensor(units.curve.power)
    slope = torch.tensor(units.curve.slope)
    base = torch.tensor(units.curve.cost[:, 0])
    bend = torch.zeros_like(base)
    if quadratic:
        c2, c1, c0 = torch.tensor(units.quadratic).unbind(1)
        smooth = torch.isfinite(c2)
        bend = torch.where(smooth, 2.0 * c2, 0.0)
        slope = torch.where(smooth[:, None], c1[:, None], slope)
        base = torch.where(smooth, c0 + c1 * power[:, 0], base)
    tensors = (power, slope, base, bend, torch.zeros_like(base))
    return CostTensors(*(t.to(device=device, dtype=dtype) for t in tensors))


def parabola_costs(bend: Tensor, slope: Tensor, base: Tensor | None = None) -> CostTensors:
    """``base + slope p + bend / 2 p^2`` of U units, ``[U]`` each."""
    zero = torch.zeros_like(slope)
    power = torch.stack([zero, zero + 1.0], 1).detach()
    return CostTensors(power, slope[:, None], zero if base is None else base, bend, zero.detach())
