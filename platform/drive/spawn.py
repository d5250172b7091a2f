"""A daemon of our own: started, stopped, killed and started again by the drive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from ..files import UserError

_READY = "/v2/health/ready"


class OwnDaemon:
    """``fairlead serve`` as a child process on a free loopback port.

    Args:
        bundle: what it serves.
        folder: for its state and log; kept between kills, as a real one's would be.
        overrides: knobs as on the command line, ``key=value``.
        patience: seconds until it must be ready.
    """

    def __init__(
        self, bundle: Path, folder: Path, *, overrides: Sequence[str] = (), patience: float = 60.0
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "daemon.log"
        self.starts = 0
        self._patience = patience
        self._command = [
            sys.executable,
            "-c",
            "from fairlead.platform.cli.main import main; main()",
            "serve",
            str(bundle),
            f"server.port={self.port}",
            f"state.folder={folder / 'state'}",
            *overrides,
        ]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603
        self.starts += 1

    def wait(self) -> float:
        """Wait until it is ready; how long that took, s.

        Raises:
            UserError: it ended, or is not ready in time; shows the end of its log.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < self._patience:
            if ready(self.port):
                return time.monotonic() - begun
            if self._child is None or self._child.poll() is not None:
                break
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-1500:]
        raise UserError(f"the daemon did not become ready; its log {self.log} ends:\n{tail}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def stop(self) -> int | None:
        """SIGTERM, and SIGKILL if that does not end it; its exit status."""
        if self._child is None:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    @property
    def process(self) -> int | None:
        """Its process id; ``None`` before the first start."""
        return None if self._child is None else self._child.pid

    @property
    def memory(self) -> float:
        """Its resident memory now, MiB; NaN if it does not run or the system does not tell."""
        if self._child is None or self._child.poll() is not None:
            return float("nan")
        try:
            pages = Path(f"/proc/{self._child.pid}/statm").read_text().split()[1]
        except OSError:
            return float("nan")
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def ready(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a daemon there says that decisions can be asked for."""
    link = HTTPConnection(host, port, timeout=1.0)
    try:
        link.request("GET", _READY)
        return link.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        link.close()
