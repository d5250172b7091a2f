"""Cost curves: from the polynomials and point lists of data files to one padded table.

Piecewise-linear cost is what every solver of this domain sees, so the error of the chords is the
only one a quadratic cost brings in. A chord lies above its parabola by at most
``c2 * (width / 2) ** 2``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..interface import Doubles
from .grid import Curves


def chords(quadratic: Doubles, low: Doubles, high: Doubles, segments: int) -> Curves:
    """Chords of ``c2 p^2 + c1 p + c0`` between exact points of equal distance.

    Straight costs (``c2 = 0``) take one segment, so a case without quadratic terms stays small.

    Args:
        quadratic: ``[U, 3]`` c2, c1, c0 in $/MW^2 h, $/MWh, $/h.
        low: ``[U]`` minimum output, MW.
        high: ``[U]`` maximum output, MW.
        segments: of a curved cost, at least 1.

    Returns:
        ``[U, K + 1]`` points; K is 1 if every cost is straight, ``segments`` otherwise.

    Raises:
        ValueError: fewer than one segment.
    """
    if segments < 1:
        raise ValueError(f"segments = {segments}: at least one is needed")
    curved = quadratic[:, 0] != 0.0
    count = segments if curved.any() else 1
    share = np.where(curved[:, None], np.arange(count + 1) / count, np.arange(count + 1) > 0)
    power = np.where(share == 1.0, high[:, None], low[:, None] + (high - low)[:, None] * share)
    cost = (quadratic[:, :1] * power + quadratic[:, 1:2]) * power + quadratic[:, 2:]
    return Curves(power=power, cost=cost)


def stack(points: Sequence[tuple[Doubles, Doubles]]) -> Curves:
    """One table from curves of different length; shorter ones repeat their last point.

    Args:
        points: power in MW and cost in $/h of every unit, at least one point each.
    """
    widest = max((len(power) for power, _ in points), default=1)
    power = np.empty((len(points), max(widest, 2)))
    cost = np.empty_like(power)
    for row, (at, price) in enumerate(points):
        power[row, : len(at)], power[row, len(at) :] = at, at[-1]
        cost[row, : len(at)], cost[row, len(at) :] = price, price[-1]
    return Curves(power=power, cost=cost)


def cut(power: Doubles, cost: Doubles, low: float, high: float) -> tuple[Doubles, Doubles]:
    """The part of a piecewise curve within ``low .. high``; its end segments reach further.

    Data files may list points that do not span the limits of a unit; MATPOWER's rule is that the
    first and last segment go on.
    """
    inner = (power > low) & (power < high)
    at = np.concatenate([[low], power[inner], [high]])
    price = np.interp(at, power, cost)
    if len(power) > 1:
        first = (cost[1] - cost[0]) / (power[1] - power[0])
        last = (cost[-1] - cost[-2]) / (power[-1] - power[-2])
        price += np.minimum(at - power[0], 0.0) * first + np.maximum(at - power[-1], 0.0) * last
    return at, price
