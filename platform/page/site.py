"""The page's routes: HTML, its fragments, the numbers behind them, and static files.

All of them only read. Whatever asks the slots runs on the event loop's thread and is short; HTML is
rendered and Prometheus is asked in threads.
"""

from __future__ import annotations

import hashlib
import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..audit.recompute import recompute
from ..daemon.interface import Daemon, Slot
from ..daemon.reload import slot_settings
from ..decision.types import Clock
from . import dashboards, words
from .agents import agent, grid
from .decisions import constraints, interventions, refused, rows
from .prometheus import Prometheus, PrometheusError
from .rollout import roles, told
from .series import Curves
from .status import RECENT, Card, card
from .summary import Summaries

HERE = Path(__file__).parent

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Sent with every answer: nothing may come from outside, no inline script or style runs."""

VENDOR = ("htmx.min.js", "uPlot.iife.min.js", "uPlot.min.css")
"""What ``make assets`` brings."""

Answer = Callable[[Request], Awaitable[Response]]


class Site:
    """Answers of the page; made once per daemon."""

    def __init__(self, daemon: Daemon):
        self.daemon = daemon
        self.summaries = Summaries()
        self.curves = Curves(self.summaries)
        self.files = _static()
        self.charts = all(f"vendor/{name}" in self.files for name in VENDOR)
        address = daemon.settings.page.prometheus
        self.prometheus = Prometheus(address) if address else None
        self._threads: CapacityLimiter | None = None
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters |= {
            "age": words.age,
            "duration": words.duration,
            "number": words.number,
            "share": words.share,
        }

    def routes(self) -> list[Route]:
        """Every route, all of them GET."""
        table: list[tuple[str, Answer]] = [
            ("/", self.home),
            ("/page/{domain}/live", self.live),
            ("/page/{domain}/agents.json", self.agents),
            ("/page/{domain}/series.json", self.series),
            ("/page/{domain}/agent/{index:int}", self.agent),
            ("/page/{domain}/audit/{entry}", self.audit),
            ("/dashboards", self.first_dashboard),
            ("/dashboards/{uid}", self.dashboard),
            ("/dashboards/{uid}/plan.json", self.plan),
            ("/dashboards/{uid}/values.json", self.values),
            ("/dashboards/{uid}/panels/{panel:int}.json", self.panel),
            ("/static/{name:path}", self.static),
        ]
        return [Route(path, answer, methods=["GET"]) for path, answer in table]

    # The live page.

    async def home(self, request: Request) -> Response:
        """The page for ``?domain=``, the first one by default."""
        slots = self.daemon.slots
        if not slots:
            return await self._html("empty.html", {"title": "no domain"})
        domain = request.query_params.get("domain", next(iter(slots)))
        slot = slots.get(domain)
        if slot is None:
            return await self._missing(f"This daemon has no domain named {domain}.")
        return await self._html("live.html", {"title": domain, **self._live(slot)})

    async def live(self, request: Request) -> Response:
        """What changes every second, as fragments that replace their namesakes."""
        slot = self.daemon.slots.get(request.path_params["domain"])
        if slot is None:
            return await self._missing("This daemon has no such domain.")
        return await self._html("fragments.html", self._live(slot))

    async def agents(self, request: Request) -> Response:
        """All agents, one character each; also the page's heartbeat."""
        slot = self.daemon.slots.get(request.path_params["domain"])
        if slot is None:
            return _json({"error": "no such domain"}, 404)
        return _json(asdict(grid(slot)))

    async def series(self, request: Request) -> Response:
        """Curves of the last decisions."""
        slot = self.daemon.slots.get(request.path_params["domain"])
        if slot is None:
            return _json({"error": "no such domain"}, 404)
        return _json(self.curves.of(slot))

    async def agent(self, request: Request) -> Response:
        """One agent's last decision and its reasons; a fragment, or a page without script."""
        slot = self.daemon.slots.get(request.path_params["domain"])
        if slot is None:
            return await self._missing("This daemon has no such domain.")
        try:
            found = agent(slot, request.path_params["index"])
        except IndexError as error:
            return await self._missing(str(error))
        index = request.path_params["index"]
        values = {"agent": found, "index": index, "domain": slot.domain}
        return await self._part("agent.html", f"agent {index}", values, request)

    async def audit(self, request: Request) -> Response:
        """Decides a remembered decision again and says whether the result is the same."""
        slot = self.daemon.slots.get(request.path_params["domain"])
        name = request.path_params["entry"]
        entry = None if slot is None else next((e for e in slot.history(512) if e.id == name), None)
        if slot is None or entry is None:
            return await self._missing(
                f"Decision {name} is no longer in the daemon's memory; "
                "`fairlead replay` reads it from the audit."
            )
        knobs = slot_settings(self.daemon.settings, slot.domain)
        values = {
            "verdict": recompute(entry, slot.runtime, knobs),
            "decision": entry.decision,
            "age": time.time() - entry.clock.wall,
        }
        return await self._part("audit.html", "audit check", values, request)

    def _live(self, slot: Slot) -> dict[str, Any]:
        now = Clock(time.monotonic(), time.time())
        entries = slot.history(RECENT)
        pairs = self.summaries.of(entries)
        state, view = slot.state, slot.view()
        return {
            "slot": slot.domain,
            "spec": slot.runtime.spec,
            "cards": [
                card(self.daemon, one, now, self.summaries) for one in self.daemon.slots.values()
            ],
            "rows": rows(slot, self.summaries),
            "interventions": interventions(slot, self.summaries),
            "constraints": constraints([one for _, one in pairs]),
            "refused": refused(entries),
            "looked": len(pairs),
            "state": state,
            "breaker_since": max(0.0, now.mono - state.breaker.since),
            "window": state.breaker.window,
            "margin": entries[0].decision.margin if entries else float("nan"),
            "rollout": roles(view, now.wall),
            "told": told(view, now.wall),
            "admin": self.daemon.settings.server.admin,
            "uptime": now.wall - self.daemon.started,
        }

    # The dashboards.

    async def first_dashboard(self, _: Request) -> Response:
        """To the first dashboard."""
        uid = next(iter(dashboards.all_dashboards()))
        return RedirectResponse(f"/dashboards/{uid}", 307, HEADERS)

    async def dashboard(self, request: Request) -> Response:
        """One dashboard; its panels are filled by script."""
        found = dashboards.all_dashboards()
        uid = request.path_params["uid"]
        if uid not in found:
            return await self._missing(f"There is no dashboard {uid}.")
        values = {
            "title": found[uid].title,
            "dashboard": found[uid],
            "all": found.values(),
            "spans": dashboards.SPANS,
            "prometheus": self.prometheus.url if self.prometheus else "",
        }
        return await self._html("dashboard.html", values)

    async def plan(self, request: Request) -> Response:
        """What to draw."""
        found = dashboards.all_dashboards().get(request.path_params["uid"])
        if found is None:
            return _json({"error": "no such dashboard"}, 404)
        return _json(dashboards.plan(found))

    async def panel(self, request: Request) -> Response:
        """What one panel's queries give."""
        return await self._ask(request, dashboards.data, request.path_params["panel"])

    async def values(self, request: Request) -> Response:
        """What the variables may be."""
        return await self._ask(request, dashboards.variable_values)

    async def _ask(
        self, request: Request, function: Callable[..., dict[str, Any]], *arguments: Any
    ) -> Response:
        try:
            task = self._task(request, function, *arguments)
            # A slow Prometheus must not use up the threads that others need.
            self._threads = self._threads or CapacityLimiter(4)
            return _json(await to_thread.run_sync(task, limiter=self._threads))
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        except KeyError as error:
            return _json({"error": str(error.args[0])}, 404)
        except PrometheusError as error:
            return _json({"error": str(error)}, 502)

    def _task(
        self, request: Request, function: Callable[..., dict[str, Any]], *arguments: Any
    ) -> Callable[[], dict[str, Any]]:
        uid, query = request.path_params["uid"], request.query_params
        found = dashboards.all_dashboards().get(uid)
        if found is None:
            raise KeyError(f"there is no dashboard {uid}")
        if self.prometheus is None:
            raise PrometheusError("no Prometheus is named in page.prometheus")
        span = query.get("span", "3600")
        if span not in {str(known) for known in dashboards.SPANS}:
            raise ValueError(f"span is {span!r}; it can be one of {sorted(dashboards.SPANS)}")
        picked = {
            name: [value for value in query.getlist(name) if value][:50] for name in found.variables
        }
        variables = dashboards.chosen(found, picked)
        now = time.time()
        server = self.prometheus
        return partial(function, found, *arguments, server, variables, end=now, span=int(span))

    # Files and frames.

    async def static(self, request: Request) -> Response:
        """A file that was there at start; nothing is looked up on disk."""
        found = self.files.get(request.path_params["name"])
        if found is None:
            return Response("not found", 404, HEADERS, "text/plain")
        content, kind, tag = found
        headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        return Response(content, 200, headers, kind)

    async def _part(
        self, template: str, title: str, values: Mapping[str, Any], request: Request
    ) -> Response:
        if "hx-request" in request.headers:
            return await self._html(template, values)
        return await self._html("part.html", {"title": title, "template": template, **values})

    async def _missing(self, reason: str) -> Response:
        return await self._html("missing.html", {"title": "not found", "reason": reason}, 404)

    async def _html(self, template: str, values: Mapping[str, Any], status: int = 200) -> Response:
        common = {"charts": self.charts, "cards": (), "slot": "", **values}
        render = self.templates.get_template(template).render
        text = await to_thread.run_sync(partial(render, common))
        return Response(text, status, HEADERS, "text/html; charset=utf-8")


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, HEADERS, "application/json")


def _static() -> dict[str, tuple[bytes, str, str]]:
    """Content, type and tag of every static file, by its path below ``static``."""
    folder = HERE / "static"
    found: dict[str, tuple[bytes, str, str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "text/plain"
            tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
            found[path.relative_to(folder).as_posix()] = content, kind, tag
    return found


def routes(daemon: Daemon) -> list[Route]:
    """The page's routes for a daemon.

    Raises:
        UserError: ``page.prometheus`` is no address.
    """
    return Site(daemon).routes()


__all__ = ["HEADERS", "Card", "Site", "routes"]
