"""What the parts of the daemon know of each other: slot, meter, recorder, rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...simulators.interface import Floats
from ..decision.types import Clock, Decision, Request, Runtime, State


class Meter(Protocol):
    """Metrics by their name in ``ops/contract.py``, without the prefix ``fairlead_``.

    Unknown names and labels that the contract lacks raise ``KeyError``: a programming error.
    """

    def count(self, metric: str, value: float = 1.0, /, **labels: str) -> None: ...

    def observe(
        self, metric: str, value: float, /, exemplar: str | None = None, **labels: str
    ) -> None: ...

    def observe_many(self, metric: str, values: Floats, /, **labels: str) -> None:
        """Observe every value of an array at once, NaNs left out; for figures of all agents."""
        ...

    def set(self, metric: str, value: float, /, **labels: str) -> None: ...

    def one_hot(self, metric: str, label: str, value: str, /, **labels: str) -> None:
        """Set the gauge's series with ``label=value`` to 1 and its other known values to 0."""
        ...

    def info(self, metric: str, /, key: str, **labels: str) -> None:
        """Replace the info series that was set under ``key`` (a role, say) by this one."""
        ...

    def forget(self, metric: str, /, key: str) -> None:
        """Drop the info series that was set under ``key``."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision as history, audit and page keep it.

    Attributes:
        id: ``<domain>-<boot id 8 hex>-<counter>``, unique, increasing within a boot.
        domain: of the slot.
        clock: when it was decided.
        request, decision: what and how.
        before: the state it was decided in.
        role: ``champion`` or ``canary``.
        principal: who asked, as authenticated (``local``, token name, certificate subject).
        probe: a self-test, not a real decision: neither audited nor shown nor counted.
        previous: digest of ``runtime.previous`` then (empty: none), which replays ask if it was
            asked.
        valid_until: wall clock after which it must not be executed; infinite: until the next one.
    """

    id: str
    domain: str
    clock: Clock
    request: Request
    decision: Decision
    before: State
    role: str = "champion"
    principal: str = "local"
    probe: bool = False
    previous: str = ""
    valid_until: float = float("inf")


class Recorder(Protocol):
    """The audit, seen from the decision path: never blocks longer than its policy says."""

    def record(self, entry: Entry) -> None:
        """Queue the entry.

        Raises:
            AuditStopped: ``on_error = stop`` and records cannot be written; decisions are refused.
        """
        ...

    def event(self, kind: str, domain: str, detail: Mapping[str, Any]) -> None:
        """Record an operator's or the daemon's own act (load, promote, rollback, drain, ...)."""
        ...

    def flush(self, timeout: float) -> bool:
        """Write and fsync what is queued; whether that worked in time."""
        ...

    @property
    def healthy(self) -> bool: ...


class AuditStopped(Exception):  # noqa: N818
    """The audit cannot be written and the configuration says to refuse decisions then."""


class Rollout(Protocol):
    """Who decides: champion, canary, and the shadow that only watches."""

    @property
    def champion(self) -> Runtime:
        """The champion's runtime, whoever decides a given request."""
        ...

    def operate(self, act: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """load, promote, rollback, shadow, canary, abort; JSON-able result.

        May take seconds (verification, warm-up), so the daemon calls it in a thread of its own,
        one act at a time; ``choose`` and ``after`` go on meanwhile in the event loop's thread.
        ``arguments["dry_run"]`` only says what would happen.

        Raises:
            UserError: what is wrong with the act, in words; nothing has changed then.
        """
        ...

    def close(self) -> None:
        """Stop threads; no decision is chosen any more."""
        ...

    def choose(self, request: Request, ticks: int) -> tuple[Runtime, str]:
        """The runtime for this request and its role (``champion`` or ``canary``)."""
        ...

    def after(self, entry: Entry) -> None:
        """Learn from a decision (canary verdict); hand it to the shadow, which never blocks."""
        ...

    def view(self) -> Mapping[str, Any]:
        """JSON-able: champion, previous, canary, shadow with digests, names, ages, figures."""
        ...


class Slot(Protocol):
    """One domain inside the daemon; used from the event loop's thread (or a test's) only."""

    @property
    def domain(self) -> str: ...

    @property
    def runtime(self) -> Runtime:
        """The champion's."""
        ...

    @property
    def state(self) -> State: ...

    def decide(self, request: Request, *, principal: str = "local", probe: bool = False) -> Entry:
        """Decide now, audit, count, remember.

        A repeated (client, episode, seq) returns the recorded entry.

        Raises:
            Rejected: the request does not say what to decide about.
            AuditStopped: see :class:`Recorder`.
        """
        ...

    def history(self, count: int = 100) -> Sequence[Entry]:
        """Latest entries, newest first, at most 512."""
        ...

    def view(self) -> Mapping[str, Any]:
        """JSON-able status: mode, since, champion, tick rate, p50/p99, breaker, safety, rollout."""
        ...

    def operate(
        self, act: str, arguments: Mapping[str, Any], *, principal: str
    ) -> Mapping[str, Any]:
        """An admin act: load, promote, rollback, shadow, canary, abort, fallback, resume, drain.

        ``arguments["dry_run"]`` only says what would happen.

        Raises:
            UserError: what is wrong with the act, in words.
        """
        ...


class Daemon(Protocol):
    """What routes, page and scripts see of the running process."""

    @property
    def slots(self) -> Mapping[str, Slot]: ...

    @property
    def meter(self) -> Meter: ...

    @property
    def settings(self) -> Any:
        """The ``ServeConfig`` in force."""
        ...

    @property
    def started(self) -> float:
        """Wall clock of the start."""
        ...

    @property
    def draining(self) -> bool: ...

    def ready(self, domain: str | None = None) -> tuple[bool, str]:
        """Whether decisions can be asked for, and why not."""
        ...

    def exposition(self, openmetrics: bool) -> bytes:
        """All metrics in Prometheus or OpenMetrics text (cached for 250 ms)."""
        ...
