"""What regulation makes of set-points: cases by hand, and the balance in all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.simulators.power.settle import settle


def happen(point, low, high, *, demand, curtailed=None, available=None, tripped=(), average=None):
    size = len(point)
    free = np.zeros(size, bool) if curtailed is None else np.array(curtailed)
    return settle(
        np.array(point, float),
        np.array(low, float),
        np.array(high, float),
        curtailed=free,
        available=np.zeros(size) if available is None else np.array(available, float),
        demand=float(demand),
        tripped=list(tripped),
        average=None if average is None else np.array(average, float),
    )


def test_forecasts_that_were_right_move_nothing():
    seen = happen([60, 40], [0, 0], [100, 100], demand=100)
    assert seen.power.tolist() == seen.mean.tolist() == [60, 40]
    assert (seen.moved, seen.shed, seen.surplus, seen.curtailed) == (0, 0, 0, 0)


def test_more_demand_is_shared_by_the_room_that_is_left():
    seen = happen([60, 40], [0, 0], [90, 50], demand=120)
    # 20 of the 40 MW of room: half of everybody's.
    assert seen.power.tolist() == [75, 45]
    assert seen.moved == 20


def test_less_demand_is_shared_by_the_room_below():
    seen = happen([60, 40], [40, 40], [90, 50], demand=90)
    assert seen.power.tolist() == [50, 40]
    assert seen.moved == -10


def test_what_nobody_can_give_is_shed():
    seen = happen([60, 40], [0, 0], [70, 50], demand=150)
    assert seen.power.tolist() == [70, 50]
    assert (seen.moved, seen.shed, seen.surplus) == (20, 30, 0)


def test_what_nobody_can_take_back_is_surplus():
    seen = happen([60, 40], [55, 40], [70, 50], demand=80)
    assert seen.power.tolist() == [55, 40]
    assert (seen.moved, seen.shed, seen.surplus) == (-5, 0, 15)


def test_wind_gives_what_comes_less_what_it_was_asked_to_leave():
    # Forecast 50, set to 45: 5 are left; 58 come, so 53 are given, and the other unit makes room.
    seen = happen(
        [60, 45], [0, 0], [100, 50], demand=105, curtailed=[False, True], available=[0, 58]
    )
    assert seen.power.tolist() == [52, 53]
    assert seen.curtailed == 5
    assert seen.moved == -8


def test_wind_gives_way_only_when_units_are_at_their_minimum():
    seen = happen(
        [60, 50], [55, 0], [100, 50], demand=100, curtailed=[False, True], available=[0, 50]
    )
    assert seen.power.tolist() == [55, 45]
    assert (seen.curtailed, seen.surplus) == (5, 0)


def test_curtailed_wind_comes_back_before_load_is_shed():
    seen = happen(
        [60, 30], [0, 0], [65, 50], demand=110, curtailed=[False, True], available=[0, 50]
    )
    assert seen.power.tolist() == [65, 45]
    assert (seen.shed, seen.curtailed) == (0, 5)


def test_a_trip_in_the_middle_counts_the_energy_before_it():
    # 40 MW for a quarter of the interval are 10 MW on average; 30 have to be replaced on average,
    # 40 at the end.
    seen = happen([60, 40], [0, 0], [110, 40], demand=100, tripped=[(1, 0.25)])
    assert seen.power.tolist() == [100, 0]
    assert seen.mean.tolist() == [90, 10]
    assert seen.moved == 40


def test_a_trip_beyond_what_can_be_moved_sheds_for_the_rest_of_the_interval():
    seen = happen([60, 40], [0, 0], [70, 40], demand=100, tripped=[(1, 0.5)])
    assert seen.power.tolist() == [70, 0]
    assert seen.mean.tolist() == [70, 20]
    assert seen.shed == 10


def test_wind_that_trips_is_not_available_any_more():
    seen = happen(
        [60, 50],
        [0, 0],
        [120, 50],
        demand=110,
        curtailed=[False, True],
        available=[0, 50],
        tripped=[(1, 0.5)],
    )
    assert seen.power.tolist() == [110, 0]
    assert seen.mean.tolist() == [85, 25]
    assert seen.curtailed == 0


def test_set_points_that_come_late_move_the_energy_and_not_the_end():
    # Set from 50 to 60 and from 50 to 40, a tenth of the interval late; nobody else has to move.
    seen = happen([60, 40], [0, 0], [100, 100], demand=100, average=[59, 41])
    assert seen.power.tolist() == [60, 40]
    assert seen.mean.tolist() == [59, 41]
    # Late by half on a rise that only one unit makes: regulation gives the rest meanwhile.
    seen = happen([60, 40], [0, 40], [100, 40], demand=100, average=[50, 40])
    assert seen.power.tolist() == [60, 40]
    assert seen.mean.tolist() == [60, 40]


@given(seed=st.integers(0, 10_000), demand=st.floats(0.0, 600.0))
@settings(max_examples=200, deadline=None)
def test_power_balances_and_stays_in_the_box(seed, demand):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-20.0, 30.0, 9)
    high = low + rng.uniform(0.0, 60.0, 9)
    curtailed = np.arange(9) >= 6
    low[curtailed] = 0.0
    high = np.maximum(high, low)
    point, late = (low + (high - low) * rng.random(9) for _ in range(2))
    available = np.where(curtailed, rng.uniform(0.0, 60.0, 9), 0.0)
    tripped = [(2, float(rng.random()))] if seed % 3 else []
    seen = happen(
        point,
        low,
        high,
        demand=demand,
        curtailed=curtailed,
        available=available,
        tripped=tripped,
        average=late if seed % 2 else None,
    )
    assert seen.mean.sum() + seen.shed - seen.surplus == pytest.approx(demand, abs=1e-9)
    assert min(seen.shed, seen.surplus) == 0.0
    bottom, top = np.where(curtailed, 0.0, low), np.where(curtailed, available, high)
    whole = np.ones(9, bool)
    whole[[agent for agent, _ in tripped]] = False
    for outputs in (seen.power, seen.mean):
        assert (outputs >= bottom - 1e-9)[whole].all()
        assert (outputs <= top + 1e-9)[whole].all()
    assert (seen.power[~whole] == 0.0).all()
    assert seen.curtailed >= 0.0
