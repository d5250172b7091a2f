"""Pressure of phases, and the first-order guidance of store-and-forward control that it is.

With ``Phi(x) = 1/2 sum_m a_m (x_m - ref_m)^2`` a second of green for phase p changes queues by
``graph.green_effect[p]`` as long as queues that it serves hold somebody and links beyond have room:

    dPhi / dt = sum_m a_m (x_m - ref_m) green_effect[p, m] = -pressure_p

With a = 1 and ref = 0 that is Varaiya's weight ``sum_m s_m (x_m - sum_n r_mn x_n)`` (Max pressure
control of a network of signalized intersections, Transportation Research C 36, 2013); a = 1 / X is
its capacity-aware form (Gregoire, Qian, Frazzoli, de La Fortelle, Wongpiromsarn, IEEE Transactions
on Control of Network Systems 2, 2015, normalise alike).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from ...simulators.interface import Doubles, Ints
from .movement_graph import MovementGraph


def link_effect(graph: MovementGraph) -> csr_array:
    """``[P, L]`` vehicles by which a second of green changes links, as ``graph.green_effect``."""
    return csr_array(graph.green_effect @ graph.on_link.T)


def storage_weights(graph: MovementGraph) -> Doubles:
    """``[M]`` one over the storage of the link on which a movement's queue stands."""
    return 1.0 / graph.storage[graph.source]


def pressures(
    graph: MovementGraph,
    queues: Doubles,
    *,
    weights: Doubles | None = None,
    reference: Doubles | None = None,
) -> Doubles:
    """``[..., P]`` fall of Phi per second of green.

    Args:
        graph: the control problem.
        queues: ``[..., M]`` vehicles.
        weights: ``[M]`` a; default 1.
        reference: ``[..., M]`` vehicles wanted; default none.
    """
    apart = queues if reference is None else queues - reference
    slope = apart if weights is None else weights * apart
    return np.asarray(-(slope @ graph.green_effect.T), dtype=np.float64)


def link_pressures(
    graph: MovementGraph, occupancy: Doubles, *, reference: Doubles | None = None
) -> Doubles:
    """``[..., P]`` fall of ``1/2 sum_l (x_l - ref_l)^2 / X_l`` per second of green.

    ``occupancy`` and ``reference`` (default none) are ``[..., L]`` vehicles.
    """
    apart = occupancy if reference is None else occupancy - reference
    slope = (apart / graph.storage)[..., graph.source]
    return np.asarray(-(slope @ graph.green_effect.T), dtype=np.float64)


def best_phases(graph: MovementGraph, pressure: Doubles) -> Ints:
    """``[I]`` place in its signal of the phase with most pressure ``[P]``, the first of equals."""
    top = np.maximum.reduceat(pressure, graph.phase_start[:-1])
    candidates = np.flatnonzero(pressure == top[graph.phase_signal])
    first = np.searchsorted(graph.phase_signal[candidates], np.arange(len(graph.signals)))
    return candidates[first] - graph.phase_start[:-1]
