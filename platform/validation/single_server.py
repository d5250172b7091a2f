"""One station against Pollaczek-Khinchine, Lindley, processor-sharing insensitivity and itself."""

from __future__ import annotations

from functools import partial
from math import inf, sqrt

import numpy as np

from ...models.cloud.queueing import lindley_waits, pollaczek_khinchine_wait, ps_response
from ...simulators.cloud.event_mode import EventResult, NodeSpec, run_event_mode, to_only
from ...simulators.cloud.sizes import SizeLaw
from ...simulators.interface import Doubles
from ...simulators.streams import Streams
from ..rows import Row
from .intervals import SEEDS, STUDENT, Effort, Oracle, interval_rows
from .shortest_first import shortest_first
from .suites import Check

LAWS = {
    "exponential": SizeLaw(law="exponential"),
    "deterministic": SizeLaw(law="deterministic"),
    "hyper-exponential (SCV 10)": SizeLaw(law="hyperexponential", scv=10.0),
    "bounded Pareto": SizeLaw(law="pareto"),
}
KENDALL = {
    "M/M/1": "exponential",
    "M/D/1": "deterministic",
    "M/H2/1 (SCV 10)": "hyper-exponential (SCV 10)",
}
FCFS_LOAD = 0.8
PS_LOAD = 0.7

# Jobs per seed for a 99 % half-width of 3 % by Whitt's formula, and half as many again: 68,000 for
# M/M/1, 34,000 for M/D/1, 380,000 for M/H2/1; never fewer than 200,000.
_PK_JOBS = {"M/M/1": 200_000, "M/D/1": 200_000, "M/H2/1 (SCV 10)": 400_000}
# Variance constants (as queueing.wait_relative_variance) from trials: 52, 12, 110 to 380, 54.
_PS_JOBS = {
    "exponential": 100_000,
    "deterministic": 100_000,
    "hyper-exponential (SCV 10)": 300_000,
    "bounded Pareto": 100_000,
}


def checks(*, quick: bool) -> list[Check]:
    """All checks of single stations."""
    listed: list[Check] = []
    for name, jobs in _PK_JOBS.items():
        effort = Effort(jobs, quick)
        work = partial(pollaczek_khinchine, name, effort)
        listed.append(Check(f"{name} against Pollaczek-Khinchine", work, effort.seconds))
    for name, jobs in _PS_JOBS.items():
        effort = Effort(jobs, quick)
        work = partial(insensitivity, name, effort)
        listed.append(Check(f"PS insensitivity, {name}", work, effort.seconds))
    listed.append(Check("FCFS waits against Lindley's recursion", lindley, 1.0))
    listed.append(Check("work conservation of FCFS, PS and SJF", work_conservation, 1.0))
    return listed


def _run(discipline: str, *, law: SizeLaw, rate: float, seed: int, jobs: int) -> EventResult:
    node = NodeSpec("ps") if discipline == "ps" else NodeSpec("fcfs")
    return run_event_mode(
        nodes=[node], arrivals=rate, sizes=law, route=to_only(), seed=seed, jobs=jobs
    )


def pollaczek_khinchine(name: str, effort: Effort) -> list[Row]:
    """Mean wait of an FCFS station at load 0.8."""
    law = LAWS[KENDALL[name]]
    expected = pollaczek_khinchine_wait(
        arrival_rate=FCFS_LOAD, mean=1.0, scv=law.squared_variation()
    )

    def run(seed: int, jobs: int) -> tuple[float]:
        return (_run("fcfs", law=law, rate=FCFS_LOAD, seed=seed, jobs=jobs).mean_wait,)

    oracle = Oracle(f"{name}, load 0.8: mean wait", expected, "s", level=0.99)
    return interval_rows([oracle], run, effort)


