"""Columns and rows of the store-and-forward program, made once.

An interval k has columns (in this order) and rows

    u [M]       vehicles that leave queue m            g [P]       green shares
    x [M]       queue m at the end of the interval     z [S, B]    vehicles on link l, in slices

    balance   x_k - x_(k-1) - R'u + u = d              (x_(-1) is given)
    capacity  u - T s sum_p serve g <= T s always      (movements that signals hold)
    signal    sum_p g = 1 - lost
    storage   sum_(m on l) x - sum_b z <= 0            (= 0 where occupancy costs)
    at hand   u - x_(k-1) <= d                         (only if nobody may pass two queues at once)

Slices cost what occupancy costs, the last one, open above, the price of what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import block_array, csr_array, diags_array, eye_array, kron

from ...simulators.interface import Doubles, Ints
from .movement_graph import MovementGraph
from .store_forward_program import Box

Objective = Literal["total_time", "quadratic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a plan minimises.

    Attributes:
        objective: ``"total_time"``: vehicle seconds at the ends of intervals; ``"quadratic"``: T
            times the sum of x_l^2 / X_l, which balances links against their storage.
        segments: slopes that stand for the square.
        overflow: price of a vehicle on a link that is full, per s.
        reward: of a vehicle that leaves a queue, per s of the time that then remains. It breaks
            ties, so that nothing is held back for no reason; 0 allows that.
    """

    objective: Objective = "total_time"
    segments: int = 5
    overflow: float = 10.0
    reward: float = 1e-3

    def __post_init__(self) -> None:
        if self.objective not in ("total_time", "quadratic"):
            raise ValueError(
                f"objective must be 'total_time' or 'quadratic', got {self.objective!r}"
            )
        if self.segments < 1:
            raise ValueError(f"segments must be positive, got {self.segments}")
        if not 2.0 <= self.overflow < np.inf:
            raise ValueError(f"overflow must be 2 at least (else it bends), got {self.overflow}")
        if not 0.0 <= self.reward < 1.0:
            raise ValueError(f"reward must lie in [0, 1), got {self.reward}")


