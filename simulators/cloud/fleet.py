"""What a scenario resolves to: nodes, node types, job classes, tenants, rates and the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints
from .catalogue import CLASSES, SHARES, TENANTS, TYPES, NodeType, apportion, capacity
from .resources import Resources
from .scenario import Discipline, DispatchScenario, OpenbScenario, Scenario


@dataclass(frozen=True, eq=False)
class Fleet:
    """The constants of a scenario.

    Attributes:
        discipline: how a node serves several jobs.
        types: node types T.
        type_of: ``[M]`` type of each node.
        classes: job class names C.
        groups: tenant group names G.
        group_of: ``[A]`` group of each dispatcher.
        mix: ``[G, C]`` share of each class in a group's arrivals.
        mean_service: ``[T, C]`` mean full-speed service time, s (``inf``: the type cannot serve
            the class); with exclusive allocation times the share of the node that a job holds.
        rate: mean arrivals over all dispatchers, jobs/s; every dispatcher has ``rate / A``.
        load: offered work over capacity, episode mean.
        dt: seconds per decision epoch.
        horizon: epochs per episode.
        resources: vector resources and demands (exclusive allocation), else none.
    """

    discipline: Discipline
    types: tuple[NodeType, ...]
    type_of: Ints
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    group_of: Ints
    mix: Doubles
    mean_service: Doubles
    rate: float
    load: float
    dt: float
    horizon: int
    resources: Resources | None = None

    @property
    def vectors(self) -> Resources:
        """The vector resources of a fleet with exclusive allocation.

        Raises:
            ValueError: nodes of this fleet are shared, not allocated.
        """
        if self.resources is None:
            raise ValueError(f"nodes with discipline {self.discipline!r} have no vector resources")
        return self.resources

    @property
    def agents(self) -> int:
        """Number of dispatchers A."""
        return int(self.group_of.shape[0])

    @property
    def nodes(self) -> int:
        """Number of nodes M."""
        return int(self.type_of.shape[0])

    @property
    def expected_arrivals(self) -> float:
        """Mean number of arrivals of an episode, the reward's denominator."""
        return self.rate * self.dt * self.horizon

    @property
    def type_counts(self) -> Ints:
        """``[T]`` nodes of each type."""
        return np.bincount(self.type_of, minlength=len(self.types)).astype(np.int64)

    @property
    def group_rates(self) -> Doubles:
        """``[G]`` mean arrivals of each group, jobs/s."""
        members = np.bincount(self.group_of, minlength=len(self.groups))
        return members.astype(np.float64) * (self.rate / self.agents)

    @property
    def class_rates(self) -> Doubles:
        """``[C]`` mean arrivals of each class, jobs/s."""
        return self.group_rates @ self.mix


def resolve(scenario: Scenario) -> Fleet:
    """The fleet of a scenario; reads data files where the scenario names them.

    Raises:
        DataError: a data file is missing or malformed.
    """
    if isinstance(scenario, DispatchScenario):
        return _dispatch(scenario)
    if isinstance(scenario, OpenbScenario):
        from .openb_fleet import openb_fleet

        return openb_fleet(scenario)
    from .llm_fleet import llm_fleet

    return llm_fleet(scenario)


def _dispatch(scenario: DispatchScenario) -> Fleet:
    agents = scenario.agents
    counts = apportion(SHARES, agents)
    kept = np.flatnonzero(counts)
    types = tuple(TYPES[t] for t in kept)
    type_of = np.repeat(np.arange(len(types)), counts[kept])
    groups = tuple(TENANTS)[:agents]
    group_of = np.arange(agents) % len(groups)
    mix = np.array([TENANTS[name] for name in groups])
    if scenario.own_share is not None:
        own = mix == mix.max(axis=1, keepdims=True)
        mix = np.where(own, scenario.own_share, (1.0 - scenario.own_share) / (len(CLASSES) - 1))
    speed = np.array([node.speed for node in types])
    work = scenario.size.mean * np.array(scenario.class_work)
    share = np.bincount(group_of) @ mix / agents
    best = capacity(counts[kept].astype(np.float64), speed / work, share)
    rate = scenario.load * best
    return Fleet(
        discipline=scenario.discipline,
        types=types,
        type_of=type_of,
        classes=CLASSES,
        groups=groups,
        group_of=group_of,
        mix=mix,
        mean_service=work / speed,
        rate=rate,
        load=scenario.load,
        dt=scenario.arrivals_per_epoch * agents / rate,
        horizon=scenario.horizon,
    )
