"""Inner products of independent gradient samples, and the monitor that reads them.

A roll-out is cut into units: episodes, or time blocks of episodes longer than the reach of GAE.
Each unit u gives a gradient of the true surrogate J_u and of the guidance surrogate G_u. All that
variances, cosines and confidence need is the Gram matrix of these 2 n vectors, per parameter group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..simulators.interface import Doubles
from .settings import AlignmentSettings


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
        """Cosine of the mean J and mean G gradient over all groups, and its standard error.

        The inner product leaves out equal units (``sum_{u != v} J_u . G_v``), because J_u and G_u
        share their sampled actions; the norms are those of the noisy means, which pulls the value
        towards 0 and never changes its sign. The error is the jackknife over units, widened to
        the spread of Student's t with n - 1 degrees of freedom; NaN with fewer than 4 units.
        """
        n = self.units
        if n < 4:
            return float("nan"), float("nan")
        total = self.gram.sum(axis=0)
        whole = _cosine(total, np.ones(n, bool))
        left_out = np.array([_cosine(total, np.arange(n) != unit) for unit in range(n)])
        error = np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum())
        error *= np.sqrt((n - 1) / (n - 3))
        return whole, float(error)


def _cosine(gram: Doubles, keep: np.ndarray) -> float:
    n = int(keep.sum())
    rows = np.concatenate([keep, keep])
    part = gram[np.ix_(rows, rows)]
    inner = _across(part[:n, n:])
    norms = part[:n, :n].sum() * part[n:, n:].sum() / n**4
    return float(inner / np.sqrt(norms)) if norms > 0.0 else 0.0


def _across(block: Doubles) -> float:
    """Mean product of different units."""
    n = block.shape[0]
    return float((block.sum() - np.trace(block)) / (n * (n - 1)))


class AlignmentMonitor:
    """Cuts alpha when the guidance is shown to point away from the measured policy gradient.

    With many agents the sampled gradient is mostly noise, so the *lower* confidence bound of the
    cosine is below 0 nearly always, also for a perfect model: alarming on it would switch the
    guidance off exactly where it is needed. The monitor therefore asks for evidence *of* a
    conflict: the *upper* bound below 0. One roll-out rarely decides that, so standardised cosines
    are accumulated, ``z <- rho z + sqrt(1 - rho^2) cosine / error``, which is again standard normal
    if the true cosine is 0 (an EWMA control chart). ``z < -confidence`` is an alert: alpha is
    multiplied by ``cut``; while ``z > 0`` the cut heals by ``recover`` per update.
    """

    def __init__(self, settings: AlignmentSettings) -> None:
        self.settings = settings
        self.evidence = 0.0
        self.alerts = 0

    def observe(self, cosine: float, error: float, brake: float) -> float:
        """Add one update's cosine; returns the new brake on alpha."""
        if not np.isfinite(cosine) or not np.isfinite(error) or error <= 0.0:
            return brake
        memory = self.settings.memory
        self.evidence = memory * self.evidence + np.sqrt(1.0 - memory**2) * cosine / error
        if self.evidence < -self.settings.confidence:
            self.alerts += 1
            return brake * self.settings.cut
        if self.evidence > 0.0:
            return min(1.0, brake * self.settings.recover)
        return brake
