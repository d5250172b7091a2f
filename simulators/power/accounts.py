"""Costs of an interval and the figures of an episode; a fixed amount of work per interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .scenario import Prices


class Costs(NamedTuple):
    """Costs of one interval in $; together they are minus the unscaled reward."""

    fuel: float
    start: float
    curtailment: float
    shed: float
    surplus: float
    overload: float
    imbalance: float
    reserve: float
    storage: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return sum(self)


PARTS = Costs._fields


class Interval(NamedTuple):
    """Physical figures of one interval, MW unless said otherwise."""

    shed: float
    surplus: float
    curtailed: float
    available: float
    overload: float
    overloaded: int
    moved: float
    reserve_short: float
    projected: float
    ramped: float
    residual: float
    demand: float
    price: float
    missing: float
    tripped: int
    reserve_left: float


FIGURES = Interval._fields


class Ledger:
    """Running sums of an episode.

    Args:
        prices: of the scenario.
        hours: length of an interval.
    """

    def __init__(self, prices: Prices, hours: float) -> None:
        self._prices, self._hours = prices, hours
        self.reset()

    def reset(self) -> None:
        """A new episode."""
        self._costs = np.zeros(len(PARTS))
        self._sums = np.zeros(len(FIGURES))
        self._count = 0
        self._worst_residual = 0.0
        self._worst_overload = 0.0
        self._intervals_overloaded = self._intervals_shed = 0
        self._short_since: int | None = None
        self._recovery = 0

    def price(self, fuel: float, start: float, storage: float, seen: Interval) -> Costs:
        """Costs of an interval, entered in the sums. ``fuel``, ``start``, ``storage`` in $."""
        prices, hours = self._prices, self._hours
        costs = Costs(
            fuel=fuel,
            start=start,
            curtailment=seen.curtailed * prices.curtailment * hours,
            shed=seen.shed * prices.shed * hours,
            surplus=seen.surplus * prices.surplus * hours,
            overload=seen.overload * prices.overload * hours,
            imbalance=abs(seen.moved) * prices.imbalance * hours,
            reserve=seen.reserve_short * prices.reserve * hours,
            storage=storage,
        )
        self._costs += costs
        self._sums += seen
        self._count += 1
        self._worst_residual = max(self._worst_residual, abs(seen.residual))
        self._worst_overload = max(self._worst_overload, seen.overload)
        self._intervals_overloaded += seen.overloaded > 0
        self._intervals_shed += seen.shed > 1e-6
        self._watch_reserve(seen)
        return costs

    def _watch_reserve(self, seen: Interval) -> None:
        """How long after a trip the reserve is short of its requirement."""
        if seen.reserve_left >= 0.0:
            self._short_since = None
            return
        if seen.tripped and self._short_since is None:
            self._short_since = self._count - 1
        if self._short_since is not None:
            self._recovery = max(self._recovery, self._count - self._short_since)

    def metrics(self) -> dict[str, float]:
        """Figures so far, by Prescient's names where it has one."""
        sums = dict(zip(FIGURES, self._sums.tolist(), strict=True))
        costs = dict(zip(PARTS, self._costs.tolist(), strict=True))
        hours, count = self._hours, max(self._count, 1)
        return {
            "cost_usd": float(self._costs.sum()),
            **{f"cost_{part}_usd": costs[part] for part in PARTS},
            "demand_mwh": sums["demand"] * hours,
            "shed_mwh": sums["shed"] * hours,
            "shed_intervals": float(self._intervals_shed),
            "over_generation_mwh": sums["surplus"] * hours,
            "renewables_available_mwh": sums["available"] * hours,
            "curtailed_mwh": sums["curtailed"] * hours,
            "curtailed_share": sums["curtailed"] / max(sums["available"], 1e-9),
            "overload_mwh": sums["overload"] * hours,
            "overload_intervals": float(self._intervals_overloaded),
            "overload_worst_mw": self._worst_overload,
            "reserve_shortfall_mwh": sums["reserve_short"] * hours,
            "reserve_recovery_intervals": float(self._recovery),
            "regulation_mwh": sums["moved"] * hours,
            "ramp_mw": sums["ramped"],
            "projection_mw": sums["projected"] / count,
            "average_price": sums["price"] / count,
            "unmet_before_regulation_mwh": sums["missing"] * hours,
            "balance_residual_mw": self._worst_residual,
        }
