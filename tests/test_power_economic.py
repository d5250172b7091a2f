"""Economic dispatch: textbook figures, HiGHS on random instances, sensitivities, limits."""

from __future__ import annotations

import highspy
import numpy as np
import pytest
from power_grids import random_curves

from fairlead.models.power.economic import merit_order, quadratic_dispatch, segment_room
from fairlead.simulators.power.costs import CostTable
from fairlead.simulators.power.curves import chords
from fairlead.simulators.power.grid import Curves

WOOD = np.array([[0.001562, 7.92, 561.0], [0.00194, 7.85, 310.0], [0.00482, 7.97, 78.0]])
LOW, HIGH = np.array([150.0, 100.0, 50.0]), np.array([600.0, 400.0, 200.0])


def random_units(rng, count, *, straight=0.0):
    bend = rng.uniform(1e-3, 0.05, count) * (rng.random(count) >= straight)
    quadratic = np.stack([bend, rng.uniform(5.0, 50.0, count), rng.uniform(0.0, 500.0, count)], 1)
    low = rng.uniform(0.0, 50.0, count)
    return quadratic, low, low + rng.uniform(0.0, 300.0, count)


def by_highs(quadratic, low, high, demand):
    """The same dispatch as a quadratic program."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    count = low.shape[0]
    model = highspy.HighsModel()
    program = model.lp_
    program.num_col_, program.num_row_ = count, 1
    program.col_cost_, program.col_lower_, program.col_upper_ = quadratic[:, 1], low, high
    program.row_lower_ = program.row_upper_ = np.array([demand])
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.array([0, count])
    program.a_matrix_.index_ = np.arange(count)
    program.a_matrix_.value_ = np.ones(count)
    model.hessian_.dim_ = count
    model.hessian_.start_ = np.arange(count + 1)
    model.hessian_.index_ = np.arange(count)
    model.hessian_.value_ = 2.0 * quadratic[:, 0]
    model.hessian_.format_ = highspy.HessianFormat.kTriangular
    highs.passModel(model)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return highs.getInfo().objective_function_value + quadratic[:, 2].sum()


def test_the_textbook_three_units():
    done = quadratic_dispatch(WOOD, LOW, HIGH, 850.0)
    assert done.price == pytest.approx(9.1483, abs=5e-5)
    assert done.power == pytest.approx([393.17, 334.60, 122.23], abs=5e-3)
    assert done.cost == pytest.approx(8194.36, abs=5e-3)
    assert done.power.sum() == pytest.approx(850.0, abs=1e-9)
    inverse = 0.5 / WOOD[:, 0]
    assert done.response == pytest.approx(inverse / inverse.sum(), rel=1e-12)


def test_units_at_their_limits_do_not_respond():
    done = quadratic_dispatch(WOOD, LOW, HIGH, 1150.0)
    assert done.power[1] == 400.0 and done.response[1] == 0.0
    assert done.response.sum() == pytest.approx(1.0)
    marginal = 2.0 * WOOD[:, 0] * done.power + WOOD[:, 1]
    assert marginal[[0, 2]] == pytest.approx(done.price) and marginal[1] < done.price


@pytest.mark.parametrize("seed", range(40))
def test_quadratic_dispatch_is_optimal_and_its_derivative_is_the_finite_difference(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.choice([2, 5, 30, 200, 1000]))
    quadratic, low, high = random_units(rng, count, straight=0.2 if seed % 2 else 0.0)
    demand = low.sum() + rng.uniform(0.05, 0.95) * (high.sum() - low.sum())
    done = quadratic_dispatch(quadratic, low, high, demand)
    assert done.power.sum() == pytest.approx(demand, abs=1e-9 * max(demand, 1.0))
    assert (done.power >= low).all() and (done.power <= high).all()
    marginal = 2.0 * quadratic[:, 0] * done.power + quadratic[:, 1]
    assert (marginal[done.power < high] >= done.price - 1e-9).all()
    assert (marginal[done.power > low] <= done.price + 1e-9).all()
    assert done.response.sum() == pytest.approx(1.0)
    step = 1e-4
    more = quadratic_dispatch(quadratic, low, high, demand + step)
    if ((more.power < high) == (done.power < high)).all():
        assert (more.power - done.power) / step == pytest.approx(done.response, abs=1e-5)
    assert (more.cost - done.cost) / step == pytest.approx(done.price, rel=1e-4)
    if count <= 30:
        assert done.cost == pytest.approx(by_highs(quadratic, low, high, demand), rel=1e-7)


@pytest.mark.parametrize("seed", range(40))
def test_merit_order_is_what_no_exchange_between_units_improves(seed):
    rng = np.random.default_rng(seed)
    curves = random_curves(rng, int(rng.choice([1, 3, 20, 200])), 4)
    on = rng.random(curves.power.shape[0]) < 0.8
    on[0] = True
    low = curves.power[:, 0] + rng.uniform(0.0, 0.3) * np.ptp(curves.power, axis=1)
    high = np.maximum(curves.power[:, -1] - rng.uniform(0.0, 20.0, low.shape), low)
    demand = low[on].sum() + rng.uniform(0.01, 0.99) * (high - low)[on].sum()
    done = merit_order(curves, demand, low=low, high=high, on=on)
    assert done.power.sum() == pytest.approx(demand, abs=1e-8)
    assert (done.power[~on] == 0.0).all() and done.missing == 0.0
    assert (done.power[on] >= low[on] - 1e-9).all() and (done.power[on] <= high[on] + 1e-9).all()
    table = CostTable(curves)
    assert done.cost == pytest.approx(table.cost(done.power, on).sum())
    up = table.marginal(done.power)[on & (done.power < high - 1e-6)]
    down = table.marginal(done.power - 1e-6)[on & (done.power > low + 1e-6)]
    assert up.size == 0 or up.min() >= done.price - 1e-9
    assert down.size == 0 or down.max() <= done.price + 1e-9
    more = merit_order(curves, demand + 1e-5, low=low, high=high, on=on)
    assert (more.cost - done.cost) / 1e-5 == pytest.approx(done.next_price, rel=1e-3)
    assert done.response.sum() == 1.0


def test_chords_of_a_parabola_cost_at_most_their_tangent_error_more():
    exact = quadratic_dispatch(WOOD, LOW, HIGH, 850.0)
    for segments in (5, 50, 500):
        curves = chords(WOOD, LOW, HIGH, segments)
        done = merit_order(curves, 850.0)
        bound = (WOOD[:, 0] * ((HIGH - LOW) / segments / 2.0) ** 2).sum()
        assert exact.cost - 1e-9 <= done.cost <= exact.cost + bound


def test_prices_on_both_sides_of_a_breakpoint():
    curves = Curves(
        np.array([[0.0, 10.0, 20.0], [0.0, 5.0, 5.0]]),
        np.array([[0.0, 100.0, 300.0], [0.0, 75.0, 75.0]]),
    )
    done = merit_order(curves, 10.0)
    assert (done.price, done.next_price) == (10.0, 15.0)
    assert done.response.tolist() == [0.0, 1.0]
    at_the_top = merit_order(curves, 25.0)
    assert (at_the_top.price, at_the_top.next_price, at_the_top.cost) == (20.0, 5000.0, 375.0)


def test_demand_out_of_reach_is_missing_at_a_price():
    curves = chords(WOOD, LOW, HIGH, 10)
    for dispatch in (
        lambda demand: quadratic_dispatch(WOOD, LOW, HIGH, demand, voll=3000.0),
        lambda demand: merit_order(curves, demand, voll=3000.0),
    ):
        short, surplus = dispatch(1300.0), dispatch(250.0)
        assert (short.missing, short.price) == (100.0, 3000.0)
        assert (surplus.missing, surplus.price) == (-50.0, -3000.0)
        assert short.power.tolist() == HIGH.tolist() and surplus.power.tolist() == LOW.tolist()
        assert (short.response == 0.0).all()


def test_impossible_units_are_named():
    with pytest.raises(ValueError, match=r"unit 1: low is 500\.0, expected at most high 400\.0"):
        quadratic_dispatch(WOOD, np.array([0.0, 500.0, 0.0]), HIGH, 100.0)
    with pytest.raises(ValueError, match=r"unit 0: cost coefficient c2 is -0\.99"):
        quadratic_dispatch(WOOD - np.array([[1.0, 0, 0]] * 3), LOW, HIGH, 500.0)


def test_room_of_segments_reaches_beyond_the_curve_with_the_box():
    curves = Curves(np.array([[10.0, 20.0, 30.0, 30.0]]), np.array([[0.0, 10.0, 30.0, 30.0]]))
    assert segment_room(curves, np.array([4.0]), np.array([25.0])).tolist() == [[16.0, 5.0, 0.0]]
    assert segment_room(curves, np.array([22.0]), np.array([40.0])).tolist() == [[0.0, 18.0, 0.0]]
