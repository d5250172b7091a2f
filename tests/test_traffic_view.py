"""What signals see, by hand on two signals in a row."""

from dataclasses import replace

import numpy as np
import pytest
from traffic_small import streets, traffic

from fairlead.simulators.observations import random_actions
from fairlead.simulators.traffic.observer import Observer
from fairlead.simulators.traffic.programme import Signal
from fairlead.simulators.traffic.readings import Readings
from fairlead.simulators.traffic.scenario import GridScenario
from fairlead.simulators.traffic.signals import TrafficSimulator
from fairlead.simulators.traffic.timing import Timing
from fairlead.simulators.traffic.town import Town, town_of
from fairlead.simulators.traffic.view import AGENT, CANDIDATE, CRITIC

#     n1        n2
#      |         |
# w -- A -- m -- B -- e        s1, s2 lead away southwards
LINKS = ("w", "m", "e", "n1", "n2", "s1", "s2")
SCENARIO = GridScenario(seconds=600.0, interval=10.0)


@pytest.fixture
def town():
    network = streets(
        [(name, 150 if name != "m" else 75, 20) for name in LINKS],
        [("w", "m", 0), ("n1", "s1", 1), ("m", "e", 0), ("n2", "s2", 1)],
        greens=("Gr", "rG"),
    )
    network = replace(
        network,
        connection_signal=np.array([0, 0, 1, 1]),
        signals=tuple(
            Signal(name=name, greens=("Gr", "rG"), programme=(("Gr", 30.0), ("rG", 30.0)))
            for name in ("A", "B")
        ),
    )
    trips = [(0.0, ["w", "m", "e"]), (0.0, ["n1", "s1"]), (0.0, ["n2", "s2"])]
    return Town(SCENARIO, network, traffic(network, trips))


def readings(**lanes):
    found = {
        name: np.array([float(values.get(link, 0)) for link in LINKS])
        for name, values in lanes.items()
    }
    return Readings(**found)


READ = readings(
    queue={"w": 2, "m": 1, "n1": 3},
    near={"w": 2, "m": 2, "n1": 3},
    seen={"w": 4, "m": 3, "n1": 3, "n2": 1},
    soon={"w": 1, "m": 2, "n2": 1},
    count={"w": 5, "m": 4, "e": 2, "n1": 3, "n2": 1, "s1": 10},
    wait={"w": 30, "m": 5, "n1": 60},
    longest={"w": 20, "m": 5, "n1": 25},
)


def look(town, epoch=4, timing=None):
    timing = timing or Timing(town.network.signals, SCENARIO.timing, interval=10.0)
    return Observer(town).observe(READ, timing, driving=15, outside=3, epoch=epoch)


def named(values, features):
    return {
        feature.name: pytest.approx(float(value), abs=1e-5)
        for feature, value in zip(features, values, strict=True)
    }


def test_candidates_of_both_signals(town):
    seen, _ = look(town)
    assert seen.candidates.shape == (2, 2, len(CANDIDATE))
    # A keeps w -> m green or gives green to n1 -> s1.
    assert named(seen.candidates[0, 0], CANDIDATE) == {
        "current": 1.0,
        "queue": 2.0,
        "behind": 0.0,
        "near": 2.0,
        "seen": 4.0,
        "soon": 1.0,
        "served": 3.0,
        "left": 0.0,
        "wait": 30.0,
        "longest": 20.0,
        "red": 0.0,
        "pressure": 4.0 - 4.0,
        "downstream": 4.0 / 10.0,
        "protected": 1.0,
        "lanes": 1.0,
        "wave": 2.0,
    }
    change = named(seen.candidates[0, 1], CANDIDATE)
    assert change == {
        **change,
        "current": 0.0,
        "queue": 3.0,
        "soon": 0.0,
        "served": 3.0,  # in 10 s less yellow and start-up, a vehicle every 2 s
        "left": 0.0,
        "wait": 60.0,
        "longest": 25.0,
        "red": 40.0,
        "pressure": 3.0 - 10.0,
        "downstream": 10.0 / 20.0,
        "wave": 3.0,
    }
    # B: nobody stands at n2, so its red counts for nobody.
    other = named(seen.candidates[1, 1], CANDIDATE)
    assert other == {**other, "queue": 0.0, "soon": 1.0, "red": 0.0, "pressure": 1.0}
    keep = named(seen.candidates[1, 0], CANDIDATE)
    assert keep == {**keep, "seen": 3.0, "pressure": 3.0 - 2.0, "downstream": 2.0 / 20.0}


