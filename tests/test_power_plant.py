"""Units that start, stop and fail: times, costs, trips to the second; branches; the commitment."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from power_small import small_grid
from power_toys import QUIET, Record, column, generated, share, toy

from fairlead.simulators.calendar import Calendar
from fairlead.simulators.power.commitment import needed, priority_list, without_short_runs
from fairlead.simulators.power.fleet import fleet_of
from fairlead.simulators.power.lodf import Topology
from fairlead.simulators.power.network import Network
from fairlead.simulators.power.plant import HOUR, Plant, Rules
from fairlead.simulators.power.scenario import Outages

HEAT = {
    "start_hours": [[0.5, 1.5, 3.0]],
    "start_after": [[0.0, 4.0, 12.0]],
    "start_cost": [[100.0, 200.0, 400.0]],
}


def with_units(grid, **columns):
    arrays = {name: np.array(values, float) for name, values in columns.items()}
    return replace(grid, units=replace(grid.units, **arrays))


def one_unit(**columns):
    base = small_grid([{"low": 20.0, "ramp": 2.0, "min_up": 2.0, "min_down": 3.0}], loads=(50.0,))
    return with_units(base, **{**HEAT, **columns})


def plant_of(grid, plan, *, need=None, topology=None, failed=()):
    """A plant that has begun, and its calendar."""
    fleet, calendar = fleet_of(grid, interval=300.0), Calendar()
    plant = Plant(fleet, Rules.of(fleet, grid.units), topology)
    plan = np.array(plan, bool)
    out = np.zeros(fleet.size, bool)
    out[list(failed)] = True
    plant.begin(
        calendar,
        plan=plan,
        need=np.zeros(len(plan)) if need is None else np.array(need, float),
        surprise=lambda _: 0.0,
        failed=out,
        branches_out=np.zeros(0, np.int64),
    )
    return plant, calendar


def hours_on(plant, calendar, hours, per_hour=12):
    """State of all units every five minutes, ``[hours * 12 + 1, A]``."""
    states = []
    for step in range(hours * per_hour + 1):
        calendar.run_until(step * HOUR / per_hour)
        states.append(plant.on.copy())
    return np.array(states)


@pytest.mark.parametrize(
    ("rest", "cost", "lead"), [(3, 100.0, 0.5), (4, 200.0, 1.5), (11, 200.0, 1.5), (12, 400.0, 3.0)]
)
def test_starts_cost_and_take_what_the_time_at_rest_makes_of_them(rest, cost, lead):
    # On for 2 h, off; wanted again so that the start is ordered ``rest`` hours after the stop.
    # (Starts are ordered at full hours, early enough to be ready.)
    wanted = 2 + rest + int(np.ceil(lead))
    plan = np.zeros((wanted + 4, 1))
    plan[:2] = plan[wanted:] = 1.0
    plant, calendar = plant_of(one_unit(), plan)
    on = hours_on(plant, calendar, wanted + 3)[:, 0]
    assert plant.tally.starts == 1
    assert plant.tally.start_cost == cost
    began = 12 * (2 + rest) + round(12 * lead)
    assert on[12 * 2 - 1]
    assert not on[12 * 2 : began].any()
    assert on[began:].all()


def test_minimum_times_hold_against_the_plan():
    plan = np.array([1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1], bool)[:, None]
    grid = one_unit(start_hours=[[0.0, 0.0, 0.0]])
    plant, calendar = plant_of(grid, plan)
    on = hours_on(plant, calendar, 18)[:, 0]
    edges = np.flatnonzero(np.diff(on.astype(int))) + 1
    runs = np.diff(np.concatenate([[0], edges, [on.size]])) / 12.0
    state = on[np.concatenate([[0], edges])]
    # The last run is cut by the end.
    assert (runs[1:-1][state[1:-1]] >= 2.0).all()
    assert (runs[1:-1][~state[1:-1]] >= 3.0).all()
    assert edges.size >= 3


@pytest.mark.parametrize("seed", range(3))
def test_minimum_times_hold_in_generated_days(seed):
    simulator = generated(hours=48, outages=QUIET)
    record = Record(simulator, column(simulator, "merit"), seed)
    fleet, rules = simulator._fleet, simulator._rules
    on = np.stack([one.top for one in record.outlooks]) > 0.0
    seen = 0
    for agent in np.flatnonzero(fleet.thermal).tolist():
        edges = np.flatnonzero(np.diff(on[:, agent].astype(int))) + 1
        for first, last in pairwise(edges.tolist()):
            least = rules.least[agent, 0 if on[first, agent] else 1]
            assert (last - first) / 12.0 >= least - 1e-9
            seen += 1
    assert seen > 0
    assert record.metrics["starts"] > 0.0


def test_a_stop_is_announced_and_the_unit_comes_down_for_it():
    grid = small_grid(
        [{"low": 20.0, "ramp": 2.0, "slopes": (5.0,)}, {"ramp": 10.0, "high": 200.0}],
        loads=(150.0,),
    )
    plan = [[1, 1], [1, 1], [0, 1], [0, 1]]
    simulator = toy(grid, np.full(48, 150.0), plan=plan, hours=4)
    record = Record(simulator, share(1.0))
    first = record.power[:, 0]
    stop = np.array([one.stop_in[0] for one in record.outlooks])
    assert stop[11] > 1e5
    assert stop[12] == 12.0
    assert stop[23] == 1.0
    assert first[12] > 60.0
    # 10 MW an interval: it has come down to its minimum when it is disconnected.
    assert first[24] == pytest.approx(20.0, abs=1e-4)
    assert (first[25:] == 0.0).all()
    assert (np.abs(np.diff(first[:25])) <= 10.0 + 1e-4).all()
    assert record.metrics["shed_mwh"] == 0.0


def test_units_that_stop_in_the_same_hour_stop_one_after_another():
    small = {"low": 20.0, "ramp": 2.0, "high": 40.0, "slopes": (40.0,)}
    big = {"ramp": 3.0, "high": 300.0, "slopes": (10.0,)}
    grid = small_grid([big, *[small] * 4], loads=(250.0,))
    plan = np.array([[1, 1, 1, 1, 1]] * 2 + [[1, 0, 0, 0, 0]] * 2)
    simulator = toy(grid, np.full(48, 250.0), plan=plan, hours=4)
    record = Record(simulator, column(simulator, "merit"))
    on = np.stack([one.top for one in record.outlooks]) > 0.0
    stops = [int(np.argmin(on[:, agent])) for agent in range(1, 5)]
    assert sorted(stops) == [24, 27, 30, 33]
    # 80 MW at once would be more than the big one's 15 MW an interval.
    assert record.metrics["shed_mwh"] <= 4 * 5.0 / 12.0 + 1e-3
    assert record.metrics["starts"] == 0.0
    ends = np.array([one.stop_in for one in record.outlooks])
    for agent, stop in enumerate(stops, start=1):
        assert ends[12:stop, agent].tolist() == list(range(stop - 12, 0, -1))


def trip_at(simulator, agent, seconds):
    """Let ``agent`` fail at that second of the episode (after ``reset``)."""
    plant, calendar = simulator._plant, simulator._calendar

    def fail(_):
        plant.unit_changed(agent, up=False)

    event = calendar.timeout(seconds - calendar.now)
    event.callbacks.append(fail)


@pytest.mark.parametrize("second", [0.5, 75.0, 299.0])
def test_a_trip_in_the_middle_of_an_interval_is_accounted_to_the_second(second):
    grid = small_grid(
        [{"ramp": 20.0, "slopes": (10.0,)}, {"ramp": 20.0, "slopes": (30.0,)}], loads=(100.0,)
    )
    simulator = toy(grid, np.full(12, 100.0), network=False)
    seen = simulator.reset(0)
    trip_at(simulator, 0, 300.0 + second)
    wanted = np.array([[50.0], [50.0]], np.float32)
    simulator.step(np.clip(wanted, seen.low, seen.high))
    before = simulator.metrics()
    step = simulator.step(wanted)
    after = simulator.metrics()
    share_run = second / 300.0
    fuel = (after["cost_fuel_usd"] - before["cost_fuel_usd"]) * 12.0
    # Before the trip 50 MW each, afterwards the second alone with 100.
    average = 50.0 * share_run
    assert fuel == pytest.approx(10.0 * average + 30.0 * (100.0 - average), rel=1e-6)
    assert step.observation.state.tolist() == pytest.approx([0.0, 100.0], abs=1e-5)
    assert after["unit_trips"] == 1.0
    assert after["balance_residual_mw"] <= 1e-6
    assert (step.observation.low[0], step.observation.high[0]) == (0.0, 0.0)
    assert not step.observation.active[0]


def test_reserve_that_is_short_after_a_trip_recovers_with_the_next_start():
    unit = {"ramp": 20.0, "high": 100.0}
    grid = small_grid([unit, unit, {**unit, "slopes": (50.0,)}], loads=(90.0,))
    grid = with_units(
        grid, start_hours=np.full((3, 3), 0.5), start_cost=np.full((3, 3), 70.0), min_down=[0.0] * 3
    )
    plan = [[1, 1, 0]] * 3
    simulator = toy(grid, np.full(36, 90.0), plan=plan, reserve=50.0, hours=3)
    seen = simulator.reset(0)
    trip_at(simulator, 0, 1000.0)
    done = False
    while not done:
        step = simulator.step(share(0.5)(seen))
        seen, done = step.observation, step.truncated
    metrics = simulator.metrics()
    # 10 MW of room remain; the third unit is ordered at the full hour and ready half an hour later.
    assert metrics["starts"] == 1.0
    assert metrics["cost_start_usd"] == 70.0
    assert metrics["reserve_recovery_intervals"] == 15.0
    assert metrics["reserve_shortfall_mwh"] == pytest.approx(40.0 * 15 / 12, rel=1e-6)


def test_an_outage_that_would_split_the_network_is_refused_and_counted():
    grid = small_grid(
        [{}], branches=[(0, 1, 0.1, 99), (1, 2, 0.1, 99), (2, 0, 0.1, 99)], loads=(9.0,) * 3
    )
    topology = Topology(Network(grid, convention="x"))
    plant, _ = plant_of(grid, np.ones((2, 1)), topology=topology)
    plant.branch_changed(0, up=False)
    plant.branch_changed(1, up=False)
    assert topology.out.tolist() == [0]
    assert (plant.tally.branch_outages, plant.tally.splits_refused) == (1, 1)
    # The refused branch never went out, so its repair changes nothing.
    plant.branch_changed(1, up=True)
    plant.branch_changed(0, up=True)
    assert topology.closed.all()


def test_branch_outages_happen_and_flows_follow_them():
    simulator = generated(hours=24, outages=Outages(units=False, scale=1000.0))
    record = Record(simulator, column(simulator, "merit"), 0)
    closed = np.stack([one.closed for one in record.outlooks])
    assert record.metrics["branch_outages"] > 0.0
    assert (~closed).any()
    assert record.metrics["balance_residual_mw"] <= 1e-6
    again = Record(simulator, column(simulator, "merit"), 0)
    assert again.metrics == record.metrics


def test_priority_list_takes_the_cheapest_that_cover_the_need():
    grid = small_grid([{"slopes": (30.0,)}, {"slopes": (10.0,)}, {"slopes": (20.0,)}], loads=(9.0,))
    fleet, least = fleet_of(grid, interval=300.0), np.zeros((3, 2))
    need = np.array([50.0, 150.0, 250.0, 150.0, 150.0, 150.0, 50.0])
    plan = priority_list(fleet, need=need, min_hours=least, failed=np.zeros(3, bool))
    assert plan[:, 1].all()
    assert plan[:, 2].tolist() == [False, True, True, True, True, True, False]
    assert plan[:, 0].tolist() == [False, False, True, False, False, False, False]
    out = priority_list(fleet, need=need, min_hours=least, failed=np.array([False, True, False]))
    assert (out.sum(axis=1) >= plan.sum(axis=1)).all()


def test_short_pauses_and_runs_are_filled():
    wanted = np.array([1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0], bool)[:, None]
    least = np.array([[2.0, 1.0]])
    filled = without_short_runs(wanted, np.array([True]), least)[:, 0]
    assert filled.astype(int).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]


def test_needed_capacity_adds_margins_to_what_is_uncertain():
    found = needed(
        np.array([100.0, -50.0]), np.array([40.0, 200.0]), np.full(2, 10.0), margins=(0.1, 0.2)
    )
    assert found.tolist() == pytest.approx([128.0, 50.0])
