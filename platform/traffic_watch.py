"""The traffic domain's own figures: what metrics tell of phases, what a street reports of them.

Read off the decentralised observation, as everything in the controller; of decisions about all
signals only, because sums and shares are of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Bools, Floats, Spec
from .decision.types import Decision, Request
from .decision.watch import Figure
from .traffic_costs import FULL, SLACK

_SUMS = {
    "traffic_queue_vehicles": "queue",
    "traffic_arriving_vehicles": "soon",
    "traffic_waiting_seconds": "wait",
}
"""Metric to the agent feature that it sums by group."""


class TrafficWatch:
    """Implements ``Watch``.

    A signal that has no choice is either too young or ends a red that is too long; the minimum
    green is not observed. But the youngest green that was ever free to change bounds it from
    above, after few decisions closely.

    Args:
        spec: of the bundle.

    Raises:
        KeyError: the spec lacks a column that is needed.
    """

    def __init__(self, spec: Spec) -> None:
        self._sums = {metric: spec.agent_column(name) for metric, name in _SUMS.items()}
        self._queue, self._age = spec.agent_column("queue"), spec.agent_column("time_in_phase")
        self._into = spec.agent_column("downstream")
        self._red, self._pressure = spec.candidate_column("red"), spec.candidate_column("pressure")
        self._groups, self._group_of = spec.groups, spec.group_of
        self._youngest = np.inf

    def figures(self, request: Request, decision: Decision) -> Sequence[Figure]:
        """Queues, arrivals, waiting, reds, pressure, full links, switches, who has no choice."""
        seen = request.observation
        agent = seen.agent
        whole = len(agent) == self._group_of.size
        if not whole or not (np.isfinite(agent).all() and np.isfinite(seen.candidates).all()):
            return ()
        rows, chosen = np.arange(len(agent)), decision.actions
        found = {
            "traffic_longest_queue_vehicles": float(agent[:, self._queue].max()),
            "traffic_longest_red_seconds": float(seen.candidates[:, :, self._red].max()),
            "traffic_spill_ratio": float((agent[:, self._into] >= FULL).mean()),
            "traffic_switch_ratio": float((chosen != HOLD).mean()),
        }
        figures = [Figure(name, value) for name, value in found.items()]
        for metric, column in self._sums.items():
            figures += self._by_group(metric, agent[:, column])
        pressure = seen.candidates[rows, chosen, self._pressure]
        figures += self._by_group("traffic_pressure_vehicles", pressure)
        return (*figures, *self._held(seen.active, agent[:, self._age]))

    def _held(self, active: Bools, age: Floats) -> list[Figure]:
        self._youngest = min(self._youngest, float(age[active].min(initial=np.inf)))
        forced = ~active & (age >= self._youngest - SLACK)
        shares = {"max_red": forced, "min_green": ~active & ~forced}
        return [
            Figure("traffic_held_ratio", float(which.mean()), {"reason": reason})
            for reason, which in shares.items()
        ]

    def _by_group(self, metric: str, values: NDArray[np.floating]) -> list[Figure]:
        sums = np.bincount(self._group_of, weights=values, minlength=len(self._groups))
        named = zip(self._groups, sums.tolist(), strict=True)
        return [Figure(metric, total, {"group": group}) for group, total in named]


def measured(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What a bridge reports of an interval (``Client.report``), from the simulator's figures.

    Args:
        before: ``TrafficSimulator.metrics()``.
        after: the same one interval later.

    Returns:
        Fields of the report to values in base units.
    """

    def total(figures: Mapping[str, float]) -> float:
        return figures["delay_mean_s"] * (figures["finished_trips"] + figures["running_trips"])

    return {
        # Figures of trips on the way are estimates and may fall a little.
        "delay_seconds": max(total(after) - total(before), 0.0),
        "trips": after["finished_trips"] - before["finished_trips"],
        "phase_changes": after["switches"] - before["switches"],
    }
