"""Greedy choice of who steps next, without measuring everybody each time (HATRPO-G).

After arXiv 2508.10340: the next group is the one with the largest improvement per KL, measured
under the compound ratio of the groups that moved before. With one trial budget delta for all, the
quadratic model gives the ratio ``sqrt(2 k / delta)``, so k itself can serve as the priority. The
full greedy measures all remaining groups before each choice: O(n^2) natural gradients.

Lazy evaluation (Minoux 1978) keeps each group's last measured priority as an upper bound. Only a
group at the top of the queue is measured again, and it is certain to be the best as soon as its
fresh priority beats every bound below it. If priorities never grow between rounds (the submodular
case), the choices are those of the full greedy, ties included. If one does grow, its group may be
chosen later than the full greedy would: what is chosen still beats the *last measured* priority of
everyone left. ``grown`` counts such measurements, so that a run shows how often it could matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...simulators.interface import Bools, Doubles, Ints

Evaluate = Callable[[Ints], Doubles]
"""Fresh priorities of the given groups, ``[m]`` to ``[m]``, under the present compound ratio."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Groups in the order of choice, best first, and their fresh priorities; both ``[count]``."""

    groups: Ints
    priorities: Doubles


class LazyQueue:
    """Groups ``0 ... n - 1`` by stale priority.

    NaN counts as minus infinity: a group about which nothing is known comes last. Equal priorities
    are served by lower index first.

    Attributes:
        evaluations: priorities asked for so far.
        grown: how many of them were above the bound that they replaced.
    """

    def __init__(self, priorities: Doubles, *, fresh: bool = True) -> None:
        """Queue all groups.

        Args:
            priorities: ``[n]``, or upper bounds of them.
            fresh: whether they hold under the present compound ratio; if so, the first choice
                needs no evaluation.
        """
        self._priority = _known(priorities)
        self._fresh: Bools = np.full(self._priority.shape, fresh)
        self._waiting: Bools = np.ones(self._priority.shape, dtype=np.bool_)
        self.evaluations = 0
        self.grown = 0

    def __len__(self) -> int:
        return int(self._waiting.sum())

    @property
    def remaining(self) -> Ints:
        """Groups not taken yet, ascending."""
        return np.flatnonzero(self._waiting)

    def take(self, count: int, evaluate: Evaluate) -> Taken:
        """Remove the ``count`` best groups (all, if fewer are left).

        All priorities are stale afterwards, because the groups taken are about to move. Stale
        groups among the top ``count`` are measured in one call: none of them could be skipped,
        since bounds only sink.

        Raises:
            ValueError: ``count`` below 1, or ``evaluate`` returns another number of priorities.
        """
        if count < 1:
            raise ValueError(f"count = {count}: take at least 1 group")
        while True:
            best = _best(self._priority, self.remaining, count)
            stale = best[~self._fresh[best]]
            if not stale.size:
                break
            fresh = _measured(evaluate, stale)
            self.evaluations += stale.size
            self.grown += int((fresh > self._priority[stale]).sum())
            self._priority[stale] = fresh
            self._fresh[stale] = True
        self._waiting[best] = False
        self._fresh[:] = False
        return Taken(best, self._priority[best].copy())


def full_greedy(remaining: Ints, count: int, evaluate: Evaluate) -> Taken:
    """The same choice by measuring every remaining group; the lazy queue is checked against it."""
    priorities = np.full(int(remaining.max(initial=-1)) + 1, -np.inf)
    priorities[remaining] = _measured(evaluate, remaining)
    best = _best(priorities, remaining, count)
    return Taken(best, priorities[best])


def _best(priorities: Doubles, among: Ints, count: int) -> Ints:
    """Up to ``count`` of the ascending indices ``among``, largest priority first."""
    return among[np.argsort(-priorities[among], kind="stable")[:count]]


def _measured(evaluate: Evaluate, groups: Ints) -> Doubles:
    priorities = np.asarray(evaluate(groups), dtype=np.float64)
    if priorities.shape != groups.shape:
        raise ValueError(
            f"evaluate returned shape {priorities.shape} for {groups.size} groups: return one "
            "priority per group"
        )
    return _known(priorities)


def _known(priorities: Doubles) -> Doubles:
    return np.where(np.isnan(priorities), -np.inf, priorities)
