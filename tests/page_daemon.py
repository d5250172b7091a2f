"""A daemon for the page's tests: real decisions of the core, but no sockets, audit or roll-out."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import serving
import uvicorn
from starlette.applications import Starlette

from fairlead.platform.cloud_live import cloud_live
from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.settings import ServeConfig
from fairlead.platform.decision.asking import Inline
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.seeds import generator
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Clock, Inference, Request, Runtime, State
from fairlead.platform.page import routes
from fairlead.simulators.interface import HOLD

CHAMPION = "c0ffee" * 10 + "abcd"
BEFORE = "decade" * 10 + "abcd"


def backend(observation, agents, seed, greedy):
    """A policy: a fixed score of every candidate, and sometimes one that is not legal."""
    rng = generator(seed)
    score = rng.normal(size=observation.mask.shape).astype(np.float32)
    score[:, 0] -= 2.0
    odd = rng.random(len(score)) < 0.03
    legal = np.where(observation.mask, score, -np.inf)
    actions = np.where(odd, score.argmax(axis=1), legal.argmax(axis=1))
    return Inference(np.where(observation.active, actions, HOLD), score)


class Slot:
    """Implements ``Slot`` of one cloud scenario with ``agents`` dispatchers."""

    def __init__(self, *, agents=10, domain="cloud", loaded=True):
        self.domain = domain
        self.agents = agents
        spec, _, _ = serving.recorded(agents)
        # The random policy is a poor one; the switch would rightly take over all the time.
        self.settings = SlotSettings.model_validate(
            {"simplex": {"limit": 1000.0}, "validation": {"imputed_share": 0.5}}
        )
        live = cloud_live(spec, dict(serving.factory(agents).settings), self.settings)
        policy = Inline(CHAMPION, backend) if loaded else None
        seen = np.concatenate([one.agent for one in serving.observations(agents)])
        low, high = seen.min(axis=0), seen.max(axis=0)
        edges = np.quantile(seen, np.linspace(0, 1, 13)[1:-1], axis=0).T
        observed = {"agent": {"low": low.tolist(), "high": high.tolist(), "edges": edges.tolist()}}
        self.runtime = Runtime(spec, policy, None, live, observed)
        self.state = State()
        self.entries = []
        self.seq = 0
        self.rollout = {
            "champion": {
                "digest": CHAMPION,
                "name": "gate demo",
                "since": time.time() - 5400,
                "trained": time.time() - 86400 * 3,
                "iteration": 120,
                "latency_ms": 0.21,
            },
            "previous": {"digest": BEFORE, "name": "gate demo, older", "iteration": 80},
            "canary": None,
            "shadow": {
                "digest": "facade" * 10 + "0123",
                "name": "wider net",
                "samples": 812,
                "disagreement": 0.083,
                "cost_delta": -0.0131,
                "timeouts": 0,
            },
        }

    def history(self, count=100):
        return self.entries[: min(count, 512)]

    def view(self):
        return {"rollout": self.rollout, "audit": {"healthy": True}}

    def decide(self, request, *, principal="local", probe=False, clock=None):
        clock = clock or Clock(time.monotonic(), time.time())
        before = self.state
        self.state, decision = decide(self.runtime, self.settings, before, request, clock)
        name = f"{self.domain}-0badcafe-{len(self.entries)}"
        entry = Entry(name, self.domain, clock, request, decision, before, principal=principal)
        self.entries.insert(0, entry)
        return entry

    def tick(self, count=1, *, ago=0.0, every=0.1, client="drive", **changes):
        """Decide ``count`` more of the scenario's observations, the last ``ago`` seconds ago."""
        seen = serving.observations(self.agents)
        for left in range(count - 1, -1, -1):
            clock = Clock(time.monotonic() - ago - left * every, time.time() - ago - left * every)
            request = Request(
                observation=seen[self.seq % len(seen)],
                client=client,
                episode="e",
                seq=self.seq,
                received=clock.mono,
            )
            self.decide(replace(request, **changes), principal=client, clock=clock)
            self.seq += 1

    def operate(self, act, arguments, *, principal):
        raise AssertionError("the page never acts")


class Wide:
    """A slot shown ``times`` times as wide: the same decisions of ``times`` equal populations."""

    def __init__(self, slot, times):
        self.slot, self.times, self.domain, self.made = slot, times, slot.domain, {}
        spec = slot.runtime.spec
        spec = replace(spec, agents=spec.agents * times, group_of=np.tile(spec.group_of, times))
        live = SimpleNamespace(
            objective=lambda seen, done: (2.0, 1.0),
            deviation=lambda seen, done: np.zeros(len(done), np.float32),
        )
        self.runtime = replace(slot.runtime, spec=spec, live=live)

    @property
    def state(self):
        return self.slot.state

    def view(self):
        return self.slot.view()

    def history(self, count=100):
        return [self._wide(entry) for entry in self.slot.history(count)]

    def _wide(self, entry):
        if entry.id not in self.made:
            self.made[entry.id] = self._made(entry)
        return self.made[entry.id]

    def _made(self, entry):
        def tiled(value, names):
            arrays = {name: getattr(value, name) for name in names}
            return {
                name: None if a is None else np.tile(a, (self.times,) + (1,) * (a.ndim - 1))
                for name, a in arrays.items()
            }

        seen = entry.request.observation
        seen = replace(
            seen, **tiled(seen, ["agent", "candidates", "target", "mask", "low", "high", "active"])
        )
        names = ["actions", "source", "cause", "distance", "deviation", "wanted", "preference"]
        return replace(
            entry,
            request=replace(entry.request, observation=seen),
            decision=replace(entry.decision, **tiled(entry.decision, names)),
        )


class Daemon:
    """Implements ``Daemon`` around slots."""

    def __init__(self, *slots, **page):
        self.slots = {slot.domain: slot for slot in slots}
        self.meter = None
        self.settings = ServeConfig.model_validate({"page": page})
        self.started = time.time() - 7300
        self.draining = False
        self.reasons = {}

    def ready(self, domain=None):
        reason = self.reasons.get(domain, "")
        return not reason, reason

    def exposition(self, openmetrics):
        return b""


def application(daemon):
    """The page alone, as an ASGI application."""
    return Starlette(routes=routes(daemon))


class Browser:
    """GETs on the page without a socket."""

    def __init__(self, daemon):
        self.app = application(daemon)

    def get(self, path, **options):
        async def ask():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                return await client.get(path, **options)

        return asyncio.run(ask())


@contextmanager
def served(app, port=0):
    """The application on a free port of loopback; yields an object with ``url`` and ``stop()``."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the test server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def stop():
        server.force_exit = True
        server.should_exit = True
        thread.join(5)

    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", port=port, stop=stop)
    finally:
        stop()
