"""The order of the automatic generation control, divided among units."""

from __future__ import annotations

import numpy as np

from ..interface import Doubles


def shares(total: float, participation: Doubles, up: Doubles, down: Doubles) -> Doubles:
    """Each unit's part of the control's order, MW ``[U]``.

    Proportional to ``participation`` as long as no unit meets its range (``up``, ``down`` MW, not
    negative); what a unit at its limit cannot give, the others give in proportion. An order beyond
    the range of all of them is cut to it.
    """
    limit = up if total >= 0.0 else down
    limit = np.where(participation > 0.0, limit, 0.0)
    wanted = abs(total)
    if wanted >= limit.sum():
        return np.copysign(limit, total)
    # Water filling: in the order of the limits, find the level that the free ones must reach.
    weight = np.where(participation > 0.0, participation, 0.0)
    level = np.divide(limit, weight, out=np.zeros_like(limit), where=weight > 0.0)
    order = np.argsort(level, kind="stable")
    full = np.concatenate([[0.0], np.cumsum(limit[order])[:-1]])
    free = np.cumsum(weight[order][::-1])[::-1]
    gives = full + free * level[order]
    first = int(np.argmax(gives > wanted))
    reached = (wanted - full[first]) / free[first]
    return np.copysign(np.minimum(limit, weight * reached), total)
