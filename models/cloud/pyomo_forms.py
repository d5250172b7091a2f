"""The static, convex delay and transient fluid models in Pyomo, solved by HiGHS.

These are the readable statements of the models and the independent check of the hot highspy forms
(``planning``, ``delay``, ``fluid``); they are rebuilt at every call and not meant for a loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from ...simulators.interface import Doubles
from ..pyomo_highs import number, solve
from .delay import TANGENTS, DelaySolution, delay_solution, tangent_points
from .fluid import FluidProblem, FluidTrajectory
from .planning import FlowProblem, PlanningSolution


def planning_pyomo(problem: FlowProblem) -> PlanningSolution:
    """The static planning problem of ``planning`` as a Pyomo model.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    model: Any = pyo.ConcreteModel()
    classes, types = range(problem.rate.shape[0]), range(problem.count.shape[0])
    pairs = _pairs(problem)
    model.flow = pyo.Var(pairs, within=pyo.NonNegativeReals)
    model.rho = pyo.Var(within=pyo.NonNegativeReals)
    model.demand = pyo.Constraint(
        classes, rule=lambda m, k: _leaving(m, pairs, k) == problem.rate[k]
    )
    model.capacity = pyo.Constraint(
        types, rule=lambda m, j: _load(m, problem, pairs, j) <= problem.count[j] * m.rho
    )
    model.objective = pyo.Objective(expr=model.rho)
    dual = solve(model, "static planning problem")
    class_prices = _duals(dual, model.demand, classes)
    return PlanningSolution(
        rho=number(model.rho),
        flow=_flow(model, problem),
        class_prices=class_prices,
        node_prices=-_duals(dual, model.capacity, types),
        lower_bound=float(problem.rate @ class_prices),
        status="optimal",
    )


def delay_pyomo(
    problem: FlowProblem, *, price: Doubles | None = None, tangents: int = TANGENTS
) -> DelaySolution:
    """The convex delay model of ``delay`` as a Pyomo model with one row per tangent.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    model: Any = pyo.ConcreteModel()
    classes, types = range(problem.rate.shape[0]), range(problem.count.shape[0])
    cost = np.zeros(problem.count.shape[0]) if price is None else price
    points = tangent_points(tangents)
    pairs = _pairs(problem)
    model.flow = pyo.Var(pairs, within=pyo.NonNegativeReals)
    model.busy = pyo.Var(types, bounds=lambda _m, j: (0.0, problem.count[j]))
    model.jobs = pyo.Var(types, within=pyo.NonNegativeReals)
    model.demand = pyo.Constraint(
        classes, rule=lambda m, k: _leaving(m, pairs, k) == problem.rate[k]
    )
    model.use = pyo.Constraint(types, rule=lambda m, j: _load(m, problem, pairs, j) == m.busy[j])

    def tangent(m: Any, j: int, i: int) -> Any:
        touch, free = points[i], 1.0 - points[i]
        level = problem.count[j] * (touch / free - touch / free**2)
        return m.jobs[j] >= level + m.busy[j] / free**2

    model.tangent = pyo.Constraint(types, range(points.shape[0]), rule=tangent)
    model.objective = pyo.Objective(
        expr=sum(model.jobs[j] + cost[j] * model.busy[j] for j in types)
    )
    dual = solve(model, "convex delay model")
    return delay_solution(
        problem,
        cost,
        _flow(model, problem),
        _duals(dual, model.demand, classes),
        number(model.objective),
    )


def fluid_pyomo(problem: FluidProblem) -> FluidTrajectory:
    """The transient fluid model of ``fluid`` as a Pyomo model.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    model: Any = pyo.ConcreteModel()
    slots, classes = range(problem.rate.shape[0]), range(problem.rate.shape[1])
    types = range(problem.count.shape[1])
    dt, arrivals, service = problem.dt, problem.arrivals, problem.service
    share = problem.jobs_per_backlog
    pairs = [(k, j) for k in classes for j in types if service[k, j] > 0.0]
    model.served = pyo.Var(slots, pairs, within=pyo.NonNegativeReals)
    model.backlog = pyo.Var(slots, classes, within=pyo.NonNegativeReals)
    model.occupancy = pyo.Var(slots, classes, within=pyo.NonNegativeReals)

    def seconds(m: Any, t: int, chosen: list[tuple[int, int]]) -> Any:
        return sum(m.served[t, k, j] / service[k, j] for k, j in chosen)

    def balance(m: Any, t: int, k: int) -> Any:
        before = problem.start[k] if t == 0 else m.backlog[t - 1, k]
        leaving = sum(m.served[t, pair] for pair in pairs if pair[0] == k)
        return m.backlog[t, k] - before + leaving == arrivals[t, k]

    def capacity(m: Any, t: int, j: int) -> Any:
        chosen = [pair for pair in pairs if pair[1] == j]
        if not chosen:
            return pyo.Constraint.Skip
        return seconds(m, t, chosen) <= problem.count[t, j] * dt

    def drift(m: Any, t: int, k: int) -> Any:
        slack = -share[k] * dt * arrivals[t, k] / 2.0
        return m.occupancy[t, k] - share[k] * dt * m.backlog[t, k] >= slack

    def presence(m: Any, t: int, k: int) -> Any:
        served = seconds(m, t, [pair for pair in pairs if pair[0] == k])
        return m.occupancy[t, k] - served >= problem.wait * arrivals[t, k]

    model.balance = pyo.Constraint(slots, classes, rule=balance)
    model.capacity = pyo.Constraint(slots, types, rule=capacity)
    model.drift = pyo.Constraint(slots, classes, rule=drift)
    model.presence = pyo.Constraint(slots, classes, rule=presence)
    model.objective = pyo.Objective(expr=pyo.quicksum(model.occupancy.values()))
    dual = solve(model, "transient fluid model")
    served = np.zeros((len(slots), len(classes), len(types)))
    for t in slots:
        for k, j in pairs:
            served[t, k, j] = number(model.served[t, k, j])
    backlog = np.array([[number(model.backlog[t, k]) for k in classes] for t in slots])
    keys = [(t, k) for t in slots for k in classes]
    prices = _duals(dual, model.balance, keys) + problem.wait * _duals(dual, model.presence, keys)
    prices -= dt / 2.0 * np.tile(share, len(slots)) * _duals(dual, model.drift, keys)
    return FluidTrajectory(
        backlog=np.concatenate([problem.start[None], backlog]),
        served=served,
        prices=prices.reshape(len(slots), len(classes)),
        objective=number(model.objective),
        status="optimal",
    )


def _pairs(problem: FlowProblem) -> list[tuple[int, int]]:
    k, j = problem.pairs()
    return list(zip(k.tolist(), j.tolist(), strict=True))


def _leaving(model: Any, pairs: list[tuple[int, int]], k: int) -> Any:
    return sum(model.flow[pair] for pair in pairs if pair[0] == k)


def _load(model: Any, problem: FlowProblem, pairs: list[tuple[int, int]], j: int) -> Any:
    return sum(model.flow[pair] / problem.service[pair] for pair in pairs if pair[1] == j)


def _flow(model: Any, problem: FlowProblem) -> Doubles:
    flow = np.zeros_like(problem.service)
    for pair in _pairs(problem):
        flow[pair] = number(model.flow[pair])
    return flow


def _duals(dual: Any, constraint: Any, keys: Any) -> Doubles:
    return np.array([dual[constraint[key]] for key in keys], dtype=np.float64)
