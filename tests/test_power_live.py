"""The power domain inside the controller: projection, look-ahead, rules, and the live core."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np
import pytest
from box_domain import rows_of
from hypothesis import given
from hypothesis import strategies as st
from serving import HandClock

from fairlead.platform.client.asking import Answer, Client, Unavailable
from fairlead.platform.client.set_points import set_points
from fairlead.platform.daemon.events import Hub
from fairlead.platform.daemon.slot import LiveSlot
from fairlead.platform.decision.asking import Injected
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import (
    Cause,
    Clock,
    Inference,
    Outcome,
    Request,
    Runtime,
    Source,
    State,
)
from fairlead.platform.files import UserError
from fairlead.platform.power import power
from fairlead.platform.power_costs import RESOLUTION, WEATHER
from fairlead.platform.power_live import power_live
from fairlead.platform.wire import answers
from fairlead.policies.heuristics.power_local import Standing, local
from fairlead.simulators.interface import Choice
from fairlead.simulators.power.balance import balance
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import GeneratedScenario
from fairlead.simulators.power.system import system_of

SCENARIO = GeneratedScenario(units=12, hours=6, batteries=2, flexible=0.02)
SETTINGS = {"units": 12, "hours": 6, "batteries": 2, "flexible": 0.02, "name": "generated"}
SLOT = SlotSettings(deadline=5.0)


def simulator():
    return PowerSimulator(SCENARIO, system_of(SCENARIO))


@cache
def episode():
    """Spec, observations under merit order, and the demand that was expected at each."""
    plant = simulator()
    rule = local(plant.spec)[0]
    seen, demand = [plant.reset(3)], []
    for epoch in range(30):
        demand.append(float(plant.day.expected_demand[epoch, 0]))
        seen.append(plant.step(rule.act(seen[-1], None)).observation)
    return plant.spec, tuple(seen[:-1]), tuple(demand)


SPEC, SEEN, DEMAND = episode()
LIVE = power_live(SPEC, SETTINGS, SLOT)
FLEET = system_of(SCENARIO).fleet


def spread(seen, seed, beyond=0.0):
    """Set-points all over the box, and beyond it."""
    share = np.random.default_rng(seed).uniform(-beyond, 1.0 + beyond, seen.low.shape)
    return (seen.low + (seen.high - seen.low) * share).astype(np.float32)


def sizes(seen):
    return float(np.maximum(np.abs(seen.low), np.abs(seen.high)).sum())


def test_the_expected_demand_can_be_read_from_what_agents_observe():
    for seen, demand in zip(SEEN, DEMAND, strict=True):
        target = LIVE._reader.target(seen)
        assert target.demand == pytest.approx(demand, abs=target.tolerance)
        # One agent in twenty without sense does not change it.
        wrong = seen.agent.copy()
        wrong[:2] = 0.77
        assert LIVE._reader.target(replace(seen, agent=wrong)).demand == target.demand


@given(st.integers(0, len(SEEN) - 1), st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 20.0]))
def test_the_projection_is_exact_and_idempotent(index, seed, beyond):
    seen = SEEN[index]
    wanted = spread(seen, seed, beyond)
    done = LIVE.project(seen, wanted, None, None)
    assert done.actions.dtype == np.float32
    assert (done.actions >= seen.low).all() and (done.actions <= seen.high).all()
    missing = DEMAND[index] - float(done.actions.sum(dtype=np.float64))
    assert abs(missing) <= 2 * RESOLUTION * sizes(seen)
    again = LIVE.project(seen, done.actions, None, None)
    np.testing.assert_array_equal(again.actions, done.actions)
    assert not again.cause.any() and not again.distance.any()


def test_the_balance_is_the_simulators_own():
    seen = SEEN[4]
    wanted = spread(seen, 1)
    low, high = seen.low[:, 0].astype(float), seen.high[:, 0].astype(float)
    part = FLEET.part * np.maximum(high - low, 1e-6)
    expected = balance(wanted[:, 0].astype(float), low, high, part, DEMAND[4]).power
    done = LIVE.project(seen, wanted, None, None)
    np.testing.assert_allclose(done.actions[:, 0], expected, atol=2e-3)
    np.testing.assert_array_equal(
        [SPEC.groups[group] in WEATHER for group in SPEC.group_of], FLEET.curtailed
    )
    # So that the simulator has nothing left to move.
    plant = simulator()
    plant.reset(3)
    plant.step(LIVE.project(SEEN[0], SEEN[0].low, None, None).actions)
    assert plant.metrics()["projection_mw"] < 1e-2


@pytest.mark.parametrize("need", [-0.5, 1.5])
def test_beyond_the_box_everybody_is_at_a_limit(need):
    seen = SEEN[2]
    agent = seen.agent.copy()
    agent[:, SPEC.agent_column("need")] = need
    short = replace(seen, agent=agent)
    done = LIVE.project(short, spread(seen, 2), None, None)
    np.testing.assert_array_equal(done.actions, seen.high if need > 0 else seen.low)
    again = LIVE.project(short, done.actions, None, None)
    np.testing.assert_array_equal(again.actions, done.actions)
    # A rounding below the limit is no violation.
    near = done.actions.copy()
    near[0] = np.clip(
        np.nextafter(near[0], seen.low[0] if need > 0 else seen.high[0]), seen.low[0], seen.high[0]
    )
    assert not LIVE.project(short, near, None, None).cause.any()
    _, margin = LIVE.recoverable(short, done.actions, done.actions)
    shed, bound = LIVE.objective(short, done.actions)
    assert shed > LIVE.objective(seen, done.actions)[1] and bound <= shed and np.isfinite(margin)


def test_causes_tell_ramp_from_limit_and_balance():
    seen = SEEN[6]
    standing, capacity = Standing(SPEC).read(seen)
    ramped = FLEET.thermal & (seen.agent[:, SPEC.agent_column("on")] > 0.5)
    ramped &= (seen.high[:, 0] < 0.95 * capacity) & (capacity > 0)
    unit = int(np.flatnonzero(ramped)[0])
    rest = LIVE.project(seen, spread(seen, 3), None, None).actions
    wanted = rest.copy()
    wanted[unit] = np.float32(0.99 * capacity[unit])
    assert LIVE.project(seen, wanted, None, None).cause[unit] == Cause.RAMP
    wanted[unit] = np.float32(2.0 * capacity[unit])
    done = LIVE.project(seen, wanted, None, None)
    assert done.cause[unit] == Cause.BOX and done.distance[unit] > 0
    others = done.cause[np.arange(SPEC.agents) != unit]
    assert set(others.tolist()) <= {Cause.NONE, Cause.COUPLING} and (others != 0).any()
    assert standing[unit] <= capacity[unit]


def test_parts_of_the_fleet_are_kept_in_their_boxes_only():
    seen, agents = SEEN[5], np.array([9, 2, 4])
    part = rows_of(seen, agents)
    done = LIVE.project(part, spread(part, 3, 0.4), None, agents)
    np.testing.assert_array_equal(done.actions, np.clip(spread(part, 3, 0.4), part.low, part.high))
    assert LIVE.deviation(part, done.actions).shape == (3,)
    cost, bound = LIVE.objective(part, done.actions)
    assert bound <= cost + 1e-6


def test_rules_are_selectable_feasible_and_read_capacities_off_the_box():
    for name in ("merit-order", "price", "proportional", "droop"):
        live = power_live(SPEC, SETTINGS, SlotSettings(baseline=name))
        assert live.baseline.name == name
        for seen in SEEN[::7]:
            points = live.baseline.act(seen, None)
            assert points.dtype == np.float32
            assert (points >= seen.low).all() and (points <= seen.high).all()
    for seen in SEEN:
        power, capacity = Standing(SPEC).read(seen)
        wide = (seen.high - seen.low)[:, 0] > 1e-2
        np.testing.assert_allclose(capacity[wide], FLEET.capacity[wide], rtol=1e-3)
        np.testing.assert_allclose(power[wide], seen.state[wide], atol=0.02)


def test_merit_order_needs_no_projection():
    for seen in SEEN:
        done = LIVE.project(seen, LIVE.baseline.act(seen, None), None, None)
        assert not done.cause.any()


def test_hold_and_safe():
    seen = SEEN[8]
    assert LIVE.hold(seen, None, None) is None
    last = spread(SEEN[7], 1)
    held = LIVE.hold(seen, last, None)
    np.testing.assert_array_equal(held, np.clip(last, seen.low, seen.high))
    last[3] = np.nan
    safe = LIVE.safe(seen)
    assert LIVE.hold(seen, last, None)[3] == safe[3]
    present = np.clip(seen.state[:, None], seen.low, seen.high)
    np.testing.assert_allclose(safe, present, atol=0.02)
    some = np.array([3, 5])
    assert LIVE.hold(rows_of(seen, some), last, some).shape == (2, 1)


@given(st.integers(0, len(SEEN) - 1), st.integers(0, 2**31))
def test_no_decision_is_cheaper_than_the_bound_and_margins_agree(index, seed):
    seen = SEEN[index]
    wanted = spread(seen, seed)
    done = LIVE.project(seen, wanted, None, None).actions
    baseline = LIVE.project(seen, LIVE.baseline.act(seen, None), None, None).actions
    for points in (wanted, done, baseline):
        cost, bound = LIVE.objective(seen, points)
        assert bound <= cost + 1e-6 * abs(cost)
    sure = LIVE.surely_recoverable(seen, done)
    _, margin = LIVE.recoverable(seen, done, baseline)
    assert sure <= margin + 1e-9
    deviation = LIVE.deviation(seen, wanted)
    assert ((deviation >= 0) & (deviation <= 1 + 1e-5)).all()


def test_what_leaves_load_unserved_is_not_recoverable():
    seen = SEEN[3]
    baseline = LIVE.project(seen, LIVE.baseline.act(seen, None), None, None).actions
    good, margin = LIVE.recoverable(seen, baseline, baseline)
    assert good and margin == pytest.approx(0.5, abs=0.2)
    bad, margin = LIVE.recoverable(seen, seen.low, baseline)
    assert not bad and margin < 0 and LIVE.surely_recoverable(seen, seen.low) < 0


def decided(answer, seen, settings=SLOT, state=None):
    live = power_live(SPEC, SETTINGS, settings)
    outcome = Outcome("ok", Inference(answer, None), 0.001) if answer is not None else None
    policy = None if outcome is None else Injected("d1gest", outcome)
    runtime = Runtime(SPEC, policy, None, live)
    request = Request(seen, observed=100.0, received=10.0)
    return decide(runtime, settings, state or State(), request, Clock(10.0, 100.0))


def test_live_decisions_meet_the_balance_and_name_who_made_them():
    _, found = decided(spread(SEEN[4], 5), SEEN[4])
    assert found.outcome == "ok" and not found.failures
    assert (found.source == Source.PROJECTED).any()
    assert abs(float(found.actions.sum(dtype=np.float64)) - DEMAND[4]) < 0.01
    assert np.isfinite(found.margin) and np.isfinite(found.deviation).all()
    _, found = decided(None, SEEN[4])
    assert (found.source == Source.BASELINE).all() and not found.failures
    assert abs(float(found.actions.sum(dtype=np.float64)) - DEMAND[4]) < 0.01


def test_a_sensor_that_fails_does_not_unbalance_the_others():
    seen = SEEN[4]
    agent = seen.agent.copy()
    agent[7] = np.nan
    settings = SlotSettings(deadline=5.0, validation={"imputed_share": 0.2})
    _, found = decided(spread(seen, 5), replace(seen, agent=agent), settings)
    assert found.outcome == "degraded" and found.source[7] == Source.BASELINE
    assert abs(float(found.actions.sum(dtype=np.float64)) - DEMAND[4]) < 0.01


def answer_of(actions, **fields):
    rows = len(actions)
    known = {
        "source": np.full(rows, Source.PROJECTED, np.int8),
        "cause": np.full(rows, Cause.COUPLING, np.int8),
        "local": False, "problem": "", "decision": "power-0a0a0a0a-1", "bundle": "b",
        "mode": "policy", "outcome": "ok", "attempts": 1, "seconds": 0.001,
    }  # fmt: skip
    return Answer(actions=actions, **{**known, **fields})


def test_an_answer_that_has_expired_is_not_executed():
    seen = SEEN[4]
    mine = Client("http://127.0.0.1:9", "power", fallback=LIVE.baseline, timeout=0.05)
    reports = []
    mine.report = lambda decision, **fields: reports.append((decision, fields))
    fresh = answer_of(spread(seen, 1), valid_until=time.time() + 60)
    assert mine.in_force(fresh, seen) is fresh and reports == []
    assert mine.in_force(replace(fresh, valid_until=float("inf")), seen).local is False
    late = mine.in_force(replace(fresh, valid_until=time.time() - 1), seen)
    assert late.local and "expired" in late.problem
    np.testing.assert_array_equal(late.actions, LIVE.baseline.act(seen, None))
    assert reports == [("power-0a0a0a0a-1", {"measured": {"set_points_expired": SPEC.agents}})]
    alone = Client("http://127.0.0.1:9", "power", timeout=0.05)
    with pytest.raises(Unavailable, match="expired"):
        alone.in_force(replace(fresh, valid_until=1.0), seen)


def test_the_message_to_a_unit():
    points = set_points(
        answer_of(np.array([[60.0], [-5.0]], np.float32), valid_until=1_700_000_000.25),
        ("coal 1", "battery"),
        np.array([50.0, 5.0]),
        300.0,
    )
    assert points[0].document() == {
        "unit": "coal 1",
        "set_point_mw": 60.0,
        "ramp_mw_per_min": 2.0,
        "valid_until": "2023-11-14T22:13:20.250+00:00",
        "reason": "projected: coupling",
    }
    assert points[1].power == -5.0 and points[1].ramp == 2.0
    lasting = replace(points[0], valid_until=float("inf"), reason="policy")
    assert lasting.document()["valid_until"] is None
    with pytest.raises(ValueError, match="do not fit"):
        set_points(answer_of(np.zeros((2, 1), np.float32)), ("a",), np.zeros(1), 300.0)


class Only:
    """A roll-out without a policy."""

    champion = Runtime(SPEC, None, None, LIVE)

    def choose(self, request, ticks):
        return self.champion, "champion"

    def after(self, entry):
        pass


@pytest.mark.parametrize(("expiry", "told"), [(0.0, None), (450.0, 1_700_000_450.0)])
def test_the_answer_says_until_when_it_holds(expiry, told):
    slot = LiveSlot(
        domain="power",
        boot="0a0a0a0a",
        settings=SlotSettings(deadline=5.0, expiry=expiry),
        rollout=Only(),
        recorder=mock.Mock(healthy=True),
        meter=mock.Mock(),
        hub=Hub(),
        state=State(),
        history=10**6,
        clock=HandClock(),
    )
    try:
        entry = slot.decide(Request(SEEN[3], observed=1_700_000_000.0, received=1000.0))
        assert answers.parameters(entry, None).get("valid_until") == told
    finally:
        slot.close()


def test_refusals():
    with pytest.raises(UserError, match="no such fallback rule; known: droop"):
        power_live(SPEC, SETTINGS, SlotSettings(baseline="mpc"))
    with pytest.raises(UserError, match="cannot serve scenario 'moon'"):
        power_live(replace(SPEC, scenario="moon"), {}, SLOT)
    with pytest.raises(UserError, match="units: "):
        power_live(SPEC, {"units": 1}, SLOT)
    with pytest.raises(UserError, match="no feature named 'need'"):
        power_live(replace(SPEC, agent_features=SPEC.agent_features[:14]), {}, SLOT)
    with pytest.raises(UserError, match="set-points of one number"):
        power_live(replace(SPEC, action=Choice(3)), {}, SLOT)
    with pytest.raises(ValueError, match="set-points"):
        LIVE.project(SEEN[0], SEEN[0].low[:3], None, None)
    assert power().live is not None and set(LIVE.coupling(SPEC).tolist()) == {0}
