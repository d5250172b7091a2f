"""What set-points are predicted to cost, from what a decentralised power observation tells alone.

Every agent tells the cost of its next MWh and of its last one, where it stands and how congestion
values its bus; everybody hears the indicative price and the expected demand. No grid, no data file
and no solver is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..policies.heuristics.power_local import Standing
from ..simulators.interface import Doubles, Observation, Spec
from ..simulators.power.scenario import Prices
from ..simulators.power.view import PRICE

WEATHER = frozenset({"wind", "pv", "rtpv", "csp", "hydro", "renewable"})
"""Technologies whose upper limit follows wind, sun or water; see ``Fleet.curtailed``."""

RESOLUTION = 2.0**-21
"""Of float32 sums of set-points, as a share of the limits' sum: within it a balance is met."""


@dataclass(frozen=True, slots=True)
class Target:
    """The balance that a joint decision must meet.

    Attributes:
        demand: MW that all agents together are expected to give.
        tolerance: MW within which float32 set-points meet it.
    """

    demand: float
    tolerance: float


class Reader:
    """Columns of a spec that the costs need.

    Raises:
        KeyError: the spec lacks one of them.
    """

    def __init__(self, spec: Spec) -> None:
        self.agents = spec.agents
        self.standing = Standing(spec)
        self._need, self._price = spec.agent_column("need"), spec.agent_column("price")
        self._marginal = spec.agent_column("marginal_cost")
        self._top = spec.agent_column("cost_at_top")
        self._congestion = spec.agent_column("congestion")
        self.minimum, self.on = spec.agent_column("minimum"), spec.agent_column("on")

    def target(self, observation: Observation) -> Target:
        """The balance of all agents. All tell the same ``need``: a few wrong ones are outvoted."""
        low, high = observation.low.astype(np.float64), observation.high.astype(np.float64)
        need = float(np.median(observation.agent[:, self._need]))
        size = float(np.maximum(np.abs(low), np.abs(high)).sum())
        demand = float(low.sum()) + need * float((high - low).sum())
        return Target(demand, RESOLUTION * size)

    def priced(self, observation: Observation, prices: Prices) -> Priced:
        """The cost functions of an observation."""
        seen = observation.agent.astype(np.float64)
        power, capacity = self.standing.read(observation)
        marginal = seen[:, self._marginal] * PRICE
        free = (marginal <= 0.0) & (seen[:, self.minimum] >= 0.0)
        room = np.maximum(capacity - power, 1e-6)
        rise = np.maximum(seen[:, self._top] * PRICE - marginal, 0.0) / room
        whole = seen.shape[0] == self.agents
        return Priced(
            observation=observation,
            low=observation.low[:, 0].astype(np.float64),
            high=observation.high[:, 0].astype(np.float64),
            power=power,
            # Energy that costs nothing and is not used is what curtailment is priced for.
            slope=marginal - prices.curtailment * free - seen[:, self._congestion] * PRICE,
            rise=np.where(capacity > 0.0, rise, 0.0),
            own=marginal,
            price=float(np.median(seen[:, self._price])) * PRICE,
            prices=prices,
            target=self.target(observation) if whole else None,
        )


@dataclass(frozen=True, slots=True)
class Priced:
    """Cost functions of the agents of one observation, ``[n]`` each.

    An agent's cost in $/h is its own marginal cost at its present output ``power``, rising in a
    straight line to that of its last MW, less what congestion makes a MW at its bus worth.

    Attributes:
        observation: they are of.
        low, high, power: MW; slope: $/MWh at ``power``; rise: $/MWh per MW above it.
        own: $/MWh without congestion and curtailment, what the present output is paid by.
        price: $/MWh of the indicative price.
        prices: of the scenario.
        target: of the balance; ``None`` where not all agents are there: then the others make up
            for the difference, at the indicative price.
    """

    observation: Observation
    low: Doubles
    high: Doubles
    power: Doubles
    slope: Doubles
    rise: Doubles
    own: Doubles
    price: float
    prices: Prices
    target: Target | None

    @property
    def base(self) -> float:
        """$/h of the present outputs, at least 1 $/MWh: what predicted costs are relative to."""
        each = np.maximum(self.own, 1.0) * np.maximum(self.power, 0.0)
        return float(each.sum())

    def reduced(self, power: Doubles) -> Doubles:
        """``[n]`` $/h of moving to ``power``, less what the indicative price pays for it."""
        move = power - self.power
        up = np.maximum(move, 0.0)
        return (self.slope - self.price) * move + 0.5 * self.rise * up * up

    def best(self) -> Doubles:
        """``[n]`` MW inside the box where :meth:`reduced` is least."""
        gain = self.price - self.slope
        up = np.divide(gain, self.rise, out=np.full_like(gain, np.inf), where=self.rise > 0.0)
        return np.where(gain > 0.0, np.clip(self.power + up, self.low, self.high), self.low)

    def total(self, actions: NDArray[np.float32]) -> float:
        """Predicted $/h of joint set-points ``[n, 1]``, imbalance priced."""
        power = actions[:, 0].astype(np.float64)
        cost = self.base + float(self.reduced(power).sum())
        if self.target is None:
            return cost
        short = self.target.demand - float(power.sum())
        if abs(short) > self.target.tolerance:
            cost += self.prices.shed * short if short > 0.0 else -self.prices.surplus * short
            cost -= self.price * short
        return cost + self.price * (self.target.demand - float(self.power.sum()))

    def bound(self) -> float:
        """$/h that no joint set-points go below: the Lagrangian dual at the indicative price.

        Weak duality (Boyd and Vandenberghe, Convex Optimization, 5.1.3) for any price between
        those of surplus and of shed load, which :meth:`total` charges for what is not balanced.
        """
        cost = self.base + float(self.reduced(self.best()).sum())
        if self.target is None:
            return cost
        if not -self.prices.surplus <= self.price <= self.prices.shed:
            return float("nan")
        return cost + self.price * (self.target.demand - float(self.power.sum()))
