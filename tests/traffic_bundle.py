"""A bundle of the traffic domain whose policy is a rule: the phase that lets most vehicles go."""

from __future__ import annotations

import numpy as np

from fairlead.platform.bundle import Contents, save_bundle
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Task, Trained
from fairlead.platform.tasks import DomainFactory
from fairlead.policies.interface import PolicyArrays

SMALL = {"rows": 2, "columns": 2, "rate": 500.0, "seconds": 900.0}


def discharge_policy(spec, *, weight=0.2):
    """Weights whose score rises with ``served``, and with nothing else."""
    own, each, width = len(spec.agent_features), len(spec.candidate_features), 4
    tensors = {
        "agent.weight": np.zeros((1, own, width)),
        "agent.bias": np.zeros((1, width)),
        "candidate.weight": np.zeros((1, each, width)),
        "score.weight": np.zeros((1, width, 1)),
        "normaliser.agent.shift": np.zeros((1, own)),
        "normaliser.agent.scale": np.ones((1, own)),
        "normaliser.candidate.shift": np.zeros((1, each)),
        "normaliser.candidate.scale": np.ones((1, each)),
    }
    tensors["candidate.weight"][0, spec.candidate_column("served"), 0] = weight
    tensors["score.weight"][0, 0, 0] = 8.0
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    return PolicyArrays(tensors, np.zeros(spec.agents, np.int64))


def make_traffic_bundle(folder, *, scenario="grid", settings=None, stochastic=False):
    """Such a bundle in ``folder``."""
    values = SMALL if settings is None else settings
    stage = Stage(DomainFactory("traffic", scenario, values))
    arrays = discharge_policy(stage.spec)
    result = stage.play(Task(5, Trained(arrays, stochastic=stochastic), record=True))
    contents = Contents(
        name="test discharge",
        spec=stage.spec,
        arrays=arrays,
        settings={**values, "name": scenario},
        provenance={"seed": 1},
        stochastic=stochastic,
    )
    return save_bundle(folder, contents, episode=result.episode, epochs=result.epochs)
