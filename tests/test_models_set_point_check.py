"""``check_model`` finds deliberately planted defects of models of set-points and names them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from box_domain import TrackModel, TrackScenario, TrackSimulator

from fairlead.models.check import assert_model, check_model
from fairlead.models.interface import Influence

SCENARIO = TrackScenario(outage=0.3)


class Altered(TrackModel):
    """The sound model with one answer changed."""

    def __init__(self, reference=None, influence=None):
        super().__init__(SCENARIO)
        self.changes = (reference, influence)
        self.asked = 0

    def reference(self, exogenous):
        self.asked += 1
        found = super().reference(exogenous)
        return self.changes[0](self, found) if self.changes[0] else found

    def influence(self, observation):
        found = super().influence(observation)
        return self.changes[1](self, found, observation) if self.changes[1] else found


def checked(reference=None, influence=None, **options):
    return check_model(Altered(reference, influence), TrackSimulator(SCENARIO), **options)


def writing(_, found, seen):
    seen.state[:] += 1.0
    return found


def alternating(model, found, _):
    model.asked += 1
    return replace(found, gain=found.gain * (1.0 + 0.1 * (model.asked % 2)))


def swapped(_, found, __):
    index = found.index.copy()
    index[:, 0, 0] = (index[:, 0, 0] + 1) % 3
    return replace(found, index=index)


def silent_about_all(_, found, __):
    index = found.index.copy()
    index[:, 0, 1] = -1
    return replace(found, index=index)


DEFECTS = {
    "shape": (lambda _, f, __: replace(f, index=f.index[:, :1]), "influence.index has shape"),
    "gain": (lambda _, f, __: replace(f, gain=f.gain[:, :, :1]), "influence.gain has shape"),
    "origin": (lambda _, f, __: replace(f, origin=f.origin[:, 0]), "influence.origin has shape"),
    "slope": (lambda _, f, __: replace(f, slope=f.slope[0]), "influence.slope has shape"),
    "list": (lambda _, f, __: replace(f, origin=f.origin.tolist()), "shape list, expected"),
    "type": (lambda _, f, __: replace(f, gain=f.gain.astype("f4")), "gain must be float64"),
    "index type": (lambda _, f, __: replace(f, index=f.index.astype("i4")), "must be int64"),
    "nan": (lambda _, f, __: replace(f, gain=f.gain * np.nan), "influence.gain is not finite"),
    "curve": (
        lambda _, f, __: replace(f, curvature=f.curvature + np.inf),
        "influence.curvature is not finite",
    ),
    "far": (lambda _, f, __: replace(f, index=f.index + 1), "reaches from 0 to 5"),
    "twice": (lambda _, f, __: replace(f, index=np.zeros_like(f.index)), "a coordinate twice"),
    "writes": (writing, "the model writes into the observation's state"),
    "repeat": (alternating, "answers differently when asked twice"),
    "size": (lambda _, f, __: replace(f, gain=1.01 * f.gain), "'s set-point moved state["),
    "place": (swapped, "'s set-point moved state["),
    "silence": (silent_about_all, "'s set-point moved state[4]"),
    "kind": (
        lambda _, f, __: Influence(f.index, f.gain),
        "must be a SetPointInfluence, got Influence (candidates)",
    ),
}


def test_the_sound_model_passes():
    assert checked(episodes=6) == []
    assert checked(episodes=6, after="decays") == []
    plain = lambda _, found, __: replace(found, slope=None, curvature=None)  # noqa: E731
    assert checked(influence=plain) == []


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_defects_of_the_influence_are_named(name):
    change, said = DEFECTS[name]
    problems = checked(influence=change, episodes=4)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _, f: replace(f, weight=-f.weight), "negative entries"),
        (lambda _, f: replace(f, x_ref=f.x_ref[:3]), "reference.x_ref has shape"),
        (lambda _, f: replace(f, status="limit"), "expected 'optimal'"),
        (lambda _, f: replace(f, lower_bound=1.0), "exceeds the objective"),
        (lambda m, f: replace(f, x_ref=f.x_ref + m.asked), "changed with what was asked before"),
    ],
)
def test_defects_of_the_reference_are_named(change, said):
    problems = checked(reference=change)
    assert any(said in problem for problem in problems), problems


class Draining(TrackSimulator):
    """Half of what is produced is lost before anybody looks."""

    def _observe(self):
        seen = super()._observe()
        self.last = replace(seen, state=0.5 * seen.state)
        return self.last


def test_a_state_that_decays_is_compared_where_nothing_may_move():
    model = TrackModel(SCENARIO)
    assert "moved state" in check_model(model, Draining(SCENARIO))[0]
    assert check_model(model, Draining(SCENARIO), after="decays") == []
    silent = check_model(
        Altered(influence=silent_about_all), Draining(SCENARIO), after="decays", episodes=4
    )
    assert "moved state[4]" in silent[0]


class Balancing(TrackSimulator):
    """What one unit gives too much, the next one takes back at once."""

    def _observe(self):
        total = self.output[:, 0].sum() - 30.0 if hasattr(self, "last") else 0.0
        self.output[0, 0] = np.clip(self.output[0, 0] - total, 0.0, 10.0)
        return super()._observe()


def test_a_plant_that_reacts_is_not_held_against_the_model():
    model = TrackModel(SCENARIO)
    assert any("moved state" in one for one in check_model(model, Balancing(SCENARIO), episodes=4))
    assert check_model(model, Balancing(SCENARIO), episodes=4, after="reacts") == []


def test_the_raising_form_and_sizes():
    assert_model(TrackModel(SCENARIO), TrackSimulator(SCENARIO))
    larger = TrackModel(SCENARIO)
    larger.state_size = 6
    assert "state_size is 6" in check_model(larger, TrackSimulator(SCENARIO))[0]
