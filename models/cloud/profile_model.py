"""References and influence for nodes that serve many jobs (processor sharing, FCFS).

The state x of node j is the profile ``x_jb``: the mean over u in bin b of the number n_j(>u) of
jobs there whose remaining full-speed service time exceeds u. With ``w_b`` the width of a bin:

**drain** (below capacity the fluid limit is the empty system, x_ref = 0). A PS node without further
arrivals gives every job one more second of service in ``n_j(>v)`` seconds of clock once all have
received v, and during them n_j(>v) jobs are present. So the total response time of the jobs there
is the integral of ``n_j(>v)^2`` over v, and

    d(x, 0) = 1/2 sum 2 w_b x_jb^2 = sum_j integral n_j(>v)^2 dv

exactly where n_j is constant within bins and below the last edge, and from below otherwise (the
mean of a square exceeds the squared mean by at most 1/4 per job that ends inside a bin, times
w_b). The weight is the same for every node: speeds already are in the seconds. Derived here.

**improvement** (one policy-improvement step on the optimal static split, x_ref = 0). The relative
value function of an M/M/1 queue with n jobs is ``n (n + 1) / (2 (mu - lambda))``; the expectation
of the drain cost over exponential remaining times is ``n (n + 1) / (2 mu)``, PS or FCFS. Hence the
weight ``2 w_b / (1 - rho_j)`` with rho_j the split's utilisation is *exact in the mean* for
exponential sizes: further arrivals stretch the drain by 1 / (1 - rho_j). For other sizes it
interpolates: arrivals during the drain multiply the profile by the resolvent of
``lambda P(S > u)``, whose mass is rho / (1 - rho), once in each factor of n(>v)^2 at low
frequencies and not at all at high ones. After size-aware value functions of M/G/1 queues (Hyytia,
Penttinen, Aalto, "Size- and state-aware dispatching problem with queue-specific job sizes",
EJOR 217, 2012); this diagonal form is derived here.

**static** (x_ref = the stationary profile of the optimal static split). An M/G/1-PS node holds
``rho / (1 - rho)`` jobs whose remaining times follow the equilibrium law of its service times
(insensitivity; Kelly 1979), so ``E n(>u) = sum_k lambda_k E[(tau_k - u)+] / (1 - rho)``. Weights as
for drain.

FCFS nodes delay nobody but those behind, and a job's own response is work found plus own service.
Their drain cost is quadratic in the *work* W_j: jobs of mean service m_j make it
``W_j^2 / (2 m_j)`` (plus W_j / 2). Work is the profile with a single bin up to ``cap``, so FCFS
needs ``profile.bins = 1``; the weight is ``cap^2 / m_j``. The improvement factor 1 / (1 - rho_j) is
here exact for M/G/1 and jobs of mean size: the value function of the backlog is
``lambda W^2 / (2 (1 - rho))`` on top of the own wait. The static reference is the mean
stationary workload ``lambda E[tau^2] / (2 (1 - rho))``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from ...simulators.cloud.dispatch import Exogenous
from ...simulators.cloud.features import Features
from ...simulators.cloud.fleet import Fleet, resolve
from ...simulators.cloud.llm_fleet import LlmFleet
from ...simulators.cloud.scenario import DispatchScenario, LlmScenario
from ...simulators.cloud.snapshot import influence, profile_edges
from ...simulators.interface import Doubles, Observation
from ..interface import Influence, Reference
from .size_moments import excess_moment
from .static_split import Split, StaticSplit

ReferenceName = Literal["drain", "static", "improvement"]
REFERENCES: tuple[str, ...] = get_args(ReferenceName)
BUSIEST = 0.9
"""Forecast arrivals per dispatcher and epoch are cut here in the cost of holding."""


class ProfileModel:
    """Implements ``AnalyticalModel`` for scenarios whose state is the remaining-service profile.

    d is in jobs x seconds: the total response time that the jobs present will still take.
    """

    def __init__(self, scenario: DispatchScenario | LlmScenario, *, reference: str = "drain"):
        if reference not in REFERENCES:
            raise ValueError(
                f"no reference {reference!r} for {scenario.name!r}; known: {', '.join(REFERENCES)}"
            )
        self.scenario = scenario
        self.fleet: Fleet = resolve(scenario)
        self.edges = profile_edges(scenario)
        self._bins = self.edges.shape[0] - 1
        if self.fleet.discipline == "fcfs" and self._bins != 1:
            raise ValueError(
                f"the cost of an FCFS node depends on its work alone: set profile.bins = 1 "
                f"(got {self._bins}) and profile.cap to the largest work of interest"
            )
        self._name = reference
        self._offsets = np.arange(self._bins)
        self._weight = self._drain_weight()
        self._drain = self._constant_reference()
        self._split = None if reference == "drain" else StaticSplit(self.fleet)
        self._cache: dict[tuple[tuple[int, ...], bytes], Reference] = {}
        names = [feature.name for feature in Features(self.fleet).agent_features]
        self._waiting_column = names.index("waiting")

    @property
    def state_size(self) -> int:
        return self.fleet.nodes * self._bins

    def reference(self, exogenous: Doubles) -> Reference:
        """Reference for ``exogenous`` (layout: ``simulators.cloud.dispatch.Exogenous``)."""
        if self._split is None:
            return self._drain
        seen = Exogenous.unpack(exogenous, len(self.fleet.classes))
        key = (self._split.key(seen.class_rates), seen.up.tobytes())
        found = self._cache.get(key)
        if found is None:
            found = self._build(self._split.solve(key[0], seen.up), seen.up)
            if len(self._cache) >= 4096:
                self._cache.clear()
            self._cache[key] = found
        return found

    def influence(self, observation: Observation) -> Influence:
        """Each candidate adds the head job's own profile to its node.

        Holding costs ``dt`` for every job that waits at the dispatcher, and for those that will
        arrive before its queue empties: with a arrivals per epoch (forecast) and one placement
        per epoch, a queue of n jobs that loses an epoch delays ``n / (1 - a)`` of them.
        """
        target = observation.target
        index = np.where(
            target[:, :, None] >= 0, target[:, :, None] * self._bins + self._offsets, -1
        )
        service = np.asarray(observation.private["service"], dtype=np.float64)
        seen = Exogenous.unpack(observation.exogenous, len(self.fleet.classes))
        arrivals = float(seen.class_rates.sum()) * self.fleet.dt / self.fleet.agents
        waiting = observation.agent[:, self._waiting_column].astype(np.float64)
        cost = self.fleet.dt * waiting / (1.0 - min(arrivals, BUSIEST))
        return Influence(index, influence(service, self.edges), hold_cost=cost)

    def _drain_weight(self) -> Doubles:
        widths = np.diff(self.edges)
        if self.fleet.discipline == "ps":
            return np.tile(2.0 * widths, self.fleet.nodes)
        mean = self.fleet.mean_service
        share = self.fleet.class_rates / self.fleet.class_rates.sum()
        served = np.isfinite(mean)
        seconds = np.where(served, mean, 0.0) @ share / (served @ share)
        return (widths[0] ** 2 / seconds)[self.fleet.type_of]

    def _constant_reference(self) -> Reference:
        zero = np.zeros(self.state_size)
        return _frozen(zero, self._weight, np.zeros(0), objective=0.0, bound=0.0)

    def _build(self, split: Split, up: Doubles) -> Reference:
        """Turn a split into a reference; objective and bound are jobs in system."""
        rho = split.delay.utilisation
        weight, x_ref = self._weight, np.zeros(self.state_size)
        if self._name == "improvement":
            weight = weight / np.repeat((1.0 - rho)[self.fleet.type_of], self._bins)
        else:
            x_ref = (self._stationary(split, up)[self.fleet.type_of] * up[:, None]).ravel()
        fastest = np.min(self.fleet.mean_service, axis=0)
        bound = float(split.rates @ np.where(split.rates > 0.0, fastest, 0.0))
        return _frozen(
            x_ref, weight, split.delay.class_prices, objective=split.delay.objective, bound=bound
        )

    def _stationary(self, split: Split, up: Doubles) -> Doubles:
        """``[T, B]`` mean profile of a node in service of each type under the split."""
        fleet = self.fleet
        count = np.bincount(fleet.type_of, weights=up, minlength=len(fleet.types))
        rho = split.delay.utilisation
        profile = np.zeros((len(fleet.types), self._bins))
        for kind, flow in enumerate(split.delay.flow):
            for node_type in np.flatnonzero(flow > 0.0):
                rate = flow[node_type] / count[node_type]
                profile[node_type] += rate * self._mean_excess(kind, int(node_type))
        return profile / (1.0 - rho)[:, None]

    def _mean_excess(self, kind: int, node_type: int) -> Doubles:
        """``[B]`` mean over u in a bin of ``E[(tau - u)+]``, s, for a class on a type."""
        fleet, scenario = self.fleet, self.scenario
        if isinstance(scenario, DispatchScenario):
            speed = scenario.size.mean / fleet.mean_service[node_type, kind]
            squared = excess_moment(scenario.size, self.edges * speed, 2) / speed**2
        else:
            if not isinstance(fleet, LlmFleet):
                raise TypeError(f"{type(fleet).__name__} tells no service times of its jobs")
            service = fleet.service[fleet.kind == kind, node_type]
            over = np.maximum(service - self.edges[:, None], 0.0)
            squared = (over**2).mean(axis=1)
        return -np.diff(squared) / (2.0 * np.diff(self.edges))


def _frozen(
    x_ref: Doubles, weight: Doubles, prices: Doubles, *, objective: float, bound: float
) -> Reference:
    """A reference whose arrays cannot be written to: it is shared between epochs."""
    for array in (x_ref, weight, prices):
        array.setflags(write=False)
    return Reference(x_ref, weight, prices, objective, bound, "optimal")
