"""Flows on a given set of routes, moved until all used routes of a pair cost the same.

The restricted problem of assignment by route generation: minimise the summed integrals of the
links' costs over the flows of the routes at hand, which are not negative and sum to each pair's
demand. Two moves alternate, both searched along the arc that is projected onto the feasible flows:
a gradient step scaled by second derivatives, which finds out which routes are used (Jayakrishnan et
al., "A faster path-based algorithm for traffic assignment", 1994), and a Newton step on the used
routes by conjugate gradients, which makes the end fast (Bertsekas, "Projected Newton methods for
optimization problems with simple constraints", 1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, vstack

from ...simulators.interface import Bools, Doubles, Ints
from .bpr import Latency

_ARMIJO = 1e-3
"""Share of the promised decrease that a step must keep."""
_HALVINGS = 30
_CONJUGATE = 50
"""Most conjugate gradient turns of a Newton step."""
_FORCING = 1e-6
"""Share of the first residual (squared) at which they end."""
_FLAT = 1e-12
"""Second derivative, relative to that of single routes, below which a direction has none."""
_NEARLY = 1e-9
"""Relative cost above the cheapest route up to which an unused route is kept."""


@dataclass(frozen=True, eq=False, slots=True)
class _Point:
    """Costs at the present flows.

    Attributes:
        objective: the summed integrals; gap: relative, among the routes at hand.
        base: ``[K]`` the route with most flow, which takes up what the others leave.
        cost: ``[R]``; reduced: ``[R]`` cost above that of the pair's base.
        rise: ``[L]`` derivatives of the links' costs.
    """

    objective: float
    gap: float
    base: Ints
    cost: Doubles
    reduced: Doubles
    rise: Doubles


@dataclass(frozen=True, eq=False, slots=True)
class _Move:
    """A change ``step`` of the flows of ``routes``, to be made up by their bases."""

    routes: Ints
    step: Doubles


class RouteFlows:
    """R routes of K pairs over L links.

    Args:
        incidence: ``[K, L]`` ones: a first route for every pair, which takes its whole demand.
        demand: ``[K]`` trips, positive.

    Attributes:
        incidence: ``[R, L]`` ones; pair: ``[R]`` ascending; flow: ``[R]`` trips.
    """

    def __init__(self, incidence: csr_array, demand: Doubles) -> None:
        self.incidence, self.demand = incidence, demand
        self.pair = np.arange(demand.size)
        self.flow = demand.copy()
        self._index()

    def volume(self) -> Doubles:
        """``[L]`` trips on each link."""
        return self._transposed @ self.flow

    def add(self, incidence: csr_array, pairs: Ints) -> None:
        """Take in one new route ``[new, L]`` for each of ``pairs``, without flow yet."""
        pair = np.concatenate([self.pair, pairs])
        order = np.argsort(pair, kind="stable")
        joined: Any = vstack([self.incidence, incidence], format="csr")
        self.flow = np.concatenate([self.flow, np.zeros(pairs.size)])[order]
        self.pair, self.incidence = pair[order], joined[order]
        self._index()

    def cheapest(self, cost: Doubles) -> Doubles:
        """``[K]`` cost of the cheapest route at hand, at the links' costs ``[L]``."""
        return np.minimum.reduceat(self.incidence @ cost, self._start)

    def prune(self, cost: Doubles) -> None:
        """Forget routes without flow that are not the cheapest at the links' costs ``[L]``."""
        routes = self.incidence @ cost
        close = routes <= np.minimum.reduceat(routes, self._start)[self.pair] * (1.0 + _NEARLY)
        kept = (self.flow > 0.0) | close
        self.flow, self.pair = self.flow[kept], self.pair[kept]
        self.incidence = self.incidence[kept]
        self._index()

    def equilibrate(self, latency: Latency, target: float, turns: int) -> bool:
        """Move flows until the relative gap among these routes is ``target``; whether any moved."""
        moved, reach = False, 1.0
        for _ in range(turns):
            point = self._point(latency)
            if point.gap <= target:
                break
            # Moving all pairs at once overshoots; the next step starts from what worked.
            reach = self._search(latency, point, self._gradient(point), min(1.0, 2.0 * reach))
            point = self._point(latency)
            newton = self._search(latency, point, self._newton(point), 1.0)
            if not reach and not newton:
                break
            moved, reach = True, reach or 1.0
        return moved

    def _index(self) -> None:
        self._start = np.searchsorted(self.pair, np.arange(self.demand.size))
        self._transposed: Any = self.incidence.T.tocsr()

    def _point(self, latency: Latency) -> _Point:
        volume = self.volume()
        cost = self.incidence @ latency.cost(volume)
        base = np.lexsort((-self.flow, self.pair))[self._start]
        total = float(self.flow @ cost)
        least = float(self.demand @ np.minimum.reduceat(cost, self._start))
        return _Point(
            objective=latency.integral(volume),
            gap=(total - least) / total if total > 0.0 else 0.0,
            base=base,
            cost=cost,
            reduced=cost - cost[base][self.pair],
            rise=latency.derivative(volume),
        )

    def _gradient(self, point: _Point) -> _Move:
        """Towards cheaper routes, as far as the curvature along each single one says."""
        routes = np.flatnonzero(self._others(point) & ((self.flow > 0.0) | (point.reduced < 0.0)))
        curvature = self._curvature(point, routes)[1]
        return _Move(routes, -_divide(point.reduced[routes], curvature))

    def _newton(self, point: _Point) -> _Move:
        """The Newton step of the used routes, those left out that a gradient step would empty."""
        routes = np.flatnonzero(self._others(point) & (self.flow > 0.0))
        difference, curvature = self._curvature(point, routes)
        kept = self.flow[routes] * curvature >= point.reduced[routes]
        routes, difference, curvature = routes[kept], difference[kept], curvature[kept]
        transposed = difference.T.tocsr()
        step, residual = np.zeros(routes.size), -point.reduced[routes]
        scaled = _divide(residual, curvature)
        direction, size = scaled.copy(), float(residual @ scaled)
        enough = _FORCING * size
        for _ in range(_CONJUGATE):
            bent = difference @ (point.rise * (transposed @ direction))
            bend = float(direction @ bent)
            if size <= enough or bend <= _FLAT * float(direction**2 @ curvature):
                break
            step += size / bend * direction
            residual -= size / bend * bent
            scaled = _divide(residual, curvature)
            before, size = size, float(residual @ scaled)
            direction = scaled + size / before * direction
        return _Move(routes, step)

    def _others(self, point: _Point) -> Bools:
        """``[R]`` routes that are not their pair's base."""
        others = np.ones(self.flow.size, dtype=np.bool_)
        others[point.base] = False
        return others

    def _curvature(self, point: _Point, routes: Ints) -> tuple[Any, Doubles]:
        """Links that ``routes`` use more (less) than their base, and second derivatives along that.

        Where costs hardly change the second derivative is that of a step over the whole demand.
        """
        pair = self.pair[routes]
        difference: Any = self.incidence[routes] - self.incidence[point.base[pair]]
        least = np.abs(point.reduced[routes]) / self.demand[pair]
        return difference, np.maximum(difference.power(2) @ point.rise, least)

    def _search(self, latency: Latency, point: _Point, move: _Move, reach: float) -> float:
        """Halve ``reach`` until the projected move pays; take it. The reach, 0 where none pays."""
        if not move.step.any():
            return 0.0
        for _ in range(_HALVINGS):
            flow = self._projected(point.base, move.routes, reach * move.step)
            promised = float((flow - self.flow) @ point.cost)
            objective = latency.integral(self._transposed @ flow)
            if promised < 0.0 and objective <= point.objective + _ARMIJO * promised:
                self.flow = flow
                return reach
            reach /= 2.0
        return 0.0

    def _projected(self, base: Ints, routes: Ints, step: Doubles) -> Doubles:
        """``[R]`` flows after a step: none negative, and all demand on some route."""
        flow = self.flow.copy()
        flow[routes] = np.maximum(flow[routes] + step, 0.0)
        flow[base] = 0.0
        others = np.add.reduceat(flow, self._start)
        flow *= (self.demand / np.maximum(others, self.demand))[self.pair]
        flow[base] = np.maximum(self.demand - np.add.reduceat(flow, self._start), 0.0)
        return flow


def _divide(values: Doubles, by: Doubles) -> Doubles:
    """``values / by``, 0 where there is nothing to divide by."""
    return np.divide(values, by, out=np.zeros_like(values), where=by > 0.0)
