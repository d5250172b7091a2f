"""Conformance check for simulators: plays a few episodes and says in words what is wrong.

Run it on your own simulator before you train on it; most defects it finds do not crash a training
run but silently spoil it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .interface import (
    HOLD,
    Choice,
    Feature,
    Observation,
    SequentialSimulator,
    Simulator,
    Spec,
    Step,
)
from .observations import copy_of, difference, illegal_actions, layout, random_actions

TOLERANCE = 1e-9
"""Relative tolerance of the identities between rewards and their parts."""


class SimulatorError(AssertionError):
    """A simulator breaks its contract; the message lists every defect found."""


def assert_simulator(factory: Callable[[], Simulator], *, seed: int = 0) -> None:
    """Like :func:`check_simulator`, but raises :class:`SimulatorError` if anything is wrong."""
    problems = check_simulator(factory, seed=seed)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise SimulatorError(f"{len(problems)} problem(s):\n{listed}")


def check_simulator(factory: Callable[[], Simulator], *, seed: int = 0) -> list[str]:
    """Play random legal actions on simulators built by ``factory``; return problems in words.

    Checked: the specification; shapes, types, finiteness and bounds of every array; the mask;
    rewards against their components and local shares; that illegal actions raise ``ValueError``
    and change nothing; that observations are not overwritten later; the end of the episode; that
    the seed determines everything; the metrics; and ``step_fresh`` where there is one. Each
    problem names the cure and is reported once, where it was first seen.
    """
    report = _Report()
    simulator = factory()
    _check_spec(simulator.spec, report)
    if report.problems:
        return report.problems
    first = _Episode(simulator, seed, report).play()
    _compare(first, _Episode(factory(), seed, report).play(), "built anew", report)
    _compare(first, _Episode(simulator, seed, report).play(), "reset again", report)
    probing = _Episode(simulator, seed, report)
    probed = probing.play(probe=True)
    if not probing.accepted:
        _compare(first, probed, "after refusing illegal actions", report)
    if isinstance(simulator, SequentialSimulator):
        _check_fresh(simulator, seed, report)
    return report.problems


class _Report:
    """Problems in order of appearance, each kind once."""

    def __init__(self):
        self.problems: list[str] = []
        self._seen: set[str] = set()

    def add(self, kind: str, problem: str) -> None:
        if kind not in self._seen:
            self._seen.add(kind)
            self.problems.append(problem)


def _check_spec(spec: Spec, report: _Report) -> None:
    for name in ("agents", "horizon"):
        if getattr(spec, name) < 1:
            report.add(name, f"spec.{name} is {getattr(spec, name)}; it must be at least 1")
    if not spec.dt > 0:
        report.add("dt", f"spec.dt is {spec.dt}; give the seconds between two epochs")
    group = spec.group_of
    if group.shape != (spec.agents,) or group.dtype.kind != "i":
        report.add(
            "group_of",
            f"spec.group_of has shape {group.shape} and type {group.dtype}; give one int64 group "
            f"index per agent, shape ({spec.agents},)",
        )
    elif group.min() < 0 or group.max() >= len(spec.groups):
        report.add(
            "group_of",
            f"spec.group_of holds {group.min()}..{group.max()} but there are {len(spec.groups)} "
            "groups; list every group in spec.groups",
        )
    for kind in ("agent_features", "candidate_features", "critic_features"):
        names = [feature.name for feature in getattr(spec, kind)]
        double = {name for name in names if names.count(name) > 1}
        if double:
            report.add(kind, f"spec.{kind} names {sorted(double)} twice; names must be unique")
    size = spec.action.candidates - 1 if isinstance(spec.action, Choice) else spec.action.dimensions
    if size < 1:
        report.add("action", f"spec.action is {spec.action}; leave agents something to decide")


class _Episode:
    """One episode under random legal actions; every step's outcome is kept for comparison."""

    def __init__(self, simulator: Simulator, seed: int, report: _Report):
        self._simulator, self._seed, self._report = simulator, seed, report
        self._spec = simulator.spec
        self.accepted = False
        """An illegal action went through, so that the episode is no longer the same."""
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 0xC4EC]))

    def play(self, *, probe: bool = False) -> list[tuple[Observation, float]]:
        """Play to the end; with ``probe`` also offer illegal actions and watch old arrays."""
        observation = self._simulator.reset(self._seed)
        outcomes = [(copy_of(observation), 0.0)]
        for epoch in range(1, self._spec.horizon + 1):
            if not self._observation(observation, epoch - 1):
                return outcomes
            if probe:
                self._offer_illegal(observation)
                if self.accepted:
                    return outcomes
            kept = copy_of(observation)
            step = self._simulator.step(random_actions(self._spec, observation, self._rng))
            if probe and (changed := difference(kept, observation)):
                self._report.add(
                    "reuse",
                    f"epoch {epoch}: step() overwrote {changed!r} of the observation handed out "
                    "before; fill new arrays in every epoch",
                )
            self.judge(step, epoch)
            observation = step.observation
            outcomes.append((copy_of(observation), step.reward))
            if step.terminated or step.truncated:
                break
        self._observation(observation, len(outcomes) - 1)
        self._metrics()
        return outcomes

    def _observation(self, seen: Observation, epoch: int) -> bool:
        """Check an observation; false if its shapes do not allow to go on."""
        sound = True
        for name, shape, kind in layout(self._spec):
            array = getattr(seen, name)
            if array.shape != shape or array.dtype != kind:
                sound = False
                self._report.add(
                    f"shape {name}",
                    f"epoch {epoch}: observation.{name} has shape {array.shape} and type "
                    f"{array.dtype}; the spec asks for {shape} and {np.dtype(kind)}",
                )
            elif array.dtype.kind == "f" and not np.isfinite(array).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                self._report.add(
                    f"finite {name}",
                    f"epoch {epoch}: observation.{name}{list(where)} is {array[where]}; all "
                    "values must be finite (use 0 for what does not apply)",
                )
        if seen.exogenous.ndim != 1 or not np.isfinite(seen.exogenous).all():
            self._report.add(
                "exogenous",
                f"epoch {epoch}: observation.exogenous must be finite numbers on one axis, got "
                f"shape {seen.exogenous.shape}",
            )
        if sound:
            self._bounds("agent", self._spec.agent_features, seen.agent, epoch)
            self._bounds("candidates", self._spec.candidate_features, seen.candidates, epoch)
            self._bounds("critic", self._spec.critic_features, seen.critic, epoch)
            if isinstance(self._spec.action, Choice):
                self._choice(seen, epoch)
            elif (seen.low > seen.high).any():
                agent, d = (int(i) for i in np.argwhere(seen.low > seen.high)[0])
                self._report.add(
                    "box",
                    f"epoch {epoch}: agent {agent} has low {seen.low[agent, d]} above high "
                    f"{seen.high[agent, d]} in dimension {d}; the box must not be empty",
                )
        return sound

    def _choice(self, seen: Observation, epoch: int) -> None:
        if not seen.mask[:, HOLD].all():
            agent = int(np.argmin(seen.mask[:, HOLD]))
            self._report.add(
                "hold",
                f"epoch {epoch}: mask[{agent}, 0] is false; candidate 0 is 'hold' and must "
                "always be legal",
            )
        lost = seen.mask & (seen.target < 0)
        lost[:, HOLD] = False
        if lost.any():
            agent, candidate = (int(i) for i in np.argwhere(lost)[0])
            self._report.add(
                "target",
                f"epoch {epoch}: candidate {candidate} of agent {agent} is legal but has no "
                "target; set target to what it stands for, and the mask of padding to false",
            )

    def _bounds(
        self, kind: str, features: tuple[Feature, ...], array: NDArray[np.floating], epoch: int
    ) -> None:
        for column, feature in enumerate(features):
            values = array[..., column]
            slack = 1e-5 * max(1.0, abs(feature.low))
            if values.size and values.min() < feature.low - slack:
                self._report.add(
                    f"low {kind} {feature.name}",
                    f"epoch {epoch}: {kind} feature {feature.name!r} is {values.min():g}, below "
                    f"its bound {feature.low:g}; correct the value or the bound in the spec",
                )
            slack = 1e-5 * max(1.0, abs(feature.high)) if np.isfinite(feature.high) else 0.0
            if values.size and values.max() > feature.high + slack:
                self._report.add(
                    f"high {kind} {feature.name}",
                    f"epoch {epoch}: {kind} feature {feature.name!r} is {values.max():g}, above "
                    f"its bound {feature.high:g}; correct the value or the bound in the spec",
                )

    def judge(self, step: Step, epoch: int) -> None:
        """Check rewards and the end of the episode of one step."""
        report, reward = self._report, step.reward
        if not np.isfinite(reward):
            report.add("reward", f"epoch {epoch}: reward is {reward}; it must be finite")
            return
        total = sum(step.components.values())
        if not np.isclose(total, reward, rtol=TOLERANCE, atol=TOLERANCE):
            report.add(
                "components",
                f"epoch {epoch}: the components sum to {total:.12g} but the reward is "
                f"{reward:.12g}; every part of the reward needs its component",
            )
        local = step.local_reward
        if local.shape != (self._spec.agents,):
            report.add(
                "local shape",
                f"epoch {epoch}: local_reward has shape {local.shape}; give one number per "
                f"agent, shape ({self._spec.agents},)",
            )
        elif not np.isclose(local.mean(), reward, rtol=TOLERANCE, atol=TOLERANCE):
            report.add(
                "local",
                f"epoch {epoch}: local_reward has mean {local.mean():.12g} but the reward is "
                f"{reward:.12g}; scale the agents' own shares so that their mean is the reward",
            )
        last = epoch == self._spec.horizon
        if step.truncated and not last:
            report.add(
                "early",
                f"epoch {epoch}: truncated before the horizon of {self._spec.horizon} epochs; an "
                "end of the process itself is 'terminated'",
            )
        if last and not (step.truncated or step.terminated):
            report.add(
                "horizon",
                f"epoch {epoch}: the horizon is reached but the step is neither truncated nor "
                "terminated; set truncated at spec.horizon",
            )

    def _offer_illegal(self, seen: Observation) -> None:
        for kind, actions in illegal_actions(self._spec, seen):
            if self.accepted:
                return
            raised = self._outcome(actions)
            self.accepted = raised is None
            if not isinstance(raised, ValueError):
                what = "is accepted" if raised is None else f"raises {raised!r}"
                self._report.add(
                    f"illegal {kind}",
                    f"{kind} {what}; step() must raise a ValueError that names agent and value, "
                    "before it changes anything",
                )

    def _outcome(self, actions: NDArray[np.generic]) -> Exception | None:
        try:
            self._simulator.step(actions)
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes part of the report
            return error
        return None

    def _metrics(self) -> None:
        # A faulty simulator may return anything; that is what is being checked.
        metrics = cast("Mapping[str, object]", self._simulator.metrics())
        for name, value in metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                self._report.add(
                    "metrics",
                    f"metrics()[{name!r}] is {value!r}; metrics are a flat mapping of name to "
                    "number",
                )


