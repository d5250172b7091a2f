"""Backfilling: which waiting jobs may run ahead of a committed job that does not fit yet.

Two rules, both over jobs given by their index into per-job sequences:

- ``greedy``, as in RLScheduler (Zhang et al., SC 2020, arXiv 1910.08925, and its public code): the
  committed job's shadow time is computed once, when it is found not to fit; at every event until it
  fits, any waiting job that fits and would end *before* the shadow time starts, first come first.
- ``easy`` (Lifka 1995; Mu'alem and Feitelson, IEEE TPDS 2001): the shadow time is computed anew at
  every event, and a job may also start if it ends exactly at the shadow time or needs no more
  than the *extra* processors, those still free once the committed job has started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

Backfill = Literal["none", "greedy", "easy"]
BACKFILLS: tuple[Backfill, ...] = get_args(Backfill)


class Reservation(NamedTuple):
    """Earliest start of the committed job by requested times, and what it would leave free then.

    All jobs expected to end at the shadow time count as ended.
    """

    shadow: float
    extra: int


def reserve(need: int, free: int, releases: Iterable[tuple[float, int]]) -> Reservation:
    """Reservation of a job.

    Args:
        need: processors of the job.
        free: processors that are free now.
        releases: (expected end, processors) of the running jobs by rising expected end.

    Raises:
        ValueError: even with all of them ended the job does not fit.
    """
    shadow: float | None = None
    for end, processors in releases:
        if shadow is not None and end > shadow:
            break
        free += processors
        if shadow is None and free >= need:
            shadow = end
    if shadow is not None:
        return Reservation(shadow, free - need)
    raise ValueError(f"a job of {need} processors can never start: only {free} can become free")


class Gap(NamedTuple):
    """What backfilled jobs have to fit into: ``free`` processors from ``now`` on."""

    now: float
    free: int
    reservation: Reservation


def backfill_greedy(
    waiting: Sequence[int], gap: Gap, processors: Sequence[int], request: Sequence[float]
) -> list[int]:
    """Jobs of ``waiting`` (first come first) that start now under the greedy rule."""
    chosen: list[int] = []
    now, free, (shadow, _) = gap
    for job in waiting:
        if free <= 0:
            break
        if processors[job] <= free and now + request[job] < shadow:
            chosen.append(job)
            free -= processors[job]
    return chosen


def backfill_easy(
    waiting: Sequence[int], gap: Gap, processors: Sequence[int], request: Sequence[float]
) -> list[int]:
    """Jobs of ``waiting`` (first come first) that start now under the EASY rule.

    The committed job must not be among ``waiting``, and it must not fit.
    """
    chosen: list[int] = []
    now, free, (shadow, extra) = gap
    for job in waiting:
        if free <= 0:
            break
        need = processors[job]
        if need > free:
            continue
        if now + request[job] > shadow:
            if need > extra:
                continue
            extra -= need
        chosen.append(job)
        free -= need
    return chosen
