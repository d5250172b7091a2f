"""The routes that only look: health, metadata, state, history, events, metrics, description."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..decision.types import Cause, Source
from ..metrics.exposition import OPENMETRICS, TEXT, wants_openmetrics
from ..wire import metadata
from ..wire.problems import Problem
from .events import TooManyListeners
from .interface import Entry
from .openapi import description
from .slot import LiveSlot, brief

if TYPE_CHECKING:
    from .service import Service

PAGE = 1000
"""Most agents or decisions in one answer."""


class Routes:
    """Handlers; all read-only.

    Args:
        service: the daemon.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def table(self) -> list[Route]:
        """Path to handler."""
        found = {
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/{domain}": self.model,
            "/v2/models/{domain}/ready": self.model_ready,
            "/v2/models/{domain}/versions/{version}": self.model,
            "/v2/models/{domain}/versions/{version}/ready": self.model_ready,
            "/v1/state": self.state,
            "/v1/agents/{domain}": self.agents,
            "/v1/decisions/{domain}": self.decisions,
            "/v1/entry/{id}": self.entry,
            "/v1/events": self.events,
            "/metrics": self.metrics,
            "/openapi.json": self.openapi,
        }
        return [Route(path, handler, methods=["GET"]) for path, handler in found.items()]

    async def server(self, request: HttpRequest) -> Response:  # noqa: ARG002
        return _json(metadata.server())

    async def live(self, request: HttpRequest) -> Response:  # noqa: ARG002
        return _json({"live": True})

    async def ready(self, request: HttpRequest) -> Response:  # noqa: ARG002
        # Open to everybody: the reason may name domains and files, so it is not told here.
        good, _ = self._service.ready()
        return _json({"ready": good}, status=200 if good else 503)

    async def model(self, request: HttpRequest) -> Response:
        slot = self._slot(request)
        if isinstance(slot, Response):
            return slot
        digest = slot.runtime.digest
        if not digest.startswith(request.path_params.get("version", "")):
            return _problem("not_found", f"{slot.domain} is served by {digest[:12]}")
        versions = [digest[:12]] if digest else []
        return _json(metadata.model(slot.domain, slot.runtime.spec, versions))

    async def model_ready(self, request: HttpRequest) -> Response:
        slot = self._slot(request)
        if isinstance(slot, Response):
            return slot
        digest = slot.runtime.digest
        if not digest.startswith(request.path_params.get("version", "")):
            return _problem("not_found", f"{slot.domain} is served by {digest[:12]}")
        good, why = self._service.ready(slot.domain)
        return _json({"name": slot.domain, "ready": good, "reason": why}, 200 if good else 503)

    async def state(self, request: HttpRequest) -> Response:  # noqa: ARG002
        return _json(self._service.view())

    async def agents(self, request: HttpRequest) -> Response:
        slot = self._slot(request)
        if isinstance(slot, Response):
            return slot
        try:
            offset = _bounded(request, "offset", 0, 0, 2**31)
            limit = _bounded(request, "limit", 100, 1, PAGE)
        except ValueError as error:
            return _problem("parameter", str(error))
        rows = agent_rows(slot, offset, limit)
        total = slot.runtime.spec.agents
        return _json({"domain": slot.domain, "total": total, "offset": offset, "agents": rows})

    async def decisions(self, request: HttpRequest) -> Response:
        slot = self._slot(request)
        if isinstance(slot, Response):
            return slot
        try:
            limit = _bounded(request, "limit", 100, 1, PAGE)
        except ValueError as error:
            return _problem("parameter", str(error))
        found = [brief(entry, _seconds(entry)) for entry in slot.history(limit)]
        return _json({"domain": slot.domain, "decisions": found})

    async def entry(self, request: HttpRequest) -> Response:
        wanted = request.path_params["id"]
        for slot in self._service.slots.values():
            entry = slot.find(wanted)
            if entry is not None:
                return _json(full(entry))
        return _problem("not_found", "no such entry is remembered; older ones are in the audit")

    async def events(self, request: HttpRequest) -> Response:
        after = request.headers.get("last-event-id", "")
        stream = self._service.hub.stream(after=int(after) if after.isdigit() else None)
        try:
            first = await anext(stream)
        except TooManyListeners as error:
            return _problem("overload", str(error))

        async def whole() -> AsyncIterator[bytes]:
            yield first
            async for part in stream:
                yield part

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(whole(), media_type="text/event-stream", headers=headers)

    async def metrics(self, request: HttpRequest) -> Response:
        modern = wants_openmetrics(request.headers.get("accept", ""))
        kind = OPENMETRICS if modern else TEXT
        return Response(self._service.exposition(modern), headers={"Content-Type": kind})

    async def openapi(self, request: HttpRequest) -> Response:  # noqa: ARG002
        return _json(description(sorted(self._service.slots), admin=False))

    def _slot(self, request: HttpRequest) -> LiveSlot | Response:
        domain = request.path_params["domain"]
        slot = self._service.slots.get(domain)
        if slot is None:
            known = ", ".join(sorted(self._service.slots))
            return _problem("not_found", f"no domain {domain!r}; known: {known}")
        return slot


