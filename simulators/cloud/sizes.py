"""Laws of job sizes, with exact moments and fast batch sampling."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ..interface import Doubles
from ..settings import Settings, knob

Law = Literal["exponential", "deterministic", "pareto", "hyperexponential", "bimodal"]


class SizeLaw(Settings):
    """Distribution of a job's size in units of work (1 unit takes 1 s at speed 1).

    - ``exponential``, ``deterministic``: by ``mean`` alone.
    - ``pareto``: Pareto with exponent ``tail`` on ``[low, ratio * low]``; ``low`` follows from
      ``mean``.
    - ``hyperexponential``: two exponentials with balanced means, squared coefficient of variation
      ``scv`` (at least 1).
    - ``bimodal``: exponential small jobs, and with probability ``large_share`` bounded Pareto
      large ones whose mean is ``large_mean`` times the overall ``mean``.
    """

    law: Law = knob("bimodal", "shape of the job size distribution", usual="bimodal")
    mean: float = knob(1.0, "mean job size", unit="work", usual="1", gt=0)
    scv: float = knob(
        10.0, "squared coefficient of variation of the hyper-exponential law", usual="1..50", ge=1
    )
    tail: float = knob(1.5, "exponent of the bounded Pareto tail", usual="1.1..2.5", gt=0)
    ratio: float = knob(30.0, "largest over smallest size of the bounded Pareto", gt=1)
    large_share: float = knob(0.1, "share of large jobs (bimodal)", usual="0.01..0.3", gt=0, lt=1)
    large_mean: float = knob(
        5.5, "mean of large jobs relative to the overall mean (bimodal)", usual="2..9", gt=0
    )

    def model_post_init(self, _context: object) -> None:
        if self.law == "bimodal" and self.large_share * self.large_mean >= 1.0:
            raise ValueError(
                f"large_share * large_mean must stay below 1 (small jobs need the rest of the "
                f"mean), got {self.large_share} * {self.large_mean}"
            )

    @property
    def small_mean(self) -> float:
        """Mean of the small jobs of the bimodal law."""
        return self.mean * (1.0 - self.large_share * self.large_mean) / (1.0 - self.large_share)

    def second_moment(self) -> float:
        """E[S^2]."""
        m = self.mean
        if self.law == "deterministic":
            return m * m
        if self.law == "exponential":
            return 2.0 * m * m
        if self.law == "hyperexponential":
            return (self.scv + 1.0) * m * m
        if self.law == "pareto":
            return _pareto_second_moment(m, self.tail, self.ratio)
        large = _pareto_second_moment(m * self.large_mean, self.tail, self.ratio)
        return (1.0 - self.large_share) * 2.0 * self.small_mean**2 + self.large_share * large

    def squared_variation(self) -> float:
        """Squared coefficient of variation, Var[S] / E[S]^2."""
        return self.second_moment() / self.mean**2 - 1.0

    def largest(self) -> float:
        """Upper end of the support (``inf`` for exponential parts)."""
        if self.law == "deterministic":
            return self.mean
        if self.law == "pareto":
            return _pareto_low(self.mean, self.tail, self.ratio) * self.ratio
        return math.inf

    def sample(self, rng: np.random.Generator, count: int) -> Doubles:
        """``count`` independent sizes ``[count]``."""
        m = self.mean
        if self.law == "deterministic":
            return np.full(count, m)
        if self.law == "exponential":
            return rng.exponential(m, count)
        if self.law == "pareto":
            return _pareto(rng.random(count), m, self.tail, self.ratio)
        pick, draw = rng.random(count), rng.random(count)
        exponential = -np.log1p(-draw)
        if self.law == "hyperexponential":
            # Balanced means: p_1 m_1 = p_2 m_2 = m / 2.
            p = 0.5 * (1.0 + math.sqrt((self.scv - 1.0) / (self.scv + 1.0)))
            return exponential * np.where(pick < p, 0.5 * m / p, 0.5 * m / (1.0 - p))
        large = _pareto(draw, m * self.large_mean, self.tail, self.ratio)
        return np.where(pick < self.large_share, large, exponential * self.small_mean)


def _pareto_low(mean: float, tail: float, ratio: float) -> float:
    if math.isclose(tail, 1.0):
        return mean * (1.0 - 1.0 / ratio) / math.log(ratio)
    factor = tail / (tail - 1.0) * (1.0 - ratio ** (1.0 - tail)) / (1.0 - ratio**-tail)
    return mean / factor


def _pareto(draw: Doubles, mean: float, tail: float, ratio: float) -> Doubles:
    """Inverse of the bounded Pareto's distribution function."""
    low = _pareto_low(mean, tail, ratio)
    return low * (1.0 - draw * (1.0 - ratio**-tail)) ** (-1.0 / tail)


def _pareto_second_moment(mean: float, tail: float, ratio: float) -> float:
    low = _pareto_low(mean, tail, ratio)
    mass = 1.0 - ratio**-tail
    if math.isclose(tail, 2.0):
        return low * low * 2.0 * math.log(ratio) / mass
    return low * low * tail / (2.0 - tail) * (ratio ** (2.0 - tail) - 1.0) / mass
