"""Frequency between two dispatches: one swing equation an island, governors, AGC, load shedding.

The low-order system frequency response model of Anderson and Mirheydar (IEEE Transactions on Power
Systems 5(3), 1990), with a dead band and automatic generation control (AGC):

    (2 E / f0) dx/dt = F w + p + d - D x      x = f - f0, Hz
    T dp/dt = (1 - F) w - p                   w = u - K db(x), MW, within the units' room

E is the energy stored in the machines on line (sum of H S, MW s), d the imbalance at the set
points (generation minus load, MW), D = damping x load / f0 and K = capacity / (droop f0) the
responses of loads and governors (MW/Hz), db the dead band, F the share of the turbines that follows
at once and T the time constant of the rest: mechanical power beyond the set points is F w + p.
Once a tick the AGC integrates the area control error, D x + K db(x), into its order u. (That is the
power which the deviation calls up: with a constant bias the loop would be too fast, and unstable,
inside the dead band.)

As long as d and u are constant and neither dead band nor room is left or entered, the system is
linear and a step is exact: a matrix exponential in closed form. A step is a few float operations
and an interval a few hundred of them, so plain floats beat arrays below some dozen islands;
:func:`simulate` loops over them.
"""

from __future__ import annotations

from cmath import cosh, sinh, sqrt
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf

import numpy as np
from numpy.typing import ArrayLike

from ..interface import Bools, Doubles
from ..settings import Settings, knob

NARROW = 0.05
"""Hz around nominal that count as undisturbed."""

HALVINGS = 4
"""How often a step is halved that leaves the dead band, the room, or enters them."""


class ShedStage(Settings):
    """One stage of under-frequency load shedding."""

    frequency: float = knob(59.5, "acts at or below it", unit="Hz", gt=0)
    share: float = knob(0.05, "of the load that it disconnects", unit="1", gt=0, le=1)


