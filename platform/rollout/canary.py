"""A canary: a new policy decides a share of what there is to decide, and is watched while it does.

Agents that are coupled must not be decided by two policies without being asked for it, so that
either time windows switch (all agents at once) or whole coupling groups do. Which ones is a hash
of the bundle's digest and the window or group: no state, no chance, the same after a restart, and
a larger share contains the smaller one.

What is automatic can only abort. A share that does well stays what it is until somebody asks for
the next one, and decisions that say nothing about the canary (the policy was not asked, the cost
is not known) count neither way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

from ...simulators.interface import Bools, Ints, Observation
from ..daemon.settings import RolloutSettings
from ..decision.asking import ask
from ..decision.types import Cause, Decision, Inference, Outcome, Policy
from ..files import UserError

Unit = Literal["window", "group"]


def position(digest: str, unit: Unit, index: int) -> float:
    """Where a window or group stands in [0, 1); below the share it is the canary's."""
    data = f"{digest}/{unit}/{index}".encode()
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") / 2.0**64


def in_window(digest: str, ticks: int, share: float, *, window: int) -> bool:
    """Whether the canary decides tick number ``ticks``."""
    return position(digest, "window", ticks // window) < share


def in_groups(digest: str, coupling: Ints, share: float) -> Bools:
    """``[A]`` agents that the canary decides: about ``share`` of the groups, at least one of them.

    Raises:
        UserError: all agents are coupled, so that no share of them can be decided apart.
    """
    groups = np.unique(coupling)
    if groups.size == 1 and share < 1.0:
        raise UserError(
            "all agents belong to one coupling group, so that a canary cannot have a share of "
            "them; set rollout.unit = 'window'"
        )
    order = sorted(groups.tolist(), key=lambda group: position(digest, "group", group))
    chosen = order[: max(1, round(share * len(order)))]
    return np.isin(coupling, chosen)


@dataclass(frozen=True, slots=True)
class Split:
    """Implements ``Policy``: the canary decides its groups, the champion the rest.

    Both are asked about all agents with the same seed, and each row is taken from one of them, so
    that a replay needs nothing but both policies and the agents. If either fails, the whole
    asking has failed, and the ladder's next rung is the champion alone.

    Attributes:
        digest: ``{champion}+{canary}@{share}``.
        champion, canary: asked one after the other, within one time limit.
        agents: ``[A]`` whose action is the canary's.
    """

    digest: str
    champion: Policy
    canary: Policy
    agents: Bools

    def ask(
        self,
        observation: Observation,
        agents: Ints | None,
        *,
        seed: int,
        greedy: bool | None,
        limit: float,
    ) -> Outcome:
        began = time.perf_counter()
        answers: list[Inference] = []
        for policy in (self.champion, self.canary):
            left = limit - (time.perf_counter() - began)
            outcome = ask(policy, observation, agents, seed=seed, greedy=greedy, limit=left)
            if outcome.inference is None:
                seconds = time.perf_counter() - began
                return Outcome(outcome.status, None, seconds, f"{policy.digest}: {outcome.detail}")
            answers.append(outcome.inference)
        new = self.agents if agents is None else self.agents[agents]
        return Outcome("ok", _merged(answers, new), time.perf_counter() - began)


def _merged(answers: Sequence[Inference], new: Bools) -> Inference:
    old, canary = answers
    row = new.reshape(-1, *(1,) * (old.actions.ndim - 1))
    actions = np.where(row, canary.actions, old.actions)
    if old.preference is None or canary.preference is None:
        return Inference(actions, None)
    return Inference(actions, np.where(new[:, None], canary.preference, old.preference))


def split_digest(champion: str, canary: str, share: float) -> str:
    """What decisions of a split are recorded under."""
    return f"{champion}+{canary}@{share:g}"


def parts_of(digest: str) -> tuple[str, str, float] | None:
    """Champion, canary and share of a split's digest; ``None`` for that of a plain bundle."""
    champion, plus, rest = digest.partition("+")
    canary, _, share = rest.partition("@")
    return (champion, canary, float(share)) if plus else None


def split(champion: Policy, canary: Policy, coupling: Ints, share: float) -> Split:
    """Who decides at ``share``; a replay builds it again from :func:`parts_of`.

    Raises:
        UserError: as :func:`in_groups`.
    """
    return Split(
        split_digest(champion.digest, canary.digest, share),
        champion,
        canary,
        in_groups(canary.digest, coupling, share),
    )


@dataclass(slots=True)
class Trial:
    """Figures of a canary at one share. Not thread-safe; its owner holds a lock.

    Attributes:
        settings: limits.
        began: monotonic time at which this share began.
        samples: decisions in which the canary was asked.
        failures: those of them that it spoiled: no usable answer, or an action without a way back.
        cost, reference: predicted cost summed over decisions where both are known: of what the
            canary did, and of what the champion would have done on the same observation.
        compared: number of those.
        trips: of the circuit breaker when the share began; ``None`` before the first decision.
    """

    settings: RolloutSettings
    began: float
    samples: int = 0
    failures: int = 0
    cost: float = 0.0
    reference: float = 0.0
    compared: int = 0
    trips: int | None = None

    def count(self, decision: Decision, trips: int) -> str:
        """Learn from a decision of the canary; why it must be aborted, empty if it need not."""
        if self.trips is None:
            self.trips = trips
        if trips > self.trips:
            return "the circuit breaker opened"
        asked = decision.asked[0]
        if asked is None:
            return ""
        self.samples += 1
        simplex = bool((decision.cause == Cause.SIMPLEX).any())
        self.failures += asked.status != "ok" or simplex
        # Three failures in the first ten decisions cannot be made good by the next forty, and must
        # not open the circuit breaker, which is the champion's too.
        least = max(self.samples, self.settings.min_samples)
        if self.failures > self.settings.max_fallback * least:
            return (
                f"{self.failures} of {self.samples} decisions with fallbacks, allowed are "
                f"{self.settings.max_fallback:.3g} of at least {self.settings.min_samples}"
            )
        return ""

    def compare(self, cost: float, reference: float) -> str:
        """Learn from a comparison of costs; NaN (unknown) counts for nothing."""
        if not (np.isfinite(cost) and np.isfinite(reference)):
            return ""
        self.cost, self.reference = self.cost + cost, self.reference + reference
        self.compared += 1
        above = self.above
        if self.compared >= self.settings.min_samples and above > self.settings.max_cost:
            return (
                f"predicted cost {above:+.1%} against the champion's over {self.compared} "
                f"decisions, allowed {self.settings.max_cost:+.1%}"
            )
        return ""

    @property
    def above(self) -> float:
        """Cost above the champion's, as a share of it; NaN if nothing could be compared."""
        if not self.compared or self.reference == 0.0:
            return 0.0 if self.compared and self.cost == 0.0 else float("nan")
        return (self.cost - self.reference) / abs(self.reference)

    def unripe(self, now: float) -> str:
        """What is missing before the next share or a promotion may be asked for."""
        if self.samples < self.settings.min_samples:
            return f"{self.samples} decisions so far, {self.settings.min_samples} are needed"
        healthy = now - self.began
        if healthy < self.settings.min_healthy:
            return f"healthy for {healthy:.0f} s, {self.settings.min_healthy:.0f} s are needed"
        return ""
