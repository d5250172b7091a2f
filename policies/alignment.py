"""Inner products of independent gradient samples, and the monitor that reads them.

A roll-out is cut into units: episodes, or time blocks of episodes longer than the reach of GAE.
Each unit u gives a gradient of the true surrogate J_u and of the guidance surrogate G_u. All that
variances, cosines and confidence need is the Gram matrix of these 2 n vectors, per parameter group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulators.interface import Doubles
from .guidance_settings import AlignmentSettings


@dataclass(frozen=True, slots=True)
class GradientGram:
    """``gram`` ``[G, 2 n, 2 n]`` float64: rows 0..n-1 are J_u, rows n..2n-1 are G_u."""

    gram: Doubles

    @property
    def units(self) -> int:
        return self.gram.shape[1] // 2

    def _block(self, row: int, column: int) -> Doubles:
        n = self.units
        return self.gram[:, row * n : (row + 1) * n, column * n : (column + 1) * n]

    def _variance(self, which: int) -> Doubles:
        block, n = self._block(which, which), self.units
        if n < 2:
            return np.full(block.shape[0], np.nan)
        own = np.trace(block, axis1=1, axis2=2)
        return np.maximum(own - block.sum(axis=(1, 2)) / n, 0.0) / (n * (n - 1))

    @property
    def variance_return(self) -> Doubles:
        """s_J^2 ``[G]``: variance of the mean of the units' J gradients, summed over parameters."""
        return self._variance(0)

    @property
    def variance_guidance(self) -> Doubles:
        """s_G^2 ``[G]``, likewise for the guidance gradients."""
        return self._variance(1)

    def products(self) -> tuple[float, float]:
        """``E J . E G`` and ``|E G|^2`` over all groups without noise bias (equal units left out).

        NaN with fewer than 2 units.
        """
        n, total = self.units, self.gram.sum(axis=0)
        if n < 2:
            return float("nan"), float("nan")
        return _across(total[:n, n:]), _across(total[n:, n:])

    def cosine(self) -> tuple[float, float]:
        """Cosine of the mean J and mean G gradient over all groups, and its standard score.

        The inner product leaves out equal units (``sum_{u != v} J_u . G_v``), because J_u and G_u
        share their sampled actions; the norms are those of the noisy means, which pulls the cosine
        towards 0 and never changes its sign.

        The score tests whether J has any component along G: ``s_u = J_u . mean_{v != u} G_v`` are
        about independent, their t statistic is turned into a normal score (Wallace 1959). NaN with
        fewer than 4 units or without gradients.
        """
        n, total = self.units, self.gram.sum(axis=0)
        if n < 4:
            return float("nan"), float("nan")
        cross = total[:n, n:]
        along = (cross.sum(axis=1) - np.diagonal(cross)) / (n - 1)
        norms = total[:n, :n].sum() * total[n:, n:].sum() / n**4
        spread = along.std(ddof=1) / np.sqrt(n)
        if norms <= 0.0 or spread <= 0.0:
            return float("nan"), float("nan")
        return float(along.mean() / np.sqrt(norms)), _normal_score(along.mean() / spread, n - 1)


def _normal_score(t: float, freedom: int) -> float:
    """The standard normal quantile of a Student t value, to about 1 per cent."""
    shrink = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    return float(np.copysign(shrink * np.sqrt(freedom * np.log1p(t * t / freedom)), t))


def _across(block: Doubles) -> float:
    """Mean product of different units."""
    n = block.shape[0]
    return float((block.sum() - np.trace(block)) / (n * (n - 1)))


class AlignmentMonitor:
    """Cuts alpha when the guidance is shown to point away from the measured policy gradient.

    With many agents the sampled gradient is mostly noise, so the *lower* confidence bound of the
    cosine is below 0 nearly always, also for a perfect model: alarming on it would switch the
    guidance off exactly where it is needed. The monitor therefore asks for evidence *of* a
    conflict: the *upper* bound below 0. One roll-out rarely decides that, so the cosine's standard
    scores are accumulated, ``z <- rho z + sqrt(1 - rho^2) score``, which is again standard normal
    if the true cosine is 0 (an EWMA control chart). ``z < -confidence`` is an alert: alpha is
    multiplied by ``cut``; while ``z > 0`` the cut heals by ``recover`` per update.
    """

    def __init__(self, settings: AlignmentSettings) -> None:
        self.settings = settings
        self.evidence = 0.0
        self.alerts = 0

    def observe(self, score: float, brake: float) -> float:
        """Add one update's standard score (NaN: none); returns the new brake on alpha."""
        if not np.isfinite(score):
            return brake
        memory = self.settings.memory
        self.evidence = memory * self.evidence + float(np.sqrt(1.0 - memory**2)) * score
        if self.evidence < -self.settings.confidence:
            self.alerts += 1
            return brake * self.settings.cut
        if self.evidence > 0.0:
            return min(1.0, brake * self.settings.recover)
        return brake
