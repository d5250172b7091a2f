"""A real Prometheus and a real Alertmanager on loopback, for as long as a check takes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from ..files import UserError

_NAMES = {
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "promtool": ("promtool",),
    "amtool": ("amtool",),
}


def program(name: str) -> str | None:
    """Path of a server or tool, under the name the distribution gives it; ``None`` if missing."""
    return next((path for known in _NAMES[name] if (path := shutil.which(known))), None)


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """A child process with an HTTP API; stopped at the end of the ``with`` block.

    Args:
        command: program and arguments.
        port: where it will listen.
        ready: path that answers 200 once it does.
        log: file for what it says.

    Raises:
        UserError: it ends or is not ready within half a minute; shows the end of its log.
    """

    def __init__(self, command: Sequence[str], *, port: int, ready: str, log: Path):
        self.url = f"http://127.0.0.1:{port}"
        self._ready, self._log = ready, log
        with log.open("wb") as stream:
            self._child = subprocess.Popen([*command], stdout=stream, stderr=stream)  # noqa: S603

    def __enter__(self) -> Self:
        limit = time.monotonic() + 30.0
        while time.monotonic() < limit and self._child.poll() is None:
            try:
                with urlopen(self.url + self._ready, timeout=1.0):  # noqa: S310 (loopback)
                    return self
            except (OSError, URLError):
                time.sleep(0.05)
        self.stop()
        tail = self._log.read_text(errors="replace")[-1000:]
        raise UserError(f"{self._child.args!r} did not get ready:\n{tail}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds."""
        self._child.terminate()
        try:
            self._child.wait(10.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """Parsed JSON of a GET.

        Raises:
            UserError: the server refuses or is gone.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        try:
            with urlopen(f"{self.url}{path}{query}", timeout=30.0) as answer:  # noqa: S310
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.url}{path}: {error}") from error


class Prometheus(Server):
    """Prometheus with our rules, scraping targets every second.

    Args:
        folder: for its data and configuration.
        rules: files to load.
        targets: job name to addresses ``host:port``.
        alertmanager: address of one, or empty.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rules: Sequence[Path],
        targets: Mapping[str, Sequence[str]],
        alertmanager: str = "",
    ):
        port = free_port()
        # JSON is YAML.
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [*addresses]}]}
                for job, addresses in targets.items()
            ],
        }
        if alertmanager:
            config["alerting"] = {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]
            }
        file = folder / "prometheus.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        command = [
            program("prometheus") or "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(command, port=port, ready="/-/ready", log=folder / "prometheus.log")

    def series(self, expression: str, *, begin: float, end: float, step: float) -> list[Any]:
        """Result of a range query: objects with ``metric`` and ``values``."""
        asked = {"query": expression, "start": f"{begin}", "end": f"{end}", "step": f"{step}"}
        return self.get("/api/v1/query_range", asked)["data"]["result"]

    def now(self, expression: str) -> list[Any]:
        """Result of an instant query: objects with ``metric`` and ``value``."""
        return self.get("/api/v1/query", {"query": expression})["data"]["result"]

    def rule_errors(self) -> list[str]:
        """Rules that could not be evaluated, with the reason."""
        groups = self.get("/api/v1/rules")["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] == "err"
        ]


class Alertmanager(Server):
    """Alertmanager with our example configuration.

    Args:
        folder: for its data.
        config: its configuration file.
    """

    def __init__(self, folder: Path, *, config: Path):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = [
            program("alertmanager") or "alertmanager",
            f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        super().__init__(command, port=port, ready="/-/ready", log=folder / "alertmanager.log")

    def alerts(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of the alerts it holds now, by name."""
        found = self.get("/api/v2/alerts")
        return {alert["labels"]["alertname"]: alert["labels"] for alert in found}
