"""Node types, job classes and tenants of the built-in scenarios, and the capacity of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints


@dataclass(frozen=True, slots=True)
class NodeType:
    """A machine type.

    Attributes:
        name: type name.
        vcpu: virtual CPUs.
        memory: GiB.
        gpus: number of GPUs.
        gpu_model: GPU model, empty without one.
        speed: work units per second when a node serves one job of a class, by class.
        idle, peak: power at no and at full utilisation, W.
        price: currency units per hour.
    """

    name: str
    vcpu: int
    memory: int
    gpus: int
    gpu_model: str
    speed: tuple[float, ...]
    idle: float
    peak: float
    price: float


CLASSES = ("web", "batch", "analytics", "training")
"""Job classes of the scenario `dispatch`; the order of every ``speed`` below."""

TYPES = (
    NodeType("burst-2", 2, 4, 0, "", (0.6, 0.5, 0.5, 0.5), 8.0, 25.0, 0.04),
    NodeType("general-4", 4, 16, 0, "", (1.0, 1.0, 0.9, 0.6), 18.0, 60.0, 0.19),
    NodeType("general-8", 8, 32, 0, "", (1.6, 1.5, 1.4, 0.9), 30.0, 110.0, 0.38),
    NodeType("compute-8", 8, 16, 0, "", (1.9, 2.2, 1.1, 1.1), 32.0, 130.0, 0.34),
    NodeType("memory-8", 8, 64, 0, "", (1.5, 1.3, 2.4, 0.9), 34.0, 120.0, 0.50),
    NodeType("compute-16", 16, 32, 0, "", (3.3, 4.0, 1.9, 1.9), 60.0, 240.0, 0.68),
    NodeType("memory-16", 16, 128, 0, "", (2.6, 2.3, 4.0, 1.6), 64.0, 225.0, 1.01),
    NodeType("accelerated-8", 8, 32, 1, "A10", (1.6, 1.5, 1.4, 4.0), 70.0, 320.0, 1.21),
)
"""Eight types modelled on AWS families (t, m, c, r, g); relative speeds span a factor of 8."""

SHARES = (0.2, 0.2, 0.15, 0.15, 0.1, 0.05, 0.05, 0.1)
"""Share of each type in a fleet."""

TENANTS: dict[str, tuple[float, ...]] = {
    "web-shop": (0.7, 0.1, 0.1, 0.1),
    "render-farm": (0.1, 0.7, 0.1, 0.1),
    "data-house": (0.1, 0.1, 0.7, 0.1),
    "research-lab": (0.1, 0.1, 0.1, 0.7),
}
"""Tenant groups and their mix of job classes."""


def apportion(shares: Sequence[float], seats: int) -> Ints:
    """Whole numbers that sum to ``seats``, by largest remainder; earlier entries win ties."""
    quota = np.asarray(shares, dtype=np.float64) * (seats / float(np.sum(shares)))
    count = np.floor(quota + 1e-9).astype(np.int64)
    order = np.argsort(-(quota - count), kind="stable")
    count[order[: seats - int(count.sum())]] += 1
    return count


def capacity(nodes: Doubles, rates: Doubles, mix: Doubles) -> float:
    """Largest sustainable total arrival rate of a fleet (static planning linear program).

    Solves ``max theta`` subject to ``theta mix_k <= sum_j rates[j, k] y[j, k]`` and
    ``sum_k y[j, k] <= nodes_j`` by the simplex method; the origin is feasible, so no first phase
    is needed. See J. M. Harrison's static planning problem (the stability region's boundary).

    Args:
        nodes: number of nodes per type ``[J]``.
        rates: jobs per second that one node of a type completes of a class ``[J, K]``.
        mix: share of each class in the arrivals ``[K]``.

    Returns:
        theta in jobs per second.

    Raises:
        ValueError: a class with positive share that no node can serve.
    """
    types, classes = rates.shape
    for k in range(classes):
        if mix[k] > 0 and not np.any((rates[:, k] > 0) & (nodes > 0)):
            raise ValueError(f"no node can serve job class {k}; give some type a positive rate")
    columns = types * classes + 1
    rows = types + classes
    tableau = np.zeros((rows + 1, columns + rows + 1))
    for j in range(types):
        span = slice(j * classes, (j + 1) * classes)
        tableau[j, span] = 1.0
        tableau[j, -1] = nodes[j]
        tableau[types : types + classes, span] = -np.diag(rates[j])
    tableau[types:rows, columns - 1] = mix
    tableau[:rows, columns : columns + rows] = np.eye(rows)
    tableau[-1, columns - 1] = -1.0
    basis = np.arange(columns, columns + rows)
    while True:
        entering = np.flatnonzero(tableau[-1, :-1] < -1e-12)
        if entering.size == 0:
            return float(tableau[-1, -1])
        # Bland's rule (lowest index enters, lowest index leaves on ties) cannot cycle; the origin
        # is degenerate here, so a faster rule could.
        column = int(entering[0])
        positive = np.flatnonzero(tableau[:rows, column] > 1e-12)
        ratios = tableau[positive, -1] / tableau[positive, column]
        ties = positive[ratios <= ratios.min() + 1e-12]
        row = int(ties[np.argmin(basis[ties])])
        tableau[row] /= tableau[row, column]
        factors = tableau[:, column].copy()
        factors[row] = 0.0
        tableau -= np.outer(factors, tableau[row])
        basis[row] = column
