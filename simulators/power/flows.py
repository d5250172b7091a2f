"""Branch flows of a dispatched system: as they are, as they are expected, and their overloads."""

from __future__ import annotations

import numpy as np

from ..interface import Doubles
from .day import Day
from .lodf import Topology
from .network import Network
from .scenario import PowerScenario
from .system import System


class Flows:
    """Flows of one system; ``limited`` says whether branches have limits at all.

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
            self._version = -1
            expected = self._layout.injection(day.expected_load[:, 0], day.expected_series[:, 0])
            network = self.topology.network
            self._base_day = network.flows_of_all(day.injection)
            self._base_expected = network.flows_of_all(expected)

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

    def expected(self, epoch: int) -> tuple[Doubles, Doubles, Doubles] | None:
        """Flows ``[L]`` of interval ``epoch`` that agents do not make, effects, limits ``[L]``."""
        topology, day = self.topology, self._day
        if topology is None or day is None:
            return None
        self._follow(topology)
        if topology.out.size:
            base = topology.flows(
                self._layout.injection(day.expected_load[epoch, 0], day.expected_series[epoch, 0])
            )
        else:
            base = self._base_expected[epoch]
        return base, self._factor, self._finite

    def most_loaded(self, count: int) -> tuple[Doubles, Doubles]:
        """Loadings ``[M]`` and effects ``[M, A]`` (in the direction of the flow), highest first."""
        if self.topology is None or not self._flow.size:
            return self._none, np.zeros((0, self._fleet.size))
        count = min(count, self._loading.size)
        top = np.argpartition(self._loading, -count)[-count:]
        top = top[np.argsort(-self._loading[top])]
        return self._loading[top], np.sign(self._flow[top])[:, None] * self._factor[top]

    def _follow(self, topology: Topology) -> None:
        """Take over a changed topology."""
        if self._version != topology.version:
            self._factor = np.ascontiguousarray(topology.ptdf[:, self._fleet.bus])
            self._version = topology.version
