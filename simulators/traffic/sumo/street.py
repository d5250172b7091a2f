"""A running SUMO seen from the child process: signals, seconds, and detector readings.

``api`` is the module ``libsumo`` or a TraCI connection; both offer the same calls. What differs is
how vehicles are read: function calls are cheap inside the process, round trips are not, so through
TraCI one context subscription fetches every vehicle at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ...interface import Doubles, Ints
from ..readings import NEAR, RANGE, STANDING, Readings

FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Readings))
COUNTERS: tuple[str, ...] = ("departed", "arrived", "teleports", "collisions")
LETTERS = frozenset("GgyrsuoO")

# Constants of the TraCI protocol; libsumo and traci use the same numbers.
_DEPARTED, _ARRIVED, _TELEPORTS, _COLLIDING = 0x73, 0x79, 0x75, 0x80
_COUNTED = (_DEPARTED, _ARRIVED, _TELEPORTS, _COLLIDING)
_VEHICLES, _LANE, _POSITION, _SPEED, _WAIT = 0xA4, 0x51, 0x56, 0x40, 0x7A
_EVERYWHERE = 1e7
"""m around a junction that no street reaches beyond."""


class RefusedError(ValueError):
    """A request that cannot be met; the simulation is unharmed."""


class Street:
    """One running simulation.

    Args:
        api: the module ``libsumo`` or a TraCI connection.
        local: whether ``api`` is a library of this process.
        mesoscopic: SUMO's queue model, whose vehicles are on no lane.
    """

    def __init__(self, api: Any, *, local: bool, mesoscopic: bool) -> None:
        self._api = api
        self._local = local
        self._mesoscopic = mesoscopic
        self._letters = {
            name: len(api.trafficlight.getRedYellowGreenState(name))
            for name in api.trafficlight.getIDList()
        }
        self._centre = next(iter(api.junction.getIDList()), "")
        self._lanes: dict[str, int] = {}
        self._length = self._limit = np.zeros(0)
        api.simulation.subscribe(_COUNTED)

    @property
    def time(self) -> float:
        """Seconds of SUMO's clock."""
        return float(self._api.simulation.getTime())

    @property
    def signals(self) -> dict[str, int]:
        """Number of letters in the states of each signal."""
        return self._letters

    def watch(self, names: Sequence[str]) -> None:
        """Read these lanes from now on, in this order.

        Raises:
            RefusedError: an unknown or repeated lane, or lanes of a mesoscopic run.
        """
        if self._mesoscopic and names:
            raise RefusedError("a mesoscopic SUMO puts no vehicle on a lane; run it without lanes")
        known = set(self._api.lane.getIDList())
        for name in names:
            if name not in known:
                raise RefusedError(f"lane {name!r} is not in the network that SUMO has loaded")
        index = {name: at for at, name in enumerate(names)}
        if len(index) != len(names):
            repeated = next(name for at, name in enumerate(names) if index[name] != at)
            raise RefusedError(f"lane {repeated!r} is named twice")
        self._lanes = index
        self._length = np.array([self._api.lane.getLength(name) for name in names], dtype=float)
        self._limit = np.array([self._api.lane.getMaxSpeed(name) for name in names], dtype=float)

    def check(self, signal: str, state: str) -> None:
        """Raise ``RefusedError`` unless ``state`` can be shown by ``signal``."""
        letters = self._letters.get(signal)
        if letters is None:
            known = ", ".join(sorted(self._letters))
            raise RefusedError(f"no signal {signal!r}; known: {known}")
        if len(state) != letters or not LETTERS.issuperset(state):
            raise RefusedError(
                f"signal {signal!r}: state {state!r}, expected {letters} letters of "
                f"{''.join(sorted(LETTERS))}"
            )

    def show(self, signal: str, state: str) -> None:
        """Let ``signal`` show ``state`` until told otherwise; its programme is off from now on."""
        self._api.trafficlight.setRedYellowGreenState(signal, state)

    def run(self, seconds: int, schedule: Iterable[tuple[int, str, str]]) -> dict[str, int]:
        """Simulate; each ``(offset, signal, state)`` is shown before second ``offset``.

        Returns:
            Sums of :data:`COUNTERS`, and ``running`` and ``pending`` at the end.

        Raises:
            RefusedError: an unknown signal or unfit state; then no second has passed.
        """
        due: dict[int, list[tuple[str, str]]] = {}
        for offset, signal, state in schedule:
            self.check(signal, state)
            due.setdefault(offset, []).append((signal, state))
        totals = np.zeros(len(_COUNTED), dtype=np.int64)
        for second in range(seconds):
            for signal, state in due.get(second, ()):
                self.show(signal, state)
            self._api.simulationStep()
            counted = self._api.simulation.getSubscriptionResults()
            totals += [counted[key] for key in _COUNTED]
        counts: dict[str, int] = dict(zip(COUNTERS, totals.tolist(), strict=True))
        counts["running"] = int(self._api.vehicle.getIDCount())
        counts["pending"] = len(self._api.simulation.getPendingVehicles())
        return counts

    def read(self, horizon: float) -> Doubles:
        """``[7, P]`` values of :data:`FIELDS`; ``soon`` looks ``horizon`` s ahead."""
        if not self._lanes:
            return np.zeros((len(FIELDS), 0))
        found = list(self._local_vehicles() if self._local else self._remote_vehicles())
        lane = np.array([row[0] for row in found], dtype=np.int64)
        rest = np.array([row[1:] for row in found], dtype=np.float64).reshape(-1, 3)
        position, speed, wait = rest.T
        ahead = self._length[lane] - position
        return summarise(lane, ahead, speed, wait, horizon * self._limit)

    def _local_vehicles(self) -> Iterable[tuple[int, float, float, float]]:
        vehicle = self._api.vehicle
        for name, at in self._lanes.items():
            for one in self._api.lane.getLastStepVehicleIDs(name):
                speed = vehicle.getSpeed(one)
                wait = vehicle.getWaitingTime(one) if speed < STANDING else 0.0
                yield at, vehicle.getLanePosition(one), speed, wait

    def _remote_vehicles(self) -> Iterable[tuple[int, float, float, float]]:
        # A subscription answers at once; ended right away, it does not burden every later second.
        junction = self._api.junction
        variables = (_LANE, _POSITION, _SPEED, _WAIT)
        junction.subscribeContext(self._centre, _VEHICLES, _EVERYWHERE, variables)
        vehicles = junction.getContextSubscriptionResults(self._centre)
        junction.unsubscribeContext(self._centre, _VEHICLES, _EVERYWHERE)
        for values in vehicles.values():
            at = self._lanes.get(values[_LANE])
            if at is not None:
                yield at, values[_POSITION], values[_SPEED], values[_WAIT]


