"""Between two dispatches: frequency and its control, and set-points that come late or not at all.

Both are off by default and then cost nothing. The imbalance that frequency feels is a straight line
from what the last interval left to what this one brings, as units move from set-point to set-point,
with a step down where a unit trips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles
from .fleet import Fleet
from .grid import Units
from .response import Online
from .scenario import Regulation, Transmission
from .settle import given
from .swing import NARROW, Swing, SwingResult
from .telemetry import Telemetry

LEAST_INERTIA = 0.1
"""s of the load: what motors alone store, where no generating unit is on line."""


COLLAPSE = 3.0
"""Hz: machines disconnect beyond it, so that the model says nothing of what follows; deviations
are reported up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One interval as regulation meets it; ``[A]`` MW unless said otherwise.

    Attributes:
        point, low, high: set-points and their box.
        available: real upper limits of curtailable units.
        top: upper limits of units that were on at its beginning, 0 of others.
        tripped: units that failed, each with the share of the interval that it ran.
        moved: MW that regulation has to have moved at its end, positive upwards.
        demand: MW.
    """

    point: Doubles
    low: Doubles
    high: Doubles
    available: Doubles
    top: Doubles
    tripped: list[tuple[int, float]]
    moved: float
    demand: float


class Regulator:
    """Frequency of one system from interval to interval, and the figures of an episode.

    Args:
        settings: of the scenario.
        fleet: the agents.
        units: of the grid, for their inertia.
        interval: s.
    """

    def __init__(
        self, settings: Regulation, fleet: Fleet, units: Units, *, interval: float
    ) -> None:
        self._settings, self._fleet = settings, fleet
        self._ticks = max(round(interval / settings.tick), 1)
        self._hours = interval / 3600.0
        own = np.where(fleet.unit >= 0, units.inertia[np.maximum(fleet.unit, 0)], 0.0)
        bare = fleet.thermal & (own <= 0.0)
        self._inertia = np.where(bare, settings.inertia * fleet.high, own)
        self.begin()

    def begin(self) -> None:
        """A new episode, at nominal frequency."""
        self._swing = Swing(self._settings)
        self._left = 0.0
        self._deviation = self._outside = self._agc = self._shed = 0.0
        self._largest = self._recovery = 0.0
        self._recovering = False

    def interval(self, seen: Situation) -> float:
        """Mean MW that under-frequency load shedding kept from being served in an interval."""
        ticks, fleet = self._ticks, self._fleet
        power = given(seen.point, seen.high, fleet.curtailed, seen.available)
        after = -seen.moved
        lost = [(min(int(share * ticks), ticks - 1), agent) for agent, share in seen.tripped]
        missing = float(sum(power[agent] for _, agent in lost))
        path = self._left + (after + missing - self._left) * np.arange(1, ticks + 1) / ticks
        self._left = after
        runs = seen.top > 0.0
        begin, shed = 0, 0.0
        for tick, agent in (*sorted(lost), (ticks, -1)):
            if tick > begin:
                result = self._swing.step(path[begin:tick], self._online(seen, power, runs))
                shed += result.shed
                self._note(result)
                begin = tick
            if agent >= 0:
                path[tick:] -= power[agent]
                runs[agent] = False
                if power[agent] > self._largest:
                    self._largest, self._recovery = float(power[agent]), 0.0
                    self._recovering = True
        self._shed += shed
        return min(shed / self._hours, seen.demand)

    def metrics(self) -> dict[str, float]:
        """Figures of the episode so far."""
        return {
            "frequency_deviation_hz": self._deviation,
            "frequency_outside_s": self._outside,
            "frequency_recovery_s": self._recovery,
            "agc_mwh": self._agc,
            "frequency_shed_mwh": self._shed,
        }

    def _note(self, result: SwingResult) -> None:
        self._deviation = max(self._deviation, min(result.deviation, COLLAPSE))
        self._outside += result.outside
        self._agc += float(np.abs(result.agc).sum()) * self._settings.tick / 3600.0
        if self._recovering:
            self._recovery = max(self._recovery, result.recovery)
            self._recovering = abs(self._swing.deviation) > NARROW

    def _online(self, seen: Situation, power: Doubles, runs: Bools) -> Online:
        """Inertia, governors and ranges of what is connected."""
        fleet = self._fleet
        spins = runs & ((power > 0.0) | fleet.thermal)
        top = np.where(fleet.curtailed, seen.available, seen.high)
        bottom = np.where(fleet.curtailed, 0.0, seen.low)
        up, down = np.maximum(top - power, 0.0), np.maximum(power - bottom, 0.0)
        room_up = np.maximum(np.where(fleet.curtailed, top, seen.top) - power, 0.0)
        room_down = np.maximum(power - np.where(fleet.thermal, fleet.low, bottom), 0.0)
        load = max(seen.demand, 1.0)
        return Online(
            inertia=max(float(self._inertia @ spins), LEAST_INERTIA * load),
            load=load,
            capacity=float(fleet.high @ (runs & fleet.thermal)),
            regulation_up=float(up @ runs),
            regulation_down=float(down @ runs),
            room_up=float(np.maximum(up, room_up) @ runs),
            room_down=float(np.maximum(down, room_down) @ runs),
        )


class Line:
    """Set-points on their way to A units; see :class:`.telemetry.Telemetry`."""

    def __init__(
        self, settings: Transmission, size: int, *, interval: float, rng: np.random.Generator
    ) -> None:
        self._interval = interval
        self._telemetry = Telemetry(
            size,
            delay=settings.delay,
            loss=settings.loss,
            interval=interval,
            expiry=settings.expiry * interval,
            rng=rng,
        )
        self.lost = 0

    def send(
        self, point: Doubles, output: Doubles, low: Doubles, high: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Set-points that units follow at the end of the interval, and on its average, ``[A]``.

        Args:
            point: sent.
            output: where units are.
            low: lower ends of the box; nobody leaves it, whatever holds.
            high: upper ends.
        """
        got = self._telemetry.deliver(point, output)
        self.lost += int((~got.arrived).sum())
        late = got.late / self._interval
        holds = np.clip(got.value, low, high)
        return holds, late * np.clip(got.before, low, high) + (1.0 - late) * holds


def lossy(settings: Transmission) -> bool:
    """Whether set-points may come late or not at all."""
    return settings.delay > 0.0 or settings.loss > 0.0
