"""A trained policy as a controller, in plain numpy: what roll-out workers and the daemon run.

Torch is not needed, so workers start fast and stay small. The scores equal the torch network's to
about 1e-6 (float32, sums in another order); given the same observation and generator state the
actions are the same bit for bit.

The network runs feature-major (``[width, candidates of all agents]``), on legal candidates only,
and every layer but the products is one operation on all agents, whatever groups they are in: for
networks of this size, what Python and the memory do takes as long as the products.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import (
    HOLD,
    Choice,
    Doubles,
    Feature,
    Floats,
    Ints,
    Observation,
    Spec,
)
from .interface import Information, PolicyArrays
from .normaliser import LIMIT, normalise

NORMALISER = (
    "normaliser.agent.shift",
    "normaliser.agent.scale",
    "normaliser.candidate.shift",
    "normaliser.candidate.scale",
)
"""Names of the feature scales among the tensors of a policy, each ``[G, columns]``."""

_COLUMNS = 4096
"""Candidates that are scored at once, so that intermediate results stay in the caches."""


class PolicyActor:
    """Implements ``Controller`` for a candidate-scorer policy.

    Args:
        spec: of the simulator that the policy was trained for (column order, transforms).
        arrays: weights and feature scales; the layout of :mod:`..networks`.
        name: what tables call this policy.
        stochastic: sample from the policy (as trained; the right choice where many agents decide
            at once, because equal argmax decisions herd), or take the best score.

    Raises:
        TypeError: a scenario with box actions.
        ValueError: weights that do not fit the spec, naming the tensor and both shapes.
    """

    information: Information = "same"

    def __init__(
        self, spec: Spec, arrays: PolicyArrays, *, name: str, stochastic: bool = True
    ) -> None:
        if not isinstance(spec.action, Choice):
            raise TypeError(f"PolicyActor scores candidates; {spec.scenario!r} has box actions")
        self.name = name
        self.stochastic = stochastic
        self._spec = spec
        self._layers = _check(spec, arrays)
        self._tensors = {key: np.asarray(value) for key, value in arrays.tensors.items()}
        self._member = np.asarray(arrays.member)
        self._agent_log = _logarithmic(spec.agent_features)
        self._candidate_log = _logarithmic(spec.candidate_features)
        groups, own = self._tensors["agent.weight"].shape[:2]
        self._context = own > len(spec.agent_features)
        # Hardly anybody shares: one batched product with each agent's own weights is quicker.
        self._alone = groups > 1 and groups * 8 > self._member.size
        self._scales = _Scales.of(self._tensors, self._agent_log, self._candidate_log)
        self._weights: tuple[Floats, ...] = () if self._alone else self._stacked()
        self._score = np.ascontiguousarray(self._tensors["score.weight"][..., 0])
        self._order = np.argsort(self._member, kind="stable")

    def of(self, agents: Ints | None) -> PolicyActor:
        """The same policy for observations whose rows are these agents ``[n]``; a cheap view.

        ``None``: all agents, in order.

        Raises:
            IndexError: an agent that the policy does not know.
        """
        if agents is None:
            return self
        view = copy(self)
        view._member = self._member[agents]
        view._order = np.argsort(view._member, kind="stable")
        return view

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent ``[A]``; hold for inactive agents.

        The generator advances by ``A * K`` draws whatever the agents' activity, so that one
        agent's activity never shifts another agent's draws.
        """
        return choose(self.scores(observation), observation, rng if self.stochastic else None)

    def probabilities(self, observation: Observation) -> Doubles:
        """``pi(k | observation)`` ``[A, K]``; inactive agents hold with probability 1."""
        scores = np.where(observation.mask, self.scores(observation), -np.inf).astype(np.float64)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = raised / raised.sum(axis=1, keepdims=True)
        probabilities[~observation.active] = 0.0
        probabilities[~observation.active, HOLD] = 1.0
        return probabilities

    def scores(self, observation: Observation) -> Floats:
        """Logits ``[A, K]`` float32; zero for illegal candidates and agents without a choice."""
        mask = observation.mask
        out = np.zeros(mask.shape, np.float32)
        deciding = observation.active & mask[:, HOLD + 1 :].any(axis=1)
        rows = self._order[deciding[self._order]]
        if self._alone and rows.size:
            out[rows] = self._batched(observation, rows) * mask[rows]
            return out
        step = max(1, _COLUMNS // mask.shape[1])
        for start in range(0, rows.size, step):
            self._fill(out, observation, rows[start : start + step])
        return out

    def _fill(self, out: Floats, seen: Observation, rows: Ints) -> None:
        """Write the scores of the legal candidates of ``rows``, which are ordered by group."""
        # Everybody in order is a view; picking rows out copies them.
        plain = rows.size == len(out) and self._score.shape[0] == 1
        pick = slice(None) if plain else rows
        mask, candidates = seen.mask[pick], seen.candidates[pick]
        choices, features = candidates.shape[1:]
        columns = int(np.count_nonzero(mask))
        # Legal candidates of each agent: one number where they are the same, which is quicker.
        every = columns == mask.size
        counts = choices if every else np.count_nonzero(mask, axis=1)
        member = self._member[rows]
        each, hidden, spare = _SCRATCH.matrices(self._weights[0].shape[2], self._width, columns)
        each[:features] = (candidates.reshape(columns, features) if every else candidates[mask]).T
        self._scales.candidate(each[:features], member, counts)
        own = np.ones((len(each) - features, rows.size), np.float32)
        agent = own[: seen.agent.shape[1]]
        agent[...] = seen.agent[pick].T
        self._scales.agent(agent, member, 1)
        if self._context:
            own[len(agent) : -1] = _means(each[:features], counts)
        each[features:] = np.repeat(own, counts, axis=1)
        scores = self._through(each, hidden, spare, self._parts(member, counts, columns))
        if every:
            out[pick] = scores.reshape(mask.shape)
        else:
            out[rows.repeat(counts), np.nonzero(mask)[1]] = scores

    def _parts(self, member: Ints, counts: Ints | int, columns: int) -> list[tuple[int, int, int]]:
        """Group, first column and end of each run of agents of one group."""
        if len(self._score) == 1:
            return [(0, 0, columns)]
        ends = np.cumsum(np.broadcast_to(counts, member.shape))
        last = np.append(np.flatnonzero(member[1:] != member[:-1]), member.size - 1)
        stops = ends[last].tolist()
        return list(zip(member[last].tolist(), [0, *stops[:-1]], stops, strict=True))

    def _through(
        self, each: Floats, hidden: Floats, spare: Floats, parts: list[tuple[int, int, int]]
    ) -> Floats:
        """Scores ``[n]`` of the columns of ``each``; ``parts``: group, first column, end."""
        below = each
        for layer in self._weights:
            width = layer.shape[1]
            for group, start, end in parts:
                np.matmul(layer[group], below[:, start:end], out=hidden[:width, start:end])
            np.tanh(hidden[:width], out=hidden[:width])
            hidden[width] = 1.0  # what the biases of the next layer are multiplied with
            below, hidden, spare = hidden[: width + 1], spare, hidden
        scores = np.empty(below.shape[1], np.float32)
        for group, start, end in parts:
            np.matmul(self._score[group], below[:-1, start:end], out=scores[start:end])
        return scores

    def _stacked(self) -> tuple[Floats, ...]:
        """Weights of each layer ``[G, out, in + 1]``: the last column is the bias."""
        tensors = self._tensors
        first = (tensors["candidate.weight"], tensors["agent.weight"], tensors["agent.bias"])
        rest = [
            (tensors[f"hidden.{layer}.weight"], tensors[f"hidden.{layer}.bias"])
            for layer in range(1, self._layers)
        ]
        return tuple(
            np.ascontiguousarray(np.concatenate([*weights, bias[:, None]], 1).swapaxes(1, 2))
            for *weights, bias in (first, *rest)
        )

    @property
    def _width(self) -> int:
        return max(layer.shape[1] for layer in self._weights)

    def _batched(self, observation: Observation, rows: Ints) -> Floats:
        """Scores ``[B, K]`` where (nearly) every agent has weights of its own."""
        member = self._member[rows]
        weights = {key: value[member] for key, value in self._tensors.items()}
        mask = observation.mask[rows]
        own = normalise(
            observation.agent[rows],
            self._agent_log,
            weights["normaliser.agent.shift"],
            weights["normaliser.agent.scale"],
        )[:, None]
        each = normalise(
            observation.candidates[rows],
            self._candidate_log,
            weights["normaliser.candidate.shift"][:, None],
            weights["normaliser.candidate.scale"][:, None],
        )
        # Whatever stands where nothing is offered must not reach the mean of the others.
        each[~mask] = 0.0
        if self._context:
            legal = mask[:, None].astype(np.float32)
            own = np.concatenate([own, np.matmul(legal, each) / legal.sum(axis=2)[..., None]], 2)
        hidden = np.matmul(each, weights["candidate.weight"])
        hidden += np.matmul(own, weights["agent.weight"]) + weights["agent.bias"][:, None]
        np.tanh(hidden, out=hidden)
        for layer in range(1, self._layers):
            hidden = np.matmul(hidden, weights[f"hidden.{layer}.weight"])
            hidden += weights[f"hidden.{layer}.bias"][:, None]
            np.tanh(hidden, out=hidden)
        return np.matmul(hidden, weights["score.weight"])[..., 0]


class _Scratch(threading.local):
    """Room for intermediate results, one for each thread: fresh pages cost as much as the sums.

    A policy that was given up for being late may still run in its own thread, in its own room.
    """

    def __init__(self) -> None:
        self._flat = np.empty(0, np.float32)

    def matrices(self, features: int, width: int, columns: int) -> tuple[Floats, Floats, Floats]:
        """``[features, columns]`` and twice ``[width + 1, columns]``, with anything in them."""
        rows = features + 2 * (width + 1)
        if self._flat.size < rows * columns:
            self._flat = np.empty(rows * columns, np.float32)
        table = self._flat[: rows * columns].reshape(rows, columns)
        return table[:features], table[features : -width - 1], table[-width - 1 :]


_SCRATCH = _Scratch()


@dataclass(frozen=True, slots=True)
class _Scale:
    """``normaliser.normalise`` of feature-major arrays, in place.

    Attributes:
        logarithmic: ``[L]`` rows that are read as logarithms.
        shift, scale: ``[F, G]``, or ``[F, 1]`` where all groups have the same.
    """

    logarithmic: Ints
    shift: Floats
    scale: Floats

    def __call__(self, values: Floats, member: Ints, counts: Ints | int) -> None:
        """Normalise ``[F, n]``; agent ``b`` of group ``member[b]`` has ``counts[b]`` columns."""
        shift, scale = self.shift, self.scale
        if shift.shape[1] > 1:
            column = np.repeat(member, counts)
            shift, scale = shift[:, column], scale[:, column]
        if self.logarithmic.size:
            raw = values[self.logarithmic]
            if raw.min() >= 0.0:  # as it should be for what is read so; signs cost time
                values[self.logarithmic] = np.log1p(raw, out=raw)
            else:
                values[self.logarithmic] = np.copysign(np.log1p(np.abs(raw)), raw)
        values -= shift
        values /= scale
        np.clip(values, -LIMIT, LIMIT, out=values)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Feature scales of agents and candidates."""

    agent: _Scale
    candidate: _Scale

    @staticmethod
    def of(
        tensors: Mapping[str, Floats], agent: NDArray[np.bool_], candidate: NDArray[np.bool_]
    ) -> _Scales:
        """The scales in a policy's tensors."""
        found: list[Floats] = []
        for name in NORMALISER:
            rows = tensors[name]
            same = bool((rows == rows[:1]).all())
            found.append(np.ascontiguousarray(rows[:1].T if same else rows.T))
        return _Scales(
            _Scale(np.flatnonzero(agent), *np.broadcast_arrays(*found[:2])),
            _Scale(np.flatnonzero(candidate), *np.broadcast_arrays(*found[2:])),
        )


def _means(each: Floats, counts: Ints | int) -> Floats:
    """Mean over every agent's own columns ``[F, B]`` of ``[F, n]``."""
    if isinstance(counts, int):
        flat = np.matmul(each.reshape(-1, counts), np.ones(counts, np.float32))
        return flat.reshape(len(each), -1) / np.float32(counts)
    starts = np.cumsum(counts) - counts
    return (np.add.reduceat(each, starts, axis=1) / counts).astype(np.float32)


def _logarithmic(features: tuple[Feature, ...]) -> NDArray[np.bool_]:
    return np.array([feature.transform == "log1p" for feature in features], bool)


def choose(scores: Floats, observation: Observation, rng: np.random.Generator | None) -> Ints:
    """Actions ``[n]`` from ``scores`` ``[n, K]``: sampled (Gumbel maximum), or the best if no rng.

    Hold for inactive agents. The generator advances by ``n * K`` draws whatever the mask.
    """
    if rng is None:
        noisy = np.array(scores)
    else:
        noisy = rng.gumbel(size=scores.shape)
        noisy += scores
    np.copyto(noisy, -np.inf, where=~observation.mask)
    actions = noisy.argmax(axis=1)
    actions[~observation.active] = HOLD
    return actions


def _check(spec: Spec, arrays: PolicyArrays) -> int:
    """Number of hidden layers, after comparing every tensor's shape with the spec."""
    tensors = arrays.tensors
    missing = [n for n in ("agent.weight", "score.weight", *NORMALISER) if n not in tensors]
    if missing:
        raise ValueError(f"policy lacks the tensors {', '.join(missing)}")
    groups, own, width = tensors["agent.weight"].shape
    agent, candidate = len(spec.agent_features), len(spec.candidate_features)
    if own not in (agent, agent + candidate):
        raise ValueError(
            f"agent.weight reads {own} features; scenario {spec.scenario!r} has {agent} agent "
            f"features ({agent + candidate} with candidate context)"
        )
    expected: dict[str, tuple[int, ...]] = {
        "agent.bias": (groups, width),
        "candidate.weight": (groups, candidate, width),
        "normaliser.agent.shift": (groups, agent),
        "normaliser.agent.scale": (groups, agent),
        "normaliser.candidate.shift": (groups, candidate),
        "normaliser.candidate.scale": (groups, candidate),
    }
    layers = 1
    while f"hidden.{layers}.weight" in tensors:
        out = tensors[f"hidden.{layers}.weight"].shape[-1]
        expected[f"hidden.{layers}.weight"] = (groups, width, out)
        expected[f"hidden.{layers}.bias"] = (groups, out)
        width = out
        layers += 1
    expected["score.weight"] = (groups, width, 1)
    for key, shape in expected.items():
        if key not in tensors or tensors[key].shape != shape:
            found = tensors[key].shape if key in tensors else "nothing"
            raise ValueError(f"policy tensor {key}: expected shape {shape}, found {found}")
    if arrays.member.shape != (spec.agents,):
        raise ValueError(f"policy is for {arrays.member.shape[0]} agents, not {spec.agents}")
    if arrays.member.min() < 0 or arrays.member.max() >= groups:
        raise ValueError(f"parameter groups run to {arrays.member.max()}, weights have {groups}")
    return layers
