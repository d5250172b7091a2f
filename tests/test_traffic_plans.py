"""Plans of the signals' own controllers: exact times, gap-out and max-out, who is in control."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from traffic_small import PLAIN, streets, traffic

from fairlead.platform.episodes import Stage, give_control
from fairlead.platform.files import UserError
from fairlead.platform.tasks import DomainFactory, Heuristic, Task
from fairlead.policies.heuristics.traffic_local import FieldPlan, Keep
from fairlead.policies.interface import Controller, PlantPlan
from fairlead.simulators.interface import LocallyControlled
from fairlead.simulators.traffic.actuated import Actuated, ActuatedSettings
from fairlead.simulators.traffic.layout import Layout
from fairlead.simulators.traffic.loops import Loops
from fairlead.simulators.traffic.plans import Programmes, plan_signals
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.scenario import GridScenario
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.streets import Streets
from fairlead.simulators.traffic.timing import Change, Timing, TimingSettings
from fairlead.simulators.traffic.town import Town, town_of

GREENS = ("Gr", "rG")
STEPS = (("Gr", 20.0), ("yr", 3.0), ("rG", 10.0), ("ry", 3.0))


def signal(steps=STEPS, offset=0.0, greens=GREENS):
    return Signal(name="s", greens=greens, programme=steps, offset=offset)


def crossing(trips=(), *, steps=STEPS, seconds=120.0, **timing):
    """Two one-way streets of 400 m that meet, one phase each."""
    links = [("a", 400, 20), ("b", 400, 20), ("out", 1000, 20)]
    network = streets(links, [("a", "out", 0), ("b", "out", 1)], greens=GREENS, programme=steps)
    scenario = GridScenario(seconds=seconds, driving=PLAIN, timing=TimingSettings(**timing))
    # Somebody on each street, so that shares of turning are defined; the last one never starts.
    trips = [*trips, (seconds + 1, ["a", "out"]), (seconds + 1, ["b", "out"])]
    return Town(scenario, network, traffic(network, trips))


def lamps(town, plan, seconds=None):
    """``(time, state)`` that the one signal shows under a plan, and the simulator."""
    simulator, shown, show = TrafficSimulator(town), [], Streets.show

    def spy(self, signal, state):
        now = self.calendar.now
        if shown and shown[-1][0] == now:  # only the last one counts
            shown.pop()
        if not shown or shown[-1][1] != state:
            shown.append((now, state))
        show(self, signal, state)

    with patch.object(Streets, "show", spy):
        simulator.use_local(plan)
        simulator.reset(0)
        for _ in range(int((seconds or town.scenario.seconds) // 10)):
            simulator.step(np.zeros(1, dtype=np.int64))
    return shown, simulator


# Fixed plans.


@pytest.mark.parametrize(("offset", "begin"), [(0.0, 0.0), (5.0, 100.0), (-50.0, 25207.0)])
def test_a_programme_shows_at_every_second_what_its_clock_says(offset, begin):
    plan = Programmes([signal(offset=offset)], begin=begin)
    ends = np.cumsum([seconds for _, seconds in STEPS])
    changes = {change.time: change.state for change in plan.changes(0.0, 200.0)}
    state = plan.at(0.0)[0].state
    for second in range(200):
        state = changes.get(float(second), state)
        position = (second + begin - offset) % 36.0
        assert state == STEPS[int(np.searchsorted(ends, position, side="right"))][0], second


def test_offsets_count_as_in_sumo():
    """Cologne's junction with an offset of 20 s from 25200 s on; times from SUMO 1.28."""
    letters = ["Grr", "yrr", "rGr", "ryr", "rrG", "rry", "GGr", "yyr"]
    steps = tuple(zip(letters, (29.0, 5.0, 6.0, 5.0) * 2, strict=True))
    plan = Programmes([signal(steps, 20.0, ("Grr", "rGr", "rrG", "GGr"))], begin=25200.0)
    assert plan.at(0.0)[0].state == "rrG"
    times = [change.time for change in plan.changes(0.0, 111.0)]
    assert times == [4.0, 9.0, 15.0, 20.0, 49.0, 54.0, 60.0, 65.0, 94.0, 99.0, 105.0, 110.0]


