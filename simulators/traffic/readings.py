"""What detectors tell at one instant, lane by lane: the same from our simulator and from SUMO."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..interface import Doubles

NEAR = 50.0
"""m before the stop line within which ``near`` counts (RESCO's greedy rule)."""
RANGE = 200.0
"""m before the stop line that detectors see."""
STANDING = 0.1
"""m/s below which a vehicle counts as queued, as in SUMO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Lane by lane, ``[P]`` float64 each.

    Attributes:
        queue: vehicles that stand (in range).
        near: vehicles within :data:`NEAR` of the stop line, standing or not.
        seen: vehicles within :data:`RANGE` of the stop line, standing or not.
        soon: moving vehicles that would reach the stop line within the decision interval.
        count: all vehicles on the lane.
        wait: sum of the time that queued vehicles have stood, s.
        longest: longest time that a queued vehicle has stood, s.
    """

    queue: Doubles
    near: Doubles
    seen: Doubles
    soon: Doubles
    count: Doubles
    wait: Doubles
    longest: Doubles

    def split(self, lanes: int) -> tuple[Readings, Readings]:
        """Readings of the first ``lanes``, and of the rest."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        first = Readings(**{name: value[:lanes] for name, value in values.items()})
        return first, Readings(**{name: value[lanes:] for name, value in values.items()})
