"""The random half of an episode: which workload a scenario opens, and what already runs."""

from __future__ import annotations

import numpy as np

from ..streams import Streams
from .cluster import Cluster
from .fleet import Fleet
from .kernel import Job
from .llm_fleet import LlmFleet, TraceWorkload
from .openb_fleet import OpenbFleet, PodLaw
from .scenario import DispatchScenario, OpenbScenario, Scenario
from .workload import Estimates, JobLaw, PatternWorkload, SpeedLaw, Workload

BACKGROUND = -1
"""Owner of jobs that were running before the episode; they belong to nobody's cost."""


def open_workload(scenario: Scenario, fleet: Fleet, streams: Streams) -> Workload:
    """The arrivals of one episode of ``scenario``, whose fleet is ``fleet``."""
    estimates = Estimates(spread=scenario.estimate_error, streams=streams)
    if isinstance(fleet, LlmFleet):
        return TraceWorkload(fleet=fleet, estimates=estimates, streams=streams)
    if isinstance(fleet, OpenbFleet) and isinstance(scenario, OpenbScenario):
        law: JobLaw = PodLaw(fleet, streams.generator("pods"))
    elif isinstance(scenario, DispatchScenario):
        law = SpeedLaw(
            size=scenario.size,
            seconds=fleet.mean_service / scenario.size.mean,
            rng=streams.generator("sizes"),
        )
    else:
        raise TypeError(f"scenario {scenario.name!r} does not go with a {type(fleet).__name__}")
    return PatternWorkload(
        fleet=fleet, pattern=scenario.pattern, law=law, estimates=estimates, streams=streams
    )


def prefill(fleet: Fleet, share: float, cluster: Cluster, streams: Streams) -> None:
    """Start with ``share`` of the GPUs taken by pods of the list, on random nodes that fit.

    An episode would otherwise spend its first half filling an empty cluster.
    """
    if share <= 0.0 or not isinstance(fleet, OpenbFleet) or cluster.ledger is None:
        return
    rng = streams.generator("background")
    law = PodLaw(fleet, rng)
    demands, capable = fleet.vectors.demands, fleet.vectors.capable()
    milli = demands.gpus * demands.gpu_milli
    wanted = share * float(fleet.vectors.gpus.sum()) * 1000.0
    taken, refused = 0.0, 0
    while taken < wanted and refused < ATTEMPTS:
        for demand, left in zip(*(column.tolist() for column in law.background(256)), strict=True):
            job = Job(BACKGROUND, 0, left, 0.0, [left] * len(fleet.types), left, demand)
            nodes = rng.permutation(np.flatnonzero(capable[demand]))[:ATTEMPTS].tolist()
            fitting = next((node for node in nodes if cluster.accepts(job, node)), None)
            if fitting is None:
                refused += 1
                continue
            cluster.place(job, fitting)
            taken += float(milli[demand])
            if taken >= wanted:
                break


ATTEMPTS = 32
"""Nodes tried per background pod, and refused pods after which filling stops."""
