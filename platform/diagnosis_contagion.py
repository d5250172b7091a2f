"""Stage 2 of a diagnosis: who moved whose decision, from the analytical model's influences.

After arXiv 2602.08104, whose stage 2 aggregates first-order sensitivities G_ij and directional
curvatures D_ij of the central critic over a causal window. A bundle holds no critic; the analytical
model's ``-d(x, x_ref)`` takes its place, a quadratic with known derivatives. Derived by us:

- *deviation* of agent i at an epoch: the effect on the state x of the action it took, less that of
  the action which the model values most, ``dz_i = z_i(a_i) - z_i(best)``. An agent that acts as
  the model says disturbs nobody.
- *footprint* ``phi_i(t)``: its deviations of the last ``window`` epochs before t, summed with
  weights that fall by a factor e over the window (work drains, at a rate which the model does not
  state).
- ``G_ij(t)``: moving x by phi_i changes the model's value of candidate k of agent j by
  ``-phi_i' W z_j(k)``; G is the range of that over j's candidates (hold: 0), so it measures how
  far i shifts j's *ranking*. ``D_ij(t) = 1/2 phi_i' W_j phi_i`` is the quadratic part, on the
  coordinates that j's candidates name. Both have the unit of d.
- *strength* of i on j at t: mean of G + D over the epochs of the window that ends at t in which j
  decided, in units of what i normally causes (99 % quantile over clean episodes). An *edge* is a
  strength that a clean agent suffers from anybody with probability ``alarm``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ..policies.interface import Effects
from ..simulators.interface import Bools, Doubles, Ints
from .diagnosis_signals import SIGNALS
from .tasks import Episode

LOCAL = ("surprise", "frozen")
"""Signals that only the agent itself can cause; a flag by one of them is never moved upstream."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """An agent's first crossing: when, by which signal, and by how much (in thresholds)."""

    agent: int
    epoch: int
    signal: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Edge:
    """Contagion: ``source`` moved the decisions of ``target``, which crossed at ``epoch``."""

    source: int
    target: int
    epoch: int
    strength: float


@dataclass(frozen=True, slots=True)
class Customary:
    """Influence in clean operation.

    Attributes:
        source: ``[A]`` 99 % quantile of what each agent causes, unit of d.
        edge: level of the scaled strength that makes an edge.
    """

    source: Doubles
    edge: float

    @classmethod
    def fit(cls, clean: Sequence[Doubles], alarm: float) -> Customary:
        """From unscaled strengths ``[A, A]`` at epochs of clean episodes."""
        stacked = np.stack(clean)
        agents = stacked.shape[1]
        others = ~np.eye(agents, dtype=bool)
        pairs = stacked[:, others].reshape(stacked.shape[0], agents, -1)
        source = np.quantile(pairs, 0.99, axis=(0, 2))
        source = np.maximum(source, max(float(np.median(source)) * 1e-3, 1e-12))
        scaled = pairs / source[:, None]
        return cls(source, float(np.quantile(scaled, 1.0 - alarm / max(agents - 1, 1))))


