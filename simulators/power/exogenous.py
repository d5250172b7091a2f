"""What the analytical model is told of an epoch, packed into ``Observation.exogenous``.

All of it is settled before the joint decision: forecasts, the state of units and branches, and the
box that ramps leave around the present outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Doubles, Ints


@dataclass(frozen=True, slots=True)
class Outlook:
    """The unpacked vector.

    Attributes:
        power, low, high: ``[A]`` MW, present outputs and the coming interval's box.
        top: ``[A]`` MW upper limit of units while they stay on (0: off or failed).
        stored: ``[A]`` MWh.
        demand: ``[L]`` MW expected, coming interval first.
        injection: ``[B]`` MW of everything but the agents, expected in the coming interval.
        closed: ``[branches]`` bool, branches in service.
        available: ``[L, C]`` MW expected upper limits of the curtailable agents.
    """

    power: Doubles
    low: Doubles
    high: Doubles
    top: Doubles
    stored: Doubles
    demand: Doubles
    injection: Doubles
    closed: np.ndarray[tuple[int], np.dtype[np.bool_]]
    available: Doubles


class Packing:
    """Sizes of the parts, and both directions.

    Args:
        agents: A.
        leads: L.
        buses: B.
        branches: number of AC branches.
        curtailed: ``[C]`` curtailable agents.
    """

    def __init__(
        self, *, agents: int, leads: int, buses: int, branches: int, curtailed: Ints
    ) -> None:
        self.curtailed = curtailed
        self.agents, self.leads, self.buses, self.branches = agents, leads, buses, branches
        sizes = [agents] * 5 + [leads, buses, branches, leads * curtailed.size]
        self._ends = np.cumsum(sizes)[:-1]
        self.size = int(sum(sizes))

    def pack(self, parts: tuple[Doubles, ...]) -> Doubles:
        """The vector ``[E]`` of the parts in the order of :class:`Outlook`."""
        return np.concatenate([part.ravel() for part in parts])

    def unpack(self, exogenous: Doubles) -> Outlook:
        """Views of the parts.

        Raises:
            ValueError: a vector of another length.
        """
        if exogenous.shape != (self.size,):
            raise ValueError(f"exogenous has shape {exogenous.shape}, expected ({self.size},)")
        parts = np.split(exogenous, self._ends)
        return Outlook(
            *parts[:7],
            closed=parts[7] > 0.5,
            available=parts[8].reshape(self.leads, self.curtailed.size),
        )
