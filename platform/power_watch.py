"""The power domain's own figures: what metrics tell of set-points, what a plant reports of them.

Read off the decentralised observation, as everything in the controller; of decisions about all
agents only, because balance and sums by technology are of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ops.contract import REPORTED
from ..simulators.interface import Doubles, Spec
from ..simulators.power.view import PRICE
from .decision.types import Decision, Request, Source
from .decision.watch import Figure
from .power_costs import Reader

MW = 1e6
"""Watts."""

MWH = 3.6e9
"""Joules."""

_REPORTS: Mapping[str, tuple[str, float]] = {
    "shed_mwh": ("unserved_joules", MWH),
    "overload_mwh": ("overload_joules", MWH),
    "reserve_shortfall_mwh": ("reserve_shortfall_joules", MWH),
    "frequency_outside_s": ("off_frequency_seconds", 1.0),
}
"""Figure of an episode of the simulator to the field of a report and its unit there."""


class PowerWatch:
    """Implements ``Watch``.

    Args:
        spec: of the bundle.

    Raises:
        KeyError: the spec lacks a column that is needed.
    """

    def __init__(self, spec: Spec) -> None:
        self._reader = Reader(spec)
        self._price, self._top = spec.agent_column("price"), spec.agent_column("cost_at_top")
        self._groups, self._group_of = spec.groups, spec.group_of

    def figures(self, request: Request, decision: Decision) -> Sequence[Figure]:
        """Demand, set-points, residual, projection, room in the boxes, prices."""
        seen = request.observation
        if len(seen.agent) != self._group_of.size or not np.isfinite(seen.agent).all():
            return ()
        low, high = seen.low[:, 0].astype(np.float64), seen.high[:, 0].astype(np.float64)
        power = decision.actions[:, 0].astype(np.float64)
        demand = self._reader.target(seen).demand
        price = float(np.median(seen.agent[:, self._price])) * PRICE
        ceiling = float(seen.agent[:, self._top].max()) * PRICE
        found = {
            "power_demand_watts": demand * MW,
            "power_balance_residual_watts": (float(power.sum()) - demand) * MW,
            "power_price_dollars_per_megawatthour": price,
            "power_price_ceiling_dollars_per_megawatthour": ceiling,
        }
        return (
            *(Figure(name, value) for name, value in found.items()),
            *self._by_group("power_set_point_watts", power),
            *self._by_group("power_projection_watts", _moved(decision, power)),
            *_room(power, low, high),
        )

    def _by_group(self, metric: str, power: Doubles) -> list[Figure]:
        sums = np.bincount(self._group_of, weights=power, minlength=len(self._groups)) * MW
        named = zip(self._groups, sums.tolist(), strict=True)
        return [Figure(metric, total, {"group": group}) for group, total in named]


def _moved(decision: Decision, power: Doubles) -> Doubles:
    """``[A]`` MW between what the policy asked for and what became of it; 0 where it did not."""
    if decision.wanted is None:
        return np.zeros_like(power)
    wanted = decision.wanted[:, 0].astype(np.float64)
    return np.where(decision.source == Source.PROJECTED, np.abs(power - wanted), 0.0)


def _room(power: Doubles, low: Doubles, high: Doubles) -> list[Figure]:
    able = high > low
    count = max(int(able.sum()), 1)
    found: list[Figure] = []
    for direction, room in (("up", high - power), ("down", power - low)):
        labels = {"direction": direction}
        stuck = float((room[able] <= 1e-4 * (high - low)[able]).sum()) / count
        found += [
            Figure("power_headroom_watts", float(room.sum()) * MW, labels),
            Figure("power_at_limit_ratio", stuck, labels),
        ]
    return found


def measured(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What a bridge reports of an interval (``Client.report``), from the simulator's figures.

    Args:
        before: ``PowerSimulator.metrics()``.
        after: the same one interval later; figures that the scenario does not have are left out.

    Returns:
        Fields of the report to values in base units.
    """
    grown = {name: after[name] - before.get(name, 0.0) for name in _REPORTS if name in after}
    told = {_REPORTS[name][0]: grown[name] * _REPORTS[name][1] for name in grown}
    # Differences of running sums can fall a rounding error below zero.
    return {field: max(value, 0.0) for field, value in told.items() if field in REPORTED["power"]}
