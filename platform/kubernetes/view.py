"""One pod before all its candidate nodes, as an observation: the simulator's own features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from ...simulators.cloud.features import Features, Heads
from ...simulators.cloud.fleet import Fleet
from ...simulators.cloud.openb_fleet import CLASSES
from ...simulators.cloud.resources import Demands
from ...simulators.cloud.scenario import OpenbScenario
from ...simulators.interface import Bools, Ints, Observation, Spec
from ..files import UserError
from .cluster import Cluster
from .objects import WHOLE, Pod

DAY = 86_400.0
RUN_TIME = 600.0
"""Expected run time of pods that name none where training tells nothing better, s."""
_KEPT = 256

REASONS = (
    "node is not in the extender's cache",
    "too few GPUs",
    "GPU model not accepted",
    "CPU demand above capacity",
    "memory demand above capacity",
    "node is not ready",
    "insufficient cpu",
    "insufficient memory",
    "insufficient gpu: too few devices have the share free",
)
"""Why a node cannot take a pod; the second to fifth never change."""

_NEVER = 0b11110


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod and the nodes it was asked about.

    Attributes:
        observation: one row; candidate ``k + 1`` is ``names[k]``.
        agent: the dispatcher whose part the pod plays.
        names: as asked.
        row: ``[K]`` their rows in the cluster, -1 for unknown ones.
        legal: ``[K]`` nodes that can take the pod now.
    """

    observation: Observation
    agent: int
    names: tuple[str, ...]
    row: Ints
    legal: Bools


class Viewer:
    """Turns pods into observations of a bundle's spec.

    A pod plays the part of one dispatcher of its tenant group (pods of unknown groups: the first
    group), which one follows from its uid, so that all its questions go to the same.

    Args:
        spec: of the bundle.
        scenario: what it was trained on (load forecast, time constants).
        cluster: what to look at.

    Raises:
        UserError: the bundle's features are not those of this version's ``openb`` simulator.
    """

    def __init__(self, spec: Spec, scenario: OpenbScenario, cluster: Cluster):
        self._spec, self._scenario, self._cluster = spec, scenario, cluster
        self._members = [np.flatnonzero(spec.group_of == g) for g in range(len(spec.groups))]
        self._load = np.full(len(spec.groups), scenario.load)
        self._features: dict[tuple[object, ...], Features] = {}
        self._version = -1
        wanted = [f"class:{name}" for name in CLASSES]
        found = [f.name for f in spec.agent_features if f.name.startswith("class:")]
        if found != wanted:
            raise UserError(
                f"the extender serves bundles of scenario 'openb' (agent features "
                f"{', '.join(wanted)}); this bundle's are {', '.join(found) or 'others'}"
            )

    def agent_of(self, pod: Pod) -> int:
        """The dispatcher whose part the pod plays."""
        groups = self._spec.groups
        members = self._members[groups.index(pod.tenant) if pod.tenant in groups else 0]
        draw = int.from_bytes(blake2b(pod.uid.encode(), digest_size=8).digest(), "little")
        return int(members[draw % members.shape[0]])

    def see(self, pod: Pod, names: Sequence[str], now: float, *, run_time: float) -> Seen:
        """The pod's observation over the named nodes (all distinct).

        Args:
            pod: who asks.
            names: candidate nodes.
            now: s since 1970.
            run_time: expected run time of a pod that names none, s.
        """
        cluster = self._cluster
        row = np.array([cluster.row.get(name, -1) for name in names], np.int64)
        features, capable = self._prepared(pod)
        target = np.concatenate([[-1], np.where((row >= 0) & capable[row], row, -1)])[None, :]
        agent = self.agent_of(pod)
        heads = self._heads(pod, agent, now, pod.run_time or run_time)
        candidates, mask, _ = features.candidates(cluster.view(now), heads, target)
        angle = 2.0 * math.pi * (now % DAY) / DAY
        day = math.sin(angle), math.cos(angle)
        group = self._spec.group_of[agent : agent + 1]
        empty = np.zeros((1, 0), np.float32)
        observation = Observation(
            agent=features.agents(heads, group, self._load, day, now),
            candidates=candidates,
            target=target,
            mask=mask,
            low=empty,
            high=empty,
            active=np.ones(1, bool),
            critic=np.zeros(0, np.float32),
            state=np.zeros(0),
            exogenous=np.zeros(0),
            time=now,
        )
        return Seen(observation, agent, tuple(names), row, mask[0, 1:].copy())

    def _prepared(self, pod: Pod) -> tuple[Features, Bools]:
        """Features for the pod's demand, and ``[M]`` nodes that could host it when empty."""
        cluster = self._cluster
        if self._version != cluster.version or len(self._features) >= _KEPT:
            self._features.clear()
            self._capable: dict[tuple[object, ...], Bools] = {}
            self._version = cluster.version
        key = (pod.cpu, pod.memory, pod.gpus, pod.gpu_milli, pod.models)
        if key not in self._features:
            fleet = self._fleet(pod)
            self._features[key] = Features(fleet)
            # One entry more, so that row -1 (unknown) reads False.
            self._capable[key] = np.append(fleet.vectors.capable()[0], False)
        return self._features[key], self._capable[key]

    def _fleet(self, pod: Pod) -> Fleet:
        cluster, spec = self._cluster, self._spec
        one = {"cpu": pod.cpu, "memory": pod.memory, "gpus": pod.gpus, "gpu_milli": pod.gpu_milli}
        columns: Mapping[str, Any] = {name: np.array([value]) for name, value in one.items()}
        demands = Demands(**columns, accepts=cluster.accepts(pod)[None])
        known = cluster.resources
        classes, groups = len(CLASSES), len(spec.groups)
        return Fleet(
            discipline="exclusive",
            types=cluster.types,
            type_of=cluster.type_of,
            classes=CLASSES,
            groups=spec.groups,
            group_of=spec.group_of,
            mix=np.full((groups, classes), 1.0 / classes),
            mean_service=np.ones((len(cluster.types), classes)),
            rate=self._scenario.arrivals_per_epoch * spec.agents / spec.dt,
            load=self._scenario.load,
            dt=spec.dt,
            horizon=spec.horizon,
            resources=type(known)(
                cpu=known.cpu,
                memory=known.memory,
                gpus=known.gpus,
                model=known.model,
                demands=demands,
                fragmentation=known.fragmentation,
            ),
        )

    def _heads(self, pod: Pod, agent: int, now: float, run_time: float) -> Heads:
        # The pod itself may or may not be among those that the feed told to wait.
        others = sum(
            self.agent_of(other) == agent
            for uid, other in self._cluster.waiting.items()
            if uid != pod.uid
        )
        created = now if pod.created is None else min(pod.created, now)
        return Heads(
            active=np.ones(1, bool),
            waiting=np.array([1 + others]),
            kind=np.array([_class(pod)]),
            demand=np.zeros(1, np.int64),
            arrival=np.array([created]),
            size=np.array([run_time]),
            estimate=np.ones(1),
            services=np.full((1, max(len(self._cluster.types), 1)), run_time),
        )


