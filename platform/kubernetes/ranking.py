"""Scores of nodes as a scheduler extender returns them: whole numbers from 0 to 10."""

from __future__ import annotations

import numpy as np

from ...simulators.interface import Bools, Ints
from ..decision.types import Actions

HIGHEST = 10
"""``MaxExtenderPriority`` of k8s.io/kube-scheduler/extender/v1."""


def ranked(value: Actions, legal: Bools, chosen: int) -> Ints:
    """``[M]`` scores: ``chosen`` alone has 10, other legal nodes 0..9, illegal ones 0.

    kube-scheduler adds extender scores to its plugins' and draws among equal sums. Hence the
    winner must stand alone; the others are spread linearly by ``value`` so that a node that the
    scheduler's plugins strongly prefer can still win where the policy is nearly indifferent.

    Args:
        value: ``[M]`` finite where legal, higher is better.
        legal: ``[M]`` nodes that can take the pod.
        chosen: position of the winner, -1 without one (then all are 0).
    """
    scores = np.zeros(legal.shape[0], dtype=np.int64)
    if chosen < 0:
        return scores
    others = legal.copy()
    others[chosen] = False
    rest = np.flatnonzero(others)
    if rest.size:
        low, high = float(value[rest].min()), float(value[rest].max())
        top = max(high, float(value[chosen]))
        if top > low:
            share = (value[rest].astype(np.float64) - low) / (top - low)
            scores[rest] = np.clip(np.floor(share * HIGHEST), 0, HIGHEST - 1).astype(np.int64)
    scores[chosen] = HIGHEST
    return scores
