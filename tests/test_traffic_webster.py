import numpy as np
import pytest

from fairlead.simulators.traffic.generated import arterial_network, grid_network
from fairlead.simulators.traffic.webster import SATURATION, webster, webster_cycle


def test_webster_cycle_is_the_formula():
    assert webster_cycle(8.0, 0.6) == pytest.approx(42.5)
    assert webster_cycle(12.0, 0.75) == pytest.approx(92.0)
    for lost, ratio in ((8.0, 1.0), (8.0, -0.1), (-1.0, 0.5), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match="flow ratio"):
            webster_cycle(lost, ratio)


def flows_of(network, **by_link):
    """veh/h by entry link (up to the dash) and turn."""
    flows = np.zeros(network.move_from.size)
    for move, (link, turn) in enumerate(zip(network.move_from, network.turn, strict=True)):
        flows[move] = by_link.get(f"{network.links[link].split('-')[0]}_{turn}", 0.0)
    return flows


def greens_of(signal):
    return [seconds for state, seconds in signal.programme if "y" not in state]


def test_greens_follow_the_critical_flow_ratios():
    network = grid_network(1, 1, lanes=3)
    # Straight traffic has two lanes, lefts one: ratios .3, .1, .15, .05 of 2000 veh/h.
    flows = flows_of(
        network, north0_s=1200.0, north0_l=200.0, south0_s=100.0, west0_s=600.0, east0_l=100.0
    )
    (signal,) = webster(network, flows, saturation=2000.0)
    cycle = webster_cycle(16.0, 0.6)  # 72.5 s
    expected = np.array([0.3, 0.1, 0.15, 0.05]) / 0.6 * (cycle - 16.0) + 1.0
    assert greens_of(signal) == pytest.approx(expected.tolist(), abs=1.0)
    assert signal.cycle == pytest.approx(cycle, abs=0.5)
    assert signal.name == "J0_0" and signal.greens == network.signals[0].greens
    assert sum(seconds for state, seconds in signal.programme if "y" in state) == 12.0


def test_a_lane_that_gives_way_needs_more_green():
    network = grid_network(1, 1, lanes=3, phases="2")
    flows = flows_of(network, north0_l=160.0, west0_s=800.0)
    (signal,) = webster(network, flows, saturation=2000.0, permissive=0.4)
    one, two = greens_of(signal)  # ratios 160 / 2000 / .4 = .2 and 400 / 2000 = .2
    assert one == pytest.approx(two, abs=1.0)
    (faster,) = webster(network, flows, saturation=2000.0, permissive=0.8)
    one, two = greens_of(faster)
    assert one - 1 == pytest.approx((two - 1) / 2, abs=1.0)


def test_a_movement_with_two_greens_needs_only_their_sum():
    network = arterial_network(3, lanes=3)
    at = 2
    signal = network.signals[at]
    assert len(signal.greens) == 3
    # West to east has green in the second phase (main road) and in the third (with its lefts).
    flows = flows_of(network, J1_s=1600.0, J1_l=400.0, east_s=600.0, north2_r=200.0)
    (found,) = [
        s for s in webster(network, flows, saturation=2000.0, longest=400.0) if s.name == "J2"
    ]
    # North .1, main road .2 (600 over three lanes gives .1, but .4 - .2 is needed), lefts .2.
    side, main, left = greens_of(found)
    assert found.cycle == pytest.approx(webster_cycle(12.0, 0.5), abs=0.5)
    assert (side, main, left) == pytest.approx((8.0, 15.0, 15.0), abs=2.0)


def test_retiming_keeps_to_its_limits():
    network = grid_network(1, 1, lanes=3)
    (idle,) = webster(network, np.zeros(network.move_from.size))
    assert greens_of(idle) == pytest.approx([5.0] * 4, abs=3.0)
    assert min(greens_of(idle)) >= 5.0
    (full,) = webster(network, np.full(network.move_from.size, 2.0 * SATURATION))
    assert full.cycle == pytest.approx(120.0, abs=0.5)
    skewed = flows_of(network, north0_s=2500.0, west0_l=1.0)
    (one_sided,) = webster(network, skewed, saturation=2000.0, shortest=7.0)
    # Webster's 77.7 s would leave 44.7 s, short of the .625 that the north needs.
    assert greens_of(one_sided)[1:] == [7.0] * 3
    assert (greens_of(one_sided)[0] - 1.0) / one_sided.cycle >= 0.625
    assert one_sided.cycle == pytest.approx(34.0 / (1 - 0.625 / 0.95), abs=0.5)
    assert all(green == int(green) for green in greens_of(one_sided))


def test_retiming_refuses_flows_that_are_none():
    network = grid_network(1, 1)
    for flows in (np.zeros(3), np.full(12, np.nan), np.full(12, -1.0)):
        with pytest.raises(ValueError, match="flows must be 12 finite numbers"):
            webster(network, flows)
