"""Store-and-forward control: closed forms, three solvers, bounds on fluid policies, storage."""

from dataclasses import replace

import numpy as np
import pytest
from traffic_graphs import (
    crossing,
    entries,
    graph,
    grid_graph,
    random_graph,
    random_greens,
    tandem,
)

from fairlead.models.traffic.fluid import cost_of, roll_out
from fairlead.models.traffic.pyomo_store_forward import store_forward_pyomo
from fairlead.models.traffic.store_forward import StoreForward
from fairlead.models.traffic.store_forward_layout import Costs

T = 60.0
PURE = Costs(reward=0.0)
SQUARE = Costs(objective="quadratic")


def plan_of(made, queues, arrivals, costs=None, **values):
    arrivals = np.asarray(arrivals, float)
    program = StoreForward(
        made, interval=T, horizon=arrivals.shape[0], costs=costs, **{"method": "simplex", **values}
    )
    return program.solve(np.asarray(queues, float), arrivals)


def random_case(seed, horizon=4, scale=1.0, **values):
    rng = np.random.default_rng(seed)
    made = random_graph(rng, **values)
    queues = scale * rng.uniform(0.0, 12.0, made.movements)
    arrivals = scale * rng.uniform(0.0, 4.0, (horizon, made.movements))
    return rng, made, queues, arrivals


# -- closed forms ------------------------------------------------------------------------------


def test_total_time_of_two_cycles_by_hand():
    # 54 of 60 s are green at 0.5 veh/s: 27 of 60 vehicles leave, then 27 of 53.
    plan = plan_of(crossing(), [20, 20], [[10, 10], [10, 10]], PURE)
    assert plan.total_time == pytest.approx(60 * (33 + 26), rel=1e-9)
    assert plan.objective == pytest.approx(plan.total_time)
    assert plan.flows.sum(axis=1) == pytest.approx([27, 27])
    assert plan.greens.sum(axis=1) == pytest.approx([0.9, 0.9])
    # Nothing is left of 12 and 10: the second phase's green is free between 20 s and 30 s.
    idle = plan_of(crossing(), [2, 0], [[10, 10], [0, 0]], PURE)
    assert idle.total_time == pytest.approx(0.0, abs=1e-9)
    assert 24 / 60 - 1e-9 <= idle.greens[0, 0] <= 34 / 60 + 1e-9


def test_unequal_saturation_serves_the_faster_queue_first():
    # All the green to 1 veh/s while it has somebody: 54 of 60 leave, 6 stay; 0.5 veh/s waits.
    made = crossing(saturation=np.array([1.0, 0.5]))
    plan = plan_of(made, [60, 30], [[0, 0], [0, 0]], PURE)
    assert plan.queues[0] == pytest.approx([6, 30])
    # Then 6 s for those 6 and 48 s, 24 vehicles, for the others.
    assert plan.queues[1] == pytest.approx([0, 6])
    assert plan.total_time == pytest.approx(60 * (36 + 6))
    # The first vehicle's price: 2 s of green more for it, one vehicle of the others later.
    assert plan.prices[0, 1] == pytest.approx(120.0)
    assert plan.prices[0, 0] == pytest.approx(60 + 60 * 0.5)


def test_a_chain_passes_one_queue_an_interval_or_several():
    made = tandem(lost=np.zeros(2))
    one = plan_of(made, [10, 0, 0, 0], np.zeros((2, 4)), PURE)
    assert one.queues[:, :2] == pytest.approx(np.array([[0, 10], [0, 0]]))
    assert one.total_time == pytest.approx(600.0)
    through = plan_of(made, [10, 0, 0, 0], np.zeros((2, 4)), PURE, pass_through=True)
    assert through.total_time == pytest.approx(0.0, abs=1e-9)


def test_at_capacity_greens_are_proportional_to_flows():
    # q / s = 0.6 and 0.3 use up the 0.9 that are not lost: only one plan leaves no queue.
    plan = plan_of(crossing(), [0, 0], np.tile([18.0, 9.0], (3, 1)), PURE)
    assert plan.greens == pytest.approx(np.tile([0.6, 0.3], (3, 1)))
    assert plan.total_time == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("segments", [5, 40])
