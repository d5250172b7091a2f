"""A single-process roll-out collector for tests: simulator + model + controller to ``Rollout``."""

from __future__ import annotations

import numpy as np

from fairlead.models.interface import counterfactual_values
from fairlead.policies.interface import Rollout

FIELDS = ("agent", "candidates", "mask", "active", "actions", "critic", "reward", "local_reward")
FIELDS = (*FIELDS, "guidance")


def collect(simulator, controller, seeds, *, model=None, form="exact", horizon=None) -> Rollout:
    """Episodes with these seeds; guidance from ``model`` (zeros without one)."""
    episodes = [_episode(simulator, controller, int(seed), model, form, horizon) for seed in seeds]
    columns = {key: np.stack([episode[key] for episode in episodes]) for key in episodes[0]}
    return Rollout(seeds=np.asarray(seeds, np.int64), **columns)


def _episode(simulator, controller, seed, model, form, horizon):
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    observation = simulator.reset(seed)
    rows: dict[str, list] = {name: [] for name in (FIELDS)}
    while True:
        actions = controller.act(observation, rng)
        guidance = np.zeros(observation.mask.shape)
        if model is not None:
            reference = model.reference(observation.exogenous)
            influence = model.influence(observation)
            guidance = counterfactual_values(observation, reference, influence, actions, form=form)
        for name in ("agent", "candidates", "mask", "active", "critic"):
            rows[name].append(getattr(observation, name))
        step = simulator.step(actions)
        rows["actions"].append(actions)
        rows["guidance"].append(guidance.astype(np.float32))
        rows["reward"].append(step.reward)
        rows["local_reward"].append(step.local_reward)
        observation = step.observation
        cut = horizon is not None and len(rows["reward"]) >= horizon
        if step.terminated or step.truncated or cut:
            break
    rows["agent"].append(observation.agent)
    rows["critic"].append(observation.critic)
    out = {name: np.stack(values) for name, values in rows.items()}
    out["terminated"] = np.array(step.terminated)
    return out