@dataclass(frozen=True, slots=True)
class Fits:
    """Which of the nodes that were asked about can take a pod, and why the others cannot.

    Attributes:
        names: as asked.
        code: ``[K]`` sum of the bits of what is missing, in the order of :data:`REASONS`.
    """

    names: tuple[str, ...]
    code: Ints

    @property
    def legal(self) -> Bools:
        """``[K]`` nodes that can take the pod now."""
        return self.code == 0

    def failed(self) -> tuple[dict[str, str], dict[str, str]]:
        """Reasons by name: of nodes that may take it later, and of those that never will."""
        texts = {code: _text(code) for code in np.unique(self.code).tolist()}
        later: dict[str, str] = {}
        never: dict[str, str] = {}
        for name, code in zip(self.names, self.code.tolist(), strict=True):
            if code:
                (never if code & _NEVER else later)[name] = texts[code]
        return later, never


def fits(cluster: Cluster, pod: Pod, names: Sequence[str]) -> Fits:
    """Whether the named nodes can take the pod: the legality of its observation, explained."""
    row = np.array([cluster.row.get(name, -1) for name in names], np.int64)
    known = row >= 0
    if not cluster.nodes:
        return Fits(tuple(names), np.ones(row.shape[0], np.int64))
    at, there = np.maximum(row, 0), cluster.resources
    cpu, memory, gpu = cluster.free(at)
    accepts, model = cluster.accepts(pod), there.model[at]
    lacks = (
        pod.gpus > there.gpus[at],
        (pod.gpus > 0) & (model >= 0) & ~accepts[model],
        pod.cpu > there.cpu[at],
        pod.memory > there.memory[at],
        ~cluster.up[at],
        pod.cpu > cpu,
        pod.memory > memory,
        pod.gpus > (gpu >= max(pod.gpu_milli, 1)).sum(axis=1),
    )
    code = sum(lack.astype(np.int64) << bit for bit, lack in enumerate(lacks, start=1))
    return Fits(tuple(names), np.where(known, code, 1))


def _text(code: int) -> str:
    # What can never fit need not also be short now.
    told = code & _NEVER or code
    return "; ".join(text for bit, text in enumerate(REASONS) if told >> bit & 1)


def _class(pod: Pod) -> int:
    """Index into the simulator's job classes: cpu, share, whole, multi."""
    if pod.gpus == 0:
        return 0
    if pod.gpus > 1:
        return 3
    return 2 if pod.gpu_milli == WHOLE else 1
