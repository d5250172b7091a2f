"""The meter: every metric of the contract, kept as plain numbers and read by scrapes.

Values are kept here rather than in prometheus_client's own children: figures of hundreds of agents
arrive as one array, series can be dropped on a swap, gauges may start as NaN, and no ``_created``
series appear. What is exported goes through prometheus_client all the same (see ``exposition``).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from ...ops import contract
from ...ops.metric import Metric as Described
from ...ops.metric import Scope
from ...simulators.interface import Floats

_Pairs = tuple[tuple[str, str], ...]


class Scalar:
    """One counter or gauge series."""

    __slots__ = ("value",)

    def __init__(self, value: float):
        self.value = value


class Histogram:
    """One histogram's series: counts between its bounds, sum, and the latest exemplar of each."""

    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, bounds: int):
        self.counts = [0] * (bounds + 1)
        self.exemplars: list[tuple[str, float, float] | None] = [None] * (bounds + 1)
        self.total = 0.0


class Family:
    """One metric with all its series.

    Attributes:
        metric: of the contract.
        series: by the values of its labels, in the contract's order.
    """

    def __init__(self, metric: Described, domains: set[str]):
        self.metric = metric
        self.names = tuple(metric.labels)
        self.bounds = np.array(metric.buckets)
        self.series: dict[tuple[str, ...], Scalar | Histogram] = {}
        self._domains = {metric.only} if metric.only else domains
        # Call sites name the same labels in the same order every time: one look-up per sample.
        self.found: dict[_Pairs, Scalar | Histogram] = {}

    def key(self, pairs: _Pairs) -> tuple[str, ...]:
        """Checked label values in the contract's order.

        Raises:
            KeyError: a label or value that the contract (or the list of domains) lacks.
        """
        given = dict(pairs)
        if set(given) != set(self.names):
            raise KeyError(f"{self.metric.name}: labels {sorted(given)}, not {sorted(self.names)}")
        for label, known in self.metric.labels.items():
            allowed = self._domains if label == "domain" else known
            if allowed and given[label] not in allowed:
                raise KeyError(
                    f"{self.metric.name}: {label}={given[label]!r} is none of {sorted(allowed)}"
                )
        return tuple(given[name] for name in self.names)

    def add(self, key: tuple[str, ...]) -> Scalar | Histogram:
        """The series with these label values, made if it is new."""
        if key not in self.series:
            self.series[key] = (
                Histogram(len(self.bounds))
                if self.metric.kind == "histogram"
                else Scalar(self.metric.initial)
            )
        return self.series[key]

    def drop(self, key: tuple[str, ...]) -> None:
        """Forget a series and the look-ups that lead to it."""
        cell = self.series.pop(key, None)
        self.found = {pairs: other for pairs, other in self.found.items() if other is not cell}


