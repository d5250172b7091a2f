"""Frequency response of one island during an interval: the equations, and their exact solution.

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
linear and a step is exact: a matrix exponential in closed form.
"""

from __future__ import annotations

from cmath import cosh, sinh, sqrt
from dataclasses import dataclass
from math import exp, inf

from ..settings import Settings, knob

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


Map = tuple[float, float, float, float, float, float, float, float]
"""x, p, d, w to x (four factors), then to p."""


@dataclass(frozen=True, slots=True)
class Response:
    """One interval's equations, solved: exact maps over a step, with and without governors.

    Attributes:
        still, moving: entry k holds over the ``2**k``-th part of a step.
        damping, governor: D and K, MW/Hz.
        band: dead band, Hz.
        high, low: limits of w, MW.
    """

    still: list[Map]
    moving: list[Map]
    damping: float
    governor: float
    band: float
    high: float
    low: float

    @classmethod
    def make(cls, settings: SwingSettings, online: Online) -> Response:
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

    def side(self, x: float, u: float, halving: int = 0) -> tuple[int, float, Map]:
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


def _exact(mass: float, damping: float, governor: float, settings: SwingSettings, dt: float) -> Map:
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
