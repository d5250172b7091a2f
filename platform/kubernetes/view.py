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

    def reasons(self, pod: Pod, seen: Seen, now: float) -> tuple[dict[str, str], dict[str, str]]:
        """Why nodes cannot take the pod: those that may later, and those that never will."""
        cluster, resources = self._cluster, self._cluster.resources
        view, accepts = cluster.view(now), cluster.accepts(pod)
        later: dict[str, str] = {}
        never: dict[str, str] = {}
        for at in np.flatnonzero(~seen.legal).tolist():
            name, row = seen.names[at], int(seen.row[at])
            if row < 0:
                later[name] = "node is not in the extender's cache"
                continue
            model = int(resources.model[row])
            lacks = [
                (pod.gpus > int(resources.gpus[row]), "too few GPUs"),
                (pod.gpus > 0 and model >= 0 and not accepts[model], "GPU model not accepted"),
                (pod.cpu > int(resources.cpu[row]), "CPU demand above capacity"),
                (pod.memory > int(resources.memory[row]), "memory demand above capacity"),
            ]
            missing = [text for lacking, text in lacks if lacking]
            if missing:
                never[name] = "; ".join(missing)
                continue
            free = int(np.count_nonzero(view.gpu[row] >= max(pod.gpu_milli, 1)))
            lacks = [
                (not bool(view.up[row]), "node is not ready"),
                (pod.cpu > int(view.cpu[row]), "insufficient cpu"),
                (pod.memory > int(view.memory[row]), "insufficient memory"),
                (pod.gpus > free, f"insufficient gpu: {free} device(s) have the share free"),
            ]
            later[name] = "; ".join(text for lacking, text in lacks if lacking)
        return later, never

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


def _class(pod: Pod) -> int:
    """Index into the simulator's job classes: cpu, share, whole, multi."""
    if pod.gpus == 0:
        return 0
    if pod.gpus > 1:
        return 3
    return 2 if pod.gpu_milli == WHOLE else 1
