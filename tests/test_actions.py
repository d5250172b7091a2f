"""The check of joint decisions that simulators share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import RingSimulator

from fairlead.simulators.actions import checked_choices, checked_set_points
from fairlead.simulators.interface import Box


@pytest.fixture
def game():
    simulator = RingSimulator(agents=4)
    seen = replace(simulator.reset(0), mask=np.tile([True, True, False, True], (4, 1)))
    return simulator.spec, seen


def test_legal_choices_pass_as_whole_numbers(game):
    chosen = checked_choices(*game, np.array([0, 1, 3, 0], dtype=np.uint8))
    assert chosen.dtype == np.int64 and chosen.tolist() == [0, 1, 3, 0]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (
            [0, 1, 2, 2],
            r"agent 2 chose illegal candidate 2; its mask allows \[0, 1, 3\]",
        ),
        ([0, 0, 0, -1], "agent 3 chose illegal candidate -1"),
        ([4, 0, 0, 0], "agent 0 chose illegal candidate 4"),
        ([0, 0, 0], r"actions must be integers of shape \(4,\), .* got int64 of shape \(3,\)"),
        ([0.0, 0.0, 0.0, 0.0], "got float64"),
    ],
)
def test_illegal_choices_name_agent_and_value(game, actions, message):
    with pytest.raises(ValueError, match=message):
        checked_choices(*game, np.array(actions))


def test_set_points_stay_in_their_box(game):
    spec, seen = game
    spec = replace(spec, action=Box(2))
    low = np.array([[0, -1]] * 4, np.float32)
    seen = replace(seen, low=low, high=low + 2)
    inside = np.array([[0, -1], [2, 1], [1, 0], [0, 0]], np.float32)
    assert np.array_equal(checked_set_points(spec, seen, inside), inside)
    for bad in (2.5, -0.5, np.nan):
        outside = inside.copy()
        outside[2, 0] = bad
        with pytest.raises(ValueError, match=f"agent 2 set dimension 0 to {bad}, outside its box"):
            checked_set_points(spec, seen, outside)
    with pytest.raises(ValueError, match=r"shape \(4, 2\), got \(4, 1\)"):
        checked_set_points(spec, seen, inside[:, :1])
