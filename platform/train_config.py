"""What a training run is: every knob, as a value that is stored with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import SerializeAsAny, create_model

from ..policies.learners import LearnerConfig
from ..simulators.settings import Settings, knob
from .config import load, merged
from .files import UserError
from .registry import find_domain, find_scenario
from .tasks import DomainFactory, Guidance

UNGUIDED = ('learner.guidance.alpha.schedule="fixed"', "learner.guidance.alpha.start=0.0")
"""Overrides that switch the guidance off: the plain learner, bit for bit."""


class EvaluationSettings(Settings):
    """How the policy is measured while it learns; on seeds that training never uses."""

    every: int = knob(
        2, "iterations between evaluations", unit="iterations", usual="1 ... 10", ge=1
    )
    episodes: int = knob(
        40, "episodes of an evaluation, on fixed seeds", unit="episodes", usual="10 ... 100", ge=1
    )
    first_seed: int = knob(0, "seed of the first one; the others follow", ge=0, lt=2**40)
    stochastic: bool = knob(
        True,
        "sample the policy as it is served; off takes the best score, which herds where many "
        "agents decide at once",
    )
    keep: Literal["best", "last"] = knob(
        "best",
        "which evaluated policy goes into the bundle: the best of them, or the last whatever its "
        "figure (nothing is chosen on the evaluation seeds then)",
    )
    baselines: Literal["none", "same", "all"] | tuple[str, ...] = knob(
        "same",
        "heuristics to measure on the same seeds, and again in the final comparison: none, same "
        "(all with the policy's information), all (also those with fresh information), or names",
    )


class ExecutionSettings(Settings):
    """Where the work is done; none of it changes the result, except the device."""

    executor: Literal["processes", "inline"] = knob(
        "processes", "processes: roll-out workers, restarted when they fail; inline: this process"
    )
    workers: int = knob(
        0,
        "roll-out processes, one thread each; 0: one per usable core",
        unit="processes",
        usual="1 ... cores",
        ge=0,
        le=1024,
    )
    episode_timeout: float = knob(
        600.0,
        "time for one episode before its worker counts as hung and is replaced",
        unit="s",
        usual="60 ... 3600",
        gt=0.0,
    )
    device: str = knob(
        "cpu",
        "where the learner computes",
        usual="cpu, cuda, cuda:0",
        pattern=r"^(cpu|cuda(:\d+)?)$",
    )
    torch_threads: int = knob(
        1,
        "threads of the learner on the CPU; more than one helps wide networks on idle cores only",
        unit="threads",
        usual="1 ... 4",
        ge=1,
        le=256,
    )


class TrainConfig(Settings):
    """A training run. :func:`config_type` narrows ``scenario`` to the type of a real one."""

    domain: str = knob("cloud", "domain of control")
    scenario: SerializeAsAny[Settings] = Settings()
    learner: LearnerConfig = LearnerConfig()
    evaluation: EvaluationSettings = EvaluationSettings()
    execution: ExecutionSettings = ExecutionSettings()
    reference: str = knob(
        "", "reference state that the guidance pulls towards; empty: the domain's first"
    )
    iterations: int = knob(
        20,
        "updates of the policy, each on fresh episodes",
        unit="iterations",
        usual="10 ... 300",
        ge=1,
    )
    episodes: int = knob(
        1,
        "episodes collected per iteration; more give steadier updates",
        unit="episodes",
        usual="1 ... 16",
        ge=1,
    )
    seed: int = knob(0, "all random streams of the run derive from it", ge=0, lt=2**63)

    @property
    def title(self) -> str:
        """Short name of what is learned, for tables: ``dgpg-mappo-dispatch``."""
        guided = "dgpg-" if self.learner.guided else ""
        projected = "hpml-" if self.learner.projection.method == "hpml" else ""
        return f"{guided}{projected}{self.learner.algorithm}-{self.factory().scenario}"

    def guidance(self) -> Guidance | None:
        """What roll-outs have to record for this learner; ``None`` for a plain one."""
        if not self.learner.guided:
            return None
        settings = self.learner.guidance
        reference = self.reference or find_domain(self.domain).references[0]
        return Guidance(reference, form=settings.form, effects=str(settings.estimator) == "joint")

    def factory(self) -> DomainFactory:
        """Builds the scenario's simulator, models and heuristics in any process."""
        values = self.scenario.model_dump(mode="json")
        return DomainFactory(self.domain, str(values["name"]), values)


@cache
def config_type(domain: str, scenario: str) -> type[TrainConfig]:
    """The configuration of runs on one scenario, its own knobs included.

    Raises:
        UserError: unknown domain or scenario; names the known ones.
    """
    kind = find_scenario(domain, scenario)
    return create_model(
        "TrainConfig",
        __base__=TrainConfig,
        domain=(str, knob(domain, "domain of control")),
        scenario=(kind, kind()),
    )


def load_config(
    domain: str,
    scenario: str,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The scenario's tuned knobs, then ``base``, a TOML file and overrides; later wins.

    Raises:
        UserError: unknown scenario, unknown key, bad value, or a reference the domain lacks.
    """
    tuned = merged(find_domain(domain).tuned.get(scenario, {}), base or {})
    config = load(config_type(domain, scenario), file=file, overrides=overrides, base=tuned)
    known = find_domain(config.domain).references
    if config.reference and config.reference not in known:
        raise UserError(
            f"domain {config.domain!r} has no reference {config.reference!r}; "
            f"known: {', '.join(known)}"
        )
    return config


def from_json(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration that a run folder stores.

    Raises:
        UserError: it lacks the scenario, or its values are not accepted by this version.
    """
    try:
        domain, scenario = str(values["domain"]), str(values["scenario"]["name"])
    except (KeyError, TypeError) as error:
        raise UserError(f"the stored configuration lacks {error}") from error
    return load_config(domain, scenario, base=cast("dict[str, Any]", values))
