"""Signals of a SUMO network: green phases and fixed programme of each ``tlLogic``."""

from __future__ import annotations

from dataclasses import dataclass

from ..programme import Signal, green_phases
from .sumo_net_parts import Junction
from .sumo_xml import Tag

_LETTERS = frozenset("GgyYrRuUsoO")
_FIRST_PROGRAMME = "0"


@dataclass(frozen=True, slots=True)
class Logic:
    """A signal's programme, and the length of its states."""

    tag: Tag
    programme: tuple[tuple[str, float], ...]

    @property
    def size(self) -> int:
        return len(self.programme[0][0])


def read_logics(tags: list[Tag]) -> dict[str, Logic]:
    """Programmes by id of the signal, in the order of the file.

    Of several for one signal, the one with ``programID`` 0, else the first.

    Raises:
        DataError: no phases, a letter that is no light, states of different length, a negative
            duration, or no phase that lets anybody go.
    """
    chosen: dict[str, Tag] = {}
    for tag in tags:
        name = tag.text("id")
        if name not in chosen or tag.values.get("programID") == _FIRST_PROGRAMME:
            chosen[name] = tag
    return {name: Logic(tag, _programme(tag)) for name, tag in chosen.items()}


def to_signal(name: str, logic: Logic, junctions: list[Junction]) -> Signal:
    """The signal, in the middle of the junctions it controls; at 0, 0 if it controls none."""
    count = max(1, len(junctions))
    return Signal(
        name=name,
        greens=green_phases(tuple(state for state, _ in logic.programme)),
        programme=logic.programme,
        offset=logic.tag.number("offset", 0.0, low=-1e12),
        x=sum(junction.x for junction in junctions) / count,
        y=sum(junction.y for junction in junctions) / count,
    )


def _programme(tag: Tag) -> tuple[tuple[str, float], ...]:
    phases = [child for child in tag.children if child.name == "phase"]
    if not phases:
        tag.refuse("at least one phase is expected")
    steps: list[tuple[str, float]] = []
    for phase in phases:
        state = phase.text("state")
        if not {*state} <= _LETTERS:
            phase.fail("state", f"letters out of {''.join(sorted(_LETTERS))} are expected")
        if steps and len(state) != len(steps[0][0]):
            phase.fail("state", f"{len(steps[0][0])} letters are expected, as in the first phase")
        steps.append((state, phase.number("duration")))
    if not green_phases(tuple(state for state, _ in steps)):
        tag.refuse("a phase with a green light (G or g) and no yellow is expected")
    if sum(seconds for _, seconds in steps) <= 0.0:
        tag.refuse("a cycle of more than 0 s is expected")
    return tuple(steps)
