"""Roll-outs: streams of seeds, stacked arrays, recorded effects, early ends."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from ring import LowestLoad, RandomRule, RingFactory
from toys import RingModel, RingSimulator

from fairlead.models.interface import counterfactual_values
from fairlead.platform.episodes import Stage
from fairlead.platform.executors import Guidance, InlineExecutor, Task
from fairlead.platform.rollouts import (
    TRAINING_SEEDS,
    collect,
    evaluation_seeds,
    stack,
    training_seed,
    training_tasks,
)
from fairlead.platform.tasks import Trained


def test_training_seeds_are_distinct_and_never_evaluation_seeds():
    seeds = [training_seed(run, i, e) for run in (0, 1) for i in range(20) for e in range(20)]
    assert len(set(seeds)) == 800
    assert all(2**62 <= seed < 2**63 for seed in seeds)
    assert max(evaluation_seeds(40, 2**62 - 40)) < TRAINING_SEEDS
    with pytest.raises(ValueError, match="evaluation seeds"):
        evaluation_seeds(40, 2**62 - 39)


def test_training_tasks_depend_on_the_place_in_the_run_only():
    policy = Trained(arrays=None)
    five = training_tasks(policy, run_seed=3, iteration=7, episodes=5, guidance=None)
    two = training_tasks(policy, run_seed=3, iteration=7, episodes=2, guidance=None)
    assert [t.seed for t in five][:2] == [t.seed for t in two]
    assert all(task.record for task in five)


def test_stacked_rollout_has_the_contract_shapes():
    tasks = [Task(seed, RandomRule(), record=True, guidance=Guidance("drain")) for seed in (5, 6)]
    rollout, results = collect(InlineExecutor(RingFactory()), tasks)
    assert rollout.agent.shape == (2, 21, 6, 2)
    assert rollout.candidates.shape == (2, 20, 6, 4, 3)
    assert rollout.mask.shape == rollout.guidance.shape == (2, 20, 6, 4)
    assert rollout.critic.shape == (2, 21, 2)
    assert rollout.seeds.tolist() == [5, 6]
    assert rollout.terminated.tolist() == [False, False]
    assert rollout.effects is None
    np.testing.assert_allclose(rollout.reward.sum(axis=1), [r.total for r in results])
    with pytest.raises(ValueError, match="1 of 2 results"):
        stack([results[0], replace(results[1], episode=None)])


def test_recorded_effects_give_back_the_guidance_values():
    stage = Stage(RingFactory())
    episode = stage.play(
        Task(4, RandomRule(), record=True, guidance=Guidance("drain", effects=True))
    ).episode
    effects = episode.effects
    for epoch in (0, 7, 19):
        own = effects.value[epoch][np.arange(6), episode.actions[epoch]]
        place = effects.index[epoch][np.arange(6), episode.actions[epoch]]
        joint = effects.deviation[epoch].astype(float)
        np.add.at(joint, place[place >= 0], own[place >= 0])
        for agent in np.flatnonzero(episode.active[epoch]):
            mine = joint.copy()
            if place[agent, 0] >= 0:
                mine[place[agent, 0]] -= own[agent, 0]
            for k in range(1, 4):
                moved = mine.copy()
                moved[effects.index[epoch, agent, k, 0]] += effects.value[epoch, agent, k, 0]
                weight = effects.weight[epoch]
                gain = 0.5 * (weight @ mine**2 - weight @ moved**2)
                assert episode.guidance[epoch, agent, k] == pytest.approx(gain, abs=1e-5)


def test_linear_form_is_the_inner_product():
    simulator, rule = RingSimulator(), RandomRule()
    observation = simulator.reset(1)
    model = RingModel(simulator)
    actions = rule.act(observation, np.random.default_rng(0))
    stage = Stage(RingFactory())
    task = Task(1, LowestLoad(), record=True, guidance=Guidance("drain", form="linear"))
    episode = stage.play(task).episode
    actions = episode.actions[0]
    expected = counterfactual_values(
        observation, model.reference(None), model.influence(observation), actions, form="linear"
    )
    np.testing.assert_allclose(episode.guidance[0], expected, rtol=1e-6)


class _Ending(RingSimulator):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, terminated=self.epoch == 8)


@dataclass(frozen=True)
class _EndingFactory(RingFactory):
    def simulator(self):
        return _Ending(agents=self.agents, horizon=self.horizon)


def test_early_end_is_padded_with_its_absorbing_state():
    task = Task(2, RandomRule(), record=True, guidance=Guidance("drain", effects=True))
    stage = Stage(_EndingFactory())
    # Old content must not shine through, as in shared memory that is used again.
    dirt: dict[str, np.ndarray] = {}

    def dirty(wanted):
        dirt.update(
            {name: np.full(shape, 7).astype(kind) for name, (shape, kind) in wanted.items()}
        )
        return dirt

    result = stage.play(task, dirty)
    episode = result.episode
    assert result.terminated
    assert result.epochs == 8
    np.testing.assert_array_equal(episode.agent[8:], np.broadcast_to(episode.agent[8], (13, 6, 2)))
    np.testing.assert_array_equal(episode.critic[9:], np.broadcast_to(episode.critic[8], (12, 2)))
    assert not episode.active[8:].any()
    assert episode.mask[8:, :, 0].all()
    assert not episode.mask[8:, :, 1:].any()
    for name in ("reward", "local_reward", "guidance", "actions", "candidates"):
        assert not getattr(episode, name)[8:].any(), name
    assert not episode.effects.value[8:].any()
    clean = stage.play(task).episode
    np.testing.assert_array_equal(episode.guidance, clean.guidance)
    np.testing.assert_array_equal(episode.effects.index, clean.effects.index)
