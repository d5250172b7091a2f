"""The cloud's part of the controller: projection against brute force, closed-form costs, bounds."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import factory, observations

from fairlead.platform.cloud_live import DEFAULT, cloud_live
from fairlead.platform.decision.settings import SlotSettings
from fairlead.platform.decision.types import Cause
from fairlead.platform.files import UserError
from fairlead.platform.registry import find_domain
from fairlead.platform.tasks import DomainFactory
from fairlead.simulators.cloud.snapshot import influence

NODES = 4


@cache
def game(scenario="dispatch", **settings):
    made = DomainFactory("cloud", scenario, settings)
    simulator = made.simulator()
    return simulator, made.values().model_dump(mode="json")


def live(scenario="dispatch", knobs=None, **settings):
    simulator, values = game(scenario, **settings)
    return cloud_live(simulator.spec, values, knobs or SlotSettings())


def blank(spec, rows, width):
    """An observation of ``rows`` agents with ``width`` candidates, all zeros, everybody active."""
    box = np.zeros((rows, 0), np.float32)
    mask = np.ones((rows, width), bool)
    target = np.tile(np.arange(-1, width - 1), (rows, 1))
    return replace(
        observations()[0],
        agent=np.zeros((rows, len(spec.agent_features)), np.float32),
        candidates=np.zeros((rows, width, len(spec.candidate_features)), np.float32),
        target=target,
        mask=mask,
        low=box,
        high=box,
        active=np.ones(rows, bool),
    )


def limited(jobs, limit, *, mask=None, active=None, age=None):
    """Agents in front of ``NODES`` nodes with a job limit; ``jobs [NODES]`` are there already."""
    found = live(node_limit=limit, agents=20)
    spec = game(node_limit=limit, agents=20)[0].spec
    rows = len(mask) if mask is not None else 5
    seen = blank(spec, rows, NODES + 1)
    seen.candidates[:, 1:, spec.candidate_column("jobs")] = jobs
    seen.candidates[:, 1:, spec.candidate_column("service")] = [1.0, 2.0, 3.0, 4.0]
    full = np.asarray(jobs) >= limit
    seen.mask[:, 1:] &= ~full
    if mask is not None:
        seen.mask[:, 1:] &= np.asarray(mask, bool)
    if active is not None:
        seen.active[:] = active
    if age is not None:
        seen.agent[:, spec.agent_column("age")] = age
    return found, seen


def feasible(seen, actions, limit, jobs):
    placed = np.zeros(NODES, int)
    for row, action in enumerate(actions):
        if action and not (seen.mask[row, action] and seen.active[row]):
            return False
        if action:
            placed[action - 1] += 1
    return bool((np.asarray(jobs) + placed <= limit)[placed > 0].all())


cases = st.integers(1, 5).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(0, 3), min_size=NODES, max_size=NODES),
        st.integers(1, 3),
        st.lists(
            st.lists(st.booleans(), min_size=NODES, max_size=NODES), min_size=rows, max_size=rows
        ),
        st.lists(st.booleans(), min_size=rows, max_size=rows),
        st.lists(st.integers(0, 3), min_size=rows, max_size=rows),
        st.lists(st.integers(-2, NODES + 2), min_size=rows, max_size=rows),
    )
)


@settings(max_examples=300, deadline=None)
@given(cases)
def test_job_limits_are_met_by_as_few_changes_as_possible(case):
    jobs, limit, mask, active, age, wanted = case
    found, seen = limited(jobs, limit, mask=mask, active=active, age=age)
    wanted = np.array(wanted)
    done = found.project(seen, wanted, None, None)
    assert feasible(seen, done.actions.tolist(), limit, jobs)
    choices = [range(NODES + 1)] * len(wanted)
    least = min(
        int((np.array(joint) != wanted).sum())
        for joint in itertools.product(*choices)
        if feasible(seen, joint, limit, jobs)
    )
    assert int((done.actions != wanted).sum()) == least
    changed = done.actions != wanted
    assert (changed == (done.cause != 0)).all() and (changed == (done.distance == 1.0)).all()
    again = found.project(seen, done.actions, None, None)
    assert (again.actions == done.actions).all() and not again.cause.any()


def test_the_longest_waiting_is_served_first_and_others_move_to_the_next_best():
    found, seen = limited([0, 0, 0, 0], 1, age=[1, 5, 3, 3, 0])
    done = found.project(seen, np.array([1, 1, 1, 1, 0]), None, None)
    # Agent 1 keeps node 0; then by age agents 2, 3 and 0 take nodes 1, 2 and 3 (cheapest first).
    assert done.actions.tolist() == [4, 1, 2, 3, 0]
    assert done.cause.tolist() == [Cause.COUPLING, 0, Cause.COUPLING, Cause.COUPLING, 0]


def test_who_finds_no_room_holds():
    found, seen = limited([2, 2, 2, 1], 2, mask=[[0, 0, 0, 1]] * 3)
    done = found.project(seen, np.array([4, 4, 1]), None, None)
    assert done.actions.tolist() == [4, 0, 0]
    assert done.cause.tolist() == [0, Cause.COUPLING, Cause.LEGALITY]


def test_illegal_choices_become_the_cheapest_legal_one():
    found = live(agents=20)
    spec = game(agents=20)[0].spec
    seen = blank(spec, 4, 4)
    seen.candidates[:, 1:, spec.candidate_column("service")] = [3.0, 1.0, 2.0]
    seen.mask[0, 2] = False
    seen.mask[1, 1:] = False
    seen.active[3] = False
    done = found.project(seen, np.array([2, 1, 99, 1]), None, None)
    assert done.actions.tolist() == [3, 0, 2, 0]
    assert done.cause.tolist() == [Cause.LEGALITY] * 4


def test_one_action_for_each_row():
    found, seen = limited([0] * 4, 1)
    with pytest.raises(ValueError, match="expected"):
        found.project(seen, np.zeros(3, np.int64), None, None)


def packed(free, demand):
    """Agents with vector demands in front of nodes with vector free resources."""
    found = live("openb", agents=8, nodes=40)
    spec = game("openb", agents=8, nodes=40)[0].spec
    seen = blank(spec, len(demand), len(free) + 1)
    for name, column in (("cpu_free", 0), ("mem_free", 1), ("gpu_free", 2)):
        seen.candidates[:, 1:, spec.candidate_column(name)] = np.array(free)[:, column]
    for name, column in (("cpu", 0), ("mem", 1), ("gpu_milli", 2)):
        seen.agent[:, spec.agent_column(name)] = np.array(demand)[:, column]
    seen.agent[:, spec.agent_column("gpu_count")] = 1.0
    growth = np.arange(len(free), dtype=np.float32) * 10.0
    seen.candidates[:, 1:, spec.candidate_column("fragmentation_delta")] = growth
    fits = (np.array(demand)[:, None, :] <= np.array(free)[None]).all(axis=2)
    seen.mask[:, 1:] = fits
    return found, seen


def by_the_book(seen, demand, free, wanted, age):
    """The documented order, in plain Python."""
    order = sorted(range(len(wanted)), key=lambda row: (-age[row], row))
    left = [list(row) for row in free]
    actions = [0] * len(wanted)
    legal = [bool(seen.mask[row, w]) for row, w in enumerate(wanted)]
    moved = []

    def take(row, node):
        if any(d > f for d, f in zip(demand[row], left[node], strict=True)):
            return False
        left[node] = [f - d for d, f in zip(demand[row], left[node], strict=True)]
        return True

    for row in order:
        if wanted[row] and legal[row] and take(row, wanted[row] - 1):
            actions[row] = wanted[row]
        elif wanted[row]:
            moved.append(row)
    for row in moved:
        for node in range(len(free)):
            if seen.mask[row, node + 1] and take(row, node):
                actions[row] = node + 1
                break
    return actions


vectors = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_vectors_are_packed_in_the_documented_order(data):
    rows = data.draw(st.integers(1, 6))
    demand = data.draw(st.lists(vectors, min_size=rows, max_size=rows))
    free = data.draw(st.lists(vectors, min_size=3, max_size=3))
    wanted = data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    age = data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    found, seen = packed(free, demand)
    spec = game("openb", agents=8, nodes=40)[0].spec
    seen.agent[:, spec.agent_column("age")] = age
    done = found.project(seen, np.array(wanted), None, None)
    assert done.actions.tolist() == by_the_book(seen, demand, free, wanted, age)
    used = np.zeros((3, 3))
    for row, action in enumerate(done.actions.tolist()):
        if action:
            used[action - 1] += demand[row]
    assert (used <= np.array(free)).all()
    again = found.project(seen, done.actions, None, None)
    assert (again.actions == done.actions).all() and not again.cause.any()


def test_the_cost_of_a_joint_decision_is_the_growth_of_the_drain_cost():
    """Predicted cost minus holding = change of sum over pairs of min(r_i, r_j), exactly."""
    simulator, values = game(agents=12, snapshot_age=0)
    found = cloud_live(simulator.spec, values, SlotSettings())
    seen = simulator.reset(3)
    rng = np.random.default_rng(0)
    for _ in range(6):
        draw = np.where(seen.mask, rng.random(seen.mask.shape), -1.0)
        draw[:, 0] = -0.5
        actions = np.where(seen.active, draw.argmax(axis=1), 0)
        snapshot = simulator._snapshots[-1]
        placed = np.flatnonzero(actions)
        nodes = seen.target[placed, actions[placed]]
        service = seen.private["service"][placed, actions[placed]]

        def drain(extra, snapshot=snapshot):
            total = 0.0
            for node in range(snapshot.jobs.shape[0]):
                there = snapshot.remaining[snapshot.start[node] : snapshot.start[node + 1]]
                jobs = np.concatenate([there, extra.get(node, [])])
                total += np.minimum(jobs[:, None], jobs[None]).sum()
            return total

        joint = {int(n): service[nodes == n] for n in set(nodes.tolist())}
        grown = drain(joint) - drain({})
        cost, bound = found.objective(seen, actions)
        held = np.flatnonzero(seen.active & (actions == 0))
        hold = sum(found.objective(only(seen, row), np.zeros(1, int))[0] for row in held)
        assert cost - hold == pytest.approx(grown, rel=1e-5)
        assert bound <= cost + 1e-9
        seen = simulator.step(actions).observation


def only(seen, row):
    """The part of the observation of one agent."""
    names = ("agent", "candidates", "target", "mask", "low", "high", "active")
    return replace(seen, **{name: getattr(seen, name)[row : row + 1] for name in names})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_no_joint_decision_is_below_the_bound(seed):
    rng = np.random.default_rng(seed)
    found = live(agents=20)
    spec = game(agents=20)[0].spec
    seen = blank(spec, 3, 4)
    seen.candidates[:, 1:] = rng.exponential(size=(3, 3, len(spec.candidate_features)))
    seen.agent[:] = rng.exponential(size=seen.agent.shape)
    seen.mask[:, 1:] = rng.random((3, 3)) < 0.8
    joints = [
        np.array(joint)
        for joint in itertools.product(range(4), repeat=3)
        if seen.mask[np.arange(3), joint].all()
    ]
    costs = [found.objective(seen, joint)[0] for joint in joints]
    bound = found.objective(seen, joints[0])[1]
    assert bound <= min(costs) + 1e-6
    # Margins: the bound's promise never exceeds what asking the baseline would say.
    base = joints[int(np.argmin(costs))]
    for joint in joints[::5]:
        _, margin = found.recoverable(seen, joint, base)
        assert found.surely_recoverable(seen, joint) <= margin + 1e-9


def test_a_look_ahead_by_hand():
    found = live(agents=20, knobs=SlotSettings(simplex={"limit": 2.0}))
    spec = game(agents=20)[0].spec
    seen = blank(spec, 1, 3)
    dt = spec.dt
    seen.candidates[0, 1:, spec.candidate_column("service")] = [2 * dt, 5 * dt]
    # The baseline's choice costs 2 dt, so 4 dt are allowed; the other one costs 5 dt.
    good, bad = np.array([1]), np.array([2])
    assert found.recoverable(seen, good, good) == (True, pytest.approx(0.5))
    verdict, margin = found.recoverable(seen, bad, good)
    assert not verdict and margin == pytest.approx(-0.25)
    assert found.deviation(seen, bad).tolist() == [1.0]
    assert found.deviation(seen, np.array([0])).tolist() == [0.0]
    nobody = replace(seen, active=np.zeros(1, bool))
    assert found.recoverable(nobody, np.zeros(1, int), np.zeros(1, int)) == (True, 1.0)
    assert found.deviation(nobody, np.zeros(1, int)).tolist() == [0.0]


def test_numbers_that_are_not_finite_are_never_chosen_and_never_come_out():
    found, seen = limited([0] * 4, 1)
    seen.candidates[0] = np.nan
    seen.agent[1] = np.nan
    done = found.project(seen, np.array([9, 1, 1, 1, 1]), None, None)
    assert done.actions[0] == 0 and np.isfinite(done.distance).all()
    assert np.isfinite(found.deviation(seen, done.actions)).all()


@pytest.mark.parametrize("scenario", ["dispatch", "llm", "openb", "swf"])
def test_every_scenario_plays_with_its_own_fallback(scenario):
    sizes = {"dispatch": {"agents": 10}, "llm": {"agents": 10}, "openb": {"agents": 8, "nodes": 40}}
    extra = sizes.get(scenario, {"agents": 2, "jobs": 64})
    simulator, values = game(scenario, **extra)
    domain = find_domain("cloud")
    found = domain.live(simulator.spec, values, SlotSettings())
    assert found.baseline.name == DEFAULT[scenario]
    assert found.baseline.information == "same"
    rng = np.random.default_rng(1)
    seen = simulator.reset(2)
    rule = next(
        r
        for r in domain.heuristics(domain.scenarios[scenario].model_validate(values))
        if r.name == DEFAULT[scenario]
    )
    for _ in range(15):
        actions = found.baseline.act(seen, np.random.default_rng(7))
        assert (actions == rule.act(seen, np.random.default_rng(7))).all()
        wanted = np.where(seen.mask, rng.random(seen.mask.shape), -1.0).argmax(axis=1)
        done = found.project(seen, wanted, None, None)
        cost, bound = found.objective(seen, done.actions)
        assert 0.0 <= bound <= cost + 1e-6
        assert found.recoverable(seen, actions, actions)[0]
        deviation = found.deviation(seen, done.actions)
        assert ((deviation >= 0) & (deviation <= 1)).all()
        seen = simulator.step(done.actions).observation
    assert found.hold(seen, None, None) is None
    assert not found.hold(seen, done.actions, None).any() and not found.safe(seen).any()
    groups = found.coupling(simulator.spec)
    assert groups.shape == (simulator.spec.agents,)
    assert len(set(groups.tolist())) == (simulator.spec.agents if scenario == "swf" else 1)


def test_knobs_that_do_not_fit_are_told():
    simulator, values = game(agents=10)
    with pytest.raises(UserError, match=r"round-robin.*known: .*softmax-sed"):
        cloud_live(simulator.spec, values, SlotSettings(baseline="round-robin"))
    with pytest.raises(UserError, match="agents"):
        cloud_live(simulator.spec, {"agents": -1}, SlotSettings())
    with pytest.raises(UserError, match="known: dispatch"):
        cloud_live(replace(simulator.spec, scenario="x"), values, SlotSettings())
    less = replace(simulator.spec, candidate_features=simulator.spec.candidate_features[:3])
    with pytest.raises(UserError, match="cannot be served"):
        cloud_live(less, values, SlotSettings())
    named = cloud_live(simulator.spec, values, SlotSettings(baseline="jsq"))
    assert named.baseline.name == "jsq"


def test_the_same_observation_is_priced_once_and_another_one_anew():
    found = live(agents=20)
    spec = game(agents=20)[0].spec
    seen = blank(spec, 1, 3)
    seen.candidates[0, 1:, spec.candidate_column("service")] = [1.0, 2.0]
    assert found.objective(seen, np.array([1]))[0] == pytest.approx(1.0)
    other = replace(seen, candidates=seen.candidates * 2.0)
    assert found.objective(other, np.array([1]))[0] == pytest.approx(2.0)


def test_two_hundred_agents_without_collisions_are_quick():
    """A ratio to one numpy operation on the same data, since absolute times depend on the day."""
    made = factory(200)
    simulator = made.simulator()
    found = cloud_live(simulator.spec, made.settings, SlotSettings())
    seen = simulator.reset(1)
    for _ in range(4):
        seen = simulator.step(found.baseline.act(seen, np.random.default_rng(0))).observation
    wanted = found.baseline.act(seen, np.random.default_rng(1))

    def fastest(call):
        return min(timed(call) for _ in range(300))

    def timed(call):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    unit = fastest(lambda: np.where(seen.mask, 1.0, 0.0).sum(axis=1))
    assert fastest(lambda: found.project(seen, wanted, None, None)) < 6 * unit


def test_influence_of_a_job_is_what_the_overlap_counts():
    """min(s, r) is the integral of the product of both profiles: the identity behind the costs."""
    edges = np.linspace(0.0, 8.0, 1601)
    one, two = influence(np.array(3.0), edges), influence(np.array(5.0), edges)
    assert (one * two).sum() * 0.005 == pytest.approx(3.0, rel=1e-3)
