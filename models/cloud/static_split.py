"""The optimal static split of a fleet at forecast rates, cached by bucketed exogenous inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...simulators.cloud.fleet import Fleet
from ...simulators.interface import Doubles
from .delay import DelaySolution, DelaySolver
from .planning import PlanningSolver

BUCKET = 0.1
"""Forecast rates are rounded to this share of a class's mean rate before the model is solved."""
LARGEST_LOAD = 0.95
"""Forecasts above this planning load are scaled down to it; beyond capacity no split is stable."""


@dataclass(frozen=True, slots=True)
class Split:
    """Optimal static split of one bucket of forecasts.

    Attributes:
        rates: ``[C]`` jobs/s that the split is for (rounded, and scaled down near capacity).
        planning_rho: utilisation of the busiest type that the *unscaled* rates need.
        delay: the convex delay model's optimum.
    """

    rates: Doubles
    planning_rho: float
    delay: DelaySolution


class StaticSplit:
    """Solves the planning and delay models of a fleet per bucket of (rates, nodes up).

    Types without nodes up get no flow. Every bucket is solved from scratch, so a split depends on
    its bucket only and not on what was solved before it.
    """

    def __init__(self, fleet: Fleet, *, buckets: int = 4096):
        self._fleet = fleet
        self._mean = np.maximum(fleet.class_rates, np.finfo(np.float64).tiny)
        with np.errstate(divide="ignore"):
            service = 1.0 / fleet.mean_service.T
        self._planning = PlanningSolver(service)
        self._delay = DelaySolver(service)
        self._solve = lru_cache(maxsize=buckets)(self._solve_bucket)

    def key(self, class_rates: Doubles) -> tuple[int, ...]:
        """Bucket of forecast rates ``[C]``, jobs/s."""
        return tuple(np.rint(class_rates / (BUCKET * self._mean)).astype(np.int64).tolist())

    def solve(self, key: tuple[int, ...], up: Doubles) -> Split:
        """The split of a bucket with ``up`` ``[M]`` 1 for nodes in service.

        Raises:
            RuntimeError: HiGHS proved no optimum (status named).
        """
        counts = np.bincount(self._fleet.type_of, weights=up, minlength=len(self._fleet.types))
        return self._solve(key, tuple(counts.tolist()))

    def _solve_bucket(self, key: tuple[int, ...], counts: tuple[float, ...]) -> Split:
        count = np.array(counts)
        rates = np.array(key) * BUCKET * self._mean
        # A class that no node in service can serve waits; the split is for the others.
        able = np.isfinite(self._fleet.mean_service[count > 0.0]).any(axis=0)
        rates = np.where(able, rates, 0.0)
        rho = self._planning.solve(rates, count, hot=False).rho if rates.any() else 0.0
        rates *= min(1.0, LARGEST_LOAD / max(rho, LARGEST_LOAD))
        return Split(rates, rho, self._delay.solve(rates, count, hot=False))
