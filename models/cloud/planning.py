"""Static planning: how much of the system's capacity does an arrival vector need?

The static planning problem of Harrison (stochastic processing networks): send the jobs of class k
to node types j such that the busiest type is as little utilised as possible,

    min rho   s.t.   sum_j x_kj = lambda_k,   sum_k x_kj / mu_kj <= rho n_j,   x >= 0.

rho < 1 is the exact boundary of stability of any work-conserving control. Three forms that agree:
the direct highspy form here (re-solved hot), a Pyomo form (``pyomo_forms``) and a batched torch
form (``differentiable``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles, Ints
from .linear import HotProgram


@dataclass(frozen=True, slots=True)
class FlowProblem:
    """Classes k of jobs and types j of nodes; the data shared by all static models.

    Attributes:
        rate: ``[K]`` arrivals of a class, jobs/s.
        service: ``[K, J]`` jobs/s that one node of a type completes of a class when it serves
            nothing else; 0 where the type cannot serve the class.
        count: ``[J]`` nodes of a type.
    """

    rate: Doubles
    service: Doubles
    count: Doubles

    def __post_init__(self) -> None:
        classes, types = self.service.shape
        if self.rate.shape != (classes,) or self.count.shape != (types,):
            raise ValueError(
                f"service is {self.service.shape}, so rate must be ({classes},) and count "
                f"({types},); got {self.rate.shape} and {self.count.shape}"
            )
        for name, values in (("rate", self.rate), ("service", self.service), ("count", self.count)):
            if not np.isfinite(values).all() or (values < 0.0).any():
                raise ValueError(f"{name} must be finite and non-negative, got {values}")
        served = (self.service > 0.0) @ (self.count > 0.0)
        for k in np.flatnonzero(~served & (self.rate > 0.0)):
            raise ValueError(f"no node serves class {k}, whose rate is {self.rate[k]} jobs/s")

    @property
    def capable(self) -> Bools:
        """``[K, J]``: pairs that the flow may use."""
        return self.service > 0.0

    def pairs(self) -> tuple[Ints, Ints]:
        """Class and type of every usable pair, in row-major order; the flow variables."""
        k, j = np.nonzero(self.capable)
        return k.astype(np.int64), j.astype(np.int64)

    def utilisation(self, flow: Doubles) -> Doubles:
        """``[J]`` busy share of a node of each type under a flow ``[K, J]``."""
        load = np.where(self.capable, flow / np.where(self.capable, self.service, 1.0), 0.0).sum(0)
        up = self.count > 0.0
        return np.where(up, load / np.where(up, self.count, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class PlanningSolution:
    """Optimum of the static planning problem.

    Attributes:
        rho: smallest possible utilisation of the busiest type; the system is stable iff < 1.
        flow: ``[K, J]`` jobs/s.
        class_prices: ``[K]`` d rho / d lambda_k, s/job.
        node_prices: ``[J]`` value of capacity, non-negative, ``sum_j n_j node_prices_j = 1``;
            one more node of type j lowers rho by ``rho * node_prices_j``.
        lower_bound: the dual objective ``sum_k lambda_k class_prices_k`` (equals rho).
        status: ``"optimal"``.
    """

    rho: float
    flow: Doubles
    class_prices: Doubles
    node_prices: Doubles
    lower_bound: float
    status: str


class PlanningSolver:
    """The static planning problem of one system; solves for many rates and node counts."""

    def __init__(self, service: Doubles) -> None:
        self._service = np.array(service, dtype=np.float64)
        self._classes, self._types = self._service.shape
        self._k, self._j = np.nonzero(self._service > 0.0)
        pairs = self._k.shape[0]
        self._pairs = pairs
        # Columns: flows, then rho. Rows: demand of a class, then capacity of a type.
        inverse = 1.0 / self._service[self._k, self._j]
        columns = np.arange(pairs)
        types = np.arange(self._types)
        self._program = HotProgram(
            cost=np.append(np.zeros(pairs), 1.0),
            lower=np.zeros(pairs + 1),
            upper=np.full(pairs + 1, np.inf),
            row_lower=np.append(np.zeros(self._classes), np.full(self._types, -np.inf)),
            row_upper=np.zeros(self._classes + self._types),
            rows=np.concatenate([self._k, self._classes + self._j, self._classes + types]),
            columns=np.concatenate([columns, columns, np.full(self._types, pairs)]),
            values=np.concatenate([np.ones(pairs), inverse, -np.ones(self._types)]),
        )
        self._count = np.ones(self._types)

    def solve(self, rate: Doubles, count: Doubles, *, hot: bool = True) -> PlanningSolution:
        """Optimum for arrivals ``rate`` ``[K]`` jobs/s and ``count`` ``[J]`` nodes up.

        Raises:
            ValueError: malformed data (named).
            RuntimeError: HiGHS proved no optimum (status named).
        """
        problem = FlowProblem(np.asarray(rate, float), self._service, np.asarray(count, float))
        # Work on the scale of one node, so that the solver's absolute tolerances fit any size.
        scale = max(float(problem.count.sum()), 1.0)
        share = problem.count / scale
        for j in np.flatnonzero(share != self._count):
            self._program.set_coefficient(self._classes + int(j), self._pairs, -share[j])
        self._count = share
        demand = problem.rate / scale
        self._program.set_rows(
            np.append(demand, np.full(self._types, -np.inf)),
            np.append(demand, np.zeros(self._types)),
        )
        solved = self._program.solve(hot=hot)
        flow = np.zeros((self._classes, self._types))
        flow[self._k, self._j] = solved.x[:-1] * scale
        prices = solved.row_dual / scale
        return PlanningSolution(
            rho=float(solved.x[-1]),
            flow=flow,
            class_prices=prices[: self._classes],
            node_prices=-prices[self._classes :],
            lower_bound=float(problem.rate @ prices[: self._classes]),
            status=solved.status,
        )
