"""``fairlead evaluate``: play a trained policy on fixed seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Seeds = Annotated[int, typer.Option(help="Episodes per controller, on common seeds.", min=1)]
First = Annotated[int, typer.Option(help="Seed of the first episode; the others follow.", min=0)]
Workers = Annotated[
    int, typer.Option(help="Worker processes; 0: one per usable core. No effect on results.", min=0)
]
Config = Annotated[
    Path | None, typer.Option(help="TOML file; its \\[scenario] table is used, as in training.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder with the scenario's files (default: FAIRLEAD_DATA).")
]
Out = Annotated[Path | None, typer.Option(help="Also write every episode to this Parquet file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Change knobs, e.g. scenario.load=0.9."),
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("evaluate")(evaluate)


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, or that of a run with one.")],
    overrides: Overrides = None,
    scenario: Annotated[
        str | None, typer.Option(help="Another scenario of its domain (default: its own).")
    ] = None,
    config: Config = None,
    baselines: Annotated[
        str, typer.Option(help="Heuristics to play too: none, same, all, or names with commas.")
    ] = "none",
    seeds: Seeds = 40,
    first_seed: First = 0,
    workers: Workers = 0,
    data: Data = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Play a trained policy on fixed seeds and report its figures with bootstrap intervals.

    The policy is sampled or not as it was evaluated in training, on the scenario that it was
    trained on unless told otherwise.
    """
    from ..contest import Arena, find_bundle, settings_of
    from ..train_config import load_config
    from ..training import usable_cores
    from .compare import names, present
    from .train import data_override, scenario_of

    trained = find_bundle(bundle)
    home = trained.factory()
    chosen = scenario or (home.scenario if config is None else scenario_of(config, home.domain))
    base = settings_of(trained) if chosen == home.scenario else None
    given = [*(overrides or []), *data_override(home.domain, chosen, data)]
    settings = load_config(home.domain, chosen, file=config, overrides=given, base=base)
    arena = Arena(settings.factory(), workers or usable_cores())
    entrants = [*arena.policies([trained]), *arena.rules(names(baselines))]
    table = arena.play(entrants, seeds=seeds, first=first_seed)
    title = f"evaluate {trained.name} on {arena.title}, {seeds} seeds"
    raise typer.Exit(present(table, title, home.domain, as_json=as_json, out=out, details=True))
