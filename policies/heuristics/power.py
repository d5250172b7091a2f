"""Dispatch rules: what power systems do without learning.

With the agents' own information: ``merit-order``, ``price``, ``proportional``, ``droop``; see
:mod:`.power_local`.

From one place that sees all states and the same forecasts (``central``): ``dc-opf`` (optimal
dispatch of every interval), ``mpc`` (look-ahead over the forecast horizon), ``greedy-reference``
(towards an optimal dispatch that is computed once an hour), ``gradient`` (descends the cost of the
next intervals through the differentiable model; no network).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...models.power.dispatch_model import DispatchModel
from ...models.power.mpc import RollingHorizon
from ...simulators.interface import Doubles, Floats, Observation, Spec
from ...simulators.power.scenario import PowerScenario
from ...simulators.power.system import System
from ..interface import Controller, Information
from .power_local import local

if TYPE_CHECKING:
    from ...models.power.gradient_plan import GradientPlan

SAME = ("merit-order", "price", "proportional", "droop")
CENTRAL = ("dc-opf", "mpc", "greedy-reference", "gradient")


class Central:
    """A rule of one place: ``plan`` maps the exogenous vector to set-points ``[A]`` MW."""

    information: Information = "central"

    def __init__(self, name: str, plan: Callable[[Doubles], Doubles]) -> None:
        self.name, self._plan = name, plan

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, 1]``."""
        del rng
        wanted = self._plan(observation.exogenous).astype(np.float32)[:, None]
        return np.clip(wanted, observation.low, observation.high)


class GreedyReference:
    """Goes to the reference dispatch that was computed at the last full hour."""

    information: Information = "central"
    name = "greedy-reference"

    def __init__(self, model: DispatchModel, period: float = 3600.0) -> None:
        self._model, self._period = model, period
        self._aim: Doubles | None = None

    def act(self, observation: Observation, rng: np.random.Generator) -> Floats:
        """Set-points ``[A, 1]``."""
        del rng
        if self._aim is None or observation.time % self._period < 1e-6:
            self._aim = self._model.aim(observation.exogenous)
        wanted = self._aim.astype(np.float32)[:, None]
        return np.clip(wanted, observation.low, observation.high)


def controllers(spec: Spec, scenario: PowerScenario, system: System) -> tuple[Controller, ...]:
    """All rules of a scenario; solvers are built when a rule is first asked.

    Args:
        spec: of the simulator.
        scenario: its values.
        system: its grid and agents.
    """

    def model() -> DispatchModel:
        return DispatchModel(scenario, system, reference="proximal")

    def horizon() -> RollingHorizon:
        return RollingHorizon(scenario, system, horizon=scenario.leads)

    def gradient() -> GradientPlan:
        from ...models.power.gradient_plan import GradientPlan

        return GradientPlan(scenario, system)

    return (
        *local(spec),
        Central("dc-opf", _late(lambda: model().optimum)),
        Central("mpc", _late(lambda: horizon().plan)),
        GreedyReference(model()),
        Central("gradient", _late(lambda: gradient().plan)),
    )


def _late(build: Callable[[], Callable[[Doubles], Doubles]]) -> Callable[[Doubles], Doubles]:
    """``build()`` at the first call."""
    built: list[Callable[[Doubles], Doubles]] = []

    def plan(exogenous: Doubles) -> Doubles:
        if not built:
            built.append(build())
        return built[0](exogenous)

    return plan
