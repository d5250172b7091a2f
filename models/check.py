"""Conformance check for analytical models: plays a few episodes and says in words what is wrong.

Run it on your own model before you train with it: a reference that depends on the policy or an
influence that is not what the simulator does gives guidance that looks sound and points nowhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import (
    HOLD,
    Choice,
    Doubles,
    Ints,
    Observation,
    SequentialSimulator,
    Simulator,
)
from ..simulators.observations import copy_of, difference, random_actions
from .findings import TOLERANCE, Findings, Trace, same_reference
from .interface import (
    AnalyticalModel,
    Influence,
    Reference,
    SetPointInfluence,
    counterfactual_values,
)
from .set_point_check import After, SetPointCheck


class ModelError(AssertionError):
    """A model breaks its contract; the message lists every defect found."""


def assert_model(
    model: AnalyticalModel,
    simulator: Simulator,
    *,
    episodes: int = 2,
    seed: int = 0,
    after: After = "stays",
) -> None:
    """Like :func:`check_model`, but raises :class:`ModelError` if anything is wrong."""
    problems = check_model(model, simulator, episodes=episodes, seed=seed, after=after)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ModelError(f"{len(problems)} problem(s):\n{listed}")


def check_model(
    model: AnalyticalModel,
    simulator: Simulator,
    *,
    episodes: int = 2,
    seed: int = 0,
    after: After = "stays",
) -> list[str]:
    """Play random legal actions and hold the model to its contract; return problems in words.

    Checked: shapes, types, finiteness, non-negative weights, the lower bound; that the reference
    follows from the exogenous inputs alone (asked again in another order, and two different
    policies on one seed); indices and support of the influence; that holding moves nothing; that
    the model writes into nothing it is given and answers the same twice. On a simulator with
    ``step_fresh`` every placement's influence is compared with what it did to the state; on others,
    an episode is replayed with one agent's action changed, which may move only what its influence
    names. Each kind of problem is reported once.

    Set-points: the replay changes one agent's set-points, which must move the state of the next
    observation by gain times change. The references of two policies on one seed may differ there
    (see :class:`.interface.Reference`) and are not compared.

    Args:
        model: to be checked.
        simulator: of the model's scenario.
        episodes: episodes to play; seeds ``seed``, ``seed + 1``, ...
        seed: of the first episode.
        after: set-points only: what becomes of the state until the next observation. It ``stays``
            as decisions put it, apart from what no decision influences; it ``decays``, so that
            only coordinates that the influence leaves out are compared; the plant ``reacts`` (other
            units balance what one does), so that it says nothing of the influence.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if model.state_size != simulator.spec.state_size:
        wanted = simulator.spec.state_size
        return [f"model.state_size is {model.state_size}, the simulator's state has {wanted}"]
    if not isinstance(simulator.spec.action, Choice):
        return _check_set_points(model, simulator, range(seed, seed + episodes), after)
    check = _Check(model, simulator)
    for episode in range(episodes):
        first = check.play(seed + episode, policy=1, answers=True)
        second = check.play(seed + episode, policy=2, answers=False)
        check.exogeneity(first, second)
        check.history(first)
        if check.unusable:
            continue
        if isinstance(simulator, SequentialSimulator):
            check.finite_differences(simulator, seed + episode)
        else:
            check.locality(seed + episode)
    return check.problems


def _check_set_points(
    model: AnalyticalModel, simulator: Simulator, seeds: range, after: After
) -> list[str]:
    check = SetPointCheck(model, simulator)
    for seed in seeds:
        check.history(check.play(seed))
        if not check.unusable and after != "reacts":
            check.locality(seed, decays=after == "decays")
    return check.problems