def test_beyond_capacity_equal_delays_mean_greens_proportional_to_flows(segments):
    # Storage in proportion to flow: equal relative queues are equal delays, x_l / q_l.
    flow = np.array([0.5, 0.25])
    made = crossing(storage=np.array([100.0, 50.0, 1.0, 1.0]))
    costs = Costs(objective="quadratic", segments=segments, reward=0.0)
    plan = plan_of(made, [0, 0], [T * flow], costs)
    # 45 arrive, 27 leave, 18 stay: 12 and 6.
    delay = plan.queues[0] / flow
    assert delay == pytest.approx([24.0, 24.0], abs=200 / segments)
    assert plan.greens[0] == pytest.approx([0.6, 0.3], abs=1.7 / segments)
    assert plan.queues[0].sum() == pytest.approx(18.0)
    exact = T * (12.0**2 / 100 + 6.0**2 / 50)
    assert plan.lower_bound <= exact + 1e-6
    assert plan.lower_bound >= exact - T * 150 / (4 * segments**2)


def test_permissive_and_unsignalled_movements():
    # Movement 1 gets 0.4 of its saturation from phase 0; movement 2 needs no signal.
    made = graph(
        [0, 1, 2],
        [3, 4, 5],
        serve=[[1, 0.4, 0], [0, 1, 0]],
        always=np.array([0.0, 0.0, 0.3]),
        lost=np.zeros(1),
        high=np.array([0.5, 0.5]),
    )
    plan = plan_of(made, [100, 100, 100], np.zeros((1, 3)), PURE)
    assert plan.flows[0] == pytest.approx([15, 0.5 * 60 * (0.4 * 0.5 + 0.5), 9])


def test_a_network_without_signals_has_a_plan_too():
    made = graph([0, 1], [1, 2], ratio=[(0, 1, 1.0)], signals=0, always=np.ones(2))
    plan = plan_of(made, [40, 0], np.zeros((2, 2)), PURE)
    assert plan.greens.shape == (2, 0)
    assert plan.queues[0] == pytest.approx([10, 30])
    assert plan.queues[1].sum() == pytest.approx(10)


# -- the three forms ---------------------------------------------------------------------------


@pytest.mark.parametrize("pass_through", [False, True])
@pytest.mark.parametrize("costs", [Costs(), SQUARE], ids=["time", "square"])
@pytest.mark.parametrize("seed", range(3))
def test_simplex_interior_point_and_pyomo_agree(seed, costs, pass_through):
    # The last one overflows its links.
    _, made, queues, arrivals = random_case(seed, scale=3.0 if seed == 2 else 1.0)
    values = {"costs": costs, "pass_through": pass_through}
    simplex = plan_of(made, queues, arrivals, method="simplex", **values)
    interior = plan_of(made, queues, arrivals, method="ipm", **values)
    stated = store_forward_pyomo(made, queues, arrivals, interval=T, **values)
    assert interior.objective == pytest.approx(simplex.objective, rel=1e-6)
    assert stated.objective == pytest.approx(simplex.objective, rel=1e-6)
    for plan in (simplex, interior):
        assert plan.status == "optimal" and plan.iterations > 0
        assert plan.lower_bound <= plan.objective * (1.0 + 1e-9) + 1e-6
        if costs is not SQUARE:
            assert plan.lower_bound == pytest.approx(plan.objective, rel=1e-6)
    assert (simplex.overflow.sum() > 1.0) == (seed == 2)


def test_the_plan_keeps_its_own_rows():
    for seed in range(3):
        _, made, queues, arrivals = random_case(seed)
        plan = plan_of(made, queues, arrivals)
        before = np.vstack([queues, plan.queues[:-1]])
        after = before + arrivals - plan.flows + plan.flows @ made.ratio
        np.testing.assert_allclose(plan.queues, after, atol=1e-7)
        assert (plan.flows <= before + arrivals + 1e-7).all()
        assert (plan.flows <= T * made.rate(plan.greens) + 1e-7).all()
        np.testing.assert_allclose(made.per_signal(plan.greens), np.tile(0.9, (4, 4)), atol=1e-9)
        assert (plan.greens >= made.low - 1e-9).all() and (plan.greens <= made.high + 1e-9).all()
        np.testing.assert_allclose(plan.occupancy, plan.queues @ made.on_link.T, atol=1e-9)


