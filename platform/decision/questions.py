"""Whom a decision asks: the champion if it may be asked, the previous one if the champion fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import breaker as breakers
from .asking import ask
from .checks import budget, untimely
from .screening import Screened
from .settings import SlotSettings
from .types import Breaker, Cause, Clock, Inference, Outcome, Request, Runtime, Source, State

_FAILED = {"timeout": Cause.DEADLINE, "error": Cause.ERROR, "non-finite": Cause.NON_FINITE}
_NONE = Cause.NONE
_PREVIOUS_SHARE = 0.5
"""Share of the time left after the champion failed that the previous one may use."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known before the policy is asked.

    Attributes:
        screened: the observation.
        withheld: ``[n]`` int8 causes for which single agents do not get the policy's action;
            ``None``: none.
        whole: cause for which nobody does, ``NONE`` if the policy may be asked.
        seed: of the decision.
    """

    screened: Screened
    withheld: NDArray[np.int8] | None
    whole: Cause
    seed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking brought.

    Attributes:
        champion, previous: outcomes, ``None`` where not asked.
        inference: the answer to execute or look at, of the champion or else the previous one.
        whole: why the champion's answer is not executed, ``NONE`` if it is.
        breaker: after asking.
        failures: of the previous champion.
    """

    champion: Outcome | None
    previous: Outcome | None
    inference: Inference | None
    whole: Cause
    breaker: Breaker
    failures: dict[str, str]

    @property
    def maker(self) -> Source | None:
        """Whose answer is to be executed, if anybody's."""
        if self.previous is not None and self.previous.status == "ok":
            return Source.PREVIOUS
        return Source.POLICY if self.whole is _NONE else None


def withheld_of(
    runtime: Runtime,
    settings: SlotSettings,
    state: State,
    request: Request,
    clock: Clock,
    screened: Screened,
) -> tuple[NDArray[np.int8] | None, Cause, dict[str, int]]:
    """Causes by agent, the cause that holds for all, and the reasons counted."""
    invalid, drifted = screened.invalid, screened.drifted
    reasons = screened.reasons
    withheld: NDArray[np.int8] | None = None
    whole = _NONE
    if invalid is not None or drifted is not None:
        withheld = np.zeros(request.observation.active.shape, np.int8)
        if drifted is not None:
            withheld[drifted] = Cause.DRIFT
        if invalid is not None:
            withheld[invalid] = Cause.INVALID
        active = int(request.observation.active.sum())
        bad = 0 if invalid is None else int(invalid.sum())
        # The slack is for shares like 0.29, whose product with 100 is less than 29.
        if bad > settings.validation.imputed_share * active + 1e-9:
            whole = Cause.INVALID
        elif np.count_nonzero(withheld) == active:
            whole = Cause.DRIFT
    late = untimely(settings.validation, request, clock)
    if late:
        reasons = {**reasons, late: 1}
        whole = Cause.STALE
    if runtime.policy is None:
        whole = Cause.NOT_READY
    if state.forced:
        whole = Cause.OPERATOR
    return withheld, whole, reasons


def ask_policies(
    runtime: Runtime,
    settings: SlotSettings,
    state: State,
    request: Request,
    clock: Clock,
    plan: Plan,
) -> Asked:
    """Ask the champion if it may be asked, and the previous one if the champion fails."""
    policy = runtime.policy
    if plan.whole or policy is None:
        return Asked(None, None, None, plan.whole, state.breaker, {})
    breaker = breakers.before(settings.breaker, state.breaker, clock.mono)
    if breaker.phase == "open":
        return Asked(None, None, None, Cause.BREAKER, breaker, {})
    left = budget(settings.deadline, request, clock)
    if left <= 0:
        return Asked(None, None, None, Cause.DEADLINE, state.breaker, {})
    seen = plan.screened.observation
    if plan.withheld is not None:
        seen = replace(seen, active=seen.active & (plan.withheld == 0))
    greedy = request.greedy
    if greedy is None and settings.sample != "bundle":
        greedy = settings.sample == "no"
    question: dict[str, Any] = {"seed": plan.seed, "greedy": greedy}
    limit = left * settings.policy_share
    champion = ask(policy, seen, request.agents, limit=limit, **question)
    failed = champion.status != "ok"
    probing = breaker.phase == "half-open"
    breaker = breakers.after(settings.breaker, breaker, clock.mono, failed=failed)
    if not failed:
        whole = Cause.BREAKER if probing else _NONE
        return Asked(champion, None, champion.inference, whole, breaker, {})
    whole = Cause.BREAKER if probing else _FAILED[champion.status]
    if runtime.previous is None or probing:
        return Asked(champion, None, None, whole, breaker, {})
    # Reckoned from the outcome, not from the clock: a replay takes no time.
    limit = (left - champion.seconds) * _PREVIOUS_SHARE
    previous = ask(runtime.previous, seen, request.agents, limit=limit, **question)
    failures: dict[str, str] = {}
    if previous.status != "ok":
        failures["previous"] = f"{previous.status}: {previous.detail}"
    return Asked(champion, previous, previous.inference, whole, breaker, failures)
