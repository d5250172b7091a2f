"""``fairlead validate``: compare a domain with closed forms and published figures."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..files import UserError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("validate")(validate)


def validate(
    domain: Annotated[str, typer.Argument(help="Domain to validate, for example cloud.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with published traces and figures; both DIR and DIR/DOMAIN are searched.",
            envvar="FAIRLEAD_DATA",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Run only checks whose name contains this, or matches it with * and ?."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short runs with wider intervals; a smoke test.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per usable core.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document with all rows.")
    ] = False,
) -> None:
    """Compare DOMAIN with closed forms and, given data, with published figures.

    Prints name, measured, expected, tolerance and verdict of every row. Exit status: 0 if all rows
    pass, 1 if one does not, 2 if the input cannot be used.
    """
    from ..progress import progress_bar
    from ..rows import report
    from ..validation import SUITES
    from ..validation.suites import collect, run_checks, usable_cores

    suites = SUITES.get(domain)
    if suites is None:
        raise UserError(f"no domain named {domain!r}; known: {', '.join(sorted(SUITES))}")
    if data is not None and not data.is_dir():
        raise UserError(f"--data {data}: no such folder; give the folder that holds the traces")
    start = time.perf_counter()
    with _input_errors():
        checks, left_out = collect(suites, data=data, quick=quick, only=only)
        if not checks and only is not None:
            everything, _ = collect(suites, data=data, quick=quick)
            known = "; ".join(check.name for check in everything)
            raise UserError(f"--only {only!r} matches no check; known: {known}")
        with progress_bar(f"validate {domain}") as progress:
            rows = run_checks(checks, workers=workers or usable_cores(), progress=progress)
    summary = {
        "domain": domain,
        "data": None if data is None else str(data),
        "quick": quick,
        "seconds": round(time.perf_counter() - start, 3),
    }
    raise typer.Exit(
        report(f"validate {domain}", [*rows, *left_out], as_json=as_json, extra=summary)
    )


@contextmanager
def _input_errors() -> Generator[None]:
    """Unusable input files are the user's to repair: their message, not a traceback."""
    from ...simulators.errors import DataError

    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs the package {error.name!r}; install it with: pip install 'fairlead[train]'"
        ) from error
    except DataError as error:
        raise UserError(str(error)) from error
