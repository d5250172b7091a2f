"""A bundle to serve in benchmarks: random weights in the default shape, and real observations."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from ...policies.interface import PolicyArrays
from ...simulators.interface import Floats, Observation, Spec
from ..bundle import Bundle, Contents, save_bundle
from ..episodes import Stage
from ..executors import Task, Trained
from ..tasks import DomainFactory


def untrained(spec: Spec, *, hidden: tuple[int, ...], seed: int) -> PolicyArrays:
    """A scorer of that shape, shared by all agents; weights that neither saturate nor vanish."""
    rng = np.random.default_rng(seed)
    own, each = len(spec.agent_features), len(spec.candidate_features)

    def normal(*shape: int) -> Floats:
        return (rng.normal(size=shape) / np.sqrt(shape[-2])).astype(np.float32)

    tensors = {
        "agent.weight": normal(1, own, hidden[0]),
        "agent.bias": np.zeros((1, hidden[0]), np.float32),
        "candidate.weight": normal(1, each, hidden[0]),
    }
    for layer, (width, out) in enumerate(pairwise(hidden), start=1):
        tensors[f"hidden.{layer}.weight"] = normal(1, width, out)
        tensors[f"hidden.{layer}.bias"] = np.zeros((1, out), np.float32)
    tensors["score.weight"] = normal(1, hidden[-1], 1)
    for kind, columns in (("agent", own), ("candidate", each)):
        tensors[f"normaliser.{kind}.shift"] = np.zeros((1, columns), np.float32)
        tensors[f"normaliser.{kind}.scale"] = np.ones((1, columns), np.float32)
    return PolicyArrays(tensors, np.zeros(spec.agents, np.int64))


def bench_bundle(folder: Path, *, agents: int, hidden: tuple[int, ...], seed: int) -> Bundle:
    """Write such a bundle for the built-in dispatch scenario."""
    factory = DomainFactory("cloud", "dispatch", {"agents": agents, "horizon": 20})
    stage = Stage(factory)
    arrays = untrained(stage.spec, hidden=hidden, seed=seed)
    result = stage.play(Task(seed, Trained(arrays), record=True))
    if result.episode is None:
        raise RuntimeError("the recorded episode has no arrays")
    contents = Contents(
        name=f"bench {agents}",
        spec=stage.spec,
        arrays=arrays,
        settings=dict(factory.settings),
        provenance={"seed": seed},
    )
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)


def busy_observation(agents: int, seed: int, epochs: int = 12) -> Observation:
    """What the dispatchers see after some epochs under a random legal policy."""
    simulator = DomainFactory("cloud", "dispatch", {"agents": agents, "horizon": 20}).simulator()
    rng = np.random.default_rng(seed)
    seen = simulator.reset(seed)
    for _ in range(epochs):
        draw = np.where(seen.mask, rng.random(seen.mask.shape), -1.0)
        seen = simulator.step(draw.argmax(axis=1)).observation
    return seen
