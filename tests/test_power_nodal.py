"""Indicative prices: the merit order without congestion, near the LMPs with it."""

import numpy as np
import pytest
from power_small import small_grid
from power_toys import QUIET, Record, column, generated, share, toy

from fairlead.models.power.dispatch_model import DispatchModel
from fairlead.simulators.power.nodal import SOFT

TWO = {"branches": [(0, 1, 0.1, 60.0)], "loads": (20.0, 100.0)}
UNITS = [
    {"slopes": (10.0,), "high": 200.0, "ramp": 20.0},
    {"slopes": (30.0,), "high": 200.0, "ramp": 20.0, "bus": 1},
]


def prices(simulator, seen):
    """Price without congestion, and at every agent's bus ``[A]``, $/MWh."""
    spec = simulator.spec
    price, congestion = (
        10.0 * seen.agent[:, spec.agent_column(name)].astype(float)
        for name in ("price", "congestion")
    )
    return price[0], price + congestion


def test_without_congestion_everybody_sees_the_merit_order():
    simulator = toy(small_grid(UNITS, **TWO), np.full(12, 60.0), plan=[[1, 1]])
    record = Record(simulator, column(simulator, "response"))
    for seen in record.seen:
        common, local = prices(simulator, seen)
        assert common == pytest.approx(10.0)
        assert (local == common).all()
    merit = Record(simulator, column(simulator, "merit"))
    assert (record.power == merit.power).all()


def test_copper_plates_have_one_price():
    simulator = generated(network=False)
    record = Record(simulator, share(0.5))
    for seen in record.seen:
        common, local = prices(simulator, seen)
        assert np.allclose(local, common, atol=1e-4)


def test_merit_order_price_is_the_cost_of_the_next_unit_of_demand():
    grid = small_grid(
        [{"slopes": (10.0, 40.0), "ramp": 20.0}, {"slopes": (30.0,), "ramp": 20.0}], loads=(70.0,)
    )
    for demand, price in ((40.0, 10.0), (70.0, 30.0), (149.0, 30.0), (160.0, 40.0)):
        simulator = toy(grid, np.full(12, demand), plan=[[1, 1]], network=False)
        assert prices(simulator, simulator.reset(0))[0] == price


def test_a_full_line_parts_the_prices_as_the_marginal_units_are_parted():
    simulator = toy(small_grid(UNITS, **TWO), np.full(24, 120.0), plan=[[1, 1]] * 2, hours=2)
    record = Record(simulator, column(simulator, "response"))
    _, local = prices(simulator, record.seen[-1])
    # The cheap unit can send 60 MW (0.99 of them are used), so each bus has its own marginal unit.
    assert local == pytest.approx([10.0, 30.0], abs=SOFT / 2.0)
    assert record.power[-1] == pytest.approx([20.0 + 59.4, 40.6], abs=1.0)


def errors(limit_scale, seed):
    """Errors of the prices against the optimal dispatch's on congested intervals, spread, pairs."""
    simulator = generated(limit_scale=limit_scale, hours=12, outages=QUIET)
    model = DispatchModel(simulator._scenario, simulator._system, reference="marginal")
    found, spread, pairs = [], [], []
    for seen in Record(simulator, column(simulator, "response"), seed).seen[12:]:
        exact = model.reference(seen.exogenous).prices
        if 0.5 < np.ptp(exact) < 400.0:
            _, local = prices(simulator, seen)
            found.append(np.median(np.abs(local - exact)))
            spread.append(np.ptp(exact))
            pairs.append(np.stack([local, exact]))
    return np.array(found), np.array(spread), np.concatenate(pairs, axis=1)


def test_congested_intervals_have_prices_near_the_lmps():
    found, spread, pairs = (
        np.concatenate(parts, axis=-1)
        for parts in zip(*(errors(0.8, seed) for seed in range(3)), strict=True)
    )
    assert found.size > 50
    assert spread.max() > 20.0
    # Two Newton steps an interval on a softened problem: a few $/MWh, not cents.
    assert np.median(found) <= SOFT / 2.0
    assert np.median(np.abs(pairs[0] - pairs[1])) <= SOFT / 2.0
    order = np.corrcoef(np.argsort(np.argsort(pairs[0])), np.argsort(np.argsort(pairs[1])))[0, 1]
    assert order > 0.7


def test_prices_stay_below_the_price_of_an_overload():
    simulator = generated(limit_scale=0.3, outages=QUIET)
    record = Record(simulator, column(simulator, "response"), 0)
    cap = simulator._scenario.prices.overload
    for seen in record.seen:
        _, local = prices(simulator, seen)
        assert np.isfinite(local).all()
    assert record.metrics["overload_mwh"] > 0.0
    assert np.abs(simulator._observer._nodal._multiplier).max() <= cap
