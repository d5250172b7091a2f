"""One junction: which lanes lead where, who crosses whom, and how long each turn is.

Roads meet at right angles, carry as many lanes in as out, and are driven on the right. Lengths and
speeds inside the junction follow netconvert (SUMO 1.28): stop lines lie half the crossing road and
a corner of 4 m before the centre, turns are curves of five points, and their speed is
``sqrt(5.5 (length / 75 degrees + 0.8))``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..interface import Bools

LANE_WIDTH = 3.2
"""m."""
CORNER = 4.0
"""m, radius of the kerb between two roads."""

_SIDE_FORCE = 5.5
_TURN_ANGLE = math.radians(75.0)
_CURVE = (0.0625, 0.1875, 0.3125, 0.4375)


@dataclass(frozen=True, slots=True)
class Arm:
    """A road at a junction: ``bearing`` in degrees clockwise from north, lanes per direction."""

    bearing: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Path:
    """A connection: from ``lane`` of one arm to lane ``target`` of another; ``turn`` r, s or l."""

    arm: int
    lane: int
    turn: str
    leave: int
    target: int


def turn_between(arms: tuple[Arm, ...], enter: int, leave: int) -> str:
    """``r``, ``s`` or ``l``; ``t`` back into the same road."""
    quarters = (arms[leave].bearing - arms[enter].bearing) // 90 % 4
    return "tlsr"[quarters]


def lane_turns(lanes: int, turns: str, *, protected: bool) -> tuple[str, ...]:
    """The turns that each lane may take, rightmost lane first.

    One lane takes all. Otherwise the rightmost lane turns right and goes straight, the others go
    straight, and the leftmost turns left; with two lanes it also goes straight unless lefts have
    a green of their own, which a straight vehicle would block. Where nothing leads straight, the
    rightmost lane turns right and the others left.
    """
    if lanes == 1 or len(turns) == 1:
        return (turns,) * lanes
    if "s" not in turns:
        return ("r",) + ("l",) * (lanes - 1)
    found = ["s"] * lanes
    if "r" in turns:
        found[0] = "rs"
    if "l" in turns:
        found[-1] = "sl" if lanes == 2 and not protected else "l"
    return tuple(found)


def find_paths(arms: tuple[Arm, ...], *, protected: bool) -> tuple[Path, ...]:
    """All connections, arm by arm (``arms`` is in clockwise order), each from right to left."""
    found: list[Path] = []
    for enter, arm in enumerate(arms):
        ways = {
            turn_between(arms, enter, leave): leave for leave in range(len(arms)) if leave != enter
        }
        turns = "".join(turn for turn in "rsl" if turn in ways)
        for lane, allowed in enumerate(lane_turns(arm.lanes, turns, protected=protected)):
            for turn in allowed:
                leave = ways[turn]
                found.append(Path(enter, lane, turn, leave, _target(arm, arms[leave], lane, turn)))
    return tuple(found)


def _target(arm: Arm, leave: Arm, lane: int, turn: str) -> int:
    """Right turns and straight ones count lanes from the kerb, left turns from the middle."""
    if turn == "l":
        return max(0, leave.lanes - (arm.lanes - lane))
    return min(lane, leave.lanes - 1)


def conflicts(arms: tuple[Arm, ...], paths: tuple[Path, ...]) -> Bools:
    """``[K, K]`` which connections of different arms cross, or merge into one lane.

    Around a junction driven on the right, every arm has first its lanes in, from the kerb to the
    middle, then its lanes out, from the middle to the kerb. Two paths cross where their ends
    alternate on this circle.
    """
    first = np.cumsum([0] + [2 * arm.lanes for arm in arms])
    begin = np.array([first[path.arm] + path.lane for path in paths])
    end = np.array([first[path.leave + 1] - 1 - path.target for path in paths])
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    nested = (low[:, None] < low) & (low < high[:, None]) & (high[:, None] < high)
    arm = np.array([path.arm for path in paths])
    found: Bools = (nested | nested.T | (end[:, None] == end)) & (arm[:, None] != arm)
    return found


def yields(arms: tuple[Arm, ...], paths: tuple[Path, ...]) -> Bools:
    """``[K, K]`` whether connection k gives way to j while both are green.

    A left turn gives way to whoever comes from the facing arm and crosses it or merges with it.
    Where all roads have one lane, facing left turns brush each other, and the one from the earlier
    arm waits (SUMO too lets one wait, but goes by the names of the links). Signals keep all other
    conflicts apart.
    """
    left = np.array([path.turn == "l" for path in paths])
    bearing = np.array([arms[path.arm].bearing for path in paths])
    facing = (bearing[:, None] - bearing) % 360 == 180
    found: Bools = conflicts(arms, paths) & facing & left[:, None] & ~left
    if all(arm.lanes == 1 for arm in arms):
        order = bearing[:, None] < bearing
        found |= facing & left[:, None] & left & order
    return found


def setback(arms: tuple[Arm, ...], at: int) -> float:
    """M from the centre to the stop line of one arm; nothing where no road crosses."""
    crossing = [arm.lanes for arm in arms if (arm.bearing - arms[at].bearing) % 180]
    return max(crossing) * LANE_WIDTH + CORNER if crossing else 0.0


def turn_length(arms: tuple[Arm, ...], path: Path) -> float:
    """M from stop line to the beginning of the next link."""
    enter, leave = setback(arms, path.arm), setback(arms, path.leave)
    if path.turn == "s":
        return enter + leave
    side = 1.0 if path.turn == "l" else -1.0
    enter += side * _offset(arms[path.leave], path.target)
    leave += side * _offset(arms[path.arm], path.lane)
    return sum(
        math.hypot(out * leave, into * enter)
        for out, into in zip(_CURVE, reversed(_CURVE), strict=True)
    )


def turn_speed(length: float) -> float:
    """m/s that a turn of ``length`` m through a right angle allows."""
    return math.sqrt(_SIDE_FORCE * (length / _TURN_ANGLE + LANE_WIDTH / 4.0))


def _offset(arm: Arm, lane: int) -> float:
    """M from the middle of the road to the middle of a lane."""
    return (arm.lanes - lane - 0.5) * LANE_WIDTH
