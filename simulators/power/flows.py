"""Branch flows of a dispatched system, their overloads, and prices that answer to them."""

from __future__ import annotations

import numpy as np

from ..interface import Doubles
from .day import Day
from .lodf import Topology
from .network import Network
from .scenario import PowerScenario
from .system import System

GAIN = 40.0
"""$/MWh by which a branch's price rises in an interval for an overload of its whole limit."""

WATCH = 0.98
"""Share of the limit at which a branch's price begins to rise."""


class Flows:
    """Flows of one system; ``limited`` says whether branches have limits at all.

    The congestion prices are a distributed dual ascent on the limits: each interval the price of a
    branch moves by its excess. They are indications that everybody sees, not LMPs.

    Attributes:
        topology: of the network; ``None`` on a copper plate.
        overload: MW above limits, summed over branches; overloaded: number of such branches.
    """

    def __init__(self, system: System, scenario: PowerScenario) -> None:
        self.limited = scenario.network and len(system.grid.branches.name) > 0
        self._fleet, self._layout = system.fleet, system.layout
        network = system.network if self.limited else None
        self.topology = None if network is None else Topology(network)
        self._scale = scenario.limit_scale
        self.overload, self.overloaded = 0.0, 0
        self._flow = np.zeros(0)
        self._day: Day | None = None
        self._none = np.zeros(0)
        if network is not None:
            self._limit(network)

    def _limit(self, network: Network) -> None:
        rate = network.grid.branches.rate * self._scale
        self._rate = rate
        self._finite = np.where(np.isfinite(rate), rate, 1e9)
        self._price = np.zeros(rate.size)
        self._sign = np.ones(rate.size)
        self._version = -1

    @property
    def closed(self) -> Doubles:
        """``[branches]`` 1 where a branch is in service."""
        return self._none if self.topology is None else self.topology.closed.astype(np.float64)

    @property
    def out(self) -> int:
        """Number of branches out of service."""
        return 0 if self.topology is None else int(self.topology.out.size)

    def begin(self, day: Day) -> None:
        """A new episode."""
        self._day = day
        self.overload, self.overloaded = 0.0, 0
        if self.topology is not None:
            self._price[:] = 0.0
            self._version = -1
            self._base_day = np.stack([self.topology.network.flows(row) for row in day.injection])

    def update(self, epoch: int, power: Doubles) -> None:
        """Flows and overloads at outputs ``[A]`` in interval ``epoch``."""
        topology, day = self.topology, self._day
        if topology is None or day is None:
            return
        self._follow(topology)
        base = (
            self._base_day[epoch] if not topology.out.size else topology.flows(day.injection[epoch])
        )
        self._flow = base + self._factor @ power
        size = np.abs(self._flow)
        over = size - self._finite
        self.overload, self.overloaded = 0.0, 0
        if over.max() > 1e-9:
            self.overload = float(np.maximum(over, 0.0).sum())
            self.overloaded = int((over > 1e-9).sum())
        self._loading = size / self._finite
        watched = self._loading > WATCH
        rising = np.flatnonzero(watched | (self._price > 0.0))
        if rising.size:
            moved = self._price[rising] + GAIN * (self._loading[rising] - WATCH)
            self._price[rising] = np.maximum(moved, 0.0)
            self._sign[watched] = np.sign(self._flow[watched])

    def local_price(self, price: float) -> Doubles:
        """``[A]`` $/MWh: energy price less what an agent's output adds to congested branches."""
        local = np.full(self._fleet.size, price)
        if self.topology is not None:
            priced = np.flatnonzero(self._price > 0.0)
            if priced.size:
                local -= (self._price[priced] * self._sign[priced]) @ self._factor[priced]
        return local

    def most_loaded(self, count: int) -> tuple[Doubles, Doubles]:
        """Loadings ``[M]`` and effects ``[M, A]`` (in the direction of the flow), highest first."""
        if self.topology is None or not self._flow.size:
            return self._none, np.zeros((0, self._fleet.size))
        count = min(count, self._loading.size)
        top = np.argpartition(self._loading, -count)[-count:]
        top = top[np.argsort(-self._loading[top])]
        return self._loading[top], np.sign(self._flow[top])[:, None] * self._factor[top]

    def expected_overload(self, epoch: int, point: Doubles) -> tuple[Doubles, Doubles]:
        """Sensitivities ``[M, A]`` and excess ``[M]`` MW of branches near or above their limit."""
        topology, day = self.topology, self._day
        assert topology is not None and day is not None  # noqa: S101 - callers ask `limited`
        self._follow(topology)
        flow = (
            topology.flows(
                self._layout.injection(day.expected_load[epoch, 0], day.expected_series[epoch, 0])
            )
            + self._factor @ point
        )
        excess = np.abs(flow) - self._finite
        near = np.flatnonzero(excess > -0.05 * self._finite)
        return np.sign(flow[near])[:, None] * self._factor[near], excess[near]

    def _follow(self, topology: Topology) -> None:
        """Take over a changed topology."""
        if self._version != topology.version:
            self._factor = np.ascontiguousarray(topology.ptdf[:, self._fleet.bus])
            self._version = topology.version
