"""Joint placements that fit: what agents who decide at once may do to one node together.

Every agent's mask says what fits *alone*. Together:

- nodes with a job limit: jobs seen there plus placements stay within it (a count, exact);
- nodes with exclusive resources: summed demands stay within the free CPU, memory and GPU that the
  observation shows. CPU and memory are exact; of GPUs only the node's total is observed, so the sum
  is a necessary condition and the node itself refuses the rest.

On a node that cannot take all who want it the jobs that have waited longest are served first
(among equals the lower row), each if it still fits. Displaced agents then choose, in the same
order, the cheapest of their legal candidates that still has room, and hold if there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..simulators.interface import HOLD, Bools, Doubles, Floats, Ints, Observation, Spec
from .decision.arrays import among, every
from .decision.types import Cause, Projected

_GAP = 1e-6
"""Relative slack of sums of float32 columns, below any whole unit that they stand for."""


class Room(Protocol):
    """How much of a node's shared capacity there is, and how much of it a job takes."""

    def demand(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        """``[rows, R]`` what each placement takes."""
        ...

    def free(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        """``[rows, R]`` what its agent sees free on the node, before anybody moves."""
        ...


class JobLimit:
    """At most ``limit`` jobs on a node."""

    def __init__(self, spec: Spec, limit: int):
        self._jobs, self._limit = spec.candidate_column("jobs"), limit

    def demand(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        del observation, chosen
        return np.ones((row.shape[0], 1))

    def free(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        jobs = observation.candidates[row, chosen, self._jobs]
        return (self._limit - jobs.astype(np.float64))[:, None]


class Vectors:
    """CPU, memory and GPU that jobs hold exclusively."""

    def __init__(self, spec: Spec):
        column = spec.candidate_column
        self._free = np.array([column("cpu_free"), column("mem_free"), column("gpu_free")])
        own = spec.agent_column
        self._cpu, self._memory = own("cpu"), own("mem")
        self._milli, self._gpus = own("gpu_milli"), own("gpu_count")

    def demand(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        del chosen
        agent = observation.agent[row].astype(np.float64)
        gpu = agent[:, self._milli] * agent[:, self._gpus]
        return np.stack([agent[:, self._cpu], agent[:, self._memory], gpu], axis=1)

    def free(self, observation: Observation, row: Ints, chosen: Ints) -> Doubles:
        return observation.candidates[row[:, None], chosen[:, None], self._free].astype(np.float64)


@dataclass(slots=True)
class _Node:
    """What was promised of one node: who asks sees ``free``, the least of all views counts."""

    count: int
    used: Doubles
    free: Doubles

    def takes(self, demand: Doubles, free: Doubles) -> bool:
        """Accept one more placement if it fits; the first on a node always does, by its mask."""
        least = np.minimum(self.free, free)
        total = self.used + demand
        if self.count and (total > least + _GAP * np.maximum(least, 1.0)).any():
            return False
        self.count, self.used, self.free = self.count + 1, total, least
        return True


def project(
    observation: Observation,
    wanted: Ints,
    *,
    cost: Callable[[], Floats],
    room: Room | None,
    age: int | None,
) -> Projected:
    """Feasible choices nearest to the wanted ones; see the module.

    Args:
        observation: of ``n`` agents.
        wanted: ``[n]``; numbers that are no candidates count as illegal.
        cost: gives ``[n, K]`` the price of each candidate, ``inf`` where it must not be chosen;
            called only if somebody has to move.
        room: shared capacity, ``None`` without any.
        age: agent column of the waiting time; ``None``: rows in their order.
    """
    size, count = observation.mask.shape
    rows = np.arange(size)
    if wanted.dtype == np.int64 and among(wanted, count):
        actions = wanted.copy()
        legal = _legal(observation, actions)
    else:
        inside = (wanted >= 0) & (wanted < count)
        actions = np.where(inside, wanted, HOLD).astype(np.int64)
        legal = inside & _legal(observation, actions)
    full = None if room is None else _crowded(observation, rows, actions, legal, room)
    cause = np.zeros(wanted.shape[0], np.int8)
    if full is None and every(legal):
        return Projected(actions, cause, np.zeros(wanted.shape[0], np.float32))
    cause[~legal] = Cause.LEGALITY
    order = _order(observation, age)
    if room is None:
        actions[~legal] = np.argmin(_without_hold(cost()[~legal]), axis=1)
    else:
        kept = legal if full is None else _serve(legal, order, full)
        cause[legal & ~kept] = Cause.COUPLING
        _move(observation, actions, kept, order, cost(), room)
    changed = actions != wanted
    return Projected(actions, np.where(changed, cause, 0).astype(np.int8), changed.astype("f4"))


def _legal(observation: Observation, actions: Ints) -> Bools:
    """``[n]`` hold, or on offer to an agent with something to decide."""
    size, count = observation.mask.shape
    offered = observation.mask.reshape(-1).take(np.arange(0, size * count, count) + actions)
    offered &= observation.active
    offered |= actions == HOLD
    return offered


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Placements on nodes that are wanted by more than they can take, ``[c]`` rows."""

    row: Ints
    node: Ints
    demand: Doubles
    free: Doubles


def _crowded(
    observation: Observation, rows: Ints, actions: Ints, legal: Bools, room: Room
) -> _Crowd | None:
    placing = rows[legal & (actions != HOLD)]
    node = observation.target[placing, actions[placing]]
    order = np.argsort(node, kind="stable")
    ordered = node[order]
    again = ordered[1:] == ordered[:-1]
    if not again.any():
        return None
    placing, node = placing[order], ordered
    start = np.flatnonzero(np.concatenate([[True], ~again]))
    size = np.diff(np.append(start, node.shape[0]))
    chosen = actions[placing]
    demand = room.demand(observation, placing, chosen)
    free = room.free(observation, placing, chosen)
    least = np.minimum.reduceat(free, start, axis=0)
    over = np.add.reduceat(demand, start, axis=0) > least + _GAP * np.maximum(least, 1.0)
    crowded = np.repeat(over.any(axis=1) & (size > 1), size)
    if not crowded.any():
        return None
    return _Crowd(placing[crowded], node[crowded], demand[crowded], free[crowded])


def _serve(legal: Bools, order: Ints, crowd: _Crowd) -> Bools:
    """``[n]`` who keeps the wanted choice."""
    kept = legal.copy()
    rank = np.empty_like(order)
    rank[order] = np.arange(order.shape[0])
    least: dict[int, Doubles] = {}
    for node, free in zip(crowd.node.tolist(), crowd.free, strict=True):
        least[node] = np.minimum(least[node], free) if node in least else free
    nodes: dict[int, _Node] = {}
    for at in np.argsort(rank[crowd.row], kind="stable").tolist():
        name = int(crowd.node[at])
        found = nodes.setdefault(name, _Node(0, np.zeros_like(least[name]), least[name]))
        kept[crowd.row[at]] = found.takes(crowd.demand[at], least[name])
    return kept


def _move(
    observation: Observation, actions: Ints, kept: Bools, order: Ints, cost: Floats, room: Room
) -> None:
    """Give everyone who does not keep the wanted choice the best one that is left."""
    placed = np.flatnonzero(kept & (actions != HOLD))
    nodes: dict[int, _Node] = {}
    targets = observation.target[placed, actions[placed]].tolist()
    demand = room.demand(observation, placed, actions[placed])
    free = room.free(observation, placed, actions[placed])
    for at, name in enumerate(targets):
        found = nodes.get(name)
        if found is None:
            nodes[name] = _Node(1, demand[at], free[at])
        else:
            found.count += 1
            found.used = found.used + demand[at]
            found.free = np.minimum(found.free, free[at])
    for row in order[~kept[order]].tolist():
        actions[row] = _best_left(observation, row, cost[row], nodes, room)


def _best_left(
    observation: Observation, row: int, cost: Floats, nodes: dict[int, _Node], room: Room
) -> int:
    candidates = np.argsort(cost[1:], kind="stable") + 1
    candidates = candidates[np.isfinite(cost[candidates])]
    where = np.full(candidates.shape[0], row)
    demand = room.demand(observation, where, candidates)
    free = room.free(observation, where, candidates)
    for at, candidate in enumerate(candidates.tolist()):
        name = int(observation.target[row, candidate])
        found = nodes.setdefault(name, _Node(0, np.zeros_like(free[at]), free[at]))
        if found.takes(demand[at], free[at]):
            return int(candidate)
    return HOLD


def _order(observation: Observation, age: int | None) -> Ints:
    rows = np.arange(observation.active.shape[0])
    if age is None:
        return rows
    return np.argsort(-np.nan_to_num(observation.agent[:, age]), kind="stable")


def _without_hold(cost: Floats) -> Floats:
    """Costs under which hold is taken only if nothing else is possible."""
    result = cost.copy()
    result[:, HOLD] = np.finfo(np.float32).max
    return result
