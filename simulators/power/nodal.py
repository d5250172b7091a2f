"""Indicative nodal prices: what a MW would be worth at every bus, were all units to follow it.

Without congestion it is the merit order's price everywhere. Where that dispatch would load branches
to their limits, the limits get prices, by a few steps of a semi-smooth Newton method on the dual of
the dispatch (a little quadratic term makes it smooth), warm from the interval before: the problem
moves slowly, so the prices follow it (Simonetto et al., Time-varying convex optimization, Proc.
IEEE 2020). The result is close to the LMPs of the expected interval, at a fraction of the work of
an optimal dispatch, and is what a dispatch centre may broadcast before anybody decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles
from .fleet import Fleet
from .merit import Merit, MeritOrder

SOFT = 8.0
"""$/MWh over which a unit moves through its whole box; smaller is sharper, and may not settle."""

MARGIN = 0.99
"""Share of the limits that is used; the rest is for what forecasts miss."""

STEPS = 2
"""Most Newton steps in an interval; one that goes too far is taken back once."""

LONGEST = (30.0, 200.0)
"""$/MWh by which the energy price and a branch's price move in a step at most."""


@dataclass(frozen=True, slots=True)
class Indication:
    """What is broadcast.

    Attributes:
        price: $/MWh without congestion.
        local: ``[A]`` $/MWh at every agent's bus.
        response: ``[A]`` MW, where each agent's marginal cost meets its price.
    """

    price: float
    local: Doubles
    response: Doubles


class NodalPrices:
    """Prices of one system, with a memory from interval to interval.

    Args:
        fleet: the agents.
        merit: their merit order.
        cap: $/MWh of a branch's limit at most: the price of an overload.
    """

    def __init__(self, fleet: Fleet, merit: MeritOrder, *, cap: float) -> None:
        self._cap = cap
        self._slope = merit.slope
        self._weight = fleet.high / max(float(fleet.high.sum()), 1e-9)
        self._start = np.ascontiguousarray(fleet.curve.power[:, :-1])
        self._multiplier = np.zeros(0)
        self._sign = np.zeros(0)
        self._price = 0.0

    def begin(self, branches: int) -> None:
        """A new episode."""
        self._multiplier, self._sign = np.zeros(branches), np.ones(branches)
        self._price = 0.0

    def indicate(
        self,
        merit: Merit,
        point: Doubles,
        low: Doubles,
        high: Doubles,
        demand: float,
        lines: tuple[Doubles, Doubles, Doubles] | None,
    ) -> Indication:
        """Prices of the coming interval.

        Args:
            merit: the merit order inside the box.
            point: ``[A]`` MW, its dispatch.
            low: ``[A]`` MW.
            high: ``[A]`` MW.
            demand: MW expected.
            lines: flows ``[L]`` that agents do not make, effect of the agents ``[L, A]`` and limits
                ``[L]``; ``None`` on a copper plate.
        """
        plain = Indication(merit.price, np.full(point.size, merit.price), point)
        if lines is None:
            return plain
        base, effect, limit = lines
        flow = base + effect @ point
        near = np.flatnonzero((np.abs(flow) > 0.95 * limit) | (self._multiplier > 0.0))
        if not near.size:
            return plain
        fresh = self._multiplier[near] == 0.0
        sign = np.where(fresh, np.sign(flow[near]), self._sign[near])
        rows = -sign[:, None] * effect[near]
        room = MARGIN * limit[near] - sign * base[near]
        # Seen from all units together instead of the reference bus, whose own lines would otherwise
        # carry whatever the prices do not yet balance.
        mean = rows @ self._weight
        rows = rows - mean[:, None]
        room = room + mean * demand
        multiplier = self._multiplier[near]
        price = self._price if (multiplier > 0.0).any() else merit.price
        price, multiplier, power = self._follow(
            merit, low, high, demand, (rows, room), (price, multiplier)
        )
        self._multiplier[near], self._sign[near] = multiplier, sign
        self._price = price
        return Indication(merit.price, price + multiplier @ rows, power)

    def _follow(
        self,
        merit: Merit,
        low: Doubles,
        high: Doubles,
        demand: float,
        lines: tuple[Doubles, Doubles],
        begun: tuple[float, Doubles],
    ) -> tuple[float, Doubles, Doubles]:
        """Energy price, prices of the branches and outputs, some steps nearer to the optimum."""
        rows, room = lines
        width = merit.width
        stiff = SOFT / np.maximum(high - low, 1e-3)
        first = np.clip(self._start, low[:, None], high[:, None])
        # Output at which each segment begins to give way, seen from a price of zero.
        offset = (0.5 * (low + high))[:, None] - self._slope / stiff[:, None] - first
        table = np.vstack([np.ones_like(low), rows])
        # Rows count outputs against the flow, so less of a row is more of the flow.
        aim = np.concatenate([[demand], -room])
        longest = np.full(aim.size, LONGEST[1])
        longest[0] = LONGEST[0]

        def answer(prices: Doubles) -> tuple[Doubles, Doubles, Doubles]:
            """Filled segments, outputs, and what is missing of demand and too much on branches."""
            fill = np.clip(offset + (prices @ table / stiff)[:, None], 0.0, width)
            power = low + fill.sum(axis=1)
            return fill, power, aim - table @ power

        prices = np.concatenate([[begun[0]], begun[1]])
        fill, power, slope = answer(prices)
        for _ in range(STEPS):
            active = (slope > 0.0) | (prices > 0.0)
            active[0] = True
            settled = (np.abs(slope) < 1.0) | ~active
            if settled.all():
                break
            moving = ((fill > 0.0) & (fill < width)).any(axis=1) / stiff
            some = table[active]
            curvature = (some * moving) @ some.T
            curvature[np.diag_indices_from(curvature)] += 1.0
            after = prices.copy()
            after[active] += np.linalg.solve(curvature, slope[active])
            np.clip(after, prices - longest, prices + longest, out=after)
            np.clip(after[1:], 0.0, self._cap, out=after[1:])
            ascent, step = float(slope @ (after - prices)), after - prices
            fill, power, slope = answer(after)
            beyond = float(slope @ step)
            if beyond < -0.5 * ascent < 0.0:
                # Past the top of the dual: back to where its slope vanishes between the two ends.
                after = prices + step * (ascent / (ascent - beyond))
                fill, power, slope = answer(after)
            prices = after
        return float(prices[0]), prices[1:], power
