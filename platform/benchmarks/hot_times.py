"""Times of repeated solves on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np


def hot_seconds(work: Sequence[Callable[[], object]], passes: int) -> float:
    """Median seconds of one piece of work within a pass; the fastest of ``passes`` passes.

    The median leaves out what interrupts a single solve, the fastest pass what slows a whole one.
    The first pass is preceded by one of warming up.
    """
    for one in work:
        one()
    return min(_median(work) for _ in range(passes))


def _median(work: Sequence[Callable[[], object]]) -> float:
    seconds = np.empty(len(work))
    for index, one in enumerate(work):
        start = time.perf_counter()
        one()
        seconds[index] = time.perf_counter() - start
    return float(np.median(seconds))
