"""Store-and-forward control as a linear program, built once and re-solved over a rolling horizon.

Over K intervals of T seconds queues follow ``x(k+1) = x(k) + d(k) + R'u(k) - u(k)``; what leaves a
queue is at most what its green lets go and at most what is there. Storage is soft: what does not
fit costs, so that every state has a plan. (Gazis and Potts 1963; Diakaki, Papageorgiou, Aboudolas
2002; Aboudolas, Papageorgiou, Kosmatopoulos, Transportation Research C 17, 2009.)

``total_time`` has a tiny reward for leaving early, because many plans cost the same and some of
them hold vehicles back. ``quadratic`` balances relative occupancies; squares are chords in the
plan, and exact in the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from .movement_graph import MovementGraph
from .store_forward_layout import Costs, Layout
from .store_forward_program import HotProgram, Method

LARGE = 4000
"""Columns from which squares are left to the interior point method."""
HUGE = 250_000
"""Columns from which total time is: below, a hot simplex wins after a few solves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Optimal greens and where they lead.

    Attributes:
        greens: ``[K, P]`` shares of the interval.
        flows: ``[K, M]`` vehicles that leave each queue in an interval.
        queues: ``[K, M]`` vehicles at its end: the reference by movement.
        occupancy: ``[K, L]`` the same by link; overflow: ``[K, L]`` what of it does not fit.
        prices: ``[K, M]`` cost of one more vehicle that joins a queue in an interval.
        objective: of the program: time or chords of squares, overflow, less the reward.
        total_time: veh s, T times the queues at the ends of all intervals.
        lower_bound: proven: no green shares lead to less (time or true squares, plus overflow at
            its price).
        status: always ``"optimal"``.
        method: of the solver; iterations and seconds: of this solve.
    """

    greens: Doubles
    flows: Doubles
    queues: Doubles
    occupancy: Doubles
    overflow: Doubles
    prices: Doubles
    objective: float
    total_time: float
    lower_bound: float
    status: str
    method: Method
    iterations: int
    seconds: float


class StoreForward:
    """The program of one network; ``solve`` changes only queues and arrivals.

    Args:
        graph: the control problem.
        interval: T in s.
        horizon: K intervals.
        costs: what is minimised; default total time.
        method: ``"simplex"`` (hot) or ``"ipm"`` (interior point without crossover); default the
            latter from ``LARGE`` columns on with squares, from ``HUGE`` on with total time.
        pass_through: a vehicle may pass several queues in an interval. Needed where links are
            driven in much less than an interval (else everybody stands on each of them for one),
            and only then is the plan a bound for dynamics of any finer step. It costs solvers a
            multiple of the time on large grids.
        time_limit: s for a solve.

    Raises:
        ValueError: an interval, horizon or time limit that is not positive.
    """

    def __init__(
        self,
        graph: MovementGraph,
        *,
        interval: float,
        horizon: int,
        costs: Costs | None = None,
        method: Method | None = None,
        pass_through: bool = False,
        time_limit: float = 120.0,
    ) -> None:
        if horizon < 1 or not (0.0 < interval < np.inf and time_limit > 0.0):
            raise ValueError(
                f"interval {interval}, horizon {horizon} and time limit {time_limit} must be "
                "positive"
            )
        self.graph, self.interval, self.horizon = graph, interval, horizon
        self.layout = Layout(
            graph,
            interval=interval,
            horizon=horizon,
            costs=Costs() if costs is None else costs,
            pass_through=pass_through,
        )
        small: bool = self.layout.cost.size < (LARGE if self.layout.square else HUGE)
        usual: Method = "simplex" if small else "ipm"
        self.program = HotProgram(
            self.layout.cost.ravel(),
            self.layout.matrix,
            usual if method is None else method,
            time_limit=time_limit,
        )

    def solve(self, queues: Doubles, arrivals: Doubles) -> Plan:
        """The best greens from here on.

        Args:
            queues: ``[M]`` vehicles now.
            arrivals: ``[K, M]`` vehicles that join each queue from outside in each interval.

        Raises:
            ValueError: queues or arrivals of a wrong shape or value.
            RuntimeError: HiGHS proved no optimum; names the status.
        """
        layout, graph = self.layout, self.graph
        for name, values, shape in (
            ("queues", queues, (graph.movements,)),
            ("arrivals", arrivals, (self.horizon, graph.movements)),
        ):
            if values.shape != shape or not ((values >= 0.0) & (values < np.inf)).all():
                raise ValueError(f"{name} must be finite and not negative, of shape {shape}")
        box = layout.box(queues, arrivals)
        optimum = self.program.solve(box)
        fixed, reduced = self.program.dual_parts(optimum.row_dual, box)
        vehicles = float(queues.sum() + arrivals.sum())
        x = optimum.x.reshape(self.horizon, layout.width)
        dual = optimum.row_dual.reshape(self.horizon, layout.height)
        queued = layout.queues(x)
        occupancy = np.asarray(queued @ graph.on_link.T)
        return Plan(
            greens=x[:, layout.g],
            flows=x[:, layout.u],
            queues=queued,
            occupancy=occupancy,
            overflow=np.maximum(occupancy - graph.storage, 0.0),
            prices=dual[:, layout.balance],
            objective=optimum.objective,
            total_time=self.interval * float(queued.sum()),
            lower_bound=fixed + layout.least(reduced, box, vehicles),
            status="optimal",
            method=self.program.method,
            iterations=optimum.iterations,
            seconds=optimum.seconds,
        )