def agent_rows(slot: LiveSlot, offset: int, limit: int) -> list[dict[str, Any]]:
    """Latest decision about each agent of a page; agents without any have only their number."""
    spec = slot.runtime.spec
    stop = min(offset + limit, spec.agents)
    open_ones = set(range(offset, stop))
    rows: dict[int, dict[str, Any]] = {
        agent: {"agent": agent, "group": spec.groups[int(spec.group_of[agent])]}
        for agent in range(offset, stop)
    }
    for entry in slot.history(64):
        if not open_ones:
            break
        chosen = entry.request.agents
        named = np.arange(spec.agents) if chosen is None else chosen
        for row in np.flatnonzero((named >= offset) & (named < stop)).tolist():
            agent = int(named[row])
            if agent in open_ones:
                open_ones.discard(agent)
                rows[agent] |= _row(entry, row)
    return list(rows.values())


def _row(entry: Entry, row: int) -> dict[str, Any]:
    decision = entry.decision
    return {
        "decision": entry.id,
        "wall": entry.clock.wall,
        "active": bool(entry.request.observation.active[row]),
        "action": decision.actions[row].tolist(),
        "source": Source(int(decision.source[row])).name.lower(),
        "cause": Cause(int(decision.cause[row])).name.lower(),
        "deviation": _finite(float(decision.deviation[row])),
    }


def full(entry: Entry) -> dict[str, Any]:
    """Everything about one decision but the observation's candidates; JSON-able."""
    decision, request = entry.decision, entry.request
    asked = [
        None if each is None else {"status": each.status, "seconds": each.seconds}
        for each in decision.asked
    ]
    return {
        **brief(entry, _seconds(entry)),
        "agents": None if request.agents is None else request.agents.tolist(),
        "observed": request.observed,
        "deadline": request.deadline,
        "seed": decision.seed,
        "actions": decision.actions.tolist(),
        "wanted": None if decision.wanted is None else decision.wanted.tolist(),
        "source": decision.source.tolist(),
        "cause": decision.cause.tolist(),
        "deviation": [_finite(value) for value in decision.deviation.tolist()],
        "distance": [_finite(value) for value in decision.distance.tolist()],
        "asked": asked,
        "invalid": dict(decision.invalid),
        "failures": dict(decision.failures),
        "stages": dict(decision.seconds),
    }


def _seconds(entry: Entry) -> float:
    return float(sum(entry.decision.seconds.values()))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bounded(request: HttpRequest, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise ValueError(f"{name} is a whole number in {low}..{high}")
    return int(text)


def _json(document: Mapping[str, Any], status: int = 200) -> Response:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Response(body, status_code=status, headers=headers)


def _problem(code: str, detail: str) -> Response:
    problem = Problem.of(code, detail)
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())
