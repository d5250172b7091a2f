"""What the analytical models are told of an epoch, packed into ``Observation.exogenous``.

All of it is settled before the joint decision: forecasts, the state of units and branches, and the
box that ramps leave around the present outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles


@dataclass(frozen=True, slots=True)
class Outlook:
    """The unpacked vector.

    Attributes:
        power, low, high: ``[A]`` MW, present outputs and the coming interval's box.
        top: ``[A]`` MW upper limit of units while they stay on (0: off or failed).
        stop_in: ``[A]`` intervals until an announced stop, a large number if there is none.
        stored: ``[A]`` MWh.
        reserve: MW of spinning reserve that is required.
        load: ``[L, areas]`` MW expected, the coming interval first.
        available: ``[L, V]`` MW expected of every renewable unit of the series.
        closed: ``[branches]`` bool, branches in service.
    """

    power: Doubles
    low: Doubles
    high: Doubles
    top: Doubles
    stop_in: Doubles
    stored: Doubles
    reserve: float
    load: Doubles
    available: Doubles
    closed: Bools


class Packing:
    """Sizes of the parts, and both directions.

    Args:
        agents: A.
        leads: L.
        areas: load areas.
        series: V, renewable units of the series.
        branches: number of AC branches.
    """

    def __init__(self, *, agents: int, leads: int, areas: int, series: int, branches: int) -> None:
        self.agents = agents
        self._shapes = ((leads, areas), (leads, series))
        sizes = [agents] * 6 + [1, leads * areas, leads * series, branches]
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
        power, low, high, top, stop_in, stored, reserve, load, available, closed = np.split(
            exogenous, self._ends
        )
        return Outlook(
            power=power,
            low=low,
            high=high,
            top=top,
            stop_in=stop_in,
            stored=stored,
            reserve=float(reserve[0]),
            load=load.reshape(self._shapes[0]),
            available=available.reshape(self._shapes[1]),
            closed=closed > 0.5,
        )
