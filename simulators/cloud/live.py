"""The true present, kept up to date while dispatchers decide one after another."""

from __future__ import annotations

import numpy as np

from ..interface import Doubles, Ints
from .exclusive import Ledger, shares
from .snapshot import Snapshot


class LiveNodes:
    """A mutable copy of a snapshot; a ``NodeView`` for small queries."""

    def __init__(self, snapshot: Snapshot):
        self.jobs = snapshot.jobs.copy()
        self.work = snapshot.work.copy()
        self.utilisation = snapshot.utilisation
        self.up = snapshot.up
        self.cpu = snapshot.cpu.copy()
        self.memory = snapshot.memory.copy()
        self.gpu = snapshot.gpu.copy()
        self.fragmentation = snapshot.fragmentation.copy()
        self._start = snapshot.start
        self._remaining = snapshot.remaining
        self._lists: dict[int, list[float]] = {}

    def overlap(self, node: Ints, service: Doubles) -> Doubles:
        """Sum over the jobs on ``node`` of ``min(service, remaining)``, s."""
        total = [
            sum([min(left, wanted) for left in self._on(at)])
            for at, wanted in zip(node.tolist(), service.tolist(), strict=True)
        ]
        return np.array(total, dtype=np.float64)

    def add(self, node: int, service: float) -> None:
        """A job of ``service`` seconds was placed on ``node``."""
        self.jobs[node] += 1
        self.work[node] += service
        self._on(node).append(service)

    def reload(self, ledger: Ledger, node: int) -> tuple[float, float]:
        """Read a node's free resources again; returns (F in GPUs, dominant share)."""
        resources, row = ledger.resources, np.array([node])
        self.cpu[node] = ledger.cpu[node]
        self.memory[node] = ledger.memory[node]
        self.gpu[node] = ledger.gpu[node]
        measured = resources.fragmentation(self.cpu[row], self.gpu[row], resources.model[row])
        self.fragmentation[node] = measured[0]
        free = self.gpu[row].sum(axis=1)
        share = shares(resources, row, self.cpu[row], self.memory[row], free)
        return float(measured[0]) / 1000.0, float(share[0])

    def _on(self, node: int) -> list[float]:
        found = self._lists.get(node)
        if found is None:
            found = self._remaining[self._start[node] : self._start[node + 1]].tolist()
            self._lists[node] = found
        return found
