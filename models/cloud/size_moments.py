"""Excess moments of the job size laws, in closed form.

``E[(S - u)+^p]`` is what the stationary profile of a processor-sharing node needs (p = 2: the
remaining sizes of the jobs there follow the equilibrium law, whose integrated tail it is) and what
splits a law into size classes (p = 0 and 1).
"""

from __future__ import annotations

import math

import numpy as np

from ...simulators.cloud.sizes import SizeLaw
from ...simulators.interface import Doubles


def excess_moment(law: SizeLaw, threshold: Doubles, order: int) -> Doubles:
    """``E[(S - u)+^order]`` for every ``u >= 0`` of ``threshold``; order 0 is ``P(S > u)``.

    Raises:
        ValueError: order other than 0, 1, 2.
    """
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order}")
    u = np.asarray(threshold, dtype=np.float64)
    if law.law == "deterministic":
        return np.where(law.mean > u, np.maximum(law.mean - u, 0.0) ** order, 0.0)
    if law.law == "exponential":
        return _exponential(law.mean, u, order)
    if law.law == "pareto":
        return _pareto(law, law.mean, u, order)
    if law.law == "hyperexponential":
        share = 0.5 * (1.0 + math.sqrt((law.scv - 1.0) / (law.scv + 1.0)))
        first = _exponential(0.5 * law.mean / share, u, order)
        second = _exponential(0.5 * law.mean / (1.0 - share), u, order)
        return share * first + (1.0 - share) * second
    small = _exponential(law.small_mean, u, order)
    large = _pareto(law, law.mean * law.large_mean, u, order)
    return (1.0 - law.large_share) * small + law.large_share * large


def _exponential(mean: float, u: Doubles, order: int) -> Doubles:
    return math.factorial(order) * mean**order * np.exp(-u / mean)


def _pareto(law: SizeLaw, mean: float, u: Doubles, order: int) -> Doubles:
    """Bounded Pareto on [low, high] with density ``a low^a s^(-a-1) / mass``."""
    a, ratio = law.tail, law.ratio
    mass = 1.0 - ratio**-a
    low = mean * mass / (a * _power_integral(1.0, ratio, 1.0 - a))
    high = low * ratio
    start = np.clip(u, low, high)
    scale = a * low**a / mass

    def moment(power: int) -> Doubles:
        return scale * np.vectorize(_power_integral)(start, high, power - a)

    if order == 0:
        return moment(0)
    if order == 1:
        return moment(1) - u * moment(0)
    return moment(2) - 2.0 * u * moment(1) + u * u * moment(0)


def _power_integral(start: float, end: float, power: float) -> float:
    """Integral of ``s^(power - 1)`` from ``start`` to ``end``."""
    if abs(power) < 1e-12:
        return math.log(end / start)
    return (end**power - start**power) / power
