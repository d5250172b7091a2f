"""Multi-period dispatch: closed forms, seams of a rolling horizon, prices, both forms, bounds."""

from dataclasses import replace

import numpy as np
import pytest
from power_small import small_grid

from fairlead.models.power.multiperiod import MultiPeriodDispatch
from fairlead.models.power.multiperiod_bound import lower_bound
from fairlead.models.power.multiperiod_inputs import (
    DispatchInputs,
    DispatchState,
    FlowLimits,
    StorageEnd,
)
from fairlead.models.power.multiperiod_program import GrowingProgram
from fairlead.models.power.pyomo_multiperiod import multiperiod_pyomo
from fairlead.simulators.power.lodf import Topology
from fairlead.simulators.power.network import Network
from fairlead.simulators.power.scenario import Prices

PRICES = Prices()
HOUR = 3600.0


def boxes(grid, horizon, on=None):
    on = np.ones((horizon, len(grid.units.name))) if on is None else np.asarray(on, float)
    return {"low": on * grid.units.low, "high": on * grid.units.high}


def begin(grid, power=None):
    power = grid.units.low if power is None else np.asarray(power, float)
    return DispatchState(power, grid.storages.initial)


def meshed(seed, *, dc=(), rate=60.0):
    """Four buses in a ring with a diagonal, five units, two storages."""
    rng = np.random.default_rng(seed)
    slopes = np.sort(rng.uniform(5.0, 60.0, (5, 3)), axis=1)
    units = [
        {
            "bus": bus,
            "low": 5.0 * (u < 3),
            "high": 80.0,
            "slopes": slopes[u],
            "base": 100.0 + 30.0 * u,
            "ramp": 0.5,
        }
        for u, bus in enumerate((0, 1, 2, 3))
    ]
    units.append({"bus": 3, "high": 50.0, "slopes": (0.0,), "renewable": True})
    stores = [
        {"bus": 1, "power": 12.0, "energy": 30.0, "efficiency": 0.85, "initial": 10.0},
        {"bus": 2, "power": 8.0, "energy": 20.0, "efficiency": 0.9, "initial": 5.0},
    ]
    ring = [(0, 1, 0.1, rate), (1, 2, 0.2, rate), (2, 3, 0.1, rate), (3, 0, 0.15, rate)]
    ring.append((0, 2, 0.3, rate / 2))
    return small_grid(units, stores=stores, branches=ring, dc=dc, loads=(30.0, 60.0, 70.0, 40.0))


def meshed_inputs(grid, seed, horizon):
    rng = np.random.default_rng(seed + 100)
    load = grid.buses.load * rng.uniform(0.5, 1.1, (horizon, 1)) + rng.uniform(0, 9, (horizon, 4))
    given = boxes(grid, horizon)
    given["low"][2, 1] = given["high"][2, 1] = 0.0
    given["high"][:, 4] = rng.uniform(5.0, 50.0, horizon)
    return DispatchInputs(load=load, **given)


@pytest.mark.parametrize("efficiency", [0.6, 0.85, 1.0])
@pytest.mark.parametrize("late", [11.0, 16.0, 25.0])
def test_arbitrage_happens_if_and_only_if_it_pays(efficiency, late):
    # Two units whose segments set the price: 10 in the first hour, ``late`` in the second.
    grid = small_grid(
        [{"high": 1000.0, "slopes": (10.0,)}, {"high": 1000.0, "slopes": (late,)}],
        stores=[{"efficiency": efficiency, "initial": 0.0}],
    )
    given = boxes(grid, 2)
    given["high"][1, 0] = 0.0
    model = MultiPeriodDispatch(grid, horizon=2, step=HOUR)
    load = np.array([100.0, 100.0])
    found = model.solve(begin(grid), DispatchInputs(load=load, **given))
    assert found.price[:, 0] == pytest.approx([10.0, late])
    charged = 10.0 if late * efficiency > 10.0 else 0.0
    assert found.charge[:, 0] == pytest.approx([charged, 0.0], abs=1e-9)
    assert found.discharge[:, 0] == pytest.approx([0.0, charged * efficiency], abs=1e-9)
    saved = charged * (efficiency * late - 10.0) - 1e-3 / 2 * charged * (1 + efficiency)
    assert found.objective == pytest.approx(1000.0 + 100.0 * late - saved, abs=1e-6)