def test_intervals_end_to_end_lose_and_repeat_nothing():
    rng = np.random.default_rng(0)
    for _ in range(20):
        seconds = rng.uniform(1, 9, 4).tolist()
        steps = tuple((state, s) for (state, _), s in zip(STEPS, seconds, strict=True))
        plan = Programmes(
            [signal(steps, rng.uniform(-99, 99)), signal()], begin=rng.uniform(0, 30000)
        )
        ends = np.cumsum(rng.uniform(0.1, 40.0, 30))
        whole = plan.changes(0.0, float(ends[-1]))
        parts = [plan.changes(a, b) for a, b in zip([0.0, *ends[:-1]], ends, strict=True)]
        assert [change for part in parts for change in part] == whole
        times = np.array([change.time for change in whole])
        assert (np.diff(times) >= 0).all()
        # A cycle has four steps, at each signal.
        cycles = ends[-1] / np.array([sum(s for _, s in steps), 36.0])
        assert abs(len(whole) - 4 * cycles.sum()) <= 8


def test_changes_tell_the_green_that_is_shown_or_comes():
    plan = Programmes([signal()])
    told = [(c.time, c.state, c.phase, c.since) for c in plan.changes(0.0, 36.0)]
    assert told == [(0, "Gr", 0, 0), (20, "yr", 1, 23), (23, "rG", 1, 23), (33, "ry", 0, 36)]
    # Red between, a step of no length, and a green in two steps.
    steps = (("Gr", 9.0), ("yr", 3.0), ("rr", 2.0), ("rG", 4.0), ("rr", 0.0), ("rG", 6.0))
    told = [(c.time, c.phase, c.since) for c in Programmes([signal(steps)]).changes(0.0, 24.0)]
    assert told == [(0, 0, 0), (9, 1, 14), (12, 1, 14), (14, 1, 14), (18, 1, 14)]


@pytest.mark.parametrize("steps", [(), (("yr", 3.0),), (("Gr", 0.0),)])
def test_a_programme_without_green_is_refused(steps):
    with pytest.raises(ValueError, match="'s' has no programme"):
        Programmes([signal(steps)])


def test_the_fixed_plan_runs_with_its_own_yellow_and_the_timing_follows():
    steps = (("Gr", 17.0), ("yr", 4.0), ("rG", 11.0), ("ry", 4.0))
    town = crossing(steps=steps)
    shown, simulator = lamps(town, "fixed", 60)
    expected = [(0, "Gr"), (17, "yr"), (21, "rG"), (32, "ry"), (36, "Gr"), (53, "yr"), (57, "rG")]
    assert shown == expected
    assert simulator.timing.phase[0] == 1
    assert simulator.timing.since[0] == 57.0
    assert simulator.metrics()["switches"] == 3


def test_observations_under_a_plan_tell_its_phases_and_leave_no_choice():
    town = crossing([(0, ["b", "out"])])
    simulator = TrafficSimulator(town)
    simulator.use_local("fixed")
    seen = simulator.reset(0)
    ages = []
    for _ in range(6):
        assert not seen.active.any()
        assert (seen.mask == [[True, False]]).all()
        ages.append(float(seen.agent[0, simulator.spec.agent_column("time_in_phase")]))
        with pytest.raises(ValueError, match="illegal candidate 1"):
            simulator.step(np.ones(1, dtype=np.int64))
        seen = simulator.step(np.zeros(1, dtype=np.int64)).observation
    # At 20 s yellow is about to come. In yellow the coming green is 0 s old.
    assert ages == [0, 10, 20, 7, 4, 14]


def test_a_vehicle_at_red_ages_the_red_of_its_phase():
    town = crossing([(0, ["b", "out"])], steps=(("Gr", 55.0), ("yr", 3.0), ("rG", 10.0)))
    simulator = TrafficSimulator(town)
    simulator.use_local("fixed")
    simulator.reset(0)
    for _ in range(5):
        seen = simulator.step(np.zeros(1, dtype=np.int64)).observation
    assert seen.candidates[0, 1, simulator.spec.candidate_column("red")] == 50.0


# Retimed plans.


