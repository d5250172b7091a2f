"""Conformance check for analytical models of set-points; see :func:`.check.check_model`.

Two different policies on one seed may meet different exogenous inputs here: ramp limits tie what is
good now to what was, so that the inputs may hold the plant's state before the decision. What the
joint decision of the same epoch does must not be among them, and cannot be: they are read before.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import Doubles, Observation
from ..simulators.observations import copy_of, difference, random_actions
from .findings import Findings, Trace
from .interface import Influence, Reference, SetPointInfluence, set_point_values

MOVED = 1e-6
"""Absolute, plus relative to the largest move, between influence and what the simulator did:
set-points are float32, and a simulator may well compute with them as they are."""

After = Literal["stays", "decays", "reacts"]
"""What becomes of the state between a decision and the next observation."""

_PARTS = ("index", "gain", "origin", "slope", "curvature")


class SetPointCheck(Findings):
    """Findings of one check of a model of set-points, each kind once."""

    def play(self, seed: int) -> Trace:
        """One episode of random set-points; what was seen and the reference at every epoch."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        seen = self._simulator.reset(seed)
        trace: Trace = []
        while True:
            before = copy_of(seen)
            reference = self._model.reference(seen.exogenous)
            trace.append((before, reference))
            self._answers(seen, reference, rng)
            changed = difference(before, seen)
            if changed:
                self._say("writes", f"the model writes into the observation's {changed}")
            step = self._simulator.step(random_actions(self._spec, seen, rng))
            seen = step.observation
            if step.terminated or step.truncated:
                return trace

    def _answers(self, seen: Observation, reference: Reference, rng: np.random.Generator) -> None:
        sound = self._reference(reference)
        influence = self._model.influence(seen)
        if not isinstance(influence, SetPointInfluence):
            self._say("shape", f"influence must be a SetPointInfluence, got {_kind(influence)}")
            return
        if not self._usable(seen, influence):
            return
        again = self._model.influence(seen)
        if not all(_equal(getattr(influence, name), getattr(again, name)) for name in _PARTS):
            self._say("repeat", "influence answers differently when asked twice")
        actions = np.asarray(random_actions(self._spec, seen, rng), np.float64)
        if not sound:
            return
        values = set_point_values(seen, reference, influence, actions)
        if not np.isfinite(values).all():
            self._say("values", "guidance values are not finite")

    def _usable(self, seen: Observation, influence: SetPointInfluence) -> bool:
        """Whether the influence can be used; says what is wrong."""
        each, index = seen.low.shape, influence.index
        if index.ndim != 3 or index.shape[:2] != each:
            self._say("shape", f"influence.index has shape {index.shape}, expected {(*each, 'M')}")
            return False
        wanted = {"gain": index.shape, "origin": each, "slope": each, "curvature": each}
        there = index >= 0
        for name, shape in wanted.items():
            array = getattr(influence, name)
            if array is None and name in {"slope", "curvature"}:
                continue
            if not isinstance(array, np.ndarray) or array.shape != shape:
                found = array.shape if isinstance(array, np.ndarray) else _kind(array)
                self._say("shape", f"influence.{name} has shape {found}, expected {shape}")
                return False
            if array.dtype != np.float64:
                self._say("dtype", f"influence.{name} must be float64, got {array.dtype}")
            if not np.isfinite(array[there] if name == "gain" else array).all():
                self._say("finite", f"influence.{name} is not finite")
                return False
        if index.dtype != np.int64:
            self._say("dtype", f"influence.index must be int64, got {index.dtype}")
        if not self._index_range(int(index.min(initial=0)), int(index.max(initial=0))):
            return False
        ordered = np.sort(index, axis=2)
        if ((ordered[:, :, 1:] == ordered[:, :, :-1]) & (ordered[:, :, 1:] >= 0)).any():
            self._say("twice", "a dimension names a coordinate twice; add the two gains up")
        return True

    def locality(self, seed: int, *, decays: bool) -> None:
        """One agent's set-points changed in a replay move the state by what its influence says.

        The state of the next observation is compared, from which everything cancels that both
        replays have in common. Where the state ``decays``, only coordinates that the influence
        leaves out are compared.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
        epoch = int(rng.integers(0, min(self._spec.horizon, 20)))
        taken: list[NDArray[Any]] = []
        seen = self._simulator.reset(seed)
        while True:
            free = seen.active & (seen.high > seen.low).any(axis=1)
            taken.append(np.asarray(random_actions(self._spec, seen, rng)))
            if len(taken) > epoch and free.any():
                break
            step = self._simulator.step(taken[-1])
            seen = step.observation
            if step.terminated or step.truncated:
                return
        agent = int(rng.choice(np.flatnonzero(free)))
        changed = taken[-1].copy()
        changed[agent] = np.where(
            changed[agent] - seen.low[agent] > seen.high[agent] - changed[agent],
            seen.low[agent],
            seen.high[agent],
        )
        influence = self._model.influence(seen)
        if not isinstance(influence, SetPointInfluence):
            return
        moved, named = _dense(influence, agent, changed - taken[-1].astype(np.float64), seen)
        after = self._simulator.step(taken[-1]).observation
        again = self._simulator.reset(seed)
        for earlier in taken[:-1]:
            again = self._simulator.step(earlier).observation
        if difference(seen, again):
            return  # what the replay of a seed needs is for check_simulator to say
        other = self._simulator.step(changed).observation
        if after.time == other.time:
            self._compare(agent, other.state - after.state, moved, named if decays else None)

    def _compare(
        self, agent: int, change: Doubles, moved: Doubles, left_out: NDArray[np.bool_] | None
    ) -> None:
        error = np.abs(change - moved)
        if left_out is not None:
            error = np.where(left_out, 0.0, error)
        worst = int(error.argmax())
        if error[worst] > MOVED * (1.0 + np.abs(moved).max()):
            self._say(
                "locality",
                f"agent {agent}'s set-point moved state[{worst}] by {change[worst]:.6g}, its "
                f"influence says {moved[worst]:.6g}",
            )


def _dense(
    influence: SetPointInfluence, agent: int, by: Doubles, seen: Observation
) -> tuple[Doubles, NDArray[np.bool_]]:
    """What the influence says of a change ``by`` ``[A, D]``, and which coordinates it names."""
    index, gain = influence.index[agent], influence.gain[agent]
    there = index >= 0
    moved, named = np.zeros(seen.state.shape[0]), np.zeros(seen.state.shape[0], np.bool_)
    np.add.at(moved, index[there], (gain * by[agent][:, None])[there])
    named[index[there]] = True
    return moved, named


def _kind(value: object) -> str:
    return "Influence (candidates)" if isinstance(value, Influence) else type(value).__name__


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(one, other))
