"""The spatial queue against closed forms: free flow, bottlenecks, shock waves, merges, gridlock."""

from dataclasses import replace

import numpy as np
import pytest
from traffic_small import IDEAL, PLAIN, ideal, run, streets, traffic

from fairlead.simulators.traffic.detectors import Detectors
from fairlead.simulators.traffic.driving import Driving
from fairlead.simulators.traffic.storage import Storage

CORRIDOR = [("in", 1000, 20), ("out", 1000, 20)]
FLOW, SATURATION, SPEED, SPACE = 400 / 3600, 1949 / 3600, 13.89, 7.5
WAVE = SATURATION / (1 / SPACE - SATURATION / SPEED)
TAIL = FLOW / (1 / SPACE - FLOW / SPEED)


def evenly(every, count, route, first=0.0):
    return [(first + every * k, route) for k in range(count)]


def delay(found):
    """[V] s behind the free trip that the first vehicle has."""
    return np.array(found.finished) - np.array(found.entered)


# --- links ----------------------------------------------------------------------------------------


def test_free_flow_takes_length_over_speed():
    network = streets([("a", 1000, 20)])
    found = run(network, traffic(network, evenly(2.0, 250, ["a"])), until=600)
    assert found.completed == 250
    assert delay(found) == pytest.approx(np.full(250, 50.0), abs=1e-4)


def test_a_driver_who_likes_it_faster_is_so():
    network = streets([("a", 1000, 20)])
    demand = traffic(network, [(0, ["a"]), (1000, ["a"])])
    found = run(network, demand, until=2000, factor=np.array([1.25, 0.5]))
    assert delay(found) == pytest.approx([40.0, 100.0], abs=1e-4)


def test_walking_speed_and_dawdling_drivers_still_move():
    network = streets([("a", 100, 0.5)])
    found = run(network, traffic(network, [(0, ["a"])], replace(IDEAL, sigma=0.5)), until=1e4)
    assert delay(found) == pytest.approx([400.0], rel=1e-3)


def test_entering_cars_keep_their_distance():
    network = streets([("a", 1000, 20)])
    demand = traffic(network, [(0, ["a"])] * 10)
    found = run(network, demand, until=100, driving=PLAIN.model_copy(update={"insertion": 2.0}))
    assert list(found.entered) == pytest.approx([2.0 * k for k in range(10)])


def test_bottleneck_has_vickreys_queue_and_wait():
    # 0.8 veh/s for 300 s into 0.4 veh/s.
    network = streets(CORRIDOR, [("in", "out")])
    network = replace(network, length=np.array([5000.0, 1000.0]))
    demand = traffic(network, evenly(1.25, 240, ["in", "out"]), ideal(2.5))
    found = run(network, demand, until=2000)
    late = delay(found) - 300.0
    assert late == pytest.approx(1.25 * np.arange(240), abs=1e-3)
    assert late[-1] == pytest.approx((0.8 / 0.4 - 1) * 300, abs=2.5)
    at_end = run(network, demand, until=250 + 300)  # the last reaches the bottleneck
    waiting = at_end.motion.gone[0]
    assert 240 - waiting == pytest.approx((0.8 - 0.4) * 300, abs=1)


# --- shock waves ----------------------------------------------------------------------------------


def test_constants_of_the_triangular_diagram():
    assert pytest.approx(5.738, abs=5e-4) == WAVE
    assert pytest.approx(0.8865, abs=5e-5) == TAIL
    meeting = 33 * WAVE / (WAVE - TAIL)
    assert meeting == pytest.approx(39.031, abs=1e-3)
    assert TAIL * meeting == pytest.approx(34.601, abs=1e-3)


def standing(network, demand, plan, times):
    found = []
    for time in times:
        state = run(network, demand, until=time, plan=plan)
        found.append(Detectors(state.layout, interval=5.0).read(state).queue[0])
    return np.array(found)


