"""Signals: their green phases, their fixed programme, and what a change between two needs.

States are strings with one letter per controlled connection, as in SUMO: ``G`` green with right of
way, ``g`` green that gives way, ``y`` yellow, ``r`` red, ``s`` red with a turn-on-red arrow.
"""

from __future__ import annotations

from dataclasses import dataclass

GREEN = "Gg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One controlled signal.

    Attributes:
        name: id.
        greens: state strings of its green phases, in programme order; what an agent chooses from.
        programme: ``(state, seconds)`` of every step of the fixed plan, yellow steps included.
        offset: s by which the fixed plan is shifted.
        x, y: m.
    """

    name: str
    greens: tuple[str, ...]
    programme: tuple[tuple[str, float], ...]
    offset: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def cycle(self) -> float:
        """Length of the fixed plan, s."""
        return sum(seconds for _, seconds in self.programme)


def green_phases(states: tuple[str, ...]) -> tuple[str, ...]:
    """Distinct states without yellow that let somebody go, in order."""
    found: list[str] = []
    for state in states:
        goes = any(letter in GREEN for letter in state)
        if goes and "y" not in state and state not in found:
            found.append(state)
    return tuple(found)


def yellow_state(before: str, after: str) -> str:
    """Shown between two greens: yellow for whoever loses green, red for whoever gains it."""
    return "".join(
        "y" if old in GREEN and new not in GREEN else old
        for old, new in zip(before, after, strict=True)
    )


def red_state(before: str, after: str) -> str:
    """All-red between the yellow and the next green; who stays green stays green."""
    return "".join(
        "r" if old in GREEN and new not in GREEN else old
        for old, new in zip(before, after, strict=True)
    )