class Layout:
    """Where everything stands in an interval, and the program's constant part.

    Args:
        graph: the control problem.
        interval: T in s.
        horizon: K.
        costs: what is minimised.
        pass_through: a vehicle may pass several queues in an interval.

    Attributes:
        u, g, x, z: column slices of an interval; width: columns.
        balance, capacity, signal, storage, at_hand: row slices; height: rows.
        stored: ``[S]`` links that hold queues; held: movements with a capacity row.
        cost: ``[K, width]``; matrix: of all intervals.
        slack: what a plan's quadratic cost can exceed the true one by (chords over tangents).
    """

    def __init__(
        self,
        graph: MovementGraph,
        *,
        interval: float,
        horizon: int,
        costs: Costs,
        pass_through: bool,
    ) -> None:
        self.graph, self.interval, self.horizon, self.costs = graph, interval, horizon, costs
        self.stored: Ints = np.unique(graph.source)
        self.held: Ints = np.unique(graph.serve.nonzero()[1])
        square = costs.objective == "quadratic"
        slices = (costs.segments if square else 1) + 1
        moves, phases = graph.movements, graph.phases
        self.u, self.g, self.x, self.z = _slices(moves, phases, moves, slices * self.stored.size)
        self.width = self.z.stop
        self.balance, self.capacity, self.signal, self.storage, self.at_hand = _slices(
            moves,
            self.held.size,
            len(graph.signals),
            self.stored.size,
            0 if pass_through else moves,
        )
        self.height = self.at_hand.stop
        self._equal_storage = square
        self._slices = slices
        room = graph.storage[self.stored]
        self.slack = 0.0
        if square:
            self.slack = interval * horizon * float(room.sum()) / (4.0 * costs.segments**2)
        self.cost = self._cost()
        self.matrix = self._matrix()

    def _cost(self) -> Doubles:
        costs, room = self.costs, np.ones(self.stored.size)
        cost = np.zeros((self.horizon, self.width))
        slope = np.zeros((self._slices, room.size))
        slope[-1] = costs.overflow
        if costs.objective == "quadratic":
            # The chord of x^2 / X over slice b of n is (2 b + 1) / n steep.
            slope[:-1] = ((2.0 * np.arange(costs.segments) + 1.0) / costs.segments)[:, None]
        else:
            cost[:, self.x] = self.interval
        cost[:, self.z] = self.interval * slope.reshape(-1)
        remaining = (self.horizon - np.arange(self.horizon)) / self.horizon
        cost[:, self.u] = -costs.reward * self.interval * remaining[:, None]
        return cost

    def _matrix(self) -> csr_array:
        graph = self.graph
        one = eye_array(graph.movements, format="csr")
        capacity = self.interval * graph.saturation
        served = csr_array(diags_array(capacity) @ graph.serve.T)[self.held]
        phase = np.arange(graph.phases)
        adds = csr_array(
            (np.ones(graph.phases), (graph.phase_signal, phase)),
            shape=(len(graph.signals), graph.phases),
        )
        links = eye_array(self.stored.size, format="csr")
        slices = kron(np.ones((1, self._slices)), links, format="csr")
        now = [
            [one - graph.ratio.T, None, one, None],
            [one[self.held], -served, None, None],
            [None, adds, None, None],
            [None, None, graph.on_link[self.stored], -slices],
        ]
        if self.at_hand.stop > self.at_hand.start:
            now.append([one, None, None, None])
        within = csr_array(block_array(_complete(now, self._sizes()), format="csr"))
        before = csr_array(self._from_before(one))
        last = eye_array(self.horizon, k=-1)
        return csr_array(kron(eye_array(self.horizon), within) + kron(last, before))

    def _sizes(self) -> tuple[list[int], list[int]]:
        rows = [self.balance, self.capacity, self.signal, self.storage, self.at_hand]
        columns = [self.u, self.g, self.x, self.z]
        return [r.stop - r.start for r in rows], [c.stop - c.start for c in columns]

    def _from_before(self, one: csr_array) -> csr_array:
        place = one.tocoo()
        starts = [self.balance.start]
        if self.at_hand.stop > self.at_hand.start:
            starts.append(self.at_hand.start)
        rows = np.concatenate([place.row + start for start in starts])
        columns = np.tile(place.col + self.x.start, len(starts))
        return csr_array(
            (-np.ones(rows.size), (rows, columns)), shape=(self.height, self.width)
        )

    def box(self, queue: Doubles, arrivals: Doubles) -> Box:
        """Bounds from the present queues ``[M]`` and arrivals ``[K, M]``."""
        graph, shape = self.graph, (self.horizon, self.width)
        lower, upper = np.zeros(shape), np.full(shape, np.inf)
        always = self.interval * graph.saturation * graph.always
        upper[:, self.u] = always
        upper[:, self.u][:, self.held] = np.inf
        lower[:, self.g], upper[:, self.g] = graph.low, graph.high
        upper[:, self.z][:, : -self.stored.size] = np.tile(
            graph.storage[self.stored] / (self._slices - 1), self._slices - 1
        )
        rows = (self.horizon, self.height)
        row_lower, row_upper = np.full(rows, -np.inf), np.zeros(rows)
        given = arrivals.copy()
        given[0] += queue
        row_lower[:, self.balance] = row_upper[:, self.balance] = given
        row_upper[:, self.capacity] = always[self.held]
        row_lower[:, self.signal] = row_upper[:, self.signal] = 1.0 - graph.lost
        if self._equal_storage:
            row_lower[:, self.storage] = 0.0
        if self.at_hand.stop > self.at_hand.start:
            row_upper[:, self.at_hand] = given
        return Box(lower.ravel(), upper.ravel(), row_lower.ravel(), row_upper.ravel())

    def finite(self, box: Box, vehicles: float) -> Box:
        """The same box closed by what every plan keeps to: no more vehicles than there are."""
        most = np.full((self.horizon, self.width), vehicles)
        full = self.graph.rate(self.graph.high)
        most[:, self.u] = self.interval * full
        return Box(box.lower, np.minimum(box.upper, most.ravel()), box.row_lower, box.row_upper)


def _slices(*sizes: int) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _complete(
    blocks: list[list[csr_array | None]], sizes: tuple[list[int], list[int]]
) -> list[list[csr_array]]:
    """Empty blocks of the right size for ``None``."""
    return [
        [csr_array((rows, columns)) if block is None else csr_array(block)
         for block, columns in zip(line, sizes[1], strict=True)]
        for line, rows in zip(blocks, sizes[0], strict=False)
    ]
