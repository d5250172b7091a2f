"""Branches out of service: line outage distribution factors, and flows while several are out.

When branch k of a DC network opens, the flow it carried takes the other paths in fixed shares, the
LODF: ``flow + LODF[:, k] * flow[k]`` (Wood, Wollenberg, Sheble, 3rd ed., section 7.4). For several
at once the shares follow from one small system of their own size (Woodbury's formula); they depend
on which branches are out, never on the order in which they went, so no error builds up over a long
simulation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..interface import Bools, Doubles, Ints
from .grid import Branches, Grid, GridError
from .network import WEAK, Network, island_error, islands


def lodf(network: Network) -> Doubles:
    """Line outage distribution factors ``[L, L]``: column k for the outage of branch k.

    The diagonal is -1. Columns of branches whose outage splits the network are NaN.
    """
    transfer = network.transfer(np.arange(network.branches))
    left = 1.0 - np.diagonal(transfer)
    topology = Topology(network)
    for branch in np.flatnonzero(np.abs(left) < WEAK).tolist():
        if topology.splits(branch):
            left[branch] = np.nan
    factors = transfer / left
    factors[np.arange(network.branches), np.arange(network.branches)] = np.where(
        np.isnan(left), np.nan, -1.0
    )
    return factors


def without(network: Network, branch: int) -> Doubles:
    """The PTDF ``[L, B]`` with one branch out, by a rank-one update; its own row is zero.

    Raises:
        IslandError: the outage splits the network.
    """
    topology = Topology(network)
    topology.open(branch)
    return topology.ptdf


def drop_branches(grid: Grid, out: Bools) -> Grid:
    """The grid without the branches where ``out`` ``[L]`` is true."""
    kept = np.flatnonzero(~out)
    table = grid.branches
    names = tuple(table.name[row] for row in kept.tolist())
    columns = {
        field: getattr(table, field)[kept] for field in Branches.__slots__ if field != "name"
    }
    return replace(grid, branches=Branches(name=names, **columns))


class Topology:
    """Which branches of a network are in service now, and the flows that follow.

    Attributes:
        network: the intact network.
        closed: ``[L]`` whether a branch is in service (read only).
        version: grows with every change.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.closed = np.ones(network.branches, dtype=bool)
        self.version = 0
        self._out = np.zeros(0, dtype=np.int64)
        self._transfer = np.zeros((network.branches, 0))
        self._shares = self._transfer
        self._ptdf: Doubles | None = None

    @property
    def out(self) -> Ints:
        """Indices of the branches out of service, in the order in which they went."""
        return self._out

    def open(self, branch: int) -> None:
        """Take a branch out of service.

        Raises:
            IslandError: that would split the network (nothing changes); names the islands.
            GridError: no such branch, or it is out already.
        """
        self._known(branch, closed=True)
        column = self.network.transfer(np.array([branch]))[:, 0]
        if abs(self._left(branch, column)) < WEAK:
            self._refuse_split(branch)
        out = np.append(self._out, branch)
        self._set(out, np.column_stack([self._transfer, column]))

    def close(self, branch: int) -> None:
        """Put a branch back into service; ``GridError`` if it is in service already."""
        self._known(branch, closed=False)
        kept = self._out != branch
        self._set(self._out[kept], self._transfer[:, kept])

    def splits(self, branch: int) -> bool:
        """Whether opening this branch now would split the network."""
        self._known(branch, closed=True)
        column = self.network.transfer(np.array([branch]))[:, 0]
        if abs(self._left(branch, column)) >= WEAK:
            return False
        return int(self._labels(branch).max()) > int(self.network.island.max())

    def flows(self, injection: Doubles) -> Doubles:
        """Flow ``[L]`` MW for net injections ``[B]`` MW; exactly 0 where a branch is out."""
        flow = self.network.flows(injection)
        if self._out.shape[0]:
            flow += self._shares @ flow[self._out]
            flow[self._out] = 0.0
        return flow

    @property
    def ptdf(self) -> Doubles:
        """The present PTDF ``[L, B]``, made when it is first asked for after a change."""
        if self._ptdf is None:
            self._ptdf = self.network.ptdf
            if self._out.shape[0]:
                self._ptdf = self._ptdf + self._shares @ self._ptdf[self._out]
                self._ptdf[self._out] = 0.0
        return self._ptdf

    def rows(self, branches: Ints) -> Doubles:
        """Rows of the present PTDF ``[n, B]``."""
        rows = self.network.rows(branches)
        if self._out.shape[0]:
            rows = rows + self._shares[branches] @ self.network.rows(self._out)
            rows[~self.closed[branches]] = 0.0
        return rows

    @property
    def offset(self) -> Doubles:
        """Flow ``[L]`` MW without any injection, because of phase shifts."""
        offset = self.network.offset
        if self._out.shape[0]:
            offset = offset + self._shares @ offset[self._out]
            offset[self._out] = 0.0
        return offset

    def _set(self, out: Ints, transfer: Doubles) -> None:
        self._out, self._transfer = out, transfer
        left = np.eye(out.shape[0]) - transfer[out]
        self._shares = np.linalg.solve(left.T, transfer.T).T if out.shape[0] else transfer
        self.closed = np.ones(self.network.branches, dtype=bool)
        self.closed[out] = False
        self.version += 1
        self._ptdf = None

    def _left(self, branch: int, column: Doubles) -> float:
        """Share of a transfer along the branch that takes other paths, with the others out."""
        through = column[branch]
        if self._out.shape[0]:
            through = through + self._shares[branch] @ column[self._out]
        return float(1.0 - through)

    def _labels(self, branch: int) -> Ints:
        kept = self.closed.copy()
        kept[branch] = False
        network = self.network
        return islands(network.buses, network.start[kept], network.end[kept])

    def _refuse_split(self, branch: int) -> None:
        label = self._labels(branch)
        if label.max() > self.network.island.max():
            name = self.network.grid.branches.name[branch]
            raise island_error(self.network.grid, label, f"the outage of branch {name!r}")

    def _known(self, branch: int, *, closed: bool) -> None:
        grid = self.network.grid
        if not 0 <= branch < self.network.branches:
            raise GridError(f"grid {grid.name!r}: branch {branch} is none of {len(self.closed)}")
        if self.closed[branch] != closed:
            state = "out of" if closed else "in"
            name = grid.branches.name[branch]
            raise GridError(f"grid {grid.name!r}: branch {name!r} is {state} service already")
