"""Store-and-forward control in Pyomo: its readable statement, and the check of the hot form.

Written link by link and movement by movement; rebuilt at every call and not meant for a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from ...simulators.interface import Doubles
from ..pyomo_highs import number, solve
from .movement_graph import MovementGraph
from .store_forward_layout import Costs


@dataclass(frozen=True, slots=True)
class PyomoPlan:
    """Optimum of the Pyomo form; fields as in ``store_forward.Plan``."""

    greens: Doubles
    queues: Doubles
    prices: Doubles
    objective: float


def store_forward_pyomo(
    graph: MovementGraph,
    queues: Doubles,
    arrivals: Doubles,
    *,
    interval: float,
    costs: Costs | None = None,
    pass_through: bool = False,
) -> PyomoPlan:
    """The plan of ``StoreForward`` for ``queues`` ``[M]`` and ``arrivals`` ``[K, M]``.

    ``prices`` are the duals of the balance rows alone.

    Raises:
        RuntimeError: HiGHS proved no optimum (status named).
    """
    costs = Costs() if costs is None else costs
    horizon = arrivals.shape[0]
    model: Any = pyo.ConcreteModel()
    model.times, model.moves = range(horizon), range(graph.movements)
    model.u = pyo.Var(model.times, model.moves, within=pyo.NonNegativeReals)
    model.x = pyo.Var(model.times, model.moves, within=pyo.NonNegativeReals)
    model.green = pyo.Var(
        model.times,
        range(graph.phases),
        bounds=lambda _m, _k, p: (float(graph.low[p]), float(graph.high[p])),
    )
    model.over = pyo.Var(model.times, range(graph.links), within=pyo.NonNegativeReals)
    _balance(model, graph, queues, arrivals, pass_through=pass_through)
    _greens(model, graph, interval)
    price = _occupancy(model, graph, costs)
    reward = pyo.quicksum(
        costs.reward * (horizon - k) / horizon * model.u[k, m]
        for k in model.times
        for m in model.moves
    )
    over = costs.overflow * pyo.quicksum(model.over.values())
    model.objective = pyo.Objective(expr=interval * (price + over - reward))
    dual = solve(model, "store-and-forward plan")
    shape = (horizon, graph.movements)
    return PyomoPlan(
        greens=_values(model.green, (horizon, graph.phases)),
        queues=_values(model.x, shape),
        prices=np.array([dual[model.balance[key]] for key in np.ndindex(*shape)]).reshape(shape),
        objective=number(model.objective),
    )


def _balance(
    model: Any, graph: MovementGraph, queues: Doubles, arrivals: Doubles, *, pass_through: bool
) -> None:
    joins: list[list[tuple[int, float]]] = [[] for _ in model.moves]
    table = graph.ratio.tocoo()
    for m, n, share in zip(*table.coords, table.data, strict=True):
        joins[n].append((int(m), float(share)))

    def before(k: int, n: int) -> Any:
        return float(queues[n]) if k == 0 else model.x[k - 1, n]

    def balance(m: Any, k: int, n: int) -> Any:
        joined = sum(share * m.u[k, other] for other, share in joins[n])
        return m.x[k, n] == before(k, n) + float(arrivals[k, n]) + joined - m.u[k, n]

    model.balance = pyo.Constraint(model.times, model.moves, rule=balance)
    if not pass_through:
        model.at_hand = pyo.Constraint(
            model.times,
            model.moves,
            rule=lambda m, k, n: m.u[k, n] <= before(k, n) + float(arrivals[k, n]),
        )


def _greens(model: Any, graph: MovementGraph, interval: float) -> None:
    served: list[list[tuple[int, float]]] = [[] for _ in model.moves]
    table = graph.serve.tocoo()
    for p, m, share in zip(*table.coords, table.data, strict=True):
        served[m].append((int(p), float(share)))

    def capacity(m: Any, k: int, n: int) -> Any:
        share = sum(part * m.green[k, p] for p, part in served[n]) + float(graph.always[n])
        return m.u[k, n] <= interval * float(graph.saturation[n]) * share

    def signal(m: Any, k: int, i: int) -> Any:
        first, last = graph.phase_start[i : i + 2].tolist()
        return sum(m.green[k, p] for p in range(first, last)) == 1.0 - float(graph.lost[i])

    model.capacity = pyo.Constraint(model.times, model.moves, rule=capacity)
    model.signal = pyo.Constraint(model.times, range(len(graph.signals)), rule=signal)


def _occupancy(model: Any, graph: MovementGraph, costs: Costs) -> Any:
    """Storage with overflow, and what occupancy costs per s."""
    on_link = [np.flatnonzero(graph.source == link).tolist() for link in range(graph.links)]
    # The others hold no queue in this model.
    links = [link for link in range(graph.links) if on_link[link]]
    room = graph.storage.tolist()

    def held(m: Any, k: int, link: int) -> Any:
        return sum(m.x[k, n] for n in on_link[link]) - m.over[k, link]

    model.storage = pyo.Constraint(
        model.times, links, rule=lambda m, k, link: held(m, k, link) <= room[link]
    )
    if costs.objective == "total_time":
        return pyo.quicksum(model.x.values())
    model.square = pyo.Var(model.times, links, within=pyo.NonNegativeReals)
    knots = np.linspace(0.0, 1.0, costs.segments + 1).tolist()

    def chord(m: Any, k: int, link: int, b: int) -> Any:
        one, two = knots[b], knots[b + 1]
        line = (one + two) * held(m, k, link) - one * two * room[link]
        return m.square[k, link] >= line

    model.chord = pyo.Constraint(model.times, links, range(costs.segments), rule=chord)
    return pyo.quicksum(model.square.values())


def _values(variables: Any, shape: tuple[int, ...]) -> Doubles:
    return np.array([variables[key].value for key in variables], dtype=np.float64).reshape(shape)
