"""Frequency model: closed forms, a fine reference integration, limits, shedding, cost."""

import time
from dataclasses import replace

import numpy as np
import pytest

from fairlead.platform.validation.power_dynamics import control, frequency, shedding
from fairlead.simulators.power.agc import shares
from fairlead.simulators.power.response import Online, ShedStage, SwingSettings
from fairlead.simulators.power.swing import Swing, simulate

F0 = 60.0
ONLINE = Online(
    inertia=15000.0, load=4000.0, capacity=5000.0, regulation_up=150.0, regulation_down=120.0
)
SETTINGS = SwingSettings()
D = SETTINGS.damping * ONLINE.load / F0
K = ONLINE.capacity / (SETTINGS.droop * F0)
IDLE = replace(ONLINE, regulation_up=0.0, regulation_down=0.0)


def reference(settings, imbalance, online, *, dt=1e-3):
    """Fourth-order Runge-Kutta of the same equations: frequency and mechanical power at ticks."""
    s, f0 = settings, settings.nominal
    damping, governor = s.damping * online.load / f0, online.capacity / (s.droop * f0)

    def called(x):
        return governor * (max(x - s.dead_band, 0.0) + min(x + s.dead_band, 0.0))

    def slope(x, p, d, u):
        w = min(max(u - called(x), -online.room_down), online.room_up)
        return (
            f0 / (2 * online.inertia) * (s.fast * w + p + d - damping * x),
            ((1 - s.fast) * w - p) / s.turbine,
        )

    x = p = u = 0.0
    frequency, mechanical = [], []
    for d in imbalance:
        u -= s.tick / s.integral * (damping * x + called(x))
        u = float(np.clip(u, -online.regulation_down, online.regulation_up))
        for _ in range(round(s.tick / dt)):
            a = slope(x, p, d, u)
            b = slope(x + dt / 2 * a[0], p + dt / 2 * a[1], d, u)
            c = slope(x + dt / 2 * b[0], p + dt / 2 * b[1], d, u)
            e = slope(x + dt * c[0], p + dt * c[1], d, u)
            x += dt / 6 * (a[0] + 2 * b[0] + 2 * c[0] + e[0])
            p += dt / 6 * (a[1] + 2 * b[1] + 2 * c[1] + e[1])
        frequency.append(f0 + x)
        mechanical.append(p + s.fast * (u - called(x)))
    return np.array(frequency), np.array(mechanical)


@pytest.mark.parametrize("loss", [50.0, 400.0, -200.0])
def test_initial_slope_is_the_imbalance_over_the_stored_energy(loss):
    settings = SwingSettings(tick=1e-4, steps=1)
    result = Swing(settings).step(-loss, ONLINE, ticks=1)
    slope = (result.frequency[0] - F0) / 1e-4
    assert slope == pytest.approx(-loss * F0 / (2 * ONLINE.inertia), rel=1e-3)


@pytest.mark.parametrize("loss", [100.0, -250.0])
@pytest.mark.parametrize("fast", [0.0, 0.3])
def test_without_control_deviation_settles_at_imbalance_over_response(loss, fast):
    settings = SwingSettings(dead_band=0.0, fast=fast)
    result = Swing(settings).step(-loss, IDLE, ticks=150)
    assert result.frequency[-1] - F0 == pytest.approx(-loss / (D + K), rel=1e-6)
    assert result.mechanical[-1] == pytest.approx(loss * K / (D + K), rel=1e-6)
    assert (result.agc == 0.0).all()


def test_dead_band_shifts_the_steady_state():
    result = Swing(SETTINGS).step(-100.0, IDLE, ticks=300)
    band = SETTINGS.dead_band
    # D x + K (x + band) = -100
    assert result.frequency[-1] - F0 == pytest.approx(-(100.0 + K * band) / (D + K), rel=1e-6)
    small = Swing(SETTINGS).step(-0.5, IDLE, ticks=300)
    assert small.frequency[-1] - F0 == pytest.approx(-0.5 / D, rel=1e-6)
    assert (small.mechanical == 0.0).all()


@pytest.mark.parametrize("band", [0.0, 0.015, 0.036])
def test_generation_control_returns_frequency_to_nominal(band):
    result = Swing(SwingSettings(dead_band=band)).step(-100.0, ONLINE, ticks=300)
    assert result.frequency[-1] == pytest.approx(F0, abs=1e-4)
    assert result.agc[-1] == pytest.approx(100.0, rel=1e-3)
    assert result.mechanical[-1] == pytest.approx(100.0, rel=1e-3)
    assert result.agc[0] == 0.0
    assert result.agc.max() < 130.0


def test_generation_control_integrates_with_its_time_constant():
    result = Swing(SwingSettings(dead_band=0.0)).step(-100.0, ONLINE, ticks=75)
    tick = SETTINGS.tick
    # Once the swing has settled, what is missing decays by 1 - tick / integral a tick.
    missing = 100.0 - result.agc[20:40]
    assert missing[1:] / missing[:-1] == pytest.approx(1 - tick / SETTINGS.integral, rel=1e-2)


