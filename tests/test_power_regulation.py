"""Frequency, generation control and the line to the units, inside the simulator."""

import tomllib

import numpy as np
import pytest
from power_small import small_grid
from power_toys import QUIET, Record, at_random, column, generated, share, toy
from test_power_plant import trip_at, with_units

from fairlead.platform.knobs import knobs, show_value
from fairlead.platform.template import template
from fairlead.simulators.power.regulation import Line
from fairlead.simulators.power.response import Online, ShedStage
from fairlead.simulators.power.scenario import GeneratedScenario, Outages, Regulation, Transmission
from fairlead.simulators.power.swing import Swing

SIMULATED = {"regulation": Regulation(simulated=True)}
BOTH = [[1, 1]]
FIGURES = {
    "frequency_deviation_hz",
    "frequency_outside_s",
    "frequency_recovery_s",
    "agc_mwh",
    "frequency_shed_mwh",
}


def pair(loss, rest, inertia):
    """Two units, the first at ``loss`` MW, the second at ``rest`` MW of 400 with fast ramps."""
    grid = small_grid(
        [{"ramp": 100.0, "high": 400.0}, {"ramp": 100.0, "high": 400.0, "slopes": (20.0,)}],
        loads=(loss + rest,),
    )
    return with_units(grid, inertia=[inertia, inertia])


def tripped(loss, *, rest=200.0, inertia=2000.0, second=300.0, intervals=6, **values):
    """The first unit trips at ``second`` of the second interval; metrics by interval."""
    grid = pair(loss, rest, inertia)
    simulator = toy(grid, np.full(12, loss + rest), plan=BOTH, network=False, **SIMULATED, **values)
    seen = simulator.reset(0)
    trip_at(simulator, 0, second)
    metrics = []
    for _ in range(intervals):
        wanted = np.array([[loss], [rest]], np.float32)
        step = simulator.step(np.clip(wanted, seen.low, seen.high))
        seen = step.observation
        metrics.append(simulator.metrics())
    return metrics


def test_it_changes_nothing_that_it_does_not_shed():
    plain, simulated = generated(), generated(**SIMULATED)
    one, two = (Record(s, at_random(s), 1) for s in (plain, simulated))
    assert two.metrics["frequency_shed_mwh"] == 0.0
    assert one.rewards == two.rewards
    assert (one.power == two.power).all()
    assert set(two.metrics) - set(one.metrics) == FIGURES
    assert {name: two.metrics[name] for name in one.metrics} == one.metrics
    assert two.metrics["frequency_deviation_hz"] > 0.0
    assert two.metrics["agc_mwh"] > 0.0


def test_nothing_happens_where_forecasts_are_right():
    grid = pair(100.0, 200.0, 2000.0)
    simulator = toy(grid, np.full(12, 300.0), plan=BOTH, network=False, **SIMULATED)
    metrics = Record(simulator, share(0.5)).metrics
    assert metrics["frequency_deviation_hz"] <= 1e-6
    assert metrics["frequency_outside_s"] == 0.0


def test_a_trip_is_the_swing_equation_of_what_stays_connected():
    metrics = tripped(100.0, second=300.0 + 4.0 * 20 + 1.0)
    s = Regulation(simulated=True)
    swing = Swing(s)
    left = Online(
        inertia=2000.0,
        load=300.0,
        capacity=400.0,
        regulation_up=200.0,
        regulation_down=200.0,
        room_up=200.0,
        room_down=200.0,
    )
    result = swing.step(-100.0, left, ticks=55)
    assert metrics[0]["frequency_deviation_hz"] <= 1e-6
    assert metrics[1]["frequency_deviation_hz"] == pytest.approx(result.deviation, rel=1e-6)
    assert metrics[1]["frequency_outside_s"] == pytest.approx(result.outside)
    assert metrics[1]["frequency_recovery_s"] == pytest.approx(result.recovery)
    agc = float(np.abs(result.agc).sum()) * s.tick / 3600.0
    assert metrics[1]["agc_mwh"] == pytest.approx(agc, rel=1e-6)
    # Afterwards the dispatch takes over what the control gave: no deviation is larger.
    assert metrics[-1]["frequency_deviation_hz"] == metrics[1]["frequency_deviation_hz"]
    assert metrics[1]["frequency_shed_mwh"] == pytest.approx(result.shed)


def test_less_inertia_is_a_deeper_fall():
    depth = [
        tripped(60.0, inertia=inertia)[1]["frequency_deviation_hz"] for inertia in (4000, 1500, 500)
    ]
    assert depth[0] < depth[1] < depth[2]


def test_load_that_relays_cut_off_is_shed_priced_and_balanced():
    metrics = tripped(200.0, rest=150.0, inertia=600.0)
    last = metrics[1]
    assert last["frequency_deviation_hz"] > 0.5
    assert last["frequency_shed_mwh"] > 0.0
    assert last["shed_mwh"] == pytest.approx(last["frequency_shed_mwh"], rel=1e-9)
    assert last["cost_shed_usd"] == pytest.approx(5000.0 * last["shed_mwh"])
    assert metrics[-1]["balance_residual_mw"] <= 1e-6


def test_a_system_without_any_machine_sheds_and_goes_on():
    grid = pair(150.0, 150.0, 0.0)
    simulator = toy(grid, np.full(12, 300.0), plan=BOTH, network=False, **SIMULATED)
    seen = simulator.reset(0)
    trip_at(simulator, 0, 10.0)
    trip_at(simulator, 1, 20.0)
    for _ in range(3):
        seen = simulator.step(share(0.5)(seen)).observation
    metrics = simulator.metrics()
    assert metrics["unit_trips"] == 2.0
    assert metrics["balance_residual_mw"] <= 1e-6
    assert metrics["shed_mwh"] > 0.9 * 300.0 * 3 / 12


