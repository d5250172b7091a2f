"""The analytical model against the simulator: contract, optimum, guidance as differences."""

import numpy as np
import pytest
from power_data import needed
from power_small import small_grid
from power_toys import QUIET, Record, at_random, column, generated, toy

from fairlead.models.check import check_model
from fairlead.models.interface import set_point_values
from fairlead.models.power.dispatch_model import REFERENCES, DispatchModel
from fairlead.models.power.guidance import GuidanceState, guidance
from fairlead.models.power.mpc import RollingHorizon
from fairlead.simulators.power.costs import CostTable
from fairlead.simulators.power.dispatch import PowerSimulator
from fairlead.simulators.power.scenario import Outages, RtsScenario
from fairlead.simulators.power.system import system_of

MODES = pytest.mark.parametrize("mode", REFERENCES)


def model_of(simulator, mode):
    return DispatchModel(simulator._scenario, simulator._system, reference=mode)


def situations(count=6, seed=0, **values):
    """A simulator and observations of an episode of random set-points."""
    simulator = generated(**values)
    record = Record(simulator, at_random(simulator, seed), seed)
    return simulator, record.seen[:: max(len(record.seen) // count, 1)]


@MODES
@pytest.mark.parametrize(
    "values",
    [
        {"outages": Outages(scale=20.0)},
        {"network": False, "batteries": 2, "flexible": 0.05},
        {"limit_scale": 0.6},
    ],
)
def test_the_model_keeps_its_contract(mode, values):
    # The balance moves everybody when one unit is set otherwise, so the plant reacts.
    simulator = generated(hours=1, **values)
    assert check_model(model_of(simulator, mode), simulator, after="reacts") == []


@MODES
def test_the_model_keeps_its_contract_on_rts_gmlc(mode):
    needed("rts_gmlc", "source")
    scenario = RtsScenario(data=str(needed().parent), hours=1)
    simulator = PowerSimulator(scenario, system_of(scenario))
    model = DispatchModel(scenario, system_of(scenario), reference=mode)
    assert check_model(model, simulator, after="reacts", episodes=1) == []


def test_without_other_units_that_react_the_influence_is_what_the_plant_does():
    """Where set-points already balance and nothing is unknown, the state is where they put it."""
    simulator = generated(hours=2, forecast_error=0.0, outages=QUIET)
    model = model_of(simulator, "proximal")
    seen = simulator.reset(1)
    for _ in range(12):
        reference = model.reference(seen.exogenous)
        wanted = np.clip(reference.x_ref.astype(np.float32)[:, None], seen.low, seen.high)
        influence = model.influence(seen)
        says = seen.state + (influence.gain[:, 0, 0] * (wanted - influence.origin)[:, 0])
        seen = simulator.step(wanted).observation
        assert np.abs(seen.state - says).max() <= 0.05


def test_the_reference_meets_demand_inside_the_box_and_is_the_cheapest():
    simulator, seen_ones = situations(network=False)
    model, fleet = model_of(simulator, "proximal"), simulator._fleet
    table = CostTable(fleet.curve)
    rng = np.random.default_rng(0)
    for seen in seen_ones:
        reference = model.reference(seen.exogenous)
        outlook = simulator.packing.unpack(seen.exogenous)
        point = reference.x_ref
        assert (point >= outlook.low - 1e-6).all()
        assert (point <= outlook.high + 1e-6).all()
        epoch = min(round(seen.time / 300.0), 71)
        demand = simulator.day.expected_demand[epoch, 0]
        if outlook.low.sum() <= demand <= outlook.high.sum():
            assert point.sum() == pytest.approx(demand, abs=1e-3)
        # No exchange of 1 MW between two units is worth more than the proximal term's pull.
        for _ in range(20):
            up, down = rng.choice(fleet.size, 2, replace=False)
            if point[up] + 1.0 <= outlook.high[up] and point[down] - 1.0 >= outlook.low[down]:
                moved = point.copy()
                moved[up] += 1.0
                moved[down] -= 1.0
                gain = float((table.cost(point) - table.cost(moved)).sum())
                assert gain <= 4.0 + 1e-6


def test_prices_are_the_cost_of_a_little_more_load():
    grid = small_grid(
        [
            {"slopes": (10.0,), "high": 200.0, "ramp": 20.0},
            {"slopes": (30.0,), "high": 200.0, "ramp": 20.0, "bus": 1},
        ],
        branches=[(0, 1, 0.1, 60.0)],
        loads=(20.0, 100.0),
    )
    simulator = toy(grid, np.full(12, 120.0), plan=[[1, 1]])
    model = model_of(simulator, "marginal")
    # From where it stands (120 and 0 MW) the first can come down to 20.
    reference = model.reference(simulator.reset(0).exogenous)
    # A margin below the line's 60 MW is the model's choice; a tenth would be too much.
    sent = reference.x_ref[0] - 20.0
    assert 0.9 * 60.0 <= sent <= 60.0 + 1e-3
    assert reference.x_ref.sum() == pytest.approx(120.0, abs=1e-3)
    assert reference.prices == pytest.approx([10.0, 30.0], abs=2.0)


@MODES
def test_guidance_is_the_finite_difference_of_its_distance(mode):
    """``q(v)`` against d itself, computed apart: distance, and fitted own cost less price."""
    simulator, seen_ones = situations(4, outages=Outages(scale=20.0), limit_scale=0.7)
    model = model_of(simulator, mode)
    rng = np.random.default_rng(1)
    for seen in seen_ones:
        reference, influence = model.reference(seen.exogenous), model.influence(seen)
        low, high = seen.low[:, 0].astype(float), seen.high[:, 0].astype(float)

        def distance(power, reference=reference, influence=influence, seen=seen):
            apart = 0.5 * reference.weight * (power - reference.x_ref) ** 2
            if influence.slope is None:
                return float(apart.sum())
            away = power - seen.state
            own = influence.slope[:, 0] * away + 0.5 * influence.curvature[:, 0] * away**2
            return float((apart + own).sum())

        share = rng.random(low.size)
        joint = low + (high - low) * share
        values = set_point_values(seen, reference, influence, joint[:, None])
        agents = low.size
        for agent in range(agents):
            if not seen.active[agent]:
                assert (values[agent] == 0.0).all()
                continue
            s, h = values[agent]
            at_low = joint.copy()
            at_low[agent] = low[agent]
            base = distance(at_low)
            for v in (0.25, 1.0):
                moved = at_low.copy()
                moved[agent] = low[agent] + (high[agent] - low[agent]) * v
                change = distance(moved) - base
                assert s * v + 0.5 * h * v * v == pytest.approx(change, rel=1e-6, abs=1e-5)


def test_proximal_guidance_is_zero_at_the_reference_and_of_nobody_elses_action():
    simulator, seen_ones = situations(3)
    model = model_of(simulator, "proximal")
    rng = np.random.default_rng(0)
    for seen in seen_ones:
        reference, influence = model.reference(seen.exogenous), model.influence(seen)
        low, high = seen.low[:, 0].astype(float), seen.high[:, 0].astype(float)
        at = np.clip(reference.x_ref, low, high)
        s, h = set_point_values(seen, reference, influence, at[:, None]).T
        width = np.where(high > low, high - low, 1.0)
        slope = s + h * (at - low) / width
        scale = reference.weight * width * width
        assert (np.abs(slope) <= 1e-4 * scale + 1e-3)[seen.active].all()
        other = low + (high - low) * rng.random(low.size)
        again = set_point_values(seen, reference, influence, other[:, None])
        assert np.allclose(np.stack([s, h], axis=1), again, rtol=1e-9, atol=1e-9)


def test_marginal_guidance_is_marginal_cost_less_price():
    simulator, seen_ones = situations(3, network=False)
    model, fleet = model_of(simulator, "marginal"), simulator._fleet
    table = CostTable(fleet.curve)
    for seen in seen_ones:
        reference, influence = model.reference(seen.exogenous), model.influence(seen)
        low, high = seen.low[:, 0].astype(float), seen.high[:, 0].astype(float)
        exact = GuidanceState(
            costs=table, price=reference.prices, reference=reference.x_ref, weight=reference.weight
        )
        s, h = set_point_values(seen, reference, influence, low[:, None]).T
        for share in (0.05, 0.5, 0.95):
            power = low + (high - low) * share
            slope = guidance(exact, power, "marginal")
            fitted = np.divide(s + h * share, high - low, out=np.zeros_like(s), where=high > low)
            # A parabola instead of a few segments: it never points the other way by much.
            wrong = (np.sign(slope) != np.sign(fitted)) & (np.abs(slope) > 5.0) & seen.active
            assert wrong.mean() < 0.05


def test_asking_for_the_reference_again_gives_the_same():
    simulator, seen_ones = situations(4)
    model, other = (model_of(simulator, "proximal") for _ in range(2))
    first = [model.reference(seen.exogenous) for seen in seen_ones]
    second = [other.reference(seen.exogenous) for seen in reversed(seen_ones)][::-1]
    for one, two in zip(first, second, strict=True):
        assert (one.x_ref == two.x_ref).all()
        assert one.objective == two.objective


def test_an_unknown_reference_names_the_known_ones():
    simulator = generated()
    with pytest.raises(
        ValueError, match=r"no reference 'magic' for power; known: .*proximal, marg"
    ):
        model_of(simulator, "magic")


def test_look_ahead_makes_room_for_a_rise_that_one_interval_does_not_see():
    grid = small_grid(
        [{"slopes": (10.0,), "ramp": 2.0}, {"slopes": (30.0,), "ramp": 1.0}], loads=(100.0,)
    )
    load = np.full(24, 100.0)
    load[12:] = 115.0
    simulator = toy(grid, load, plan=[[1, 1]] * 2, hours=2, network=False, leads=6)
    horizon = RollingHorizon(simulator._scenario, simulator._system, horizon=6)

    def look_ahead(seen):
        wanted = horizon.plan(seen.exogenous).astype(np.float32)[:, None]
        return np.clip(wanted, seen.low, seen.high)

    plan = Record(simulator, look_ahead).metrics
    myopic = Record(simulator, column(simulator, "merit")).metrics
    # The cheap one stands at its limit; the other climbs 5 MW an interval: 10 and 5 MW are missing.
    assert myopic["shed_mwh"] == pytest.approx(15.0 / 12.0, abs=1e-3)
    assert plan["shed_mwh"] <= 1e-3
    assert plan["cost_usd"] < myopic["cost_usd"]
    with pytest.raises(ValueError, match=r"horizon 7: forecasts of this scenario reach 6"):
        RollingHorizon(simulator._scenario, simulator._system, horizon=7)


def test_exogenous_inputs_are_known_before_the_decision():
    simulator = generated()
    seen = simulator.reset(0)
    outlook = simulator.packing.unpack(seen.exogenous)
    assert (outlook.power == seen.state).all()
    assert np.allclose(outlook.low, seen.low[:, 0])
    assert np.allclose(outlook.load, simulator.day.expected_load[0])
    with pytest.raises(ValueError, match="exogenous has shape"):
        simulator.packing.unpack(seen.exogenous[:-1])
