"""``check_model`` finds deliberately planted defects and names them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from toys import RingModel, RingSimulator

from fairlead.models.check import ModelError, assert_model, check_model
from fairlead.models.cloud.dispatch_model import DispatchModel
from fairlead.simulators.cloud.dispatch import DispatchSimulator
from fairlead.simulators.cloud.scenario import DispatchScenario


class Altered(RingModel):
    """The sound ring model with one answer changed."""

    def __init__(self, simulator, *, reference=None, influence=None):
        super().__init__(simulator)
        self.change_reference = reference or (lambda model, exogenous, found: found)
        self.change_influence = influence or (lambda model, seen, found: found)
        self.asked = 0
        self.seen = np.zeros(simulator.spec.agents)

    def reference(self, exogenous):
        self.asked += 1
        return self.change_reference(self, exogenous, super().reference(exogenous))

    def influence(self, observation):
        self.seen = observation.state.copy()
        return self.change_influence(self, observation, super().influence(observation))


def hold_moves(_, seen, found):
    index = found.index.copy()
    index[:, 0] = 0
    return replace(found, index=index, value=np.where(found.index < 0, 0.3, found.value))


def far_index(_, seen, found):
    return replace(found, index=np.where(found.index >= 0, found.index + 6, -1))


def neighbour(_, seen, found):
    return replace(found, index=np.where(found.index >= 0, (found.index + 3) % 6, -1))


def twice(_, seen, found):
    both = [np.concatenate([part, part], axis=2) for part in (found.index, found.value)]
    return replace(found, index=both[0], value=both[1])


def writes(_, seen, found):
    seen.state[:] += 1.0
    return found


def free_will(_, seen, found):
    return replace(found, hold_cost=-np.ones(seen.mask.shape[0]))


def torn(_, exogenous, found):
    return replace(found, weight=-found.weight)


def peeking(model, exogenous, found):
    return replace(found, x_ref=0.1 * model.seen)


def counting(model, exogenous, found):
    return replace(found, x_ref=found.x_ref + model.asked)


def listed(_, exogenous, found):
    return replace(found, x_ref=found.x_ref.tolist())


def single(_, exogenous, found):
    return replace(found, weight=found.weight.astype(np.float32))


def proud(_, exogenous, found):
    return replace(found, lower_bound=1.0)


def gave_up(_, exogenous, found):
    return replace(found, status="time limit")


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("influence", hold_moves, "holding moves the state"),
        ("influence", far_index, "allowed: -1 .. 5"),
        ("influence", neighbour, "which its influence leaves out"),
        ("influence", twice, "names a coordinate twice"),
        ("influence", writes, "writes into the observation's state"),
        ("influence", free_will, "hold_cost must be"),
        ("reference", torn, "negative entries"),
        ("reference", peeking, "differs between two policies"),
        ("reference", counting, "changed with what was asked"),
        ("reference", listed, "must be a float64 numpy array, got list"),
        ("reference", single, "must be a float64"),
        ("reference", proud, "lower_bound 1.0 exceeds"),
        ("reference", gave_up, "'time limit'"),
    ],
)
def test_a_planted_defect_is_named(part, change, words):
    simulator = RingSimulator(agents=6, horizon=8)
    problems = check_model(Altered(simulator, **{part: change}), simulator, episodes=3)
    assert any(words in problem for problem in problems), problems


def test_a_sound_model_has_no_problems():
    simulator = RingSimulator(agents=6, horizon=8)
    assert check_model(Altered(simulator), simulator, episodes=3) == []
    assert_model(Altered(simulator), simulator)


def test_influence_that_is_not_what_the_simulator_does_is_measured():
    class Half(DispatchModel):
        def influence(self, observation):
            found = super().influence(observation)
            return replace(found, value=0.5 * found.value)

    scenario = DispatchScenario(agents=6, horizon=12)
    problems = check_model(Half(scenario), DispatchSimulator(scenario), episodes=1)
    assert len(problems) == 1
    moved, said = re.search(
        r"moved state\[\d+\] by ([\d.]+), the influence says ([\d.]+)", problems[0]
    ).groups()
    assert float(said) == pytest.approx(0.5 * float(moved), rel=1e-4)


def test_a_model_of_another_size_and_the_raising_form():
    small, large = RingSimulator(agents=6), RingSimulator(agents=7)
    with pytest.raises(ModelError, match="state_size is 7, the simulator's state has 6"):
        assert_model(RingModel(large), small)
