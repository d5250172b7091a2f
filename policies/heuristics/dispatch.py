"""Node-choice heuristics: the bar that a learned dispatcher has to clear.

Every rule comes in two variants. ``same`` reads what every agent reads: a stale snapshot on which
all decide at once. ``fresh`` is run agent after agent on the true present; it is a bound on what
information is worth, not a rival, because no decentralised policy has it.

The rules that only rank nodes herd when the snapshot is stale. Those of :mod:`.stale`
do not.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...simulators.interface import Doubles, Ints, Observation, Spec
from ..interface import Controller, Information
from .rules import Columns, MixedRule, Score, ScoreRule, Tie, legal_nodes, titled
from .scores import best_fit, drain_cost, fragmentation_descent, shortest_delay, work_left
from .stale import UNSEEN, interpreted, softmax_sed


def random_choice(spec: Spec, information: Information = "same") -> Controller:
    """Every legal node with the same probability."""
    return MixedRule(
        name=titled("random", information),
        spec=spec,
        columns=(),
        weight=lambda _, observation: legal_nodes(observation).astype(np.float64),
        information=information,
    )


class RoundRobin:
    """Each dispatcher takes its legal nodes in cyclic order of target id.

    The starting points are drawn at the start of an episode (the first observation whose time is
    before the previous one's), so dispatchers do not march in step. In the fresh variant one
    pointer serves all dispatchers.
    """

    def __init__(self, information: Information = "same"):
        self._information: Information = information
        self._last: Ints = np.zeros(0, dtype=np.int64)
        self._time = np.inf

    @property
    def name(self) -> str:
        return titled("round-robin", self._information)

    @property
    def information(self) -> Information:
        return self._information

    def act(self, observation: Observation, rng: np.random.Generator) -> Ints:
        """One legal action per agent, ``[A]`` int64."""
        legal, target = legal_nodes(observation), observation.target
        if observation.time < self._time or self._last.shape[0] != target.shape[0]:
            known = np.maximum(target, 0)
            self._last = rng.integers(known.max() + 1, size=target.shape[0])
        self._time = observation.time
        span = np.int64(max(int(target.max()), int(self._last.max())) + 1)
        distance = (target - self._last[:, None] - 1) % span
        distance = np.where(legal, distance, span)
        actions = distance.argmin(axis=1)
        chosen = np.take_along_axis(target, actions[:, None], axis=1)[:, 0]
        moved = legal.any(axis=1)
        self._last = np.where(moved, chosen, self._last)
        return np.where(moved, actions, 0).astype(np.int64)


def weighted_random(spec: Spec, weights: Doubles, information: Information = "same") -> Controller:
    """Random with fixed odds: the optimal static split of a convex delay model.

    ``weights`` is ``[targets]``, or ``[classes, targets]`` with one row per ``class:`` agent
    feature in the specification's order, for a split that depends on the job's class.
    """
    classes = tuple(f"agent.{f.name}" for f in spec.agent_features if f.name.startswith("class:"))
    if weights.ndim == 2 and weights.shape[0] != len(classes):
        raise ValueError(
            f"weights have {weights.shape[0]} rows but the agents have {len(classes)} job classes"
        )

    def weight(columns: Columns, observation: Observation) -> Doubles:
        target = np.maximum(observation.target, 0)
        if weights.ndim == 1:
            return weights[target]
        one_hot = np.concatenate([columns[name] for name in classes], axis=1)
        return weights[one_hot.argmax(axis=1)[:, None], target]

    columns = classes if weights.ndim == 2 else ()
    return MixedRule(
        name=titled("weighted-random", information),
        spec=spec,
        columns=columns,
        weight=weight,
        information=information,
    )


EXCLUSIVE = "cpu_left"
"""A candidate column that only scenarios with exclusive vector resources have."""


class StaleScenario(Protocol):
    """What the list of rules needs to know of a scenario."""

    @property
    def agents(self) -> int: ...

    @property
    def load(self) -> float: ...

    @property
    def arrivals_per_epoch(self) -> float: ...

    @property
    def snapshot_age(self) -> int: ...


def controllers(
    scenario: StaleScenario, spec: Spec, *, nodes: int, weights: Doubles | None = None
) -> tuple[Controller, ...]:
    """All node-choice rules of a scenario: each with the agents' snapshot, then each fresh.

    Args:
        scenario: its ``snapshot_age``, arrival rate and load tell :func:`interpreted` how many
            jobs the snapshot hides.
        spec: what its simulator looks like; rules whose columns are missing are left out.
        nodes: number of nodes that all dispatchers share.
        weights: odds of :func:`weighted_random`, which is left out without them.
    """
    return (
        *_rules(scenario, spec, nodes, weights, "same"),
        *_rules(scenario, spec, nodes, weights, "fresh"),
    )


def _rules(
    scenario: StaleScenario,
    spec: Spec,
    nodes: int,
    weights: Doubles | None,
    information: Information,
) -> list[Controller]:
    def rank(
        name: str,
        columns: tuple[str, ...],
        score: Score,
        tie: Tie = "random",
        probes: int | None = None,
    ) -> Controller:
        return ScoreRule(
            name=titled(name, information),
            spec=spec,
            columns=columns,
            score=score,
            tie=tie,
            information=information,
            probes=probes,
        )

    # Net arrivals per node since the snapshot. Even a snapshot of this very epoch hides what the
    # others decide now; fresh information hides nothing but the job itself.
    per_epoch = scenario.agents * scenario.arrivals_per_epoch / nodes
    epochs = UNSEEN * max(scenario.snapshot_age, 0.5) if information == "same" else 0.0

    def hidden(columns: Columns) -> Doubles:
        return epochs * per_epoch * columns["agent.load"] / scenario.load

    def interpret(name: str, columns: tuple[str, ...], cost: Score) -> Controller:
        return interpreted(
            name=name,
            spec=spec,
            columns=(*columns, "agent.load"),
            cost=cost,
            hidden=hidden,
            information=information,
        )

    found = [random_choice(spec, information), RoundRobin(information)]
    if weights is not None:
        found.append(weighted_random(spec, weights, information))
    found += [
        rank("jsq", ("jobs",), lambda c: c["jobs"]),
        rank("sed", ("jobs", "service"), shortest_delay),
        rank("power-of-two", ("jobs", "service"), shortest_delay, probes=2),
        rank("least-work-left", ("work", "service"), work_left),
        interpret("interpreted", ("jobs",), shortest_delay),
        softmax_sed(spec, information=information),
    ]
    if not any(feature.name == EXCLUSIVE for feature in spec.candidate_features):
        return [
            *found,
            rank("greedy-reference", ("service", "overlap"), drain_cost),
            interpret("interpreted-reference", ("overlap",), drain_cost),
        ]
    left = ("cpu_left", "gpu_left")
    return [
        *found,
        rank("best-fit", left, best_fit, "rank"),
        rank("worst-fit", left, lambda c: -best_fit(c), "rank"),
        rank("fgd", ("fragmentation_delta",), fragmentation_descent, "rank"),
        rank("drf", ("dominant_share",), lambda c: c["dominant_share"]),
        rank("greedy-reference", ("fragmentation_delta",), lambda c: c["fragmentation_delta"]),
        rank("tetris", ("alignment",), lambda c: -c["alignment"]),
    ]
