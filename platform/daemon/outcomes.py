"""What executed decisions did to the plant, as a bridge measures it afterwards.

The daemon sees only what it is told: whether an action that it found feasible broke a constraint
after all is known to the plant. A bridge reports it here; it is counted, audited and shown.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ...ops.contract import CONSTRAINTS, METRICS, REPORTED
from ..decision.types import Rejected
from ..wire import frames
from ..wire.problems import Problem
from .admission import Budgets
from .events import Hub
from .interface import Meter, Recorder
from .slot import LiveSlot

MEASURED = "measured"
"""Label ``objective`` of what bridges report, beside the predicted cost."""

REMEMBERED = 4096
"""Decisions per domain whose report is known, so that one that is repeated counts once."""

LARGEST = 1e15
"""Bound of what one report may add to a counter, so that no report can spoil it."""

_FIELDS = {"decision", "violations", "objective", "measured"}
_ID = re.compile(r"(.+)-([0-9a-f]{8})-(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One report.

    Attributes:
        decision: id of the decision that was executed.
        violations: how many of its actions broke a hard constraint, by the constraint's name.
        objective: what the plant measured, in the bridge's own terms; ``None``: nothing.
        measured: figures of the domain's plant by their names in ``ops.contract.REPORTED``, of
            this decision alone, in base units; they are added up.
    """

    decision: str
    violations: Mapping[str, int]
    objective: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict[str, float])

    def view(self) -> dict[str, Any]:
        """JSON-able."""
        told: dict[str, Any] = {} if self.objective is None else {"objective": self.objective}
        if self.measured:
            told["measured"] = dict(self.measured)
        return {"decision": self.decision, "violations": dict(self.violations), **told}


class Outcomes:
    """Takes reports for all domains.

    Args:
        slots: by domain.
        meter, hub, recorder: shared by all.
        budgets: spent on frames; the application does that for HTTP.
    """

    def __init__(
        self,
        *,
        slots: Mapping[str, LiveSlot],
        meter: Meter,
        hub: Hub,
        recorder: Recorder,
        budgets: Budgets,
    ) -> None:
        self._slots, self._budgets = slots, budgets
        self._meter, self._hub, self._recorder = meter, hub, recorder
        self._told: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in slots}

    def table(self) -> list[Route]:
        """Path to handler."""
        return [Route("/v1/outcome/{domain}", self.outcome, methods=["POST"])]

    async def outcome(self, request: HttpRequest) -> Response:
        """The handler; answers as :meth:`take`."""
        try:
            body: object = orjson.loads(await request.body())
            found = self.take(request.path_params["domain"], body, request.state.principal)
        except orjson.JSONDecodeError as error:
            return _problem(Problem.of("json", str(error)))
        except Rejected as error:
            return _problem(Problem.rejected(error))
        return Response(orjson.dumps(found), headers={"Content-Type": "application/json"})

    def frame(self, domain: str, told: object, principal: str) -> bytes:
        """The answer to a frame whose header has the field ``outcome``; raises as :meth:`take`.

        Raises:
            Rejected, Overloaded: it was not counted.
        """
        self._budgets.spend(principal)
        return frames.pack({"outcome": self.take(domain, told, principal)}, {})

    def take(self, domain: str, told: object, principal: str) -> dict[str, bool]:
        """Count, audit and show a report.

        Args:
            domain: whose decision it is about.
            told: the JSON value.
            principal: who reports.

        Returns:
            ``counted``: false if this decision was reported before; ``known``: whether the
            decision is still in memory (older ones are in the audit).

        Raises:
            Rejected: what is wrong with it; nothing was counted.
        """
        slot = self._slots.get(domain)
        if slot is None:
            known = ", ".join(sorted(self._slots))
            raise Rejected("not_found", f"no domain {domain!r}; known: {known}", 404)
        outcome = _read(told, slot.runtime.spec.agents, REPORTED.get(domain, {}))
        self._check(slot, outcome.decision)
        answer = {"counted": False, "known": slot.find(outcome.decision) is not None}
        reported = self._told[domain]
        if outcome.decision in reported:
            return answer
        reported[outcome.decision] = None
        if len(reported) > REMEMBERED:
            reported.popitem(last=False)
        detail = {**outcome.view(), "principal": principal}
        self._recorder.event("outcome", domain, detail)
        for constraint, count in outcome.violations.items():
            labels = {"domain": domain, "constraint": constraint}
            self._meter.count("constraint_violations_total", float(count), **labels)
        if outcome.objective is not None:
            value = outcome.objective
            self._meter.set("objective_value", value, domain=domain, objective=MEASURED)
        for name, value in outcome.measured.items():
            self._meter.count(REPORTED[domain][name], value, domain=domain)
        self._hub.publish("outcome", domain, time.time(), detail)
        return {**answer, "counted": True}

    @staticmethod
    def _check(slot: LiveSlot, decision: str) -> None:
        """Refuse what cannot be the id of a decision of this slot."""
        found = _ID.fullmatch(decision)
        if found is None:
            raise Rejected("field", "decision is an id as answers carry it: DOMAIN-BOOT-NUMBER")
        newest = slot.history(1)
        future = False
        if newest:
            _, boot, number = newest[0].id.rsplit("-", 2)
            future = boot == found[2] and int(found[3]) > int(number)
        if found[1] != slot.domain or future:
            raise Rejected("not_found", f"{slot.domain} has made no decision {decision!r}", 404)


