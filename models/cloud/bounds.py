"""Worst-case guarantees of scheduling and packing rules, exact optima of small cases, fair shares.

Sources: R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17 (1969);
G. Dosa and J. Sgall, "First Fit bin packing: a tight analysis" (STACS 2013) and "Optimal analysis
of Best Fit bin packing" (ICALP 2014); A. Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def graham_factor(machines: int) -> float:
    """List scheduling ends within this factor of the optimum: ``2 - 1/m`` (Graham 1969, thm 1)."""
    return 2 - 1 / machines


def lpt_factor(machines: int) -> float:
    """Longest-processing-time-first ends within ``4/3 - 1/(3m)`` of the optimum (Graham 1969)."""
    return 4 / 3 - 1 / (3 * machines)


def makespan_lower_bound(times: Sequence[float], machines: int) -> float:
    """No schedule of independent jobs ends before max(total / machines, longest job)."""
    return max(sum(times) / machines, *times)


def optimal_makespan(times: Sequence[int], machines: int) -> int:
    """Least makespan of independent jobs on identical machines, exactly.

    Depth-first search over jobs, longest first, machines of equal load taken once, cut by the best
    makespan so far. Integer times only, so that the answer is exact; meant for about 12 jobs.
    """
    jobs = sorted(times, reverse=True)
    loads = [0] * machines
    floor = math.ceil(makespan_lower_bound(jobs, machines))
    best = sum(jobs)

    def place(position: int) -> None:
        nonlocal best
        if position == len(jobs):
            best = max(loads)
            return
        tried: set[int] = set()
        for machine in range(machines):
            load = loads[machine]
            if load in tried or load + jobs[position] >= best:
                continue
            tried.add(load)
            loads[machine] = load + jobs[position]
            place(position + 1)
            loads[machine] = load
            if best == floor:
                return

    place(0)
    return best


def first_fit_guarantee(optimum: int) -> int:
    """First-fit and best-fit never use more than ``floor(1.7 OPT)`` bins (Dosa and Sgall)."""
    return 17 * optimum // 10


def optimal_bins(sizes: Sequence[int], capacity: int) -> int:
    """Least number of bins of ``capacity`` that hold ``sizes``, exactly.

    Depth-first search over items, largest first, bins of equal free space taken once, cut by the
    best packing so far and by ceil(total / capacity). Meant for about 15 items.

    Raises:
        ValueError: an item is not positive or larger than a bin.
    """
    items = sorted(sizes, reverse=True)
    for size in items:
        if not 0 < size <= capacity:
            raise ValueError(f"an item of size {size} does not fit in a bin of {capacity}")
    floor = -(-sum(items) // capacity)
    best = len(items)
    free: list[int] = []

    def place(position: int) -> None:
        nonlocal best
        if len(free) >= best:
            return
        if position == len(items):
            best = len(free)
            return
        size = items[position]
        tried: set[int] = set()
        for index, left in enumerate(free):
            if left < size or left in tried:
                continue
            tried.add(left)
            free[index] = left - size
            place(position + 1)
            free[index] = left
            if best == floor:
                return
        free.append(capacity - size)
        place(position + 1)
        free.pop()

    place(0)
    return best


def drf_tasks(
    capacity: Sequence[float], demands: Sequence[Sequence[float]]
) -> tuple[list[int], list[float]]:
    """Dominant resource fairness by progressive filling, whole tasks (Ghodsi 2011, algorithm 1).

    Again and again the user with the smallest dominant share gets one more task; a user whose next
    task no longer fits leaves. Ties go to the lower index.

    Args:
        capacity: ``[R]`` amount of each resource.
        demands: ``[U, R]`` what one task of each user takes; at least one resource each.

    Returns:
        Tasks of each user and their dominant shares.
    """
    total = np.asarray(capacity, dtype=np.float64)
    need = np.asarray(demands, dtype=np.float64)
    if need.ndim != 2 or need.shape[1] != total.size:
        raise ValueError(f"demands must have {total.size} columns, got shape {need.shape}")
    if (need < 0).any() or not (need > 0).any(axis=1).all():
        raise ValueError("every user must demand a positive amount of some resource")
    per_task = (need / total).max(axis=1)
    tasks = [0] * len(need)
    used = np.zeros_like(total)
    waiting = set(range(len(need)))
    while waiting:
        user = min(waiting, key=lambda u: (tasks[u] * per_task[u], u))
        if (used + need[user] > total).any():
            waiting.discard(user)
        else:
            used += need[user]
            tasks[user] += 1
    return tasks, [float(count * share) for count, share in zip(tasks, per_task, strict=True)]
