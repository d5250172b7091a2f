"""The registry of domains: everything the platform needs to know about one, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..models.interface import AnalyticalModel
from ..policies.interface import Controller
from ..simulators.interface import Simulator, Spec
from .decision.settings import SlotSettings
from .decision.types import Live
from .decision.watch import Watch


def unbounded(_: BaseModel) -> float | None:
    """No lower bound is known."""
    return None


@dataclass(frozen=True)
class Pace:
    """How long and how fast a drive goes: steps of 5 minutes and of a tenth of a second differ.

    Attributes:
        speed: simulated seconds per second; 0: as fast as it goes.
        epochs: length of an episode.
        settle: epochs after the last fault that count for no phase.
    """

    speed: float = 10.0
    epochs: int = 650
    settle: int = 200


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of control.

    Attributes:
        name: as typed on the command line.
        scenarios: scenario name to its configuration type (a frozen pydantic model whose defaults
            describe a ready-to-run scenario).
        simulator: builds the simulator of a scenario.
        model: builds the analytical model of a scenario; ``reference`` picks which one.
        heuristics: same-information and fresh baselines of a scenario.
        references: names of the reference states that the model offers, the default first.
        bound: proven lower bound on what an episode costs in the mean over seeds (minus the
            return), whatever the policy; ``None`` for scenarios without one. The regret over it
            is shown where it is above 0.
        tuned: scenario name to the training knobs that differ from the general defaults there,
            nested as in ``TrainConfig``; files and overrides win over them.
        live: builds what the controller daemon must know of the domain, from a bundle's spec, its
            scenario's settings and the slot's knobs; ``None``: the domain cannot be served yet.
        watch: builds what reads the domain's own metrics off decisions, from a bundle's spec;
            ``None``: it has none.
        units: unit of an episode's figure by the last word of its name, or the first; pure numbers
            are left out.
        shown: figures with a column of their own in tables on screen, where there is room.
        cost: unit of minus the reward.
        outage: cost while faults are injected that a drive accepts, as a multiple of the fallback
            rule's.
        pace: of a drive where none is asked for.
    """

    name: str
    scenarios: Mapping[str, type[BaseModel]]
    simulator: Callable[[BaseModel], Simulator]
    model: Callable[[BaseModel, str], AnalyticalModel]
    heuristics: Callable[[BaseModel], tuple[Controller, ...]]
    references: tuple[str, ...]
    bound: Callable[[BaseModel], float | None] = unbounded
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    live: Callable[[Spec, Mapping[str, Any], SlotSettings], Live] | None = None
    watch: Callable[[Spec], Watch] | None = None
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    shown: tuple[str, ...] = ()
    cost: str = "1"
    outage: float = 1.1
    pace: Pace = Pace()
