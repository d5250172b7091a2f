"""Who drives: vehicles with kind, time of departure and route."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..interface import Bools, Doubles, Ints
from .network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of vehicle; the defaults are SUMO's passenger car.

    Attributes:
        name: id.
        length, gap: m, vehicle and distance to the next one at a stand.
        tau: s, desired headway in time.
        accel, decel: m/s^2.
        factor, spread: mean and standard deviation of desired speed over the limit.
        top: m/s, what it can reach.
        sigma: imperfection of drivers, 0..1.
    """

    name: str = "passenger"
    length: float = 5.0
    gap: float = 2.5
    tau: float = 1.0
    accel: float = 2.6
    decel: float = 4.5
    factor: float = 1.0
    spread: float = 0.1
    top: float = 55.56
    sigma: float = 0.5

    @property
    def space(self) -> float:
        """Lane that a standing vehicle takes, m."""
        return self.length + self.gap

    @property
    def dawdle(self) -> float:
        """Mean speed that drivers stay below what they want, m/s (Krauss, steps of 1 s)."""
        return 0.5 * self.sigma * self.accel


@dataclass(frozen=True, eq=False, kw_only=True)
class Demand:
    """Vehicles in order of departure.

    Attributes:
        names: ids, ``V`` of them.
        depart: ``[V]`` s since the start of the episode, ascending.
        kind: ``[V]`` index into ``kinds``.
        route: ``[V]`` index into ``routes``.
        routes: each an int64 array of links, in order of travel; consecutive ones are joined by a
            movement of the network.
        kinds: kinds of vehicles.
        charged: ``[V]`` whether a vehicle that never departs counts in RESCO's delay (a SUMO
            ``vehicle`` does, a ``trip`` does not).
        begin: s of the source's clock at which the episode starts.
        end: s of the episode's length that the source gives; 0 where it gives none.
        dropped: vehicles of the source that are left out: outside the episode, or without a way.
    """

    names: tuple[str, ...]
    depart: Doubles
    kind: Ints
    route: Ints
    routes: tuple[Ints, ...]
    kinds: tuple[Kind, ...] = (Kind(),)
    charged: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    begin: float = 0.0
    end: float = 0.0
    dropped: int = 0

    @property
    def vehicles(self) -> int:
        """V."""
        return self.depart.size

    def check(self, network: Network) -> None:
        """Raise ``ValueError`` naming the first vehicle or route that the network cannot carry."""
        for at, route in enumerate(self.routes):
            if not route.size:
                raise ValueError(f"route {at} has no links")
            for one, two in zip(route[:-1].tolist(), route[1:].tolist(), strict=True):
                if (one, two) not in network.move_index:
                    raise ValueError(
                        f"route {at}: no movement from link {network.links[one]!r} to "
                        f"{network.links[two]!r}"
                    )
        if self.vehicles and not (
            np.isfinite(self.depart).all() and (np.diff(self.depart) >= 0).all()
        ):
            raise ValueError("vehicles must be in order of departure, at finite times")
        if self.vehicles and (
            int(self.route.max()) >= len(self.routes) or int(self.route.min()) < 0
        ):
            raise ValueError(
                f"route {int(self.route.max())} is named, there are {len(self.routes)}"
            )