def test_rolling_horizon_keeps_ramps_and_energy_over_every_seam():
    grid = small_grid(
        [
            {"low": 20.0, "high": 200.0, "slopes": (10.0, 14.0), "ramp": 1.0},
            {"low": 10.0, "high": 120.0, "slopes": (30.0,), "ramp": 2.5},
        ],
        stores=[{"power": 20.0, "energy": 10.0, "efficiency": 0.8, "initial": 5.0}],
    )
    horizon, steps, hours = 6, 40, 1 / 12
    load = 150.0 + 90.0 * np.sin(np.arange(steps + horizon) / 5.0)
    model = MultiPeriodDispatch(grid, horizon=horizon, step=300.0)
    state = begin(grid, [100.0, 10.0])
    ramp = grid.units.ramp * 5.0
    hardest = 0.0
    for t in range(steps):
        found = model.solve(
            state, DispatchInputs(load=load[t : t + horizon], **boxes(grid, horizon))
        )
        path = np.concatenate([state.power[None], found.power])
        moves = np.abs(np.diff(path, axis=0))
        assert (moves <= ramp + 1e-9).all()
        hardest = max(hardest, float((moves / ramp).max()))
        energy = np.concatenate([state.soc[None], found.soc])
        gained = hours * (0.8 * found.charge - found.discharge)
        assert np.diff(energy, axis=0) == pytest.approx(gained, abs=1e-9)
        assert (found.soc >= -1e-9).all() and (found.soc <= 10.0 + 1e-9).all()
        assert found.soc[-1] >= state.soc - 1e-9
        assert np.minimum(found.charge, found.discharge).max() < 1e-9
        net = found.discharge - found.charge
        supplied = found.power.sum(1) + net.sum(1) + found.shed[:, 0] - found.surplus
        assert supplied == pytest.approx(load[t : t + horizon], abs=1e-7)
        state = DispatchState(found.power[0], found.soc[0])
    assert hardest > 1.0 - 1e-9, "no ramp ever bound: the test shows nothing"


def test_a_start_comes_in_at_its_minimum_and_a_stop_goes_to_zero_in_one_step():
    grid = small_grid(
        [
            {"low": 50.0, "high": 100.0, "slopes": (1.0,), "ramp": 0.1},
            {"high": 300.0, "slopes": (20.0,)},
        ]
    )
    on = [[0, 1], [1, 1], [1, 1], [0, 1]]
    model = MultiPeriodDispatch(grid, horizon=4, step=HOUR)
    given = DispatchInputs(load=np.full(4, 150.0), **boxes(grid, 4, on))
    found = model.solve(begin(grid, [90.0, 0.0]), given)
    # 6 MW per hour, already in the hour of the start.
    assert found.power[:, 0] == pytest.approx([0.0, 56.0, 62.0, 0.0])
    free = MultiPeriodDispatch(grid, horizon=4, step=HOUR, relaxed=True)
    assert free.solve(begin(grid, [90.0, 0.0]), given).power[1, 0] == pytest.approx(100.0)
    loose = replace(given, ramp_free=np.array([False, False, True, False]))
    assert model.solve(begin(grid, [90.0, 0.0]), loose).power[:, 0] == pytest.approx(
        [0.0, 56.0, 100.0, 0.0]
    )


