"""Signal rules: what signals do without learning.

With the agents' own information: see :mod:`.traffic_local`, and the plans that the signals' own
controllers run second by second (``fixed``, ``webster``, ``actuated``).

From one place that sees all states (``central``): ``store-forward-mpc`` (receding horizon, see
:mod:`.traffic_horizon`), ``greedy-reference`` (every signal takes the phase that, by itself, brings
the queues nearest to the model's reference).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...models.interface import AnalyticalModel, counterfactual_values, of_choices
from ...models.traffic.signal_model import SignalModel
from ...simulators.interface import Ints, Observation, Spec
from ...simulators.traffic.plans import PLANS
from ...simulators.traffic.scenario import TrafficScenario
from ...simulators.traffic.town import Town
from ..interface import Controller, Information
from .traffic_horizon import Horizon
from .traffic_local import FieldPlan, local, most

SAME = (
    "greedy",
    "longest-queue",
    "max-pressure",
    "discharge",
    "max-pressure-cyclic",
    "random",
    "keep",
    *PLANS,
)
CENTRAL = ("store-forward-mpc", "greedy-reference")


class GreedyReference:
    """Each signal's best own counterfactual, all others keeping their phase; keeps among equals.

    Args:
        build: makes the model, at the first decision.
    """

    information: Information = "central"
    name = "greedy-reference"

    def __init__(self, build: Callable[[], AnalyticalModel]) -> None:
        self._build = build
        self._model: AnalyticalModel | None = None

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Candidates ``[A]``."""
        del rng
        if self._model is None:
            self._model = self._build()
        value = counterfactual_values(
            observation,
            self._model.reference(observation.exogenous),
            of_choices(self._model.influence(observation)),
            np.zeros(len(observation.mask), dtype=np.int64),
        )
        return most(value, observation)


def controllers(spec: Spec, scenario: TrafficScenario, town: Town) -> tuple[Controller, ...]:
    """All rules of a scenario; models are built when a rule is first asked.

    Args:
        spec: of the simulator.
        scenario: its values.
        town: its streets and demand.
    """
    del scenario
    return (
        *local(spec),
        *(FieldPlan(plan) for plan in PLANS),
        Horizon(town),
        GreedyReference(lambda: SignalModel(town)),
    )