def test_webster_gives_the_busier_street_more_green():
    trips = [(second, ["a", "out"]) for second in range(0, 120, 4)]
    town = crossing([*trips, *[(second, ["b", "out"]) for second in range(0, 120, 12)]])
    (plan,) = plan_signals(town, "webster")
    assert [state for state, _ in plan.programme] == ["Gr", "yr", "rG", "ry"]
    greens = [seconds for state, seconds in plan.programme if state in GREENS]
    assert greens[0] > greens[1] >= 5.0
    assert plan_signals(town, "fixed") == town.network.signals
    with pytest.raises(ValueError, match="'actuated' is no programme"):
        plan_signals(town, "actuated")


def test_webster_keeps_the_yellow_and_all_red_of_the_timing_layer():
    town = crossing([(1, ["a", "out"]), (1, ["b", "out"])], yellow=4.0, all_red=2.0)
    (plan,) = plan_signals(town, "webster")
    assert [state for state, _ in plan.programme] == ["Gr", "yr", "rr", "rG", "ry", "rr"]
    assert [seconds for state, seconds in plan.programme if state not in GREENS] == [4, 2, 4, 2]


# Actuated control, without a plant.


def decisions(seen, *, phases=2, until=200, start=-50.0, settings=None, **timing):
    """Changes by an actuated controller of one signal; ``seen(now, phase)``: detected."""
    greens = tuple("r" * k + "G" + "r" * (phases - 1 - k) for k in range(phases))
    layer = Timing(
        [signal((), greens=greens)], TimingSettings(**timing), interval=10.0, start=start
    )
    control = Actuated(layer, np.array([0]), settings or ActuatedSettings())
    found = []
    for now in range(until):
        detected = np.array([[seen(now, phase) for phase in range(phases)]])
        found += control.decide(float(now), detected)
    return found


def greens_of(changes):
    return [(change.time, change.state.index("G")) for change in changes if "G" in change.state]


def test_an_empty_green_lasts_its_minimum_and_phases_come_in_cyclic_order():
    found = decisions(lambda now, phase: False, phases=3, start=0.0, until=25)
    assert found[:2] == [Change(5.0, 0, "yrr"), Change(8.0, 0, "rGr")]
    assert greens_of(found) == [(8, 1), (16, 2), (24, 0)]


def test_a_green_ends_three_seconds_after_the_last_vehicle():
    # Green from 0 s; somebody on the detector every other second until 12 s.
    found = decisions(lambda now, phase: now <= 12 and now % 2 == 0, start=0.0, until=20)
    assert found[:2] == [Change(15.0, 0, "yr"), Change(18.0, 0, "rG")]
    # Three seconds without anybody end it, two do not.
    found = decisions(lambda now, phase: now in (3, 5, 9), start=0.0, until=20)
    assert found[0].time == 8.0
    found = decisions(lambda now, phase: now in (3, 5, 7, 9), start=0.0, until=20)
    assert found[0].time == 12.0


def test_a_green_ends_at_its_longest_whoever_comes():
    found = decisions(lambda now, phase: True, start=0.0, until=120)
    assert greens_of(found) == [(53, 1), (106, 0)]


def test_what_other_phases_see_does_not_prolong_a_green():
    found = decisions(lambda now, phase: phase == 1, start=0.0, until=65)
    assert greens_of(found) == [(8, 1), (61, 0)]


def test_the_timing_layer_decides_minimum_yellow_and_red():
    found = decisions(
        lambda now, phase: False, start=0.0, until=20, min_green=8.0, yellow=4.0, all_red=2.0
    )
    assert found[:3] == [Change(8.0, 0, "yr"), Change(12.0, 0, "rr"), Change(14.0, 0, "rG")]
    short = ActuatedSettings(min_green=2.0, max_green=7.0, gap=1.0)
    found = decisions(lambda now, phase: True, start=0.0, until=20, settings=short)
    assert found[0].time == 7.0


# Actuated control on streets.


