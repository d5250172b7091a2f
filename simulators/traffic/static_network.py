"""A static road network: links whose travel time grows with their volume, and trips between zones.

The scenario of traffic assignment. Nothing here happens in time: volumes are rates (or totals of
the period that the demand is of), and a link's time is that of the Bureau of Public Roads,
``free_flow_time * (1 + b * (volume / capacity) ** power)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class StaticNetwork:
    """N nodes, of which the first Z are zones, and L directed links; parallel links are allowed.

    Attributes:
        name: of the network.
        nodes: N.
        tail, head: ``[L]`` nodes, from 0.
        free_flow_time: ``[L]`` in the data's unit of time.
        capacity: ``[L]`` in the unit of the demand.
        b, power: ``[L]`` of the formula above.
        toll: ``[L]`` in the data's unit of money; length: ``[L]`` in the data's unit of length.
            Neither counts unless a weight is given to it.
        first_thru: nodes before this one are ends of trips only, never passed through.
        demand: ``[Z, Z]`` trips from row to column; those within a zone use no link.
        xy: ``[N, 2]`` coordinates, where the data has them.
        best_volume, best_cost: ``[L]`` of the best solution that is published, where there is one.
    """

    name: str
    nodes: int
    tail: Ints
    head: Ints
    free_flow_time: Doubles
    capacity: Doubles
    b: Doubles
    power: Doubles
    toll: Doubles
    length: Doubles
    first_thru: int
    demand: Doubles
    xy: Doubles | None = None
    best_volume: Doubles | None = None
    best_cost: Doubles | None = None

    @property
    def links(self) -> int:
        """L."""
        return self.tail.size

    @property
    def zones(self) -> int:
        """Z."""
        return self.demand.shape[0]

    def check(self) -> None:
        """Raise ``ValueError`` naming the first array that cannot be, or contradicts another."""
        if self.demand.shape != (self.zones, self.zones) or self.zones > self.nodes:
            raise ValueError(
                f"network {self.name!r}: demand has shape {self.demand.shape}, expected a square "
                f"of at most {self.nodes} zones"
            )
        if not 0 <= self.first_thru <= self.nodes:
            raise ValueError(
                f"network {self.name!r}: first_thru is {self.first_thru}, expected 0 to "
                f"{self.nodes}"
            )
        for name in ("tail", "head"):
            self._check_array(name, self.nodes - 1)
        for name in ("free_flow_time", "capacity", "b", "power", "toll", "length"):
            self._check_array(name, np.inf)
        if not (np.isfinite(self.demand) & (self.demand >= 0.0)).all():
            raise ValueError(f"network {self.name!r}: demand must be finite and not negative")
        congested = (self.b > 0.0) & (self.free_flow_time > 0.0)
        for link in np.flatnonzero(congested & (self.capacity <= 0.0)).tolist():
            raise ValueError(
                f"network {self.name!r}: capacity[{link}] is {self.capacity[link]}, expected a "
                "positive number where the time depends on the volume"
            )

    def _check_array(self, name: str, high: float) -> None:
        values = getattr(self, name)
        if values.shape != (self.links,):
            raise ValueError(
                f"network {self.name!r}: {name} has shape {values.shape}, expected ({self.links},)"
            )
        good = np.isfinite(values) & (values >= 0) & (values <= high)
        if not good.all():
            at = int(np.argmin(good))
            raise ValueError(
                f"network {self.name!r}: {name}[{at}] is {values[at]}, expected a finite number "
                f"from 0 to {high}"
            )