def test_agents_and_critic(town):
    seen, waiting = look(town)
    assert named(seen.agent[0], AGENT) == {
        "time_in_phase": 40.0,
        "phases": 2.0,
        "lanes": 2.0,
        "queue": 5.0,
        "soon": 1.0,
        "wait": 90.0,
        "downstream": 0.5,
    }
    assert named(seen.critic, CRITIC) == {
        "queue": (5.0 + 1.0) / 2,
        "soon": (1.0 + 3.0) / 2,
        "wait": (90.0 + 5.0) / 2,
        "longest_queue": 5.0,
        "driving": 7.5,
        "outside": 1.5,
        "left_of_episode": 1.0 - 4 / 60,
        "time_in_phase": 40.0,
    }
    assert waiting.tolist() == [[True, True], [True, False]]
    assert seen.time == 40.0


def test_candidates_follow_the_phase_that_is_shown(town):
    timing = Timing(town.network.signals, SCENARIO.timing, interval=10.0)
    nobody = np.zeros((2, 2), dtype=np.bool_)
    timing.order(10.0, np.array([1, 0]), nobody)
    seen, _ = look(town, epoch=2, timing=timing)
    assert seen.private["order"].tolist() == [[1, 0], [0, 1]]
    assert seen.target.tolist() == [[-1, 0], [-1, 1]]
    queue = [feature.name for feature in CANDIDATE].index("queue")
    assert seen.candidates[:, :, queue].tolist() == [[3.0, 2.0], [1.0, 0.0]]
    observer = Observer(town)
    assert observer.wanted(seen, np.array([1, 0]), timing).tolist() == [0, 0]
    assert observer.wanted(seen, np.array([0, 1]), timing).tolist() == [1, 1]


def test_who_may_not_change_may_only_hold(town):
    timing = Timing(town.network.signals, SCENARIO.timing, interval=10.0)
    nobody = np.zeros((2, 2), dtype=np.bool_)
    timing.order(10.0, np.array([1, 0]), nobody)  # A is green from 13 s on, at least until 18 s
    seen, _ = Observer(town).observe(READ, timing, driving=0, outside=0, epoch=1)
    assert seen.active.tolist() == [False, True]
    assert seen.mask.tolist() == [[True, False], [True, True]]
    # Too long a red takes the choice away, too.
    timing = Timing(town.network.signals, SCENARIO.timing, interval=10.0)
    seen, _ = look(town, epoch=11, timing=timing)
    assert seen.active.tolist() == [False, True]


def test_features_at_work_are_those_of_the_readings():
    sim = TrafficSimulator(town_of(GridScenario(rows=1, columns=2, rate=600.0, seconds=400.0)))
    seen, rng = sim.reset(1), np.random.default_rng(1)
    column = {feature.name: at for at, feature in enumerate(CANDIDATE)}
    own = sim.town.approaches.own
    for _ in range(sim.spec.horizon):
        seen = sim.step(random_actions(sim.spec, seen, rng)).observation
        read = sim._detectors.read(sim.streets)
        assert seen.agent[:, 3] == pytest.approx(own.sums(read.queue, 2), abs=1e-4)
        assert (seen.candidates[..., column["left"]] >= 0.0).all()
        current = seen.candidates[:, :, column["current"]]
        assert current.sum(axis=1).tolist() == [1.0, 1.0]
    assert seen.agent[:, 3].sum() > 0
    assert sim.spec.agents == 2
