"""``fairlead bridge sumo``: a SUMO street, driven by the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from contextlib import ExitStack

    from ..drive.spawn import OwnDaemon
    from ..rows import Row
    from ..sumo_bridge.session import Driven


def sumo(
    bundle: Annotated[
        Path,
        typer.Argument(help="A bundle of the traffic domain, or the folder of a run with one."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Knobs of the daemon that is started."),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Ask this running daemon (it serves BUNDLE) instead.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the bearer token for --url.")
    ] = None,
    local: Annotated[
        str,
        typer.Option(help="Plan of the signals without the daemon: fixed, actuated, max-pressure."),
    ] = "fixed",
    speed: Annotated[
        float, typer.Option(help="Seconds of the street per second; 0: as fast as it goes.", min=0)
    ] = 10.0,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the run (none: the scenario's).", min=10)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of SUMO.", min=0)] = 0,
    deadline: Annotated[
        float, typer.Option(help="Seconds in which the daemon must have answered.", min=0.01)
    ] = 0.2,
    outage: Annotated[
        str, typer.Option(help="Kill our daemon and start it again, as FROM-TO seconds of the run.")
    ] = "",
    reference: Annotated[
        bool, typer.Option(help="Run the local plan alone first, to compare with.")
    ] = False,
    status: Annotated[
        Path | None, typer.Option(help="File that always says what signals show (SPaT-like JSON).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document.")
    ] = False,
) -> None:
    """Let the daemon drive the signals of a SUMO street.

    Every interval the daemon is asked for phases; what it answers goes through the safety filter at
    the street (minimum green, yellow, all-red, longest red, conflicts). While it is silent, late or
    wrong the signals run their local plan. Exit status 1: an unsafe change of lamps, or (with
    --reference) more than 1.1 times the delay of the local plan.
    """
    from contextlib import ExitStack
    from time import time_ns

    from ..client.asking import Client
    from ..client.circuit import Circuit
    from ..client.fallback import baseline
    from ..contest import find_bundle
    from ..drive.session import ended_orderly
    from ..files import UserError
    from ..progress import progress_bar
    from ..rows import report
    from ..sumo_bridge.local_plans import local_plan
    from ..sumo_bridge.session import Session
    from ..sumo_bridge.street import Street
    from ..sumo_bridge.trained import street_of

    trained = find_bundle(bundle)
    cut = _outage(outage)
    if cut and url:
        raise UserError("--outage kills a daemon of our own: leave --url out")
    town = street_of(trained)
    plan = local_plan(local, town, baseline(trained.folder, "max-pressure"))
    with ExitStack() as stack:
        stack.enter_context(ended_orderly())
        progress = stack.enter_context(progress_bar("bridge sumo"))
        street = stack.enter_context(Street(town, seconds=seconds))
        total = street.seconds * (2 if reference else 1)
        alone = None
        if reference:

            def told(second: int) -> None:
                progress(second + 1, total, f"{local} alone")

            alone = Session(street, plan, speed=0.0, watch=told).play(seed)
        daemon = None if url else _daemon(stack, trained.folder, overrides or ())
        token = None if token_file is None else token_file.read_text().strip()
        client = stack.enter_context(
            Client(
                url if daemon is None else daemon.url,
                "traffic",
                token=token,
                timeout=deadline,
                name="sumo",
                circuit=Circuit(pause=_pause(town.scenario.interval, speed)),
            )
        )
        kill = _killer(daemon, cut)

        def watch(second: int) -> None:
            kill(second)
            progress(total - street.seconds + second + 1, total, "daemon")

        session = Session(
            street,
            plan,
            client=client,
            deadline=deadline,
            speed=speed,
            status=status,
            watch=watch,
        )
        driven = session.play(seed, name=f"{time_ns():x}")
        name = f"bridge sumo, {town.scenario.name}, {street.version}, seed {seed}"
    rows = [*([] if alone is None else _alone(local, alone)), *_rows(driven, alone)]
    raise typer.Exit(report(name, rows, as_json=as_json))


def _daemon(stack: ExitStack, bundle: Path, overrides: Sequence[str]) -> OwnDaemon:
    """A daemon of our own, ready; gone when the stack is."""
    import tempfile

    from ..drive.spawn import OwnDaemon

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-")))
    daemon = OwnDaemon(bundle, folder, overrides=overrides)
    stack.callback(daemon.kill)
    daemon.start()
    daemon.wait()
    return daemon


def _pause(interval: float, speed: float) -> float:
    """Wall-clock s until a silent daemon is asked again: an interval or two of the street."""
    return min(max(interval / speed / 4, 0.05), 1.0) if speed else 0.05


def _outage(text: str) -> tuple[int, int] | None:
    from ..files import UserError

    if not text:
        return None
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise UserError(f"--outage {text!r}: expected FROM-TO in seconds of the run, as 600-900")
    return int(first), int(last)


def _killer(daemon: OwnDaemon | None, cut: tuple[int, int] | None) -> Callable[[int], None]:
    """What kills the daemon, and starts it again, at the seconds of an outage."""

    def act(second: int) -> None:
        if daemon is None or cut is None:
            return
        if second == cut[0]:
            daemon.kill()
        elif second == cut[1]:
            daemon.start()

    return act


def _alone(local: str, run: Driven) -> list[Row]:
    """Figures of the local plan alone."""
    from ..rows import Row

    return [
        Row.info(f"{local} alone: delay, mean of a trip", run.trips.charged_delay, "s"),
        Row.info(f"{local} alone: trips that did not end", run.trips.unfinished_share, "1"),
        Row.at_most(f"{local} alone: unsafe changes", run.unsafe, "", 0),
    ]


def _rows(run: Driven, alone: Driven | None) -> list[Row]:
    """Figures of the daemon's run."""
    import numpy as np

    from ..rows import Row

    trips, delay = run.trips, "delay, mean of a trip"
    asked = max(sum(run.sources.values()), 1)
    bounded = None if alone is None else 1.1 * alone.trips.charged_delay
    milli = 1e3 * run.seconds
    return [
        Row.at_most("unsafe changes of lamps", run.unsafe, "", 0),
        Row.at_most("signals taken out of service", len(run.stopped), "", 0),
        Row.info(delay, trips.charged_delay, "s")
        if bounded is None
        else Row.at_most(delay, trips.charged_delay, "s", bounded),
        Row.info("trip time, mean of those that ended", trips.trip_time, "s"),
        Row.info("trips that did not end", trips.unfinished_share, "1"),
        *(
            Row.info(f"decided by {source}", count / asked, "1")
            for source, count in sorted(run.sources.items())
        ),
        *(
            Row.info(f"refused: {reason}", count, "")
            for reason, count in sorted(run.refused.items())
        ),
        Row.info("phases that changed", run.switched, ""),
        Row.info("of these by themselves (longest red)", run.forced, ""),
        Row.info("askings without an answer", run.silent, ""),
        Row.info("of these too late", run.expired, ""),
        Row.info("answer over the wire, p50", float(np.quantile(milli, 0.5)), "ms"),
        Row.info("answer over the wire, p99", float(np.quantile(milli, 0.99)), "ms"),
        Row.info("seconds of the street per second", run.factor, ""),
        Row.info("seconds that began late", run.late, ""),
    ]
