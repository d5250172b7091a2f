"""What tests of the live controller share: a small bundle, observations, requests, a clock."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from fairlead.platform.bundle import Contents, save_bundle
from fairlead.platform.decision.types import Clock, Request
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Task, Trained
from fairlead.platform.tasks import DomainFactory
from fairlead.policies.interface import PolicyArrays

ACTION_STREAM = 77


def factory(agents=10, scenario="dispatch", **settings):
    """The built-in cloud scenario with few dispatchers."""
    return DomainFactory("cloud", scenario, {"agents": agents, "horizon": 40, **settings})


@cache
def recorded(agents=10):
    """Spec, random policy arrays and one recorded episode of them."""
    stage = Stage(factory(agents))
    arrays = random_policy(stage.spec, seed=1)
    result = stage.play(Task(5, Trained(arrays), record=True))
    return stage.spec, arrays, result


def random_policy(spec, *, seed, width=16, scale=0.5):
    """Weights of an untrained scorer; different seeds decide differently."""
    rng = np.random.default_rng(seed)
    own, each = len(spec.agent_features), len(spec.candidate_features)
    tensors = {
        "agent.weight": rng.normal(scale=scale, size=(1, own, width)),
        "agent.bias": np.zeros((1, width)),
        "candidate.weight": rng.normal(scale=scale, size=(1, each, width)),
        "score.weight": rng.normal(scale=scale, size=(1, width, 1)),
        "normaliser.agent.shift": np.zeros((1, own)),
        "normaliser.agent.scale": np.ones((1, own)),
        "normaliser.candidate.shift": np.zeros((1, each)),
        "normaliser.candidate.scale": np.ones((1, each)),
    }
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    return PolicyArrays(tensors, np.zeros(spec.agents, np.int64))


def make_bundle(folder, *, agents=10, seed=1, name="test policy"):
    """A valid bundle in ``folder``; another ``seed`` gives another policy and digest."""
    spec, _, result = recorded(agents)
    contents = Contents(
        name=name,
        spec=spec,
        arrays=random_policy(spec, seed=seed),
        settings=dict(factory(agents).settings),
        provenance={"iteration": 3, "seed": seed},
    )
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)


@cache
def observations(agents=10, count=12, seed=3):
    """Real observations of the scenario, some agents active, under a random legal policy."""
    simulator = factory(agents).simulator()
    rng = np.random.default_rng(seed)
    seen = [simulator.reset(seed)]
    for _ in range(count - 1):
        draw = np.where(seen[-1].mask, rng.random(seen[-1].mask.shape), -1.0)
        seen.append(simulator.step(draw.argmax(axis=1)).observation)
    return tuple(seen)


def request(index=5, *, agents=10, seq=None, **changes):
    """A request about one of the :func:`observations`."""
    seen = observations(agents)[index % 12]
    changed = {key: changes.pop(key) for key in list(changes) if hasattr(seen, key)}
    base = Request(
        observation=replace(seen, **changed),
        client="test",
        episode="e",
        seq=index if seq is None else seq,
    )
    return replace(base, **changes)


class HandClock:
    """A pair of clocks that tests move by hand."""

    def __init__(self, mono=1000.0, wall=1_700_000_000.0):
        self.mono, self.wall = mono, wall

    def __call__(self):
        return Clock(self.mono, self.wall)

    def advance(self, seconds):
        self.mono += seconds
        self.wall += seconds
