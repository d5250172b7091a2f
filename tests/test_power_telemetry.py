"""Late and lost messages: what holds, from when, for how long."""

import numpy as np
import pytest

from fairlead.simulators.power.telemetry import Telemetry

INF = float("inf")


def line(n=4, *, seed=0, delay=0.0, loss=0.0, expiry=INF):
    rng = np.random.default_rng(seed)
    return Telemetry(n, delay=delay, loss=loss, interval=300.0, rng=rng, expiry=expiry)


class Script:
    """Draws that lose exactly the messages named."""

    def __init__(self, *lost):
        self.lost = iter(lost)

    def random(self, n):
        return np.where(np.isin(np.arange(n), next(self.lost)), 0.0, 1.0)


def scripted(*lost, n=3, expiry=INF, delay=0.0):
    return Telemetry(n, delay=delay, loss=0.5, interval=300.0, rng=Script(*lost), expiry=expiry)


def test_without_loss_everything_is_in_force_at_once():
    telemetry = line()
    for order in (np.arange(4.0), np.arange(4.0) * 2):
        got = telemetry.deliver(order, np.zeros(4))
        assert (got.value == order).all()
        assert got.arrived.all()
        assert not got.holds.any()
        assert (got.late == 0.0).all()
        assert (got.age == 0.0).all()


def test_delay_leaves_the_old_order_in_force_until_the_new_one_arrives():
    telemetry = line(delay=20.0)
    first = telemetry.deliver(np.full(4, 5.0), np.full(4, 1.0))
    assert (first.before == 1.0).all()
    assert (first.late == 20.0).all()
    second = telemetry.deliver(np.full(4, 7.0), np.full(4, 5.0))
    assert (second.before == 5.0).all()
    assert (second.value == 7.0).all()


def test_who_gets_nothing_goes_on_with_the_last_order():
    telemetry = scripted([], [1], [1], [])
    telemetry.deliver(np.full(3, 1.0), np.zeros(3))
    second = telemetry.deliver(np.full(3, 2.0), np.full(3, 0.5))
    assert second.value.tolist() == [2.0, 1.0, 2.0]
    assert second.arrived.tolist() == [True, False, True]
    assert second.age.tolist() == [0.0, 300.0, 0.0]
    assert telemetry.deliver(np.full(3, 3.0), np.full(3, 0.6)).age.tolist() == [0.0, 600.0, 0.0]
    assert telemetry.deliver(np.full(3, 4.0), np.full(3, 0.7)).value.tolist() == [4.0] * 3


def test_an_order_that_expired_gives_way_to_hold_until_the_next_one():
    telemetry = scripted([], [0], [0], [0], [], expiry=600.0)
    telemetry.deliver(np.full(3, 10.0), np.zeros(3))
    kept = telemetry.deliver(np.full(3, 11.0), np.full(3, 8.0))
    assert (kept.value[0], kept.holds[0]) == (10.0, False)
    held = telemetry.deliver(np.full(3, 12.0), np.full(3, 9.0))
    assert (held.value[0], held.holds[0], held.age[0]) == (9.0, True, INF)
    # It stays where it was, wherever it may be measured later.
    still = telemetry.deliver(np.full(3, 13.0), np.full(3, 9.5))
    assert (still.value[0], still.holds[0]) == (9.0, True)
    again = telemetry.deliver(np.full(3, 14.0), np.full(3, 9.0))
    assert (again.value[0], again.holds[0], again.before[0]) == (14.0, False, 9.0)


def test_before_anything_arrived_units_stay_where_they_are():
    telemetry = scripted([0, 1, 2], [2])
    first = telemetry.deliver(np.full(3, 9.0), np.array([1.0, 2.0, 3.0]))
    assert first.value.tolist() == [1.0, 2.0, 3.0]
    assert first.holds.all()
    second = telemetry.deliver(np.full(3, 9.0), np.array([1.0, 2.0, 3.5]))
    assert second.value.tolist() == [9.0, 9.0, 3.0]


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.5, 1.0])
def test_share_of_losses(loss):
    telemetry = line(200, loss=loss)
    arrived = [telemetry.deliver(np.ones(200), np.ones(200)).arrived for _ in range(200)]
    sigma = np.sqrt(loss * (1 - loss) / 40_000)
    assert abs(1 - np.mean(arrived) - loss) <= 4 * sigma


def test_same_seed_same_losses_whatever_is_sent():
    one, two = line(50, seed=3, loss=0.3), line(50, seed=3, loss=0.3, delay=9.0, expiry=300.0)
    for order in (1.0, 2.0, 3.0):
        got = one.deliver(np.full(50, order), np.zeros(50))
        other = two.deliver(np.full(50, -order), np.ones(50))
        assert (got.arrived == other.arrived).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"delay": 300.0}, r"delay is 300\.0 s"),
        ({"delay": -1.0}, "delay is"),
        ({"loss": 1.5}, "loss is 1.5"),
        ({"expiry": 0.0}, r"expiry is 0\.0 s"),
    ],
)
def test_impossible_lines_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        line(**wrong)


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"sent \(3,\) and output \(4,\) must have 4"):
        line().deliver(np.zeros(3), np.zeros(4))
