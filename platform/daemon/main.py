"""From the command line to a running process and its exit status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import uvloop
from starlette.routing import Mount, Route

from .admin import Admin
from .assembly import Assembled, assemble, config_hash, verify
from .notify import Supervisor
from .process import Process
from .reload import Reloader, slot_settings
from .routes import Routes
from .service import Service
from .settings import ServeConfig
from .sockets import FolderLock, listen_tcp, listen_unix
from .tokens import Keyring

_LOG = logging.getLogger(__name__)

__all__ = ["serve", "verify"]


def serve(
    settings: ServeConfig,
    bundles: Sequence[Path],
    *,
    reread: Callable[[], ServeConfig],
    announce: Callable[[str], None],
) -> int:
    """Run until told to stop; the exit status.

    Args:
        settings: the configuration.
        bundles: become champions of their domains.
        reread: the configuration as it is at SIGHUP.
        announce: told in one line when the first decision was good.

    Raises:
        UserError: it cannot start, in words.
    """
    lock = FolderLock(Path(settings.state.folder))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, bundles, reread, announce))
    finally:
        lock.free()


async def _run(
    settings: ServeConfig,
    bundles: Sequence[Path],
    reread: Callable[[], ServeConfig],
    announce: Callable[[str], None],
) -> int:
    server = settings.server
    data = listen_tcp(server.host, server.port)
    admin = listen_unix(Path(server.admin), mode=0o600) if server.admin else None
    frames = listen_unix(Path(server.frames), mode=0o660) if server.frames else None
    built = assemble(settings, bundles)
    service = built.service
    address = f"{server.host}:{data.getsockname()[1]}"
    scheme = "https" if settings.security.tls_certificate else "http"
    process = Process(
        service=service,
        routes=_routes(service),
        admin_routes=Admin(service).table(),
        data=data,
        admin=admin,
        frames=frames,
        supervisor=Supervisor.from_environment(),
        audit=built.audit,
        save=built.save,
        reload=lambda: reloader(),  # noqa: PLW0108 - it is made further down
        announce=lambda: announce(_ready_line(f"{scheme}://{address}", service)),
    )
    reloader = Reloader(
        settings=settings,
        reread=reread,
        apply=lambda new, keyring: _apply(process, built, new, keyring),
        event=lambda kind, detail: _tell(service, kind, detail),
    )
    return await process.run()


def _routes(service: Service) -> list[Route | Mount]:
    from ..kubernetes import routes as extender

    found: list[Route | Mount] = [
        *Routes(service).table(),
        *service.outcomes.table(),
        *extender(service),
    ]
    settings = service.settings
    if settings.page.enabled:
        from ..page import routes as page

        found += page(service)
    if settings.security.tokens and settings.server.admin:
        found += Admin(service).table()
    return found


def _ready_line(url: str, service: Service) -> str:
    server = service.settings.server
    parts = [f"ready {url}", f"domains={','.join(sorted(service.slots))}"]
    parts += [f"frames={server.frames}"] if server.frames else []
    parts += [f"admin={server.admin}"] if server.admin else []
    return " ".join(parts)


def _apply(process: Process, built: Assembled, settings: ServeConfig, keyring: Keyring) -> None:
    service, server = built.service, settings.server
    service.settings = settings
    service.doorkeeper.keyring = keyring
    process.limit(server)
    service.budgets.rate = settings.admission.rate
    service.budgets.burst = settings.admission.burst
    for domain, slot in service.slots.items():
        knobs = slot_settings(settings, domain)
        if knobs != slot.settings:
            built.change(domain, knobs, settings)
        line = service.desks[domain].line
        line.limit, line.patience = settings.admission.queue, knobs.deadline
        service.meter.set("decision_deadline_seconds", knobs.deadline, domain=domain)
        service.meter.set("decision_validity_seconds", knobs.expiry or nan, domain=domain)
    service.meter.info("config_info", key="config", hash=config_hash(settings))


def _tell(service: Service, kind: str, detail: Mapping[str, Any]) -> None:
    service.recorder.event(kind, "", detail)
    service.hub.publish(kind, "", time.time(), detail)
