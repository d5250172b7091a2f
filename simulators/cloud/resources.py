"""Vector resources of nodes and demands of jobs, in integer milli-units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Ints
from .fragmentation import Fragmentation


@dataclass(frozen=True, eq=False)
class Demands:
    """Kinds of vector demand; D rows.

    Attributes:
        cpu: ``[D]`` milli-cores.
        memory: ``[D]`` MiB.
        gpus: ``[D]`` devices (0: none).
        gpu_milli: ``[D]`` on each device, 1..1000 (0: none).
        accepts: ``[D, models]`` GPU models that will do.
    """

    cpu: Ints
    memory: Ints
    gpus: Ints
    gpu_milli: Ints
    accepts: Bools


@dataclass(frozen=True, eq=False)
class Resources:
    """Capacities of M nodes, the demand kinds of the workload, and the fragmentation measure.

    Attributes:
        cpu, memory: ``[M]`` milli-cores, MiB.
        gpus: ``[M]`` devices of 1,000 milli.
        model: ``[M]`` GPU model, -1 without GPUs.
        demands: what jobs may ask for.
        fragmentation: FGD's F for the typical pods of the workload.
    """

    cpu: Ints
    memory: Ints
    gpus: Ints
    model: Ints
    demands: Demands
    fragmentation: Fragmentation

    def capable(self) -> Bools:
        """``[D, M]``: whether an empty node could host a demand."""
        d = self.demands
        fits = (d.cpu[:, None] <= self.cpu) & (d.memory[:, None] <= self.memory)
        fits &= d.gpus[:, None] <= self.gpus
        model_fits = d.accepts[:, np.maximum(self.model, 0)] & (self.model >= 0)
        return fits & ((d.gpus[:, None] == 0) | model_fits)