def test_a_platoon_holds_its_green_until_it_has_passed():
    # Cars at 20 m/s: 20 s to the stop line, 1.2 s less to the loop, 23.5 m before it: further away
    # 5 s of green would not let a queue move.
    trips = [(second, ["a", "out"]) for second in range(0, 21, 2)]
    shown, simulator = lamps(crossing(trips), "actuated")
    times = [time for time, state in shown if state == "Gr" and time > 0]
    # Without cars greens start at 8, 16 s; that of `a` lasts until the last car, seen on the loop
    # at 39 s, is 3 s beyond it.
    assert times[0] == 16.0
    ends = [time for time, state in shown if state == "yr" and time > 16.0]
    assert ends[0] == 42.0
    # The last car never stops: 20 s to the stop line and 50 s beyond it.
    assert simulator.streets.finished[10] == pytest.approx(20 + 20 + 50, abs=0.1)


def test_a_stream_without_gaps_holds_its_green_to_the_longest():
    trips = [(second, ["a", "out"]) for second in range(0, 110, 2)]
    shown, _ = lamps(crossing(trips), "actuated", 120)
    starts = [time for time, state in shown if state == "Gr" and time > 0]
    ends = [time for time, state in shown if state == "yr" and time > 16.0]
    assert (starts[0], ends[0]) == (16.0, 66.0)
    # The empty street has its minimum before the stream goes on.
    assert starts[1] == 66.0 + 3 + 5 + 3


def test_loops_speak_for_phases_in_which_all_of_a_lane_go():
    links = [("a", 200, 20), ("left", 200, 20), ("on", 200, 20)]
    greens = ("Gr", "rG", "GG", "gG")
    network = streets(
        links, [("a", "left", 0), ("a", "on", 1)], greens=greens, programme=(("GG", 9.0),)
    )
    demand = traffic(network, [(0, ["a", "on"]), (0, ["a", "left"])])
    town = Town(GridScenario(driving=PLAIN), network, demand)
    simulator = TrafficSimulator(town)
    simulator.reset(0)
    loops = Loops(Layout(network, demand.kinds, PLAIN), town.approaches, seconds=2.0)
    calendar, found = simulator.streets.calendar, []
    for second in range(1, 14):
        calendar.run_until(float(second))
        found.append(loops.detected(simulator.streets)[0].tolist())
    # 160 m to the loop: the first car passes at 8 s and then waits for the second one's turn or its
    # own at the stop line, the second stands behind it, within the 40 m.
    assert [any(row) for row in found[:7]] == [False] * 7
    assert found[7] == [False, False, True, True]
    assert not any(row[0] or row[1] for row in found)


@pytest.mark.parametrize(
    ("greens", "expected"),
    [
        (("Gg", "GG"), [False, True]),  # better served later: it may only be waiting
        (("Gg", "Gr"), [True, False]),  # never better served: it has right of way beside it
        (("gg", "GG"), [False, True]),  # nobody beside it has right of way
    ],
)
def test_loops_of_two_lanes_ignore_who_may_be_waiting_for_a_gap(greens, expected):
    links = [("a", 200, 20, 2), ("left", 200, 20), ("on", 200, 20)]
    network = streets(
        links, [("a", "on", 0), ("a", "left", 1)], greens=greens, programme=((greens[0], 9.0),)
    )
    # Lane 0 leads on, lane 1 leads on and left.
    keep = np.array([0, 1, 3])
    network = replace(
        network,
        connection_lane=network.connection_lane[keep],
        connection_move=network.connection_move[keep],
        connection_into=network.connection_into[keep],
        connection_signal=network.connection_signal[keep],
        connection_index=network.connection_index[keep],
        yield_start=np.zeros(4, dtype=np.int64),
        waits_inside=network.waits_inside[keep],
        stops=network.stops[keep],
    )
    demand = traffic(network, [(0, ["a", "left"])])
    town = Town(GridScenario(driving=PLAIN), network, demand)
    simulator = TrafficSimulator(town)
    simulator.reset(0)
    loops = Loops(Layout(network, demand.kinds, PLAIN), town.approaches, seconds=2.0)
    found = []
    for second in range(1, 10):
        simulator.streets.calendar.run_until(float(second))
        found.append(loops.detected(simulator.streets)[0].tolist())
    assert [any(row[phase] for row in found) for phase in range(2)] == expected


