"""Fluid queues rolled out exactly, without smoothing: what other forms are checked against.

Point queues at stop lines: what leaves a queue in a step is the least of what is there (arrivals of
the step included), what the greens let go, and its share of the room on the link beyond.
Movements that enter the same link share its room in proportion to what they want to send (Jin,
Zhang, Transportation Research B 37, 2003). Nobody drives: a vehicle that leaves a queue stands in
the next one at the end of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Doubles
from .movement_graph import MovementGraph
from .store_forward_layout import Costs


@dataclass(frozen=True, slots=True)
class FluidRun:
    """A roll-out over N steps.

    Attributes:
        queues: ``[N, M]`` vehicles at the end of each step.
        flows: ``[N, M]`` vehicles that left each queue; finished: ``[N]`` that ended their trip.
    """

    queues: Doubles
    flows: Doubles
    finished: Doubles


def fluid_step(
    graph: MovementGraph,
    queues: Doubles,
    arrivals: Doubles,
    rate: Doubles,
    *,
    step: float,
    storage: bool = True,
) -> tuple[Doubles, Doubles]:
    """Queues ``[M]`` after a step and vehicles ``[M]`` that left them.

    Arrivals from outside join their queue whatever the room (they wait before the link); everybody
    else stays where he is while the link beyond is full. Room that is freed in a step can be used
    in the next.

    Args:
        graph: the control problem.
        queues: ``[M]`` vehicles.
        arrivals: ``[M]`` vehicles from outside.
        rate: ``[M]`` veh/s that greens let go, as ``graph.rate`` has it.
        step: s.
        storage: links hold no more than they can.
    """
    there = queues + arrivals
    flow = np.minimum(there, step * rate)
    if storage:
        wants = np.bincount(graph.target, graph.continuing * flow, minlength=graph.links)
        room = np.maximum(graph.storage - graph.on_link @ there, 0.0)
        # Who ends his trip on a link takes no room there, but needs some to drive into it.
        let = np.where(wants > room, room / np.where(wants > room, wants, 1.0), room > 0.0)
        flow = flow * let[graph.target]
    return there - flow + graph.ratio.T @ flow, flow


def roll_out(
    graph: MovementGraph,
    queues: Doubles,
    arrivals: Doubles,
    greens: Doubles,
    *,
    step: float,
    storage: bool = True,
) -> FluidRun:
    """Follow ``greens`` ``[N, P]`` and ``arrivals`` ``[N, M]`` for N steps of ``step`` s."""
    shape = arrivals.shape
    queued, left = np.zeros(shape), np.zeros(shape)
    now = queues
    for at in range(shape[0]):
        rate = graph.rate(greens[at])
        now, left[at] = fluid_step(graph, now, arrivals[at], rate, step=step, storage=storage)
        queued[at] = now
    return FluidRun(queued, left, left @ (1.0 - graph.continuing))


def cost_of(graph: MovementGraph, queues: Doubles, costs: Costs, interval: float) -> float:
    """What queues ``[K, M]`` after intervals cost, with exact squares and without the reward."""
    occupancy = np.asarray(queues @ graph.on_link.T)
    held = np.minimum(occupancy, graph.storage)
    over = costs.overflow * (occupancy - held)
    base = occupancy if costs.objective == "total_time" else held * held / graph.storage
    return interval * float((base + over).sum())
