"""When the queues of lanes last moved: the little history that detectors need."""

from __future__ import annotations

from array import array
from math import inf


class Motion:
    """Of all lanes of one episode.

    A queue moves from the first vehicle that leaves it until its head must wait again.

    Args:
        lanes: P.

    Attributes:
        gone: ``[P]`` vehicles that have left the lane.
        last: ``[P]`` s at which one last did.
        started: ``[P]`` s at which the queue began to move, inf while it stands.
        gone_before, last_before: ``[P]`` ``gone`` and ``last`` as they were just before that.
    """

    def __init__(self, lanes: int) -> None:
        self.gone = array("q", bytes(8 * lanes))
        self.last = array("d", bytes(8 * lanes))
        self.started = array("d", [inf]) * lanes
        self.gone_before = array("q", bytes(8 * lanes))
        self.last_before = array("d", bytes(8 * lanes))

    def leave(self, lane: int, now: float) -> None:
        """The lane's head leaves it."""
        if self.started[lane] == inf:
            self.started[lane] = now
            self.gone_before[lane] = self.gone[lane]
            self.last_before[lane] = self.last[lane]
        self.gone[lane] += 1
        self.last[lane] = now

    def halt(self, lane: int) -> None:
        """The lane's head must wait."""
        self.started[lane] = inf
