"""``fairlead train`` and ``fairlead demo``: learn, watch it, and say what came out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperCommand

from ...policies.settings import Algorithm
from ..files import UserError

if TYPE_CHECKING:
    from ..moments import Outcome, Record
    from ..train_config import TrainConfig

HELP_SCENARIO = ("cloud", "dispatch")
"""Whose knobs the help text lists."""

DEMO_OUT = Path("runs/demo")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Roll-out processes (0: one per core). No effect on results."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Every random stream derives from it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the run that --out holds.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out exactly where it stopped.")
]


class KnobHelp(TyperCommand):
    """A command whose help also explains every knob that an override can set."""

    # typer carries its own copy of click or depends on it, by version: no common type to name.
    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        _print_algorithms()
        _print_knobs(*HELP_SCENARIO)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("train", cls=KnobHelp)(train)
    app.command("demo")(demo)


def train(
    domain: Annotated[str, typer.Argument(help="Domain of control, for example cloud.")] = "cloud",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Set knobs, for example scenario.agents=50."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="Scenario of the domain; default: the one in --config, else the first."),
    ] = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(help="Who learns how; the table below says what each is for."),
    ] = None,
    guidance: Annotated[
        Literal["dgpg", "none"] | None,
        typer.Option(help="dgpg: guided by the analytical model; none: the plain learner."),
    ] = None,
    projection: Annotated[
        Literal["none", "hpml"] | None,
        typer.Option(
            help="hpml: leave out the part of the joint update in which agents circle around each "
            "other; for learner.local_mix above 0."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of the knobs; overrides come after it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/DOMAIN-SCENARIO-SEED.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the scenario's files (default: FAIRLEAD_DATA).")
    ] = None,
    seed: Seed = None,
    workers: Workers = None,
    device: Annotated[
        str | None, typer.Option(help="Where the learner computes: cpu or cuda.")
    ] = None,
    resume: Resume = False,
    resume_from: Annotated[
        int | None,
        typer.Option(min=0, help="Like --resume, from the checkpoint of this iteration."),
    ] = None,
    force: Force = False,
    knobs: Annotated[
        bool, typer.Option("--knobs", help="Only list the knobs of DOMAIN and --scenario.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Export Prometheus metrics on this port of loopback."),
    ] = None,
    metrics_textfile: Annotated[
        Path | None,
        typer.Option(help="Write metrics to this *.prom file (node_exporter's textfile folder)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a policy; write checkpoints, metrics, a bundle and a report into the run folder.

    Ctrl-C ends cleanly with a checkpoint; --resume continues with the same curve, bit for bit, also
    after a crash. Exit status: 0 if done, 2 for a mistake in the input, 130 if stopped.
    """
    given = list(overrides or [])
    if "=" in domain:  # fairlead train scenario.agents=50
        given, domain = [domain, *given], "cloud"
    name = scenario or scenario_of(config, domain)
    if knobs:
        _print_knobs(domain, name)
        return
    given += _flags(algorithm, guidance, seed, workers, device, projection)
    given += data_override(domain, name, data)
    continuing = resume or resume_from is not None
    if continuing and force:
        raise UserError("--force starts anew and --resume continues; give one of them")
    _run(
        domain,
        name,
        file=config,
        overrides=given,
        out=out,
        resume=continuing,
        checkpoint=resume_from,
        force=force,
        as_json=as_json,
        wants_guidance=guidance == "dgpg",
        metrics=(metrics_port, metrics_textfile),
    )


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/demo, replaced if it exists.")
    ] = None,
    seed: Seed = None,
    workers: Workers = None,
    resume: Resume = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train DG-PG on a built-in cluster with 20 dispatchers and compare it with the heuristics.

    Takes a few minutes on two cores and needs no data. The numbers at the end are from episodes
    that neither training nor the choice of the best policy has seen.
    """
    from ..presets import DEMO

    _run(
        "cloud",
        "dispatch",
        file=None,
        overrides=[*DEMO, *_flags(None, None, seed, workers, None)],
        out=out or DEMO_OUT,
        resume=resume,
        checkpoint=None,
        force=force or (out is None and not resume),
        as_json=as_json,
    )


def _run(
    domain: str,
    scenario: str,
    *,
    file: Path | None,
    overrides: Sequence[str],
    out: Path | None,
    resume: bool,
    checkpoint: int | None,
    force: bool,
    as_json: bool,
    wants_guidance: bool = False,
    metrics: tuple[int | None, Path | None] = (None, None),
) -> None:
    from .. import training
    from ..metrics.training import TrainingMetrics, exporting
    from ..train_config import load_config
    from .watch import watching

    def exported(config: TrainConfig, root: Path) -> AbstractContextManager[Record]:
        figures = TrainingMetrics(
            run=root.resolve().name, domain=config.domain, iterations=config.iterations
        )
        return exporting(figures, port=metrics[0], textfile=metrics[1])

    if resume:
        # What was not given anew stays as it was in the run.
        root = out or _default_out(load_config(domain, scenario, file=file, overrides=overrides))
        config = _again(root, file, overrides)
        with watching(f"{config.domain}/{scenario}") as watch, exported(config, root) as record:
            outcome = training.resume(
                root, config=config, checkpoint=checkpoint, watch=watch, record=record
            )
    else:
        config = load_config(domain, scenario, file=file, overrides=overrides)
        if wants_guidance and not config.learner.guided:
            raise UserError(
                "--guidance dgpg, but learner.guidance.alpha is fixed at 0 by the file or an "
                "override; leave that out or give --guidance none"
            )
        root = out or _default_out(config)
        with watching(f"{domain}/{scenario}") as watch, exported(config, root) as record:
            outcome = training.start(config, root, force=force, watch=watch, record=record)
    if not outcome.finished:
        Console(stderr=True).print(
            f"stopped after iteration {outcome.iteration}; continue with: fairlead train {domain} "
            f"--scenario {scenario} --out {root} --resume",
            soft_wrap=True,
        )
        raise typer.Exit(130)
    raise typer.Exit(_tell(outcome, config, as_json=as_json))


def _again(root: Path, file: Path | None, overrides: Sequence[str]) -> TrainConfig:
    from ..run_folder import RunFolder
    from ..train_config import load_config

    _, stored = RunFolder.open(root)
    values = stored.model_dump(mode="json")
    return load_config(
        stored.domain, values["scenario"]["name"], file=file, overrides=overrides, base=values
    )


def _default_out(config: TrainConfig) -> Path:
    scenario = config.factory().scenario
    return Path("runs") / f"{config.domain}-{scenario}-{config.seed}"


def _flags(
    algorithm: str | None,
    guidance: str | None,
    seed: int | None,
    workers: int | None,
    device: str | None,
    projection: str | None = None,
) -> list[str]:
    """Options as the overrides that they stand for."""
    from ..train_config import UNGUIDED

    options: dict[str, Any] = {
        "learner.algorithm": algorithm,
        "learner.projection.method": projection,
        "seed": seed,
        "execution.workers": workers,
        "execution.device": device,
    }
    found = [f"{name}={value}" for name, value in options.items() if value is not None]
    return [*found, *(UNGUIDED if guidance == "none" else ())]


def scenario_of(config: Path | None, domain: str) -> str:
    """The scenario that a TOML file names, else the domain's first."""
    import tomllib

    from ..registry import find_domain

    first = next(iter(find_domain(domain).scenarios))
    if config is None:
        return first
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return first  # whoever reads it next explains what is wrong with it
    section = values.get("scenario")
    return str(section.get("name", first)) if isinstance(section, dict) else first


