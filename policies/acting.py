"""A trained policy as a controller, in plain numpy: what roll-out workers and the daemon run.

Torch is not needed, so workers start fast and stay small. The scores equal the torch network's to
about 1e-6 (float32, sums in another order); given the same observation and generator state the
actions are the same bit for bit.

The network runs feature-major (``[width, candidates of all agents]``), on legal candidates only,
and every layer but the products is one operation on all agents, whatever groups they are in: for
networks of this size, what Python and the memory do takes as long as the products.
"""

from __future__ import annotations

from copy import copy

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
from .box_acting import SetPointActor
from .columns import NOBODY, NORMALISER, SCRATCH, Scales, means
from .interface import Information, PolicyArrays
from .layout import check, hidden_shapes, require
from .normaliser import normalise

_COLUMNS = 4096
"""Candidates that are scored at once, so that intermediate results stay in the caches."""


def actor(
    spec: Spec, arrays: PolicyArrays, *, name: str, stochastic: bool = True
) -> PolicyActor | SetPointActor:
    """The controller for a stored policy of this scenario, whatever its kind of actions.

    Raises:
        ValueError: weights that do not fit the spec, naming the tensor and both shapes.
    """
    kind = PolicyActor if isinstance(spec.action, Choice) else SetPointActor
    return kind(spec, arrays, name=name, stochastic=stochastic)


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
        self._scales = Scales.of(self._tensors, self._agent_log, self._candidate_log)
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
        if len(self._score) == 1:
            return self._alike(observation)
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

    def _alike(self, seen: Observation) -> Floats:
        """:meth:`scores` where all agents have the same weights, in as few passes as possible."""
        rows, choices = seen.mask.shape
        # A product counts short rows several times quicker than a reduction does.
        others = np.ones(choices, np.float32)
        others[HOLD] = 0.0
        deciding = np.matmul(seen.mask.astype(np.float32), others) > 0.0
        deciding &= seen.active
        legal = np.flatnonzero(seen.mask & deciding[:, None])
        out = np.zeros((rows, choices), np.float32)
        flat = out.reshape(-1)
        # Cut between agents, each of whom has its mean over its own candidates.
        ends = [legal.size]
        step = max(1, _COLUMNS // choices)
        if np.count_nonzero(deciding) > step:
            first = np.flatnonzero(deciding)[::step] * choices
            ends = [*np.searchsorted(legal, first[1:]).tolist(), legal.size]
        start = 0
        for end in ends:
            if end > start:
                part = legal[start:end]
                flat[part] = self._scored(seen, part)
            start = end
        return out

    def _scored(self, seen: Observation, places: Ints) -> Floats:
        """Scores ``[n]`` of candidates, each given by its place among all of all agents."""
        choices, features = seen.candidates.shape[1:]
        own = seen.agent.shape[1]
        row = places // choices
        each, hidden, spare = SCRATCH.matrices(self._weights[0].shape[2], self._width, places.size)
        each[:features] = seen.candidates.reshape(-1, features).take(places, axis=0).T
        each[features : features + own] = seen.agent.take(row, axis=0).T
        self._scales.joined(each[: features + own], NOBODY, 1)
        if self._context:
            starts = np.flatnonzero(np.diff(row, prepend=-1))
            counts = np.diff(starts, append=row.size)
            alike = counts.min() == counts.max() == choices
            context = means(each[:features], choices if alike else counts)
            each[features + own : -1] = np.repeat(context, counts, axis=1)
        each[-1] = 1.0  # what the biases are multiplied with
        return self._through(each, hidden, spare, [(0, 0, places.size)])

    def _fill(self, out: Floats, seen: Observation, rows: Ints) -> None:
        """Write the scores of the legal candidates of ``rows``, which are ordered by group."""
        mask, candidates = seen.mask[rows], seen.candidates[rows]
        choices, features = candidates.shape[1:]
        columns = int(np.count_nonzero(mask))
        # Legal candidates of each agent: one number where they are the same, which is quicker.
        every = columns == mask.size
        counts = choices if every else np.count_nonzero(mask, axis=1)
        member = self._member[rows]
        each, hidden, spare = SCRATCH.matrices(self._weights[0].shape[2], self._width, columns)
        each[:features] = (candidates.reshape(columns, features) if every else candidates[mask]).T
        self._scales.candidate(each[:features], member, counts)
        own = np.ones((len(each) - features, rows.size), np.float32)
        agent = own[: seen.agent.shape[1]]
        agent[...] = seen.agent[rows].T
        self._scales.agent(agent, member, 1)
        if self._context:
            own[len(agent) : -1] = means(each[:features], counts)
        each[features:] = np.repeat(own, counts, axis=1)
        scores = self._through(each, hidden, spare, self._parts(member, counts))
        if every:
            out[rows] = scores.reshape(mask.shape)
        else:
            out[rows.repeat(counts), np.nonzero(mask)[1]] = scores

    def _parts(self, member: Ints, counts: Ints | int) -> list[tuple[int, int, int]]:
        """Group, first column and end of each run of agents of one group."""
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
    require(arrays, ("agent.weight", "score.weight", *NORMALISER))
    groups, own, width = arrays.tensors["agent.weight"].shape
    agent, candidate = len(spec.agent_features), len(spec.candidate_features)
    if own not in (agent, agent + candidate):
        raise ValueError(
            f"agent.weight reads {own} features; scenario {spec.scenario!r} has {agent} agent "
            f"features ({agent + candidate} with candidate context)"
        )
    hidden, last, layers = hidden_shapes(arrays, groups, width)
    expected = {
        "agent.bias": (groups, width),
        "candidate.weight": (groups, candidate, width),
        "normaliser.agent.shift": (groups, agent),
        "normaliser.agent.scale": (groups, agent),
        "normaliser.candidate.shift": (groups, candidate),
        "normaliser.candidate.scale": (groups, candidate),
        **hidden,
        "score.weight": (groups, last, 1),
    }
    check(spec, arrays, expected, groups)
    return layers
