"""Statistics of a handful of runs: robust means, bootstrap intervals, paired comparisons.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264): interquartile mean, stratified bootstrap intervals, probability of improvement
and performance profiles. Runs on common seeds are compared seed by seed, which removes the
variance that the seeds themselves cause.

A *stratum* is a set of exchangeable runs (one scenario); resampling never crosses strata. Scores
are "larger is better" wherever a direction matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""Maps ``[..., n]`` to ``[...]``, reducing the last axis."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with a percentile bootstrap interval of coverage ``level``."""

    point: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.point:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean(values: Values) -> Values:
    """Mean over the last axis."""
    return values.mean(axis=-1)


def iqm(values: Values) -> Values:
    """Interquartile mean over the last axis: the mean without the lowest and highest quarter.

    ``floor(n / 4)`` values are dropped at each end, as ``scipy.stats.trim_mean`` does.
    """
    n = values.shape[-1]
    cut = n // 4
    return np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1)


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = mean,
    *,
    strata: ArrayLike | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of ``statistic`` over runs, resampled within each stratum.

    Args:
        values: runs ``[n]``.
        statistic: reduces the last axis.
        strata: label of every run's stratum ``[n]``; by default all runs are one stratum.
        resamples: bootstrap replications.
        level: coverage of the interval.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: no runs, a run that is not finite, or ``level`` outside (0, 1).
    """
    runs = _runs(values)
    labels = np.zeros(runs.size) if strata is None else np.asarray(strata)
    groups = [runs[labels == label] for label in np.unique(labels)]
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xB007]))
    drawn = [group[rng.integers(group.size, size=(resamples, group.size))] for group in groups]
    replicated = statistic(np.concatenate(drawn, axis=1))
    low, high = np.quantile(replicated, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(runs)), float(low), float(high), level)


def paired_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    statistic: Statistic = mean,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of ``ours - theirs``, run by run on common seeds.

    Raises:
        ValueError: different numbers of runs.
    """
    a, b = _pair(ours, theirs)
    return bootstrap(a - b, statistic, resamples=resamples, level=level, seed=seed)


def probability_of_improvement(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    paired: bool = False,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Probability that a run of ours scores higher than one of theirs; a draw counts one half.

    Unpaired it is the Mann-Whitney statistic ``P(X > Y) + P(X = Y) / 2`` over all pairs of runs;
    ``paired`` compares only runs on the same seed.
    """
    if paired:
        a, b = _pair(ours, theirs)
        won = (a > b) + 0.5 * (a == b)
        return bootstrap(won, resamples=resamples, level=level, seed=seed)
    a, b = _runs(ours), _runs(theirs)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    won = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xB007]))
    # Resampling runs means re-weighting rows and columns of the table of wins.
    rows = rng.multinomial(a.size, np.full(a.size, 1 / a.size), size=resamples) / a.size
    columns = rng.multinomial(b.size, np.full(b.size, 1 / b.size), size=resamples) / b.size
    replicated = np.einsum("ra,ab,rb->r", rows, won, columns, optimize=True)
    low, high = np.quantile(replicated, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(won.mean()), float(low), float(high), level)


def kendall(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Kendall's tau-a of two figures of the same things, in -1..1; nan for fewer than two things.

    Pairs in the same order less pairs in opposite order, of all pairs; a tie counts as neither.

    Raises:
        ValueError: of different lengths.
    """
    one, two = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"expected two lists of one length, got shapes {one.shape}, {two.shape}")
    if one.size < 2:
        return float("nan")
    first, second = np.triu_indices(one.size, k=1)
    return float(np.mean(np.sign((one[first] - one[second]) * (two[first] - two[second]))))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Values:
    """Fraction of runs that score above each threshold, ``[thresholds]``."""
    runs = _runs(scores)
    return (runs[:, None] > np.asarray(thresholds, dtype=np.float64)[None, :]).mean(axis=0)


def _pair(ours: ArrayLike, theirs: ArrayLike) -> tuple[Values, Values]:
    a, b = _runs(ours), _runs(theirs)
    if a.size != b.size:
        raise ValueError(f"paired runs need common seeds: {a.size} runs against {b.size}")
    return a, b


def _runs(values: ArrayLike) -> Values:
    runs = np.asarray(values, dtype=np.float64)
    if runs.ndim != 1 or runs.size == 0:
        raise ValueError(f"runs must be numbers on one axis, got shape {runs.shape}")
    if not np.isfinite(runs).all():
        bad = int(np.flatnonzero(~np.isfinite(runs))[0])
        raise ValueError(f"run {bad} is {runs[bad]}; runs must be finite")
    return runs
