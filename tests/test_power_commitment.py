"""Unit commitment: against enumeration, against Pyomo, and an independent judge of schedules."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from power_data import needed
from power_small import small_grid
from scipy.optimize import linprog

from fairlead.models.power import commitment
from fairlead.models.power.commitment import UnitCommitment
from fairlead.models.power.commitment_grid import UnitState, from_grid
from fairlead.models.power.commitment_layout import Slack
from fairlead.models.power.feasibility import judge
from fairlead.models.power.pyomo_commitment import commitment_pyomo
from fairlead.simulators.power.files.pglib_uc import CommitmentInstance, Thermals, read_instance
from fairlead.simulators.power.grid import Curves
from fairlead.simulators.power.series import Series


def instance(demand, units, *, reserves=None, renewable=None, **changes):
    """An instance of units given as dicts over the defaults below."""
    usual = {
        "low": 20.0,
        "high": 100.0,
        "must_run": False,
        "ramp_up": 200.0,
        "ramp_down": 200.0,
        "ramp_start": 100.0,
        "ramp_stop": 100.0,
        "min_up": 1,
        "min_down": 1,
        "on": True,
        "power": 20.0,
        "up": 9,
        "down": 0,
    }
    table = [{**usual, **unit} for unit in units]
    starts = [unit.get("starts", ((1, 0.0),)) for unit in table]
    widest = max(len(start) for start in starts)
    lag = [[at for at, _ in start] + [np.inf] * (widest - len(start)) for start in starts]
    cost = [[c for _, c in start] + [start[-1][1]] * (widest - len(start)) for start in starts]
    power, money = [], []
    for unit in table:
        points = np.linspace(unit["low"], unit["high"], 3)
        slopes = unit.get("slopes", (10.0, 12.0))
        power.append(points)
        money.append(unit.get("base", 100.0) + np.cumsum([0.0, *np.diff(points) * slopes]))
    integer, logical = ("min_up", "min_down", "up", "down"), ("must_run", "on")
    columns = {
        key: np.array(
            [unit[key] for unit in table],
            dtype=np.int64 if key in integer else bool if key in logical else float,
        )
        for key in usual
    }
    demand = np.array(demand, dtype=float)
    low, high = renewable or (np.zeros((len(demand), 0)),) * 2
    made = CommitmentInstance(
        name="made",
        demand=demand,
        reserves=np.zeros(len(demand)) if reserves is None else np.array(reserves, float),
        thermals=Thermals(
            name=tuple(f"g{row}" for row in range(len(table))),
            start_lag=np.array(lag, dtype=float),
            start_cost=np.array(cost, dtype=float),
            curve=Curves(np.array(power), np.array(money)),
            **columns,
        ),
        renewables=tuple(f"w{column}" for column in range(low.shape[1])),
        renewable_low=np.array(low, float),
        renewable_high=np.array(high, float),
    )
    return replace(made, **changes)


def random_instance(seed, hours=4):
    rng = np.random.default_rng(seed)
    units = []
    for _ in range(2):
        low = float(rng.uniform(10, 30))
        high = low + float(rng.uniform(30, 80))
        on = bool(rng.random() < 0.6)
        slope = np.sort(rng.uniform(5, 40, 2))
        hot = float(rng.uniform(50, 500))
        units.append(
            {
                "low": low,
                "high": high,
                "ramp_up": float(rng.uniform(15, 70)),
                "ramp_down": float(rng.uniform(15, 70)),
                "ramp_start": low + float(rng.uniform(0, 40)),
                "ramp_stop": low + float(rng.uniform(0, 40)),
                "min_up": int(rng.integers(1, 4)),
                "min_down": int(rng.integers(1, 3)),
                "on": on,
                "power": low + float(rng.uniform(0, 10)) if on else 0.0,
                "up": int(rng.integers(1, 4)) if on else 0,
                "down": 0 if on else int(rng.integers(1, 4)),
                "base": float(rng.uniform(50, 300)),
                "slopes": slope,
                "starts": ((1, hot), (3, 2 * hot), (5, 3 * hot)),
            }
        )
    wind = rng.uniform(20, 160, (hours, 1))
    demand = rng.uniform(20, 110, hours)
    # Wind may be turned down, and covers nearly everything in some hours.
    return instance(
        demand, units, reserves=rng.uniform(0, 6, hours), renewable=(np.zeros((hours, 1)), wind)
    )


def runs_allowed(units, row, pattern):
    state, length = bool(units.on[row]), int(units.up[row] or units.down[row])
    for value in pattern:
        if value == state:
            length += 1
            continue
        if length < (units.min_up[row] if state else units.min_down[row]):
            return False
        state, length = value, 1
    return True


def cost_of_starts(units, row, pattern):
    total, off, before = 0.0, int(units.down[row]), bool(units.on[row])
    for value in pattern:
        if value and not before:
            kind = int(np.searchsorted(units.start_lag[row], off, side="right")) - 1
            total += units.start_cost[row, max(kind, 0)]
        off = 0 if value else off + 1
        before = value
    return total


def dispatch_cost(case, patterns):
    """Cheapest dispatch of a fixed commitment by scipy, or infinity; columns p, r, c, w."""
    units, hours, count = case.thermals, len(case.demand), len(case.thermals.name)
    size = hours * count
    index = np.arange(size).reshape(hours, count)
    width = 3 * size + hours
    rows, right = [], []

    def less(terms, bound):
        row = np.zeros(width)
        for column, value in terms:
            row[column] += value
        rows.append(row)
        right.append(bound)

    equal, bounds = np.zeros((hours, width)), [None] * width
    for t in range(hours):
        equal[t, index[t]] = 1.0
        equal[t, 3 * size + t] = 1.0
        bounds[3 * size + t] = (case.renewable_low[t, 0], case.renewable_high[t, 0])
        less([(size + column, -1.0) for column in index[t]], -case.reserves[t])
        for g in range(count):
            p, r, c = index[t, g], size + index[t, g], 2 * size + index[t, g]
            on = patterns[g][t]
            was = bool(units.on[g]) if t == 0 else patterns[g][t - 1]
            bounds[p] = (units.low[g], units.high[g]) if on else (0.0, 0.0)
            bounds[r] = (0.0, None if on else 0.0)
            bounds[c] = (0.0, None)
            top = units.high[g]
            if on and not was:
                top = min(top, units.ramp_start[g])
            if on and t + 1 < hours and not patterns[g][t + 1]:
                top = min(top, units.ramp_stop[g])
            less([(p, 1.0), (r, 1.0)], top if on else 0.0)
            base, old = units.low[g] * on, units.low[g] * was
            if t == 0:
                first = units.power[g] if was else 0.0
                if was and not on and first > units.ramp_stop[g]:
                    return np.inf
                less([(p, 1.0), (r, 1.0)], base + first - old + units.ramp_up[g])
                less([(p, -1.0)], units.ramp_down[g] - base - first + old)
            else:
                q = index[t - 1, g]
                less([(p, 1.0), (r, 1.0), (q, -1.0)], base - old + units.ramp_up[g])
                less([(q, 1.0), (p, -1.0)], old - base + units.ramp_down[g])
            if on:
                for k, slope in enumerate(units.curve.slope[g]):
                    level = units.curve.cost[g, k] - slope * units.curve.power[g, k]
                    less([(p, slope), (c, -1.0)], -level)
    objective = np.zeros(width)
    objective[2 * size : 3 * size] = 1.0
    found = linprog(objective, np.array(rows), right, equal, case.demand, bounds, method="highs")
    return found.fun if found.status == 0 else np.inf


def enumerated(case):
    """Optimum by trying every pattern of every unit."""
    units, hours = case.thermals, len(case.demand)
    allowed = [
        [p for p in product((False, True), repeat=hours) if runs_allowed(units, row, p)]
        for row in range(len(units.name))
    ]
    return min(
        sum(cost_of_starts(units, row, p) for row, p in enumerate(patterns))
        + dispatch_cost(case, patterns)
        for patterns in product(*allowed)
    )


@pytest.mark.parametrize("seed", range(8))
def test_optimum_equals_enumeration_and_the_pyomo_form(seed):
    case = random_instance(seed)
    model, best = UnitCommitment(case), enumerated(case)
    if not np.isfinite(best):
        with pytest.raises(RuntimeError, match="infeasible"):
            model.solve()
        return
    found = model.solve(gap=0.0)
    assert found.objective == pytest.approx(best, rel=1e-6)
    assert found.bound == pytest.approx(best, rel=1e-6)
    assert found.status == "optimal"
    assert commitment_pyomo(case) == pytest.approx(best, rel=1e-6)
    assert model.relax().objective <= best * (1 + 1e-9)
    verdict = judge(case, found)
    assert verdict.violations == ()
    assert verdict.cost == pytest.approx(found.objective, rel=1e-9)


def optimum(model):
    """The proven optimum, or nothing where the solver calls the instance infeasible."""
    try:
        return model.solve(gap=0.0)
    except RuntimeError as error:
        if "infeasible" not in str(error):
            raise
        return None


@pytest.mark.parametrize("seed", range(8))
def test_a_guided_search_finds_the_same_optimum(seed, monkeypatch):
    model = UnitCommitment(random_instance(seed))
    plain = optimum(model)
    monkeypatch.setattr(commitment, "LARGE", 0)
    if plain is None:
        with pytest.raises(RuntimeError, match="infeasible"):
            model.solve(gap=0.0)
        return
    guided = model.solve(gap=0.0)
    assert guided.objective == pytest.approx(plain.objective, rel=1e-9)
    assert guided.bound == pytest.approx(plain.bound, rel=1e-6)
    assert judge(model.instance, guided).violations == ()


def test_most_random_instances_have_an_optimum_and_starts():
    cases = [random_instance(seed) for seed in range(8)]
    solved = [(case, optimum(UnitCommitment(case))) for case in cases]
    found = [(case, solution) for case, solution in solved if solution is not None]
    assert len(found) >= 5
    assert sum(judge(case, solution).starts for case, solution in found) >= 3


@pytest.mark.parametrize(("off", "paid"), [(1, 100.0), (2, 100.0), (3, 300.0), (4, 300.0)])
def test_a_start_costs_what_the_time_off_says(off, paid):
    # g1 is switched off by a demand below the sum of minima, for exactly ``off`` hours.
    starts = ((1, 100.0), (3, 300.0))
    demand = [60.0, *[25.0] * off, 150.0]
    case = instance(demand, [{"must_run": True, "base": 1.0}, {"starts": starts}])
    found = UnitCommitment(case).solve(gap=0.0)
    assert found.on[:, 1].tolist() == [found.on[0, 1], *[False] * off, True]
    verdict = judge(case, found)
    assert verdict.violations == () and verdict.starts == 1
    # Staying off from the first hour on would make the start colder.
    assert found.on[0, 1] or paid == 300.0
    assert found.objective - fuel(case, found) == pytest.approx(paid)


@pytest.mark.parametrize(("down", "paid"), [(1, 100.0), (2, 300.0), (7, 300.0)])
def test_hours_off_before_the_start_count(down, paid):
    unit = {"on": False, "power": 0.0, "up": 0, "down": down, "starts": ((1, 100.0), (3, 300.0))}
    # The first hour has no room for both minima: g1 starts one hour colder.
    case = instance([30.0, 150.0], [{"must_run": True}, unit])
    found = UnitCommitment(case).solve(gap=0.0)
    assert found.on[:, 1].tolist() == [False, True]
    assert found.objective - fuel(case, found) == pytest.approx(paid)
    assert judge(case, found).cost == pytest.approx(found.objective)


def fuel(case, found):
    curve = case.thermals.curve
    return sum(
        np.interp(power, curve.power[g], curve.cost[g])
        for g in range(len(case.thermals.name))
        for power in found.power[found.on[:, g], g]
    )


def good():
    """A case in which g1 runs for its minimum of three hours, 2 to 4, and its optimum."""
    units = [
        {"must_run": True, "ramp_up": 60.0, "ramp_down": 40.0, "min_up": 2},
        {
            "on": False,
            "power": 0.0,
            "up": 0,
            "down": 4,
            "min_up": 3,
            "min_down": 3,
            "ramp_start": 40.0,
            "ramp_stop": 40.0,
            "starts": ((1, 50.0),),
            "base": 1000.0,
            "slopes": (20.0, 25.0),
        },
    ]
    demand = [60.0, 90.0, 140.0, 150.0, 120.0, 60.0, 60.0, 60.0]
    wind = (np.zeros((8, 1)), np.full((8, 1), 10.0))
    case = instance(demand, units, reserves=[5.0] * 8, renewable=wind)
    return case, UnitCommitment(case).solve(gap=0.0)


def moved(solution, **moves):
    """The solution with entries added: field=(index, amount)."""
    changed = {}
    for field, (index, amount) in moves.items():
        array = getattr(solution, field).copy()
        array[index] = array[index] + amount if array.dtype != bool else amount
        changed[field] = array
    return replace(solution, **changed)


def test_the_judge_finds_nothing_wrong_with_an_optimum():
    case, found = good()
    assert judge(case, found).violations == ()
    assert judge(case, found).starts == 1
    assert np.flatnonzero(found.on[:, 1]).tolist() == [2, 3, 4]


def shorter_run(solution):
    on, power, reserve = solution.on.copy(), solution.power.copy(), solution.reserve.copy()
    first = int(np.flatnonzero(on[:, 1])[0])
    on[first + 1 :, 1], power[first + 1 :, 1], reserve[first + 1 :, 1] = False, 0.0, 0.0
    return replace(solution, on=on, power=power, reserve=reserve)


def early_restart(solution):
    on = solution.on.copy()
    last = int(np.flatnonzero(on[:, 1])[-1])
    on[last + 2, 1] = True
    return replace(solution, on=on)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda s: moved(s, power=((2, 0), 1.0)), "interval 2: .* MW for a demand of 140"),
        (lambda s: moved(s, reserve=((slice(None), slice(None)), -5.0)), "reserve .* MW of 5"),
        (lambda s: moved(s, reserve=((1, 0), -50.0)), "g0, interval 1: reserve .* is negative"),
        (lambda s: moved(s, renewable=((0, 0), 9.0)), "w0, interval 0: .* allowed 0 to 10"),
        (lambda s: moved(s, renewable=((0, 0), -30.0)), "w0, interval 0: .* allowed 0 to 10"),
        (lambda s: moved(s, power=((0, 0), -45.0)), "g0, interval 0: .* below its minimum 20"),
        (lambda s: moved(s, power=((3, 0), 50.0)), "g0, interval 3: .* above its maximum 100"),
        (lambda s: moved(s, power=((0, 0), 45.0)), "g0, interval 0: rises by .* ramp 60"),
        (lambda s: moved(s, power=((5, 0), -80.0)), "g0, interval 5: falls by .* ramp 40"),
        (lambda s: moved(s, on=((0, 0), False)), "g0, interval 0: off, but it must run"),
        (lambda s: moved(s, power=((0, 1), 5.0)), "g1, interval 0: 5 MW and .* maximum 0"),
        (lambda s: moved(s, shed=(0, -3.0)), "interval 0: shed of -3 MW is negative"),
        (lambda s: moved(s, short=(0, -3.0)), "interval 0: missing reserve of -3 MW is negative"),
        (lambda s: moved(s, surplus=(0, -3.0)), "interval 0: surplus of -3 MW is negative"),
        (shorter_run, "g1: on for 1 intervals, at least 3"),
        (early_restart, "g1: off for 1 intervals, at least 3"),
    ],
)
def test_the_judge_names_every_kind_of_violation(break_it, words):
    case, found = good()
    verdict = judge(case, break_it(found))
    assert any(re.search(words, line) for line in verdict.violations), verdict.violations


def test_the_judge_sees_output_around_starts_and_stops():
    case, found = good()
    hours = np.flatnonzero(found.on[:, 1])
    first, last = int(hours[0]), int(hours[-1])
    high = moved(found, power=((first, 1), 45.0))
    assert any("in its first interval on" in line for line in judge(case, high).violations)
    high = moved(found, power=((last, 1), 45.0))
    assert any("before it stops" in line for line in judge(case, high).violations)
    tall = instance(case.demand, [{"power": 80.0, "ramp_stop": 50.0}, {}])
    off = replace(
        found,
        on=np.array([[False, True]] * 8),
        power=np.array([[0.0, 60.0]] * 8),
        reserve=np.zeros((8, 2)),
        renewable=np.zeros((8, 0)),
    )
    assert any("80 MW before it stops" in line for line in judge(tall, off).violations)


def test_the_judge_wants_arrays_of_the_instance():
    case, found = good()
    with pytest.raises(ValueError, match=r"schedule.power: \(3, 2\)"):
        judge(case, replace(found, power=found.power[:3]))
    with pytest.raises(ValueError, match="finite numbers"):
        judge(case, replace(found, shed=found.shed * np.nan))


def test_what_cannot_be_met_is_infeasible_or_shed_at_its_price():
    case = instance([50.0, 300.0], [{}, {}], reserves=[0.0, 10.0])
    with pytest.raises(RuntimeError, match=r"made.*infeasible"):
        UnitCommitment(case).solve()
    found = UnitCommitment(case, slack=Slack(shed=5000.0, reserve=200.0)).solve(gap=0.0)
    assert found.shed == pytest.approx([0.0, 100.0])
    assert found.short == pytest.approx([0.0, 10.0])
    assert found.price[1] == pytest.approx(5000.0)
    verdict = judge(case, found)
    assert verdict.violations == ()
    paid = verdict.cost + 5000.0 * 100.0 + 200.0 * 10.0
    assert found.objective == pytest.approx(paid)


def test_surplus_is_possible_where_it_has_a_price():
    case = instance([10.0], [{"must_run": True}])
    found = UnitCommitment(case, slack=Slack(surplus=100.0)).solve()
    assert found.surplus == pytest.approx([10.0])
    assert judge(case, found).violations == ()


def test_curves_and_starts_that_break_the_formulation_are_named():
    with pytest.raises(ValueError, match=r"unit g0: marginal costs .* fall"):
        UnitCommitment(instance([50.0], [{"slopes": (12.0, 10.0)}]))
    with pytest.raises(ValueError, match=r"unit g0: start costs .* fall"):
        UnitCommitment(instance([50.0], [{"starts": ((1, 9.0), (3, 5.0))}]))


def test_prices_are_those_of_the_marginal_unit():
    case = instance([60.0, 150.0], [{"slopes": (10.0, 12.0)}, {"slopes": (20.0, 25.0)}])
    found = UnitCommitment(case).solve(gap=0.0)
    assert found.price[1] == pytest.approx(20.0)


def grid_and_series(hours=6):
    units = [
        {"low": 50.0, "high": 200.0, "slopes": (10.0, 11.0), "base": 400.0, "ramp": 2.0},
        {"low": 10.0, "high": 80.0, "slopes": (30.0,), "base": 100.0, "min_up": 2.5},
        {"high": 60.0, "slopes": (0.0,), "renewable": True},
    ]
    units[1]["start_cost"] = (100.0, 100.0, 300.0)
    grid = small_grid(units, stores=[{}], loads=(100.0,))
    load = np.linspace(120.0, 290.0, hours)[:, None]
    return grid, Series(
        start=np.datetime64("2020-01-01T00:00", "s"),
        step=3600.0,
        load=load,
        available=np.full((hours, 1), 30.0),
        reserve=np.full(hours, 10.0),
    )


def test_a_grid_becomes_an_instance():
    grid, series = grid_and_series()
    case = from_grid(grid, series)
    units = case.thermals
    assert units.name == ("u0", "u1") and case.renewables == ("u2",)
    assert units.ramp_up == pytest.approx([120.0, np.inf])
    assert units.min_up.tolist() == [1, 3]
    assert units.on.tolist() == [True, False]
    assert units.power == pytest.approx([90.0, 0.0])
    assert np.isfinite(units.start_lag).sum(axis=1).tolist() == [1, 1]
    assert units.start_cost[1, 0] == 300.0
    found = UnitCommitment(case).solve(gap=0.0)
    assert judge(case, found).violations == ()
    assert found.on[-1].tolist() == [True, True]
    state = UnitState(
        on=np.array([True, True, False]),
        power=np.array([80.0, 10.0, 0.0]),
        hours=np.array([5.0, 1.0, 0.0]),
    )
    again = UnitCommitment(from_grid(grid, series, state=state)).solve(gap=0.0)
    assert again.on[:2, 1].tolist() == [True, True], "2.5 h of minimum up time are 3 intervals"


def test_a_series_of_another_grid_or_step_is_refused():
    grid, series = grid_and_series()
    with pytest.raises(ValueError, match=r"2 renewable columns"):
        from_grid(grid, replace(series, available=np.zeros((6, 2))))
    with pytest.raises(ValueError, match=r"300\.0 s"):
        from_grid(grid, replace(series, step=300.0))
    short = UnitState(np.ones(2, bool), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="state has 2 units"):
        from_grid(grid, series, state=short)


@pytest.mark.slow
def test_pglib_uc_objective_lies_in_its_proven_interval():
    case = read_instance(needed("pglib_uc", "rts_gmlc_2020-07-06.json"))
    model = UnitCommitment(case)
    found = model.solve(time_limit=240.0)
    assert 3_728_088.0 <= found.objective <= 3_732_900.0
    assert found.bound <= found.objective and found.gap <= 1e-3
    verdict = judge(case, found)
    assert verdict.violations == ()
    assert verdict.cost == pytest.approx(found.objective, abs=0.01)
    assert model.relax().objective <= found.bound + 1.0
