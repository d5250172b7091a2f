"""A single-process roll-out collector for tests: simulator, controller and model to ``Rollout``."""

from __future__ import annotations

import numpy as np

from fairlead.models.interface import counterfactual_values
from fairlead.policies.interface import Effects, Rollout

OBSERVED = ("agent", "candidates", "mask", "active", "critic")


def collect(simulator, controller, seeds, *, model=None, form="exact", effects=False) -> Rollout:
    """Episodes with these seeds; guidance from ``model`` (zeros without one)."""
    episodes = [_episode(simulator, controller, int(seed), model, form) for seed in seeds]
    columns = {key: np.stack([episode[key] for episode in episodes]) for key in episodes[0]}
    recorded = {key: columns.pop(key) for key in ("deviation", "weight", "index", "value")}
    return Rollout(
        seeds=np.asarray(seeds, np.int64),
        effects=Effects(**recorded) if effects else None,
        **columns,
    )


def _episode(simulator, controller, seed, model, form):
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    observation = simulator.reset(seed)
    rows: dict[str, list] = {}

    def record(**values):
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    while True:
        actions = controller.act(observation, rng)
        record(**{name: getattr(observation, name) for name in OBSERVED}, actions=actions)
        record(**_guide(observation, actions, model, form))
        step = simulator.step(actions)
        record(reward=step.reward, local_reward=step.local_reward)
        observation = step.observation
        if step.terminated or step.truncated:
            break
    record(agent=observation.agent, critic=observation.critic)
    return {name: np.stack(values) for name, values in rows.items()} | {
        "terminated": np.array(step.terminated)
    }


def _guide(observation, actions, model, form):
    if model is None:
        nothing = np.zeros((*observation.mask.shape, 0), np.float32)
        return {
            "guidance": np.zeros(observation.mask.shape, np.float32),
            "deviation": np.zeros(0, np.float32),
            "weight": np.zeros(0, np.float32),
            "index": nothing.astype(np.int32),
            "value": nothing,
        }
    reference = model.reference(observation.exogenous)
    influence = model.influence(observation)
    values = counterfactual_values(observation, reference, influence, actions, form=form)
    present = (influence.index >= 0) & observation.mask[:, :, None]
    return {
        "guidance": values.astype(np.float32),
        "deviation": (observation.state - reference.x_ref).astype(np.float32),
        "weight": reference.weight.astype(np.float32),
        "index": np.where(present, influence.index, -1).astype(np.int32),
        "value": np.where(present, influence.value, 0.0).astype(np.float32),
    }