def test_queue_grows_and_dissolves_as_shock_waves_say():
    kind = ideal(1 / SATURATION, SPEED)
    network = streets([("in", 400, SPEED), ("out", 4000, SPEED)], [("in", "out", 0)], greens=("G",))
    # Free vehicles pass the stop line every 9 s, one just as red begins at 900 s.
    first = -400 / SPEED % 9.0
    demand = traffic(network, evenly(9.0, 150, ["in", "out"], first), kind)
    plan = [(0, "G"), (900 - 1e-6, "r"), (933, "G")]
    times = np.arange(0.5, 33.0, 1.0)
    tail = standing(network, demand, plan, 900 + times) * SPACE
    assert np.abs(tail - TAIL * times).max() <= SPACE
    times = np.arange(33.0, 45.0, 0.1)
    left = standing(network, demand, plan, 900 + times)
    gone = times[np.argmax(left == 0)]
    assert gone == pytest.approx(39.031, abs=SPACE / WAVE)
    moved = np.array([9 * np.ceil(time / 9) for time in (gone,)])  # arrivals until then
    assert moved[0] / 9 * SPACE == pytest.approx(34.601, abs=SPACE)


@pytest.mark.parametrize("wave", [5.738, 0.0])
def test_spillback_ends_when_the_start_wave_has_come_upstream(wave):
    kind = ideal(1 / SATURATION, SPEED)
    network = streets(
        [("in", 900, SPEED), ("mid", 30, SPEED), ("out", 4000, SPEED)],
        [("in", "mid"), ("mid", "out", 0)],
        greens=("G",),
    )
    demand = traffic(network, evenly(9.0, 20, ["in", "mid", "out"]), kind)
    driving = PLAIN.model_copy(update={"wave": wave})
    red = 900 / SPEED + 30 / SPEED  # the first vehicle finds red
    plan = [(0, "r"), (red + 33, "G")]
    # Four find room; the fifth comes 36 s after the first and enters with the wave.
    expected = max(red + 36.0 - 30 / SPEED, red + 33 + (30 / wave if wave else 0.0))
    before, after = (
        run(network, demand, until=expected + step, driving=driving, plan=plan)
        for step in (-1e-3, 1e-3)
    )
    assert (before.lane_of[3], before.lane_of[4], after.lane_of[4]) == (1, 0, 1)
    assert after.spills == (1 if wave else 0)


def test_a_queue_shorter_than_the_link_does_not_spill_back():
    kind = ideal(1 / SATURATION, SPEED)
    network = streets(
        [("in", 900, SPEED), ("mid", 37.5, SPEED), ("out", 4000, SPEED)],
        [("in", "mid"), ("mid", "out", 0)],
        greens=("G",),
    )
    demand = traffic(network, evenly(9.0, 20, ["in", "mid", "out"]), kind)
    driving = PLAIN.model_copy(update={"wave": 5.738})
    red = 900 / SPEED + 37.5 / SPEED
    found = run(network, demand, until=600, driving=driving, plan=[(0, "r"), (red + 33, "G")])
    assert found.spills == 0
    assert found.completed == 20


@pytest.mark.parametrize(("rate_in", "rate_out", "room"), [(0.5, 0.25, 40), (0.8, 0.4, 100)])
def test_a_link_fills_in_storage_over_the_difference_of_flows(rate_in, rate_out, room):
    network = streets(
        [("in", 9e4, 1e6), ("mid", SPACE * room, 1e6), ("out", 9e4, 1e6)],
        [("in", "mid"), ("mid", "out")],
    )
    # The first stretch discharges faster than vehicles come, the second one is the bottleneck.
    network = replace(network, turn_speed=np.array([1e6, SPACE / (1 / rate_out - 0.1)]))
    kind = replace(IDEAL, tau=0.1)
    demand = traffic(network, evenly(1 / rate_in, 400, ["in", "mid", "out"]), kind)
    expected = room / (rate_in - rate_out)
    before = run(network, demand, until=expected - 1.5 / rate_in)
    after = run(network, demand, until=expected + 1.5 / rate_in)
    assert before.spills == 0
    assert after.spills > 0


