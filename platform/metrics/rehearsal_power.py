"""The power part of the rehearsal: a system that follows its daemon and reports what came of it.

A tiny training job makes the bundle. The system it controls is the same one under worse conditions
(tight branches, many outages, lost set-points, frequency simulated), so that there is something to
report.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..bundle import load_bundle
from ..client.asking import Client, Unavailable
from ..power_watch import measured
from ..rollout.store import CHAMPION, Store
from ..tasks import DomainFactory
from ..train_config import load_config

POWER = "power"
PERIOD = 0.1
"""Seconds between two intervals."""

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
    """The system, following the daemon at ``url`` until the end of the block."""
    stop = threading.Event()
    work = threading.Thread(target=_follow, args=(url, stop), name="rehearsal-power", daemon=True)
    work.start()
    try:
        yield
    finally:
        stop.set()
        work.join(10.0)


def _follow(url: str, stop: threading.Event) -> None:
    simulator = DomainFactory(POWER, "generated", _WORSE).simulator()
    with Client(url, POWER, name="rehearsal-power", timeout=2.0) as client:
        day, number = 0, 0
        seen, before = simulator.reset(day), simulator.metrics()
        while not stop.wait(PERIOD):
            number += 1
            try:
                answer = client.decide(seen, seq=number, episode=f"day {day}")
                step = simulator.step(answer.actions)
                after = simulator.metrics()
                client.report(answer.decision, measured=measured(before, after))
            except Unavailable:
                # The daemon ends a moment before the system does; it may also shed load.
                continue
            seen, before = step.observation, after
            if step.truncated:
                day += 1
                seen, before = simulator.reset(day), simulator.metrics()