def data_override(domain: str, scenario: str, data: Path | None) -> list[str]:
    """The override that a ``--data`` option stands for."""
    from ..registry import find_scenario
    from ..template import toml_value

    if data is None:
        return []
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder; give the folder that holds the files")
    if "data" not in find_scenario(domain, scenario).model_fields:
        raise UserError(f"--data: scenario {scenario!r} is built in and reads no files")
    return [f"scenario.data={toml_value(str(data.resolve()))}"]


def _print_algorithms() -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..presets import ALGORITHMS

    table = Table(title="Algorithms", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("--algorithm", style="bold", no_wrap=True)
    table.add_column("what it is for", overflow="fold")
    for name, purpose in ALGORITHMS.items():
        table.add_row(name, purpose)
    Console().print(table)


def _print_knobs(domain: str, scenario: str) -> None:
    from ..knobs import knob_table
    from ..train_config import config_type

    console = Console()
    console.print(
        knob_table(
            config_type(domain, scenario),
            title=f"Knobs of fairlead train {domain} --scenario {scenario}",
        )
    )
    console.print(
        "Set them as KEY=VALUE or in a TOML file (--config). Other scenarios have other "
        "scenario.* knobs: fairlead train DOMAIN --scenario NAME --knobs",
        style="dim",
    )


def _tell(outcome: Outcome, config: TrainConfig, *, as_json: bool) -> int:
    """Standings on unseen seeds, and where everything is."""
    from ..evaluation import EvaluationTable
    from ..rows import Row, report
    from ..run_folder import RunFolder

    folder = RunFolder(outcome.folder)
    table = EvaluationTable.read(folder.comparison)
    rows = [
        Row.info("iterations", outcome.iteration, "iterations"),
        Row.info("best iteration", outcome.best_iteration or 0, "iteration"),
        Row.info("episodes trained", outcome.iteration * config.episodes, "episodes"),
        Row.info("seconds", round(outcome.seconds, 1), "s"),
    ]
    for standing in table.standings():
        label = f"{standing.name}: return on unseen seeds"
        rows.append(Row.info(label, standing.mean.point, "return"))
    extra = {
        "run": str(outcome.folder),
        "bundle": str(folder.bundle),
        "report": str(folder.report),
        "standings": table.to_json(),
    }
    status = report(f"train {config.domain}", rows, as_json=as_json, extra=extra)
    if not as_json:
        Console().print(
            f"\nreport      {folder.report}\nbundle      {folder.bundle}\n"
            f"next        fairlead bundle show {folder.bundle}\n"
            f"            fairlead train --help\n"
            f"            tensorboard --logdir {folder.tensorboard}",
            soft_wrap=True,
            highlight=False,
        )
    return status
