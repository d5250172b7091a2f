"""``fairlead validate``: compare a domain with closed forms and published figures."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files import UserError

if TYPE_CHECKING:
    from ..validation import Suite


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
    sumo: Annotated[
        bool,
        typer.Option(
            "--sumo",
            help="Traffic: compare with SUMO, too (extra sumo); --only SUMO: nothing else.",
        ),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(help="With --sumo: seeds of every mean (default: 3).", min=1)
    ] = None,
    sumo_binary: Annotated[
        Path | None,
        typer.Option(
            help="With --sumo: a sumo program of version 1.9.1, for RESCO's published figures "
            "(default: environment FAIRLEAD_SUMO191)."
        ),
    ] = None,
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
    suites = (*suites, *_sumo(domain, wanted=sumo, seeds=seeds, binary=sumo_binary))
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


def _sumo(
    domain: str, *, wanted: bool, seeds: int | None, binary: Path | None
) -> tuple[Suite, ...]:
    """The comparison with SUMO, if it is wanted."""
    from ..validation import SUMO

    if not wanted:
        if seeds is not None or binary is not None:
            raise UserError("--seeds and --sumo-binary say how to compare with SUMO: add --sumo")
        return ()
    if domain not in SUMO:
        raise UserError(f"domain {domain!r} has nothing to compare with SUMO: leave out --sumo")
    return (replace(SUMO[domain], options={"seeds": seeds, "binary": binary}),)


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