class SwingSettings(Settings):
    """Aggregate frequency response of one island."""

    nominal: float = knob(60.0, "nominal frequency", unit="Hz", usual="50 or 60", gt=0)
    damping: float = knob(
        1.0, "change of load in % per % of frequency", unit="1", usual="0.5..2", gt=0
    )
    droop: float = knob(
        0.05, "frequency change that moves a unit through its capacity", usual="0.03..0.06", gt=0
    )
    dead_band: float = knob(
        0.015, "deviation that governors ignore", unit="Hz", usual="0..0.036", ge=0
    )
    turbine: float = knob(
        8.0, "time constant of the turbines' slow part (reheat)", unit="s", usual="0.3..14", gt=0
    )
    fast: float = knob(
        0.3, "share of the turbines that acts at once (0: all is slow)", usual="0..0.4", ge=0, lt=1
    )
    tick: float = knob(4.0, "cycle of the generation control", unit="s", usual="2..10", gt=0)
    integral: float = knob(
        60.0, "time constant of the generation control", unit="s", usual="30..120", gt=0
    )
    steps: int = knob(
        4, "exact steps a tick, where limits, dead band and shedding are looked at", ge=1, le=10000
    )
    shedding: tuple[ShedStage, ...] = knob(
        (
            ShedStage(frequency=59.5, share=0.05),
            ShedStage(frequency=59.2, share=0.10),
            ShedStage(frequency=58.9, share=0.10),
        ),
        "stages of under-frequency load shedding",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """What is connected during an interval.

    Attributes:
        inertia: stored energy at nominal frequency, MW s.
        load: MW, for its damping and its shedding.
        capacity: of the units with governors, MW.
        regulation_up, regulation_down: range of the generation control, MW (both positive).
        room_up, room_down: how far governors and control together can move the units, MW.
    """

    inertia: float
    load: float
    capacity: float
    regulation_up: float
    regulation_down: float
    room_up: float = inf
    room_down: float = inf


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
        return self._run(given, online, _Maps.make(self.settings, online))

    def _reconnect(self, online: Online) -> None:
        """Give the disconnected load back once the control can carry it at a calm frequency."""
        if self.shed_power > 0.0 and abs(self.deviation) <= NARROW:
            room = min(online.regulation_up, online.room_up) - self.order
            if room >= self.shed_power:
                self.shed_power, self._acted = 0.0, 0

    def _run(self, given: list[float], online: Online, maps: _Maps) -> SwingResult:
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
        shed = total = 0.0
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
                path.append(x)
                shed += cut
                if x <= trip:
                    cut, trip = self._shed(x, online.load)
                    e = d + cut
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
            deviation=float(np.abs(deviations).max()),
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

    def _shed(self, deviation: float, load: float) -> tuple[float, float]:
        """Disconnect what the stages say; what is disconnected now, and where the next acts."""
        while deviation <= self._trip():
            self.shed_power += self._stages[self._acted].share * load
            self._acted += 1
        self.shed_power = min(self.shed_power, load)
        return self.shed_power, self._trip()


def simulate(
    settings: SwingSettings, imbalance: Doubles, online: Sequence[Online]
) -> list[SwingResult]:
    """One interval of every island or scenario, each from nominal frequency.

    ``imbalance`` is ``[lanes, N]``; every row has its entry of ``online``.
    """
    return [Swing(settings).step(row, lane) for row, lane in zip(imbalance, online, strict=True)]


_Map = tuple[float, float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Maps:
    """Exact maps over one step, with and without governors: x, p, d, w to x, then to p.

    ``still[k]`` and ``moving[k]`` hold over the ``2**k``-th part of a step.
    """

    still: list[_Map]
    moving: list[_Map]
    damping: float
    governor: float
    band: float
    high: float
    low: float

    @classmethod
    def make(cls, settings: SwingSettings, online: Online) -> _Maps:
        damping = settings.damping * online.load / settings.nominal
        governor = online.capacity / (settings.droop * settings.nominal)
        mass = settings.nominal / (2.0 * online.inertia)
        parts = [settings.tick / settings.steps / 2**halving for halving in range(HALVINGS + 1)]
        return cls(
            still=[_exact(mass, damping, 0.0, settings, dt) for dt in parts],
            moving=[_exact(mass, damping, governor, settings, dt) for dt in parts],
            damping=damping,
            governor=governor,
            band=settings.dead_band,
            high=online.room_up,
            low=-online.room_down,
        )

    def side(self, x: float, u: float, halving: int = 0) -> tuple[int, float, _Map]:
        """Which linear system holds at x: its number, its w (less -K x), its map."""
        edge = self.governor * self.band
        if x >= self.band:
            side, w, move = 1, u + edge, self.moving
        elif x <= -self.band:
            side, w, move = -1, u - edge, self.moving
        else:
            side, w, move = 0, u, self.still
        wanted = w - self.governor * x if side else w
        if wanted >= self.high:
            side, w, move = 2, self.high, self.still
        elif wanted <= self.low:
            side, w, move = -2, self.low, self.still
        return side, w, move[halving]

    def cross(self, halving: int, x: float, p: float, d: float, u: float) -> tuple[float, float]:
        """A step that changes sides, halved until the change is well placed."""
        side, w, (xx, xp, xd, xw, px, pp, pd, pw) = self.side(x, u, halving)
        after = xx * x + xp * p + xd * d + xw * w, px * x + pp * p + pd * d + pw * w
        if halving == HALVINGS or self.side(after[0], u)[0] == side:
            return after
        return self.cross(halving + 1, *self.cross(halving + 1, x, p, d, u), d, u)


def _exact(
    mass: float, damping: float, governor: float, settings: SwingSettings, dt: float
) -> _Map:
    """exp(A dt) and the maps of d and w (without its -K x, which is in A), in closed form."""
    fast, turbine = settings.fast, settings.turbine
    slow = (1.0 - fast) / turbine
    a, b, c, d = -mass * (damping + fast * governor), mass, -slow * governor, -1.0 / turbine
    middle, half = 0.5 * (a + d), 0.5 * (a - d)
    # Complex where the response oscillates; the sums below are real in either case.
    root = sqrt(half * half + b * c)
    grow = exp(middle * dt)
    even = grow * cosh(root * dt).real
    odd = grow * ((sinh(root * dt) / root).real if abs(root) * dt > 1e-9 else dt)
    xx, xp = even + odd * half, odd * b
    px, pp = odd * c, even - odd * half
    # Integral = inverse(A) (exp(A dt) - 1); the determinant is positive since D is.
    det = a * d - b * c
    ixx, ixp = (d * (xx - 1.0) - b * px) / det, (d * xp - b * (pp - 1.0)) / det
    ipx, ipp = (a * px - c * (xx - 1.0)) / det, (a * (pp - 1.0) - c * xp) / det
    wx, wp = ixx * mass * fast + ixp * slow, ipx * mass * fast + ipp * slow
    return xx, xp, ixx * mass, wx, px, pp, ipx * mass, wp


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
