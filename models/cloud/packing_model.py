"""References and influence for nodes whose jobs hold vector resources exclusively (openb).

The state of node j is its GPU fragmentation F_j (GPUs that the typical pods cannot use there) and
its dominant allocated share s_j. No job delays another on a node, so what a placement costs is the
capacity that it makes unusable: the descent on fragmentation of Weng et al. (FGD, USENIX ATC 2023).

**drain** (fragmentation alone). FGD's cost, the sum of F, is linear, the guidance's quadratic, and
a quadratic has no slope at its own reference. The reference is therefore far below anything a node
can reach: with F_ref = -L and weight 1 / L,

    d(F_j) = (F_j + L)^2 / (2 L) = L / 2 + F_j + F_j^2 / (2 L),

so a placement is worth minus the growth of F up to a relative error of (F_j + growth / 2) / L, at
most :data:`DISTANCE`'s inverse times the GPUs of a node. Greedy on it is FGD.

**static** adds the shares: s_ref is the utilisation of the node's type in the static planning
optimum (classes by types, forecast rates), with a weight small enough that it decides only between
placements of nearly equal fragmentation.

Holding costs the GPUs that the head job would use (a waiting job leaves them idle for an epoch;
the same unit as F), at least :data:`SMALLEST_HOLD`.
"""

from __future__ import annotations

import numpy as np

from ...simulators.cloud.dispatch import Exogenous
from ...simulators.cloud.features import Features
from ...simulators.cloud.fleet import Fleet, resolve
from ...simulators.cloud.scenario import OpenbScenario
from ...simulators.interface import Doubles, Observation
from ..interface import Influence, Reference
from .planning import PlanningSolver

REFERENCES = ("drain", "static")
DISTANCE = 100.0
"""L, GPUs below zero at which the reference of fragmentation lies."""
SHARE_WEIGHT = 0.02
"""GPUs per squared share; a node's share then weighs at most 0.02 GPUs."""
SMALLEST_HOLD = 0.05
"""GPUs; the cost of holding a job that asks for no or little GPU."""
BUCKET = 0.1


class PackingModel:
    """Implements ``AnalyticalModel`` for scenarios of exclusive vector resources; d is in GPUs."""

    def __init__(self, scenario: OpenbScenario, *, reference: str = "drain"):
        if reference not in REFERENCES:
            raise ValueError(
                f"no reference {reference!r} for {scenario.name!r}; known: {', '.join(REFERENCES)}"
            )
        self.scenario = scenario
        self.fleet: Fleet = resolve(scenario)
        if self.fleet.resources is None:
            raise ValueError(f"scenario {scenario.name!r} has no vector resources")
        nodes = self.fleet.nodes
        self._weight = np.zeros((nodes, 2))
        self._weight[:, 0] = 1.0 / DISTANCE
        self._x_ref = np.zeros((nodes, 2))
        self._x_ref[:, 0] = -DISTANCE
        self._planning: PlanningSolver | None = None
        if reference == "static":
            self._weight[:, 1] = SHARE_WEIGHT
            with np.errstate(divide="ignore"):
                self._planning = PlanningSolver(1.0 / self.fleet.mean_service.T)
        self._cache: dict[tuple[tuple[int, ...], bytes], Reference] = {}
        names = [feature.name for feature in Features(self.fleet).agent_features]
        self._milli, self._gpus = names.index("gpu_milli"), names.index("gpu_count")
        self._offsets = np.arange(2)

    @property
    def state_size(self) -> int:
        return 2 * self.fleet.nodes

    def reference(self, exogenous: Doubles) -> Reference:
        """Reference for ``exogenous`` (layout: ``simulators.cloud.dispatch.Exogenous``)."""
        if self._planning is None:
            key: tuple[tuple[int, ...], bytes] = ((), b"")
        else:
            seen = Exogenous.unpack(exogenous, len(self.fleet.classes))
            step = BUCKET * np.maximum(self.fleet.class_rates, np.finfo(np.float64).tiny)
            rounded = np.rint(seen.class_rates / step).astype(np.int64)
            key = (tuple(rounded.tolist()), seen.up.tobytes())
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= 4096:
                self._cache.clear()
            found = self._cache[key] = self._build(key[0], exogenous)
        return found

    def influence(self, observation: Observation) -> Influence:
        """Each candidate's present effect on the (fragmentation, share) of its node."""
        target = observation.target
        index = np.where(target[:, :, None] >= 0, target[:, :, None] * 2 + self._offsets, -1)
        delta = np.asarray(observation.private["delta"], dtype=np.float64)
        agent = observation.agent.astype(np.float64)
        wanted = agent[:, self._milli] * agent[:, self._gpus] / 1000.0
        return Influence(index, delta, hold_cost=np.maximum(wanted, SMALLEST_HOLD))

    def _build(self, bucket: tuple[int, ...], exogenous: Doubles) -> Reference:
        x_ref = self._x_ref.copy()
        rho, prices = 0.0, np.zeros(0)
        if self._planning is not None:
            up = Exogenous.unpack(exogenous, len(self.fleet.classes)).up
            rates = np.array(bucket) * BUCKET * self.fleet.class_rates
            fleet = self.fleet
            count = np.bincount(fleet.type_of, weights=up, minlength=len(fleet.types)).astype(
                np.float64
            )
            able = np.isfinite(fleet.mean_service[count > 0.0]).any(axis=0)
            rates = np.where(able, rates, 0.0)
            plan = self._planning.solve(rates, count, hot=False)
            service = np.where(np.isfinite(fleet.mean_service), fleet.mean_service, 0.0).T
            share = (plan.flow * service).sum(axis=0) / np.maximum(count, 1.0)
            x_ref[:, 1] = np.minimum(share, 1.0)[fleet.type_of]
            rho, prices = plan.rho, plan.class_prices
        x_ref, weight = x_ref.ravel(), self._weight.ravel()
        for array in (x_ref, weight):
            array.setflags(write=False)
        return Reference(x_ref, weight, prices, rho, rho, "optimal")
