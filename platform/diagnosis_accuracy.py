"""How often Patient-0 is the agent that was broken: many injected faults, beside simple guesses.

The published figures (88.2-99.4 %, arXiv 2602.08104) belong to other environments, attacks and
numbers of agents; they are no mark for ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .diagnosis import Case, Examiner
from .diagnosis_contagion import first_crossings
from .diagnosis_faults import KINDS, Fault, Kind
from .diagnosis_signals import SIGNALS, Yardstick
from .progress import Report, silent
from .rows import Row

ACCURACY_SEEDS = 2**41
"""Seeds of the episodes with faults; the clean ones for the false alarms follow at 2^42."""

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``count`` with a Wilson 95 % interval."""

    hits: int
    count: int

    @property
    def point(self) -> float:
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval; never leaves [0, 1] and has a width at 0 and 1, too."""
        n, p, z = self.count, self.point, _Z95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))

    def row(self, name: str) -> Row:
        low, high = self.interval
        figure = f"{100 * self.point:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        return Row.info(name, figure, f"of {self.count}")

    def plain(self) -> dict[str, Any]:
        """JSON-able."""
        low, high = self.interval
        return {
            "hits": self.hits,
            "count": self.count,
            "share": self.point,
            "interval": [low, high],
        }


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of faults whose agent was named, by kind of fault and by method.

    Attributes:
        shares: kind (or ``"all"``) to method to share. Undetected faults count as wrong.
        detected: kind to share of faults with any incident after their start.
        delay: kind to median epochs from fault to incident, right ones only (NaN: none).
        corrected: cases that stage 2 moved upstream, how many it repaired and spoilt; agents that
            it calls taken along, and those of them that do not cross in a replay without the fault.
        false_alarms: incidents in clean episodes that were not calibrated on.
    """

    shares: Mapping[str, Mapping[str, Share]]
    detected: Mapping[str, Share]
    delay: Mapping[str, float]
    corrected: Mapping[str, int]
    false_alarms: Share

    def rows(self) -> list[Row]:
        """For a report."""
        rows: list[Row] = []
        for kind, methods in self.shares.items():
            rows += [share.row(f"{kind}: Patient-0 by {name}") for name, share in methods.items()]
            rows.append(self.detected[kind].row(f"{kind}: incident after the fault"))
            rows.append(Row.info(f"{kind}: median delay", self.delay[kind], "epochs"))
        rows += [Row.info(f"stage 2: {name}", count, "1") for name, count in self.corrected.items()]
        return [*rows, self.false_alarms.row("false incidents in clean episodes")]

    def plain(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "shares": {
                kind: {name: share.plain() for name, share in methods.items()}
                for kind, methods in self.shares.items()
            },
            "detected": {kind: share.plain() for kind, share in self.detected.items()},
            "delay": dict(self.delay),
            "stage_2": dict(self.corrected),
            "false_alarms": self.false_alarms.plain(),
        }


def measure(
    examiner: Examiner,
    count: int,
    kinds: Sequence[Kind] = KINDS,
    *,
    strength: float = 1.0,
    seed: int = 0,
    progress: Report = silent,
) -> Accuracy:
    """Break one random agent at a random epoch in each of ``count`` episodes, kinds in turn.

    Agents are uniform; epochs are uniform between 15 % and 75 % of the horizon. As many clean
    episodes, up to 40, give the rate of false incidents.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, ACCURACY_SEEDS]))
    horizon, clean = examiner.spec.horizon, min(count, 40)
    cases: list[Case] = []
    for number in range(count):
        progress(number, count + clean, "episodes with a fault")
        epoch = int(rng.integers(int(0.15 * horizon), max(int(0.75 * horizon), 1)))
        agent = int(rng.integers(examiner.spec.agents))
        fault = Fault(agent, epoch, kinds[number % len(kinds)], strength)
        cases.append(examiner.examine(ACCURACY_SEEDS + number, [fault], probe=False))
    alarms = 0
    for number in range(clean):
        progress(count + number, count + clean, "clean episodes")
        case = examiner.examine(2 * ACCURACY_SEEDS + number, probe=False)
        alarms += case.first is not None
    alone = {
        name: Yardstick.fit(examiner.clean, examiner.settings.alarm, (name,)) for name in SIGNALS
    }
    guesses = [_guesses(examiner, alone, case, rng) for case in cases]
    groups = {kind: [n for n, c in enumerate(cases) if c.faults[0].kind == kind] for kind in kinds}
    groups = {kind: numbers for kind, numbers in groups.items() if numbers}
    if len(groups) > 1:
        groups["all"] = list(range(count))
    return Accuracy(
        shares={
            kind: {
                name: Share(
                    sum(guesses[n][name] == cases[n].faults[0].agent for n in numbers), len(numbers)
                )
                for name in guesses[0]
            }
            for kind, numbers in groups.items()
        },
        detected={
            kind: Share(sum(_late(cases[n]) for n in numbers), len(numbers))
            for kind, numbers in groups.items()
        },
        delay={kind: _delay([cases[n] for n in numbers]) for kind, numbers in groups.items()},
        corrected=_corrections(cases) | _taken(cases, examiner.settings.window),
        false_alarms=Share(alarms, clean),
    )


def _guesses(
    examiner: Examiner, alone: Mapping[str, Yardstick], case: Case, rng: np.random.Generator
) -> dict[str, int | None]:
    """Whom each method names; ``alone`` are thresholds for one signal only."""
    guesses: dict[str, int | None] = {
        "both stages": case.patient_zero,
        "stage 1 alone": None if case.first is None else case.first.agent,
    }
    for name, yardstick in alone.items():
        found = first_crossings(yardstick.ratio(case.signals))
        guesses[f"{name} alone"] = found[0].agent if found else None
    scaled = np.nan_to_num(case.signals[0] / examiner.yardstick.scale[0], nan=0.0)
    guesses["largest remainder"] = int(scaled.max(axis=0).argmax())
    guesses["random agent"] = int(rng.integers(case.ratio.shape[2]))
    return guesses


def _late(case: Case) -> bool:
    return case.first is not None and case.first.epoch >= case.faults[0].epoch


def _delay(cases: Sequence[Case]) -> float:
    delays = [
        case.first.epoch - case.faults[0].epoch
        for case in cases
        if case.first is not None and case.patient_zero == case.faults[0].agent and _late(case)
    ]
    return float(np.median(delays)) if delays else float("nan")


def _corrections(cases: Sequence[Case]) -> dict[str, int]:
    moved = [case for case in cases if case.contagion and len(case.contagion.moved) > 1]
    right = [case.patient_zero == case.faults[0].agent for case in moved]
    before = [case.first is not None and case.first.agent == case.faults[0].agent for case in moved]
    pairs = list(zip(before, right, strict=True))
    return {
        "flags moved upstream": len(moved),
        "of them repaired": pairs.count((False, True)),
        "of them spoilt": pairs.count((True, False)),
    }


def _taken(cases: Sequence[Case], window: int) -> dict[str, int]:
    verdicts = [
        case.confirmed(edge, window)
        for case in cases
        if case.contagion
        for edge in case.contagion.edges
    ]
    return {
        "agents taken along": len(verdicts),
        "of them not without the fault": sum(verdict is True for verdict in verdicts),
    }
