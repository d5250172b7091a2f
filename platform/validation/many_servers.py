"""Several servers against Erlang's formulas, the square-root split, JSQ(d) and the fluid limit."""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np

from ...models.cloud.planning import PlanningSolver
from ...models.cloud.queueing import (
    erlang_b,
    erlang_c,
    jsq_response,
    mmc_wait,
    square_root_split,
)
from ...simulators.cloud.event_mode import (
    Chooser,
    NodeSpec,
    power_of_two,
    random_split,
    run_event_mode,
    to_only,
)
from ...simulators.cloud.sizes import SizeLaw
from ...simulators.interface import Doubles
from ..rows import Row
from .intervals import SEEDS, Effort, Oracle, interval_rows
from .suites import Check

EXPONENTIAL = SizeLaw(law="exponential")
BLOCKING_LAWS = {
    "exponential": (EXPONENTIAL, 50_000),
    "deterministic": (SizeLaw(law="deterministic"), 50_000),
    "hyper-exponential (SCV 10)": (SizeLaw(law="hyperexponential", scv=10.0), 300_000),
}
"""Service law and jobs per seed of the Erlang B checks (variance constants 25, 9, 197)."""
QUEUES = ((2, 1.6, 300_000, 0.03), (10, 8.0, 600_000, 0.03), (100, 90.0, 1_000_000, 0.05))
"""Servers, offered erlangs, jobs per seed, accepted half-width of the Erlang C checks (variance
constants of the mean wait 212, 431, 2168)."""
SPEEDS = (1.0, 2.0, 4.0, 8.0, 16.0)
SPLITS = ((0.3, 50_000), (0.5, 50_000), (0.8, 200_000))
"""Load and jobs per seed of the square-root splits (variance constants 6, 18, 107)."""
JSQ_LOAD = 0.8


def checks(*, quick: bool) -> list[Check]:
    """All checks of several servers."""
    listed: list[Check] = []

    for servers, offered, jobs, narrow in QUEUES:
        effort = Effort(jobs, quick)
        work = partial(waiting, servers, offered, narrow, effort)
        listed.append(Check(f"Erlang C, {servers} servers", work, effort.seconds))
    for name, (_, jobs) in BLOCKING_LAWS.items():
        effort = Effort(jobs, quick)
        work = partial(blocking, name, effort)
        listed.append(Check(f"Erlang B insensitivity, {name}", work, effort.seconds))
    for load, jobs in SPLITS:
        effort = Effort(jobs, quick)
        work = partial(static_split, load, effort)
        listed.append(Check(f"square-root split simulated, load {load:g}", work, effort.seconds))
    effort = Effort(400_000, quick)
    listed.append(Check("JSQ(2) mean field", partial(two_choices, effort), 2 * effort.seconds))
    horizon, accepted = (400.0, 0.1) if quick else (4_000.0, 0.02)
    work = partial(stability, horizon, accepted)
    listed.append(Check("stability boundary", work, horizon / 500))
    return listed


def waiting(servers: int, offered: float, narrow: float, effort: Effort) -> list[Row]:
    """Probability of waiting and mean wait of M/M/c at unit service rate."""

    def run(seed: int, jobs: int) -> tuple[float, float]:
        result = run_event_mode(
            nodes=[NodeSpec("fcfs", servers=servers)],
            arrivals=offered,
            sizes=EXPONENTIAL,
            route=to_only(),
            seed=seed,
            jobs=jobs,
        )
        return result.delayed, result.mean_wait

    title = f"M/M/{servers} with {offered:g} erlangs"
    probability = erlang_c(servers=servers, offered=offered)
    mean = mmc_wait(servers=servers, arrival_rate=offered, service_rate=1.0)
    oracles = [
        Oracle(f"{title}: probability of waiting", probability, "1", narrow=narrow),
        Oracle(f"{title}: mean wait", mean, "s", narrow=narrow),
    ]
    return interval_rows(oracles, run, effort)


def blocking(name: str, effort: Effort) -> list[Row]:
    """Share of rejected jobs of M/G/10/10 with 8 erlangs: Erlang B for every service law."""
    law, _ = BLOCKING_LAWS[name]

    def run(seed: int, jobs: int) -> tuple[float]:
        result = run_event_mode(
            nodes=[NodeSpec("fcfs", servers=10, limit=10)],
            arrivals=8.0,
            sizes=law,
            route=to_only(),
            seed=seed,
            jobs=jobs,
        )
        return (result.rejected / result.arrivals,)

    expected = erlang_b(servers=10, offered=8.0)
    return interval_rows([Oracle(f"M/G/10/10, {name}: blocking", expected, "1")], run, effort)


