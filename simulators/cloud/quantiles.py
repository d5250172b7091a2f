"""Quantiles of unbounded streams in fixed memory."""

from __future__ import annotations

import math

import numpy as np

from ..interface import Doubles


class LogHistogram:
    """Counts in logarithmic bins; any quantile to a relative error of ``error``.

    Bins cover ``low .. high``; smaller values count as ``low``, larger ones as ``high``.
    """

    __slots__ = ("_counts", "_log_low", "_step", "total")

    def __init__(self, *, low: float = 1e-6, high: float = 1e9, error: float = 0.01):
        self._log_low = math.log(low)
        self._step = math.log((1.0 + error) / (1.0 - error))
        bins = math.ceil((math.log(high) - self._log_low) / self._step) + 1
        self._counts = np.zeros(bins, dtype=np.int64)
        self.total = 0

    def add(self, values: Doubles) -> None:
        """Count ``values`` ``[n]``."""
        positions = (np.log(np.maximum(values, 1e-300)) - self._log_low) / self._step
        bins = np.clip(positions, 0, self._counts.shape[0] - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=self._counts.shape[0])
        self.total += int(values.shape[0])

    def quantile(self, level: float) -> float:
        """The ``level`` quantile (inverse of the empirical distribution); NaN if empty."""
        if self.total == 0:
            return math.nan
        rank = max(math.ceil(level * self.total), 1)
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        return math.exp(self._log_low + (index + 0.5) * self._step)
