"""Guarantees of placement and scheduling rules, against exact optima of small cases."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...models.cloud.bounds import (
    drf_tasks,
    first_fit_guarantee,
    graham_factor,
    lpt_factor,
    makespan_lower_bound,
    optimal_bins,
    optimal_makespan,
)
from ...simulators.cloud.event_mode import NodeSpec, run_event_mode, to_only
from ...simulators.cloud.openb import OpenbNodes, OpenbPods
from ...simulators.cloud.packing import Arrivals, pack
from ...simulators.cloud.packing_policies import BestFit, Machines, Pod, Policy
from ...simulators.interface import Doubles, Ints
from ..rows import Row
from .suites import Check

CAPACITY = 100
"""Size of a bin, in units of 1,280 milli-cores; a bin is the largest node that BestFit scores."""
_UNIT = 1_280


class FirstFit(Policy):
    """The first node that can host the pod (with ties by index)."""

    name = "FirstFit"

    def scores(self, machines: Machines, pod: Pod, rows: Ints) -> Ints:
        """Every feasible node is as good as another."""
        del machines, pod
        return np.zeros(rows.shape[0], dtype=np.int64)


def checks(*, quick: bool) -> list[Check]:
    """Deterministic checks; the quick set looks at fewer cases."""
    cases = 40 if quick else 400
    return [
        Check("packing bounds of first-fit and best-fit", partial(packing, cases), cases / 100),
        Check("makespan bounds of list scheduling and LPT", partial(makespan, cases), cases / 50),
        Check("dominant resource fairness, worked example", fairness, 0.1),
    ]


def bins_used(policy: Policy, sizes: list[int]) -> int:
    """Bins that the packing simulator opens for items of these sizes, in this order."""
    count = len(sizes)
    names = tuple(str(index) for index in range(count))
    zero, room = np.zeros(count, dtype=np.int64), np.full(count, CAPACITY * _UNIT)
    nodes = OpenbNodes(
        name=names,
        cpu_milli=room,
        memory_mib=zero,
        gpus=zero,
        models=(),
        model=np.full(count, -1),
    )
    unknown = np.full(count, np.nan)
    pods = OpenbPods(
        name=names,
        cpu_milli=np.array(sizes) * _UNIT,
        memory_mib=zero,
        gpus=zero,
        gpu_milli=zero,
        gpu_spec=("",) * count,
        qos=("",) * count,
        phase=("",) * count,
        created=unknown,
        deleted=unknown,
        scheduled=unknown,
    )
    arrivals = Arrivals(np.arange(count), ties="index")
    placed = pack(nodes, pods, policy, arrivals, np.random.default_rng(0)).placed
    if (placed < 0).any():
        raise RuntimeError("an item found no bin although there is one for each")
    return int(np.unique(placed).size)


def packing(cases: int) -> list[Row]:
    """Bins of first-fit and best-fit never exceed floor(1.7 OPT), and never undercut OPT.

    Sizes are multiples of 4 units: BestFit's whole scores then tell all levels apart.
    """
    rng = np.random.default_rng(0)
    worst = {"first-fit": 0.0, "best-fit": 0.0}
    least = {"first-fit": np.inf, "best-fit": np.inf}
    for _ in range(cases):
        largest = int(rng.integers(8, 25))
        sizes = (4 * rng.integers(1, largest + 1, size=int(rng.integers(6, 14)))).tolist()
        optimum = optimal_bins(sizes, CAPACITY)
        for name, policy in (("first-fit", FirstFit()), ("best-fit", BestFit())):
            used = bins_used(policy, sizes)
            worst[name] = max(worst[name], used / first_fit_guarantee(optimum))
            least[name] = min(least[name], used / optimum)
    rows: list[Row] = []
    for name, most in worst.items():
        title = f"{name}, {cases} small cases: bins over"
        rows += [
            Row.at_most(f"{title} floor(1.7 OPT), worst", most, "1", 1.0),
            Row.at_least(f"{title} OPT, best", least[name], "1", 1.0),
        ]
    # Six small, six medium, six large items in this order: 10 bins, where 6 would do (10/6 < 1.7).
    adverse = [14] * 6 + [34] * 6 + [52] * 6
    optimum = optimal_bins([14, 34, 52] * 2, CAPACITY) * 3
    rows.append(Row.near("first-fit, adverse order: optimal bins", optimum, "1", 6, 0))
    used = bins_used(FirstFit(), adverse)
    rows.append(Row.near("first-fit, adverse order: bins", used, "1", 10, 0))
    return rows


def simulated_makespan(times: list[int], machines: int) -> float:
    """When a station with ``machines`` servers has served jobs that are all there at time 0."""

    def at_once(_rng: np.random.Generator, number: int) -> Doubles:
        return np.zeros(number)

    def listed(_rng: np.random.Generator, number: int) -> Doubles:
        return np.resize(np.array(times, dtype=np.float64), number)

    return run_event_mode(
        nodes=[NodeSpec("fcfs", servers=machines)],
        arrivals=at_once,
        sizes=listed,
        route=to_only(),
        seed=0,
        jobs=len(times),
    ).duration


def makespan(cases: int) -> list[Row]:
    """Makespans of a multi-server station stay within Graham's factors of the optimum."""
    rng = np.random.default_rng(0)
    listed, longest, least, floor = 0.0, 0.0, np.inf, np.inf
    for _ in range(cases):
        machines = int(rng.integers(2, 5))
        times = rng.integers(1, 31, size=int(rng.integers(5, 12))).tolist()
        optimum = optimal_makespan(times, machines)
        in_order = simulated_makespan(times, machines)
        sorted_first = simulated_makespan(sorted(times, reverse=True), machines)
        listed = max(listed, in_order / optimum / graham_factor(machines))
        longest = max(longest, sorted_first / optimum / lpt_factor(machines))
        least = min(least, in_order / optimum, sorted_first / optimum)
        floor = min(floor, in_order / makespan_lower_bound(times, machines))
    title = f"{cases} small cases"
    # Graham's own worst cases for four machines.
    tight_list = simulated_makespan([1] * 12 + [4], 4)
    tight_lpt = simulated_makespan([7, 7, 6, 6, 5, 5, 4, 4, 4], 4)
    return [
        Row.at_most(f"list scheduling, {title}: makespan over (2 - 1/m) OPT", listed, "1", 1.0),
        Row.at_most(f"LPT, {title}: makespan over (4/3 - 1/(3m)) OPT", longest, "1", 1.0),
        Row.at_least(f"list scheduling and LPT, {title}: makespan over OPT", least, "1", 1.0),
        Row.at_least(f"list scheduling, {title}: makespan over area bound", floor, "1", 1.0),
        Row.near("list scheduling, Graham's worst case: makespan", tight_list, "s", 7.0, 1e-9),
        Row.near("LPT, Graham's worst case: makespan", tight_lpt, "s", 15.0, 1e-9),
    ]


def fairness() -> list[Row]:
    """Two users on 9 CPUs and 18 GB: three tasks of (1, 4) and two of (3, 1) (NSDI 2011)."""
    tasks, shares = drf_tasks([9, 18], [[1, 4], [3, 1]])
    return [
        Row.near("DRF worked example: tasks of user A", tasks[0], "1", 3, 0),
        Row.near("DRF worked example: tasks of user B", tasks[1], "1", 2, 0),
        Row.near("DRF worked example: gap of dominant shares", shares[0] - shares[1], "1", 0, 1e-9),
    ]
