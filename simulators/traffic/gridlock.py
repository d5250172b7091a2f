"""Deadlocks: lanes whose heads wait for each other's room and will for ever.

A head without room ahead moves again only if the head of a lane that it could enter leaves. Where
all of these wait for each other in turn, no signal can help.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from math import inf

from .streets import Streets

PERIOD = 60.0
"""s between two looks at the streets."""


def deadlocked(streets: Streets, *, known: AbstractSet[int] = frozenset()) -> list[int]:
    """The lanes whose heads can never move again, whatever the signals show, ascending.

    The greatest set of lanes whose heads find no room, now or once all that was left is usable, on
    any lane that they could enter, each of which is in the set. Lanes that wait for a ring of
    others are in it, too. The set only grows while an episode lasts. A head that could still move
    to a waiting place inside its junction does not count.

    Args:
        streets: at one instant.
        known: lanes left out, with all that wait only for them: what remains is a deadlock of its
            own.
    """
    waits = {
        lane: ahead
        for lane in range(len(streets.queues))
        if lane not in known and (ahead := _full_ahead(streets, lane))
    }
    behind: dict[int, list[int]] = {}
    for lane, ahead in waits.items():
        for target in ahead:
            behind.setdefault(target, []).append(lane)
    # Who may enter a lane that moves is free, then who may enter its lane, and so on.
    moving = [target for target in behind if target not in waits]
    while moving:
        freed = [lane for lane in behind.get(moving.pop(), ()) if lane in waits]
        for lane in freed:
            del waits[lane]
        moving += freed
    return sorted(waits)


def _full_ahead(streets: Streets, lane: int) -> tuple[int, ...]:
    """Lanes that the head could enter if all of them are full, else none."""
    queue = streets.queues[lane]
    if not queue:
        return ()
    vehicle = queue[0]
    connection = streets.connection(vehicle)
    if (
        connection < 0
        or len(streets.inside.get(connection, ())) < streets.layout.inside[connection]
    ):
        return ()
    ahead = streets.choices(vehicle, streets.leg[vehicle] + 1)
    space = streets.space[vehicle]
    if any(streets.storage.fits_in_the_end(target, space) for target in ahead):
        return ()
    return tuple(ahead)


class DeadlockWatch:
    """Tells the deadlocks of one episode from what only waits for them.

    Args:
        streets: of the episode.
    """

    def __init__(self, streets: Streets) -> None:
        self._streets = streets
        self._known: set[int] = set()
        self._next = -inf

    def look(self) -> bool:
        """Whether there is a deadlock that does not merely wait for one that was found before.

        Call it as often as you like: it looks if anybody waits for room and :data:`PERIOD` has
        passed.
        """
        now = self._streets.calendar.now
        if now < self._next or True not in self._streets.blocked:
            return False
        self._next = now + PERIOD
        new = deadlocked(self._streets, known=self._known)
        self._known.update(new)
        return bool(new)
