"""Who failed first, and whom it took along: a diagnosis of a trained policy's episodes.

After arXiv 2602.08104. Stage 1 (``diagnosis_signals``) finds the first agent that behaves as no
agent does in clean episodes of the same bundle; stage 2 (``diagnosis_contagion``) asks whether
somebody upstream explains that, and follows the failure downstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..policies.fragility import FragilityGauge
from ..simulators.interface import Choice, Doubles, Spec
from ..simulators.settings import Settings, knob
from .bundle import Bundle
from .diagnosis_contagion import (
    Contagion,
    Crossing,
    Customary,
    Edge,
    Influences,
    first_crossings,
    trace,
)
from .diagnosis_faults import Fault, Seen, Witness
from .diagnosis_signals import SIGNALS, Explained, Signals, Yardstick, clean_rows
from .episodes import Stage
from .files import UserError
from .progress import Report, silent
from .registry import find_domain
from .rows import Row
from .tasks import Factory, Guidance, Result, Task

REFERENCE_SEEDS = 2**40
"""Clean episodes take their seeds from here on, away from those that anybody asks for."""

_PROBE_STREAM = 0x9120
_CUSTOMARY_EPISODES = 5


class DiagnosisSettings(Settings):
    """How an examination works."""

    references: int = knob(20, "Clean episodes to calibrate on.", unit="episodes", ge=5)
    alarm: float = knob(
        0.05, "Chance of a false incident per clean episode.", unit="1", gt=0.0, lt=1.0
    )
    signals: tuple[str, ...] = knob(
        SIGNALS, "Signals that may raise an incident.", usual="all; remainder for the paper's own"
    )
    window: int = knob(8, "Causal window of the contagion.", unit="epochs", usual="4-20", ge=1)
    unexplained: float = knob(
        0.05, "Share of feature variance left out of 'explained'.", unit="1", gt=0.0, lt=1.0
    )
    probe_pairs: int = knob(4, "Pairs of probing perturbations per decision.", ge=1)
    probe_radius: float = knob(
        0.1, "Size of a probing perturbation.", unit="normalised units", usual="0.05-0.2", gt=0.0
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One examined episode; S signals, T epochs, A agents.

    Attributes:
        seed: of the episode.
        faults: what was injected.
        total: its return.
        signals: ``[S, T, A]`` raw, NaN where an agent had nothing to decide.
        ratio: ``[S, T, A]`` in incident thresholds.
        fragility: ``[A]`` median over decisions of the probing remainder, nats; NaN without one.
        first: the crossing that made the incident, ``None`` if there was none.
        crossings: first crossings of the lower level for single agents.
        contagion: stage 2, where there is an incident and the domain has an analytical model.
        twin: crossings in a replay of the episode without the faults; ``None`` where nothing was
            injected or nobody seems to be taken along.
    """

    seed: int
    faults: tuple[Fault, ...]
    total: float
    signals: Doubles
    ratio: Doubles
    fragility: Doubles
    first: Crossing | None
    crossings: tuple[Crossing, ...]
    contagion: Contagion | None
    twin: tuple[Crossing, ...] | None = None

    def confirmed(self, edge: Edge, window: int) -> bool | None:
        """Whether the replay without the fault lacks this crossing; ``None``: no replay.

        Stage 2 sees only that influence preceded a crossing. Where the fault is ours, the replay
        tells whether it caused the crossing.
        """
        if self.twin is None:
            return None
        same = (c for c in self.twin if c.agent == edge.target)
        return not any(abs(c.epoch - edge.epoch) <= window for c in same)

    @property
    def patient_zero(self) -> int | None:
        """The agent that failed first, after the correction; ``None`` without an incident."""
        if self.contagion is not None:
            return self.contagion.source
        return None if self.first is None else self.first.agent

    @property
    def heat(self) -> Doubles:
        """``[T, A]`` largest ratio of any signal."""
        return self.ratio.max(axis=0)


