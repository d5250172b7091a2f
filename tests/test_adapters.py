"""PettingZoo and Gymnasium adapters pass those libraries' own conformance tests."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from toys import RingSimulator

from fairlead.simulators.interface import Box, Feature, Observation, Spec, Step

gymnasium = pytest.importorskip("gymnasium")
pettingzoo_test = pytest.importorskip("pettingzoo.test")
adapters = pytest.importorskip("fairlead.simulators.adapters")


class Tanks:
    """Set-points instead of choices: keep every tank near half full; the box moves with it."""

    def __init__(self):
        self.spec = Spec(
            domain="toy",
            scenario="tanks",
            agents=3,
            groups=("tank",),
            group_of=np.zeros(3, np.int64),
            agent_features=(Feature("level", "m", 0, 1),),
            candidate_features=(),
            critic_features=(Feature("mean level", "m", 0, 1),),
            state_size=3,
            action=Box(1),
            horizon=8,
            dt=1.0,
        )

    def reset(self, seed: int) -> Observation:
        self.level = np.random.default_rng(np.random.SeedSequence([seed, 2])).random(3)
        self.epoch = 0
        return self.observe()

    def step(self, actions) -> Step:
        if (actions < self.last.low).any() or (actions > self.last.high).any():
            raise ValueError(f"set-points {actions} outside the box")
        self.level = self.level + actions[:, 0]
        self.epoch += 1
        local = -((self.level - 0.5) ** 2)
        return Step(
            self.observe(), float(local.mean()), local, {"level": float(local.mean())},
            False, self.epoch >= 8,
        )  # fmt: skip

    def metrics(self):
        return {}

    def observe(self) -> Observation:
        level = self.level[:, None].astype(np.float32)
        low, high = np.maximum(-0.1, -level), np.minimum(0.1, 1.0 - level)
        empty = np.zeros((3, 0, 0), np.float32)
        self.last = Observation(
            agent=np.clip(level, 0.0, 1.0),
            candidates=empty,
            target=np.zeros((3, 0), np.int64),
            mask=np.zeros((3, 0), bool),
            low=low,
            high=high,
            active=np.ones(3, bool),
            critic=np.array([np.clip(level.mean(), 0, 1)], np.float32),
            state=self.level.copy(),
            exogenous=np.zeros(0),
            time=float(self.epoch),
        )
        return self.last


def checked_ring() -> RingSimulator:
    return RingSimulator(agents=5, horizon=12)


def small_cluster():
    pytest.importorskip("simpy")
    from fairlead.simulators.cloud.dispatch import DispatchSimulator
    from fairlead.simulators.cloud.scenario import DispatchScenario

    return DispatchSimulator(DispatchScenario(agents=5, horizon=10))


@pytest.mark.parametrize("build", [checked_ring, Tanks, small_cluster])
def test_parallel_env_passes_pettingzoo(build, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pettingzoo_test.parallel_api_test(adapters.ParallelAdapter(build()), num_cycles=30)
    # PettingZoo's seed test samples without looking at masks.
    pettingzoo_test.parallel_seed_test(
        lambda: adapters.ParallelAdapter(build(), illegal="hold"), num_cycles=10
    )
    assert "Passed Parallel API test" in capsys.readouterr().out


@pytest.mark.parametrize(
    "build",
    [
        lambda: adapters.JointEnv(checked_ring()),
        lambda: adapters.JointEnv(Tanks()),
        lambda: adapters.JointEnv(small_cluster()),
        lambda: adapters.OneAgentEnv(checked_ring(), agent=2, others=stay),
        lambda: adapters.OneAgentEnv(Tanks(), agent=1, others=lambda seen: seen.low),
    ],
    ids=["joint ring", "joint tanks", "joint cluster", "one of the ring", "one tank"],
)
def test_gymnasium_views_pass_check_env(build):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on unbounded features
        check_env(build(), skip_render_check=True)


def stay(seen: Observation):
    return np.where(seen.active, 2, 0).astype(np.int64)


def test_the_parallel_env_plays_the_simulator_itself():
    env, simulator = adapters.ParallelAdapter(checked_ring(), local=0.25), checked_ring()
    observations, _ = env.reset(seed=9)
    seen = simulator.reset(9)
    for _ in range(12):
        for index, name in enumerate(env.possible_agents):
            assert np.array_equal(observations[name]["candidates"], seen.candidates[index])
            assert observations[name]["action_mask"].tolist() == seen.mask[index].tolist()
        assert np.array_equal(env.state(), seen.critic)
        actions = stay(seen)
        step = simulator.step(actions)
        observations, rewards, ended, cut, _ = env.step(
            dict(zip(env.agents, actions.tolist(), strict=True))
        )
        seen = step.observation
        mixed = 0.75 * step.reward + 0.25 * step.local_reward
        assert list(rewards.values()) == pytest.approx(mixed.tolist())
    assert env.agents == [] and not any(ended.values()) and all(cut.values())
    assert env.possible_agents[:2] == ["even_0", "odd_1"]


def test_one_agent_view_leaves_the_others_to_their_rule():
    env, simulator = adapters.OneAgentEnv(checked_ring(), agent=3, others=stay), checked_ring()
    env.reset(seed=4)
    seen = simulator.reset(4)
    for _ in range(6):
        actions = stay(seen)
        own = 3 if seen.active[3] else 0
        actions[3] = own
        step = simulator.step(actions)
        observation, reward, _, _, info = env.step(own)
        seen = step.observation
        assert reward == step.reward
        assert np.array_equal(observation["agent"], seen.agent[3])
        assert info["action_mask"].tolist() == seen.mask[3].tolist()
        assert info["components"] == step.components


def test_illegal_choices_hold_or_raise():
    idle = next(seed for seed in range(20) if not checked_ring().reset(seed).active[0])
    for illegal in ("hold", "raise"):
        env = adapters.JointEnv(checked_ring(), illegal=illegal)
        env.reset(seed=idle)
        joint = np.zeros(5, np.int64)
        joint[0] = 3
        if illegal == "raise":
            with pytest.raises(ValueError, match="agent 0 chose masked candidate 3"):
                env.step(joint)
        else:
            reference = adapters.JointEnv(checked_ring())
            reference.reset(seed=idle)
            assert env.step(joint)[1] == reference.step(np.zeros(5, np.int64))[1]


def test_set_points_are_fractions_of_the_box():
    env = adapters.JointEnv(Tanks())
    observation, _ = env.reset(seed=1)
    after, *_ = env.step(np.full((3, 1), 0.5, np.float32))
    middle = observation["agent"] + 0.5 * (observation["low"] + observation["high"])
    assert after["agent"] == pytest.approx(middle, abs=1e-6)
    one = adapters.OneAgentEnv(Tanks(), agent=1, others=lambda seen: seen.low)
    observation, _ = one.reset(seed=1)
    before = one.simulator.last
    after, *_ = one.step(np.array([1.0], np.float32))
    assert after["agent"] == pytest.approx(observation["agent"] + observation["high"], abs=1e-6)
    now = one.simulator.last.agent
    assert now[0] == pytest.approx(before.agent[0] + before.low[0], abs=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="agent must be between 0 and 4, got 5"):
        adapters.OneAgentEnv(checked_ring(), agent=5, others=stay)
    with pytest.raises(ValueError, match="local must be between 0 and 1, got 2"):
        adapters.ParallelAdapter(checked_ring(), local=2)