class Influences:
    """Sensitivities between the agents of one recorded episode.

    Args:
        episode: recorded with effects and exact counterfactual values.
        effects: its effects.
        window: length of the causal window, epochs.
    """

    def __init__(self, episode: Episode, effects: Effects, window: int) -> None:
        self.window = window
        self._effects = effects
        self._legal = episode.mask & episode.active[:, :, None]
        self._active = episode.active
        self._actions = episode.actions
        values = np.where(episode.mask, episode.guidance, -np.inf)
        self._best: Ints = np.where(episode.active, values.argmax(axis=2), 0)
        self.epochs = episode.actions.shape[0]
        self._agents, self._size = episode.actions.shape[1], effects.weight.shape[1]
        self._known: dict[int, tuple[Doubles, Doubles]] = {}

    def deviation(self, epoch: int) -> Doubles:
        """``dz`` ``[A, X]`` of the decisions at ``epoch``."""
        index, value = self._effects.index[epoch], self._effects.value[epoch]
        rows = np.arange(self._agents)
        flat = np.zeros(self._agents * self._size)
        for chosen, sign in ((self._actions[epoch], 1.0), (self._best[epoch], -1.0)):
            where, size = index[rows, chosen], value[rows, chosen].astype(np.float64)
            size = np.where((where >= 0) & self._active[epoch][:, None], sign * size, 0.0)
            cells = rows[:, None] * self._size + np.maximum(where, 0)
            flat += np.bincount(cells.ravel(), size.ravel(), minlength=flat.size)
        return flat.reshape(self._agents, self._size)

    def footprint(self, epoch: int) -> Doubles:
        """``phi`` ``[A, X]``: what the decisions before ``epoch`` left behind."""
        total = np.zeros((self._agents, self._size))
        for back in range(1, min(self.window, epoch) + 1):
            total += np.exp(-(back - 1) / self.window) * self.deviation(epoch - back)
        return total

    def sensitivity(self, epoch: int) -> tuple[Doubles, Doubles]:
        """``G`` and ``D`` ``[A, A]`` (row: who causes, column: who suffers) at ``epoch``."""
        if epoch not in self._known:
            self._known[epoch] = self._derivatives(epoch)
        return self._known[epoch]

    def strength(self, epoch: int) -> Doubles:
        """Unscaled mean of G + D ``[A, A]`` over the causal window that ends at ``epoch``."""
        epochs = range(max(0, epoch - self.window + 1), epoch + 1)
        total = np.zeros((self._agents, self._agents))
        for at in epochs:
            total += np.add(*self.sensitivity(at))
        return total / np.maximum(self._active[list(epochs)].sum(axis=0), 1)

    def _derivatives(self, epoch: int) -> tuple[Doubles, Doubles]:
        index, legal = self._effects.index[epoch], self._legal[epoch]
        agents, choices, _ = index.shape
        weight = self._effects.weight[epoch].astype(np.float64)
        left = self.footprint(epoch)
        agent, choice, place = np.nonzero((index >= 0) & legal[:, :, None])
        column = index[agent, choice, place]
        value = self._effects.value[epoch][agent, choice, place].astype(np.float64)
        shape = (agents * choices, self._size)
        reads = csr_array((value, (agent * choices + choice, column)), shape=shape)
        shift = (reads @ (left * weight).T).reshape(agents, choices, agents)
        first = shift.max(axis=1) - shift.min(axis=1)
        named = csr_array((np.ones(agent.size), (agent, column)), shape=(agents, self._size))
        named.data[:] = np.minimum(named.data, 1.0)  # a coordinate named twice counts once
        second = 0.5 * (named @ (left * left * weight).T)
        for matrix in (first, second):
            matrix[~self._active[epoch]] = 0.0
            np.fill_diagonal(matrix, 0.0)
        return first.T, second.T


@dataclass(frozen=True, slots=True)
class Contagion:
    """What stage 2 found.

    Attributes:
        source: Patient-0, after the correction.
        moved: chain of agents from the one that was flagged first to Patient-0 (just the former if
            nothing was corrected).
        edges: who took whom along; those of the correction first, then in order of time.
        alone: crossings after the incident that no influence explains.
        reached: ``[A]`` first epoch at which Patient-0's influence on the agent was an edge, -1
            for never, whether or not the agent failed.
        strength: ``[A]`` Patient-0's largest scaled influence on each agent in two windows.
        edge: the level of the scaled strength that makes an edge.
    """

    source: int
    moved: tuple[int, ...]
    edges: tuple[Edge, ...]
    alone: tuple[Crossing, ...]
    reached: Ints
    strength: Doubles
    edge: float


