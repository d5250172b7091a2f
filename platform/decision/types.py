"""What goes into a live decision and what comes out: plain values, no input or output.

The daemon, the audit, the replay, the clients and the operator page all speak in these types.
Shapes as in :mod:`...simulators.interface`; a request about ``n`` of the bundle's A agents has
``n`` rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...policies.interface import Controller
from ...simulators.interface import Bools, Floats, Ints, Observation, Spec

Actions = NDArray[Any]
"""``[n]`` int64 (choice) or ``[n, D]`` float32 (set-points)."""


class Source(IntEnum):
    """Who made an agent's action; what the ``source`` output of a decision holds."""

    POLICY = 0
    PROJECTED = 1
    BASELINE = 2
    HOLD = 3
    SAFE = 4
    PREVIOUS = 5


class Cause(IntEnum):
    """Why an agent's action is not the plain policy's; ``NONE`` where it is."""

    NONE = 0
    INVALID = 1  # the agent's own observation was not usable (imputation)
    DRIFT = 2  # out of distribution
    STALE = 3  # observation too old, from the future, or out of order
    DEADLINE = 4  # the policy did not answer in time
    ERROR = 5  # the policy raised
    NON_FINITE = 6  # the policy answered with a number that is not finite
    BREAKER = 7  # circuit breaker open
    SIMPLEX = 8  # the one-step look-ahead found no way back, or its hysteresis still holds
    OPERATOR = 9  # fallback forced by hand
    NOT_READY = 10  # no policy is loaded
    BOX = 11  # projections, in their order
    RAMP = 12
    COUPLING = 13
    LEGALITY = 14


CONSTRAINTS: Mapping[Cause, str] = {
    Cause.BOX: "box",
    Cause.RAMP: "ramp",
    Cause.COUPLING: "coupling",
    Cause.LEGALITY: "legality",
}
"""Projection causes and their metric label."""

Mode = Literal["policy", "canary", "degraded", "fallback", "hold", "drain"]
Tick = Literal["ok", "degraded", "fallback"]
STAGES = ("validate", "policy", "project", "simplex", "audit")


@dataclass(frozen=True, slots=True)
class Clock:
    """One reading of both clocks. Deadlines and staleness use ``mono``; records use ``wall``."""

    mono: float
    wall: float