def test_an_outage_that_no_ramp_could_follow_is_dispatched_all_the_same():
    grid = small_grid([{"low": 40.0, "ramp": 0.1, "slopes": (5.0,)}, {"high": 30.0}])
    given = boxes(grid, 2)
    given["low"][:, 0], given["high"][:, 0] = (40.0, 0.0), (60.0, 0.0)
    found = MultiPeriodDispatch(grid, horizon=2, step=HOUR).solve(
        begin(grid, [95.0, 0.0]), DispatchInputs(load=np.full(2, 90.0), **given)
    )
    assert found.power == pytest.approx(np.array([[60.0, 30.0], [0.0, 30.0]]))
    assert found.shed[:, 0] == pytest.approx([0.0, 60.0])
    assert found.price[1, 0] == pytest.approx(PRICES.shed)


def test_what_nobody_can_take_is_surplus_at_its_price():
    grid = small_grid([{"low": 50.0, "slopes": (5.0,), "base": 500.0}])
    model = MultiPeriodDispatch(grid, horizon=1, step=HOUR)
    found = model.solve(begin(grid), DispatchInputs(load=np.array([30.0]), **boxes(grid, 1)))
    assert found.surplus == pytest.approx([20.0])
    assert found.price[0, 0] == pytest.approx(-PRICES.surplus)
    assert found.cost == pytest.approx([500.0])
    assert found.objective == pytest.approx(500.0 + 20.0 * PRICES.surplus)


def test_costs_are_those_of_the_curve_and_nothing_while_off():
    grid = small_grid(
        [{"low": 20.0, "slopes": (10.0, 30.0), "base": 300.0}, {"slopes": (50.0,), "base": 70.0}]
    )
    model = MultiPeriodDispatch(grid, horizon=3, step=1800.0)
    given = boxes(grid, 3, [[1, 1], [1, 0], [0, 1]])
    found = model.solve(begin(grid), DispatchInputs(load=np.array([110.0, 90.0, 40.0]), **given))
    hourly = [300 + 400 + 1200 + 70 + 500, 300 + 400 + 900, 70 + 2000]
    assert found.cost == pytest.approx(np.array(hourly) / 2.0)
    assert found.objective == pytest.approx(found.cost.sum())


def test_negative_prices_do_not_make_storages_run_in_circles():
    # Curtailment costs 5 $/MWh, so wasting energy in a full storage would pay.
    grid = small_grid(
        [{"high": 100.0, "slopes": (0.0,), "renewable": True}, {"slopes": (20.0,)}],
        stores=[{"power": 30.0, "energy": 20.0, "efficiency": 0.5, "initial": 20.0}],
    )
    given = DispatchInputs(load=np.array([40.0, 40.0]), **boxes(grid, 2))
    relaxed = MultiPeriodDispatch(grid, horizon=2, step=HOUR, relaxed=True)
    loose = relaxed.solve(begin(grid), given)
    assert np.minimum(loose.charge, loose.discharge).max() > 1.0, "the relaxation is no test"
    found = MultiPeriodDispatch(grid, horizon=2, step=HOUR).solve(begin(grid), given)
    assert np.minimum(found.charge, found.discharge).max() == 0.0
    assert found.lower_bound == pytest.approx(loose.objective)
    assert found.objective > found.lower_bound
    assert found.soc[-1, 0] == pytest.approx(20.0)


def test_free_energy_does_not_make_storages_run_in_circles():
    grid = small_grid(
        [{"high": 100.0, "slopes": (0.0,), "renewable": True}],
        stores=[{"initial": 0.0, "efficiency": 0.5}, {"initial": 40.0}],
    )
    model = MultiPeriodDispatch(
        grid, horizon=3, step=HOUR, prices=PRICES.model_copy(update={"curtailment": 0.0})
    )
    found = model.solve(begin(grid), DispatchInputs(load=np.full(3, 50.0), **boxes(grid, 3)))
    assert found.charge.max() == 0.0 and found.discharge.max() == 0.0


