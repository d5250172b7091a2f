"""The traffic simulator as a whole: contract, conservation, determinism, metamorphic relations."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_data import needed
from traffic_small import IDEAL, PLAIN, cycle, run, streets, traffic

from fairlead.platform.validation.traffic_episodes import (
    fingerprint,
    imbalance,
    random_episode,
    unsafe_changes,
)
from fairlead.simulators.check import check_simulator
from fairlead.simulators.observations import random_actions
from fairlead.simulators.traffic.gridlock import deadlocked
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.scenario import (
    ArterialScenario,
    Cologne8Scenario,
    GridScenario,
)
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.town import Town, town_of

GRID = GridScenario(rows=2, columns=3, seconds=300.0, interval=10.0)
SMALL = [
    GRID,
    GridScenario(rows=2, columns=2, mixed=True, lanes=1, seconds=200.0, interval=5.0, jitter=20.0),
    ArterialScenario(signals=4, seconds=300.0, scale=1.3),
]
JAM = GridScenario(rows=3, columns=3, spacing=80.0, rate=900.0, seconds=1800.0)


def simulator(scenario):
    return TrafficSimulator(town_of(scenario))


def play(sim, seed, each=lambda sim: None):
    """Random legal actions to the end; rewards."""
    seen, rng, rewards = sim.reset(seed), np.random.default_rng(seed), []
    for _ in range(sim.spec.horizon):
        step = sim.step(random_actions(sim.spec, seen, rng))
        seen = step.observation
        rewards.append(step.reward)
        each(sim)
    return np.array(rewards)


# --- contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SMALL, ids=["grid", "mixed", "arterial"])
def test_the_contract_holds(scenario):
    assert check_simulator(lambda: simulator(scenario)) == []


def test_the_contract_holds_on_imported_streets():
    needed("resco", "cologne8")
    scenario = Cologne8Scenario(data=str(needed("resco").parents[1]), seconds=200.0)
    assert check_simulator(lambda: simulator(scenario)) == []


def test_steps_before_reset_and_after_the_end_are_refused():
    sim = simulator(GRID)
    hold = np.zeros(sim.spec.agents, dtype=np.int64)
    for refused in (sim.metrics, lambda: sim.step(hold)):
        with pytest.raises(RuntimeError, match="reset the simulator"):
            refused()
    play(sim, 1)
    with pytest.raises(RuntimeError, match="reset the simulator"):
        sim.step(hold)


def test_the_return_is_minus_the_delay_that_metrics_know():
    # Cars without inertia that all drive alike lose time only by waiting.
    town = town_of(GRID)
    kind = replace(IDEAL, top=50.0)
    sim = TrafficSimulator(replace(town, demand=replace(town.demand, kinds=(kind,))))
    rewards = play(sim, 3)
    metrics = sim.metrics()
    trips = metrics["finished_trips"] + metrics["running_trips"] + metrics["outside_trips"]
    assert trips == sim.streets.due()
    waited = -rewards.sum() * sim._expected
    assert metrics["outside_trips"] == 0
    assert metrics["delay_mean_s"] * trips == pytest.approx(waited, rel=0.05)


# --- conservation and safety ----------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [*SMALL, JAM], ids=["grid", "mixed", "arterial", "jam"])
def test_vehicles_add_up_and_lamps_are_safe_under_random_actions(scenario):
    sim = simulator(scenario)
    lamps, wrong = random_episode(sim, seed=5)
    assert wrong == 0
    assert sim.streets.inserted > 50
    for signal, shown in zip(sim.town.network.signals, lamps, strict=True):
        kept = scenario.timing
        assert len(shown) > 3
        assert unsafe_changes(signal, shown, yellow=kept.yellow, all_red=kept.all_red) == 0


def test_vehicles_add_up_at_every_event_of_a_jam():
    sim = simulator(JAM)
    seen, rng = sim.reset(2), np.random.default_rng(2)
    for epoch in range(60):
        seen = sim.step(random_actions(sim.spec, seen, rng)).observation
        if epoch < 50:
            continue
        calendar = sim.streets.calendar
        for _ in range(20):  # a glimpse ahead, event by event, within the interval
            if calendar.peek() < sim.scenario.interval * (epoch + 1.9):
                calendar.run_until(calendar.peek())
                assert imbalance(sim.streets) == 0


def test_a_jam_that_no_signal_can_solve_is_found_and_stays():
    sim, seen = simulator(JAM), []

    def look(sim):
        lanes = deadlocked(sim.streets)
        seen.append({lane: sim.streets.motion.gone[lane] for lane in lanes})

    for seed in range(10):  # random actions do not lock up every time
        seen.clear()
        play(sim, seed, look)
        if seen[-8]:
            break
    found = [lanes for lanes in seen if lanes]
    assert found
    for before, after in pairwise(found):
        assert before.items() <= after.items()  # they stay, and nobody leaves them
    metrics = sim.metrics()
    assert metrics["deadlocks"] >= 1
    assert metrics["gridlock"] == 1.0


def test_free_streets_have_no_deadlock():
    sim = simulator(GRID)
    play(sim, 1)
    metrics = sim.metrics()
    assert (metrics["deadlocks"], metrics["spillbacks"]) == (0.0, 0.0)


def test_unsafe_lamps_would_be_seen():
    signal = Signal(name="s", greens=("Gr", "rG"), programme=())
    safe = [(0.0, "Gr"), (10.0, "yr"), (13.0, "rG")]
    assert unsafe_changes(signal, safe, yellow=3.0, all_red=0.0) == 0
    for shown in (
        [(0.0, "Gr"), (10.0, "rG")],
        [(0.0, "Gr"), (10.0, "yr"), (12.0, "rG")],
        [(0.0, "Gr"), (10.0, "GG")],
    ):
        assert unsafe_changes(signal, shown, yellow=3.0, all_red=0.0) > 0
    assert unsafe_changes(signal, safe, yellow=3.0, all_red=1.0) > 0


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("plan", ["", "fixed"])
def test_everybody_arrives_when_nobody_comes_any_more(plan, inside):
    # Who gives way, waits for room or for its turn is never forgotten.
    scenario = GridScenario(rows=3, columns=3, lanes=1, rate=300.0, mixed=True, seconds=600.0)
    town = town_of(scenario)
    longer = scenario.model_copy(
        update={
            "seconds": 2400.0,
            "driving": scenario.driving.model_copy(update={"inside": inside}),
        }
    )
    sim = TrafficSimulator(Town(longer, town.network, town.demand))
    sim.use_local(plan)
    play(sim, 3)
    assert town.demand.vehicles > 400
    assert sim.metrics()["finished_trips"] == town.demand.vehicles


# --- determinism ----------------------------------------------------------------------------------


def test_the_seed_decides_everything_in_every_process():
    code = (
        "from test_traffic_simulator import *\n"
        "for scenario in SMALL:\n"
        "    sim = simulator(scenario)\n"
        "    rewards = play(sim, 7)\n"
        "    print(fingerprint(sim.streets), rewards.sum().hex())\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    own = []
    for scenario in SMALL:
        sim = simulator(scenario)
        rewards = play(sim, 7)
        own.append(f"{fingerprint(sim.streets)} {float(rewards.sum()).hex()}\n")
    assert printed == {"".join(own)}


def test_other_seeds_drive_otherwise():
    sim = simulator(GRID)
    play(sim, 1)
    one = fingerprint(sim.streets)
    play(sim, 2)
    assert fingerprint(sim.streets) != one


def test_looking_changes_nothing():
    sim = simulator(GRID)
    play(sim, 4)
    plain = fingerprint(sim.streets)

    def look(sim):
        sim._detectors.read(sim.streets)
        sim._observe()
        sim.metrics()
        deadlocked(sim.streets)

    play(sim, 4, look)
    assert fingerprint(sim.streets) == plain


def test_other_features_do_not_change_the_streets(monkeypatch):
    from fairlead.simulators.traffic.view import View

    hold = np.zeros(simulator(GRID).spec.agents, dtype=np.int64)

    def held():
        sim = simulator(GRID)
        sim.reset(4)
        for _ in range(sim.spec.horizon):
            sim.step(hold)
        return fingerprint(sim.streets)

    plain = held()
    candidates = View.candidates
    monkeypatch.setattr(
        View, "candidates", lambda self, scene, order: candidates(self, scene, order) * 3.0
    )
    assert held() == plain


# --- metamorphic relations ------------------------------------------------------------------------


def mirrored(network, demand):
    """Links, lanes, movements, connections in reverse order: the same streets in a mirror."""
    lanes, moves = network.lane_link.size, network.move_from.size
    links, connections = len(network.links), network.connection_lane.size
    back = lambda array: array[::-1].copy()  # noqa: E731
    bounds, foes = network.yield_start, network.yield_to
    rows = [connections - 1 - foes[bounds[at] : bounds[at + 1]] for at in range(connections)][::-1]
    other = replace(
        network,
        xy=network.xy * [-1.0, 1.0],
        links=network.links[::-1],
        tail=back(network.tail),
        head=back(network.head),
        length=back(network.length),
        speed=back(network.speed),
        lane_link=links - 1 - back(network.lane_link),
        move_from=links - 1 - back(network.move_from),
        move_to=links - 1 - back(network.move_to),
        turn_length=back(network.turn_length),
        turn_speed=back(network.turn_speed),
        turn=tuple({"l": "r", "r": "l"}.get(turn, turn) for turn in network.turn[::-1]),
        connection_lane=lanes - 1 - back(network.connection_lane),
        connection_move=moves - 1 - back(network.connection_move),
        connection_into=lanes - 1 - back(network.connection_into),
        connection_signal=back(network.connection_signal),
        connection_index=back(network.connection_index),
        yield_start=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        yield_to=np.concatenate(rows).astype(np.int64),
        waits_inside=back(network.waits_inside),
        stops=back(network.stops),
    )
    other.check()
    routes = tuple(links - 1 - route for route in demand.routes)
    return other, replace(demand, routes=routes)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_mirror_image_has_the_same_metrics(mixed):
    scenario = GridScenario(
        rows=3, columns=3, lanes=1, rate=250.0, mixed=mixed, seconds=900.0, interval=5.0
    )
    town = town_of(scenario)
    found = []
    for network, demand in ((town.network, town.demand), mirrored(town.network, town.demand)):
        sim = TrafficSimulator(Town(scenario, network, demand))
        sim.use_local("fixed")
        play(sim, 1)
        found.append(sim.metrics())
    one, other = found
    assert one["finished_trips"] > 150
    assert one["delay_mean_s"] > 5.0
    for name in ("delay_mean_s", "trip_time_all_s", "finished_trips", "departure_delay_s"):
        # Who looks first in one instant may differ; it matters where both look for gaps.
        assert other[name] == pytest.approx(one[name], rel=1e-3 if mixed else 1e-9)


CORRIDOR = [("a", 4000, 20), ("b", 4000, 20), ("side", 4000, 20), ("c", 4000, 20)]
PLAN = cycle([("Gr", 20), ("rr", 2), ("rG", 26), ("rr", 2)], 4000)


def corridor_time(trips):
    """Total time of all trips; two signals in a row, a side road shares the first."""
    network = streets(
        CORRIDOR, [("a", "b", 0), ("side", "b", 1), ("b", "c", 1)], greens=("Gr", "rG")
    )
    found = run(network, traffic(network, trips), until=4000, plan=PLAN)
    assert found.completed == len(trips)
    assert found.spills == 0
    return (np.array(found.finished) - np.array(found.demand.depart)).sum()


WAYS = [["a", "b", "c"], ["side", "b", "c"], ["a", "b"]]
TRIP = st.tuples(st.integers(0, 6000).map(lambda tenths: tenths / 8), st.sampled_from(WAYS))


@given(st.lists(TRIP, min_size=1, max_size=60), TRIP)
@settings(max_examples=40, deadline=None)
def test_one_more_vehicle_never_lowers_the_total_time(trips, more):
    before = corridor_time(trips)
    assert corridor_time([*trips, more]) >= before + 400.0 - 1e-6


@given(st.lists(TRIP, min_size=1, max_size=40), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_a_shift_by_whole_cycles_changes_no_trip(trips, cycles):
    shifted = [(time + 50.0 * cycles, way) for time, way in trips]
    assert corridor_time(shifted) == pytest.approx(corridor_time(trips), abs=1e-4)


def test_twice_the_lanes_and_twice_the_demand_have_the_same_delay():
    means = []
    for lanes in (1, 2, 3):
        network = streets(
            [("in", 6000, 20, lanes), ("out", 6000, 20, lanes)], [("in", "out", 0)], greens=("G",)
        )
        times = np.repeat(np.arange(0.0, 900.0, 5.3), lanes)
        demand = traffic(network, [(time, ["in", "out"]) for time in times])
        plan = cycle([("r", 33), ("G", 27)], 3000)
        found = run(network, demand, until=3000, plan=plan, driving=PLAIN)
        assert found.completed == len(times)
        means.append((np.array(found.finished) - times).mean())
    assert means[0] > 610.0
    assert means[1:] == pytest.approx([means[0]] * 2, abs=1e-6)


def test_a_change_that_does_not_fit_into_an_interval_is_refused_at_once():
    with pytest.raises(ValueError, match=r"timing\.yellow and timing\.all_red together are 3 s"):
        GridScenario(interval=3.0)
