"""One recorded decision again: what it was computed from, through ``decide``, against what it gave.

Policies that answered are asked again; outcomes that depend on the day (a time limit missed, an
exception) are taken from the record. After the policy, everything is computed from the *recorded*
answer, so that one difference is reported once, where it arises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...policies.acting import choose
from ...simulators.interface import Floats, Ints, Observation
from ..daemon.interface import Entry
from ..decision.core import decide
from ..decision.seeds import generator
from ..decision.settings import SlotSettings
from ..decision.types import (
    Actions,
    Decision,
    Inference,
    Live,
    Outcome,
    Policy,
    Projected,
    Rejected,
    Runtime,
    State,
)
from ..golden import TOLERANCE, score_error

_PATIENCE = 5.0
"""Seconds that a policy may take in a recomputation."""

_FIGURES = ("distance", "margin", "deviation")
_EXACT = ("actions", "source", "cause", "outcome", "mode", "bundle", "seed", "invalid", "wanted")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a recomputation found.

    Attributes:
        id: of the entry.
        differences: in words; empty: identical.
        skipped: why it could not be recomputed; empty if it was.
        after: the state that the decision leaves; ``None`` if it was not recomputed.
    """

    id: str
    differences: tuple[str, ...] = ()
    skipped: str = ""
    after: State | None = None

    @property
    def identical(self) -> bool:
        return not self.differences and not self.skipped


def recompute(
    entry: Entry,
    runtime: Runtime,
    slot: SlotSettings,
    *,
    tolerance: float | None = None,
) -> Verdict:
    """Decide again and compare.

    Args:
        entry: with its full observation.
        runtime: with the bundles that decided then. If ``previous`` is another one, its recorded
            outcome is used as it is.
        slot: the knobs in force then.
        tolerance: how far scores and figures may be off; ``None``: scores of the onnx backend by
            1e-5 (:func:`...golden.score_error`), all else not at all.

    May be called with a running slot's runtime, from the thread that decides.
    """
    recorded = entry.decision
    if runtime.digest != recorded.bundle:
        return Verdict(entry.id, skipped=f"bundle {recorded.bundle[:12] or 'none'} is not at hand")
    allowed = tolerance if tolerance is not None else 0.0
    scores = max(allowed, TOLERANCE) if slot.backend == "onnx" else allowed
    first, second = recorded.asked
    known = runtime.previous is not None and runtime.previous.digest == entry.previous
    found: list[str] = []
    stand_ins = [
        _Again(_digest(policy, digest), policy, outcome, runtime.stochastic, scores, found)
        for policy, digest, outcome in (
            (runtime.policy, recorded.bundle, first),
            (runtime.previous if known else None, entry.previous, second),
        )
    ]
    then = replace(
        runtime,
        policy=None if runtime.policy is None else stand_ins[0],
        previous=stand_ins[1] if entry.previous else None,
        mode="canary" if entry.role == "canary" else "policy",
    )
    verdict = _attempt(entry, then, slot, allowed, found)
    if verdict.identical or not recorded.failures:
        return verdict
    # Parts that raised for reasons of that day are made to raise again.
    found.clear()
    again = _attempt(
        entry, replace(then, live=_Failing(runtime.live, recorded.failures)), slot, allowed, found
    )
    return again if again.identical else verdict


def _attempt(
    entry: Entry, runtime: Runtime, slot: SlotSettings, allowed: float, found: list[str]
) -> Verdict:
    try:
        after, decision = decide(runtime, slot, entry.before, entry.request, entry.clock)
    except Rejected as error:
        return Verdict(entry.id, (f"the request would be refused now: {error}",))
    differences = (*found, *differing(entry.decision, decision, allowed))
    return Verdict(entry.id, differences, after=after)


def differing(recorded: Decision, computed: Decision, tolerance: float = 0.0) -> list[str]:
    """How two decisions differ, apart from the time they took; empty: not at all."""
    found = [
        _said(name, getattr(recorded, name), getattr(computed, name))
        for name in _EXACT
        if not _same(getattr(recorded, name), getattr(computed, name), 0.0)
    ]
    found += [
        _said(name, getattr(recorded, name), getattr(computed, name))
        for name in (*_FIGURES, "preference")
        if not _same(getattr(recorded, name), getattr(computed, name), tolerance)
    ]
    if set(recorded.failures) != set(computed.failures):
        found.append(_said("failures", sorted(recorded.failures), sorted(computed.failures)))
    asked = [[None if one is None else one.status for one in d.asked] for d in (recorded, computed)]
    if asked[0] != asked[1]:
        found.append(_said("asked", *asked))
    return found


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, np.ndarray | float) and isinstance(other, np.ndarray | float):
        return _same_numbers(np.asarray(one), np.asarray(other), tolerance)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return bool(one == other)