def _read(told: object, agents: int, reported: Mapping[str, str]) -> Outcome:
    if not isinstance(told, dict):
        raise Rejected("json", "a report is a JSON object")
    report = cast("dict[str, Any]", told)
    unknown = sorted(report.keys() - _FIELDS)
    if unknown:
        raise Rejected("unknown", f"field {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}")
    decision, violations = report.get("decision"), report.get("violations", {})
    if not isinstance(decision, str) or len(decision) > 256:
        raise Rejected("field", "decision is the id of the decision that was executed")
    if not isinstance(violations, dict):
        raise Rejected("field", "violations maps constraints to numbers of actions")
    counted: dict[str, int] = {}
    for constraint, count in cast("dict[str, object]", violations).items():
        if constraint not in CONSTRAINTS:
            known = ", ".join(CONSTRAINTS)
            raise Rejected("unknown", f"constraint {constraint!r}; known: {known}")
        if type(count) is not int or not 0 <= count <= agents:
            raise Rejected("parameter", f"violations.{constraint} is a whole number in 0..{agents}")
        counted[constraint] = count
    measured = _measured(report.get("measured", {}), reported)
    return Outcome(decision, counted, _number(report.get("objective")), measured)


def _measured(told: object, reported: Mapping[str, str]) -> dict[str, float]:
    if not isinstance(told, dict):
        raise Rejected("field", "measured maps figures of the plant to numbers")
    found: dict[str, float] = {}
    for name, value in cast("dict[str, object]", told).items():
        if name not in reported:
            known = ", ".join(reported) or "none for this domain"
            raise Rejected("unknown", f"measured.{name}; known: {known}")
        number = float("nan")
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        if not 0.0 <= number <= LARGEST:
            raise Rejected("parameter", f"measured.{name} is a number in 0..{LARGEST:g}")
        found[name] = number
    return found


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Rejected("parameter", "objective is a finite number")
    return float(value)


def _problem(problem: Problem) -> Response:
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())


def _described_figures() -> dict[str, str]:
    return {
        name: f"{domain}: {METRICS[metric].help}"
        for domain, names in REPORTED.items()
        for name, metric in names.items()
    }


def described() -> dict[str, Any]:
    """Schemas of report and answer for ``/openapi.json``."""
    count = {"type": "integer", "minimum": 0, "description": "at most the number of agents"}
    report = {
        "type": "object",
        "required": ["decision"],
        "additionalProperties": False,
        "properties": {
            "decision": {"type": "string", "maxLength": 256, "pattern": f"^{_ID.pattern}$"},
            "violations": {
                "type": "object",
                "additionalProperties": False,
                "properties": dict.fromkeys(CONSTRAINTS, count),
            },
            "objective": {"type": ["number", "null"]},
            "measured": {
                "type": "object",
                "additionalProperties": False,
                "description": "of domains that have such figures; added up, base units",
                "properties": {
                    name: {"type": "number", "minimum": 0, "maximum": LARGEST, "description": text}
                    for name, text in _described_figures().items()
                },
            },
        },
    }
    flags = {"type": "object", "required": ["counted", "known"], "properties": {}}
    flags["properties"] = {name: {"type": "boolean"} for name in ("counted", "known")}
    return {"report": report, "answer": flags}