class ContractMeter(Collector):
    """Counts, observes and sets what ``ops/contract.py`` lists; safe to use from any thread.

    Implements ``Meter`` of ``daemon/interface.py`` and prometheus_client's collector.

    Args:
        domains: known from the start; their series with known labels begin at once, so that
            rates see the first increase.
        scope: which part of the contract is exported.
        limit: label sets one metric may have; samples beyond are dropped and counted in
            ``series_refused_total``.
    """

    def __init__(
        self,
        *,
        domains: Sequence[str] = (),
        scope: Scope = "serve",
        limit: int = 400,
    ):
        self._lock = threading.Lock()
        self._limit = limit
        self._domains: set[str] = set()
        self._families = {
            name: Family(metric, self._domains)
            for name, metric in contract.METRICS.items()
            if metric.scope == scope or name == "series_refused_total"
        }
        self._infos: dict[tuple[str, str], tuple[str, ...]] = {}
        self._spill = Scalar(0.0)
        for family in self._families.values():
            if not family.names:
                family.add(())
        for domain in domains:
            self.add_domain(domain)
        if scope == "serve":
            for name in ("requests_rejected_total", *sorted(contract.WITHOUT_DOMAIN)):
                self._begin(self._families[name], contract.NO_DOMAIN)

    def add_domain(self, domain: str) -> None:
        """Begin the series of a domain; a second call changes nothing."""
        with self._lock:
            self._domains |= {domain, contract.NO_DOMAIN}
            for name, family in self._families.items():
                whole = name in contract.WITHOUT_DOMAIN
                ours = family.metric.only in ("", domain)
                if ours and "domain" in family.names and family.metric.closed and not whole:
                    self._begin(family, domain)

    @staticmethod
    def _begin(family: Family, domain: str) -> None:
        values = [known or (domain,) for known in family.metric.labels.values()]
        for key in product(*values):
            family.add(key)

    def count(self, metric: str, value: float = 1.0, /, **labels: str) -> None:
        cell = self._cell(metric, "counter", labels)
        with self._lock:
            cell.value += value

    def set(self, metric: str, value: float, /, **labels: str) -> None:
        self._cell(metric, "gauge", labels).value = float(value)

    def observe(
        self, metric: str, value: float, /, exemplar: str | None = None, **labels: str
    ) -> None:
        cell = self._histogram(metric, labels)
        index = bisect_left(self._families[metric].metric.buckets, value)
        with self._lock:
            cell.counts[index] += 1
            cell.total += value
        if exemplar is not None:
            cell.exemplars[index] = (exemplar, value, time.time())

    def observe_many(self, metric: str, values: Floats, /, **labels: str) -> None:
        cell = self._histogram(metric, labels)
        bounds = self._families[metric].bounds
        kept = values[~np.isnan(values)]
        found = np.bincount(np.searchsorted(bounds, kept), minlength=len(bounds) + 1)
        total = float(kept.sum(dtype=np.float64))
        with self._lock:
            for index in np.flatnonzero(found).tolist():
                cell.counts[index] += int(found[index])
            cell.total += total

    def one_hot(self, metric: str, label: str, value: str, /, **labels: str) -> None:
        known = self._family(metric).metric.labels[label]
        if value not in known:
            raise KeyError(f"{metric}: {label}={value!r} is none of {sorted(known)}")
        for other in known:
            self.set(metric, float(other == value), **labels, **{label: other})

    def info(self, metric: str, /, key: str, **labels: str) -> None:
        family = self._family(metric)
        wanted = family.key(tuple(labels.items()))
        with self._lock:
            former = self._infos.get((metric, key))
            if former is not None and former != wanted:
                family.drop(former)
            self._infos[metric, key] = wanted
            family.add(wanted).value = 1.0  # type: ignore[union-attr]

    def forget(self, metric: str, /, key: str) -> None:
        with self._lock:
            former = self._infos.pop((metric, key), None)
            if former is not None:
                self._family(metric).drop(former)

    def value(self, metric: str, /, **labels: str) -> float:
        """Current value of a counter or gauge, or number of a histogram's observations.

        Raises:
            KeyError: no such series yet, or none that the contract allows.
        """
        family = self._family(metric)
        cell = family.series[family.key(tuple(labels.items()))]
        return cell.value if isinstance(cell, Scalar) else float(sum(cell.counts))

    def collect(self) -> Iterable[Metric]:
        """What a scrape sees, in the contract's order."""
        with self._lock:
            return [_exported(family) for family in self._families.values() if family.series]

    def describe(self) -> Iterator[Metric]:
        """Names for the registry's check on duplicates."""
        return (_empty(family.metric) for family in self._families.values())

    def _family(self, metric: str) -> Family:
        try:
            return self._families[metric]
        except KeyError:
            raise KeyError(f"{metric}: no such metric in ops/contract.py for this scope") from None

    def _cell(
        self, metric: str, kind: Literal["counter", "gauge"], labels: dict[str, str]
    ) -> Scalar:
        family = self._family(metric)
        if family.metric.kind != kind:
            raise KeyError(f"{metric} is a {family.metric.kind}, not a {kind}")
        cell = self._find(family, tuple(labels.items()))
        return cell if isinstance(cell, Scalar) else self._spill

    def _histogram(self, metric: str, labels: dict[str, str]) -> Histogram:
        family = self._family(metric)
        if family.metric.kind != "histogram":
            raise KeyError(f"{metric} is a {family.metric.kind}, not a histogram")
        cell = self._find(family, tuple(labels.items()))
        return cell if isinstance(cell, Histogram) else Histogram(len(family.bounds))

    def _find(self, family: Family, pairs: _Pairs) -> Scalar | Histogram | None:
        cell = family.found.get(pairs)
        if cell is not None:
            return cell
        key = family.key(pairs)
        with self._lock:
            if key not in family.series and len(family.series) >= self._limit:
                refused = self._families["series_refused_total"].add(())
                refused.value += 1.0  # type: ignore[union-attr]
                return None
            cell = family.found[pairs] = family.add(key)
        return cell


def _empty(metric: Described) -> Metric:
    kinds = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    return kinds[metric.kind](metric.full, metric.help, labels=tuple(metric.labels))


def _exported(family: Family) -> Metric:
    out = _empty(family.metric)
    edges = [*map(floatToGoString, family.metric.buckets), "+Inf"]
    for key, cell in family.series.items():
        if isinstance(out, HistogramMetricFamily) and isinstance(cell, Histogram):
            out.add_metric(key, _buckets(edges, cell), cell.total)
        elif isinstance(out, CounterMetricFamily | GaugeMetricFamily) and isinstance(cell, Scalar):
            out.add_metric(key, cell.value)
    return out


def _buckets(
    edges: list[str], cell: Histogram
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    out: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    count = 0.0
    for edge, own, seen in zip(edges, cell.counts, cell.exemplars, strict=True):
        count += own
        if seen is None:
            out.append((edge, count))
        else:
            out.append((edge, count, Exemplar({"decision_id": seen[0]}, seen[1], seen[2])))
    return out
