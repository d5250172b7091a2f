"""What a policy has seen in training, as quantiles: what the out-of-distribution gate compares to.

A bundle's manifest keeps them as ``observed``::

    {"agent":     {"low": [F], "high": [F], "edges": [[11], ...], "usual": [F]},    F lists
     "candidate": {"low": [C], "high": [C], "edges": [[11], ...], "usual": [C]},    C lists
     "stretch": epochs}

in raw units. ``agent`` is about every agent at every epoch of the recorded episodes, ``candidate``
about the legal candidates other than hold of the active agents. The 11 inner edges cut each column
into 12 bins of about equal counts (fewer distinct ones where a value is frequent). A part about
which the episodes say nothing (no agent ever had a choice, or all set boxes) has empty lists.

Epochs are no independent samples: load, and all that follows it, comes in waves, so that a stretch
of an episode never looks like all of them. ``usual`` is the highest population stability index that
any ``stretch`` epochs of the recorded episodes have against all: what is no drift. Bundles that
were written before it lack it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Floats, Spec
from .decision.drift import indices
from .tasks import Episode

BINS = 12
_ROWS = 100_000
"""Rows that the quantiles are taken from; bounds are taken from all."""
STRETCH = 64
"""Epochs of a stretch, fewer where the episodes are shorter. A minute at an epoch of one second: of
the ``dispatch`` scenario, twice as much calls a day of 2,000 epochs (trained on 200) drift, half as
much overlooks a load of 0.4 or 0.9 (trained on 0.7)."""
_STRETCH_ROWS = 20_000


Recording = tuple[Episode, int]
"""An episode, and how many of its epochs count."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One part's rows ``[N, columns]`` of one episode, thinned, and those of its stretches."""

    low: Floats
    high: Floats
    rows: Floats
    stretches: Sequence[Floats]


def observed_of(episodes: Sequence[Recording]) -> dict[str, Any]:
    """Quantiles of recorded episodes, JSON-able.

    Raises:
        ValueError: a recorded feature is not finite; names the part and the column.
    """
    length = min(STRETCH, *(epochs for _, epochs in episodes))
    keep = max(1, _ROWS // len(episodes))
    agent: list[_Seen] = []
    candidate: list[_Seen] = []
    for episode, epochs in episodes:
        own = episode.agent[:epochs]
        agent.append(_seen("agent", list(own), length, keep))
        candidate.append(_seen("candidate", _options(episode, epochs), length, keep))
    return {"agent": _part(agent), "candidate": _part(candidate), "stretch": length}


def _options(episode: Episode, epochs: int) -> list[Floats]:
    """Rows of the candidates on offer, by epoch; none where agents set boxes."""
    if episode.low is not None:
        return [np.zeros((0, 0), np.float32)] * epochs
    offered = episode.mask[:epochs] & episode.active[:epochs, :, None]
    offered[:, :, HOLD] = False
    return [episode.candidates[at][offered[at]] for at in range(epochs)]


def check_observed(observed: object, spec: Spec) -> str:
    """What is wrong with a manifest's ``observed``; empty if nothing is."""
    if not isinstance(observed, Mapping):
        return "there is no 'observed'"
    wanted = {"agent": len(spec.agent_features), "candidate": len(spec.candidate_features)}
    for part, columns in wanted.items():
        wrong = _wrong(f"observed.{part}", observed.get(part), columns)
        if wrong:
            return wrong
    stretch = observed.get("stretch", 1)
    if type(stretch) is not int or stretch < 1:
        return f"observed.stretch = {stretch!r}; accepted: a number of epochs"
    return ""


def _wrong(name: str, found: Any, columns: int) -> str:
    try:
        low, high = (np.array(found[key], np.float64) for key in ("low", "high"))
        edges = np.array(found["edges"], np.float64).reshape(-1, BINS - 1)
    except (KeyError, TypeError, ValueError) as error:
        return f"{name} is not quantiles: {error!r}"
    if not low.shape == high.shape == (len(edges),) or len(edges) not in (0, columns):
        return f"{name} is about {len(edges)} features, the spec has {columns}"
    ladder = np.column_stack([low, edges, high])
    if not (np.isfinite(ladder).all() and (np.diff(ladder, axis=1) >= 0.0).all()):
        return f"{name} holds quantiles that are not finite or not in order"
    if not _levels(found.get("usual", [0.0] * len(edges)), len(edges)):
        return f"{name}.usual is not a finite level for each feature"
    return ""


def _levels(found: object, columns: int) -> bool:
    levels = cast("list[object]", found) if isinstance(found, list) else []
    return len(levels) == columns and all(
        isinstance(each, float) and 0.0 <= each < np.inf for each in levels
    )


def _seen(part: str, epochs: Sequence[Floats], length: int, keep: int) -> _Seen:
    """Of the rows of each epoch."""
    rows = np.concatenate(epochs)
    if not len(rows):
        return _Seen(rows, rows, rows, ())
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=0))
    if bad.size:
        raise ValueError(f"recorded {part} feature {bad[0]} holds values that are not finite")
    stretches = [
        _thinned(np.concatenate(epochs[start : start + length]), _STRETCH_ROWS)
        for start in range(0, len(epochs) - length + 1, max(1, length // 4))
    ]
    low, high = rows.min(axis=0, keepdims=True), rows.max(axis=0, keepdims=True)
    return _Seen(low, high, _thinned(rows, keep), stretches)


def _thinned(rows: Floats, most: int) -> Floats:
    return rows[:: max(1, -(-len(rows) // most))]


def _part(seen: Sequence[_Seen]) -> dict[str, Any]:
    rows = np.concatenate([each.rows for each in seen])
    if not len(rows):
        return {"low": [], "high": [], "edges": [], "usual": []}
    low = np.concatenate([each.low for each in seen]).min(axis=0).astype(np.float64)
    high = np.concatenate([each.high for each in seen]).max(axis=0).astype(np.float64)
    shares = np.arange(1, BINS) / BINS
    edges: NDArray[np.float64] = np.quantile(rows.astype(np.float64), shares, axis=0)
    # Interpolation rounds; an edge out of order or bounds would look like damage on loading.
    edges = np.maximum.accumulate(np.clip(edges, low, high), axis=0)
    found = {"low": low.tolist(), "high": high.tolist(), "edges": edges.T.tolist()}
    levels = [indices(found, stretch) for each in seen for stretch in each.stretches]
    usual = np.nanmax([np.zeros(len(low)), *levels], axis=0)
    return {**found, "usual": usual.tolist()}
