"""Travel times of the Bureau of Public Roads, and what assignment needs of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.traffic.static_network import StaticNetwork

_LEAST = 1e-9
"""Volume at which derivatives are taken where they are infinite at 0 (powers below 1)."""


@dataclass(frozen=True, eq=False, slots=True)
class Latency:
    """``free + slope * volume ** power``, link by link.

    Attributes:
        free: ``[L]`` cost of the empty link, what does not depend on volume included.
        slope, power: ``[L]``, not negative.
    """

    free: Doubles
    slope: Doubles
    power: Doubles

    def cost(self, volume: Doubles) -> Doubles:
        """``[L]`` cost of one trip on each link."""
        return self.free + self.slope * volume**self.power

    def derivative(self, volume: Doubles) -> Doubles:
        """``[L]`` change of the cost with the volume."""
        at = np.where(self.power < 1.0, np.maximum(volume, _LEAST), volume)
        return self.slope * self.power * at ** np.where(self.power > 0.0, self.power - 1.0, 0.0)

    def integrals(self, volume: Doubles) -> Doubles:
        """``[L]`` costs integrated from 0 to the volumes."""
        return volume * (self.free + self.slope * volume**self.power / (self.power + 1.0))

    def integral(self, volume: Doubles) -> float:
        """Beckmann's objective: the sum of :meth:`integrals`."""
        return float(self.integrals(volume).sum())

    def marginal(self) -> Latency:
        """What one trip more costs all trips together; its integral is the total cost."""
        return Latency(self.free, self.slope * (self.power + 1.0), self.power)


def bpr(network: StaticNetwork, fixed: Doubles | None = None) -> Latency:
    """The links' times, plus ``fixed`` (``[L]``, in units of time: tolls, weighted lengths).

    Raises:
        ValueError: arrays that contradict each other, ``fixed`` of another length, or not finite
            and non-negative.
    """
    network.check()
    time = network.free_flow_time
    rise = time * network.b
    capacity = np.where(rise > 0.0, network.capacity, 1.0)
    slope = np.where(rise > 0.0, rise / capacity**network.power, 0.0)
    if fixed is None:
        return Latency(time, slope, network.power)
    if fixed.shape != time.shape or not (np.isfinite(fixed) & (fixed >= 0.0)).all():
        raise ValueError(
            f"network {network.name!r}: fixed costs must be {time.size} finite numbers of at "
            f"least 0, got shape {fixed.shape} from {fixed.min(initial=np.inf)}"
        )
    return Latency(time + fixed, slope, network.power)
