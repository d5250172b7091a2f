"""Asks the daemon for decisions; answers itself, by the fallback rule, when the daemon is away."""

from __future__ import annotations

import logging
import ssl
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from ...ops.contract import REPORTED
from ...policies.interface import Controller
from ...simulators.interface import HOLD, Floats, Ints, Observation
from ..decision.types import Actions, Cause, Rejected, Request, Source
from ..wire import frames
from .circuit import Circuit
from .transport import TransportError, connect

_ANSWER = {"action": "", "source": "INT8", "cause": "INT8", "preference": "FP32"}
_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
_MEMORY = 1024
_BACK_OFF = 0.005
"""Pause before the second attempt, s; twice that before the third."""


class Unavailable(Exception):  # noqa: N818
    """The daemon gave no usable answer, and the client has no fallback rule."""


class Refused(Unavailable):
    """The daemon says that this request is wrong; asking again will not help.

    Attributes:
        problem: the RFC 9457 object, with ``code`` and ``detail``.
    """

    def __init__(self, problem: Mapping[str, Any]):
        super().__init__(f"{problem.get('code')}: {problem.get('detail')}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What to execute, and where it comes from.

    Attributes:
        actions: ``[n]`` int64 or ``[n, D]`` float32; feasible for the observation, finite.
        source, cause: ``[n]`` int8, see ``decision.types``. A local answer has cause ``NOT_READY``
            and source ``BASELINE``, or ``HOLD`` where the rule itself failed.
        local: decided here by the fallback rule, because the daemon gave no usable answer.
        problem: why that is so, in words; empty if it is not.
        decision: the daemon's id of the decision; empty if local.
        bundle: digest of the bundle in charge; empty if local.
        mode, outcome: as the daemon reports them; ``fallback`` both if local.
        attempts: how often the daemon was asked; 0 while the circuit is open.
        seconds: from the call to the answer.
        preference: ``[n, K]`` scores, if asked for and known.
        valid_until: wall clock, s since 1970, after which it must not be executed any more.
    """

    actions: Actions
    source: NDArray[np.int8]
    cause: NDArray[np.int8]
    local: bool
    problem: str
    decision: str
    bundle: str
    mode: str
    outcome: str
    attempts: int
    seconds: float
    preference: Floats | None = None
    valid_until: float = float("inf")


class Client:
    """Decisions of one domain over one connection; for one thread.

    A call is tried again, three times at most, until ``timeout`` is over, with the same ``seq``, so
    that the daemon answers from its memory instead of deciding twice. After some failed calls in a
    row the circuit opens: calls are answered at once by ``fallback``, while one of them every pause
    asks the daemon again. What the daemon answers is checked against the observation's own mask or
    box.

    Args:
        where: ``http://host:port``, ``https://...`` or ``unix:/path`` of the frames socket.
        domain: whose slot is asked.
        fallback: rule that decides when the daemon does not; see :func:`.fallback.baseline`.
            Without one such calls raise :class:`Unavailable`.
        token: bearer token with the scope ``infer``; HTTP only.
        timeout: of one call with all its attempts, s.
        name: identifies the client to the daemon; ``seq`` increases within (name, episode).
        circuit: when to stop trying; by default three failures, one second.
        context: for https; client certificates belong in here.
        seed: of the fallback rule's own random draws.

    Raises:
        ValueError: an address of another kind.
    """

    def __init__(
        self,
        where: str,
        domain: str,
        *,
        fallback: Controller | None = None,
        token: str | None = None,
        timeout: float = 0.25,
        name: str = "bridge",
        circuit: Circuit | None = None,
        context: ssl.SSLContext | None = None,
        seed: int = 0,
    ) -> None:
        self._link = connect(where, domain, token=token, context=context)
        self._domain, self._name = domain, name
        self._fallback, self._timeout = fallback, timeout
        self.circuit = circuit or Circuit()
        self._last: Actions | None = None
        self._decided: dict[str, int] = {}
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 0xFA11]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._link.close()

    def decide(
        self,
        observation: Observation,
        *,
        seq: int = -1,
        episode: str = "",
        agents: Ints | None = None,
        observed: float | None = None,
        deadline: float | None = None,
        seed: int | None = None,
        greedy: bool | None = None,
        want: Sequence[str] = (),
    ) -> Answer:
        """One action per row of ``observation``; parameters as in ``decision.types.Request``.

        ``observed`` defaults to now.

        Raises:
            Refused: the request is wrong, and there is no fallback rule.
            Unavailable: no usable answer in time, and there is no fallback rule.
        """
        begun = time.monotonic()
        request = Request(
            observation=observation,
            agents=agents,
            client=self._name,
            episode=episode,
            seq=seq,
            observed=time.time() if observed is None else observed,
            deadline=deadline,
            seed=seed,
            greedy=greedy,
        )
        if want and "action" not in want:
            want = ("action", "source", "cause", *want)
        return self.ask(
            frames.encode_request(request, want=want, domain=self._domain), observation, begun
        )

    def ask(self, frame: bytes, observation: Observation, begun: float | None = None) -> Answer:
        """As :meth:`decide`, for a frame that was made elsewhere (tests, recorded traffic)."""
        start = time.monotonic() if begun is None else begun
        if not self.circuit.allows():
            return self._local(observation, Unavailable("circuit open"), start, 0)
        # A call that only probes an open circuit is not repeated.
        allowed = _ATTEMPTS if self.circuit.closed else 1
        tries, why = 0, Exception("no time to ask")
        while tries < allowed and (left := start + self._timeout - time.monotonic()) > 0:
            if tries:
                time.sleep(min(_BACK_OFF * tries, left))
            tries += 1
            try:
                found = self._read(self._link.exchange(frame, limit=left), observation)
            except Refused as refusal:
                # The daemon is there; it is this request that is wrong.
                self.circuit.succeeded()
                return self._local(observation, refusal, start, tries)
            except (TransportError, Unavailable, Rejected) as failure:
                why = failure
                _LOG.debug("attempt %d: %s", tries, failure)
                continue
            self.circuit.succeeded()
            self._last = found.actions
            return replace(found, attempts=tries, seconds=time.monotonic() - start)
        self.circuit.failed()
        return self._local(observation, why, start, tries)

    def in_force(self, answer: Answer, observation: Observation) -> Answer:
        """The answer, if it may still be executed; else what the fallback rule decides now.

        To be asked right before executing. That an answer expired is reported, so that the daemon
        counts it (power: ``power_set_points_expired_total``).

        Raises:
            Unavailable: it has expired, and there is no fallback rule.
        """
        late = time.time() - answer.valid_until
        if late <= 0:
            return answer
        why = Unavailable(f"the answer expired: {late:.3g} s ago")
        instead = self._local(observation, why, time.monotonic(), 0)
        if "set_points_expired" in REPORTED.get(self._domain, {}):
            try:
                self.report(answer.decision, measured={"set_points_expired": len(answer.actions)})
            except Unavailable as failure:
                _LOG.warning("that decision %s expired: %s", answer.decision, failure)
        return instead

    def report(
        self,
        decision: str,
        violations: Mapping[str, int] | None = None,
        *,
        objective: float | None = None,
        measured: Mapping[str, float] | None = None,
    ) -> bool:
        """Tell the daemon what a decision did to the plant, as it was measured afterwards.

        Safe to repeat: a decision's first report counts.

        Args:
            decision: ``Answer.decision``; a local answer has none, and nothing to report.
            violations: how many executed actions broke a hard constraint, by its name (``box``,
                ``ramp``, ``coupling``, ``legality``).
            objective: what the plant measured, in terms of your own.
            measured: figures of this decision that the domain counts, in base units (power:
                ``unserved_joules`` and others, see ``ops.contract.REPORTED``).

        Returns:
            Whether it was counted: not if this decision was reported before.

        Raises:
            Refused: the daemon made no such decision, or the report is wrong.
            Unavailable: it could not be told; the circuit is left as it is.
        """
        told: dict[str, Any] = {"decision": decision, "violations": dict(violations or {})}
        if objective is not None:
            told["objective"] = objective
        if measured:
            told["measured"] = dict(measured)
        try:
            found = self._link.report(told, limit=self._timeout)
        except TransportError as failure:
            raise Unavailable(f"the report was not taken: {failure}") from failure
        problem = found.get("problem")
        if problem is not None:
            said = cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
            if said.get("retryable") is False:
                raise Refused(said)
            raise Unavailable(f"{said.get('code')}: {said.get('detail')}")
        return found.get("counted") is True

    def _read(self, body: bytes, observation: Observation) -> Answer:
        """The answer in a frame, checked against the observation."""
        frame = frames.unpack(body, names=_ANSWER)
        header, tensors = frame.header, frame.tensors
        problem = header.get("problem")
        if problem is not None:
            said = cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
            if said.get("retryable") is False:
                raise Refused(said)
            raise Unavailable(f"{said.get('code')}: {said.get('detail')}")
        if not {"action", "source", "cause"} <= tensors.keys():
            raise Unavailable("an answer without action, source and cause")
        # Before feasibility: an answer to an older request is the bridge's mistake, not a defect.
        self._remember(str(header.get("decision", "")), observation)
        actions = tensors["action"]
        wrong = infeasible(observation, actions)
        if wrong:
            raise Unavailable(f"the daemon's answer is not feasible: {wrong}")
        rows = (len(observation.agent),)
        if tensors["source"].shape != rows or tensors["cause"].shape != rows:
            raise Unavailable("an answer about another number of agents")
        return Answer(
            actions=actions,
            source=tensors["source"],
            cause=tensors["cause"],
            local=False,
            problem="",
            decision=str(header.get("decision", "")),
            bundle=str(header.get("bundle", "")),
            mode=str(header.get("mode", "")),
            outcome=str(header.get("outcome", "")),
            attempts=0,
            seconds=0.0,
            preference=tensors.get("preference"),
            valid_until=_moment(header.get("valid_until")),
        )

    def _remember(self, decision: str, observation: Observation) -> None:
        """Refuse a decision that was already taken for another observation.

        The daemon answers a seq that it knows with what it decided then. That is right when an
        answer was lost, and wrong when a bridge uses a seq twice.
        """
        of = zlib.crc32(observation.agent.tobytes())
        known = self._decided.setdefault(decision, of)
        if known != of:
            detail = f"decision {decision} was made for another observation; seq must increase"
            raise Refused({"code": "order", "detail": detail})
        if len(self._decided) > _MEMORY:
            del self._decided[next(iter(self._decided))]

    def _local(self, observation: Observation, why: Exception, start: float, tries: int) -> Answer:
        """The fallback rule's decision."""
        if self._fallback is None:
            if isinstance(why, Unavailable):
                raise why
            raise Unavailable(f"no decision in {tries} attempts: {why}") from why
        _LOG.warning("decided by the local fallback rule: %s", why)
        rows = len(observation.agent)
        actions, source, problem = self._hold(observation), Source.HOLD, str(why)
        try:
            ruled = self._fallback.act(observation, self._rng)
            wrong = infeasible(observation, ruled)
        except (ArithmeticError, LookupError, ValueError) as error:
            # A rule may choke on what a broken sensor says; the system must be told something.
            wrong = f"{type(error).__name__}: {error}"
        else:
            if not wrong:
                actions, source = ruled, Source.BASELINE
        if wrong:
            problem = f"{problem}; the fallback rule failed too: {wrong}"
            _LOG.error("held: %s", problem)
        return Answer(
            actions=actions,
            source=np.full(rows, source, np.int8),
            cause=np.full(rows, Cause.NOT_READY, np.int8),
            local=True,
            problem=problem,
            decision="",
            bundle="",
            mode="fallback",
            outcome="fallback",
            attempts=tries,
            seconds=time.monotonic() - start,
        )

    def _hold(self, observation: Observation) -> Actions:
        """Every agent holds; set-points stay as near to the last ones as their box allows."""
        if not observation.low.shape[1]:
            return np.full(len(observation.agent), HOLD, np.int64)
        middle = (observation.low + observation.high) / 2
        last = self._last
        near = middle if last is None or last.shape != middle.shape else last
        return np.clip(near, observation.low, observation.high)


def _moment(value: object) -> float:
    """A point in time that an answer names; infinite if it names none."""
    return float(value) if isinstance(value, int | float) else float("inf")


def infeasible(observation: Observation, actions: Actions) -> str:
    """What is wrong with actions on an observation's own mask or box; empty if nothing is."""
    rows = len(observation.agent)
    dimensions = observation.low.shape[1]
    if dimensions:
        if actions.shape != (rows, dimensions) or actions.dtype.kind != "f":
            return f"{actions.dtype} of shape {actions.shape}, expected set-points of {rows} agents"
        out = ~((actions >= observation.low) & (actions <= observation.high)).all(axis=1)
    else:
        if actions.shape != (rows,) or actions.dtype.kind != "i":
            return f"{actions.dtype} of shape {actions.shape}, expected choices of {rows} agents"
        choices = observation.mask.shape[1]
        known = (actions >= 0) & (actions < choices)
        legal = observation.mask[np.arange(rows), np.where(known, actions, 0)]
        out = ~(known & legal & (observation.active | (actions == HOLD)))
    if not out.any():
        return ""
    first = int(np.flatnonzero(out)[0])
    return f"row {first} has action {actions[first]}"