@pytest.mark.parametrize("seed", range(3))
def test_balance_holds_with_frequency_and_lossy_lines(seed):
    values = {"telemetry": Transmission(delay=30.0, loss=0.2), "outages": Outages(scale=50.0)}
    simulator = generated(hours=24, **SIMULATED, **values)
    metrics = Record(simulator, column(simulator, "merit"), seed).metrics
    assert metrics["balance_residual_mw"] <= 1e-6
    assert metrics["set_points_lost"] > 0.0
    assert metrics["unit_trips"] > 0.0


def test_line_without_fault_costs_and_changes_nothing():
    assert generated()._line is None
    simulator = generated(outages=QUIET)
    assert "set_points_lost" not in Record(simulator, share(0.5), 0).metrics


def test_losses_change_no_other_random_number():
    plain, lossy = generated(), generated(telemetry=Transmission(loss=0.3))
    one, two = Record(plain, share(0.5), 2), Record(lossy, share(0.5), 2)
    assert (plain.day.demand == lossy.day.demand).all()
    assert [a.top.tobytes() for a in one.outlooks] == [b.top.tobytes() for b in two.outlooks]
    share_lost = two.metrics["set_points_lost"] / (72 * lossy.spec.agents)
    assert share_lost == pytest.approx(0.3, abs=0.05)
    again = Record(generated(telemetry=Transmission(loss=0.3)), share(0.5), 2)
    assert again.metrics == two.metrics


class Script:
    """Draws that lose exactly the messages named."""

    def __init__(self, *lost):
        self.lost = iter(lost)

    def random(self, n):
        return np.where(np.isin(np.arange(n), next(self.lost)), 0.0, 1.0)


def scripted(*lost, delay=0.0, expiry=3):
    grid = small_grid([{"ramp": 2.0}, {"ramp": 2.0, "slopes": (20.0,)}], loads=(100.0,))
    simulator = toy(grid, np.full(12, 100.0), telemetry=Transmission(delay=delay, loss=0.5))
    simulator.reset(0)
    settings = Transmission(delay=delay, loss=0.5, expiry=expiry)
    simulator._line = Line(settings, 2, interval=300.0, rng=Script(*lost))
    return simulator


def steps(simulator, *wanted):
    """Outputs after each joint set-point."""
    outputs = []
    for first in wanted:
        seen = simulator._seen
        point = np.array([[first], [100.0 - first]], np.float32)
        outputs.append(simulator.step(np.clip(point, seen.low, seen.high)).observation.state)
    return np.array(outputs)


def test_a_unit_whose_set_point_is_lost_goes_on_and_regulation_covers_it():
    simulator = scripted([], [0], [])
    simulator._now.power[:] = 50.0
    simulator._look()
    outputs = steps(simulator, 50.0, 56.0, 56.0)
    assert outputs[0].tolist() == [50.0, 50.0]
    # The second goes down by 6 MW, the first is not told: what is missing is shared out again by
    # the room up, 10 MW and 16 MW.
    assert outputs[1].tolist() == pytest.approx([50 + 6 * 10 / 26, 44 + 6 * 16 / 26], abs=1e-5)
    assert outputs[2].tolist() == pytest.approx([56.0, 44.0], abs=1e-5)
    assert simulator.metrics()["regulation_mwh"] == pytest.approx(6.0 / 12.0, abs=1e-6)
    assert simulator.metrics()["balance_residual_mw"] <= 1e-9


def test_nobody_leaves_the_box_whatever_is_still_in_force():
    simulator = scripted([], [0], [0], [0], [0], expiry=12)
    simulator._now.power[:] = 50.0
    simulator._look()
    steps(simulator, 50.0)
    simulator._now.power[:] = [90.0, 10.0]
    simulator._look()
    # In force is 50 MW; it comes down by its ramp of 10 MW an interval, no faster.
    outputs = steps(simulator, 90.0)
    assert outputs[0, 0] >= 80.0 - 1e-4


def test_late_set_points_move_energy_and_not_the_end():
    simulator = scripted([], [], delay=60.0)
    simulator._now.power[:] = 50.0
    simulator._look()
    steps(simulator, 50.0)
    before = simulator.metrics()["cost_fuel_usd"]
    outputs = steps(simulator, 58.0)
    assert outputs[0].tolist() == pytest.approx([58.0, 42.0], abs=1e-5)
    # A fifth of the interval at 50 MW each.
    fuel = (simulator.metrics()["cost_fuel_usd"] - before) * 12.0
    assert fuel == pytest.approx(10.0 * 56.4 + 20.0 * 43.6, rel=1e-6)


def test_delay_must_be_shorter_than_an_interval():
    simulator = generated(telemetry=Transmission(delay=300.0))
    with pytest.raises(ValueError, match=r"delay is 300\.0 s"):
        simulator.reset(0)


def test_its_knobs_can_be_written_and_read_back():
    stages = (ShedStage(frequency=59.4, share=0.2),)
    scenario = GeneratedScenario(
        regulation=Regulation(simulated=True, shedding=stages, nominal=50.0),
        telemetry=Transmission(loss=0.1, expiry=2),
    )
    assert GeneratedScenario(**tomllib.loads(template(scenario))) == scenario
    shown = {knob.name: show_value(knob.value) for knob in knobs(scenario)}
    assert shown["regulation.shedding"] == "[{frequency = 59.4, share = 0.2}]"
    assert shown["telemetry.expiry"] == "2"
