"""What agents and the central critic observe of a power system, as arrays of named features.

Everything that an agent reads is its own state or a number that a dispatch centre broadcasts: the
indicative prices, the forecast, the last imbalance, the most loaded branches with the agent's own
effect on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from ..interface import Doubles, Feature, Floats, Ints
from .fleet import Fleet

BRANCHES = 3
"""Most loaded branches that everybody sees."""

AHEAD = (2, 5, 11)
"""Leads (0-based) beyond the coming interval whose forecast is shown; cut to what there is."""

PRICE = 10.0
"""$/MWh that price features are multiples of."""

PRICES = 10_000.0
"""Bound of price features: what congestion and shortage can do is far above what units cost."""


NEED = (-1.0, 2.0)
"""Bounds of ``need``: where in the sum of all boxes (0: all lower ends, 1: all upper ends) the
expected demand lies. Beyond 0 and 1 everybody is at a limit, so that more need not be told."""


def agent_features(leads: Ints) -> tuple[Feature, ...]:
    """Features of an agent; shares are of its capacity unless they say otherwise.

    Bounds are what can be, not what is usual: a unit that has just been connected stands below its
    box, one that has just been stopped above.
    """
    own = (
        Feature("output", "share", -1.5, 1.5),
        Feature("room_up", "share", -2.0, 2.0),
        Feature("room_down", "share", -2.0, 2.0),
        Feature("minimum", "share", -1.0, 1.0),
        Feature("on", "0/1", 0.0, 1.0),
        Feature("hours_in_state", "h", 0.0, 1000.0, "log1p"),
        Feature("stored", "share of energy", 0.0, 1.0),
        Feature("marginal_cost", "10 $/MWh", -100.0, PRICES, "log1p"),
        Feature("cost_at_top", "10 $/MWh", -100.0, PRICES, "log1p"),
        Feature("merit", "share of box", 0.0, 1.0),
        Feature("response", "share of box", 0.0, 1.0),
        Feature("margin", "10 $/MWh", -PRICES, PRICES, "log1p"),
    )
    shared = (
        Feature("price", "10 $/MWh", -100.0, PRICES, "log1p"),
        Feature("congestion", "10 $/MWh", -PRICES, PRICES, "log1p"),
        Feature("demand_change", "share of committed", -2.0, 2.0),
        *(Feature(f"price_{lead + 1}", "10 $/MWh", -100.0, PRICES, "log1p") for lead in leads),
        *(Feature(f"change_{lead + 1}", "share of committed", -2.0, 2.0) for lead in leads),
        Feature("imbalance", "share of committed", -2.0, 2.0),
        Feature("ramp_up_left", "share of committed", -2.0, 2.0),
        Feature("ramp_down_left", "share of committed", -2.0, 2.0),
        Feature("need", "share of joint box", *NEED),
        Feature("reserve_left", "share of requirement", -10.0, inf, "log1p"),
        Feature("hour_sin", "1", -1.0, 1.0),
        Feature("hour_cos", "1", -1.0, 1.0),
    )
    lines = tuple(
        feature
        for number in range(1, BRANCHES + 1)
        for feature in (
            Feature(f"loading_{number}", "share of limit", 0.0, inf),
            Feature(f"effect_{number}", "MW per MW", -1.0, 1.0),
        )
    )
    return own + shared + lines


def critic_features(groups: tuple[str, ...], leads: Ints) -> tuple[Feature, ...]:
    """Features of the critic: sums over the system and over technologies."""
    return (
        Feature("demand", "share of capacity", 0.0, 2.0),
        Feature("renewable", "share of capacity", 0.0, 2.0),
        Feature("price", "10 $/MWh", -100.0, PRICES, "log1p"),
        Feature("merit_cost", "share of normal", -50.0, 50.0),
        *(Feature(f"change_{lead + 1}", "share of capacity", -1.0, 1.0) for lead in leads),
        *(Feature(f"price_{lead + 1}", "10 $/MWh", -100.0, PRICES, "log1p") for lead in leads),
        Feature("ramp_up_left", "share of capacity", -2.0, 2.0),
        Feature("ramp_down_left", "share of capacity", -2.0, 2.0),
        Feature("reserve_left", "share of requirement", -10.0, inf, "log1p"),
        Feature("imbalance", "share of capacity", -2.0, 2.0),
        Feature("overload", "MW", 0.0, inf, "log1p"),
        Feature("failed", "share of capacity", 0.0, 1.0),
        Feature("branches_out", "1", 0.0, inf),
        Feature("hour_sin", "1", -1.0, 1.0),
        Feature("hour_cos", "1", -1.0, 1.0),
        *(Feature(f"output_{group}", "share of group", -1.5, 1.5) for group in groups),
        *(Feature(f"room_{group}", "share of group", -2.0, 2.0) for group in groups),
    )


def shown_leads(leads: int) -> Ints:
    """The entries of :data:`AHEAD` that a forecast of ``leads`` intervals has."""
    return np.array([lead for lead in AHEAD if lead < leads], np.int64)


@dataclass(slots=True)  # not frozen: that takes longer than all that is done with one number
class Sight:
    """Numbers of one epoch that features are made of; see :class:`View`.

    Arrays over agents are ``[A]``; ``prices_ahead`` and ``changes`` are over the shown leads;
    ``loading`` ``[M]`` and ``effect`` ``[M, A]`` belong to the most loaded branches.
    """

    power: Doubles
    low: Doubles
    high: Doubles
    on: Doubles
    hours: Doubles
    stored: Doubles
    marginal: Doubles
    top_cost: Doubles
    merit: Doubles
    response: Doubles
    local_price: Doubles
    price: float
    prices_ahead: Doubles
    demand: float
    demand_change: float
    changes: Doubles
    renewable: float
    merit_cost: float
    imbalance: float
    reserve_left: float
    loading: Doubles
    effect: Doubles
    overload: float
    failed: float
    branches_out: int
    hour: float


class View:
    """Writes features; keeps its buffers, so that an epoch allocates two arrays."""

    def __init__(self, fleet: Fleet, leads: int) -> None:
        self.leads = shown_leads(leads)
        self.agent = agent_features(self.leads)
        self.critic = critic_features(fleet.groups, self.leads)
        self._fleet = fleet
        self._share = 1.0 / fleet.capacity
        self._rows = np.zeros((len(self.agent), fleet.size), np.float32)
        self._numbers = np.zeros(len(self.critic))
        member = np.zeros((len(fleet.groups), fleet.size))
        member[fleet.group_of, np.arange(fleet.size)] = 1.0
        totals = member @ fleet.capacity
        self._member = member / np.maximum(totals, 1e-9)[:, None]
        self._total = float(fleet.high[~fleet.store].sum())
        self._minimum = fleet.low * self._share
        angle = 2.0 * np.pi * np.arange(24 * 60) / (24.0 * 60.0)
        self._clock = np.stack([np.sin(angle), np.cos(angle)])

    def see(self, sight: Sight) -> tuple[Floats, Floats]:
        """Agent features ``[A, F]`` and critic features ``[S]`` of an epoch."""
        rows, share = self._rows, self._share
        up, down = sight.high - sight.power, sight.power - sight.low
        committed = max(float(sight.on @ self._fleet.high), 1.0)
        turn = self._clock[:, int(sight.hour * 60.0) % 1440]
        np.multiply(sight.power, share, out=rows[0])
        np.multiply(up, share, out=rows[1])
        np.multiply(down, share, out=rows[2])
        rows[3] = self._minimum
        rows[4] = sight.on
        rows[5] = sight.hours
        rows[6] = sight.stored
        np.divide(sight.marginal, PRICE, out=rows[7])
        np.divide(sight.top_cost, PRICE, out=rows[8])
        rows[9] = sight.merit
        rows[10] = sight.response
        np.subtract(sight.local_price, sight.marginal, out=rows[11])
        rows[11] /= PRICE
        rows[12] = sight.price / PRICE
        np.subtract(sight.local_price, sight.price, out=rows[13])
        rows[13] /= PRICE
        rows[14] = sight.demand_change / committed
        at, leads = 15, self.leads.size
        rows[at : at + leads] = (sight.prices_ahead / PRICE)[:, None]
        rows[at + leads : at + 2 * leads] = (sight.changes / committed)[:, None]
        at += 2 * leads
        up_left, down_left = float(up.sum()), float(down.sum())
        common = (
            sight.imbalance / committed,
            up_left / committed,
            down_left / committed,
            _need(sight, down_left, up_left + down_left),
            sight.reserve_left,
            turn[0],
            turn[1],
        )
        rows[at : at + 7] = np.array(common)[:, None]
        at += 7
        count = sight.loading.size
        rows[at:] = 0.0
        rows[at : at + 2 * count : 2] = sight.loading[:, None]
        rows[at + 1 : at + 2 * count : 2] = sight.effect
        agent = np.ascontiguousarray(rows.T)
        return agent, self._central(sight, up, up_left, down_left, turn)

    def _central(
        self, sight: Sight, up: Doubles, up_left: float, down_left: float, turn: Doubles
    ) -> Floats:
        total, leads, numbers = self._total, self.leads.size, self._numbers
        numbers[:4] = (
            sight.demand / total,
            sight.renewable / total,
            sight.price / PRICE,
            sight.merit_cost,
        )
        numbers[4 : 4 + leads] = sight.changes / total
        numbers[4 + leads : 4 + 2 * leads] = sight.prices_ahead / PRICE
        at = 4 + 2 * leads
        numbers[at : at + 9] = (
            up_left / total,
            down_left / total,
            sight.reserve_left,
            sight.imbalance / total,
            sight.overload,
            sight.failed / total,
            sight.branches_out,
            turn[0],
            turn[1],
        )
        at += 9
        groups = self._member.shape[0]
        numbers[at : at + groups] = self._member @ sight.power
        numbers[at + groups :] = self._member @ up
        return numbers.astype(np.float32)


def _need(sight: Sight, down_left: float, width: float) -> float:
    """What the agents are expected to give in all, by its place in their joint box."""
    lowest = float(sight.power.sum()) - down_left
    return min(max((sight.demand - lowest) / max(width, 1e-9), NEED[0]), NEED[1])
