"""``fairlead bench``: measure speed and learning, with marks where a figure is known or promised.

A bench is a module with a frozen ``Options`` settings class and
``run(options, progress) -> list[Row]``, listed in ``BENCHES``. The command builds the options from
the common flags that the bench knows and from ``KEY=VALUE`` overrides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import typer
from pydantic import BaseModel

from ..files import UserError, write_atomic
from ..progress import Report, progress_bar
from ..rows import Row


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench by name: the module that holds ``Options`` and ``run``, and what it measures."""

    module: str
    summary: str


BENCHES: Mapping[str, Bench] = {
    "cloud-simulator": Bench(
        "fairlead.platform.benchmarks.cloud_simulator",
        "events per second and memory of the cloud simulator, beside a plain event heap",
    ),
    "alignment": Bench(
        "fairlead.platform.benchmarks.alignment",
        "which reference state of the analytical model predicts what actions cost",
    ),
    "dgpg-variance": Bench(
        "fairlead.platform.benchmarks.dgpg_variance",
        "how the variance of policy gradient and guidance grows with the number of agents",
    ),
    "dgpg-scaling": Bench(
        "fairlead.platform.benchmarks.dgpg_scaling",
        "episodes and time to convergence over the number of agents, beside every baseline",
    ),
    "games": Bench(
        "fairlead.platform.benchmarks.games",
        "projection, budgets and clipping on games whose answers are known",
    ),
    "update": Bench(
        "fairlead.platform.benchmarks.update",
        "CPU and memory of one update of many unshared agents, beside HARL; effective samples",
    ),
    "trust-region": Bench(
        "fairlead.platform.benchmarks.trust_region",
        "HATRPO, HATRPO-W and HATRPO-G at equal total KL, each with and without the clamped ratio",
    ),
    "projection": Bench(
        "fairlead.platform.benchmarks.projection",
        "learners with and without the HPML projection in a general-sum game",
    ),
    "serve": Bench(
        "fairlead.platform.benchmarks.serve",
        "latency and throughput of live decisions, beside a bare policy and a bare ASGI echo",
    ),
    "power-model": Bench(
        "fairlead.platform.benchmarks.power_model",
        "hot re-solve times of dispatch and DC-OPF, beside Pyomo's persistent form",
    ),
    "power-simulator": Bench(
        "fairlead.platform.benchmarks.power_simulator",
        "simulated days per second of the power simulator, with and without regulation",
    ),
    "traffic-simulator": Bench(
        "fairlead.platform.benchmarks.traffic_simulator",
        "simulated seconds per second of the traffic simulator, beside SUMO micro and meso",
    ),
    "dispatch-regret": Bench(
        "fairlead.platform.benchmarks.dispatch_regret",
        "what controllers cost above perfect foresight and look-ahead dispatch, and how fast",
    ),
    "ablation": Bench(
        "fairlead.platform.benchmarks.ablation",
        "what guidance, trust region, budgets, clipping and projection each buy and cost",
    ),
}


class BenchModule(Protocol):
    """What a bench's module offers."""

    Options: type[BaseModel]
    run: Callable[[Any, Report], list[Row]]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench")(bench)


def bench(
    name: Annotated[
        str | None, typer.Argument(help=f"One of: {', '.join(BENCHES)}. Without: list them.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the bench.")
    ] = None,
    agents: Annotated[
        str | None, typer.Option(help="Numbers of agents, for example 5,10,20.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds per configuration.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="Domain, where a bench knows several: cloud, power, traffic.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with data files (default: FAIRLEAD_DATA).")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A trained policy to take part.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smallest useful run.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with options of the bench.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a chart of the result here.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON document here as well.")] = None,
    show: Annotated[
        bool, typer.Option("--options", help="Show the options of the bench and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document with all rows.")
    ] = False,
) -> None:
    """Run the bench NAME and report its figures.

    Exit status: 0 if every figure with a mark meets it, 1 if one does not, 2 if an option is wrong.
    """
    from ..rows import document, report

    if name is None:
        _list(as_json)
        return
    module = load_bench(name)
    if show:
        _show_options(name, module, as_json)
        return
    options = build_options(
        name,
        module.Options,
        file=config,
        overrides=overrides or [],
        flags={
            "agents": agents,
            "seeds": seeds,
            "domain": domain,
            "data": data,
            "bundle": bundle,
            "quick": quick or None,
            "plot": plot,
        },
    )
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: its folder does not exist; create it first")
    start = time.perf_counter()
    with progress_bar(f"bench {name}") as progress:
        rows = module.run(options, progress)
    extra = {
        "bench": name,
        "options": options.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - start, 3),
    }
    title = f"bench {name}"
    if out is not None:
        write_atomic(out, document(title, rows, extra=extra))
    raise typer.Exit(report(title, rows, as_json=as_json, extra=extra))


def load_bench(name: str) -> BenchModule:
    """Import a bench's module.

    Raises:
        UserError: no bench of that name, or a package that it needs is not installed.
    """
    if name not in BENCHES:
        raise UserError(f"no bench named {name!r}; known: {', '.join(BENCHES)}")
    try:
        return cast(BenchModule, import_module(BENCHES[name].module))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fairlead"):
            raise
        raise UserError(
            f"bench {name} needs the package {error.name!r}; "
            "install it with: pip install 'fairlead[train]'"
        ) from error


def build_options(
    name: str,
    options_type: type[BaseModel],
    *,
    file: Path | None,
    overrides: list[str],
    flags: Mapping[str, object],
) -> BaseModel:
    """Options from defaults, file, common flags that were given, then overrides; later wins.

    Raises:
        UserError: a flag that this bench has no option for, an unknown key, a value out of range.
    """
    from ..config import load

    given = {key: value for key, value in flags.items() if value is not None}
    for key in given:
        if key not in options_type.model_fields:
            known = ", ".join(options_type.model_fields)
            raise UserError(f"bench {name} has no option --{key}; its options: {known}")
    from_flags = [f"{key}={_toml(key, value)}" for key, value in given.items()]
    return load(options_type, file=file, overrides=[*from_flags, *overrides])


def _toml(key: str, value: object) -> str:
    if key == "agents":
        text = str(value)
        numbers = [part.strip() for part in text.split(",")]
        if not all(number.isdigit() and int(number) > 0 for number in numbers):
            raise UserError(f"--agents {text}: give positive numbers with commas, as 5,10,20")
        return "[" + ", ".join(numbers) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    # A literal TOML string, so that backslashes in paths stay what they are.
    return str(value) if isinstance(value, int) else f"'{value}'"


def _list(as_json: bool) -> None:
    from ..rows import report

    rows = [Row.info(name, entry.summary, "") for name, entry in BENCHES.items()]
    report("benches", rows, as_json=as_json)


def _show_options(name: str, module: BenchModule, as_json: bool) -> None:
    from rich.console import Console

    from ..knobs import knob_table, knobs
    from ..rows import report

    if as_json:
        rows = [Row.info(knob.name, str(knob.value), knob.unit) for knob in knobs(module.Options)]
        report(f"options of bench {name}", rows, as_json=True)
    else:
        Console().print(knob_table(module.Options, title=f"options of bench {name}"))
