"""Dispatch rules that read nothing but what agents observe; they need no grid and no solver.

``merit-order`` (cheapest segments first), ``price`` (everybody follows the indicative price at its
own bus, congestion included), ``proportional`` (hold; the balance shares out every change in
proportion to what units can move), ``droop`` (move with the demand in proportion to capacity, as
governors do).
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles, Floats, Observation, Spec
from ..interface import Controller, Information

COLUMN = {"merit-order": "merit", "price": "response"}


class ShareRule:
    """A rule that reads a share of the box from agent features."""

    information: Information = "same"

    def __init__(self, spec: Spec, name: str) -> None:
        self.name = name
        self._column = spec.agent_column(COLUMN[name])

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, 1]``."""
        del rng
        seen = observation.agent[:, self._column, None]
        share = np.clip(seen, np.float32(0.0), np.float32(1.0))
        wanted = observation.low + (observation.high - observation.low) * share
        return np.clip(wanted, observation.low, observation.high).astype(np.float32)


class Standing:
    """Where every agent stands, from its features and its box.

    Features are shares of a capacity that is not observed itself, but so is the box: its width in
    MW over its width in shares is the capacity.
    """

    def __init__(self, spec: Spec) -> None:
        self._up, self._down = spec.agent_column("room_up"), spec.agent_column("room_down")

    def read(self, observation: Observation) -> tuple[Doubles, Doubles]:
        """Present output and capacity ``[n]`` MW; the lower end and 0 for boxes without width."""
        low = observation.low[:, 0].astype(np.float64)
        width = observation.high[:, 0] - low
        down = observation.agent[:, self._down].astype(np.float64)
        share = observation.agent[:, self._up] + down
        capacity = np.divide(width, share, out=np.zeros_like(low), where=(width > 0) & (share > 0))
        return low + down * capacity, capacity


class Proportional:
    """Hold the present output; the balance moves everybody by the same share of what it can."""

    information: Information = "same"
    name = "proportional"

    def __init__(self, spec: Spec) -> None:
        self._standing = Standing(spec)

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, 1]``."""
        del rng
        power, _ = self._standing.read(observation)
        held = power[:, None].astype(np.float32)
        return np.clip(held, observation.low, observation.high)


class Droop:
    """Everybody on line takes the change of demand, and the last imbalance, by its capacity."""

    information: Information = "same"
    name = "droop"

    def __init__(self, spec: Spec) -> None:
        self._standing, self._on = Standing(spec), spec.agent_column("on")
        self._change = spec.agent_column("demand_change")
        self._imbalance = spec.agent_column("imbalance")

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, 1]``."""
        del rng
        seen = observation.agent
        power, capacity = self._standing.read(observation)
        move = (seen[:, self._change] + seen[:, self._imbalance]) * seen[:, self._on]
        wanted = (power + move * capacity)[:, None].astype(np.float32)
        return np.clip(wanted, observation.low, observation.high)


def local(spec: Spec) -> tuple[Controller, ...]:
    """All of them."""
    return (
        ShareRule(spec, "merit-order"),
        ShareRule(spec, "price"),
        Proportional(spec),
        Droop(spec),
    )