def test_control_stays_within_its_range_in_both_directions():
    up = Swing(SETTINGS).step(-400.0, ONLINE, ticks=150)
    assert up.agc.max() == 150.0
    assert up.frequency[-1] < F0 - 0.01
    down = Swing(SETTINGS).step(400.0, ONLINE, ticks=150)
    assert down.agc.min() == -120.0
    assert down.frequency[-1] > F0 + 0.01


def test_units_do_not_move_beyond_their_room():
    tight = replace(ONLINE, room_up=60.0, room_down=30.0)
    settings = SwingSettings(shedding=())
    up = Swing(settings).step(-200.0, tight, ticks=150)
    assert up.mechanical.max() <= 60.0
    assert up.frequency[-1] - F0 == pytest.approx(-(200.0 - 60.0) / D, rel=1e-3)
    down = Swing(settings).step(200.0, tight, ticks=150)
    assert down.mechanical.min() >= -30.0
    frequency, _ = reference(settings, [-200.0] * 12, tight)
    assert np.abs(up.frequency[:12] - frequency).max() < 1e-3


def test_energy_of_control_replaces_the_lost_energy():
    result = Swing(SETTINGS).step(-100.0, ONLINE, ticks=900)
    tick_hours = SETTINGS.tick / 3600
    lost = 100.0 * len(result.agc) * tick_hours
    # What control did not give, the governors and the loads' damping did, before it took over:
    # the integral of the control error, which is the order times its time constant.
    first = 100.0 * SETTINGS.integral / 3600
    assert result.agc.sum() * tick_hours == pytest.approx(lost - first, rel=0.01)


@pytest.mark.parametrize("loss", [60.0, 300.0, -150.0])
def test_equals_a_fine_integration_without_dead_band(loss):
    settings = SwingSettings(dead_band=0.0)
    rng = np.random.default_rng(0)
    imbalance = -loss + rng.normal(0.0, 20.0, 12)
    result = Swing(settings).step(imbalance, ONLINE)
    frequency, mechanical = reference(settings, imbalance, ONLINE)
    assert np.abs(result.frequency - frequency).max() < 1e-6
    assert np.abs(result.mechanical - mechanical).max() < 1e-3


@pytest.mark.parametrize("turbine", [0.5, 8.0])
def test_nears_a_fine_integration_with_dead_band_as_steps_shrink(turbine):
    rng = np.random.default_rng(1)
    imbalance = -80.0 + rng.normal(0.0, 40.0, 12)
    worst = []
    for steps in (4, 64, 1024):
        settings = SwingSettings(turbine=turbine, steps=steps)
        frequency, _ = reference(settings, imbalance, ONLINE)
        result = Swing(settings).step(imbalance, ONLINE)
        worst.append(np.abs(result.frequency - frequency).max())
    assert worst[0] < 2.5e-2
    assert worst[1] < 1e-3
    assert worst[2] < 5e-5
    assert worst[0] > worst[1] > worst[2]


def test_maps_hold_where_the_response_neither_oscillates_nor_decays_fast():
    # Overdamped, and (almost) no governor: the closed form's other branches.
    for capacity, damping in ((0.0, 1.0), (50.0, 1.5), (0.0, 1e-6)):
        settings = SwingSettings(dead_band=0.0, damping=damping)
        lane = replace(IDLE, capacity=capacity)
        frequency, _ = reference(settings, [-5.0] * 5, lane)
        result = Swing(settings).step(-5.0, lane, ticks=5)
        assert np.abs(result.frequency - frequency).max() < 1e-6


def test_shedding_acts_at_its_stages_and_no_earlier():
    weak = replace(ONLINE, room_up=50.0)
    for loss, shed in ((75.0, 0.0), (240.0, 200.0), (500.0, 600.0), (900.0, 1000.0)):
        result = Swing(SETTINGS).step(-loss, weak, ticks=75)
        low = F0 - result.deviation
        acted = sum(s.share for s in SETTINGS.shedding if low <= s.frequency)
        assert result.shed_power == pytest.approx(acted * weak.load)
        assert result.shed_power == pytest.approx(shed)
    assert 0.0 < result.shed <= result.shed_power * 300 / 3600


def test_shedding_counts_energy_from_the_moment_it_acted():
    settings = SwingSettings(shedding=(ShedStage(frequency=59.9, share=0.1),))
    weak = replace(IDLE, capacity=0.0)
    swing = Swing(settings)
    first = swing.step(-100.0, weak, ticks=1)
    # 59.9 Hz is reached after about 0.1 / (100 f0 / 2 E) = 0.5 s of 4 s.
    assert first.shed_power == 400.0
    assert first.shed == pytest.approx(400.0 * 3.5 / 3600, rel=0.05)
    second = swing.step(-100.0, weak, ticks=10)
    assert second.shed == pytest.approx(400.0 * 40 / 3600)
    assert second.frequency[-1] > first.frequency[-1]


