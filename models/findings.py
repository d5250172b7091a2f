"""What the checks of both kinds of models share: their findings, and the reference's contract."""

from __future__ import annotations

import numpy as np

from ..simulators.interface import Observation, Simulator
from .interface import AnalyticalModel, Reference

TOLERANCE = 1e-9
"""Absolute, plus relative to the largest entry, between influence and what the simulator did."""

Trace = list[tuple[Observation, Reference]]
"""What was seen at every epoch of an episode, and the reference there."""


class Findings:
    """Findings of one check, each kind once."""

    def __init__(self, model: AnalyticalModel, simulator: Simulator):
        self._model, self._simulator, self._spec = model, simulator, simulator.spec
        self._found: dict[str, str] = {}

    @property
    def problems(self) -> list[str]:
        return list(self._found.values())

    @property
    def unusable(self) -> bool:
        """Whether the influence cannot even be applied to a state."""
        return not self._found.keys().isdisjoint(("shape", "range", "finite"))

    def _say(self, kind: str, words: str) -> None:
        self._found.setdefault(kind, words)

    def _reference(self, reference: Reference) -> bool:
        """Whether the reference can be used; says what is wrong."""
        size = self._model.state_size
        for name in ("x_ref", "weight", "prices"):
            array: object = getattr(reference, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                kind = f"{type(array).__name__}"
                self._say(name, f"reference.{name} must be a float64 numpy array, got {kind}")
                return False
            if name != "prices" and array.shape != (size,):
                self._say(name, f"reference.{name} has shape {array.shape}, expected ({size},)")
                return False
            if not np.isfinite(array).all():
                self._say(name, f"reference.{name} is not finite")
        if (reference.weight < 0.0).any():
            self._say("weight", f"reference.weight has negative entries ({reference.weight.min()})")
        if reference.status != "optimal":
            self._say("status", f"reference.status is {reference.status!r}, expected 'optimal'")
        slack = TOLERANCE * (1.0 + abs(reference.objective))
        if not reference.lower_bound <= reference.objective + slack:
            self._say(
                "bound",
                f"lower_bound {reference.lower_bound} exceeds the objective {reference.objective}",
            )
        return True

    def _index_range(self, low: int, high: int) -> bool:
        """Whether all indices of an influence are coordinates of x, or -1."""
        if low >= -1 and high < self._model.state_size:
            return True
        bounds = f"-1 .. {self._model.state_size - 1}"
        self._say("range", f"influence.index reaches from {low} to {high}, allowed: {bounds}")
        return False

    def history(self, trace: Trace) -> None:
        """Asked again in reverse order, the model prescribes the same."""
        for seen, reference in reversed(trace):
            if not same_reference(reference, self._model.reference(seen.exogenous)):
                self._say(
                    "history",
                    f"the reference of the same exogenous inputs changed with what was asked "
                    f"before (time {seen.time:g})",
                )


def same_reference(one: Reference, two: Reference) -> bool:
    """Whether two references prescribe the same."""
    return all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("x_ref", "weight", "prices")
    )
