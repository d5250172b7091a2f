"""The extender's HTTP routes beside the daemon's others.

A domain's extender exists from its first question on and follows the champion: when a bundle with
another spec takes over, observations are made for that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, cast

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ...simulators.cloud.fragmentation import Fragmentation, typical_pods
from ...simulators.cloud.openb import OpenbPods, read_openb_pods
from ...simulators.cloud.openb_fleet import PODS
from ...simulators.cloud.scenario import OpenbScenario
from ...simulators.errors import DataError
from ...simulators.tables import locate
from ..cloud_live import CloudLive
from ..daemon.interface import AuditStopped, Daemon, Entry, Slot
from ..decision.types import Rejected, Request, Runtime
from ..files import UserError
from ..wire.problems import Problem
from .binding import ApiServer, BindingFailed
from .cluster import Cluster
from .extender import Extender
from .quantities import ObjectError
from .view import RUN_TIME, Viewer

_JSON = "application/json"


def build_extender(
    runtime: Runtime,
    decides: Callable[[Request], Entry],
    *,
    run_time: float = 0.0,
    cluster: Cluster | None = None,
) -> Extender:
    """An extender for what a slot serves.

    Args:
        runtime: of the champion; its ``live`` part must be the cloud's.
        decides: answers requests.
        run_time: expected run time of pods that name none, s; 0: the median of training.
        cluster: to go on with; ``None``: an empty one.

    Raises:
        UserError: the bundle is not of scenario ``openb``, or the pod list that tells what typical
            pods are is missing.
    """
    scenario = _scenario(runtime)
    expected = run_time or _median(runtime, "size") or RUN_TIME
    if cluster is None:
        pods = load_pods(runtime)
        cluster = Cluster(
            measure=lambda models: Fragmentation(typical_pods(pods, models)),
            smoothing=scenario.ewma * runtime.spec.dt,
            run_time=expected,
        )
    return Extender(
        spec=runtime.spec,
        viewer=Viewer(runtime.spec, scenario, cluster),
        cluster=cluster,
        decides=decides,
        run_time=expected,
    )


class _Desk:
    """One domain's extender, kept in step with its champion."""

    def __init__(self, slot: Slot, run_time: float):
        self._slot, self._run_time = slot, run_time
        self._extender: Extender | None = None
        self._runtime: Runtime | None = None
        self.principal = ""

    @property
    def extender(self) -> Extender:
        """For the present champion.

        Raises:
            UserError: see :func:`build_extender`.
        """
        runtime = self._slot.runtime
        if self._extender is None or self._runtime is None:
            self._extender = build_extender(runtime, self._decide, run_time=self._run_time)
        elif runtime is not self._runtime and runtime.digest != self._runtime.digest:
            self._extender = self._extender.taken_over(
                build_extender(
                    runtime,
                    self._decide,
                    run_time=self._run_time,
                    cluster=self._extender.cluster,
                )
            )
        self._runtime = runtime
        return self._extender

    def _decide(self, request: Request) -> Entry:
        return self._slot.decide(request, principal=self.principal)


