"""What a policy has seen in training, as quantiles: what the out-of-distribution gate compares to.

A bundle's manifest keeps them as ``observed``::

    {"agent":     {"low": [F], "high": [F], "edges": [[11], ...]},    F lists
     "candidate": {"low": [C], "high": [C], "edges": [[11], ...]}}    C lists

in raw units. ``agent`` is about every agent at every epoch of the recorded episode, ``candidate``
about the legal candidates other than hold of the active agents. The 11 inner edges cut each column
into 12 bins of about equal counts (fewer distinct ones where a value is frequent). A part about
which the episode says nothing (no agent ever had a choice) has empty lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Floats, Spec
from .tasks import Episode

BINS = 12
_ROWS = 100_000
"""Rows that the quantiles are taken from; bounds are taken from all."""


def observed_of(episode: Episode, *, epochs: int) -> dict[str, Any]:
    """Quantiles of the first ``epochs`` of a recorded episode, JSON-able.

    Raises:
        ValueError: a recorded feature is not finite; names the part and the column.
    """
    agent = episode.agent[:epochs]
    offered = episode.mask[:epochs] & episode.active[:epochs, :, None]
    offered[:, :, HOLD] = False
    return {
        "agent": _columns("agent", agent.reshape(-1, agent.shape[2])),
        "candidate": _columns("candidate", episode.candidates[:epochs][offered]),
    }


def check_observed(observed: object, spec: Spec) -> str:
    """What is wrong with a manifest's ``observed``; empty if nothing is."""
    if not isinstance(observed, Mapping):
        return "there is no 'observed'"
    wanted = {"agent": len(spec.agent_features), "candidate": len(spec.candidate_features)}
    for part, columns in wanted.items():
        found: Any = observed.get(part)
        try:
            low, high = (np.array(found[key], np.float64) for key in ("low", "high"))
            edges = np.array(found["edges"], np.float64).reshape(-1, BINS - 1)
        except (KeyError, TypeError, ValueError) as error:
            return f"observed.{part} is not quantiles: {error!r}"
        if not low.shape == high.shape == (len(edges),) or len(edges) not in (0, columns):
            return f"observed.{part} is about {len(edges)} features, the spec has {columns}"
        ladder = np.column_stack([low, edges, high])
        if not (np.isfinite(ladder).all() and (np.diff(ladder, axis=1) >= 0.0).all()):
            return f"observed.{part} holds quantiles that are not finite or not in order"
    return ""


def _columns(part: str, rows: Floats) -> dict[str, Any]:
    if not len(rows):
        return {"low": [], "high": [], "edges": []}
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=0))
    if bad.size:
        raise ValueError(f"recorded {part} feature {bad[0]} holds values that are not finite")
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    stride = -(-len(rows) // _ROWS)
    shares = np.arange(1, BINS) / BINS
    edges: NDArray[np.float64] = np.quantile(rows[::stride].astype(np.float64), shares, axis=0)
    # Interpolation rounds; an edge out of order or bounds would look like damage on loading.
    edges = np.maximum.accumulate(np.clip(edges, low, high), axis=0)
    return {"low": low.tolist(), "high": high.tolist(), "edges": edges.T.tolist()}
