"""Excess moments of the job size laws, in closed form.

``E[(S - u)+^2]`` is what the stationary profile of a processor-sharing node needs: the remaining
sizes of the jobs there follow the equilibrium law, whose integrated tail is this moment.
"""

from __future__ import annotations

import math

import numpy as np

from ...simulators.cloud.sizes import SizeLaw
from ...simulators.interface import Doubles


def squared_excess(law: SizeLaw, threshold: Doubles) -> Doubles:
    """``E[(S - u)+^2]`` in squared work units for every ``u >= 0`` of ``threshold``."""
    u = np.asarray(threshold, dtype=np.float64)
    if law.law == "deterministic":
        return np.maximum(law.mean - u, 0.0) ** 2
    if law.law == "exponential":
        return _exponential(law.mean, u)
    if law.law == "pareto":
        return _pareto(law, law.mean, u)
    if law.law == "hyperexponential":
        share = 0.5 * (1.0 + math.sqrt((law.scv - 1.0) / (law.scv + 1.0)))
        first = _exponential(0.5 * law.mean / share, u)
        second = _exponential(0.5 * law.mean / (1.0 - share), u)
        return share * first + (1.0 - share) * second
    small = _exponential(law.small_mean, u)
    large = _pareto(law, law.mean * law.large_mean, u)
    return (1.0 - law.large_share) * small + law.large_share * large


def _exponential(mean: float, u: Doubles) -> Doubles:
    return 2.0 * mean * mean * np.exp(-u / mean)


def _pareto(law: SizeLaw, mean: float, u: Doubles) -> Doubles:
    """Bounded Pareto on [low, high] with density ``a low^a s^(-a-1) / mass``."""
    a, ratio = law.tail, law.ratio
    unit = _power_integral(1.0, ratio, 1.0 - a)
    low = mean / (a * unit / (1.0 - ratio**-a))
    high = low * ratio
    start = np.clip(u, low, high)
    scale = a * low**a / (1.0 - ratio**-a)

    def moment(order: int) -> Doubles:
        return scale * np.vectorize(_power_integral)(start, high, order - a)

    return moment(2) - 2.0 * u * moment(1) + u * u * moment(0)


def _power_integral(start: float, end: float, power: float) -> float:
    """Integral of ``s^(power - 1)`` from ``start`` to ``end``."""
    if abs(power) < 1e-12:
        return math.log(end / start)
    return (end**power - start**power) / power
