"""CityFlow's junctions: who gives way to whom, and light phases as signal states.

A state has one letter per road link (movement) of the intersection, in the file's order. Right
turns always give way (``g``); left turns do where the traffic they cross has green as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..programme import Signal, yellow_state
from .cityflow_json import Node

CLEARANCE = 5.0
"""s between two greens where a file has no phase for it."""
OPPOSITE = -0.5
"""Cosine of the angle between two approaches from which on they come from opposite sides."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One movement of a junction.

    Attributes:
        kind: ``s``, ``l``, ``r`` or ``t``.
        start, end: links.
        toward: unit vector in which the approach arrives.
    """

    kind: str
    start: int
    end: int
    toward: tuple[float, float]


def foes(turns: list[Turn]) -> list[list[int]]:
    """The movements each movement gives way to, as places in ``turns``.

    Right turns to all others into the same link; left and U-turns to straight traffic into the same
    link and from the opposite side.
    """
    return [
        [at for at, other in enumerate(turns) if other.start != own.start and _yields(own, other)]
        for own in turns
    ]


def _yields(own: Turn, other: Turn) -> bool:
    if own.kind == "s":
        return False
    if own.kind == "r":
        return other.end == own.end and other.kind != "r"
    if other.kind == "s":
        return other.end == own.end or float(np.dot(own.toward, other.toward)) < OPPOSITE
    return False


def read_signal(
    light: Node, turns: list[Turn], place: tuple[str, float, float], phases: int | None
) -> Signal | None:
    """The signal of one intersection; ``None`` where its light does not change.

    Phases that let nobody but right turns go are the clearance of the plan: instead of once a cycle
    it stands after every green, with yellow for whoever loses it.

    Args:
        light: ``trafficLight``.
        turns: movements, in the order of ``roadLinks``.
        place: id, x and y.
        phases: take only the first green phases, so many; all if ``None``.

    Raises:
        DataError: as the reader of the whole file.
    """
    steps = [(node, *_phase(node, turns)) for node in light.get("lightphases").items()]
    if len(steps) < 2:
        return None
    greens: dict[str, float] = {}
    clearance = 0.0
    for _, state, seconds in steps:
        if any(
            letter != "r" and turn.kind != "r" for letter, turn in zip(state, turns, strict=True)
        ):
            greens.setdefault(state, seconds)
        else:
            clearance = clearance or seconds
    kept = list(greens)[:phases]
    if not kept:
        light.get("lightphases").fail("a phase in which somebody goes straight or left is expected")
    programme: list[tuple[str, float]] = []
    for before, after in zip(kept, kept[1:] + kept[:1], strict=True):
        programme.append((before, greens[before]))
        if before != after:
            programme.append((yellow_state(before, after), clearance or CLEARANCE))
    name, x, y = place
    return Signal(name=name, greens=tuple(kept), programme=tuple(programme), x=x, y=y)


def _phase(node: Node, turns: list[Turn]) -> tuple[str, float]:
    """State and seconds of one phase."""
    goes = {item.index(len(turns)) for item in node.get("availableRoadLinks").items()}
    gives = foes(turns)
    letters = [
        "r" if at not in goes else "g" if turn.kind == "r" or goes & set(gives[at]) else "G"
        for at, turn in enumerate(turns)
    ]
    return "".join(letters), node.get("time").number(above=0.0)
