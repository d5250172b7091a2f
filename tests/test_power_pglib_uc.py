"""PGLib-UC instances: sizes, the one-bus grid, and how malformed documents are refused."""

import copy
import gzip
import json

import numpy as np
import pytest
from power_data import needed

from fairlead.simulators.errors import DataError
from fairlead.simulators.power.files.pglib_uc import read_instance, to_grid
from fairlead.simulators.power.series import check_series

UNIT = {
    "must_run": 1, "power_output_minimum": 10.0, "power_output_maximum": 30.0,
    "ramp_up_limit": 12.0, "ramp_down_limit": 18.0, "ramp_startup_limit": 11.0,
    "ramp_shutdown_limit": 12.0, "time_up_minimum": 3, "time_down_minimum": 2,
    "power_output_t0": 15.0, "unit_on_t0": 1, "time_up_t0": 5, "time_down_t0": 0,
    "startup": [{"lag": 2, "cost": 50.0}, {"lag": 6, "cost": 80.0}],
    "piecewise_production": [
        {"mw": 10.0, "cost": 100.0}, {"mw": 20.0, "cost": 180.0}, {"mw": 30.0, "cost": 290.0},
    ],
    "name": "A",
}  # fmt: skip
DOCUMENT = {
    "time_periods": 3,
    "demand": [20.0, 25.0, 30.0],
    "reserves": [1.0, 1.0, 1.0],
    "thermal_generators": {
        "A": UNIT,
        "B": {**UNIT, "name": "B", "must_run": 0, "startup": [{"lag": 2, "cost": 70.0}]},
    },
    "renewable_generators": {
        "W_WIND_1": {"power_output_minimum": [0, 0, 0], "power_output_maximum": [5, 6, 7]},
        "R_RTPV_2": {"power_output_minimum": [1, 2, 3], "power_output_maximum": [1, 2, 3]},
    },
}


def write(folder, document, name="case_2014-09-01.json"):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_an_instance_keeps_what_commitment_needs(tmp_path):
    instance = read_instance(write(tmp_path, DOCUMENT))
    thermals = instance.thermals
    assert instance.name == "case_2014-09-01" and instance.demand.tolist() == [20, 25, 30]
    assert thermals.must_run.tolist() == [True, False] and thermals.on.all()
    assert thermals.start_lag.tolist() == [[2, 6], [2, np.inf]]
    assert thermals.start_cost.tolist() == [[50, 80], [70, 70]]
    assert thermals.curve.cost[0].tolist() == [100, 180, 290]
    assert (thermals.ramp_start[0], thermals.ramp_stop[0], thermals.up[0]) == (11, 12, 5)
    assert instance.renewable_low.tolist() == [[0, 1], [0, 2], [0, 3]]


def test_it_becomes_a_grid_of_one_bus(tmp_path):
    path = tmp_path / "case.json.gz"
    path.write_bytes(gzip.compress(json.dumps(DOCUMENT).encode()))
    grid, series = to_grid(read_instance(path))
    units = grid.units
    assert grid.name == "case" and len(grid.buses.name) == 1 and not grid.branches.name
    assert units.kind == ("thermal", "thermal", "wind", "rtpv")
    assert units.ramp.tolist() == [0.2, 0.2, np.inf, np.inf]
    assert units.start_after[:2].tolist() == [[0, 6, 6], [0, 0, 0]]
    assert units.start_cost[:2].tolist() == [[50, 80, 80], [70, 70, 70]]
    assert units.renewable.tolist() == [False, False, True, True]
    assert units.curtailable.tolist() == [False, False, True, False]
    assert check_series(grid, series).available.tolist() == [[5, 1], [6, 2], [7, 3]]


def change(place, value):
    """The document with the value at ``place`` replaced, or removed where it is ``None``."""
    document = copy.deepcopy(DOCUMENT)
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    if value is None:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return document


A = ("thermal_generators", "A")


@pytest.mark.parametrize(
    ("place", "value", "parts"),
    [
        (("demand",), None, ("'demand'", "missing")),
        (("demand",), [1.0, 2.0], ("'demand'", "found 2", "3 numbers")),
        (("demand",), [1.0, "x", 2.0], ("'demand[1]'", "'x'", "finite")),
        (("reserves",), [1.0, float("nan"), 2.0], ("'reserves[1]'", "nan", "finite")),
        (("time_periods",), 0, ("'time_periods'", "at least 1")),
        (("thermal_generators",), [], ("'thermal_generators'", "an object")),
        ((*A, "must_run"), None, ("'thermal_generators.A.must_run'", "missing")),
        ((*A, "time_up_minimum"), 2.5, ("A.time_up_minimum'", "2.5", "whole number")),
        ((*A, "ramp_up_limit"), -1, ("A.ramp_up_limit'", "-1", "at least 0")),
        ((*A, "power_output_minimum"), 40, ("A.power_output_minimum'", "the maximum")),
        ((*A, "power_output_minimum"), 9, ("A.piecewise_production'", "from 9 to 30")),
        ((*A, "startup"), [], ("A.startup'", "at least one")),
        ((*A, "startup", 1, "lag"), 1, ("A.startup'", "[2.0, 1.0]", "ascending")),
        ((*A, "startup", 1, "cost"), None, ("A.startup[1].cost'", "missing")),
        ((*A, "startup", 1), 7, ("A.startup[1]'", "an object")),
        (
            ("renewable_generators", "W_WIND_1", "power_output_minimum"),
            [9, 0, 0],
            ("'renewable_generators.W_WIND_1.power_output_minimum'", "the maximum"),
        ),
    ],
)
def test_malformed_instances_are_named(tmp_path, place, value, parts):
    path = write(tmp_path, change(place, value))
    with pytest.raises(DataError) as caught:
        read_instance(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_what_is_no_json_is_named_by_line(tmp_path):
    path = write(tmp_path, '{"time_periods": 3,\n "demand": [1, 2\n')
    with pytest.raises(DataError, match=r"line 3.*not valid JSON"):
        read_instance(path)
    with pytest.raises(DataError, match="an object is expected"):
        read_instance(write(tmp_path, "[]"))


def test_more_starts_than_a_grid_has_are_refused(tmp_path):
    starts = [{"lag": lag, "cost": 10.0 * lag} for lag in (1, 2, 3, 4)]
    instance = read_instance(write(tmp_path, change((*A, "startup"), starts)))
    with pytest.raises(ValueError, match="4 categories of starts"):
        to_grid(instance)


def test_california_and_rts_have_their_units():
    california = read_instance(needed("pglib_uc", "ca_2014-09-01_reserves_3.json"))
    grid, series = to_grid(california)
    assert len(grid.units.name) == 610 and california.thermals.must_run.sum() == 200
    assert series.length == 48 and series.start == np.datetime64("2014-09-01")
    assert grid.units.high.sum() > series.load.max()
    for day in ("2020-01-27", "2020-07-06"):
        rts = read_instance(needed("pglib_uc", f"rts_gmlc_{day}.json"))
        grid, series = to_grid(rts)
        assert (len(rts.thermals.name), len(rts.renewables)) == (73, 81)
        assert series.start == np.datetime64(day) and grid.units.kind.count("hydro") == 20
