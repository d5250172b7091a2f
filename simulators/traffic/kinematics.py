"""How long a car takes over a stretch, and how close behind each other cars leave a queue.

The spatial queue has no car following; what accelerating, braking and slow turns cost is added here
in closed form. A standing queue starts as its start wave reaches it, car after car, and each car
then accelerates to the stop line: the first crossings of a default car come at 1.0, 4.3, 6.7, 8.9
and 11.0 s after green, in SUMO 1.28 at 1.0, 4.2, 6.8, 8.9 and 10.9 s. One figure is fitted for
that: what imperfect driving adds to the start wave.
"""

from __future__ import annotations

from math import sqrt

from .demand import Kind

IMPERFECTION = 0.68
"""Time that ``sigma`` adds between two starts, s per unit."""
STAND = 1.0
"""Distance between the stop line and the first car, m (SUMO)."""
FASTEST = 13.9
"""Speed that a queue reaches over some cars' lengths, m/s; above it headways shrink no more."""
CREEP = 4.5
"""Speed at which a queue that must look for gaps crosses, m/s (SUMO 1.28: 3 to 5)."""
SIGHT = 6.36
"""Speed at which a line that must give way is approached, m/s: from here one stops within SUMO's
4.5 m of sight at 4.5 m/s^2."""


def headway(kind: Kind, speed: float) -> float:
    """Time between two cars of a discharging queue that cross at ``speed`` m/s, s."""
    return wave(kind) + kind.space / min(speed, FASTEST)


def wave(kind: Kind) -> float:
    """Time between the starts of two cars of a standing queue, s."""
    return kind.tau + IMPERFECTION * kind.sigma


def run_up(kind: Kind, rank: int) -> float:
    """Time from its start until the ``rank``-th car of a standing queue crosses, s.

    It accelerates all the way, less than it could by what drivers dawdle.
    """
    return sqrt(2.0 * (STAND + rank * kind.space) / (kind.accel - kind.dawdle))


def starting(kind: Kind, rank: int, speed: float) -> float:
    """Time between the ``rank``-th car of a standing queue and the next one at the stop line, s."""
    gained = run_up(kind, rank + 1) - run_up(kind, rank)
    return wave(kind) + max(gained, kind.space / min(speed, FASTEST))


def stretch(
    length: float, start: float, limit: float, end: float, accel: float, decel: float
) -> float:
    """Seconds over ``length`` m: from ``start`` m/s up to ``limit``, down to ``end`` at the end.

    Where the stretch is too short to reach the limit the car turns from accelerating to braking at
    the highest speed that it can.
    """
    start = min(start, limit)
    end = min(end, limit)
    up = (limit * limit - start * start) / (2.0 * accel)
    down = (limit * limit - end * end) / (2.0 * decel)
    if up + down <= length:
        return (limit - start) / accel + (limit - end) / decel + (length - up - down) / limit
    square = 2.0 * accel * decel * length + decel * start * start + accel * end * end
    peak = sqrt(square / (accel + decel))
    if peak < end:  # accelerating all the way
        return (sqrt(start * start + 2.0 * accel * length) - start) / accel
    if peak < start:  # cannot brake in time; it does so anyway
        return 2.0 * length / (start + end)
    return (peak - start) / accel + (peak - end) / decel


def speed_after(length: float, start: float, limit: float, accel: float) -> float:
    """Speed after accelerating over ``length`` m, m/s."""
    return min(limit, sqrt(start * start + 2.0 * accel * length))


def clearing(length: float, start: float, limit: float, kind: Kind) -> float:
    """Seconds until a car that starts at ``start`` m/s has left ``length`` m of junction behind."""
    distance = length + kind.length
    return stretch(distance, start, limit, limit, kind.accel, kind.decel)
