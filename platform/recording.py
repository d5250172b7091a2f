"""How an episode is recorded: which arrays, and what each epoch writes into them, by action kind.

The two kinds share observations, rewards and the critic's input. They differ in what an action is
(the index of a candidate, or shares of a box), in what the guidance says of it (a value for every
candidate, or a parabola over the share), and so in the shapes. What is recorded is what learners
read, see :class:`..policies.interface.Rollout`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.interface import (
    Influence,
    Reference,
    SetPointInfluence,
    counterfactual_values,
    set_point_values,
)
from ..policies.box_acting import free, shares
from ..simulators.interface import Box, Choice, Doubles, Observation, Spec
from .files import UserError
from .tasks import Episode, Form

Layout = dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]
"""Name of an array to its shape and type."""

NOT_FREE = 0.5
"""Share that stands where an agent has no set-point to choose; learners leave it out."""

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


class Recording(Protocol):
    """Reads and writes the arrays of one kind of action."""

    def layout(self, support: int | None) -> Layout:
        """Shape and type of every array of an episode.

        With ``support``, the largest number of coordinates that one candidate or dimension moves,
        also those of the effects.
        """
        ...

    def write(self, arrays: Episode, epoch: int, seen: Observation, actions: NDArray[Any]) -> None:
        """What was seen and decided in an epoch; guidance values are zero until :meth:`guide`."""
        ...

    def guide(
        self,
        arrays: Episode,
        epoch: int,
        seen: Observation,
        actions: NDArray[Any],
        model: tuple[Reference, Influence | SetPointInfluence],
    ) -> None:
        """Guidance values of an epoch, and the effects if there is room for them."""
        ...

    def close(self, arrays: Episode, epochs: int, last: Observation) -> None:
        """Write the bootstrap observation; pad an early end with its absorbing state."""
        ...


def recording_of(spec: Spec, form: Form = "exact") -> Recording:
    """The recording for a simulator's kind of action; ``form`` of the guidance values.

    Raises:
        UserError: the form does not exist for set-points.
    """
    if isinstance(spec.action, Choice):
        return ChoiceRecording(spec, spec.action, form)
    if form != "exact":
        raise UserError(
            f"learner.guidance.form = {form!r} is for choices; {spec.scenario!r} has set-points, "
            "whose values are exact: use form = 'exact'"
        )
    return SetPointRecording(spec, spec.action)


class ChoiceRecording:
    """Implements ``Recording`` for candidates."""

    def __init__(self, spec: Spec, action: Choice, form: Form) -> None:
        self._spec, self._choices, self._form = spec, action.candidates, form

    def layout(self, support: int | None) -> Layout:
        each = (self._spec.horizon, self._spec.agents, self._choices)
        found = _common(self._spec) | {
            "candidates": ((*each, len(self._spec.candidate_features)), _SINGLE),
            "mask": (each, np.dtype(np.bool_)),
            "actions": (each[:2], np.dtype(np.int64)),
            "guidance": (each, _SINGLE),
        }
        return found if support is None else found | _effects(self._spec, (*each, support))

    def write(self, arrays: Episode, epoch: int, seen: Observation, actions: NDArray[Any]) -> None:
        _see(arrays, epoch, seen)
        arrays.candidates[epoch] = seen.candidates
        arrays.mask[epoch] = seen.mask
        arrays.actions[epoch] = actions
        arrays.guidance[epoch] = 0.0

    def guide(
        self,
        arrays: Episode,
        epoch: int,
        seen: Observation,
        actions: NDArray[Any],
        model: tuple[Reference, Influence | SetPointInfluence],
    ) -> None:
        reference, influence = model
        if not isinstance(influence, Influence):
            raise TypeError("a model of candidates answers with Influence")
        arrays.guidance[epoch] = counterfactual_values(
            seen, reference, influence, actions, form=self._form
        )
        if arrays.effects is not None:
            present = (influence.index >= 0) & seen.mask[:, :, None]
            arrays.effects.deviation[epoch] = seen.state - reference.x_ref
            arrays.effects.weight[epoch] = reference.weight
            arrays.effects.index[epoch] = np.where(present, influence.index, -1)
            arrays.effects.value[epoch] = np.where(present, influence.value, 0.0)

    def close(self, arrays: Episode, epochs: int, last: Observation) -> None:
        _pad(arrays, epochs, last)
        arrays.actions[epochs:] = 0
        arrays.mask[epochs:] = False
        arrays.mask[epochs:, :, 0] = True


class SetPointRecording:
    """Implements ``Recording`` for boxes: actions are kept as shares of the box."""

    def __init__(self, spec: Spec, action: Box) -> None:
        self._spec, self._dimensions = spec, action.dimensions

    def layout(self, support: int | None) -> Layout:
        epochs, agents, dimensions = self._spec.horizon, self._spec.agents, self._dimensions
        each = (epochs, agents, dimensions)
        found = _common(self._spec) | {
            "candidates": ((epochs, agents, 0, 0), _SINGLE),
            "mask": (each, np.dtype(np.bool_)),
            "actions": (each, _SINGLE),
            "guidance": ((epochs, agents, 2 * dimensions), _SINGLE),
            "low": (each, _SINGLE),
            "high": (each, _SINGLE),
        }
        return found if support is None else found | _effects(self._spec, (*each, support))

    def write(self, arrays: Episode, epoch: int, seen: Observation, actions: NDArray[Any]) -> None:
        _see(arrays, epoch, seen)
        low, high = _box(arrays)
        low[epoch], high[epoch] = seen.low, seen.high
        arrays.mask[epoch] = free(seen)
        arrays.actions[epoch] = shares(seen, actions)
        arrays.guidance[epoch] = 0.0

    def guide(
        self,
        arrays: Episode,
        epoch: int,
        seen: Observation,
        actions: NDArray[Any],
        model: tuple[Reference, Influence | SetPointInfluence],
    ) -> None:
        reference, influence = model
        if not isinstance(influence, SetPointInfluence):
            raise TypeError("a model of set-points answers with SetPointInfluence")
        arrays.guidance[epoch] = set_point_values(seen, reference, influence, actions)
        if arrays.effects is not None:
            deviation, value = _share_effects(seen, influence)
            arrays.effects.deviation[epoch] = deviation - reference.x_ref
            arrays.effects.weight[epoch] = reference.weight
            arrays.effects.index[epoch] = np.where(value != 0.0, influence.index, -1)
            arrays.effects.value[epoch] = value

    def close(self, arrays: Episode, epochs: int, last: Observation) -> None:
        _pad(arrays, epochs, last)
        arrays.actions[epochs:] = NOT_FREE
        arrays.mask[epochs:] = False
        for bound in _box(arrays):
            bound[epochs:] = 0.0


def _share_effects(seen: Observation, influence: SetPointInfluence) -> tuple[Doubles, Doubles]:
    """State with everybody at its lower end ``[X]``, and what a whole box adds ``[A, D, M]``."""
    low, high = seen.low.astype(np.float64), seen.high.astype(np.float64)
    gain = np.where(influence.index >= 0, influence.gain, 0.0)
    at_low = gain * (low - influence.origin)[:, :, None]
    state = seen.state + np.bincount(
        np.maximum(influence.index, 0).ravel(),
        weights=at_low.ravel(),
        minlength=seen.state.shape[0],
    )
    return state, gain * np.where(free(seen), high - low, 0.0)[:, :, None]


def _box(arrays: Episode) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if arrays.low is None or arrays.high is None:
        raise ValueError("an episode of set-points without room for their boxes")
    return arrays.low, arrays.high


def _common(spec: Spec) -> Layout:
    epochs, agents = spec.horizon, spec.agents
    return {
        "agent": ((epochs + 1, agents, len(spec.agent_features)), _SINGLE),
        "active": ((epochs, agents), np.dtype(np.bool_)),
        "critic": ((epochs + 1, len(spec.critic_features)), _SINGLE),
        "reward": ((epochs,), _DOUBLE),
        "local_reward": ((epochs, agents), _DOUBLE),
    }


def _effects(spec: Spec, each: tuple[int, ...]) -> Layout:
    state = (spec.horizon, spec.state_size)
    return {
        "deviation": (state, _SINGLE),
        "weight": (state, _SINGLE),
        "index": (each, np.dtype(np.int32)),
        "value": (each, _SINGLE),
    }


def _see(arrays: Episode, epoch: int, seen: Observation) -> None:
    arrays.agent[epoch] = seen.agent
    arrays.active[epoch] = seen.active
    arrays.critic[epoch] = seen.critic


def _pad(arrays: Episode, epochs: int, last: Observation) -> None:
    arrays.agent[epochs:] = last.agent
    arrays.critic[epochs:] = last.critic
    for name in ("candidates", "active", "reward", "local_reward", "guidance"):
        getattr(arrays, name)[epochs:] = 0
    if arrays.effects is not None:
        arrays.effects.deviation[epochs:] = 0.0
        arrays.effects.weight[epochs:] = 0.0
        arrays.effects.index[epochs:] = -1
        arrays.effects.value[epochs:] = 0.0
