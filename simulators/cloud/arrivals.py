"""Non-stationary arrivals: a daily sinusoid and bursts, drawn by thinning in bounded windows."""

from __future__ import annotations

import math

import numpy as np

from ..interface import Doubles
from ..settings import Settings, knob


class ArrivalPattern(Settings):
    """Shape of the arrival rate over an episode; its mean over seeds is 1 at every instant.

    ``factor(t) = (1 + amplitude sin(2 pi cycles t / T + phase)) * burst(t)`` with a random phase
    per episode and a two-state burst process per tenant group, normalised to mean 1.
    """

    amplitude: float = knob(
        0.25, "relative height of the daily sinusoid", usual="0..0.5", ge=0, lt=1
    )
    cycles: float = knob(1.0, "days that are compressed into an episode", usual="1..4", ge=0)
    burst_factor: float = knob(1.4, "rate during a burst over the rate outside", usual="1..3", ge=1)
    burst_share: float = knob(0.1, "share of time that a group bursts", usual="0..0.3", ge=0, lt=1)
    burst_epochs: float = knob(8.0, "mean length of a burst", unit="epochs", usual="2..30", gt=0)


class RateShape:
    """One episode's realised rate factors of all groups (exogenous: no policy moves it).

    Args:
        pattern: the shape's parameters.
        groups: number of tenant groups G.
        length: seconds that the episode lasts, T.
        dt: seconds per decision epoch (bursts are stated in epochs).
        rng: the episode's stream for phase and bursts.
    """

    def __init__(
        self,
        *,
        pattern: ArrivalPattern,
        groups: int,
        length: float,
        dt: float,
        rng: np.random.Generator,
    ):
        self._amplitude = pattern.amplitude
        self._omega = 2.0 * math.pi * pattern.cycles / length
        self._phase = float(rng.random()) * 2.0 * math.pi
        extra = pattern.burst_factor - 1.0
        self._quiet = 1.0 / (1.0 + extra * pattern.burst_share)
        self._burst = self._quiet * pattern.burst_factor
        bursty = extra > 0.0 and pattern.burst_share > 0.0
        self._switches = [
            _burst_switches(rng, pattern, length, dt) if bursty else np.empty(0)
            for _ in range(groups)
        ]
        self.bound = (1.0 + pattern.amplitude) * self._burst
        """Upper bound of every factor (for thinning)."""

    def day(self, time: float) -> tuple[float, float]:
        """``(sin, cos)`` of the time of day."""
        angle = self._omega * time + self._phase
        return math.sin(angle), math.cos(angle)

    def factor(self, group: int, times: Doubles) -> Doubles:
        """Rate factor of ``group`` at ``times`` (same shape)."""
        inside = np.searchsorted(self._switches[group], times, side="right") % 2 == 1
        daily = 1.0 + self._amplitude * np.sin(self._omega * times + self._phase)
        return daily * np.where(inside, self._burst, self._quiet)

    def factors(self, time: float) -> Doubles:
        """Rate factors of all groups at one instant ``[G]``."""
        at = np.array([time])
        return np.array([self.factor(g, at)[0] for g in range(len(self._switches))])


def _burst_switches(
    rng: np.random.Generator, pattern: ArrivalPattern, length: float, dt: float
) -> Doubles:
    """Times at which a stationary on/off process switches; odd intervals are bursts."""
    on = pattern.burst_epochs * dt
    off = on * (1.0 - pattern.burst_share) / pattern.burst_share
    bursting = bool(rng.random() < pattern.burst_share)
    time = 0.0
    switches: list[float] = [0.0] if bursting else []
    while time < length:
        time += float(rng.exponential(on if bursting else off))
        switches.append(time)
        bursting = not bursting
    return np.array(switches)