def test_prices_are_what_one_more_vehicle_costs():
    _, made, queues, arrivals = random_case(1)
    program = StoreForward(made, interval=T, horizon=4, method="simplex")
    plan = program.solve(queues, arrivals)
    # No vehicle lowers the time; it can only earn the reward for leaving.
    assert (plan.prices > -1.1e-3 * T).all() and plan.prices.max() > T
    differences = 0
    for k, m in ((0, 0), (0, 7), (1, 3), (2, 11), (3, 20)):
        values = []
        for shift in (-1e-3, 1e-3):
            moved = arrivals.copy()
            moved[k, m] += shift
            values.append(program.solve(queues, moved).objective)
        assert values[1] - plan.objective >= 1e-3 * plan.prices[k, m] - 1e-6
        differences += abs((values[1] - values[0]) / 2e-3 - plan.prices[k, m]) < 1e-3
    assert differences >= 4, "prices are subgradients, and gradients where the plan is no corner"


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("costs", [Costs(), SQUARE], ids=["time", "square"])
@pytest.mark.parametrize("storage", [False, True])
def test_no_fluid_policy_is_below_the_bound(costs, storage):
    closest = np.inf
    for seed in range(8):
        rng, made, queues, arrivals = random_case(seed, scale=0.5 + 0.3 * seed)
        bound = plan_of(made, queues, arrivals, costs).lower_bound
        loose = plan_of(made, queues, arrivals, costs, pass_through=True).lower_bound
        assert loose <= bound * (1.0 + 1e-9)
        for _ in range(10):
            greens = random_greens(rng, made, 4)
            run = roll_out(made, queues, arrivals, greens, step=T, storage=storage)
            cost = cost_of(made, run.queues, costs, T)
            assert cost >= bound * (1.0 - 1e-9)
            closest = min(closest, cost / bound)
            # Six times finer, with vehicles that pass several queues in an interval.
            fine = roll_out(
                made,
                queues,
                np.repeat(arrivals / 6.0, 6, axis=0),
                np.repeat(greens, 6, axis=0),
                step=T / 6.0,
                storage=storage,
            )
            assert cost_of(made, fine.queues[5::6], costs, T) >= loose * (1.0 - 1e-9)
    assert closest < 2.0, "the bound was never near"


def test_the_plan_s_own_greens_reach_the_bound_where_nothing_blocks():
    for seed in range(5):
        _, made, queues, arrivals = random_case(seed, storage=(1e3, 2e3))
        plan = plan_of(made, queues, arrivals)
        run = roll_out(made, queues, arrivals, plan.greens, step=T)
        cost = cost_of(made, run.queues, Costs(), T)
        assert plan.lower_bound <= cost * (1.0 + 1e-9)
        assert cost == pytest.approx(plan.total_time, rel=1e-6)


def test_any_duals_prove_a_bound():
    rng, made, queues, arrivals = random_case(4)
    program = StoreForward(made, interval=T, horizon=4, method="simplex")
    plan = program.solve(queues, arrivals)
    box = program.layout.box(queues, arrivals)
    vehicles = queues.sum() + arrivals.sum()
    for scale in (0.0, 1.0, 50.0):
        duals = scale * rng.normal(size=program.layout.matrix.shape[0])
        fixed, reduced = program.program.dual_parts(duals, box)
        assert fixed + program.layout.least(reduced, box, vehicles) < plan.objective


# -- holding back, storage, rolling ------------------------------------------------------------


def held_back(made, plan):
    """Vehicles that stayed although their green would have let them go."""
    before = plan.queues - plan.flows @ made.ratio
    spare = T * made.rate(plan.greens) - plan.flows
    return np.minimum(before, spare)


@pytest.mark.parametrize("method", ["simplex", "ipm"])
def test_nothing_is_held_back(method):
    # Behind 100 others nobody is served sooner for being there: holding 0 back costs no time.
    made, queues, none = tandem(), np.array([40.0, 100.0, 5.0, 5.0]), np.zeros((3, 4))
    plan = plan_of(made, queues, none, method=method)
    loose = plan_of(made, queues, none, PURE, method="ipm")
    assert plan.total_time == pytest.approx(loose.total_time, rel=1e-6)
    assert held_back(made, plan).max() < 1e-6
    assert held_back(made, loose).max() > 1.0, "the reward changed nothing here"
    for seed in range(6):
        _, made, queues, arrivals = random_case(seed, storage=(1e3, 2e3))
        plan = plan_of(made, queues, arrivals, method=method)
        assert held_back(made, plan).max() < 1e-3
        # The reward is a tie-break: it costs no more time than it is worth.
        loose = plan_of(made, queues, arrivals, PURE, method=method)
        worth = 1e-3 * T * plan.flows.sum()
        assert plan.total_time <= loose.total_time + worth


def test_too_many_vehicles_still_have_a_plan():
    _, made, _, arrivals = random_case(3, storage=(2.0, 3.0))
    for costs in (Costs(), SQUARE):
        plan = plan_of(made, np.full(made.movements, 80.0), 10.0 * arrivals, costs)
        assert plan.status == "optimal" and plan.overflow.max() > 100.0
        dear = replace(costs, overflow=100.0)
        relieved = plan_of(made, np.full(made.movements, 80.0), 10.0 * arrivals, dear)
        assert relieved.overflow.sum() <= plan.overflow.sum() + 1e-6