# --- merges and diverges --------------------------------------------------------------------------


def merge_flows(rates, lanes=(1, 1)):
    """Shares of 0.5 veh/s, in the steady state, that two feeders of one link get."""
    network = streets(
        [("a", 3000, 20, lanes[0]), ("b", 3000, 20, lanes[1]), ("c", 75, 20), ("d", 9e4, 20)],
        [("a", "c"), ("b", "c"), ("c", "d")],
    )
    trips = [
        trip
        for name, rate in zip("ab", rates, strict=True)
        if rate
        for trip in evenly(1 / rate, int(2000 * rate), [name, "c", "d"])
    ]
    demand = traffic(network, trips)
    gone = [np.array(run(network, demand, until=at).motion.gone) for at in (800, 1800)]
    flow = (gone[1] - gone[0]) / 1000
    return flow[: lanes[0]].sum(), flow[lanes[0] : sum(lanes)].sum()


@pytest.mark.parametrize(
    ("rates", "lanes", "expected"),
    [
        ((0.4, 0.4), (1, 1), (0.25, 0.25)),
        ((0.8, 0.4), (1, 1), (0.25, 0.25)),
        ((0.8, 0.4), (2, 1), (1 / 3, 1 / 6)),
        ((0.1, 0.8), (1, 1), (0.1, 0.4)),
        ((0.2, 0.2), (1, 1), (0.2, 0.2)),
    ],
)
def test_merge_serves_lanes_in_turn_and_leaves_the_rest_to_who_needs_it(rates, lanes, expected):
    assert merge_flows(rates, lanes) == pytest.approx(expected, abs=0.003)


def test_diverge_blocks_who_goes_the_free_way():
    # Every third goes to the slow branch of 0.1 veh/s: 0.3 veh/s get through in all.
    network = streets(
        [("in", 5000, 20), ("fast", 9e4, 20), ("slow", 75, 20), ("end", 9e4, 20)],
        [("in", "fast"), ("in", "slow"), ("slow", "end")],
    )
    slow = SPACE / (10.0 - IDEAL.tau)
    network = replace(network, turn_speed=np.array([20.0, 20.0, slow]))
    ways = [["in", "fast"], ["in", "fast"], ["in", "slow", "end"]]
    demand = traffic(network, [(2.5 * k, ways[k % 3]) for k in range(700)])
    gone = [run(network, demand, until=at).motion.gone[0] for at in (700, 1700)]
    assert (gone[1] - gone[0]) / 1000 == pytest.approx(0.1 / (1 / 3), abs=0.003)


def test_the_emptier_lane_is_taken():
    network = streets([("in", 100, 20, 3), ("out", 100, 20)], [("in", "out", 0)], greens=("G",))
    demand = traffic(network, evenly(1.0, 9, ["in", "out"]))
    found = run(network, demand, until=20, plan=[(0, "r")])
    assert [list(queue) for queue in found.queues[:3]] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


# --- giving way -----------------------------------------------------------------------------------


def crossing(letters=(None, None)):
    """Two links that cross; the second gives way to the first."""
    return streets(
        [("main", 100, 20), ("side", 100, 20), ("east", 500, 20), ("north", 500, 20)],
        [("main", "east", letters[0]), ("side", "north", letters[1])],
        yields={1: (0,)},
        greens=("Gg",) if letters[0] is not None else (),
    )


def test_who_gives_way_waits_for_a_gap():
    network = crossing()
    # Main cars pass at 5, 7, ... 13 s; a gap lasts the clearing time and a margin.
    trips = [(2.0 * k, ["main", "east"]) for k in range(5)] + [(0.5, ["side", "north"])]
    found = run(network, traffic(network, trips), until=100)
    crossed = found.finished[1] - 25.0
    assert crossed == pytest.approx(13.0 + 1.0, abs=0.1)
    alone = run(network, traffic(network, [(0.5, ["side", "north"])]), until=100)
    assert alone.finished[0] == pytest.approx(0.5 + 5 + 25, abs=0.5)