@dataclass(frozen=True, slots=True)
class Request:
    """One observation to decide on.

    Attributes:
        observation: the decentralised part is read, nothing else.
        agents: ``[n]`` which of the bundle's agents the rows are; ``None``: all of them, in order.
        client, episode, seq: identity; ``seq`` must increase within (client, episode). A repeated
            seq is answered by the service from its memory, not decided again. -1: unordered.
        observed: wall clock of the observation, s since 1970; ``None``: just now.
        received: monotonic clock of its receipt; 0: just now.
        deadline: seconds from receipt within which an answer is of use; ``None``: the slot's own.
        seed: of the policy's sampling; ``None``: derived from client, episode and seq.
        greedy: take the best score instead of sampling; ``None``: as the bundle says.
    """

    observation: Observation
    agents: Ints | None = None
    client: str = ""
    episode: str = ""
    seq: int = -1
    observed: float | None = None
    received: float = 0.0
    deadline: float | None = None
    seed: int | None = None
    greedy: bool | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """A policy's answer: actions, and the scores behind them (``[n, K]``, choice actions only)."""

    actions: Actions
    preference: Floats | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of asking a policy. ``inference`` is there if and only if status is ``ok``."""

    status: Literal["ok", "timeout", "error", "non-finite"]
    inference: Inference | None
    seconds: float
    detail: str = ""


class Policy(Protocol):
    """Something trained that can be asked, with a time limit; never raises."""

    @property
    def digest(self) -> str: ...

    def ask(
        self,
        observation: Observation,
        agents: Ints | None,
        *,
        seed: int,
        greedy: bool | None,
        limit: float,
    ) -> Outcome:
        """Answer within about ``limit`` seconds, or report ``timeout``."""
        ...


@dataclass(frozen=True, slots=True)
class Projected:
    """Feasible actions nearest to the wanted ones.

    Attributes:
        actions: ``[n]`` or ``[n, D]``.
        cause: ``[n]`` int8, the constraint that changed the action, ``Cause.NONE`` if none did.
        distance: ``[n]`` how far it moved: share of the action's range (choice: 0 or 1).
    """

    actions: Actions
    cause: NDArray[np.int8]
    distance: Floats


class Live(Protocol):
    """What the controller must know of a domain beyond a bundle; built for one spec.

    All parts read the decentralised part of the observation only, are deterministic given their
    arguments, and accept any subset of agents (``agents`` as in :class:`Request`). ``last`` is
    ``State.last``: of all A agents, so that the rows' own are ``last[agents]``.
    """

    @property
    def baseline(self) -> Controller:
        """The verified fallback rule; stands alone, needs no bundle."""
        ...

    def project(
        self, observation: Observation, wanted: Actions, last: Actions | None, agents: Ints | None
    ) -> Projected:
        """Exact and idempotent: box, ramp, coupling, legality, in this order."""
        ...

    def recoverable(
        self, observation: Observation, actions: Actions, baseline: Actions
    ) -> tuple[bool, float]:
        """Black-box Simplex (arXiv 2102.12981): does a way back to the baseline remain?

        Returns the verdict on ``actions`` and the margin (positive: how far from the limit, as a
        share of it).
        """
        ...

    def surely_recoverable(self, observation: Observation, actions: Actions) -> float:
        """A margin that :meth:`recoverable` cannot fall below, whatever the baseline would do.

        At least 0: the baseline need not even be asked, which keeps it off the decision path.
        Negative or NaN: nothing is known, ask :meth:`recoverable`.
        """
        ...

    def hold(
        self, observation: Observation, last: Actions | None, agents: Ints | None
    ) -> Actions | None:
        """Keep doing what was last safe, if that is possible and still feasible; else ``None``."""
        ...

    def safe(self, observation: Observation) -> Actions:
        """A constant that is always feasible."""
        ...

    def deviation(self, observation: Observation, actions: Actions) -> Floats:
        """``[n]`` distance of each action from the one that the model's guidance likes best.

        As a share of the spread between its best and its worst one (0: it is the best).
        """
        ...

    def objective(self, observation: Observation, actions: Actions) -> tuple[float, float]:
        """Predicted cost of ``actions``, and the least possible for the same observation.

        In the domain's own unit; the second from the analytical model. NaN where unknown.
        """
        ...

    def coupling(self, spec: Spec) -> Ints:
        """``[A]`` coupling group of every agent; canaries switch whole groups only."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything a decision needs that does not change from one to the next. Swapped as a whole.

    Attributes:
        spec: of the bundle.
        policy: the champion (or canary, or a split of both); ``None`` before any bundle is loaded.
        previous: the champion before it, as the second rung of the ladder.
        live: the domain's part.
        observed: quantiles of the training observations (the bundle manifest's ``observed``), for
            the out-of-distribution gate; empty switches the gate off.
        stochastic: whether the bundle wants to be sampled.
        mode: ``policy`` or ``canary``, what a clean tick is reported as.
    """

    spec: Spec
    policy: Policy | None
    previous: Policy | None
    live: Live
    observed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stochastic: bool = True
    mode: Literal["policy", "canary"] = "policy"

    @property
    def digest(self) -> str:
        """Digest of the bundle that decides; empty without one."""
        return "" if self.policy is None else self.policy.digest


BreakerPhase = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """Circuit breaker as a value.

    Attributes:
        phase: closed (policy decides), open (baseline decides, policy is not asked), half-open
            (policy is probed, baseline decides).
        window: the latest outcomes of asking, ``True`` = failed; newest last, bounded.
        since: monotonic time of the last change of phase.
        probes: consecutive good probes while half-open.
        trips: how often it opened.
    """

    phase: BreakerPhase = "closed"
    window: tuple[bool, ...] = ()
    since: float = 0.0
    probes: int = 0
    trips: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What a decision leaves for the next one. JSON-able apart from ``last`` (an array).

    Attributes:
        mode: how the last tick was decided.
        breaker: of the policy.
        clean: consecutive ticks without intervention since the Simplex switch acted; the policy
            gets control back after ``simplex.clean_ticks`` of them.
        latched: the Simplex switch holds the baseline until enough clean ticks have passed.
        forced: an operator asked for the baseline.
        last: ``[A]`` or ``[A, D]`` last executed actions of all agents, ``None`` before the first;
            hold (choice) or NaN (set-points) for agents that no request has been about yet.
        sequence: newest seq by ``client/episode``, bounded, oldest first.
        ticks: decisions made.
    """

    mode: Mode = "hold"
    breaker: Breaker = Breaker()
    clean: int = 0
    latched: bool = False
    forced: bool = False
    last: Actions | None = None
    sequence: tuple[tuple[str, int], ...] = ()
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, for whom, by whom and why.

    Attributes:
        actions: ``[n]`` int64 or ``[n, D]`` float32; always feasible and finite.
        source, cause: ``[n]`` int8, :class:`Source` and :class:`Cause`.
        outcome: ``ok`` (all policy or projected), ``degraded`` (some agents fell back),
            ``fallback`` (all did).
        mode: see :data:`Mode`.
        bundle: digest of the bundle in charge, empty if none.
        seed: that the policy sampled with.
        asked: what became of asking the champion (``None``: not asked), and the previous one.
        distance: ``[n]`` projection distances; zeros where nothing was projected.
        margin: of the Simplex look-ahead (NaN: not computed).
        deviation: ``[n]`` from the guidance's favourite (NaN: not computed).
        wanted: ``[n]``/``[n, D]`` what the policy asked for before projection; ``None`` without it.
        preference: ``[n, K]`` scores behind the choice, ``None`` for set-points and fallbacks.
        invalid: reasons for which agents or the whole observation were refused, with counts
            (labels of ``observations_invalid_total``).
        seconds: wall-clock of each stage of :data:`STAGES` so far; not reproducible.
        failures: parts other than the policy that failed in this decision (``previous``,
            ``baseline``, ``project``, ``simplex``, ``hold``, ``safe``, ``deviation``), and how.
    """

    actions: Actions
    source: NDArray[np.int8]
    cause: NDArray[np.int8]
    outcome: Tick
    mode: Mode
    bundle: str
    seed: int
    asked: tuple[Outcome | None, Outcome | None]
    distance: Floats
    margin: float
    deviation: Floats
    wanted: Actions | None
    preference: Floats | None
    invalid: Mapping[str, int]
    seconds: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict[str, str])


class Rejected(Exception):  # noqa: N818
    """A request that no ladder can answer, because it does not say what to decide about.

    Attributes:
        code: machine-readable (``shape``, ``dtype``, ``agents``, ``mask``, ``box``, ``order``).
        status: HTTP status that fits (400, 409 or 422).
    """

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(message)
        self.code, self.status = code, status


__all__ = [
    "CONSTRAINTS",
    "STAGES",
    "Actions",
    "Bools",
    "Breaker",
    "BreakerPhase",
    "Cause",
    "Clock",
    "Decision",
    "Inference",
    "Live",
    "Mode",
    "Outcome",
    "Policy",
    "Projected",
    "Rejected",
    "Request",
    "Runtime",
    "Source",
    "State",
    "Tick",
]
