"""The traffic domain: signals that share a street network, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..models.interface import AnalyticalModel
from ..policies.interface import Controller
from ..simulators.interface import Simulator, Spec
from ..simulators.traffic.scenario import (
    ArterialScenario,
    Cologne1Scenario,
    Cologne3Scenario,
    Cologne8Scenario,
    GridScenario,
    HangzhouScenario,
    JinanScenario,
    ManhattanScenario,
    Scenario,
    SumoScenario,
)
from .decision.settings import SlotSettings
from .decision.types import Live
from .decision.watch import Watch
from .domains import Domain, Pace
from .presets import SIGNALS

if TYPE_CHECKING:
    from ..simulators.traffic.town import Town

SCENARIOS: Mapping[str, type[BaseModel]] = {
    "grid": GridScenario,
    "arterial": ArterialScenario,
    "cologne1": Cologne1Scenario,
    "cologne3": Cologne3Scenario,
    "cologne8": Cologne8Scenario,
    "jinan": JinanScenario,
    "hangzhou": HangzhouScenario,
    "manhattan": ManhattanScenario,
    "sumo": SumoScenario,
}

UNITS: Mapping[str, str] = {"s": "s", "trips": "trips", "vehicles": "vehicles"}


def traffic() -> Domain:
    """The domain; simulators, models and rules are imported when one is built."""
    return Domain(
        name="traffic",
        scenarios=SCENARIOS,
        simulator=_simulator,
        model=_model,
        heuristics=_heuristics,
        references=("queues", "pressure", "storage", "plan"),
        tuned=dict.fromkeys(SCENARIOS, SIGNALS),
        units=UNITS,
        shown=("delay_mean_s", "trip_time_mean_s", "unfinished_share", "gridlock"),
        cost="s",
        live=_live,
        watch=_watch,
        pace=Pace(speed=600.0, epochs=240, settle=30),
    )


def _town(scenario: BaseModel) -> Town:
    from ..simulators.traffic.town import town_of

    # Frozen settings have a hash, which the type checker does not see.
    return town_of(_traffic(scenario))  # pyright: ignore[reportArgumentType]


def _simulator(scenario: BaseModel) -> Simulator:
    town = _town(scenario)
    if town.scenario.plant == "sumo":
        from ..simulators.traffic.sumo.simulator import SumoSimulator

        return SumoSimulator(town)
    from ..simulators.traffic.signals import TrafficSimulator

    return TrafficSimulator(town)


def _model(scenario: BaseModel, reference: str) -> AnalyticalModel:
    from ..models.traffic.signal_model import SignalModel

    return SignalModel(_town(scenario), reference=reference)


def _heuristics(scenario: BaseModel) -> tuple[Controller, ...]:
    from ..policies.heuristics.traffic import controllers
    from ..simulators.traffic.observer import Observer

    town = _town(scenario)
    return controllers(Observer(town).spec, _traffic(scenario), town)


def _live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> Live:
    from .traffic_live import traffic_live

    return traffic_live(spec, settings, slot)


def _watch(spec: Spec) -> Watch:
    from .traffic_watch import TrafficWatch

    return TrafficWatch(spec)


def _traffic(scenario: BaseModel) -> Scenario:
    if not isinstance(scenario, Scenario):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the traffic domain")
    return scenario
