"""The power domain: economic dispatch and balancing, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..models.interface import AnalyticalModel
from ..policies.interface import Controller
from ..simulators.interface import Simulator, Spec
from ..simulators.power.scenario import (
    ActivsgScenario,
    CaliforniaScenario,
    GeneratedScenario,
    Grid2opScenario,
    RtsScenario,
    Scenario,
)
from .decision.settings import SlotSettings
from .decision.types import Live
from .decision.watch import Watch
from .domains import Domain, Pace
from .presets import DISPATCH

if TYPE_CHECKING:
    from ..simulators.power.dispatch import PowerSimulator

SCENARIOS: Mapping[str, type[BaseModel]] = {
    "generated": GeneratedScenario,
    "rts-gmlc": RtsScenario,
    "activsg2000": ActivsgScenario,
    "california": CaliforniaScenario,
    "grid2op": Grid2opScenario,
}


def power() -> Domain:
    """The domain; simulators, models and rules are imported when one is built."""
    return Domain(
        name="power",
        scenarios=SCENARIOS,
        simulator=_simulator,
        model=_model,
        heuristics=_heuristics,
        references=("augmented", "proximal", "marginal"),
        tuned=dict.fromkeys(SCENARIOS, DISPATCH),
        units={"usd": "$", "mwh": "MWh", "mw": "MW", "hz": "Hz", "price": "$/MWh"},
        shown=("cost_usd", "shed_mwh", "overload_mwh"),
        cost="normal intervals",
        live=_live,
        watch=_watch,
        outage=1.05,
        pace=Pace(speed=3000.0, epochs=260, settle=12),
    )


def _built(scenario: BaseModel) -> PowerSimulator:
    from ..simulators.power.dispatch import PowerSimulator
    from ..simulators.power.system import system_of

    known = _power(scenario)
    return PowerSimulator(known, system_of(known))  # pyright: ignore[reportArgumentType]


def _simulator(scenario: BaseModel) -> Simulator:
    return _built(scenario)


def _model(scenario: BaseModel, reference: str) -> AnalyticalModel:
    from ..models.power.dispatch_model import DispatchModel
    from ..simulators.power.system import system_of

    known = _power(scenario)
    return DispatchModel(
        known,
        system_of(known),  # pyright: ignore[reportArgumentType]
        reference=reference,
    )


def _heuristics(scenario: BaseModel) -> tuple[Controller, ...]:
    from ..policies.heuristics.power import controllers
    from ..simulators.power.system import system_of

    known = _power(scenario)
    return controllers(
        _built(known).spec,
        known,
        system_of(known),  # pyright: ignore[reportArgumentType]
    )


def _live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> Live:
    from .power_live import power_live

    return power_live(spec, settings, slot)


def _watch(spec: Spec) -> Watch:
    from .power_watch import PowerWatch

    return PowerWatch(spec)


def _power(scenario: BaseModel) -> Scenario:
    if not isinstance(scenario, Scenario):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the power domain")
    return scenario
