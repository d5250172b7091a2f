"""The outputs of a decision as tensors, and what its answer says besides them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..daemon.interface import Entry
from .tensors import Array, Wanted

LOWEST = float(np.finfo(np.float32).min)
"""Stands for minus infinity in ``preference``: no answer holds a number that is not finite."""


def outputs(entry: Entry, wanted: Wanted) -> dict[str, Array]:
    """The wanted output tensors by name.

    ``preference`` is left out where no policy scored anything (set-points, fallbacks): there is no
    honest number for it.
    """
    decision = entry.decision
    found: dict[str, Array] = {}
    for name in wanted.outputs:
        if name == "preference":
            scores = decision.preference
            if scores is not None:
                single = np.asarray(scores, np.float32)
                if not np.isfinite(single).all():
                    single = np.nan_to_num(single, nan=LOWEST, posinf=-LOWEST, neginf=LOWEST)
                found[name] = single
        elif name == "action":
            found[name] = decision.actions
        else:
            found[name] = getattr(decision, name)
    return found


def datatype(array: Array) -> str:
    """The protocol's name of an output's type."""
    return {"f": "FP32", "b": "BOOL"}.get(array.dtype.kind) or f"INT{8 * array.dtype.itemsize}"


def parameters(entry: Entry, left: float | None) -> dict[str, Any]:
    """Identity of the decision; ``left`` is the time until its deadline, s.

    ``valid_until`` (s since 1970) is there if the slot's answers expire.
    """
    decision = entry.decision
    found: dict[str, Any] = {
        "decision": entry.id,
        "bundle": decision.bundle,
        "mode": decision.mode,
        "outcome": decision.outcome,
    }
    if entry.valid_until < float("inf"):
        found["valid_until"] = entry.valid_until
    if left is not None:
        found["deadline_left_ms"] = round(1000.0 * left, 3)
    return found


def headers(entry: Entry) -> dict[str, str]:
    """The same as HTTP headers."""
    decision = entry.decision
    return {
        "Fairlead-Decision": entry.id,
        "Fairlead-Bundle": decision.bundle,
        "Fairlead-Mode": decision.mode,
        "Fairlead-Outcome": decision.outcome,
    }
