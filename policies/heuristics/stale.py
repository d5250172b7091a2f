"""The strongest simple answers to stale load information: spread the choice, in proportion.

When everybody decides at once on the same old snapshot, the best-looking node is everybody's
best-looking node. Mitzenmacher, "How Useful Is Old Information?" (IEEE TPDS 11(1), 2000) and
Dahlin (below) show that randomised rules then beat any ranking.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...simulators.interface import Doubles, Observation, Spec
from ..interface import Controller, Information
from .rules import Columns, MixedRule, legal_nodes, titled
from .scores import shortest_delay

TEMPERATURE = 0.5
"""Temperature of :func:`softmax_sed` as listed by :func:`controllers`."""


def water_filling(jobs: Doubles, service: Doubles, arrivals: Doubles) -> Doubles:
    """Splits ``arrivals`` ``[A, 1]`` so that the delay ``(jobs + share) * service`` is level.

    ``jobs`` and ``service`` are ``[A, K]``; an infinite ``service`` takes no part. Returns the
    shares ``[A, K]``: zero where the delay already stands above the common level.
    """
    with np.errstate(invalid="ignore"):
        delay = np.where(np.isfinite(service), jobs * service, np.inf)
    order = np.argsort(delay, axis=1, kind="stable")
    sorted_delay = np.take_along_axis(delay, order, axis=1)
    taking = np.isfinite(sorted_delay)
    rate = np.where(taking, 1.0 / np.take_along_axis(service, order, axis=1), 0.0).cumsum(axis=1)
    count = np.where(taking, np.take_along_axis(jobs, order, axis=1), 0.0).cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(taking, (arrivals + count) / rate, -np.inf)
    wet = taking & (level >= sorted_delay)
    # The level of the largest set whose members all stand below it.
    last = np.maximum(wet.shape[1] - 1 - wet[:, ::-1].argmax(axis=1), 0)
    common = np.take_along_axis(level, last[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        share = np.maximum(common / service - jobs, 0.0)
    return np.where(np.isfinite(service), share, 0.0)


def interpreted(
    spec: Spec,
    hidden: Callable[[Columns], Doubles],
    columns: tuple[str, ...] = (),
    information: Information = "same",
) -> Controller:
    """Interpreted stale load: level the delay after the arrivals that the snapshot hides.

    After the Basic LI algorithm of Dahlin, "Interpreting Stale Load Information" (IEEE TPDS 11(10),
    2000), of which only the abstract was available; derived here: choose node ``i`` with
    probability proportional to its share when the arrivals since the snapshot are poured over the
    candidates until ``(jobs_i + share_i) * service_i`` is level.

    ``hidden`` maps the columns to the expected number of jobs per node ``[A, 1]`` that were or are
    being placed since the snapshot was taken; ``columns`` names what it reads.
    """

    def weight(values: Columns, observation: Observation) -> Doubles:
        legal = legal_nodes(observation)
        service = np.where(legal, values["service"], np.inf)
        arrivals = hidden(values) * legal.sum(axis=1, keepdims=True)
        return water_filling(values["jobs"], service, np.maximum(arrivals, 1e-9))

    return MixedRule(
        name=titled("interpreted", information),
        spec=spec,
        columns=("jobs", "service", *columns),
        weight=weight,
        information=information,
    )


def softmax_sed(
    spec: Spec, temperature: float = TEMPERATURE, information: Information = "same"
) -> Controller:
    """Randomised shortest expected delay: odds ``exp(-log(delay) / temperature)``.

    The logarithm makes one temperature mean the same at every job size. Temperature 0 would be
    shortest expected delay, infinity random.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")

    def weight(values: Columns, observation: Observation) -> Doubles:
        delay = np.where(legal_nodes(observation), shortest_delay(values), np.inf)
        least = delay.min(axis=1, keepdims=True)
        return (np.where(np.isfinite(least), least, 1.0) / delay) ** (1.0 / temperature)

    return MixedRule(
        name=titled("softmax-sed", information),
        spec=spec,
        columns=("jobs", "service"),
        weight=weight,
        information=information,
    )
