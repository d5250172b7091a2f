"""Greedy on the reference state, for any analytical model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...models.interface import AnalyticalModel, counterfactual_values, of_choices
from ...simulators.interface import Ints, Observation
from ..interface import Information
from .rules import legal_nodes


class SnapshotGreedy:
    """Greedy on the reference state: each agent's best own counterfactual, nobody else moving.

    ``rebuild`` returns the observation with ``state``, ``exogenous`` and ``private`` replaced by
    what the decentralised part tells, so that the true present is never read.
    """

    def __init__(
        self,
        *,
        model: AnalyticalModel,
        rebuild: Callable[[Observation], Observation],
        name: str = "greedy-reference",
        information: Information = "same",
    ):
        self._model, self._rebuild = model, rebuild
        self._name = name
        self._information: Information = information

    @property
    def name(self) -> str:
        return self._name

    @property
    def information(self) -> Information:
        return self._information

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent, ``[A]`` int64; equal values are drawn afresh."""
        seen = self._rebuild(observation)
        hold = np.zeros(seen.target.shape[0], dtype=np.int64)
        value = counterfactual_values(
            seen,
            self._model.reference(seen.exogenous),
            of_choices(self._model.influence(seen)),
            hold,
        )
        legal = legal_nodes(observation)
        value = np.where(legal, value, -np.inf)
        best = legal & (value == value.max(axis=1, keepdims=True))
        key = np.where(best, rng.random(best.shape), -1.0)
        return np.where(best.any(axis=1), key.argmax(axis=1), 0).astype(np.int64)
