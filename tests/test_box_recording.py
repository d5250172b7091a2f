"""Episodes of set-points: what is recorded is what learners are promised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from box_domain import Middle, Proportional, TrackModel, TrackScenario, TrackSimulator

from fairlead.models.interface import set_point_values
from fairlead.platform.episodes import Stage, assemble, layout, named
from fairlead.platform.executors import Guidance, InlineExecutor, Task
from fairlead.platform.files import UserError
from fairlead.platform.recording import recording_of
from fairlead.platform.rollouts import collect
from fairlead.simulators.check import check_simulator
from fairlead.simulators.observations import random_actions

SCENARIO = TrackScenario(outage=0.3)


@dataclass(frozen=True)
class Random:
    name: str = "random"
    information: str = "same"

    def act(self, observation, rng):
        return random_actions(TrackSimulator(SCENARIO).spec, observation, rng)


@dataclass(frozen=True)
class TrackFactory:
    ending: int = 0

    def simulator(self):
        return _Ending(self.ending) if self.ending else TrackSimulator(SCENARIO)

    def model(self, reference):
        return TrackModel(SCENARIO)

    def heuristics(self):
        return (Proportional(), Middle())


class _Ending(TrackSimulator):
    def __init__(self, end):
        super().__init__(SCENARIO)
        self.end = end

    def step(self, actions):
        step = super().step(actions)
        return replace(step, terminated=self.epoch == self.end)


def recorded(effects=True):
    """An episode, and the observations and actions that it was made of."""
    stage = Stage(TrackFactory())
    guidance = Guidance("demand", effects=effects)
    episode = stage.play(Task(4, Random(), record=True, guidance=guidance)).episode
    simulator, again = TrackSimulator(SCENARIO), []
    seen = simulator.reset(4)
    for epoch in range(SCENARIO.horizon):
        low, high = seen.low.astype(float), seen.high.astype(float)
        actions = (low + (high - low) * episode.actions[epoch]).astype(np.float32)
        actions = np.clip(np.where(episode.mask[epoch], actions, seen.low), seen.low, seen.high)
        again.append((seen, actions))
        seen = simulator.step(actions).observation
    return episode, again


def test_the_toy_keeps_its_contract():
    assert check_simulator(lambda: TrackSimulator(SCENARIO)) == []


def test_stacked_rollout_has_the_contract_shapes():
    tasks = [Task(seed, Random(), record=True, guidance=Guidance("demand")) for seed in (5, 6)]
    rollout, _ = collect(InlineExecutor(TrackFactory()), tasks)
    assert rollout.agent.shape == (2, 21, 6, 5)
    assert rollout.candidates.shape == (2, 20, 6, 0, 0)
    assert rollout.mask.shape == rollout.actions.shape == (2, 20, 6, 2)
    assert rollout.guidance.shape == (2, 20, 6, 4)
    assert rollout.actions.dtype == rollout.guidance.dtype == np.float32
    assert rollout.effects is None
    assert rollout.decisions_per_agent == 20


def test_actions_are_shares_of_what_was_free_to_choose():
    episode, again = recorded()
    assert not episode.active.all() and not episode.mask[..., 1].all() and episode.mask.any()
    for epoch, (seen, _) in enumerate(again):
        free = seen.active[:, None] & (seen.high > seen.low)
        np.testing.assert_array_equal(episode.mask[epoch], free)
        np.testing.assert_array_equal(episode.low[epoch], seen.low)
        np.testing.assert_array_equal(episode.high[epoch], seen.high)
    assert (episode.actions[~episode.mask] == 0.5).all()
    free = episode.actions[episode.mask]
    assert free.min() >= 0.0 and free.max() <= 1.0 and free.std() > 0.2


def test_guidance_is_the_parabola_of_every_own_set_point():
    episode, again = recorded()
    model = TrackModel(SCENARIO)
    for epoch, (seen, actions) in enumerate(again):
        reference, influence = model.reference(seen.exogenous), model.influence(seen)
        expected = set_point_values(seen, reference, influence, actions)
        np.testing.assert_allclose(episode.guidance[epoch], expected, rtol=1e-4, atol=1e-4)
        assert (expected[~np.tile(episode.mask[epoch], 2)] == 0.0).all()


def test_effects_lead_from_the_lower_ends_to_the_state_after_the_decision():
    episode, again = recorded()
    effects, model = episode.effects, TrackModel(SCENARIO)
    for epoch in (0, 7, 18):
        x_ref = model.reference(again[epoch][0].exogenous).x_ref
        moved = effects.deviation[epoch].astype(float)
        value = effects.value[epoch] * episode.actions[epoch][:, :, None]
        there = effects.index[epoch] >= 0
        np.add.at(moved, effects.index[epoch][there], value[there])
        np.testing.assert_allclose(moved, again[epoch + 1][0].state - x_ref, atol=1e-4)
    assert (effects.value[effects.index < 0] == 0.0).all()
    assert (effects.index[~episode.mask] == -1).all()


def test_early_end_is_padded_with_its_absorbing_state():
    stage = Stage(TrackFactory(ending=8))
    dirt = {}

    def dirty(wanted):
        dirt.update({name: np.full(s, 7).astype(kind) for name, (s, kind) in wanted.items()})
        return dirt

    task = Task(2, Random(), record=True, guidance=Guidance("demand", effects=True))
    result = stage.play(task, dirty)
    episode = result.episode
    assert result.terminated and result.epochs == 8
    assert not episode.mask[8:].any() and not episode.active[8:].any()
    assert (episode.actions[8:] == 0.5).all()
    for name in ("reward", "local_reward", "guidance", "low", "high"):
        assert not getattr(episode, name)[8:].any(), name
    assert (episode.effects.index[8:] == -1).all() and not episode.effects.value[8:].any()
    clean = stage.play(task).episode
    for name, array in named(clean).items():
        np.testing.assert_array_equal(array, named(episode)[name], err_msg=name)
    assert named(assemble(named(clean))).keys() == layout(stage.spec, support=2).keys()


def test_guidance_off_records_zeros_and_linear_values_are_refused():
    stage = Stage(TrackFactory())
    episode = stage.play(Task(2, Random(), record=True)).episode
    assert not episode.guidance.any()
    with pytest.raises(UserError, match="form = 'exact'"):
        recording_of(stage.spec, "linear")
