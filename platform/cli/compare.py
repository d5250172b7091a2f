"""``fairlead compare``: policies and heuristics on the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .evaluate import AsJson, Config, Data, First, Out, Overrides, Seeds, Workers
from .plants import Binary, In, compare_in, plants_of

if TYPE_CHECKING:
    from ..contest import Wanted
    from ..evaluation import EvaluationTable


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("compare")(compare)


def compare(
    domain: Annotated[str, typer.Argument(help="Domain, e.g. cloud.")] = "cloud",
    overrides: Overrides = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="Scenario of the domain (default: that of --config or the first --bundle)."
        ),
    ] = None,
    config: Config = None,
    controllers: Annotated[
        str, typer.Option(help="Heuristics: none, same, all, or names with commas.")
    ] = "all",
    bundle: Annotated[
        list[Path] | None, typer.Option(help="A trained policy; may be given several times.")
    ] = None,
    seeds: Seeds = 40,
    first_seed: First = 0,
    workers: Workers = 0,
    data: Data = None,
    where: In = None,
    sumo_binary: Binary = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the comparison to this PNG or SVG file.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Play policies and heuristics on the same seeds: means, IQM, intervals, seeds won.

    Everything is compared with the best heuristic that has the same information as a policy.
    Rules marked (fresh) decide one after another on the true present: a bound, not a rival.

    Traffic: --in sumo plays in SUMO, whose version stands beside every figure; --in both shows
    how far our streets are from it.
    """
    from ..contest import Arena, find_bundle, settings_of
    from ..files import UserError
    from ..train_config import load_config
    from ..training import usable_cores
    from .train import data_override, scenario_of

    given = list(overrides or [])
    if "=" in domain:  # fairlead compare scenario.agents=50
        given, domain = [domain, *given], "cloud"
    trained = [find_bundle(path) for path in bundle or []]
    for found in trained:
        if found.spec.domain != domain:
            raise UserError(f"{found.folder} was trained for domain {found.spec.domain!r}")
    chosen, base = scenario or scenario_of(config, domain), None
    if trained and config is None and scenario in (None, trained[0].spec.scenario):
        chosen, base = trained[0].spec.scenario, settings_of(trained[0])
    given += data_override(domain, chosen, data)
    settings = load_config(domain, chosen, file=config, overrides=given, base=base)
    plants = plants_of(settings.factory(), where, sumo_binary)
    arena = Arena(plants[0].factory, workers or usable_cores())
    entrants = [*arena.policies(trained), *arena.rules(names(controllers))]
    if not entrants:
        raise UserError("nobody to compare: give --bundle, or --controllers other than none")
    if where is not None:
        report = compare_in(plants, entrants, arena.workers, seeds=seeds, first=first_seed)
        raise typer.Exit(report.present(as_json=as_json, out=out, plot=plot))
    table = arena.play(entrants, seeds=seeds, first=first_seed)
    title = f"compare {arena.title}, {seeds} seeds"
    status = present(table, title, domain, as_json=as_json, out=out, details=False)
    if plot is not None:
        from ..plots import comparison_picture

        comparison_picture(table, plot, title=f"{arena.title}, {seeds} episodes each")
    raise typer.Exit(status)


def names(text: str) -> Wanted:
    """What an option for heuristics means: a keyword, or names between commas."""
    if text in ("none", "same", "all"):
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def present(
    table: EvaluationTable,
    title: str,
    domain: str,
    *,
    as_json: bool,
    out: Path | None,
    details: bool,
) -> int:
    """Print an evaluation in ``domain``, and write it to ``out``; returns the exit status."""
    from rich.console import Console

    from ..contest import standings_table
    from ..registry import find_domain
    from ..rows import report

    if out is not None:
        table.write(out)
    known = find_domain(domain)
    rows = table.to_rows(known.units)
    if as_json:
        return report(title, rows, as_json=True, extra=table.to_json())
    console = Console()
    console.print(standings_table(table, title, shown=known.shown, width=console.width))
    if details:
        figures = set(table.figures)
        return report(
            "episode figures, mean over seeds",
            [row for row in rows if row.name.rpartition(": ")[2] in figures],
            as_json=False,
        )
    return 0