def test_a_full_link_beyond_is_not_fed():
    # Link 1 holds 10, its signal is busy with a dearer street: the plan holds link 0 back.
    storage = np.array([100.0, 10.0, 100.0, 100.0, 9.0, 9.0, 9.0])
    made = tandem(storage=storage, saturation=np.array([0.5, 0.1, 0.5, 1.0]))
    plan = plan_of(made, [40, 8, 0, 60], np.zeros((1, 4)))
    assert plan.occupancy[0, 1] <= 10.0 + 1e-7 and plan.overflow.sum() < 1e-7
    assert plan.greens[0, 0] * 30 > plan.flows[0, 0] + 1.0
    priceless = plan_of(replace(made, storage=np.full(7, 1e3)), [40, 8, 0, 60], np.zeros((1, 4)))
    assert priceless.occupancy[0, 1] > 12.0


def test_rolling_on_equals_solving_afresh():
    rng, made, queues, arrivals = random_case(6)
    hot = StoreForward(made, interval=T, horizon=4, method="simplex")
    for _ in range(5):
        plan = hot.solve(queues, arrivals)
        fresh = StoreForward(made, interval=T, horizon=4, method="simplex").solve(queues, arrivals)
        assert plan.objective == pytest.approx(fresh.objective, rel=1e-9)
        queues = plan.queues[0]
        arrivals = np.vstack([arrivals[1:], rng.uniform(0.0, 4.0, (1, made.movements))])
    again = hot.solve(queues, arrivals)
    assert hot.solve(queues, arrivals).iterations == 0
    assert again.objective == pytest.approx(hot.solve(queues, arrivals).objective, rel=1e-12)


def test_a_hot_solve_of_a_grid_takes_few_iterations():
    made = grid_graph(3, 3)
    rng = np.random.default_rng(0)
    arrivals = np.where(entries(made), rng.uniform(1.0, 6.0, (6, made.movements)), 0.0)
    program = StoreForward(made, interval=T, horizon=6, method="simplex")
    first = program.solve(rng.uniform(0.0, 8.0, made.movements), arrivals)
    second = program.solve(first.queues[0], arrivals)
    assert second.iterations < 0.5 * first.iterations


def test_the_clock_of_the_solver_does_not_run_out():
    _, made, queues, arrivals = random_case(0)
    program = StoreForward(made, interval=T, horizon=4, method="ipm", time_limit=0.5)
    spent, first = 0.0, program.solve(queues, arrivals).objective
    while spent < 0.7:
        plan = program.solve(queues, arrivals)
        assert plan.objective == pytest.approx(first, rel=1e-6)
        spent += plan.seconds


def test_a_solve_that_takes_too_long_is_an_error():
    made = grid_graph(5, 5)
    arrivals = np.where(entries(made), np.full((8, made.movements), 4.0), 0.0)
    program = StoreForward(made, interval=T, horizon=8, method="simplex", time_limit=1e-3)
    with pytest.raises(RuntimeError, match="time limit reached"):
        program.solve(np.zeros(made.movements), arrivals)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queues", "arrivals", "name"),
    [
        (np.zeros(3), np.zeros((2, 2)), "queues"),
        (np.array([1.0, -1.0]), np.zeros((2, 2)), "queues"),
        (np.array([1.0, np.nan]), np.zeros((2, 2)), "queues"),
        (np.zeros(2), np.zeros((3, 2)), "arrivals"),
        (np.zeros(2), np.full((2, 2), np.inf), "arrivals"),
    ],
)
def test_bad_states_are_named(queues, arrivals, name):
    program = StoreForward(crossing(), interval=T, horizon=2)
    with pytest.raises(ValueError, match=name):
        program.solve(queues, arrivals)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"objective": "delay"}, "objective"),
        ({"segments": 0}, "segments"),
        ({"overflow": 1.0}, "overflow"),
        ({"reward": -0.1}, "reward"),
        ({"reward": 1.0}, "reward"),
    ],
)
def test_bad_costs_are_named(values, match):
    with pytest.raises(ValueError, match=match):
        Costs(**values)


@pytest.mark.parametrize("values", [{"interval": 0.0}, {"horizon": 0}, {"time_limit": 0.0}])
def test_bad_horizons_are_named(values):
    with pytest.raises(ValueError, match="must be positive"):
        StoreForward(crossing(), **{"interval": T, "horizon": 2, **values})
