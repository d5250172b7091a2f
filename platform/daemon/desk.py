"""Where a request becomes a decision, whatever brought it: HTTP, a frame, or the self-test."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...simulators.interface import Spec
from ..decision.types import Rejected, Request
from ..wire.problems import Problem
from ..wire.tensors import Limits, Wanted
from .access import Denied
from .admission import Budgets, Line, Overloaded
from .http import TooLarge, Unreadable
from .interface import AuditStopped, Entry, Meter
from .slot import LiveSlot, NotReady

RETRY = {"not_ready": 1, "audit": 5}
"""Seconds after which asking again makes sense, by code."""

Decode = Callable[[Spec, Limits, float], tuple[Request, Wanted]]
Encode = Callable[[Entry, Wanted, float], tuple[bytes, dict[str, str]]]

REASONS = {"size": "size", "order": "stale", "overload": "overload", "quota": "quota"}
"""Code of a problem to its label ``reason`` of ``requests_rejected_total``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An encoded decision."""

    entry: Entry
    body: bytes
    headers: dict[str, str]


class Desk:
    """The way into one slot.

    Args:
        slot: who decides.
        line: who waits.
        budgets: shared by all desks.
        meter: metrics.
        slack: largest body as a multiple of an observation's size.
    """

    def __init__(
        self, *, slot: LiveSlot, line: Line, budgets: Budgets, meter: Meter, slack: float
    ) -> None:
        self.slot, self.line = slot, line
        self._budgets, self._meter = budgets, meter
        self._slack = slack
        self._sized: tuple[Spec | None, Limits | None] = (None, None)

    @property
    def limits(self) -> Limits:
        """Largest bodies, by the spec that is served now."""
        spec = self.slot.runtime.spec
        known, limits = self._sized
        if limits is None or known is not spec:
            most = self.slot.settings.validation.max_candidates
            limits = Limits.of(spec, candidates=most, slack=self._slack)
            self._sized = (spec, limits)
        return limits

    async def serve(
        self,
        decode: Decode,
        encode: Encode,
        *,
        principal: str,
        received: float,
        version: str = "",
        probe: bool = False,
    ) -> Answer:
        """Wait for a turn, decode, decide, encode.

        Args:
            decode: of the request's format.
            encode: of the answer's.
            principal: who asks.
            received: monotonic time of the whole request's receipt.
            version: leading digits of the bundle that must be the champion; empty: any.
            probe: a self-test.

        Raises:
            Rejected, Overloaded, NotReady, AuditStopped: see :func:`problem_of`.
        """
        if not probe:
            self._budgets.spend(principal)
        if self.slot.draining:
            raise NotReady(self.slot.draining)
        async with self.line.turn(received, always=probe):
            runtime = self.slot.runtime
            if version and not runtime.digest.startswith(version):
                raise Rejected(
                    "version", f"the champion is {runtime.digest[:12]}, not {version}", 409
                )
            request, wanted = decode(runtime.spec, self.limits, received)
            entry = self.slot.decide(request, principal=principal, probe=probe)
            deadline = self.slot.settings.deadline if request.deadline is None else request.deadline
            left = received + deadline - time.monotonic()
            body, headers = encode(entry, wanted, left)
        return Answer(entry, body, headers)

    def refused(self, error: Exception) -> Problem:
        """The problem behind an error of :meth:`serve`, counted."""
        problem = problem_of(error)
        reason = REASONS.get(problem.code, "not_ready" if problem.status == 503 else "invalid")
        if problem.status in {401, 403}:
            reason = "auth"
        self._meter.count("requests_rejected_total", domain=self.slot.domain, reason=reason)
        return problem


EXPECTED = (Rejected, Overloaded, NotReady, AuditStopped, Denied, TooLarge, Unreadable)
"""Everything that :func:`problem_of` knows."""


def problem_of(error: Exception) -> Problem:
    """How a refusal is told.

    Raises:
        TypeError: none of :data:`EXPECTED`; a defect, not a refusal.
    """
    if isinstance(error, Rejected):
        return Problem.rejected(error)
    if isinstance(error, Overloaded):
        return Problem.of(error.reason, str(error), retry_after=max(1, math.ceil(error.after)))
    if isinstance(error, Denied):
        return Problem.of("auth" if error.status == 401 else "scope", str(error))
    codes: dict[type[Exception], str] = {
        NotReady: "not_ready",
        AuditStopped: "audit",
        TooLarge: "size",
        Unreadable: "media",
    }
    if type(error) not in codes:
        raise TypeError(f"{error!r} is not a refusal")
    code = codes[type(error)]
    return Problem.of(code, str(error) or code, retry_after=RETRY.get(code))
