"""What acts (:class:`Controller`), is recorded (:class:`Rollout`) and learns (:class:`Learner`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Bools, Floats, Ints, Observation

Information = Literal["same", "fresh"]


@runtime_checkable
class Controller(Protocol):
    """Anything that decides: a heuristic rule or a trained policy.

    ``information`` is ``"same"`` if it reads only the decentralised part of the observation that
    every agent has (stale, all at once), ``"fresh"`` if it is run agent after agent through
    ``SequentialSimulator.step_fresh``.
    """

    @property
    def name(self) -> str: ...

    @property
    def information(self) -> Information: ...

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent, ``[A]`` int64; hold for inactive agents."""
        ...


@dataclass(frozen=True, slots=True)
class Effects:
    """How every candidate would have moved the system state; recorded for the joint guidance.

    Attributes:
        deviation: ``[E, T, X]`` float32, state just before the joint decision minus reference.
        weight: ``[E, T, X]`` float32, diagonal of W (a broadcast view where it is constant).
        index: ``[E, T, A, K, M]`` int32 coordinates of x, -1 = padding.
        value: ``[E, T, A, K, M]`` float32 change of that coordinate; zero where padded or masked.
    """

    deviation: Floats
    weight: Floats
    index: NDArray[np.int32]
    value: Floats


@dataclass(frozen=True, slots=True)
class Rollout:
    """Episodes of experience as arrays; E episodes of T epochs, A agents, K candidates.

    Attributes:
        agent: ``[E, T + 1, A, F]`` float32; the last epoch is the bootstrap observation.
        candidates: ``[E, T, A, K, C]`` float32.
        mask: ``[E, T, A, K]`` bool.
        active: ``[E, T, A]`` bool.
        actions: ``[E, T, A]`` int64.
        critic: ``[E, T + 1, S]`` float32.
        reward: ``[E, T]`` float64, shared.
        local_reward: ``[E, T, A]`` float64, mean over agents equals ``reward``.
        guidance: ``[E, T, A, K]`` float32 counterfactual values q of every own action (zeros when
            guidance is off).
        terminated: ``[E]`` bool; where false the episode was cut and its value is bootstrapped.
        seeds: ``[E]`` int64 seeds of the episodes.
        effects: recorded when the guidance estimator is ``joint``, else ``None``.
    """

    agent: Floats
    candidates: Floats
    mask: Bools
    active: Bools
    actions: Ints
    critic: Floats
    reward: NDArray[np.float64]
    local_reward: NDArray[np.float64]
    guidance: Floats
    terminated: Bools
    seeds: Ints
    effects: Effects | None = None

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