class Examiner:
    """Examines episodes of one policy against clean episodes of the same policy.

    Args:
        bundle: the policy and the spec it was trained for.
        factory: of the scenario to play.
        reference: reference state of the analytical model; ``None`` leaves out stage 2.
        settings: how to examine.
        progress: told about the clean episodes, which are played at once.

    Raises:
        UserError: an unknown signal, or a policy for a system of another shape.
    """

    def __init__(
        self,
        bundle: Bundle,
        factory: Factory,
        *,
        reference: str | None,
        settings: DiagnosisSettings,
        progress: Report = silent,
    ) -> None:
        for name in settings.signals:
            if name not in SIGNALS:
                raise UserError(f"no signal {name!r}; known: {', '.join(SIGNALS)}")
        if not settings.signals:
            raise UserError(f"no signal given; known: {', '.join(SIGNALS)}")
        self.settings = settings
        self._bundle = bundle
        self._stage = Stage(factory)
        self._gauge = FragilityGauge(self.spec, bundle.arrays)
        self._guidance = None if reference is None else Guidance(reference, effects=True)
        self._calibrate(progress)

    @property
    def spec(self) -> Spec:
        return self._stage.spec

    def examine(self, seed: int, faults: Sequence[Fault] = (), *, probe: bool = True) -> Case:
        """Play an episode with these faults and diagnose it."""
        result, seen = self._play(seed, faults, guidance=self._guidance)
        signals = self._signals(seen)
        ratio = self.yardstick.ratio(signals)
        incidents = first_crossings(ratio)
        crossings = first_crossings(ratio, self.yardstick.followers(signals))
        contagion = None
        if incidents and self.customary is not None:
            influences = self._influences(result)
            contagion = trace(incidents[0], crossings, influences, self.customary)
        twin = None
        if faults and contagion is not None and contagion.edges:
            untouched = self._signals(self._play(seed, (), guidance=None)[1])
            level = self.yardstick.followers(untouched)
            twin = tuple(first_crossings(self.yardstick.ratio(untouched), level))
        return Case(
            seed=seed,
            faults=tuple(faults),
            total=result.total,
            signals=signals,
            ratio=ratio,
            fragility=self._fragility(seen) if probe else np.full(self.spec.agents, np.nan),
            first=incidents[0] if incidents else None,
            crossings=tuple(crossings),
            contagion=contagion,
            twin=twin,
        )

    def _calibrate(self, progress: Report) -> None:
        count = self.settings.references
        recorded: list[Seen] = []
        influences: list[Doubles] = []
        for number in range(count):
            progress(number, count, "clean episodes")
            guidance = self._guidance if number < _CUSTOMARY_EPISODES else None
            result, seen = self._play(REFERENCE_SEEDS + number, (), guidance=guidance)
            recorded.append(seen)
            if guidance is not None:
                found = self._influences(result)
                step = self.settings.window
                influences += [found.strength(epoch) for epoch in range(step, found.epochs, step)]
        rows = [clean_rows(self._gauge, seen) for seen in recorded]
        if not sum(len(part) for part in rows):
            raise UserError("nobody had anything to decide in the clean episodes")
        self._signals = Signals(self._gauge, Explained.fit(rows, self.settings.unexplained))
        self.clean = np.stack([self._signals(seen) for seen in recorded])
        self.yardstick = Yardstick.fit(self.clean, self.settings.alarm, self.settings.signals)
        self.customary = Customary.fit(influences, self.settings.alarm) if influences else None

    def _play(
        self, seed: int, faults: Sequence[Fault], *, guidance: Guidance | None
    ) -> tuple[Result, Seen]:
        witness = Witness(
            self.spec,
            self._bundle.arrays,
            self._bundle.stochastic,
            faults=tuple(faults),
            seed=seed,
            name=self._bundle.name,
        )
        task = Task(seed, witness, record=guidance is not None, guidance=guidance)
        return self._stage.play(task), witness.seen()

    def _influences(self, result: Result) -> Influences:
        episode = result.episode
        if episode is None or episode.effects is None:
            raise ValueError("influences need an episode recorded with effects")
        return Influences(episode, episode.effects, self.settings.window)

    def _fragility(self, seen: Seen) -> Doubles:
        choices = seen.mask.shape[2]
        rng = np.random.default_rng(_PROBE_STREAM)
        probes = self._gauge.probes(
            rng, choices, pairs=self.settings.probe_pairs, radius=self.settings.probe_radius
        )
        found = np.full(seen.deciding.shape, np.nan)
        for epoch, deciding in enumerate(seen.deciding):
            rows = np.flatnonzero(deciding)
            if rows.size:
                at = (epoch, rows)
                view = self._gauge.view_of(
                    seen.agent[at], seen.candidates[at], seen.mask[at], rows=rows
                )
                found[epoch, rows] = self._gauge.probe(view, probes)
        some = seen.deciding.any(axis=0)
        median = np.full(seen.deciding.shape[1], np.nan)
        median[some] = np.nanmedian(found[:, some], axis=0)
        return median


