"""The traffic part of the rehearsal: streets that follow their daemon and report what came of it.

A tiny training job makes the bundle. Time on the streets passes a hundred times faster than real
time, so what they report is scaled to the time that passes, as in :mod:`.rehearsal_power`. Now and
then a decision comes too late, and signals keep their phases meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ..client.asking import Answer, Client, Unavailable
from ..tasks import DomainFactory
from ..traffic_watch import measured
from ..train_config import load_config

TRAFFIC = "traffic"
PERIOD = 0.1
"""Seconds between two decisions."""

LATE = 40
"""Every so many decisions one comes too late."""

_TOWN = {"rows": 2, "columns": 2, "rate": 700.0, "seconds": 900.0}
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


def trained(folder: Path) -> Path:
    """Train for a moment on a grid of four signals (seconds); the bundle's folder."""
    from .. import training

    town = [f"scenario.{name}={value}" for name, value in _TOWN.items()]
    training.start(load_config(TRAFFIC, "grid", overrides=[*town, *_QUICK]), folder)
    return folder / "bundle"


@contextmanager
def streets(url: str) -> Generator[None]:
    """The streets, following the daemon at ``url`` until the end of the block.

    What they raise is raised there.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="rehearsal-traffic") as pool:
        work = pool.submit(_follow, url, stop)
        try:
            yield
        finally:
            stop.set()
        work.result()


def _follow(url: str, stop: threading.Event) -> None:
    simulator = DomainFactory(TRAFFIC, "grid", _TOWN).simulator()
    agents = simulator.spec.agents
    morning, number = 0, 0
    seen, before = simulator.reset(morning), simulator.metrics()
    with Client(url, TRAFFIC, name="rehearsal-traffic", timeout=2.0) as client:
        while not stop.wait(PERIOD):
            number += 1
            try:
                answer = client.decide(seen, seq=number, episode=f"morning {morning}")
            except Unavailable:
                # It may shed load, and it ends a moment before the streets do.
                continue
            late = number % LATE == 0
            step = simulator.step(np.zeros(agents, np.int64) if late else answer.actions)
            after = simulator.metrics()
            scale = PERIOD / simulator.spec.dt
            told = {name: value * scale for name, value in measured(before, after).items()}
            if late:
                told |= {"requests_expired": 1.0, "local_seconds": PERIOD}
            _report(client, answer, told)
            seen, before = step.observation, after
            if step.truncated:
                morning += 1
                seen, before = simulator.reset(morning), simulator.metrics()


def _report(client: Client, answer: Answer, told: Mapping[str, float]) -> None:
    # Lost with the daemon, as a bridge's report would be.
    with suppress(Unavailable):
        client.report(answer.decision, measured=told)
