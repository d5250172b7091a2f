"""Rings of links that wait for each other, and the books of vehicles in random jams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_small import PLAIN, run, streets, traffic

from fairlead.simulators.traffic.gridlock import DeadlockWatch, deadlocked

RING = ("a", "b", "c", "d")


def ring(counts, *, more=(), moves=(), length=30, trips=()):
    """Four links of four vehicles each in a circle, ``counts`` vehicles that go round and round."""
    network = streets(
        [(name, length, 20) for name in RING] + list(more),
        [(one, RING[(at + 1) % 4]) for at, one in enumerate(RING)] + list(moves),
    )
    around = [[RING[(at + k) % 4] for k in range(40)] for at in range(4)]
    loaded = [(0.0, around[at]) for at, count in enumerate(counts) for _ in range(count)]
    return network, traffic(network, [*loaded, *trips])


def test_a_full_ring_stands_for_ever_and_is_found():
    network, demand = ring((4, 4, 4, 4))
    found = run(network, demand, until=1000)
    assert (found.moves, found.completed, found.inserted) == (0, 0, 16)
    assert deadlocked(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("counts", [(4, 4, 4, 3), (1, 0, 0, 0), (4, 0, 4, 4)])
def test_one_free_place_lets_a_ring_move(counts):
    network, demand = ring(counts)
    found = run(network, demand, until=1000)
    assert found.moves >= 39 * min(sum(counts), 3)
    assert deadlocked(found) == []
    assert run(network, demand, until=5000).completed == sum(counts)


def test_a_wave_under_way_is_no_deadlock():
    network, demand = ring((4, 4, 4, 3))
    driving = PLAIN.model_copy(update={"wave": 0.1})  # 300 s over a link
    for until in (5, 100, 290, 310):
        found = run(network, demand, until=until, driving=driving)
        assert deadlocked(found) == []
    assert found.moves > 0


def test_who_waits_for_a_deadlock_is_in_it_but_is_no_new_one():
    network, demand = ring(
        (4, 4, 4, 4),
        more=[("e", 30, 20), ("f", 300, 20)],
        moves=[("e", "a"), ("f", "e")],
        trips=[(100.0, ["f", "e", "a"])] * 4 + [(300.0, ["f", "e", "a"])] * 4,
    )
    early, late = (run(network, demand, until=at) for at in (50, 200))
    assert deadlocked(early) == [0, 1, 2, 3]
    assert deadlocked(late) == [0, 1, 2, 3, 4]
    assert deadlocked(late, known=set(deadlocked(early))) == []
    assert deadlocked(run(network, demand, until=400)) == [0, 1, 2, 3, 4, 5]


def test_a_way_out_for_one_head_frees_all_behind_it():
    network, demand = ring(
        (4, 4, 4, 3), more=[("exit", 30, 20)], moves=[("d", "exit")], trips=[(-1.0, ["d", "exit"])]
    )
    found = run(network, demand, until=3000)
    assert found.completed == 16


def test_the_watch_counts_every_deadlock_once():
    # A second ring of the same kind fills up after 500 s.
    second = tuple(name.upper() for name in RING)
    around = [[second[(at + k) % 4] for k in range(40)] for at in range(4)]
    network, demand = ring(
        (4, 4, 4, 4),
        more=[(name, 30, 20) for name in second],
        moves=[(one, second[(at + 1) % 4]) for at, one in enumerate(second)],
        trips=[(500.0, route) for route in around for _ in range(4)],
    )
    found = run(network, demand, until=0)
    watch, looks = DeadlockWatch(found), []
    for time in range(0, 1200, 10):
        found.calendar.run_until(time)
        if watch.look():
            looks.append(time)
    assert len(looks) == 2
    assert looks[0] <= 60
    assert 500 <= looks[1] <= 560


# --- random networks ------------------------------------------------------------------------------


@st.composite
def tangled(draw):
    """Up to eight short links, joined at random, and vehicles that wander over them."""
    count = draw(st.integers(3, 8))
    names = [f"l{at}" for at in range(count)]
    pairs = [(one, two) for one in names for two in names if one != two]
    moves = draw(st.lists(st.sampled_from(pairs), min_size=count, max_size=20, unique=True))
    links = [
        (name, draw(st.sampled_from([7.5, 15, 30])), 20, draw(st.integers(1, 2))) for name in names
    ]
    ahead = {name: [two for one, two in moves if one == name] for name in names}
    trips = []
    for _ in range(draw(st.integers(5, 60))):
        at = draw(st.sampled_from(names))
        route = [at]
        for _ in range(draw(st.integers(1, 8))):
            if not ahead[at]:
                break
            at = draw(st.sampled_from(ahead[at]))
            route.append(at)
        trips.append((draw(st.integers(0, 100)), route))
    return links, moves, trips


@given(tangled(), st.sampled_from([0.0, 5.0]))
@settings(max_examples=150, deadline=None)
def test_in_the_end_only_deadlocks_stand_and_they_never_move(town, wave):
    links, moves, trips = town
    network = streets(links, moves)
    demand = traffic(network, trips)
    driving = PLAIN.model_copy(update={"wave": wave})
    found = run(network, demand, until=60, driving=driving)
    early = deadlocked(found)
    left = [found.motion.gone[lane] for lane in early]
    found.calendar.run_until(5000)
    late = deadlocked(found)
    assert [found.motion.gone[lane] for lane in early] == left
    assert set(early) <= set(late)
    assert late == [lane for lane, queue in enumerate(found.queues) if queue]
    if not late:
        assert found.completed == len(trips)


def check_counts(found):
    """Vehicles and metres add up."""
    inside = sum(len(queue) for queue in found.inside.values())
    on_lanes = sum(len(queue) for queue in found.queues)
    assert found.inserted == on_lanes + inside + found.completed
    waiting = sum(len(queue) for queue in found.origins)
    assert found.due() == found.inserted + waiting
    assert found.outside() == waiting
    lane_of = np.array(found.lane_of)
    used = found.storage.used(found.calendar.now)
    for lane, queue in enumerate(found.queues):
        assert (lane_of == lane).sum() == len(queue) == found._in[lane] - found.motion.gone[lane]
        assert [found.place[v] - found.motion.gone[lane] for v in queue] == list(range(len(queue)))
        space = sum(found.space[vehicle] for vehicle in queue)
        room = found.layout.room[lane]
        assert used[lane] >= space - 1e-6
        assert used[lane] <= room + 1e-6 or used[lane] <= 7.5 + 1e-6


@given(tangled(), st.sampled_from([0.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_vehicles_are_conserved_at_every_event(town, wave):
    links, moves, trips = town
    network = streets(links, moves)
    driving = PLAIN.model_copy(update={"wave": wave})
    found = run(network, traffic(network, trips), until=0, driving=driving)
    for _ in range(3000):
        ahead = found.calendar.peek()
        if ahead > 400:
            break
        found.calendar.run_until(ahead)
        check_counts(found)