def _same_numbers(one: Any, other: Any, tolerance: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    if tolerance:
        return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool(np.array_equal(one, other, equal_nan=True))


def _said(name: str, recorded: Any, computed: Any) -> str:
    if not isinstance(recorded, np.ndarray) or not isinstance(computed, np.ndarray):
        return f"{name}: recorded {_short(recorded)}, computed {_short(computed)}"
    if recorded.shape != computed.shape or recorded.dtype != computed.dtype:
        return (
            f"{name}: recorded {recorded.dtype}{list(recorded.shape)}, "
            f"computed {computed.dtype}{list(computed.shape)}"
        )
    both_nan = (recorded != recorded) & (computed != computed)  # noqa: PLR0124 (also for whole numbers)
    rows = np.argwhere((recorded != computed) & ~both_nan)
    at = tuple(int(index) for index in rows[0]) if rows.size else ()
    return (
        f"{name}: {len(rows)} of {recorded.size} numbers differ, the first at {list(at)}: "
        f"recorded {recorded[at]}, computed {computed[at]}"
    )


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = f"{value!r}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _digest(policy: Policy | None, digest: str) -> str:
    return digest if policy is None else policy.digest


@dataclass(frozen=True, slots=True)
class _Again:
    """Stands in for a policy: asks it again and compares, or repeats what was recorded.

    Attributes:
        digest: of the bundle.
        policy: to be asked; ``None``: it is not at hand, the record is repeated.
        outcome: recorded; ``None``: it was not asked then.
        stochastic: whether it samples unless it is told otherwise.
        tolerance: of the scores.
        found: differences, in words.
    """

    digest: str
    policy: Policy | None
    outcome: Outcome | None
    stochastic: bool
    tolerance: float
    found: list[str] = field(compare=False)

    def ask(
        self,
        observation: Observation,
        agents: Ints | None,
        *,
        seed: int,
        greedy: bool | None,
        limit: float,  # noqa: ARG002 - what was late then is late now
    ) -> Outcome:
        name, outcome = self.digest[:12], self.outcome
        if outcome is None:
            self.found.append(f"policy {name}: is asked now, was not asked then")
            return Outcome("error", None, 0.0, "not recorded")
        if outcome.inference is None or self.policy is None:
            return outcome
        fresh = self.policy.ask(observation, agents, seed=seed, greedy=greedy, limit=_PATIENCE)
        if fresh.inference is None:
            self.found.append(f"policy {name}: {fresh.status} now ({fresh.detail}), ok then")
        else:
            sampled = self.stochastic if greedy is None else not greedy
            self._compare(outcome.inference, fresh.inference, observation, seed, sampled=sampled)
        return outcome

    def _compare(
        self,
        recorded: Inference,
        fresh: Inference,
        observation: Observation,
        seed: int,
        *,
        sampled: bool,
    ) -> None:
        name = f"policy {self.digest[:12]}"
        then, now = recorded.preference, fresh.preference
        actions = fresh.actions
        if then is not None and now is not None and not _same(then, now, 0.0):
            worst = score_error(now, then) if now.shape == then.shape else float("inf")
            if not worst <= self.tolerance:
                self.found.append(f"{name}: scores differ by {worst:.3g}, {_said('', then, now)}")
                return
            # Within the tolerance the choice may differ where scores nearly tie: what was chosen
            # must follow from the scores that were recorded.
            actions = choose(then, observation, generator(seed) if sampled else None)
        if not _same(recorded.actions, actions, self.tolerance if then is None else 0.0):
            self.found.append(_said(f"{name}: actions", recorded.actions, actions))


@dataclass(frozen=True, slots=True)
class _Failing:
    """A domain's part, some methods of which raise as they did when it was recorded."""

    live: Live
    failures: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.live.baseline.name

    @property
    def information(self) -> Any:
        return self.live.baseline.information

    @property
    def baseline(self) -> Any:
        return self if "baseline" in self.failures else self.live.baseline

    def act(self, observation: Observation, rng: np.random.Generator) -> Actions:
        self._raise("baseline")
        return self.live.baseline.act(observation, rng)

    def project(
        self, observation: Observation, wanted: Actions, last: Actions | None, agents: Ints | None
    ) -> Projected:
        self._raise("project")
        return self.live.project(observation, wanted, last, agents)

    def recoverable(
        self, observation: Observation, actions: Actions, baseline: Actions
    ) -> tuple[bool, float]:
        self._raise("simplex")
        return self.live.recoverable(observation, actions, baseline)

    def surely_recoverable(self, observation: Observation, actions: Actions) -> float:
        self._raise("simplex")
        return self.live.surely_recoverable(observation, actions)

    def hold(
        self, observation: Observation, last: Actions | None, agents: Ints | None
    ) -> Actions | None:
        self._raise("hold")
        return self.live.hold(observation, last, agents)

    def safe(self, observation: Observation) -> Actions:
        self._raise("safe")
        return self.live.safe(observation)

    def deviation(self, observation: Observation, actions: Actions) -> Floats:
        self._raise("deviation")
        return self.live.deviation(observation, actions)

    def objective(self, observation: Observation, actions: Actions) -> tuple[float, float]:
        return self.live.objective(observation, actions)

    def coupling(self, spec: Any) -> Ints:
        return self.live.coupling(spec)

    def _raise(self, part: str) -> None:
        if part in self.failures:
            raise RuntimeError(self.failures[part])