def insensitivity(name: str, effort: Effort) -> list[Row]:
    """Mean response of a PS station whatever the law; slowdown equal in every decile of size."""
    law = LAWS[name]
    expected = ps_response(load=PS_LOAD, size=law.mean)
    slowdowns: list[Doubles] = []

    def run(seed: int, jobs: int) -> tuple[float]:
        result = _run("ps", law=law, rate=PS_LOAD, seed=seed, jobs=jobs)
        slowdowns.append(result.size_slowdown)
        return (result.mean_response,)

    title = f"M/G/1-PS, {name}, load 0.7"
    rows = interval_rows([Oracle(f"{title}: mean response", expected, "s")], run, effort)
    if law.law != "deterministic":
        rows += _flat(title, np.array(slowdowns), expected / law.mean, effort)
    return rows


def _flat(title: str, slowdowns: Doubles, expected: float, effort: Effort) -> list[Row]:
    """Each decile's interval must hold the same value; ten intervals, so at 99.99 % each."""
    error = slowdowns.std(axis=0, ddof=1) / sqrt(len(SEEDS))
    distance = np.abs(slowdowns.mean(axis=0) - expected) / error
    widest = float((STUDENT[0.9999] * error).max() / expected)
    return [
        Row.at_most(
            f"{title}: slowdown of the worst size decile, standard errors from 1/(1 - load)",
            float(distance.max()),
            "1",
            STUDENT[0.9999],
        ),
        Row.at_most(
            f"{title}: widest half-width of a decile's slowdown, relative",
            widest,
            "1",
            0.05 * effort.slack,
        ),
    ]


def _stream(law: SizeLaw, rate: float, jobs: int) -> tuple[Doubles, Doubles]:
    """Arrival times and sizes that ``run_event_mode`` draws for seed 0."""
    streams = Streams(0)
    gaps = streams.generator("arrivals").exponential(1.0 / rate, jobs)
    return np.cumsum(gaps), law.sample(streams.generator("sizes"), jobs)


def _departures(discipline: str, law: SizeLaw, rate: float, jobs: int) -> Doubles:
    """Departure times in order, of seed 0."""
    node = NodeSpec("ps") if discipline == "ps" else NodeSpec("fcfs")
    result = run_event_mode(
        nodes=[node], arrivals=rate, sizes=law, route=to_only(), seed=0, jobs=jobs, trace=True
    )
    return np.array([time for time, _, change in result.trace if change < 0])


def lindley() -> list[Row]:
    """On one path every single FCFS wait equals Lindley's recursion."""
    jobs, rows = 4096, list[Row]()
    for name, law in KENDALL.items():
        arrival, size = _stream(LAWS[law], FCFS_LOAD, jobs)
        waits = _departures("fcfs", LAWS[law], FCFS_LOAD, jobs) - size - arrival
        expected = lindley_waits(np.diff(arrival, prepend=0.0), size)
        gap = float(np.abs(waits - expected).max())
        rows.append(Row.near(f"{name}: largest gap to Lindley's recursion", gap, "s", 0.0, 1e-8))
    return rows


def work_conservation() -> list[Row]:
    """FCFS, PS and shortest-job-first on one station begin and end the same busy periods."""
    law, rate, jobs = LAWS["bounded Pareto"], 0.9, 4096
    arrival, size = _stream(law, rate, jobs)
    first = _busy_ends(arrival, _departures("fcfs", law, rate, jobs))
    others = {
        "PS": _busy_ends(arrival, _departures("ps", law, rate, jobs)),
        "SJF": _busy_ends(arrival, np.sort(shortest_first(arrival, size))),
    }
    rows = [Row.at_least("work conservation: busy periods compared", first.size, "1", 100)]
    for name, other in others.items():
        same = other.size == first.size
        gap = float(np.abs(other - first).max() / first[-1]) if same else inf
        title = f"work conservation: largest gap of busy periods of FCFS and {name}, relative"
        rows.append(Row.near(title, gap, "1", 0.0, 1e-9))
    return rows


def _busy_ends(arrival: Doubles, departure: Doubles) -> Doubles:
    """Instants at which the system becomes empty."""
    arrived = np.searchsorted(arrival, departure, side="right")
    return departure[arrived == np.arange(1, departure.size + 1)]
