"""The analytical model of batch scheduling: drain the weighted queue, fastest first (c-mu).

State x of a partition is the cost per second that its waiting jobs accrue. In the fluid limit a
partition whose whole capacity serves jobs of weight c and area 1/mu (requested seconds times share
of the processors) lowers x at the rate ``c mu``: the c-mu rule (Cox and Smith 1961; Smith's rule
for one batch). A choice moves x by minus that rate times the time that the partition's *shortest*
candidate takes, never by more than the job's own weight. The reference is the empty queue with
unit weights, so that greedy on it picks the largest c-mu index; holding moves nothing and is worth
least.

The influence is the fluid's, not the simulator's next difference: there a job leaves the queue as a
whole, and only when it fits.
"""

from __future__ import annotations

import numpy as np

from ...simulators.cloud.batch_scenario import SwfScenario
from ...simulators.interface import Doubles, Observation
from ..interface import Influence, Reference


class BatchModel:
    """Implements ``AnalyticalModel`` for the scenario ``swf``; d is in squared cost per second."""

    def __init__(self, scenario: SwfScenario):
        self.scenario = scenario
        zero, one = np.zeros(scenario.agents), np.ones(scenario.agents)
        for array in (zero, one):
            array.setflags(write=False)
        self._reference = Reference(zero, one, np.zeros(0), 0.0, 0.0, "optimal")

    @property
    def state_size(self) -> int:
        return self.scenario.agents

    def reference(self, exogenous: Doubles) -> Reference:
        """The empty queue, whatever the clock says."""
        del exogenous
        return self._reference

    def influence(self, observation: Observation) -> Influence:
        """Every waiting job lowers its own partition's queue by its c-mu index."""
        rate = np.asarray(observation.private["rate"], dtype=np.float64)
        weight = np.asarray(observation.private["weight"], dtype=np.float64)
        there = (observation.target >= 0) & (rate > 0.0)
        area = np.where(there, weight / np.where(there, rate, 1.0), np.inf)
        shortest = area.min(axis=1, keepdims=True)
        value = np.where(there, -rate * np.where(np.isfinite(shortest), shortest, 0.0), 0.0)
        partition = np.arange(observation.target.shape[0])[:, None]
        index = np.where(there, partition, -1)
        return Influence(index[:, :, None], value[:, :, None])
