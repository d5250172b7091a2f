"""A trained policy as a controller, in plain numpy: what roll-out workers and the daemon run.

Torch is not needed, so workers start fast and stay small. The scores equal the torch network's to
about 1e-6 (same operations in the same order, float32); given the same observation and generator
state the actions are the same bit for bit.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray

from ..simulators.interface import HOLD, Choice, Doubles, Floats, Ints, Observation, Spec
from .interface import Information, PolicyArrays
from .normaliser import normalise

NORMALISER = (
    "normaliser.agent.shift",
    "normaliser.agent.scale",
    "normaliser.candidate.shift",
    "normaliser.candidate.scale",
)
"""Names of the feature scales among the tensors of a policy, each ``[G, columns]``."""


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
        self._agent_log = np.array([f.transform == "log1p" for f in spec.agent_features], bool)
        self._candidate_log = np.array(
            [f.transform == "log1p" for f in spec.candidate_features], bool
        )
        self._groups = int(self._tensors["score.weight"].shape[0])
        width = self._tensors["agent.weight"].shape[1]
        self._context = width > len(spec.agent_features)

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
        """Logits ``[A, K]`` float32 before the mask; zeros for agents with nothing to decide."""
        out = np.zeros(observation.mask.shape, np.float32)
        deciding = np.flatnonzero(observation.active & (observation.mask.sum(axis=1) > 1))
        if deciding.size == 0:
            return out
        if self._groups == 1:
            out[deciding] = self._score(observation, deciding, slice(0, 1))[0]
            return out
        member = self._member[deciding]
        if self._groups * 8 > self._member.size:
            # Hardly anybody shares: one batched product with each agent's own weights.
            out[deciding] = self._score(observation, deciding, member)[:, 0]
            return out
        for group in np.unique(member):
            rows = deciding[member == group]
            out[rows] = self._score(observation, rows, slice(group, group + 1))[0]
        return out

    def _score(
        self, observation: Observation, rows: Ints, groups: slice | NDArray[np.int64]
    ) -> Floats:
        """Scores ``[G, B, K]`` with ``G * B = len(rows)``; G is the number of groups selected."""
        weights = {key: value[groups] for key, value in self._tensors.items()}
        count = weights["score.weight"].shape[0]
        mask = observation.mask[rows]
        choices = mask.shape[1]
        own = observation.agent[rows].reshape(count, -1, observation.agent.shape[1])
        own = normalise(
            own,
            self._agent_log,
            weights["normaliser.agent.shift"][:, None],
            weights["normaliser.agent.scale"][:, None],
        )
        batch = own.shape[1]
        each = observation.candidates[rows].reshape(count, batch * choices, -1)
        each = normalise(
            each,
            self._candidate_log,
            weights["normaliser.candidate.shift"][:, None],
            weights["normaliser.candidate.scale"][:, None],
        )
        if self._context:
            legal = mask.reshape(count, batch, 1, choices).astype(np.float32)
            total = np.matmul(legal, each.reshape(count, batch, choices, -1))[:, :, 0]
            own = np.concatenate([own, total / legal.sum(axis=3)], axis=2)
        first = np.matmul(own, weights["agent.weight"]) + weights["agent.bias"][:, None]
        hidden = np.matmul(each, weights["candidate.weight"])
        wide = hidden.reshape(count, batch, choices, -1)
        wide += first[:, :, None]
        np.tanh(hidden, out=hidden)
        for layer in range(1, self._layers):
            hidden = np.matmul(hidden, weights[f"hidden.{layer}.weight"])
            hidden += weights[f"hidden.{layer}.bias"][:, None]
            np.tanh(hidden, out=hidden)
        return np.matmul(hidden, weights["score.weight"]).reshape(count, batch, choices)


def choose(scores: Floats, observation: Observation, rng: np.random.Generator | None) -> Ints:
    """Actions ``[n]`` from ``scores`` ``[n, K]``: sampled (Gumbel maximum), or the best if no rng.

    Hold for inactive agents. The generator advances by ``n * K`` draws whatever the mask.
    """
    noisy = scores if rng is None else scores + rng.gumbel(size=scores.shape)
    actions = np.argmax(np.where(observation.mask, noisy, -np.inf), axis=1)
    return np.where(observation.active, actions, HOLD).astype(np.int64)


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
