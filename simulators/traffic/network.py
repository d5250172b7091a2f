"""A road network as arrays: links of lanes, movements between links, signals that stop them.

====  =====================================================================
N     nodes
L     links, directed
P     lanes; those of a link are consecutive, the rightmost first
M     movements: from one link into the next
C     connections: one lane of a movement, which may be controlled by a signal
====  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..interface import Doubles, Ints
from .programme import Signal


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """What is built, apart from who drives on it.

    Attributes:
        name: of the network.
        nodes: ids; xy: ``[N, 2]`` m.
        links: ids; tail, head: ``[L]`` nodes; length: ``[L]`` m; speed: ``[L]`` m/s, the limit.
        lane_link: ``[P]`` link of each lane, ascending.
        move_from, move_to: ``[M]`` links; turn_length: ``[M]`` m inside the junction; turn_speed:
            ``[M]`` m/s at which it is driven.
        turn: ``[M]`` direction: ``s`` straight, ``r`` right, ``l`` left, ``t`` U-turn.
        connection_lane: ``[C]`` lane it starts from; connection_move: ``[C]``;
        connection_into: ``[C]`` lane it leads into.
        connection_signal: ``[C]`` its signal, -1 where nobody controls it.
        connection_index: ``[C]`` place in the signal's state strings, -1 there.
        yield_start, yield_to: connections that connection c gives way to where it must (``g``, or
            no signal): ``yield_to[yield_start[c]:yield_start[c + 1]]``.
        waits_inside: ``[C]`` vehicles that may wait inside the junction for their gap.
        stops: ``[C]`` bool, a stop sign: come to a stand first.
        signals: in a fixed order; agents are those with more than one green phase.
    """

    name: str
    nodes: tuple[str, ...]
    xy: Doubles
    links: tuple[str, ...]
    tail: Ints
    head: Ints
    length: Doubles
    speed: Doubles
    lane_link: Ints
    move_from: Ints
    move_to: Ints
    turn_length: Doubles
    turn_speed: Doubles
    turn: tuple[str, ...]
    connection_lane: Ints
    connection_move: Ints
    connection_into: Ints
    connection_signal: Ints
    connection_index: Ints
    yield_start: Ints
    yield_to: Ints
    waits_inside: Ints
    stops: Ints
    signals: tuple[Signal, ...] = field(default_factory=tuple[Signal, ...])

    @cached_property
    def lanes(self) -> Ints:
        """``[L]`` number of lanes."""
        return np.bincount(self.lane_link, minlength=len(self.links))

    @cached_property
    def lane_start(self) -> Ints:
        """``[L + 1]`` first lane of each link."""
        return np.concatenate([[0], np.cumsum(self.lanes)]).astype(np.int64)

    @cached_property
    def link_index(self) -> dict[str, int]:
        """Link by id."""
        return {name: index for index, name in enumerate(self.links)}

    @cached_property
    def move_index(self) -> dict[tuple[int, int], int]:
        """Movement by its links."""
        pairs = zip(self.move_from.tolist(), self.move_to.tolist(), strict=True)
        return {pair: index for index, pair in enumerate(pairs)}

    def check(self) -> None:
        """Raise ``ValueError`` naming the first array that contradicts another."""
        counts = {"N": len(self.nodes), "L": len(self.links), "P": self.lane_link.size}
        counts |= {"M": self.move_from.size, "C": self.connection_lane.size}
        for name, (size, bound) in _LAYOUT.items():
            values = getattr(self, name)
            if len(values) != counts[size]:
                raise ValueError(
                    f"network {self.name!r}: {name} has {len(values)} entries, "
                    f"expected {counts[size]}"
                )
            if bound and len(values) and not 0 <= int(np.max(values)) < counts[bound]:
                raise ValueError(
                    f"network {self.name!r}: {name} names {int(np.max(values))}, "
                    f"there are {counts[bound]}"
                )
        for name in ("length", "speed", "turn_speed"):
            values = getattr(self, name)
            if not (np.isfinite(values) & (values > 0.0)).all():
                at = int(np.argmin(np.isfinite(values) & (values > 0.0)))
                raise ValueError(
                    f"network {self.name!r}: {name}[{at}] is {values[at]}, "
                    "expected a positive number"
                )
        if (np.diff(self.lane_link) < 0).any() or (self.lanes < 1).any():
            raise ValueError(f"network {self.name!r}: lane_link must name every link, in order")
        own = self.lane_link[self.connection_lane]
        if (own != self.move_from[self.connection_move]).any():
            at = int(np.argmax(own != self.move_from[self.connection_move]))
            raise ValueError(
                f"network {self.name!r}: connection {at} starts on another link than its movement"
            )
        for at, signal in enumerate(self.signals):
            places = self.connection_index[self.connection_signal == at]
            if places.size and int(places.max()) >= len(signal.greens[0]):
                raise ValueError(
                    f"signal {signal.name!r}: connection index {int(places.max())} is "
                    f"beyond its states of {len(signal.greens[0])}"
                )


_LAYOUT: dict[str, tuple[str, str]] = {
    "xy": ("N", ""),
    "tail": ("L", "N"),
    "head": ("L", "N"),
    "length": ("L", ""),
    "speed": ("L", ""),
    "move_from": ("M", "L"),
    "move_to": ("M", "L"),
    "turn_length": ("M", ""),
    "turn_speed": ("M", ""),
    "turn": ("M", ""),
    "connection_lane": ("C", "P"),
    "connection_move": ("C", "M"),
    "connection_into": ("C", "P"),
    "connection_signal": ("C", ""),
    "connection_index": ("C", ""),
    "waits_inside": ("C", ""),
    "stops": ("C", ""),
}
"""Array to the size it must have and the size that its entries index, if they do."""