@pytest.mark.parametrize(
    ("end", "last", "value"),
    [
        (StorageEnd.free(1), 0.0, 30.0),
        (StorageEnd.at_least(np.array([12.0])), 12.0, 30.0),
        (StorageEnd.fixed(np.array([15.0])), 15.0, 30.0),
        (StorageEnd.fixed(np.array([40.0])), 20.0 + 3 * 0.8 * 10.0, 30.0),  # as far as it can
        (StorageEnd.free(1, value=29.0), 0.0, 30.0),
        (StorageEnd.free(1, value=35.0), 20.0, 35.0),
        (StorageEnd.free(1, value=40.0), 40.0, None),
    ],
)
def test_ends_of_storages(end, last, value):
    grid = small_grid([{"high": 200.0, "slopes": (30.0,)}], stores=[{}])
    model = MultiPeriodDispatch(grid, horizon=3, step=HOUR, wear=1e-9)
    given = DispatchInputs(load=np.full(3, 100.0), end=end, **boxes(grid, 3))
    found = model.solve(begin(grid), given)
    assert found.soc[-1, 0] == pytest.approx(min(last, 40.0))
    assert np.minimum(found.charge, found.discharge).max() < 1e-9
    if value is not None and last == 15.0:
        assert found.water_value[:, 0] == pytest.approx([value] * 3, abs=1e-6)


def test_multipliers_are_finite_differences_of_the_cost():
    grid = meshed(3, rate=25.0)
    given = meshed_inputs(grid, 3, 5)
    limits = FlowLimits.of(Network(grid, convention="x"))
    model = MultiPeriodDispatch(grid, horizon=5, step=HOUR, network=limits)
    state = begin(grid, [40.0, 40.0, 40.0, 40.0, 0.0])
    found = model.solve(state, given)
    assert (np.abs(found.congestion) > 1e-3).any(), "nothing is congested: the test shows little"

    def cost(load=0.0, soc=0.0, power=0.0):
        moved = DispatchState(state.power + power, state.soc + soc)
        # The ends must not move with the measured energy.
        fixed = replace(given, load=given.load + load, end=StorageEnd.at_least(state.soc))
        return model.solve(moved, fixed).objective

    step = 1e-4
    for t in range(5):
        for bus in range(4):
            change = np.zeros((5, 4))
            change[t, bus] = step
            sides = [(cost(change) - cost()) / step, (cost() - cost(-change)) / step]
            assert min(sides) - 1e-5 <= found.price[t, bus] <= max(sides) + 1e-5
    for store in range(2):
        change = np.eye(2)[store] * step
        sides = [(cost() - cost(soc=change)) / step, (cost(soc=-change) - cost()) / step]
        assert min(sides) - 1e-5 <= found.water_value[0, store] <= max(sides) + 1e-5
    for unit in range(4):
        change = np.eye(5)[unit] * step
        sides = [(cost(power=change) - cost()) / step, (cost() - cost(power=-change)) / step]
        assert min(sides) - 1e-5 <= found.ramp_price[0, unit] <= max(sides) + 1e-5
    rent = (found.price * (given.load - found.shed)).sum()
    assert rent > 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodal", [False, True])
def test_both_forms_agree(seed, nodal):
    grid = meshed(seed, dc=[(3, 1, 15.0)] if seed % 2 else ())
    given = meshed_inputs(grid, seed, 6)
    end = (
        None,
        StorageEnd.fixed(np.array([12.0, 4.0])),
        StorageEnd.free(2, value=20.0),
        StorageEnd.at_least(np.array([30.0, 20.0])),
    )[seed]
    given = replace(given, end=end, reserve=np.full(6, 60.0))
    limits = FlowLimits.of(Network(grid, convention="x")) if nodal else None
    if not nodal:
        given = replace(given, load=given.load.sum(axis=1))
    state = begin(grid, [40.0, 40.0, 40.0, 40.0, 0.0])
    # Negative prices would let the reference run storages in circles.
    free = PRICES.model_copy(update={"curtailment": 0.0})
    for step in (HOUR, 300.0):
        model = MultiPeriodDispatch(
            grid, horizon=6, step=step, network=limits, prices=free, reserve=True
        )
        found = model.solve(state, given)
        reference = multiperiod_pyomo(grid, state, given, step=step, network=limits, prices=free)
        assert found.objective == pytest.approx(reference.objective, rel=1e-6)
        assert found.lower_bound == pytest.approx(found.objective, rel=1e-9)
        if nodal:
            broken = np.maximum(found.flow - limits.high, limits.low - found.flow)
            assert np.maximum(broken, 0.0) == pytest.approx(found.overload, abs=1e-9)


