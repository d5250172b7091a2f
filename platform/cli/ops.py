"""``fairlead ops``: monitoring files: export and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Dashboards, alert rules and service files: write them out, prove that they work.",
    )
    group.command("export")(export)
    group.command("check")(check)
    app.add_typer(group, name="ops")


def export(
    folder: Annotated[Path, typer.Argument(help="Where to write them; made if it is missing.")],
    runbooks: Annotated[
        str,
        typer.Option(help="Address of the runbooks for the alerts' links; empty: left relative."),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ.")] = False,
) -> None:
    """Write everything deployable: Prometheus, Alertmanager, Grafana, systemd, container, docs."""
    from ..metrics.export import export as write

    written = write(folder, runbooks=runbooks, force=force)
    Console(stderr=True).print(
        f"{len(written)} files in {folder}; begin with {folder / 'README.md'}", highlight=False
    )


def check(
    url: Annotated[
        str,
        typer.Option(help="Scrape this running daemon instead of rehearsing with one of our own."),
    ] = "",
    schemas: Annotated[
        Path | None,
        typer.Option(help="Folder with Grafana's JSON schemas (default: FAIRLEAD_DATA/grafana)."),
    ] = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Start no servers: only check the files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Prove dashboards and alerts: schemas, linter, contract, promtool, then all of it live.

    Live: a daemon, Prometheus and Alertmanager on loopback play a script of two to four minutes;
    every panel's query must give data, and an outage must reach Alertmanager as a page. Exit
    status: 0 if all is well, 1 if something is wrong.
    """
    from ..metrics.checks import static
    from ..metrics.live import live
    from ..rows import report

    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def told(step: str) -> None:
        console.print(f"... {step}", style="dim")

    told("checking files")
    found = static(schemas)
    if not files_only:
        found += live(told, url=url)
    details = {one.name: list(one.wrong) for one in found if one.wrong}
    status = report(
        "ops check", [one.row for one in found], as_json=as_json, extra={"mistakes": details}
    )
    for name, wrong in details.items():
        for line in wrong:
            console.print(f"{name}: {line}", style="red", markup=False)
    raise typer.Exit(status)
