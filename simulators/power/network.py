"""DC power flow of a grid: susceptances, angles, PTDF, and flows from injections.

The lossless linear model: with unit voltages and small angles, the flow over a branch is
``base * b * (angle[start] - angle[end] - shift)`` MW (Wood, Wollenberg, Sheble, Power Generation,
Operation and Control, 3rd ed., section 3.8; PTDF: appendix 7A there). Published figures disagree on
what ``b`` is, by up to half a per cent of the cost of an optimal dispatch, so the convention is
always named by the caller.

Grids of a few hundred buses use a dense PTDF, for which flows are one matrix-vector product; larger
ones use a sparse factorisation and make rows or the whole PTDF only when asked.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from ..interface import Bools, Doubles, Ints
from .grid import Grid, GridError

Susceptance = Literal["x", "x-tap", "r-x"]
"""Susceptance of a branch: ``x`` is 1/x (PLEXOS on RTS-GMLC), ``x-tap`` is 1/(x tap) (MATPOWER,
pandapower), ``r-x`` is x/(r^2 + x^2) (PGLib's DC column). Phase shifts count with ``x-tap`` only.
"""

DENSE_BUSES = 400
"""Up to this many buses the PTDF is held as a dense matrix from the start."""


class IslandError(GridError):
    """A network in parts: ``islands`` holds the bus indices of every part, the largest first."""

    def __init__(self, message: str, islands: tuple[Ints, ...]):
        super().__init__(message)
        self.islands = islands


def islands(buses: int, start: Ints, end: Ints) -> Ints:
    """Island of every bus ``[B]``, numbered in the order of their first bus.

    ``start`` and ``end`` are the bus indices of the branches in service.
    """
    parent = list(range(buses))

    def root(bus: int) -> int:
        while parent[bus] != bus:
            parent[bus] = parent[parent[bus]]
            bus = parent[bus]
        return bus

    for first, second in zip(start.tolist(), end.tolist(), strict=True):
        one, other = root(first), root(second)
        if one != other:
            parent[max(one, other)] = min(one, other)
    roots = np.array([root(bus) for bus in range(buses)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def island_error(grid: Grid, label: Ints, why: str) -> IslandError:
    """The error for a network with more than one island; names the buses of all but the largest."""
    parts = [np.flatnonzero(label == part) for part in range(int(label.max()) + 1)]
    parts.sort(key=len, reverse=True)
    named = ("; ".join(_named(grid, part) for part in parts[1:4])) + (
        f"; and {len(parts) - 4} more" if len(parts) > 4 else ""
    )
    return IslandError(
        f"grid {grid.name!r}: {why} leaves {len(parts)} islands; apart from the largest: {named}",
        tuple(parts),
    )


def _named(grid: Grid, part: Ints) -> str:
    names = [grid.buses.name[bus] for bus in part[:6].tolist()]
    more = f" and {len(part) - 6} more" if len(part) > 6 else ""
    return f"buses {', '.join(names)}{more}"


class Network:
    """The DC model of a grid's AC branches; a value that never changes.

    Args:
        grid: a checked grid.
        convention: what a branch's susceptance is.
        slack: bus that balances injections which do not sum to zero, or ``[B]`` shares of all
            buses (sum 1). Default: the grid's reference bus.
        split: accept a network of several islands, each balanced at its own reference bus (the
            first bus of the island; the grid's reference bus in its island).

    Attributes:
        susceptance: ``[L]`` per unit; shift: ``[L]`` rad as far as the convention counts it.
        island: ``[B]`` island of every bus; references: ``[I]`` reference bus of every island.
        offset: ``[L]`` MW that flow without any injection, because of phase shifts.
        low, high: ``[L]`` MW limits of flow: rating and angle-difference limit, the tighter one.

    Raises:
        IslandError: the branches do not connect all buses and ``split`` is false.
        GridError: an unknown convention, a slack that is none, or a singular network.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        convention: Susceptance,
        slack: int | Doubles | None = None,
        split: bool = False,
    ) -> None:
        branches = grid.branches
        self.grid = grid
        self.convention: Susceptance = convention
        self.base = grid.base
        self.start, self.end = branches.start, branches.end
        self.buses, self.branches = len(grid.buses.name), len(branches.name)
        self.susceptance = susceptance_of(grid, convention)
        self.shift = branches.shift if convention == "x-tap" else np.zeros(self.branches)
        self.island = islands(self.buses, self.start, self.end)
        self.references = self._reference_buses(split)
        self._kept = np.ones(self.buses, dtype=bool)
        self._kept[self.references] = False
        self._share = self._shares(slack)
        self.dense = self.buses <= DENSE_BUSES
        self.low, self.high = self._limits()
        pushed = self._spread(self.susceptance * self.shift) * self.base
        self.offset = np.zeros(self.branches)
        if pushed.any():
            self.offset = self._plain_flows(pushed) - self.base * self.susceptance * self.shift

    def injection(
        self, power: Doubles, *, load: Doubles | None = None, dc: Doubles | None = None
    ) -> Doubles:
        """Net injection ``[B]`` MW of units' ``power`` ``[U]``, minus load, shunts and DC lines.

        ``load`` ``[B]`` defaults to the grid's nominal load; ``dc`` ``[H]`` is positive from a DC
        line's start to its end.
        """
        grid = self.grid
        net = np.bincount(grid.units.bus, weights=power, minlength=self.buses)
        net -= grid.buses.load if load is None else load
        net -= grid.buses.shunt
        if dc is not None and dc.shape[0]:
            net -= np.bincount(grid.dc_lines.start, weights=dc, minlength=self.buses)
            net += np.bincount(grid.dc_lines.end, weights=dc, minlength=self.buses)
        return net

    def flows(self, injection: Doubles) -> Doubles:
        """Flow ``[L]`` MW over every branch for net injections ``[B]`` MW."""
        return self._plain_flows(injection) + self.offset

    def flows_of_all(self, injections: Doubles) -> Doubles:
        """Flows ``[n, L]`` MW for many injections ``[n, B]`` at once."""
        if self.dense:
            return injections @ self.ptdf.T + self.offset
        return np.stack([self.flows(injection) for injection in injections])

    def angles(self, injection: Doubles) -> Doubles:
        """Voltage angles ``[B]`` rad for injections ``[B]`` MW; 0 at the reference buses."""
        pushed = self._spread(self.susceptance * self.shift)
        return self._solve(self._balanced(injection) / self.base + pushed)

    def laplacian(self) -> Doubles:
        """The B-theta matrix ``[B, B]``: MW injected per rad, singular by one per island."""
        matrix = np.zeros((self.buses, self.buses))
        weight = self.base * self.susceptance
        np.add.at(matrix, (self.start, self.start), weight)
        np.add.at(matrix, (self.end, self.end), weight)
        np.add.at(matrix, (self.start, self.end), -weight)
        np.add.at(matrix, (self.end, self.start), -weight)
        return matrix

    @cached_property
    def ptdf(self) -> Doubles:
        """Power transfer distribution factors ``[L, B]``.

        Flow per MW that is injected at a bus and taken out at the slack.
        """
        angle = self._reactance if self.dense else self._solve(np.eye(self.buses))
        matrix = self.susceptance[:, None] * (angle[self.start] - angle[self.end])
        return np.ascontiguousarray(self._against_slack(matrix))

    def rows(self, branches: Ints) -> Doubles:
        """Rows of the PTDF ``[n, B]``; without making the rest of it where the grid is large."""
        if self.dense:
            return self.ptdf[branches]
        unit = np.zeros((self.buses, len(branches)))
        column = np.arange(len(branches))
        unit[self.start[branches], column] += 1.0
        unit[self.end[branches], column] -= 1.0
        angle = self._solve(unit)
        return self._against_slack((angle * self.susceptance[branches]).T)

    def transfer(self, branches: Ints) -> Doubles:
        """Flow ``[L, n]`` over every branch per MW sent from a branch's start to its end."""
        if self.dense:
            return self.ptdf[:, self.start[branches]] - self.ptdf[:, self.end[branches]]
        unit = np.zeros((self.buses, len(branches)))
        column = np.arange(len(branches))
        unit[self.start[branches], column] += 1.0
        unit[self.end[branches], column] -= 1.0
        angle = self._solve(unit)
        return self.susceptance[:, None] * (angle[self.start] - angle[self.end])

    @cached_property
    def dc_effect(self) -> Doubles:
        """Flow ``[L, H]`` over every branch per MW over every DC line."""
        lines = self.grid.dc_lines
        if not len(lines.name):
            return np.zeros((self.branches, 0))
        return np.ascontiguousarray(self.ptdf[:, lines.end] - self.ptdf[:, lines.start])

    def _plain_flows(self, injection: Doubles) -> Doubles:
        if self.dense:
            return self.ptdf @ injection
        angle = self._solve(self._balanced(injection))
        return self.susceptance * (angle[self.start] - angle[self.end])

    def _balanced(self, injection: Doubles) -> Doubles:
        if self._share is None:
            return injection
        return injection - self._share * injection.sum()

    def _against_slack(self, matrix: Doubles) -> Doubles:
        return matrix if self._share is None else matrix - (matrix @ self._share)[:, None]

    def _spread(self, flow: Doubles) -> Doubles:
        """What branches' flows take out of start buses and put in at end buses, ``[B]``."""
        spread = np.zeros(self.buses)
        spread += np.bincount(self.start, weights=flow, minlength=self.buses)
        spread -= np.bincount(self.end, weights=flow, minlength=self.buses)
        return spread

    def _solve(self, pushed: Doubles) -> Doubles:
        """Angles ``[B, ...]`` for per-unit injections, reference buses at 0."""
        if self.dense:
            return self._reactance @ pushed
        angle = np.zeros(pushed.shape)
        angle[self._kept] = self._factor.solve(np.ascontiguousarray(pushed[self._kept]))
        return angle

    @cached_property
    def _reactance(self) -> Doubles:
        kept = np.flatnonzero(self._kept)
        matrix = np.zeros((self.buses, self.buses))
        try:
            inverse = np.linalg.inv(self.laplacian()[np.ix_(kept, kept)] / self.base)
        except np.linalg.LinAlgError as error:
            raise GridError(f"grid {self.grid.name!r}: {error}; reactances cancel out") from error
        matrix[np.ix_(kept, kept)] = inverse
        return matrix

    @cached_property
    def _factor(self) -> Any:
        # Only large grids need scipy, which a small install that only serves lacks.
        from scipy.sparse import coo_array
        from scipy.sparse.linalg import splu

        position = np.cumsum(self._kept) - 1
        weight = self.susceptance
        row = np.concatenate([self.start, self.end, self.start, self.end])
        column = np.concatenate([self.start, self.end, self.end, self.start])
        value = np.concatenate([weight, weight, -weight, -weight])
        inside = self._kept[row] & self._kept[column]
        size = int(self._kept.sum())
        triplets = (value[inside], (position[row[inside]], position[column[inside]]))
        try:
            return splu(coo_array(triplets, shape=(size, size)).tocsc())
        except RuntimeError as error:
            raise GridError(f"grid {self.grid.name!r}: {error}; reactances cancel out") from error

    def _reference_buses(self, split: bool) -> Ints:
        if self.island.any() and not split:
            raise island_error(self.grid, self.island, "its branches in service")
        first = np.unique(self.island, return_index=True)[1]
        first[self.island[self.grid.reference]] = self.grid.reference
        return first.astype(np.int64)

    def _shares(self, slack: int | Doubles | None) -> Doubles | None:
        if slack is None:
            return None
        share = np.zeros(self.buses)
        if isinstance(slack, int):
            if not 0 <= slack < self.buses:
                raise GridError(f"grid {self.grid.name!r}: slack bus {slack} is none")
            share[slack] = 1.0
        else:
            share = np.asarray(slack, dtype=np.float64)
        if share.shape != (self.buses,) or not abs(share.sum() - 1.0) < 1e-9:
            raise GridError(f"grid {self.grid.name!r}: slack must be {self.buses} shares of sum 1")
        if len(self.references) > 1:
            raise GridError(f"grid {self.grid.name!r}: one slack cannot balance several islands")
        return share

    def _limits(self) -> tuple[Doubles, Doubles]:
        branches = self.grid.branches
        weight = self.base * self.susceptance
        one = weight * (branches.angle_low - self.shift)
        other = weight * (branches.angle_high - self.shift)
        low = np.maximum(-branches.rate, np.minimum(one, other))
        return low, np.minimum(branches.rate, np.maximum(one, other))


def susceptance_of(grid: Grid, convention: Susceptance) -> Doubles:
    """Susceptance ``[L]`` per unit of every branch; ``GridError`` names an unknown convention."""
    branches = grid.branches
    if convention == "x":
        return 1.0 / branches.x
    if convention == "x-tap":
        return 1.0 / (branches.x * branches.tap)
    if convention == "r-x":
        return branches.x / (branches.r**2 + branches.x**2)
    known = ", ".join(get_args(Susceptance))
    raise GridError(f"grid {grid.name!r}: no susceptance convention {convention!r}; known: {known}")


def bridges(network: Network) -> Bools:
    """Whether a branch's outage would split the network ``[L]``."""
    flow = np.empty(network.branches)
    step = 256
    for first in range(0, network.branches, step):
        some = np.arange(first, min(first + step, network.branches))
        flow[some] = network.transfer(some)[some, some - first]
    suspects = np.flatnonzero(np.abs(1.0 - flow) < WEAK)
    split = np.zeros(network.branches, dtype=bool)
    for branch in suspects.tolist():
        left = np.arange(network.branches) != branch
        label = islands(network.buses, network.start[left], network.end[left])
        split[branch] = label.max() > network.island.max()
    return split


WEAK = 1e-6
"""A share of a branch's transfer that other paths take below this is looked at as a graph."""