def static_split(load: float, effort: Effort) -> list[Row]:
    """Mean response when Poisson jobs are split over five PS stations by the square-root rule."""
    rate = load * sum(SPEEDS)
    split = square_root_split(arrival_rate=rate, service_rates=SPEEDS)
    nodes = [NodeSpec("ps", speed) for speed in SPEEDS]

    def run(seed: int, jobs: int) -> tuple[float]:
        result = run_event_mode(
            nodes=nodes,
            arrivals=rate,
            sizes=EXPONENTIAL,
            route=random_split(split.flow),
            seed=seed,
            jobs=jobs,
        )
        return (result.mean_response,)

    name = f"square-root split simulated, load {load:g}: mean response"
    return interval_rows([Oracle(name, split.response, "s")], run, effort)


def two_choices(effort: Effort) -> list[Row]:
    """JSQ(2) over PS stations tends to the mean field as their number grows.

    The finite system has a bias of order 1 / N, so the mark is a distance, not an interval. The
    first fifth of every run is left out.
    """
    expected = jsq_response(load=JSQ_LOAD, choices=2)

    def run(stations: int, jobs: int) -> Doubles:
        means = [
            run_event_mode(
                nodes=[NodeSpec("ps")] * stations,
                arrivals=JSQ_LOAD * stations,
                sizes=EXPONENTIAL,
                route=power_of_two(),
                seed=seed,
                jobs=jobs,
                warmup=jobs // 5,
            ).mean_response
            for seed in SEEDS
        ]
        return np.array(means)

    many, few = run(200, effort.per_seed), run(5, effort.per_seed // 5)
    error, small_error = abs(many.mean() - expected), abs(few.mean() - expected)
    standard_error = float(many.std(ddof=1) / np.sqrt(len(SEEDS)))
    accepted = 0.005 * expected * effort.slack
    return [
        Row.near("JSQ(2), N = 200, load 0.8: mean response", many.mean(), "s", expected, accepted),
        Row.at_most(
            "JSQ(2), N = 200: standard error, relative",
            standard_error / expected,
            "1",
            0.0025 * effort.slack,
        ),
        Row.at_least("JSQ(2): error of N = 5 over error of N = 200", small_error / error, "1", 1.0),
    ]


# Two nodes each of three types serve three classes; the planning optimum loads all types equally.
_SERVICE = np.array([[1.0, 3.0, 0.0], [2.0, 1.0, 2.0], [0.0, 1.5, 4.0]])
_PER_TYPE = 2
_MIX = np.array([3.0, 2.0, 3.0])


def stability(horizon: float, accepted: float) -> list[Row]:
    """Routed by the planning program, queues below rho* = 1 stay short, above 1 they grow.

    Above the boundary every node is always busy and serves a share 1 / rho* of what it is sent, so
    the backlog grows by ``lambda (1 - 1 / rho*)`` jobs per second. Over ``horizon`` seconds the
    mean of all seeds must agree with that within the share ``accepted``.
    """
    solver = PlanningSolver(_SERVICE)
    count = np.full(_SERVICE.shape[1], float(_PER_TYPE))
    boundary = solver.solve(_MIX, count).rho
    rows: list[Row] = []
    for rho in (0.95, 1.2):
        rate = _MIX * rho / boundary
        planned = solver.solve(rate, count)
        growth = float(np.mean([_backlog(seed, planned.flow, horizon) for seed in SEEDS])) / horizon
        name = f"stability boundary, rho* = {rho:g}"
        rows.append(Row.near(f"{name}: planning program", planned.rho, "1", rho, 1e-8))
        total = float(rate.sum())
        if rho < 1:
            title = f"{name}: backlog growth over arrival rate"
            rows.append(Row.at_most(title, growth / total, "1", accepted / 2))
        else:
            slope = total * (1 - 1 / rho)
            title = f"{name}: backlog growth against the fluid slope"
            rows.append(Row.near(title, growth, "jobs/s", slope, accepted * slope))
    return rows


def _backlog(seed: int, flow: Doubles, horizon: float) -> int:
    """Jobs in system after the horizon when class k goes to type j at the rate ``flow[k, j]``.

    A job's class and node are drawn with its size, which is its service time there.
    """
    share = (flow / flow.sum()).ravel()
    drawn: deque[int] = deque()

    def sizes(rng: np.random.Generator, number: int) -> Doubles:
        drawn.clear()  # a sample that no job used: the one that sets the size deciles
        kind, node_type = np.divmod(rng.choice(flow.size, number, p=share), flow.shape[1])
        drawn.extend((node_type * _PER_TYPE + rng.integers(_PER_TYPE, size=number)).tolist())
        return 1.0 / _SERVICE[kind, node_type]

    def route(_counts: list[int], _rng: np.random.Generator) -> Chooser:
        return lambda _size: drawn.popleft()

    result = run_event_mode(
        nodes=[NodeSpec("fcfs")] * (_PER_TYPE * flow.shape[1]),
        arrivals=float(flow.sum()),
        sizes=sizes,
        route=route,
        seed=seed,
        horizon=horizon,
        drain=False,
    )
    return result.left
