"""The weight alpha between the sampled policy gradient and the guidance.

For two estimators of one direction with independent noise of variance s_J^2 and s_G^2, the blend
``(1 - alpha) g_J + alpha g_G`` has variance ``(1 - alpha)^2 s_J^2 + alpha^2 s_G^2``, smallest at

    alpha* = s_J^2 / (s_J^2 + s_G^2).

That arXiv 2602.20078's theorem 4.2 states the same is our reading of a second-hand account; the
linear schedule 0.9 to 0.2 is the published one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Doubles
from .settings import AlphaSettings


def optimal_alpha(variance_return: Doubles, variance_guidance: Doubles) -> Doubles:
    """``s_J^2 / (s_J^2 + s_G^2)``; 1 where neither varies (the guidance costs nothing then)."""
    total = variance_return + variance_guidance
    return np.where(total > 0.0, variance_return / np.where(total > 0.0, total, 1.0), 1.0)


class AlphaController:
    """Alpha of each parameter group at each update.

    ``brake`` in [0, 1] multiplies the schedule; the alignment monitor moves it.
    """

    def __init__(self, settings: AlphaSettings, groups: int) -> None:
        self.settings = settings
        self.brake = 1.0
        self.variance_return: Doubles = np.zeros(groups)
        self.variance_guidance: Doubles = np.zeros(groups)
        self.weight: Doubles = np.zeros(groups)

    def observe(self, variance_return: Doubles, variance_guidance: Doubles) -> None:
        """Add an update's gradient variances ``[G]``; NaN (too little data) changes nothing."""
        known = np.isfinite(variance_return) & np.isfinite(variance_guidance)
        keep = np.where(known, self.settings.memory, 1.0)
        new = np.where(known, 1.0 - self.settings.memory, 0.0)
        self.variance_return = keep * self.variance_return + new * np.nan_to_num(variance_return)
        self.variance_guidance = keep * self.variance_guidance + new * np.nan_to_num(
            variance_guidance
        )
        self.weight = keep * self.weight + new

    def value(self, update: int) -> Doubles:
        """Alpha ``[G]`` for this update (counted from 0)."""
        settings = self.settings
        start = np.full(self.weight.shape, settings.start)
        if settings.schedule == "linear":
            share = min(1.0, update / max(1, settings.updates - 1))
            alpha = start + share * (settings.end - settings.start)
        elif settings.schedule == "optimal":
            best = optimal_alpha(self.variance_return, self.variance_guidance)
            alpha = np.where(self.weight > 0.0, best, start)
        else:
            alpha = start
        return alpha * self.brake * self._fine_tune(update)

    def _fine_tune(self, update: int) -> float:
        begin = self.settings.fine_tune_from
        if begin is None or update < begin:
            return 1.0
        return max(0.0, 1.0 - (update - begin + 1) / self.settings.fine_tune_updates)

    @property
    def measured(self) -> bool:
        """Whether the schedule needs gradient variances."""
        return self.settings.schedule == "optimal"

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "brake": np.array([self.brake]),
            "variance_return": self.variance_return.copy(),
            "variance_guidance": self.variance_guidance.copy(),
            "weight": self.weight.copy(),
        }

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.brake = float(arrays["brake"][0])
        self.variance_return = arrays["variance_return"].copy()
        self.variance_guidance = arrays["variance_guidance"].copy()
        self.weight = arrays["weight"].copy()
