"""Identities of the power simulator: energy, ramps, boxes, storages, seeds; the contract."""

import numpy as np
import pytest
from box_toys import shaken
from power_data import needed
from power_small import small_grid
from power_toys import QUIET, Record, at_random, column, generated, share, toy

from fairlead.policies.acting import actor
from fairlead.policies.interface import PolicyArrays
from fairlead.policies.networks import box_weights
from fairlead.simulators.check import check_simulator
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import (
    ActivsgScenario,
    CaliforniaScenario,
    GeneratedScenario,
    Outages,
    RtsScenario,
)
from fairlead.simulators.power.system import system_of

HARSH = {"outages": Outages(scale=30.0), "batteries": 3, "flexible": 0.05, "forecast_error": 2.0}


def played(choose=at_random, *, seed=0, **values):
    simulator = generated(**values)
    return simulator, Record(simulator, choose(simulator), seed)


SCENARIOS = {
    "generated": (GeneratedScenario, ()),
    "rts-gmlc": (RtsScenario, ("rts_gmlc", "source")),
    "activsg2000": (ActivsgScenario, ("activsg", "case_ACTIVSg2000.m.gz")),
    "california": (CaliforniaScenario, ("pglib_uc",)),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_keeps_the_contract(name):
    kind, path = SCENARIOS[name]
    values = {"data": str(needed().parent)} if path else {}
    if path:
        needed(*path)
    scenario = kind(hours=2, outages=Outages(scale=20.0), **values)
    system = system_of(scenario)
    assert check_simulator(lambda: PowerSimulator(scenario, system)) == []


def test_contract_with_batteries_flexible_loads_control_and_losses():
    values = {
        "regulation": {"simulated": True},
        "telemetry": {"loss": 0.1, "delay": 20.0},
        "projection": "network",
    }
    assert check_simulator(lambda: generated(hours=2, **HARSH, **values)) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("choose", [at_random, lambda _: share(0.0), lambda _: share(1.0)])
def test_power_balances_in_every_interval(choose, seed):
    _, record = played(choose, seed=seed, hours=24, **HARSH)
    assert record.metrics["unit_trips"] > 0.0
    assert record.metrics["balance_residual_mw"] <= 1e-6
    served = record.metrics["demand_mwh"] - record.metrics["shed_mwh"]
    assert served > 0.0


def test_rewards_are_minus_the_costs_over_the_normal_interval():
    simulator, record = played(**HARSH)
    fleet = simulator._fleet
    total = -sum(record.rewards) * fleet.normal / 12.0
    assert total == pytest.approx(record.metrics["cost_usd"], rel=1e-9)
    for part in ("fuel", "start", "shed", "storage"):
        paid = -sum(parts[part] for parts in record.parts) * fleet.normal / 12.0
        assert paid == pytest.approx(record.metrics[f"cost_{part}_usd"], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_ramps_and_boxes_are_never_left(seed):
    simulator, record = played(seed=seed, hours=24, **HARSH)
    fleet = simulator._fleet
    thermal, moved = fleet.thermal, np.diff(record.power, axis=0)
    on = np.stack([one.top for one in record.outlooks]) > 0.0
    stays = on[:-1] & on[1:] & thermal & (record.power[:-1] >= fleet.low - 1e-6)
    assert (np.abs(moved) <= fleet.ramp + 1e-4)[stays].all()
    # One that comes in begins at its minimum.
    comes = on[:-1] & thermal & (record.power[:-1] < fleet.low - 1e-6)
    assert comes.any()
    ended = record.power[1:]
    gone = ~on[1:] & (ended == 0.0)
    assert (ended <= fleet.low + fleet.ramp + 1e-4)[comes].all()
    assert ((ended >= fleet.low - 1e-4) | gone)[comes].all()
    # Everybody but wind and sun, whose box is a forecast, ends inside its box, or tripped.
    inside = (ended >= record.low[:-1] - 1e-6) & (ended <= record.high[:-1] + 1e-6)
    tripped = thermal & ~on[1:] & (ended == 0.0)
    assert (inside | tripped | fleet.curtailed).all()
    assert (ended[:, fleet.curtailed] >= 0.0).all()


def test_units_that_are_off_or_failed_cannot_move():
    simulator, record = played(**HARSH)
    fleet = simulator._fleet
    top = np.stack([one.top for one in record.outlooks])
    off = (top == 0.0) & ~fleet.store
    assert off[:, fleet.curtailed].any()
    assert off[:, fleet.thermal].any()
    assert (record.low[off] == 0.0).all()
    assert (record.high[off] == 0.0).all()
    # What failed in an interval gives nothing at its end, and nothing from then on.
    assert (record.power[1:][off[:-1] & off[1:]] == 0.0).all()


def test_no_probability_lies_outside_the_box():
    simulator = generated(**HARSH)
    spec = simulator.spec
    groups, features = len(spec.groups), len(spec.agent_features)
    tensors = box_weights(
        np.random.default_rng(0),
        groups=groups,
        agent_features=features,
        dimensions=1,
        hidden=(16,),
        output_scale=0.5,
        concentration=3.0,
    )
    tensors["normaliser.agent.shift"] = np.zeros((groups, features), np.float32)
    tensors["normaliser.agent.scale"] = np.ones((groups, features), np.float32)
    policy = actor(spec, shaken(PolicyArrays(tensors, spec.group_of), 0, 0.5), name="p")
    rng = np.random.default_rng(1)
    record = Record(simulator, lambda seen: policy.act(seen, rng))
    assert len(record.rewards) == 72
    pinned = record.low == record.high
    assert pinned.any()
    assert all((one.active == (one.high > one.low)[:, 0]).all() for one in record.seen)


def test_stored_energy_follows_output_and_stays_within_its_limits():
    simulator, record = played(**{**HARSH, "outages": QUIET})
    fleet = simulator._fleet
    stored = np.stack([one.stored for one in record.outlooks])[:, fleet.store]
    power, one_way = record.power[1:, fleet.store], fleet.efficiency[fleet.store]
    change = np.where(power < 0.0, -power * one_way, -power) / 12.0
    assert np.allclose(np.diff(stored, axis=0), change, atol=1e-4)
    assert (stored >= -1e-9).all()
    assert (stored <= fleet.energy[fleet.store] + 1e-9).all()
    assert np.ptp(stored, axis=0).max() > 5.0


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_storage_stops_at_both_ends(end):
    grid = small_grid([{"ramp": 100.0}], stores=({"energy": 10.0, "initial": 4.0},), loads=(50.0,))
    simulator = toy(grid, np.full(24, 50.0), hours=2)
    record = Record(simulator, lambda seen: np.array([[50.0], share(end)(seen)[1]], np.float32))
    stored = np.array([one.stored[1] for one in record.outlooks])
    assert stored[-1] == pytest.approx(10.0 * (1.0 - end), abs=1e-3)
    assert (stored >= 0.0).all()
    assert (stored <= 10.0).all()


def log(simulator, choose, seed):
    record = Record(simulator, choose, seed)
    return record, [
        (one.agent.tobytes(), one.exogenous.tobytes(), one.critic.tobytes()) for one in record.seen
    ]


def test_same_seed_same_episode_whatever_was_played_before():
    fresh, used = generated(**HARSH), generated(**HARSH)
    Record(used, share(0.9), 5)
    first, one = log(fresh, at_random(fresh), 3)
    second, two = log(used, at_random(used), 3)
    assert one == two
    assert first.rewards == second.rewards
    assert first.metrics == second.metrics


def test_what_no_set_point_influences_is_the_same_for_everybody():
    episodes = []
    for choose in (at_random, lambda _: share(0.0), lambda s: column(s, "merit")):
        simulator, record = played(choose, seed=2, **HARSH)
        states = [(one.top.tobytes(), one.closed.tobytes()) for one in record.outlooks]
        counts = [record.metrics[k] for k in ("starts", "branch_outages", "demand_mwh")]
        episodes.append((states, counts, simulator.day.demand.tobytes()))
    assert episodes[0] == episodes[1] == episodes[2]


def test_perfect_forecasts_leave_no_imbalance():
    _, record = played(
        lambda s: column(s, "merit"), forecast_error=0.0, outages=QUIET, network=False
    )
    met = record.metrics["demand_mwh"] - record.metrics["shed_mwh"]
    # What remains is that boxes are announced in float32.
    assert (
        record.metrics["regulation_mwh"]
        <= 1e-6 * met + record.metrics["unmet_before_regulation_mwh"]
    )


@pytest.mark.parametrize(("hours", "epochs"), [(6, 72), (48, 576)])
def test_episodes_of_any_length(hours, epochs):
    simulator, record = played(lambda s: column(s, "response"), hours=hours)
    assert simulator.spec.horizon == len(record.rewards) == epochs
    assert record.metrics["balance_residual_mw"] <= 1e-6


def test_longer_intervals():
    _, record = played(interval=900.0, outages=QUIET)
    assert len(record.rewards) == 24
    assert record.metrics["balance_residual_mw"] <= 1e-6


def test_network_projection_lowers_overloads():
    congested = {"limit_scale": 0.6, "outages": QUIET}
    sums = []
    for projection in ("balance", "network"):
        episodes = [
            played(lambda s: column(s, "merit"), seed=seed, projection=projection, **congested)[1]
            for seed in (1, 2)
        ]
        sums.append(sum(one.metrics["overload_mwh"] for one in episodes))
        assert all(one.metrics["balance_residual_mw"] <= 1e-6 for one in episodes)
    assert sums[0] > 100.0
    assert sums[1] < 0.2 * sums[0]


def test_without_features_the_same_set_points_make_the_same_episode():
    scenario = GeneratedScenario(units=12, hours=2)
    plain = PowerSimulator(scenario, system_of(scenario))
    blind = PowerSimulator(scenario, system_of(scenario), features=False)
    seen, unseen = plain.reset(3), blind.reset(3)
    for _ in range(plain.spec.horizon):
        wanted = np.clip(seen.state[:, None].astype(np.float32), seen.low, seen.high)
        one, two = plain.step(wanted), blind.step(wanted)
        assert one.reward == two.reward
        seen, unseen = one.observation, two.observation
        np.testing.assert_array_equal(seen.high, unseen.high)
        assert seen.agent.any() and not unseen.agent.any()
    priced, unpriced = plain.metrics(), blind.metrics()
    assert priced.pop("average_price") > unpriced.pop("average_price") == 0.0
    assert priced == unpriced
