"""Columns and rows of the store-and-forward program, made once.

An interval k has columns (in this order) and rows

    u [M]       vehicles that leave queue m       g [P]       green shares
    w [M]       vehicles that stay                z [B, S]    vehicles on link l, in B slices

    balance   w_k + u_k - w_(k-1) - R'u_(k-1) = d_k      queues after k: w_k + R'u_k
    capacity  u - T s sum_p serve g <= T s always        (movements that signals hold)
    signal    sum_p g = 1 - lost
    storage   queues on link l - sum_b z <= 0            (= 0 where occupancy costs)

and w_(-1) = queues now. Where a vehicle may pass several queues in an interval, balance has R'u_k
instead, and the queues after k are w_k. Slices cost what occupancy costs, and the last one, open
above, the price of what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    segments: int = 3
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
        u, g, w, z: column slices of an interval; width: columns.
        balance, capacity, signal, storage: row slices; height: rows.
        stored: ``[S]`` links that hold queues; held: movements with a capacity row.
        cost: ``[K, width]``; matrix: of all intervals.
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
        self.pass_through = pass_through
        self.square = costs.objective == "quadratic"
        self.slices = (costs.segments if self.square else 1) + 1
        moves, links = graph.movements, self.stored.size
        self.u, self.g, self.w, self.z = _slices(moves, graph.phases, moves, self.slices * links)
        self.width = self.z.stop
        self.balance, self.capacity, self.signal, self.storage = _slices(
            moves, self.held.size, len(graph.signals), links
        )
        self.height = self.storage.stop
        self.cost = self._cost()
        self.matrix = self._matrix()

    def queues(self, x: Doubles) -> Doubles:
        """``[K, M]`` after each interval, of columns ``[K, width]``."""
        stay = x[:, self.w]
        return stay if self.pass_through else stay + x[:, self.u] @ self.graph.ratio

    def _cost(self) -> Doubles:
        costs, graph = self.costs, self.graph
        cost = np.zeros((self.horizon, self.width))
        slope = np.zeros((self.slices, self.stored.size))
        slope[-1] = costs.overflow
        if self.square:
            # The chord of x^2 / X over slice b of n is (2 b + 1) / n steep.
            slope[:-1] = ((2.0 * np.arange(costs.segments) + 1.0) / costs.segments)[:, None]
        else:
            cost[:, self.w] = self.interval
            cost[:, self.u] = 0.0 if self.pass_through else self.interval * graph.continuing
        cost[:, self.z] = self.interval * slope.reshape(-1)
        remaining = (self.horizon - np.arange(self.horizon)) / self.horizon
        cost[:, self.u] -= costs.reward * self.interval * remaining[:, None]
        return cost

    def _matrix(self) -> csr_array:
        graph = self.graph
        one, joins = csr_array(eye_array(graph.movements)), csr_array(graph.ratio.T)
        served = csr_array(diags_array(self.interval * graph.saturation) @ graph.serve.T)
        adds = csr_array(
            (np.ones(graph.phases), (graph.phase_signal, np.arange(graph.phases))),
            shape=(len(graph.signals), graph.phases),
        )
        on_link = csr_array(graph.on_link[self.stored])
        slices: Any = kron(np.ones((1, self.slices)), eye_array(self.stored.size), format="csr")
        through = self.pass_through
        joined, entered = (one - joins, None) if through else (one, on_link @ joins)
        now: list[list[Any]] = [
            [joined, None, one, None],
            [one[self.held], -served[self.held], None, None],
            [None, adds, None, None],
            [entered, None, on_link, -slices],
        ]
        within = block_array(now, format="csr")
        return csr_array(
            kron(eye_array(self.horizon), within)
            + kron(eye_array(self.horizon, k=-1), self._before(joins, one))
        )

    def _before(self, joins: csr_array, one: csr_array) -> csr_array:
        """What an interval's rows have of the columns before."""
        moves = self.graph.movements
        blocks: list[list[Any]] = [
            [
                csr_array((moves, moves)) if self.pass_through else -joins,
                csr_array((moves, self.g.stop - self.g.start)),
                -one,
            ]
        ]
        part = csr_array(block_array(blocks, format="csr"))
        part.resize((self.height, self.width))
        return part

    def box(self, queue: Doubles, arrivals: Doubles) -> Box:
        """Bounds from the present queues ``[M]`` and arrivals ``[K, M]``."""
        graph, shape = self.graph, (self.horizon, self.width)
        lower, upper = np.zeros(shape), np.full(shape, np.inf)
        always = self.interval * graph.saturation * graph.always
        upper[:, self.u] = always
        upper[:, self.u][:, self.held] = np.inf
        lower[:, self.g], upper[:, self.g] = graph.low, graph.high
        room = graph.storage[self.stored] / (self.slices - 1)
        upper[:, self.z][:, : -self.stored.size] = np.tile(room, self.slices - 1)
        rows = (self.horizon, self.height)
        row_lower, row_upper = np.full(rows, -np.inf), np.zeros(rows)
        row_lower[:, self.balance] = row_upper[:, self.balance] = arrivals
        row_lower[0, self.balance] += queue
        row_upper[0, self.balance] += queue
        row_upper[:, self.capacity] = always[self.held]
        row_lower[:, self.signal] = row_upper[:, self.signal] = 1.0 - graph.lost
        if self.square:
            row_lower[:, self.storage] = 0.0
        return Box(lower.ravel(), upper.ravel(), row_lower.ravel(), row_upper.ravel())

    def least(self, reduced: Doubles, box: Box, vehicles: float) -> float:
        """Least of the Lagrangian over columns, with squares as they are and not as chords.

        Args:
            reduced: ``[K width]`` cost less what the row duals pay for.
            box: of the program.
            vehicles: no plan can have more of them anywhere.
        """
        graph = self.graph
        most = np.full((self.horizon, self.width), vehicles)
        most[:, self.u] = self.interval * graph.rate(graph.high)
        most = np.minimum(box.upper.reshape(most.shape), most)
        least = box.lower.reshape(most.shape)
        slope = reduced.reshape(most.shape)
        part = np.where(slope > 0.0, least, most) * slope
        if not self.square:
            return float(part.sum())
        links = self.stored.size
        squares = slice(self.z.start, self.z.stop - links)
        room = graph.storage[self.stored]
        first = slice(self.z.start, self.z.start + links)
        paid = slope[:, first] - self.cost[:, first]
        at = np.clip(-paid * room / (2.0 * self.interval), 0.0, room)
        exact = self.interval * at * at / room + paid * at
        return float(part.sum() - part[:, squares].sum() + exact.sum())


def _slices(*sizes: int) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