def test_flows_within_limits_and_prices_part_at_a_congested_line():
    grid = small_grid(
        [{"slopes": (10.0,)}, {"bus": 1, "slopes": (30.0,)}],
        branches=[(0, 1, 0.1, 40.0)],
        loads=(10.0, 60.0),
    )
    limits = FlowLimits.of(Network(grid, convention="x"))
    model = MultiPeriodDispatch(grid, horizon=3, step=HOUR, network=limits)
    load = np.array([[10.0, 30.0], [10.0, 60.0], [10.0, 170.0]])
    given = DispatchInputs(load=load, **boxes(grid, 3))
    found = model.solve(begin(grid), given)
    assert found.flow[:, 0] == pytest.approx([30.0, 40.0, 70.0])
    assert found.overload[:, 0] == pytest.approx([0.0, 0.0, 30.0])
    assert found.price[0] == pytest.approx([10.0, 10.0])
    assert found.price[1] == pytest.approx([10.0, 30.0])
    assert found.price[2, 1] - found.price[2, 0] == pytest.approx(PRICES.overload)
    assert found.rounds == 2
    assert model.solve(begin(grid), given).rounds == 1, "rows of limits are kept"


def test_hot_solves_equal_cold_ones_also_when_branches_go_and_return():
    grid = meshed(5)
    network, rng = Network(grid, convention="x"), np.random.default_rng(0)
    topology = Topology(network)
    model = MultiPeriodDispatch(grid, horizon=4, step=300.0, network=FlowLimits.of(network))
    state = begin(grid, [40.0, 40.0, 40.0, 40.0, 0.0])
    rows = 0
    for t in range(12):
        if t in {3, 6}:
            topology.open(t // 3)
        if t == 9:
            topology.close(1)
        limits = FlowLimits.of(network, topology)
        if t in {3, 6, 9}:
            model.set_network(limits)
        given = meshed_inputs(grid, int(rng.integers(50)), 4)
        found = model.solve(state, given)
        fresh = MultiPeriodDispatch(grid, horizon=4, step=300.0, network=limits)
        assert found.objective == pytest.approx(fresh.solve(state, given).objective, rel=1e-9)
        rows = max(rows, model.program.added)
        state = DispatchState(found.power[0], found.soc[0])
    assert rows > 0, "no limit ever became a row"


def test_reserve_is_held_within_ten_minutes_or_missing_at_its_price():
    grid = small_grid(
        [{"slopes": (10.0,), "ramp": 1.0}, {"slopes": (12.0,), "ramp": 3.0}, {"renewable": True}]
    )
    given = boxes(grid, 2)
    given["high"][:, 2] = 0.0
    model = MultiPeriodDispatch(grid, horizon=2, step=HOUR, reserve=True)
    found = model.solve(
        begin(grid, [95.0, 0.0, 0.0]),
        DispatchInputs(load=np.array([95.0, 50.0]), reserve=np.array([35.0, 60.0]), **given),
    )
    # 10 + 30 MW within ten minutes; the first unit gives way for its part.
    assert found.held.sum(axis=1) == pytest.approx([35.0, 40.0])
    assert found.short == pytest.approx([0.0, 20.0])
    assert found.power[0] == pytest.approx([95.0, 0.0, 0.0])
    assert found.reserve_price[1] == pytest.approx(PRICES.reserve)
    assert (found.power + found.held <= 100.0 + 1e-9).all()


def test_the_bound_lies_below_every_rolling_dispatch_and_is_proven():
    grid = meshed(1)
    steps, horizon = 30, 4
    parts = [meshed_inputs(grid, seed, 6) for seed in range(6)]
    load = np.concatenate([part.load for part in parts])
    low = np.concatenate([part.low for part in parts])
    high = np.concatenate([part.high for part in parts])
    whole = DispatchInputs(load=load[:steps], low=low[:steps], high=high[:steps])
    state = start = begin(grid, [40.0, 40.0, 40.0, 40.0, 0.0])
    limits = FlowLimits.of(Network(grid, convention="x"))
    model = MultiPeriodDispatch(grid, horizon=horizon, step=HOUR, network=limits)
    spent = 0.0
    for t in range(steps):
        span = slice(t, t + horizon)
        found = model.solve(state, DispatchInputs(load=load[span], low=low[span], high=high[span]))
        slack = PRICES.shed * found.shed[0].sum() + PRICES.surplus * found.surplus[0]
        slack += PRICES.overload * found.overload[0].sum()
        slack += PRICES.curtailment * (high[t, 4] - found.power[0, 4])
        spent += found.cost[0] + slack
        state = DispatchState(found.power[0], found.soc[0])
    bound = lower_bound(grid, whole, start, step=HOUR)
    tight = lower_bound(grid, whole, start, step=HOUR, network=limits)
    inner = lower_bound(grid, whole, start, step=HOUR, method="ipm")
    assert bound.value == pytest.approx(bound.objective, rel=1e-9)
    assert inner.value <= bound.objective * (1 + 1e-12)
    assert inner.value == pytest.approx(bound.objective, rel=1e-6)
    assert bound.value <= tight.value <= spent
    assert tight.value == pytest.approx(tight.objective, rel=1e-9)
    assert bound.value > 0.8 * spent, "a bound that far off shows nothing"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"load": np.array([1.0, np.nan])}, r"load\[1\] is nan"),
        ({"load": np.ones(3)}, r"load has shape \(3,\), expected \(2,\)"),
        ({"low": np.array([[0.0, 0.0], [200.0, 0.0]])}, "unit u0, interval 1: low 200.0 is above"),
        ({"reserve": np.ones(1)}, "reserve has shape"),
        ({"end": StorageEnd.free(2)}, r"expected \(1,\)"),
        ({"on": np.ones((1, 2), bool)}, "on has shape"),
        ({"ramp_free": np.ones(3, bool)}, "ramp_free has shape"),
    ],
)
def test_bad_inputs_are_named(change, words):
    grid = small_grid([{}, {}], stores=[{}])
    given = replace(DispatchInputs(load=np.ones(2), **boxes(grid, 2)), **change)
    with pytest.raises(ValueError, match=words):
        MultiPeriodDispatch(grid, horizon=2, step=HOUR).solve(begin(grid), given)


def test_a_measured_energy_outside_the_storage_is_named():
    grid = small_grid([{}], stores=[{}])
    model = MultiPeriodDispatch(grid, horizon=1, step=HOUR)
    given = DispatchInputs(load=np.ones(1), **boxes(grid, 1))
    with pytest.raises(ValueError, match=r"storage s0: measured 41\.0 MWh"):
        model.solve(DispatchState(np.zeros(1), np.array([41.0])), given)
    with pytest.raises(ValueError, match="without a network"):
        model.set_network(FlowLimits(np.zeros((0, 1)), *(np.zeros(0),) * 3))


def test_only_an_optimum_leaves_the_program():
    one, index = np.ones(1), np.zeros(1, dtype=np.int64)
    program = GrowingProgram(cost=one, row_count=1, rows=index, columns=index, values=one)
    program.set_bounds(np.zeros(1), one, 2.0 * one, 3.0 * one)
    with pytest.raises(RuntimeError, match="infeasible"):
        program.solve()
