"""A real daemon for tests: ``fairlead serve`` in a process of its own, on free ports."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

MAIN = "from fairlead.platform.cli.main import main; main()"


@dataclass
class Daemon:
    """A running daemon.

    ``url`` of the data plane, ``frames`` and ``admin`` socket paths, ``log`` the file that gets its
    standard error.
    """

    process: subprocess.Popen
    url: str
    port: int
    frames: Path
    admin: Path
    state: Path
    log: Path
    seconds: float  # from start to ready
    headers: dict = field(default_factory=dict)

    def call(self, method, path, body=None, headers=None, *, timeout=10.0):
        """Status, header fields and body of one request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path, **options):
        """Parsed JSON of a GET that must succeed."""
        status, _, body = self.call("GET", path, **options)
        assert status == 200, (status, body)
        return json.loads(body)

    def act(self, domain, act, **arguments):
        """Status and parsed answer of an admin act on the admin socket."""
        return unix_call(self.admin, "POST", f"/v1/admin/{domain}/{act}", json.dumps(arguments))

    def metric(self, name, **labels):
        """Value of one series of ``/metrics`` (without the prefix); ``None`` if it is not there."""
        _, _, body = self.call("GET", "/metrics")
        for line in body.decode().splitlines():
            head, _, value = line.rpartition(" ")
            found, _, rest = head.partition("{")
            if found == f"fairlead_{name}" and all(f'{k}="{v}"' in rest for k, v in labels.items()):
                return float(value)
        return None

    def stop(self, *, number=signal.SIGTERM, timeout=20.0):
        """Signal it and wait; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def text(self):
        """What it has logged."""
        return self.log.read_text()


def unix_call(path, method, target, body=None, headers=None, *, timeout=20.0):
    """Status and parsed JSON of one HTTP request over a unix socket."""
    import socket

    connection = HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(timeout)
    connection.sock.connect(str(path))
    try:
        connection.request(method, target, body, headers or {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def start(bundle, folder, overrides=(), *, prelude="", environment=None, wait=30.0, arguments=()):
    """Start ``fairlead serve BUNDLE OVERRIDES`` and wait until it says that it is ready.

    ``bundle`` is a path, several, or ``None`` (the registry's champions). ``folder`` gets state,
    sockets and log. ``prelude`` is Python run in the process before the command: fault injection.

    Raises ``RuntimeError`` with the log if it ends or does not get ready.
    """
    folder = Path(folder)
    bundles = [] if bundle is None else bundle if isinstance(bundle, list | tuple) else [bundle]
    frames, admin, state = folder / "f.sock", folder / "a.sock", folder / "state"
    log = folder / f"daemon-{time.monotonic_ns()}.log"
    knobs = {
        "server.port": 0,
        "server.frames": frames,
        "server.admin": admin,
        "state.folder": state,
    }
    given = {word.partition("=")[0] for word in overrides}
    words = [f"{key}={value}" for key, value in knobs.items() if key not in given]
    command = [sys.executable, "-c", f"{prelude}\n{MAIN}", "serve", *map(str, bundles)]
    began = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, *words, *overrides, *arguments],
            stdout=subprocess.PIPE,
            stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
    line = _first_line(process, began + wait)
    if not line.startswith("ready "):
        process.kill()
        process.wait()
        process.stdout.close()
        raise RuntimeError(f"not ready (said {line!r}):\n{log.read_text()}")
    url = line.split()[1]
    port = int(url.rpartition(":")[2])
    return Daemon(process, url, port, frames, admin, state, log, time.monotonic() - began)


def _first_line(process, end):
    line = b""
    while time.monotonic() < end and not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], 0.2)
        if readable:
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                break
            line += part
    return line.decode().strip()


@contextmanager
def running(bundle, folder, overrides=(), **options):
    """A daemon that is stopped at the end, however the test ends."""
    daemon = start(bundle, folder, overrides, **options)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.wait()
        daemon.process.stdout.close()
