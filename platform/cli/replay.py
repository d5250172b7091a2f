"""``fairlead replay``: recompute recorded decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("replay")(replay)


def replay(
    folder: Annotated[
        Path, typer.Argument(help="The audit's folder, or the state folder around it.")
    ],
    registry: Annotated[
        Path | None,
        typer.Option(help="Registry with the bundles (default: the one beside the audit)."),
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="A bundle; may be given several times.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Recompute only the newest ones of each domain.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest difference of scores and figures (default: none; scores of the onnx "
            "backend 1e-5). Needed on a machine with another kind of processor.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document.")
    ] = False,
) -> None:
    """Verify an audit's hash chain and recompute every recorded decision, bit for bit.

    Exit status: 0 if the chain holds and all decisions are identical, 1 if not, 2 if there is no
    audit or it cannot be read. Decisions recorded without their observation (audit.sample
    below 1, or more of them than audit.full_rate) are counted, not recomputed.
    """
    from rich.console import Console

    from ..audit.replay import Sources, rows_of
    from ..audit.replay import replay as recompute_all
    from ..progress import progress_bar
    from ..rows import report

    if (folder / "audit").is_dir():
        folder = folder / "audit"
    beside = folder.parent / "registry"
    if registry is None and beside.is_dir():
        registry = beside
    sources = Sources(registry=registry, folders=bundle or [])
    with progress_bar("replay") as progress:
        result = recompute_all(folder, sources, limit=limit, tolerance=tolerance, progress=progress)
    extra = {
        "identical": result.identical_all,
        "differences": result.differences,
        "missing": result.lacking,
        "faults": result.faults,
        "notes": result.notes,
    }
    status = report(f"replay of {folder}", rows_of(result), as_json=as_json, extra=extra)
    if not as_json:
        console = Console(soft_wrap=True)
        for line in (*result.faults, *result.lacking, *result.differences, *result.notes):
            console.print(line, markup=False, highlight=False)
        console.print("identical" if result.identical_all else "NOT identical")
    raise typer.Exit(status)
