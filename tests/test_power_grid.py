"""The common data type: what a grid and its series must be, and how others are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.simulators.power.curves import chords, cut, stack
from fairlead.simulators.power.generated import generate
from fairlead.simulators.power.generated_series import generate_series
from fairlead.simulators.power.grid import Curves, GridError, check_grid
from fairlead.simulators.power.network import IslandError, Network
from fairlead.simulators.power.series import (
    Series,
    SeriesError,
    bus_loads,
    check_series,
    load_split,
)


@pytest.fixture(scope="module")
def grid():
    return generate(30, seed=1)


def with_table(grid, table, **columns):
    return replace(grid, **{table: replace(getattr(grid, table), **columns)})


def put(values, at, value):
    values = values.copy()
    values[at] = value
    return values


def test_a_unit_is_found_by_name(grid):
    assert grid.units.name[grid.unit("coal-2")] == "coal-2"
    with pytest.raises(KeyError, match="no unit named 'coal-99'"):
        grid.unit("coal-99")


@pytest.mark.parametrize(
    ("table", "column", "at", "value", "parts"),
    [
        ("buses", "load", 3, np.nan, ("buses row 3", "'load'", "nan", "finite")),
        ("branches", "x", 2, 0.0, ("branches row 2 (L3)", "'x'", "other than 0")),
        ("branches", "rate", 2, -1.0, ("(L3)", "'rate'", "-1.0", "at least 0")),
        ("branches", "end", 2, 99, ("branches row 2", "'end'", "99", "below 15")),
        ("units", "bus", 1, -1, ("units row 1", "'bus'", "-1")),
        ("units", "low", 0, 9e9, ("units row 0 (coal-1)", "'low'", "upper limit")),
        ("units", "high", 0, 9e9, ("(coal-1)", "'curve.power'", "from low to high")),
        ("units", "ramp", 0, -1.0, ("(coal-1)", "'ramp'", "at least 0")),
        ("storages", "efficiency", 0, 1.1, ("(storage-1)", "'efficiency'", "(0, 1]")),
        ("storages", "initial", 0, 1e9, ("(storage-1)", "'initial'", "the capacity")),
    ],
)
def test_impossible_values_are_named(grid, table, column, at, value, parts):
    assert check_grid(grid) is grid
    changed = put(getattr(getattr(grid, table), column), at, value)
    with pytest.raises(GridError) as caught:
        check_grid(with_table(grid, table, **{column: changed}))
    for part in (grid.name, *parts):
        assert part in str(caught.value)


def test_tables_of_other_lengths_and_equal_names_are_named(grid):
    with pytest.raises(GridError, match=r"buses\.shunt has 2 rows, not 15"):
        check_grid(with_table(grid, "buses", shunt=np.zeros(2)))
    names = (grid.units.name[1], *grid.units.name[1:])
    with pytest.raises(GridError, match=f"two rows named '{names[0]}'"):
        check_grid(with_table(grid, "units", name=names))
    with pytest.raises(GridError, match="reference bus 99"):
        check_grid(replace(grid, reference=99))
    with pytest.raises(GridError, match="flexible has"):
        check_grid(replace(grid, flexible=np.zeros(3)))


def test_curves_that_cannot_be_are_named(grid):
    curve = grid.units.curve
    for bad, words in (
        (replace(curve, cost=put(curve.cost, (0, 1), 0.0)), "do not fall"),
        (replace(curve, cost=put(curve.cost, (0, -1), np.inf)), "finite numbers"),
        (replace(curve, power=put(curve.power, (0, 1), 0.0)), "ascending"),
        (Curves(curve.power[1:], curve.cost[1:]), "curves are"),
    ):
        with pytest.raises(GridError, match=words):
            check_grid(with_table(grid, "units", curve=bad))


def test_an_islanded_network_is_a_grid_but_not_one_network(grid):
    lone = (grid.branches.start == 4) | (grid.branches.end == 4)
    columns = {
        name: tuple(np.array(value)[~lone]) if isinstance(value, tuple) else value[~lone]
        for name in grid.branches.__dataclass_fields__
        for value in [getattr(grid.branches, name)]
    }
    parted = check_grid(with_table(grid, "branches", **columns))
    with pytest.raises(IslandError, match=r"2 islands.*buses 5"):
        Network(parted, convention="x")


def test_series_that_do_not_fit_are_named(grid):
    series = generate_series(grid, seed=0)
    assert check_series(grid, series) is series
    wind = [grid.units.name[u] for u in np.flatnonzero(grid.units.renewable)].index("wind-1")
    for column, value, words in (
        ("load", put(series.load, (7, 0), np.nan), "load of 1, interval 7: found nan"),
        ("available", put(series.available, (3, wind), -1.0), "available of wind-1, interval 3"),
        ("reserve", put(series.reserve, 5, np.inf), "reserve, interval 5: found inf"),
        ("load", np.ones((288, 9)), r"load has shape \(288, 9\), not \(288, 1\)"),
    ):
        with pytest.raises(SeriesError, match=words):
            check_series(grid, replace(series, **{column: value}))


def test_an_area_with_load_but_no_share_is_named(grid):
    bare = with_table(grid, "buses", load=np.zeros(15))
    assert not load_split(bare).any()
    series = generate_series(grid, seed=0)
    with pytest.raises(SeriesError, match="area '1' has load, but no bus"):
        check_series(bare, series)
    still = replace(series, load=np.zeros_like(series.load))
    assert not bus_loads(bare, check_series(bare, still).load).any()


def test_a_part_of_series_begins_later(grid):
    part = generate_series(grid, seed=0).between(12, 24)
    whole = generate_series(grid, seed=0)
    assert isinstance(part, Series) and part.length == 12
    assert part.start - whole.start == np.timedelta64(1, "h")
    assert np.array_equal(part.available, whole.available[12:24])


@given(
    c2=st.floats(0.0, 1.0),
    low=st.floats(0.0, 100.0),
    width=st.floats(0.0, 500.0),
    segments=st.integers(1, 60),
)
def test_chords_are_exact_at_their_ends_and_close_between(c2, low, width, segments):
    high = low + width
    curve = chords(np.array([[c2, 10.0, 5.0]]), np.array([low]), np.array([high]), segments)
    assert curve.power[0, 0] == low and curve.power[0, -1] == high
    assert curve.power.shape[1] == (segments + 1 if c2 else 2)
    exact = c2 * curve.power**2 + 10.0 * curve.power + 5.0
    assert np.allclose(curve.cost, exact, rtol=1e-12)
    at = np.linspace(low, high, 37)
    error = np.interp(at, curve.power[0], curve.cost[0]) - (c2 * at**2 + 10.0 * at + 5.0)
    bound = c2 * (width / segments / 2.0) ** 2
    scale = 1e-9 * (1.0 + float(np.abs(exact).max()))
    assert error.min() >= -scale and error.max() <= bound + scale


def test_curves_are_stacked_and_cut():
    assert cut(np.array([10.0, 20.0]), np.array([5.0, 25.0]), 5.0, 30.0)[1].tolist() == [
        -5.0, 5.0, 25.0, 45.0,
    ]  # fmt: skip
    table = stack([(np.array([1.0, 2.0]), np.array([3.0, 4.0])), (np.zeros(1), np.ones(1))])
    assert table.power.tolist() == [[1, 2], [0, 0]] and table.cost.tolist() == [[3, 4], [1, 1]]
    assert table.slope.tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="segments = 0"):
        chords(np.ones((1, 3)), np.zeros(1), np.ones(1), 0)