class _Handlers:
    def __init__(self, daemon: Daemon):
        self._daemon = daemon
        settings = getattr(daemon.settings, "kubernetes", None)
        self._run_time = 0.0 if settings is None else settings.run_time
        self._server: ApiServer | None = None
        if settings is not None and settings.api:
            self._server = ApiServer(
                settings.api, settings.token, settings.ca, timeout=settings.timeout
            )
        self._desks: dict[str, _Desk] = {}

    async def filter(self, request: HttpRequest) -> Response:
        # What is no JSON at all is refused by status; the protocol's Error is for what it says.
        body = await self._body(request)
        try:
            desk = await self._desk(request)
        except ObjectError as error:
            return _json({"Nodes": None, "NodeNames": None, "FailedNodes": {}, "Error": str(error)})
        return _json(desk.extender.filter(body))

    async def prioritize(self, request: HttpRequest) -> Response:
        desk, body = await self._desk(request), await self._body(request)
        found = desk.extender.prioritize(body)
        headers: dict[str, str] = {}
        if found.entry is not None:
            decision = found.entry.decision
            headers = {
                "Fairlead-Decision": found.entry.id,
                "Fairlead-Bundle": decision.bundle,
                "Fairlead-Mode": decision.mode,
                "Fairlead-Outcome": decision.outcome,
            }
        return _json(found.view(), headers=headers)

    async def bind(self, request: HttpRequest) -> Response:
        body = await self._body(request)
        try:
            extender = (await self._desk(request)).extender
            pod, node = extender.plan_binding(body)
            # Booked first: while the API server is asked, others must not be promised the same.
            devices = extender.book(pod, node)
            if self._server is not None:
                try:
                    await asyncio.to_thread(self._server.bind, pod, node, devices)
                except BindingFailed as error:
                    extender.unbook(pod)
                    return _json({"Error": str(error)})
        except ObjectError as error:
            return _json({"Error": str(error)})
        return _json({"Error": ""})

    async def nodes(self, request: HttpRequest) -> Response:
        desk, body = await self._desk(request), await self._body(request)
        return _json({"nodes": desk.extender.feed_nodes(body)})

    async def pods(self, request: HttpRequest) -> Response:
        desk, body = await self._desk(request), await self._body(request)
        return _json({"pods": desk.extender.feed_pods(body)})

    async def delete(self, request: HttpRequest) -> Response:
        desk = await self._desk(request)
        now = request.query_params.get("time")
        try:
            told = None if now is None else float(now)
        except ValueError:
            told = float("nan")
        if told is not None and not isfinite(told):
            raise ObjectError(f"time = {now!r}; accepted: seconds since 1970")
        known = desk.extender.forget(request.path_params["uid"], told)
        return _json({"known": known})

    async def _desk(self, request: HttpRequest) -> _Desk:
        domain = request.path_params["domain"]
        slot = self._daemon.slots.get(domain)
        if slot is None:
            known = ", ".join(sorted(self._daemon.slots))
            raise _UnknownDomainError(f"no domain {domain!r}; known: {known}")
        desk = self._desks.get(domain)
        if desk is None:
            # Reading the pod list takes a while; decisions go on meanwhile.
            await asyncio.to_thread(load_pods, slot.runtime)
            desk = self._desks.setdefault(domain, _Desk(slot, self._run_time))
        desk.principal = str(getattr(request.state, "principal", "local"))
        return desk

    async def _body(self, request: HttpRequest) -> object:
        # The application around these routes bounds the body.
        body = await request.body()
        try:
            return cast("object", orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise ObjectError(f"the body is not JSON: {error}") from error


class _UnknownDomainError(UserError):
    """No such domain."""


Handler = Callable[[HttpRequest], Awaitable[Response]]


def routes(daemon: Daemon) -> list[Route]:
    """Extender verbs and cluster feed of all domains."""
    handlers = _Handlers(daemon)
    extender, cluster = "/v1/extender/{domain}", "/v1/cluster/{domain}"
    table: list[tuple[str, str, Handler]] = [
        (f"{extender}/filter", "POST", handlers.filter),
        (f"{extender}/prioritize", "POST", handlers.prioritize),
        (f"{extender}/bind", "POST", handlers.bind),
        (f"{cluster}/nodes", "PUT", handlers.nodes),
        (f"{cluster}/pods", "POST", handlers.pods),
        (f"{cluster}/pods/{{uid:path}}", "DELETE", handlers.delete),
    ]
    return [Route(path, _guarded(handler), methods=[method]) for path, method, handler in table]


def _guarded(handler: Handler) -> Handler:
    """Turns what can go wrong into problem details."""

    async def guarded(request: HttpRequest) -> Response:
        try:
            return await handler(request)
        except Rejected as error:
            problem = Problem.rejected(error)
        except AuditStopped as error:
            problem = Problem.of("audit", str(error))
        except _UnknownDomainError as error:
            problem = Problem.of("not_found", str(error))
        except ObjectError as error:
            problem = Problem.of("field", str(error))
        except (UserError, DataError) as error:
            problem = Problem.of("not_ready", str(error))
        return Response(problem.body(), status_code=problem.status, headers=problem.headers())

    return guarded


def _json(value: object, *, headers: Mapping[str, str] | None = None) -> Response:
    fields = {"Cache-Control": "no-store", **(headers or {})}
    return Response(orjson.dumps(value), media_type=_JSON, headers=fields)


def load_pods(runtime: Runtime) -> OpenbPods:
    """The pod list whose most frequent kinds are the typical pods of fragmentation; kept.

    Raises:
        UserError, DataError: as :func:`build_extender`.
    """
    return _read_pods(_scenario(runtime).data)


@lru_cache(maxsize=2)
def _read_pods(data: str | None) -> OpenbPods:
    return read_openb_pods(locate(PODS, data))


def _scenario(runtime: Runtime) -> OpenbScenario:
    live = runtime.live
    scenario = live.scenario if isinstance(live, CloudLive) else None
    if not isinstance(scenario, OpenbScenario):
        raise UserError(
            f"the extender needs a bundle of scenario 'openb'; {runtime.spec.domain!r} is served "
            f"by one of {runtime.spec.scenario!r}"
        )
    return scenario


def _median(runtime: Runtime, feature: str) -> float:
    """Median of an agent feature in training, 0 where it is not known."""
    observed: Any = runtime.observed.get("agent")
    if not observed:
        return 0.0
    middle: Any = observed["edges"][5]
    return float(middle[runtime.spec.agent_column(feature)])