def test_who_gives_way_goes_at_once_when_the_others_turn_red():
    network = crossing((0, 1))
    trips = [(2.0 * k, ["main", "east"]) for k in range(50)] + [(0.5, ["side", "north"])]
    plan = [(0, "Gg"), (40.0, "rg")]
    found = run(network, traffic(network, trips), until=200, plan=plan)
    assert found.finished[1] - 25.0 == pytest.approx(40.0, abs=1.0 + 1e-3)


def test_right_of_way_given_by_the_signal_lets_the_head_go_at_once():
    network = streets(
        [("main", 100, 20), ("side", 100, 20), ("east", 500, 20), ("north", 500, 20)],
        [("main", "east"), ("side", "north", 0)],
        yields={1: (0,)},
        greens=("g",),
    )
    trips = [(2.0 * k, ["main", "east"]) for k in range(50)] + [(0.5, ["side", "north"])]
    found = run(network, traffic(network, trips), until=200, plan=[(0, "g"), (41.3, "G")])
    assert found.finished[1] - 25.0 == pytest.approx(41.3, abs=1e-3)


def test_a_lane_that_gave_way_once_may_be_empty_when_somebody_gives_way_to_it():
    # Both give way to each other where g is shown; the first one leaves under G.
    network = streets(
        [("main", 100, 20), ("side", 100, 20), ("east", 500, 20), ("north", 500, 20)],
        [("main", "east", 0), ("side", "north", 1)],
        yields={0: (1,), 1: (0,)},
        greens=("gG",),
    )
    trips = [(0.0, ["main", "east"])]
    trips += [(2.0 * k, ["side", "north"]) for k in range(10)] + [(100.0, ["side", "north"])]
    plan = [(0, "gG"), (10.0, "Gr"), (20.0, "gg")]
    found = run(network, traffic(network, trips), until=300, plan=plan)
    assert found.completed == len(trips)


def test_a_lane_that_goes_on_loses_no_time_when_another_movement_of_it_gets_green():
    network = streets(
        [("in", 500, 20), ("left", 9e3, 20), ("ahead", 9e3, 20)],
        [("in", "left", 0), ("in", "ahead", 1)],
        greens=("rG", "GG"),
    )
    trips = [(0.0, ["in", "ahead"])] * 20
    driving = PLAIN.model_copy(update={"lost": 1.5})
    plans = [[(0, "rr"), (40, "rG")], [(0, "rr"), (40, "rG"), (49, "GG")]]
    moved = [
        list(run(network, traffic(network, trips), until=90, plan=plan, driving=driving).ready)
        for plan in plans
    ]
    assert moved[0] == moved[1]


# --- room ---------------------------------------------------------------------------------------


def test_space_is_usable_when_its_wave_has_arrived():
    network = streets([("a", 15, 20)])
    layout = run(network, traffic(network, []), until=0, driving=Driving(wave=5.0)).layout
    room = Storage(layout)
    for _ in range(2):
        assert room.find([0], 7.5, 0.0) == 0
        room.take(0, 7.5)
    assert room.find([0], 7.5, 0.0) == -1
    assert room.free(0, 7.5, 10.0) == pytest.approx(13.0)
    assert room.find([0], 7.5, 12.9) == -1
    assert room.fits_in_the_end(0, 7.5)
    assert not room.fits_in_the_end(0, 15.0)
    assert room.next([0], 10.0) == pytest.approx(13.0)
    assert room.used(12.9) == pytest.approx([15.0])
    assert room.used(13.0) == pytest.approx([7.5])
    assert room.find([0], 7.5, 13.0) == 0
    assert room.next([0], 13.0) == float("inf")
