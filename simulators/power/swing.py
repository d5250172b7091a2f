"""Frequency between two dispatches: governors, automatic generation control, load shedding.

State through time of the model in ``response.py``. A step is a few float operations and an interval
a few hundred of them, so plain floats beat arrays below some dozen islands; :func:`simulate` loops
over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from ..interface import Bools, Doubles
from .response import HALVINGS, Online, Response, SwingSettings

NARROW = 0.05
"""Hz around nominal that count as undisturbed."""


@dataclass(frozen=True, slots=True)
class SwingResult:
    """One interval of N ticks; arrays ``[N]`` hold the values at the ends of the ticks.

    Attributes:
        frequency: Hz.
        mechanical: power beyond the set points, by governors and control, MW.
        agc: order of the generation control in force during the tick, MW.
        shed: energy not delivered because of load shedding, MWh.
        shed_power: load that is disconnected at the end, MW.
        deviation: largest |f - f0|, Hz.
        outside: seconds beyond 0.05 Hz.
        recovery: longest time, s, that frequency has been beyond 0.05 Hz in one go; an excursion
            that began in an earlier interval counts from there.
    """

    frequency: Doubles
    mechanical: Doubles
    agc: Doubles
    shed: float
    shed_power: float
    deviation: float
    outside: float
    recovery: float


class Swing:
    """State of one island's frequency, carried from interval to interval.

    ``step`` may be called for any number of ticks, so a trip within an interval splits it.
    """

    def __init__(self, settings: SwingSettings):
        self.settings = settings
        self.deviation = 0.0
        """f - f0, Hz."""
        self.mechanical = 0.0
        """Beyond the set points, MW."""
        self._slow = 0.0
        self.order = 0.0
        """u, MW."""
        self.shed_power = 0.0
        """Load that is disconnected, MW."""
        self._stages = sorted(settings.shedding, key=lambda stage: -stage.frequency)
        self._acted = 0
        self._away = 0.0

    @property
    def frequency(self) -> float:
        """Hz."""
        return self.settings.nominal + self.deviation

    def step(
        self, imbalance: ArrayLike, online: Online, *, ticks: int | None = None
    ) -> SwingResult:
        """Run one interval.

        Args:
            imbalance: generation minus load at the set points, MW: ``[N]``, constant over every
                tick, or a number for all of ``ticks``.
            online: what is connected.
            ticks: N, where ``imbalance`` is a number.

        Raises:
            ValueError: imbalance that is not finite or of another length; no inertia or load.
        """
        given = _trajectory(imbalance, ticks)
        _check(online)
        self._reconnect(online)
        return self._run(given, online, Response.make(self.settings, online))

    def _reconnect(self, online: Online) -> None:
        """Give the disconnected load back once the control can carry it at a calm frequency."""
        if self.shed_power > 0.0 and abs(self.deviation) <= NARROW:
            room = min(online.regulation_up, online.room_up) - self.order
            if room >= self.shed_power:
                self.shed_power, self._acted = 0.0, 0

    def _run(self, given: list[float], online: Online, maps: Response) -> SwingResult:
        s = self.settings
        gain, up, down = s.tick / s.integral, online.regulation_up, -online.regulation_down
        x, p, u, cut = self.deviation, self._slow, self.order, self.shed_power
        still, moving = maps.still[0], maps.moving[0]
        band, governor, edge = maps.band, maps.governor, maps.governor * maps.band
        high, low = maps.high, maps.low
        trip = self._trip()
        path: list[float] = []
        mechanical: list[float] = []
        orders: list[float] = []
        shed = total = top = 0.0
        for d in given:
            called = governor * (max(x - band, 0.0) + min(x + band, 0.0))
            u = min(max(u - gain * (maps.damping * x + called), down), up)
            side, w, move = maps.side(x, u)
            e = d + cut
            for _ in range(s.steps):
                xx, xp, xd, xw, px, pp, pd, pw = move
                before, x0, p0 = side, x, p
                x, p = xx * x + xp * p + xd * e + xw * w, px * x + pp * p + pd * e + pw * w
                # As in maps.side, here without the cost of a call.
                if x >= band:
                    side, w, total, move = 1, u + edge, u + edge - governor * x, moving
                elif x <= -band:
                    side, w, total, move = -1, u - edge, u - edge - governor * x, moving
                else:
                    side, w, total, move = 0, u, u, still
                if total >= high:
                    side, w, total, move = 2, high, high, still
                elif total <= low:
                    side, w, total, move = -2, low, low, still
                if side != before:
                    x, p = maps.cross(0, x0, p0, e, u)
                    side, w, move = maps.side(x, u)
                    total = w if move is still else w - governor * x
                shed += cut
                if x <= trip:
                    x, p, late, lowest = self._shed(maps, x0, p0, d, u, online.load)
                    cut, trip, top = self.shed_power, self._trip(), max(top, -lowest)
                    side, w, move = maps.side(x, u)
                    total = w if move is still else w - governor * x
                    shed, e = shed + late, d + cut
                path.append(x)
            mechanical.append(p + s.fast * total)
            orders.append(u)
        self.deviation, self._slow, self.order, self.mechanical = x, p, u, mechanical[-1]
        deviations = np.array(path)
        outside, recovery = self._excursions(np.abs(deviations) > NARROW)
        return SwingResult(
            frequency=s.nominal + deviations[s.steps - 1 :: s.steps],
            mechanical=np.array(mechanical),
            agc=np.array(orders),
            shed=shed * s.tick / s.steps / 3600.0,
            shed_power=cut,
            deviation=max(top, float(np.abs(deviations).max())),
            outside=outside,
            recovery=recovery,
        )

    def _excursions(self, outside: Bools) -> tuple[float, float]:
        """Seconds outside, and the longest time in one go; ``_away`` is carried over."""
        dt = self.settings.tick / self.settings.steps
        if not outside.any():
            self._away = 0.0
            return 0.0, 0.0
        count = np.arange(1, len(outside) + 1)
        inside_last = np.maximum.accumulate(np.where(outside, 0, count))
        spans = (count - inside_last) * dt + np.where(inside_last == 0, self._away, 0.0)
        self._away = float(spans[-1])
        return float(outside.sum() * dt), float(spans.max())

    def _trip(self) -> float:
        """Deviation at which the next stage acts, Hz."""
        if self._acted == len(self._stages):
            return -inf
        return self._stages[self._acted].frequency - self.settings.nominal

    def _shed(
        self, maps: Response, x: float, p: float, d: float, u: float, load: float
    ) -> tuple[float, float, float, float]:
        """A step in which stages act, in small parts.

        Returns x and p at its end, the mean over the step of what became disconnected (MW), and
        the lowest x.
        """
        before, mean, lowest = self.shed_power, 0.0, x
        for _ in range(2**HALVINGS):
            x, p = maps.cross(HALVINGS, x, p, d + self.shed_power, u)
            lowest = min(lowest, x)
            mean += (self.shed_power - before) / 2**HALVINGS
            while x <= self._trip():
                more = self._stages[self._acted].share * load
                self.shed_power = min(self.shed_power + more, load)
                self._acted += 1
        return x, p, mean, lowest


def simulate(
    settings: SwingSettings, imbalance: Doubles, online: Sequence[Online]
) -> list[SwingResult]:
    """One interval of every island or scenario, each from nominal frequency.

    ``imbalance`` is ``[lanes, N]``; every row has its entry of ``online``.
    """
    return [Swing(settings).step(row, lane) for row, lane in zip(imbalance, online, strict=True)]


def _trajectory(imbalance: ArrayLike, ticks: int | None) -> list[float]:
    given = np.asarray(imbalance, dtype=np.float64)
    if given.ndim == 0:
        if ticks is None:
            raise ValueError("an imbalance that is one number needs ticks")
        given = np.full(ticks, float(given))
    if given.ndim != 1 or (ticks is not None and len(given) != ticks):
        raise ValueError(f"imbalance has shape {given.shape}, expected ({ticks or 'ticks'},)")
    wrong: Bools = ~np.isfinite(given)
    if wrong.any():
        tick = int(np.argmax(wrong))
        raise ValueError(f"imbalance of tick {tick} is {given[tick]}, expected finite MW")
    return given.tolist()


def _check(online: Online) -> None:
    for name in ("inertia", "load"):
        value = getattr(online, name)
        if not 0.0 < value < inf:
            raise ValueError(f"{name} is {value}, expected a positive number: an island without it")
    for name in ("capacity", "regulation_up", "regulation_down", "room_up", "room_down"):
        value = getattr(online, name)
        if not value >= 0.0:
            raise ValueError(f"{name} is {value}, expected at least 0 MW")
