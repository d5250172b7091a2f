"""The analytical model of the dispatching scenarios, by name of the reference state.

``drain`` is the default because it was measured to point downhill most (``models.alignment``).
"""

from __future__ import annotations

from ...simulators.cloud.scenario import OpenbScenario, Scenario
from ...simulators.interface import Doubles, Observation
from ..interface import AnalyticalModel, Influence, Reference, of_choices
from .packing_model import PackingModel
from .profile_model import ProfileModel


class DispatchModel:
    """Implements ``AnalyticalModel`` for the scenarios ``dispatch``, ``llm`` and ``openb``.

    Args:
        scenario: what to model.
        reference: ``drain``, ``static`` or ``improvement`` where nodes are shared
            (``profile_model``), ``drain`` or ``static`` where resources are held exclusively
            (``packing_model``).

    Raises:
        ValueError: the scenario has no such reference; names the known ones.
    """

    def __init__(self, scenario: Scenario, reference: str = "drain"):
        self._model: AnalyticalModel = (
            PackingModel(scenario, reference=reference)
            if isinstance(scenario, OpenbScenario)
            else ProfileModel(scenario, reference=reference)
        )

    @property
    def state_size(self) -> int:
        return self._model.state_size

    def reference(self, exogenous: Doubles) -> Reference:
        return self._model.reference(exogenous)

    def influence(self, observation: Observation) -> Influence:
        return of_choices(self._model.influence(observation))
