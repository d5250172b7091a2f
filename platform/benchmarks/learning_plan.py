"""What a learning bench is going to do: variants, seeds and scenario, as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from ...simulators.settings import Settings, knob
from ..config import merged
from ..train_config import load_config
from .subjects import SUBJECTS, Name, Subject

PLAIN: Mapping[str, Any] = {"guidance": {"alpha": {"schedule": "fixed", "start": 0.0}}}
"""Learner knobs without guidance."""

LOAD = 0.4
"""Offered load of the cloud, by default: light, so that runs are steady."""

Kind = Literal["learner", "untrained", "rule"]


class RunOptions(Settings):
    """What the learning benches have in common."""

    agents: tuple[int, ...] = knob((20,), "numbers of agents")
    seeds: int = knob(10, "training runs of every variant, with seeds in common", ge=2)
    first_seed: int = knob(
        1000, "seed of the first run; below 1,000 are the seeds that knobs were chosen on", ge=0
    )
    iterations: int = knob(40, "updates of every run", usual="20 ... 200", ge=1)
    episodes: int = knob(2, "episodes per update", usual="1 ... 16", ge=1)
    evaluation: int = knob(20, "episodes of the final evaluation", usual="10 ... 100", ge=2)
    every: int = knob(5, "updates between evaluations in between (0: none)", ge=0)
    probes: int = knob(4, "episodes of an evaluation in between", usual="2 ... 20", ge=1)
    horizon: int = knob(
        200,
        "epochs of an episode (power: 72, whole hours of 12; traffic: 120 of 10 s)",
        unit="epochs",
        usual="50 ... 400",
        ge=10,
    )
    load: float | None = knob(
        None, "offered load, cloud only (none: 0.4)", usual="0.5, 0.7, 0.9", gt=0, lt=1
    )
    reference: str = knob("", "reference state of the guidance; empty: the domain's first")
    scenario: tuple[str, ...] = knob(
        (), "further knobs of the scenario, for example ['sampled=4', 'class_work=[1,1,1,1]']"
    )
    learner: tuple[str, ...] = knob(
        (), "knobs of all learners, for example ['trust_region.kl=0.02', 'sharing=none']"
    )
    workers: int = knob(
        0, "runs at once, one process and thread each (0: one per usable core)", ge=0, le=1024
    )
    runs: Path | None = knob(
        None, "file of finished runs (JSON lines): read back at the start, extended with every run"
    )
    plot: Path | None = knob(None, "write a chart here")
    quick: bool = knob(False, "smallest useful run")

    @property
    def subject(self) -> Subject:
        """The domain under study."""
        return SUBJECTS["cloud"]


class DomainOptions(RunOptions):
    """The same for benches that know several domains.

    Attributes:
        tuned: other defaults of a domain; what is given wins over them.
    """

    tuned: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    domain: Name = knob(
        "cloud", "domain of control: cloud (dispatch), power (generated systems), traffic (grids)"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**cls.tuned.get(str(given.get("domain")), {}), **given}

    @property
    def subject(self) -> Subject:
        """The domain under study."""
        return SUBJECTS[self.domain]


@dataclass(frozen=True, slots=True)
class Variant:
    """A learner under a name; ``knobs`` are those of ``LearnerConfig``, nested.

    ``untrained`` plays the initial policy, ``rule`` the heuristic of that name.
    """

    name: str
    knobs: Mapping[str, Any]
    kind: Kind = "learner"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run to do, as values that travel to another process and identify the run in a file.

    Attributes:
        variant: name for tables.
        kind: see :class:`Variant`.
        agents: number of agents.
        config: a whole ``TrainConfig``, JSON-able.
        evaluation: episodes of the final evaluation.
        every, probes: updates between evaluations, and their episodes.
    """

    variant: str
    kind: Kind
    agents: int
    config: Mapping[str, Any]
    evaluation: int
    every: int
    probes: int

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def key(self) -> str:
        """Identifies everything that the result depends on, except the program's version."""
        config = {k: v for k, v in self.config.items() if k not in ("execution", "evaluation")}
        counts = [self.evaluation, self.every, self.probes]
        if self.kind != "learner":  # nothing is learned: only seed, scenario and network matter
            learner = config.pop("learner")
            config["network"] = [learner["network"], learner["sharing"], learner["critic"]]
            config.pop("iterations")
            counts = [self.evaluation]
        name = self.variant if self.kind == "rule" else ""
        text = json.dumps([self.kind, name, config, counts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def heterogeneous(options: RunOptions, agents: int) -> dict[str, Any]:
    """The domain's scenario whose groups have very different stakes.

    Groups are tenants, technologies, or signals with two and with four phases.

    Raises:
        UserError: an unknown knob or a bad value, or a load where the scenario has none.
    """
    subject = options.subject
    load = subject.offered(options.load, LOAD)
    config = load_config(
        subject.domain,
        subject.scenario,
        base={"scenario": dict(subject.differing(agents, options.horizon, load))},
        overrides=_prefixed("scenario", options.scenario),
    )
    return config.scenario.model_dump(mode="json")


def assignments(
    options: RunOptions, variants: Sequence[Variant], scenario: Mapping[str, Any]
) -> list[Assignment]:
    """Every variant with every seed; rules and their like play once.

    Raises:
        UserError: an unknown knob or a bad value.
    """
    subject = options.subject
    domain, name = subject.domain, subject.scenario
    found: list[Assignment] = []
    for variant in variants:
        base = {
            "scenario": dict(scenario),
            "learner": variant.knobs,
            "iterations": options.iterations,
            "episodes": options.episodes,
            "reference": options.reference,
        }
        # The bench's own knobs for everybody come first, what defines a variant wins.
        common = load_config(
            domain,
            name,
            base=merged({"learner": subject.neutral}, base),
            overrides=_prefixed("learner", options.learner),
        )
        again = load_config(domain, name, base=merged(common.model_dump(mode="json"), base))
        count = 1 if variant.kind == "rule" else options.seeds
        for seed in range(options.first_seed, options.first_seed + count):
            config = again.model_copy(update={"seed": seed}).model_dump(mode="json")
            found.append(
                Assignment(
                    variant.name,
                    variant.kind,
                    subject.count(scenario),
                    config,
                    options.evaluation,
                    options.every,
                    options.probes,
                )
            )
    return found


def _prefixed(section: str, knobs: Sequence[str]) -> list[str]:
    return [f"{section}.{item}" for item in knobs]
