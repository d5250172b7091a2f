"""Guidance of power set-points: what one more MW of an agent is worth, everybody else's held fixed.

Two objectives, both a sum of one term per agent once the reference's duals are given, so that an
agent's guidance depends on nobody else's action (DG-PG, arXiv 2602.20078):

- ``marginal``: the Lagrangian at the reference's duals, ``c_i(p_i) - price_i p_i``. By the envelope
  theorem its slope is also that of the system's cost when the reference redispatches the others.
- ``proximal``: the distance ``weight_i / 2 (p_i - p*_i)^2`` to the reference dispatch.

Plain numpy: a controller asks at every decision, for hundreds of units, in tens of microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ...simulators.interface import Doubles
from ...simulators.power.costs import CostTable
from ...simulators.power.grid import Curves

Mode = Literal["marginal", "proximal"]


@dataclass(frozen=True, slots=True)
class GuidanceState:
    """What the reference says about U agents.

    Attributes:
        costs: production costs of the agents.
        price: ``[U]`` $/MWh that a MW of each agent earns: the LMP at its bus, less the multipliers
            of its other constraints (``ramp_adders``; of a storage what its energy is worth).
        reference: ``[U]`` MW, p*.
        weight: ``[U]`` $/h per MW^2 (``proximal_weight``).
    """

    costs: CostTable
    price: Doubles
    reference: Doubles
    weight: Doubles


def guidance(state: GuidanceState, actions: Doubles, mode: Mode) -> Doubles:
    """Gradient ``[U]`` in $/MWh of the objective at set-points ``actions`` ``[U]`` MW.

    Agents should descend it. At a point of a curve it is the slope to the right.

    Raises:
        ValueError: an unknown mode.
    """
    if mode == "marginal":
        return state.costs.marginal(actions) - state.price
    if mode == "proximal":
        return state.weight * (actions - state.reference)
    raise ValueError(f"no mode {mode!r}; known: {', '.join(get_args(Mode))}")


def objective(state: GuidanceState, actions: Doubles, mode: Mode) -> Doubles:
    """Each agent's term ``[U]`` in $/h of what ``guidance`` is the gradient of."""
    if mode == "marginal":
        return state.costs.cost(actions) - state.price * actions
    if mode == "proximal":
        return 0.5 * state.weight * (actions - state.reference) ** 2
    raise ValueError(f"no mode {mode!r}; known: {', '.join(get_args(Mode))}")


def proximal_weight(curves: Curves, capacity: Doubles) -> Doubles:
    """Weights ``[U]`` of ``proximal``: ``kappa / capacity^2``, in $/h per MW^2.

    ``kappa`` is what it typically costs to have a typical unit at the wrong end of its range: the
    spread of marginal costs between units (upper less lower quartile) times the median capacity.
    Distances then come in $/h and are of the size of the costs they stand for. Capacities below
    1 MW count as 1 MW, and so does a spread below 1 $/MWh.
    """
    capacity = np.maximum(capacity, 1.0)
    rise, width = (np.diff(ends[:, [0, -1]])[:, 0] for ends in (curves.cost, curves.power))
    running = width > 0.0
    typical = np.divide(rise, width, out=np.zeros_like(rise), where=running)
    spread = 1.0
    if running.any():
        low, high = np.quantile(typical[running], [0.25, 0.75])
        spread = max(float(high - low), 1.0)
    return spread * float(np.median(capacity)) / capacity**2


def ramp_adders(up: Doubles, down: Doubles) -> Doubles:
    """What ramp limits take from the price of every interval and unit, ``[T, U]`` $/MWh.

    Args:
        up: ``[T, U]`` non-negative multipliers of ``p_t - p_(t-1) <= ramp``.
        down: ``[T, U]`` likewise of ``p_(t-1) - p_t <= ramp``.

    A MW more at t tightens the limit into t and eases the one out of t:
    ``(up - down)_t - (up - down)_(t+1)``, with nothing after the last interval.
    """
    net = up - down
    adder = net.copy()
    adder[:-1] -= net[1:]
    return adder


class BoxFit:
    """The parabola that stands best for a piecewise-linear cost across each unit's box.

    Costs reach ``models.interface.SetPointInfluence`` as ``slope (u - origin) + curvature
    (u - origin)^2 / 2``; this is the least-squares line through the marginal cost over
    ``low .. high`` less the price. It keeps the cost of the whole box, and its curvature is never
    negative.
    """

    def __init__(self, curves: Curves) -> None:
        # Segments as rows; the outer ones go on beyond the curve, as in all solvers here.
        self._slope = np.ascontiguousarray(curves.slope.T)
        self._inner = np.ascontiguousarray(curves.power[:, 1:-1].T)
        self._edges = np.empty((self._slope.shape[0] + 1, self._slope.shape[1]))

    def __call__(
        self, low: Doubles, high: Doubles, origin: Doubles, price: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Slope and curvature at ``origin``, ``[U]`` each, in $/MWh and $/h per MW^2.

        A box without width has the marginal cost of its segment as slope, and no curvature. The
        same object serves one caller at a time.

        Args:
            low: ``[U]`` MW.
            high: ``[U]`` MW, at least ``low``.
            origin: ``[U]`` MW.
            price: ``[U]`` $/MWh.
        """
        edges = self._edges
        # A little width spares a case: the fit over it is the segment's own slope.
        middle = 0.5 * (low + high)
        half = np.maximum(0.5 * (high - low), 1e-6)
        edges[0], edges[-1] = -half, half
        if self._inner.shape[0]:
            np.subtract(self._inner, middle, out=edges[1:-1])
            np.minimum(edges[1:-1], half, out=edges[1:-1])
            np.maximum(edges[1:-1], edges[0], out=edges[1:-1])
        # With edges counted from the middle: mean of m(u), and 3 / (2 half^3) of m(u) u.
        mean = (self._slope * (edges[1:] - edges[:-1])).sum(axis=0)
        mean /= 2.0 * half
        squares = edges * edges
        bend = (self._slope * (squares[1:] - squares[:-1])).sum(axis=0)
        bend *= 0.75 / (half * half * half)
        bend[half <= 1e-6] = 0.0
        return mean + bend * (origin - middle) - price, bend
