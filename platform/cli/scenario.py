"""``fairlead scenario``: what can be simulated, its knobs, its files, and raw data."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, create_model
from rich.box import SIMPLE

from ..files import UserError
from ..rows import Row

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change knobs first.")
]


def register(app: typer.Typer) -> None:
    """Add the group of commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True, help="List, show and check scenarios; look into raw data files."
    )
    group.command("list")(list_scenarios)
    group.command("show")(show)
    group.command("check")(check)
    group.command("import")(import_trace)
    app.add_typer(group, name="scenario")


def list_scenarios(as_json: AsJson = False) -> None:
    """All scenarios of all domains."""
    from rich.console import Console
    from rich.table import Table

    from ..registry import domains
    from ..rows import report

    found = [
        (domain.name, name, _first_line(kind))
        for domain in domains().values()
        for name, kind in domain.scenarios.items()
    ]
    if as_json:
        rows = [Row.info(f"{domain}/{name}", summary, "") for domain, name, summary in found]
        raise typer.Exit(report("scenarios", rows, as_json=True))
    table = Table(*("domain", "scenario", "what it is"), box=SIMPLE)
    for line in found:
        table.add_row(*line)
    Console().print(table)


def show(
    name: Annotated[str, typer.Argument(help="SCENARIO, or DOMAIN/SCENARIO, as in the list.")],
    overrides: Overrides = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print a commented TOML file, ready to edit and check.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The knobs of scenario NAME: value, unit, usual and allowed range, effect."""
    from rich.console import Console

    from ..config import load
    from ..knobs import knob_table, knobs
    from ..registry import locate_scenario
    from ..rows import report
    from ..template import template, toml_value

    domain, kind = locate_scenario(name)
    scenario = load(kind, file=None, overrides=overrides or [])
    title = f"{domain.name}/{name.rpartition('/')[2]}: {_first_line(kind)}"
    if toml:
        typer.echo(template(scenario, section="scenario", title=title), nl=False)
    elif as_json:
        found = knobs(scenario)
        rows = [
            Row.info(
                knob.name,
                knob.value
                if isinstance(knob.value, str | int | float)
                else "none"
                if knob.value is None
                else toml_value(knob.value),
                knob.unit,
            )
            for knob in found
        ]
        notes = [
            {"name": k.name, "usual": k.usual, "allowed": k.limits, "effect": k.help} for k in found
        ]
        report(title, rows, as_json=True, extra={"knobs": notes})
    else:
        Console().print(knob_table(scenario, title=title))


def check(
    scenario: Annotated[
        str, typer.Argument(help="TOML file with a [scenario] table, or the name of a scenario.")
    ],
    overrides: Overrides = None,
    conformance: Annotated[
        bool,
        typer.Option(
            "--conformance", help="Also play episodes and check the simulator's whole contract."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read a scenario, build its simulator and model, and play one step.

    The same file works for training; only its [scenario] table is read here. Exit status: 0 if all
    is well, 1 if the simulator breaks its contract, 2 if the scenario cannot be used.
    """
    from ..rows import report

    file = Path(scenario)
    if file.suffix == ".toml" or file.exists():
        domain_name, values = _read_scenario(file, overrides or [])
    else:
        domain_name, values = _named_scenario(scenario, overrides or [])
    rows = _play_one_step(domain_name, values)
    if conformance:
        rows += _conformance(domain_name, values)
    extra = {"domain": domain_name, "scenario": values.model_dump(mode="json")}
    raise typer.Exit(report(f"check {scenario}", rows, as_json=as_json, extra=extra))


def import_trace(
    kind: Annotated[
        str,
        typer.Argument(
            help="Format: swf, openb, azure, matpower, activsg, rts-gmlc, pglib-uc, sumo, "
            "cityflow or tntp."
        ),
    ],
    file: Annotated[
        Path, typer.Argument(help="The raw file, plain or gzip (rts-gmlc, tntp: their folder).")
    ],
    as_json: AsJson = False,
) -> None:
    """Read a raw data FILE, check every line and field, and print what is in it.

    Scenarios read files from the data folder by themselves; this shows whether they will accept a
    file, and what load it describes.
    """
    from ..rows import report
    from ..traces import summary

    raise typer.Exit(report(f"{kind} {file}", summary(kind, file), as_json=as_json))


def _named_scenario(name: str, overrides: list[str]) -> tuple[str, BaseModel]:
    from ..config import load
    from ..registry import locate_scenario

    domain, kind = locate_scenario(name)
    return domain.name, load(kind, file=None, overrides=overrides)


def _read_scenario(file: Path, overrides: list[str]) -> tuple[str, BaseModel]:
    from ..config import ConfigError, load
    from ..registry import domains, find_scenario, locate_scenario

    try:
        document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read scenario {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    table = document.get("scenario")
    name = table.get("name") if isinstance(table, dict) else None
    if not isinstance(name, str):
        known = ", ".join(name for domain in domains().values() for name in domain.scenarios)
        raise ConfigError(f'{file}: a table [scenario] with name = "..." is needed; known: {known}')
    domain = document.get("domain")
    if isinstance(domain, str):
        kind = find_scenario(domain, name)
    else:
        found, kind = locate_scenario(name)
        domain = found.name
    # Everything else in the file belongs to other commands.
    whole = create_model(
        "ScenarioFile", __config__=ConfigDict(extra="ignore"), scenario=(kind, ...)
    )
    from_file = load(whole, file=file, overrides=()).model_dump(exclude_unset=True)["scenario"]
    return domain, load(kind, file=None, overrides=overrides, base=from_file)


def _play_one_step(domain_name: str, values: BaseModel) -> list[Row]:
    import numpy as np

    from ...simulators.interface import Choice
    from ...simulators.observations import random_actions
    from ..registry import find_domain

    start = time.perf_counter()
    domain = find_domain(domain_name)
    simulator = domain.simulator(values)
    spec = simulator.spec
    observation = simulator.reset(0)
    step = simulator.step(random_actions(spec, observation, np.random.default_rng(0)))
    model = domain.model(values, domain.references[0])
    if model.state_size != spec.state_size:
        raise UserError(
            f"{domain_name}/{spec.scenario}: the model has {model.state_size} state coordinates, "
            f"the simulator {spec.state_size}; they describe different systems"
        )
    choices = spec.action.candidates if isinstance(spec.action, Choice) else spec.action.dimensions
    what = "candidates" if isinstance(spec.action, Choice) else "dimensions"
    reference = model.reference(step.observation.exogenous)
    return [
        Row.info("agents", spec.agents, "agents"),
        Row.info("groups", len(spec.groups), "groups"),
        Row.info(f"action: {what}", choices, what),
        Row.info("decision epochs", spec.horizon, "epochs"),
        Row.info("length of an epoch", spec.dt, "s"),
        Row.info("agent features", len(spec.agent_features), "features"),
        Row.info("candidate features", len(spec.candidate_features), "features"),
        Row.info("system state", spec.state_size, "coordinates"),
        Row.info("agents active after a step", int(step.observation.active.sum()), "agents"),
        Row.info("reward of the first step", step.reward, "1"),
        Row.info("reference model", reference.status, ""),
        Row.info("lower bound on the cost", reference.lower_bound, "1"),
        Row.info("time to build and step", time.perf_counter() - start, "s"),
    ]


def _conformance(domain_name: str, values: BaseModel) -> list[Row]:
    from ...simulators.check import check_simulator
    from ..registry import find_domain

    problems = check_simulator(lambda: find_domain(domain_name).simulator(values))
    if not problems:
        return [Row.near("problems found by the conformance check", 0, "problems", 0, 0)]
    return [
        Row(f"problem {number}", problem, "", passed=False)
        for number, problem in enumerate(problems, start=1)
    ]


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0]
