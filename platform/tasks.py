"""What a roll-out worker is asked to do, and where it plays: small picklable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ..models.interface import AnalyticalModel
from ..policies.interface import Controller, Effects, PolicyArrays
from ..simulators.interface import Simulator
from .registry import find_domain, find_scenario

Form = Literal["exact", "linear"]
"""Form of the guidance value, as in ``models.interface.counterfactual_values``."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained policy to act with; ``stochastic`` samples, otherwise the best action."""

    arrays: PolicyArrays
    name: str = "policy"
    stochastic: bool = True


@dataclass(frozen=True, slots=True)
class Heuristic:
    """One of the domain's own rules, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Guidance:
    """Ask for counterfactual values: which reference state, and which form of the value.

    ``effects`` also records how every action would have moved the state (joint guidance).
    """

    reference: str
    form: Form = "exact"
    effects: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One episode to play.

    Attributes:
        seed: of the simulator, 0 <= seed < 2^63. Action sampling has its own stream derived from
            it, so that an episode is a function of this value alone.
        controller: who decides: a trained policy, a heuristic by name, or a picklable controller.
        record: keep the episode's arrays (training) instead of its figures only (evaluation).
        guidance: compute guidance values while recording; ``None`` leaves them zero.
    """

    seed: int
    controller: Trained | Heuristic | Controller
    record: bool = False
    guidance: Guidance | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One recorded episode; fields as in ``policies.interface.Rollout`` without the first axis.

    An episode that terminated early is padded with its absorbing end: the last observation
    repeated, nobody active, no reward. Its value there is zero, which is what a critic learns.

    ``low`` and ``high`` ``[T, A, D]`` are the boxes of set-points (``None`` for choices): learners
    do without, whoever acts again on a recorded observation does not.
    """

    agent: NDArray[np.float32]
    candidates: NDArray[np.float32]
    mask: NDArray[np.bool_]
    active: NDArray[np.bool_]
    actions: NDArray[Any]
    critic: NDArray[np.float32]
    reward: NDArray[np.float64]
    local_reward: NDArray[np.float64]
    guidance: NDArray[np.float32]
    low: NDArray[np.float32] | None = None
    high: NDArray[np.float32] | None = None
    effects: Effects | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What one episode gave.

    Attributes:
        seed: of the task.
        controller: name of who decided.
        total: undiscounted sum of the shared reward.
        components: undiscounted sum of every reward component.
        metrics: the simulator's own figures at the end of the episode.
        epochs: decision epochs played.
        terminated: the process ended by itself (otherwise the horizon cut it).
        distance: mean over epochs of d(x, x_ref) before the decision; NaN without guidance.
        seconds: wall-clock per stage (``simulate``, ``act``, ``guidance``); not reproducible.
        episode: the arrays, if the task asked for them.
    """

    seed: int
    controller: str
    total: float
    components: dict[str, float]
    metrics: dict[str, float]
    epochs: int
    terminated: bool
    distance: float
    seconds: dict[str, float]
    episode: Episode | None = None


class Factory(Protocol):
    """Builds everything an episode needs inside a worker; must be picklable.

    A module-level class with these methods will do; :class:`DomainFactory` serves the registry.
    """

    def simulator(self) -> Simulator: ...

    def model(self, reference: str) -> AnalyticalModel: ...

    def heuristics(self) -> tuple[Controller, ...]: ...


@dataclass(frozen=True, slots=True)
class DomainFactory:
    """A registered domain's scenario, named by values that any process can look up again.

    Attributes:
        domain: name in the registry.
        scenario: name of one of the domain's scenarios.
        settings: the scenario's values that differ from its defaults (JSON-able).
    """

    domain: str
    scenario: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def values(self) -> BaseModel:
        """The scenario's configuration.

        Raises:
            UserError: unknown domain or scenario; names the known ones.
        """
        return find_scenario(self.domain, self.scenario).model_validate(dict(self.settings))

    def simulator(self) -> Simulator:
        return find_domain(self.domain).simulator(self.values())

    def model(self, reference: str) -> AnalyticalModel:
        return find_domain(self.domain).model(self.values(), reference)

    def heuristics(self) -> tuple[Controller, ...]:
        return find_domain(self.domain).heuristics(self.values())
