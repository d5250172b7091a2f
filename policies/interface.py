"""What acts (:class:`Controller`), is recorded (:class:`Rollout`) and learns (:class:`Learner`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Bools, Floats, Ints, Observation

Actions = Ints | Floats
"""What agents do: candidates ``[..., A]`` int64, or set-points ``[..., A, D]`` float32."""

Information = Literal["same", "central", "fresh"]


@runtime_checkable
class Controller(Protocol):
    """Anything that decides: a heuristic rule or a trained policy.

    ``information`` is ``"same"`` if it reads only the decentralised part of the observation that
    every agent has (stale, all at once), ``"central"`` if one place reads what all of them and the
    forecasts say (``observation.exogenous``; never what is still to come), ``"fresh"`` if it is run
    agent after agent through ``SequentialSimulator.step_fresh``.
    """

    @property
    def name(self) -> str: ...

    @property
    def information(self) -> Information: ...

    def act(self, observation: Observation, rng: np.random.Generator) -> Actions:
        """One legal action per agent; what it is for inactive agents moves nothing.

        Choices: ``[A]`` int64, hold for inactive agents. Boxes: set-points ``[A, D]`` float32
        within ``observation.low`` and ``high``, the lower end for inactive agents.
        """
        ...


@runtime_checkable
class PlantPlan(Controller, Protocol):
    """Stands for a controller that the plant runs itself (``LocallyControlled.use_local``)."""

    @property
    def plan(self) -> str:
        """Its name there."""
        ...


@dataclass(frozen=True, slots=True)
class Effects:
    """How every action would have moved the system state; recorded for the joint guidance.

    For boxes K is D: the state after a joint decision, less its reference, is ``deviation + sum
    value * v`` over the shares ``v`` of all boxes. A box without choice moves nothing here; where
    it puts the state is in ``deviation``.

    Attributes:
        deviation: ``[E, T, X]`` float32, state just before the joint decision minus reference
            (boxes: with everybody at the lower end).
        weight: ``[E, T, X]`` float32, diagonal of W (a broadcast view where it is constant).
        index: ``[E, T, A, K, M]`` int32 coordinates of x, -1 = padding; none twice in one row.
        value: ``[E, T, A, K, M]`` float32 change of that coordinate (boxes: over the whole box);
            zero where padded or masked.
    """

    deviation: Floats
    weight: Floats
    index: NDArray[np.int32]
    value: Floats


@dataclass(frozen=True, slots=True)
class Rollout:
    """Episodes of experience as arrays; E episodes of T epochs, A agents, K candidates.

    Boxes of D dimensions: an action is the *share* of its box, 0 at the lower and 1 at the upper
    end (``box_acting.shares``). Whether a dimension is *free* (the agent is active and the box has
    a width) takes the place of the mask.

    Attributes:
        agent: ``[E, T + 1, A, F]`` float32; the last epoch is the bootstrap observation.
        candidates: ``[E, T, A, K, C]`` float32; boxes ``[E, T, A, 0, 0]``.
        mask: ``[E, T, A, K]`` bool; boxes ``[E, T, A, D]``, the free dimensions.
        active: ``[E, T, A]`` bool.
        actions: ``[E, T, A]`` int64; boxes ``[E, T, A, D]`` float32 shares, 0.5 where not free.
        critic: ``[E, T + 1, S]`` float32.
        reward: ``[E, T]`` float64, shared.
        local_reward: ``[E, T, A]`` float64, mean over agents equals ``reward``.
        guidance: ``[E, T, A, K]`` float32 counterfactual values q of every own action (zeros when
            guidance is off); boxes ``[E, T, A, 2 D]``, the coefficients s (``:D``) and h (``D:``)
            of ``q(v) = -(s v + h v^2 / 2)``, see ``models.interface.set_point_values``.
        terminated: ``[E]`` bool; where false the episode was cut and its value is bootstrapped.
        seeds: ``[E]`` int64 seeds of the episodes.
        effects: recorded when the guidance estimator is ``joint``, else ``None``.
    """

    agent: Floats
    candidates: Floats
    mask: Bools
    active: Bools
    actions: Actions
    critic: Floats
    reward: NDArray[np.float64]
    local_reward: NDArray[np.float64]
    guidance: Floats
    terminated: Bools
    seeds: Ints
    effects: Effects | None = None

    @property
    def boxes(self) -> bool:
        """Whether actions are shares of boxes, not candidates."""
        return self.actions.ndim == 4

    @property
    def decisions_per_agent(self) -> int:
        """Decision epochs of one episode, T."""
        return self.actions.shape[1]


@dataclass(frozen=True, slots=True)
class PolicyArrays:
    """Weights of a policy as plain arrays: all that acting, serving and bundles need.

    ``tensors`` maps a name to a float32 array whose first axis is the parameter group;
    ``member[a]`` is the parameter group of agent ``a`` ``[A]``.
    """

    tensors: dict[str, Floats]
    member: Ints


@runtime_checkable
class Learner(Protocol):
    """Turns roll-outs into better policies. Deterministic given its state and the roll-out."""

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One update on fresh experience; returns flat statistics, ``group/name`` to number."""
        ...

    def groups(self) -> tuple[tuple[str, ...], dict[str, NDArray[np.float64]]]:
        """Names of the parameter groups, and figures of each in the last update, ``[G]``."""
        ...

    def policy(self) -> PolicyArrays:
        """The current policy for acting; a copy, never a view."""
        ...

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Everything an exact resume needs: tensors (as arrays) and JSON-able counters."""
        ...

    def load_state(
        self, tensors: dict[str, NDArray[np.generic]], counters: dict[str, object]
    ) -> None: ...