def _compare(
    one: list[tuple[Observation, float]],
    two: list[tuple[Observation, float]],
    how: str,
    report: _Report,
) -> None:
    """Same seed, same actions: both episodes must agree in every array and reward."""
    cure = "derive every random draw from the seed given to reset(), and keep nothing of before"
    if len(one) != len(two):
        report.add(
            "seed",
            f"with the same seed the simulator {how} plays {len(two) - 1} instead of "
            f"{len(one) - 1} epochs; {cure}",
        )
    for epoch, ((seen, reward), (other, other_reward)) in enumerate(zip(one, two, strict=False)):
        name = difference(seen, other) or ("reward" if reward != other_reward else "")
        if name:
            report.add(
                "seed",
                f"epoch {epoch}: with the same seed the simulator {how} gives another {name!r}; "
                f"{cure}",
            )
            return


def _check_fresh(simulator: SequentialSimulator, seed: int, report: _Report) -> None:
    spec = simulator.spec
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xF2E5]))

    def choose(seen: Observation) -> NDArray[np.int64]:
        one = (seen.agent.shape[0], seen.mask.shape[0], seen.active.shape[0])
        if one != (1, 1, 1) or not seen.active.all():
            report.add(
                "fresh",
                f"step_fresh() shows {one[0]} agents, active {seen.active.tolist()}; show one "
                "active agent at a time",
            )
        return np.where(seen.mask, rng.random(seen.mask.shape), -1.0).argmax(axis=1)

    simulator.reset(seed)
    for epoch in range(1, spec.horizon + 1):
        step = simulator.step_fresh(choose)
        _Episode(simulator, seed, report).judge(step, epoch)
        if step.terminated or step.truncated:
            return
