"""The cloud domain: scheduling jobs on shared machines, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import BaseModel

from ..models.interface import AnalyticalModel
from ..policies.interface import Controller
from ..simulators.cloud.batch_scenario import SwfScenario
from ..simulators.cloud.fleet import resolve
from ..simulators.cloud.scenario import DispatchScenario, LlmScenario, OpenbScenario
from ..simulators.interface import Doubles, Simulator, Spec
from .decision.settings import SlotSettings
from .decision.types import Live
from .domains import Domain
from .presets import BATCH

Dispatching = DispatchScenario | OpenbScenario | LlmScenario

SCENARIOS: Mapping[str, type[BaseModel]] = {
    "dispatch": DispatchScenario,
    "openb": OpenbScenario,
    "llm": LlmScenario,
    "swf": SwfScenario,
}


UNITS: Mapping[str, str] = {
    "response": "s",
    "wait": "s",
    "age": "s",
    "makespan": "s",
    "energy": "kWh",
    "throughput": "jobs/s",
    "arrivals": "jobs",
    "completed": "jobs",
    "in": "jobs",
    "conflicts": "jobs",
}


def cloud() -> Domain:
    """The domain; simulators, models and rules are imported when one is built."""
    return Domain(
        name="cloud",
        scenarios=SCENARIOS,
        simulator=_simulator,
        model=_model,
        heuristics=_heuristics,
        references=("drain", "static", "improvement"),
        bound=_bound,
        tuned={"swf": BATCH},
        live=_live,
        units=UNITS,
        shown=("response_mean", "response_p95", "slowdown_mean", "bounded_slowdown_mean"),
        cost="s",
    )


def _simulator(scenario: BaseModel) -> Simulator:
    if isinstance(scenario, SwfScenario):
        from ..simulators.cloud.batch_env import BatchSimulator

        return BatchSimulator(scenario)
    from ..simulators.cloud.dispatch import DispatchSimulator

    return DispatchSimulator(_dispatching(scenario))


def _model(scenario: BaseModel, reference: str) -> AnalyticalModel:
    if isinstance(scenario, SwfScenario):
        from ..models.cloud.batch_model import BatchModel

        if reference != "drain":
            raise ValueError(f"no reference {reference!r} for 'swf'; known: drain")
        return BatchModel(scenario)
    from ..models.cloud.dispatch_model import DispatchModel

    return DispatchModel(_dispatching(scenario), reference=reference)


def _heuristics(scenario: BaseModel) -> tuple[Controller, ...]:
    spec = _simulator(scenario).spec
    if isinstance(scenario, SwfScenario):
        from ..policies.heuristics.batch import controllers as batch_rules

        return batch_rules(spec)
    from ..policies.heuristics.dispatch import controllers as dispatch_rules

    known = _dispatching(scenario)
    # Frozen settings have a hash, which the type checker does not see.
    split = _static_split(known)  # pyright: ignore[reportArgumentType]
    return dispatch_rules(known, spec, nodes=split.shape[1], weights=split)


# Workers look up a heuristic afresh for every episode.
@lru_cache(maxsize=8)
def _static_split(scenario: Dispatching) -> Doubles:
    """``[classes, nodes]`` odds of the optimal static split at mean rates.

    It minimises the mean response of the convex delay model. Nodes that do not share their speed
    have no such model, and beyond capacity it has no solution: there the split balances load.
    """
    from ..models.cloud.delay import DelaySolver
    from ..models.cloud.planning import PlanningSolver

    fleet = resolve(scenario)
    service = 1.0 / fleet.mean_service.T
    count = fleet.type_counts.astype(np.float64)
    plan = PlanningSolver(service).solve(fleet.class_rates, count)
    flow = plan.flow
    if fleet.discipline != "exclusive" and plan.rho < 1.0:
        flow = DelaySolver(service).solve(fleet.class_rates, count).flow
    return (flow / count)[:, fleet.type_of]


def _bound(scenario: BaseModel) -> float | None:
    if isinstance(scenario, SwfScenario):
        return None
    from ..models.cloud.episode_bound import episode_bound

    return episode_bound(_dispatching(scenario)).mean_response


def _live(spec: Spec, settings: Mapping[str, Any], slot: SlotSettings) -> Live:
    from .cloud_live import cloud_live

    return cloud_live(spec, settings, slot)


def _dispatching(scenario: BaseModel) -> Dispatching:
    if not isinstance(scenario, Dispatching):
        raise TypeError(f"{type(scenario).__name__} is no scenario of the cloud domain")
    return scenario
