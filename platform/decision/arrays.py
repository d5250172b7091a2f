"""Questions about whole arrays, in the form that costs least for a few hundred numbers.

``array.all()`` goes through a reduction that takes some microseconds to set up, counting does not;
a decision asks a dozen such questions.
"""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Bools, Ints


def every(found: Bools) -> bool:
    """All of them are true."""
    return int(np.count_nonzero(found)) == found.size


def some(found: Bools | Ints) -> bool:
    """At least one is true (or not zero)."""
    return bool(np.count_nonzero(found))


def among(actions: Ints, choices: int) -> bool:
    """All are at least 0 and below ``choices``; negative ones are huge when read as unsigned."""
    return every(actions.view(np.uint64) < np.uint64(choices))
