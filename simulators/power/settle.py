"""What really happens in an interval: forecasts were wrong, units tripped, regulation covers it.

Set-points met the forecast demand. The difference to what comes is moved by regulation: units on
line and storages in proportion to the room that their box leaves, then curtailable units, then load
is shed or generation spilled. So the energy balance of every interval is exact, and all outputs
stay inside the box, ramps included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..interface import Bools, Doubles


@dataclass(frozen=True, slots=True)
class Settled:
    """An interval as it was; MW.

    Attributes:
        power: ``[A]`` outputs at its end.
        mean: ``[A]`` mean outputs, what energy and fuel are counted by.
        moved: by regulation, positive upwards, at the end.
        shed, surplus: mean load that was not served, mean generation that nobody took.
        curtailed: mean available output that was not used.
    """

    power: Doubles
    mean: Doubles
    moved: float
    shed: float
    surplus: float
    curtailed: float


def settle(
    point: Doubles,
    low: Doubles,
    high: Doubles,
    *,
    curtailed: Bools,
    available: Doubles,
    demand: float,
    tripped: list[tuple[int, float]],
    average: Doubles | None = None,
) -> Settled:
    """Realise set-points ``[A]``.

    A curtailable unit gives what is available less the curtailment that its set-point asked for
    (the distance from its forecast limit ``high``).

    Args:
        point: set-points inside ``low .. high`` ``[A]``.
        low: lower ends of the box, 0 of curtailable units.
        high: upper ends of the box; of curtailable units the forecast.
        curtailed: ``[A]`` which units are curtailable.
        available: ``[A]`` what they can really give.
        demand: MW that really has to be met.
        tripped: units that failed in this interval, each once, with the share of it that it ran.
        average: ``[A]`` mean set-points inside the box, where they came late (``None``: ``point``).
    """
    power = given(point, high, curtailed, available)
    top = np.where(curtailed, available, high)
    bottom = low  # of curtailable units it is 0 already
    partial, energy = np.zeros(0, np.int64), np.zeros(0)
    if tripped:
        partial = np.array([agent for agent, _ in tripped])
        energy = power[partial] * np.array([share for _, share in tripped])
        bottom = low.copy()
        power[partial] = top[partial] = bottom[partial] = 0.0
    short = demand - float(power.sum())
    shift, left = _regulate(power, bottom, top, curtailed, short)
    ended = mean = power + shift
    moved = short - left
    if average is not None:
        power = given(average, high, curtailed, available)
        power[partial] = 0.0
    if tripped or average is not None:
        # What failed units gave before they failed did not have to be replaced.
        short = demand - float(power.sum()) - float(energy.sum())
        shift, left = _regulate(power, bottom, top, curtailed, short)
        mean = power + shift
        mean[partial] += energy
    idle = float(np.maximum(top - mean, 0.0) @ curtailed)
    return Settled(ended, mean, moved, max(left, 0.0), max(-left, 0.0), idle)


def given(point: Doubles, high: Doubles, curtailed: Bools, available: Doubles) -> Doubles:
    """Outputs ``[A]`` MW at set-points ``point``, before regulation; see :func:`settle`."""
    return np.where(curtailed, np.maximum(available - (high - point), 0.0), point)


def _regulate(
    power: Doubles, bottom: Doubles, top: Doubles, curtailed: Bools, short: float
) -> tuple[Doubles, float]:
    """Movement of every unit ``[A]`` that covers ``short``, and what it leaves uncovered."""
    room = top - power if short > 0.0 else bottom - power
    first = np.where(curtailed, 0.0, room)
    total = float(first.sum())
    if abs(total) >= abs(short):
        return first * (short / total) if total != 0.0 else first, 0.0
    rest = room - first
    second = float(rest.sum())
    left = short - total
    if abs(second) >= abs(left):
        return (first + rest * (left / second) if second != 0.0 else first), 0.0
    return room, left - second
