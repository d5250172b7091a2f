"""How far the observations of late have moved from those of training: population stability index.

``PSI = sum over bins of (p - q) * ln(p / q)``, with q the shares of the 12 bins in training and p
those of the latest decisions (Siddiqi, Credit Risk Scorecards, 2006: above 0.1 look, above 0.25
act). It costs a millisecond, so it is taken beside the decisions, never on their path.

The bins are cut at training quantiles, so that every bin held a twelfth. Where a value is frequent
(a queue that is mostly empty) quantiles coincide, and they tell the shares only to within a
twelfth; then the index counts only what no distribution with these quantiles explains.

The latest decisions are no independent samples: they see one load, one hour of the day. So does any
stretch of training; the manifest's ``usual`` says how high the index then gets. What is shown is
the index beyond that, and nothing while fewer decisions than a stretch are known.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import HOLD, Doubles, Feature, Floats, Observation, Spec
from .settings import DriftSettings

_FLOOR = 1e-4
"""Smallest share of a bin: an empty one would make the index infinite."""
_SAMPLES = 120
"""Values below which nothing is said: ten for each bin."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The index over the window; NaN where there is too little to say.

    Attributes:
        highest, mean: over the features.
        worst: name of the feature with the highest (empty: none).
        features: index by feature name, those of candidates with ``candidate:`` before it.
        decisions: observations in the window.
    """

    highest: float
    mean: float
    worst: str
    features: Mapping[str, float]
    decisions: int


class Drift:
    """Collects observations and compares them with training; safe to use from several threads.

    Args:
        spec: of the bundle.
        observed: training quantiles as in the bundle's manifest; parts that are empty or missing
            are not compared.
        settings: the window, and features that are not compared.
    """

    def __init__(self, *, spec: Spec, observed: Mapping[str, Any], settings: DriftSettings) -> None:
        self._parts = (
            _columns(spec.agent_features, "", observed.get("agent")),
            _columns(spec.candidate_features, "candidate:", observed.get("candidate")),
        )
        self._ignored = frozenset(settings.ignore)
        self._least = int(observed.get("stretch", 1))
        most = max(settings.window, self._least)
        self._window: deque[tuple[Doubles, Doubles]] = deque(maxlen=most)
        self._lock = threading.Lock()

    def update(self, observation: Observation) -> None:
        """Count one observation: every agent's features, and the legal candidates but hold.

        As in training, candidates count where the agent is active. Values that are not finite are
        left out (validation counts them).
        """
        offered = observation.mask & observation.active[:, None]
        offered[:, HOLD : HOLD + 1] = False
        rows = (observation.agent, observation.candidates[offered])
        counts = tuple(
            np.stack([column.count(values[:, index]) for index, column in enumerate(part)])
            if part
            else np.zeros((0, 12))
            for part, values in zip(self._parts, rows, strict=True)
        )
        with self._lock:
            self._window.append((counts[0], counts[1]))

    def figures(self) -> Figures:
        """The index of every feature over the window."""
        with self._lock:
            window = list(self._window)
        found: dict[str, float] = {}
        for which, part in enumerate(self._parts):
            if not part or len(window) < self._least:
                continue
            total = np.sum([counts[which] for counts in window], axis=0)
            for column, counts in zip(part, total, strict=True):
                if column.name not in self._ignored:
                    found[column.name] = max(column.index(counts) - column.usual, 0.0)
        known = {name: value for name, value in found.items() if np.isfinite(value)}
        if not known:
            return Figures(float("nan"), float("nan"), "", found, len(window))
        worst = max(known, key=known.__getitem__)
        mean = sum(known.values()) / len(known)
        return Figures(known[worst], mean, worst, found, len(window))


@dataclass(frozen=True, slots=True)
class _Column:
    """One feature's bins: ``[edge, next edge)`` between distinct edges, and what share they held.

    Attributes:
        name: as in :class:`Figures`.
        edges: ``[B - 1]`` distinct, increasing.
        least, most: ``[B]`` bounds of each bin's share in training.
        bins: of the feature with the most, so that all counts have one shape.
        usual: highest index of a stretch of training.
    """

    name: str
    edges: Doubles
    least: Doubles
    most: Doubles
    bins: int
    usual: float = 0.0

    def count(self, values: Floats) -> Doubles:
        finite = values[np.isfinite(values)]
        return np.bincount(
            np.searchsorted(self.edges, finite, side="right"), minlength=self.bins
        ).astype(np.float64)

    def index(self, counts: Doubles) -> float:
        total = counts.sum()
        if total < _SAMPLES:
            return float("nan")
        share = counts[: self.least.size] / total
        expected = np.maximum(np.clip(share, self.least, self.most), _FLOOR)
        share = np.maximum(share, _FLOOR)
        return float(((share - expected) * np.log(share / expected)).sum())


def _columns(features: tuple[Feature, ...], prefix: str, seen: Any) -> tuple[_Column, ...]:
    if not (seen and len(seen["edges"])):
        return ()
    usual = seen.get("usual") or [0.0] * len(features)
    return tuple(
        replace(_column(prefix + feature.name, low, high, np.array(edges, np.float64)), usual=level)
        for feature, low, high, edges, level in zip(
            features, seen["low"], seen["high"], seen["edges"], usual, strict=True
        )
    )


def indices(part: Mapping[str, Any], rows: Floats) -> Doubles:
    """Index of each column of ``rows`` ``[N, F]`` against a part of ``observed`` (NaN: too few)."""
    found = np.full(len(part["low"]), np.nan)
    for at, edges in enumerate(part["edges"]):
        column = _column("", part["low"][at], part["high"][at], np.array(edges, np.float64))
        found[at] = column.index(column.count(rows[:, at]))
    return found


def _column(name: str, low: float, high: float, quantiles: Doubles) -> _Column:
    """Bins of a feature from its quantiles j / bins, j = 1 .. bins - 1.

    With F the training distribution, ``F(e-) <= j / bins <= F(e)`` at the j-th quantile e. For a
    continuous one both are equal. Nothing lies below the lowest value. A column with equal (apart
    from the lowest and highest value) or only integer quantiles is taken to be discrete; all that
    is known there is that the mass below e lies between the quantile before its run and the first
    of its run.
    """
    bins = quantiles.size + 1
    edges, first, run = np.unique(quantiles, return_index=True, return_counts=True)
    inside = (edges > low) & (edges < high)
    discrete = bool((run[inside] > 1).any() or (edges == np.round(edges)).all())
    upper = np.where(edges > low, (first + 1) / bins, 0.0)
    apart = discrete | ((edges >= high) & (run > 1))
    lower = np.where(apart & (edges > low), first / bins, upper)
    below_least = np.concatenate([[0.0], lower, [1.0]])
    below_most = np.concatenate([[0.0], upper, [1.0]])
    least = np.maximum(below_least[1:] - below_most[:-1], 0.0)
    most = below_most[1:] - below_least[:-1]
    return _Column(name, _doubles(edges), least, most, bins)


def _doubles(values: NDArray[Any]) -> Doubles:
    return np.ascontiguousarray(values, np.float64)
