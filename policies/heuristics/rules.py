"""Node-choice rules as values: a score to minimise, or weights to sample from.

A rule reads named columns of the decentralised part of an observation and nothing else, is
vectorised over agents, and never holds while a node is legal. Which of several equally good nodes
it takes is part of its definition: on the openb list, Fragmentation Gradient Descent with a fresh
random draw among ties is about five points worse than with a fixed node rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...simulators.interface import HOLD, Doubles, Ints, Observation, Spec
from ..interface import Information

Tie = Literal["random", "lowest", "rank"]
"""Among equal scores: ``random`` draws afresh, ``lowest`` takes the lowest target id, ``rank``
takes the lowest rank in one fixed pseudo-random order of the targets."""

Columns = Mapping[str, Doubles]
"""Column name to values: ``[A, K]`` for a candidate column, ``[A, 1]`` for ``agent.<name>``."""

Score = Callable[[Columns], NDArray[np.floating]]


class Reader:
    """Looks up named columns of an observation.

    ``columns`` names candidate features; ``agent.<name>`` names an agent feature.

    Raises:
        KeyError: the specification has no such column; names the known ones.
    """

    def __init__(self, spec: Spec, columns: tuple[str, ...]):
        self._candidate: dict[str, int] = {}
        self._agent: dict[str, int] = {}
        for column in columns:
            if column.startswith("agent."):
                self._agent[column] = spec.agent_column(column.removeprefix("agent."))
            else:
                self._candidate[column] = spec.candidate_column(column)

    def __call__(self, observation: Observation) -> Columns:
        """The columns in double precision, shapes as in :data:`Columns`."""
        found: dict[str, Doubles] = {
            name: observation.candidates[:, :, index].astype(np.float64)
            for name, index in self._candidate.items()
        }
        for name, index in self._agent.items():
            found[name] = observation.agent[:, index, None].astype(np.float64)
        return found


class ScoreRule:
    """Takes the legal candidate with the lowest score; implements ``Controller``.

    Args:
        name: as shown in tables.
        spec: what the simulator looks like; used to find the columns.
        columns: names of the columns that ``score`` reads (see :class:`Reader`).
        score: maps the columns to ``[A, K]``, lower is better; values of masked candidates are
            ignored.
        tie: what decides among equal scores.
        information: ``"same"`` or ``"fresh"``.
        probes: compare only this many candidates, drawn afresh without replacement (power of d).
        order: ``[targets]`` rank of every target for ``tie="rank"``; by default a fixed
            pseudo-random order of the target ids.

    Raises:
        ValueError: unknown tie rule, or fewer than one probe.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: Spec,
        columns: tuple[str, ...],
        score: Score,
        tie: Tie = "random",
        information: Information = "same",
        probes: int | None = None,
        order: Ints | None = None,
    ):
        if tie not in ("random", "lowest", "rank"):
            raise ValueError(f"tie must be 'random', 'lowest' or 'rank', got {tie!r}")
        if probes is not None and probes < 1:
            raise ValueError(f"probes must be at least 1, got {probes}")
        self._name = name
        self._information: Information = information
        self._read, self._score = Reader(spec, columns), score
        self._tie, self._probes, self._order = tie, probes, order

    @property
    def name(self) -> str:
        return self._name

    @property
    def information(self) -> Information:
        return self._information

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent, ``[A]`` int64; hold only where nothing else is legal."""
        legal = legal_nodes(observation)
        if self._probes is not None:
            legal = _subset(legal, self._probes, rng)
        score = np.where(legal, self._score(self._read(observation)), np.inf)
        best = legal & (score == score.min(axis=1, keepdims=True))
        if self._tie == "random":
            key: NDArray[np.generic] = rng.random(best.shape)
        elif self._tie == "lowest":
            key = observation.target
        elif self._order is not None:
            key = self._order[observation.target]
        else:
            key = fixed_order(observation.target)
        return _first(best, key)


class MixedRule:
    """Samples a legal candidate with probability proportional to its weight.

    ``weight`` maps the columns and the observation (of which it may read the decentralised part)
    to non-negative numbers ``[A, K]``. A row whose legal weights are all zero is drawn uniformly.
    Implements ``Controller``.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: Spec,
        columns: tuple[str, ...],
        weight: Callable[[Columns, Observation], NDArray[np.floating]],
        information: Information = "same",
    ):
        self._name = name
        self._information: Information = information
        self._read, self._weight = Reader(spec, columns), weight

    @property
    def name(self) -> str:
        return self._name

    @property
    def information(self) -> Information:
        return self._information

    def probabilities(self, observation: Observation) -> Doubles:
        """``[A, K]``, rows sum to one; hold has one only where nothing else is legal."""
        legal = legal_nodes(observation)
        weight = np.where(legal, self._weight(self._read(observation), observation), 0.0)
        total = weight.sum(axis=1, keepdims=True)
        weight = np.where(total > 0.0, weight, legal)
        weight[:, HOLD] = ~legal.any(axis=1)
        return weight / weight.sum(axis=1, keepdims=True)

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent, ``[A]`` int64, sampled with one uniform draw each."""
        cumulative = self.probabilities(observation).cumsum(axis=1)
        draw = rng.random((cumulative.shape[0], 1)) * cumulative[:, -1:]
        return (draw >= cumulative).sum(axis=1).astype(np.int64)


def titled(name: str, information: Information) -> str:
    """The name under which a rule's variant is listed: fresh ones say so."""
    return f"{name} (fresh)" if information == "fresh" else name


def legal_nodes(observation: Observation) -> NDArray[np.bool_]:
    """``[A, K]`` legal candidates other than hold, of the agents that have something to decide."""
    legal = observation.mask & observation.active[:, None]
    legal[:, HOLD] = False
    return legal


def fixed_order(target: Ints) -> NDArray[np.uint64]:
    """A pseudo-random rank of target ids that never changes (the finaliser of SplitMix64)."""
    key = target.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _subset(legal: NDArray[np.bool_], size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    if size >= legal.shape[1] - 1:
        return legal
    key = np.where(legal, rng.random(legal.shape), 2.0)
    return legal & (key <= np.partition(key, size - 1, axis=1)[:, size - 1 : size])


def _first(best: NDArray[np.bool_], key: NDArray[np.generic]) -> Ints:
    """Per row the true entry with the lowest key; hold where no entry is true."""
    order = np.argsort(key, axis=1, kind="stable")
    pick = np.take_along_axis(best, order, axis=1).argmax(axis=1)
    chosen = np.take_along_axis(order, pick[:, None], axis=1)[:, 0]
    return np.where(best.any(axis=1), chosen, HOLD).astype(np.int64)