def examiner_of(
    bundle: Bundle,
    factory: Factory,
    domain: str,
    settings: DiagnosisSettings,
    progress: Report = silent,
) -> Examiner:
    """The examiner of a bundle on a scenario of a registered domain, with its default reference."""
    refuse_set_points(factory.simulator().spec)
    references = find_domain(domain).references
    return Examiner(
        bundle,
        factory,
        reference=references[0] if references else None,
        settings=settings,
        progress=progress,
    )


def refuse_set_points(spec: Spec) -> None:
    """The signals compare scores of candidates.

    Raises:
        UserError: the scenario's agents set boxes.
    """
    if not isinstance(spec.action, Choice):
        raise UserError(
            f"diagnose examines choices among candidates; agents of {spec.domain}/{spec.scenario} "
            "set boxes"
        )


def ranking(case: Case) -> list[int]:
    """Agents by peak, Patient-0 first and those it took along right behind it."""
    peak = case.heat.max(axis=0)
    sick = [] if case.contagion is None else [edge.target for edge in case.contagion.edges]
    head = [] if case.patient_zero is None else [case.patient_zero]
    rest = [a for a in np.argsort(-peak, kind="stable").tolist() if a not in head and a not in sick]
    return [*head, *sick, *rest]


def case_rows(case: Case) -> list[Row]:
    """Figures of one case, for a report."""
    start = f"episode {case.seed}: "
    rows = [Row.info(start + "return", case.total, "return")]
    if case.first is None:
        return [*rows, Row.info(start + "incident", "none", "")]
    rows += [
        Row.info(start + "patient 0", int(case.patient_zero or 0), "agent"),
        Row.info(start + "first flagged", case.first.agent, "agent"),
        Row.info(start + "incident", case.first.epoch, "epoch"),
        Row.info(start + "signal", case.first.signal, ""),
        Row.info(start + "largest exceedance", float(case.heat.max()), "thresholds"),
    ]
    if case.contagion is not None:
        rows += [
            Row.info(start + "taken along", len(case.contagion.edges), "agents"),
            Row.info(
                start + "reached by its influence",
                int((case.contagion.reached >= 0).sum()),
                "agents",
            ),
        ]
    return rows


def case_json(case: Case, spec: Spec, window: int) -> dict[str, Any]:
    """All figures of one case as JSON-able values."""
    when = {crossing.agent: crossing for crossing in case.crossings}
    contagion = case.contagion
    peak = case.heat.max(axis=0)
    agents: list[dict[str, Any]] = []
    for rank, agent in enumerate(ranking(case), start=1):
        crossing = when.get(agent)
        agents.append({
            "rank": rank,
            "agent": agent,
            "group": spec.groups[int(spec.group_of[agent])],
            "first_crossing": None if crossing is None else crossing.epoch,
            "signal": None if crossing is None else crossing.signal,
            "peak": float(peak[agent]),
            "peaks": dict(zip(SIGNALS, case.ratio[:, :, agent].max(axis=1).tolist(), strict=True)),
            "fragility": float(case.fragility[agent]),
            "influence_of_patient_0": None if contagion is None else contagion.strength[agent],
            "reached": None if contagion is None else int(contagion.reached[agent]),
        })  # fmt: skip
    return {
        "seed": case.seed,
        "faults": [_fault(fault) for fault in case.faults],
        "return": case.total,
        "patient_0": case.patient_zero,
        "first_flagged": None if case.first is None else case.first.agent,
        "incident": None if case.first is None else case.first.epoch,
        "signal": None if case.first is None else case.first.signal,
        "moved_upstream": [] if contagion is None else list(contagion.moved),
        "taken_along": [] if contagion is None else [
            _edge(case, edge, window) for edge in contagion.edges
        ],
        "unexplained": [] if contagion is None else [
            {"agent": c.agent, "epoch": c.epoch, "signal": c.signal} for c in contagion.alone
        ],
        "agents": agents,
    }  # fmt: skip


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "agent": fault.agent,
        "epoch": fault.epoch,
        "kind": fault.kind,
        "strength": fault.strength if fault.kind == "noise" else None,
    }


def _edge(case: Case, edge: Edge, window: int) -> dict[str, Any]:
    return {
        "source": edge.source,
        "target": edge.target,
        "epoch": edge.epoch,
        "strength": edge.strength,
        "confirmed_by_replay": case.confirmed(edge, window),
    }
