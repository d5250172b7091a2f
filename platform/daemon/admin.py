"""Acts that change who decides: own socket, own scope, one at a time, each in the audit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ..files import UserError
from ..wire.problems import Problem
from .slot import OWN_ACTS, LiveSlot

if TYPE_CHECKING:
    from .service import Service

_LOG = logging.getLogger(__name__)

ACTS = ("load", "promote", "rollback", "shadow", "canary", "abort", *OWN_ACTS)
"""What ``POST /v1/admin/{domain}/{act}`` can do."""


class Admin:
    """Handlers of the admin API.

    Args:
        service: the daemon.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one = asyncio.Lock()

    def table(self) -> list[Route]:
        """Path to handler."""
        return [
            Route("/v1/admin/{domain}/{act}", self.act, methods=["POST"]),
            Route("/v1/admin", self.list, methods=["GET"]),
        ]

    async def list(self, request: HttpRequest) -> Response:  # noqa: ARG002
        return _json({"acts": list(ACTS), "domains": sorted(self._service.slots)})

    async def act(self, request: HttpRequest) -> Response:
        slot = self._service.slots.get(request.path_params["domain"])
        act = request.path_params["act"]
        if slot is None:
            return _problem(Problem.of("not_found", "no such domain"))
        if act not in ACTS:
            return _problem(Problem.of("not_found", f"no such act; known: {', '.join(ACTS)}"))
        try:
            arguments = _arguments(await request.body())
            result = await self._carry_out(slot, act, arguments, request.state.principal)
        except UserError as error:
            label = getattr(error, "label", "act")
            return _problem(Problem.of(str(label), str(error), status=409))
        except ValueError as error:
            return _problem(Problem.of("json", str(error)))
        return _json(result)

    async def _carry_out(
        self, slot: LiveSlot, act: str, arguments: Mapping[str, Any], principal: str
    ) -> Mapping[str, Any]:
        _LOG.info("%s asks %s for %s %s", principal, slot.domain, act, dict(arguments))
        async with self._one:
            if act in OWN_ACTS:
                return slot.operate(act, arguments, principal=principal)
            # Verifying and warming up takes a while; decisions go on meanwhile.
            return await asyncio.to_thread(slot.operate, act, arguments, principal=principal)


def _arguments(body: bytes) -> Mapping[str, Any]:
    parsed: object = orjson.loads(body) if body else {}
    if not isinstance(parsed, dict):
        raise ValueError("arguments are a JSON object")  # noqa: TRY004 - it answers 400 as others
    return cast("dict[str, Any]", parsed)


def _json(document: Mapping[str, Any]) -> Response:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
    return Response(body, headers={"Content-Type": "application/json"})


def _problem(problem: Problem) -> Response:
    return Response(problem.body(), status_code=problem.status, headers=problem.headers())
