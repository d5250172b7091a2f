"""What goes wrong by day or by data: priced and counted in the loop, named before it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from power_data import needed
from power_small import small_grid
from power_toys import QUIET, START, Record, column, series, share, toy

from fairlead.platform.power import power
from fairlead.simulators.errors import DataError
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.grid import GridError
from fairlead.simulators.power.network import IslandError, Network
from fairlead.simulators.power.scenario import (
    ActivsgScenario,
    GeneratedScenario,
    Outages,
    Prices,
    RtsScenario,
)
from fairlead.simulators.power.series import Series, SeriesError, check_series
from fairlead.simulators.power.sources import TRAINING_SEEDS, pick
from fairlead.simulators.power.system import system_of


def test_demand_beyond_all_units_is_shed_with_a_price_and_a_counter():
    grid = small_grid([{"ramp": 50.0}], loads=(100.0,))
    load = np.full(12, 100.0)
    load[4:7] = 130.0
    prices = Prices(shed=4000.0)
    record = Record(toy(grid, load, prices=prices), share(1.0))
    metrics = record.metrics
    assert metrics["shed_mwh"] == pytest.approx(3 * 30.0 / 12.0)
    assert metrics["shed_intervals"] == 3.0
    assert metrics["cost_shed_usd"] == pytest.approx(4000.0 * 7.5)
    assert metrics["unmet_before_regulation_mwh"] == pytest.approx(7.5)
    assert metrics["balance_residual_mw"] <= 1e-9
    assert np.isfinite(record.rewards).all()


def test_demand_below_all_minima_is_surplus_with_a_price():
    grid = small_grid([{"low": 40.0, "ramp": 50.0}], loads=(100.0,))
    load = np.full(12, 60.0)
    load[3] = 10.0
    metrics = Record(toy(grid, load, plan=[[1]]), share(0.5)).metrics
    assert metrics["over_generation_mwh"] == pytest.approx(30.0 / 12.0)
    assert metrics["cost_surplus_usd"] == pytest.approx(250.0 * 30.0 / 12.0)
    assert metrics["balance_residual_mw"] <= 1e-9


def test_an_overload_that_nobody_can_take_off_is_priced():
    grid = small_grid([{}], branches=[(0, 1, 0.1, 40.0)], loads=(0.0, 50.0))
    metrics = Record(toy(grid, np.full(12, 50.0), projection="network"), share(0.5)).metrics
    assert metrics["overload_mwh"] == pytest.approx(10.0)
    assert metrics["overload_intervals"] == 12.0
    assert metrics["overload_worst_mw"] == pytest.approx(10.0)
    assert metrics["cost_overload_usd"] == pytest.approx(5000.0)


@pytest.mark.parametrize("rule", ["merit-order", "price", "proportional", "droop", "dc-opf", "mpc"])
def test_days_on_which_everything_fails_are_played_to_the_end(rule):
    scenario = GeneratedScenario(units=10, hours=3, outages=Outages(scale=1000.0), leads=6)
    system, domain = system_of(scenario), power()
    simulator = PowerSimulator(scenario, system)
    chosen = next(one for one in domain.heuristics(scenario) if one.name == rule)
    rng = np.random.default_rng(0)
    record = Record(simulator, lambda seen: chosen.act(seen, rng), 1)
    assert record.metrics["shed_mwh"] > 0.0
    assert record.metrics["balance_residual_mw"] <= 1e-6
    assert all(np.isfinite(one.agent).all() for one in record.seen)
    assert np.isfinite(record.rewards).all()


def test_nan_in_a_series_is_named():
    grid = small_grid([{}, {"renewable": True}], loads=(50.0,))
    load = np.full((12, 1), 50.0)
    load[7] = np.nan
    with pytest.raises(SeriesError, match=r"load of a, interval 7: found nan, expected a finite"):
        series(grid, load[:, 0])
    wind = np.full((12, 1), 5.0)
    wind[3] = -1.0
    good = Series(START, 300.0, np.full((12, 1), 50.0), wind, np.zeros(12))
    with pytest.raises(SeriesError, match=r"available of u1, interval 3: found -1\.0"):
        check_series(grid, good)


def test_an_area_whose_buses_take_no_share_of_its_load_is_named():
    grid = small_grid([{}], loads=(0.0, 0.0), branches=[(0, 1, 0.1, 99.0)])
    with pytest.raises(SeriesError, match="area 'a' has load, but no bus of it takes a share"):
        series(grid, np.full(12, 50.0))


def test_a_network_in_two_pieces_is_named():
    grid = small_grid([{}], loads=(5.0, 5.0, 5.0), branches=[(0, 1, 0.1, 99.0)])
    with pytest.raises(IslandError, match="b2"):
        Network(grid, convention="x")
    with pytest.raises(GridError):
        toy(grid, np.full(12, 15.0))


# -- days of the data -----------------------------------------------------------------------------


def rts(**values):
    needed("rts_gmlc", "source")
    return RtsScenario(**{"data": str(needed().parent), "hours": 6, "outages": QUIET, **values})


def test_days_of_the_reference_commitment_are_played():
    needed("rts_gmlc", "plexos_reference")
    scenario = rts(commitment="plexos", days=("2020-07-09",), hours=24)
    system = system_of(scenario)
    simulator = PowerSimulator(scenario, system)
    record = Record(simulator, column(simulator, "merit"), 0)
    assert str(simulator.day.start) == "2020-07-09T00:00:00"
    on = np.stack([one.top for one in record.outlooks]) > 0.0
    given = system.episode(0, 288).plan
    fleet = system.fleet
    assert given.shape == (24, fleet.size)
    # Where no start or stop is under way, units are on as the reference has them. (It does not keep
    # the start times of the data; a plan cannot be kept where it asks for more than units can.)
    agree = np.mean(
        [
            (on[12 * hour + 6, fleet.thermal] == given[hour, fleet.thermal]).mean()
            for hour in range(24)
        ]
    )
    assert agree > 0.9
    assert record.metrics["shed_mwh"] == 0.0


@pytest.mark.parametrize(
    ("day", "words"), [("2020-07-20", "2020-07-05 to 2020-07-14"), ("july", "YYYY-MM-DD")]
)
def test_a_day_without_a_reference_commitment_is_refused(day, words):
    needed("rts_gmlc", "plexos_reference")
    with pytest.raises(DataError, match=words):
        system_of(rts(commitment="plexos", days=(day,)))


def test_episodes_go_through_the_days_that_were_asked_for():
    system = system_of(rts(days=("2020-03-01", "2020-10-05")))
    starts = [str(system.episode(seed, 72).day.start)[:10] for seed in range(3)]
    assert starts == ["2020-03-01", "2020-10-05", "2020-03-01"]


def test_training_and_evaluation_have_no_day_in_common():
    system = system_of(rts())
    evaluated = {str(system.episode(seed, 72).day.start)[:10] for seed in range(20)}
    trained = {str(system.episode(TRAINING_SEEDS + seed, 72).day.start)[:10] for seed in range(20)}
    assert len(evaluated) == 20
    assert not evaluated & trained


@pytest.mark.parametrize("length", [1, 2, 7])
def test_no_seed_shares_a_day_between_training_and_evaluation(length):
    def days(seeds):
        firsts = {pick(seed, 366, length) for seed in seeds}
        return firsts, {first + later for first in firsts for later in range(length)}

    firsts, evaluated = days(range(400))
    _, trained = days(range(TRAINING_SEEDS, TRAINING_SEEDS + 800))
    assert not evaluated & trained
    assert max(evaluated | trained) < 366
    assert all(later - earlier == 4 * length for earlier, later in pairwise(sorted(firsts)))
    assert len(evaluated) >= 366 // 4 - length
    assert len(trained) > 2 * 366 // 4


def test_series_too_short_for_an_episode_say_so():
    needed("pglib_uc")
    from fairlead.simulators.power.scenario import CaliforniaScenario

    scenario = CaliforniaScenario(data=str(needed().parent), hours=72)
    simulator = PowerSimulator(scenario, system_of(scenario))
    with pytest.raises(ValueError, match=r"has 2 days, an episode needs 3; choose fewer hours"):
        simulator.reset(0)


def test_missing_data_names_what_is_missing(tmp_path):
    for scenario in (RtsScenario(data=str(tmp_path)), ActivsgScenario(data=str(tmp_path))):
        with pytest.raises(DataError, match=str(tmp_path)):
            system_of(scenario)


def test_stored_energy_of_an_empty_battery_is_no_reserve():
    grid = small_grid(
        [{"ramp": 20.0, "high": 60.0}],
        stores=({"power": 10.0, "energy": 40.0, "initial": 0.0},),
        loads=(50.0,),
    )
    simulator = toy(grid, np.full(12, 50.0), plan=[[1]], reserve=20.0)
    record = Record(
        simulator, lambda seen: np.array([[50.0], [0.0]], np.float32).clip(seen.low, seen.high)
    )
    # 10 MW of the unit, nothing of the battery.
    assert record.metrics["reserve_shortfall_mwh"] == pytest.approx(10.0, rel=1e-3)


def test_grids_whose_units_have_no_limits_in_common_are_refused():
    grid = small_grid([{}], loads=(5.0,))
    wrong = replace(grid, units=replace(grid.units, ramp=np.array([-1.0])))
    from fairlead.simulators.power.grid import check_grid

    with pytest.raises(GridError, match=r"units row 0 \(u0\), field 'ramp'"):
        check_grid(wrong)
