"""``fairlead drive``: a simulator in closed loop with the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("drive")(drive)


def drive(
    domain: Annotated[str, typer.Argument(help="Domain of control, for example cloud.")],
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, or that of a run with one.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Knobs of the daemon that is started."),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Drive this running daemon (it serves BUNDLE) instead.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token for --url.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            help="Simulated seconds per second; 0: as fast as it goes (cloud 10, power 3000).",
            min=0,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Driven episodes.", min=1)] = 3,
    first_seed: Annotated[
        int, typer.Option(help="Seed of the first one; the others follow.", min=0)
    ] = 0,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Length of an episode; more where a restart takes long (cloud 650, power 260).",
            min=8,
        ),
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            help="NAME or NAME@FROM-TO (epochs) with commas, none for none: nan, blackout, drift, "
            "stale, future, order, shape, garbage, slow, stall, kill."
        ),
    ] = "nan,stale,order,shape,slow,kill",
    settle: Annotated[
        int | None,
        typer.Option(
            help="Epochs after the last fault that count for no phase (cloud 200, power 12).",
            min=0,
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="In-process episodes per seed and controller.", min=2)
    ] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the daemon's state, audit and log here.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the drive (.png or .svg).")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document.")
    ] = False,
) -> None:
    """Drive a simulator by the daemon, over the wire, while faults are injected.

    Starts its own daemon from BUNDLE, kills it and starts it again where the faults say so. Every
    executed action is checked against the simulator's own mask. The same episodes are played in
    process by the policy and by the daemon's fallback rule. Exit status 1: an infeasible action
    was executed (set-points: one that violates box, ramp or balance), the outage cost more than the
    domain accepts (cloud 1.1, power 1.05 times the fallback rule), or the end is not back at the
    policy's own cost within noise.
    """
    import logging

    from ..contest import find_bundle
    from ..drive.faults import Plan
    from ..drive.session import Order, ended_orderly, run_drive
    from ..drive.verdict import extra_of, rows_of
    from ..files import UserError
    from ..progress import progress_bar
    from ..registry import find_domain
    from ..rollouts import evaluation_seeds
    from ..rows import report

    logging.getLogger("fairlead.platform.client").setLevel(logging.CRITICAL)
    trained = find_bundle(bundle)
    if trained.spec.domain != domain:
        raise UserError(f"{bundle} is for domain {trained.spec.domain!r}, not {domain!r}")
    pace = find_domain(domain).pace
    speed = pace.speed if speed is None else speed
    epochs = pace.epochs if epochs is None else epochs
    settle = pace.settle if settle is None else settle
    order = Order(
        bundle=trained,
        plan=Plan.of(faults, epochs=epochs, settle=settle),
        seeds=evaluation_seeds(seeds, first_seed),
        speed=speed,
        draws=draws,
        url=url,
        token=None if token_file is None else _token(token_file),
        overrides=tuple(overrides or ()),
        folder=folder,
    )
    with ended_orderly(), progress_bar(f"drive {domain}") as progress:
        driven = run_drive(order, progress)
    if plot is not None:
        from ..drive.chart import write_chart

        write_chart(plot, driven)
    title = f"drive {trained.spec.domain}/{trained.spec.scenario}, {seeds} x {epochs} epochs"
    status = report(title, rows_of(driven), as_json=as_json, extra=extra_of(driven))
    raise typer.Exit(status)


def _token(file: Path) -> str:
    from ..files import UserError

    try:
        return file.read_text().strip()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