def trace(
    first: Crossing, crossings: Sequence[Crossing], influences: Influences, customary: Customary
) -> Contagion:
    """Correct the first flag and follow the failure from there.

    A flag is moved upstream to the agent with the strongest influence on the flagged one, if that
    influence is an edge, if that agent crosses its own level within the causal window around the
    flag, and if the signal is one that others can cause. After that every agent that crosses is
    attached to the strongest sick agent before it whose influence is an edge.

    Args:
        first: the crossing that made the incident.
        crossings: first crossings of the level for single agents, in order of time.
        influences: of the episode.
        customary: in clean operation.
    """
    window = influences.window
    moved, flag = [first], first
    chain: list[Edge] = []
    while flag.signal not in LOCAL:
        pull = influences.strength(flag.epoch)[:, flag.agent] / customary.source
        known = {crossing.agent for crossing in moved}
        suspects = [
            c
            for c in crossings
            if c.agent not in known
            and abs(c.epoch - flag.epoch) <= window
            and pull[c.agent] >= customary.edge
        ]
        if not suspects:
            break
        upstream = max(suspects, key=lambda c: float(pull[c.agent]))
        chain.append(Edge(upstream.agent, flag.agent, flag.epoch, float(pull[upstream.agent])))
        moved.append(upstream)
        flag = upstream
    source, start = flag.agent, min(crossing.epoch for crossing in moved)
    later = [c for c in crossings if c.epoch >= start]
    edges, alone = _spread(moved, later, influences, customary)
    reached, strength = _reach(source, start, influences, customary)
    return Contagion(
        source=source,
        moved=tuple(crossing.agent for crossing in moved),
        edges=(*reversed(chain), *edges),
        alone=alone,
        reached=reached,
        strength=strength,
        edge=customary.edge,
    )


def _spread(
    sources: Sequence[Crossing],
    crossings: Sequence[Crossing],
    influences: Influences,
    customary: Customary,
) -> tuple[tuple[Edge, ...], tuple[Crossing, ...]]:
    sick = [crossing.agent for crossing in sources]
    edges: list[Edge] = []
    alone: list[Crossing] = []
    for crossing in sorted(crossings, key=lambda c: (c.epoch, c.agent)):
        if crossing.agent in sick:
            continue
        pull = influences.strength(crossing.epoch)[sick, crossing.agent] / customary.source[sick]
        best = int(pull.argmax())
        if crossing.signal not in LOCAL and pull[best] >= customary.edge:
            edge = Edge(sick[best], crossing.agent, crossing.epoch, float(pull[best]))
            edges.append(edge)
            sick.append(crossing.agent)
        else:
            alone.append(crossing)
    return tuple(edges), tuple(alone)


def _reach(
    source: int, start: int, influences: Influences, customary: Customary
) -> tuple[Ints, Doubles]:
    """When each agent first felt Patient-0, and how much, within two windows of the incident."""
    last = min(start + 2 * influences.window, influences.epochs - 1)
    pulls = np.stack([
        influences.strength(epoch)[source] / customary.source[source]
        for epoch in range(start, last + 1)
    ])  # fmt: skip
    hit: Bools = pulls >= customary.edge
    reached = np.where(hit.any(axis=0), start + hit.argmax(axis=0), -1)
    return reached, pulls.max(axis=0)


def first_crossings(ratio: Doubles, level: Doubles | None = None) -> list[Crossing]:
    """First epoch at which every agent crosses, in order of time, strongest first in an epoch.

    Args:
        ratio: ``[S, T, A]`` in incident thresholds; names the signal.
        level: ``[T, A]`` what has to exceed 1 (default: the largest ratio).
    """
    over = (ratio.max(axis=0) if level is None else level) > 1.0
    found: list[Crossing] = []
    for agent in np.flatnonzero(over.any(axis=0)).tolist():
        epoch = int(over[:, agent].argmax())
        signal = int(ratio[:, epoch, agent].argmax())
        value = float(ratio[signal, epoch, agent])
        found.append(Crossing(agent, epoch, SIGNALS[signal], value))
    return sorted(found, key=lambda crossing: (crossing.epoch, -crossing.ratio))
