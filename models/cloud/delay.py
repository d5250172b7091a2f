"""Convex delay model: the static split of arrivals that minimises mean response.

Nodes of type j see a share of every class; as M/G/1-PS nodes they hold ``rho_j / (1 - rho_j)`` jobs
in the mean, whatever the law of sizes (insensitivity). The model is

    min  sum_j n_j [rho_j / (1 - rho_j) + price_j rho_j]
    s.t. sum_j x_kj = lambda_k,   n_j rho_j = sum_k x_kj / mu_kj,   x >= 0,   rho < 1,

in jobs, which is jobs/s times seconds of response (Little). ``price_j`` is what one busy node
costs per second in the same unit (energy: price x (peak - idle) watts). The optimum over a single
class without prices is the square-root rule.

The highspy form replaces ``rho / (1 - rho)`` by its largest tangent. Tangents touch at
``rho = tanh(s)^2`` with equally spaced s: the spacing is logarithmic towards 1 and every gap has
the same *relative* size, ``(step of s)^2`` at most (4.3e-5 for 400 tangents). A few more reach
from :data:`FINE` to :data:`LAST`, where the gap grows to 1.5 %. The value of the tangent program is
a lower bound of the model's optimum at every load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from .linear import HotProgram
from .planning import FlowProblem

TANGENTS = 400
FINE = 0.97
"""Utilisation up to which tangents are dense."""
LAST = 0.9999
"""Utilisation at which the last tangent touches; above it the lower bound is loose."""


@dataclass(frozen=True, slots=True)
class DelaySolution:
    """Optimum of the convex delay model.

    Attributes:
        flow: ``[K, J]`` jobs/s.
        utilisation: ``[J]`` rho of a node.
        jobs: ``[J]`` mean jobs on a node, rho / (1 - rho).
        class_prices: ``[K]`` marginal cost of one more job/s of a class, jobs x s.
        objective: value of the flow under the model (jobs, plus prices).
        lower_bound: proven lower bound on the model's optimum.
        mean_response: ``sum_j n_j jobs_j / sum_k lambda_k``, s (0 without arrivals).
        status: ``"optimal"``.
    """

    flow: Doubles
    utilisation: Doubles
    jobs: Doubles
    class_prices: Doubles
    objective: float
    lower_bound: float
    mean_response: float
    status: str


def tangent_points(tangents: int = TANGENTS) -> Doubles:
    """``[tangents]`` utilisations where tangents touch, from 0 to :data:`LAST`."""
    if tangents < 10:
        raise ValueError(f"need at least 10 tangents, got {tangents}")
    dense = round(0.94 * tangents)
    fine = np.tanh(np.linspace(0.0, np.arctanh(np.sqrt(FINE)), dense)) ** 2
    coarse = 1.0 - np.geomspace(1.0 - FINE, 1.0 - LAST, tangents - dense + 1)[1:]
    return np.concatenate([fine, coarse])


def segments(points: Doubles) -> tuple[Doubles, Doubles]:
    """Widths and slopes of the piecewise-linear maximum of the tangents on ``[0, 1]``.

    With y = 1 - rho the tangents at y_0 and y_1 meet at the harmonic mean of the two.
    """
    y = 1.0 - points
    meet = 2.0 * y[:-1] * y[1:] / (y[:-1] + y[1:])
    edges = np.concatenate([[0.0], 1.0 - meet, [1.0]])
    return np.diff(edges), 1.0 / y**2


def delay_solution(
    problem: FlowProblem, price: Doubles, flow: Doubles, class_prices: Doubles, lower_bound: float
) -> DelaySolution:
    """Evaluate a flow under the exact model; shared by all forms."""
    rho = problem.utilisation(flow)
    if (rho >= 1.0).any():
        raise RuntimeError(f"the flow saturates a node type: utilisation {rho}")
    jobs = rho / (1.0 - rho)
    total = float(problem.rate.sum())
    return DelaySolution(
        flow=flow,
        utilisation=rho,
        jobs=jobs,
        class_prices=class_prices,
        objective=float(problem.count @ (jobs + price * rho)),
        lower_bound=lower_bound,
        mean_response=float(problem.count @ jobs) / total if total > 0.0 else 0.0,
        status="optimal",
    )


class DelaySolver:
    """The convex delay model of one system in HiGHS; solves for many rates and node counts.

    Each type's cost is a row of segment variables (one per tangent) with only two kinds of rows,
    K demands and J loads; the matrix never changes, so a new rate or count is a change of bounds.
    """

    def __init__(
        self, service: Doubles, *, price: Doubles | None = None, tangents: int = TANGENTS
    ) -> None:
        self._service = np.array(service, dtype=np.float64)
        self._classes, self._types = self._service.shape
        self._price = np.zeros(self._types) if price is None else np.array(price, dtype=np.float64)
        self._k, self._j = np.nonzero(self._service > 0.0)
        self._pairs = pairs = self._k.shape[0]
        self._widths, slopes = segments(tangent_points(tangents))
        per_type = slopes.shape[0]
        segment_type = np.repeat(np.arange(self._types), per_type)
        columns = np.arange(pairs)
        segment_columns = pairs + np.arange(segment_type.shape[0])
        rows = self._classes + self._types
        self._program = HotProgram(
            cost=np.concatenate([np.zeros(pairs), np.tile(slopes, self._types)])
            + np.concatenate([np.zeros(pairs), self._price[segment_type]]),
            lower=np.zeros(pairs + segment_type.shape[0]),
            upper=np.full(pairs + segment_type.shape[0], np.inf),
            row_lower=np.zeros(rows),
            row_upper=np.zeros(rows),
            rows=np.concatenate([self._k, self._classes + self._j, self._classes + segment_type]),
            columns=np.concatenate([columns, columns, segment_columns]),
            values=np.concatenate(
                [
                    np.ones(pairs),
                    1.0 / self._service[self._k, self._j],
                    -np.ones(segment_type.shape[0]),
                ]
            ),
        )
        self._bounded_for: Doubles | None = None

    def solve(self, rate: Doubles, count: Doubles, *, hot: bool = True) -> DelaySolution:
        """Optimum for arrivals ``rate`` ``[K]`` jobs/s and ``count`` ``[J]`` nodes up.

        Raises:
            ValueError: malformed data (named).
            RuntimeError: HiGHS proved no optimum, e.g. infeasible at or above capacity.
        """
        problem = FlowProblem(np.asarray(rate, float), self._service, np.asarray(count, float))
        scale = max(float(problem.count.sum()), 1.0)
        share = problem.count / scale
        if self._bounded_for is None or (share != self._bounded_for).any():
            upper = np.concatenate(
                [np.full(self._pairs, np.inf), np.outer(share, self._widths).ravel()]
            )
            self._program.set_columns(np.zeros_like(upper), upper)
            self._bounded_for = share
        right = np.append(problem.rate / scale, np.zeros(self._types))
        self._program.set_rows(right, right)
        solved = self._program.solve(hot=hot)
        flow = np.zeros((self._classes, self._types))
        flow[self._k, self._j] = solved.x[: self._pairs] * scale
        return delay_solution(
            problem,
            self._price,
            flow,
            solved.row_dual[: self._classes],
            solved.objective * scale,
        )