def test_a_queue_that_reaches_the_loop_is_detected_and_a_shorter_one_is_not():
    red = (("Gr", 1.0), ("yr", 1.0), ("rG", 998.0))
    for cars, expected in ((8, True), (3, False)):
        town = crossing([(0, ["a", "out"])] * cars, steps=red)
        simulator = TrafficSimulator(town)
        simulator.use_local("fixed")
        simulator.reset(0)
        loops = Loops(town.layout, town.approaches, seconds=2.0)
        for _ in range(9):
            simulator.step(np.zeros(1, dtype=np.int64))
        loops.detected(simulator.streets)
        # Nobody moves any more; 40 m are five places of 7.5 m.
        assert loops.detected(simulator.streets)[0, 0] == expected


# Who is in control.


def test_an_unknown_plan_is_refused_and_none_gives_control_back():
    simulator = TrafficSimulator(town_of(GridScenario(rows=2, columns=2, seconds=200)))
    assert isinstance(simulator, LocallyControlled)
    with pytest.raises(ValueError, match="no plan 'green wave'; known: fixed, webster, actuated"):
        simulator.use_local("green wave")

    def play():
        seen, total = simulator.reset(3), 0.0
        for _ in range(20):
            step = simulator.step(seen.mask.sum(axis=1).clip(max=2) - 1)
            seen, total = step.observation, total + step.reward
        return total

    alone = play()
    simulator.use_local("fixed")
    simulator.reset(3)
    with pytest.raises(ValueError, match="illegal"):
        simulator.step(np.ones(4, dtype=np.int64))
    simulator.use_local("")
    assert play() == alone


def test_plans_are_deterministic():
    town = town_of(GridScenario(rows=2, columns=2, seconds=300))
    for plan in ("fixed", "webster", "actuated"):
        simulator, found = TrafficSimulator(town), []
        for _ in range(2):
            simulator.use_local(plan)
            simulator.reset(5)
            rewards = [simulator.step(np.zeros(4, dtype=np.int64)).reward for _ in range(30)]
            found.append((rewards, simulator.metrics()))
        np.testing.assert_equal(found[0], found[1])


def test_a_town_without_signals_that_choose_has_nothing_to_run():
    town = crossing()
    network = replace(town.network, signals=(signal((("Gr", 30.0),), greens=("Gr",)),))
    simulator = TrafficSimulator(replace(town, network=network))
    for plan in ("fixed", "actuated"):
        simulator.use_local(plan)
        simulator.reset(0)
        step = simulator.step(np.zeros(0, dtype=np.int64))
        assert step.observation.active.size == 0 and simulator.metrics()["switches"] == 0


class Plain:
    """A simulator whose plant has no controllers of its own."""

    spec = None

    def reset(self, seed): ...
    def step(self, actions): ...
    def metrics(self): ...


def test_episodes_hand_the_plant_to_plans_and_back():
    assert isinstance(FieldPlan("fixed"), PlantPlan)
    assert isinstance(FieldPlan("fixed"), Controller)
    assert not isinstance(Keep(), PlantPlan)
    asked = []
    plant = type("Plant", (Plain,), {"use_local": lambda self, plan: asked.append(plan)})()
    give_control(plant, FieldPlan("webster"))
    give_control(plant, Keep())
    assert asked == ["webster", ""]
    give_control(Plain(), Keep())
    with pytest.raises(UserError, match="'fixed' is run by the plant"):
        give_control(Plain(), FieldPlan("fixed"))


def test_a_stage_plays_plans_and_rules_in_any_order_alike():
    factory = DomainFactory("traffic", "grid", {"rows": 2, "columns": 2, "seconds": 300.0})
    names = ["greedy", "fixed", "greedy", "actuated", "fixed"]
    stage = Stage(factory)
    one = [stage.play(Task(seed=1, controller=Heuristic(name))) for name in names]
    assert one[0].total == one[2].total
    assert one[1].total == one[4].total
    assert len({result.total for result in one}) == 3
    alone = Stage(factory).play(Task(seed=1, controller=Heuristic("actuated")))
    assert alone.total == one[3].total
    assert [result.controller for result in one] == names
