"""Scores of a node for a job, from named columns; lower is better."""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Doubles
from .rules import Columns


def shortest_delay(columns: Columns) -> Doubles:
    """Delay of the job if every job there were as long as it: (jobs + 1) * service, seconds."""
    return (columns["jobs"] + 1.0) * columns["service"]


def work_left(columns: Columns) -> Doubles:
    """Full-speed work on the node once the job is there: work + service, seconds."""
    return columns["work"] + columns["service"]


def drain_cost(columns: Columns) -> Doubles:
    """Increase of the total response time of a draining processor-sharing node, seconds.

    Jobs with remaining times ``r_i`` that drain under processor sharing have a total response
    time of ``sum over i, j of min(r_i, r_j)``; one more job of ``service`` adds ``service`` for
    itself and each ``min(service, r_i)`` twice.
    """
    return columns["service"] + 2.0 * columns["overlap"]


def best_fit(columns: Columns) -> Doubles:
    """Resources left after the placement, in whole percent of a full node.

    The published Best-Fit baseline of the openb study (Weng et al., USENIX ATC 2023): half
    processor milli over 128,000, half GPU milli over 8,000, score cut to an integer.
    """
    left = 0.5 * columns["cpu_left"] / 128_000.0 + 0.5 * columns["gpu_left"] / 8_000.0
    return -np.floor(100.0 * (1.0 - left))


def fragmentation_descent(columns: Columns) -> Doubles:
    """Fragmentation Gradient Descent: least growth of the GPU milli that typical jobs cannot use.

    Weng et al. (USENIX ATC 2023): the integer part of ``100 sigmoid(-growth / 1000)``, so ties
    are frequent and their rule matters.
    """
    return -np.floor(100.0 / (1.0 + np.exp(columns["fragmentation_delta"] / 1000.0)))
