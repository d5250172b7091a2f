"""Gradient through the model: set-points that descend the analytical cost of a short horizon.

The baseline that a learner must be compared with where a differentiable model exists (in spirit of
arXiv 2604.24549): no policy, no samples, only the derivative of the model's own cost. What every
interval makes of set-points is the proximal model itself, the nearest dispatch that meets the load
within limits and ramps, chained from interval to interval, so a gradient sees that a unit moved now
can go further later.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .differentiable import economic_dispatch
from .torch_costs import CostTensors, parabola_costs


@dataclass(frozen=True, slots=True)
class Descent:
    """The best set-points that were seen, per member.

    Attributes:
        dispatch: ``[B, T, U]`` MW, balanced and within ramps: what to ask of the units.
        objective: ``[B]`` $ over the horizon, shed and surplus included.
        start: ``[B]`` $ of the set-points it started from (everybody stays).
    """

    dispatch: Tensor
    objective: Tensor
    start: Tensor


def descend(
    costs: CostTensors,
    load: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    previous: Tensor,
    ramp: Tensor,
    hours: float,
    steps: int = 60,
    rate: float = 0.05,
) -> Descent:
    """Descend the cost of T intervals by Adam on the set-points, through the unrolled model.

    Every step solves ``B T`` projections and their adjoints. Members do not touch each other.

    Args:
        costs: of U units.
        load: ``[B, T]`` MW, as forecast.
        low: ``[B, T, U]`` MW.
        high: ``[B, T, U]`` MW.
        previous: ``[B, U]`` MW before the first interval.
        ramp: ``[U]`` MW per interval, ``inf`` where unlimited.
        hours: length of an interval.
        steps: gradient steps.
        rate: of Adam, in capacities (largest ``high``) per step; it falls to a tenth.
    """
    capacity = high.amax((0, 1)).clamp(min=1.0)
    asked = (previous / capacity)[:, None, :].repeat(1, load.shape[1], 1).requires_grad_()
    adam = torch.optim.Adam([asked], lr=rate)
    fade = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.1, max(steps, 1))
    nearest = parabola_costs(capacity**-2, torch.zeros_like(capacity))
    best: Descent | None = None
    for _ in range(steps + 1):
        adam.zero_grad()
        with torch.enable_grad():
            dispatch, objective = _unroll(
                (costs, nearest), load, low, high, asked * capacity, previous, ramp
            )
            (objective * hours).sum().backward()
        found, now = dispatch.detach(), objective.detach() * hours
        if best is None:
            best = Descent(found, now, now)
        else:
            better = now < best.objective
            found = torch.where(better[:, None, None], found, best.dispatch)
            best = Descent(found, torch.where(better, now, best.objective), best.start)
        adam.step()
        fade.step()
    assert best is not None  # noqa: S101 (the start counts as a step)
    return best


def _unroll(
    costs: tuple[CostTensors, CostTensors],
    load: Tensor,
    low: Tensor,
    high: Tensor,
    asked: Tensor,
    previous: Tensor,
    ramp: Tensor,
) -> tuple[Tensor, Tensor]:
    """Dispatch ``[B, T, U]`` and cost rate ``[B]`` summed over intervals."""
    production, nearest = costs
    path: list[Tensor] = []
    total = torch.zeros_like(load[:, 0])
    for t in range(load.shape[1]):
        most = torch.minimum(high[:, t], previous + ramp)
        # Where what is available falls faster than the ramp, the limit wins.
        least = torch.minimum(torch.maximum(low[:, t], previous - ramp), most)
        near = _around(nearest, asked[:, t])
        found = economic_dispatch(near, load[:, t], least, most)
        previous = found.dispatch
        path.append(previous)
        total = total + production.total(previous).sum(1) + 5000.0 * found.shed
        total = total + 500.0 * found.surplus
    return torch.stack(path, 1), total


def _around(nearest: CostTensors, asked: Tensor) -> CostTensors:
    return CostTensors(nearest.power, nearest.slope, nearest.base, nearest.bend, asked)
