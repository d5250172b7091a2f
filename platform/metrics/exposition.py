"""Metrics as text for a scrape, in Prometheus' or OpenMetrics' format."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_text

from .meter import ContractMeter

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""Content types of the two formats; only the second carries exemplars."""


def wants_openmetrics(accept: str) -> bool:
    """Whether a scraper that sends this ``Accept`` header takes OpenMetrics.

    Prometheus lists it first whenever it can read it, so that weights need no comparison.
    """
    return "application/openmetrics-text" in accept


class Exposition:
    """Renders the metrics of one process; a text is kept for ``hold`` seconds.

    So a hundred scrapes at once cost as much as one, and decisions never wait for them.

    Args:
        meter: whose metrics.
        process: also those of the process and of Python's collector (``FOREIGN``).
        hold: how long a text is good for, s.
        clock: monotonic, in seconds.

    Attributes:
        registry: prometheus_client's, for its own servers.
    """

    def __init__(
        self,
        meter: ContractMeter,
        *,
        process: bool = True,
        hold: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.registry = CollectorRegistry()
        self.registry.register(meter)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        self._hold, self._clock = hold, clock
        self._lock = threading.Lock()
        self._kept: dict[bool, tuple[float, bytes]] = {}

    def __call__(self, openmetrics: bool = False) -> bytes:
        """The text, at most ``hold`` seconds old."""
        with self._lock:
            now = self._clock()
            when, text = self._kept.get(openmetrics, (-float("inf"), b""))
            if now - when > self._hold:
                render = openmetrics_text.generate_latest if openmetrics else generate_latest
                text = render(self.registry)
                self._kept[openmetrics] = (now, text)
            return text
