"""``check_simulator`` finds deliberately planted defects and names them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import RingSimulator

from fairlead.simulators.check import SimulatorError, assert_simulator, check_simulator


def test_a_sound_simulator_has_no_problems():
    assert check_simulator(lambda: Careful(agents=5, horizon=6)) == []
    assert_simulator(lambda: Careful(agents=5, horizon=6), seed=3)


class Careful(RingSimulator):
    """The ring, refusing every kind of illegal action."""

    def step(self, actions):
        actions = np.asarray(actions)
        if actions.shape != (self.spec.agents,):
            raise ValueError(f"actions have shape {actions.shape}")
        if (actions < 0).any() or (actions > 3).any():
            raise ValueError(f"candidate {actions} out of range")
        return self.alter_step(super().step(actions))

    def alter_step(self, step):
        return step

    def _observe(self):
        self.last = self.alter(super()._observe())
        return self.last

    def alter(self, seen):
        return seen


class WrongType(Careful):
    def alter(self, seen):
        return replace(seen, agent=seen.agent.astype(np.float64))


class WrongShape(Careful):
    def alter(self, seen):
        return replace(seen, critic=seen.critic[:1])


class OutOfBounds(Careful):
    def alter(self, seen):
        seen.candidates[1, 2, 2] = 3.5
        return seen


class Negative(Careful):
    def alter(self, seen):
        seen.candidates[1, 2, 1] = -0.5
        return seen


class NotFinite(Careful):
    def alter(self, seen):
        seen.candidates[2, 1, 1] = np.nan
        return seen


class NoHold(Careful):
    def alter(self, seen):
        seen.mask[3] = [False, True, True, True]
        return seen


class NoTarget(Careful):
    def alter(self, seen):
        seen.target[:, 2] = -1
        return seen


class Unseeded(Careful):
    def alter(self, seen):
        return replace(seen, state=seen.state + np.random.default_rng().random())


class Remembers(Careful):
    """Keeps something of the episode before."""

    played = 0

    def reset(self, seed):
        self.played += 1
        return super().reset(seed)

    def alter(self, seen):
        return replace(seen, time=seen.time + self.played)


class Reuses(Careful):
    def alter(self, seen):
        if not hasattr(self, "buffer"):
            self.buffer = seen.critic
        self.buffer[:] = seen.critic
        return replace(seen, critic=self.buffer)


class InfiniteReward(Careful):
    def alter_step(self, step):
        return replace(step, reward=float("inf"))


class MissingComponent(Careful):
    def alter_step(self, step):
        return replace(step, components={"load": 0.5 * step.reward})


class LocalSum(Careful):
    """Local rewards that sum, rather than average, to the shared one."""

    def alter_step(self, step):
        return replace(step, local_reward=step.local_reward / self.spec.agents)


class NeverEnds(Careful):
    def alter_step(self, step):
        return replace(step, truncated=False)


class EndsEarly(Careful):
    def alter_step(self, step):
        return replace(step, truncated=self.epoch >= 2)


class AcceptsMasked(Careful):
    def step(self, actions):
        self.last.mask[:] = True
        return super().step(actions)


class RaisesIndexError(Careful):
    """Refuses masked candidates, but trips over a candidate number beyond the last."""

    def step(self, actions):
        if np.shape(actions) == (self.spec.agents,) and (np.asarray(actions) > 3).any():
            raise IndexError("index 4 is out of bounds")
        return super().step(actions)


class ActsBeforeRefusing(Careful):
    """Refuses an illegal action, but only after the load has changed."""

    def step(self, actions):
        self.load = self.load + 0.25 * (np.shape(actions) != (self.spec.agents,))
        return super().step(actions)


class NestedMetrics(Careful):
    def metrics(self):
        return {"response": {"mean": 1.0}}


class OneGroupTooMany(Careful):
    def __init__(self, **knobs):
        super().__init__(**knobs)
        self.spec = replace(self.spec, groups=("even",))


class SameNameTwice(Careful):
    def __init__(self, **knobs):
        super().__init__(**knobs)
        features = self.spec.agent_features
        self.spec = replace(self.spec, agent_features=(features[0], features[0]))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (WrongType, ["observation.agent", "float64", "float32"]),
        (WrongShape, ["observation.critic", "(1,)", "(2,)"]),
        (OutOfBounds, ["'cost' is 3.5, above its bound 3"]),
        (Negative, ["'load' is -0.5, below its bound 0"]),
        (NotFinite, ["observation.candidates[2, 1, 1] is nan"]),
        (NoHold, ["mask[3, 0] is false", "'hold'"]),
        (NoTarget, ["candidate 2 of agent", "no target"]),
        (Unseeded, ["same seed", "built anew", "'state'"]),
        (Remembers, ["same seed", "reset again", "'time'"]),
        (Reuses, ["overwrote 'critic'", "new arrays"]),
        (InfiniteReward, ["reward is inf"]),
        (MissingComponent, ["components sum to"]),
        (LocalSum, ["local_reward has mean"]),
        (NeverEnds, ["horizon is reached", "truncated"]),
        (EndsEarly, ["truncated before the horizon of 6"]),
        (AcceptsMasked, ["a masked candidate is accepted", "ValueError"]),
        (RaisesIndexError, ["candidate number above the last raises IndexError"]),
        (ActsBeforeRefusing, ["after refusing illegal actions"]),
        (NestedMetrics, ["metrics()['response']", "flat"]),
        (OneGroupTooMany, ["spec.group_of holds 0..1 but there are 1 groups"]),
        (SameNameTwice, ["['work'] twice"]),
    ],
)
def test_a_planted_defect_is_found_and_named(broken, words):
    problems = check_simulator(lambda: broken(agents=5, horizon=6))
    assert len(problems) == 1, problems
    for word in words:
        assert word in problems[0]
    with pytest.raises(SimulatorError, match="1 problem"):
        assert_simulator(lambda: broken(agents=5, horizon=6))


class ShowsEverybody(Careful):
    def step_fresh(self, choose):
        return self.step(choose(self.last))


class OneByOne(Careful):
    def step_fresh(self, choose):
        actions = np.zeros(self.spec.agents, dtype=np.int64)
        for agent in np.flatnonzero(self.last.active):
            one = slice(agent, agent + 1)
            actions[agent] = choose(
                replace(
                    self.last,
                    agent=self.last.agent[one],
                    candidates=self.last.candidates[one],
                    target=self.last.target[one],
                    mask=self.last.mask[one],
                    active=self.last.active[one],
                )
            )[0]
        return self.step(actions)


def test_fresh_steps_show_one_agent_at_a_time():
    assert check_simulator(lambda: OneByOne(agents=5, horizon=6)) == []
    problems = check_simulator(lambda: ShowsEverybody(agents=5, horizon=6))
    assert len(problems) == 1 and "step_fresh() shows 5 agents" in problems[0]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"discipline": "fcfs", "node_limit": 3, "failures": {"mttf": 30.0, "mttr": 5.0}},
        {"snapshot_age": 0, "weights": {"energy": 0.1, "slo": 0.5}},
    ],
    ids=["plain", "failing", "weighted"],
)
def test_the_dispatching_simulator_is_sound(knobs):
    pytest.importorskip("simpy")
    from fairlead.simulators.cloud.dispatch import DispatchSimulator
    from fairlead.simulators.cloud.scenario import DispatchScenario

    scenario = DispatchScenario.model_validate({"agents": 6, "horizon": 25, **knobs})
    assert check_simulator(lambda: DispatchSimulator(scenario)) == []
