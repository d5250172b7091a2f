"""Guidance of signals: how every phase moves the queues, and where the queues should be.

The state is the vehicles that would be left on every lane at the end of the interval if all signals
kept their phase; a phase's influence is what it lets go (and lands on the next stop lines' lanes)
beyond what keeping would. At the state as it stands and to first order, with the reference at
nothing, a phase is worth ``sum s_m (x_m - sum_n r_mn x_n)`` more per second of green: the
max-pressure weight (Varaiya 2013), which tests hold exactly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...simulators.interface import Doubles, Observation
from ...simulators.traffic.town import Town
from ..interface import Influence, Reference
from .reference_plan import ReferencePlan

SENT_ON = 0.1
"""Weight at the next stop line of who is sent on, with the reference ``queues``."""
REFERENCES = ("queues", "pressure", "storage", "plan")


class SignalModel:
    """Implements ``AnalyticalModel`` for all traffic scenarios.

    Args:
        town: streets and demand.
        reference: ``queues`` (lanes should be empty; who is sent on counts a tenth at the next stop
            line, because most come there after the interval), ``pressure`` (who is sent on counts
            in full), ``storage`` (the same in shares of what links hold, so that short ones fill
            last), ``plan`` (as ``queues``, but lanes should hold what the store-and-forward optimum
            for the forecast demand keeps there).

    Raises:
        ValueError: no such reference; names the known ones.
    """

    def __init__(self, town: Town, reference: str = "queues") -> None:
        if reference not in REFERENCES:
            raise ValueError(f"no reference {reference!r}; known: {', '.join(REFERENCES)}")
        network = town.network
        self.state_size = network.lane_link.size
        lanes, onward = town.effects.lane, town.effects.onward
        both = np.concatenate([lanes, onward], axis=1)
        self._merge, self._index = _merged(both)
        controlled = np.zeros(self.state_size, dtype=np.bool_)
        controlled[lanes[lanes >= 0]] = True
        weight = controlled.astype(np.float64)
        if reference == "storage":
            held = town.storage[network.lane_link] / network.lanes[network.lane_link]
            weight *= float(np.median(held[controlled])) / held
        self._answer = Reference(
            x_ref=np.zeros(self.state_size),
            weight=weight,
            prices=np.zeros(0),
            objective=0.0,
            lower_bound=0.0,
            status="optimal",
        )
        self._onward = SENT_ON if reference in {"queues", "plan"} else 1.0
        self._plan = ReferencePlan(town) if reference == "plan" else None

    def reference(self, exogenous: Doubles) -> Reference:
        """Where the queues should be; ``exogenous`` is the time, s.

        Raises:
            RuntimeError: HiGHS proved no optimum of the plan (status named).
        """
        if self._plan is None:
            return self._answer
        return replace(self._answer, x_ref=self._plan.at(float(exogenous[0])))

    def influence(self, observation: Observation) -> Influence:
        """What each phase moves beyond what keeping the green would."""
        private = observation.private
        order = np.asarray(private["order"], dtype=np.int64)
        lanes = np.asarray(private["lanes"], dtype=np.float64)
        onward = np.asarray(private["onward"], dtype=np.float64)
        moved = np.concatenate([-lanes, self._onward * onward], axis=2)
        rows = np.arange(len(order))[:, None]
        by_candidate = moved[rows, np.maximum(order, 0)]
        value = by_candidate - by_candidate[:, :1]
        value[order < 0] = 0.0
        merged = value @ self._merge
        index = np.broadcast_to(self._index[:, None, :], merged.shape).copy()
        return Influence(index=index, value=merged)


def _merged(index: np.ndarray) -> tuple[Doubles, np.ndarray]:
    """``[A, M, U]`` sums of columns with the same coordinate, and the coordinates ``[A, U]``.

    A lane may be an own one and one led to.
    """
    rows = [sorted({value for value in row.tolist() if value >= 0}) for row in index]
    width = max((len(row) for row in rows), default=1) or 1
    merge = np.zeros((*index.shape, width))
    out = np.full((len(index), width), -1, dtype=np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
        for column, value in enumerate(index[at].tolist()):
            if value >= 0:
                merge[at, column, row.index(value)] = 1.0
    return merge, out
