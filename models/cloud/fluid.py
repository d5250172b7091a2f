"""Transient fluid model: the cheapest trajectory for a forecast that moves.

Class k arrives at the rate ``lambda_k(t)`` and is served at types j; in slot t of ``dt`` seconds
``D_kjt`` jobs leave through type j, and ``I_kt`` is the integral of class-k jobs over the slot:

    min  sum_kt I_kt
    s.t. q_k,t+1 = q_kt + lambda_kt dt - sum_j D_kjt,           q >= 0
         sum_k D_kjt / mu_kj <= n_j dt                          capacity
         I_kt >= s_k dt (q_k,t+1 - lambda_kt dt / 2),   I >= 0   nobody leaves before served
         I_kt >= sum_j D_kjt / mu_kj + v lambda_kt dt            who is served or not yet placed

``v`` is the time that every job waits before it can be served at all (0 unless said), ``s_k`` the
jobs that a unit of backlog stands for at least (1 unless said). Every constraint holds for the
expectations of any control of the stochastic system with rates ``lambda`` (arrivals inside a slot
are uniform, and a job under service sits at one node), so the optimum is a *lower bound* of the
expected integral of jobs in system; ``episode_bound`` says which data make it valid for general
sizes. As dt -> 0 it is the usual fluid limit ``dq_k/dt = lambda_k(t) - served`` plus the service
times themselves.

The recursion for a fixed split (:func:`fluid_recursion`) is the zero-noise limit of a
work-conserving node; ``differentiable.fluid_unrolled`` is the same in torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles, Ints
from .linear import HotProgram, Method


@dataclass(frozen=True, slots=True)
class FluidProblem:
    """Data of the transient fluid model; T slots, K classes, J types.

    Attributes:
        rate: ``[T, K]`` forecast arrivals, jobs/s.
        service: ``[K, J]`` jobs/s of one node, 0 where the type cannot serve the class.
        count: ``[T, J]`` nodes up.
        start: ``[K]`` jobs at time 0.
        dt: seconds of a slot.
        wait: v, seconds before a job can be served.
        share: ``[K]`` s, jobs per unit of backlog (default: ones).
    """

    rate: Doubles
    service: Doubles
    count: Doubles
    start: Doubles
    dt: float
    wait: float = 0.0
    share: Doubles | None = None

    def __post_init__(self) -> None:
        slots, classes = self.rate.shape
        types = self.service.shape[1]
        for name, shape, wanted in (
            ("service", self.service.shape, (classes, types)),
            ("count", self.count.shape, (slots, types)),
            ("start", self.start.shape, (classes,)),
        ):
            if shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {shape}")
        if not self.dt > 0.0:
            raise ValueError(f"dt must be positive, got {self.dt} s")
        for name, values in (
            ("rate", self.rate),
            ("service", self.service),
            ("count", self.count),
            ("start", self.start),
        ):
            if not np.isfinite(values).all() or (values < 0.0).any():
                raise ValueError(f"{name} must be finite and non-negative")

        if not self.wait >= 0.0:
            raise ValueError(f"wait must not be negative, got {self.wait} s")

    @property
    def jobs_per_backlog(self) -> Doubles:
        """``[K]``: ``share``, or ones."""
        return np.ones(self.rate.shape[1]) if self.share is None else self.share

    @property
    def arrivals(self) -> Doubles:
        """``[T, K]`` jobs arriving in a slot."""
        return self.rate * self.dt


@dataclass(frozen=True, slots=True)
class FluidTrajectory:
    """Optimum of the transient fluid model.

    Attributes:
        backlog: ``[T + 1, K]`` jobs at the slot boundaries.
        served: ``[T, K, J]`` jobs that leave in a slot.
        prices: ``[T, K]`` cost of one more job arriving in a slot, jobs x s.
        objective: integral of jobs over the horizon, jobs x s; the lower bound.
        status: ``"optimal"``.
    """

    backlog: Doubles
    served: Doubles
    prices: Doubles
    objective: float
    status: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """Column offsets: served [T, P], backlog [T, K] (ends of slots), occupancy [T, K]."""

    slots: int
    classes: int
    types: int
    k: Ints
    j: Ints

    @property
    def pairs(self) -> int:
        return self.k.shape[0]

    @property
    def backlog(self) -> int:
        return self.slots * self.pairs

    @property
    def occupancy(self) -> int:
        return self.backlog + self.slots * self.classes

    @property
    def columns(self) -> int:
        return self.occupancy + self.slots * self.classes


class FluidSolver:
    """The transient fluid model in HiGHS; forecasts, counts and starts change between solves."""

    def __init__(
        self,
        service: Doubles,
        *,
        slots: int,
        dt: float,
        wait: float = 0.0,
        share: Doubles | None = None,
        method: Method = "simplex",
    ) -> None:
        self._service = np.array(service, dtype=np.float64)
        self._dt, self._wait = dt, wait
        k, j = np.nonzero(self._service > 0.0)
        classes, types = self._service.shape
        self._share = np.ones(classes) if share is None else np.array(share, dtype=np.float64)
        self._layout = layout = _Layout(slots, classes, types, k, j)
        cells, slot = slots * classes, np.arange(slots)
        served = (slot[:, None] * layout.pairs + np.arange(layout.pairs)).ravel()
        seconds = np.tile(1.0 / self._service[k, j], slots)
        cell_of = (slot[:, None] * classes + k).ravel()
        type_of = (slot[:, None] * types + j).ravel()
        cell = np.arange(cells)
        backlog, occupancy = layout.backlog + cell, layout.occupancy + cell
        one, later = np.ones(cells), np.arange(classes, cells)
        capacity, drift, presence = cells, cells + slots * types, 2 * cells + slots * types
        entries = [
            # q_t+1 - q_t + sum_j D = arrivals
            (cell, backlog, one),
            (later, backlog[later - classes], -one[later]),
            (cell_of, served, np.ones_like(seconds)),
            # sum_k D / mu <= n dt
            (capacity + type_of, served, seconds),
            # I - s dt q_t+1 >= -s dt arrivals / 2
            (drift + cell, occupancy, one),
            (drift + cell, backlog, -dt * np.tile(self._share, slots)),
            # I - sum_j D / mu >= wait arrivals
            (presence + cell, occupancy, one),
            (presence + cell_of, served, -seconds),
        ]
        rows = 3 * cells + slots * types
        self._program = HotProgram(
            cost=np.concatenate([np.zeros(layout.occupancy), one]),
            lower=np.zeros(layout.columns),
            upper=np.full(layout.columns, np.inf),
            row_lower=np.zeros(rows),
            row_upper=np.zeros(rows),
            rows=np.concatenate([entry[0] for entry in entries]),
            columns=np.concatenate([entry[1] for entry in entries]),
            values=np.concatenate([entry[2] for entry in entries]),
            method=method,
        )

    def solve(
        self, rate: Doubles, count: Doubles, start: Doubles, *, hot: bool = True
    ) -> FluidTrajectory:
        """Optimal trajectory for ``rate`` ``[T, K]``, ``count`` ``[T, J]``, ``start`` ``[K]``.

        Raises:
            ValueError: malformed data (named).
            RuntimeError: HiGHS proved no optimum (status named).
        """
        problem = FluidProblem(
            rate=np.asarray(rate, float),
            service=self._service,
            count=np.asarray(count, float),
            start=np.asarray(start, float),
            dt=self._dt,
            wait=self._wait,
            share=self._share,
        )
        layout = self._layout
        if problem.rate.shape[0] != layout.slots:
            raise ValueError(f"built for {layout.slots} slots, got {problem.rate.shape[0]}")
        scale = max(float(problem.count.max(axis=0).sum()), 1.0)
        arrivals = problem.arrivals / scale
        inflow = arrivals.copy()
        inflow[0] += problem.start / scale
        limit = (problem.count / scale * self._dt).ravel()
        drift = (-self._dt / 2.0 * self._share * arrivals).ravel()
        waiting, free = (self._wait * arrivals).ravel(), np.full(drift.shape[0], np.inf)
        self._program.set_rows(
            np.concatenate([inflow.ravel(), np.full(limit.shape[0], -np.inf), drift, waiting]),
            np.concatenate([inflow.ravel(), limit, free, free]),
        )
        solved = self._program.solve(hot=hot)
        served = np.zeros((layout.slots, layout.classes, layout.types))
        flows = solved.x[: layout.backlog].reshape(layout.slots, layout.pairs)
        served[:, layout.k, layout.j] = flows * scale
        backlog = solved.x[layout.backlog : layout.occupancy].reshape(layout.slots, -1) * scale
        cells = layout.slots * layout.classes
        dual = solved.row_dual
        drift_dual, presence_dual = dual[cells + limit.shape[0] :].reshape(2, cells)
        prices = dual[:cells] + self._wait * presence_dual
        prices -= self._dt / 2.0 * np.tile(self._share, layout.slots) * drift_dual
        return FluidTrajectory(
            backlog=np.concatenate([problem.start[None], backlog]),
            served=served,
            prices=prices.reshape(layout.slots, layout.classes),
            objective=solved.objective * scale,
            status=solved.status,
        )


def fluid_recursion(work: Doubles, capacity: Doubles, start: Doubles) -> Doubles:
    """Backlog of work under a fixed split: ``w_t+1 = w_t + work_t - min(w_t + work_t, capacity)``.

    Args:
        work: ``[T, J]`` seconds of service that arrive at each type in a slot.
        capacity: ``[T, J]`` seconds of service that it can give in a slot.
        start: ``[J]`` seconds of service present at time 0.

    Returns:
        ``[T + 1, J]`` seconds; what every work-conserving discipline holds without noise.
    """
    backlog = np.empty((work.shape[0] + 1, work.shape[1]))
    backlog[0] = start
    for t in range(work.shape[0]):
        present = backlog[t] + work[t]
        backlog[t + 1] = present - np.minimum(present, capacity[t])
    return backlog
