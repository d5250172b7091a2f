"""What a metric is: name, type, labels and buckets, as the contract lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Literal

PREFIX = "fairlead_"
Kind = Literal["counter", "gauge", "histogram"]
Scope = Literal["serve", "train"]

OPEN: tuple[str, ...] = ()
"""Values of a label that are not known beforehand."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: without the prefix.
        kind: as Prometheus knows it.
        help: one sentence for ``# HELP``.
        labels: label names, in order, with their known values (``OPEN``: not known beforehand).
        buckets: upper bounds of a histogram, without +Inf.
        initial: what a gauge shows before it is first set; NaN compares false in every alert.
        scope: exported by the daemon (serve) or by a training job (train).
        raw: why no panel and no rule shows it; empty if one does.
        only: domain whose slots alone export it; empty: all do.
    """

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    buckets: tuple[float, ...] = ()
    initial: float = nan
    scope: Scope = "serve"
    raw: str = ""
    only: str = ""

    @property
    def full(self) -> str:
        """Name with the prefix, as it is exported."""
        return PREFIX + self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """Names that queries use: the family's own, or a histogram's three."""
        if self.kind != "histogram":
            return (self.full,)
        return tuple(f"{self.full}_{part}" for part in ("bucket", "sum", "count"))

    @property
    def closed(self) -> bool:
        """Whether all label values but the domain are known, so that zeros can be exported."""
        return all(values for label, values in self.labels.items() if label != "domain")


def counter(name: str, text: str, /, **labels: tuple[str, ...]) -> Metric:
    """A counter of the daemon, by domain and more labels."""
    return Metric(name, "counter", text, {"domain": OPEN, **labels}, initial=0.0)


def gauge(name: str, text: str, /, *, initial: float = nan, **labels: tuple[str, ...]) -> Metric:
    """A gauge of the daemon, by domain and more labels."""
    return Metric(name, "gauge", text, {"domain": OPEN, **labels}, initial=initial)


def histogram(
    name: str, text: str, buckets: tuple[float, ...], /, **labels: tuple[str, ...]
) -> Metric:
    """A histogram of the daemon, by domain and more labels."""
    return Metric(name, "histogram", text, {"domain": OPEN, **labels}, buckets, 0.0)
