"""The weight alpha between the sampled policy gradient and the guidance.

For two estimators of one vector with independent noise of variance s_J^2 and s_G^2, the blend
``(1 - alpha) g_J + alpha g_G`` has variance ``(1 - alpha)^2 s_J^2 + alpha^2 s_G^2``, smallest at

    alpha* = s_J^2 / (s_J^2 + s_G^2).

That arXiv 2602.20078's theorem 4.2 states the same is our reading of a second-hand account; the
linear schedule 0.9 to 0.2 is the published one.

The learner's two advantages are scaled to one RMS, so their gradients share a direction but not a
length: with many agents the true gradient is a small part of a noisy g_J, while g_G is mostly
signal. If ``E g_J = kappa E g_G``, the formula holds for the commensurate pair ``g_J`` and
``kappa g_G``, and in the learner's units it reads

    alpha = s_J^2 / (s_J^2 + kappa s_G^2),

which maximises the blend's signal-to-noise ratio. Where no J signal can be resolved (kappa = 0)
this is 1: trust the model until the data speak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Doubles
from .guidance_settings import AlphaSettings


def optimal_alpha(
    variance_return: Doubles, variance_guidance: Doubles, *, kappa: float = 1.0
) -> Doubles:
    """``s_J^2 / (s_J^2 + kappa s_G^2)``; 1 where both are 0 (the guidance costs nothing then)."""
    total = variance_return + kappa * variance_guidance
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
        self.products: Doubles = np.zeros(2)

    def observe(
        self,
        variance_return: Doubles,
        variance_guidance: Doubles,
        *,
        inner: float = 1.0,
        square: float = 1.0,
    ) -> None:
        """Add an update's measurements; NaN (too little data) changes nothing.

        Args:
            variance_return: s_J^2 ``[G]``.
            variance_guidance: s_G^2 ``[G]``.
            inner: estimate of ``E g_J . E g_G`` without noise bias, over all groups.
            square: likewise of ``|E g_G|^2``; the two give kappa.
        """
        if np.isfinite(inner) and np.isfinite(square):
            memory = self.settings.memory
            self.products = memory * self.products + (1.0 - memory) * np.array([inner, square])
        known = np.isfinite(variance_return) & np.isfinite(variance_guidance)
        keep = np.where(known, self.settings.memory, 1.0)
        new = np.where(known, 1.0 - self.settings.memory, 0.0)
        self.variance_return = keep * self.variance_return + new * np.nan_to_num(variance_return)
        self.variance_guidance = keep * self.variance_guidance + new * np.nan_to_num(
            variance_guidance
        )
        self.weight = keep * self.weight + new

    @property
    def kappa(self) -> float:
        """Length of the true gradient in units of the guidance gradient, at least 0."""
        inner, square = self.products
        return float(max(0.0, inner / square)) if square > 0.0 else 0.0

    def value(self, update: int) -> Doubles:
        """Alpha ``[G]`` for this update (counted from 0)."""
        settings = self.settings
        start = np.full(self.weight.shape, settings.start)
        if settings.schedule == "linear":
            share = min(1.0, update / max(1, settings.updates - 1))
            alpha = start + share * (settings.end - settings.start)
        elif settings.schedule == "optimal":
            best = optimal_alpha(self.variance_return, self.variance_guidance, kappa=self.kappa)
            alpha = np.where(self.weight > 0.0, best, start)
        else:
            alpha = start
        return alpha * self.brake * self._fine_tune(update)

    def _fine_tune(self, update: int) -> float:
        begin = self.settings.fine_tune_from
        if begin is None or update < begin:
            return 1.0
        return max(0.0, 1.0 - (update - begin + 1) / self.settings.fine_tune_updates)

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "brake": np.array([self.brake]),
            "variance_return": self.variance_return.copy(),
            "variance_guidance": self.variance_guidance.copy(),
            "weight": self.weight.copy(),
            "products": self.products.copy(),
        }

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.brake = float(arrays["brake"][0])
        self.variance_return = arrays["variance_return"].copy()
        self.variance_guidance = arrays["variance_guidance"].copy()
        self.weight = arrays["weight"].copy()
        self.products = arrays["products"].copy()
