"""The running process: sockets, signals, watchdog, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.routing import Mount, Route

from .access import Doorkeeper
from .application import Application
from .frame_server import FrameServer
from .notify import Supervisor
from .protocol import Guard, guarded
from .selftest import watch_lag
from .service import Service
from .settings import ServeConfig, ServerSettings

_LOG = logging.getLogger(__name__)

LINGER = 0.5
"""Seconds in which open connections may send another request during drain; each answer then says
``Connection: close``, so that no request crosses a closing connection."""

SWITCH = 0.0005
"""Seconds after which a thread that computes in Python lets the event loop go on."""


class Closing(Protocol):
    """What must be on disk before the process ends."""

    def close(self, timeout: float) -> bool:
        """Flush and end; whether all is on disk."""
        ...


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: it would end with the signal's own status."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Process:
    """Runs a service until it is told to stop.

    Args:
        service: what is served.
        routes: of the data plane.
        admin_routes: of the admin socket, besides.
        data: listening socket of the data plane.
        admin, frames: other listening sockets, ``None`` where they are off.
        supervisor: who is told how we are.
        save: writes the state file.
        reload: re-reads the configuration (SIGHUP); never raises.
        announce: called once when the first self-test was good.
    """

    def __init__(  # noqa: PLR0913 - each part is one line where it is put together
        self,
        *,
        service: Service,
        routes: Sequence[Route | Mount],
        admin_routes: Sequence[Route | Mount],
        data: socket.socket,
        admin: socket.socket | None,
        frames: socket.socket | None,
        supervisor: Supervisor,
        audit: Closing,
        save: Callable[[], None],
        reload: Callable[[], None],
        announce: Callable[[], None],
    ) -> None:
        self.guard = _guard(service)
        self._service, self._supervisor, self._audit = service, supervisor, audit
        self._save, self._reload, self._announce = save, reload, announce
        self._sockets = {"data": data} | ({} if admin is None else {"admin": admin})
        self._frames_socket = frames
        self._servers: list[_Server] = []
        self._guards = [self.guard]
        app = self._application(routes, service.doorkeeper)
        self._servers.append(_Server(_config(app, service.settings, self.guard, tls=True)))
        if admin is not None:
            guard = _guard(service)
            self._guards.append(guard)
            app = self._application([*routes, *admin_routes], Doorkeeper(trusted=True))
            self._servers.append(_Server(_config(app, service.settings, guard, tls=False)))
        settings = service.settings.server
        self.frames = FrameServer(
            desks=service.desks,
            outcomes=service.outcomes,
            meter=service.meter,
            receipt=settings.receipt_deadline,
            idle=settings.idle_timeout,
            connections=settings.max_connections,
        )
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def _application(self, routes: Sequence[Route | Mount], doorkeeper: Doorkeeper) -> Application:
        service = self._service
        return Application(
            desks=service.desks,
            routes=routes,
            doorkeeper=doorkeeper,
            budgets=service.budgets,
            meter=service.meter,
        )

    def limit(self, settings: ServerSettings) -> None:
        """Put changed limits into force."""
        for guard in self._guards:
            guard.receipt, guard.header = settings.receipt_deadline, settings.max_header
            guard.connections = settings.max_connections
            guard.per_peer = settings.max_connections_per_peer
        self.frames.receipt, self.frames.connections = (
            settings.receipt_deadline,
            settings.max_connections,
        )

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        loop = asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH)
        self._service.hub.attach(loop)
        for slot in self._service.slots.values():
            slot.defer = loop.call_soon
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        servers = [
            asyncio.create_task(server.serve(sockets=[sock]))
            for server, sock in zip(self._servers, self._sockets.values(), strict=True)
        ]
        if self._frames_socket is not None:
            await self.frames.start(self._frames_socket)
        self._tasks = [
            asyncio.create_task(work)
            for work in (
                watch_lag(self._service.meter),
                self._self_tests(),
                self._saves(),
                *(guard.sweep() for guard in self._guards),
            )
        ]
        # What was built at start stays; the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        ended = asyncio.create_task(self._stop.wait())
        await asyncio.wait([ended, *servers, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in (*servers, *self._tasks) if task.done()]
        for task in failed:
            _LOG.error("a part of the daemon ended", exc_info=task.exception())
        await self._drain(servers)
        return 1 if failed else 0

    async def _self_tests(self) -> None:
        told = False
        watchdog = self._supervisor.watchdog
        while True:
            good = await self._service.test()
            if good and not told:
                told = True
                self._supervisor.tell("READY=1", "STATUS=serving")
                self._announce()
            if good:
                # Never from a timer of its own: a ping means that a decision has just been made.
                self._supervisor.tell("WATCHDOG=1")
            pause = self._service.settings.server.selftest_interval
            await asyncio.sleep(min(pause, watchdog / 3) if watchdog else pause)

    async def _saves(self) -> None:
        while True:
            await asyncio.sleep(self._service.settings.state.save_every)
            await asyncio.to_thread(self._save)

    def _hangup(self) -> None:
        now = int(time.monotonic() * 1e6)
        self._supervisor.tell("RELOADING=1", f"MONOTONIC_USEC={now}")
        self._reload()
        self._supervisor.tell("READY=1", "STATUS=serving")

    def _signalled(self) -> None:
        if self._stop.is_set():
            _LOG.warning("second signal: ending at once")
            os._exit(128 + signal.SIGTERM)
        self._stop.set()

    async def _linger(self, seconds: float) -> None:
        """Let open connections end by themselves for a moment."""
        for _ in range(int(seconds / 0.02)):
            if not any(guard.count for guard in self._guards):
                return
            await asyncio.sleep(0.02)

    async def _drain(self, servers: Sequence[asyncio.Task[None]]) -> None:
        service, budget = self._service, self._service.settings.server.drain
        end = time.monotonic() + budget
        self._supervisor.tell("STOPPING=1", "STATUS=draining")
        _LOG.info("draining: at most %g s", budget)
        service.drain()
        for server in self._servers:
            for listener in server.servers:
                listener.close()
        for guard in self._guards:
            guard.draining = True
        service.hub.close()
        frames = asyncio.create_task(self.frames.drain(min(LINGER, budget)))
        await self._linger(min(LINGER, budget / 4))
        for server in self._servers:
            server.config.timeout_graceful_shutdown = max(1, int(end - time.monotonic()))
            server.should_exit = True
        await asyncio.wait([*servers, frames], timeout=max(end - time.monotonic(), 0.1))
        for task in self._tasks:
            task.cancel()
        await service.close()
        good = await asyncio.to_thread(self._audit.close, max(end - time.monotonic(), 1.0))
        if not good:
            _LOG.error("the audit could not be flushed before the end")
        await asyncio.to_thread(self._save)
        _remove((service.settings.server.frames, service.settings.server.admin))
        _LOG.info("drained")


def _remove(paths: Sequence[str]) -> None:
    for path in paths:
        if path:
            Path(path).unlink(missing_ok=True)


def _guard(service: Service) -> Guard:
    settings = service.settings.server
    return Guard(
        meter=service.meter,
        receipt=settings.receipt_deadline,
        header=settings.max_header,
        connections=settings.max_connections,
        per_peer=settings.max_connections_per_peer,
    )


def _config(app: Application, settings: ServeConfig, guard: Guard, *, tls: bool) -> uvicorn.Config:
    security = settings.security
    encrypted: dict[str, Any] = {}
    if tls and security.tls_certificate:
        encrypted = {"ssl_certfile": security.tls_certificate, "ssl_keyfile": security.tls_key}
        if security.tls_client_ca:
            encrypted["ssl_ca_certs"] = security.tls_client_ca
            encrypted["ssl_cert_reqs"] = ssl.CERT_REQUIRED
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=guarded(guard),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=max(1, int(settings.server.idle_timeout)),
        timeout_graceful_shutdown=max(1, int(settings.server.drain)),
        **encrypted,
    )