class _Check(Findings):
    """Findings of one check of a model of choices, each kind once."""

    def play(self, seed: int, *, policy: int, answers: bool) -> Trace:
        """One episode of random actions; what was seen and the reference at every epoch."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, policy]))
        seen = self._simulator.reset(seed)
        trace: Trace = []
        while True:
            reference = self._model.reference(seen.exogenous)
            trace.append((copy_of(seen), reference))
            if answers:
                self._answers(seen, reference, rng)
            # The second policy holds often, so that the two episodes differ in kind.
            actions = np.asarray(random_actions(self._spec, seen, rng))
            if policy == 2:
                actions = np.where(rng.random(actions.shape) < 0.5, HOLD, actions)
            step = self._simulator.step(actions)
            seen = step.observation
            if step.terminated or step.truncated:
                return trace

    def _answers(self, seen: Observation, reference: Reference, rng: np.random.Generator) -> None:
        before = copy_of(seen)
        self._reference(reference)
        influence = _choices(self._model.influence(seen))
        if influence is None:
            self._say("shape", "influence must be an Influence, the simulator has candidates")
        elif self._influence(seen, influence):
            again = _choices(self._model.influence(seen)) or influence
            same = np.array_equal(influence.index, again.index)
            if not (same and np.array_equal(influence.value, again.value)):
                self._say("repeat", "influence answers differently when asked twice")
            actions = np.asarray(random_actions(self._spec, seen, rng)).astype(np.int64)
            for form in ("exact", "linear"):
                values = counterfactual_values(seen, reference, influence, actions, form=form)
                if not np.isfinite(values).all():
                    self._say("values", f"guidance values ({form}) are not finite")
        changed = difference(before, seen)
        if changed:
            self._say("writes", f"the model writes into the observation's {changed}")

    def _influence(self, seen: Observation, influence: Influence) -> bool:
        """Whether the influence can be used; says what is wrong."""
        agents, candidates = seen.mask.shape
        shape = influence.index.shape
        if len(shape) != 3 or shape[:2] != (agents, candidates):
            self._say(
                "shape", f"influence.index has shape {shape}, expected ({agents}, {candidates}, M)"
            )
            return False
        if influence.value.shape != shape:
            self._say(
                "shape", f"influence.value has shape {influence.value.shape}, its index {shape}"
            )
            return False
        if influence.index.dtype != np.int64 or influence.value.dtype != np.float64:
            kinds = f"{influence.index.dtype} and {influence.value.dtype}"
            self._say("dtype", f"influence must be int64 indices and float64 values, got {kinds}")
        index = influence.index
        if not self._index_range(int(index.min(initial=0)), int(index.max(initial=0))):
            return False
        there = influence.index >= 0
        if not np.isfinite(influence.value[there]).all():
            self._say("finite", "influence.value is not finite")
            return False
        if (np.where(there, influence.value, 0.0)[:, HOLD] != 0.0).any():
            self._say("hold", "holding moves the state; its influence must be zero (see hold_cost)")
        self._support(influence.index)
        return self._hold_cost(influence, agents)

    def _support(self, index: Ints) -> None:
        ordered = np.sort(index, axis=2)
        if ((ordered[:, :, 1:] == ordered[:, :, :-1]) & (ordered[:, :, 1:] >= 0)).any():
            self._say("twice", "a candidate names a coordinate twice; add the two values up")

    def _hold_cost(self, influence: Influence, agents: int) -> bool:
        cost = influence.hold_cost
        if cost is None:
            return True
        if cost.shape != (agents,) or not np.isfinite(cost).all() or (cost < 0.0).any():
            self._say("hold cost", f"hold_cost must be ({agents},), finite and non-negative")
            return False
        return True

    def exogeneity(self, first: Trace, second: Trace) -> None:
        """Two policies on the same seed meet the same exogenous inputs and references.

        Epochs are compared where both episodes have one at the same time.
        """
        at = {seen.time: (seen, reference) for seen, reference in second}
        for seen, reference in first:
            other = at.get(seen.time)
            if other is None:
                continue
            if not np.array_equal(seen.exogenous, other[0].exogenous):
                column = int(np.argmax(seen.exogenous != other[0].exogenous))
                self._say(
                    "exogenous",
                    f"exogenous[{column}] differs between two policies on one seed at time "
                    f"{seen.time:g}: the policy moves it",
                )
            elif not same_reference(reference, other[1]):
                self._say(
                    "reference",
                    f"the reference differs between two policies on one seed at time {seen.time:g}",
                )

    def finite_differences(self, simulator: SequentialSimulator, seed: int) -> None:
        """Agent after agent: the state that the next one sees has moved by the influence."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
        simulator.reset(seed)
        pending: list[tuple[Doubles, Doubles, int]] = []

        def choose(seen: Observation) -> Ints:
            for before, moved, target in pending:
                self._compare(seen.state - before, moved, target)
            pending.clear()
            action = np.where(seen.mask, rng.random(seen.mask.shape), -1.0).argmax(axis=1)
            influence = _known(self._model.influence(seen))
            moved = _dense(influence, 0, int(action[0]), seen.state.shape[0])
            pending.append((seen.state.copy(), moved, int(seen.target[0, action[0]])))
            return action.astype(np.int64)

        for _ in range(min(self._spec.horizon, 40)):
            step = simulator.step_fresh(choose)
            pending.clear()
            if step.terminated or step.truncated:
                return

    def _compare(self, change: Doubles, moved: Doubles, target: int) -> None:
        error = np.abs(change - moved)
        worst = int(error.argmax())
        if error[worst] > TOLERANCE * (1.0 + np.abs(moved).max()):
            self._say(
                "difference",
                f"taking target {target} moved state[{worst}] by {change[worst]:.6g}, the "
                f"influence says {moved[worst]:.6g}",
            )

    def locality(self, seed: int) -> None:
        """One agent's action changed in a replay moves only what its influence names."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
        epoch = int(rng.integers(0, min(self._spec.horizon, 20)))
        taken: list[NDArray[np.generic]] = []
        seen = self._simulator.reset(seed)
        while True:
            actions = np.asarray(random_actions(self._spec, seen, rng))
            taken.append(actions)
            choosing = np.flatnonzero(seen.active & (actions != HOLD))
            if len(taken) > epoch and choosing.size:
                break
            step = self._simulator.step(actions)
            seen = step.observation
            if step.terminated or step.truncated:
                return
        agent = int(rng.choice(choosing))
        influence = _known(self._model.influence(seen))
        moved = _dense(influence, agent, int(actions[agent]), seen.state.shape[0])
        after = self._simulator.step(actions).observation
        held = actions.copy()
        held[agent] = HOLD
        seen = self._simulator.reset(seed)
        for earlier in taken[:-1]:
            seen = self._simulator.step(earlier).observation
        other = self._simulator.step(held).observation
        if after.time != other.time:
            return
        beyond = np.flatnonzero((after.state != other.state) & (moved == 0.0))
        if beyond.size:
            self._say(
                "locality",
                f"agent {agent}'s choice moved state[{beyond[0]}], which its influence leaves out",
            )


def _choices(influence: Influence | SetPointInfluence) -> Influence | None:
    return influence if isinstance(influence, Influence) else None


def _known(influence: Influence | SetPointInfluence) -> Influence:
    if not isinstance(influence, Influence):
        raise TypeError(f"an answer for candidates was asked for, got {influence}")
    return influence


def _dense(influence: Influence, agent: int, candidate: int, size: int) -> Doubles:
    index, value = influence.index[agent, candidate], influence.value[agent, candidate]
    moved = np.zeros(size)
    np.add.at(moved, index[index >= 0], value[index >= 0])
    return moved
