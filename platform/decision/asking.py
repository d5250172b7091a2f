"""Asking a policy: what a backend is, and what counts as an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Ints, Observation
from .arrays import among, every
from .types import Inference, Outcome, Policy


class Backend(Protocol):
    """What runs a policy's network: a plain callable, free to raise and free to be late.

    The arrays it returns are its caller's: it must not write to them again. It may be called from
    another thread, and after a late call from a new one while the late one still runs, so it keeps
    no scratch memory that two calls would share.
    """

    def __call__(
        self, observation: Observation, agents: Ints | None, seed: int, greedy: bool | None, /
    ) -> Inference:
        """Actions of the rows of ``observation``, which are the agents ``agents``.

        Sampling takes :func:`.seeds.generator` of ``seed``; ``greedy`` as in ``Request``.
        """
        ...


def examined(inference: Inference, observation: Observation, seconds: float) -> Outcome:
    """``ok`` if the answer fits the observation and is finite; never raises.

    Legality is not asked for: making actions legal is the projection's task.
    """
    try:
        status, detail = _fault(inference, observation)
    except Exception as error:  # noqa: BLE001 - an answer of any wrong type is the policy's error
        status, detail = "error", f"not an answer: {error!r}"
    if status == "ok":
        return Outcome("ok", inference, seconds)
    return Outcome(status, None, seconds, detail)


def _fault(inference: Inference, observation: Observation) -> tuple[Any, str]:
    wrong = _fault_of_actions(inference.actions, observation)
    preference = inference.preference
    if wrong or preference is None:
        return wrong or ("ok", "")
    if preference.shape != observation.mask.shape:
        return "error", f"preferences are {preference.shape}, not {observation.mask.shape}"
    if not every(np.isfinite(preference)):
        return "non-finite", "preferences that are not finite"
    return "ok", ""


def _fault_of_actions(actions: NDArray[Any], observation: Observation) -> tuple[Any, str] | None:
    rows, choices = observation.mask.shape
    dtype, shape = actions.dtype, actions.shape
    if observation.low.shape[1]:
        if shape != observation.low.shape or dtype != np.float32:
            return "error", f"set-points are {dtype} {shape}, not float32 {observation.low.shape}"
        if not every(np.isfinite(actions)):
            return "non-finite", "set-points that are not finite"
    elif shape != (rows,) or dtype != np.int64:
        return "error", f"actions are {dtype} {shape}, not int64 {(rows,)}"
    elif not among(actions, choices):
        return "error", f"actions run from {actions.min()} to {actions.max()} of {choices}"
    return None


def ask(
    policy: Policy,
    observation: Observation,
    agents: Ints | None,
    *,
    seed: int,
    greedy: bool | None,
    limit: float,
) -> Outcome:
    """Ask with at most ``limit`` seconds, and examine the answer whoever gave it; never raises."""
    if not limit > 0:
        return Outcome("timeout", None, 0.0, "no time was left to ask")
    try:
        outcome = policy.ask(observation, agents, seed=seed, greedy=greedy, limit=limit)
    except Exception as error:  # noqa: BLE001 - policies do not raise; one that does has failed
        return Outcome("error", None, 0.0, repr(error))
    if outcome.status != "ok":
        return outcome
    if outcome.inference is None:
        return Outcome("error", None, outcome.seconds, "an answer without actions")
    return examined(outcome.inference, observation, outcome.seconds)


@dataclass(frozen=True, slots=True)
class Inline:
    """Implements ``Policy`` in the caller's thread, so without a time limit: replays, benches.

    Attributes:
        digest: of the bundle.
        backend: what runs its network.
    """

    digest: str
    backend: Backend

    def ask(
        self,
        observation: Observation,
        agents: Ints | None,
        *,
        seed: int,
        greedy: bool | None,
        limit: float,  # noqa: ARG002 - nothing here can interrupt the backend
    ) -> Outcome:
        began = time.perf_counter()
        try:
            inference = self.backend(observation, agents, seed, greedy)
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the outcome
            return Outcome("error", None, time.perf_counter() - began, repr(error))
        return examined(inference, observation, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Injected:
    """Implements ``Policy`` with an outcome that is known already, as a replay does.

    To recompute a recorded decision, call ``decide`` with the recorded state, request and clock
    and a runtime whose policy is ``Injected(digest, decision.asked[0])`` and whose previous one is
    ``Injected(digest, decision.asked[1])``: what ``decide`` does with an outcome depends on
    nothing else, not even on the time that passes meanwhile (it reads ``outcome.seconds``). To
    recompute the policy as well, put ``Inline`` where the recorded outcome was ``ok``.
    """

    digest: str
    outcome: Outcome

    def ask(
        self,
        observation: Observation,  # noqa: ARG002
        agents: Ints | None,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        greedy: bool | None,  # noqa: ARG002
        limit: float,  # noqa: ARG002
    ) -> Outcome:
        return self.outcome