def test_load_comes_back_when_control_has_room_at_a_calm_frequency():
    settings = SwingSettings(shedding=(ShedStage(frequency=59.9, share=0.02),))
    swing = Swing(settings)
    swing.step(-300.0, replace(ONLINE, room_up=100.0), ticks=75)
    assert swing.shed_power == 80.0
    swing.step(-80.0, replace(ONLINE, regulation_up=0.0), ticks=150)
    assert swing.shed_power == 80.0
    result = swing.step(0.0, ONLINE, ticks=150)
    assert (swing.shed_power, result.shed) == (0.0, 0.0)
    assert abs(swing.deviation) < 0.01


def test_time_outside_and_recovery_are_those_of_the_trajectory():
    settings = SwingSettings(steps=40)
    swing = Swing(settings)
    whole = swing.step(-150.0, ONLINE, ticks=75)
    fine = Swing(SwingSettings(steps=4000, shedding=())).step(-150.0, ONLINE, ticks=75)
    assert whole.deviation == pytest.approx(fine.deviation, abs=2e-3)
    assert whole.outside == pytest.approx(fine.outside, abs=1.0)
    assert 4.0 < whole.recovery <= whole.outside
    calm = Swing(settings).step(-1.0, ONLINE, ticks=75)
    assert (calm.outside, calm.recovery) == (0.0, 0.0)


def test_an_interval_in_parts_equals_the_whole():
    rng = np.random.default_rng(2)
    imbalance = -100.0 + rng.normal(0.0, 40.0, 75)
    whole = Swing(SETTINGS).step(imbalance, ONLINE)
    swing = Swing(SETTINGS)
    parts = [swing.step(part, ONLINE) for part in np.split(imbalance, [1, 20, 50])]
    for name in ("frequency", "mechanical", "agc"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert (joined == getattr(whole, name)).all()
    assert sum(part.outside for part in parts) == whole.outside
    assert max(part.recovery for part in parts) == whole.recovery
    assert swing.frequency == whole.frequency[-1]


def test_less_inertia_falls_deeper():
    light = replace(ONLINE, inertia=5000.0)
    heavy, weak = simulate(SETTINGS, np.full((2, 75), -200.0), [ONLINE, light])
    assert weak.deviation > heavy.deviation
    assert (heavy.frequency == Swing(SETTINGS).step(-200.0, ONLINE, ticks=75).frequency).all()


def test_shares_follow_participation_within_limits():
    weight = np.array([1.0, 2.0, 3.0, 0.0])
    up, down = np.array([1.0, 2.0, 20.0, 5.0]), np.array([4.0, 4.0, 4.0, 4.0])
    assert shares(3.0, weight, up, down) == pytest.approx([0.5, 1.0, 1.5, 0.0])
    assert shares(10.0, weight, up, down) == pytest.approx([1.0, 2.0, 7.0, 0.0])
    assert shares(100.0, weight, up, down) == pytest.approx([1.0, 2.0, 20.0, 0.0])
    assert shares(-11.0, weight, up, down) == pytest.approx([-3.0, -4.0, -4.0, 0.0])
    assert shares(0.0, weight, up, down) == pytest.approx(np.zeros(4))
    assert shares(5.0, np.zeros(4), up, down) == pytest.approx(np.zeros(4))


def test_shares_add_up_for_random_fleets():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n = int(rng.integers(1, 40))
        weight, up = rng.random(n) * (rng.random(n) < 0.8), rng.random(n) * 10
        range_ = up[weight > 0].sum()
        total = rng.uniform(0.0, 1.2 * range_ + 0.1)
        given = shares(total, weight, up, up)
        assert given.sum() == pytest.approx(min(total, range_), abs=1e-9)
        assert ((given >= 0.0) & (given <= up + 1e-12)).all()
        free = (weight > 0) & (given < up - 1e-9)
        if free.any():
            assert np.ptp(given[free] / weight[free]) < 1e-9


@pytest.mark.parametrize(
    ("imbalance", "online", "ticks", "words"),
    [
        ([1.0, np.nan], ONLINE, None, "tick 1 is nan"),
        (1.0, ONLINE, None, "needs ticks"),
        ([1.0, 2.0], ONLINE, 3, r"shape \(2,\), expected \(3,\)"),
        (1.0, replace(ONLINE, inertia=0.0), 3, "inertia is 0.0"),
        (1.0, replace(ONLINE, load=-1.0), 3, "load is -1.0"),
        (1.0, replace(ONLINE, regulation_up=-1.0), 3, "regulation_up is -1.0"),
    ],
)
def test_impossible_inputs_are_refused(imbalance, online, ticks, words):
    with pytest.raises(ValueError, match=words):
        Swing(SETTINGS).step(imbalance, online, ticks=ticks)


def test_an_interval_takes_a_fraction_of_a_millisecond():
    rng = np.random.default_rng(4)
    swing, best = Swing(SETTINGS), np.inf
    for imbalance in rng.normal(0.0, 30.0, (50, 75)):
        began = time.perf_counter()
        swing.step(imbalance, ONLINE)
        best = min(best, time.perf_counter() - began)
    assert best < 1e-3


@pytest.mark.parametrize("check", [frequency, control, shedding])
def test_validation_rows_pass(check):
    rows = check()
    assert len(rows) >= 3
    assert [row.name for row in rows if not row.passed] == []