def summarise(lane: Ints, ahead: Doubles, speed: Doubles, wait: Doubles, reach: Doubles) -> Doubles:
    """Readings lane by lane from single vehicles.

    Args:
        lane: ``[V]`` index of the lane.
        ahead: ``[V]`` m to the stop line.
        speed: ``[V]`` m/s.
        wait: ``[V]`` s that the vehicle has stood.
        reach: ``[P]`` m that are driven at the speed limit within the decision interval.

    Returns:
        ``[7, P]`` in the order of :data:`FIELDS`; detectors see no further than ``RANGE``.
    """
    seen = ahead <= RANGE
    stands = seen & (speed < STANDING)
    columns: dict[str, Doubles | None] = {
        "queue": stands.astype(np.float64),
        "near": (ahead <= NEAR).astype(np.float64),
        "seen": seen.astype(np.float64),
        "soon": (seen & ~stands & (ahead <= reach[lane])).astype(np.float64),
        "count": None,
        "wait": np.where(stands, wait, 0.0),
    }
    values = np.zeros((len(FIELDS), reach.size))
    for name, weights in columns.items():
        values[FIELDS.index(name)] = np.bincount(lane, weights=weights, minlength=reach.size)
    np.maximum.at(values[FIELDS.index("longest")], lane[stands], wait[stands])
    return values
