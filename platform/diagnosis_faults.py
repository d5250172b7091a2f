"""Faults to inject into an agent, and the controller that suffers them and writes down what it saw.

A red-team experiment: from a given epoch on, one agent's observation or decision is wrong, and
everybody else plays on. Whoever diagnoses the run sees what a controller daemon would see, the
(faulty) observations and the decisions that were carried out, not the fault itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..policies.acting import PolicyActor
from ..policies.interface import Information, PolicyArrays
from ..simulators.interface import Bools, Feature, Floats, Ints, Observation, Spec
from .files import UserError

Kind = Literal["noise", "stuck", "flip"]
KINDS: tuple[Kind, ...] = ("noise", "stuck", "flip")

_SENSOR_STREAM = 0x5E45


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one agent from ``epoch`` on.

    ``noise`` adds Gaussian noise of ``strength`` (in the normalised units that the network reads)
    to every feature except those of 'hold'. ``stuck`` shows the features of the agent's last
    decision before the fault for ever. ``flip`` carries out the legal candidate that the policy
    likes least. What is legal and what a candidate stands for never change.
    """

    agent: int
    epoch: int
    kind: Kind = "noise"
    strength: float = 1.0


def parse_fault(text: str, kind: str, strength: float, spec: Spec) -> Fault:
    """The fault of ``AGENT@EPOCH``.

    Raises:
        UserError: not of that form, or a kind, agent or epoch that there is not.
    """
    if kind not in KINDS:
        raise UserError(f"--fault {kind}: no such fault; known: {', '.join(KINDS)}")
    found = re.fullmatch(r"(\d+)@(\d+)", text)
    if found is None:
        raise UserError(f"--inject {text}: write AGENT@EPOCH in numbers, for example 3@20")
    agent, epoch = int(found[1]), int(found[2])
    if agent >= spec.agents:
        raise UserError(f"--inject {text}: no agent {agent}; agents are 0 to {spec.agents - 1}")
    if epoch >= spec.horizon:
        raise UserError(f"--inject {text}: no epoch {epoch}; epochs are 0 to {spec.horizon - 1}")
    return Fault(agent, epoch, kind, strength)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the policies of an episode were shown and what was carried out; T epochs.

    Attributes:
        agent: ``[T, A, F]`` float32.
        candidates: ``[T, A, K, C]`` float32.
        mask: ``[T, A, K]`` bool.
        deciding: ``[T, A]`` bool, active with more than one legal candidate.
        actions: ``[T, A]`` int64.
    """

    agent: Floats
    candidates: Floats
    mask: Bools
    deciding: Bools
    actions: Ints


@dataclass
class Witness:
    """Implements ``Controller``: a policy that suffers faults and records what it was shown.

    One instance plays one episode.
    """

    spec: Spec
    arrays: PolicyArrays
    stochastic: bool
    faults: Sequence[Fault] = ()
    seed: int = 0
    name: str = "policy"
    information: Information = "same"
    _frames: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._actor = PolicyActor(
            self.spec, self.arrays, name=self.name, stochastic=self.stochastic
        )
        # Sensors have a stream of their own: a fault must not shift anybody's action sampling.
        self._rng = np.random.default_rng(np.random.SeedSequence([self.seed, _SENSOR_STREAM]))
        self._last = _Memory(self.spec)
        self._frozen: dict[int, tuple[Floats, Floats]] = {}

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """Actions on the faulty observation, with forced decisions put in."""
        epoch = len(self._frames)
        struck = [fault for fault in self.faults if fault.epoch <= epoch]
        seen = self._shown(observation, struck) if struck else observation
        actions = self._actor.act(seen, rng)
        forced = [f.agent for f in struck if f.kind == "flip" and observation.active[f.agent]]
        if forced:
            scores = np.where(seen.mask, self._actor.scores(seen), np.inf)
            actions[forced] = scores[forced].argmin(axis=1)
        deciding = seen.active & (seen.mask.sum(axis=1) > 1)
        self._last.remember(seen, deciding)
        frame = (seen.agent, seen.candidates, seen.mask, deciding, actions)
        self._frames.append(tuple(part.copy() for part in frame))
        return actions

    def seen(self) -> Seen:
        """The record of the episode."""
        agent, candidates, mask, deciding, actions = (
            np.stack(parts) for parts in zip(*self._frames, strict=True)
        )
        return Seen(agent, candidates, mask, deciding, actions)  # pyright: ignore[reportArgumentType]

    def _shown(self, observation: Observation, struck: Sequence[Fault]) -> Observation:
        agent, candidates = observation.agent.copy(), observation.candidates.copy()
        for fault in struck:
            row = fault.agent
            if fault.kind == "noise":
                agent[row], candidates[row, 1:] = self._noisy(
                    fault, agent[row], candidates[row, 1:]
                )
            elif fault.kind == "stuck" and self._last.known[row] and observation.active[row]:
                frozen = self._frozen.setdefault(row, self._last.row(row))
                agent[row], candidates[row] = frozen
        return replace(observation, agent=agent, candidates=candidates)

    def _noisy(self, fault: Fault, agent: Floats, candidates: Floats) -> tuple[Floats, Floats]:
        group = int(self.arrays.member[fault.agent])
        tensors = self.arrays.tensors
        shown: list[Floats] = []
        for rows, features, name in (
            (agent, self.spec.agent_features, "agent"),
            (candidates, self.spec.candidate_features, "candidate"),
        ):
            eta = fault.strength * self._rng.standard_normal(rows.shape)
            shown.append(_moved(rows, eta * tensors[f"normaliser.{name}.scale"][group], features))
        return shown[0], shown[1]


class _Memory:
    """The features of every agent's last decision."""

    def __init__(self, spec: Spec) -> None:
        self.known = np.zeros(spec.agents, bool)
        self._agent: Floats | None = None
        self._candidates: Floats | None = None

    def remember(self, seen: Observation, deciding: Bools) -> None:
        if self._agent is None or self._candidates is None:
            self._agent, self._candidates = seen.agent.copy(), seen.candidates.copy()
        self._agent[deciding] = seen.agent[deciding]
        self._candidates[deciding] = seen.candidates[deciding]
        self.known |= deciding

    def row(self, agent: int) -> tuple[Floats, Floats]:
        if self._agent is None or self._candidates is None:
            raise ValueError(f"agent {agent} has not decided yet")
        return self._agent[agent].copy(), self._candidates[agent].copy()


def _moved(rows: Floats, shift: NDArray[np.float64], features: Sequence[Feature]) -> Floats:
    """Raw rows whose transformed values are moved by ``shift``."""
    logarithmic = np.array([feature.transform == "log1p" for feature in features], bool)
    values = rows.astype(np.float64)
    values = np.where(logarithmic, np.copysign(np.log1p(np.abs(values)), values), values) + shift
    back = np.where(logarithmic, np.copysign(np.expm1(np.abs(values)), values), values)
    return back.astype(np.float32)
