"""Tripinfo: RESCO's delay worked by hand, the plainer figures, and files that must be refused."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest

from fairlead.simulators.errors import DataError
from fairlead.simulators.traffic.sumo.tripinfo import (
    Planned,
    Trips,
    read_planned,
    read_tripinfo,
    resco_delay,
    summary,
)

# a arrived, b was still on the way at 100 s, c waited 12 s to enter.
ROW = (
    '    <tripinfo id="{}" depart="{:.2f}" departDelay="{:.2f}" arrival="{:.2f}" '
    'duration="{:.2f}" waitingTime="{:.2f}" timeLoss="{:.2f}"/>\n'
)
TRIPINFO = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<tripinfos>\n'
    + ROW.format("a", 10, 0, 50, 40, 5, 10)
    + ROW.format("b", 60, 0, -1, 40, 20, 25)
    + ROW.format("c", 32, 12, 70, 38, 1, 3)
    + "</tripinfos>\n"
)

ROUTES = """<routes>
    <vType id="car"/>
    <route id="way" edges="one two"/>
    <vehicle id="early" depart="5" route="way"/>
    <vehicle id="a" depart="10" route="way"/>
    <vehicle id="c" depart="0:00:20" route="way"/>
    <vehicle id="overtaken" depart="50" route="way"/>
    <vehicle id="b" depart="60" route="way"/>
    <trip id="free" depart="70" from="one" to="two"/>
    <vehicle id="lost" depart="80.00" route="way"/>
</routes>
"""


@pytest.fixture
def trips(tmp_path):
    path = tmp_path / "tripinfo.xml"
    path.write_text(TRIPINFO, encoding="utf-8")
    return read_tripinfo(path)


@pytest.fixture
def planned(tmp_path):
    path = tmp_path / "some.rou.xml"
    path.write_text(ROUTES, encoding="utf-8")
    return read_planned([path], 10.0)


def test_trips_are_read(trips):
    assert trips.names == ("a", "b", "c")
    assert trips.finished.tolist() == [True, False, True]
    assert trips.due.tolist() == [10.0, 60.0, 20.0]
    assert trips.time_loss.tolist() == [10.0, 25.0, 3.0]


def test_planned_vehicles_are_read_with_clock_times_and_without_early_ones(planned):
    assert planned.names == ("a", "c", "overtaken", "b", "free", "lost")
    assert planned.depart.tolist() == [10.0, 20.0, 50.0, 60.0, 70.0, 80.0]
    assert planned.charged.tolist() == [True, True, True, True, False, True]


def test_rescos_delay_by_hand(trips, planned):
    # Entered: 10 + 25 + (3 + 12). Never entered after b (due 60): 'lost' 100 - 80; the trip 'free'
    # and 'overtaken' (due before b) are not charged.
    assert resco_delay(trips, planned, 100.0) == pytest.approx((50.0 + 20.0) / 4)


def test_rescos_delay_takes_the_first_of_those_that_entered_last(planned):
    # Both entered at 90; the first in the file was due at 90, so 'lost' (80) is not after it.
    last = Trips(
        names=("x", "y"),
        depart=np.array([90.0, 90.0]),
        depart_delay=np.array([0.0, 30.0]),
        duration=np.zeros(2),
        time_loss=np.zeros(2),
        waiting=np.zeros(2),
        finished=np.zeros(2, dtype=bool),
    )
    assert resco_delay(last, planned, 100.0) == pytest.approx(30.0 / 2)


def test_a_summary_charges_everybody_who_was_due(trips, planned):
    report = summary(trips, planned, begin=0.0, end=100.0, version="SUMO 0", seed=7)
    never = (100 - 50) + (100 - 70) + (100 - 80)
    assert report.charged_delay == pytest.approx((50.0 + never) / 6)
    assert report.undeparted == 3
    assert (report.departed, report.finished, report.unfinished) == (3, 2, 1)
    assert report.unfinished_share == pytest.approx(1 / 3) and report.gridlock
    assert report.trip_time == pytest.approx(39.0)
    assert report.trip_time_all == pytest.approx(118.0 / 3)
    assert report.waiting == pytest.approx(26.0 / 3)
    assert report.throughput == pytest.approx(72.0)
    assert (report.version, report.seed) == ("SUMO 0", 7)


def test_vehicles_due_after_the_end_of_a_short_run_are_not_charged(trips, planned):
    report = summary(trips, planned, begin=0.0, end=75.0, version="", seed=0)
    assert report.undeparted == 2  # 'overtaken' and 'free', not 'lost'


def test_a_run_without_trips_has_no_delay(tmp_path):
    path = tmp_path / "tripinfo.xml"
    path.write_text("<tripinfos/>", encoding="utf-8")
    nobody = Planned(names=(), depart=np.zeros(0), charged=np.zeros(0, dtype=bool))
    report = summary(read_tripinfo(path), nobody, begin=0.0, end=10.0, version="", seed=0)
    assert math.isnan(report.resco_delay) and math.isnan(report.trip_time)
    assert report.departed == 0 and not report.gridlock


def test_compressed_routes_are_read(tmp_path):
    path = tmp_path / "some.rou.xml.gz"
    path.write_bytes(gzip.compress(ROUTES.encode()))
    assert read_planned([path], 55.0).names == ("b", "free", "lost")


@pytest.mark.parametrize(
    ("old", "new", "field", "line"),
    [
        ('depart="32.00"', 'depart="soon"', "tripinfo.depart", 5),
        ('timeLoss="25.00"', 'timeLoss="nan"', "tripinfo.timeLoss", 4),
        ('duration="38.00"', "", "tripinfo.duration", 5),
        ('id="a" ', "", "tripinfo.id", 3),
    ],
)
def test_bad_trips_are_refused(tmp_path, old, new, field, line):
    path = tmp_path / "tripinfo.xml"
    path.write_text(TRIPINFO.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_tripinfo(path)
    assert (caught.value.field, caught.value.line) == (field, line)


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    path = tmp_path / "tripinfo.xml"
    path.write_text(TRIPINFO[:400], encoding="utf-8")
    with pytest.raises(DataError, match="well-formed"):
        read_tripinfo(path)


@pytest.mark.parametrize("depart", ["triggered", "1:2", "inf", ""])
def test_a_departure_that_is_no_time_is_refused(tmp_path, depart):
    path = tmp_path / "some.rou.xml"
    path.write_text(ROUTES.replace("0:00:20", depart), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_planned([path], 0.0)
    assert (caught.value.field, caught.value.line, caught.value.value) == (
        "vehicle.depart",
        6,
        depart,
    )
