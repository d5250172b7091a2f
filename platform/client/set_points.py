"""Set-points as messages for any control system: who, what, how fast, until when and why.

The neutral form between Fairlead and a plant's own protocol (IEC 60870-5-104, DNP3, IEEE 2030.5,
Modbus): five fields a unit, JSON by :meth:`SetPoint.document`. ``valid_until`` is the expiry: a
unit that has nothing newer by then holds its output or follows its own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np

from ...simulators.interface import Doubles
from ..decision.types import Cause, Source
from .asking import Answer


@dataclass(frozen=True, slots=True)
class SetPoint:
    """What one unit is told.

    Attributes:
        unit: its name.
        power: MW to be reached at the end of the interval; negative: consumed.
        ramp: MW/min on the way there.
        valid_until: s since 1970; infinite: until the next one.
        reason: who decided, and why it is not the plain policy's: ``policy``,
            ``projected: coupling``, ``baseline: stale``.
    """

    unit: str
    power: float
    ramp: float
    valid_until: float
    reason: str

    def document(self) -> dict[str, Any]:
        """JSON-able; the time is ISO 8601 in UTC, null where nothing expires."""
        until = None
        if isfinite(self.valid_until):
            until = datetime.fromtimestamp(self.valid_until, UTC).isoformat(timespec="milliseconds")
        return {
            "unit": self.unit,
            "set_point_mw": self.power,
            "ramp_mw_per_min": self.ramp,
            "valid_until": until,
            "reason": self.reason,
        }


def set_points(
    answer: Answer, units: Sequence[str], present: Doubles, interval: float
) -> tuple[SetPoint, ...]:
    """The message to every unit.

    Args:
        answer: set-points ``[n, 1]`` MW.
        units: ``[n]`` names.
        present: ``[n]`` MW where they stand.
        interval: s until the set-points shall be reached.

    Raises:
        ValueError: other numbers of units, outputs and set-points.
    """
    power = answer.actions.astype(np.float64)
    if power.shape != (len(units), 1) or present.shape != (len(units),):
        raise ValueError(
            f"{len(units)} units, outputs {present.shape} and set-points {power.shape} do not fit"
        )
    ramp = np.abs(power[:, 0] - present) * 60.0 / interval
    return tuple(
        SetPoint(unit, to, speed, answer.valid_until, _reason(source, cause))
        for unit, to, speed, source, cause in zip(
            units,
            power[:, 0].tolist(),
            ramp.tolist(),
            answer.source.tolist(),
            answer.cause.tolist(),
            strict=True,
        )
    )


def _reason(source: int, cause: int) -> str:
    maker = Source(source).name.lower()
    return maker if cause == Cause.NONE else f"{maker}: {Cause(cause).name.lower()}"
