"""Confidence intervals over independent runs, as rows that can fail.

A statistical row passes if the interval over the seeds contains the exact value; a second row
demands that the interval is narrow, for a wide one contains everything. Seeds are 0, 1, ... and
never chosen by their result, so each row fails a correct product with probability 1 - level;
levels are fixed before the first run: 99 % for the three Pollaczek-Khinchine rows, 99.9 % for all
others, so that the whole set has about one chance in twenty of a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..rows import Row

SEEDS = 20
"""Independent runs of a statistical check; the seeds are 0 .. SEEDS - 1."""
QUICK_SEEDS = 5
NARROW = 0.03
"""Largest accepted half-width, relative to the exact value."""
QUICK_NARROW = 0.25

_STUDENT = {
    (0.99, 20): 2.860935,
    (0.999, 20): 3.883406,
    (0.99, 5): 4.604095,
    (0.999, 5): 8.610302,
}
"""Two-sided quantiles of Student's t, by level and number of runs."""


def half_width(values: Sequence[float], level: float) -> float:
    """Half-width of the t-interval of the mean of independent ``values``."""
    quantile = _STUDENT.get((level, len(values)))
    if quantile is None:
        known = ", ".join(f"{lv} with {n} runs" for lv, n in _STUDENT)
        raise ValueError(f"no quantile for level {level} with {len(values)} runs; known: {known}")
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True, slots=True)
class Oracle:
    """A figure known exactly: what it is, its value, and the level of the interval around it."""

    name: str
    expected: float
    unit: str
    level: float = 0.999


def interval_rows(oracle: Oracle, values: Sequence[float], *, narrow: float) -> list[Row]:
    """The mean of ``values`` against the oracle within its own interval, and that one's width."""
    name, expected = oracle.name, oracle.expected
    width = half_width(values, oracle.level)
    return [
        Row.near(name, float(np.mean(values)), oracle.unit, expected, width),
        Row.at_most(f"{name}: relative half-width", width / abs(expected), "1", narrow),
    ]
