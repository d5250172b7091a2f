"""A scripted day in the life of a daemon, in two minutes, so that every panel has data.

Quiet decisions, bad sensors, late and malformed requests, a refused bundle, a shadow, a canary, a
promotion, a roll-back; at last an outage of all sensors, which is a page. All of that happens to a
cloud domain; a power system and a few streets follow the same daemon all the while.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import start_http_server

from ...simulators.interface import Observation
from ..benchmarks.serve_bundle import bench_bundle, busy_observation
from ..client.asking import Client, Unavailable
from ..drive.spawn import OwnDaemon
from ..files import UserError
from ..train_config import load_config
from . import rehearsal_traffic
from .exposition import Exposition
from .rehearsal_power import POWER, VALID, enrol, plant, trained
from .rehearsal_traffic import TRAFFIC, streets
from .training import TrainingMetrics

AGENTS = 12
DOMAIN = "cloud"
PERIOD = 0.05
"""Seconds between two decisions."""

_LEARNERS: Mapping[str, Sequence[str]] = {
    # Together their statistics fill every training panel.
    "trusted": (
        "learner.algorithm=hatrpo",
        "learner.projection.method=hpml",
        "learner.local_mix=0.5",
    ),
    "clipped": ("learner.algorithm=happo",),
}
_QUICK = (
    "scenario.agents=4",
    "scenario.horizon=16",
    "learner.passes=1",
    "learner.critic.passes=1",
    "learner.network.hidden=[8]",
    "learner.critic.hidden=[8]",
    "iterations=8",
    "episodes=2",
    "evaluation.every=4",
    "evaluation.episodes=2",
    "evaluation.baselines=none",
    "execution.executor=inline",
)


class Rehearsal:
    """A daemon of our own with two bundles, one of power, one of traffic; clients play the script.

    Args:
        folder: for bundles, state and sockets.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.bundles = [
            bench_bundle(folder / f"bundle-{seed}", agents=AGENTS, hidden=(16,), seed=seed).folder
            for seed in (1, 2)
        ]
        # The daemon serves what its registry has a champion for, beside the bundle it is given.
        registry = folder / "state" / "registry"
        enrol(trained(folder / "power"), registry)
        enrol(rehearsal_traffic.trained(folder / "traffic"), registry)
        self._admin = folder / "admin.sock"
        self.daemon = OwnDaemon(
            self.bundles[0],
            folder,
            overrides=[
                f"server.admin={self._admin}",
                "server.selftest_interval=0.5",
                "rollout.min_samples=5",
                "rollout.min_healthy=0",
                # The bundles are untrained and this machine may be busy: neither is the subject.
                "slot.simplex.limit=1e6",
                "slot.deadline=0.5",
                "slot.drift.window=64",
                f"tick.{DOMAIN}=1.0",
                f"tick.{POWER}=1.0",
                f"tick.{TRAFFIC}=1.0",
                f"slots.{POWER}.expiry={VALID}",
            ],
        )
        self._seen = busy_observation(AGENTS, 3)
        self._seq = 0

    @contextmanager
    def running(self) -> Generator[str]:
        """The daemon, ready; yields its address ``host:port``."""
        self.daemon.start()
        try:
            self.daemon.wait()
            with plant(self.daemon.url), streets(self.daemon.url):
                yield f"127.0.0.1:{self.daemon.port}"
        finally:
            self.daemon.stop()

    def play(self, told: Callable[[str], None]) -> None:
        """Everything but the outage; ``told`` gets the name of each scene.

        Raises:
            UserError: an act that should succeed is refused.
        """
        told("quiet decisions")
        self.decide(8.0)
        told("one bad sensor, then old observations")
        self.decide(3.0, self._blinded(1))
        self.decide(2.0, age=30.0)
        told("malformed and unauthorised requests")
        self._malformed()
        told("a refused bundle")
        self._refused()
        told("a shadow")
        second = self._act("load", path=str(self.bundles[1]))["digest"]
        self._act("shadow", bundle=second)
        self.decide(5.0)
        told("a canary, a promotion, a roll-back")
        self._act("canary", bundle=second)
        self.decide(4.0)
        self._act("promote", bundle=second, force=True)
        self.decide(2.0)
        self._act("rollback")
        self.decide(2.0)

    def outage(self, *, until: Callable[[], bool], limit: float = 150.0) -> bool:
        """All sensors fail until ``until()`` says so; whether it did within ``limit`` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            self.decide(1.0, self._blinded(AGENTS))
            if until():
                return True
        return False

    def decide(
        self, seconds: float, observation: Observation | None = None, *, age: float = 0.0
    ) -> None:
        """Ask for decisions in their rhythm."""
        end = time.monotonic() + seconds
        with Client(self.daemon.url, DOMAIN, name="rehearsal", timeout=2.0) as client:
            while time.monotonic() < end:
                self._seq += 1
                client.decide(
                    self._seen if observation is None else observation,
                    seq=self._seq,
                    observed=time.time() - age,
                )
                time.sleep(PERIOD)

    def _blinded(self, agents: int) -> Observation:
        agent = self._seen.agent.copy()
        agent[:agents] = np.nan
        return replace(self._seen, agent=agent)

    def _malformed(self) -> None:
        """A wrong shape, a wrong token, rubbish: each is refused and counted."""
        with Client(self.daemon.url, DOMAIN, name="malformed", timeout=2.0) as client:
            wrong = replace(self._seen, agent=self._seen.agent[:, :-1])
            for number in range(20):
                try:
                    client.decide(wrong, seq=number)
                except Unavailable:
                    continue
        for body in (b"rubbish", b"{}"):
            self._post(f"/v2/models/{DOMAIN}/infer", body)

    def _refused(self) -> None:
        broken = self.folder / "broken"
        broken.mkdir(exist_ok=True)
        for file in self.bundles[1].iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        weights = broken / "weights.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
        status, _ = self._admin_call("load", {"path": str(broken)})
        if status < 400:
            raise UserError("the daemon loaded a damaged bundle")

    def _act(self, act: str, **arguments: Any) -> Mapping[str, Any]:
        status, answer = self._admin_call(act, arguments)
        if status != 200:
            raise UserError(f"admin act {act}: {status} {answer}")
        return answer

    def _admin_call(self, act: str, arguments: Mapping[str, Any]) -> tuple[int, Any]:
        link = HTTPConnection("localhost", timeout=30.0)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(str(self._admin))
        try:
            head = {"Content-Type": "application/json"}
            link.request("POST", f"/v1/admin/{DOMAIN}/{act}", json.dumps(arguments), head)
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            link.close()

    def _post(self, path: str, body: bytes) -> int:
        link = HTTPConnection("127.0.0.1", self.daemon.port, timeout=5.0)
        try:
            link.request("POST", path, body, {"Content-Type": "application/json"})
            return link.getresponse().status
        finally:
            link.close()


@contextmanager
def training(folder: Path) -> Generator[tuple[Sequence[str], threading.Thread]]:
    """Two short real training jobs in a thread; yields where their metrics are, and the thread.

    The figures stay exported until the end of the block.
    """
    from .. import training as jobs

    addresses: list[str] = []
    work: list[tuple[Any, Path, TrainingMetrics]] = []
    with ExitStack() as stack:
        for name, overrides in _LEARNERS.items():
            config = load_config(DOMAIN, "dispatch", overrides=[*_QUICK, *overrides])
            metrics = TrainingMetrics(run=name, domain=DOMAIN, iterations=config.iterations)
            registry = Exposition(metrics.meter).registry
            server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            addresses.append(f"127.0.0.1:{server.server_port}")
            work.append((config, folder / f"train-{name}", metrics))

        def train() -> None:
            for config, out, metrics in work:
                jobs.start(config, out, record=metrics.record)

        thread = threading.Thread(target=train, name="rehearsal-training", daemon=True)
        yield addresses, thread
        if thread.is_alive():
            thread.join()
