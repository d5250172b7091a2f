"""The strongest simple answers to stale load information: spread the choice, in proportion.

When everybody decides at once on the same old snapshot, the best-looking node is everybody's
best-looking node. Mitzenmacher, "How Useful Is Old Information?" (IEEE TPDS 11(1), 2000) and
Dahlin (below) show that randomised rules then beat any ranking.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Doubles, Observation, Spec
from ..interface import Information
from .rules import Columns, MixedRule, Score, legal_nodes, titled
from .scores import shortest_delay

TEMPERATURE = 0.15
"""Best of a sweep (0.05 ... 1) on the ``dispatch`` scenario with 20 and 200 agents, load 0.7 and a
snapshot of one epoch; flat between 0.05 and 0.25."""

_HUGE = 1e100

UNSEEN = 0.5
"""Part of the arrivals during the snapshot's age that :func:`interpreted` rules pour; the rest is
taken as balanced by departures. Best or within 1 % of the best of a sweep (0.25 ... 4 epochs) on
the ``dispatch`` scenario at snapshot ages 1, 3 and 5 and loads 0.5, 0.7 and 0.9."""


def water_filling(cost: Doubles, slope: Doubles, arrivals: Doubles) -> Doubles:
    """Splits ``arrivals`` ``[A, 1]`` so that ``cost + share * slope`` is level where shares are.

    ``cost`` and ``slope`` are ``[A, K]``, slope positive; a candidate of infinite cost takes no
    part. Returns the shares ``[A, K]``: zero where the cost alone is above the common level.
    """
    order = np.argsort(cost, axis=1, kind="stable")
    least = np.take_along_axis(cost, order, axis=1)
    taking = np.isfinite(least)
    slack = np.where(taking, 1.0 / np.take_along_axis(slope, order, axis=1), 0.0)
    filled = np.where(taking, least, 0.0) * slack
    with np.errstate(divide="ignore", invalid="ignore"):
        level = (arrivals + filled.cumsum(axis=1)) / slack.cumsum(axis=1)
        level = np.where(taking & (level >= least), level, -np.inf)
    # The level of the largest set whose members all stand below it.
    last = level.shape[1] - 1 - np.isfinite(level)[:, ::-1].argmax(axis=1)
    common = np.take_along_axis(level, last[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        share = np.maximum((common - cost) / slope, 0.0)
    return np.where(np.isfinite(cost), share, 0.0)


def interpreted(
    *,
    name: str,
    spec: Spec,
    columns: tuple[str, ...],
    cost: Score,
    hidden: Callable[[Columns], Doubles],
    information: Information = "same",
) -> MixedRule:
    """Interpreted stale load: level the cost after the arrivals that the snapshot hides.

    After the Basic LI algorithm of Dahlin, "Interpreting Stale Load Information" (IEEE TPDS 11(10),
    2000), of which only the abstract was available; derived here: choose a node with probability
    proportional to its share when the jobs placed since the snapshot are poured over the
    candidates until the cost of a further job is level. Each poured job delays the next one by
    its own service time.

    Args:
        name: as shown in tables, without the variant.
        spec: what the simulator looks like.
        columns: names of the columns that ``cost`` and ``hidden`` read, besides ``service``.
        cost: cost of the agent's job at each candidate in the snapshot ``[A, K]``, seconds.
        hidden: expected number of jobs per node ``[A, 1]`` that the snapshot does not show.
        information: ``"same"`` or ``"fresh"``.
    """

    def weight(values: Columns, observation: Observation) -> Doubles:
        legal, slope = legal_nodes(observation), values["service"]
        price = cost(values).astype(np.float64)
        known = legal & _meaningful(price) & _meaningful(slope) & (slope > 0.0)
        # fmax: an agent whose arrivals are unknown pours next to nothing.
        arrivals = np.fmax(hidden(values) * legal.sum(axis=1, keepdims=True), 1e-9)
        return water_filling(np.where(known, price, np.inf), np.where(known, slope, 1.0), arrivals)

    return MixedRule(
        name=titled(name, information),
        spec=spec,
        columns=("service", *columns),
        weight=weight,
        information=information,
    )


def softmax_sed(
    spec: Spec, temperature: float = TEMPERATURE, information: Information = "same"
) -> MixedRule:
    """Randomised shortest expected delay: odds ``exp(-log(delay) / temperature)``.

    The logarithm makes one temperature mean the same at every job size. Temperature 0 would be
    shortest expected delay, infinity random.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")

    def weight(values: Columns, observation: Observation) -> Doubles:
        delay = shortest_delay(values)
        known = legal_nodes(observation) & _meaningful(delay) & (delay > 0.0)
        delay = np.where(known, delay, np.inf)
        least = delay.min(axis=1, keepdims=True)
        return (np.where(np.isfinite(least), least, 1.0) / delay) ** (1.0 / temperature)

    return MixedRule(
        name=titled("softmax-sed", information),
        spec=spec,
        columns=("jobs", "service"),
        weight=weight,
        information=information,
    )


def _meaningful(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which entries a sum can be made of: neither NaN nor infinite, nor near the largest number.

    A live system's sensors fail; a node of which nothing is known then takes no part, and an agent
    that knows of no node at all draws evenly among its legal ones (see :class:`.rules.MixedRule`).
    """
    return np.abs(values) < _HUGE
