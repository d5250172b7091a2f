"""The traffic domain inside the controller: projection, look-ahead, rules, and the live core."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from box_domain import rows_of
from hypothesis import given
from hypothesis import strategies as st

from fairlead.platform.decision.asking import Injected
from fairlead.platform.decision.core import decide
from fairlead.platform.decision.ladder import feasible
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
from fairlead.platform.traffic import traffic
from fairlead.platform.traffic_costs import FULL
from fairlead.platform.traffic_live import DEFAULT, traffic_live
from fairlead.policies.heuristics.traffic_local import local
from fairlead.policies.heuristics.traffic_rotation import Rotation
from fairlead.simulators.interface import Box, Choice
from fairlead.simulators.traffic.scenario import ArterialScenario, GridScenario
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.timing import TimingSettings
from fairlead.simulators.traffic.town import town_of

SCENARIO = GridScenario(rows=2, columns=3, rate=600.0, seconds=900.0, mixed=True)
SETTINGS = {"rows": 2, "columns": 3, "rate": 600.0, "seconds": 900.0, "mixed": True}
SLOT = SlotSettings(deadline=5.0)


def simulator(scenario=SCENARIO):
    return TrafficSimulator(town_of(scenario))


@cache
def episode():
    """Spec and observations under a rule that is not the fallback."""
    plant = simulator()
    rule = {rule.name: rule for rule in local(plant.spec)}["greedy"]
    seen = [plant.reset(3)]
    while len(seen) < 60:
        seen.append(plant.step(rule.act(seen[-1], None)).observation)
    return plant.spec, tuple(seen)


SPEC, SEEN = episode()
LIVE = traffic_live(SPEC, SETTINGS, SLOT)
COLUMN = {feature.name: at for at, feature in enumerate(SPEC.candidate_features)}
OWN = {feature.name: at for at, feature in enumerate(SPEC.agent_features)}
ROWS = np.arange(SPEC.agents)


def changed(seen, *, agent=(), candidate=(), **fields):
    """The observation with ``(name, row, value)`` and ``(name, row, choice, value)`` set."""
    own, each = seen.agent.copy(), seen.candidates.copy()
    for name, row, value in agent:
        own[row, OWN[name]] = value
    for name, row, choice, value in candidate:
        each[row, choice, COLUMN[name]] = value
    return replace(seen, agent=own, candidates=each, **fields)


def busy(count=1):
    """An observation in which at least so many agents may change, and those agents."""
    for seen in SEEN:
        free = np.flatnonzero(seen.active & seen.mask[:, 1])
        if len(free) >= count:
            return seen, free
    raise AssertionError


@given(st.integers(0, len(SEEN) - 1), st.integers(0, 2**31))
def test_what_is_projected_is_feasible_and_stays(index, seed):
    seen, rng = SEEN[index], np.random.default_rng(seed)
    wanted = rng.integers(-3, SPEC.action.candidates + 3, SPEC.agents)
    done = LIVE.project(seen, wanted, None, None)
    assert feasible(seen, done.actions)
    again = LIVE.project(seen, done.actions, None, None)
    np.testing.assert_array_equal(again.actions, done.actions)
    assert not again.cause.any() and not again.distance.any()
    np.testing.assert_array_equal(done.distance, done.actions != wanted)
    np.testing.assert_array_equal(done.cause != 0, done.actions != wanted)


def test_causes_tell_the_minimum_green_from_what_is_not_on_offer():
    seen, free = busy()
    row = int(free[0])
    young = changed(seen, agent=[("time_in_phase", row, 4.0)])
    wanted = np.zeros(SPEC.agents, np.int64)
    wanted[row] = 1
    assert LIVE.project(seen, wanted, None, None).actions[row] == 1
    done = LIVE.project(young, wanted, None, None)
    assert done.actions[row] == 0 and done.cause[row] == Cause.RAMP
    wanted[row] = 99
    done = LIVE.project(seen, wanted, None, None)
    assert done.actions[row] == 0 and done.cause[row] == Cause.LEGALITY
    idle = replace(seen, active=np.zeros(SPEC.agents, bool))
    wanted[row] = 1
    assert LIVE.project(idle, wanted, None, None).cause[row] == Cause.LEGALITY


def test_a_red_at_its_limit_comes_whatever_is_wanted_the_longest_first():
    seen, free = busy()
    row = int(free[0])
    phases = int(seen.agent[row, OWN["phases"]])
    assert phases >= 3
    limit = SCENARIO.timing.max_red - SCENARIO.timing.yellow - SCENARIO.interval
    wanted = np.zeros(SPEC.agents, np.int64)
    at = changed(seen, candidate=[("red", row, 1, limit), ("red", row, 2, 0.0)])
    assert LIVE.project(at, wanted, None, None).actions[row] == 0
    beyond = changed(seen, candidate=[("red", row, 1, limit + 1), ("red", row, 2, limit + 2)])
    done = LIVE.project(beyond, wanted, None, None)
    assert done.actions[row] == 2 and done.cause[row] == Cause.COUPLING
    wanted[row] = 2
    assert LIVE.project(beyond, wanted, None, None).cause[row] == Cause.NONE
    # Not before the minimum green, and not where nothing is on offer.
    young = changed(beyond, agent=[("time_in_phase", row, 1.0)])
    assert LIVE.project(young, np.zeros(SPEC.agents, np.int64), None, None).actions[row] == 0
    never = traffic_live(SPEC, {**SETTINGS, "timing": {"max_red": 0.0}}, SLOT)
    assert never.project(beyond, np.zeros(SPEC.agents, np.int64), None, None).actions[row] == 0


def test_what_the_simulator_offers_is_never_overruled():
    """Masks and forced phases of the observer are those that the projection finds itself."""
    scenario = ArterialScenario(signals=3, seconds=1800.0, timing=TimingSettings(max_red=60.0))
    plant = simulator(scenario)
    live = traffic_live(
        plant.spec, {"signals": 3, "seconds": 1800.0, "timing": {"max_red": 60.0}}, SLOT
    )
    seen, rng, moved = plant.reset(1), np.random.default_rng(0), 0
    for _ in range(plant.spec.horizon):
        draw = np.where(seen.mask, rng.random(seen.mask.shape), -1.0)
        wanted = draw.argmax(axis=1).astype(np.int64)
        done = live.project(seen, wanted, None, None)
        moved += int((done.cause != 0).sum())
        seen = plant.step(done.actions).observation
    assert moved == 0


def test_costs_by_hand():
    seen, free = busy(2)
    one, two = int(free[0]), int(free[1])
    every = [
        (name, row, choice, 0.0)
        for name in ("served", "left", "downstream")
        for row in ROWS
        for choice in range(SPEC.action.candidates)
    ]
    none = [(name, row, 0.0) for name in ("queue", "soon") for row in ROWS]
    hand = changed(
        seen,
        agent=[*none, ("queue", one, 6.0), ("soon", one, 4.0), ("queue", two, 2.0)],
        candidate=[
            *every,
            ("served", one, 0, 3.0), ("served", one, 1, 5.0), ("left", one, 1, 4.0),
            ("served", two, 0, 1.0), ("served", two, 1, 2.0), ("downstream", two, 1, 0.95),
            ("left", two, 1, 9.0),
        ],
    )  # fmt: skip
    hold = np.zeros(SPEC.agents, np.int64)
    # One: 6 wait 10 s, 4 come for 5 s. Two: 11 as its phase says; its link ahead takes half.
    waiting = 10.0 * 6 + 5.0 * 4 + 10.0 * 11
    cost, bound = LIVE.objective(hand, hold)
    assert cost == pytest.approx(waiting - 5.0 * (3 + 1))
    assert bound == pytest.approx(waiting - 5.0 * (5 + 1))
    changes = hold.copy()
    changes[[one, two]] = 1
    assert LIVE.objective(hand, changes)[0] == pytest.approx(bound)
    assert LIVE._price(hand).missed(hold) == pytest.approx(2.0)
    deviation = LIVE.deviation(hand, hold)
    # Other phases serve nobody; of those holding comes next.
    assert deviation[one] == pytest.approx(2 / 5) and LIVE.deviation(hand, changes)[one] == 0.0
    assert FULL == 0.9


@given(st.integers(0, len(SEEN) - 1), st.integers(0, 2**31))
def test_no_decision_is_cheaper_than_the_bound_and_margins_agree(index, seed):
    seen, rng = SEEN[index], np.random.default_rng(seed)
    draw = np.where(seen.mask & seen.active[:, None], rng.random(seen.mask.shape), -1.0)
    draw[:, 0] = np.where(seen.active, draw[:, 0], 1.0)
    actions = draw.argmax(axis=1).astype(np.int64)
    baseline = LIVE.project(seen, LIVE.baseline.act(seen, None), None, None).actions
    for chosen in (actions, baseline):
        cost, bound = LIVE.objective(seen, chosen)
        assert 0.0 <= bound <= cost + 1e-9
    sure = LIVE.surely_recoverable(seen, actions)
    good, margin = LIVE.recoverable(seen, actions, baseline)
    assert sure <= margin + 1e-12 and good == (margin >= 0.0)
    assert LIVE.recoverable(seen, baseline, baseline)[0]
    deviation = LIVE.deviation(seen, actions)
    assert deviation.dtype == np.float32 and ((deviation >= 0) & (deviation <= 1)).all()


def test_green_for_nobody_while_queues_wait_is_not_recoverable():
    seen, free = busy()
    served = [("served", row, 1, 20.0) for row in free] + [("served", row, 0, 0.0) for row in free]
    hand = changed(seen, candidate=[*served, *(("downstream", row, 1, 0.0) for row in free)])
    hold = np.zeros(SPEC.agents, np.int64)
    best = LIVE._price(hand).gain.argmax(axis=1) * LIVE._price(hand).deciding
    bad, margin = LIVE.recoverable(hand, hold, best.astype(np.int64))
    assert not bad and margin < 0.0 and LIVE.surely_recoverable(hand, hold) < 0.0
    # Where there is no room ahead nothing is lost.
    full = changed(hand, candidate=[("downstream", r, 1, 1.0) for r in free])
    assert LIVE.recoverable(full, hold, hold)[0]


def test_rules_are_selectable_and_legal():
    names = [rule.name for rule in local(SPEC)] + ["fixed-rotation"]
    assert DEFAULT in names and LIVE.baseline.name == DEFAULT
    for name in names:
        live = traffic_live(SPEC, SETTINGS, SlotSettings(baseline=name))
        assert live.baseline.name == name
        for seen in SEEN[::7]:
            chosen = live.baseline.act(seen, np.random.default_rng(1))
            assert feasible(seen, np.where(seen.active, chosen, 0))


@pytest.mark.parametrize(
    ("phases", "max_red", "green"),
    [(2, 120.0, 27.0), (4, 120.0, 27.0), (5, 120.0, 17.0), (8, 120.0, 7.0), (4, 0.0, 27.0)],
)
def test_the_rotation_lasts_as_long_as_the_longest_red_allows(phases, max_red, green):
    rule = Rotation(SPEC, TimingSettings(max_red=max_red))
    assert rule.green(np.array([float(phases)])) == pytest.approx([green])
    between, interval = 3.0, SPEC.dt
    if max_red:
        # At the last decision before its turn nobody's red is at the limit yet.
        red = (phases - 1) * (green + between) - interval
        assert red + between + interval <= max_red


def test_the_rotation_serves_every_phase_in_turn_without_being_forced():
    plant = simulator()
    rule, seen, shown = Rotation(plant.spec, SCENARIO.timing), plant.reset(1), []
    for _ in range(plant.spec.horizon):
        shown.append(plant.timing.phase.copy())
        forced = plant.timing.forced(seen.time, plant._waiting)
        assert (forced < 0).all()
        seen = plant.step(rule.act(seen, None)).observation
    for signal, phases in enumerate(plant.timing.phases.tolist()):
        own = [phase[signal] for phase in shown]
        turns = [b for a, b in pairwise(own) if a != b]
        assert turns[: 2 * phases] == [(k + 1) % phases for k in range(len(turns))][: 2 * phases]


def test_hold_safe_and_parts_of_the_signals():
    seen, agents = SEEN[20], np.array([4, 1])
    assert LIVE.hold(seen, None, None) is None
    np.testing.assert_array_equal(LIVE.hold(seen, LIVE.safe(seen), None), np.zeros(SPEC.agents))
    part = rows_of(seen, agents)
    whole = LIVE.project(seen, np.ones(SPEC.agents, np.int64), None, None)
    done = LIVE.project(part, np.ones(2, np.int64), None, agents)
    np.testing.assert_array_equal(done.actions, whole.actions[agents])
    assert LIVE.deviation(part, done.actions).shape == (2,)
    assert set(LIVE.coupling(SPEC).tolist()) == set(range(SPEC.agents))


def decided(answer, seen, settings=SLOT, state=None):
    live = traffic_live(SPEC, SETTINGS, settings)
    outcome = None
    if answer is not None:
        preference = np.zeros(seen.mask.shape, np.float32)
        outcome = Outcome("ok", Inference(answer, preference), 0.001)
    policy = None if outcome is None else Injected("d1gest", outcome)
    runtime = Runtime(SPEC, policy, None, live)
    request = Request(seen, observed=100.0, received=10.0)
    return decide(runtime, settings, state or State(), request, Clock(10.0, 100.0))


def test_live_decisions_are_feasible_and_name_who_made_them():
    seen, _ = busy()
    best = LIVE._price(seen).gain.argmax(axis=1).astype(np.int64)
    _, found = decided(best, seen)
    assert found.outcome == "ok" and not found.failures and feasible(seen, found.actions)
    assert np.isfinite(found.margin) and (found.deviation <= 1.0).all()
    _, found = decided(None, seen)
    assert (found.source == Source.BASELINE).all() and not found.failures
    np.testing.assert_array_equal(
        found.actions, LIVE.project(seen, LIVE.baseline.act(seen, None), None, None).actions
    )


def test_a_detector_that_fails_costs_the_others_nothing():
    seen, free = busy(2)
    blind = int(free[0])
    agent = seen.agent.copy()
    agent[blind] = np.nan
    settings = SlotSettings(deadline=5.0, validation={"imputed_share": 0.2})
    best = LIVE._price(seen).gain.argmax(axis=1).astype(np.int64)
    _, found = decided(best, replace(seen, agent=agent), settings)
    assert found.outcome == "degraded" and found.source[blind] == Source.BASELINE
    others = np.delete(found.source, blind)
    assert np.isin(others, (Source.POLICY, Source.PROJECTED)).all()


def test_refusals():
    with pytest.raises(UserError, match="no such fallback rule; known: discharge"):
        traffic_live(SPEC, SETTINGS, SlotSettings(baseline="mpc"))
    with pytest.raises(UserError, match="cannot serve scenario 'moon'"):
        traffic_live(replace(SPEC, scenario="moon"), {}, SLOT)
    with pytest.raises(UserError, match="rows: "):
        traffic_live(SPEC, {"rows": 0}, SLOT)
    with pytest.raises(UserError, match="no feature named"):
        traffic_live(replace(SPEC, candidate_features=SPEC.candidate_features[:8]), {}, SLOT)
    with pytest.raises(UserError, match="serves choices of phases"):
        traffic_live(replace(SPEC, action=Box(1)), {}, SLOT)
    with pytest.raises(ValueError, match="wanted actions"):
        LIVE.project(SEEN[0], np.zeros(2, np.int64), None, None)
    assert traffic().live is not None and isinstance(SPEC.action, Choice)
