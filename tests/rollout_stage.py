"""What the roll-out's tests share: a registry, a meter and events that remember, a played slot."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from serving import HandClock, observations, request

from fairlead.platform.daemon.interface import Entry
from fairlead.platform.daemon.settings import RolloutSettings, SignatureSettings
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Projected, State
from fairlead.platform.metrics.meter import ContractMeter
from fairlead.platform.rollout.loader import Loader
from fairlead.platform.rollout.manager import SlotRollout


class Hold:
    name, information = "hold", "same"

    def act(self, observation, rng):
        return np.zeros(len(observation.mask), np.int64)


class ToyLive:
    """Cost of an action: the number of the candidate; everything legal is allowed."""

    def __init__(self, spec, settings, slot):
        self.baseline = Hold()

    def project(self, observation, wanted, last, agents):
        legal = observation.mask[np.arange(len(wanted)), wanted]
        actions = np.where(legal, wanted, 0)
        return Projected(
            actions, np.where(legal, 0, 14).astype(np.int8), (~legal).astype(np.float32)
        )

    def recoverable(self, observation, actions, baseline):
        return True, 1.0

    def surely_recoverable(self, observation, actions):
        return 1.0

    def hold(self, observation, last, agents):
        return np.zeros(len(observation.mask), np.int64)

    def safe(self, observation):
        return np.zeros(len(observation.mask), np.int64)

    def deviation(self, observation, actions):
        return np.zeros(len(actions), np.float32)

    def objective(self, observation, actions):
        return 1.0 + float(actions.sum()), 1.0

    def coupling(self, spec):
        return np.arange(spec.agents) % 5


class Slot:
    """A slot that is played by hand: registry, roll-out, state, one decision after another."""

    def __init__(self, store, *, rollout=None, slot=None, signature=None, live=ToyLive, **options):
        self.events, self.meter, self.clock = [], ContractMeter(domains=("cloud",)), HandClock()
        self.settings = slot or SlotSettings(deadline=5.0)
        tell = lambda kind, detail: self.events.append((kind, dict(detail)))  # noqa: E731
        loader = Loader(
            store=store,
            domain="cloud",
            slot=self.settings,
            signature=signature or SignatureSettings(),
            meter=self.meter,
            tell=tell,
            live=live,
        )
        base = RolloutSettings(min_samples=10, min_healthy=5.0, window=4, shadow_timeout=0.2)
        self.rollout = SlotRollout(
            loader=loader,
            settings=rollout or base,
            tell=tell,
            clock=self.clock,
            **{"keep": 2, "watch": 1000.0, **options},
        )
        self.state, self.count = State(), 0

    def decide(self, times=1):
        """Decide that often, one second apart; the entries."""
        return [self._once() for _ in range(times)]

    def _once(self):
        seen = observations()[5 + self.count % 3]
        asked = replace(request(5), observation=seen, seq=self.count, received=self.clock.mono)
        runtime, role = self.rollout.choose(asked, self.state.ticks)
        before = self.state
        self.state, decision = decide(runtime, self.settings, before, asked, self.clock())
        entry = Entry(
            id=f"cloud-0-{self.count}",
            domain="cloud",
            clock=self.clock(),
            request=asked,
            decision=decision,
            before=before,
            role=role,
        )
        self.rollout.after(entry)
        self.count += 1
        self.clock.advance(1.0)
        return entry

    def value(self, metric, **labels):
        return self.meter.value(metric, domain="cloud", **labels)

    def kinds(self):
        return [kind for kind, _ in self.events]


def until(condition, seconds=10.0):
    """Wait for it; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
