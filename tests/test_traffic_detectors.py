"""Detector readings against a recomputation vehicle by vehicle, and against small cases by hand."""

import numpy as np
import pytest
from traffic_small import IDEAL, PLAIN, run, streets, traffic

from fairlead.simulators.observations import random_actions
from fairlead.simulators.traffic.detectors import START, Detectors
from fairlead.simulators.traffic.readings import NEAR, RANGE
from fairlead.simulators.traffic.scenario import ArterialScenario, GridScenario
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.town import town_of

NAMES = ("queue", "near", "seen", "soon", "count", "wait", "longest")
INTERVAL = 5.0


def readings(found, interval=INTERVAL):
    read = Detectors(found.layout, interval=interval).read(found)
    return {name: getattr(read, name) for name in NAMES}


def recomputed(found, interval=INTERVAL):
    """The same from the queues themselves, one vehicle at a time."""
    now, motion = found.calendar.now, found.motion
    space = np.mean([kind.space for kind in found.layout.kinds])
    out = {name: np.zeros(len(found.queues)) for name in NAMES}
    for lane, queue in enumerate(found.queues):
        moves = motion.started[lane] < np.inf
        left = motion.gone[lane] - motion.gone_before[lane] if moves else 0
        rested = motion.last_before[lane] if moves else motion.last[lane]
        for rank, vehicle in enumerate(queue):
            slot = rank + left  # its place in the queue that stood here
            speed = found.speed[vehicle]
            free = (found.ready[vehicle] - now) * speed
            came = found.ready[vehicle] - slot * space / speed
            stands = free <= slot * space
            if moves and now - motion.started[lane] > START * slot:
                stands = False
            away = slot * space if stands else max(free, rank * space)
            out["count"][lane] += 1
            out["near"][lane] += away <= NEAR
            out["seen"][lane] += away <= RANGE
            if stands and away <= RANGE:
                waited = max(now - max(came, rested), 0.0)
                out["queue"][lane] += 1
                out["wait"][lane] += waited
                out["longest"][lane] = max(out["longest"][lane], waited)
            if not (stands and away <= RANGE) and free <= interval * speed:
                out["soon"][lane] += 1
    return out


def same(one, other):
    for name in NAMES:
        assert one[name] == pytest.approx(other[name], abs=1e-6), name


@pytest.mark.parametrize(
    "scenario",
    [
        GridScenario(rows=2, columns=3, mixed=True, rate=700.0, seconds=600.0),
        GridScenario(rows=3, columns=3, spacing=80.0, rate=900.0, seconds=600.0),
        ArterialScenario(signals=3, seconds=600.0, interval=7.5),
    ],
    ids=["grid", "jam", "arterial"],
)
def test_readings_are_those_of_a_recomputation(scenario):
    sim = TrafficSimulator(town_of(scenario))
    seen, rng = sim.reset(1), np.random.default_rng(1)
    total = 0.0
    for _ in range(sim.spec.horizon):
        seen = sim.step(random_actions(sim.spec, seen, rng)).observation
        read = sim._detectors.read(sim.streets)
        found = {name: getattr(read, name) for name in NAMES}
        same(found, recomputed(sim.streets, scenario.interval))
        assert (found["queue"] <= found["seen"]).all()
        assert (found["near"] <= found["seen"]).all()
        assert (found["seen"] <= found["count"]).all()
        assert (found["longest"] <= found["wait"] + 1e-9).all()
        assert found["count"].sum() == sum(len(queue) for queue in sim.streets.queues)
        total += found["wait"].sum()
    assert total > 1000.0


APPROACH = [("in", 400, 20), ("out", 1000, 20)]


def at(time, plan, departures, driving=PLAIN, kind=IDEAL):
    network = streets(APPROACH, [("in", "out", 0)], greens=("G",))
    demand = traffic(network, [(when, ["in", "out"]) for when in departures], kind)
    return run(network, demand, until=time, plan=plan, driving=driving)


RED = [(0, "r"), (60, "G")]


