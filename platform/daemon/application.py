"""The ASGI application of one listening socket: who may, where to, what came of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Match, Mount, Route, Router

from ..wire import frames, oip
from ..wire.problems import Problem
from .access import Denied, Doorkeeper, required
from .admission import Budgets
from .desk import EXPECTED, Answer, Desk, problem_of
from .http import (
    Gone,
    Receive,
    Scope,
    Send,
    TooLarge,
    Unreadable,
    answer,
    bounded,
    check_encoding,
    check_type,
    headers_of,
    read_body,
    refuse,
)
from .interface import Meter

_LOG = logging.getLogger(__name__)

COLD_BODY = 16 * 2**20
"""Largest body of the routes that read it themselves (a cluster's list of nodes)."""

_JSON = frozenset({b"application/json", b"application/octet-stream"})
_FRAME = frozenset({frames.MEDIA_TYPE.encode(), b"application/octet-stream"})
_HOT = re.compile(
    r"/v1/decide/(?P<native>[^/]+)|"
    r"/v2/models/(?P<oip>[^/]+)(?:/versions/(?P<version>[0-9a-f]{1,64}))?/infer"
)
_TEMPLATES = {
    "native": "/v1/decide/{domain}",
    "oip": "/v2/models/{domain}/infer",
    "version": "/v2/models/{domain}/versions/{version}/infer",
}
STREAMS = frozenset({"/v1/events"})
"""Routes whose answer never ends by itself; their duration says nothing."""

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
"""Fields of every answer of the cold routes."""


class Application:
    """Checks scopes for every route, serves decisions itself and hands the rest to starlette.

    Args:
        desks: by domain.
        routes: everything but decisions.
        doorkeeper: of this socket.
        budgets: decisions a principal may ask for, on cold routes too.
        meter: counts requests.
    """

    def __init__(
        self,
        *,
        desks: Mapping[str, Desk],
        routes: Sequence[Route | Mount],
        doorkeeper: Doorkeeper,
        budgets: Budgets,
        meter: Meter,
    ) -> None:
        self.doorkeeper = doorkeeper
        self._desks, self._budgets, self._meter = desks, budgets, meter
        self._routes = tuple(routes)
        self._router = Router(routes=list(routes), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.monotonic()
        seen = _Seen(send)
        try:
            await self._serve(scope, receive, seen)
        except Gone:
            return
        except EXPECTED as error:
            problem = problem_of(error)
            reason = "auth" if isinstance(error, Denied) else "quota"
            if isinstance(error, TooLarge | Unreadable):
                reason = "size" if isinstance(error, TooLarge) else "invalid"
            self._meter.count("requests_rejected_total", domain="none", reason=reason)
            await self._fail(seen, problem)
        except Exception:  # noqa: BLE001 - one request must not end the others
            _LOG.exception("%s %s", scope["method"], seen.template)
            await self._fail(seen, Problem.of("internal", "see the log of the daemon"))
        route = seen.template
        self._meter.count("http_requests_total", route=route, code=f"{seen.status // 100}xx")
        if route not in STREAMS:
            took = time.monotonic() - began
            self._meter.observe("http_request_duration_seconds", took, route=route)

    async def _fail(self, seen: _Seen, problem: Problem) -> None:
        if seen.status == 0:
            # What may be left of the body is not read, so the connection must not be reused.
            await refuse(seen, problem, close=True)

    async def _serve(self, scope: Scope, receive: Receive, send: _Seen) -> None:
        path, method = scope["path"], scope["method"]
        headers = headers_of(scope)
        hot = _HOT.fullmatch(path)
        if hot is not None and method == "POST":
            kind = "native" if hot["native"] else "version" if hot["version"] else "oip"
            send.template = _TEMPLATES[kind]
            await self._decide(scope, headers, receive, send, hot)
            return
        route, allowed = self._find(scope)
        if hot is not None:
            send.template = _TEMPLATES["native" if hot["native"] else "oip"]
        elif route is not None:
            send.template = route.path
        principal = self.doorkeeper.admit(scope, headers, required(method, path))
        if required(method, path) == "infer":
            self._budgets.spend(principal.name)
        check_encoding(headers)
        scope.setdefault("state", {})["principal"] = principal.name
        if route is None and hot is None:
            await refuse(send, Problem.of("not_found", "no such route; see /openapi.json"))
        elif hot is not None or method not in allowed:
            named = sorted(allowed or {"POST"})
            send.extra = {"Allow": ", ".join(named)}  # RFC 9110, 15.5.6
            await refuse(send, Problem.of("method", f"{method} is not among {', '.join(named)}"))
        else:
            send.extra = SECURITY
            await self._router(scope, bounded(receive, headers, COLD_BODY), send)

    def _find(self, scope: Scope) -> tuple[Route | Mount | None, frozenset[str]]:
        """The route of a path, and the methods that this path takes."""
        partial: Route | Mount | None = None
        allowed: frozenset[str] = frozenset()
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.NONE:
                continue
            methods = _methods(route)
            if scope["method"] in methods:
                return route, methods
            partial, allowed = partial or route, allowed | methods
        return partial, allowed

    async def _decide(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        send: Send,
        hot: re.Match[str],
    ) -> None:
        principal = self.doorkeeper.admit(scope, headers, "infer")
        domain = hot["native"] or hot["oip"]
        desk = self._desks.get(domain)
        if desk is None:
            known = ", ".join(sorted(self._desks))
            await refuse(send, Problem.of("not_found", f"no domain {domain!r}; known: {known}"))
            return
        native = bool(hot["native"])
        try:
            check_encoding(headers)
            check_type(headers, _FRAME if native else _JSON)
            limit = desk.limits.binary if native else desk.limits.json
            body = await read_body(receive, headers, limit)
        except (TooLarge, Unreadable) as error:
            await refuse(send, desk.refused(error), close=True)
            return
        self._meter.observe("request_size_bytes", len(body), domain=domain)
        try:
            found = await self._ask(desk, body, headers, hot, principal.name)
        except EXPECTED as error:
            await refuse(send, desk.refused(error))
            return
        await answer(send, 200, found.body, found.headers)

    async def _ask(
        self,
        desk: Desk,
        body: bytes,
        headers: Mapping[bytes, bytes],
        hot: re.Match[str],
        principal: str,
    ) -> Answer:
        received = time.monotonic()
        if hot["native"]:
            return await desk.serve(
                lambda spec, limits, at: frames.decode(body, spec, limits, received=at),
                lambda entry, wanted, left: frames.encode(entry, wanted, deadline_left=left),
                principal=principal,
                received=received,
            )
        length = _length(headers.get(b"inference-header-content-length"))
        return await desk.serve(
            lambda spec, limits, at: oip.decode(body, length, spec, limits, received=at),
            lambda entry, wanted, left: oip.encode(entry, wanted, deadline_left=left),
            principal=principal,
            received=received,
            version=hot["version"] or "",
        )


def _methods(route: Route | Mount) -> frozenset[str]:
    # What is mounted (files of the page) is only ever read, whatever it would allow itself.
    listed = route.methods if isinstance(route, Route) else None
    return frozenset(listed or ("GET", "HEAD"))


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    return int(value) if value.isdigit() and len(value) < 12 else 0  # 0 is refused by the decoder


class _Seen:
    """``send`` that remembers the status and adds fields."""

    def __init__(self, send: Send) -> None:
        self.status = 0
        self.template = "unmatched"
        self.extra: Mapping[str, str] = {}
        self._send = send

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.extra:
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in self.extra.items()
                        if name.lower().encode() not in given
                    ),
                ]
        await self._send(message)
