"""Signals as store-and-forward control sees them: a queue per movement, phases that serve queues.

====  =====================================================================
L     links
M     movements, each with its own queue at the end of the link it comes from
P     green phases of all signals, those of a signal consecutive
I     signals
====  =====================================================================

A vehicle that leaves queue m joins queue n with share ``ratio[m, n]``; where a row sums to less
than one, the rest ends its trip on the link it drove into. (Gazis and Potts 1963; Diakaki,
Papageorgiou, Aboudolas, A multivariable regulator approach to traffic-responsive network-wide
signal control, Control Engineering Practice 10, 2002.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array

from ...simulators.interface import Doubles, Ints


@dataclass(frozen=True, eq=False, kw_only=True)
class MovementGraph:
    """The data of a control problem; checked when made.

    Attributes:
        storage: ``[L]`` vehicles that fit on a link.
        travel: ``[L]`` s to drive along it when it is empty.
        inflow: ``[L]`` veh/s that can enter it.
        source, target: ``[M]`` links that a movement leaves and enters.
        saturation: ``[M]`` veh/s through a full green of all its lanes.
        ratio: ``[M, M]`` share of those who leave m that next want n.
        always: ``[M]`` share of its saturation that is served whatever the signals show.
        signals: names.
        phase_signal: ``[P]``, ascending.
        serve: ``[P, M]`` share of its saturation that a movement gets from a phase's green.
        lost: ``[I]`` share of time without any green.
        low, high: ``[P]`` bounds of green shares.
    """

    storage: Doubles
    travel: Doubles
    inflow: Doubles
    source: Ints
    target: Ints
    saturation: Doubles
    ratio: csr_array
    always: Doubles
    signals: tuple[str, ...]
    phase_signal: Ints
    serve: csr_array
    lost: Doubles
    low: Doubles
    high: Doubles

    def __post_init__(self) -> None:
        for name, size in _LAYOUT.items():
            count = self._count(size)
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, expected {count}")
        square, phases = (self.movements,) * 2, (self.phases, self.movements)
        found: Any = (self.ratio.shape, self.serve.shape)
        if found != (square, phases):
            raise ValueError(
                f"ratio is {found[0]} and serve {found[1]}, expected {square} and {phases}"
            )
        self._check_ranges()
        row, column = self.ratio.nonzero()
        if (self.target[row] != self.source[column]).any():
            at = int(np.argmax(self.target[row] != self.source[column]))
            raise ValueError(
                f"ratio[{row[at]}, {column[at]}]: movement {column[at]} does not start on the link "
                f"that movement {row[at]} enters"
            )
        if (np.diff(self.phase_signal) < 0).any() or (self.phase_counts < 1).any():
            raise ValueError("phase_signal must name every signal, in order")
        least, most = self.per_signal(self.low), self.per_signal(self.high)
        wrong = (least > 1.0 - self.lost + 1e-9) | (most < 1.0 - self.lost - 1e-9)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(
                f"signal {self.signals[at]!r}: greens of {least[at]:.3f} to {most[at]:.3f} of the "
                f"cycle cannot fill the {1.0 - self.lost[at]:.3f} that are not lost"
            )

    def _count(self, size: str) -> int:
        counts = {"L": self.storage.size, "M": self.source.size, "I": len(self.signals)}
        return counts.get(size, self.phase_signal.size)

    def _check_ranges(self) -> None:
        for name in ("source", "target"):
            links = getattr(self, name)
            if links.size and not 0 <= int(links.min()) <= int(links.max()) < self.links:
                raise ValueError(f"{name} must name links 0..{self.links - 1}")
        for name in ("storage", "travel", "inflow", "saturation"):
            values = getattr(self, name)
            if not ((values > 0.0) & (values < np.inf)).all():
                raise ValueError(f"{name} must be positive and finite everywhere")
        shares = ("always", "lost", "low", "high")
        tables = {name: getattr(self, name) for name in shares}
        tables |= {"ratio": self.ratio.data, "serve": self.serve.data}
        tables["row sum of ratio"] = self.continuing
        for name, values in tables.items():
            if not ((values >= 0.0) & (values <= 1.0 + 1e-9)).all():
                raise ValueError(f"{name} must lie in 0..1")

    @property
    def links(self) -> int:
        """L."""
        return self.storage.size

    @property
    def movements(self) -> int:
        """M."""
        return self.source.size

    @property
    def phases(self) -> int:
        """P."""
        return self.phase_signal.size

    @cached_property
    def phase_counts(self) -> Ints:
        """``[I]`` phases of each signal."""
        return np.bincount(self.phase_signal, minlength=len(self.signals))

    @cached_property
    def phase_start(self) -> Ints:
        """``[I + 1]`` first phase of each signal."""
        return np.concatenate([[0], np.cumsum(self.phase_counts)]).astype(np.int64)

    @cached_property
    def continuing(self) -> Doubles:
        """``[M]`` share of those who leave m that join another queue."""
        return np.asarray(self.ratio.sum(axis=1), dtype=np.float64)

    @cached_property
    def on_link(self) -> csr_array:
        """``[L, M]`` ones where a movement's queue stands on a link."""
        place = (self.source, np.arange(self.movements))
        return csr_array(
            (np.ones(self.movements), place), shape=(self.links, self.movements), dtype=np.float64
        )

    @cached_property
    def green_effect(self) -> csr_array:
        """``[P, M]`` change of queues per s of green, while none of them runs dry or is blocked."""
        leaves = csr_array(self.serve @ diags_array(self.saturation))
        return csr_array(leaves @ (self.ratio - eye_array(self.movements)))

    def per_signal(self, values: Doubles) -> Doubles:
        """Sums ``[..., I]`` over the phases ``[..., P]`` of each signal."""
        if not self.signals:
            return np.zeros((*values.shape[:-1], 0))
        return np.add.reduceat(values, self.phase_start[:-1], axis=-1)

    def even_greens(self) -> Doubles:
        """``[P]`` shares that give every phase of a signal the same beyond its least green."""
        spare = 1.0 - self.lost - self.per_signal(self.low)
        return self.low + (spare / self.phase_counts)[self.phase_signal]

    def rate(self, greens: Doubles) -> Doubles:
        """veh/s ``[..., M]`` that can leave under green shares ``[..., P]``."""
        served = np.asarray(greens @ self.serve, dtype=np.float64)
        return self.saturation * (self.always + served)


_LAYOUT: dict[str, str] = {
    "travel": "L",
    "inflow": "L",
    "target": "M",
    "saturation": "M",
    "always": "M",
    "lost": "I",
    "low": "P",
    "high": "P",
}
"""Array to the size it must have."""