def test_a_free_vehicle_is_seen_near_and_soon_as_it_comes():
    # 20 s over the link: 240 m before the stop line at 8 s, 100 m at 15 s, 40 m at 18 s.
    found = [readings(at(time, RED, [0.0])) for time in (8.0, 15.0, 18.0)]
    assert [read["seen"][0] for read in found] == [0, 1, 1]
    assert [read["near"][0] for read in found] == [0, 0, 1]
    assert [read["soon"][0] for read in found] == [0, 1, 1]
    assert [read["queue"][0] for read in found] == [0, 0, 0]
    assert [read["count"][0] for read in found] == [1, 1, 1]


def test_vehicles_queue_where_the_one_before_lets_them():
    # The first stands after 20 s, the second 7.5 m behind it 0.375 s before it would be there.
    read = readings(at(30.0, RED, [0.0, 4.0, 9.0, 12.0]))
    assert read["queue"][0] == 3
    assert read["wait"][0] == pytest.approx(10.0 + 6.375 + 1.75, abs=1e-3)
    assert read["longest"][0] == pytest.approx(10.0, abs=1e-3)
    assert read["near"][0] == 4  # the last one is 40 m away
    assert read["soon"][0] == 1


def test_a_queue_starts_from_its_head_and_who_has_not_started_still_waits():
    # Ten stand from their arrivals on; 5 s after green the wave has reached 5 / 1.3 = 3 of them.
    departures = [3.0 * k for k in range(10)]
    before, after = (readings(at(time, RED, departures)) for time in (59.9, 65.0))
    assert before["queue"][0] == 10
    assert after["count"][0] == 7  # at 60, 62 and 64 s three have crossed
    assert after["queue"][0] == 6  # the fourth moves
    came = [20.0 + 3.0 * k - 7.5 * k / 20 for k in range(10)]
    assert after["wait"][0] == pytest.approx(sum(65.0 - came[k] for k in range(4, 10)), abs=1e-2)


def test_who_joins_before_the_start_wave_stops_and_who_comes_after_it_does_not():
    # Ten stand. The place behind them, 75 m away, is 16.25 s from the origin; the wave starts it
    # at 73 s.
    departures = [3.0 * k for k in range(10)]
    joined = readings(at(67.0, RED, [*departures, 66.5 - 16.25]))["queue"][0]
    without = readings(at(67.0, RED, departures))["queue"][0]
    assert joined == without + 1
    late = at(76.0, RED, [*departures, 74.0 - 16.25])
    assert readings(late)["queue"][0] == 0
    assert readings(late)["count"][0] == 11 - 9  # one every 2 s from 60 s on


def test_who_waits_for_a_gap_stands():
    network = streets(
        [("main", 400, 20), ("side", 400, 20), ("east", 500, 20), ("north", 500, 20)],
        [("main", "east"), ("side", "north")],
        yields={1: (0,)},
    )
    trips = [(2.0 * k, ["main", "east"]) for k in range(60)]
    trips += [(0.0, ["side", "north"]), (3.0, ["side", "north"])]
    found = run(network, traffic(network, trips), until=50.0)
    assert readings(found)["queue"][1] == 2
    assert readings(found)["longest"][1] == pytest.approx(30.0, abs=1e-3)


def test_a_new_red_lets_who_moved_stand_again():
    departures = [3.0 * k for k in range(10)]
    plan = [(0, "r"), (60, "G"), (67, "r")]
    read = readings(at(90.0, plan, departures))
    assert read["queue"][0] == 6  # four crossed at 60, 62, 64 and 66 s
    assert read["wait"][0] == pytest.approx(6 * 24.0, abs=1e-3)
    assert read["longest"][0] == pytest.approx(24.0, abs=1e-3)


def test_beyond_the_range_nobody_is_seen():
    read = readings(at(300.0, [(0, "r")], [2.0 * k for k in range(50)]))
    assert read["count"][0] == 50
    assert read["queue"][0] == read["seen"][0] == RANGE // 7.5 + 1
    assert read["near"][0] == NEAR // 7.5 + 1
