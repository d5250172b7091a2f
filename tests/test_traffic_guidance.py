"""Guidance of signals: what a phase moves, and that to first order it is worth its max pressure."""

from dataclasses import replace

import numpy as np
import pytest

from fairlead.models.check import check_model
from fairlead.models.interface import counterfactual_values
from fairlead.models.traffic.signal_model import SignalModel
from fairlead.simulators.traffic.effects import Effects, gap_share
from fairlead.simulators.traffic.scenario import GridScenario
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.town import town_of

PLENTY = 1e6


@pytest.fixture(scope="module")
def town():
    return town_of(GridScenario(rows=3, columns=3, spacing=300.0, seconds=600.0, mixed=True))


@pytest.fixture(scope="module")
def seen(town):
    """An observation in the middle of an episode in which all agents may choose."""
    simulator = TrafficSimulator(town)
    observation = simulator.reset(3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = observation.mask
        action = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
        observation = simulator.step(action).observation
    while not observation.active.all():
        observation = simulator.step(np.zeros(len(observation.active), np.int64)).observation
    return observation


def effects_of(town, lost=0.0):
    return Effects(
        town.approaches,
        town.turning,
        rate=town.rate,
        interval=town.scenario.interval,
        lost=lost,
        seconds=town.scenario.seconds,
    )


def test_the_first_order_value_of_a_phase_is_its_max_pressure_weight(town, seen):
    """sum_m s_m (x_m - sum_n r_mn x_n), Varaiya 2013, while queues do not run dry."""
    model, effects = SignalModel(town, "pressure"), effects_of(town)
    plenty = effects.of(np.full(town.network.lane_link.size, PLENTY), np.zeros(9, np.int64))
    order = np.where(town.approaches.legal, np.arange(town.approaches.most), -1)
    rng = np.random.default_rng(1)
    controlled = np.unique(effects.lane[effects.lane >= 0])
    agreed = 0
    for _ in range(1000):
        state = np.zeros(town.network.lane_link.size)
        state[controlled] = rng.uniform(0.0, 30.0, controlled.size)
        private = {"order": order, "lanes": plenty.lanes, "onward": plenty.onward}
        shown = replace(seen, state=state, private=private, mask=order >= 0)
        values = counterfactual_values(
            shown,
            model.reference(shown.exogenous),
            model.influence(shown),
            np.zeros(9, np.int64),
            form="linear",
        )
        there = np.where(effects.lane >= 0, state[effects.lane], 0.0)
        ahead = np.where(effects.onward >= 0, state[effects.onward], 0.0)
        weight = (plenty.lanes * there[:, None]).sum(2) - (plenty.onward * ahead[:, None]).sum(2)
        np.testing.assert_allclose(
            values[order >= 0], (weight - weight[:, :1])[order >= 0], rtol=1e-9, atol=1e-6
        )
        best = np.where(order >= 0, values, -np.inf).argmax(1)
        agreed += (best == np.where(order >= 0, weight, -np.inf).argmax(1)).all()
    assert agreed == 1000


def test_the_exact_value_is_what_the_deviation_falls_by(town, seen):
    model = SignalModel(town, "queues")
    reference, influence = model.reference(seen.exogenous), model.influence(seen)
    keep = np.zeros(9, np.int64)
    values = counterfactual_values(seen, reference, influence, keep)
    for agent in range(9):
        for k in np.flatnonzero(seen.mask[agent]):
            moved = seen.state.copy()
            index, value = influence.index[agent, k], influence.value[agent, k]
            np.add.at(moved, index[index >= 0], value[index >= 0])
            fall = 0.5 * (reference.weight @ (seen.state**2 - moved**2))
            assert values[agent, k] == pytest.approx(fall, abs=1e-9)


def test_what_leaves_lanes_joins_others_or_leaves_the_network(town):
    effects = effects_of(town, lost=3.6)
    rng = np.random.default_rng(2)
    found = effects.of(rng.uniform(0.0, 20.0, town.network.lane_link.size), np.ones(9, np.int64))
    left, joined = found.lanes.sum(2), found.onward.sum(2)
    assert (joined <= left + 1e-9).all() and joined.max() > 0.0
    # In the middle nothing leads out, so all of it joins a lane before another stop line.
    np.testing.assert_allclose(joined[4], left[4], rtol=1e-9)


def test_a_phase_discharges_no_more_than_comes_nor_than_its_lanes_can(town):
    effects = effects_of(town)
    few = effects.of(np.full(town.network.lane_link.size, 0.5), np.zeros(9, np.int64))
    assert few.lanes.max() == pytest.approx(0.5)
    many = effects.of(np.full(town.network.lane_link.size, PLENTY), np.zeros(9, np.int64))
    assert many.lanes.max() <= town.rate.max() * town.scenario.interval + 1e-9


def test_turning_green_costs_the_lost_time(town):
    arriving = np.full(town.network.lane_link.size, PLENTY)
    kept = effects_of(town, lost=4.0).of(arriving, np.zeros(9, np.int64)).lanes
    free = effects_of(town, lost=0.0).of(arriving, np.zeros(9, np.int64)).lanes
    np.testing.assert_allclose(kept[:, 0], free[:, 0])  # green already
    new = (free[:, 1] > 0.0) & (free[:, 0] == 0.0)
    assert new.any()
    np.testing.assert_allclose(kept[:, 1][new], 0.6 * free[:, 1][new])


@pytest.mark.parametrize(
    ("flow", "expected"),
    [(0.0, 0.7692), (0.1, 0.1 * np.exp(-0.45) / (1 - np.exp(-0.26)) / 0.5), (2.0, 0.0005)],
)
def test_gaps_after_siegloch(flow, expected):
    assert gap_share(flow, 0.5) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("reference", ["queues", "pressure", "storage", "plan"])
def test_the_model_keeps_its_contract(reference):
    town = town_of(GridScenario(rows=2, columns=2, spacing=300.0, seconds=300.0))
    assert check_model(SignalModel(town, reference), TrafficSimulator(town)) == []


def test_an_unknown_reference_names_the_known_ones(town):
    with pytest.raises(ValueError, match="queues, pressure, storage, plan"):
        SignalModel(town, "nowhere")


def test_the_plan_s_reference_grows_with_demand_and_comes_in_any_order():
    light = town_of(GridScenario(rows=2, columns=2, seconds=1200.0, rate=200.0))
    heavy = town_of(GridScenario(rows=2, columns=2, seconds=1200.0, rate=600.0))
    model = SignalModel(heavy, "plan")
    late = model.reference(np.array([900.0])).x_ref
    early = model.reference(np.array([300.0])).x_ref
    again = SignalModel(heavy, "plan")
    np.testing.assert_array_equal(again.reference(np.array([300.0])).x_ref, early)
    np.testing.assert_array_equal(again.reference(np.array([900.0])).x_ref, late)
    assert late.min() >= 0.0 and late.sum() > 0.0
    few = SignalModel(light, "plan").reference(np.array([900.0])).x_ref
    assert few.sum() < late.sum()
