"""Questions about whole arrays, in the form that costs least for a few hundred numbers.

``array.all()`` goes through a reduction that takes some microseconds to set up, counting does not;
a decision asks a dozen such questions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import Bools, Ints, Observation

_MOVED = 0.02
"""Share of its box that a set-point moves at least to count as another one: sampled numbers are
never quite the same twice."""


def every(found: Bools) -> bool:
    """All of them are true."""
    return int(np.count_nonzero(found)) == found.size


def some(found: Bools | Ints) -> bool:
    """At least one is true (or not zero)."""
    return bool(np.count_nonzero(found))


def among(actions: Ints, choices: int) -> bool:
    """All are at least 0 and below ``choices``; negative ones are huge when read as unsigned."""
    return every(actions.view(np.uint64) < np.uint64(choices))


def apart(one: NDArray[Any], other: NDArray[Any], observation: Observation) -> Bools:
    """``[n]`` agents that act otherwise: another candidate, a set-point clearly elsewhere.

    A set-point that is not a number (nobody decided yet) is elsewhere.
    """
    if one.ndim == 1:
        return one != other
    near = np.abs(one - other) <= _MOVED * (observation.high - observation.low)
    return ~(near | (one == other)).all(axis=1)
