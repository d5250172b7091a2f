"""The power part of the rehearsal: a system that follows its daemon and reports what came of it.

A tiny training job makes the bundle. The system it controls is the same one under worse conditions
(tight branches, many outages, lost set-points, frequency simulated), so that there is something to
report. Its days pass thousands of times faster than real ones, so what it reports is scaled to
the time that passes: powers and shares of time are then the simulated ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from ..bundle import load_bundle
from ..client.asking import Answer, Client, Unavailable
from ..power_watch import measured
from ..rollout.store import CHAMPION, Store
from ..tasks import DomainFactory
from ..train_config import load_config

POWER = "power"
PERIOD = 0.1
"""Seconds between two intervals."""

VALID = 1.0
"""Seconds for which set-points hold."""

SLOW = 40
"""Every so many intervals the line to the units is too slow for that."""

_SYSTEM = ("scenario.units=12", "scenario.hours=6")
_QUICK = (
    "iterations=1",
    "episodes=2",
    "learner.passes=1",
    "learner.critic.passes=1",
    "learner.network.hidden=[16]",
    "learner.critic.hidden=[8]",
    "evaluation.every=1",
    "evaluation.episodes=2",
    "evaluation.baselines=none",
    "execution.executor=inline",
)
_WORSE = {
    "units": 12,
    "hours": 24,
    "limit_scale": 0.7,
    "outages": {"scale": 10.0},
    "regulation": {"simulated": True},
    "telemetry": {"loss": 0.05},
}


def trained(folder: Path) -> Path:
    """Train for a moment on the generated system with 12 units (seconds); the bundle's folder."""
    from .. import training

    training.start(load_config(POWER, "generated", overrides=[*_SYSTEM, *_QUICK]), folder)
    return folder / "bundle"


def enrol(bundle: Path, registry: Path) -> None:
    """Make a bundle the champion of its domain in a registry that no daemon uses yet."""
    store = Store(registry)
    store.point(load_bundle(bundle).spec.domain, CHAMPION, store.add(bundle).digest)


@contextmanager
def plant(url: str) -> Generator[None]:
    """The system, following the daemon at ``url`` until the end of the block.

    What it raises is raised there.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="rehearsal-power") as pool:
        work = pool.submit(_follow, url, stop)
        try:
            yield
        finally:
            stop.set()
        work.result()


def _follow(url: str, stop: threading.Event) -> None:
    simulator = DomainFactory(POWER, "generated", _WORSE).simulator()
    day, number = 0, 0
    seen, before = simulator.reset(day), simulator.metrics()
    with Client(url, POWER, name="rehearsal-power", timeout=2.0) as client:
        while not stop.wait(PERIOD):
            number += 1
            try:
                answer = client.decide(seen, seq=number, episode=f"day {day}")
            except Unavailable:
                # It may shed load, and it ends a moment before the system does.
                continue
            if number % SLOW == 0:
                stop.wait(1.5 * VALID)
            if time.time() > answer.valid_until:
                _report(client, answer, {"set_points_expired": float(len(answer.actions))})
                continue
            step = simulator.step(answer.actions)
            after = simulator.metrics()
            told = measured(before, after)
            scale = PERIOD / simulator.spec.dt
            _report(client, answer, {name: value * scale for name, value in told.items()})
            seen, before = step.observation, after
            if step.truncated:
                day += 1
                seen, before = simulator.reset(day), simulator.metrics()


def _report(client: Client, answer: Answer, told: Mapping[str, float]) -> None:
    # Lost with the daemon, as a bridge's report would be.
    with suppress(Unavailable):
        client.report(answer.decision, measured=told)
